//! How the catalog changes: one [`Edit`] a transaction.

use std::collections::HashSet;
use std::mem;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use foldhash::fast::RandomState;
use smol_str::SmolStr;

use super::row::lower;
use super::snapshot::{Located, Placed};
use super::{
    Catalog, Check, CheckKey, Coordinate, Index, Instance, InstanceEntry, InstanceKey, KvEntry, Memo, Node, NodeEntry, NodeKey,
    Origin, Service, ServiceAddress,
};
use crate::limits;

/// What a source may tell. Rows replace what is known under their key; a row that says nothing new changes nothing.
#[derive(Debug, Clone)]
pub enum Change {
    PutNode(Node),
    /// Goes with its instances and checks.
    RemoveNode(NodeKey),
    PutInstance(Instance),
    /// Goes with its checks.
    RemoveInstance(InstanceKey),
    PutCheck(Check),
    RemoveCheck(CheckKey),
    PutKv(KvEntry),
    RemoveKv(Arc<str>),
    PutCoordinate(Coordinate),
}

/// A row that an edit wrote or removed; its present state is in the new catalog.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touched {
    Node(NodeKey),
    Instance(InstanceKey),
    Check(CheckKey),
    Kv(Arc<str>),
    Coordinate(NodeKey, Arc<str>),
}

/// Under which tag an instance of the mesh has its service's virtual address.
const VIRTUAL: &str = "consul-virtual";

/// 240.0.0.0; services get what follows.
const VIRTUAL_BASE: u32 = 0xf000_0000;

/// Why a change cannot be made; the catalog is as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("expected a known node, got {node:?}, which is not registered")]
    UnknownNode { node: String },
    #[error("expected a known service on node {node:?}, got {id:?}, which is not registered there")]
    UnknownInstance { node: String, id: String },
}

/// A transaction on the catalog. All its changes carry one index, the next after the catalog's.
#[derive(Debug)]
pub struct Edit {
    catalog: Catalog,
    next: Index,
    touched: Vec<Touched>,
    /// Something new was said, and not only by somebody else.
    is_news: bool,
}

impl Catalog {
    /// Begins a transaction on a copy of this catalog.
    pub fn edit(&self) -> Edit {
        Edit { catalog: self.clone(), next: Index(self.index.0 + 1), touched: Vec::new(), is_news: false }
    }
}

impl Edit {
    /// The catalog with the changes made so far.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The index that this transaction's changes get.
    pub fn index(&self) -> Index {
        self.next
    }

    /// The new catalog, and what changed. The index has moved, unless nothing is new but who speaks for an instance.
    pub fn finish(mut self) -> (Catalog, Vec<Touched>) {
        if self.is_news {
            self.catalog.index = self.next;
        }
        (self.catalog, self.touched)
    }

    /// Lets the next index be at least `index + 1`: after a load from disk, history goes on where it stopped.
    pub fn resume_from(&mut self, index: Index) {
        self.catalog.index = self.catalog.index.max(index);
        self.next = Index(self.catalog.index.0 + 1);
    }

    /// Makes one change. A refused change leaves the edit as it was.
    pub fn apply(&mut self, change: Change) -> Result<(), Refused> {
        match change {
            Change::PutNode(node) => self.put_node(node),
            Change::RemoveNode(key) => self.remove_node(&key),
            Change::PutInstance(instance) => return self.put_instance(instance),
            Change::RemoveInstance(key) => self.remove_instance(&key),
            Change::PutCheck(check) => return self.put_check(check),
            Change::RemoveCheck(key) => self.remove_check(&key),
            Change::PutKv(entry) => self.put_kv(entry),
            Change::RemoveKv(key) => self.remove_kv(&key),
            Change::PutCoordinate(coordinate) => return self.put_coordinate(coordinate),
        }
        Ok(())
    }

