//! Connects, and with TLS shakes hands; what listens is well.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Outcome, tls};
use crate::catalog::Health;

/// How to shake hands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tls<'a> {
    /// Empty means the host that is connected to.
    pub(super) server_name: &'a str,
    pub(super) skip_verify: bool,
}

pub(super) async fn run(address: &str, tls: Option<Tls<'_>>, timeout: Duration) -> Outcome {
    match tokio::time::timeout(timeout, connect(address, tls)).await {
        Ok(Ok(())) => Outcome { health: Health::Passing, output: format!("TCP connect {address}: Success") },
        Ok(Err(error)) => Outcome::critical(format!("TCP connect {address}: {error}")),
        Err(_) => Outcome::critical(format!("TCP connect {address}: no answer within {timeout:?}")),
    }
}

async fn connect(address: &str, tls: Option<Tls<'_>>) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    let Some(tls) = tls else { return Ok(()) };
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = if tls.server_name.is_empty() { host } else { tls.server_name };
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let config = tls::client(tls.skip_verify)?;
    TlsConnector::from(config).connect(name, stream).await.map(drop)
}

/// The first address of HOST:PORT.
pub(super) async fn resolve(address: &str) -> io::Result<SocketAddr> {
    let mut found = tokio::net::lookup_host(address).await?;
    found.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "this name has no address"))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_listens_passes_and_what_refuses_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let expected = Outcome { health: Health::Passing, output: format!("TCP connect {address}: Success") };
        assert_eq!(run(&address, None, Duration::from_secs(5)).await, expected);
        drop(listener);
        let refused = run(&address, None, Duration::from_secs(5)).await;
        assert_eq!(refused.health, Health::Critical);
        assert!(
            refused.output.starts_with(&format!("TCP connect {address}: ")) && refused.output.contains("refused"),
            "{}",
            refused.output
        );
    }

    #[tokio::test]
    async fn with_tls_a_listener_that_does_not_shake_hands_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let tls = Some(Tls { server_name: "", skip_verify: true });
        let silent = run(&address, tls, Duration::from_millis(200)).await;
        assert_eq!(silent, Outcome::critical(format!("TCP connect {address}: no answer within 200ms")));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"220 no TLS here\r\n").await;
            }
        });
        assert_eq!(run(&address, tls, Duration::from_secs(5)).await.health, Health::Critical);
    }

    #[tokio::test]
    async fn with_tls_the_certificate_is_verified_unless_told_not_to() {
        let address = tls::tests::server().await.to_string();
        let timeout = Duration::from_secs(20);
        let unknown = run(&address, Some(Tls { server_name: "web.test", skip_verify: false }), timeout).await;
        assert!(unknown.health == Health::Critical && unknown.output.contains("certificate"), "{}", unknown.output);
        let trusted = run(&address, Some(Tls { server_name: "", skip_verify: true }), timeout).await;
        assert_eq!(trusted.health, Health::Passing);
    }
}
