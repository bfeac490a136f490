//! `rollcall query`: ask a DNS server, and say who answered and what the answer means.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use clap::Args;
use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, Name, RData, Record};
use hickory_proto::serialize::binary::DecodeError;
use serde_json::{Value, json};

use super::api::variable;
use super::explain::source_text;
use super::output::{Output, printable};
use super::shown::{list, table, text};
use super::{Done, Error as CliError};
use crate::dns::{Rcode, Type, option};
use crate::upstream::{self, Host, Protocol, Upstream};

/// The server that is asked when none is given.
const SERVER_DEFAULT: &str = "127.0.0.1:53";
/// How long a server may take by UDP, and by a connection, its handshakes included.
const UDP_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(8);
/// What fits an Ethernet frame without fragments, over IPv6 too (DNS flag day 2020).
const PAYLOAD_MAX: u16 = 1232;

/// Ask a DNS server, and say who answered and what the answer means.
///
/// Exits with 0 when there are records of the type, with 1 when there are none or no answer came.
#[derive(Debug, Args)]
#[command(override_usage = "rollcall query [OPTIONS] NAME [TYPE] [@SERVER[:PORT]|@URL]", after_help = EXAMPLES)]
pub(super) struct QueryArgs {
    /// The name, the type [default: A; PTR for an address], and @SERVER[:PORT] [default: $ROLLCALL_DNS_ADDR, 127.0.0.1:53]
    #[arg(required = true, num_args = 1..=3, value_name = "NAME [TYPE] [@SERVER]")]
    words: Vec<String>,
    /// Ask this server, as @SERVER does
    #[arg(long, value_name = "SERVER[:PORT]")]
    dns: Option<String>,
    /// Ask over TCP
    #[arg(long)]
    tcp: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  rollcall query web.service.consul
  rollcall query web.service.consul SRV @127.0.0.1:8600
  rollcall query 10.0.0.5                                   the name of an address
  rollcall query example.com @tls://9.9.9.9#dns.quad9.net   over TLS; also https://, h3://, quic://, tcp://
  rollcall query example.com TXT --tcp --json";

/// Why a question could not be asked, or found no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{word} is no name: {reason}")]
    Name { word: String, reason: String },
    #[error("{word} is no record type")]
    Type { word: String },
    #[error("{word} is one word too many after NAME, TYPE and @SERVER")]
    Word { word: String },
    #[error("@{server} is no server")]
    Server { server: String, source: io::Error },
    #[error("@{server} is no server: {reason}")]
    Url { server: String, reason: String },
    #[error("cannot write the question")]
    Compose(#[source] ProtoError),
    #[error("no answer from {server} over {transport}")]
    Exchange { server: Box<Upstream>, transport: &'static str, source: io::Error },
    #[error("no answer from {server} over UDP within {} s", UDP_TIMEOUT.as_secs())]
    Silent { server: Box<Upstream> },
    #[error("the answer of {server} cannot be read")]
    Parse { server: Box<Upstream>, source: DecodeError },
}

impl Error {
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::Name { .. } | Self::Word { .. } => {
                Some("write NAME [TYPE] [@SERVER[:PORT]], as in web.service.consul SRV @127.0.0.1:8600".to_owned())
            }
            Self::Type { .. } => Some("write A, AAAA, SRV, TXT, …, or TYPE and a number, as in TYPE65".to_owned()),
            Self::Server { .. } => Some("write @ADDRESS or @ADDRESS:PORT, as in @127.0.0.1:8600 or @[::1]:53".to_owned()),
            Self::Url { .. } => Some("write it as an upstream, as in @tls://9.9.9.9#dns.quad9.net".to_owned()),
            Self::Exchange { source, .. } if source.to_string().contains("certificate") => Some(
                "is it the right server? @ADDRESS#NAME says whose certificate to expect; SSL_CERT_FILE names other authorities"
                    .to_owned(),
            ),
            Self::Exchange { .. } | Self::Silent { .. } => {
                Some("does a server listen there? Name another one with @ADDRESS:PORT or ROLLCALL_DNS_ADDR".to_owned())
            }
            Self::Compose(_) | Self::Parse { .. } => None,
        }
    }

