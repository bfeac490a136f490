//! Asking over HTTP/2 and HTTP/3 (RFC 8484): each query is a POST of its own on a connection that all share.

use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::address::Upstream;
use super::{ended, quic, tls};
use crate::dns::Message;
use crate::doh::{self, Bounded};
use crate::limits;

const MESSAGE: HeaderValue = HeaderValue::from_static(doh::MEDIA_TYPE);
/// Octets that are taken from one stream of HTTP/3: a head and a message, and as much again for their frames.
const STREAM_MAX: usize = 2 * (limits::UPSTREAM_HTTP_HEAD_OCTETS_MAX as usize + Message::MAX);

/// What HTTP/2 over TLS is called (RFC 9113, 3.2).
pub(super) const ALPN_H2: &[u8] = b"h2";
/// What HTTP/3 is called (RFC 9114, 3.1).
pub(super) const ALPN_H3: &[u8] = b"h3";
/// H3_NO_ERROR (RFC 9114, 8.1).
const H3_NO_ERROR: u32 = 0x100;

/// A connection that speaks HTTP/2.
#[derive(Debug)]
pub(super) struct Http2 {
    sender: http2::SendRequest<Full<Bytes>>,
    uri: Uri,
}

impl Http2 {
    pub(super) async fn new(
        stream: TcpStream,
        upstream: &Upstream,
        config: Arc<ClientConfig>,
        end: CancellationToken,
    ) -> io::Result<Self> {
        let uri = uri(upstream)?;
        let stream = tls::handshake(stream, upstream, config).await?;
        if stream.get_ref().1.alpn_protocol() != Some(ALPN_H2) {
            return Err(io::Error::other("expected a server that speaks HTTP/2 over TLS (ALPN h2), got one that does not"));
        }
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.max_header_list_size(limits::UPSTREAM_HTTP_HEAD_OCTETS_MAX);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(async move {
            tokio::select! {
                outcome = connection => if let Err(error) = outcome {
                    tracing::debug!("an HTTP/2 connection to an upstream ended: {error}");
                },
                () = end.cancelled() => {}
            }
            end.cancel();
        });
        Ok(Self { sender, uri })
    }

    pub(super) async fn ask(&self, query: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut sender = self.sender.clone();
        sender.ready().await.map_err(|_| ended())?;
        let request = request(&self.uri, Full::new(Bytes::from(query)));
        let response = sender.send_request(request?).await.map_err(|_| ended())?;
        judge(&response)?;
        let body = Limited::new(response.into_body(), Message::MAX).collect().await.map_err(io::Error::other)?;
        Ok(body.to_bytes().into())
    }
}

/// A connection that speaks HTTP/3.
pub(super) struct Http3 {
    sender: h3::client::SendRequest<Bounded<h3_quinn::OpenStreams>, Bytes>,
    uri: Uri,
}

impl Http3 {
    pub(super) async fn new(connection: quinn::Connection, upstream: &Upstream, end: CancellationToken) -> io::Result<Self> {
        let uri = uri(upstream)?;
        let mut builder = h3::client::builder();
        builder.max_field_section_size(limits::UPSTREAM_HTTP_HEAD_OCTETS_MAX.into()).send_grease(false);
        let streams = Bounded::new(h3_quinn::Connection::new(connection.clone()), STREAM_MAX);
        let (mut driver, sender) = builder.build(streams).await.map_err(io::Error::other)?;
        tokio::spawn(async move {
            tokio::select! {
                error = std::future::poll_fn(|context| driver.poll_close(context)) => {
                    tracing::debug!("an HTTP/3 connection to an upstream ended: {error}");
                }
                () = end.cancelled() => {}
            }
            quic::close(&connection, H3_NO_ERROR);
            end.cancel();
        });
        Ok(Self { sender, uri })
    }

    pub(super) async fn ask(&self, query: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut sender = self.sender.clone();
        let mut stream = sender.send_request(request(&self.uri, ())?).await.map_err(|_| ended())?;
        stream.send_data(Bytes::from(query)).await.map_err(|_| ended())?;
        stream.finish().await.map_err(|_| ended())?;
        judge(&stream.recv_response().await.map_err(|_| ended())?)?;
        let mut reply = Vec::new();
        while let Some(mut chunk) = stream.recv_data().await.map_err(|_| ended())? {
            if reply.len() + chunk.remaining() > Message::MAX {
                return Err(io::Error::other("expected a message, got a body of more than 65,535 octets"));
            }
            reply.extend_from_slice(&chunk.copy_to_bytes(chunk.remaining()));
        }
        Ok(reply)
    }
}

