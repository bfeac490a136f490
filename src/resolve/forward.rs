//! One look-up among several upstreams: whom to ask, until when to wait, and which answer to take.
//!
//! Pure: told what happened and what time it is, it says what to do next. The driver in `upstream` does the sending.
//!
//! By default the best upstream by measured latency is asked, and the next one as soon as the first is later than it
//! usually is ([`patience`]), so that a dead upstream costs milliseconds. What is usual is learnt from all replies, those that
//! come too late to be of use among them, so that of a hundred queries that are answered some three are sent twice, however
//! uneven an upstream's times are. Who fails is asked last and probed until it is back. As [`Manner::Sequential`] it is
//! Consul's: one at a time, each for its whole timeout.
//!
//! Start with [`Lookup::step`].

mod condition;

use std::fmt;
use std::time::{Duration, Instant};

use serde::Deserialize;

use self::condition::{PATIENCE_MAX, pass_over, patience, rank, to_probe};
use crate::dns::{self, Header, Rcode};
use crate::limits;
use crate::resolve::Room;

pub use condition::{Condition, answered, favourite, scout};

/// How long a reply is still listened for when its look-up has ended, to learn how late it is, or that it is lost.
pub const LATE: Duration = Duration::from_secs(1);
/// When an upstream that is silent is asked again at the earliest, counted from the beginning. That is for packets that were
/// lost, and presses nobody who only takes long over a name. The last time goes by TCP, which sees to lost packets by itself;
/// three times at most by datagram (RFC 9520, 3.1).
const AGAIN: [Duration; 4] = [Duration::ZERO, Duration::from_millis(400), Duration::from_millis(550), Duration::from_secs(1)];
/// The same for one that is lossy.
const AGAIN_LOSSY: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(80), Duration::from_millis(200), Duration::from_millis(600)];

/// The same when none of them is well: what is asked then is asked to learn that one is back. Only the first is asked again.
const AGAIN_DEAD: [Duration; 2] = [Duration::ZERO, Duration::from_secs(1)];
/// From so many queries in a row on, one that is lossy too is as good as dead: of three in ten that are lost, so many in a row
/// are lost once in 15,000 times.
const DEAD: u32 = 8;

/// How a look-up goes about its upstreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// The first by strategy, another when it is late, and who is not well last.
    Ranked {
        strategy: Strategy,
        /// How long a look-up may take.
        deadline: Duration,
    },
    /// In order, or in a new random order for each query; each for `timeout`.
    Sequential { timeout: Duration, random: bool },
}

impl Manner {
    pub fn is_sequential(self) -> bool {
        matches!(self, Self::Sequential { .. })
    }
}

/// Who of those that are well is asked first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// The fastest, by what was measured.
    #[default]
    Hedged,
    /// The first in the order in which they are written.
    Strict,
    /// All of them at once.
    Parallel,
    /// Any.
    Random,
}

/// By what an upstream is asked that knows both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

impl From<Room> for Transport {
    /// Whose answer has to fit a datagram is content with one.
    fn from(room: Room) -> Self {
        match room {
            Room::Datagram => Self::Udp,
            Room::Stream => Self::Tcp,
        }
    }
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask this upstream, with the query's OPT record if it has one, or without it; what comes of it is told under this
    /// attempt's number.
    Send { attempt: usize, upstream: usize, transport: Transport, edns: bool },
    /// Ask this upstream only to learn whether it is back. The look-up does not wait for it, and may end before it.
    Probe { upstream: usize },
    /// Nothing until then, or until something is heard.
    Wait(Instant),
    /// The look-up has ended with this answer, or with none.
    Done(Option<Vec<u8>>),
}

/// One question on its way through the upstreams.
#[derive(Debug)]
pub struct Lookup {
    manner: Manner,
    transport: Transport,
    /// The query has an OPT record.
    edns: bool,
    /// Upstreams in the order in which they are asked.
    order: Vec<Turn>,
    attempts: Vec<Attempt>,
    /// Attempts that are to be sent now.
    outbox: Vec<Attempt>,
    probe: Option<usize>,
    begun: Instant,
    /// How long the upstream took whose answer was taken.
    took: Option<Duration>,
    next_at: Instant,
    deadline: Instant,
    /// The least bad of the answers that were not good enough.
    fallback: Option<(u8, Vec<u8>)>,
    done: Option<Option<Vec<u8>>>,
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    upstream: usize,
    /// How long it is waited for before the next is asked.
    wait: Duration,
    /// When it is asked at the earliest, and again, from the beginning on.
    times: &'static [Duration],
    /// How often it has been asked.
    asked: usize,
}

