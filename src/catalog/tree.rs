//! An ordered map that can be photographed: the ground of the catalog's snapshots.
//!
//! A clone of a [`Tree`] costs one reference count. The clone and the original then share their nodes,
//! and a change to either copies only the nodes between its root and the changed leaf. What is not
//! shared is changed in place, so filling a tree that nobody has cloned costs what a plain B-tree costs.
//!
//! It is not a concurrent map: a writer needs `&mut Tree`, and readers hold clones of their own.
//! Copying a node clones up to [`CAPACITY`] keys and values, so both should be cheap to clone,
//! such as an `Arc` or a small number.
//!
//! Start at [`Tree`]; the shape of the nodes, and what always holds of it, is told at [`Node`].

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::mem;
use std::ops::{Bound, RangeBounds};
use std::slice;
use std::sync::Arc;

use equivalent::Comparable;

/// The most entries of a leaf, and the most children of a branch.
///
/// A larger node makes a shallower tree and faster reads, a smaller one makes cheaper copies.
const CAPACITY: usize = 32;

/// A node that a removal leaves with fewer than this is joined with its neighbour.
const SPARSE: usize = CAPACITY / 4;

/// Two neighbours that hold no more than this together become one node, else they share evenly.
///
/// It is less than [`CAPACITY`], so that an insert after a removal does not split what was just joined.
const JOINED: usize = CAPACITY * 3 / 4;

/// A persistent ordered map.
///
/// `n` is the number of entries in the costs below; "copies a path" means that the O(log n) nodes from
/// the root to the entry are copied as far as another clone shares them, and changed in place otherwise.
pub struct Tree<K, V> {
    root: Arc<Node<K, V>>,
    len: usize,
}

impl<K, V> Tree<K, V> {
    /// An empty tree. O(1).
    pub fn new() -> Self {
        Self { root: Arc::new(Node::Leaf(Vec::new())), len: 0 }
    }

    /// The number of entries. O(1).
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no entries. O(1).
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All entries in the order of their keys, from either end. O(1) to start, O(1) amortized a step.
    pub fn iter(&self) -> Iter<'_, K, V> {
        let mut iter = Iter::empty();
        match &*self.root {
            Node::Leaf(entries) => iter.front = entries.iter(),
            Node::Branch(branch) => iter.between.push_back(&branch.children),
        }
        iter
    }

    /// All keys in order, from either end. Costs what [`Tree::iter`] costs.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + FusedIterator {
        self.iter().map(|(key, _)| key)
    }

    /// All values in the order of their keys, from either end. Costs what [`Tree::iter`] costs.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + FusedIterator {
        self.iter().map(|(_, value)| value)
    }

    /// The entry with the least key. O(log n).
    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        let mut node = &self.root;
        loop {
            match &**node {
                Node::Leaf(entries) => return entries.first().map(pair),
                Node::Branch(branch) => node = branch.children.first()?,
            }
        }
    }

    /// The entry with the greatest key. O(log n).
    pub fn last_key_value(&self) -> Option<(&K, &V)> {
        let mut node = &self.root;
        loop {
            match &**node {
                Node::Leaf(entries) => return entries.last().map(pair),
                Node::Branch(branch) => node = branch.children.last()?,
            }
        }
    }

    /// The value at `key`. O(log n), allocates nothing.
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        Q: ?Sized + Comparable<K>,
    {
        self.get_key_value(key).map(|(_, value)| value)
    }

    /// The entry at `key`. O(log n), allocates nothing.
    pub fn get_key_value<Q>(&self, key: &Q) -> Option<(&K, &V)>
    where
        Q: ?Sized + Comparable<K>,
    {
        let mut node = &self.root;
        loop {
            match &**node {
                Node::Leaf(entries) => {
                    let index = search(entries, key).ok()?;
                    return entries.get(index).map(pair);
                }
                Node::Branch(branch) => node = branch.children.get(branch.child_of(key))?,
            }
        }
    }

    /// Whether there is an entry at `key`. O(log n), allocates nothing.
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        Q: ?Sized + Comparable<K>,
    {
        self.get(key).is_some()
    }

    /// The entries whose keys are within `bounds`, in order, from either end.
    /// O(log n) to start, O(1) amortized a step. Bounds that end before they start hold nothing.
    pub fn range<Q, R>(&self, bounds: R) -> Iter<'_, K, V>
    where
        Q: ?Sized + Comparable<K>,
        R: RangeBounds<Q>,
    {
        let (start, end) = (bounds.start_bound(), bounds.end_bound());
        let mut iter = Iter::empty();
        let mut node = &self.root;
        loop {
            match &**node {
                Node::Leaf(entries) => {
                    let within = start_in(entries, start)..end_in(entries, end);
                    iter.front = entries.get(within).unwrap_or_default().iter();
                    return iter;
                }
                Node::Branch(branch) => {
                    let first = branch.child_of_start(start);
                    let last = branch.child_of_end(end);
                    if first < last {
                        iter.between.push_back(&branch.children[first + 1..last]);
                        iter.start_at(&branch.children[first], start);
                        iter.end_at(&branch.children[last], end);
                        return iter;
                    } else if first > last {
                        return iter;
                    }
                    node = &branch.children[first];
                }
            }
        }
    }
}

