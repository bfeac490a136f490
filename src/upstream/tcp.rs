//! Asking over TCP: a connection carries one query at a time, and is kept for the next one (RFC 7766, 6.2.1).
//!
//! A wait that is given up closes its connection, so that a late reply never meets another query.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::dns::{Reply, question};
use crate::limits;

/// How long a connection is kept that nobody uses. Servers close theirs after some seconds (RFC 7766, 6.2.3), and a
/// firewall that forgets one in between would cost a wait.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// Connections that wait for their next query, the one used last at the end.
#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    upstream: SocketAddr,
    stream: TcpStream,
    since: Instant,
}

impl Pool {
    /// Sends a query and waits for its reply, for as long as the caller does.
    pub(super) async fn ask(&self, upstream: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
        if let Some(mut stream) = self.take(upstream) {
            // It may have been closed at the other end this very moment; a new one shows what is the matter.
            if let Ok(reply) = exchange(&mut stream, query).await {
                self.keep(upstream, stream);
                return Ok(reply);
            }
        }
        let mut stream = TcpStream::connect(upstream).await?;
        stream.set_nodelay(true)?;
        let reply = exchange(&mut stream, query).await?;
        self.keep(upstream, stream);
        Ok(reply)
    }

    /// A connection that is still open, as far as one can see from here.
    fn take(&self, upstream: SocketAddr) -> Option<TcpStream> {
        let mut idle = self.lock();
        idle.retain(|idle| idle.since.elapsed() < IDLE_MAX);
        loop {
            let at = idle.iter().rposition(|idle| idle.upstream == upstream)?;
            let Idle { stream, .. } = idle.remove(at);
            // Nothing is due: an end, an error, or octets that nobody asked for end its use.
            if stream.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                return Some(stream);
            }
        }
    }

    fn keep(&self, upstream: SocketAddr, stream: TcpStream) {
        let mut idle = self.lock();
        if idle.len() >= limits::UPSTREAM_CONNECTIONS_IDLE_MAX {
            idle.remove(0);
        }
        idle.push(Idle { upstream, stream, since: Instant::now() });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One query and its reply.
async fn exchange(stream: &mut TcpStream, query: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(query.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let mut octets = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut octets).await?;
    let asked = question(query).ok_or(io::ErrorKind::InvalidInput)?;
    let right = octets.get(..2) == query.get(..2) && Reply::read(&octets, asked).is_some();
    if right { Ok(octets) } else { Err(io::ErrorKind::InvalidData.into()) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::net::TcpListener;

    use super::*;
    use crate::dns::{Class, Query, Question, Type};

    fn query(name: &str) -> Vec<u8> {
        Query::of(Question { name: name.parse().unwrap(), qtype: Type::A, qclass: Class::IN }).compose()
    }

    /// A server that makes each reply of the query, and closes a connection after so many; counts connections.
    async fn serve(replies: usize, reply: impl Fn(&mut Vec<u8>) + Clone + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let reply = reply.clone();
                tokio::spawn(async move {
                    for _ in 0..replies {
                        let Ok(length) = stream.read_u16().await else { return };
                        let mut octets = vec![0; usize::from(length)];
                        stream.read_exact(&mut octets).await.unwrap();
                        octets[2] |= 0x80;
                        reply(&mut octets);
                        let length = u16::try_from(octets.len()).unwrap().to_be_bytes();
                        stream.write_all(&[&length[..], &octets].concat()).await.unwrap();
                    }
                });
            }
        });
        (address, connections)
    }

    #[tokio::test]
    async fn a_connection_is_used_again_and_replaced_when_it_was_closed() {
        let pool = Pool::default();
        let (lasting, connections) = serve(usize::MAX, |_| ()).await;
        for n in 0..5 {
            let asked = query(&format!("n{n}.example.net"));
            assert_eq!(pool.ask(lasting, &asked).await.unwrap()[3..], asked[3..]);
        }
        assert_eq!(connections.load(Ordering::SeqCst), 1);
        let (closing, connections) = serve(2, |_| ()).await;
        for _ in 0..6 {
            pool.ask(closing, &query("www.example.net")).await.unwrap();
        }
        assert_eq!(connections.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn queries_at_one_time_have_connections_of_their_own_and_few_are_kept() {
        let pool = Pool::default();
        let (address, connections) = serve(usize::MAX, |_| ()).await;
        let queries: Vec<Vec<u8>> =
            (0..2 * limits::UPSTREAM_CONNECTIONS_IDLE_MAX).map(|n| query(&format!("n{n}.example.net"))).collect();
        let replies = futures_util::future::join_all(queries.iter().map(|asked| pool.ask(address, asked))).await;
        for (asked, reply) in queries.iter().zip(replies) {
            assert_eq!(reply.unwrap()[3..], asked[3..]);
        }
        assert!(connections.load(Ordering::SeqCst) > limits::UPSTREAM_CONNECTIONS_IDLE_MAX);
        assert_eq!(pool.lock().len(), limits::UPSTREAM_CONNECTIONS_IDLE_MAX);
    }

    #[tokio::test]
    async fn a_wrong_reply_is_an_error_and_its_connection_is_not_kept() {
        let pool = Pool::default();
        for wrong in [
            (|octets| octets[1] ^= 1) as fn(&mut Vec<u8>),
            |octets| octets[2] = 0,
            |octets| octets[13] ^= 1,
            |octets| octets[7] = 1,
            |octets| octets.truncate(11),
            |octets| octets.clear(),
        ] {
            let (address, _) = serve(usize::MAX, wrong).await;
            assert!(pool.ask(address, &query("www.example.net")).await.is_err());
            assert!(pool.lock().is_empty());
        }
    }

    #[tokio::test]
    async fn who_gives_up_takes_the_connection_along() {
        let pool = Pool::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let asked = query("www.example.net");
        let wait = pool.ask(listener.local_addr().unwrap(), &asked);
        assert!(tokio::time::timeout(Duration::from_millis(20), wait).await.is_err());
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        assert_eq!(received[2..], asked, "and then the end");
        assert!(pool.lock().is_empty());
    }
}
