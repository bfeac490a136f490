//! Whole messages (RFC 1035, 4).

use std::fmt::Display;

use super::{Composer, Edns, ExtendedError, ParseError, Question, RData, Reader, Record, Type};

/// An operation code (RFC 1035, 4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opcode(pub u8);

impl Opcode {
    pub const QUERY: Opcode = Opcode(0);
    pub const NOTIFY: Opcode = Opcode(4);
}

/// A response code, extended to twelve bits (RFC 6891, 6.1.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rcode(pub u16);

names! {
    Rcode, "RCODE":
    NOERROR = 0, FORMERR = 1, SERVFAIL = 2, NXDOMAIN = 3, NOTIMP = 4, REFUSED = 5, YXDOMAIN = 6, YXRRSET = 7, NXRRSET = 8,
    NOTAUTH = 9, NOTZONE = 10, BADVERS = 16, BADCOOKIE = 23,
}

/// The header's bits, without opcode and RCODE. `zero` is the reserved bit, which a forwarder passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    pub response: bool,
    pub authoritative: bool,
    pub truncated: bool,
    pub recursion_desired: bool,
    pub recursion_available: bool,
    pub zero: bool,
    pub authentic_data: bool,
    pub checking_disabled: bool,
}

impl Flags {
    pub(super) fn from_bits(bits: u16) -> Self {
        let bit = |n: u16| bits & (1 << n) != 0;
        Self {
            response: bit(15),
            authoritative: bit(10),
            truncated: bit(9),
            recursion_desired: bit(8),
            recursion_available: bit(7),
            zero: bit(6),
            authentic_data: bit(5),
            checking_disabled: bit(4),
        }
    }

    fn to_bits(self) -> u16 {
        u16::from(self.response) << 15
            | u16::from(self.authoritative) << 10
            | u16::from(self.truncated) << 9
            | u16::from(self.recursion_desired) << 8
            | u16::from(self.recursion_available) << 7
            | u16::from(self.zero) << 6
            | u16::from(self.authentic_data) << 5
            | u16::from(self.checking_disabled) << 4
    }
}

/// A message. The OPT record stands apart as `edns`, and is composed last in the additional section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub id: u16,
    pub opcode: Opcode,
    pub flags: Flags,
    pub rcode: Rcode,
    pub questions: Vec<Question>,
    pub answers: Vec<Record>,
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
    pub edns: Option<Edns>,
}

impl Message {
    /// Octets of a header.
    pub const HEADER: usize = 12;
    /// The largest message: what the length in front of it on TCP can say (RFC 1035, 4.2.2).
    pub const MAX: usize = 65_535;

    /// Reads a whole message; octets behind the last record are an error.
    pub fn parse(octets: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(octets, 0);
        let id = reader.u16("the header")?;
        let bits = reader.u16("the header")?;
        let mut counts = [0u16; 4];
        for count in &mut counts {
            *count = reader.u16("the header")?;
        }
        let mut message = Self {
            id,
            opcode: Opcode((bits >> 11) as u8 & 15),
            flags: Flags::from_bits(bits),
            rcode: Rcode(bits & 15),
            questions: Vec::new(),
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
            edns: None,
        };
        for _ in 0..counts[0] {
            message.questions.push(Question::parse(&mut reader)?);
        }
        for _ in 0..counts[1] {
            message.answers.push(Record::parse(&mut reader)?);
        }
        for _ in 0..counts[2] {
            message.authorities.push(Record::parse(&mut reader)?);
        }
        for _ in 0..counts[3] {
            let record = Record::parse(&mut reader)?;
            match &record.data {
                RData::Opaque { record_type: Type::OPT, octets } => {
                    if message.edns.is_some() || !record.owner.is_root() {
                        return Err(ParseError::Opt);
                    }
                    message.edns = Some(Edns::from_opt(record.class.0, record.ttl, octets)?);
                }
                _ => message.additionals.push(record),
            }
        }
        if let Some(edns) = &message.edns {
            message.rcode.0 |= u16::from(edns.extended_rcode) << 4;
        }
        match octets.len() - reader.at {
            0 => Ok(message),
            count => Err(ParseError::Trailing { count }),
        }
    }

    /// Says why it is as it is to who can read that, which is who sent an OPT record (RFC 8914).
    pub fn give_reason(&mut self, code: ExtendedError, text: impl Display) {
        if let Some(edns) = &mut self.edns {
            edns.options.push(code.to_option(&text.to_string()));
        }
    }

    /// Writes the message. One that grows above 65,535 octets is not valid; whoever fills it keeps it below.
    pub fn compose(&self, compress: bool) -> Vec<u8> {
        self.compose_with(&self.answers, self.additionals.iter(), compress)
    }

