//! Replies of other servers, judged where they lie, without an allocation.

use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::{Message, Name, ParseError, Rcode, Reader, Type};

/// A message that answers a question, as far as its form tells; its id and its sender are for others to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Its question is that which was asked. Errors may come back without any.
    pub has_question: bool,
    pub has_edns: bool,
    pub rcode: Rcode,
    /// Octets up to the end of its last record; what follows is nobody's.
    pub length: usize,
}

impl Reply {
    /// Reads a reply to `asked`, the octets of a question from name to class. `None` for what is no response, answers
    /// another question, or cannot be read to the end of its last record: whoever waits goes on waiting.
    pub fn read(octets: &[u8], asked: &[u8]) -> Option<Self> {
        let [_, _, high, low, questions @ ..] = octets.first_chunk::<6>()?;
        let has_question = match questions {
            // QR, and the operation that was asked for.
            _ if high & 0xf8 != 0x80 => return None,
            [0, 1] if is_same(question(octets)?, asked) => true,
            // No question and no error is no reply to anything.
            [0, 0] if low & 15 != 0 => false,
            _ => return None,
        };
        let (opt, length) = walk(octets).ok()?;
        let rcode = extended(*low, octets, opt.as_ref());
        Some(Self { has_question, has_edns: opt.is_some(), rcode, length })
    }
}

/// The RCODE of a message, with the eight bits that its OPT record has of it (RFC 6891, 6.1.3); `None` when it cannot be read
/// to its end.
pub fn rcode(octets: &[u8]) -> Option<Rcode> {
    let (opt, _) = walk(octets).ok()?;
    Some(extended(*octets.get(3)?, octets, opt.as_ref()))
}

/// `low` has four bits of it, and the octet in front of the OPT record's version the others.
fn extended(low: u8, octets: &[u8], opt: Option<&Range<usize>>) -> Rcode {
    let high = opt.and_then(|data| octets.get(data.start.checked_sub(6)?)).copied().unwrap_or(0);
    Rcode(u16::from(high) << 4 | u16::from(low & 15))
}

/// Are both the same question? Names are the same in any letter case; octets of a type may look like letters.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    match (one.split_last_chunk::<4>(), other.split_last_chunk::<4>()) {
        (Some((one, rest)), Some((other, of_other))) => rest == of_other && one.eq_ignore_ascii_case(other),
        _ => false,
    }
}

/// The octets of the question, name to class; a name in a question is never compressed.
pub fn question(message: &[u8]) -> Option<&[u8]> {
    let mut at = Message::HEADER;
    loop {
        match *message.get(at)? {
            0 => return message.get(Message::HEADER..at + 5),
            length @ 1..64 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}

/// Is a query nothing but its question and at most an OPT record? What else it may carry is a signature, which counts for these
/// octets and no others: then it and its answer are passed on as they are, and never shared (RFC 5625, 4.5).
pub fn is_bare(query: &[u8]) -> bool {
    let rest = question(query).and_then(|question| query.get(Message::HEADER + question.len()..));
    match (query.get(6..Message::HEADER), rest) {
        (Some([0, 0, 0, 0, 0, 0]), Some(rest)) => rest.is_empty(),
        (Some([0, 0, 0, 0, 0, 1]), Some(rest)) => rest.starts_with(&[0, 0, Type::OPT.0 as u8]),
        _ => false,
    }
}

/// Where the answer section of a message leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// The target of a CNAME record, or of a service binding that is another name's (RFC 9460, 2.4.2 and 2.5).
    Alias(Name),
    /// An A or AAAA record.
    Address(IpAddr),
}

/// The aliases and addresses of a message's answer section, as far as it can be read. Only an alias is an allocation.
pub fn given(message: &[u8]) -> impl Iterator<Item = Given> {
    let at = question(message).map_or(message.len(), |question| Message::HEADER + question.len());
    let (mut reader, mut left) = (Reader::new(message, at), 0);
    if let Some([0, 1, high, low]) = message.get(4..8) {
        left = u16::from_be_bytes([*high, *low]);
    }
    let next = move || {
        left = left.checked_sub(1)?;
        reader.at = Name::skip(message, reader.at).ok()?;
        let (kind, _) = (Type(reader.u16("a record").ok()?), reader.bytes(6, "a record").ok()?);
        let length = reader.u16("a record").ok()?;
        let (start, data) = (reader.at, reader.bytes(usize::from(length), "a record's data").ok()?);
        let v4 = || <[u8; 4]>::try_from(data).ok().map(|octets| Given::Address(Ipv4Addr::from(octets).into()));
        let v6 = || <[u8; 16]>::try_from(data).ok().map(|octets| Given::Address(Ipv6Addr::from(octets).into()));
        Some(match kind {
            Type::CNAME => Name::parse(message, start).ok().map(|(name, _)| Given::Alias(name)),
            // Behind the priority; the root stands for the owner.
            Type::SVCB | Type::HTTPS => {
                let target = Name::parse(message, start + 2).ok().map(|(name, _)| name);
                target.filter(|name| !name.is_root()).map(Given::Alias)
            }
            Type::A => v4(),
            Type::AAAA => v6(),
            _ => None,
        })
    };
    iter::from_fn(next).flatten()
}

/// Walks through the names and bounds of all records, whatever is in them: where is the OPT record's data, if there is one,
/// and where do they end?
pub(super) fn walk(octets: &[u8]) -> Result<(Option<Range<usize>>, usize), ParseError> {
    walk_records(octets, |_| ())
}

/// The same; `record` is told where each of them begins.
pub(super) fn walk_records(octets: &[u8], mut record: impl FnMut(usize)) -> Result<(Option<Range<usize>>, usize), ParseError> {
    let mut reader = Reader::new(octets, 4);
    let mut counts = [0u16; 4];
    for count in &mut counts {
        *count = reader.u16("the header")?;
    }
    let [questions, records @ ..] = counts;
    let [answers, authorities, _] = records.map(usize::from);
    for _ in 0..questions {
        reader.at = Name::skip(octets, reader.at)?;
        reader.bytes(4, "a question")?;
    }
    let mut opt = None;
    for number in 0..records.into_iter().map(usize::from).sum() {
        record(reader.at);
        reader.at = Name::skip(octets, reader.at)?;
        // Elsewhere than among the additional records it is a record like any other.
        let is_opt = Type(reader.u16("a record")?) == Type::OPT && number >= answers + authorities;
        reader.bytes(6, "a record")?;
        let length = reader.u16("a record")?;
        let start = reader.at;
        reader.bytes(usize::from(length), "a record's data")?;
        if is_opt {
            opt = Some(start..reader.at);
        }
    }
    Ok((opt, reader.at))
}