    pub(super) fn is_usage(&self) -> bool {
        matches!(self, Self::Name { .. } | Self::Type { .. } | Self::Word { .. } | Self::Server { .. } | Self::Url { .. })
    }
}

impl QueryArgs {
    pub(super) fn run(self, output: &mut Output) -> Result<Done, CliError> {
        let asked = Asked::read(&self.words, self.dns.as_deref())?;
        let answer = asked.exchange(self.tcp)?;
        if self.json {
            output.json(&answer.as_json(&asked))?
        } else {
            answer.print(&asked, output)?
        }
        Ok(if answer.meaning(&asked).is_found() { Done::Yes } else { Done::No })
    }
}

/// What is asked, and whom.
#[derive(Debug)]
struct Asked {
    name: Name,
    kind: Type,
    /// By UDP it is asked over TCP too, for what does not fit.
    server: Upstream,
}

impl Asked {
    fn read(words: &[String], server: Option<&str>) -> Result<Self, Error> {
        let server = words.iter().find_map(|word| word.strip_prefix('@')).or(server).map(str::to_owned);
        let server = server.or_else(|| variable("ROLLCALL_DNS_ADDR")).unwrap_or_else(|| SERVER_DEFAULT.to_owned());
        let mut words = words.iter().filter(|word| !word.starts_with('@'));
        let missing = || Error::Name { word: "the question".to_owned(), reason: "it has none".to_owned() };
        let name = words.next().ok_or_else(missing)?;
        let wrong = |word: &String| Error::Type { word: word.clone() };
        let kind = words.next().map(|word| word.parse().map_err(|_| wrong(word))).transpose()?;
        if let Some(word) = words.next() {
            return Err(Error::Word { word: word.clone() });
        }
        let (name, kind) = match (name.parse::<IpAddr>(), kind) {
            (Ok(address), None) => (Name::from(address), Type::PTR),
            (_, kind) => {
                let wrong = |reason| Error::Name { word: name.clone(), reason };
                let read = super::name(name).map_err(wrong)?;
                let read = Name::from_labels(read.labels()).map_err(|error| wrong(error.to_string()));
                (read?, kind.unwrap_or(Type::A))
            }
        };
        let mut name = name;
        // There is no search list: what is asked is what was written.
        name.set_fqdn(true);
        Ok(Self { name, kind, server: read_server(&server)? })
    }

    fn exchange(&self, tcp: bool) -> Result<Answer, Error> {
        let mut query = Message::new(fastrand::u16(..), MessageType::Query, OpCode::Query);
        query.metadata.recursion_desired = true;
        // Tell whether the answer is proved (RFC 6840, 5.7).
        query.metadata.authentic_data = true;
        query.add_query(Query::query(self.name.clone(), self.kind.0.into()));
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD_MAX);
        if is_here(&self.server) {
            // One that does not know it passes it over (RFC 6891, 6.1.2).
            edns.options_mut().insert(EdnsOption::Unknown(option::TRACE, Vec::new()));
        }
        query.set_edns(edns);
        let bytes = query.to_vec().map_err(Error::Compose)?;
        let started = Instant::now();
        let (mut protocol, mut transport) = (self.server.protocol, protocol_text(self.server.protocol));
        if tcp && protocol == Protocol::Udp {
            (protocol, transport) = (Protocol::Tcp, "TCP");
        }
        let (mut size, mut message) = self.ask(protocol, &bytes)?;
        // RFC 7766, 5: an answer that was cut is asked for again over TCP.
        if protocol == Protocol::Udp && message.metadata.truncation {
            transport = "TCP, because the answer did not fit UDP";
            (size, message) = self.ask(Protocol::Tcp, &bytes)?;
        }
        Ok(Answer { message, size, transport, took: started.elapsed() })
    }

    /// Asks once by this protocol: how many octets came back, and what they say.
    fn ask(&self, protocol: Protocol, bytes: &[u8]) -> Result<(usize, Message), Error> {
        let server = || Box::new(self.server.clone());
        let failed = |source| Error::Exchange { server: server(), transport: protocol_text(protocol), source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let timeout = if protocol == Protocol::Udp { UDP_TIMEOUT } else { CONNECTION_TIMEOUT };
        let asking = upstream::ask(Upstream { protocol, ..self.server.clone() }, bytes);
        let reply = match runtime.block_on(async { tokio::time::timeout(timeout, asking).await }) {
            Ok(reply) => reply.map_err(failed)?,
            Err(_) if protocol == Protocol::Udp => return Err(Error::Silent { server: server() }),
            Err(_) => return Err(failed(io::ErrorKind::TimedOut.into())),
        };
        let message = Message::from_vec(&reply).map_err(|source| Error::Parse { server: server(), source })?;
        Ok((reply.len(), message))
    }
}

