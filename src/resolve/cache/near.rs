//! The small cache of each worker.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Instant;

use foldhash::fast::RandomState;

use super::entry::Entry;
use crate::dns::PlainQuery;

/// Sets of a [`Near`], and places in each: 8,192 answers, found among few.
const SETS: usize = 2_048;
const PLACES: usize = 4;

/// Octets of the largest answer that a [`Near`] holds, so that each of them stays below 16 MB.
const NEAR_MAX: usize = 2_048;

/// A worker's own cache: the answers to plain queries that it gave last, found without a lock and without parsing the
/// query. All in it were given by one configuration, in which a question always goes to the same upstreams. With each stands
/// what else the worker has to know of it.
#[derive(Debug)]
pub struct Near<T = ()> {
    hasher: RandomState,
    sets: Vec<[Place<T>; PLACES]>,
}

/// Room for an entry, found by the hash of its query's key.
type Place<T> = Option<(u64, Arc<Entry>, T)>;

impl<T> Default for Near<T> {
    fn default() -> Self {
        Self { hasher: RandomState::default(), sets: Vec::new() }
    }
}

impl<T> Near<T> {
    /// A fresh answer.
    pub fn get(&mut self, query: &PlainQuery<'_>, now: Instant) -> Option<(&Arc<Entry>, &T)> {
        if self.sets.is_empty() {
            return None;
        }
        let hash = self.hasher.hash_one(query.key());
        let set = self.sets.get_mut(hash as usize % SETS)?;
        let near = |place: &Place<T>| {
            place.as_ref().is_some_and(|(other, entry, _)| *other == hash && entry.key.is_of(query) && entry.is_fresh(now))
        };
        let at = set.iter().position(near)?;
        // What was asked for lately stands in front, and what was not falls out behind.
        set.get_mut(..=at)?.rotate_right(1);
        set[0].as_ref().map(|(_, entry, with)| (entry, with))
    }

    /// Has an answer near, from the shared cache or of our own making.
    pub fn keep(&mut self, query: &PlainQuery<'_>, entry: Arc<Entry>, with: T) {
        if entry.octets.len() > NEAR_MAX || !entry.key.is_of(query) {
            return;
        }
        if self.sets.is_empty() {
            // An idle server needs none of this.
            self.sets.resize_with(SETS, Default::default);
        }
        let hash = self.hasher.hash_one(query.key());
        if let Some(set) = self.sets.get_mut(hash as usize % SETS) {
            set.rotate_right(1);
            set[0] = Some((hash, entry, with));
        }
    }
}
