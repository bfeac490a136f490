//! An answer as text, JSON or dnstap (<https://dnstap.info>).

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::Entry;
use crate::dns::{Message, Rcode};
use crate::server::tally::Place;
use crate::server::transport::Transport;

/// How answers are logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A line each, of columns with a space between.
    #[default]
    Text,
    /// A line each, an object.
    Json,
    /// A frame each, in a frame stream.
    Dnstap,
}

impl Format {
    /// Appends an entry; `octets` are its own.
    pub(super) fn write(self, place: &Place, entry: &Entry, octets: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Text => out.extend_from_slice(text(&Line::new(place, entry, octets)).as_bytes()),
            Self::Json => {
                // All of it can be written as JSON, and a vector takes it.
                let _ = serde_json::to_writer(&mut *out, &Line::new(place, entry, octets));
                out.push(b'\n');
            }
            Self::Dnstap => {
                let message = dnstap(place, entry, octets).encode_to_vec();
                out.extend_from_slice(&u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
                out.extend_from_slice(&message);
            }
        }
    }
}

/// What a line says, in the order of its columns.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// When the query came.
    time: String,
    client: IpAddr,
    transport: &'static str,
    listener: &'a str,
    name: Option<String>,
    #[serde(rename = "type")]
    qtype: Option<String>,
    rcode: Option<String>,
    source: &'static str,
    upstream: Option<String>,
    microseconds: u128,
    octets: usize,
}

impl<'a> Line<'a> {
    fn new(place: &'a Place, entry: &Entry, octets: &[u8]) -> Self {
        let mut alone = octets.to_vec();
        if let Some(counts) = alone.get_mut(4..Message::HEADER) {
            counts.copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        }
        let question = Message::parse(&alone).ok().and_then(|message| message.questions.into_iter().next());
        let came = entry.time.checked_sub(entry.took).unwrap_or(entry.time);
        Self {
            time: humantime::format_rfc3339_micros(came).to_string(),
            client: entry.client,
            transport: place.transport.label(),
            listener: &place.name,
            name: question.as_ref().map(|question| question.name.to_string()),
            qtype: question.as_ref().map(|question| question.qtype.to_string()),
            rcode: entry.rcode.map(|rcode: Rcode| rcode.to_string()),
            source: entry.source.name(),
            upstream: entry.upstream.map(|upstream| upstream.to_string()),
            microseconds: entry.took.as_micros(),
            octets: entry.size,
        }
    }
}

fn text(line: &Line<'_>) -> String {
    let Line { time, client, transport, listener, name, qtype, rcode, source, upstream, microseconds, octets } = line;
    let mut text = format!("{time} {client} {transport} {listener}");
    for column in [name, qtype, rcode, &Some((*source).to_owned()), upstream] {
        text.push(' ');
        text.push_str(column.as_deref().unwrap_or("-"));
    }
    // A string takes it.
    let _ = writeln!(text, " {microseconds}us {octets}");
    text
}

/// `dnstap.Dnstap`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Dnstap {
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(super) version: Option<Vec<u8>>,
    #[prost(message, optional, tag = "14")]
    pub(super) message: Option<DnstapMessage>,
    /// 1 for a message.
    #[prost(int32, required, tag = "15")]
    pub(super) kind: i32,
}

/// `dnstap.Message`, as far as it is about clients.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DnstapMessage {
    #[prost(int32, required, tag = "1")]
    pub(super) kind: i32,
    /// 1 for IPv4, 2 for IPv6.
    #[prost(int32, optional, tag = "2")]
    pub(super) socket_family: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    pub(super) socket_protocol: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(super) query_address: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub(super) response_address: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "7")]
    pub(super) response_port: Option<u32>,
    #[prost(uint64, optional, tag = "8")]
    pub(super) query_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "9")]
    pub(super) query_time_nsec: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "10")]
    pub(super) query_message: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "12")]
    pub(super) response_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "13")]
    pub(super) response_time_nsec: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "14")]
    pub(super) response_message: Option<Vec<u8>>,
}

const MESSAGE: i32 = 1;
const CLIENT_QUERY: i32 = 5;
const CLIENT_RESPONSE: i32 = 6;

