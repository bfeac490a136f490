//! The catalog as readers see it.

use std::cmp::Ordering;
use std::fmt;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use equivalent::{Comparable, Equivalent};
use foldhash::quality::RandomState;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::row::lowered;
use super::{
    Check, CheckKey, Coordinate, HashTrie, Health, Instance, InstanceKey, KvEntry, Memo, Node, NodeKey, SourceId, Tree,
};

/// A point in the catalog's history. It only grows; 0 is before the first change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Index(pub u64);

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A node with its node-level checks.
#[derive(Debug, Clone)]
pub struct NodeEntry {
    pub node: Arc<Node>,
    /// Sorted by check id.
    pub checks: Arc<[Arc<Check>]>,
    /// The last change of the node itself or of its node-level checks.
    pub index: Index,
}

impl NodeEntry {
    /// The worst of the node-level checks.
    pub fn health(&self) -> Health {
        Health::worst(self.checks.iter().map(|check| check.status))
    }
}

impl Deref for NodeEntry {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

/// An instance with its own checks; those of its node stand with the node.
#[derive(Debug, Clone)]
pub struct InstanceEntry {
    pub instance: Arc<Instance>,
    /// Sorted by check id.
    pub checks: Arc<[Arc<Check>]>,
}

impl InstanceEntry {
    /// The worst of the instance's own checks.
    pub fn own_health(&self) -> Health {
        Health::worst(self.checks.iter().map(|check| check.status))
    }
}

impl Deref for InstanceEntry {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.instance
    }
}

/// An instance in natural order. It is its own key: a key beside it would take as much again.
#[derive(Debug, Clone)]
pub(super) struct Placed(pub(super) InstanceEntry);

impl Ord for Placed {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp_natural(&other.0)
    }
}

impl Equivalent<Placed> for InstanceKey {
    fn equivalent(&self, other: &Placed) -> bool {
        self.compare(other).is_eq()
    }
}

impl Comparable<Placed> for InstanceKey {
    fn compare(&self, other: &Placed) -> Ordering {
        other.0.cmp_key(self).reverse()
    }
}

/// An instance whose own address is an IP address, in the order of addresses, then in natural order.
#[derive(Debug, Clone)]
pub(super) struct Located(Arc<Instance>);

impl Located {
    pub(super) fn of(instance: &Arc<Instance>) -> Option<Self> {
        instance.address.ip().map(|_| Self(instance.clone()))
    }
}

impl Ord for Located {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.address.ip().cmp(&other.0.address.ip()).then_with(|| self.0.cmp_natural(&other.0))
    }
}

/// Before all that are at this address.
struct First(IpAddr);

impl Equivalent<Located> for First {
    fn equivalent(&self, _: &Located) -> bool {
        false
    }
}

impl Comparable<Located> for First {
    fn compare(&self, other: &Located) -> Ordering {
        Some(self.0).cmp(&other.0.address.ip()).then(Ordering::Less)
    }
}

/// What has an order has the rest, too.
macro_rules! ordered {
    ($($name:ty),*) => {$(
        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.cmp(other).is_eq()
            }
        }

        impl Eq for $name {}
    )*};
}

ordered!(Placed, Located);

/// All instances, in natural order: by node name, then by id.
#[derive(Debug, Clone, Default)]
pub struct Instances(pub(super) Tree<Placed, ()>);

impl Instances {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, key: &InstanceKey) -> Option<&InstanceEntry> {
        self.0.get_key_value(key).map(|(placed, ())| &placed.0)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &InstanceEntry> {
        self.0.keys().map(|placed| &placed.0)
    }
}

/// All instances of one service, in natural order: by node name, then by instance id.
///
/// What the answer path reads stands in front, side by side.
#[derive(Debug, Clone)]
#[repr(C)]
pub struct Service {
    /// The name in lower case.
    pub key: SmolStr,
    /// What readers make of it.
    pub memo: Memo,
    /// As the first of its instances spelled it.
    pub name: Arc<str>,
    pub instances: Vec<InstanceEntry>,
    /// The last change of any of its instances or their checks.
    pub index: Index,
}