/// Is it on this host, and may tell what became of the question?
fn is_here(server: &Upstream) -> bool {
    match &server.host {
        Host::Address(address) => address.ip.is_loopback(),
        Host::Name(_) => server.addresses.first().is_some_and(|address| address.ip.is_loopback()),
    }
}

/// What came back.
struct Answer {
    message: Message,
    size: usize,
    transport: &'static str,
    took: Duration,
}

/// What an answer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Found,
    /// The name exists without records of the type.
    NoData,
    /// An alias whose end has no records of the type.
    DeadAlias,
    NoName,
    Failed,
}

impl Meaning {
    fn is_found(self) -> bool {
        self == Self::Found
    }
}

impl Answer {
    fn meaning(&self, asked: &Asked) -> Meaning {
        let answers = &self.message.answers;
        match self.message.metadata.response_code {
            ResponseCode::NXDomain => Meaning::NoName,
            ResponseCode::NoError if answers.is_empty() => Meaning::NoData,
            ResponseCode::NoError if asked.kind == Type::ANY => Meaning::Found,
            ResponseCode::NoError if answers.iter().any(|record| record_type(record) == asked.kind) => Meaning::Found,
            ResponseCode::NoError => Meaning::DeadAlias,
            _ => Meaning::Failed,
        }
    }

    fn words(&self, asked: &Asked) -> String {
        let kind = asked.kind;
        match self.meaning(asked) {
            Meaning::Found => match self.message.answers.len() {
                1 => "NOERROR: 1 record".to_owned(),
                several => format!("NOERROR: {several} records"),
            },
            Meaning::NoData => format!("NOERROR without data: the name exists, and has no {kind} record"),
            Meaning::DeadAlias => {
                format!("NOERROR without data: the name is an alias, and what it leads to has no {kind} record")
            }
            Meaning::NoName => "NXDOMAIN: there is no such name".to_owned(),
            Meaning::Failed => match self.message.metadata.response_code {
                ResponseCode::ServFail => "SERVFAIL: the server could not find out; the name may exist".to_owned(),
                ResponseCode::Refused => "REFUSED: the server does not answer this name, or not this client".to_owned(),
                ResponseCode::FormErr => "FORMERR: the server could not read the question".to_owned(),
                ResponseCode::NotImp => "NOTIMP: the server does not answer questions of this kind".to_owned(),
                ResponseCode::BADVERS => "BADVERS: the server does not know this version of EDNS".to_owned(),
                other => format!("{}: {}", Rcode(other.into()), other.to_str()),
            },
        }
    }

