//! Sends an empty datagram. UDP has no connection to make: what counts is that nothing says that nobody is there.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;

use super::Outcome;
use crate::catalog::Health;

pub(super) async fn run(address: &str, timeout: Duration) -> Outcome {
    match tokio::time::timeout(timeout, exchange(address)).await {
        // Silence is well: few services answer an empty datagram.
        Ok(Ok(())) | Err(_) => Outcome { health: Health::Passing, output: format!("UDP connect {address}: Success") },
        Ok(Err(error)) => Outcome::critical(format!("UDP connect {address}: {error}")),
    }
}

async fn exchange(address: &str) -> io::Result<()> {
    let target = super::tcp::resolve(address).await?;
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(target).await?;
    socket.send(&[]).await?;
    // A refusal arrives as an ICMP message, which the system hands over when the socket is read.
    socket.recv(&mut [0; 1]).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn silence_and_an_answer_pass_and_refusal_fails() {
        let timeout = Duration::from_millis(300);
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap().to_string();
        assert_eq!(
            run(&address, timeout).await,
            Outcome { health: Health::Passing, output: format!("UDP connect {address}: Success") }
        );
        let answering = tokio::spawn(async move {
            let (_, from) = silent.recv_from(&mut [0; 8]).await.unwrap();
            let (_, second) = silent.recv_from(&mut [0; 8]).await.unwrap();
            assert_ne!(from, second);
            silent.send_to(b"here", second).await.unwrap();
        });
        let begun = std::time::Instant::now();
        assert_eq!(run(&address, Duration::from_secs(20)).await.health, Health::Passing);
        assert!(begun.elapsed() < Duration::from_secs(10), "the answer ends the wait");
        answering.await.unwrap();
        let refused = run(&address, Duration::from_secs(20)).await;
        assert_eq!(refused.health, Health::Critical);
        assert!(refused.output.contains("refused"), "{}", refused.output);
    }

    #[tokio::test]
    async fn a_name_without_an_address_fails() {
        assert_eq!(run("no port here", Duration::from_secs(5)).await.health, Health::Critical);
    }
}
