//! The JSON of rows, field for field as Consul writes it: which names, in which order, what is left out when empty and
//! what is `null`, `[]` or `{}`.
//!
//! These are views that borrow from the catalog; nothing is copied but what Consul computes. They only write: bodies
//! are read by [`super::go::decode`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use smol_str::{SmolStr, ToSmolStr};

use crate::catalog::{
    Address, Check, Coordinate, Health, Index, Instance, InstanceEntry, KvEntry, NamedPort, Node, NodeEntry, ServiceAddress,
    Weights,
};
use crate::duration;

type Texts = BTreeMap<String, String>;

/// A node, as in catalog/nodes and inside health/service.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NodeView<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    node: &'a str,
    address: &'a str,
    datacenter: &'a str,
    tagged_addresses: Option<&'a Texts>,
    meta: Option<&'a Texts>,
    create_index: Index,
    modify_index: Index,
}

impl<'a> From<&'a Node> for NodeView<'a> {
    fn from(node: &'a Node) -> Self {
        Self {
            id: &node.id,
            node: &node.name,
            address: &node.address,
            datacenter: &node.datacenter,
            tagged_addresses: node.tagged_addresses.as_ref(),
            meta: node.meta.as_ref(),
            create_index: node.create_index,
            modify_index: node.modify_index,
        }
    }
}

/// An instance, as in catalog/node and inside health/service.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ServiceView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(rename = "ID")]
    id: &'a str,
    service: &'a str,
    tags: &'a [Arc<str>],
    address: &'a Address,
    #[serde(skip_serializing_if = "Option::is_none")]
    tagged_addresses: Option<Addresses<'a>>,
    meta: Option<&'a Texts>,
    #[serde(skip_serializing_if = "is_zero")]
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<Vec<PortView<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket_path: Option<&'a str>,
    weights: WeightsView,
    enable_tag_override: bool,
    proxy: Value,
    connect: Value,
    peer_name: &'static str,
    create_index: Index,
    modify_index: Index,
}

impl<'a> From<&'a Instance> for ServiceView<'a> {
    fn from(instance: &'a Instance) -> Self {
        let extra = instance.extra();
        Self {
            kind: extra.kind.as_deref(),
            id: &instance.id,
            service: &instance.service,
            tags: &instance.tags,
            address: &instance.address,
            tagged_addresses: addresses(instance),
            meta: extra.meta.as_ref(),
            port: instance.port,
            ports: ports(&extra.ports),
            socket_path: extra.socket_path.as_deref(),
            weights: instance.weights.into(),
            enable_tag_override: instance.enable_tag_override,
            proxy: proxy(instance),
            connect: connect(instance),
            peer_name: "",
            create_index: instance.create_index,
            modify_index: instance.modify_index,
        }
    }
}

/// An instance joined with its node, as in catalog/service.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ServiceRow<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    node: &'a str,
    address: &'a str,
    datacenter: &'a str,
    tagged_addresses: Option<&'a Texts>,
    node_meta: Option<&'a Texts>,
    service_kind: &'a str,
    #[serde(rename = "ServiceID")]
    service_id: &'a str,
    service_name: &'a str,
    service_tags: &'a [Arc<str>],
    service_address: &'a Address,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tagged_addresses: Option<Addresses<'a>>,
    service_weights: WeightsView,
    #[serde(serialize_with = "never_null")]
    service_meta: Option<&'a Texts>,
    service_port: u16,
    service_ports: Option<Vec<PortView<'a>>>,
    service_socket_path: &'a str,
    service_enable_tag_override: bool,
    service_proxy: Value,
    service_connect: Value,
    service_locality: Option<()>,
    create_index: Index,
    modify_index: Index,
}

impl<'a> ServiceRow<'a> {
    pub(super) fn new(node: &'a Node, instance: &'a Instance) -> Self {
        let extra = instance.extra();
        Self {
            id: &node.id,
            node: &node.name,
            address: &node.address,
            datacenter: &node.datacenter,
            tagged_addresses: node.tagged_addresses.as_ref(),
            node_meta: node.meta.as_ref(),
            service_kind: extra.kind.as_deref().unwrap_or(""),
            service_id: &instance.id,
            service_name: &instance.service,
            service_tags: &instance.tags,
            service_address: &instance.address,
            service_tagged_addresses: addresses(instance),
            service_weights: instance.weights.into(),
            service_meta: extra.meta.as_ref(),
            service_port: instance.port,
            service_ports: ports(&extra.ports),
            service_socket_path: extra.socket_path.as_deref().unwrap_or(""),
            service_enable_tag_override: instance.enable_tag_override,
            service_proxy: proxy(instance),
            service_connect: connect(instance),
            service_locality: None,
            create_index: instance.create_index,
            modify_index: instance.modify_index,
        }
    }
}