    /// How the server came by what it says.
    fn origin(&self) -> &'static str {
        let header = &self.message.metadata;
        match (header.authoritative, header.recursion_available) {
            (true, _) => "authoritative: the server's own data",
            (false, true) => "forwarded or cached: not the server's own data",
            (false, false) => "neither authoritative nor looked up elsewhere",
        }
    }

    fn extended_errors(&self) -> Vec<(u16, String)> {
        let Some(edns) = &self.message.edns else { return Vec::new() };
        let options = edns.options().get_all(EdnsCode::Unknown(15));
        let read = |option: &EdnsOption| match option {
            EdnsOption::Unknown(_, data) => {
                let (code, text) = data.split_first_chunk::<2>()?;
                Some((u16::from_be_bytes(*code), printable(&String::from_utf8_lossy(text))))
            }
            _ => None,
        };
        options.into_iter().filter_map(read).collect()
    }

    /// What the server tells of how it came by the answer, if it is a rollcall on this host.
    fn trace(&self) -> Value {
        let option = self.message.edns.as_ref().and_then(|edns| edns.option(EdnsCode::Unknown(option::TRACE)));
        match option {
            Some(EdnsOption::Unknown(_, data)) => serde_json::from_slice(data).unwrap_or_default(),
            _ => Value::Null,
        }
    }

    fn print(&self, asked: &Asked, output: &mut Output) -> Result<(), CliError> {
        let sections = [
            ("Name", &self.message.answers),
            ("Authority", &self.message.authorities),
            ("Additional", &self.message.additionals),
        ];
        for (title, records) in sections.into_iter().filter(|(_, records)| !records.is_empty()) {
            let mut rows = vec![vec![title.to_owned(), "TTL".to_owned(), "Type".to_owned(), "Data".to_owned()]];
            rows.extend(records.iter().map(|record| {
                vec![record.name.to_ascii(), record.ttl.to_string(), record_type(record).to_string(), data_text(record)]
            }));
            output.table(&rows)?;
            output.line("")?;
        }
        output.heading(self.words(asked))?;
        for (code, text) in self.extended_errors() {
            let between = if text.is_empty() { "" } else { ": " };
            output.line(format_args!("  error {code}, {}{between}{text}", extended_error_text(code)))?;
        }
        output.line(format_args!("  from {} over {}", asked.server, self.transport))?;
        if self.meaning(asked) != Meaning::Failed {
            if self.trace().is_null() {
                output.line(format_args!("  {}", self.origin()))?;
            }
            if self.message.metadata.authentic_data {
                output.line("  authentic: validated (DNSSEC), as the server says")?;
            }
        }
        output.line(format_args!("  {:.1} ms, {} octets", self.took.as_secs_f64() * 1e3, self.size))?;
        print_trace(&self.trace(), output)
    }

    fn as_json(&self, asked: &Asked) -> Value {
        let header = &self.message.metadata;
        let flags = [
            ("aa", header.authoritative),
            ("tc", header.truncation),
            ("rd", header.recursion_desired),
            ("ra", header.recursion_available),
            ("ad", header.authentic_data),
            ("cd", header.checking_disabled),
        ];
        let section = |records: &[Record]| -> Vec<Value> {
            let object = |record: &Record| json!({ "name": record.name.to_ascii(), "ttl": record.ttl, "type": record_type(record).to_string(), "data": data_text(record) });
            records.iter().map(object).collect()
        };
        let errors = self.extended_errors();
        json!({
            "question": { "name": asked.name.to_ascii(), "type": asked.kind.to_string() },
            "server": asked.server.to_string(),
            "transport": self.transport.split(',').next().unwrap_or_default().to_lowercase(),
            "milliseconds": self.took.as_secs_f64() * 1e3,
            "octets": self.size,
            "rcode": Rcode(header.response_code.into()).to_string(),
            "meaning": self.words(asked),
            "found": self.meaning(asked).is_found(),
            "authoritative": header.authoritative,
            "flags": flags.into_iter().filter_map(|(flag, set)| set.then_some(flag)).collect::<Vec<_>>(),
            "extended_errors": errors.iter().map(|(code, text)| json!({ "code": code, "name": extended_error_text(*code), "text": text })).collect::<Vec<_>>(),
            "answers": section(&self.message.answers),
            "trace": self.trace(),
            "authorities": section(&self.message.authorities),
            "additionals": section(&self.message.additionals),
        })
    }
}

