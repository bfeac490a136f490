//! How many questions came, and who answered them. Each worker thread counts for itself, so that no query waits for
//! another processor's cache line; what answers later, on the runtime, counts where all of its listener do.

use std::sync::{Arc, Mutex, PoisonError};

use super::transport::Transport;
use crate::dns::{Header, Rcode};
use crate::metrics::{Count, Histogram, Kind, Labels, Page};

/// Who had the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Discovery,
    /// Hosts files, `[[record]]`, and names that never leave a host.
    Local,
    Zone,
    /// A block list has it.
    Blocked,
    /// What an upstream said before, and is fresh.
    Cache,
    Stale,
    Forwarded,
    /// Nobody may answer it, or nobody is there to ask.
    Refused,
    /// The client asks more often than it may.
    Limited,
    /// Nobody answered in time, or there was no room.
    Failed,
    /// It was no question that is answered.
    Invalid,
}

impl Source {
    const ALL: [(Self, &str); 11] = [
        (Self::Discovery, "discovery"),
        (Self::Local, "local"),
        (Self::Zone, "zone"),
        (Self::Blocked, "blocked"),
        (Self::Cache, "cache"),
        (Self::Stale, "stale"),
        (Self::Forwarded, "forwarded"),
        (Self::Refused, "refused"),
        (Self::Limited, "limited"),
        (Self::Failed, "failed"),
        (Self::Invalid, "invalid"),
    ];
}

impl Source {
    pub(super) fn name(self) -> &'static str {
        Self::ALL.get(self as usize).map_or("", |(_, name)| name)
    }
}

/// RCODEs that are told apart: those that fit a header, and BADVERS.
const RCODES: usize = 17;

/// Counts of one thread, or of many. On cache lines of its own: two, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Tally {
    answers: [[Count; RCODES]; Source::ALL.len()],
    dropped: Count,
    /// How long clients waited for answers that had to be asked for elsewhere.
    pub(super) waits: Histogram,
}

impl Tally {
    fn place(&self, source: Source, answer: &[u8]) -> &Count {
        let Some(header) = Header::of(answer) else { return &self.dropped };
        &self.answers[source as usize % Source::ALL.len()][usize::from(header.rcode().0) % RCODES]
    }

    /// Counts an answer, or that there is none, for the thread whose tally this is.
    pub(super) fn note_alone(&self, source: Source, answer: &[u8]) {
        self.place(source, answer).raise_alone(1);
    }

    /// The same for anybody.
    pub(super) fn note(&self, source: Source, answer: &[u8]) {
        self.place(source, answer).raise(1);
    }

    /// Adds what another has counted.
    fn absorb(&self, other: &Self) {
        let each = |tally: &Self| tally.answers.iter().flatten().chain([&tally.dropped]).map(Count::get).collect::<Vec<_>>();
        let own = self.answers.iter().flatten().chain([&self.dropped]);
        own.zip(each(other)).for_each(|(count, by)| count.raise(by));
        self.waits.absorb(&other.waits);
    }

    /// BADVERS does not fit the header, where it looks like success.
    pub(super) fn note_bad_version(&self) {
        self.answers[Source::Invalid as usize % Source::ALL.len()][RCODES - 1].raise(1);
    }
}

/// Which listener it is.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// Its address and port.
    pub(super) name: Arc<str>,
    pub(super) transport: Transport,
}

/// One listener's counts.
#[derive(Debug, Default)]
pub(super) struct Listened {
    pub(super) place: Place,
    /// Of those who have no tally of their own.
    pub(super) shared: Tally,
    workers: Mutex<Vec<Arc<Tally>>>,
    /// Connections that were opened, and closed.
    pub(super) opened: Count,
    pub(super) closed: Count,
    /// Those among them that were closed at once, since their clients asked more often than they may.
    pub(super) limited: Count,
}

impl Listened {
    /// A tally for one more worker thread. Those of threads that have ended are added up.
    pub(super) fn for_worker(&self) -> Arc<Tally> {
        let tally = Arc::<Tally>::default();
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|worker| {
            let lives = Arc::strong_count(worker) > 1;
            if !lives {
                self.shared.absorb(worker);
            }
            lives
        });
        workers.push(tally.clone());
        tally
    }

    fn sum(&self, of: impl Fn(&Tally) -> u64) -> u64 {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.iter().map(|tally| of(tally)).sum::<u64>() + of(&self.shared)
    }
}

