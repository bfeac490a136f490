//! Kept answers as they are written to a file and read again, by whoever has one.
//!
//! The form: [`MAGIC`], a mark of whom the answers are from, the time of writing, and blocks of entries, each behind its
//! length and checksum; an empty block is the end. Each entry has its age at the time of writing, its life, and for how
//! long it may be given at all, so that what is read is as old as it is and ends when it would have. A block that is damaged is
//! passed over, as far as its length leads to the next one; the others are used. An entry whose message is no answer to the
//! question that it is found by is nobody's.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Cache, Entry, Key};
use crate::limits;

const MAGIC: &[u8; 16] = b"rollcall cache 2";
/// Octets from which on a block is written.
const BLOCK: usize = 64 << 10;
/// Octets of the largest block that is read: what fills one, and one entry more.
const BLOCK_MAX: usize = BLOCK + (64 << 10) + 512;

/// Why a file's answers are not used, or not all of them.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("expected a file of kept answers, got something else")]
    Foreign,
    /// Another configuration: a question may go elsewhere now, or its answer be kept for another time.
    #[error("it is of another configuration")]
    Other,
    #[error("the file says that it was written {} s in the future", .0.as_secs())]
    Future(Duration),
    #[error("expected a whole file, got a damaged one; {0} answers of it are used")]
    Damaged(usize),
    #[error("cannot read it: {0}")]
    Read(#[from] io::Error),
}

impl Cache {
    /// Writes what is kept and may still be given; says how many answers that were. `mark` says whom they are from, `clock`
    /// is Unix time.
    pub fn save(&self, mark: u32, now: Instant, clock: Duration, out: &mut impl Write) -> io::Result<usize> {
        out.write_all(MAGIC)?;
        out.write_all(&mark.to_le_bytes())?;
        out.write_all(&milliseconds(clock).to_le_bytes())?;
        let (mut block, mut written, mut count) = (Vec::with_capacity(BLOCK_MAX), 0, 0);
        // Entry by entry, since all of them together are large.
        for (key, entry) in self.entries.iter() {
            if key.is_denial() || !entry.is_usable(now) {
                continue;
            }
            entry.append(now, &mut block);
            count += 1;
            if block.len() >= BLOCK {
                write_block(&block, out)?;
                written += block.len();
                block.clear();
            }
            if written >= limits::CACHE_FILE_OCTETS_MAX {
                break;
            }
        }
        if !block.is_empty() {
            write_block(&block, out)?;
        }
        write_block(&[], out)?;
        Ok(count)
    }

    /// Reads what [`Cache::save`] wrote, and keeps what may still be given and is not known better by now; says how many
    /// answers that were.
    pub fn restore(&self, mark: u32, now: Instant, clock: Duration, from: &mut impl Read) -> Result<usize, Unusable> {
        let mut head = [0; MAGIC.len() + 4 + 8];
        from.read_exact(&mut head).map_err(|error| cut(error, 0)).map_err(|error| match error {
            Unusable::Damaged(_) => Unusable::Foreign,
            other => other,
        })?;
        let Some((MAGIC, rest)) = head.split_first_chunk() else { return Err(Unusable::Foreign) };
        let Some((own_mark, written)) = number(rest) else { return Err(Unusable::Foreign) };
        if own_mark != mark {
            return Err(Unusable::Other);
        }
        let written = Duration::from_millis(u64::from_le_bytes(written.try_into().unwrap_or_default()));
        let Some(since) = clock.checked_sub(written) else { return Err(Unusable::Future(written.saturating_sub(clock))) };
        let (mut count, mut octets, mut is_damaged) = (0, 0, false);
        while octets < limits::CACHE_FILE_OCTETS_MAX {
            let Some((block, is_whole)) = read_block(from, count)? else { break };
            octets += block.len();
            let mut rest = if is_whole { &block[..] } else { &[] };
            is_damaged |= !is_whole;
            while !rest.is_empty() {
                let Some((saved, after)) = Saved::read(rest) else {
                    is_damaged = true;
                    break;
                };
                rest = after;
                count += usize::from(self.put_saved(saved, since, now));
            }
        }
        if is_damaged { Err(Unusable::Damaged(count)) } else { Ok(count) }
    }

    fn put_saved(&self, saved: Saved<'_>, since: Duration, now: Instant) -> bool {
        let key = Key(saved.key.into());
        let age = since + saved.age;
        // A day beyond its end is long; whatever the clock says, no answer is older than an instant can be.
        let Some(stored) = now.checked_sub(age) else { return false };
        if self.entries.peek(&key).is_some() {
            return false;
        }
        let Some(mut entry) = self.entry(key, saved.octets, saved.life, stored) else { return false };
        // What is proved ends with its signature.
        entry.stale_until = entry.stale_until.min(stored + Duration::from_secs(saved.usable.into()));
        let is_usable = entry.is_usable(now) && !entry.key.is_denial();
        if is_usable {
            self.insert(Arc::new(entry));
        }
        is_usable
    }
}