/// Who had the answer, and what upstreams said to it, as a rollcall tells it.
fn print_trace(trace: &Value, output: &mut Output) -> Result<(), CliError> {
    if let Some(source) = trace["source"].as_str() {
        output.line(format_args!("  answered by {}", source_text(source)))?;
    }
    for key in ["route", "view"] {
        if let Some(name) = trace[key].as_str() {
            output.line(format_args!("  {key} {}", printable(name)))?;
        }
    }
    let heading = ["Upstream", "By", "Asked after", "Outcome", "Time"];
    table(output, list(&trace["tries"]), &heading, |tried| {
        let time = |key: &str| format!("{} ms", text(&tried[key]));
        vec![text(&tried["upstream"]), text(&tried["by"]), time("after_ms"), text(&tried["outcome"]), time("took_ms")]
    })?;
    match trace["more_tries"].as_u64() {
        None | Some(0) => Ok(()),
        Some(more) => output.line(format_args!("and {more} more")),
    }
}

fn read_server(server: &str) -> Result<Upstream, Error> {
    match server.split_once("://") {
        // An address of one link is as it is in the configuration.
        Some(("udp", _)) | None if server.contains('%') => {
            server.parse().map_err(|reason| Error::Url { server: server.to_owned(), reason })
        }
        None => server_address(server).map(Upstream::from),
        Some(("udp", rest)) => server_address(rest).map(Upstream::from),
        Some(_) => server.parse().map_err(|reason| Error::Url { server: server.to_owned(), reason }),
    }
}

fn protocol_text(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Udp => "UDP",
        Protocol::Tcp => "TCP",
        Protocol::Tls => "TLS",
        Protocol::Https => "HTTPS",
        Protocol::H3 => "HTTP/3",
        Protocol::Quic => "QUIC",
    }
}

fn server_address(server: &str) -> Result<SocketAddr, Error> {
    if let Ok(address) = server.parse::<SocketAddr>() {
        return Ok(address);
    }
    let bare = server.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(server);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, 53));
    }
    let found = if server.contains(':') { server.to_socket_addrs() } else { (server, 53).to_socket_addrs() };
    let failed = |source| Error::Server { server: server.to_owned(), source };
    let none = || failed(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    found.map_err(failed)?.next().ok_or_else(none)
}

fn record_type(record: &Record) -> Type {
    Type(record.record_type().into())
}