impl<K: Clone + Ord, V: Clone> Tree<K, V> {
    /// Puts `value` at `key` and returns the value that it replaces, whose key goes too. O(log n), copies a path.
    ///
    /// Keys that come in ascending order leave full nodes behind.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match insert(&mut self.root, key, value, true) {
            Inserted::Replaced(old) => return Some(old),
            Inserted::Added => {}
            Inserted::Split(separator, right) => {
                self.root = Arc::new(Node::Branch(Branch {
                    separators: vec![separator],
                    children: vec![Arc::clone(&self.root), right],
                }));
            }
        }
        self.len += 1;
        None
    }

    /// The value at `key`, to be changed. O(log n), copies a path if there is such an entry.
    pub fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        Q: ?Sized + Comparable<K>,
    {
        // A key that is not here must not cost the copies.
        if !self.contains_key(key) {
            return None;
        }
        let mut node = &mut self.root;
        loop {
            match Arc::make_mut(node) {
                Node::Leaf(entries) => {
                    let index = search(entries, key).ok()?;
                    return entries.get_mut(index).map(|(_, value)| value);
                }
                Node::Branch(branch) => {
                    let index = branch.child_of(key);
                    node = branch.children.get_mut(index)?;
                }
            }
        }
    }

    /// Takes the entry at `key` out and returns its value.
    /// O(log n), copies a path, and at most one neighbour of each node on it, if there is such an entry.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        Q: ?Sized + Comparable<K>,
    {
        // A key that is not here must not cost the copies.
        if !self.contains_key(key) {
            return None;
        }
        let removed = remove(&mut self.root, key)?;
        self.len -= 1;
        if let Node::Branch(branch) = &*self.root
            && let [only] = branch.children.as_slice()
        {
            self.root = Arc::clone(only);
        }
        Some(removed)
    }
}

impl<K: Clone + Ord, V: Clone> Tree<K, V> {
    /// Puts all of these in, whose keys are in strictly ascending order, as [`Tree::insert`] would. When they are many
    /// beside what is there, both are merged into a tree of full nodes: O(n) for all, and hardly a comparison each.
    pub fn extend_sorted(&mut self, entries: Vec<(K, V)>) {
        if entries.len() < self.len / 4 {
            return self.extend(entries);
        }
        let mut entries = entries.into_iter().peekable();
        let mut all = Vec::with_capacity(self.len + entries.len());
        for (key, value) in self.iter() {
            while let Some(entry) = entries.next_if(|(new, _)| new < key) {
                all.push(entry);
            }
            let replaced = entries.next_if(|(new, _)| new == key);
            all.push(replaced.unwrap_or_else(|| (key.clone(), value.clone())));
        }
        all.extend(entries);
        *self = Self::from_sorted(all);
    }

