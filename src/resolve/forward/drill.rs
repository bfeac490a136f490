//! Faults of upstreams in invented time: what `scripts/faults upstream` measures of the program, reckoned for the decisions
//! alone. The driver here does what that of `upstream` does, with a queue of events in place of sockets and clocks.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

use super::*;

/// How an upstream treats one query, asked so many milliseconds after the beginning: the reply after so many milliseconds
/// with this code, or none. The question's number makes what is slow for one slow for all.
type Behaviour = Box<dyn Fn(&mut fastrand::Rng, Asked) -> Option<(u64, Rcode)>>;

#[derive(Clone, Copy)]
struct Asked {
    question: usize,
    at_ms: u64,
    transport: Transport,
}

enum Event {
    Ask,
    Wake(usize),
    Reply {
        question: usize,
        attempt: usize,
        upstream: usize,
        sent: Instant,
        octets: Vec<u8>,
    },
    /// Nobody listens for this question's late replies any more.
    Forget(usize),
    Probed {
        upstream: usize,
        sent: Instant,
        good: bool,
    },
}

struct Running {
    lookup: Lookup,
    begun: Instant,
    /// Whose replies are listened for although it has ended.
    open: Option<Vec<(usize, usize)>>,
}

/// How a question fared: when it was asked, what it took, and whether it was answered well.
#[derive(Debug, Clone, Copy)]
struct Fared {
    at_ms: u64,
    took_ms: u64,
    good: bool,
}

struct Drill {
    start: Instant,
    strategy: Strategy,
    upstreams: Vec<Behaviour>,
    conditions: Vec<Condition>,
    running: BTreeMap<usize, Running>,
    events: BinaryHeap<Reverse<(Instant, usize)>>,
    what: Vec<Option<Event>>,
    rng: fastrand::Rng,
    fared: Vec<Fared>,
    /// When each upstream was sent a packet.
    packets: Vec<(u64, usize)>,
}

impl Drill {
    /// Asks at this rate for so many seconds.
    fn run(strategy: Strategy, rate: u64, seconds: u64, upstreams: Vec<Behaviour>) -> Self {
        let conditions = vec![Condition::default(); upstreams.len()];
        let mut drill = Self {
            start: Instant::now(),
            strategy,
            upstreams,
            conditions,
            running: BTreeMap::new(),
            events: BinaryHeap::new(),
            what: Vec::new(),
            rng: fastrand::Rng::with_seed(7),
            fared: Vec::new(),
            packets: Vec::new(),
        };
        for n in 0..rate * seconds {
            drill.at(drill.start + Duration::from_micros(n * 1_000_000 / rate), Event::Ask);
        }
        while let Some(Reverse((now, number))) = drill.events.pop() {
            let event = drill.what[number].take().unwrap();
            drill.happens(event, number, now);
        }
        drill
    }

    fn at(&mut self, when: Instant, event: Event) {
        self.events.push(Reverse((when, self.what.len())));
        self.what.push(Some(event));
    }

    fn ms(&self, now: Instant) -> u64 {
        now.duration_since(self.start).as_millis() as u64
    }

    fn happens(&mut self, event: Event, number: usize, now: Instant) {
        match event {
            Event::Ask => {
                let manner = Manner::Ranked { strategy: self.strategy, deadline: Duration::from_millis(2500) };
                let lookup = Lookup::new(manner, Room::Datagram, &mut self.conditions, now, &mut self.rng);
                self.running.insert(number, Running { lookup, begun: now, open: None });
                self.go_on(number, now);
            }
            Event::Wake(question) => self.go_on(question, now),
            Event::Reply { question, attempt, upstream, sent, octets } => {
                let Some(running) = self.running.get_mut(&question) else { return };
                if is_good(&octets) {
                    answered(&mut self.conditions, upstream, now - sent, 1);
                }
                match &mut running.open {
                    Some(open) => open.retain(|(number, _)| *number != attempt),
                    None => {
                        running.lookup.heard(attempt, octets, now);
                        self.go_on(question, now);
                    }
                }
            }
            Event::Forget(question) => {
                for (_, upstream) in self.running.remove(&question).and_then(|running| running.open).unwrap_or_default() {
                    self.conditions[upstream].lost();
                }
            }
            Event::Probed { upstream, sent, good: true } => {
                answered(&mut self.conditions, upstream, now - sent, 1);
            }
            Event::Probed { upstream, .. } => {
                self.conditions[upstream].missed();
                self.conditions[upstream].lost();
            }
        }
    }

