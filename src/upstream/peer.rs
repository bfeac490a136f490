//! For tests: a server for every protocol that has connections, with a certificate of its own authority.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData};
use ring::digest;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{Pin, Protocol, Upstream};
use crate::dns::{Edns, EdnsOption, Query, RData, Rcode, Record, option};

/// The name in every certificate here.
pub(super) const NAME: &str = "dns.test";

/// What a peer does with a query: its reply, or never one.
type Habit = Arc<dyn Fn(Vec<u8>) -> BoxFuture<'static, Option<Vec<u8>>> + Send + Sync>;

/// A server of DNS. It ends with the test's runtime.
pub(super) struct Peer {
    pub(super) protocol: Protocol,
    pub(super) address: SocketAddr,
    pub(super) pin: Pin,
    folder: TempDir,
    inside: Arc<Inside>,
}

struct Inside {
    habit: Habit,
    connections: AtomicUsize,
    asked: Mutex<Vec<Vec<u8>>>,
    /// Ends the connections that there are.
    kill: Mutex<CancellationToken>,
}

/// Answers at once, padded as RFC 8467 says.
pub(super) fn right(query: &[u8]) -> Vec<u8> {
    let query = Query::parse(query).unwrap();
    let mut message = query.response(Rcode::NOERROR);
    message.answers.push(Record::new(query.question.name.clone(), 60, RData::A([192, 0, 2, 1].into())));
    let options = [(option::PADDING, 400), (option::TCP_KEEPALIVE, 2), (15, 2)]
        .map(|(code, length)| EdnsOption { code, data: vec![0; length].into() });
    message.edns = query.edns.map(|_| Edns { options: options.into(), ..Edns::new(1232) });
    message.compose(true)
}

impl Peer {
    pub(super) async fn start(protocol: Protocol) -> Self {
        Self::with_habit(protocol, |query| Box::pin(async move { Some(right(&query)) })).await
    }

    /// Takes connections and queries and says nothing.
    pub(super) async fn silent(protocol: Protocol) -> Self {
        Self::with_habit(protocol, |_| Box::pin(async { None })).await
    }

    /// Is late with questions whose first label is `slow`.
    pub(super) async fn sometimes_slow(protocol: Protocol, late: Duration) -> Self {
        Self::with_habit(protocol, move |query| {
            Box::pin(async move {
                if query[13..].starts_with(b"slow") {
                    tokio::time::sleep(late).await;
                }
                Some(right(&query))
            })
        })
        .await
    }

    pub(super) async fn with_habit(
        protocol: Protocol,
        habit: impl Fn(Vec<u8>) -> BoxFuture<'static, Option<Vec<u8>>> + Send + Sync + 'static,
    ) -> Self {
        Self::listening(protocol, Arc::new(habit), async |config, inside| match protocol {
            Protocol::H3 | Protocol::Quic => {
                over_quic(config, inside, move |connection, inside| streams(protocol, connection, inside))
            }
            _ => over_tcp(protocol, config, inside).await,
        })
        .await
    }

    /// Does what it likes with each connection over QUIC.
    pub(super) async fn raw<F>(protocol: Protocol, serve: impl Fn(quinn::Connection) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let no_habit = Arc::new(|_| Box::pin(async { None }) as _);
        Self::listening(protocol, no_habit, async |config, inside| {
            over_quic(config, inside, move |connection, _| serve(connection))
        })
        .await
    }

    async fn listening(
        protocol: Protocol,
        habit: Habit,
        listen: impl AsyncFnOnce(ServerConfig, Arc<Inside>) -> SocketAddr,
    ) -> Self {
        crate::tls::provider();
        let mut authority = CertificateParams::new([]).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let signer = KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority.self_signed(&signer).unwrap().pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(authority, signer);
        let certificate =
            CertificateParams::new([NAME.to_owned(), "127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let pin = Pin(digest::digest(&digest::SHA256, &key.subject_public_key_info()).as_ref().try_into().unwrap());
        let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], private).unwrap();
        config.alpn_protocols = match protocol {
            Protocol::Https => vec![b"h2".into()],
            Protocol::H3 => vec![b"h3".into()],
            Protocol::Quic => vec![b"doq".into()],
            _ => Vec::new(),
        };
        let inside =
            Arc::new(Inside { habit, connections: AtomicUsize::new(0), asked: Mutex::default(), kill: Mutex::default() });
        let address = listen(config, inside.clone()).await;
        Self { protocol, address, pin, folder, inside }
    }

    /// The upstream that it is, trusted through its authority's file.
    pub(super) fn upstream(&self) -> Upstream {
        let text = match self.protocol {
            Protocol::Udp | Protocol::Tcp => format!("tcp://{}", self.address),
            protocol => format!("{}://{NAME}:{}", protocol.scheme(), self.address.port()),
        };
        let mut upstream: Upstream = text.parse().unwrap();
        if self.protocol.is_encrypted() {
            upstream.addresses = vec![self.address.into()];
            upstream.identity.ca = Some(self.folder.path().join("ca.pem"));
        }
        upstream
    }

    /// How many connections there were.
    pub(super) fn connections(&self) -> usize {
        self.inside.connections.load(Ordering::SeqCst)
    }

    /// The queries that came, with their ids.
    pub(super) fn asked(&self) -> Vec<Vec<u8>> {
        self.inside.asked.lock().unwrap().clone()
    }

