//! DNS over TCP (RFC 7766) and TLS (RFC 7858): messages behind their length, many on one connection, answered as they become
//! ready. And how any connection by TCP begins, up to where its first query can be read.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use hyper::header::HeaderValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::backlog::Held;
use super::https::{self, Doh, Visit};
use super::listeners::Terms;
use super::proxy;
use super::responder::Responder;
use super::seats::{Seat, Seats};
use super::tally::Listened;
use super::transport::Transport;
use crate::dns::{ExtendedError, Message, Rcode, add_option, extras, question};
use crate::limits;
use crate::resolve::answer::Client;
use crate::resolve::passing::add_edns;

/// Octets of queries that are read at once.
const READ_AHEAD: usize = 2_048;
/// Octets of answers from memory after which it is another connection's turn.
const TURN: usize = 16 << 10;
/// How long a client may take to accept an answer.
pub(super) const WRITE: Duration = Duration::from_secs(10);
/// How long all may take that comes before the first query: what a proxy says, and a handshake.
pub(super) const GREETING: Duration = Duration::from_secs(5);

/// How often it is told that connections cannot be accepted.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// What a listener has whose clients connect.
#[derive(Debug)]
pub(super) struct Reception {
    pub(super) responder: Arc<Responder>,
    pub(super) listened: Arc<Listened>,
    /// All listeners' together.
    pub(super) seats: Arc<Seats>,
    /// For whoever connects from now on.
    pub(super) terms: Arc<ArcSwap<Terms>>,
}

impl Reception {
    /// By what queries come to it.
    pub(super) fn transport(&self) -> Transport {
        self.listened.place.transport
    }

    /// May this client connect once more now? A connection counts as a query.
    pub(super) fn admits(&self, client: IpAddr) -> bool {
        let admits = self.responder.admits(client);
        if !admits {
            self.listened.limited.raise(1);
        }
        admits
    }
}

/// What is spoken on a listener.
#[derive(Clone)]
pub(super) enum Speaks {
    Dns,
    Tls(TlsAcceptor),
    /// With the word that HTTP/3 is spoken, and where (RFC 7838).
    Https(TlsAcceptor, HeaderValue),
}

