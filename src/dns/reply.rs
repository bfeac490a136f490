//! Replies of other servers, judged where they lie, without an allocation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::records::{Extras, extras, opt};
use super::{Header, Message, Name, Rcode, RecordPlace, Section, Type, records};

/// A message that answers a question, as far as its form tells; its id and its sender are for others to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Its question is that which was asked. Errors may come back without any.
    pub has_question: bool,
    /// Where its OPT record, if it has one, says how long datagrams its sender takes (RFC 6891, 6.1.2).
    pub payload_at: Option<usize>,
    /// That record is the last one, as everybody writes it.
    pub ends_with_edns: bool,
    /// Its OPT record says more than that.
    pub has_options: bool,
    /// It has records that [prove](Type::is_proof) others.
    pub has_proofs: bool,
    pub rcode: Rcode,
}

impl Reply {
    /// Reads a reply to `asked`, the octets of a question from name to class. `None` for what is no response, answers
    /// another question, or is malformed: whoever waits goes on waiting.
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
        let Extras { opt, has_proofs, .. } = extras(octets).ok()?;
        let has_options = opt.as_ref().is_some_and(|opt| !opt.data.is_empty());
        Some(Self {
            has_question,
            payload_at: opt.as_ref().map(RecordPlace::class_at),
            ends_with_edns: opt.as_ref().is_some_and(|opt| opt.data.end == octets.len()),
            has_options,
            has_proofs,
            rcode: extended(Rcode(u16::from(low & 15)), opt.as_ref()),
        })
    }

    /// The same of a datagram, and how many of its octets are the reply: one that was cut within a record, and not before it,
    /// ends behind its question. What is truncated is asked for again, whatever it says (RFC 2181, 9).
    pub fn read_datagram(octets: &mut [u8], asked: &[u8]) -> Option<(Self, usize)> {
        if let Some(reply) = Self::read(octets, asked) {
            return Some((reply, octets.len()));
        }
        if !Header::of(octets)?.flags().truncated {
            return None;
        }
        let length = Message::HEADER + question(octets)?.len();
        octets.get_mut(6..Message::HEADER)?.fill(0);
        Some((Self::read(octets.get(..length)?, asked)?, length))
    }
}

/// The RCODE of a message, with the eight bits that its OPT record has of it (RFC 6891, 6.1.3); `None` when it is malformed.
pub fn rcode(octets: &[u8]) -> Option<Rcode> {
    let opt = opt(octets).ok()?;
    Some(extended(Header::of(octets)?.rcode(), opt.as_ref()))
}

/// The header has the lower four bits of it.
fn extended(low: Rcode, opt: Option<&RecordPlace>) -> Rcode {
    let high = opt.map_or(0, |opt| opt.ttl >> 24);
    Rcode((high as u16) << 4 | low.0)
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

/// Has a query an OPT record, which [is nothing](is_bare) but a question and maybe that?
pub fn has_opt(query: &[u8]) -> bool {
    Header::of(query).is_some_and(|header| header.count(Section::Additional) > 0)
}

/// Has a query an OPT record with DO (RFC 3225, 3)?
pub fn dnssec_ok(query: &[u8]) -> bool {
    opt(query).ok().flatten().is_some_and(|opt| opt.ttl & 0x8000 != 0)
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
    let places = records(message).into_iter().flatten().map_while(Result::ok);
    places.take_while(|place| place.section == Section::Answer).filter_map(|place| {
        let data = message.get(place.data.clone())?;
        let alias = |at| Name::parse(message, at).ok().map(|(name, _)| Given::Alias(name));
        match place.record_type {
            Type::CNAME => alias(place.data.start),
            // Behind the priority; the root stands for the owner.
            Type::SVCB | Type::HTTPS => alias(place.data.start + 2).filter(|alias| *alias != Given::Alias(Name::root())),
            Type::A => <[u8; 4]>::try_from(data).ok().map(|octets| Given::Address(Ipv4Addr::from(octets).into())),
            Type::AAAA => <[u8; 16]>::try_from(data).ok().map(|octets| Given::Address(Ipv6Addr::from(octets).into())),
            _ => None,
        }
    })
}
