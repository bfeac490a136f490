//! Answers of one connection that its client has not taken yet, and room for more. Clients that ask much and read nothing would
//! otherwise fill the memory with what they asked for.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits;

/// What one connection may hold of them; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Backlog(Arc<Semaphore>);

/// An answer that takes its room until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    octets: Vec<u8>,
    room: OwnedSemaphorePermit,
}

impl Default for Backlog {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(limits::ANSWER_OCTETS_PER_CONNECTION_MAX)))
    }
}

impl Backlog {
    /// Waits until there is room for an answer.
    pub(super) async fn hold(&self, octets: Vec<u8>) -> Option<Held> {
        let room = self.0.clone().acquire_many_owned(size(&octets)).await.ok()?;
        Some(Held { octets, room })
    }

    /// Takes room for an answer, if there is any.
    pub(super) fn try_hold(&self, octets: Vec<u8>) -> Option<Held> {
        let room = self.0.clone().try_acquire_many_owned(size(&octets)).ok()?;
        Some(Held { octets, room })
    }
}

/// What an answer takes: its octets, of which no answer has so many that there could never be room.
fn size(octets: &[u8]) -> u32 {
    octets.len().min(limits::ANSWER_OCTETS_PER_CONNECTION_MAX) as u32
}

impl Held {
    /// One with another behind it.
    pub(super) fn followed_by(mut self, other: Self) -> Self {
        self.octets.extend(other.octets);
        self.room.merge(other.room);
        self
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Message;

    #[test]
    fn what_is_not_taken_leaves_no_room_for_more() {
        let backlog = Backlog::default();
        let longest = || vec![7; Message::MAX];
        let mut held: Vec<Held> = std::iter::from_fn(|| backlog.try_hold(longest())).collect();
        assert!(held.len() * Message::MAX <= limits::ANSWER_OCTETS_PER_CONNECTION_MAX && held.len() > 1);
        let last = held.pop().unwrap();
        let joined = held.into_iter().fold(last, Held::followed_by);
        assert!(joined.as_ref().len() > Message::MAX && backlog.try_hold(longest()).is_none());
        drop(joined);
        assert!(backlog.try_hold(longest()).is_some());
    }
}