    /// Writes the message with other answers and additional records than its own: to try what fits.
    pub(crate) fn compose_with<'a>(
        &'a self,
        answers: &'a [Record],
        additionals: impl ExactSizeIterator<Item = &'a Record>,
        compress: bool,
    ) -> Vec<u8> {
        let mut composer = Composer::new(compress);
        composer.u16(self.id);
        composer.u16(self.flags.to_bits() | u16::from(self.opcode.0 & 15) << 11 | self.rcode.0 & 15);
        let additional_count = additionals.len() + usize::from(self.edns.is_some());
        for count in [self.questions.len(), answers.len(), self.authorities.len(), additional_count] {
            composer.u16(u16::try_from(count).unwrap_or(u16::MAX));
        }
        for question in &self.questions {
            question.compose(&mut composer);
        }
        for record in answers.iter().chain(&self.authorities).chain(additionals) {
            record.compose(&mut composer);
        }
        if let Some(edns) = &self.edns {
            let edns = Edns { extended_rcode: (self.rcode.0 >> 4) as u8, ..edns.clone() };
            edns.compose(&mut composer);
        }
        composer.into_octets()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Query, Reject};

    /// A message with one question, of A of `a.`, and these counts and octets behind it.
    fn message(counts: [u16; 3], behind: &[u8]) -> Vec<u8> {
        let counts = counts.map(u16::to_be_bytes).concat();
        [&[0x42, 0x42, 0x81, 0x80, 0, 1][..], &counts, b"\x01a\0\0\x01\0\x01", behind].concat()
    }

    /// An A record's type, class, TTL and the length of its data, and this data.
    fn fixed(length: u16, data: &[u8]) -> Vec<u8> {
        [&[0, 1, 0, 1, 0, 0, 0, 60][..], &length.to_be_bytes(), data].concat()
    }

    #[test]
    fn rfc9267_what_breaks_parsers_is_refused() {
        let long_label = [&[64][..], &[b'x'; 64], &[0]].concat();
        let long_name = [[&[63][..], &[b'x'; 63]].concat().repeat(4), vec![0]].concat();
        let owned = |owner: &[u8]| message([1, 0, 0], &[owner, &fixed(4, &[192, 0, 2, 1])].concat());
        let good = owned(b"\xc0\x0c");
        assert!(Message::parse(&good).is_ok());
        let bad = [
            ("a pointer to itself (2)", owned(b"\xc0\x13")),
            ("a pointer forwards (2)", owned(b"\xc0\x1d")),
            ("two pointers in a circle (2)", message([1, 0, 0], &[&b"\xc0\x15\xc0\x13"[..], &fixed(4, &[0; 4])].concat())),
            ("a pointer far behind the end (2)", owned(b"\xff\xff")),
            ("half a pointer (2)", message([1, 0, 0], b"\xc0")),
            ("a label of 64 octets (3)", owned(&long_label)),
            ("a label of a kind that there is none of (3)", owned(b"\x80x\0")),
            ("a name of 257 octets (3)", owned(&long_name)),
            ("a label that the message ends in (3)", message([1, 0, 0], b"\x05abc")),
            ("a name without its end (4)", message([1, 0, 0], b"\x01a")),
            ("data shorter than its length (5)", message([1, 0, 0], &[&b"\xc0\x0c"[..], &fixed(200, &[1, 2, 3, 4])].concat())),
            ("an address of three octets (5)", message([1, 0, 0], &[&b"\xc0\x0c"[..], &fixed(3, &[1, 2, 3])].concat())),
            ("an address of no octets (5)", message([1, 0, 0], &[&b"\xc0\x0c"[..], &fixed(0, &[])].concat())),
            ("a name that ends before its data does (5)", {
                message([1, 0, 0], b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x05\x01b\0\0\0")
            }),
            ("a name that ends behind its data (5)", message([1, 0, 0], b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x01\x01b\0")),
            ("more records than there are (6)", message([2, 0, 0], &good[19..])),
            ("65,535 records in each section (6)", message([u16::MAX; 3], &good[19..])),
            ("fewer records than there are (6)", message([0, 0, 0], &good[19..])),
            ("no octets behind the counts", good[..12].to_vec()),
        ];
        for (what, octets) in bad {
            assert!(Message::parse(&octets).is_err(), "{what}");
            // What reads it where it lies agrees; and a query like that is told so.
            let asked = &octets[12..octets.len().min(19)];
            assert!(crate::dns::Reply::read(&octets, asked).is_none(), "{what}: read as a reply");
            let mut query = octets.clone();
            query[2] = 1;
            assert!(matches!(Query::parse(&query), Err(Reject::Reply(_))), "{what}");
        }
        // A pointer into the header reads what stands there as labels, and none of it leads out of the message (2).
        for at in 0..12u8 {
            let _ = Message::parse(&owned(&[0xc0, at]));
        }
        // Zero octets are data too, where a type has any length (5).
        let empty = message([1, 0, 0], b"\xc0\x0c\xff\x00\0\x01\0\0\0\x3c\0\0");
        assert!(Message::parse(&empty).is_ok_and(|message| message.compose(true) == empty));
        for end in 0..good.len() {
            assert!(Message::parse(&good[..end]).is_err(), "cut at {end}");
        }
    }
}
