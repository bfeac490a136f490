//! What a listener's thread, or a connection, holds for itself: what is in force, what it has near, and where it notes what it
//! has answered.

use std::ptr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};

use super::query_log::{Batch, Noted};
use super::serials::Serials;
use super::setup::Setup;
use super::tally::{Listened, Tally};
use crate::catalog::Catalog;
use crate::clock::unix_time;
use crate::dns::PlainQuery;
use crate::metrics::{Own, Sum};
use crate::resolve::answer::Client;
use crate::resolve::cache::{Entry, Near};

/// So many services, at some 300 octets each, are in the processor's caches anyway.
const SERVICES_CACHED: usize = 10_000;

/// What a listener's thread, or a connection, holds for itself.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) notes: Notes,
    pub(super) setup: Cache<Arc<ArcSwap<Setup>>, Arc<Setup>>,
    pub(super) catalog: Cache<Arc<ArcSwap<Catalog>>, Arc<Catalog>>,
    /// What is near of each setup's answers, by its place.
    pub(super) near: Vec<NearOf>,
    pub(super) rng: fastrand::Rng,
    pub(super) now: Instant,
    /// Unix time, in seconds.
    pub(super) clock: u64,
    /// The same for who must not see it go back.
    pub(super) serial: u64,
    serials: Serials,
}

/// What is near of one setup's answers.
#[derive(Debug, Default)]
pub(super) struct NearOf {
    /// The setup; held weakly, so that its address is nobody else's meanwhile.
    pub(super) of: Weak<Setup>,
    pub(super) near: Near,
    /// Answers that block lists decided, each with where this worker counts those of its list.
    pub(super) blocked: Near<Arc<Own>>,
    /// The lists of those.
    counted: Vec<(Arc<Sum>, Arc<Own>)>,
}

/// Where a listener's thread, or a connection, notes what it has answered.
#[derive(Debug)]
pub(super) struct Notes {
    /// Where this thread alone counts, if it is one.
    tally: Option<Arc<Tally>>,
    /// Where all of its listener count.
    pub(super) listened: Arc<Listened>,
    /// What is to be logged.
    pub(super) batch: Batch,
}

impl Notes {
    pub(super) fn note(&mut self, setup: &Setup, noted: &Noted<'_>) {
        match &self.tally {
            Some(own) => own.note_alone(noted.source, noted.answer),
            None => self.listened.shared.note(noted.source, noted.answer),
        }
        if let Some(log) = &setup.log {
            self.batch.add(log, noted);
        }
    }
}

impl Worker {
    /// For a thread of this listener, which has a tally of its own then, or for one of its many connections.
    pub(super) fn new(
        setup: Arc<ArcSwap<Setup>>,
        catalog: Arc<ArcSwap<Catalog>>,
        serials: Serials,
        listened: &Arc<Listened>,
        is_thread: bool,
    ) -> Self {
        let now = Instant::now();
        let (tally, batch) = (is_thread.then(|| listened.for_worker()), Batch::of(listened.place.clone()));
        Self {
            notes: Notes { tally, listened: listened.clone(), batch },
            setup: Cache::new(setup),
            catalog: Cache::new(catalog),
            near: Vec::new(),
            rng: fastrand::Rng::new(),
            now,
            clock: unix_time().as_secs(),
            serial: serials.at(now),
            serials,
        }
    }

    /// Takes note of the time; a listener calls it once for a batch of queries.
    pub(super) fn refresh(&mut self) {
        self.now = Instant::now();
        self.clock = unix_time().as_secs();
        self.serial = self.serials.at(self.now);
    }

    /// The time of which it last took note.
    pub(super) fn now(&self) -> Instant {
        self.now
    }

    /// Puts the cookie that is due to a client into the answer to its query.
    pub(super) fn seal(&mut self, octets: &[u8], client: Client, answer: &mut Vec<u8>) {
        self.setup.load().seal(octets, client, self.clock, answer);
    }

    /// Reads ahead for a batch of queries, where that is worth while.
    pub(super) fn read_ahead<'q>(&mut self, batch: impl Iterator<Item = &'q [u8]>) {
        let (setup, catalog) = (self.setup.load(), self.catalog.load());
        if !setup.at_once || catalog.services().len() < SERVICES_CACHED {
            return;
        }
        setup.discovery.read_ahead(catalog, batch.filter_map(PlainQuery::parse));
    }

    /// Takes note of how long a client waited for upstreams.
    pub(super) fn waited(&self, took: Duration) {
        let Notes { tally, listened, .. } = &self.notes;
        tally.as_deref().unwrap_or(&listened.shared).waits.note(took, 1);
    }

    /// Counts an answer that was written here, and logs it.
    pub(super) fn note(&mut self, setup: &Setup, noted: &Noted<'_>) {
        self.notes.note(setup, noted);
    }

    /// Has the log written so far; a listener calls it once for a batch of queries.
    pub(super) fn flush_log(&mut self) {
        self.notes.batch.flush();
    }

    /// Has an answer near that this setup gave.
    pub(super) fn have_near(&mut self, setup: &Arc<Setup>, query: &PlainQuery<'_>, entry: Arc<Entry>) {
        if let Some(NearOf { near, .. }) = self.near_of(setup) {
            near.keep(query, entry, ());
        }
    }

    /// Has an answer near that was blocked, and where those of its list are counted.
    pub(super) fn have_blocked_near(&mut self, setup: &Arc<Setup>, query: &PlainQuery<'_>, answer: &[u8], answered: &Arc<Sum>) {
        let now = self.now;
        let Some(NearOf { blocked, counted, .. }) = self.near_of(setup) else { return };
        let known = counted.iter().find(|(list, _)| Arc::ptr_eq(list, answered)).map(|(_, own)| own.clone());
        let own = known.unwrap_or_else(|| {
            let own = answered.own();
            counted.push((answered.clone(), own.clone()));
            own
        });
        blocked.keep(query, Arc::new(Entry::own(query, answer, now)), own);
    }

    /// What is near of this setup's answers, if it is in force.
    fn near_of(&mut self, setup: &Arc<Setup>) -> Option<&mut NearOf> {
        if self.near.len() <= setup.place {
            self.near.resize_with(setup.place + 1, NearOf::default);
        }
        let in_force = self.setup.load();
        let near_of = self.near.get_mut(setup.place)?;
        if !ptr::eq(near_of.of.as_ptr(), Arc::as_ptr(setup)) {
            let in_force = setup.place.checked_sub(1).map_or(Some(in_force), |view| in_force.views.get(view));
            if !in_force.is_some_and(|in_force| Arc::ptr_eq(in_force, setup)) {
                // Another is in force already.
                return None;
            }
            *near_of = NearOf { of: Arc::downgrade(setup), ..NearOf::default() };
        }
        Some(near_of)
    }
}