impl std::fmt::Debug for Http3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http3").field("uri", &self.uri).finish_non_exhaustive()
    }
}

fn uri(upstream: &Upstream) -> io::Result<Uri> {
    let host = upstream.authority();
    let uri = Uri::builder().scheme("https").authority(host).path_and_query(upstream.path.as_str()).build();
    uri.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// No more headers than are needed: each tells something about us (RFC 8484, 8.2).
fn request<B>(uri: &Uri, body: B) -> io::Result<Request<B>> {
    let request = Request::post(uri.clone()).header(CONTENT_TYPE, MESSAGE).header(ACCEPT, MESSAGE);
    request.body(body).map_err(io::Error::other)
}

/// A status other than 200 has no message (RFC 8484, 4.2.1).
fn judge<B>(response: &Response<B>) -> io::Result<()> {
    if response.status() != StatusCode::OK {
        return Err(io::Error::other(format!("expected the status 200, got {}", response.status())));
    }
    if !doh::is_message(response.headers()) {
        let kind = response.headers().get(CONTENT_TYPE);
        return Err(io::Error::other(format!("expected {MESSAGE:?}, got {kind:?}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use quinn::SendStream;

    use super::super::address::Protocol;
    use super::super::bootstrap::Place;
    use super::super::link::Link;
    use super::super::peer::Peer;
    use super::*;

    /// A frame that says it has 2^40 octets, of this type (RFC 9114, 7.1).
    fn endless(kind: u8) -> [u8; 9] {
        let mut frame = [0; 9];
        frame[0] = kind;
        frame[1..].copy_from_slice(&(1u64 << 40 | 0b11 << 62).to_be_bytes());
        frame
    }

    /// Sends until the other end wants no more; counts the octets.
    async fn flood(mut stream: SendStream, begin: Vec<u8>, sent: Arc<AtomicUsize>) {
        let mut next = begin;
        while stream.write_all(&next).await.is_ok() {
            sent.fetch_add(next.len(), Ordering::SeqCst);
            next = vec![0; 16 << 10];
        }
    }

    #[tokio::test]
    async fn no_frame_of_an_upstream_is_taken_without_end() {
        const HEADERS: u8 = 1;
        const UNKNOWN: u8 = 0x21;
        // An empty SETTINGS frame on the control stream.
        const CONTROL: [u8; 3] = [0, 4, 0];
        for (what, of_control, of_reply) in [
            ("a head", None, Some(endless(HEADERS))),
            ("an unknown frame before the head", None, Some(endless(UNKNOWN))),
            ("an unknown frame on the control stream", Some(endless(UNKNOWN)), None),
        ] {
            let sent = Arc::new(AtomicUsize::new(0));
            let (ended, mut end) = tokio::sync::mpsc::unbounded_channel();
            let counted = sent.clone();
            let peer = Peer::raw(Protocol::H3, move |connection| {
                let (sent, ended) = (counted.clone(), ended.clone());
                async move {
                    let control = connection.open_uni().await.unwrap();
                    let begin = [&CONTROL[..], of_control.as_ref().map_or(&[], |frame| &frame[..])].concat();
                    match of_reply {
                        None => flood(control, begin, sent).await,
                        Some(frame) => {
                            let mut control = control;
                            control.write_all(&begin).await.unwrap();
                            let (reply, _query) = connection.accept_bi().await.unwrap();
                            flood(reply, frame.into(), sent).await;
                        }
                    }
                    let _ = ended.send(());
                    connection.closed().await;
                }
            })
            .await;
            let link = Arc::new(Link::new(peer.upstream(), Place::At(peer.address)));
            let query = [&[0; 2][..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1]].concat();
            let heard = async { tokio::time::timeout(Duration::from_secs(4), end.recv()).await };
            let (heard, _) = tokio::join!(heard, link.ask(&query));
            assert_eq!(heard.ok(), Some(Some(())), "{what}: it is told to stop");
            // What the windows of QUIC let through comes on top.
            let sent = sent.load(Ordering::SeqCst);
            assert!((STREAM_MAX / 2..STREAM_MAX + (2 << 20)).contains(&sent), "{what}: {sent} octets");
        }
    }
}
