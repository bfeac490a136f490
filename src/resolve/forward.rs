//! One look-up among several upstreams: whom to ask, until when to wait, and which answer to take.
//!
//! Pure: told what happened and what time it is, it says what to do next. The driver in `upstream` does the sending.
//!
//! By default the best upstream by measured latency is asked, and the next one as soon as the first is later than it
//! usually is ([`patience`]), so that a dead upstream costs milliseconds. As [`Strategy::Sequential`] it is Consul's: one
//! at a time, each for its whole timeout.
//!
//! Start with [`Lookup::step`].

use std::time::{Duration, Instant};

use crate::dns::Rcode;
use crate::resolve::answer::Transport;

/// How long an upstream is waited for whose latency is not known yet.
const PATIENCE_UNKNOWN: Duration = Duration::from_millis(60);
/// Bounds of the time after which another upstream is asked too.
const PATIENCE_MIN: Duration = Duration::from_millis(20);
const PATIENCE_MAX: Duration = Duration::from_millis(400);
/// An upstream that left this many queries in a row unanswered is asked last.
const LOST_MAX: u32 = 2;
/// How often one that is asked last gets a query of its own, to find out whether it is back.
const PROBE: Duration = Duration::from_secs(1);
/// When those who are silent are asked again at the earliest, counted from the beginning: later rounds are for packets
/// that were lost, and press nobody who only takes long over a name.
const ROUNDS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(400), Duration::from_secs(1)];

/// How upstreams are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// The fastest first, another when it is late.
    Hedged {
        /// How long a look-up may take.
        deadline: Duration,
    },
    /// In order, or in a new random order for each query; each for `timeout`.
    Sequential { timeout: Duration, random: bool },
}

/// What is known of an upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// Smoothed round-trip time (RFC 6298, 2).
    pub latency: Option<Duration>,
    /// Queries in a row that it did not answer well.
    pub lost: u32,
    /// When it was last asked although it is asked last.
    probed: Option<Instant>,
}

impl Condition {
    /// It answered, in this time.
    pub fn answered(&mut self, took: Duration) {
        // What was measured before it was lost says nothing of how it came back.
        let former = self.latency.filter(|_| !self.is_suspect());
        self.lost = 0;
        self.latency = Some(former.map_or(took, |latency| (latency * 7 + took) / 8));
    }

    /// It did not answer, not in time to be of use, or with an error where another had an answer.
    pub fn missed(&mut self) {
        self.lost = self.lost.saturating_add(1);
    }

    /// Is it asked last?
    pub fn is_suspect(&self) -> bool {
        self.lost >= LOST_MAX
    }

    /// Is it time to probe it, if it is suspect?
    fn is_due(&self, now: Instant) -> bool {
        self.probed.is_none_or(|at| now.duration_since(at) >= PROBE)
    }
}

/// How long this upstream is waited for before another is asked too.
fn patience(condition: &Condition) -> Duration {
    condition.latency.map_or(PATIENCE_UNKNOWN, |latency| (latency * 3).clamp(PATIENCE_MIN, PATIENCE_MAX))
}

/// Whom a look-up asks first and how long it waits for him, when there is no doubt about either: the fastest upstream has
/// answered lately, and there is none that is due to be probed.
pub fn favourite(conditions: &[Condition], now: Instant) -> Option<(usize, Duration)> {
    if conditions.iter().any(|condition| condition.is_suspect() && condition.is_due(now)) {
        return None;
    }
    let (best, condition) = conditions.iter().enumerate().min_by_key(|(_, condition)| rank(condition))?;
    (!condition.is_suspect() && condition.latency.is_some()).then(|| (best, patience(condition)))
}

/// A suspect other than `first` that it is time to probe, which is taken as done.
pub fn to_probe(conditions: &mut [Condition], first: Option<usize>, now: Instant) -> Option<usize> {
    let is_due =
        |(n, condition): &(usize, &mut Condition)| Some(*n) != first && condition.is_suspect() && condition.is_due(now);
    let (upstream, condition) = conditions.iter_mut().enumerate().find(is_due)?;
    condition.probed = Some(now);
    Some(upstream)
}

