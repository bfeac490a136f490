//! A persistent hash trie: for look-ups that must cost the same among a thousand entries and among a million.
//!
//! The catalog's ordered tables are [`Tree`](super::Tree)s; this stands beside one of them where the answer path needs an
//! entry by its name at once. Values bring their own key: who looks up gives a hash and says which value is meant.
//!
//! Among a million entries most of what a look-up reads is in no cache of the processor, so that it costs as many
//! memory accesses as it follows pointers: a node's slots stand in it, and the values of one slot beside one another.

use std::array;
use std::sync::Arc;

/// Hash bits that one level uses.
const BITS: u32 = 6;
const WAYS: usize = 1 << BITS;
/// Values that one slot holds before they are spread over a node of their own.
const FEW: usize = 8;
/// Levels until the hash's 64 bits are used up; below them values are alike in every bit, which is hardly ever seen.
const LEVELS: u32 = u64::BITS.div_ceil(BITS);

/// Look-ups that are read ahead for at one time.
pub const AHEAD: usize = 64;

/// A hash trie with cheap clones. An insert or a removal copies the nodes on its path that a clone shares, at most
/// log64(n) of them, and changes the others in place.
#[derive(Debug, Clone)]
pub struct HashTrie<V> {
    root: Arc<Node<V>>,
    length: usize,
}

#[derive(Debug, Clone)]
struct Node<V>([Slot<V>; WAYS]);

#[derive(Debug, Clone)]
enum Slot<V> {
    Empty,
    /// Values with their hashes.
    Few(Arc<[(u64, V)]>),
    Node(Arc<Node<V>>),
}

impl<V> Default for HashTrie<V> {
    fn default() -> Self {
        Self { root: Arc::new(Node::empty()), length: 0 }
    }
}

impl<V> HashTrie<V> {
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The value with this hash that is meant.
    pub fn get(&self, hash: u64, meant: impl Fn(&V) -> bool) -> Option<&V> {
        let (mut node, mut level) = (&self.root, 0);
        loop {
            match node.0.get(way(hash, level))? {
                Slot::Empty => return None,
                Slot::Few(values) => return place(values, hash, &meant).and_then(|at| Some(&values.get(at)?.1)),
                Slot::Node(next) => (node, level) = (next, level + 1),
            }
        }
    }
}

impl<V> HashTrie<V> {
    /// Reads what the look-ups of these hashes will read, the first [`AHEAD`] of them, and has `touch` read the
    /// values. One look-up waits for memory at each of its steps; all take a step together here, so that they wait for it
    /// side by side. Says nothing but that it was read.
    pub fn read_ahead(&self, hashes: &[u64], touch: impl Fn(&V) -> u64) -> u64 {
        let mut nodes = [Some(&*self.root); AHEAD];
        let mut found: [&[(u64, V)]; AHEAD] = [&[]; AHEAD];
        for level in 0..LEVELS {
            let mut further = false;
            for ((hash, at), found) in hashes.iter().zip(&mut nodes).zip(&mut found) {
                let Some(node) = at.take() else { continue };
                match &node.0[way(*hash, level)] {
                    Slot::Empty => {}
                    Slot::Few(values) => *found = values,
                    Slot::Node(next) => (*at, further) = (Some(&**next), true),
                }
            }
            if !further {
                break;
            }
        }
        let first = found.iter().fold(0, |read, values| read ^ values.first().map_or(0, |(hash, _)| *hash));
        let values = hashes.iter().zip(found).filter_map(|(hash, values)| values.iter().find(|(other, _)| other == hash));
        values.fold(first, |read, (_, value)| read ^ touch(value))
    }
}

impl<V: Clone> HashTrie<V> {
    /// Puts a value in place of the one that is `meant`, if that is there.
    pub fn insert(&mut self, hash: u64, value: V, meant: impl Fn(&V) -> bool) {
        if Arc::make_mut(&mut self.root).insert(hash, value, &meant, 0) {
            self.length += 1;
        }
    }

    /// Takes the value that is meant out.
    pub fn remove(&mut self, hash: u64, meant: impl Fn(&V) -> bool) {
        if self.get(hash, &meant).is_some() {
            Arc::make_mut(&mut self.root).remove(hash, &meant, 0);
            self.length -= 1;
        }
    }
}

/// The slot of a hash in a node of this level.
fn way(hash: u64, level: u32) -> usize {
    hash.checked_shr(level * BITS).unwrap_or(0) as usize % WAYS
}

