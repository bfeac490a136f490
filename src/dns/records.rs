//! The records of a message, read where they lie: without an allocation, once, and as strictly as [`Message::parse`] does, so
//! that what is malformed is so for whoever reads it.

use std::ops::Range;

use super::edns::are_options;
use super::{Header, Message, Name, ParseError, RData, Reader, Section, Type};

/// Where a record stands in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordPlace {
    pub section: Section,
    /// The owner's name, or the pointer to it.
    pub owner: Range<usize>,
    pub record_type: Type,
    /// Seconds; of an OPT record, what it has in the place of them (RFC 6891, 6.1.3).
    pub ttl: u32,
    pub data: Range<usize>,
}

impl RecordPlace {
    /// Where the four octets of its TTL begin.
    pub fn ttl_at(&self) -> usize {
        self.data.start.saturating_sub(6)
    }

    /// Where the two octets of its class begin; of an OPT record, those of the payload size.
    pub fn class_at(&self) -> usize {
        self.data.start.saturating_sub(8)
    }

    /// Is it the OPT record? Elsewhere than among the additional records it is a record like any other.
    pub fn is_opt(&self) -> bool {
        self.record_type == Type::OPT && self.section == Section::Additional
    }
}

/// The records of a message, section by section.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    message: &'a [u8],
    at: usize,
    /// What is left of each section.
    left: [(Section, u16); 3],
    has_opt: bool,
    is_over: bool,
}

/// The records of a message. One that is malformed ends with an error: a name or data that are none, a second OPT record,
/// octets behind the last record.
pub fn records(message: &[u8]) -> Result<Records<'_>, ParseError> {
    let header = Header::of(message).ok_or(ParseError::Short { at: message.len(), what: "the header" })?;
    let mut reader = Reader::new(message, Message::HEADER);
    for _ in 0..header.count(Section::Question) {
        reader.at = Name::skip(message, reader.at)?;
        reader.bytes(4, "a question")?;
    }
    let left = [Section::Answer, Section::Authority, Section::Additional].map(|section| (section, header.count(section)));
    Ok(Records { message, at: reader.at, left, has_opt: false, is_over: false })
}

/// What a message has besides what was asked for.
#[derive(Debug, Default)]
pub struct Extras {
    pub opt: Option<RecordPlace>,
    /// Records that [prove](Type::is_proof) others.
    pub has_proofs: bool,
    /// A signature of all its octets (RFC 8945, RFC 2931).
    pub is_signed: bool,
}

/// What a well-formed message has besides what was asked for.
pub fn extras(message: &[u8]) -> Result<Extras, ParseError> {
    let mut extras = Extras::default();
    for place in records(message)? {
        let place = place?;
        extras.has_proofs |= place.record_type.is_proof();
        extras.is_signed |= place.section == Section::Additional && [Type::TSIG, Type::SIG].contains(&place.record_type);
        if place.is_opt() {
            extras.opt = Some(place);
        }
    }
    Ok(extras)
}

/// The OPT record of a message that has one, and whether the message is well-formed.
pub(super) fn opt(message: &[u8]) -> Result<Option<RecordPlace>, ParseError> {
    Ok(extras(message)?.opt)
}

impl Records<'_> {
    fn read(&mut self, section: Section) -> Result<RecordPlace, ParseError> {
        let mut reader = Reader::new(self.message, Name::skip(self.message, self.at)?);
        let owner = self.at..reader.at;
        let record_type = Type(reader.u16("a record")?);
        reader.bytes(2, "a record")?;
        let ttl = reader.u32("a record")?;
        let length = usize::from(reader.u16("a record")?);
        let start = reader.at;
        let octets = reader.bytes(length, "the data of a record")?;
        self.at = reader.at;
        let place = RecordPlace { section, owner, record_type, ttl, data: start..reader.at };
        if place.is_opt() {
            // Whoever likes points to a root.
            let is_root = place.owner.len() == 1 || Name::parse(self.message, place.owner.start)?.0.is_root();
            if self.has_opt || !is_root || !are_options(octets) {
                return Err(ParseError::Opt);
            }
            self.has_opt = true;
        } else {
            RData::check(self.message, record_type, &place.data)?;
        }
        Ok(place)
    }
}

impl Iterator for Records<'_> {
    type Item = Result<RecordPlace, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let Some((section, left)) = self.left.iter_mut().find(|(_, left)| *left > 0) else {
            self.is_over = true;
            let count = self.message.len() - self.at;
            return (count > 0).then_some(Err(ParseError::Trailing { count }));
        };
        *left -= 1;
        let section = *section;
        let read = self.read(section);
        self.is_over = read.is_err();
        Some(read)
    }
}
