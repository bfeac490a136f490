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
        for mut node in rows.nodes {
            names.share(&mut node.datacenter);
            let key = node.key();
            let checks = node_checks.remove(&key).unwrap_or_default();
            let index = checks.iter().map(|check| check.modify_index).fold(node.modify_index, Index::max);
            catalog.checks.extend(checks.iter().map(|check| (check.key(), check.clone())));
            if let Ok(address) = node.address.parse::<IpAddr>() {
                catalog.node_addresses.insert((address, key.clone()), ());
            }
            catalog.nodes.insert(key, NodeEntry { node: Arc::new(node), checks: checks.into(), index });
        }
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
