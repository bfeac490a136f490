//! The header of a message, read where it lies.

use super::Message;
use super::message::{Flags, Opcode, Rcode};

/// The twelve octets that every message begins with (RFC 1035, 4.1.1).
#[derive(Debug, Clone, Copy)]
pub struct Header<'a>(&'a [u8; Message::HEADER]);

/// The sections of a message behind its header, in their order (RFC 1035, 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    Question,
    Answer,
    Authority,
    Additional,
}

impl<'a> Header<'a> {
    /// `None` for what is too short to have one.
    pub fn of(message: &'a [u8]) -> Option<Self> {
        message.first_chunk().map(Self)
    }

    fn word(self, at: usize) -> u16 {
        match self.0.get(at..at + 2) {
            Some(&[high, low]) => u16::from_be_bytes([high, low]),
            _ => 0,
        }
    }

    pub fn flags(self) -> Flags {
        Flags::from_bits(self.word(2))
    }

    pub fn opcode(self) -> Opcode {
        Opcode((self.word(2) >> 11) as u8 & 15)
    }

    /// The four bits of it that stand here; [`rcode`](super::rcode) has all.
    pub fn rcode(self) -> Rcode {
        Rcode(self.word(2) & 15)
    }

    /// How many questions or records a section has, as the message says.
    pub fn count(self, section: Section) -> u16 {
        self.word(4 + 2 * section as usize)
    }
}