#[derive(Debug, Clone, Copy)]
struct Attempt {
    upstream: usize,
    transport: Transport,
    edns: bool,
    sent: Instant,
    open: bool,
    answered: bool,
    /// It was answered, with an error.
    bad: bool,
    /// When it ended, and with what.
    ended: Option<(Instant, Heard)>,
}

impl Attempt {
    fn new(upstream: usize, transport: Transport, sent: Instant) -> Self {
        Self { upstream, transport, edns: true, sent, open: true, answered: false, bad: false, ended: None }
    }
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    Whole(Rcode),
    /// An answer of which a part is missing.
    Truncated(Rcode),
    /// It could not be asked, or its connection ended.
    Failed,
    /// So many wrong replies that somebody guesses at the right one.
    Forged,
    Nothing,
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(rcode) => rcode.fmt(f),
            Self::Truncated(rcode) => write!(f, "{rcode}, truncated"),
            Self::Failed => f.write_str("cannot be asked"),
            Self::Forged => f.write_str("forged replies"),
            Self::Nothing => f.write_str("silent"),
        }
    }
}

/// An attempt, for those who want to know how a look-up went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tried {
    pub upstream: usize,
    pub transport: Transport,
    /// When it was made, from the beginning of the look-up on.
    pub after: Duration,
    /// How long it took until something was heard, or until the look-up ended.
    pub took: Duration,
    pub heard: Heard,
}

/// Is this an answer, and not an error that another upstream may not have?
pub fn is_good(octets: &[u8]) -> bool {
    dns::rcode(octets).is_some_and(is_success)
}

/// Is that the RCODE of an answer?
pub fn is_success(rcode: Rcode) -> bool {
    [Rcode::NOERROR, Rcode::NXDOMAIN].contains(&rcode)
}

impl Lookup {
    /// Begins a look-up for an answer that has so much room. `conditions` are the upstreams of the group.
    pub fn new(manner: Manner, room: Room, conditions: &mut [Condition], now: Instant, rng: &mut fastrand::Rng) -> Self {
        let transport = room.into();
        let mut order: Vec<usize> = (0..conditions.len()).filter(|&n| !conditions[n].is_set_aside).collect();
        let deadline = match manner {
            Manner::Sequential { timeout, random } => {
                if random {
                    rng.shuffle(&mut order);
                }
                now + timeout * u32::try_from(order.len()).unwrap_or(u32::MAX)
            }
            Manner::Ranked { strategy, deadline } => {
                match strategy {
                    Strategy::Hedged => order.sort_by_key(|&n| rank(&conditions[n])),
                    Strategy::Random => rng.shuffle(&mut order),
                    Strategy::Strict | Strategy::Parallel => {}
                }
                order.sort_by_key(|&n| conditions[n].is_suspect());
                now + deadline
            }
        };
        let none_is_well = conditions.iter().all(Condition::is_suspect);
        let all_are_dead = conditions.iter().all(|condition| condition.misses >= DEAD || condition.is_set_aside);
        let first = order.first().copied();
        let turn = |upstream: usize| {
            let condition = &conditions[upstream];
            let (wait, times) = match manner {
                Manner::Sequential { timeout, .. } => (timeout, &AGAIN[..1]),
                Manner::Ranked { .. } if all_are_dead && first != Some(upstream) => (patience(condition), &AGAIN_DEAD[..1]),
                Manner::Ranked { .. } if all_are_dead => (patience(condition), &AGAIN_DEAD[..]),
                Manner::Ranked { .. } if condition.is_lossy() => (patience(condition), &AGAIN_LOSSY[..]),
                Manner::Ranked { .. } if none_is_well => (patience(condition), &AGAIN_DEAD[..]),
                Manner::Ranked { .. } => (patience(condition), &AGAIN[..]),
            };
            Turn { upstream, wait, times, asked: 0 }
        };
        let order: Vec<Turn> = order.iter().map(|&n| turn(n)).collect();
        let mut lookup = Self {
            manner,
            transport,
            edns: false,
            order,
            attempts: Vec::new(),
            outbox: Vec::new(),
            probe: None,
            begun: now,
            took: None,
            next_at: now,
            deadline,
            fallback: None,
            done: None,
        };
        lookup.ask_next(now);
        if let Manner::Ranked { strategy: Strategy::Parallel, .. } = manner {
            // All at once, as far as one question may be sent so often.
            for _ in 1..lookup.order.len() {
                lookup.ask_next(now);
            }
        } else if let Manner::Ranked { .. } = manner
            && let Some(first) = lookup.order.first()
        {
            lookup.probe = to_probe(first.upstream, conditions, now);
            pass_over(first.upstream, conditions, now);
        }
        lookup
    }

