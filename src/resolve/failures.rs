//! Questions that nobody had an answer to, remembered for a while, so that clients that repeat them press nobody
//! (RFC 9520). Told what happened and what time it is.
//!
//! Failures are those of a question, whatever else its client says (RFC 9520, 3.2): one that asks without EDNS waits no less
//! for upstreams that are silent. An error is one to who asks so, recursion and checking wanted or not.
//!
//! A failure is remembered for a second (3.2: at least that), and for twice as long each time that it comes again, up to a
//! bound (at most five minutes). Two kinds are told apart, since they end differently. Silence is the upstreams' own: when
//! none of them was well, the first that answers anything again ends it for all questions. An error that upstreams answer with
//! may be the name's, and one good answer to another name says nothing about it; but after many look-ups in a row that came to
//! nothing, a good one shows that it was the upstreams after all.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use quick_cache::UnitWeighter;

use super::cache::Key;
use crate::dns::{Asking, ExtendedError};
use crate::limits;

/// RFC 9520, 3.2.
const FIRST: Duration = Duration::from_secs(1);
pub const LONGEST: Duration = Duration::from_secs(300);
/// How long a question is not asked again that a stale answer is given to meanwhile (RFC 8767, 5).
const STALE: Duration = Duration::from_secs(30);
/// Look-ups in a row that came to nothing, after which a good one shows that upstreams are back. More than the handful of
/// questions that one broken name is asked for (A, AAAA, HTTPS, and the same with a search domain).
const STREAK: u32 = 8;

/// Why a question had no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// Nobody answered.
    Silence,
    /// Somebody answered with an error.
    Error,
    /// The answer was not what its zone says (RFC 4035, 4.7).
    Bogus(ExtendedError),
}

#[derive(Debug, Clone, Copy)]
struct Failure {
    kind: Failing,
    asking: Asking,
    /// How often in a row.
    times: u32,
    since: Instant,
    until: Instant,
    /// Of which of the upstreams' lives it is.
    life: u64,
}

impl Failure {
    /// Is it one to who asks with this key?
    fn is_of(&self, key: &Key) -> bool {
        self.asking == key.asking().of_resolving()
    }
}

/// What is remembered. Of all upstreams together, since a question's key says who is asked.
#[derive(Debug)]
pub struct Failures {
    longest: Duration,
    failures: quick_cache::sync::Cache<Box<[u8]>, Failure, UnitWeighter, RandomState>,
}

/// How a group of upstreams fares.
#[derive(Debug, Default)]
pub struct Fortune {
    /// Look-ups in a row that came to nothing.
    bad: AtomicU32,
    /// How often silence of them, and errors, have ended.
    silences: AtomicU64,
    errors: AtomicU64,
}

impl Fortune {
    /// A look-up came to nothing.
    pub fn failed(&self) {
        self.bad.fetch_add(1, Ordering::Relaxed);
    }