/// An element of health/service: an instance, its node, and the checks that decide for it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HealthView<'a> {
    node: NodeView<'a>,
    service: ServiceView<'a>,
    checks: Vec<CheckView<'a>>,
}

impl<'a> HealthView<'a> {
    pub(super) fn new(node: &'a NodeEntry, instance: &'a InstanceEntry) -> Self {
        let checks = node.checks.iter().chain(instance.checks.iter());
        Self {
            node: (&*node.node).into(),
            service: (&*instance.instance).into(),
            checks: checks.map(|check| (&**check).into()).collect(),
        }
    }
}

/// A check, as the catalog lists it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CheckView<'a> {
    node: &'a str,
    #[serde(rename = "CheckID")]
    check_id: &'a str,
    name: &'a str,
    status: Health,
    notes: &'a str,
    output: &'a str,
    #[serde(rename = "ServiceID")]
    service_id: &'a str,
    service_name: &'a str,
    service_tags: &'a [Arc<str>],
    r#type: &'a str,
    interval: &'a str,
    timeout: &'a str,
    exposed_port: u16,
    definition: Value,
    create_index: Index,
    modify_index: Index,
}

impl<'a> From<&'a Check> for CheckView<'a> {
    fn from(check: &'a Check) -> Self {
        Self {
            node: &check.node,
            check_id: &check.id,
            name: &check.name,
            status: check.status,
            notes: &check.notes,
            output: &check.output,
            service_id: &check.service_id,
            service_name: &check.service_name,
            service_tags: &check.service_tags,
            r#type: &check.kind,
            interval: &check.interval,
            timeout: &check.timeout,
            exposed_port: check.exposed_port,
            definition: check.definition.as_deref().cloned().unwrap_or_else(|| json!({})),
            create_index: check.create_index,
            modify_index: check.modify_index,
        }
    }
}

impl<'a> CheckView<'a> {
    /// As the agent tells its own check: with the output of the last run, and outside the catalog's history.
    pub(super) fn of_agent(check: &'a Check, output: &'a str) -> Self {
        Self { output, create_index: Index(0), modify_index: Index(0), ..check.into() }
    }
}

/// An instance as the agent tells it, in agent/services.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AgentServiceView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(rename = "ID")]
    id: &'a str,
    service: &'a str,
    tags: &'a [Arc<str>],
    #[serde(serialize_with = "never_null")]
    meta: Option<&'a Texts>,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<Vec<PortView<'a>>>,
    address: &'a Address,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tagged_addresses: Option<Addresses<'a>>,
    weights: WeightsView,
    enable_tag_override: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect: Option<Value>,
    datacenter: &'a str,
}

impl<'a> AgentServiceView<'a> {
    pub(super) fn new(instance: &'a Instance, datacenter: &'a str) -> Self {
        let extra = instance.extra();
        Self {
            kind: extra.kind.as_deref(),
            id: &instance.id,
            service: &instance.service,
            tags: &instance.tags,
            meta: extra.meta.as_ref(),
            port: instance.port,
            ports: ports(&extra.ports),
            address: &instance.address,
            socket_path: extra.socket_path.as_deref(),
            tagged_addresses: addresses(instance),
            weights: instance.weights.into(),
            enable_tag_override: instance.enable_tag_override,
            content_hash: None,
            proxy: extra.proxy.is_some().then(|| proxy(instance)),
            connect: extra.connect.is_some().then(|| connect(instance)),
            datacenter,
        }
    }
}

/// A check inside agent/health/service, where its definition is spelled out and its tags are not.
pub(super) fn agent_health_check(check: &Check, output: &str) -> Value {
    json!({
        "Node": check.node,
        "CheckID": check.id,
        "Name": check.name,
        "Status": check.status,
        "Notes": check.notes,
        "Output": output,
        "ServiceID": check.service_id,
        "ServiceName": check.service_name,
        "ServiceTags": null,
        "Type": "",
        "ExposedPort": check.exposed_port,
        "Definition": {
            "HTTP": "",
            "Header": null,
            "Method": "",
            "Body": "",
            "TLSServerName": "",
            "TLSSkipVerify": false,
            "TCP": "",
            "TCPUseTLS": false,
            "UDP": "",
            "GRPC": "",
            "OSService": "",
            "GRPCUseTLS": false,
            "Interval": "0s",
            "Timeout": "0s",
            "DeregisterCriticalServiceAfter": "0s",
        },
        "CreateIndex": 0,
        "ModifyIndex": 0,
    })
}

/// An entry of the key/value store.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KvView<'a> {
    lock_index: u64,
    key: &'a str,
    flags: u64,
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    create_index: Index,
    modify_index: Index,
}

