//! Names of lists, a million of them in some 11 MB: each is the hash of its wire form, with what is to become of it. The
//! names themselves stand in the files, where whoever wants to read them looks them up.
//!
//! The hashes have 64 bits and a seed of this process, so that nobody can write a name that collides with one of a list.
//! That two names do by chance, and one that nobody listed is blocked, happens to a question in some ten million million
//! with a million names. The hashes are sorted, and their first bits lead to a handful of them: a look-up reads two lines of
//! memory, and needs no more room than the rows.

use std::hash::BuildHasher;
use std::iter;

use foldhash::quality::RandomState;

/// What becomes of a name: the number of the list that says so, what is done, and whether that holds for the name itself
/// and for all names below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule(u16);

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// What the `[[block]]` says.
    Given,
    /// The lists of this `[[block]]` do not count.
    Except,
    /// There is no such name.
    Nxdomain,
    /// It has no such data.
    Nodata,
    /// Nothing, and what other lists say does not count.
    Passthru,
    /// There is no answer.
    Drop,
    /// The client is to ask again by a stream.
    TcpOnly,
    /// Records are given in the place of others.
    Data,
}

impl Action {
    const ALL: [Self; 8] =
        [Self::Given, Self::Except, Self::Nxdomain, Self::Nodata, Self::Passthru, Self::Drop, Self::TcpOnly, Self::Data];
}

/// Which names are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) itself: bool,
    pub(super) below: bool,
}

impl Reach {
    /// None: the name is there, since others are below it or something is said of them.
    pub(super) const NOTHING: Self = Self { itself: false, below: false };
    pub(super) const ITSELF: Self = Self { itself: true, below: false };
    pub(super) const BELOW: Self = Self { itself: false, below: true };
    pub(super) const BOTH: Self = Self { itself: true, below: true };
}

impl Rule {
    /// Lists are numbered below this.
    pub(super) const LISTS: u16 = 1 << 11;

    pub(super) fn new(list: u16, action: Action, reach: Reach) -> Self {
        Self((list % Self::LISTS) << 5 | (action as u16) << 2 | u16::from(reach.itself) << 1 | u16::from(reach.below))
    }

    pub(super) fn list(self) -> u16 {
        self.0 >> 5
    }

    pub(super) fn action(self) -> Action {
        Action::ALL.get(usize::from(self.0 >> 2 & 7)).copied().unwrap_or(Action::Given)
    }

    fn reach(self) -> Reach {
        Reach { itself: self.0 & 2 != 0, below: self.0 & 1 != 0 }
    }

    /// The same of a list that has another number now.
    pub(super) fn renumbered(self, list: u16) -> Self {
        Self::new(list, self.action(), self.reach())
    }

    /// Is it of a zone, where what is nearer to a name hides what is farther away (RFC 4592, 3.3.1)?
    pub(super) fn hides(self) -> bool {
        !matches!(self.action(), Action::Given | Action::Except) || self.reach() == Reach::NOTHING
    }

    /// Does it hold for a name that is `above` labels below the one that the rule is of?
    pub(super) fn holds(self, above: usize) -> bool {
        if above == 0 { self.reach().itself } else { self.reach().below }
    }
}

/// How names are hashed. A clone hashes as the original does.
#[derive(Debug, Clone, Default)]
pub(super) struct Hasher(RandomState);

impl Hasher {
    /// The hash of a name in wire form and lower case.
    pub(super) fn hash(&self, lower: &[u8]) -> u64 {
        self.0.hash_one(lower)
    }
}

/// Names and their rules.
#[derive(Debug, Default)]
pub(super) struct Names {
    hashes: Box<[u64]>,
    rules: Box<[Rule]>,
    /// For each value of the hashes' first bits, where the hashes with it start; and the end.
    starts: Box<[u32]>,
    /// Bits of a hash behind those.
    shift: u32,
}

/// Hashes that share their first bits, at least, on average.
const SHARING: usize = 4;