    /// A tree of full nodes; the keys are in strictly ascending order.
    fn from_sorted(entries: Vec<(K, V)>) -> Self {
        let len = entries.len();
        let mut entries = entries.into_iter();
        let mut level = Vec::with_capacity(len.div_ceil(CAPACITY));
        while entries.len() > 0 {
            let leaf: Vec<_> = entries.by_ref().take(CAPACITY).collect();
            level.push((leaf[0].0.clone(), Arc::new(Node::Leaf(leaf))));
        }
        while level.len() > 1 {
            let mut left = level.len();
            let mut nodes = level.into_iter();
            let mut above = Vec::with_capacity(left.div_ceil(CAPACITY));
            while left > 0 {
                // A branch has two children at least, so that none may be left alone.
                let count = if left == CAPACITY + 1 { CAPACITY - 1 } else { left.min(CAPACITY) };
                left -= count;
                let (mut keys, children): (Vec<_>, Vec<_>) = nodes.by_ref().take(count).unzip();
                let first = keys.remove(0);
                above.push((first, Arc::new(Node::Branch(Branch { separators: keys, children }))));
            }
            level = above;
        }
        match level.pop() {
            Some((_, root)) => Self { root, len },
            None => Self::new(),
        }
    }
}

impl<K, V> Default for Tree<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

/// O(1): the clone shares every node.
impl<K, V> Clone for Tree<K, V> {
    fn clone(&self) -> Self {
        Self { root: Arc::clone(&self.root), len: self.len }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Tree<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl<K: Clone + Ord, V: Clone> Extend<(K, V)> for Tree<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K: Clone + Ord, V: Clone> FromIterator<(K, V)> for Tree<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut tree = Self::new();
        tree.extend(entries);
        tree
    }
}

impl<'a, K, V> IntoIterator for &'a Tree<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

/// The entries of a [`Tree`], or of a range of it, in the order of their keys.
///
/// The three parts stand in order and overlap nowhere, so what is taken from one end is never met from the
/// other. Branches are opened when an end reaches them: at most a few slices a level are held.
pub struct Iter<'a, K, V> {
    front: slice::Iter<'a, (K, V)>,
    between: VecDeque<&'a [Arc<Node<K, V>>]>,
    back: slice::Iter<'a, (K, V)>,
}

impl<'a, K, V> Iter<'a, K, V> {
    fn empty() -> Self {
        Self { front: [].iter(), between: VecDeque::new(), back: [].iter() }
    }

    /// Puts what `node` holds from `start` on before everything else.
    fn start_at<Q>(&mut self, mut node: &'a Arc<Node<K, V>>, start: Bound<&Q>)
    where
        Q: ?Sized + Comparable<K>,
    {
        loop {
            match &**node {
                Node::Leaf(entries) => {
                    self.front = entries[start_in(entries, start)..].iter();
                    return;
                }
                Node::Branch(branch) => {
                    let first = branch.child_of_start(start);
                    self.between.push_front(&branch.children[first + 1..]);
                    node = &branch.children[first];
                }
            }
        }
    }

    /// Puts what `node` holds up to `end` after everything else.
    fn end_at<Q>(&mut self, mut node: &'a Arc<Node<K, V>>, end: Bound<&Q>)
    where
        Q: ?Sized + Comparable<K>,
    {
        loop {
            match &**node {
                Node::Leaf(entries) => {
                    self.back = entries[..end_in(entries, end)].iter();
                    return;
                }
                Node::Branch(branch) => {
                    let last = branch.child_of_end(end);
                    self.between.push_back(&branch.children[..last]);
                    node = &branch.children[last];
                }
            }
        }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.front.next() {
                return Some(pair(entry));
            }
            let Some(nodes) = self.between.pop_front() else {
                return self.back.next().map(pair);
            };
            let Some((first, rest)) = nodes.split_first() else {
                continue;
            };
            self.between.push_front(rest);
            match &**first {
                Node::Leaf(entries) => self.front = entries.iter(),
                Node::Branch(branch) => self.between.push_front(&branch.children),
            }
        }
    }
}

impl<K, V> DoubleEndedIterator for Iter<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.back.next_back() {
                return Some(pair(entry));
            }
            let Some(nodes) = self.between.pop_back() else {
                return self.front.next_back().map(pair);
            };
            let Some((last, rest)) = nodes.split_last() else {
                continue;
            };
            self.between.push_back(rest);
            match &**last {
                Node::Leaf(entries) => self.back = entries.iter(),
                Node::Branch(branch) => self.between.push_back(&branch.children),
            }
        }
    }
}

