//! A catalog from rows that were kept: their indexes stay, and tables are built in order rather than row by row.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use smol_str::SmolStr;

use super::row::lower;
use super::snapshot::{Located, Placed};
use super::{
    Address, Catalog, Check, CheckKey, Coordinate, Index, Instance, InstanceEntry, InstanceKey, KvEntry, Node, NodeEntry,
    NodeKey, Origin, Service, Tables,
};

/// All rows of a catalog.
#[derive(Debug, Default)]
pub struct Rows {
    pub index: Index,
    pub tables: Tables,
    pub nodes: Vec<Node>,
    pub instances: Vec<Instance>,
    pub checks: Vec<Check>,
    pub kv: Vec<KvEntry>,
    pub coordinates: Vec<Coordinate>,
}

impl Catalog {
    /// The catalog that these rows are. Whoever reads rows one by one takes a [`Restore`], which needs less memory.
    pub fn restore(rows: Rows) -> Self {
        let mut restore = Restore::new(rows.index, rows.tables);
        rows.checks.into_iter().for_each(|check| restore.check(check));
        rows.nodes.into_iter().for_each(|node| restore.node(node));
        rows.instances.into_iter().for_each(|instance| restore.instance(instance));
        rows.kv.into_iter().for_each(|entry| restore.kv(entry));
        rows.coordinates.into_iter().for_each(|coordinate| restore.coordinate(coordinate));
        restore.finish()
    }
}

/// A catalog that takes in kept rows as they are read: checks first, then nodes, then all that stands below nodes. Rows
/// that belong to nobody, because their node or instance is not there, are left out. Fastest when rows stand in the order
/// of their keys.
///
/// What rows have in common is shared at once, so that a million of them never stand in memory as they were read.
pub struct Restore {
    catalog: Catalog,
    names: Names,
    checks: Checks,
    services: HashMap<Arc<str>, Service, RandomState>,
    /// The node of the last instance, under the name that the instance gave it.
    node: Option<(Arc<str>, NodeKey)>,
    /// What tables are made of at the end, at once.
    instances: Vec<(Placed, ())>,
    addresses: Vec<(Located, ())>,
}

impl Restore {
    pub fn new(index: Index, tables: Tables) -> Self {
        Self {
            catalog: Catalog { index, tables, ..Catalog::default() },
            names: Names::default(),
            checks: Checks::default(),
            services: HashMap::default(),
            node: None,
            instances: Vec::new(),
            addresses: Vec::new(),
        }
    }

    /// To be called before the check's node and instance are taken in.
    pub fn check(&mut self, check: Check) {
        self.checks.keep(check, &mut self.names);
    }

    pub fn node(&mut self, mut node: Node) {
        self.names.share(&mut node.datacenter);
        let datacenter = self.names.lower(&node.datacenter);
        let count = self.catalog.datacenters.get(&datacenter).copied().unwrap_or(0);
        self.catalog.datacenters.insert(datacenter, count + 1);
        let key = node.key();
        let checks = self.checks.take(&key, "");
        // A check that it lost left no row. An index that was given once must not fall, and this is the highest it can be.
        let index = self.catalog.tables.nodes.max(self.catalog.tables.node_checks);
        self.keep_checks(&key, &checks);
        if let Ok(address) = node.address.parse::<IpAddr>() {
            self.catalog.node_addresses.insert((address, key.clone()), ());
        }
        self.catalog.nodes.insert(key, NodeEntry { node: Arc::new(node), checks, index });
    }

    /// To be called after the instance's node was taken in.
    pub fn instance(&mut self, mut instance: Instance) {
        self.names.share(&mut instance.node);
        self.names.share(&mut instance.service);
        self.names.share_all(&mut instance.tags);
        if let Address::Text(address) = &mut instance.address {
            self.names.share(address);
        }
        if let Origin::File(file) = &mut instance.origin {
            self.names.share(file);
        }
        let Some(node) = self.node_of(&instance) else { return };
        let key = InstanceKey { node, id: instance.id.clone() };
        let checks = self.checks.take(&key.node, &key.id);
        self.keep_checks(&key.node, &checks);
        if let Some(destination) = instance.mesh_destination() {
            self.catalog.mesh.insert((destination, key.clone()), ());
        }
        let entry = InstanceEntry { instance: Arc::new(instance), checks };
        self.addresses.extend(Located::of(&entry.instance).map(|located| (located, ())));
        // As with nodes: of checks and instances that it lost no row is left.
        let index = self.catalog.tables.instances.max(self.catalog.tables.checks);
        let name = self.names.lower(&entry.service);
        let service = self.services.entry(name.clone()).or_insert_with(|| Service::new((&*name).into(), &entry.service, index));
        service.instances.push(entry.clone());
        self.instances.push((Placed(entry), ()));
    }

