//! How do the bytes read? Names, questions, records, and messages in wire form.
//!
//! What the answer path needs of DNS, and no more: nine record types in full, every other type as opaque bytes
//! (RFC 3597). Nothing here knows a socket or a clock. Where text forms of every record type are wanted (zone files,
//! the `query` command), `hickory-proto` reads and writes them, off the answer path.
//!
//! Start with [`Message`]; [`Query`] is a message that may be answered.

/// A registry's numbers by their names; a number without one is written behind the registry's word (RFC 3597, 5).
macro_rules! names {
    ($registry:ident, $word:literal: $($name:ident = $value:literal),* $(,)?) => {
        impl $registry {
            $(pub const $name: Self = Self($value);)*
            const NAMES: &[(Self, &'static str)] = &[$((Self::$name, stringify!($name))),*];
        }

        impl std::fmt::Display for $registry {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match Self::NAMES.iter().find(|(value, _)| value == self) {
                    Some((_, name)) => f.write_str(name),
                    None => write!(f, concat!($word, "{}"), self.0),
                }
            }
        }

        impl std::fmt::Debug for $registry {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    };
}

mod asking;
mod case;
mod compose;
mod edns;
mod header;
mod message;
mod name;
mod plain;
mod query;
mod record;
mod records;
mod reply;
mod signature;

pub use asking::Asking;
pub use case::LetterCase;
pub use compose::Composer;
pub use edns::{
    ClientSubnet, Edns, EdnsOption, ExtendedError, add_option, drop_edns, drop_options, find_option, has_option, is_cookie,
    make_opt_ours, option, pad,
};
pub use header::{Header, Section};
pub use message::{Flags, Message, Opcode, Rcode};
pub use name::{Labels, Name, NameError, Names};
pub use plain::PlainQuery;
pub use query::{Query, Question, Reject};
pub use record::{Class, RData, Record, Soa, Srv, Type};
pub use records::{Extras, RecordPlace, extras, records};
pub use reply::{Given, Reply, dnssec_ok, given, has_opt, is_bare, question, rcode};
pub use signature::Signature;

/// Why bytes are not a DNS message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The message ends where more was promised.
    #[error("the message ends at octet {at} in the middle of {what}")]
    Short { at: usize, what: &'static str },
    /// A label type other than 00 and 11 (RFC 1035, 4.1.4; RFC 6891, 5).
    #[error("octet {at} starts a label of an unknown kind")]
    LabelKind { at: usize },
    /// A compression pointer that does not point backwards.
    #[error("the compression pointer at octet {at} does not point backwards")]
    Pointer { at: usize },
    /// A name of more than 255 octets (RFC 1035, 2.3.4).
    #[error("a name at octet {at} is longer than 255 octets")]
    NameTooLong { at: usize },
    /// RDATA whose content and length disagree.
    #[error("the data of a record at octet {at} does not fit its length")]
    RData { at: usize },
    /// More than one OPT record, or one in the wrong place (RFC 6891, 6.1.1).
    #[error("more than one OPT record, or one that is not owned by the root")]
    Opt,
    /// A cookie of a length that none has (RFC 7873, 5.2.2).
    #[error("expected a cookie of 8, or of 16 to 40 octets")]
    Cookie,
    /// Octets after the last record.
    #[error("{count} octets follow the last record")]
    Trailing { count: usize },
}

/// Reads big-endian integers and slices from a message, never past its end.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) message: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'a [u8], at: usize) -> Self {
        Self { message, at }
    }

    pub(crate) fn bytes(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], ParseError> {
        let end = self.at.saturating_add(count);
        let slice = self.message.get(self.at..end).ok_or(ParseError::Short { at: self.message.len(), what })?;
        self.at = end;
        Ok(slice)
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, ParseError> {
        let b = self.bytes(2, what)?;
        Ok(u16::from_be_bytes([b[0], b[1]]))
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, ParseError> {
        let b = self.bytes(4, what)?;
        Ok(u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    pub(crate) fn name(&mut self) -> Result<Name, ParseError> {
        let (name, next) = Name::parse(self.message, self.at)?;
        self.at = next;
        Ok(name)
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.message.len()
    }
}
