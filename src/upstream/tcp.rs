//! Asking over TCP: one query, one connection (RFC 7766).

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::udp::{is_reply_to, question};

/// Sends a query and waits for its reply, for as long as the caller does.
pub(super) async fn ask(upstream: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(query.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut stream = TcpStream::connect(upstream).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let mut octets = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut octets).await?;
    let asked = question(query).ok_or(io::ErrorKind::InvalidInput)?;
    let right = octets.get(..2) == query.get(..2) && is_reply_to(&octets, asked);
    if right { Ok(octets) } else { Err(io::ErrorKind::InvalidData.into()) }
}
