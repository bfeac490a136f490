//! DNS over HTTPS (RFC 8484): what a request asks, how its answer goes out, and HTTP/1.1 and HTTP/2 by TCP.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::backlog::Held;
use super::seats::Seat;
use super::tcp::Reception;
use crate::dns::{Message, RData, Rcode};
use crate::doh::{self, MEDIA_TYPE};
use crate::limits::{
    DOH_HEAD_OCTETS_MAX, DOH_MISTAKES_MAX, DOH_RESETS_WAITING_MAX, QUERIES_PER_CONNECTION_MAX,
    SENT_AHEAD_OCTETS_PER_CONNECTION_MAX, SENT_AHEAD_OCTETS_PER_STREAM_MAX, STREAM_QUERY_MAX,
};
use crate::resolve::answer::Client;

/// How long a query may take to arrive, as a request's body or on a stream.
pub(super) const ARRIVAL: Duration = Duration::from_secs(10);
/// How long the last answers may take when a connection is ended.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);
/// Octets of answers that are kept for a stream whose client does not take them: one longest answer.
const SEND_BUFFER: usize = Message::MAX;

/// base64url, for which padding is left out (RFC 8484, 6), and not by everybody.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_encode_padding(false),
);

/// How requests over HTTP have to look.
#[derive(Debug)]
pub(super) struct Doh {
    pub(super) path: String,
}

/// A connection that asks over HTTP.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) doh: Arc<Doh>,
    pub(super) reception: Arc<Reception>,
    pub(super) client: IpAddr,
    pub(super) seat: Seat,
    /// It may come by HTTP/3 as well, to where this says.
    pub(super) http3: Option<HeaderValue>,
}

/// Where a request has its query.
pub(super) enum Asked {
    InUrl(Vec<u8>),
    InBody,
}

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) &'static str);

pub(super) const TOO_LARGE: Refusal = Refusal(StatusCode::PAYLOAD_TOO_LARGE, "expected a query of at most 4096 octets");
const NOT_TAKEN: Refusal = Refusal(StatusCode::SERVICE_UNAVAILABLE, "expected earlier answers to be taken first");
pub(super) const TOO_SLOW: Refusal = Refusal(StatusCode::REQUEST_TIMEOUT, "expected the body sooner");
pub(super) const CUT_SHORT: Refusal = Refusal(StatusCode::BAD_REQUEST, "expected the whole body");

impl Doh {
    /// Reads what a request asks.
    pub(super) fn asked<B>(&self, request: &Request<B>) -> Result<Asked, Refusal> {
        if request.uri().path() != self.path {
            return Err(Refusal(StatusCode::NOT_FOUND, "DNS is answered on another path"));
        }
        match *request.method() {
            Method::GET | Method::HEAD => {
                let parameters = request.uri().query().unwrap_or_default();
                let text = parameters.split('&').find_map(|parameter| parameter.strip_prefix("dns="));
                let text = text.ok_or(Refusal(StatusCode::BAD_REQUEST, "expected ?dns= with a query in base64url"))?;
                if text.len() > STREAM_QUERY_MAX.div_ceil(3) * 4 {
                    return Err(Refusal(StatusCode::URI_TOO_LONG, TOO_LARGE.1));
                }
                let octets = BASE64.decode(text);
                octets.map(Asked::InUrl).map_err(|_| Refusal(StatusCode::BAD_REQUEST, "expected base64url behind dns="))
            }
            Method::POST => {
                if !doh::is_message(request.headers()) {
                    return Err(Refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "expected content-type application/dns-message"));
                }
                Ok(Asked::InBody)
            }
            _ => Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "expected GET, HEAD or POST")),
        }
    }
}

/// The query in the target of a GET request, or the status of the refusal; `None` for what is no target. For the fuzz targets.
#[doc(hidden)]
pub fn asked_in_url(target: &str) -> Option<Result<Vec<u8>, u16>> {
    let request = Request::builder().uri(target).body(()).ok()?;
    let doh = Doh { path: request.uri().path().to_owned() };
    Some(match doh.asked(&request) {
        Ok(Asked::InUrl(query)) => Ok(query),
        Ok(Asked::InBody) => Ok(Vec::new()),
        Err(Refusal(status, _)) => Err(status.as_u16()),
    })
}

impl Visit {
    /// Answers a query, as far as there is room for the answer until the client takes it.
    pub(super) async fn answer(&self, query: &[u8]) -> Result<Held, Refusal> {
        self.seat.touch();
        let transport = self.reception.transport();
        let client = Client { address: self.client, room: transport.room() };
        let wishes = transport.wishes(query);
        let mut answer = self.reception.responder.ask_to_the_end(&self.reception.listened, query, client).await;
        if answer.is_empty() {
            return Err(Refusal(StatusCode::BAD_REQUEST, "expected a DNS query (RFC 1035, 4)"));
        }
        transport.grant(wishes, &mut answer);
        self.seat.backlog.try_hold(answer).ok_or(NOT_TAKEN)
    }