impl<K, V> FusedIterator for Iter<'_, K, V> {}

/// A node of the tree: entries are in the leaves only, and every leaf is equally deep.
///
/// What holds between any two calls:
/// - no node holds more than [`CAPACITY`], and entries are in strictly ascending order;
/// - only the root may be an empty leaf, and a branch has at least two children;
/// - a node holds at least [`SPARSE`], apart from the root and the last node of each level.
///   Those last ones may hold less because appending leaves full nodes behind instead of halves.
#[derive(Clone)]
enum Node<K, V> {
    Leaf(Vec<(K, V)>),
    Branch(Branch<K, V>),
}

impl<K: Clone, V: Clone> Node<K, V> {
    /// The number of entries of a leaf or of children of a branch.
    fn len(&self) -> usize {
        match self {
            Self::Leaf(entries) => entries.len(),
            Self::Branch(branch) => branch.children.len(),
        }
    }

    /// Takes in the node that stood right of this one behind `separator`.
    fn join(&mut self, separator: K, right: Self) {
        match (self, right) {
            (Self::Leaf(left), Self::Leaf(right)) => left.extend(right),
            (Self::Branch(left), Self::Branch(right)) => {
                left.separators.push(separator);
                left.separators.extend(right.separators);
                left.children.extend(right.children);
            }
            _ => unreachable!("all leaves are equally deep, so neighbours are of one kind"),
        }
    }

    /// Takes off what stands at `index` and after it, with the separator to put before it.
    fn split(&mut self, index: usize) -> (K, Self) {
        match self {
            Self::Leaf(entries) => {
                let right = entries.split_off(index);
                (right[0].0.clone(), Self::Leaf(right))
            }
            Self::Branch(branch) => {
                let (separator, right) = branch.split(index);
                (separator, Self::Branch(right))
            }
        }
    }

    /// Gives back the room that a vector took beyond [`CAPACITY`].
    fn trim(&mut self) {
        match self {
            Self::Leaf(entries) => entries.shrink_to(CAPACITY),
            Self::Branch(branch) => {
                branch.separators.shrink_to(CAPACITY - 1);
                branch.children.shrink_to(CAPACITY);
            }
        }
    }
}

/// Children and the keys that part them: there is one separator fewer than there are children,
/// and `separators[i]` is greater than every key in `children[i]` and at most the least in `children[i + 1]`.
///
/// A separator need not be the key of an entry, for it stays when that entry goes.
#[derive(Clone)]
struct Branch<K, V> {
    separators: Vec<K>,
    children: Vec<Arc<Node<K, V>>>,
}

impl<K, V> Branch<K, V> {
    /// The index of the only child that can hold `key`.
    fn child_of<Q>(&self, key: &Q) -> usize
    where
        Q: ?Sized + Comparable<K>,
    {
        self.separators.partition_point(|separator| key.compare(separator).is_ge())
    }

    /// The index of the first child that can hold a key from `start` on.
    fn child_of_start<Q>(&self, start: Bound<&Q>) -> usize
    where
        Q: ?Sized + Comparable<K>,
    {
        match start {
            Bound::Included(key) | Bound::Excluded(key) => self.child_of(key),
            Bound::Unbounded => 0,
        }
    }

    /// The index of the last child that can hold a key up to `end`.
    fn child_of_end<Q>(&self, end: Bound<&Q>) -> usize
    where
        Q: ?Sized + Comparable<K>,
    {
        match end {
            Bound::Included(key) | Bound::Excluded(key) => self.child_of(key),
            Bound::Unbounded => self.separators.len(),
        }
    }
}

impl<K: Clone, V: Clone> Branch<K, V> {
    /// Puts `child` right of the child at `index`, with `separator` between the two.
    fn insert_after(&mut self, index: usize, separator: K, child: Arc<Node<K, V>>) {
        insert_tight(&mut self.separators, index, separator, CAPACITY - 1);
        insert_tight(&mut self.children, index + 1, child, CAPACITY);
    }

