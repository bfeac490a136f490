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
use crate::limits;

/// The media type of a message (RFC 8484, 6).
const MESSAGE: HeaderValue = HeaderValue::from_static("application/dns-message");

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
    sender: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
    uri: Uri,
}

impl Http3 {
    pub(super) async fn new(connection: quinn::Connection, upstream: &Upstream, end: CancellationToken) -> io::Result<Self> {
        let uri = uri(upstream)?;
        let mut builder = h3::client::builder();
        builder.max_field_section_size(limits::UPSTREAM_HTTP_HEAD_OCTETS_MAX.into()).send_grease(false);
        let built = builder.build(h3_quinn::Connection::new(connection.clone())).await.map_err(io::Error::other);
        let (mut driver, sender) = built?;
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
    match response.headers().get(CONTENT_TYPE) {
        Some(kind) if *kind == MESSAGE => Ok(()),
        kind => Err(io::Error::other(format!("expected {MESSAGE:?}, got {kind:?}"))),
    }
}