    /// Gives an instance of the mesh the address that stands for its service as a whole, as Consul does: the one that the
    /// service has, or else the next of 240.0.0.0/4.
    pub fn give_virtual_address(&self, instance: &mut Instance) {
        let Some(service) = instance.mesh_destination() else { return };
        let address_of = |other: &InstanceKey| -> Option<Ipv4Addr> {
            let tagged = self.catalog.instances.get(other)?.extra().tagged_addresses.as_ref()?;
            tagged.get(VIRTUAL)?.address.parse().ok()
        };
        let mut highest = VIRTUAL_BASE;
        let mut own = None;
        for (other, key) in self.catalog.mesh.keys() {
            let Some(address) = address_of(key) else { continue };
            highest = highest.max(address.to_bits());
            if *other == service {
                own = Some(address);
                break;
            }
        }
        // 255.255.255.255 stands for no service.
        let next = || highest.checked_add(1).filter(|next| *next < u32::MAX).map(Ipv4Addr::from_bits);
        let Some(address) = own.or_else(next) else { return };
        let at = ServiceAddress { address: address.to_string(), port: instance.port };
        let extra = instance.extra.get_or_insert_default();
        extra.tagged_addresses.get_or_insert_default().insert(VIRTUAL.to_owned(), at);
    }

    fn put_node(&mut self, mut node: Node) {
        let key = node.key();
        let old = self.catalog.nodes.get(&key);
        (node.create_index, node.modify_index) = match old {
            Some(old) => (old.create_index, old.modify_index),
            None => (self.next, self.next),
        };
        let checks = old.map(|old| old.checks.clone()).unwrap_or_default();
        if let Some(old) = old {
            if *old.node == node {
                return;
            }
            if let Ok(address) = old.address.parse::<IpAddr>() {
                self.catalog.node_addresses.remove(&(address, key.clone()));
            }
            let datacenter = old.datacenter.clone();
            self.leave_datacenter(&datacenter);
        }
        let datacenter: Arc<str> = node.datacenter.to_lowercase().into();
        let count = self.catalog.datacenters.get(&datacenter).copied().unwrap_or(0);
        self.catalog.datacenters.insert(datacenter, count + 1);
        node.modify_index = self.next;
        if let Ok(address) = node.address.parse::<IpAddr>() {
            self.catalog.node_addresses.insert((address, key.clone()), ());
        }
        self.catalog.nodes.insert(key.clone(), NodeEntry { node: Arc::new(node), checks, index: self.next });
        self.catalog.tables.nodes = self.next;
        self.touch(Touched::Node(key));
    }

    fn remove_node(&mut self, key: &NodeKey) {
        let instances: Vec<_> = self.catalog.instances_on(key).map(|entry| entry.id.clone()).collect();
        for id in instances {
            self.remove_instance(&InstanceKey { node: key.clone(), id });
        }
        let checks: Vec<_> = self.catalog.checks_on(key).map(|check| check.id.clone()).collect();
        for id in checks {
            self.remove_check(&CheckKey { node: key.clone(), id });
        }
        let segments: Vec<_> = {
            let first = (key.clone(), Arc::from(""));
            let here = self.catalog.coordinates.range(first..).take_while(|((node, _), _)| node == key);
            here.map(|((_, segment), _)| segment.clone()).collect()
        };
        for segment in segments {
            self.catalog.coordinates.remove(&(key.clone(), segment.clone()));
            self.catalog.tables.coordinates = self.next;
            self.touch(Touched::Coordinate(key.clone(), segment));
        }
        if let Some(old) = self.catalog.nodes.remove(key) {
            if let Ok(address) = old.address.parse::<IpAddr>() {
                self.catalog.node_addresses.remove(&(address, key.clone()));
            }
            self.leave_datacenter(&old.datacenter);
            self.catalog.tables.nodes = self.next;
            self.touch(Touched::Node(key.clone()));
        }
    }

