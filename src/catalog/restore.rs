//! A catalog from rows that were kept: their indexes stay, and tables are built in order rather than row by row.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::{
    Catalog, Check, CheckKey, Coordinate, Index, Instance, InstanceEntry, InstanceKey, KvEntry, Node, NodeEntry, NodeKey,
    Service, Tables,
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
    /// The catalog that these rows are. Rows that belong to nobody, because their node or instance is not there, are left
    /// out. Fastest when rows stand in the order of their keys.
    pub fn restore(rows: Rows) -> Self {
        let mut catalog = Self { index: rows.index, tables: rows.tables, ..Self::default() };
        let mut names = Names::default();
        let mut checks = Checks::default();
        for check in rows.checks {
            checks.keep(check, &mut names);
        }
        let mut datacenters: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for mut node in rows.nodes {
            names.share(&mut node.datacenter);
            *datacenters.entry(names.lower(&node.datacenter)).or_insert(0) += 1;
            let key = node.key();
            let checks = checks.take(&key, &Arc::default());
            let index = checks.iter().map(|check| check.modify_index).fold(node.modify_index, Index::max);
            catalog.keep_checks(&key, &checks);
            if let Ok(address) = node.address.parse::<IpAddr>() {
                catalog.node_addresses.insert((address, key.clone()), ());
            }
            catalog.nodes.insert(key, NodeEntry { node: Arc::new(node), checks, index });
        }
        catalog.datacenters.extend(datacenters);
        let mut services: HashMap<Arc<str>, Service, RandomState> = HashMap::default();
        let mut node: Option<(Arc<str>, NodeKey)> = None;
        let mut last: Option<InstanceKey> = None;
        let mut in_order = true;
        for mut instance in rows.instances {
            names.share(&mut instance.node);
            names.share(&mut instance.service);
            instance.tags.iter_mut().for_each(|tag| names.share(tag));
            // A node's instances stand together, and share one key.
            if node.as_ref().is_none_or(|(name, key)| !Arc::ptr_eq(name, &instance.node) || key.source != instance.source) {
                let key = instance.node_key();
                let known = catalog.nodes.range(&key..=&key).next().map(|(key, _)| key.clone());
                node = known.map(|key| (instance.node.clone(), key));
            }
            let Some((_, node)) = &node else { continue };
            let key = InstanceKey { node: node.clone(), id: instance.id.clone() };
            let checks = checks.take(&key.node, &key.id);
            catalog.keep_checks(&key.node, &checks);
            if let Ok(address) = instance.address.parse::<IpAddr>() {
                catalog.instance_addresses.insert((address, key.clone()), ());
            }
            if let Some(destination) = instance.mesh_destination() {
                catalog.mesh.insert((destination, key.clone()), ());
            }
            let index = checks.iter().map(|check| check.modify_index).fold(instance.modify_index, Index::max);
            let entry = InstanceEntry { instance: Arc::new(instance), checks };
            let name = names.lower(&entry.service);
            let service = services.entry(name.clone()).or_insert_with(|| Service {
                key: name,
                name: entry.service.clone(),
                instances: Vec::new(),
                index,
            });
            service.index = service.index.max(index);
            service.instances.push(entry.clone());
            in_order = in_order && last.as_ref().is_none_or(|last| *last < key);
            last = Some(key.clone());
            catalog.instances.insert(key, entry);
        }
        let mut services: Vec<_> = services.into_iter().collect();
        services.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (key, mut service) in services {
            // To compare instances costs more than all else here, and rows most often come in order.
            if !in_order {
                service.instances.sort_by(|a, b| a.cmp_natural(b));
            }
            service.instances.shrink_to_fit();
            let service = Arc::new(service);
            let hash = catalog.hasher.hash_one(key.as_bytes());
            catalog.services_by_hash.insert(hash, service.clone(), |other| other.key == key);
            catalog.services.insert(key, service);
        }
        catalog.kv.extend(rows.kv.into_iter().map(|entry| (entry.key.clone(), Arc::new(entry))));
        for coordinate in rows.coordinates {
            let node = NodeKey::local(&coordinate.node);
            if catalog.nodes.contains_key(&node) {
                catalog.coordinates.insert((node, coordinate.segment.clone()), Arc::new(coordinate));
            }
        }
        catalog
    }

    fn keep_checks(&mut self, node: &NodeKey, checks: &[Arc<Check>]) {
        self.checks.extend(checks.iter().map(|check| (CheckKey { node: node.clone(), id: check.id.clone() }, check.clone())));
    }
}

/// Checks until the one that they belong to comes: an instance, or a node, whose checks have an empty id there.
#[derive(Default)]
struct Checks(HashMap<(NodeKey, Arc<str>), Vec<Arc<Check>>, RandomState>);

impl Checks {
    fn keep(&mut self, mut check: Check, names: &mut Names) {
        let Check { node, service_name, notes, kind, interval, timeout, service_tags, .. } = &mut check;
        for text in [node, service_name, notes, kind, interval, timeout].into_iter().chain(service_tags) {
            names.share(text);
        }
        if check.output.is_empty() {
            names.share(&mut check.output);
        }
        self.0.entry((check.node_key(), check.service_id.clone())).or_default().push(Arc::new(check));
    }

    /// An owner's checks, by id.
    fn take(&mut self, node: &NodeKey, id: &Arc<str>) -> Arc<[Arc<Check>]> {
        // Most have none, and need no list of their own.
        if self.0.is_empty() {
            return Arc::default();
        }
        let Some(mut checks) = self.0.remove(&(node.clone(), id.clone())) else { return Arc::default() };
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

    /// A text in lower case; itself when it is.
    fn lower(&mut self, text: &Arc<str>) -> Arc<str> {
        if text.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
            return text.clone();
        }
        let mut lower = Arc::from(text.to_lowercase());
        self.share(&mut lower);
        lower
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::catalog::{Change, Health, Weights};

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
            kind: None,
            tags: vec!["v1".into()],
            address: format!("10.1.0.{address}").into(),
            tagged_addresses: None,
            meta: None,
            port: 80,
            ports: Vec::new(),
            socket_path: None,
            weights: Weights::default(),
            enable_tag_override: false,
            proxy: None,
            connect: native.then(|| Box::new(json!({"Native": true}))),
            agent: false,
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
            service_tags: Vec::new(),
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
            instances: kept(catalog.instances().values().map(|entry| &*entry.instance)),
            checks: kept(catalog.checks().values().map(|check| &**check)),
            kv: kept(catalog.kv().values().map(|entry| &**entry)),
            coordinates: kept(catalog.coordinates().values().map(|coordinate| &**coordinate)),
        }
    }

    /// All that a reader can find, as text. The spelling of a service's name is its first instance's; which was first is
    /// not kept, and the index of a node or a service forgets the checks that it lost.
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
            prop_assert_eq!(seen(&restored(&catalog)), seen(&catalog));
            let mut rows = rows(&catalog);
            rows.nodes.reverse();
            rows.instances.reverse();
            rows.checks.reverse();
            prop_assert_eq!(seen(&Catalog::restore(rows)), seen(&catalog), "whatever the order of the rows");
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
}
