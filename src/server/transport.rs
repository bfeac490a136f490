//! By what a query came, and what it asks of that beside its answer.

use std::time::Duration;

use crate::dns::{add_option, has_option, option, pad};
use crate::resolve::Room;

/// Answers over an encrypted connection have a multiple of so many octets when the query was padded (RFC 8467, 4.1).
const BLOCK: usize = 468;

/// By what a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Transport {
    #[default]
    Udp,
    Tcp,
    Tls,
    /// HTTP/1.1 and HTTP/2.
    Https,
    /// HTTP/3.
    H3,
    Quic,
}

/// What its answer has to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wishes {
    keepalive: bool,
    padding: bool,
}

impl Transport {
    /// As metrics and the query log call it.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Https => "https",
            Self::H3 => "h3",
            Self::Quic => "quic",
        }
    }

    pub(super) fn room(self) -> Room {
        if self == Self::Udp { Room::Datagram } else { Room::Stream }
    }

    fn is_encrypted(self) -> bool {
        !matches!(self, Self::Udp | Self::Tcp)
    }

    /// How long a connection may be silent between two queries, and how long a query may take to arrive once begun: seconds,
    /// so that clients may keep connections (RFC 7766, 6.2.3). What cost a handshake is worth keeping for longer.
    pub(super) fn idle(self) -> Duration {
        Duration::from_secs(if self.is_encrypted() { 30 } else { 10 })
    }

    /// Reads what a query wishes.
    pub(super) fn wishes(self, query: &[u8]) -> Wishes {
        Wishes {
            // HTTP and QUIC have means of their own (RFC 7828, 3.1).
            keepalive: matches!(self, Self::Tcp | Self::Tls) && has_option(query, option::TCP_KEEPALIVE),
            // Whoever can read the answer learns nothing of its length.
            padding: self.is_encrypted() && has_option(query, option::PADDING),
        }
    }

    /// Grants the wishes in the answer, as far as it has room.
    pub(super) fn grant(self, wishes: Wishes, answer: &mut Vec<u8>) {
        if wishes.keepalive {
            // In units of 100 ms.
            let timeout = u16::try_from(self.idle().as_millis() / 100).unwrap_or(u16::MAX);
            add_option(answer, option::TCP_KEEPALIVE, &timeout.to_be_bytes());
        }
        if wishes.padding {
            pad(answer, BLOCK);
        }
    }
}