/// Where the value that is meant stands.
fn place<V>(values: &[(u64, V)], hash: u64, meant: impl Fn(&V) -> bool) -> Option<usize> {
    values.iter().position(|(other, value)| *other == hash && meant(value))
}

impl<V> Node<V> {
    fn empty() -> Self {
        Self(array::from_fn(|_| Slot::Empty))
    }

    fn slot(&mut self, hash: u64, level: u32) -> &mut Slot<V> {
        &mut self.0[way(hash, level)]
    }
}

impl<V: Clone> Node<V> {
    /// Says whether the value is one more.
    fn insert(&mut self, hash: u64, value: V, meant: &dyn Fn(&V) -> bool, level: u32) -> bool {
        let slot = self.slot(hash, level);
        match slot {
            Slot::Empty => *slot = Slot::Few([(hash, value)].into()),
            Slot::Node(node) => return Arc::make_mut(node).insert(hash, value, meant, level + 1),
            Slot::Few(values) => match place(values, hash, meant) {
                Some(at) => {
                    Arc::make_mut(values)[at] = (hash, value);
                    return false;
                }
                None if values.len() < FEW || level + 1 >= LEVELS => {
                    *values = values.iter().cloned().chain([(hash, value)]).collect();
                }
                None => {
                    let mut node = Node::empty();
                    for (hash, value) in values.iter().cloned().chain([(hash, value)]) {
                        node.insert(hash, value, &|_| false, level + 1);
                    }
                    *slot = Slot::Node(Arc::new(node));
                }
            },
        }
        true
    }

    /// Removes a value that is there. A node stays until it is empty, so that what comes and goes does not make and unmake
    /// one each time.
    fn remove(&mut self, hash: u64, meant: &dyn Fn(&V) -> bool, level: u32) {
        let slot = self.slot(hash, level);
        let empty = match slot {
            Slot::Empty => return,
            Slot::Node(node) => {
                let node = Arc::make_mut(node);
                node.remove(hash, meant, level + 1);
                node.0.iter().all(|slot| matches!(slot, Slot::Empty))
            }
            Slot::Few(values) => {
                let gone = |value: &(u64, V)| value.0 == hash && meant(&value.1);
                *values = values.iter().filter(|value| !gone(value)).cloned().collect();
                values.is_empty()
            }
        };
        if empty {
            *slot = Slot::Empty;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Few different hashes, many alike in their first or in all bits.
    fn hash(key: u16) -> u64 {
        match key % 4 {
            0 => u64::from(key) << 58,
            1 => u64::from(key / 16),
            2 => u64::from(key).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            _ => 7,
        }
    }

    proptest! {
        #[test]
        fn does_what_the_standard_map_does(steps in proptest::collection::vec((0u16..300, 0u8..3, any::<u32>()), 0..600)) {
            let mut trie = HashTrie::default();
            let mut model = BTreeMap::new();
            let mut published = Vec::new();
            for (key, step, value) in steps {
                match step {
                    0 => {
                        trie.remove(hash(key), |(other, _)| *other == key);
                        model.remove(&key);
                    }
                    _ => {
                        trie.insert(hash(key), (key, value), |(other, _)| *other == key);
                        model.insert(key, value);
                    }
                }
                if value % 50 == 0 {
                    published.push((trie.clone(), model.clone()));
                }
            }
            published.push((trie, model));
            for (trie, model) in published {
                prop_assert_eq!(trie.len(), model.len());
                for key in 0..300 {
                    prop_assert_eq!(trie.get(hash(key), |(other, _)| *other == key).map(|(_, v)| v), model.get(&key));
                }
            }
        }
    }

    #[test]
    fn a_change_copies_only_the_path_to_it() {
        let mut trie = HashTrie::default();
        let spread = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for n in 0..100_000 {
            trie.insert(spread(n), n, |other| *other == n);
        }
        let published = trie.clone();
        trie.insert(spread(5), 5, |other| *other == 5);
        fn copied(a: &Arc<Node<u64>>, b: &Arc<Node<u64>>) -> usize {
            if Arc::ptr_eq(a, b) {
                return 0;
            }
            let pairs = a.0.iter().zip(&b.0);
            1 + pairs.map(|pair| if let (Slot::Node(a), Slot::Node(b)) = pair { copied(a, b) } else { 0 }).sum::<usize>()
        }
        assert!((1..=4).contains(&copied(&published.root, &trie.root)));
    }
}
