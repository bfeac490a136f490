//! An answer that is kept, and how it is given.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::rotation::Rotation;
use super::key::{Behind, Key};
use crate::dns::{Flags, Header, Message, Name, PlainQuery, Query, Rcode, Section, Type, question};

/// An answer that is kept.
#[derive(Debug)]
pub struct Entry {
    pub(super) key: Key,
    pub(super) octets: Box<[u8]>,
    /// Where its TTLs stand.
    pub(super) ttls: Box<[u16]>,
    /// Addresses in it that take turns.
    pub(super) rotation: Option<Rotation>,
    pub(super) stored: Instant,
    /// When it is due to be fetched anew, should it be popular.
    pub(super) due_at: Instant,
    pub(super) fresh_until: Instant,
    pub(super) stale_until: Instant,
    /// How often it was given from here, counted up to [`POPULAR`].
    pub(super) given: AtomicU8,
    /// Somebody sees to it that it is fetched anew.
    pub(super) is_claimed: AtomicBool,
}

/// How often an answer is given before it counts as popular.
pub(super) const POPULAR: u8 = 3;

/// TTL of a stale answer, in seconds (RFC 8767, 5.2).
pub(super) const STALE_TTL: u32 = 30;

/// How long an answer of our own making is good by itself.
const OWN_LIFE: Duration = Duration::from_secs(86_400);

impl Entry {
    /// An answer of our own making to a plain query, which is the same whenever it is given.
    pub fn own(query: &PlainQuery<'_>, octets: &[u8], now: Instant) -> Self {
        let (until, given, is_claimed) = (now + OWN_LIFE, AtomicU8::default(), AtomicBool::default());
        Self {
            key: Key::of(query, 0),
            octets: octets.into(),
            ttls: Box::default(),
            rotation: None,
            stored: now,
            due_at: until,
            fresh_until: until,
            stale_until: until,
            given,
            is_claimed,
        }
    }

    pub fn is_fresh(&self, now: Instant) -> bool {
        now < self.fresh_until
    }

