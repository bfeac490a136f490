//! How long may an answer be?

use crate::dns::Message;
use crate::limits::UDP_PAYLOAD;

/// What bounds the size of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// That of one datagram. Who asks by one has not shown that answers reach it.
    Datagram,
    /// That of a stream, encrypted or not.
    Stream,
}

impl Room {
    /// Octets that every client takes in a datagram (RFC 1035, 4.2.1).
    pub(super) const DATAGRAM_MIN: usize = 512;

    /// Octets of the largest answer to a client whose OPT record, if it sent one, has this payload size.
    pub fn octets(self, payload_size: Option<u16>) -> usize {
        match self {
            Self::Stream => Message::MAX,
            Self::Datagram => payload_size.map_or(0, usize::from).clamp(Self::DATAGRAM_MIN, UDP_PAYLOAD.into()),
        }
    }
}