    fn sent(&mut self, upstream: usize, question: usize, transport: Transport, now: Instant) -> Option<(u64, Rcode)> {
        let at_ms = self.ms(now);
        self.packets.push((at_ms, upstream));
        self.upstreams[upstream](&mut self.rng, Asked { question, at_ms, transport })
    }

    fn go_on(&mut self, question: usize, now: Instant) {
        loop {
            let Some(Running { lookup, open: None, begun }) = self.running.get_mut(&question) else { return };
            let begun = *begun;
            match lookup.step(now) {
                Step::Send { attempt, upstream, transport, .. } => {
                    if let Some((ms, rcode)) = self.sent(upstream, question, transport, now) {
                        let octets = vec![0, 1, 0x80, rcode.0 as u8, 0, 0, 0, 0, 0, 0, 0, 0];
                        let reply = Event::Reply { question, attempt, upstream, sent: now, octets };
                        self.at(now + Duration::from_millis(ms), reply);
                    }
                }
                Step::Probe { upstream } => {
                    let (ms, good) = match self.sent(upstream, question, Transport::Udp, now) {
                        Some((ms, rcode)) => (ms, rcode == Rcode::NOERROR),
                        None => (LATE.as_millis() as u64, false),
                    };
                    self.at(now + Duration::from_millis(ms), Event::Probed { upstream, sent: now, good });
                }
                Step::Wait(until) => return self.at(until, Event::Wake(question)),
                Step::Done(answer) => {
                    let good = answer.as_deref().is_some_and(is_good);
                    for upstream in lookup.useless(now, good) {
                        self.conditions[upstream].missed();
                    }
                    let open = lookup.open().collect();
                    if let Some(running) = self.running.get_mut(&question) {
                        running.open = Some(if good { open } else { Vec::new() });
                    }
                    let (at_ms, took_ms) = (self.ms(begun), (now - begun).as_millis() as u64);
                    self.fared.push(Fared { at_ms, took_ms, good });
                    return self.at(now + LATE, Event::Forget(question));
                }
            }
        }
    }

    /// The slowest but one of a hundred of those that were asked within this time.
    fn p99(&self, from_ms: u64, to_ms: u64) -> u64 {
        let own = self.fared.iter().filter(|fared| (from_ms..to_ms).contains(&fared.at_ms));
        let mut times: Vec<u64> = own.map(|fared| fared.took_ms).collect();
        times.sort_unstable();
        times[times.len() * 99 / 100]
    }

    fn failed(&self) -> Vec<Fared> {
        self.fared.iter().filter(|fared| !fared.good).copied().collect()
    }

    /// Packets for each query, within this time.
    fn cost(&self, from_ms: u64, to_ms: u64) -> f64 {
        let within = |ms: &u64| (from_ms..to_ms).contains(ms);
        let sent = self.packets.iter().filter(|(ms, _)| within(ms)).count();
        sent as f64 / self.fared.iter().filter(|fared| within(&fared.at_ms)).count() as f64
    }

    /// The share of packets that go to this upstream, within this time.
    fn share(&self, upstream: usize, from_ms: u64, to_ms: u64) -> f64 {
        let own: Vec<usize> = self.packets.iter().filter(|(ms, _)| (from_ms..to_ms).contains(ms)).map(|(_, n)| *n).collect();
        own.iter().filter(|n| **n == upstream).count() as f64 / own.len() as f64
    }
}

const RATES: [u64; 3] = [20, 200, 2_000];

/// Well, this many milliseconds away.
fn well(ms: u64) -> Behaviour {
    Box::new(move |_, _| Some((ms, Rcode::NOERROR)))
}

fn silent() -> Behaviour {
    Box::new(|_, _| None)
}

/// Loses three datagrams in ten, there or on the way back; streams lose nothing but time.
fn lossy(ms: u64) -> Behaviour {
    Box::new(move |rng, asked| match (asked.transport, rng.f32() < 0.3) {
        (Transport::Udp, true) => None,
        (_, true) => Some((ms + 1_000, Rcode::NOERROR)),
        (_, false) => Some((ms, Rcode::NOERROR)),
    })
}

