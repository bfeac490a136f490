//! Answers of others, kept as long as they may be.
//!
//! An entry is the response's own octets and the places of its TTLs; a hit copies them and patches the id, the flags that
//! belong to the client, the spelling of the question, and the TTLs, and turns the addresses of one name. One cache, bounded in
//! octets, is shared by all; before it stands a small one of each worker ([`Near`]), which needs no lock and allocates nothing
//! on a hit.
//!
//! Start with [`Cache::get`].

mod entry;
mod key;
mod near;
mod saved;
mod times;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use quick_cache::Lifecycle;
use quick_cache::sync::DefaultLifecycle;
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use self::key::{BEHIND, KEY_MAX};
use self::times::Times;
use super::rotation::Rotation;
use crate::dns::{Name, Names};
use crate::duration;
use crate::limits;

pub use entry::{Entry, Shown, patch};
pub use key::{HOP_BY_HOP, Key};
pub use near::Near;
pub use saved::Unusable;

/// How answers are kept; part of `[forward]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Octets that all entries together may weigh; 0 keeps nothing.
    #[serde(deserialize_with = "octets")]
    pub size: u64,
    /// Seconds: a TTL below the floor counts as the floor, one above the ceiling as the ceiling.
    #[serde(deserialize_with = "duration::deserialize_seconds")]
    pub min_ttl: u32,
    #[serde(deserialize_with = "duration::deserialize_seconds")]
    pub max_ttl: u32,
    /// Seconds: ceiling of negative answers' TTLs (RFC 2308, 5).
    #[serde(deserialize_with = "duration::deserialize_seconds")]
    pub max_negative_ttl: u32,
    /// Seconds that an answer is kept beyond its TTL, for when nobody else answers (RFC 8767); 0 for none.
    #[serde(deserialize_with = "duration::deserialize_seconds")]
    pub max_stale: u32,
    /// How long a client waits for a fresh answer that could have such a one (RFC 8767, 5); 0 for not at all.
    #[serde(deserialize_with = "duration::deserialize")]
    pub stale_after: Duration,
    /// Seconds that a failure is remembered at most, when it comes again and again; from 1 to 300 (RFC 9520, 3.2). Few of
    /// them unless asked for: when the upstreams' own upstreams were away, nobody tells us that they are back.
    #[serde(deserialize_with = "duration::deserialize_seconds")]
    pub max_failure_ttl: u32,
    /// Answers that are asked for often are fetched anew shortly before their end.
    pub prefetch: bool,
    /// Addresses of one name are given in another order each time (RFC 1794).
    pub rotate: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            size: 32 << 20,
            min_ttl: 0,
            max_ttl: 86_400,
            max_negative_ttl: 3_600,
            max_stale: 86_400,
            stale_after: Duration::from_millis(200),
            max_failure_ttl: 5,
            prefetch: true,
            rotate: true,
        }
    }
}

/// Octets: a number, or one with a unit, of 1,024 each.
fn octets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    struct Octets;

    impl Visitor<'_> for Octets {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("octets, such as 33554432 or \"32MB\"")
        }

        fn visit_i64<E: de::Error>(self, octets: i64) -> Result<u64, E> {
            u64::try_from(octets).map_err(|_| E::invalid_value(Unexpected::Signed(octets), &self))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
            let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
            let number = text.strip_suffix(unit).and_then(|number| number.parse::<u64>().ok());
            let shift = match unit.trim().trim_end_matches(['B', 'b']).trim_end_matches('i') {
                "" => Some(0),
                "K" | "k" => Some(10),
                "M" => Some(20),
                "G" => Some(30),
                _ => None,
            };
            let octets = number.zip(shift).and_then(|(number, shift)| number.checked_mul(1 << shift));
            octets.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
    }

    deserializer.deserialize_any(Octets)
}

/// All that is kept, shared by all workers. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Cache {
    config: Config,
    entries: Arc<quick_cache::sync::Cache<Key, Arc<Entry>, Weigh, RandomState, Evictions>>,
    evicted: Arc<AtomicU64>,
    /// Has a name ever been proved not to exist?
    has_proofs: Arc<AtomicBool>,
}

/// Counts who has to make room for others.
#[derive(Debug, Clone)]
struct Evictions {
    usual: DefaultLifecycle<Key, Arc<Entry>>,
    count: Arc<AtomicU64>,
}

