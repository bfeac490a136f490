//! How often one client may ask.
//!
//! Each client has a time in a table of fixed size: the one at which it would have used up what it may if it asked evenly
//! (the generic cell rate algorithm, ITU-T I.371). Nothing is locked or allocated, and a flood from many addresses finds no
//! more room than there is: it makes us forget how much others have asked, so that nobody pays for a stranger.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use foldhash::fast::RandomState;

use super::network;
use super::ranges::{Networks, Ranges};
use crate::limits::RATE_CLIENTS_MAX;

/// Places where one client may be: those of a cache line.
const WAYS: usize = 8;
/// Nanoseconds of a tick, as a power of two; 48 bits of ticks last 208 days, and begin anew.
const TICK: u32 = 6;
const TICKS_A_SECOND: u64 = 1_000_000_000 >> TICK;
const TIME: u64 = (1 << 48) - 1;
/// How often a place is tried for that other threads change at the same time; then the query passes.
const TRIES: usize = 8;

/// A cache line of the table. Each place has the client's mark above the time until which it has used up what it may ask.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket([AtomicU64; WAYS]);

#[derive(Debug)]
pub(super) struct Limiter {
    begun: Instant,
    /// Ticks between two queries.
    interval: u64,
    /// Ticks that a client may be ahead of that.
    ahead: u64,
    exempt: Ranges<bool>,
    hasher: RandomState,
    buckets: Box<[Bucket]>,
}

impl Limiter {
    pub(super) fn new(rate: NonZeroU32, burst: NonZeroU32, exempt: Networks) -> Self {
        let interval = (TICKS_A_SECOND / u64::from(rate.get())).max(1);
        let ahead = interval * u64::from(burst.get() - 1);
        let exempt = Ranges::new(exempt.iter(), |address| exempt.contain(address));
        let buckets = (0..RATE_CLIENTS_MAX / WAYS).map(|_| Bucket::default()).collect();
        Self { begun: Instant::now(), interval, ahead, exempt, hasher: RandomState::default(), buckets }
    }

    /// May this client ask now? If so, it has asked.
    pub(super) fn admits(&self, client: IpAddr, proven: bool, now: Instant) -> bool {
        if self.exempt.get(client) == Some(true) {
            return true;
        }
        let now = (now.saturating_duration_since(self.begun).as_nanos() >> TICK) as u64 & TIME;
        let hash = self.hasher.hash_one((network(client), proven));
        // What is not zero is a mark; the bucket is told by other bits.
        let mark = (hash >> 48 | 1) << 48;
        let Some(Bucket(places)) = self.buckets.get(hash as usize % self.buckets.len().max(1)) else { return true };
        for _ in 0..TRIES {
            let (mut own, mut least) = (None, None);
            for place in places {
                let seen = place.load(Ordering::Relaxed);
                let debt = self.debt(seen, now);
                if seen & !TIME == mark {
                    own = Some((debt, place, seen));
                    break;
                }
                if least.is_none_or(|(other, _, _)| debt < other) {
                    least = Some((debt, place, seen));
                }
            }
            // A stranger takes the place of whoever has asked least.
            let Some((debt, place, seen)) = own.or_else(|| least.map(|(_, place, seen)| (0, place, seen))) else { break };
            if debt > self.ahead {
                return false;
            }
            let used = mark | (now + debt + self.interval) & TIME;
            if place.compare_exchange_weak(seen, used, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return true;
            }
        }
        true
    }

