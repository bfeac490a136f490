//! Messages written and read octet by octet, where an encoder would not write them so, or a decoder would hide what came.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use super::slack;

pub(crate) const A: u16 = 1;
pub(crate) const NS: u16 = 2;
pub(crate) const CNAME: u16 = 5;
pub(crate) const SOA: u16 = 6;
pub(crate) const PTR: u16 = 12;
pub(crate) const TXT: u16 = 16;
pub(crate) const AAAA: u16 = 28;
pub(crate) const SRV: u16 = 33;
pub(crate) const OPT: u16 = 41;
pub(crate) const SVCB: u16 = 64;
pub(crate) const HTTPS: u16 = 65;
pub(crate) const ANY: u16 = 255;

/// The code of extended errors among EDNS options (RFC 8914).
const EXTENDED_ERROR: u16 = 15;

/// A query of this name and type: RD is set, and these octets follow as additional records.
pub(crate) fn query(name: &str, qtype: u16, additionals: &[Vec<u8>]) -> Vec<u8> {
    let id: u16 = 0x5e01;
    let mut octets = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, additionals.len() as u8]].concat();
    for label in name.split('.') {
        octets.push(label.len() as u8);
        octets.extend(label.as_bytes());
    }
    octets.push(0);
    octets.extend([qtype.to_be_bytes(), 1u16.to_be_bytes()].concat());
    octets.extend(additionals.concat());
    octets
}

/// An OPT record with this size, DO and options.
pub(crate) fn opt(size: u16, dnssec_ok: bool, options: &[u8]) -> Vec<u8> {
    let flags = if dnssec_ok { [0x80, 0] } else { [0, 0] };
    let fixed = [&[0][..], &OPT.to_be_bytes(), &size.to_be_bytes(), &[0, 0], &flags];
    [fixed.concat(), (options.len() as u16).to_be_bytes().to_vec(), options.to_vec()].concat()
}

/// Where the question ends.
pub(crate) fn question_end(message: &[u8]) -> usize {
    let mut at = 12;
    while message[at] != 0 {
        at += 1 + usize::from(message[at]);
    }
    at + 5
}

/// A reply to this query with these records as answers, authorities and additionals; its own OPT record is ours to add.
pub(crate) fn reply(query: &[u8], flags: [u8; 2], sections: [&[Vec<u8>]; 3]) -> Vec<u8> {
    let mut octets = query[..question_end(query)].to_vec();
    (octets[2], octets[3]) = (0x80 | query[2] & 1 | flags[0], 0x80 | query[3] & 0x10 | flags[1]);
    for (at, section) in [7, 9, 11].into_iter().zip(sections) {
        octets[at] = section.len() as u8;
    }
    octets.extend(sections.concat().concat());
    octets
}

/// A record of the name that was asked for.
pub(crate) fn record(record_type: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let fixed = [&[0xc0, 12][..], &record_type.to_be_bytes(), &[0, 1], &ttl.to_be_bytes()].concat();
    [fixed, (data.len() as u16).to_be_bytes().to_vec(), data.to_vec()].concat()
}

pub(crate) fn has_edns(message: &[u8]) -> bool {
    u16::from_be_bytes([message[10], message[11]]) > 0
}

/// Is this option, by its code and data, in the message?
pub(crate) fn has_option(message: &[u8], code: u16, data: &[u8]) -> bool {
    let option = [&code.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat();
    message.windows(option.len()).any(|octets| octets == option)
}

/// Sends the octets by UDP and returns what comes back first.
pub(crate) fn ask(server: SocketAddr, octets: &[u8]) -> Vec<u8> {
    ask_within(server, octets, slack(Duration::from_secs(2)))
}

pub(crate) fn ask_within(server: SocketAddr, octets: &[u8], patience: Duration) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(patience)).expect("a timeout");
    socket.send_to(octets, server).expect("sent");
    let mut room = [0; 65_535];
    let length = socket.recv(&mut room).expect("an answer");
    room[..length].to_vec()
}

/// A connection over which messages go behind their lengths (RFC 1035, 4.2.2).
pub(crate) struct Stream(TcpStream);