impl Lifecycle<Key, Arc<Entry>> for Evictions {
    type RequestState = <DefaultLifecycle<Key, Arc<Entry>> as Lifecycle<Key, Arc<Entry>>>::RequestState;

    fn begin_request(&self) -> Self::RequestState {
        self.usual.begin_request()
    }

    fn on_evict(&self, state: &mut Self::RequestState, key: Key, entry: Arc<Entry>) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.usual.on_evict(state, key, entry);
    }
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stock {
    pub entries: usize,
    pub octets: u64,
    pub octets_max: u64,
    /// Entries that had to make room for others so far.
    pub evicted: u64,
}

#[derive(Debug, Clone)]
struct Weigh;

impl quick_cache::Weighter<Key, Arc<Entry>> for Weigh {
    /// Octets in memory, about.
    fn weight(&self, key: &Key, entry: &Arc<Entry>) -> u64 {
        (key.0.len() + entry.octets.len() + entry.ttls.len() * 2 + 200) as u64
    }
}

/// Octets of a usual entry, from which the cache reckons how many there will be.
const USUAL_WEIGHT: u64 = 400;

/// The part of its life, at its end, in which a popular answer is fetched anew; and the shortest life, in seconds, for
/// which that makes sense: what is shorter would be asked for all the time.
const LAST_PART: u32 = 10;
const LIFE_MIN: u32 = 10;

impl Cache {
    pub fn new(config: Config) -> Self {
        let count = usize::try_from(config.size / USUAL_WEIGHT).unwrap_or(usize::MAX).min(1 << 24);
        let evicted = Arc::<AtomicU64>::default();
        let lifecycle = Evictions { usual: DefaultLifecycle::default(), count: evicted.clone() };
        let entries = quick_cache::sync::Cache::with(count, config.size, Weigh, RandomState::default(), lifecycle);
        Self { entries: Arc::new(entries), config, evicted, has_proofs: Arc::default() }
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The entry, fresh or not.
    pub fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.entries.get(key)
    }

    /// What is known of a name at or above this question's that does not exist: then this one does not either, whatever the
    /// type (RFC 2308, 5; RFC 8020, 2). The same upstreams said so, to a query with the same flags.
    ///
    /// Of a name above it is believed only when it was validated, and never of a top-level domain: many an upstream knows
    /// `printer.lan`, and says of `lan` what the root says of it.
    pub fn denial(&self, key: &Key, now: Instant) -> Option<Arc<Entry>> {
        let denial = key.denial();
        let mut rest = &*denial;
        let own = self.entries.get(rest).filter(|entry| entry.is_fresh(now));
        if own.is_some() || !self.has_proofs.load(Ordering::Relaxed) {
            return own;
        }
        for _ in 0..limits::DENIALS_ABOVE_MAX {
            rest = rest.get(usize::from(*rest.first()?) + 1..)?;
            let second = rest.get(usize::from(*rest.first()?) + 1)?;
            if rest.len() <= BEHIND || *second == 0 {
                break;
            }
            let is_good = |entry: &Arc<Entry>| entry.is_fresh(now) && entry.is_proved();
            if let Some(entry) = self.entries.get(rest).filter(is_good) {
                return Some(entry);
            }
        }
        None
    }

    /// Keeps a response for as long as it may be; says under which entry, if it may be kept at all.
    pub fn put(&self, key: Key, octets: &[u8], now: Instant) -> Option<Arc<Entry>> {
        self.put_until(key, octets, now, None)
    }

    /// The same with a time after which it is given to nobody, stale or not.
    pub fn put_until(&self, key: Key, octets: &[u8], now: Instant, end: Option<Instant>) -> Option<Arc<Entry>> {
        let times = Times::read(octets)?;
        let ttl = match times.negative {
            Some(ttl) => self.bounded(ttl).min(self.config.max_negative_ttl),
            None => self.bounded(times.least?),
        };
        if ttl == 0 || self.config.size == 0 {
            return None;
        }
        let mut entry = self.made(key, octets, times, ttl, now)?;
        entry.stale_until = end.map_or(entry.stale_until, |end| end.min(entry.stale_until));
        let entry = Arc::new(entry);
        self.insert(entry.clone());
        Some(entry)
    }