impl Names {
    /// Rows may come more than once, and in any order.
    pub(super) fn new(mut rows: Vec<(u64, Rule)>) -> Self {
        if rows.is_empty() {
            return Self::default();
        }
        rows.sort_unstable();
        rows.dedup();
        let buckets = (rows.len() / SHARING + 1).next_power_of_two().max(2);
        let shift = u64::BITS - buckets.trailing_zeros();
        let mut starts = vec![0u32; buckets + 1];
        for (hash, _) in &rows {
            if let Some(count) = starts.get_mut((hash >> shift) as usize + 1) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        Self {
            hashes: rows.iter().map(|(hash, _)| *hash).collect(),
            rules: rows.iter().map(|(_, rule)| *rule).collect(),
            starts: starts.into(),
            shift,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// All rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = (u64, Rule)> + '_ {
        iter::zip(self.hashes.iter().copied(), self.rules.iter().copied())
    }

    /// The rules of this hash, those of earlier lists first.
    pub(super) fn rules(&self, hash: u64) -> &[Rule] {
        if self.is_empty() {
            return &[];
        }
        let bucket = (hash >> self.shift) as usize;
        let Some(&[start, end]) = self.starts.get(bucket..bucket + 2) else { return &[] };
        let (start, end) = (start as usize, end as usize);
        let Some(sharing) = self.hashes.get(start..end) else { return &[] };
        let is_it = |other: &u64| *other == hash;
        let Some(first) = sharing.iter().position(is_it) else { return &[] };
        let count = sharing.get(first..).unwrap_or_default().iter().take_while(|other| is_it(other)).count();
        self.rules.get(start + first..start + first + count).unwrap_or_default()
    }
}

/// A name in lower case, where it takes no allocation to have one.
pub(super) struct Lower {
    octets: [u8; 255],
    length: usize,
}

impl Lower {
    pub(super) fn of(wire: &[u8]) -> Self {
        let (mut octets, length) = ([0; 255], wire.len().min(255));
        if let (Some(place), Some(wire)) = (octets.get_mut(..length), wire.get(..length)) {
            place.copy_from_slice(wire);
            // Length octets are below 64 and no letters, so that this leaves them alone.
            place.make_ascii_lowercase();
        }
        Self { octets, length }
    }

    pub(super) fn wire(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }

    /// The name itself and all that it is below, but for the root; each in wire form.
    pub(super) fn upwards(&self) -> impl Iterator<Item = &[u8]> {
        iter::successors(Some(self.wire()), |rest| rest.get(usize::from(*rest.first()?) + 1..))
            .take_while(|rest| rest.first().is_some_and(|length| *length > 0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rule_is_what_it_was_made_of() {
        for list in [0, 1, 1000, Rule::LISTS - 1] {
            for action in Action::ALL {
                for reach in [Reach::ITSELF, Reach::BELOW, Reach::BOTH] {
                    let rule = Rule::new(list, action, reach);
                    assert_eq!((rule.list(), rule.action(), rule.reach()), (list, action, reach));
                    assert_eq!(rule.renumbered(7), Rule::new(7, action, reach));
                    assert_eq!((rule.holds(0), rule.holds(3)), (reach.itself, reach.below));
                }
            }
        }
    }

    #[test]
    fn a_name_is_walked_up_to_its_top() {
        let upwards = |text: &str| {
            let name: crate::dns::Name = text.parse().unwrap();
            Lower::of(name.wire()).upwards().map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        assert_eq!(upwards("A.b.Example"), [&b"\x01a\x01b\x07example\0"[..], b"\x01b\x07example\0", b"\x07example\0"]);
        assert!(upwards(".").is_empty());
        assert_eq!(upwards(&"a.".repeat(127)).len(), 127);
    }

    proptest! {
        #[test]
        fn what_was_put_in_is_found_and_nothing_else(
            rows in prop::collection::vec((prop_oneof![any::<u64>(), 0..9u64, u64::MAX - 9..=u64::MAX], 0..64u16), 0..300),
            other in any::<u64>(),
        ) {
            let rows: Vec<(u64, Rule)> = rows.into_iter().map(|(hash, list)| (hash, Rule::new(list, Action::Given, Reach::BOTH))).collect();
            let names = Names::new(rows.clone());
            let expected = |hash: u64| {
                let mut rules: Vec<Rule> = rows.iter().filter(|row| row.0 == hash).map(|row| row.1).collect();
                rules.sort_unstable();
                rules.dedup();
                rules
            };
            for hash in rows.iter().map(|row| row.0).chain([other, 0, u64::MAX]) {
                prop_assert_eq!(names.rules(hash), expected(hash));
            }
            prop_assert_eq!(Names::new(names.rows().collect()).rows().collect::<Vec<_>>(), names.rows().collect::<Vec<_>>());
        }
    }
}