impl Entry {
    fn append(&self, now: Instant, out: &mut Vec<u8>) {
        let age = milliseconds(now.saturating_duration_since(self.stored));
        out.extend(age.to_le_bytes());
        for until in [self.fresh_until, self.stale_until] {
            let seconds = until.saturating_duration_since(self.stored).as_secs();
            out.extend(u32::try_from(seconds).unwrap_or(u32::MAX).to_le_bytes());
        }
        for part in [&*self.key.0, &*self.octets] {
            // A message, and a name with what stands behind it, are shorter than that.
            out.extend(u16::try_from(part.len()).unwrap_or_default().to_le_bytes());
            out.extend(part.get(..usize::from(u16::try_from(part.len()).unwrap_or_default())).unwrap_or_default());
        }
    }
}

/// An entry as it was written.
struct Saved<'a> {
    age: Duration,
    /// Seconds.
    life: u32,
    usable: u32,
    key: &'a [u8],
    octets: &'a [u8],
}

impl<'a> Saved<'a> {
    /// The first one, and what is behind it.
    fn read(octets: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (age, rest) = octets.split_first_chunk()?;
        let (life, rest) = number(rest)?;
        let (usable, rest) = number(rest)?;
        let (key, rest) = part(rest)?;
        let (octets, rest) = part(rest)?;
        Some((Self { age: Duration::from_millis(u64::from_le_bytes(*age)), life, usable, key, octets }, rest))
    }
}

fn part(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = octets.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
}

fn number(octets: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = octets.split_first_chunk()?;
    Some((u32::from_le_bytes(*number), rest))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn write_block(block: &[u8], out: &mut impl Write) -> io::Result<()> {
    let length = u32::try_from(block.len()).map_err(|_| ErrorKind::InvalidInput)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&crc32fast::hash(block).to_le_bytes())?;
    out.write_all(block)
}

/// The next block, and whether it is as it was written; `None` at the end.
fn read_block(from: &mut impl Read, count: usize) -> Result<Option<(Vec<u8>, bool)>, Unusable> {
    let mut head = [0; 8];
    from.read_exact(&mut head).map_err(|error| cut(error, count))?;
    let (length, checksum) = number(&head).and_then(|(length, rest)| Some((length, number(rest)?.0))).unwrap_or_default();
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > BLOCK_MAX {
        return Err(Unusable::Damaged(count));
    }
    let mut block = vec![0; length];
    from.read_exact(&mut block).map_err(|error| cut(error, count))?;
    let is_whole = crc32fast::hash(&block) == checksum;
    Ok((length > 0 || !is_whole).then_some((block, is_whole)))
}