    fn put_instance(&mut self, instance: Instance) -> Result<(), Refused> {
        let key = instance.key();
        if self.catalog.nodes.get(&key.node).is_none() {
            return Err(Refused::UnknownNode { node: instance.node.to_string() });
        }
        let Some(entry) = self.entry(&key, instance) else { return Ok(()) };
        if let Some(located) = Located::of(&entry.instance) {
            self.catalog.instance_addresses.insert(located, ());
        }
        self.put_entry(entry);
        self.catalog.tables.instances = self.next;
        self.touch(Touched::Instance(key));
        Ok(())
    }

    /// Puts many instances: the same as one after the other, but the tables are gone through once, and each service is
    /// changed once. Of several with one key the last counts.
    pub fn put_instances(&mut self, instances: Vec<Instance>) -> Result<(), Refused> {
        let mut rows: Vec<(InstanceKey, Instance)> = Vec::with_capacity(instances.len());
        let mut node: Option<NodeKey> = None;
        for instance in instances {
            let key = instance.key();
            if node.as_ref() != Some(&key.node) {
                if self.catalog.nodes.get(&key.node).is_none() {
                    return Err(Refused::UnknownNode { node: instance.node.to_string() });
                }
                node = Some(key.node.clone());
            }
            rows.push((key, instance));
        }
        rows.sort_by(|(a, _), (b, _)| a.cmp(b));
        rows.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                mem::swap(later, earlier);
            }
            same
        });
        let mut names: HashSet<Arc<str>, RandomState> = HashSet::default();
        let mut shared = |name: Arc<str>| match names.get(&name) {
            Some(known) => known.clone(),
            None => {
                names.insert(name.clone());
                name
            }
        };
        let (mut entries, mut addresses) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        let mut of_services: Vec<(Arc<str>, InstanceEntry)> = Vec::with_capacity(rows.len());
        for (key, mut instance) in rows {
            // What instances have in common is held once.
            instance.service = shared(instance.service);
            let service = shared(lower(&instance.service));
            let Some(entry) = self.entry(&key, instance) else { continue };
            addresses.extend(Located::of(&entry.instance).map(|located| (located, ())));
            of_services.push((service, entry.clone()));
            self.touch(Touched::Instance(key));
            entries.push((Placed(entry), ()));
        }
        if entries.is_empty() {
            return Ok(());
        }
        addresses.sort_unstable();
        self.catalog.instance_addresses.extend_sorted(addresses);
        self.catalog.instances.0.extend_sorted(entries);
        // Each service's own stay in their order.
        of_services.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut changed = Vec::new();
        for group in of_services.chunk_by(|(a, _), (b, _)| a == b) {
            let Some((key, first)) = group.first() else { continue };
            let mut service = match self.catalog.services.get(&**key) {
                Some(known) => Service::clone(known),
                None => Service::new((&**key).into(), &first.service, self.next),
            };
            (service.index, service.memo) = (self.next, Memo::default());
            service.instances.reserve_exact(group.len());
            group.iter().for_each(|(_, entry)| put_among(&mut service.instances, entry.clone()));
            let (hash, service) = (self.catalog.service_hash(key.as_bytes()), Arc::new(service));
            self.catalog.services_by_hash.insert(hash, service.clone(), |other| *other.key == **key);
            changed.push((service.key.clone(), service));
        }
        self.catalog.services.extend_sorted(changed);
        self.catalog.tables.instances = self.next;
        Ok(())
    }

    /// What an instance's row becomes, taken out of where its former self stood; `None` when it says nothing new.
    fn entry(&mut self, key: &InstanceKey, mut instance: Instance) -> Option<InstanceEntry> {
        let old = self.catalog.instances.get(key).cloned();
        (instance.create_index, instance.modify_index) = match &old {
            Some(old) => (old.create_index, old.modify_index),
            None => (self.next, self.next),
        };
        let mut checks = Arc::default();
        if let Some(old) = &old {
            let origin = mem::replace(&mut instance.origin, old.origin.clone());
            if *old.instance == instance {
                if origin != old.origin {
                    self.hand_over(key, old, origin);
                }
                return None;
            }
            instance.origin = origin;
            checks = old.checks.clone();
            if let Some(located) = Located::of(&old.instance) {
                self.catalog.instance_addresses.remove(&located);
            }
            if let Some(destination) = old.mesh_destination() {
                self.catalog.mesh.remove(&(destination, key.clone()));
            }
            if !old.service.eq_ignore_ascii_case(&instance.service) {
                self.leave_service(old);
            }
        }
        instance.modify_index = self.next;
        if let Some(destination) = instance.mesh_destination() {
            self.catalog.mesh.insert((destination, key.clone()), ());
        }
        Some(InstanceEntry { instance: Arc::new(instance), checks })
    }

    /// Somebody else speaks for an instance now, and says the same of it. That is kept and wakes nobody.
    fn hand_over(&mut self, key: &InstanceKey, old: &InstanceEntry, origin: Origin) {
        let instance = Arc::new(Instance { origin, ..Instance::clone(&old.instance) });
        let entry = InstanceEntry { instance, checks: old.checks.clone() };
        if let Some(located) = Located::of(&entry.instance) {
            self.catalog.instance_addresses.insert(located, ());
        }
        if let Some(mut service) = self.catalog.services.get(&*lower(&entry.service)).map(|known| Service::clone(known)) {
            put_among(&mut service.instances, entry.clone());
            self.put_service(Arc::new(service));
        }
        self.catalog.instances.0.insert(Placed(entry), ());
        self.touched.push(Touched::Instance(key.clone()));
    }

    /// Takes note of a row that changed.
    fn touch(&mut self, touched: Touched) {
        self.touched.push(touched);
        self.is_news = true;
    }

    fn remove_instance(&mut self, key: &InstanceKey) {
        let Some(old) = self.catalog.instances.get(key).cloned() else { return };
        for check in old.checks.iter() {
            self.catalog.checks.remove(&check.key());
            self.catalog.tables.checks = self.next;
            self.touch(Touched::Check(check.key()));
        }
        if let Some(located) = Located::of(&old.instance) {
            self.catalog.instance_addresses.remove(&located);
        }
        if let Some(destination) = old.mesh_destination() {
            self.catalog.mesh.remove(&(destination, key.clone()));
        }
        self.leave_service(&old);
        self.catalog.instances.0.remove(key);
        self.catalog.tables.instances = self.next;
        self.touch(Touched::Instance(key.clone()));
    }

    fn put_check(&mut self, mut check: Check) -> Result<(), Refused> {
        let key = check.key();
        if self.catalog.nodes.get(&key.node).is_none() {
            return Err(Refused::UnknownNode { node: check.node.to_string() });
        }
        if !check.service_id.is_empty() {
            let owner = InstanceKey { node: key.node.clone(), id: check.service_id.clone() };
            if self.catalog.instances.get(&owner).is_none() {
                return Err(Refused::UnknownInstance { node: check.node.to_string(), id: check.service_id.to_string() });
            }
        }
        let old = self.catalog.checks.get(&key).cloned();
        (check.create_index, check.modify_index) = match &old {
            Some(old) => (old.create_index, old.modify_index),
            None => (self.next, self.next),
        };
        if let Some(old) = &old {
            if **old == check {
                return Ok(());
            }
            if old.service_id != check.service_id {
                self.detach_check(old);
            }
        }
        check.modify_index = self.next;
        let check = Arc::new(check);
        self.catalog.checks.insert(key.clone(), check.clone());
        self.set_owned_checks(&check, |checks| {
            checks.retain(|other| other.id != check.id);
            let at = checks.partition_point(|other| other.id < check.id);
            checks.insert(at, check.clone());
        });
        self.catalog.tables.checks = self.next;
        self.touch(Touched::Check(key));
        Ok(())
    }

    fn remove_check(&mut self, key: &CheckKey) {
        let Some(old) = self.catalog.checks.remove(key) else { return };
        self.detach_check(&old);
        self.catalog.tables.checks = self.next;
        self.touch(Touched::Check(key.clone()));
    }

    fn put_kv(&mut self, mut entry: KvEntry) {
        let old = self.catalog.kv.get(&entry.key);
        (entry.create_index, entry.modify_index) = match old {
            Some(old) => (old.create_index, old.modify_index),
            None => (self.next, self.next),
        };
        if old.is_some_and(|old| **old == entry) {
            return;
        }
        entry.modify_index = self.next;
        let key = entry.key.clone();
        self.catalog.kv_deleted.remove(&key);
        self.catalog.kv.insert(key.clone(), Arc::new(entry));
        self.catalog.tables.kv = self.next;
        self.touch(Touched::Kv(key));
    }

    fn remove_kv(&mut self, key: &Arc<str>) {
        if self.catalog.kv.remove(key).is_none() {
            return;
        }
        if self.catalog.kv_deleted.len() >= limits::KV_TOMBSTONES_MAX {
            // Forgetting deletions costs a watcher of such a prefix one wake-up late or early, nothing else.
            self.catalog.kv_deleted = Default::default();
        }
        self.catalog.kv_deleted.insert(key.clone(), self.next);
        self.catalog.tables.kv = self.next;
        self.touch(Touched::Kv(key.clone()));
    }

    fn put_coordinate(&mut self, coordinate: Coordinate) -> Result<(), Refused> {
        let node = NodeKey::local(&coordinate.node);
        if self.catalog.nodes.get(&node).is_none() {
            return Err(Refused::UnknownNode { node: coordinate.node.to_string() });
        }
        let key = (node, coordinate.segment.clone());
        if self.catalog.coordinates.get(&key).is_some_and(|old| **old == coordinate) {
            return Ok(());
        }
        self.catalog.coordinates.insert(key.clone(), Arc::new(coordinate));
        self.catalog.tables.coordinates = self.next;
        self.touch(Touched::Coordinate(key.0, key.1));
        Ok(())
    }

    /// Writes an instance's entry into its service and into the table of instances.
    fn put_entry(&mut self, entry: InstanceEntry) {
        self.change_service(&entry.service, |instances| put_among(instances, entry.clone()));
        self.catalog.instances.0.insert(Placed(entry), ());
    }

    /// Takes an instance out of its service, and the service out of the catalog with its last instance.
    fn leave_service(&mut self, entry: &InstanceEntry) {
        let key = entry.key();
        self.change_service(&entry.service, |instances| {
            if let Ok(at) = instances.binary_search_by(|other| other.cmp_key(&key)) {
                instances.remove(at);
            }
        });
    }

    /// Changes the list of a service's instances. The service is taken out of both tables meanwhile, so that one which no
    /// snapshot shares is changed in place.
    fn change_service(&mut self, name: &Arc<str>, change: impl FnOnce(&mut Vec<InstanceEntry>)) {
        let catalog = &mut self.catalog;
        let key = SmolStr::new(lower(name));
        let hash = catalog.service_hash(key.as_bytes());
        let new = || Arc::new(Service::new(key.clone(), name, self.next));
        let mut service = catalog.services.remove(&key).unwrap_or_else(new);
        catalog.services_by_hash.remove(hash, |other| other.key == key);
        let changed = Arc::make_mut(&mut service);
        changed.index = self.next;
        changed.memo = Memo::default();
        change(&mut changed.instances);
        if changed.instances.is_empty() {
            catalog.tables.service_gone = self.next;
            return;
        }
        self.put_service(service);
    }

    /// Puts a service into both tables.
    fn put_service(&mut self, service: Arc<Service>) {
        let (hash, key) = (self.catalog.service_hash(service.key.as_bytes()), service.key.clone());
        self.catalog.services_by_hash.insert(hash, service.clone(), |other| other.key == key);
        self.catalog.services.insert(key, service);
    }

    /// Takes a node out of its datacenter, and the datacenter out of the catalog with its last node.
    fn leave_datacenter(&mut self, datacenter: &str) {
        let datacenter: Arc<str> = datacenter.to_lowercase().into();
        match self.catalog.datacenters.get(&datacenter).copied() {
            Some(count @ 2..) => drop(self.catalog.datacenters.insert(datacenter, count - 1)),
            _ => drop(self.catalog.datacenters.remove(&datacenter)),
        }
    }

    fn detach_check(&mut self, old: &Check) {
        self.set_owned_checks(old, |checks| checks.retain(|other| other.id != old.id));
    }

    /// Changes the list of checks of whoever `check` belongs to: its instance, or its node.
    fn set_owned_checks(&mut self, check: &Check, change: impl FnOnce(&mut Vec<Arc<Check>>)) {
        let node_key = check.node_key();
        if check.service_id.is_empty() {
            let Some(entry) = self.catalog.nodes.get_mut(&node_key) else { return };
            let mut checks = entry.checks.to_vec();
            change(&mut checks);
            entry.checks = checks.into();
            entry.index = self.next;
            self.catalog.tables.node_checks = self.next;
        } else {
            let key = InstanceKey { node: node_key, id: check.service_id.clone() };
            let Some(mut entry) = self.catalog.instances.get(&key).cloned() else { return };
            let mut checks = entry.checks.to_vec();
            change(&mut checks);
            entry.checks = checks.into();
            self.put_entry(entry);
        }
    }
}