/// Who is asked first: suspects last, else by latency; one whose latency is not known yet has to show it.
fn rank(condition: &Condition) -> (bool, Duration) {
    (condition.is_suspect(), condition.latency.unwrap_or(Duration::ZERO))
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
    strategy: Strategy,
    transport: Transport,
    /// The query has an OPT record.
    edns: bool,
    /// Upstreams in the order in which they are asked, and how long each is waited for.
    order: Vec<(usize, Duration)>,
    attempts: Vec<Attempt>,
    /// Attempts that are to be sent now.
    outbox: Vec<Attempt>,
    probe: Option<usize>,
    /// Upstreams of `order` asked so far, all rounds counted.
    asked: usize,
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
struct Attempt {
    upstream: usize,
    transport: Transport,
    edns: bool,
    sent: Instant,
    open: bool,
    answered: bool,
    /// It was answered, with an error.
    bad: bool,
}

impl Attempt {
    fn new(upstream: usize, transport: Transport, sent: Instant) -> Self {
        Self { upstream, transport, edns: true, sent, open: true, answered: false, bad: false }
    }
}

/// Is this an answer, and not an error that another upstream may not have?
pub fn is_good(octets: &[u8]) -> bool {
    octets.get(3).is_some_and(|low| [Rcode::NOERROR, Rcode::NXDOMAIN].contains(&Rcode(u16::from(low & 15))))
}

impl Lookup {
    /// Begins a look-up over the transport that the client used. `conditions` are the upstreams of the group.
    pub fn new(
        strategy: Strategy,
        transport: Transport,
        conditions: &mut [Condition],
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Self {
        let mut order: Vec<usize> = (0..conditions.len()).collect();
        let deadline = match strategy {
            Strategy::Sequential { timeout, random } => {
                if random {
                    rng.shuffle(&mut order);
                }
                now + timeout * u32::try_from(order.len()).unwrap_or(u32::MAX)
            }
            Strategy::Hedged { deadline } => {
                order.sort_by_key(|&n| rank(&conditions[n]));
                now + deadline
            }
        };
        let waits = |n: usize| match strategy {
            Strategy::Sequential { timeout, .. } => timeout,
            Strategy::Hedged { .. } => patience(&conditions[n]),
        };
        let order = order.iter().map(|&n| (n, waits(n))).collect();
        let mut lookup = Self {
            strategy,
            transport,
            edns: false,
            order,
            attempts: Vec::new(),
            outbox: Vec::new(),
            probe: None,
            asked: 0,
            begun: now,
            took: None,
            next_at: now,
            deadline,
            fallback: None,
            done: None,
        };
        lookup.ask_next(now);
        if let Strategy::Hedged { .. } = strategy {
            lookup.probe = lookup.to_probe(conditions, now);
        }
        lookup
    }

    /// Goes on with a look-up whose first attempt was made already, by UDP and to `upstream`: attempt 0.
    pub fn begun(upstream: usize, sent: Instant, deadline: Duration, conditions: &mut [Condition]) -> Self {
        let mut rng = fastrand::Rng::with_seed(0);
        let mut lookup = Self::new(Strategy::Hedged { deadline }, Transport::Udp, conditions, sent, &mut rng);
        if let Some(place) = lookup.order.iter().position(|(n, _)| *n == upstream) {
            let first = lookup.order.remove(place);
            lookup.next_at = sent + first.1;
            lookup.order.insert(0, first);
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
                if matches!(self.strategy, Strategy::Sequential { .. }) {
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
        let good = is_good(&octets);
        (attempt.open, attempt.answered, attempt.bad) = (false, true, !good);
        let Attempt { upstream, transport, edns, sent, .. } = *attempt;
        let [_, _, high, low, ..] = octets[..] else { return self.ask_next(now) };
        let (truncated, rcode) = (high & 2 != 0, Rcode(u16::from(low & 15)));
        if matches!(self.strategy, Strategy::Sequential { .. }) {
            // Consul takes a truncated answer as it is, and lets no bad one pass.
            return if good { self.done = Some(Some(octets)) } else { self.ask_next(now) };
        }
        if rcode == Rcode::FORMERR && self.edns && edns {
            // A server that is older than EDNS understands the query without it (RFC 6891, 6.2.2).
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
        if let Some(Attempt { open: open @ true, .. }) = self.attempts.get_mut(attempt) {
            *open = false;
            self.ask_next(now);
        }
    }

    /// Upstreams that were of no use when the look-up ended, each once: whose answer was still awaited although they had
    /// had their usual time, and no less than the one needed that answered; or, where another had a good answer, who had
    /// none. An error that all of them give is the name's, and so is a time that all of them need.
    pub fn useless(&self, now: Instant, ended_well: bool) -> impl Iterator<Item = usize> + '_ {
        let useless = move |&&(upstream, wait): &&(usize, Duration)| {
            let mut own = self.attempts.iter().filter(|attempt| attempt.upstream == upstream);
            if own.clone().any(|attempt| attempt.bad) {
                return ended_well;
            }
            let enough = wait.max(self.took.unwrap_or_default());
            own.any(|attempt| attempt.open && now.duration_since(attempt.sent) >= enough)
        };
        self.order.iter().filter(useless).map(|(upstream, _)| *upstream)
    }

    fn send(&mut self, upstream: usize, transport: Transport, now: Instant) {
        self.outbox.push(Attempt::new(upstream, transport, now));
    }

    /// Asks the next upstream in order, or ends the look-up when there is nobody left to hope for.
    fn ask_next(&mut self, now: Instant) {
        let rounds = if matches!(self.strategy, Strategy::Sequential { .. }) { 1 } else { ROUNDS.len() };
        let open = self.attempts.iter().chain(&self.outbox).any(|attempt| attempt.open);
        let places = self.order.len();
        let all = (0..rounds).flat_map(|round| (0..places).map(move |place| (round, place)));
        for (round, place) in all.skip(self.asked) {
            let (Some(&(upstream, wait)), Some(&after)) = (self.order.get(place), ROUNDS.get(round)) else { break };
            let answered = self.attempts.iter().any(|attempt| attempt.upstream == upstream && attempt.answered);
            if !answered && open && now < self.begun + after {
                self.next_at = self.begun + after;
                return;
            }
            self.asked += 1;
            // Who answered has said it.
            if !answered {
                self.send(upstream, self.transport_for(round), now);
                self.next_at = now + wait;
                return;
            }
        }
        if open { self.next_at = self.deadline } else { self.give_up() }
    }

    /// The last round goes by TCP, which sees to lost packets by itself.
    fn transport_for(&self, round: usize) -> Transport {
        if round + 1 == ROUNDS.len() { Transport::Tcp } else { self.transport }
    }

    fn give_up(&mut self) {
        self.done = Some(self.fallback.take().map(|(_, octets)| octets));
    }

    /// A suspect upstream that is to get this query too, so that it is seen to be back.
    fn to_probe(&self, conditions: &mut [Condition], now: Instant) -> Option<usize> {
        to_probe(conditions, self.order.first().map(|(n, _)| *n), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEDGED: Strategy = Strategy::Hedged { deadline: Duration::from_millis(2500) };
    const SEQUENTIAL: Strategy = Strategy::Sequential { timeout: Duration::from_secs(2), random: false };

    /// A reply of nothing but a header with these flags.
    fn reply(truncated: bool, rcode: Rcode) -> Vec<u8> {
        vec![0, 1, 0x80 | u8::from(truncated) << 1, rcode.0 as u8, 0, 0, 0, 0, 0, 0, 0, 0]
    }

    fn known(latencies: &[u64]) -> Vec<Condition> {
        latencies.iter().map(|ms| Condition { latency: Some(Duration::from_millis(*ms)), ..Condition::default() }).collect()
    }

    struct World {
        start: Instant,
        lookup: Lookup,
        probed: Vec<usize>,
    }

    impl World {
        fn new(strategy: Strategy, conditions: &mut [Condition]) -> Self {
            let start = Instant::now();
            let mut rng = fastrand::Rng::with_seed(1);
            Self { start, lookup: Lookup::new(strategy, Transport::Udp, conditions, start, &mut rng), probed: Vec::new() }
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
        assert_eq!(world.asks(0), (vec![(1, Transport::Udp)], 30));
        assert_eq!(world.asks(29), (vec![], 30));
        assert_eq!(world.asks(30), (vec![(0, Transport::Udp)], 120));
        assert_eq!(world.lookup.useless(world.at(31), true).collect::<Vec<_>>(), [1], "the late one");
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
        assert_eq!(asked.len(), 2 * ROUNDS.len());
        assert_eq!(asked[4..], [(0, Transport::Tcp), (1, Transport::Tcp)]);
    }

    #[test]
    fn silence_is_asked_again_after_a_while_only() {
        let mut world = World::new(HEDGED, &mut known(&[1]));
        assert_eq!(world.asks(0), (vec![(0, Transport::Udp)], 20));
        assert_eq!(world.asks(20), (vec![], 400));
        assert_eq!(world.asks(400).0, [(0, Transport::Udp)]);
        assert_eq!(world.asks(999), (vec![], 1000));
        assert_eq!(world.asks(1000).0, [(0, Transport::Tcp)]);
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
        for _ in 0..LOST_MAX {
            conditions[0].missed();
        }
        let mut world = World::new(HEDGED, &mut conditions);
        assert_eq!((world.asks(0).0, &world.probed[..]), (vec![(1, Transport::Udp)], &[0][..]));
        let mut world = World::new(HEDGED, &mut conditions);
        assert_eq!((world.asks(0).0, &world.probed[..]), (vec![(1, Transport::Udp)], &[][..]), "no second one within a second");
        conditions[0].answered(Duration::from_millis(5));
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
    fn nobody_to_ask_is_no_answer() {
        assert_eq!(World::new(HEDGED, &mut []).done(0), None);
        let mut world = World::new(SEQUENTIAL, &mut known(&[1]));
        world.asks(0);
        let at = world.at(1);
        world.lookup.failed(0, at);
        assert_eq!(world.done(1), None);
    }
}