    /// Ends all connections.
    pub(super) fn kill(&self) {
        std::mem::take(&mut *self.inside.kill.lock().unwrap()).cancel();
    }
}

impl Inside {
    async fn answer(&self, query: Vec<u8>) -> Vec<u8> {
        self.asked.lock().unwrap().push(query.clone());
        match (self.habit)(query).await {
            Some(reply) => reply,
            None => std::future::pending().await,
        }
    }

    /// A connection has come.
    fn greet(&self) -> CancellationToken {
        self.connections.fetch_add(1, Ordering::SeqCst);
        self.kill.lock().unwrap().clone()
    }
}

async fn over_tcp(protocol: Protocol, config: ServerConfig, inside: Arc<Inside>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (inside, acceptor, kill) = (inside.clone(), acceptor.clone(), inside.greet());
            tokio::spawn(async move {
                let served = async {
                    match protocol {
                        Protocol::Udp | Protocol::Tcp => frames(stream, inside).await,
                        Protocol::Tls => frames(acceptor.accept(stream).await?, inside).await,
                        _ => http2(acceptor.accept(stream).await?, inside).await,
                    }
                };
                tokio::select! {
                    _ = served => {}
                    () = kill.cancelled() => {}
                }
            });
        }
    });
    address
}

/// Messages with their length before them.
async fn frames(stream: impl AsyncRead + AsyncWrite, inside: Arc<Inside>) -> std::io::Result<()> {
    let (mut from, mut to) = tokio::io::split(stream);
    let (tell, mut told) = mpsc::unbounded_channel();
    let read = async {
        loop {
            let mut query = vec![0; usize::from(from.read_u16().await?)];
            from.read_exact(&mut query).await?;
            let (inside, tell) = (inside.clone(), tell.clone());
            tokio::spawn(async move { tell.send(inside.answer(query).await) });
        }
    };
    let write = async {
        while let Some(reply) = told.recv().await {
            let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
            to.write_all(&[&length, &reply[..]].concat()).await?;
            to.flush().await?;
        }
        Ok(())
    };
    tokio::select! { end = read => end, end = write => end }
}

async fn http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, inside: Arc<Inside>) -> std::io::Result<()> {
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let inside = inside.clone();
        async move {
            expect(request.method(), request.uri().to_string(), request.headers().get(CONTENT_TYPE));
            let query = request.into_body().collect().await?.to_bytes();
            let reply = inside.answer(query.to_vec()).await;
            Ok::<_, hyper::Error>(response(Full::new(Bytes::from(reply))))
        }
    });
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    server.serve_connection(TokioIo::new(stream), service).await.map_err(std::io::Error::other)
}

fn expect(method: &Method, uri: String, kind: Option<&hyper::header::HeaderValue>) {
    assert_eq!((method, kind.unwrap().to_str().unwrap()), (&Method::POST, "application/dns-message"));
    assert!(uri.starts_with("https://dns.test:") && uri.ends_with("/dns-query"), "{uri}");
}

fn response<B>(body: B) -> Response<B> {
    // As some write it (RFC 9110, 8.3.1).
    Response::builder().header(CONTENT_TYPE, "Application/DNS-Message; charset=utf-8").body(body).unwrap()
}

fn over_quic<F>(
    config: ServerConfig,
    inside: Arc<Inside>,
    serve: impl Fn(quinn::Connection, Arc<Inside>) -> F + Send + Sync + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(config).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let endpoint = quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = endpoint.local_addr().unwrap();
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let kill = inside.greet();
            let Ok(connection) = incoming.await else { continue };
            let (close, served) = (connection.clone(), serve(connection, inside.clone()));
            tokio::spawn(async move {
                tokio::select! {
                    () = served => {}
                    () = kill.cancelled() => close.close(0u8.into(), b""),
                }
            });
        }
    });
    address
}

async fn streams(protocol: Protocol, connection: quinn::Connection, inside: Arc<Inside>) {
    if protocol == Protocol::Quic {
        while let Ok((mut send, mut receive)) = connection.accept_bi().await {
            let inside = inside.clone();
            tokio::spawn(async move {
                let query = receive.read_to_end(65_537).await.unwrap();
                assert_eq!(usize::from(u16::from_be_bytes([query[0], query[1]])), query.len() - 2);
                let reply = inside.answer(query[2..].to_vec()).await;
                let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
                // The other end may have gone meanwhile.
                let _ = send.write_all(&[&length, &reply[..]].concat()).await;
                let _ = send.finish();
            });
        }
        return;
    }
    let mut server = h3::server::Connection::<_, Bytes>::new(h3_quinn::Connection::new(connection)).await.unwrap();
    while let Ok(Some(resolver)) = server.accept().await {
        let inside = inside.clone();
        tokio::spawn(async move {
            let (request, mut stream) = resolver.resolve_request().await.unwrap();
            expect(request.method(), request.uri().to_string(), request.headers().get(CONTENT_TYPE));
            let mut query = Vec::new();
            while let Some(mut chunk) = stream.recv_data().await.unwrap() {
                query.extend_from_slice(&chunk.copy_to_bytes(chunk.remaining()));
            }
            let reply = inside.answer(query).await;
            let _ = stream.send_response(response(())).await;
            let _ = stream.send_data(Bytes::from(reply)).await;
            let _ = stream.finish().await;
        });
    }
}