    /// Goes on with a look-up whose first attempt was made already, by UDP and to `upstream`: attempt 0.
    pub fn begun(
        upstream: usize,
        sent: Instant,
        manner: Manner,
        conditions: &mut [Condition],
        rng: &mut fastrand::Rng,
    ) -> Self {
        let mut lookup = Self::new(manner, Room::Datagram, conditions, sent, rng);
        if let Some(at) = lookup.order.iter().position(|turn| turn.upstream == upstream) {
            let first = lookup.order.remove(at);
            lookup.next_at = sent + first.wait;
            lookup.order.iter_mut().for_each(|turn| turn.asked = 0);
            lookup.order.insert(0, Turn { asked: 1, ..first });
            lookup.outbox.clear();
            lookup.attempts.push(Attempt::new(upstream, Transport::Udp, sent));
        }
        lookup
    }

    /// The query has an OPT record, which an upstream may not understand.
    pub fn with_edns(mut self, edns: bool) -> Self {
        self.edns = edns;
        self
    }

    /// Says what to do now.
    pub fn step(&mut self, now: Instant) -> Step {
        loop {
            if let Some(answer) = self.done.take() {
                self.done = Some(None);
                return Step::Done(answer);
            }
            if let Some(attempt) = self.outbox.pop() {
                self.attempts.push(attempt);
                let Attempt { upstream, transport, edns, .. } = attempt;
                return Step::Send { attempt: self.attempts.len() - 1, upstream, transport, edns };
            }
            if let Some(upstream) = self.probe.take() {
                return Step::Probe { upstream };
            }
            if now >= self.deadline {
                self.give_up();
            } else if now >= self.next_at {
                if self.manner.is_sequential() {
                    self.attempts.iter_mut().for_each(|attempt| attempt.open = false);
                }
                self.ask_next(now);
            } else {
                return Step::Wait(self.next_at.min(self.deadline));
            }
        }
    }

    /// An attempt was answered: id, question and sender are right, the rest is judged here.
    pub fn heard(&mut self, number: usize, octets: Vec<u8>, now: Instant) {
        let Some(attempt) = self.attempts.get_mut(number).filter(|attempt| attempt.open) else { return };
        let rcode = dns::rcode(&octets);
        let good = rcode.is_some_and(is_success);
        (attempt.open, attempt.answered, attempt.bad) = (false, true, !good);
        let Attempt { upstream, transport, edns, sent, .. } = *attempt;
        let (Some(header), Some(rcode)) = (Header::of(&octets), rcode) else { return self.ask_next(now) };
        let truncated = header.flags().truncated;
        attempt.ended = Some((now, if truncated { Heard::Truncated(rcode) } else { Heard::Whole(rcode) }));
        if self.manner.is_sequential() {
            // Consul takes a truncated answer as it is, and lets no bad one pass.
            return if good { self.done = Some(Some(octets)) } else { self.ask_next(now) };
        }
        if [Rcode::FORMERR, Rcode::BADVERS].contains(&rcode) && self.edns && edns {
            // A server that is older than EDNS, or has another, understands the query without it (RFC 6891, 6.2.2).
            if let Some(attempt) = self.attempts.get_mut(number) {
                (attempt.answered, attempt.bad) = (false, false);
            }
            self.outbox.push(Attempt { edns: false, ..Attempt::new(upstream, transport, now) });
            self.next_at = now + PATIENCE_MAX;
            return;
        }
        if good && !truncated {
            self.took = Some(now.duration_since(sent));
            self.done = Some(Some(octets));
            return;
        }
        let badness = match rcode {
            _ if good => 0,
            Rcode::SERVFAIL => 1,
            Rcode::REFUSED => 2,
            _ => 3,
        };
        if self.fallback.as_ref().is_none_or(|(other, _)| badness < *other) {
            self.fallback = Some((badness, octets));
        }
        if good && transport == Transport::Udp {
            // What did not fit a datagram fits a stream (RFC 7766, 5).
            self.send(upstream, Transport::Tcp, now);
            self.next_at = now + PATIENCE_MAX;
        } else {
            self.ask_next(now);
        }
    }