    /// One of them had a good answer; `is_back` when none of them was well before.
    pub fn answered(&self, is_back: bool) {
        let streak = self.bad.load(Ordering::Relaxed);
        if streak > 0 {
            self.bad.store(0, Ordering::Relaxed);
        }
        if is_back || streak >= STREAK {
            self.silences.fetch_add(1, Ordering::Relaxed);
        }
        if streak >= STREAK {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn life(&self, kind: Failing) -> u64 {
        match kind {
            Failing::Silence => self.silences.load(Ordering::Relaxed),
            Failing::Error | Failing::Bogus(_) => self.errors.load(Ordering::Relaxed),
        }
    }
}

impl Failures {
    /// `longest` is what a failure is remembered for at most, within the RFC's bounds.
    pub fn new(longest: Duration) -> Self {
        let failures = quick_cache::sync::Cache::with(
            limits::FAILURES_MAX,
            limits::FAILURES_MAX as u64,
            UnitWeighter,
            RandomState::default(),
            Default::default(),
        );
        Self { longest: longest.clamp(FIRST, LONGEST), failures }
    }

    /// Has this question failed lately, also if it may be asked again by now?
    pub fn knows(&self, key: &Key) -> bool {
        self.failures.contains_key(&key.question()[..])
    }

    /// Why this question is not to be asked again yet, if so: for longer when its client `has_stale` answer to be content with.
    /// `fortune` is that of those who would be asked.
    pub fn stands(&self, key: &Key, has_stale: bool, fortune: &Fortune, now: Instant) -> Option<Failing> {
        let failure = self.failures.get(&key.question()[..]).filter(|failure| failure.is_of(key))?;
        let until = if has_stale { failure.until.max(failure.since + STALE) } else { failure.until };
        (now < until && failure.life == fortune.life(failure.kind)).then_some(failure.kind)
    }

    /// It has failed.
    pub fn note(&self, key: &Key, kind: Failing, fortune: &Fortune, now: Instant) {
        let question = key.question();
        let former = self.failures.get(&question[..]).filter(|former| {
            let long_ago = now.saturating_duration_since(former.until) > LONGEST;
            former.life == fortune.life(former.kind) && !long_ago
        });
        let times = former.map_or(0, |former| former.times).saturating_add(1);
        let wait = FIRST.saturating_mul(1 << (times - 1).min(16)).min(self.longest);
        let (asking, life) = (key.asking().of_resolving(), fortune.life(kind));
        self.failures.insert(question[..].into(), Failure { kind, asking, times, since: now, until: now + wait, life });
    }

    /// It has been answered.
    pub fn forget(&self, key: &Key) {
        let question = key.question();
        if self.failures.get(&question[..]).is_some_and(|failure| failure.is_of(key)) {
            self.failures.remove(&question[..]);
        }
    }

    pub fn clear(&self) {
        self.failures.clear();
    }

    pub fn len(&self) -> usize {
        self.failures.len()
    }

    pub fn is_empty(&self) -> bool {
        self.failures.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Class, Edns, Query, Question, Type};

    fn key(name: &str) -> Key {
        Key::new(&Query::of(Question { name: name.parse().unwrap(), qtype: Type::A, qclass: Class::IN }), 0).unwrap()
    }

    /// For how many seconds a failure stands that is noted now.
    fn stands_for(failures: &Failures, fortune: &Fortune, kind: Failing, now: Instant) -> u64 {
        failures.note(&key("a.example"), kind, fortune, now);
        let stands = |seconds: &u64| {
            failures
                .stands(&key("a.example"), false, fortune, now + Duration::from_secs(*seconds) - Duration::from_millis(1))
                .is_some()
        };
        (1..1_000).take_while(stands).last().unwrap_or(0)
    }

    #[test]
    fn rfc9520_3_2_failures_are_remembered_for_a_second_to_five_minutes_and_longer_each_time() {
        for (longest, expected) in
            [(5, [1, 2, 4, 5, 5, 5, 5]), (30, [1, 2, 4, 8, 16, 30, 30]), (0, [1; 7]), (9_999, [1, 2, 4, 8, 16, 32, 64])]
        {
            let (failures, fortune, mut now) =
                (Failures::new(Duration::from_secs(longest)), Fortune::default(), Instant::now());
            for expected in expected {
                let stands = stands_for(&failures, &fortune, Failing::Error, now);
                assert_eq!(stands, expected, "at most {longest}");
                now += Duration::from_secs(stands);
            }
            for _ in 0..9 {
                assert!(stands_for(&failures, &fortune, Failing::Error, now) <= 300);
            }
            now += Duration::from_secs(1_000);
            assert_eq!(stands_for(&failures, &fortune, Failing::Error, now), 1, "what was long ago counts no more");
            failures.forget(&key("a.example"));
            assert!(!failures.knows(&key("a.example")));
            assert_eq!(stands_for(&failures, &fortune, Failing::Error, now), 1, "it was answered meanwhile");
        }
    }

    #[test]
    fn rfc9520_3_2_a_failure_is_the_questions_whatever_else_its_client_says() {
        let (fortune, now) = (Fortune::default(), Instant::now());
        let own = key("a.example");
        let query = Query::of(Question { name: "A.example".parse().unwrap(), qtype: Type::A, qclass: Class::IN });
        let with = |change: fn(&mut Query)| {
            let mut query = query.clone();
            change(&mut query);
            Key::new(&query, 0).unwrap()
        };
        let alike = [
            with(|query| query.edns = Some(Edns::new(1232))),
            with(|query| query.flags.authentic_data = true),
            with(|query| query.edns = Some(Edns { dnssec_ok: true, ..Edns::new(4096) })),
        ];
        let others = [with(|query| query.flags.recursion_desired = false), with(|query| query.flags.checking_disabled = true)];
        for kind in [Failing::Silence, Failing::Error, Failing::Bogus(ExtendedError::DnssecBogus)] {
            let failures = Failures::new(LONGEST);
            failures.note(&own, kind, &fortune, now);
            assert!(
                alike.iter().all(|key| failures.stands(key, false, &fortune, now) == Some(kind) && failures.knows(key)),
                "{kind:?}"
            );
            let stands = others.iter().filter(|key| failures.stands(key, false, &fortune, now).is_some()).count();
            assert_eq!(stands, 0, "who asks without recursion may be refused, or not heard");
            assert_eq!(
                failures.stands(&Key::apart(&query, 0), false, &fortune, now),
                None,
                "nor is it that of unknown options"
            );
            assert_eq!(failures.stands(&Key::new(&query, 1).unwrap(), false, &fortune, now), None, "others are asked there");
            failures.forget(&others[0]);
            assert!(failures.stands(&own, false, &fortune, now).is_some());
            failures.forget(&alike[0]);
            assert!(failures.is_empty());
        }
    }

    #[test]
    fn an_upstream_that_is_back_ends_its_silence_for_all_questions_and_nobody_s_error() {
        let (failures, fortune, now) = (Failures::new(LONGEST), Fortune::default(), Instant::now());
        let stands = |name: &str| failures.stands(&key(name), false, &fortune, now).is_some();
        failures.note(&key("silent.example"), Failing::Silence, &fortune, now);
        failures.note(&key("broken.example"), Failing::Error, &fortune, now);
        fortune.failed();
        fortune.answered(false);
        assert_eq!((stands("silent.example"), stands("broken.example")), (true, true));
        fortune.answered(true);
        assert_eq!((stands("silent.example"), stands("broken.example")), (false, true));
        (0..STREAK).for_each(|_| fortune.failed());
        fortune.answered(false);
        assert!(!stands("broken.example"), "all failed for long: it was the upstreams");
    }

    #[test]
    fn rfc1123_6_1_3_3_failures_are_bounded() {
        let (failures, fortune) = (Failures::new(LONGEST), Fortune::default());
        for n in 0..limits::FAILURES_MAX * 2 {
            failures.note(&key(&format!("n{n}.example")), Failing::Error, &fortune, Instant::now());
        }
        assert!(failures.len() <= limits::FAILURES_MAX);
    }

    #[test]
    fn rfc8767_5_a_stale_answer_is_fetched_anew_every_thirty_seconds_at_most() {
        let (failures, fortune, now) = (Failures::new(Duration::from_secs(5)), Fortune::default(), Instant::now());
        let stands = |has_stale, seconds| {
            failures.stands(&key("stale.example"), has_stale, &fortune, now + Duration::from_secs(seconds)).is_some()
        };
        for kind in [Failing::Silence, Failing::Error] {
            failures.note(&key("stale.example"), kind, &fortune, now);
            assert!(stands(true, 29) && !stands(true, 30), "{kind:?}");
            assert!(!stands(false, 5), "who has none does not wait for longer");
        }
        failures.note(&key("stale.example"), Failing::Silence, &fortune, now);
        fortune.answered(true);
        assert!(!stands(true, 0), "unless upstreams are back");
    }
}
