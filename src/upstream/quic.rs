//! Asking over QUIC (RFC 9250): each query has a stream of its own. HTTP/3 uses the same connections in another way.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Endpoint, IdleTimeout, RecvStream, TransportConfig, VarInt};
use rustls::ClientConfig;
use tokio_util::sync::CancellationToken;

use super::address::Upstream;
use super::ended;
use super::sockets::any_towards;
use crate::dns::Message;

/// What DNS over QUIC is called (RFC 9250, 4.1).
pub(super) const ALPN: &[u8] = b"doq";
/// DOQ_NO_ERROR and DOQ_REQUEST_CANCELLED (RFC 9250, 4.3).
const NO_ERROR: u32 = 0;
const REQUEST_CANCELLED: u32 = 3;

/// How long a connection lives without a packet from the other end. Ours are closed before, when nobody uses them.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Streams that HTTP/3 needs of the server: its control stream and two for QPACK (RFC 9114, 6.2).
const SERVER_STREAMS: u32 = 8;
/// Octets that a server may send ahead on a stream: two of the longest messages.
const STREAM_WINDOW: u32 = 128 << 10;

/// A connection on a socket, and so a port, of its own; both end together.
pub(super) async fn dial(address: SocketAddr, upstream: &Upstream, config: Arc<ClientConfig>) -> io::Result<quinn::Connection> {
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(IdleTimeout::try_from(SILENCE_MAX).ok());
    transport.stream_receive_window(STREAM_WINDOW.into());
    transport.max_concurrent_bidi_streams(0u8.into()).max_concurrent_uni_streams(SERVER_STREAMS.into());
    let crypto = QuicClientConfig::try_from(config).map_err(io::Error::other)?;
    let mut client = quinn::ClientConfig::new(Arc::new(crypto));
    client.transport_config(Arc::new(transport));
    let connecting = Endpoint::client(any_towards(address))?
        .connect_with(client, address, &upstream.server_name())
        .map_err(io::Error::other)?;
    connecting.await.map_err(io::Error::other)
}

pub(super) fn close(connection: &quinn::Connection, code: u32) {
    connection.close(VarInt::from_u32(code), b"");
}

/// A connection that speaks DNS over QUIC.
#[derive(Debug)]
pub(super) struct Doq {
    connection: quinn::Connection,
}

impl Doq {
    pub(super) fn new(connection: quinn::Connection, end: CancellationToken) -> Self {
        let watched = connection.clone();
        tokio::spawn(async move {
            tokio::select! {
                error = watched.closed() => tracing::debug!("a QUIC connection to an upstream ended: {error}"),
                () = end.cancelled() => close(&watched, NO_ERROR),
            }
            end.cancel();
        });
        Self { connection }
    }

    pub(super) async fn ask(&self, query: &[u8]) -> io::Result<Vec<u8>> {
        let length = u16::try_from(query.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let (mut send, receive) = self.connection.open_bi().await.map_err(|_| ended())?;
        let mut receive = Cancel(receive);
        let octets = async {
            send.write_all(&[&length.to_be_bytes(), query].concat()).await.map_err(io::Error::other)?;
            // The end of the stream says that there is no other query on it (RFC 9250, 4.2).
            send.finish().map_err(io::Error::other)?;
            receive.0.read_to_end(2 + Message::MAX).await.map_err(io::Error::other)
        };
        // A stream alone that is reset is an answer of a kind.
        let octets = octets.await.map_err(|error| if self.connection.close_reason().is_some() { ended() } else { error })?;
        match octets.split_first_chunk() {
            Some((length, reply)) if usize::from(u16::from_be_bytes(*length)) == reply.len() => Ok(reply.to_vec()),
            _ => Err(io::Error::other("expected one message with its length on a stream, got something else")),
        }
    }
}

/// A wait that is given up tells the server so.
struct Cancel(RecvStream);

impl Drop for Cancel {
    fn drop(&mut self) {
        // One that is at its end needs no telling.
        let _ = self.0.stop(VarInt::from_u32(REQUEST_CANCELLED));
    }
}