    /// An attempt came to nothing: refused, unreachable, closed.
    pub fn failed(&mut self, attempt: usize, now: Instant) {
        if let Some(attempt) = self.attempts.get_mut(attempt).filter(|attempt| attempt.open) {
            (attempt.open, attempt.ended) = (false, Some((now, Heard::Failed)));
            self.ask_next(now);
        }
    }

    /// So many wrong replies came where this attempt's is awaited that somebody guesses. A stream is not to be guessed
    /// (RFC 5452, 9.3).
    pub fn guessed_at(&mut self, number: usize, now: Instant) {
        let Some(attempt) = self.attempts.get_mut(number).filter(|attempt| attempt.open) else { return };
        (attempt.open, attempt.ended) = (false, Some((now, Heard::Forged)));
        let Attempt { upstream, transport, .. } = *attempt;
        if transport == Transport::Tcp || self.manner.is_sequential() {
            return self.ask_next(now);
        }
        self.send(upstream, Transport::Tcp, now);
        self.next_at = now + PATIENCE_MAX;
    }

    /// Upstreams that were of no use when the look-up ended, each once: whose answer was still awaited although they had
    /// had their usual time, and no less than the one needed that answered; or, where another had a good answer, who had
    /// none. An error that all of them give is the name's, and so is a time that all of them need.
    pub fn useless(&self, now: Instant, ended_well: bool) -> impl Iterator<Item = usize> + '_ {
        let useless = move |&&Turn { upstream, wait, .. }: &&Turn| {
            let mut own = self.attempts.iter().filter(|attempt| attempt.upstream == upstream);
            if own.clone().any(|attempt| attempt.bad) {
                return ended_well;
            }
            let enough = wait.max(self.took.unwrap_or_default());
            own.any(|attempt| attempt.open && now.duration_since(attempt.sent) >= enough)
        };
        self.order.iter().filter(useless).map(|turn| turn.upstream)
    }

    /// Attempts by datagram whose replies are still awaited, and at whom.
    pub fn open(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let is_open = |(_, attempt): &(usize, &Attempt)| attempt.open && attempt.transport == Transport::Udp;
        self.attempts.iter().enumerate().filter(is_open).map(|(number, attempt)| (number, attempt.upstream))
    }

    /// All attempts, in the order in which they were made.
    pub fn tries(&self, now: Instant) -> impl Iterator<Item = Tried> + '_ {
        self.attempts.iter().map(move |&Attempt { upstream, transport, sent, ended, .. }| {
            let (at, heard) = ended.unwrap_or((now, Heard::Nothing));
            let after = sent.saturating_duration_since(self.begun);
            Tried { upstream, transport, after, took: at.saturating_duration_since(sent), heard }
        })
    }

    fn send(&mut self, upstream: usize, transport: Transport, now: Instant) {
        self.outbox.push(Attempt::new(upstream, transport, now));
    }

    /// Asks the next upstream in order, or ends the look-up when there is nobody left to hope for.
    fn ask_next(&mut self, now: Instant) {
        let open = self.attempts.iter().chain(&self.outbox).any(|attempt| attempt.open);
        // Who answered has said it.
        let answered = |upstream| self.attempts.iter().any(|attempt| attempt.upstream == upstream && attempt.answered);
        let left = self.order.iter_mut().filter(|turn| !answered(turn.upstream));
        let next = left.filter_map(|turn| Some((*turn.times.get(turn.asked)?, turn))).min_by_key(|(after, _)| *after);
        // However many upstreams there are, one question is sent so often at most (RFC 4697, 2.1).
        let sent = self.attempts.len() + self.outbox.len();
        let Some((after, turn)) = next.filter(|_| sent < limits::LOOKUP_ATTEMPTS_MAX) else {
            return if open { self.next_at = self.deadline } else { self.give_up() };
        };
        if open && now < self.begun + after {
            self.next_at = self.begun + after;
            return;
        }
        turn.asked += 1;
        let is_last = turn.asked > 1 && turn.asked == turn.times.len();
        let transport = if is_last { Transport::Tcp } else { self.transport };
        self.next_at = now + turn.wait;
        self.outbox.push(Attempt::new(turn.upstream, transport, now));
    }

    fn give_up(&mut self) {
        self.done = Some(self.fallback.take().map(|(_, octets)| octets));
    }
}