    /// Takes off the children at `index` and after, with the separator that stood before them.
    fn split(&mut self, index: usize) -> (K, Self) {
        let right = Self { separators: self.separators.split_off(index), children: self.children.split_off(index) };
        (self.separators.remove(index - 1), right)
    }

    /// Joins the sparse child at `index` with a neighbour, and parts them evenly if one node is too few for both.
    fn refill(&mut self, index: usize) {
        let left = index.saturating_sub(1);
        let separator = self.separators.remove(left);
        let right = Arc::unwrap_or_clone(self.children.remove(left + 1));
        let node = Arc::make_mut(&mut self.children[left]);
        node.join(separator, right);
        let parted = (node.len() > JOINED).then(|| node.split(node.len() / 2));
        node.trim();
        if let Some((separator, right)) = parted {
            self.insert_after(left, separator, Arc::new(right));
        }
    }
}

/// What an insert did to a node.
enum Inserted<K, V> {
    /// The key was there: this was its value.
    Replaced(V),
    Added,
    /// The entry was added, and the node gave this one off to its right, behind this separator.
    Split(K, Arc<Node<K, V>>),
}

/// Inserts below `node`; `last` tells whether it is the last node of its level.
fn insert<K: Clone + Ord, V: Clone>(node: &mut Arc<Node<K, V>>, key: K, value: V, last: bool) -> Inserted<K, V> {
    match Arc::make_mut(node) {
        Node::Leaf(entries) => {
            let index = match search(entries, &key) {
                Ok(index) => return Inserted::Replaced(mem::replace(&mut entries[index], (key, value)).1),
                Err(index) => index,
            };
            if entries.len() < CAPACITY {
                insert_tight(entries, index, (key, value), CAPACITY);
                return Inserted::Added;
            }
            let appends = last && index == CAPACITY;
            let middle = if appends { CAPACITY } else { CAPACITY / 2 };
            let mut right = entries.split_off(middle);
            if index > middle || appends {
                insert_tight(&mut right, index - middle, (key, value), CAPACITY);
            } else {
                insert_tight(entries, index, (key, value), CAPACITY);
            }
            Inserted::Split(right[0].0.clone(), Arc::new(Node::Leaf(right)))
        }
        Node::Branch(branch) => {
            let index = branch.child_of(&key);
            let appends = last && index + 1 == branch.children.len();
            let (separator, child) = match insert(&mut branch.children[index], key, value, appends) {
                Inserted::Split(separator, child) => (separator, child),
                done => return done,
            };
            if branch.children.len() < CAPACITY {
                branch.insert_after(index, separator, child);
                return Inserted::Added;
            }
            // One old child goes along with an appended one, for a branch has at least two.
            let middle = if appends { CAPACITY - 1 } else { CAPACITY / 2 };
            let (parting, mut right) = branch.split(middle);
            if index >= middle {
                right.insert_after(index - middle, separator, child);
            } else {
                branch.insert_after(index, separator, child);
            }
            Inserted::Split(parting, Arc::new(Node::Branch(right)))
        }
    }
}

/// Removes below `node`, which may be left sparse: its parent sees to that.
fn remove<K, V, Q>(node: &mut Arc<Node<K, V>>, key: &Q) -> Option<V>
where
    K: Clone + Ord,
    V: Clone,
    Q: ?Sized + Comparable<K>,
{
    match Arc::make_mut(node) {
        Node::Leaf(entries) => {
            let index = search(entries, key).ok()?;
            Some(entries.remove(index).1)
        }
        Node::Branch(branch) => {
            let index = branch.child_of(key);
            let removed = remove(&mut branch.children[index], key)?;
            if branch.children[index].len() < SPARSE {
                branch.refill(index);
            }
            Some(removed)
        }
    }
}

/// Where `key` is among `entries`, or where it would be.
fn search<K, V, Q>(entries: &[(K, V)], key: &Q) -> Result<usize, usize>
where
    Q: ?Sized + Comparable<K>,
{
    entries.binary_search_by(|(other, _)| key.compare(other).reverse())
}