/// A file that ends too early is damaged.
fn cut(error: io::Error, count: usize) -> Unusable {
    if error.kind() == ErrorKind::UnexpectedEof { Unusable::Damaged(count) } else { error.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Config, Times};
    use super::*;
    use crate::dns::{Class, Message, Names, Query, Question, RData, Rcode, Record, Type};

    fn query(name: &str) -> Query {
        Query::of(Question { name: name.parse().unwrap(), qtype: Type::A, qclass: Class::IN })
    }

    fn response(query: &Query, ttl: u32) -> Vec<u8> {
        let mut message = query.response(Rcode::NOERROR);
        message.answers.push(Record::new(query.question.name.clone(), ttl, RData::A([192, 0, 2, 1].into())));
        message.compose(true)
    }

    const CLOCK: Duration = Duration::from_secs(1_800_000_000);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A cache of so many names, and what is written of it when they are 20 s old.
    fn saved(count: usize) -> (Cache, Vec<u8>) {
        let (cache, now) = (Cache::new(Config::default()), Instant::now());
        for n in 0..count {
            let asked = query(&format!("n{n}.example.net"));
            cache.put(Key::new(&asked, 0).unwrap(), &response(&asked, 60), now).unwrap();
        }
        let mut file = Vec::new();
        assert_eq!(cache.save(7, now + seconds(20), CLOCK, &mut file).unwrap(), count);
        (cache, file)
    }

    #[test]
    fn what_is_read_again_is_as_old_as_it_is() {
        let (_, file) = saved(3_000);
        let asked = query("n7.example.net");
        for (away, ttl) in [(0, Some(40)), (30, Some(10)), (60, Some(30)), (86_400 + 41, None)] {
            let (cache, now) = (Cache::new(Config::default()), Instant::now());
            let count = cache.restore(7, now, CLOCK + seconds(away), &mut &file[..]).unwrap();
            let entry = cache.get(&Key::new(&asked, 0).unwrap());
            assert_eq!((count, entry.is_some()), if ttl.is_some() { (3_000, true) } else { (0, false) }, "{away} s later");
            let Some(entry) = entry else { continue };
            assert_eq!(entry.is_fresh(now), away < 40, "{away} s later");
            let mut out = Vec::new();
            entry.write(&asked.compose(), now, &mut out);
            assert_eq!(Message::parse(&out).unwrap().answers[0].ttl, ttl.unwrap(), "{away} s later; a stale one has 30 s");
        }
    }

    #[test]
    fn what_has_an_end_keeps_it() {
        let (cache, now, asked) = (Cache::new(Config::default()), Instant::now(), query("www.example.net"));
        let key = Key::new(&asked, 0).unwrap();
        cache.put_until(key.clone(), &response(&asked, 60), now, Some(now + seconds(90))).unwrap();
        let mut file = Vec::new();
        cache.save(7, now + seconds(20), CLOCK, &mut file).unwrap();
        for (away, restored) in [(69, 1), (71, 0)] {
            let cache = Cache::new(Config::default());
            assert_eq!(cache.restore(7, Instant::now(), CLOCK + seconds(away), &mut &file[..]).unwrap(), restored, "{away}");
        }
    }

    #[test]
    fn what_is_known_by_now_stays_and_what_is_of_others_is_left() {
        let (_, file) = saved(2);
        let (cache, now, asked) = (Cache::new(Config::default()), Instant::now(), query("n0.example.net"));
        let key = Key::new(&asked, 0).unwrap();
        cache.put(key.clone(), &response(&asked, 9), now).unwrap();
        assert_eq!(cache.restore(7, now, CLOCK, &mut &file[..]).unwrap(), 1);
        assert!(!cache.get(&key).unwrap().is_fresh(now + seconds(9)), "the newer one is still there");
        let restore = |mark, clock, file: &[u8]| cache.restore(mark, now, clock, &mut &file[..]);
        assert!(matches!(restore(8, CLOCK, &file), Err(Unusable::Other)));
        assert!(matches!(restore(7, CLOCK - seconds(5), &file), Err(Unusable::Future(_))));
        assert!(matches!(restore(7, CLOCK, b"something else altogether, and long enough"), Err(Unusable::Foreign)));
        assert!(matches!(restore(7, CLOCK, b""), Err(Unusable::Foreign)));
    }

    #[test]
    fn a_damaged_block_takes_no_other_with_it() {
        let (_, mut file) = saved(3_000);
        // An octet of the first block, behind the file's head and the block's.
        file[28 + 8 + 1_000] ^= 1;
        let (cache, now) = (Cache::new(Config::default()), Instant::now());
        let Err(Unusable::Damaged(count)) = cache.restore(7, now, CLOCK, &mut &file[..]) else { panic!("it is damaged") };
        assert_eq!(cache.find(&Names::All, now).len(), count);
        assert!((1_500..3_000).contains(&count), "{count}");
    }

    #[test]
    fn what_answers_another_question_is_nobodys() {
        let now = Instant::now();
        let (asked, other) = (query("www.example.net"), query("www.example.org"));
        let other_class = Query::of(Question { qclass: Class::CH, ..asked.question.clone() });
        for (of, is_restored) in [(&asked, true), (&other, false), (&other_class, false)] {
            let cache = Cache::new(Config::default());
            let entry = cache
                .made(Key::new(&asked, 0).unwrap(), &response(of, 60), Times::read(&response(of, 60)).unwrap(), 60, now)
                .unwrap();
            let mut file = Vec::new();
            cache.save(7, now, CLOCK, &mut file).unwrap();
            let mut block = Vec::new();
            entry.append(now, &mut block);
            file.truncate(28);
            write_block(&block, &mut file).unwrap();
            write_block(&[], &mut file).unwrap();
            assert_eq!(cache.restore(7, now, CLOCK, &mut &file[..]).unwrap(), usize::from(is_restored));
        }
    }

    proptest! {
        #[test]
        fn damage_is_seen_wherever_it_is(at in any::<prop::sample::Index>(), flip in prop::option::of(1u8..)) {
            let (_, mut file) = saved(900);
            let at = at.index(file.len());
            match flip {
                Some(flip) => file[at] ^= flip,
                None => file.truncate(at),
            }
            let (cache, now) = (Cache::new(Config::default()), Instant::now());
            let restored = cache.restore(7, now, CLOCK, &mut &file[..]);
            // The time of writing has no checksum: to be wrong by it is to be old, or of the future.
            let is_time = flip.is_some() && (20..28).contains(&at);
            prop_assert!(restored.is_err() || is_time, "{restored:?}");
            // And what is there is right.
            for entry in cache.find(&Names::All, now) {
                let asked = query(entry.shown(now).name.as_str());
                prop_assert_eq!(&entry.octets[2..], &response(&asked, 60)[2..], "but for the id");
            }
        }

        #[test]
        fn nothing_that_is_read_is_a_panic(octets in prop::collection::vec(any::<u8>(), 0..200), block: bool) {
            let mut file = MAGIC.to_vec();
            file.extend([7, 0, 0, 0]);
            file.extend(milliseconds(CLOCK).to_le_bytes());
            if block {
                write_block(&octets, &mut file).unwrap();
                write_block(&[], &mut file).unwrap();
            } else {
                file.extend(&octets);
            }
            let cache = Cache::new(Config::default());
            let _ = cache.restore(7, Instant::now(), CLOCK, &mut &file[..]);
            for entry in cache.find(&Names::All, Instant::now()) {
                let _ = entry.shown(Instant::now());
            }
        }
    }
}