#[cfg(test)]
mod drill;

#[cfg(test)]
mod tests {
    use super::condition::MISSES_MAX;
    use super::*;

    const HEDGED: Manner = Manner::Ranked { strategy: Strategy::Hedged, deadline: Duration::from_millis(2500) };
    const SEQUENTIAL: Manner = Manner::Sequential { timeout: Duration::from_secs(2), random: false };

    /// A reply of nothing but a header with these flags.
    fn reply(truncated: bool, rcode: Rcode) -> Vec<u8> {
        vec![0, 1, 0x80 | u8::from(truncated) << 1, rcode.0 as u8, 0, 0, 0, 0, 0, 0, 0, 0]
    }

    fn known(latencies: &[u64]) -> Vec<Condition> {
        let known = |ms: &u64| {
            let (latency, usual) = (Some(Duration::from_millis(*ms)), Duration::from_millis(ms * 2));
            Condition { latency, usual, ..Condition::default() }
        };
        latencies.iter().map(known).collect()
    }

    struct World {
        start: Instant,
        lookup: Lookup,
        probed: Vec<usize>,
    }

    impl World {
        fn new(manner: Manner, conditions: &mut [Condition]) -> Self {
            let start = Instant::now();
            let mut rng = fastrand::Rng::with_seed(1);
            Self { start, lookup: Lookup::new(manner, Room::Datagram, conditions, start, &mut rng), probed: Vec::new() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        /// The upstreams asked at this time, and until when to wait.
        fn asks(&mut self, ms: u64) -> (Vec<(usize, Transport)>, u128) {
            let mut asked = Vec::new();
            loop {
                match self.lookup.step(self.at(ms)) {
                    Step::Send { upstream, transport, .. } => asked.push((upstream, transport)),
                    Step::Probe { upstream } => self.probed.push(upstream),
                    Step::Wait(until) => return (asked, until.duration_since(self.start).as_millis()),
                    Step::Done(answer) => panic!("done with {answer:?} after asking {asked:?}"),
                }
            }
        }

        fn done(&mut self, ms: u64) -> Option<Vec<u8>> {
            match self.lookup.step(self.at(ms)) {
                Step::Done(answer) => answer,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn the_fastest_is_asked_and_another_when_it_is_late() {
        let mut world = World::new(HEDGED, &mut known(&[30, 10]));
        assert_eq!(world.asks(0), (vec![(1, Transport::Udp)], 25));
        assert_eq!(world.asks(24), (vec![], 25));
        assert_eq!(world.asks(25), (vec![(0, Transport::Udp)], 100));
        assert_eq!(world.lookup.useless(world.at(26), true).collect::<Vec<_>>(), [1], "the late one");
        let at = world.at(50);
        world.lookup.heard(1, reply(false, Rcode::NOERROR), at);
        assert_eq!(world.done(50), Some(reply(false, Rcode::NOERROR)));
    }

    #[test]
    fn a_bad_answer_is_passed_on_only_when_all_are_bad() {
        let mut world = World::new(HEDGED, &mut known(&[10, 20]));
        world.asks(0);
        let at = world.at(5);
        world.lookup.heard(0, reply(false, Rcode::REFUSED), at);
        assert_eq!(world.asks(5).0, [(1, Transport::Udp)], "the next is asked at once");
        world.lookup.heard(1, reply(false, Rcode::SERVFAIL), at);
        assert_eq!(world.done(5), Some(reply(false, Rcode::SERVFAIL)), "the least bad of them");
    }

    #[test]
    fn who_does_not_know_edns_is_asked_without_it() {
        let mut conditions = known(&[10, 20]);
        let mut world = World::new(HEDGED, &mut conditions);
        world.lookup = world.lookup.with_edns(true);
        assert_eq!(world.asks(0).0, [(0, Transport::Udp)]);
        let at = world.at(5);
        world.lookup.heard(0, reply(false, Rcode::FORMERR), at);
        let step = world.lookup.step(at);
        assert_eq!(step, Step::Send { attempt: 1, upstream: 0, transport: Transport::Udp, edns: false });
        assert_eq!(world.lookup.useless(at, true).count(), 0, "it has done nothing wrong");
        world.lookup.heard(1, reply(false, Rcode::FORMERR), at);
        assert_eq!(world.asks(5).0, [(1, Transport::Udp)], "and if that does not help, another is");
        world.lookup.heard(2, reply(false, Rcode::NOERROR), at);
        assert_eq!(world.done(5), Some(reply(false, Rcode::NOERROR)));
    }

    #[test]
    fn all_at_once_are_so_many_as_one_question_may_ask() {
        let parallel = Manner::Ranked { strategy: Strategy::Parallel, deadline: Duration::from_millis(2500) };
        for (upstreams, asked) in
            [(1, 1), (3, 3), (12, 12), (13, limits::LOOKUP_ATTEMPTS_MAX), (100, limits::LOOKUP_ATTEMPTS_MAX)]
        {
            let mut world = World::new(parallel, &mut known(&vec![10; upstreams]));
            assert_eq!(world.asks(0).0.len(), asked, "of {upstreams}");
            let at = world.at(5);
            world.lookup.heard(asked - 1, reply(false, Rcode::NOERROR), at);
            assert_eq!(world.done(5), Some(reply(false, Rcode::NOERROR)));
        }
    }

    #[test]
    fn what_is_truncated_is_asked_again_by_tcp() {
        let mut world = World::new(HEDGED, &mut known(&[10, 20]));
        world.asks(0);
        let at = world.at(5);
        world.lookup.heard(0, reply(true, Rcode::NOERROR), at);
        assert_eq!(world.asks(5).0, [(0, Transport::Tcp)]);
        world.lookup.heard(1, reply(false, Rcode::NOERROR), at);
        assert_eq!(world.done(5), Some(reply(false, Rcode::NOERROR)));
    }

    #[test]
    fn silence_ends_at_the_deadline_and_the_last_tries_are_tcp() {
        let mut world = World::new(HEDGED, &mut known(&[10, 10]));
        let (mut now, mut asked) = (0, Vec::new());
        loop {
            match world.lookup.step(world.at(now)) {
                Step::Send { upstream, transport, .. } => asked.push((upstream, transport)),
                Step::Probe { upstream } => panic!("{upstream} is not suspected"),
                Step::Wait(until) => now = until.duration_since(world.start).as_millis() as u64,
                Step::Done(answer) => break assert_eq!(answer, None),
            }
        }
        assert_eq!(now, 2500);
        assert_eq!(asked.len(), 2 * AGAIN.len());
        assert_eq!(asked[6..], [(0, Transport::Tcp), (1, Transport::Tcp)]);
    }

    #[test]
    fn silence_is_asked_again_after_a_while_only() {
        let mut world = World::new(HEDGED, &mut known(&[1]));
        assert_eq!(world.asks(0), (vec![(0, Transport::Udp)], 20));
        assert_eq!(world.asks(20), (vec![], 400));
        assert_eq!(world.asks(400).0, [(0, Transport::Udp)]);
        assert_eq!(world.asks(549), (vec![], 550));
        assert_eq!(world.asks(550).0, [(0, Transport::Udp)]);
        assert_eq!(world.asks(999), (vec![], 1000));
        assert_eq!(world.asks(1000).0, [(0, Transport::Tcp)]);
    }

    #[test]
    fn rfc6891_6_1_3_an_error_in_the_opt_record_is_an_error() {
        let with_opt = |low: u8, high: u8| {
            let mut octets = reply(false, Rcode(u16::from(low)));
            octets[11] = 1;
            octets.extend([0, 0, 41, 4, 208, high, 0, 0, 0, 0, 0]);
            octets
        };
        assert!(is_good(&with_opt(0, 0)) && is_good(&with_opt(3, 0)));
        // BADVERS is 16, BADCOOKIE 23: their low bits look like success, and like an error of another kind.
        assert!(!is_good(&with_opt(0, 1)) && !is_good(&with_opt(7, 1)) && !is_good(&with_opt(3, 1)));
        // An upstream of another EDNS is asked without it, as one that has none.
        let mut world = World::new(HEDGED, &mut known(&[10, 20]));
        world.lookup = world.lookup.with_edns(true);
        assert_eq!(world.asks(0).0, [(0, Transport::Udp)]);
        let at = world.at(5);
        world.lookup.heard(0, with_opt(0, 1), at);
        let step = world.lookup.step(at);
        assert_eq!(step, Step::Send { attempt: 1, upstream: 0, transport: Transport::Udp, edns: false });
    }

    #[test]
    fn a_packet_may_be_lost_although_another_refuses() {
        let mut world = World::new(HEDGED, &mut known(&[1, 2]));
        world.asks(0);
        assert_eq!(world.asks(20).0, [(1, Transport::Udp)]);
        let at = world.at(21);
        world.lookup.heard(1, reply(false, Rcode::REFUSED), at);
        assert_eq!(world.asks(21), (vec![], 400));
        assert_eq!(world.asks(400).0, [(0, Transport::Udp)], "and not the one that refused");
        let at = world.at(401);
        world.lookup.heard(2, reply(false, Rcode::NOERROR), at);
        assert_eq!(world.done(401), Some(reply(false, Rcode::NOERROR)));
    }

    #[test]
    fn who_was_late_is_told_from_a_name_that_takes_long() {
        let useless = |answers: usize, ms: u64| {
            let mut world = World::new(HEDGED, &mut known(&[1, 1]));
            world.asks(0);
            world.asks(20);
            if ms > 400 {
                world.asks(400);
            }
            let at = world.at(ms);
            world.lookup.heard(answers, reply(false, Rcode::NOERROR), at);
            world.done(ms);
            world.lookup.useless(at, true).collect::<Vec<_>>()
        };
        assert_eq!(useless(1, 22), [0], "the second was quick, the first is late");
        assert_eq!(useless(1, 300), [0], "it had more time than the second needed");
        assert_eq!(useless(0, 300), [0; 0], "the second had less time than the first needed");
        assert_eq!(useless(0, 410), [0; 0], "nor is the first useless that was asked again meanwhile");
    }

    #[test]
    fn a_dead_upstream_is_asked_last_and_probed_until_it_is_back() {
        let mut conditions = known(&[1, 20]);
        for _ in 0..MISSES_MAX {
            conditions[0].missed();
        }
        let mut world = World::new(HEDGED, &mut conditions);
        assert_eq!((world.asks(0).0, &world.probed[..]), (vec![(1, Transport::Udp)], &[0][..]));
        let mut world = World::new(HEDGED, &mut conditions);
        assert_eq!((world.asks(0).0, &world.probed[..]), (vec![(1, Transport::Udp)], &[][..]), "no second one within a second");
        assert!(!answered(&mut conditions, 0, Duration::from_millis(5), 1), "another was well");
        assert_eq!(conditions[0].latency, Some(Duration::from_millis(5)), "measured anew");
        let mut world = World::new(HEDGED, &mut conditions);
        assert_eq!(world.asks(0).0, [(0, Transport::Udp)]);
    }

    #[test]
    fn who_answers_with_errors_is_demoted_unless_all_do() {
        let ended = |first, second| {
            let mut world = World::new(HEDGED, &mut known(&[10, 20]));
            world.asks(0);
            let at = world.at(5);
            world.lookup.heard(0, reply(false, first), at);
            world.asks(5);
            world.lookup.heard(1, reply(false, second), at);
            let answer = world.done(5).unwrap();
            world.lookup.useless(at, is_good(&answer)).collect::<Vec<_>>()
        };
        assert_eq!(ended(Rcode::SERVFAIL, Rcode::NOERROR), [0]);
        assert_eq!(ended(Rcode::REFUSED, Rcode::NXDOMAIN), [0]);
        assert_eq!(ended(Rcode::SERVFAIL, Rcode::SERVFAIL), [0; 0], "it is the name that fails, not the servers");
    }

    #[test]
    fn consuls_way_is_one_after_the_other() {
        let mut world = World::new(SEQUENTIAL, &mut known(&[1, 1, 1]));
        assert_eq!(world.asks(0), (vec![(0, Transport::Udp)], 2000));
        let at = world.at(10);
        world.lookup.heard(0, reply(false, Rcode::SERVFAIL), at);
        assert_eq!(world.asks(10), (vec![(1, Transport::Udp)], 2010));
        assert_eq!(world.asks(2010).0, [(2, Transport::Udp)]);
        let at = world.at(2100);
        world.lookup.heard(1, reply(false, Rcode::NOERROR), at);
        assert_eq!(world.asks(2100).0, [], "too late");
        world.lookup.heard(2, reply(true, Rcode::NXDOMAIN), at);
        assert_eq!(world.done(2100), Some(reply(true, Rcode::NXDOMAIN)), "TC is relayed");
    }

    #[test]
    fn rfc4697_2_1_one_question_is_sent_so_often_at_most() {
        let mut world = World::new(HEDGED, &mut known(&[1; 40]));
        let (mut now, mut asked) = (0, 0);
        loop {
            match world.lookup.step(world.at(now)) {
                Step::Send { .. } => asked += 1,
                Step::Probe { upstream } => panic!("{upstream} is not suspected"),
                Step::Wait(until) => now = until.duration_since(world.start).as_millis() as u64,
                Step::Done(answer) => break assert_eq!(answer, None),
            }
        }
        assert_eq!((asked, now), (limits::LOOKUP_ATTEMPTS_MAX, 2500));
    }

    #[test]
    fn rfc9520_3_1_no_server_is_asked_more_than_three_times_by_datagram() {
        let asked = |misses, loss: f32| {
            let mut conditions = known(&[1, 1]);
            conditions.iter_mut().for_each(|condition| (condition.loss, condition.misses) = (loss, misses));
            let mut world = World::new(HEDGED, &mut conditions);
            let (mut now, mut asked) = (0, Vec::new());
            loop {
                match world.lookup.step(world.at(now)) {
                    Step::Send { upstream, transport, .. } => asked.push((upstream, transport)),
                    Step::Probe { .. } => {}
                    Step::Wait(until) => now = until.duration_since(world.start).as_millis() as u64,
                    Step::Done(answer) => break assert_eq!(answer, None),
                }
            }
            let by = |transport| [0, 1].map(|upstream| asked.iter().filter(|one| **one == (upstream, transport)).count());
            (by(Transport::Udp), by(Transport::Tcp))
        };
        for loss in [0.0, 0.5] {
            assert_eq!(asked(0, loss), ([3, 3], [1, 1]), "loss {loss}");
            assert_eq!(asked(DEAD, loss), ([1, 1], [1, 0]), "of those that have been silent for long, once and once more");
        }
    }

    #[test]
    fn rfc5452_9_3_who_is_guessed_at_asks_by_a_stream() {
        let mut world = World::new(HEDGED, &mut known(&[10, 20]));
        world.asks(0);
        let at = world.at(5);
        world.lookup.guessed_at(0, at);
        assert_eq!(world.asks(5).0, [(0, Transport::Tcp)]);
        assert_eq!(world.lookup.useless(world.at(6), true).count(), 0, "it has done nothing wrong");
        world.lookup.heard(1, reply(false, Rcode::NOERROR), at);
        assert_eq!(world.done(5), Some(reply(false, Rcode::NOERROR)));
    }

    #[test]
    fn nobody_to_ask_is_no_answer() {
        assert_eq!(World::new(HEDGED, &mut []).done(0), None);
        let mut world = World::new(SEQUENTIAL, &mut known(&[1]));
        world.asks(0);
        let at = world.at(1);
        world.lookup.failed(0, at);
        assert_eq!(world.done(1), None);
    }
}
