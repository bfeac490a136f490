//! Whole messages (RFC 1035, 4).

use super::{Composer, Edns, ParseError, Question, RData, Reader, Record, Type};
use std::fmt;

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

impl Rcode {
    pub const NOERROR: Rcode = Rcode(0);
    pub const FORMERR: Rcode = Rcode(1);
    pub const SERVFAIL: Rcode = Rcode(2);
    pub const NXDOMAIN: Rcode = Rcode(3);
    pub const NOTIMP: Rcode = Rcode(4);
    pub const REFUSED: Rcode = Rcode(5);
    pub const BADVERS: Rcode = Rcode(16);
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            0 => "NOERROR",
            1 => "FORMERR",
            2 => "SERVFAIL",
            3 => "NXDOMAIN",
            4 => "NOTIMP",
            5 => "REFUSED",
            16 => "BADVERS",
            other => return write!(f, "RCODE{other}"),
        };
        f.write_str(name)
    }
}

impl fmt::Debug for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
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