/// An answer is a CLIENT_RESPONSE that tells when the query came; what got none is a CLIENT_QUERY.
fn dnstap(place: &Place, entry: &Entry, octets: &[u8]) -> Dnstap {
    let octets_of = |address: IpAddr| match address.to_canonical() {
        IpAddr::V4(address) => (1, address.octets().to_vec()),
        IpAddr::V6(address) => (2, address.octets().to_vec()),
    };
    let (family, address) = octets_of(entry.client);
    // Where all addresses of a host are listened on it is not known which was asked.
    let listener = place.name.parse::<SocketAddr>().ok().filter(|listener| !listener.ip().is_unspecified());
    let protocol = Some(match place.transport {
        Transport::Udp => 1,
        Transport::Tcp => 2,
        Transport::Tls => 3,
        Transport::Https | Transport::H3 => 4,
        Transport::Quic => 7,
    });
    let since_epoch = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (given, came) = (since_epoch(entry.time), since_epoch(entry.time).saturating_sub(entry.took));
    let answered = entry.size > 0;
    let octets = octets.to_vec();
    let message = DnstapMessage {
        kind: if answered { CLIENT_RESPONSE } else { CLIENT_QUERY },
        socket_family: Some(family),
        socket_protocol: protocol,
        query_address: Some(address),
        response_address: listener.map(|listener| octets_of(listener.ip()).1),
        response_port: listener.map(|listener| listener.port().into()),
        query_time_sec: Some(came.as_secs()),
        query_time_nsec: Some(came.subsec_nanos()),
        query_message: (!answered).then(|| octets.clone()),
        response_time_sec: answered.then_some(given.as_secs()),
        response_time_nsec: answered.then_some(given.subsec_nanos()),
        response_message: answered.then_some(octets),
    };
    let version = Some(concat!("rollcall ", env!("CARGO_PKG_VERSION")).into());
    Dnstap { version, message: Some(message), kind: MESSAGE }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dns::{Class, Query, Question, Type};
    use crate::server::tally::Source;

    fn entry(upstream: Option<&str>, rcode: Option<Rcode>, size: usize) -> Entry {
        Entry {
            client: "::ffff:192.0.2.7".parse().unwrap(),
            time: SystemTime::UNIX_EPOCH + Duration::new(1_795_734_001, 500_000_000),
            took: Duration::from_micros(1_250),
            source: Source::Forwarded,
            upstream: upstream.map(|upstream| upstream.parse().unwrap()),
            rcode,
            size,
            octets: 0..0,
        }
    }

    fn place() -> Place {
        Place { name: "127.0.0.1:53".into(), transport: Transport::Udp }
    }

    fn asked(name: &str) -> Vec<u8> {
        Query::of(Question { name: name.parse().unwrap(), qtype: Type::AAAA, qclass: Class::IN }).compose()
    }

    fn written(format: Format, entry: &Entry, octets: &[u8]) -> Vec<u8> {
        let mut out = b"before\n".to_vec();
        format.write(&place(), entry, octets, &mut out);
        out.split_off(7)
    }

    #[test]
    fn a_line_has_its_columns_whatever_the_name() {
        let entry = entry(Some("9.9.9.9:53"), Some(Rcode::NOERROR), 61);
        let text = |octets: &[u8]| String::from_utf8(written(Format::Text, &entry, octets)).unwrap();
        assert_eq!(
            text(&asked("WWW.example.net")),
            "2026-11-26T23:00:01.498750Z ::ffff:192.0.2.7 udp 127.0.0.1:53 WWW.example.net. AAAA NOERROR forwarded 9.9.9.9:53 1250us 61\n"
        );
        for odd in ["a\\032b.example.net", "a\\010b.example.net", "\\027[31m.example.net", "\\255.example.net", "."] {
            let line = text(&asked(odd));
            assert_eq!((line.split(' ').count(), line.lines().count()), (11, 1), "{line:?}");
            assert!(line.trim_end().chars().all(|c| c.is_ascii_graphic() || c == ' '), "{line:?}");
        }
        for cut in 0..20 {
            let line = text(&asked("www.example.net")[..cut]);
            assert!(line.contains(" - - NOERROR "), "{line}");
        }
    }

    #[test]
    fn json_has_the_same_by_name() {
        let line = written(Format::Json, &entry(None, None, 0), &asked("a\\\".example.net"));
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(line.last(), Some(&b'\n'));
        assert_eq!((value["name"].as_str(), value["type"].as_str()), (Some("a\\\".example.net."), Some("AAAA")));
        assert!(value["rcode"].is_null() && value["upstream"].is_null());
        assert_eq!((value["microseconds"].as_u64(), value["octets"].as_u64()), (Some(1250), Some(0)));
        assert_eq!((value["client"].as_str(), value["source"].as_str()), (Some("::ffff:192.0.2.7"), Some("forwarded")));
    }

    #[test]
    fn dnstap_has_the_message_and_both_times() {
        let frame = written(Format::Dnstap, &entry(None, Some(Rcode::NOERROR), 5), b"reply");
        assert_eq!(frame[..4], (frame.len() as u32 - 4).to_be_bytes());
        let Dnstap { message: Some(message), kind: MESSAGE, .. } = Dnstap::decode(&frame[4..]).unwrap() else { panic!() };
        assert_eq!((message.kind, message.response_message.as_deref()), (CLIENT_RESPONSE, Some(&b"reply"[..])));
        assert_eq!((message.socket_family, message.query_address), (Some(1), Some(vec![192, 0, 2, 7])));
        assert_eq!((message.query_time_sec, message.query_time_nsec), (Some(1_795_734_001), Some(498_750_000)));
        assert_eq!((message.response_time_nsec, message.socket_protocol), (Some(500_000_000), Some(1)));
        let frame = written(Format::Dnstap, &entry(None, None, 0), b"query");
        let message = Dnstap::decode(&frame[4..]).unwrap().message.unwrap();
        assert_eq!((message.kind, message.query_message.as_deref()), (CLIENT_QUERY, Some(&b"query"[..])));
        assert_eq!((message.response_message, message.response_time_sec), (None, None));
    }
}