    pub fn kv(&mut self, entry: KvEntry) {
        self.catalog.kv.insert(entry.key.clone(), Arc::new(entry));
    }

    /// To be called after the coordinate's node was taken in.
    pub fn coordinate(&mut self, coordinate: Coordinate) {
        let node = NodeKey::local(&coordinate.node);
        if self.catalog.nodes.contains_key(&node) {
            self.catalog.coordinates.insert((node, coordinate.segment.clone()), Arc::new(coordinate));
        }
    }

    pub fn finish(mut self) -> Catalog {
        // To compare instances costs more than all else here, and rows most often come in order.
        let in_order = self.instances.is_sorted_by(|(a, _), (b, _)| a < b);
        if !in_order {
            self.instances.sort_by(|(a, _), (b, _)| a.cmp(b));
            self.instances.dedup_by(|(a, _), (b, _)| a == b);
        }
        self.catalog.instances.0.extend_sorted(self.instances);
        self.addresses.sort_unstable();
        self.catalog.instance_addresses.extend_sorted(self.addresses);
        let mut services: Vec<_> = self.services.into_values().collect();
        services.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let mut named = Vec::with_capacity(services.len());
        for mut service in services {
            if !in_order {
                service.instances.sort_by(|a, b| a.cmp_natural(b));
            }
            service.instances.shrink_to_fit();
            let (key, service) = (service.key.clone(), Arc::new(service));
            let hash = self.catalog.service_hash(key.as_bytes());
            self.catalog.services_by_hash.insert(hash, service.clone(), |other| other.key == key);
            named.push((key, service));
        }
        self.catalog.services.extend_sorted(named);
        self.catalog
    }

    /// The key of an instance's node, if that is there. A node's instances stand together and share one key.
    fn node_of(&mut self, instance: &Instance) -> Option<NodeKey> {
        let same = |(name, key): &&(Arc<str>, NodeKey)| Arc::ptr_eq(name, &instance.node) && key.source == instance.source;
        if let Some((_, key)) = self.node.as_ref().filter(same) {
            return Some(key.clone());
        }
        let key = instance.node_key();
        let (key, _) = self.catalog.nodes.get_key_value(&key)?;
        self.node = Some((instance.node.clone(), key.clone()));
        Some(key.clone())
    }

    fn keep_checks(&mut self, node: &NodeKey, checks: &[Arc<Check>]) {
        let key = |check: &Arc<Check>| CheckKey { node: node.clone(), id: check.id.clone() };
        self.catalog.checks.extend(checks.iter().map(|check| (key(check), check.clone())));
    }
}

/// Checks until the one that they belong to comes: an instance, or a node, whose checks have an empty id there.
#[derive(Default)]
struct Checks(HashMap<(NodeKey, SmolStr), Vec<Arc<Check>>, RandomState>);

impl Checks {
    fn keep(&mut self, mut check: Check, names: &mut Names) {
        let Check { node, service_name, notes, kind, interval, timeout, .. } = &mut check;
        [node, service_name, notes, kind, interval, timeout].into_iter().for_each(|text| names.share(text));
        names.share_all(&mut check.service_tags);
        if check.output.is_empty() {
            names.share(&mut check.output);
        }
        self.0.entry((check.node_key(), check.service_id.clone())).or_default().push(Arc::new(check));
    }

    /// An owner's checks, by id.
    fn take(&mut self, node: &NodeKey, id: &str) -> Arc<[Arc<Check>]> {
        // Most have none, and need no list of their own.
        if self.0.is_empty() {
            return Arc::default();
        }
        let Some(mut checks) = self.0.remove(&(node.clone(), id.into())) else { return Arc::default() };
        checks.sort_by(|a, b| a.id.cmp(&b.id));
        checks.into()
    }
}

/// Texts that many rows have in common, held once.
#[derive(Default)]
struct Names(HashSet<Arc<str>, RandomState>);

impl Names {
    fn share(&mut self, text: &mut Arc<str>) {
        match self.0.get(text) {
            Some(shared) => *text = shared.clone(),
            None => {
                self.0.insert(text.clone());
            }
        }
    }

    /// Shares each of several texts; none take no room.
    fn share_all(&mut self, texts: &mut Arc<[Arc<str>]>) {
        if texts.is_empty() {
            *texts = Arc::default();
        } else {
            Arc::make_mut(texts).iter_mut().for_each(|text| self.share(text));
        }
    }