/// As one, and from the third second to the tenth as the other.
fn between(usual: Behaviour, fault: Behaviour) -> Behaviour {
    Box::new(move |rng, asked| if (3_000..10_000).contains(&asked.at_ms) { fault(rng, asked) } else { usual(rng, asked) })
}

#[test]
fn who_is_well_is_asked_once() {
    for rate in RATES {
        let drill = Drill::run(Strategy::Hedged, rate, 20, vec![well(5), well(9)]);
        assert_eq!(drill.failed().len(), 0);
        assert!(drill.cost(0, 20_000) <= 1.05, "{rate} a second: {}", drill.cost(0, 20_000));
        assert!(drill.share(0, 0, 20_000) > 0.95, "the faster one");
    }
}

#[test]
fn who_was_slow_at_first_is_found_to_be_the_fastest() {
    // As of a server that has just started.
    let slow_at_first: Behaviour = Box::new(|_, asked| Some((if asked.at_ms < 500 { 80 } else { 3 }, Rcode::NOERROR)));
    let drill = Drill::run(Strategy::Hedged, 200, 30, vec![slow_at_first, well(9)]);
    assert!(drill.share(0, 0, 5_000) < 0.1 && drill.share(0, 20_000, 30_000) > 0.95, "{}", drill.share(0, 20_000, 30_000));
    assert!(drill.cost(0, 30_000) <= 1.05, "{}", drill.cost(0, 30_000));
}

#[test]
fn uneven_times_do_not_double_the_traffic() {
    // Of a recursive server, one name in ten has to be looked up first, and takes long at both.
    let recursive = |near: u64| -> Behaviour {
        Box::new(move |_, asked| {
            let hash = asked.question.wrapping_mul(0x9e37_79b9) >> 7;
            let more = if hash % 10 == 0 { 30 + (hash / 10 % 300) as u64 } else { 0 };
            Some((near + more, Rcode::NOERROR))
        })
    };
    for rate in RATES {
        let seconds = if rate > 200 { 20 } else { 100 };
        let drill = Drill::run(Strategy::Hedged, rate, seconds, vec![recursive(2), recursive(4)]);
        assert_eq!(drill.failed().len(), 0);
        let cost = drill.cost(5_000, seconds * 1_000);
        assert!(cost <= 1.05, "{rate} a second: {cost}");
    }
}

#[test]
fn the_fastest_dies_and_comes_back() {
    for rate in RATES {
        let drill = Drill::run(Strategy::Hedged, rate, 20, vec![between(well(5), silent()), well(9)]);
        assert_eq!(drill.failed().len(), 0);
        assert!(drill.p99(3_000, 4_000) <= 60 && drill.p99(3_000, 8_000) <= 60, "{rate} a second: {}", drill.p99(3_000, 4_000));
        let cost = drill.cost(8_000, 10_000);
        assert!(cost <= if rate > 20 { 1.1 } else { 1.2 }, "{rate} a second: {cost}, a probe a second included");
        assert!(drill.share(0, 12_000, 20_000) > 0.9, "{rate} a second: it is asked again");
    }
}

#[test]
fn errors_of_one_are_not_passed_on_and_it_comes_back() {
    for (rate, rcode) in RATES.into_iter().flat_map(|rate| [(rate, Rcode::SERVFAIL), (rate, Rcode::REFUSED)]) {
        let failing = between(well(5), Box::new(move |_, _| Some((1, rcode))));
        let drill = Drill::run(Strategy::Hedged, rate, 20, vec![failing, well(9)]);
        assert_eq!(drill.failed().len(), 0);
        assert!(drill.p99(3_000, 10_000) <= 20, "{rate} a second: {}", drill.p99(3_000, 10_000));
        assert!(drill.share(0, 5_000, 10_000) < 0.1, "{rate} a second");
        assert!(drill.share(0, 12_000, 20_000) > 0.9, "{rate} a second");
    }
}

#[test]
fn what_is_lost_is_asked_again() {
    for rate in RATES {
        let drill = Drill::run(Strategy::Hedged, rate, 30, vec![between(well(5), lossy(5)), between(well(9), lossy(9))]);
        assert_eq!(drill.failed().len(), 0);
        // From the first second on, when nobody knows yet that they lose anything.
        for to in [4_000, 10_000] {
            assert!(drill.p99(3_000, to) <= 600, "{rate} a second: {}", drill.p99(3_000, to));
        }
        if rate > 20 {
            assert!(drill.p99(5_000, 10_000) <= 250, "{rate} a second: {}", drill.p99(5_000, 10_000));
        }
        assert!(drill.cost(3_000, 10_000) <= 1.6, "{rate} a second: {}", drill.cost(3_000, 10_000));
        assert!(drill.cost(15_000, 30_000) <= 1.05, "{rate} a second: {}", drill.cost(15_000, 30_000));
    }
}

