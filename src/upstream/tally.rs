//! What became of what upstreams were asked.

use std::sync::Arc;
use std::time::Duration;

use crate::metrics::{Count, Histogram};

/// What happened so far, whatever the upstream.
#[derive(Debug, Default)]
pub struct Counters {
    pub misses: Count,
    pub stale: Count,
    /// Answers that were fetched anew before their end.
    pub prefetched: Count,
    /// Look-ups that ended without an answer.
    pub failed: Count,
    /// Not looked up, because too many look-ups were under way.
    pub refused: Count,
    /// Questions that waited for a look-up of the same question.
    pub coalesced: Count,
    /// Answers that were proved, that are in no signed zone, and that are not what their zone says.
    pub secure: Count,
    pub insecure: Count,
    pub bogus: Count,
}

/// What happened with one upstream of a group.
#[derive(Debug)]
pub(super) struct Tally {
    group: String,
    /// As it is written in a configuration.
    upstream: Arc<str>,
    pub(super) sent: Count,
    /// It had an answer.
    pub(super) answered: Count,
    /// It had an error, or could not be asked.
    pub(super) failed: Count,
    /// It was of no use in time.
    pub(super) missed: Count,
    /// How long its answers took.
    pub(super) took: Histogram,
}

impl Tally {
    pub(super) fn new(group: String, upstream: String) -> Self {
        let (sent, answered, failed, missed, took) = Default::default();
        Self { group, upstream: upstream.into(), sent, answered, failed, missed, took }
    }

    pub(super) fn is_of(&self, group: &str, upstream: &str) -> bool {
        (&*self.group, &*self.upstream) == (group, upstream)
    }

    /// The upstream as it is written in a configuration.
    pub(super) fn text(&self) -> &Arc<str> {
        &self.upstream
    }

    /// Takes note of good answers that took so long each.
    pub(super) fn answered(&self, took: Duration, count: u32) {
        self.answered.raise(count.into());
        self.took.note(took, count.into());
    }
}