    /// A text in lower case; itself when it is.
    fn lower(&mut self, text: &Arc<str>) -> Arc<str> {
        let mut lower = lower(text);
        if !Arc::ptr_eq(&lower, text) {
            self.share(&mut lower);
        }
        lower
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::catalog::{Change, Extra, Health, Weights};

    const NODES: [&str; 3] = ["Alpha", "beta", "gamma"];
    const IDS: [&str; 3] = ["x-1", "x-2", "x-3"];

    fn node(name: &str, datacenter: &str, address: u8) -> Change {
        Change::PutNode(Node {
            source: Default::default(),
            name: name.into(),
            id: "".into(),
            datacenter: datacenter.into(),
            address: format!("10.0.0.{address}").into(),
            tagged_addresses: None,
            meta: None,
            create_index: Index(0),
            modify_index: Index(0),
        })
    }

    fn instance(node: &str, id: &str, service: &str, address: u8, native: bool) -> Change {
        Change::PutInstance(Instance {
            source: Default::default(),
            node: node.into(),
            id: id.into(),
            service: service.into(),
            tags: ["v1".into()].into(),
            address: (&*format!("10.1.0.{address}")).into(),
            port: 80,
            weights: Weights::default(),
            enable_tag_override: false,
            extra: Extra { connect: native.then(|| json!({"Native": true})), ..Extra::default() }.boxed(),
            origin: Origin::Catalog,
            create_index: Index(0),
            modify_index: Index(0),
        })
    }

    fn check(node: &str, id: &str, service_id: &str, status: Health) -> Change {
        Change::PutCheck(Check {
            source: Default::default(),
            node: node.into(),
            id: id.into(),
            name: id.into(),
            status,
            notes: "".into(),
            output: "".into(),
            service_id: service_id.into(),
            service_name: "".into(),
            service_tags: Default::default(),
            kind: "".into(),
            interval: "".into(),
            timeout: "".into(),
            exposed_port: 0,
            definition: None,
            agent: false,
            create_index: Index(0),
            modify_index: Index(0),
        })
    }

    fn change() -> impl Strategy<Value = Change> {
        let name = || prop::sample::select(&NODES[..]);
        let id = || prop::sample::select(&IDS[..]);
        let status = || prop::sample::select(&[Health::Passing, Health::Warning, Health::Critical][..]);
        prop_oneof![
            3 => (name(), prop::sample::select(&["dc1", "DC1", "dc2"][..]), 1..4u8).prop_map(|(n, dc, a)| node(n, dc, a)),
            4 => (name(), id(), prop::sample::select(&["web", "WEB", "db"][..]), 1..4u8, any::<bool>())
                .prop_map(|(n, i, s, a, native)| instance(n, i, s, a, native)),
            3 => (name(), prop::sample::select(&["c-1", "c-2"][..]), prop::sample::select(&["", "x-1", "x-2"][..]), status())
                .prop_map(|(n, c, i, s)| check(n, c, i, s)),
            1 => name().prop_map(|n| Change::RemoveNode(NodeKey::local(n))),
            1 => (name(), id()).prop_map(|(n, i)| Change::RemoveInstance(InstanceKey { node: NodeKey::local(n), id: i.into() })),
            1 => (name(), prop::sample::select(&["c-1", "c-2"][..]))
                .prop_map(|(n, c)| Change::RemoveCheck(CheckKey { node: NodeKey::local(n), id: c.into() })),
        ]
    }

    /// Through JSON, as a store keeps rows.
    fn kept<'a, T: serde::Serialize + serde::de::DeserializeOwned + 'a>(rows: impl Iterator<Item = &'a T>) -> Vec<T> {
        rows.map(|row| serde_json::from_slice(&serde_json::to_vec(row).unwrap()).unwrap()).collect()
    }

    fn restored(catalog: &Catalog) -> Catalog {
        Catalog::restore(rows(catalog))
    }

    fn rows(catalog: &Catalog) -> Rows {
        Rows {
            index: catalog.index(),
            tables: catalog.tables(),
            nodes: kept(catalog.nodes().values().map(|entry| &*entry.node)),
            instances: kept(catalog.instances().iter().map(|entry| &*entry.instance)),
            checks: kept(catalog.checks().values().map(|check| &**check)),
            kv: kept(catalog.kv().values().map(|entry| &**entry)),
            coordinates: kept(catalog.coordinates().values().map(|coordinate| &**coordinate)),
        }
    }

    /// All that a reader can find, as text. The spelling of a service's name is its first instance's; which was first is
    /// not kept; indexes of nodes and services are only not lower than they were.
    fn seen(catalog: &Catalog) -> Vec<String> {
        let rows = [
            format!("{} {:?}", catalog.index(), catalog.tables()),
            format!("{:?}", catalog.nodes().iter().map(|(k, n)| (k, &n.node, &n.checks)).collect::<Vec<_>>()),
            format!("{:?}", catalog.instances()),
            format!("{:?}", catalog.checks()),
            format!("{:?}", catalog.services().iter().map(|(k, s)| (k, &s.key, &s.instances)).collect::<Vec<_>>()),
            format!("{:?}", catalog.datacenters()),
            format!("{:?} {:?}", catalog.node_addresses, catalog.instance_addresses),
            format!("{:?}", catalog.mesh),
        ];
        let by_hash = ["web", "WEB", "db", "none"].map(|name| format!("{:?}", catalog.service(name).map(|s| &s.instances)));
        rows.into_iter().chain(by_hash).collect()
    }

    proptest! {
        #[test]
        fn a_catalog_comes_back_as_it_was(changes in prop::collection::vec(change(), 0..60)) {
            let mut catalog = Catalog::default();
            for change in changes {
                let mut edit = catalog.edit();
                // A refused change changes nothing.
                let _ = edit.apply(change);
                catalog = edit.finish().0;
            }
            let back = restored(&catalog);
            prop_assert_eq!(seen(&back), seen(&catalog));
            let index = |catalog: &Catalog, key| catalog.services().get(key).map(|service| service.index);
            prop_assert!(catalog.services().keys().all(|key| index(&back, key) >= index(&catalog, key)));
            prop_assert!(catalog.nodes().iter().all(|(key, node)| back.nodes().get(key).is_some_and(|back| back.index >= node.index)));
            let mut rows = rows(&catalog);
            rows.nodes.reverse();
            rows.instances.reverse();
            rows.checks.reverse();
            prop_assert_eq!(seen(&Catalog::restore(rows)), seen(&catalog), "whatever the order of the rows");
        }
    }

    proptest! {
        #[test]
        fn many_instances_at_once_are_as_one_after_the_other(
            before in prop::collection::vec(change(), 0..40),
            changes in prop::collection::vec(change(), 0..40),
        ) {
            let mut edit = Catalog::default().edit();
            for change in before {
                let _ = edit.apply(change);
            }
            let catalog = edit.finish().0;
            let instances: Vec<Instance> = changes
                .into_iter()
                .filter_map(|change| match change {
                    Change::PutInstance(instance) if catalog.nodes().contains_key(&instance.node_key()) => Some(instance),
                    _ => None,
                })
                .collect();
            // One key counts once: what its earlier rows say is not told to anybody.
            let last: std::collections::BTreeMap<_, _> = instances.iter().map(|instance| (instance.key(), instance)).collect();
            let (mut one, mut many) = (catalog.edit(), catalog.edit());
            for instance in last.into_values() {
                one.apply(Change::PutInstance(instance.clone())).unwrap();
            }
            many.put_instances(instances).unwrap();
            let ((mut one, mut touched), (mut many, mut of_many)) = (one.finish(), many.finish());
            // A service may have lost its last instance for a moment in one order of things and not in the other.
            (one.tables.service_gone, many.tables.service_gone) = Default::default();
            touched.sort();
            of_many.sort();
            prop_assert_eq!((seen(&many), of_many), (seen(&one), touched));
            let index = |catalog: &Catalog| catalog.services().values().map(|service| service.index).collect::<Vec<_>>();
            prop_assert_eq!(index(&many), index(&one));
        }
    }

    #[test]
    fn datacenters_come_back_with_their_nodes() {
        let mut edit = Catalog::default().edit();
        for change in [node("a", "dc1", 1), node("b", "DC1", 2), node("c", "dc2", 3)] {
            edit.apply(change).unwrap();
        }
        let catalog = restored(&edit.finish().0);
        let datacenters: Vec<_> = catalog.datacenters().iter().map(|(name, nodes)| (&**name, *nodes)).collect();
        assert_eq!(datacenters, [("dc1", 2), ("dc2", 1)]);
        let mut edit = catalog.edit();
        edit.apply(Change::RemoveNode(NodeKey::local("a"))).unwrap();
        assert_eq!(edit.finish().0.datacenters().len(), 2, "another node is still there");
    }

    #[test]
    fn rows_that_belong_to_nobody_are_left_out() {
        let mut edit = Catalog::default().edit();
        for change in [node("a", "dc1", 1), instance("a", "x-1", "web", 1, false), check("a", "c", "x-1", Health::Critical)] {
            edit.apply(change).unwrap();
        }
        let catalog = edit.finish().0;
        let counts = |rows| {
            let catalog = Catalog::restore(rows);
            (catalog.nodes().len(), catalog.instances().len(), catalog.checks().len(), catalog.services().len())
        };
        assert_eq!(counts(rows(&catalog)), (1, 1, 1, 1));
        assert_eq!(counts(Rows { instances: Vec::new(), ..rows(&catalog) }), (1, 0, 0, 0));
        assert_eq!(counts(Rows { nodes: Vec::new(), ..rows(&catalog) }), (0, 0, 0, 0));
    }
}