#[test]
fn who_loses_gives_way_to_who_does_not() {
    let drill = Drill::run(Strategy::Hedged, 200, 60, vec![between(well(5), lossy(5)), well(30)]);
    assert_eq!(drill.failed().len(), 0);
    assert!(drill.share(0, 6_000, 10_000) < 0.3, "{}", drill.share(0, 6_000, 10_000));
    assert!(drill.share(0, 50_000, 60_000) > 0.9, "{}", drill.share(0, 50_000, 60_000));
}

#[test]
fn jitter_is_borne() {
    let jitter = || between(well(5), Box::new(|rng, _| Some((rng.u64(0..300), Rcode::NOERROR))));
    for rate in RATES {
        let drill = Drill::run(Strategy::Hedged, rate, 10, vec![jitter(), jitter()]);
        assert_eq!(drill.failed().len(), 0);
        assert!(drill.p99(3_000, 10_000) <= 320, "{rate} a second: {}", drill.p99(3_000, 10_000));
        assert!(drill.cost(3_000, 10_000) <= 2.2, "{rate} a second: {}", drill.cost(3_000, 10_000));
    }
}

#[test]
fn all_silent_and_right_at_once_when_they_are_back() {
    for rate in RATES {
        let drill = Drill::run(Strategy::Hedged, rate, 14, vec![between(well(5), silent()), between(well(9), silent())]);
        let failed = drill.failed();
        assert!(failed.iter().all(|fared| fared.took_ms <= 2_500 && (2_900..10_000).contains(&fared.at_ms)), "{failed:?}");
        // Who asked in the last second is answered by a stream.
        assert!(failed.iter().all(|fared| fared.at_ms < 9_100), "{failed:?}");
        assert!(drill.cost(7_000, 9_000) <= 3.2, "{rate} a second: {}", drill.cost(7_000, 9_000));
        assert!(drill.p99(11_000, 14_000) <= 60, "{rate} a second: {}", drill.p99(11_000, 14_000));
    }
}

#[test]
fn strict_keeps_to_the_order_and_random_to_none() {
    for rate in RATES {
        let drill = Drill::run(Strategy::Strict, rate, 20, vec![between(well(30), silent()), well(2), well(1)]);
        assert_eq!(drill.failed().len(), 0);
        assert!(
            drill.share(0, 1_000, 3_000) > 0.9 && drill.share(1, 5_000, 10_000) > 0.85 && drill.share(0, 13_000, 20_000) > 0.9
        );
        assert!(drill.p99(3_000, 10_000) <= 70, "{rate} a second: {}", drill.p99(3_000, 10_000));
        assert!(drill.cost(13_000, 20_000) <= 1.1, "{rate} a second: {}", drill.cost(13_000, 20_000));

        let drill = Drill::run(Strategy::Random, rate, 20, vec![between(well(5), silent()), well(5), well(5)]);
        assert_eq!(drill.failed().len(), 0);
        for upstream in 0..3 {
            let share = drill.share(upstream, 11_500, 20_000);
            assert!((0.2..0.5).contains(&share), "{rate} a second: {upstream} has {share}");
        }
        assert!(drill.share(0, 5_000, 10_000) < 0.1, "{rate} a second");
        assert!(drill.p99(4_000, 10_000) <= 60 && drill.cost(11_500, 20_000) <= 1.05, "{rate} a second");
    }
}

#[test]
fn parallel_asks_all_and_takes_the_first() {
    let drill = Drill::run(Strategy::Parallel, 200, 12, vec![between(well(2), silent()), well(9), between(well(30), silent())]);
    assert_eq!(drill.failed().len(), 0);
    assert_eq!((drill.p99(0, 2_900), drill.p99(3_000, 10_000)), (2, 9));
    assert!((2.9..3.1).contains(&drill.cost(0, 12_000)), "{}", drill.cost(0, 12_000));
}