impl Service {
    /// One without instances, which the catalog has only while it changes.
    pub(super) fn new(key: SmolStr, name: &Arc<str>, index: Index) -> Self {
        Self { key, name: name.clone(), instances: Vec::new(), index, memo: Memo::default() }
    }
}

/// The last change of each table, for blocking queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tables {
    pub nodes: Index,
    pub instances: Index,
    pub checks: Index,
    pub kv: Index,
    pub coordinates: Index,
    /// Node-level checks alone, which decide on all services of their node.
    pub node_checks: Index,
    /// When a service last lost its last instance.
    pub service_gone: Index,
}

/// All that is known at one index. Cloning is cheap: the tables are shared.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    pub(super) index: Index,
    pub(super) tables: Tables,
    pub(super) nodes: Tree<NodeKey, NodeEntry>,
    pub(super) instances: Instances,
    /// By name in lower case.
    pub(super) services: Tree<SmolStr, Arc<Service>>,
    /// The same services, for look-ups that cost the same whatever their number.
    pub(super) services_by_hash: HashTrie<Arc<Service>>,
    /// Names come from the network, so the hash is seeded anew in each process.
    pub(super) hasher: RandomState,
    pub(super) checks: Tree<CheckKey, Arc<Check>>,
    pub(super) kv: Tree<Arc<str>, Arc<KvEntry>>,
    /// Keys deleted, and when; bounded by [`crate::limits::KV_TOMBSTONES_MAX`].
    pub(super) kv_deleted: Tree<Arc<str>, Index>,
    /// By node key and segment.
    pub(super) coordinates: Tree<(NodeKey, Arc<str>), Arc<Coordinate>>,
    pub(super) node_addresses: Tree<(IpAddr, NodeKey), ()>,
    pub(super) instance_addresses: Tree<Located, ()>,
    /// How many nodes each datacenter has, by its name in lower case.
    pub(super) datacenters: Tree<Arc<str>, usize>,
    /// By [`Instance::mesh_destination`].
    pub(super) mesh: Tree<(Arc<str>, InstanceKey), ()>,
}

impl Catalog {
    pub fn index(&self) -> Index {
        self.index
    }

    pub fn tables(&self) -> Tables {
        self.tables
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> &Tree<NodeKey, NodeEntry> {
        &self.nodes
    }

    /// All instances, by node name, then by id.
    pub fn instances(&self) -> &Instances {
        &self.instances
    }

    /// All services that have an instance, by name in lower case.
    pub fn services(&self) -> &Tree<SmolStr, Arc<Service>> {
        &self.services
    }

    /// All checks, by node name, then by id.
    pub fn checks(&self) -> &Tree<CheckKey, Arc<Check>> {
        &self.checks
    }

    pub fn kv(&self) -> &Tree<Arc<str>, Arc<KvEntry>> {
        &self.kv
    }

    pub fn coordinates(&self) -> &Tree<(NodeKey, Arc<str>), Arc<Coordinate>> {
        &self.coordinates
    }

    /// The datacenters that have a node, by name in lower case, and how many each has.
    pub fn datacenters(&self) -> &Tree<Arc<str>, usize> {
        &self.datacenters
    }

    /// A node by name, in any case; when several sources tell of it, the first source's.
    pub fn node(&self, name: &str) -> Option<&NodeEntry> {
        let first = NodeKey::new(SourceId(0), name);
        let (key, entry) = self.nodes.range(first.clone()..).next()?;
        (key.name == first.name).then_some(entry)
    }

    /// The node that an instance runs on.
    pub fn node_of(&self, instance: &Instance) -> Option<&NodeEntry> {
        self.nodes.get(&instance.node_key())
    }

    /// A service by name, in any case.
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        if name.bytes().any(|b| b.is_ascii_uppercase() || !b.is_ascii()) {
            return self.service_by_key(lowered(name).collect::<String>().as_bytes());
        }
        self.service_by_key(name.as_bytes())
    }

    /// A service by its name in lower case. Costs the same whatever the number of services, and allocates nothing.
    pub fn service_by_key(&self, key: &[u8]) -> Option<&Arc<Service>> {
        self.services_by_hash.get(self.service_hash(key), |service| service.key.as_bytes() == key)
    }