/// The counts of all listeners.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    listeners: Mutex<Vec<Arc<Listened>>>,
    /// Of listeners that are no more: interfaces come and go, and so do their addresses.
    former: Tally,
}

impl Tallies {
    /// Where a listener counts, again if it was there before.
    pub(super) fn listener(&self, name: String, transport: Transport) -> Arc<Listened> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = listeners.iter().find(|known| *known.place.name == *name && known.place.transport == transport) {
            return known.clone();
        }
        listeners.retain(|listened| {
            // Whoever counts there holds it.
            let is_over = Arc::strong_count(listened) == 1;
            if is_over {
                listened.workers.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|own| self.former.absorb(own));
                self.former.absorb(&listened.shared);
            }
            !is_over
        });
        let listened = Arc::new(Listened { place: Place { name: name.into(), transport }, ..Listened::default() });
        listeners.push(listened.clone());
        listened
    }

    /// Those that are open: the address and port of each, and its transport.
    pub(super) fn open(&self) -> Vec<(Arc<str>, Transport)> {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever counts there holds it.
        let open = listeners.iter().filter(|listened| Arc::strong_count(listened) > 1);
        open.map(|listened| (listened.place.name.clone(), listened.place.transport)).collect()
    }

    fn all(&self) -> Vec<Arc<Listened>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many answers were of this source.
    pub(super) fn answers(&self, source: Source) -> u64 {
        let of = |tally: &Tally| tally.answers[source as usize % Source::ALL.len()].iter().map(Count::get).sum::<u64>();
        self.all().iter().map(|listened| listened.sum(of)).sum::<u64>() + of(&self.former)
    }

    pub(super) fn metrics(&self, page: &mut Page) {
        let all = self.all();
        let labels = |listened: &Listened| -> Labels {
            vec![("listener", listened.place.name.to_string()), ("transport", listened.place.transport.label().to_owned())]
        };
        let queries = all.iter().flat_map(|listened| {
            (0..RCODES).filter_map(move |rcode| {
                let count = listened.sum(|tally| tally.answers.iter().map(|of_source| of_source[rcode].get()).sum());
                let mut labels = labels(listened);
                labels.push(("rcode", Rcode(rcode as u16).to_string()));
                // RCODEs that never were would make most of the page.
                (count > 0 || rcode == 0).then_some((labels, count))
            })
        });
        page.family(Kind::Counter, "rollcall_queries_total", "Questions that were answered, by listener and RCODE.", queries);
        let dropped = all.iter().map(|listened| (labels(listened), listened.sum(|tally| tally.dropped.get())));
        page.family(
            Kind::Counter,
            "rollcall_queries_dropped_total",
            "Messages that got no answer: no question, or unreadable.",
            dropped,
        );
        let answers = Source::ALL.map(|(source, name)| (vec![("source", name.to_owned())], self.answers(source)));
        page.family(Kind::Counter, "rollcall_answers_total", "Answers, by who had them.", answers);
        let waits = Histogram::default();
        waits.absorb(&self.former.waits);
        for listened in &all {
            waits.absorb(&listened.shared.waits);
            let workers = listened.workers.lock().unwrap_or_else(PoisonError::into_inner);
            workers.iter().for_each(|tally| waits.absorb(&tally.waits));
        }
        let help = "How long clients waited whose questions had to be asked elsewhere.";
        page.histograms("rollcall_wait_seconds", help, [(Labels::new(), &waits)]);
        let streams = || all.iter().filter(|listened| listened.place.transport != Transport::Udp);
        let open = streams().map(|listened| (labels(listened), listened.opened.get().saturating_sub(listened.closed.get())));
        page.family(Kind::Gauge, "rollcall_connections", "Connections of clients that are open.", open);
        let limited = streams().map(|listened| (labels(listened), listened.limited.get()));
        page.family(
            Kind::Counter,
            "rollcall_connections_limited_total",
            "Connections that were closed at once, as their clients ask more often than they may.",
            limited,
        );
    }
}