    /// Ticks from now until the client of a place may ask as if it never had.
    fn debt(&self, place: u64, now: u64) -> u64 {
        let debt = (place & TIME).wrapping_sub(now) & TIME;
        // What nobody can owe lies in the past.
        if debt > self.ahead + self.interval { 0 } else { debt }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    use super::*;

    fn limiter(rate: u32, burst: u32) -> Limiter {
        let exempt = Networks::new(&["192.0.2.0/24".parse().unwrap()]);
        Limiter::new(NonZeroU32::new(rate).unwrap(), NonZeroU32::new(burst).unwrap(), exempt)
    }

    /// How many of so many queries are admitted at one time.
    fn admitted(limiter: &Limiter, client: &str, queries: usize, at: Duration) -> usize {
        let (client, at) = (client.parse().unwrap(), limiter.begun + at);
        (0..queries).filter(|_| limiter.admits(client, false, at)).count()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_and_then_the_rate() {
        let limiter = limiter(10, 20);
        let mut at = Duration::ZERO;
        assert_eq!(admitted(&limiter, "10.0.0.1", 100, at), 20);
        at += SECOND;
        assert_eq!(admitted(&limiter, "10.0.0.1", 100, at), 10);
        at += SECOND / 2;
        assert_eq!(admitted(&limiter, "10.0.0.1", 100, at), 5);
        at += SECOND * 60;
        assert_eq!(admitted(&limiter, "10.0.0.1", 100, at), 20, "no more is saved up");
        for _ in 0..1000 {
            at += SECOND / 10;
            assert_eq!(admitted(&limiter, "10.0.0.1", 1, at), 1, "evenly, as often as it may");
        }
        let of_many: usize = (0..1000).map(|n| admitted(&limiter, "10.0.0.2", 1, at + SECOND / 100 * n)).sum();
        assert!((118..=122).contains(&of_many), "ten times too often, for ten seconds: {of_many}");
    }

    #[test]
    fn an_ipv4_address_is_a_client_and_so_are_64_bits_of_ipv6() {
        let limiter = limiter(1, 1);
        let ask = |client| admitted(&limiter, client, 1, Duration::ZERO) == 1;
        assert!(ask("10.0.0.1") && ask("10.0.0.2") && !ask("10.0.0.1") && !ask("::ffff:10.0.0.2"));
        assert!(ask("2001:db8::1") && !ask("2001:db8::2") && ask("2001:db8:0:1::1"));
        assert!(ask("::") && ask("0.0.0.0"));
        assert_eq!(admitted(&limiter, "192.0.2.77", 1000, Duration::ZERO), 1000, "exempt");
        let proven = |client: &str| limiter.admits(client.parse().unwrap(), true, limiter.begun);
        assert!(proven("10.0.0.1") && !proven("10.0.0.1"), "who connects is counted by itself");
    }

    #[test]
    fn a_flood_of_addresses_takes_nothing_from_others() {
        let limiter = limiter(1, 5);
        let flood = |first: u32| {
            let strangers = (0..200_000_u32).map(|n| IpAddr::V4(Ipv4Addr::from_bits(first + n)));
            strangers.filter(|stranger| limiter.admits(*stranger, false, limiter.begun)).count()
        };
        let (before, after) = (0..2, 0..3);
        assert!(before.clone().all(|_| admitted(&limiter, "192.168.1.1", 1, Duration::ZERO) == 1));
        let strangers = flood(0x0a00_0000);
        assert!(strangers > 199_900, "a mark of 16 bits is rarely another's: {strangers}");
        assert!(after.clone().all(|_| admitted(&limiter, "192.168.1.1", 1, Duration::ZERO) == 1));
        let sixth = Ipv6Addr::from_bits(0x2001_0db8 << 96);
        assert!(limiter.admits(sixth.into(), false, limiter.begun));
    }

    /// 48 bits of ticks are over after 208 days.
    #[test]
    fn time_may_begin_anew() {
        let limiter = limiter(1, 3);
        let end = Duration::from_nanos((TIME + 1) << TICK);
        for at in [end - SECOND * 10, end, end + SECOND * 100, end * 2 - SECOND, end * 2 + SECOND * 100] {
            assert_eq!(admitted(&limiter, "10.0.0.1", 10, at), 3, "{at:?}");
        }
        // As long as any client may be ahead, at the slowest.
        let new = |rate, burst| Limiter::new(rate, burst, Networks::new(&[]));
        let slow = new(NonZeroU32::MIN, NonZeroU32::new(1_000_000).unwrap());
        assert!(slow.ahead + slow.interval < TIME / 2);
        let quick = new(NonZeroU32::new(1_000_000).unwrap(), NonZeroU32::MIN);
        assert_eq!(quick.interval, 15);
    }

    #[test]
    fn threads_admit_together_what_one_would() {
        let limiter = limiter(1, 1000);
        let at = limiter.begun;
        let count = |_| {
            let client = IpAddr::from([10, 0, 0, 1]);
            let limiter = &limiter;
            move || (0..1000).filter(|_| limiter.admits(client, false, at)).count()
        };
        let total: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|n| scope.spawn(count(n))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!((1000..1100).contains(&total), "{total}: a place that changes all the time lets a few more pass");
    }
}
