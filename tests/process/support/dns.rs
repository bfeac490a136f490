//! A DNS client: one question, one answer, no retries and no fallback from UDP to TCP.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsCode;
use hickory_proto::rr::{Name, Record, RecordType};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Reply {
    message: Message,
    octets: Vec<u8>,
}

/// Without EDNS, so that the limit of 512 octets holds.
pub(crate) fn udp(server: SocketAddr, name: &str, qtype: &str) -> Result<Reply> {
    udp_within(server, name, qtype, PATIENCE)
}

pub(crate) fn udp_within(server: SocketAddr, name: &str, qtype: &str, patience: Duration) -> Result<Reply> {
    let (query, octets) = question(name, qtype);
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(patience))?;
    socket.send(&octets)?;
    let mut room = [0; 65_535];
    let length = socket.recv(&mut room)?;
    Reply::read(&query, &room[..length])
}

/// From this address: the octets of the query and of its reply, which is read too.
pub(crate) fn udp_from(client: Ipv4Addr, server: SocketAddr, name: &str, edns: bool) -> (usize, usize, Reply) {
    let (mut query, _) = question(name, "A");
    if edns {
        query.edns = Some(Edns::new());
    }
    let octets = query.to_vec().expect("a question of one name can be written");
    let socket = UdpSocket::bind((client, 0)).expect("an address of loopback");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time");
    socket.send_to(&octets, server).expect("sent");
    let mut room = [0; 65_535];
    let length = socket.recv(&mut room).unwrap_or_else(|error| panic!("{name} from {client}: {error}"));
    (octets.len(), length, Reply::read(&query, &room[..length]).expect("a DNS message"))
}

/// One connection with many queries, one after the other.
pub(crate) struct Stream(TcpStream);

impl Stream {
    pub(crate) fn connect_from(client: Ipv4Addr, server: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let stream = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from((client, 0)))?;
            socket.connect(server).await?.into_std()
        });
        let stream = stream.expect("a connection");
        stream.set_nonblocking(false).expect("a stream that waits");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        Self(stream)
    }

    pub(crate) fn ask(&mut self, name: &str, qtype: &str) -> Reply {
        exchange(&mut self.0, name, qtype).unwrap_or_else(|error| panic!("{name} {qtype}: {error}"))
    }
}

pub(crate) fn tcp(server: SocketAddr, name: &str, qtype: &str) -> Result<Reply> {
    by_stream(b"", server, name, qtype)
}

/// As a proxy that hands on the connection of this client.
pub(crate) fn tcp_for(client: Ipv4Addr, server: SocketAddr, name: &str, qtype: &str) -> Result<Reply> {
    by_stream(format!("PROXY TCP4 {client} 127.0.0.1 5000 53\r\n").as_bytes(), server, name, qtype)
}

fn by_stream(greeting: &[u8], server: SocketAddr, name: &str, qtype: &str) -> Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(greeting)?;
    exchange(&mut stream, name, qtype)
}

fn exchange(stream: &mut TcpStream, name: &str, qtype: &str) -> Result<Reply> {
    let (query, octets) = question(name, qtype);
    let mut framed = (octets.len() as u16).to_be_bytes().to_vec();
    framed.extend(octets);
    stream.write_all(&framed)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut octets = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut octets)?;
    Reply::read(&query, &octets)
}

/// What a query says of signatures, and the datagram that it takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signatures {
    pub(crate) dnssec_ok: bool,
    pub(crate) checking_disabled: bool,
    pub(crate) authentic_data: bool,
    pub(crate) size: u16,
}

impl Signatures {
    pub(crate) const WANTED: Self = Self { dnssec_ok: true, checking_disabled: false, authentic_data: false, size: 1232 };

    /// Asks so by UDP.
    pub(crate) fn ask(self, server: SocketAddr, name: &str, qtype: &str) -> Reply {
        self.try_to_ask(server, name, qtype).unwrap_or_else(|error| panic!("{name} {qtype} {self:?}: {error}"))
    }

    /// The same when the answer may be one that cannot be read.
    pub(crate) fn try_to_ask(self, server: SocketAddr, name: &str, qtype: &str) -> Result<Reply> {
        let (mut query, _) = question(name, qtype);
        query.metadata.checking_disabled = self.checking_disabled;
        query.metadata.authentic_data = self.authentic_data;
        let mut edns = Edns::new();
        edns.set_dnssec_ok(self.dnssec_ok).set_max_payload(self.size);
        query.set_edns(edns);
        let octets = query.to_vec().expect("a question of one name can be written");
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(&octets)?;
        let mut room = [0; 65_535];
        let length = socket.recv(&mut room)?;
        Reply::read(&query, &room[..length])
    }
}