    /// By what a service is found fast, by its name in lower case.
    pub fn service_hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Reads what is needed to answer about these services, side by side: where there are many services, what one needs is
    /// in no cache of the processor.
    pub fn read_ahead(&self, hashes: &[u64]) {
        black_box(self.services_by_hash.read_ahead(hashes, |service| service.memo.touch() ^ service.key.len() as u64));
    }

    /// The instances on a node, by id.
    pub fn instances_on<'a>(&'a self, node: &NodeKey) -> impl Iterator<Item = &'a InstanceEntry> + use<'a> {
        let node = node.clone();
        let first = InstanceKey { node: node.clone(), id: SmolStr::default() };
        let from_first = self.instances.0.range(first..).map(|(placed, ())| &placed.0);
        // Most share their node's name with the one before, and need no key to be compared by.
        let mut last: Option<&'a InstanceEntry> = None;
        from_first.take_while(move |entry| {
            let same = last.is_some_and(|last| Arc::ptr_eq(&last.node, &entry.node) && last.source == entry.source);
            last = Some(entry);
            same || entry.node_key() == node
        })
    }

    /// All checks on a node, its instances' too, by id.
    pub fn checks_on<'a>(&'a self, node: &NodeKey) -> impl Iterator<Item = &'a Arc<Check>> + use<'a> {
        let node = node.clone();
        let first = CheckKey { node: node.clone(), id: "".into() };
        self.checks.range(first..).take_while(move |(key, _)| key.node == node).map(|(_, check)| check)
    }

    /// An instance's health: the worst of its own checks and of its node's.
    pub fn health(&self, entry: &InstanceEntry) -> Health {
        entry.own_health().max(self.node_of(entry).map_or(Health::Passing, NodeEntry::health))
    }

    /// The last change that matters to a service's health: its instances, their checks, and their nodes. For a service
    /// that is not there, the last time any service went.
    pub fn service_index(&self, name: &str) -> Index {
        let Some(service) = self.service(name) else { return self.tables.service_gone };
        let nodes = service.instances.iter().filter_map(|entry| self.node_of(entry)).map(|node| node.index);
        nodes.fold(service.index, Index::max)
    }

    /// The last change of any node or node-level check: what services are given of their nodes is of that state.
    pub fn nodes_index(&self) -> Index {
        self.tables.nodes.max(self.tables.node_checks)
    }

    /// The first node, by name, whose address is this one.
    pub fn node_at(&self, address: IpAddr) -> Option<&NodeEntry> {
        let first = (address, NodeKey { name: "".into(), source: SourceId(0) });
        let ((at, key), ()) = self.node_addresses.range(first..).next()?;
        (*at == address).then(|| self.nodes.get(key))?
    }

    /// The first instance, in natural order, whose own address is this one.
    pub fn instance_at(&self, address: IpAddr) -> Option<&InstanceEntry> {
        let (Located(instance), ()) = self.instance_addresses.range(First(address)..).next()?;
        (instance.address.ip() == Some(address)).then(|| self.instances.get(&instance.key()))?
    }

    /// The instances that take mesh connections for a service, by its name in any case, in natural order.
    pub fn mesh_instances<'a>(&'a self, service: &str) -> impl Iterator<Item = &'a InstanceEntry> + use<'a> {
        let service: Arc<str> = service.to_lowercase().into();
        let node = NodeKey { name: "".into(), source: SourceId(0) };
        let first = (service.clone(), InstanceKey { node, id: SmolStr::default() });
        let of_service = self.mesh.range(first..).take_while(move |((name, _), ())| *name == service);
        of_service.filter_map(|((_, key), ())| self.instances.get(key))
    }

    /// The last change at or below a key prefix, deletions included; `None` when nothing was ever there.
    pub fn kv_prefix_index(&self, prefix: &str) -> Option<Index> {
        let prefix: Arc<str> = prefix.into();
        let below = |key: &Arc<str>| key.starts_with(&*prefix);
        let live = self.kv.range(prefix.clone()..).take_while(|(key, _)| below(key)).map(|(_, entry)| entry.modify_index);
        let gone = self.kv_deleted.range(prefix.clone()..).take_while(|(key, _)| below(key)).map(|(_, index)| *index);
        live.chain(gone).max()
    }
}