/// Puts an entry in its place among a service's instances.
fn put_among(instances: &mut Vec<InstanceEntry>, entry: InstanceEntry) {
    match instances.binary_search_by(|other| other.cmp_natural(&entry)) {
        Ok(at) => instances[at] = entry,
        Err(at) => instances.insert(at, entry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Extra, Health, Origin, SourceId, Weights};

    fn node(name: &str, address: &str) -> Node {
        Node {
            source: SourceId::LOCAL,
            name: name.into(),
            id: "".into(),
            datacenter: "dc1".into(),
            address: address.into(),
            tagged_addresses: None,
            meta: None,
            create_index: Index(0),
            modify_index: Index(0),
        }
    }

    fn instance(node: &str, id: &str, service: &str, address: &str) -> Instance {
        Instance {
            source: SourceId::LOCAL,
            node: node.into(),
            id: id.into(),
            service: service.into(),
            tags: Default::default(),
            address: address.into(),
            port: 80,
            weights: Weights::default(),
            enable_tag_override: false,
            extra: None,
            origin: Origin::Catalog,
            create_index: Index(0),
            modify_index: Index(0),
        }
    }

    fn proxy_of(service: &str) -> Option<Box<Extra>> {
        let proxy = Some(serde_json::json!({"DestinationServiceName": service}));
        Extra { kind: Some("connect-proxy".into()), proxy, ..Extra::default() }.boxed()
    }

    fn check(node: &str, id: &str, service_id: &str, status: Health) -> Check {
        Check {
            source: SourceId::LOCAL,
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
        }
    }

    fn commit(catalog: &Catalog, changes: Vec<Change>) -> (Catalog, Vec<Touched>) {
        let mut edit = catalog.edit();
        for change in changes {
            edit.apply(change).unwrap();
        }
        edit.finish()
    }

    fn three() -> Catalog {
        let changes = vec![
            Change::PutNode(node("B", "10.0.0.2")),
            Change::PutNode(node("a", "10.0.0.1")),
            Change::PutInstance(instance("B", "web-2", "Web", "10.1.0.2")),
            Change::PutInstance(instance("a", "web-1", "web", "")),
            Change::PutCheck(check("B", "alive", "", Health::Passing)),
            Change::PutCheck(check("a", "c1", "web-1", Health::Warning)),
        ];
        commit(&Catalog::default(), changes).0
    }

    #[test]
    fn a_service_of_the_mesh_has_one_virtual_address() {
        let mut edit = Catalog::default().edit();
        edit.apply(Change::PutNode(node("n1", "10.0.0.1"))).unwrap();
        let mut put = |id: &str, proxied: Option<&str>| {
            let mut instance = Instance { id: id.into(), ..instance("n1", id, "app", "10.0.0.1") };
            instance.extra = proxied.and_then(proxy_of);
            edit.give_virtual_address(&mut instance);
            edit.apply(Change::PutInstance(instance.clone())).unwrap();
            let tagged = instance.extra?.tagged_addresses;
            tagged.and_then(|mut tagged| Some(tagged.remove("consul-virtual")?.address))
        };
        assert_eq!(put("plain", None), None);
        assert_eq!(put("web-proxy", Some("web")).as_deref(), Some("240.0.0.1"));
        assert_eq!(put("api-proxy", Some("api")).as_deref(), Some("240.0.0.2"));
        assert_eq!(put("web-proxy-2", Some("Web")).as_deref(), Some("240.0.0.1"));
        assert_eq!(put("web-proxy", Some("web")).as_deref(), Some("240.0.0.1"), "registered again");
    }

    #[test]
    fn instances_stand_in_natural_order_whatever_the_case() {
        let catalog = three();
        let web = catalog.service("WEB").unwrap();
        assert_eq!(web.instances.iter().map(|i| &*i.id).collect::<Vec<_>>(), ["web-1", "web-2"]);
        assert_eq!(catalog.node("b").unwrap().address, "10.0.0.2".into());
        assert_eq!(catalog.index(), Index(1));
    }

    #[test]
    fn health_is_the_worst_of_own_and_node_checks() {
        let catalog = three();
        let health = |catalog: &Catalog, id: &str| {
            let web = catalog.service("web").unwrap().clone();
            catalog.health(web.instances.iter().find(|i| &*i.id == id).unwrap())
        };
        assert_eq!(health(&catalog, "web-1"), Health::Warning);
        assert_eq!(health(&catalog, "web-2"), Health::Passing);
        let (catalog, _) = commit(&catalog, vec![Change::PutCheck(check("b", "alive", "", Health::Critical))]);
        assert_eq!(health(&catalog, "web-2"), Health::Critical);
        assert_eq!(catalog.service_index("web"), Index(2), "a node's check matters to its services");
    }

    #[test]
    fn a_change_that_says_nothing_new_moves_no_index() {
        let before = three();
        let same = vec![
            Change::PutNode(node("a", "10.0.0.1")),
            Change::PutInstance(instance("a", "web-1", "web", "")),
            Change::PutCheck(check("a", "c1", "web-1", Health::Warning)),
            Change::RemoveCheck(CheckKey { node: NodeKey::local("a"), id: "none".into() }),
        ];
        let (after, touched) = commit(&before, same);
        assert_eq!((after.index(), after.tables(), touched), (before.index(), before.tables(), Vec::new()));
    }

    #[test]
    fn a_node_takes_all_it_bears_with_it() {
        let before = three();
        let (after, touched) = commit(&before, vec![Change::RemoveNode(NodeKey::local("A"))]);
        assert_eq!(touched.len(), 3);
        assert_eq!(after.service("web").unwrap().instances.len(), 1);
        assert_eq!(after.checks().len(), 1);
        assert!(after.node_at([10, 0, 0, 1].into()).is_none());
        assert_eq!(before.service("web").unwrap().instances.len(), 2, "a published catalog never changes");
        let (gone, _) = commit(&after, vec![Change::RemoveNode(NodeKey::local("B"))]);
        assert!(gone.service("web").is_none());
        assert_eq!(gone.service_index("web"), Index(3));
    }

    #[test]
    fn an_instance_may_change_its_service_and_its_address() {
        let (catalog, _) = commit(&three(), vec![Change::PutInstance(instance("b", "web-2", "db", "10.1.0.3"))]);
        assert_eq!(catalog.service("web").unwrap().instances.len(), 1);
        assert_eq!(catalog.service("db").unwrap().instances.len(), 1);
        assert!(catalog.instance_at([10, 1, 0, 2].into()).is_none());
        assert_eq!(&*catalog.instance_at([10, 1, 0, 3].into()).unwrap().id, "web-2");
    }

    #[test]
    fn mesh_instances_are_found_by_whom_they_stand_for() {
        let mut proxy = instance("a", "web-proxy", "web-sidecar", "");
        proxy.extra = proxy_of("Web");
        let mut native = instance("B", "app", "app", "");
        native.extra = Extra { connect: Some(serde_json::json!({"Native": true})), ..Extra::default() }.boxed();
        let (catalog, _) = commit(&three(), vec![Change::PutInstance(proxy.clone()), Change::PutInstance(native)]);
        let ids = |catalog: &Catalog, name| catalog.mesh_instances(name).map(|i| i.id.to_string()).collect::<Vec<_>>();
        assert_eq!(ids(&catalog, "WEB"), ["web-proxy"]);
        assert_eq!(ids(&catalog, "app"), ["app"]);
        assert!(ids(&catalog, "db").is_empty());
        proxy.extra = proxy_of("db");
        let (catalog, _) = commit(&catalog, vec![Change::PutInstance(proxy)]);
        assert!(ids(&catalog, "web").is_empty());
        assert_eq!(ids(&catalog, "db"), ["web-proxy"]);
        let key = InstanceKey { node: NodeKey::local("a"), id: "web-proxy".into() };
        assert!(ids(&commit(&catalog, vec![Change::RemoveInstance(key)]).0, "db").is_empty());
    }

    #[test]
    fn datacenters_come_and_go_with_their_nodes() {
        let far = |name: &str| Node { datacenter: "East".into(), ..node(name, "10.9.0.1") };
        let names = |catalog: &Catalog| catalog.datacenters().keys().map(ToString::to_string).collect::<Vec<_>>();
        let (catalog, _) = commit(&three(), vec![Change::PutNode(far("x")), Change::PutNode(far("y"))]);
        assert_eq!(names(&catalog), ["dc1", "east"]);
        let (catalog, _) = commit(&catalog, vec![Change::RemoveNode(NodeKey::local("x"))]);
        assert_eq!(names(&catalog), ["dc1", "east"]);
        let (catalog, _) = commit(&catalog, vec![Change::PutNode(node("y", "10.9.0.1"))]);
        assert_eq!(names(&catalog), ["dc1"]);
    }

    #[test]
    fn a_check_may_move_to_another_owner() {
        let (catalog, _) = commit(&three(), vec![Change::PutCheck(check("a", "c1", "", Health::Critical))]);
        assert!(catalog.service("web").unwrap().instances[0].checks.is_empty());
        assert_eq!(catalog.node("a").unwrap().checks.len(), 1);
    }

    #[test]
    fn orphans_are_refused() {
        let mut edit = three().edit();
        assert_eq!(
            edit.apply(Change::PutInstance(instance("zz", "x", "x", ""))),
            Err(Refused::UnknownNode { node: "zz".into() })
        );
        assert!(matches!(
            edit.apply(Change::PutCheck(check("a", "x", "nope", Health::Passing))),
            Err(Refused::UnknownInstance { .. })
        ));
        assert!(edit.finish().1.is_empty());
    }

    #[test]
    fn key_prefixes_know_their_last_change() {
        let entry = |key: &str| KvEntry {
            key: key.into(),
            value: b"v"[..].into(),
            flags: 0,
            lock_index: 0,
            session: None,
            create_index: Index(0),
            modify_index: Index(0),
        };
        let (catalog, _) = commit(&three(), vec![Change::PutKv(entry("a/1"))]);
        let (catalog, _) = commit(&catalog, vec![Change::PutKv(entry("b/1"))]);
        let (catalog, _) = commit(&catalog, vec![Change::RemoveKv("a/1".into())]);
        assert_eq!(catalog.kv_prefix_index("a/"), Some(Index(4)));
        assert_eq!(catalog.kv_prefix_index("b/"), Some(Index(3)));
        assert_eq!(catalog.kv_prefix_index("c/"), None);
    }
}