fn question(name: &str, qtype: &str) -> (Message, Vec<u8>) {
    let mut name = Name::from_ascii(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    name.set_fqdn(true);
    let unknown = qtype.strip_prefix("TYPE").and_then(|number| number.parse().ok()).map(RecordType::Unknown);
    let qtype = unknown.unwrap_or_else(|| qtype.parse().unwrap_or_else(|error| panic!("{qtype}: {error}")));
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name, qtype));
    let octets = query.to_vec().expect("a question of one name can be written");
    (query, octets)
}

impl Reply {
    fn read(query: &Message, octets: &[u8]) -> Result<Self> {
        let message = Message::from_vec(octets).map_err(|error| Error::new(ErrorKind::InvalidData, error.to_string()))?;
        assert_eq!(message.metadata.id, query.metadata.id, "the answer has the question's id");
        assert_eq!(message.queries, query.queries, "the answer repeats the question");
        Ok(Self { message, octets: octets.to_vec() })
    }

    pub(crate) fn rcode(&self) -> ResponseCode {
        self.message.metadata.response_code
    }

    pub(crate) fn truncated(&self) -> bool {
        self.message.metadata.truncation
    }

    /// AD: is it said to be authentic?
    pub(crate) fn is_authentic(&self) -> bool {
        self.message.metadata.authentic_data
    }

    pub(crate) fn has_dnssec_ok(&self) -> bool {
        self.message.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok)
    }

    /// The code of the extended error, and its text.
    pub(crate) fn extended_error(&self) -> Option<(u16, String)> {
        let edns = self.message.edns.as_ref()?;
        let octets: Vec<u8> = edns.option(EdnsCode::from(15)).map(Vec::<u8>::try_from)?.ok()?;
        let (code, text) = octets.split_first_chunk()?;
        Some((u16::from_be_bytes(*code), String::from_utf8_lossy(text).into_owned()))
    }

    /// The types of all records, in their order.
    pub(crate) fn types(&self) -> Vec<RecordType> {
        self.message.all_sections().map(Record::record_type).collect()
    }

    /// Each record of the answer and authority sections as it stands in the message from its type on, without its TTL; and
    /// the counts of these sections. What is compressed reads the same in another message of the same octets.
    pub(crate) fn octets_of_records(&self) -> Vec<Vec<u8>> {
        let count = |at: usize| usize::from(u16::from_be_bytes([self.octets[at], self.octets[at + 1]]));
        let past_name = |mut at: usize| loop {
            match self.octets[at] {
                0 => return at + 1,
                length @ 1..64 => at += 1 + usize::from(length),
                _ => return at + 2,
            }
        };
        let mut at = past_name(12) + 4;
        let mut found = vec![vec![count(6) as u8, count(8) as u8]];
        for _ in 0..count(6) + count(8) {
            let start = at;
            at = past_name(at);
            let length = count(at + 8);
            let end = at + 10 + length;
            found.push([&self.octets[start..at + 4], &self.octets[at + 8..end]].concat());
            at = end;
        }
        found
    }

    /// The data of the answer section's records, as text, in their order.
    pub(crate) fn answers(&self) -> Vec<String> {
        data(&self.message.answers)
    }

    /// The answer section's records with type and TTL, sorted.
    pub(crate) fn records(&self) -> Vec<(String, u32)> {
        let shown = |record: &Record| (format!("{} {}", record.record_type(), record.data), record.ttl);
        let mut records: Vec<_> = self.message.answers.iter().map(shown).collect();
        records.sort();
        records
    }

    /// The same as text, without types and TTLs.
    pub(crate) fn sorted(&self) -> Vec<String> {
        let mut answers = self.answers();
        answers.sort();
        answers
    }

    pub(crate) fn additionals(&self) -> Vec<String> {
        data(&self.message.additionals)
    }

    /// The types of the authority section's records.
    pub(crate) fn authority_types(&self) -> Vec<RecordType> {
        self.message.authorities.iter().map(Record::record_type).collect()
    }
}

fn data(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| record.data.to_string()).collect()
}
