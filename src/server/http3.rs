//! DNS over HTTP/3 (RFC 8484, RFC 9114).
//!
//! The library collects each frame whole, whatever length it says it has, so that what comes on a stream is counted here.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use h3::server::RequestResolver;
use tokio::time::timeout;

use super::hop::Hop;
use super::https::{Asked, BODY, CUT_SHORT, Refusal, TOO_LARGE, TOO_SLOW, Visit};
use super::seats::Seat;
use super::tcp::{Reception, WRITE};
use crate::limits::{DOH_HEAD_OCTETS_MAX, STREAM_QUERY_MAX};

/// Octets that are taken from one stream: of a request, its head and its body with their frames.
const STREAM_MAX: usize = 2 * DOH_HEAD_OCTETS_MAX;

/// Answers what comes on a connection, until its end.
pub(super) async fn connection(connection: quinn::Connection, reception: Arc<Reception>, seat: Seat) {
    let client = connection.remote_address().ip();
    let doh = reception.terms.load().doh.clone();
    let visit = Arc::new(Visit { doh, reception, client, seat, http3: None });
    let streams = Bounded { inner: h3_quinn::Connection::new(connection), left: STREAM_MAX };
    let mut builder = h3::server::builder();
    builder.max_field_section_size(DOH_HEAD_OCTETS_MAX as u64);
    let mut ends = pin!(visit.seat.ends(Hop::Https.idle()));
    let requests = tokio::select! {
        requests = builder.build(streams) => requests,
        () = &mut ends => return,
    };
    let Ok(mut requests) = requests else { return };
    loop {
        tokio::select! {
            request = requests.accept() => match request {
                Ok(Some(request)) => drop(tokio::spawn(respond(request, visit.clone()))),
                Ok(None) | Err(_) => return,
            },
            // Dropped, it is closed, with what is still under way on it: nobody waited for that long.
            () = &mut ends => return,
        }
    }
}

/// One request, and its response.
async fn respond(request: RequestResolver<Bounded<h3_quinn::Connection>, Bytes>, visit: Arc<Visit>) {
    let Ok(Ok((request, mut stream))) = timeout(BODY, request.resolve_request()).await else { return };
    let query = async {
        let mut query = match visit.doh.asked(&request)? {
            Asked::InUrl(query) => return Ok(query),
            Asked::InBody => Vec::new(),
        };
        while let Some(mut part) = stream.recv_data().await.map_err(|_| CUT_SHORT)? {
            if query.len() + part.remaining() > STREAM_QUERY_MAX {
                return Err(TOO_LARGE);
            }
            query.extend_from_slice(&part.copy_to_bytes(part.remaining()));
        }
        Ok::<_, Refusal>(query)
    };
    let answer = match timeout(BODY, query).await {
        Ok(Ok(query)) => visit.answer(&query).await,
        Ok(Err(refusal)) => Err(refusal),
        Err(_) => Err(TOO_SLOW),
    };
    if answer.is_err() {
        // What else comes of it is not read.
        stream.stop_sending(Code::H3_NO_ERROR);
    }
    let (head, body) = visit.response(answer, request.method()).into_parts();
    let head = hyper::Response::from_parts(head, ());
    let sent = async { stream.send_response(head).await.is_ok() && stream.send_data(body).await.is_ok() };
    if timeout(WRITE, sent).await == Ok(true) {
        let _ = stream.finish().await;
    }
}

/// A connection, or a stream of it, of which no more is read than what is left.
struct Bounded<T> {
    inner: T,
    left: usize,
}

type Polled<T, E = StreamErrorIncoming> = Poll<Result<T, E>>;

impl<T> Bounded<T> {
    fn bound<S, E>(&self, polled: Polled<S, E>) -> Polled<Bounded<S>, E> {
        polled.map_ok(|inner| Bounded { inner, left: self.left })
    }
}

impl<T: quic::RecvStream> quic::RecvStream for Bounded<T> {
    type Buf = T::Buf;

    fn poll_data(&mut self, context: &mut Context<'_>) -> Polled<Option<T::Buf>> {
        let polled = self.inner.poll_data(context);
        if let Poll::Ready(Ok(Some(part))) = &polled {
            match self.left.checked_sub(part.remaining()) {
                Some(left) => self.left = left,
                None => {
                    self.inner.stop_sending(Code::H3_EXCESSIVE_LOAD.value());
                    return Poll::Ready(Err(StreamErrorIncoming::Unknown("more than a request has".into())));
                }
            }
        }
        polled
    }

    fn stop_sending(&mut self, code: u64) {
        self.inner.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.inner.recv_id()
    }
}

impl<B: Buf, T: quic::SendStream<B>> quic::SendStream<B> for Bounded<T> {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Polled<()> {
        self.inner.poll_ready(context)
    }

    fn send_data<D: Into<WriteBuf<B>>>(&mut self, data: D) -> Result<(), StreamErrorIncoming> {
        self.inner.send_data(data)
    }

    fn poll_finish(&mut self, context: &mut Context<'_>) -> Polled<()> {
        self.inner.poll_finish(context)
    }

    fn reset(&mut self, code: u64) {
        self.inner.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.inner.send_id()
    }
}

impl<B: Buf, T: quic::BidiStream<B>> quic::BidiStream<B> for Bounded<T> {
    type SendStream = T::SendStream;
    type RecvStream = Bounded<T::RecvStream>;

    fn split(self) -> (T::SendStream, Bounded<T::RecvStream>) {
        let (to, inner) = self.inner.split();
        (to, Bounded { inner, left: self.left })
    }
}

impl<B: Buf, T: quic::OpenStreams<B>> quic::OpenStreams<B> for Bounded<T> {
    type BidiStream = Bounded<T::BidiStream>;
    type SendStream = T::SendStream;

    fn poll_open_bidi(&mut self, context: &mut Context<'_>) -> Polled<Self::BidiStream> {
        let polled = self.inner.poll_open_bidi(context);
        self.bound(polled)
    }

    fn poll_open_send(&mut self, context: &mut Context<'_>) -> Polled<T::SendStream> {
        self.inner.poll_open_send(context)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.inner.close(code, reason);
    }
}

impl<B: Buf, T: quic::Connection<B>> quic::Connection<B> for Bounded<T> {
    type RecvStream = Bounded<T::RecvStream>;
    type OpenStreams = Bounded<T::OpenStreams>;

    fn poll_accept_recv(&mut self, context: &mut Context<'_>) -> Polled<Self::RecvStream, ConnectionErrorIncoming> {
        let polled = self.inner.poll_accept_recv(context);
        self.bound(polled)
    }

    fn poll_accept_bidi(&mut self, context: &mut Context<'_>) -> Polled<Self::BidiStream, ConnectionErrorIncoming> {
        let polled = self.inner.poll_accept_bidi(context);
        self.bound(polled)
    }

    fn opener(&self) -> Self::OpenStreams {
        Bounded { inner: self.inner.opener(), left: self.left }
    }
}