/// Accepts connections until it is to stop.
pub(super) async fn serve(listener: TcpListener, speaks: Speaks, reception: Arc<Reception>, stop: CancellationToken) {
    let mut told = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => receive(stream, peer, &speaks, &reception),
            Err(error) => {
                // Out of descriptors, most likely; those who hold them need a moment to finish.
                if told.is_none_or(|told: Instant| told.elapsed() >= TOLD_EVERY) {
                    tracing::warn!("cannot accept a TCP connection: {error}");
                    told = Some(Instant::now());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    // Those who have connected already are answered.
    for _ in 0..limits::LISTEN_BACKLOG {
        let Some(Ok((stream, peer))) = listener.accept().now_or_never() else { return };
        receive(stream, peer, &speaks, &reception);
    }
}

/// Gives a connection a place.
fn receive(stream: TcpStream, peer: SocketAddr, speaks: &Speaks, reception: &Arc<Reception>) {
    let terms = reception.terms.load_full();
    let proxied = terms.proxies.iter().any(|proxies| proxies.contains(&peer.ip()));
    // With all places taken and none of them idle it is closed at once, which tells a client more than silence.
    let Some(seat) = Seats::take(&reception.seats, (!proxied).then_some(peer.ip())) else { return };
    let (speaks, reception, doh) = (speaks.clone(), reception.clone(), terms.doh.clone());
    let under_way = reception.responder.under_way.clone();
    under_way.spawn(async move {
        let listened = reception.listened.clone();
        listened.opened.raise(1);
        welcome(stream, peer, proxied, speaks, doh, reception, seat).await;
        listened.closed.raise(1);
    });
}

/// One connection from its first octet to its last.
async fn welcome(
    mut stream: TcpStream,
    peer: SocketAddr,
    proxied: bool,
    speaks: Speaks,
    doh: Arc<Doh>,
    reception: Arc<Reception>,
    seat: Seat,
) {
    // Answers are small and wanted at once.
    let _ = stream.set_nodelay(true);
    let mut client = peer.ip();
    if proxied {
        let Some(told) = introduced(&mut stream, &seat).await else { return };
        client = told.unwrap_or(client);
        if !seat.claim_for(client) {
            return;
        }
    }
    if !reception.admits(client) {
        return;
    }
    // What is encrypted needs much more room, which a plain connection should not have to keep for it.
    match speaks {
        Speaks::Dns => {
            let (from, to) = stream.into_split();
            connection(from, to, client, reception, seat).await;
        }
        Speaks::Tls(acceptor) => {
            let Some(stream) = Box::pin(handshake(acceptor, stream, &seat)).await else { return };
            let (from, to) = split(stream);
            Box::pin(connection(from, to, client, reception, seat)).await;
        }
        Speaks::Https(acceptor, http3) => {
            let Some(stream) = Box::pin(handshake(acceptor, stream, &seat)).await else { return };
            let visit = Visit { doh, reception, client, seat, http3: (!proxied).then_some(http3) };
            Box::pin(https::connection(stream, visit)).await;
        }
    }
}

/// Whose connection a proxy says it is, [`proxy::client`]; `None` when it says nothing good in time, or when another needs the
/// place more.
async fn introduced(from: &mut (impl AsyncRead + Unpin), seat: &Seat) -> Option<Option<IpAddr>> {
    tokio::select! {
        told = timeout(GREETING, proxy::client(from)) => told.ok()?.ok(),
        () = seat.wanted() => None,
    }
}

async fn handshake(acceptor: TlsAcceptor, stream: TcpStream, seat: &Seat) -> Option<TlsStream<TcpStream>> {
    tokio::select! {
        stream = timeout(GREETING, acceptor.accept(stream)) => match stream {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!("a TLS handshake failed: {error}");
                None
            }
            Err(_) => None,
        },
        () = seat.wanted() => None,
    }
}

/// Answers what comes on a stream, until its end.
async fn connection<From, To>(from: From, mut to: To, client: IpAddr, reception: Arc<Reception>, seat: Seat)
where
    From: AsyncRead + Unpin,
    To: AsyncWrite + Send + Unpin + 'static,
{
    let mut from = BufReader::with_capacity(READ_AHEAD, from);
    let (answers, mut ready) = mpsc::channel::<Held>(limits::QUERIES_PER_CONNECTION_MAX);
    let writer = tokio::spawn(async move {
        let mut waiting = Vec::new();
        while ready.recv_many(&mut waiting, limits::QUERIES_PER_CONNECTION_MAX).await > 0 {
            let Some(answers) = waiting.drain(..).reduce(Held::followed_by) else { break };
            let written = async { to.write_all(answers.as_ref()).await.is_ok() && to.flush().await.is_ok() };
            if timeout(WRITE, written).await != Ok(true) {
                return;
            }
        }
        let _ = timeout(WRITE, to.shutdown()).await;
    });
    let in_flight = Arc::new(Semaphore::new(limits::QUERIES_PER_CONNECTION_MAX));
    let transport = reception.transport();
    let client = Client { address: client, room: transport.room() };
    let responder = &reception.responder;
    let mut worker = responder.worker(&reception.listened, false);
    let mut turn = 0;
    let mut ends = pin!(seat.ends(transport.idle()));
    loop {
        let octets = tokio::select! {
            octets = message(&mut from) => octets,
            () = &mut ends => break,
        };
        let Some(octets) = octets else { break };
        seat.touch();
        let Ok(permit) = in_flight.clone().acquire_owned().await else { break };
        if turn >= TURN {
            turn = 0;
            tokio::task::yield_now().await;
        }
        worker.refresh();
        let wishes = transport.wishes(&octets);
        let mut answer = Vec::new();
        match responder.begin(&mut worker, &octets, client, &mut answer) {
            None => {
                transport.grant(wishes, &mut answer);
                // What is not taken keeps further queries waiting.
                turn += answer.len();
                let Some(answer) = seat.backlog.hold(framed(&answer)).await else { break };
                if answers.send(answer).await.is_err() {
                    break;
                }
            }
            Some(pending) => {
                let (responder, answers, backlog) = (responder.clone(), answers.clone(), seat.backlog.clone());
                tokio::spawn(async move {
                    let mut answer = responder.finish(pending).await;
                    transport.grant(wishes, &mut answer);
                    // Many that come at one time may be too much for a client that reads slowly.
                    let answer = backlog.try_hold(framed(&answer)).or_else(|| backlog.try_hold(framed(&failed(&answer))));
                    if let Some(answer) = answer {
                        let _ = answers.send(answer).await;
                    }
                    drop(permit);
                });
            }
        }
    }
    // Answers that are still being looked up are sent before the connection goes.
    drop(answers);
    let _ = writer.await;
}

/// The next message; `None` at the end, which is also where a query begins that is too long.
async fn message(from: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let length = usize::from(from.read_u16().await.ok()?);
    if length > limits::STREAM_QUERY_MAX {
        return None;
    }
    let mut octets = vec![0; length];
    from.read_exact(&mut octets).await.ok()?;
    Some(octets)
}

/// Instead of an answer for which there is no room: SERVFAIL, with the question, and why for who sent an OPT record.
fn failed(answer: &[u8]) -> Vec<u8> {
    let (Some(header), Some(question)) = (answer.first_chunk::<{ Message::HEADER }>(), question(answer)) else {
        return Vec::new();
    };
    let [id_high, id_low, high, low, ..] = *header;
    let rcode = Rcode::SERVFAIL.0 as u8;
    let mut failed = [&[id_high, id_low, high & 0xf9, low & 0xf0 | rcode, 0, 1, 0, 0, 0, 0, 0, 0], question].concat();
    if extras(answer).is_ok_and(|extras| extras.opt.is_some()) {
        add_edns(&mut failed, false);
        let reason = ExtendedError::Other.to_option("too many answers wait for this client to read them");
        add_option(&mut failed, reason.code, &reason.data);
    }
    failed
}

/// An answer behind its length; nothing for no answer.
fn framed(answer: &[u8]) -> Vec<u8> {
    match u16::try_from(answer.len()) {
        Ok(length @ 1..) => [&length.to_be_bytes(), answer].concat(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_proxy_that_says_nothing_gives_up_its_place_to_who_needs_it() {
        let seats = Arc::new(Seats::default());
        let seat = Seats::take(&seats, None).unwrap();
        let (_silent, mut from) = tokio::io::duplex(64);
        let mut waits = pin!(introduced(&mut from, &seat));
        assert_eq!(waits.as_mut().now_or_never(), None);
        seats.close();
        assert_eq!(waits.now_or_never(), Some(None));
    }
}
