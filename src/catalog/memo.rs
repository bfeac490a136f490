//! What readers make of a service, kept beside it for as long as it stays as it is.

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use arc_swap::ArcSwapOption;

use super::Index;

/// An answer about a service's healthy instances, or what it is quickly made of.
#[derive(Debug)]
pub struct Prepared {
    /// For whose settings it was made.
    pub maker: u64,
    /// The state of the nodes it was made of: [`super::Catalog::nodes_index`].
    pub nodes: Index,
    /// In its maker's own form; `None` when nothing can be prepared.
    pub octets: Option<Box<[u8]>>,
}

/// Places for [`Prepared`] answers, one for each kind that their maker has. They are made empty with each new state of a
/// service; copies of them are empty, too.
///
/// The first kind is what most ask for. Where it is short, as it is with a few instances, it stands in the service itself:
/// among a million services each step aside is a memory access that takes as long as half the answer.
#[derive(Debug, Default)]
pub struct Memo {
    near: Near,
    far: [ArcSwapOption<Prepared>; Memo::KINDS],
}

impl Memo {
    pub const KINDS: usize = 3;

    /// Gives `take` what is kept of a kind for this maker and state of the nodes; `None` when nothing is.
    pub fn get<T>(&self, kind: usize, maker: u64, nodes: Index, take: impl FnOnce(Option<&[u8]>) -> T) -> Option<T> {
        if kind == 0
            && let Some((length, octets)) = self.near.read(maker, nodes)
        {
            return Some(take(octets.get(..length)));
        }
        let kept = self.far.get(kind)?.load();
        let kept = kept.as_ref().filter(|kept| kept.maker == maker && kept.nodes == nodes)?;
        Some(take(kept.octets.as_deref()))
    }

    /// Reads what [`Memo::get`] will read, to no other end.
    pub(super) fn touch(&self) -> u64 {
        self.near.version.load(Ordering::Relaxed) ^ self.near.words[0].load(Ordering::Relaxed)
    }

    /// Keeps this for a kind; there may be kinds that there are not.
    pub fn set(&self, kind: usize, prepared: Prepared) {
        let short = prepared.octets.as_deref().filter(|octets| kind == 0 && octets.len() <= Near::OCTETS);
        match (short, self.far.get(kind)) {
            (Some(octets), _) => self.near.write(prepared.maker, prepared.nodes, octets),
            (None, Some(place)) => place.store(Some(Arc::new(prepared))),
            (None, None) => {}
        }
    }
}

impl Clone for Memo {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// A few octets that many read and hardly anybody writes: a sequence lock. A reader writes nothing, and takes what it read
/// only if no writer was there meanwhile.
#[derive(Debug, Default)]
struct Near {
    /// How often it was written, twice; odd while somebody writes, 0 before the first time.
    version: AtomicU64,
    maker: AtomicU64,
    nodes: AtomicU64,
    /// The length in the first octet, then the octets.
    words: [AtomicU64; Near::WORDS],
}

impl Near {
    const WORDS: usize = 5;
    const OCTETS: usize = Near::WORDS * 8 - 1;

    /// How many octets there are, and these.
    fn read(&self, maker: u64, nodes: Index) -> Option<(usize, [u8; Near::OCTETS])> {
        let version = self.version.load(Ordering::Acquire);
        let same = self.maker.load(Ordering::Relaxed) == maker && self.nodes.load(Ordering::Relaxed) == nodes.0;
        if version == 0 || version % 2 == 1 || !same {
            return None;
        }
        let words: [[u8; 8]; Near::WORDS] = array::from_fn(|at| self.words[at].load(Ordering::Relaxed).to_le_bytes());
        // What was read before must not be of a later state than the version that is read now.
        fence(Ordering::Acquire);
        if self.version.load(Ordering::Relaxed) != version {
            return None;
        }
        let (length, octets) = words.as_flattened().split_first()?;
        Some((usize::from(*length), *octets.first_chunk()?))
    }

    /// Does nothing while somebody else writes: what is made twice is the same.
    fn write(&self, maker: u64, nodes: Index, octets: &[u8]) {
        let version = self.version.load(Ordering::Relaxed);
        let mine = version.is_multiple_of(2)
            && self.version.compare_exchange(version, version + 1, Ordering::Acquire, Ordering::Relaxed).is_ok();
        let Ok(length) = u8::try_from(octets.len()) else { return };
        if !mine {
            return;
        }
        // Nobody may see what follows together with the former version.
        fence(Ordering::Release);
        self.maker.store(maker, Ordering::Relaxed);
        self.nodes.store(nodes.0, Ordering::Relaxed);
        let mut all = [0; Near::WORDS * 8];
        all.iter_mut().zip([length].iter().chain(octets)).for_each(|(to, from)| *to = *from);
        for (word, octets) in self.words.iter().zip(all.as_chunks().0) {
            word.store(u64::from_le_bytes(*octets), Ordering::Relaxed);
        }
        self.version.store(version + 2, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(memo: &Memo, kind: usize, maker: u64, nodes: u64, octets: Option<&[u8]>) {
        memo.set(kind, Prepared { maker, nodes: Index(nodes), octets: octets.map(Into::into) });
    }

    fn get(memo: &Memo, kind: usize, maker: u64, nodes: u64) -> Option<Option<Vec<u8>>> {
        memo.get(kind, maker, Index(nodes), |octets| octets.map(<[u8]>::to_vec))
    }

    #[test]
    fn what_is_kept_is_given_for_its_maker_and_nodes_alone() {
        for length in [0, 1, Near::OCTETS, Near::OCTETS + 1, 500] {
            let octets: Vec<u8> = (0..length).map(|at| at as u8).collect();
            for kind in 0..Memo::KINDS {
                let memo = Memo::default();
                assert_eq!(get(&memo, kind, 0, 0), None);
                set(&memo, kind, 7, 3, Some(&octets));
                assert_eq!(get(&memo, kind, 7, 3), Some(Some(octets.clone())), "{length} {kind}");
                assert_eq!((get(&memo, kind, 8, 3), get(&memo, kind, 7, 4)), (None, None));
                set(&memo, kind, 7, 4, None);
                assert_eq!(get(&memo, kind, 7, 4), Some(None), "nothing can be prepared");
                assert_eq!(get(&memo.clone(), kind, 7, 4), None);
            }
        }
        set(&Memo::default(), Memo::KINDS, 1, 1, Some(&[]));
    }

    #[test]
    fn nobody_reads_half_of_what_is_written() {
        let memo = Memo::default();
        std::thread::scope(|scope| {
            for maker in 1..3u64 {
                let memo = &memo;
                scope.spawn(move || {
                    for round in 0..20_000u64 {
                        set(memo, 0, maker, round % 4, Some(&[maker as u8 * 16 + (round % 4) as u8; Near::OCTETS]));
                    }
                });
            }
            let mut seen = 0;
            for round in 0..200_000u64 {
                let (maker, nodes) = (1 + round % 2, round / 2 % 4);
                if let Some(octets) = get(&memo, 0, maker, nodes) {
                    assert_eq!(octets.unwrap(), [maker as u8 * 16 + nodes as u8; Near::OCTETS]);
                    seen += 1;
                }
            }
            assert!(seen > 0);
        });
    }
}