    fn insert(&self, entry: Arc<Entry>) {
        if entry.is_denial() {
            self.has_proofs.fetch_or(entry.is_proved(), Ordering::Relaxed);
            self.entries.insert(Key(entry.key.denial()[..].into()), entry.clone());
        }
        self.entries.insert(entry.key.clone(), entry);
    }

    /// An entry of which nothing is known but that it may be kept for so many seconds.
    fn entry(&self, key: Key, octets: &[u8], ttl: u32, stored: Instant) -> Option<Entry> {
        // What is no answer to its key's question, or has a key that is none, would be nobody's.
        let is_key = key.is_answered_by(octets)
            && key.0.len() <= KEY_MAX
            && key
                .0
                .split_last_chunk::<BEHIND>()
                .is_some_and(|(name, _)| Name::parse(name, 0).is_ok_and(|(_, end)| end == name.len()));
        self.made(key, octets, Times::read(octets).filter(|_| is_key)?, ttl, stored)
    }

    /// `None` when the response would not be what it was with the TTLs that it is kept with: a name in it points at one of
    /// them.
    fn made(&self, key: Key, octets: &[u8], times: Times, ttl: u32, now: Instant) -> Option<Entry> {
        let mut octets = Box::<[u8]>::from(octets);
        if let Some(flags) = octets.get_mut(2) {
            // Whoever gives what it has kept is no authority (RFC 1035, 4.1.1).
            *flags &= !AUTHORITATIVE;
        }
        let (uneven, is_negative) = (times.least.filter(|_| times.is_uneven), times.negative.is_some());
        let mut is_changed = false;
        for &at in &times.places {
            // A record's own TTL keeps to the same bounds, or clients would keep it longer than we do; that of a negative
            // answer's SOA record says how long (RFC 2308, 5).
            if let Some(own) = octets.get_mut(usize::from(at)..).and_then(|rest| rest.first_chunk_mut::<4>()) {
                let bounded = self.bounded(uneven.unwrap_or_else(|| u32::from_be_bytes(*own)));
                let kept = if is_negative { bounded.min(ttl) } else { bounded }.to_be_bytes();
                is_changed |= *own != kept;
                *own = kept;
            }
        }
        if is_changed && Times::read(&octets)?.places != times.places {
            return None;
        }
        let fresh_until = now + Duration::from_secs(u64::from(ttl));
        let stale_until = fresh_until + Duration::from_secs(u64::from(self.config.max_stale));
        let ttls = times.places.into();
        let last_part = Duration::from_secs(ttl.into()) / LAST_PART;
        let due_at = if self.config.prefetch && ttl >= LIFE_MIN { fresh_until - last_part } else { fresh_until };
        let (given, is_claimed) = Default::default();
        let rotation = self.config.rotate.then(|| Rotation::of(&octets)).flatten();
        Some(Entry { key, octets, ttls, rotation, stored: now, due_at, fresh_until, stale_until, given, is_claimed })
    }

    /// Forgets one entry, which is no longer so.
    pub fn remove(&self, key: &Key) {
        self.entries.remove(key);
    }

    /// Forgets what is kept of these names; says how many answers that were. Looks at each entry.
    pub fn forget(&self, names: &Names) -> usize {
        let forgotten = AtomicU64::new(0);
        self.entries.retain(|key, _| {
            let keep = !names.has(key.parts().0);
            forgotten.fetch_add(u64::from(!keep && !key.is_denial()), Ordering::Relaxed);
            keep
        });
        usize::try_from(forgotten.into_inner()).unwrap_or(usize::MAX)
    }

    /// What is kept of these names, and may still be given. Looks at each entry.
    pub fn find(&self, names: &Names, now: Instant) -> Vec<Arc<Entry>> {
        let entries = self.entries.iter().filter(|(key, _)| !key.is_denial()).map(|(_, entry)| entry);
        entries.filter(|entry| names.has(entry.key.parts().0) && entry.is_usable(now)).collect()
    }

    pub fn stock(&self) -> Stock {
        Stock {
            entries: self.entries.len(),
            octets: self.entries.weight(),
            octets_max: self.config.size,
            evicted: self.evicted.load(Ordering::Relaxed),
        }
    }

    /// A TTL within floor and ceiling; the ceiling wins where the configuration crosses them. One with its first bit set is a
    /// large one, and not 0 (RFC 8767, 4, which says so of what RFC 2181, 8 said).
    fn bounded(&self, ttl: u32) -> u32 {
        ttl.max(self.config.min_ttl).min(self.config.max_ttl)
    }
}