/// The index of the first of `entries` that is within a range from `start` on.
fn start_in<K, V, Q>(entries: &[(K, V)], start: Bound<&Q>) -> usize
where
    Q: ?Sized + Comparable<K>,
{
    match start {
        Bound::Included(key) => entries.partition_point(|(other, _)| key.compare(other).is_gt()),
        Bound::Excluded(key) => entries.partition_point(|(other, _)| key.compare(other).is_ge()),
        Bound::Unbounded => 0,
    }
}

/// The index after the last of `entries` that is within a range up to `end`.
fn end_in<K, V, Q>(entries: &[(K, V)], end: Bound<&Q>) -> usize
where
    Q: ?Sized + Comparable<K>,
{
    match end {
        Bound::Included(key) => entries.partition_point(|(other, _)| key.compare(other).is_ge()),
        Bound::Excluded(key) => entries.partition_point(|(other, _)| key.compare(other).is_gt()),
        Bound::Unbounded => entries.len(),
    }
}

/// Inserts into a vector that will never hold more than `most`.
///
/// A plain vector doubles, and one that a copy or a split left at 17 would have room for 34.
fn insert_tight<T>(items: &mut Vec<T>, index: usize, item: T, most: usize) {
    let len = items.len();
    if len == items.capacity() {
        items.reserve_exact(len.max(4).min(most - len));
    }
    items.insert(index, item);
}

