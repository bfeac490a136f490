//! A persistent hash trie: for look-ups that must cost the same among a thousand entries and among a million.
//!
//! The catalog's ordered tables are [`Tree`](super::Tree)s; this stands beside one of them where the answer path needs an
//! entry by its name at once. Values bring their own key: who looks up gives a hash and says which value is meant.

use std::sync::Arc;

/// Hash bits that one level uses: 64 ways.
const BITS: u32 = 6;
/// Levels until the hash's 64 bits are used up.
const DEPTH_MAX: u32 = u64::BITS.div_ceil(BITS);

/// A hash trie with cheap clones. An insert or a removal copies the nodes on its path that a clone shares, at most
/// log64(n) of them, and changes the others in place.
#[derive(Debug, Clone)]
pub struct HashTrie<V> {
    root: Arc<Node<V>>,
    length: usize,
}

#[derive(Debug, Clone)]
struct Node<V> {
    /// Which of the 64 ways are taken; the slots stand in that order.
    taken: u64,
    slots: Vec<Slot<V>>,
}

#[derive(Debug, Clone)]
enum Slot<V> {
    Node(Arc<Node<V>>),
    One(u64, V),
    /// Values whose hashes are alike in every bit; hardly ever seen, but a wrong answer otherwise.
    Alike(u64, Vec<V>),
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
        let mut node = &self.root;
        for level in 0..=DEPTH_MAX {
            match node.slots.get(node.position(hash, level)?)? {
                Slot::Node(next) => node = next,
                Slot::One(other, value) => return (*other == hash && meant(value)).then_some(value),
                Slot::Alike(other, values) => return values.iter().find(|value| *other == hash && meant(value)),
            }
        }
        None
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

/// The bit that stands for a hash at a level. Below the last level all hashes are alike.
fn bit(hash: u64, level: u32) -> u64 {
    1 << (hash.checked_shr(level * BITS).unwrap_or(0) & 63)
}

impl<V> Node<V> {
    fn empty() -> Self {
        Self { taken: 0, slots: Vec::new() }
    }

    /// Where a hash's slot stands, if it is taken.
    fn position(&self, hash: u64, level: u32) -> Option<usize> {
        let bit = bit(hash, level);
        (self.taken & bit != 0).then(|| self.before(bit))
    }

    fn before(&self, bit: u64) -> usize {
        (self.taken & (bit - 1)).count_ones() as usize
    }
}

impl<V: Clone> Node<V> {
    /// Says whether the value is one more.
    fn insert(&mut self, hash: u64, value: V, meant: &impl Fn(&V) -> bool, level: u32) -> bool {
        let bit = bit(hash, level);
        let at = self.before(bit);
        if self.taken & bit == 0 {
            self.slots.reserve_exact(1);
            self.slots.insert(at, Slot::One(hash, value));
            self.taken |= bit;
            return true;
        }
        let slot = &mut self.slots[at];
        match slot {
            Slot::Node(node) => Arc::make_mut(node).insert(hash, value, meant, level + 1),
            Slot::One(other, old) if *other == hash => {
                let replaced = meant(old);
                *slot = if replaced { Slot::One(hash, value) } else { Slot::Alike(hash, vec![old.clone(), value]) };
                !replaced
            }
            Slot::Alike(other, values) if *other == hash => match values.iter_mut().find(|value| meant(value)) {
                Some(old) => {
                    *old = value;
                    false
                }
                None => {
                    values.push(value);
                    true
                }
            },
            Slot::One(other, _) | Slot::Alike(other, _) => {
                let mut node = Node { taken: self::bit(*other, level + 1), slots: vec![slot.clone()] };
                node.insert(hash, value, meant, level + 1);
                *slot = Slot::Node(Arc::new(node));
                true
            }
        }
    }

    /// Removes a value that is there.
    fn remove(&mut self, hash: u64, meant: &impl Fn(&V) -> bool, level: u32) {
        let bit = bit(hash, level);
        let Some(at) = self.position(hash, level) else { return };
        let gone = match &mut self.slots[at] {
            Slot::Node(node) => {
                let node = Arc::make_mut(node);
                node.remove(hash, meant, level + 1);
                if let [only @ (Slot::One(..) | Slot::Alike(..))] = &node.slots[..] {
                    self.slots[at] = only.clone();
                    return;
                }
                node.slots.is_empty()
            }
            Slot::One(..) => true,
            Slot::Alike(_, values) => {
                values.retain(|value| !meant(value));
                if let [only] = &values[..] {
                    self.slots[at] = Slot::One(hash, only.clone());
                    return;
                }
                values.is_empty()
            }
        };
        if gone {
            self.slots.remove(at);
            self.taken &= !bit;
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
            let pairs = a.slots.iter().zip(&b.slots);
            1 + pairs.map(|pair| if let (Slot::Node(a), Slot::Node(b)) = pair { copied(a, b) } else { 0 }).sum::<usize>()
        }
        assert!((1..=4).contains(&copied(&published.root, &trie.root)));
    }
}