/// AA in the third octet of a message.
const AUTHORITATIVE: u8 = 1 << 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::entry::{POPULAR, STALE_TTL};
    use super::*;
    use crate::dns::{Class, Edns, Flags, Message, Opcode, PlainQuery, Query, Question, RData, Rcode, Record, Soa, Type};

    fn query(name: &str, edns: bool) -> Query {
        let flags = Flags { recursion_desired: true, ..Flags::default() };
        let question = Question { name: name.parse().unwrap(), qtype: Type::A, qclass: Class::IN };
        Query { id: 7, opcode: Opcode::QUERY, flags, question, edns: edns.then(|| Edns::new(1232)) }
    }

    fn response(query: &Query, ttls: &[u32]) -> Message {
        let mut message = query.response(Rcode::NOERROR);
        for (n, ttl) in ttls.iter().enumerate() {
            message.answers.push(Record::new(query.question.name.clone(), *ttl, RData::A([10, 0, 0, n as u8].into())));
        }
        message.edns = query.edns.clone();
        message
    }

    fn soa(ttl: u32, minimum: u32) -> Record {
        let name: Name = "example.net".parse().unwrap();
        let (mname, rname) = (name.clone(), name.clone());
        let soa = Soa { mname, rname, serial: 1, refresh: 1, retry: 1, expire: 1, minimum };
        Record::new(name, ttl, RData::Soa(Box::new(soa)))
    }

    fn after(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[test]
    fn rfc8767_5_an_answer_is_given_again_with_what_is_left_of_its_ttl_or_stale_with_thirty_seconds() {
        let cache = Cache::new(Config::default());
        let (asked, now) = (query("www.example.net", true), Instant::now());
        cache.put(Key::new(&asked, 0).unwrap(), &response(&asked, &[60, 60]).compose(true), now).unwrap();
        let again = Query { id: 99, ..query("WWW.example.NET", true) };
        let octets = again.compose();
        let (plain, mut near) = (PlainQuery::parse(&octets).unwrap(), Near::default());
        let far = cache.get(&Key::new(&again, 0).unwrap()).unwrap();
        assert_eq!(Key::of(&plain, 258), Key::new(&again, 258).unwrap());
        assert!(near.get(&plain, now).is_none());
        near.keep(&plain, far.clone(), ());
        for entry in [&far, near.get(&plain, after(now, 20)).unwrap().0] {
            let mut out = Vec::new();
            entry.write(&octets, after(now, 20), &mut out);
            let message = Message::parse(&out).unwrap();
            assert_eq!((message.id, message.questions[0].name.to_string()), (99, "WWW.example.NET.".into()));
            assert_eq!(message.answers.iter().map(|r| r.ttl).collect::<Vec<_>>(), [40, 40]);
            assert_eq!(message.edns, again.edns);
        }
        assert!(near.get(&plain, after(now, 60)).is_none(), "it has expired");
        let other = query("www.example.net", false).compose();
        assert!(near.get(&PlainQuery::parse(&other).unwrap(), now).is_none(), "another EDNS");
        near.keep(&PlainQuery::parse(&other).unwrap(), far, ());
        assert!(near.get(&PlainQuery::parse(&other).unwrap(), now).is_none(), "that is no answer to it");
        assert!(cache.get(&Key::new(&again, 1).unwrap()).is_none(), "another group of upstreams");
        let stale = cache.get(&Key::new(&again, 0).unwrap()).unwrap();
        assert!(stale.is_usable(after(now, 3600)) && !stale.is_usable(after(now, 90_000)));
        let mut out = Vec::new();
        stale.write(&octets, after(now, 3600), &mut out);
        assert!(Message::parse(&out).unwrap().answers.iter().all(|record| record.ttl == STALE_TTL));
    }

    #[test]
    fn rfc2308_5_negative_answers_are_kept_by_their_soa() {
        let cache = Cache::new(Config::default());
        let (asked, now) = (query("no.example.net", false), Instant::now());
        let key = || Key::new(&asked, 0).unwrap();
        for rcode in [Rcode::NXDOMAIN, Rcode::NOERROR] {
            let mut message = asked.response(rcode);
            assert!(cache.put(key(), &message.compose(true), now).is_none(), "RFC 2308, 5: not without an SOA");
            message.authorities.push(soa(300, 60));
            let entry = cache.put(key(), &message.compose(true), now).unwrap();
            assert!(entry.is_fresh(after(now, 59)) && !entry.is_fresh(after(now, 60)));
        }
    }

    #[test]
    fn rfc2308_5_the_lesser_of_ttl_and_minimum_counts_up_to_the_ceiling() {
        let (asked, now) = (query("no.example.net", false), Instant::now());
        for (ttl, minimum, alias, kept) in
            [(60, 300, None, 60), (300, 60, None, 60), (9_999, 9_999, None, 3_600), (300, 300, Some(20), 20), (300, 0, None, 0)]
        {
            let cache = Cache::new(Config::default());
            let mut message = asked.response(Rcode::NXDOMAIN);
            message.answers.extend(
                alias.map(|ttl| {
                    Record::new(asked.question.name.clone(), ttl, RData::Cname("gone.example.net".parse().unwrap()))
                }),
            );
            message.authorities.push(soa(ttl, minimum));
            let entry = cache.put(Key::new(&asked, 0).unwrap(), &message.compose(true), now);
            let fresh = |seconds: u64| entry.as_ref().is_some_and(|entry| entry.is_fresh(after(now, seconds)));
            assert_eq!((kept > 0 && fresh(kept - 1), fresh(kept)), (kept > 0, false), "{ttl}, {minimum}, {alias:?}");
            // And so says the record itself to whoever keeps it further on.
            let given = entry.iter().map(|entry| Message::parse(entry.octets()).unwrap().authorities[0].ttl);
            assert!(given.into_iter().all(|ttl| u64::from(ttl) == kept), "{ttl}, {minimum}, {alias:?}");
        }
    }

    #[test]
    fn rfc2308_5_and_rfc8020_2_a_name_that_does_not_exist_has_no_types_and_nothing_below() {
        let (cache, now) = (Cache::new(Config::default()), Instant::now());
        let of = |name: &str, qtype: Type, edns: bool| {
            let asked = query(name, edns);
            Query { question: Question { qtype, ..asked.question }, ..asked }
        };
        let asked = of("No.example.net", Type::A, false);
        let mut message = asked.response(Rcode::NXDOMAIN);
        message.authorities.push(soa(300, 300));
        let below = Key::new(&of("a.no.example.net", Type::A, false), 1).unwrap();
        cache.put(Key::new(&asked, 1).unwrap(), &message.compose(true), now).unwrap();
        assert!(cache.denial(&below, now).is_none(), "nobody has proved it");
        message.flags.authentic_data = true;
        cache.put(Key::new(&asked, 1).unwrap(), &message.compose(true), now).unwrap();
        let top = of("lan", Type::A, false);
        let denied = Message { flags: message.flags, authorities: vec![soa(300, 300)], ..top.response(Rcode::NXDOMAIN) };
        cache.put(Key::new(&top, 1).unwrap(), &denied.compose(true), now).unwrap();
        let printer = Key::new(&of("printer.lan", Type::A, false), 1).unwrap();
        assert!(cache.denial(&printer, now).is_none(), "upstreams have names below it");
        let denial = |name: &str, qtype: Type, edns: bool, group: u16, seconds: u64| {
            let asked = of(name, qtype, edns);
            let (entry, now) = (cache.denial(&Key::new(&asked, group).unwrap(), after(now, seconds))?, after(now, seconds));
            Some(entry.denied(&asked, now).unwrap())
        };
        for (name, qtype) in [("no.example.net", Type::AAAA), ("a.b.NO.example.net", Type::A), ("no.example.net", Type(0))] {
            let answer = denial(name, qtype, false, 1, 20).unwrap();
            assert_eq!((answer.rcode, answer.id, answer.questions[0].qtype), (Rcode::NXDOMAIN, 7, qtype));
            assert_eq!(answer.questions[0].name.to_string(), format!("{name}."));
            assert_eq!(answer.authorities, [Record { ttl: 280, ..soa(300, 300) }]);
        }
        for (name, edns, group, seconds, why) in [
            ("example.net", false, 1, 0, "it is above"),
            ("xno.example.net", false, 1, 0, "another label"),
            ("a.no.example.net", true, 1, 0, "the query has other flags"),
            ("a.no.example.net", false, 0, 0, "other upstreams"),
            ("a.no.example.net", false, 1, 300, "it is over"),
        ] {
            assert_eq!(denial(name, Type::A, edns, group, seconds), None, "{why}");
        }
        // What the names of a chain lead to is another name, and NODATA is about one type.
        let alias = of("alias.example.net", Type::A, false);
        let mut message = Message { authorities: vec![soa(300, 300)], ..alias.response(Rcode::NXDOMAIN) };
        let target = RData::Cname("gone.example.net".parse().unwrap());
        message.answers.push(Record::new(alias.question.name.clone(), 300, target));
        cache.put(Key::new(&alias, 1).unwrap(), &message.compose(true), now).unwrap();
        let empty = of("empty.example.net", Type::A, false);
        let message = Message { authorities: vec![soa(300, 300)], ..empty.response(Rcode::NOERROR) };
        cache.put(Key::new(&empty, 1).unwrap(), &message.compose(true), now).unwrap();
        for name in ["alias.example.net", "a.alias.example.net", "empty.example.net", "a.empty.example.net"] {
            assert_eq!(denial(name, Type::AAAA, false, 1, 0), None, "{name}");
        }
        assert_eq!(cache.find(&Names::All, now).len(), 4, "each is shown once");
        assert_eq!(cache.forget(&Names::One("no.example.net".parse().unwrap())), 1);
        assert_eq!(denial("no.example.net", Type::AAAA, false, 1, 0), None);
        // The root, and the longest name.
        assert!(cache.denial(&Key::new(&query(".", false), 0).unwrap(), now).is_none());
        let longest = ["x".repeat(63), "x".repeat(63), "x".repeat(63), "x".repeat(61)].join(".");
        assert!(cache.denial(&Key::new(&query(&longest, false), 0).unwrap(), now).is_none());
    }

    #[test]
    fn rfc2181_5_2_one_ttl_for_an_rrset() {
        let (cache, asked, now) = (Cache::new(Config::default()), query("www.example.net", false), Instant::now());
        let entry = cache.put(Key::new(&asked, 0).unwrap(), &response(&asked, &[300, 60, 200]).compose(true), now).unwrap();
        let ttls =
            |entry: &Entry| Message::parse(entry.octets()).unwrap().answers.iter().map(|record| record.ttl).collect::<Vec<_>>();
        assert_eq!(ttls(&entry), [60, 60, 60]);
        // An alias is a set of its own, and so is each that a signature is of.
        let mut message = asked.response(Rcode::NOERROR);
        let alias = RData::Cname("web.example.net".parse().unwrap());
        message.answers.push(Record::new(asked.question.name.clone(), 300, alias));
        for (record_type, ttl) in [(Type::A, 60), (Type::RRSIG, 60), (Type::RRSIG, 300)] {
            let data = RData::Opaque { record_type, octets: [0; 4].into() };
            let data = if record_type == Type::A { RData::A([10, 0, 0, 1].into()) } else { data };
            message.answers.push(Record::new("web.example.net".parse().unwrap(), ttl, data));
        }
        let entry = cache.put(Key::new(&asked, 0).unwrap(), &message.compose(true), now).unwrap();
        assert_eq!(ttls(&entry), [300, 60, 60, 300]);
    }

    #[test]
    fn rfc1035_4_1_1_what_is_kept_is_of_no_authority() {
        let (cache, asked, now) = (Cache::new(Config::default()), query("www.example.net", false), Instant::now());
        let mut message = response(&asked, &[60]);
        message.flags.authoritative = true;
        let entry = cache.put(Key::new(&asked, 0).unwrap(), &message.compose(true), now).unwrap();
        assert!(!Message::parse(entry.octets()).unwrap().flags.authoritative);
    }

    #[test]
    fn rfc6895_3_1_what_stands_for_no_data_is_not_kept() {
        let (cache, now) = (Cache::new(Config::default()), Instant::now());
        for (qtype, is_kept) in [(41, false), (128, false), (252, false), (255, false), (127, true), (256, true), (1, true)] {
            let asked = query("www.example.net", false);
            let asked = Query { question: Question { qtype: Type(qtype), ..asked.question }, ..asked };
            let mut message = asked.response(Rcode::NOERROR);
            let octets = [192, 0, 2, 1];
            let data = if qtype == 1 {
                RData::A(octets.into())
            } else {
                RData::Opaque { record_type: Type(qtype), octets: octets.into() }
            };
            message.answers.push(Record::new(asked.question.name.clone(), 300, data));
            message.authorities.push(soa(300, 300));
            assert_eq!(cache.put(Key::new(&asked, 0).unwrap(), &message.compose(true), now).is_some(), is_kept, "{qtype}");
        }
    }

    /// RFC 6840, 5.7 to 5.9; and another group may be of other people.
    #[test]
    fn answers_are_told_apart_by_all_that_changes_them() {
        let now = Instant::now();
        let (cache, mut keys) = (Cache::new(Config::default()), Vec::new());
        for bits in 0..32u8 {
            let bit = |place: u8| bits >> place & 1 == 1;
            let mut asked = query("www.example.net", bit(0) || bit(1));
            if let Some(edns) = &mut asked.edns {
                edns.dnssec_ok = bit(1);
            }
            (asked.flags.checking_disabled, asked.flags.authentic_data) = (bit(2), bit(3));
            asked.flags.recursion_desired = bit(4);
            for group in [0, 1, 256] {
                let key = Key::new(&asked, group).unwrap();
                if !keys.contains(&key) {
                    assert!(cache.get(&key).is_none(), "{asked:?} in group {group} has the answer of another");
                    cache.put(key.clone(), &response(&asked, &[60]).compose(true), now).unwrap();
                    keys.push(key);
                }
            }
        }
        // DO without EDNS is none.
        assert_eq!((keys.len(), cache.stock().entries), (3 * 24, 3 * 24));
        let shown = cache.find(&Names::All, now).iter().map(|entry| entry.shown(now)).collect::<Vec<_>>();
        let of = |flag: &str| shown.iter().filter(|shown| shown.flags.contains(&flag)).count();
        assert_eq!([of("rd"), of("ad"), of("cd"), of("edns"), of("do")], [36, 36, 36, 48, 24]);
    }

    #[test]
    fn rfc1035_3_2_1_what_may_not_be_kept_is_not() {
        let cache = Cache::new(Config::default());
        let (asked, now) = (query("www.example.net", false), Instant::now());
        let key = || Key::new(&asked, 0).unwrap();
        assert!(cache.put(key(), &response(&asked, &[60, 0]).compose(true), now).is_none(), "a TTL of 0");
        let large = cache.put(key(), &response(&asked, &[1 << 31]).compose(true), now).unwrap();
        assert_eq!(large.fresh_until, now + Duration::from_secs(cache.config.max_ttl.into()), "RFC 8767, 4");
        assert!(cache.put(key(), &asked.response(Rcode::SERVFAIL).compose(true), now).is_none());
        let mut cut = response(&asked, &[60]);
        cut.flags.truncated = true;
        assert!(cache.put(key(), &cut.compose(true), now).is_none(), "a truncated one");
        let mut edns = Edns::new(1232);
        edns.options.push(crate::dns::EdnsOption { code: 65_001, data: Box::new([0, 1, 0, 0]) });
        assert!(Key::new(&Query { edns: Some(edns), ..asked.clone() }, 0).is_none(), "one that depends on the client");
    }

    #[test]
    fn ttls_keep_to_floor_and_ceiling() {
        let (asked, now) = (query("www.example.net", false), Instant::now());
        // In the last one a configuration has them crossed.
        for (min_ttl, max_ttl, ttl, kept) in
            [(30, 90, 5, 30), (30, 90, 60, 60), (30, 90, 900, 90), (30, 90, 1 << 31, 90), (90, 30, 60, 30)]
        {
            let cache = Cache::new(Config { min_ttl, max_ttl, ..Config::default() });
            let entry = cache.put(Key::new(&asked, 0).unwrap(), &response(&asked, &[ttl]).compose(true), now).unwrap();
            let mut out = Vec::new();
            entry.write(&asked.compose(), now, &mut out);
            assert_eq!(Message::parse(&out).unwrap().answers[0].ttl, kept, "{ttl} within {min_ttl} and {max_ttl}");
            assert!(entry.is_fresh(after(now, u64::from(kept) - 1)) && !entry.is_fresh(after(now, u64::from(kept))));
        }
    }

    #[test]
    fn names_are_forgotten_alone_or_with_all_below() {
        let names = ["example.net", "www.example.net", "a.b.Example.NET", "notexample.net", "example.org"];
        let now = Instant::now();
        for (what, left) in [
            (Names::All, vec![]),
            (Names::One("EXAMPLE.net".parse().unwrap()), vec![1, 2, 3, 4]),
            (Names::Below("Example.net".parse().unwrap()), vec![3, 4]),
            (Names::Below(Name::root()), vec![]),
            (Names::Below("net".parse().unwrap()), vec![4]),
        ] {
            let cache = Cache::new(Config::default());
            let keys = names.map(|name| Key::new(&query(name, false), 0).unwrap());
            for (name, key) in names.iter().zip(&keys) {
                cache.put(key.clone(), &response(&query(name, false), &[60]).compose(true), now).unwrap();
            }
            assert_eq!(cache.find(&what, now).len(), names.len() - left.len(), "{what:?}");
            assert_eq!(cache.forget(&what), names.len() - left.len(), "{what:?}");
            let kept: Vec<usize> = (0..names.len()).filter(|at| cache.get(&keys[*at]).is_some()).collect();
            assert_eq!(kept, left, "{what:?}");
        }
    }

    #[test]
    fn an_answer_is_due_in_the_last_tenth_of_its_life_if_that_is_long_enough() {
        let (asked, now) = (query("www.example.net", false), Instant::now());
        for (ttl, prefetch, due) in [(300, true, 270), (10, true, 9), (9, true, 9), (300, false, 300)] {
            let cache = Cache::new(Config { prefetch, ..Config::default() });
            let entry = cache.put(Key::new(&asked, 0).unwrap(), &response(&asked, &[ttl]).compose(true), now).unwrap();
            assert!(!entry.is_due(after(now, due - 1)) && entry.is_due(after(now, due)), "{ttl}, {prefetch}");
            assert!(!entry.is_popular() && entry.claim() && !entry.claim());
            (0..POPULAR).for_each(|_| entry.note_given());
            assert!(entry.is_popular());
        }
    }

    #[test]
    fn the_cache_is_bounded_in_octets() {
        let cache = Cache::new(Config { size: 50_000, ..Config::default() });
        for n in 0..5_000 {
            let asked = query(&format!("n{n}.example.net"), false);
            cache.put(Key::new(&asked, 0).unwrap(), &response(&asked, &[60]).compose(true), Instant::now()).unwrap();
        }
        let stock = cache.stock();
        assert!(stock.octets <= 50_000 && stock.entries > 50, "{stock:?}");
        assert_eq!(stock.entries as u64 + stock.evicted, 5_000, "{stock:?}");
    }

    proptest! {
        #[test]
        fn only_ids_spelling_ttls_and_the_order_of_addresses_change(
            ttls in proptest::collection::vec(1u32..90_000, 1..20), age in 0u64..100, id: u16, rotate: bool
        ) {
            let (asked, now) = (query("a.b.example.net", true), Instant::now());
            let cache = Cache::new(Config { rotate, ..Config::default() });
            let mut original = response(&asked, &ttls);
            original.authorities.push(soa(4000, 50));
            let Some(entry) = cache.put(Key::new(&asked, 0).unwrap(), &original.compose(true), now) else {
                return Err(TestCaseError::fail("it may be kept"));
            };
            let mut out = Vec::new();
            entry.write(&Query { id, ..query("A.b.EXAMPLE.net", true) }.compose(), after(now, age), &mut out);
            let mut got = Message::parse(&out).unwrap();
            // RFC 2181, 5.2: where the upstream's RRset has several TTLs, the least counts.
            let is_uneven = ttls.windows(2).any(|pair| pair[0] != pair[1]);
            let least = ttls.iter().min().filter(|_| is_uneven).map(|least| *least.min(&4_000));
            let own = |ttl: u32| least.unwrap_or(ttl).min(86_400);
            let expected = |ttl: u32| if entry.is_fresh(after(now, age)) { own(ttl) - age as u32 } else { STALE_TTL };
            original.answers.iter_mut().chain(&mut original.authorities).for_each(|record| record.ttl = expected(record.ttl));
            original.id = id;
            if rotate {
                let first = got.answers.iter().position(|record| *record == original.answers[0]);
                got.answers.rotate_left(first.unwrap_or_default());
            }
            prop_assert_eq!(got, original);
        }
    }
}
