//! A catalog from rows that were kept: their indexes stay, and tables are built in order rather than row by row.

use std::collections::{BTreeMap, HashSet};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Catalog, Check, Coordinate, Index, Instance, InstanceEntry, KvEntry, Node, NodeEntry, NodeKey, Service, Tables};

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
        let mut node_checks: BTreeMap<NodeKey, Vec<Arc<Check>>> = BTreeMap::new();
        let mut instance_checks: BTreeMap<(NodeKey, Arc<str>), Vec<Arc<Check>>> = BTreeMap::new();
        for mut check in rows.checks {
            names.share(&mut check.node);
            names.share(&mut check.service_name);
            let check = Arc::new(check);
            let node = check.node_key();
            match &*check.service_id {
                "" => node_checks.entry(node).or_default().push(check),
                _ => instance_checks.entry((node, check.service_id.clone())).or_default().push(check),
            }
        }
        let mut datacenters: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for mut node in rows.nodes {
            names.share(&mut node.datacenter);
            let lower = node.datacenter.to_lowercase();
            let datacenter = if lower == *node.datacenter { node.datacenter.clone() } else { names.named(&lower) };
            *datacenters.entry(datacenter).or_insert(0) += 1;
            let key = node.key();
            let checks = node_checks.remove(&key).unwrap_or_default();
            let index = checks.iter().map(|check| check.modify_index).fold(node.modify_index, Index::max);
            catalog.checks.extend(checks.iter().map(|check| (check.key(), check.clone())));
            if let Ok(address) = node.address.parse::<IpAddr>() {
                catalog.node_addresses.insert((address, key.clone()), ());
            }
            catalog.nodes.insert(key, NodeEntry { node: Arc::new(node), checks: checks.into(), index });
        }
        catalog.datacenters.extend(datacenters);
        let mut services: BTreeMap<Arc<str>, Service> = BTreeMap::new();
        for mut instance in rows.instances {
            names.share(&mut instance.node);
            names.share(&mut instance.service);
            instance.tags.iter_mut().for_each(|tag| names.share(tag));
            let key = instance.key();
            if !catalog.nodes.contains_key(&key.node) {
                continue;
            }
            let checks = instance_checks.remove(&(key.node.clone(), key.id.clone())).unwrap_or_default();
            catalog.checks.extend(checks.iter().map(|check| (check.key(), check.clone())));
            if let Ok(address) = instance.address.parse::<IpAddr>() {
                catalog.instance_addresses.insert((address, key.clone()), ());
            }
            if let Some(destination) = instance.mesh_destination() {
                catalog.mesh.insert((destination, key.clone()), ());
            }
            let index = checks.iter().map(|check| check.modify_index).fold(instance.modify_index, Index::max);
            let entry = InstanceEntry { instance: Arc::new(instance), checks: checks.into() };
            let lower = entry.service.to_lowercase();
            let name = if lower == *entry.service { entry.service.clone() } else { names.named(&lower) };
            let service = services.entry(name.clone()).or_insert_with(|| Service {
                key: name,
                name: entry.service.clone(),
                instances: Vec::new(),
                index,
            });
            service.index = service.index.max(index);
            service.instances.push(entry.clone());
            catalog.instances.insert(key, entry);
        }
        for (key, mut service) in services {
            // Rows that came in order cost one comparison each.
            service.instances.sort_by(|a, b| a.cmp_natural(b));
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
}

/// Texts that many rows have in common, held once.
#[derive(Default)]
struct Names(HashSet<Arc<str>, foldhash::fast::RandomState>);

impl Names {
    fn share(&mut self, text: &mut Arc<str>) {
        match self.0.get(text) {
            Some(shared) => *text = shared.clone(),
            None => {
                self.0.insert(text.clone());
            }
        }
    }

    fn named(&mut self, text: &str) -> Arc<str> {
        let mut named = Arc::from(text);
        self.share(&mut named);
        named
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::catalog::{Change, CheckKey, Health, InstanceKey, Weights};

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
        Catalog::restore(Rows {
            index: catalog.index(),
            tables: catalog.tables(),
            nodes: kept(catalog.nodes().values().map(|entry| &*entry.node)),
            instances: kept(catalog.instances().values().map(|entry| &*entry.instance)),
            checks: kept(catalog.checks().values().map(|check| &**check)),
            kv: kept(catalog.kv().values().map(|entry| &**entry)),
            coordinates: kept(catalog.coordinates().values().map(|coordinate| &**coordinate)),
        })
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