impl Stream {
    pub(crate) fn open(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).expect("it listens on TCP too");
        stream.set_read_timeout(Some(slack(Duration::from_secs(2)))).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self(stream)
    }

    /// Sends these octets as they are.
    pub(crate) fn send(&mut self, octets: &[u8]) {
        self.0.write_all(octets).expect("the connection is open");
    }

    /// Sends a message.
    pub(crate) fn put(&mut self, message: &[u8]) {
        self.send(&framed(message));
    }

    /// The next message.
    pub(crate) fn get(&mut self) -> Vec<u8> {
        let mut length = [0; 2];
        self.0.read_exact(&mut length).expect("an answer");
        let mut octets = vec![0; usize::from(u16::from_be_bytes(length))];
        self.0.read_exact(&mut octets).expect("a whole answer");
        octets
    }

    /// Octets of what comes with one read.
    pub(crate) fn read_once(&mut self) -> usize {
        self.0.read(&mut [0; 65_535]).expect("an answer")
    }

    pub(crate) fn ask(&mut self, message: &[u8]) -> Vec<u8> {
        self.put(message);
        self.get()
    }
}

/// A message behind its length.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

/// The octets of a name.
pub(crate) fn name(text: &str) -> Vec<u8> {
    let labels = text.split('.').filter(|label| !label.is_empty());
    let mut octets: Vec<u8> = labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    octets.push(0);
    octets
}

/// The RCODE, with the bits that an OPT record without options has of it.
pub(crate) fn rcode(message: &[u8]) -> u16 {
    let low = u16::from(message[3] & 15);
    match opt_at(message) {
        Some(at) => u16::from(message[at + 5]) << 4 | low,
        None => low,
    }
}

/// The version of EDNS that its OPT record is of.
pub(crate) fn version(message: &[u8]) -> Option<u8> {
    opt_at(message).map(|at| message[at + 6])
}

/// How many records are in the answer, the authority and the additional section.
pub(crate) fn counts(message: &[u8]) -> [u16; 3] {
    [6, 8, 10].map(|at: usize| u16::from_be_bytes([message[at], message[at + 1]]))
}

/// Where the OPT record begins, which is behind all others.
fn opt_at(message: &[u8]) -> Option<usize> {
    records(message).into_iter().find(|record| record.kind == OPT).map(|record| record.at)
}

/// A record as it stands in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where it begins.
    pub(crate) at: usize,
    pub(crate) kind: u16,
    pub(crate) ttl: u32,
    pub(crate) data: Vec<u8>,
}

/// All records, in their order.
pub(crate) fn records(message: &[u8]) -> Vec<Found> {
    let word = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    let mut at = if word(4) > 0 { question_end(message) } else { 12 };
    let mut found = Vec::new();
    for _ in 0..counts(message).iter().sum() {
        let start = at;
        at = name_end(message, at);
        let (kind, ttl, length) =
            (word(at), u32::from(word(at + 4)) << 16 | u32::from(word(at + 6)), usize::from(word(at + 8)));
        found.push(Found { at: start, kind, ttl, data: message[at + 10..at + 10 + length].to_vec() });
        at += 10 + length;
    }
    assert_eq!(at, message.len(), "nothing is behind the last record");
    found
}

fn name_end(message: &[u8], mut at: usize) -> usize {
    loop {
        match message[at] {
            0 => return at + 1,
            length @ 1..64 => at += 1 + usize::from(length),
            _ => return at + 2,
        }
    }
}

/// The code of its extended error, if it has one.
pub(crate) fn extended_error(message: &[u8]) -> Option<u16> {
    let edns = records(message).into_iter().find(|record| record.kind == OPT)?;
    let mut rest = &edns.data[..];
    while let [code_high, code_low, high, low, tail @ ..] = rest {
        let (data, behind) = tail.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        if u16::from_be_bytes([*code_high, *code_low]) == EXTENDED_ERROR {
            return Some(u16::from_be_bytes([data[0], data[1]]));
        }
        rest = behind;
    }
    None
}
