//! DNS over HTTP, for clients and towards upstreams: what a message is called, and how much a stream of HTTP/3 may bring.

use std::task::{Context, Poll};

use bytes::Buf;
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use hyper::header::{CONTENT_TYPE, HeaderMap};

/// The media type of a message (RFC 8484, 6).
pub const MEDIA_TYPE: &str = "application/dns-message";

/// Do the headers say that the content is a message? Media types are compared without their letter case, and parameters mean
/// nothing to this one (RFC 9110, 8.3.1).
pub fn is_message(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split_once(';').map_or(value, |(media_type, _)| media_type);
    media_type.trim().eq_ignore_ascii_case(MEDIA_TYPE)
}

/// A connection over QUIC, or a stream of it, of which no more is read than what is left. HTTP/3's library collects each frame
/// whole, whatever length it says it has, so that what comes on a stream is counted before it.
#[derive(Clone)]
pub struct Bounded<T> {
    inner: T,
    left: usize,
}

type Polled<T, E = StreamErrorIncoming> = Poll<Result<T, E>>;

impl<T> Bounded<T> {
    /// Each stream of the connection has so many octets, those that live as long as it does too.
    pub fn new(connection: T, octets_per_stream: usize) -> Self {
        Self { inner: connection, left: octets_per_stream }
    }

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
                    return Poll::Ready(Err(StreamErrorIncoming::Unknown("more than a stream may have".into())));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_8_3_1_media_types_have_no_letter_case_and_may_have_parameters() {
        let says = |value: &str| is_message(&HeaderMap::from_iter([(CONTENT_TYPE, value.parse().unwrap())]));
        for value in
            ["application/dns-message", "Application/DNS-Message; charset=utf-8", " application/dns-message ;a=\"b;c\""]
        {
            assert!(says(value), "{value}");
        }
        for value in ["", "application/dns-json", "application/dns-message2", "application/dns", "; application/dns-message"] {
            assert!(!says(value), "{value}");
        }
        assert!(!is_message(&HeaderMap::new()));
    }
}