    /// The response that carries an answer, or says that there is none. For HEAD it is what GET has, without the answer (RFC
    /// 9110, 9.3.2).
    pub(super) fn response(&self, answer: Result<Held, Refusal>, method: &Method) -> Response<Bytes> {
        let (status, media_type, body) = match answer {
            Ok(answer) => (StatusCode::OK, MEDIA_TYPE, Bytes::from_owner(answer)),
            Err(Refusal(status, text)) => (status, "text/plain", Bytes::from_static(text.as_bytes())),
        };
        let age = (status == StatusCode::OK).then(|| freshness(&body)).flatten();
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        if let Some(age) = age.and_then(|age| HeaderValue::try_from(format!("max-age={age}")).ok()) {
            headers.insert(header::CACHE_CONTROL, age);
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
        }
        if let Some(http3) = &self.http3 {
            headers.insert(header::ALT_SVC, http3.clone());
        }
        if method == Method::HEAD {
            let length = std::mem::take(response.body_mut()).len();
            response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        response
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let method = request.method().clone();
        let answer = match self.doh.asked(&request) {
            Ok(Asked::InUrl(query)) => self.answer(&query).await,
            Ok(Asked::InBody) => match timeout(ARRIVAL, Limited::new(request.into_body(), STREAM_QUERY_MAX).collect()).await {
                Ok(Ok(body)) => self.answer(&body.to_bytes()).await,
                Ok(Err(error)) if error.is::<LengthLimitError>() => Err(TOO_LARGE),
                Ok(Err(_)) => Err(CUT_SHORT),
                Err(_) => Err(TOO_SLOW),
            },
            Err(refusal) => {
                // Who is still sending would be told to stop, and some take that for the end of the answer (RFC 9113, 8.1).
                let _ = timeout(ARRIVAL, Limited::new(request.into_body(), STREAM_QUERY_MAX).collect()).await;
                Err(refusal)
            }
        };
        self.response(answer, &method).map(Full::new)
    }
}

/// Seconds that an answer may be kept: the least TTL of its records, and what an SOA record says of there being none, also
/// behind an alias (RFC 8484, 5.1; RFC 2308, 5). Failures are not to be kept.
fn freshness(answer: &[u8]) -> Option<u32> {
    let message = Message::parse(answer).ok()?;
    if message.rcode != Rcode::NOERROR && message.rcode != Rcode::NXDOMAIN {
        return Some(0);
    }
    let negative = message.authorities.iter().filter_map(|record| match &record.data {
        RData::Soa(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    });
    let answers = message.answers.iter().map(|record| record.ttl);
    Some(answers.chain(negative).min().unwrap_or(0))
}

/// One connection, from its handshake to its end.
pub(super) async fn connection(stream: TlsStream<TcpStream>, visit: Visit) {
    let speaks_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let (idle, visit) = (visit.reception.transport().idle(), Arc::new(visit));
    let service = {
        let visit = visit.clone();
        service_fn(move |request| {
            let visit = visit.clone();
            async move { Ok::<_, Infallible>(visit.respond(request).await) }
        })
    };
    let ends = visit.seat.ends(idle);
    let stream = TokioIo::new(stream);
    // Both end a connection that fails; there is nobody to tell.
    macro_rules! carry {
        ($connection:expr) => {{
            let mut connection = pin!($connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                () = ends => {
                    connection.as_mut().graceful_shutdown();
                    let _ = timeout(FAREWELL, connection).await;
                }
            }
        }};
    }
    if speaks_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(QUERIES_PER_CONNECTION_MAX as u32)
            .max_header_list_size(DOH_HEAD_OCTETS_MAX as u32)
            .initial_stream_window_size(SENT_AHEAD_OCTETS_PER_STREAM_MAX)
            .initial_connection_window_size(SENT_AHEAD_OCTETS_PER_CONNECTION_MAX)
            .max_send_buf_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(DOH_RESETS_WAITING_MAX)
            .max_local_error_reset_streams(DOH_MISTAKES_MAX);
        carry!(builder.serve_connection(stream, service));
    } else {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(idle).max_buf_size(DOH_HEAD_OCTETS_MAX);
        carry!(builder.serve_connection(stream, service));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Class, Query, Question, Record, Soa, Type};

    #[test]
    fn rfc8484_5_1_an_answer_is_fresh_for_no_longer_than_any_part_of_it() {
        let name = |text: &str| text.parse::<crate::dns::Name>().unwrap();
        let question = Question { name: name("www.test"), qtype: Type::A, qclass: Class::IN };
        let message = || Query::of(question.clone()).response(Rcode::NOERROR);
        let fresh = |message: Message| freshness(&message.compose(true));
        let address = |ttl| Record::address(name("www.test"), ttl, [192, 0, 2, 1].into());
        let soa = |ttl, minimum| {
            let (mname, rname) = (name("ns.test"), name("root.test"));
            let soa = Soa { mname, rname, serial: 1, refresh: 1, retry: 1, expire: 1, minimum };
            Record::new(name("test"), ttl, RData::Soa(Box::new(soa)))
        };
        let mut found = message();
        found.answers = vec![address(300), address(77)];
        assert_eq!(fresh(found), Some(77));
        let mut none = message();
        none.authorities = vec![soa(600, 60)];
        assert_eq!(fresh(none), Some(60));
        let mut alias = message();
        alias.answers = vec![Record::new(name("www.test"), 300, RData::Cname(name("other.test")))];
        alias.authorities = vec![soa(30, 60)];
        assert_eq!(fresh(alias), Some(30), "what the alias leads to has no such record");
        assert_eq!(fresh(message()), Some(0), "nobody says for how long");
        let mut failed = message();
        failed.rcode = Rcode::SERVFAIL;
        assert_eq!(fresh(failed), Some(0));
    }
}