fn data_text(record: &Record) -> String {
    let text = match &record.data {
        RData::TXT(text) => text.txt_data.iter().map(|part| quoted(part)).collect::<Vec<_>>().join(" "),
        RData::Unknown { rdata, .. } => {
            let mut text = format!("\\# {}", rdata.anything.len());
            for (place, octet) in rdata.anything.iter().enumerate() {
                let _ = write!(text, "{}{octet:02x}", if place == 0 { " " } else { "" });
            }
            text
        }
        // A list ends with a comma in hickory's text, where RFC 9460, 2.1 has none.
        RData::SVCB(_) | RData::HTTPS(_) => {
            let text = record.data.to_string();
            text.split(' ').map(|part| part.trim_end_matches(',')).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    };
    let text = printable(&text);
    // Classes other than IN are rare, and telling.
    if record.dns_class == DNSClass::IN { text } else { format!("{text} (class {})", record.dns_class) }
}

/// A character string as master files write it (RFC 1035, 5.1).
fn quoted(octets: &[u8]) -> String {
    let mut text = String::from("\"");
    for &octet in octets {
        match octet {
            b'"' | b'\\' => {
                text.push('\\');
                text.push(char::from(octet));
            }
            0x20..=0x7e => text.push(char::from(octet)),
            _ => {
                let _ = write!(text, "\\{octet:03}");
            }
        }
    }
    text.push('"');
    text
}

/// RFC 8914, 4.
fn extended_error_text(code: u16) -> &'static str {
    match code {
        0 => "other",
        1 => "unsupported DNSKEY algorithm",
        2 => "unsupported DS digest type",
        3 => "stale answer",
        4 => "forged answer",
        5 => "DNSSEC indeterminate",
        6 => "DNSSEC bogus",
        7 => "signature expired",
        8 => "signature not yet valid",
        9 => "DNSKEY missing",
        10 => "RRSIGs missing",
        11 => "no zone key bit set",
        12 => "NSEC missing",
        13 => "cached error",
        14 => "not ready",
        15 => "blocked",
        16 => "censored",
        17 => "filtered",
        18 => "prohibited",
        19 => "stale NXDOMAIN answer",
        20 => "not authoritative",
        21 => "not supported",
        22 => "no reachable authority",
        23 => "network error",
        24 => "invalid data",
        _ => "unassigned",
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};

    use hickory_proto::rr::rdata::{A, SOA, TXT};
    use hickory_proto::serialize::binary::BinEncodable as _;

    use super::*;

    fn read(line: &str) -> Result<Asked, Error> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Asked::read(&words, None)
    }

    #[test]
    fn words_come_in_any_order() {
        let asked = read("@127.0.0.1:8600 web.service.consul srv").unwrap();
        assert_eq!((asked.name.to_ascii(), asked.kind), ("web.service.consul.".to_owned(), Type::SRV));
        assert_eq!(asked.server.to_string(), "127.0.0.1:8600");
        let asked = read("10.0.0.5 @[::1]").unwrap();
        assert_eq!((asked.name.to_ascii(), asked.kind), ("5.0.0.10.in-addr.arpa.".to_owned(), Type::PTR));
        assert_eq!(asked.server.to_string(), "[::1]:53");
        assert_eq!(read("a TYPE65280 @::1").unwrap().kind, Type(65280));
        assert_eq!(read("a @udp://::1").unwrap().server.to_string(), "[::1]:53");
        assert_eq!(read("a @tls://192.0.2.1#dns.test").unwrap().server.to_string(), "tls://192.0.2.1:853#dns.test");
        assert!(matches!(read("a @http://192.0.2.1"), Err(Error::Url { .. })));
        assert!(matches!(read("a b @::1"), Err(Error::Type { .. })));
        assert!(matches!(read("a A b @::1"), Err(Error::Word { .. })));
        assert!(matches!(read("@::1"), Err(Error::Name { .. })));
        for (word, name) in [
            ("0/25.2.0.192.in-addr.arpa", "0/25.2.0.192.in-addr.arpa."),
            ("a#b", "a#b."),
            ("-x", "-x."),
            ("\\000\\255.example", "\\000\\255.example."),
            ("é.example", "xn--9ca.example."),
            (".", "."),
        ] {
            let own: crate::dns::Name = super::super::name(word).unwrap();
            let wire = read(word).unwrap().name.to_bytes().unwrap();
            assert_eq!((wire.as_slice(), own.to_string().as_str()), (own.wire(), name), "{word}");
        }
        for word in ["\\", "\\256.example", "a..b", "\u{fffd}.example", ""] {
            assert!(Asked::read(&[word.to_owned()], None).is_err(), "{word:?}");
            for command in [&["explain"][..], &["cache", "lookup"], &["cache", "flush"], &["cache", "flush", "--below"]] {
                let line = ["rollcall"].iter().chain(command).chain([&word]);
                assert!(super::super::command().try_get_matches_from(line).is_err(), "{command:?} {word:?}");
            }
        }
        assert!(matches!(read("a..b @::1"), Err(Error::Name { .. })));
    }

    fn answer(code: ResponseCode, answers: &[RData]) -> Answer {
        let mut message = Message::response(1, OpCode::Query);
        message.metadata.response_code = code;
        let name = Name::from_ascii("web.example.").unwrap();
        message.add_answers(answers.iter().map(|data| Record::from_rdata(name.clone(), 5, data.clone())));
        Answer { message, size: 40, transport: "UDP", took: Duration::from_micros(400) }
    }

    #[test]
    fn the_meaning_decides() {
        let asked = read("web.example A @127.0.0.1").unwrap();
        let a = RData::A(A(Ipv4Addr::LOCALHOST));
        let txt = RData::TXT(TXT::new(vec!["a\"b".to_owned()]));
        assert_eq!(answer(ResponseCode::NoError, std::slice::from_ref(&a)).meaning(&asked), Meaning::Found);
        assert_eq!(answer(ResponseCode::NoError, &[]).meaning(&asked), Meaning::NoData);
        assert_eq!(answer(ResponseCode::NoError, std::slice::from_ref(&txt)).meaning(&asked), Meaning::DeadAlias);
        assert_eq!(answer(ResponseCode::NXDomain, &[]).meaning(&asked), Meaning::NoName);
        assert_eq!(answer(ResponseCode::Refused, &[]).meaning(&asked), Meaning::Failed);
        assert_eq!(data_text(&answer(ResponseCode::NoError, &[txt]).message.answers[0]), "\"a\\\"b\"");
    }

    #[test]
    fn extended_errors_are_read() {
        let mut answer = answer(ResponseCode::ServFail, &[]);
        let mut edns = Edns::new();
        edns.options_mut().insert(EdnsOption::Unknown(15, b"\0\x0enot yet loaded".to_vec()));
        edns.options_mut().insert(EdnsOption::Unknown(15, vec![0]));
        answer.message.set_edns(edns);
        assert_eq!(answer.extended_errors(), [(14, "not yet loaded".to_owned())]);
    }

    /// A server that cuts its answers over UDP and gives them whole over TCP.
    #[test]
    fn a_cut_answer_is_asked_for_again() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).unwrap();
        let server = std::thread::spawn(move || {
            let mut buffer = [0; 512];
            let (length, client) = udp.recv_from(&mut buffer).unwrap();
            let query = Message::from_vec(&buffer[..length]).unwrap();
            let mut reply = query.clone().into_response();
            reply.metadata.truncation = true;
            let (mut wrong_id, mut wrong_question) = (reply.clone(), reply.clone());
            wrong_id.metadata.id ^= 1;
            wrong_question.queries[0].set_name(Name::from_ascii("other.example.").unwrap());
            for wrong in [wrong_id, wrong_question] {
                udp.send_to(&wrong.to_vec().unwrap(), client).unwrap();
            }
            udp.send_to(&reply.to_vec().unwrap(), client).unwrap();
            let (mut stream, _) = tcp.accept().unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let query = &mut buffer[..usize::from(u16::from_be_bytes(length))];
            stream.read_exact(query).unwrap();
            reply.metadata.id = Message::from_vec(query).unwrap().metadata.id;
            reply.metadata.truncation = false;
            let name = Name::from_ascii("web.example.").unwrap();
            let soa = SOA::new(name.clone(), name.clone(), 1, 2, 3, 4, 5);
            reply.add_answer(Record::from_rdata(name, 7, RData::SOA(soa)));
            let bytes = reply.to_vec().unwrap();
            stream.write_all(&u16::try_from(bytes.len()).unwrap().to_be_bytes()).unwrap();
            stream.write_all(&bytes).unwrap();
        });
        let asked = Asked::read(&[String::from("web.example"), String::from("SOA")], Some(&address.to_string())).unwrap();
        let answer = asked.exchange(false).unwrap();
        server.join().unwrap();
        assert!(answer.transport.starts_with("TCP"));
        let json = answer.as_json(&asked);
        assert_eq!(json["transport"], "tcp");
        assert_eq!(json["answers"][0]["data"], "web.example. web.example. 1 2 3 4 5");
        assert_eq!(json["found"], true);
    }
}