impl<'a> From<&'a KvEntry> for KvView<'a> {
    fn from(entry: &'a KvEntry) -> Self {
        use base64::Engine as _;
        let value = base64::engine::general_purpose::STANDARD.encode(&entry.value);
        Self {
            lock_index: entry.lock_index,
            key: &entry.key,
            flags: entry.flags,
            value: (!entry.value.is_empty()).then_some(value),
            session: entry.session.as_deref(),
            create_index: entry.create_index,
            modify_index: entry.modify_index,
        }
    }
}

/// A node's place in network space.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CoordinateView<'a> {
    node: &'a str,
    segment: &'a str,
    coord: Place<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Place<'a> {
    vec: &'a [f64],
    error: f64,
    adjustment: f64,
    height: f64,
}

impl<'a> From<&'a Coordinate> for CoordinateView<'a> {
    fn from(coordinate: &'a Coordinate) -> Self {
        let coord = Place {
            vec: &coordinate.vec,
            error: coordinate.error,
            adjustment: coordinate.adjustment,
            height: coordinate.height,
        };
        Self { node: &coordinate.node, segment: &coordinate.segment, coord }
    }
}

/// A check's definition as it came with a catalog write, as Consul gives it back: without what is zero, durations in
/// words.
pub(super) fn definition(given: &Map<String, Value>) -> Option<Value> {
    let worded = |name: &str, value: &Value| match (name, value.as_i64()) {
        ("Interval" | "Timeout" | "DeregisterCriticalServiceAfter" | "TTL", Some(nanoseconds)) => {
            duration::write_nanoseconds(nanoseconds).into()
        }
        _ => value.clone(),
    };
    let kept: Map<String, Value> = given
        .iter()
        .filter(|(_, value)| !is_zero_value(value))
        .map(|(name, value)| (name.clone(), worded(name, value)))
        .collect();
    (!kept.is_empty()).then_some(Value::Object(kept))
}

fn is_zero_value(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(yes) => !yes,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WeightsView {
    passing: u16,
    warning: u16,
}

impl From<Weights> for WeightsView {
    fn from(weights: Weights) -> Self {
        Self { passing: weights.passing, warning: weights.warning }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PortView<'a> {
    name: &'a str,
    port: u16,
    default: bool,
}

fn ports(named: &[NamedPort]) -> Option<Vec<PortView<'_>>> {
    fn view(named: &NamedPort) -> PortView<'_> {
        PortView { name: &named.name, port: named.port, default: named.default }
    }
    (!named.is_empty()).then(|| named.iter().map(view).collect())
}

/// An instance's tagged addresses. Our own agent adds the plain address under the tags that say what it is, where they
/// are not given; that is shown, and not kept a million times.
struct Addresses<'a> {
    given: Option<&'a BTreeMap<String, ServiceAddress>>,
    own: Option<(SmolStr, u16, [&'static str; 2])>,
}

impl Serialize for Addresses<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct AddressView<'a> {
            address: &'a str,
            port: u16,
        }
        let given = self.given.into_iter().flatten().map(|(tag, at)| (tag.as_str(), (at.address.as_str(), at.port)));
        let mut all: BTreeMap<&str, (&str, u16)> = given.collect();
        if let Some((address, port, tags)) = &self.own {
            for tag in tags {
                all.entry(tag).or_insert((address, *port));
            }
        }
        serializer.collect_map(all.into_iter().map(|(tag, (address, port))| (tag, AddressView { address, port })))
    }
}

fn addresses(instance: &Instance) -> Option<Addresses<'_>> {
    let given = instance.extra().tagged_addresses.as_ref().filter(|tagged| !tagged.is_empty());
    let tags = match instance.address.ip() {
        Some(IpAddr::V4(_)) if instance.origin.is_agent() => Some(["lan_ipv4", "wan_ipv4"]),
        Some(IpAddr::V6(_)) if instance.origin.is_agent() => Some(["lan_ipv6", "wan_ipv6"]),
        _ => None,
    };
    let own = tags.map(|tags| (instance.address.to_smolstr(), instance.port, tags));
    (given.is_some() || own.is_some()).then_some(Addresses { given, own })
}

fn proxy(instance: &Instance) -> Value {
    let mut proxy = match &instance.extra().proxy {
        Some(Value::Object(given)) => given.clone(),
        _ => Map::new(),
    };
    proxy.entry("Mode").or_insert_with(|| "".into());
    proxy.entry("MeshGateway").or_insert_with(|| json!({}));
    proxy.entry("Expose").or_insert_with(|| json!({}));
    Value::Object(proxy)
}

fn connect(instance: &Instance) -> Value {
    instance.extra().connect.clone().unwrap_or_else(|| json!({}))
}

fn never_null<S: Serializer>(texts: &Option<&Texts>, serializer: S) -> Result<S::Ok, S::Error> {
    match texts {
        Some(texts) => texts.serialize(serializer),
        None => serializer.collect_map(std::iter::empty::<(&str, &str)>()),
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the form that skip_serializing_if asks for")]
fn is_zero(port: &u16) -> bool {
    *port == 0
}