    /// Is it so near its end that it is fetched anew if it is popular?
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.due_at
    }

    /// Takes note that it was given from the shared cache.
    pub fn note_given(&self) {
        let given = self.given.load(Ordering::Relaxed);
        if given < POPULAR {
            // Should two do so at once, one of them is not counted, which changes little.
            self.given.store(given + 1, Ordering::Relaxed);
        }
    }

    /// Has it been given often? What a worker has near was.
    pub fn is_popular(&self) -> bool {
        self.given.load(Ordering::Relaxed) >= POPULAR
    }

    /// Takes it upon the caller to have it fetched anew; false when another has.
    pub fn claim(&self) -> bool {
        !self.is_claimed.load(Ordering::Relaxed) && !self.is_claimed.swap(true, Ordering::Relaxed)
    }

    /// Leaves that to another after all.
    pub fn unclaim(&self) {
        self.is_claimed.store(false, Ordering::Relaxed);
    }

    /// May it be given when nobody has a fresh one?
    pub fn is_usable(&self, now: Instant) -> bool {
        now < self.stale_until
    }

    /// The type that was asked for.
    pub fn qtype(&self) -> Type {
        self.key.qtype()
    }

    /// Octets of the answer.
    pub fn size(&self) -> usize {
        self.octets.len()
    }

    /// The answer as it was when it was kept, its TTLs within their bounds.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// The entry as people want to see it.
    pub fn shown(&self, now: Instant) -> Shown {
        let (name, Behind { qtype, qclass, asking, group }) = self.key.parts();
        let seconds = |until: Instant| until.saturating_duration_since(now).as_secs();
        let header = Header::of(&self.octets);
        Shown {
            name: Name::parse(name, 0).map_or_else(|_| String::new(), |(name, _)| name.to_string()),
            qtype: qtype.to_string(),
            qclass: qclass.0,
            flags: asking.names().collect(),
            group,
            rcode: header.map_or(Rcode::NOERROR, Header::rcode).to_string(),
            answers: header.map_or(0, |header| header.count(Section::Answer)),
            octets: self.octets.len(),
            age: now.saturating_duration_since(self.stored).as_secs(),
            ttl: seconds(self.fresh_until),
            fresh: self.is_fresh(now),
            usable_for: seconds(self.stale_until),
        }
    }

    /// Does it say that its name does not exist? Behind an alias that is another name (RFC 6604, 3).
    pub(super) fn is_denial(&self) -> bool {
        let is_denial = |header: Header<'_>| header.rcode() == Rcode::NXDOMAIN && header.count(Section::Answer) == 0;
        Header::of(&self.octets).is_some_and(is_denial)
    }

    /// Was it validated, by someone who is believed?
    pub(super) fn is_proved(&self) -> bool {
        Header::of(&self.octets).is_some_and(|header| header.flags().authentic_data)
    }

    /// The answer to a query whose name does not exist because this entry's does not, which is the same or above it.
    pub fn denied(&self, query: &Query, now: Instant) -> Option<Message> {
        let mut octets = Vec::new();
        self.write(&self.octets, now, &mut octets);
        let message = Message::parse(&octets).ok()?;
        let Flags { recursion_desired, checking_disabled, .. } = query.flags;
        let flags = Flags { recursion_desired, checking_disabled, ..message.flags };
        Some(Message { id: query.id, flags, questions: vec![query.question.clone()], ..message })
    }

    /// Writes the answer to this query, given by its octets. TTLs are what is left of them, or that of a stale answer.
    pub fn write(&self, query: &[u8], now: Instant, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.octets);
        let Some(octets) = out.get_mut(start..) else { return };
        patch(octets, query);
        if let Some(rotation) = self.rotation {
            rotation.turn(octets);
        }
        let age = u32::try_from(now.saturating_duration_since(self.stored).as_secs()).unwrap_or(u32::MAX);
        let fresh = self.is_fresh(now);
        if fresh && age == 0 {
            return;
        }
        for &at in &self.ttls {
            if let Some(ttl) = octets.get_mut(usize::from(at)..).and_then(|rest| rest.first_chunk_mut::<4>()) {
                let left = u32::from_be_bytes(*ttl).saturating_sub(age);
                *ttl = if fresh { left } else { STALE_TTL }.to_be_bytes();
            }
        }
    }
}

/// An entry as it is shown. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    pub name: String,
    #[serde(rename = "type")]
    pub qtype: String,
    #[serde(rename = "class")]
    pub qclass: u16,
    /// What else the query said that its answer depends on: `rd`, `ad`, `cd`, `do`, `edns`.
    pub flags: Vec<&'static str>,
    /// The group of upstreams that was asked; 0 is the default one.
    pub group: u16,
    pub rcode: String,
    /// Records of the answer section.
    pub answers: u16,
    pub octets: usize,
    pub age: u64,
    /// What is left of its life; 0 for a stale one.
    pub ttl: u64,
    pub fresh: bool,
    /// For how long it may still be given, should nobody have a fresh one.
    pub usable_for: u64,
}

/// Makes another's response this query's: id, RD, CD and the question as it was spelled. `query` are its octets.
pub fn patch(octets: &mut [u8], query: &[u8]) {
    let Some([id_high, id_low, high, low]) = query.first_chunk() else { return };
    if let Some(header) = octets.first_chunk_mut::<4>() {
        *header = [*id_high, *id_low, header[2] & !1 | high & 1, header[3] & !0x10 | low & 0x10];
    }
    let end = question(octets).map_or(0, |question| Message::HEADER + question.len() - 4);
    if let Some(question) = octets.get_mut(Message::HEADER..end)
        && let Some(name) = query.get(Message::HEADER..end)
        && question.eq_ignore_ascii_case(name)
    {
        question.copy_from_slice(name);
    }
}