fn pair<K, V>((key, value): &(K, V)) -> (&K, &V) {
    (key, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, HashSet};

    #[derive(Default)]
    struct Shape {
        nodes: HashSet<usize>,
        leaves: usize,
        /// Entries that the leaves have room for.
        room: usize,
        entries: usize,
        depth: usize,
    }

    impl Shape {
        /// Walks the whole tree and checks what the documentation of [`Node`] promises.
        fn of<K: Clone + Ord, V: Clone>(tree: &Tree<K, V>) -> Self {
            let mut shape = Self::default();
            shape.depth = shape.visit(&tree.root, None, None, true, true);
            assert_eq!(shape.entries, tree.len());
            shape
        }

        /// Returns the height of `node`, whose keys are to be at least `from` and less than `to`.
        fn visit<K: Clone + Ord, V: Clone>(
            &mut self,
            node: &Arc<Node<K, V>>,
            from: Option<&K>,
            to: Option<&K>,
            root: bool,
            last: bool,
        ) -> usize {
            self.nodes.insert(Arc::as_ptr(node).addr());
            assert!(node.len() <= CAPACITY, "too full: {}", node.len());
            assert!(root || last || node.len() >= SPARSE, "sparse: {}", node.len());
            assert!(root || node.len() > 0, "empty");
            match &**node {
                Node::Leaf(entries) => {
                    assert!(entries.capacity() <= CAPACITY);
                    assert!(entries.is_sorted_by(|a, b| a.0 < b.0));
                    assert!(entries.iter().all(|(key, _)| from.is_none_or(|from| from <= key)));
                    assert!(entries.iter().all(|(key, _)| to.is_none_or(|to| key < to)));
                    self.leaves += 1;
                    self.room += entries.capacity();
                    self.entries += entries.len();
                    1
                }
                Node::Branch(branch) => {
                    let children = &branch.children;
                    assert!(children.len() >= 2);
                    assert!(children.capacity() <= CAPACITY);
                    assert_eq!(branch.separators.len() + 1, children.len());
                    let mut heights = HashSet::new();
                    for (index, child) in children.iter().enumerate() {
                        let from = index.checked_sub(1).map(|i| &branch.separators[i]).or(from);
                        let to = branch.separators.get(index).or(to);
                        let last = last && index + 1 == children.len();
                        heights.insert(self.visit(child, from, to, false, last));
                    }
                    assert_eq!(heights.len(), 1, "leaves are not equally deep");
                    1 + heights.into_iter().sum::<usize>()
                }
            }
        }
    }

    fn assert_same(tree: &Tree<u16, u32>, model: &BTreeMap<u16, u32>) {
        Shape::of(tree);
        assert_eq!(tree.is_empty(), model.is_empty());
        assert!(tree.iter().eq(model));
        assert!(tree.iter().rev().eq(model.iter().rev()));
        assert!(tree.keys().eq(model.keys()));
        assert!(tree.values().eq(model.values()));
        assert_eq!(tree.first_key_value(), model.first_key_value());
        assert_eq!(tree.last_key_value(), model.last_key_value());
    }

    /// 100,000 even keys in no order, so that nodes are as full as random inserts leave them.
    fn scattered() -> Tree<u32, u32> {
        (0..100_000).map(|i| (i * 7_919 % 100_000 * 2, i)).collect()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16, u32),
        Append(u16),
        Merge(u16, u16, u16),
        Remove(u16),
        RemoveRange(u16, u16),
        Change(u16, u32),
        Publish,
    }

    fn step() -> impl Strategy<Value = Step> {
        let key = 0..2_000_u16;
        prop_oneof![
            8 => (key.clone(), any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
            2 => (1..200_u16).prop_map(Step::Append),
            2 => (key.clone(), 0..1_200_u16, 1..9_u16).prop_map(|(key, count, apart)| Step::Merge(key, count, apart)),
            4 => key.clone().prop_map(Step::Remove),
            2 => (0..8_000_u16, 1..800_u16).prop_map(|(key, count)| Step::RemoveRange(key, count)),
            2 => (key, any::<u32>()).prop_map(|(key, value)| Step::Change(key, value)),
            1 => Just(Step::Publish),
        ]
    }

    fn bound() -> impl Strategy<Value = Bound<u16>> {
        prop_oneof![
            4 => (0..2_100_u16).prop_map(Bound::Included),
            4 => (0..2_100_u16).prop_map(Bound::Excluded),
            1 => Just(Bound::Unbounded),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn does_what_the_standard_map_does(steps in prop::collection::vec(step(), 1..300)) {
            let mut tree = Tree::new();
            let mut model = BTreeMap::new();
            let mut published = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(key, value) => {
                        prop_assert_eq!(tree.insert(key, value), model.insert(key, value));
                    }
                    Step::Append(count) => {
                        let next = model.last_key_value().map_or(0, |(key, _)| key + 1);
                        let entries = (next..next + count).map(|key| (key, u32::from(key)));
                        tree.extend(entries.clone());
                        model.extend(entries);
                    }
                    Step::Merge(key, count, apart) => {
                        let entries: Vec<_> = (0..count).map(|n| (key + n * apart, u32::from(n))).collect();
                        tree.extend_sorted(entries.clone());
                        model.extend(entries);
                    }
                    Step::Remove(key) => prop_assert_eq!(tree.remove(&key), model.remove(&key)),
                    Step::RemoveRange(key, count) => {
                        for key in key..key + count {
                            prop_assert_eq!(tree.remove(&key), model.remove(&key));
                        }
                    }
                    Step::Change(key, value) => {
                        let (ours, theirs) = (tree.get_mut(&key), model.get_mut(&key));
                        prop_assert_eq!(&ours, &theirs);
                        if let (Some(ours), Some(theirs)) = (ours, theirs) {
                            (*ours, *theirs) = (value, value);
                        }
                    }
                    Step::Publish => published.push((tree.clone(), model.clone())),
                }
                Shape::of(&tree);
            }
            assert_same(&tree, &model);
            for (tree, model) in &published {
                assert_same(tree, model);
            }
            for key in 0..2_000 {
                prop_assert_eq!(tree.get(&key), model.get(&key));
            }
        }

        #[test]
        fn ranges_are_those_of_the_standard_map(
            keys in prop::collection::vec(0..2_000_u16, 0..2_000),
            start in bound(),
            end in bound(),
            turns in prop::collection::vec(any::<bool>(), 0..2_000),
        ) {
            let tree: Tree<u16, ()> = keys.iter().map(|key| (*key, ())).collect();
            let mut model: Vec<u16> = keys.into_iter().filter(|key| (start, end).contains(key)).collect();
            model.sort_unstable();
            model.dedup();
            let range = || tree.range((start, end)).map(|(key, _)| *key);
            prop_assert_eq!(range().collect::<Vec<_>>(), model.clone());

            // From both ends in any order, every key is met once.
            let mut range = range();
            let mut model = model.into_iter();
            for from_front in turns {
                if from_front {
                    prop_assert_eq!(range.next(), model.next());
                } else {
                    prop_assert_eq!(range.next_back(), model.next_back());
                }
            }
            prop_assert!(range.eq(model));
        }
    }

    #[test]
    fn a_change_copies_only_the_path_to_it() {
        let before = scattered();
        let shape = Shape::of(&before);
        let copied = |after: &Tree<u32, u32>| {
            let after = Shape::of(after);
            let fresh = after.nodes.difference(&shape.nodes).count();
            // A split makes a node more, which is not a copy.
            fresh - after.nodes.len().saturating_sub(shape.nodes.len())
        };

        for key in (1..200_000).step_by(9_998) {
            let mut after = before.clone();
            assert_eq!(after.insert(key, 0), None);
            assert_eq!(copied(&after), shape.depth, "insert {key}");
            assert!(!before.contains_key(&key));

            // What is its own already is not copied again.
            let held = Shape::of(&after).nodes;
            assert_eq!(after.insert(key, 1), Some(0));
            assert_eq!(after.get_mut(&key), Some(&mut 1));
            assert_eq!(held, Shape::of(&after).nodes);

            let key = key - 1;
            let mut after = before.clone();
            assert!(after.remove(&key).is_some());
            assert!(copied(&after) <= 2 * shape.depth, "remove {key}");
            assert!(before.contains_key(&key));
        }
    }

    #[test]
    fn what_changes_nothing_copies_nothing() {
        let before = scattered();
        let mut after = before.clone();
        assert_eq!(after.remove(&77_777), None);
        assert_eq!(after.get_mut(&77_777), None);
        assert!(Arc::ptr_eq(&before.root, &after.root));
    }

    #[test]
    fn ascending_keys_fill_their_leaves() {
        let count = 1_000_000_usize;
        let tree: Tree<usize, ()> = (0..count).map(|key| (key, ())).collect();
        let shape = Shape::of(&tree);
        assert_eq!(shape.leaves, count.div_ceil(CAPACITY));
        assert!(shape.room <= count + CAPACITY, "room for {}", shape.room);
        assert!(shape.nodes.len() - shape.leaves < shape.leaves / 25);
        assert_eq!(shape.depth, 5);
    }

    #[test]
    fn scattered_keys_waste_no_more_than_half() {
        let tree = scattered();
        let shape = Shape::of(&tree);
        assert!(shape.room <= 2 * tree.len(), "room for {}", shape.room);
    }

    #[test]
    fn a_tree_that_is_emptied_shrinks() {
        let mut tree = scattered();
        let full = tree.clone();
        for i in 0..99_990 {
            assert!(tree.remove(&(i * 31 % 100_000 * 2)).is_some());
            if i % 5_000 == 0 {
                Shape::of(&tree);
            }
        }
        let shape = Shape::of(&tree);
        assert_eq!((shape.leaves, shape.depth), (1, 1));
        for key in 0..200_000 {
            tree.remove(&key);
        }
        assert!(tree.is_empty());
        assert_eq!(tree.iter().next(), None);
        assert_eq!(tree.insert(5, 6), None);
        assert_eq!(tree.first_key_value(), tree.last_key_value());
        assert_eq!(full.iter().count(), 100_000);
    }

    #[test]
    fn looks_up_by_the_borrowed_form() {
        let mut tree: Tree<Arc<str>, u8> =
            ["api", "db", "web", "web-2"].into_iter().zip(0..).map(|(name, value)| (Arc::from(name), value)).collect();
        assert_eq!(tree.get("db"), Some(&1));
        let from_web = (Bound::Included("web"), Bound::Unbounded);
        let names: Vec<_> = tree.range::<str, _>(from_web).map(|(name, _)| &**name).collect();
        assert_eq!(names, ["web", "web-2"]);
        assert_eq!(tree.remove("web"), Some(2));
        assert_eq!(format!("{tree:?}"), r#"{"api": 0, "db": 1, "web-2": 3}"#);
    }
}
