//! The rows of the catalog's tables, as sources tell them and as they are kept.
//!
//! Field names follow Consul's JSON, which is also how rows are stored on disk. `create_index` and `modify_index` are
//! set by the catalog; what a source writes there is ignored.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value as Json;

use super::Index;

/// Who told us: the same node or instance told by two sources is two rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct SourceId(pub u16);

impl SourceId {
    /// The embedded registry.
    pub const LOCAL: SourceId = SourceId(0);
}

/// How well: what a check says, or the worst that several say. Ordered from well to ill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Passing,
    Warning,
    Critical,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Passing => "passing",
            Health::Warning => "warning",
            Health::Critical => "critical",
        }
    }

    /// The worst of several; passing when there are none.
    pub fn worst(of: impl IntoIterator<Item = Health>) -> Health {
        of.into_iter().max().unwrap_or(Health::Passing)
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Health {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Health::Passing, Health::Warning, Health::Critical].into_iter().find(|h| h.as_str() == text).ok_or(())
    }
}

/// A node's identity: its name in lower case, since names are matched without regard to case, and who told of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeKey {
    pub name: Arc<str>,
    pub source: SourceId,
}

impl Ord for NodeKey {
    fn cmp(&self, other: &Self) -> Ordering {
        // Most keys that are compared share their name with the other, and need not look at it.
        let same = Arc::ptr_eq(&self.name, &other.name);
        let names = if same { Ordering::Equal } else { self.name.cmp(&other.name) };
        names.then(self.source.cmp(&other.source))
    }
}

impl PartialOrd for NodeKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl NodeKey {
    pub fn new(source: SourceId, name: &str) -> Self {
        Self { name: name.to_lowercase().into(), source }
    }

    /// The same, which shares a name that is in lower case.
    pub fn of(source: SourceId, name: &Arc<str>) -> Self {
        Self { name: lower(name), source }
    }

    /// A node of the embedded registry.
    pub fn local(name: &str) -> Self {
        Self::new(SourceId::LOCAL, name)
    }
}

/// A text in lower case; itself when it is.
pub(super) fn lower(text: &Arc<str>) -> Arc<str> {
    if text.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) { text.clone() } else { text.to_lowercase().into() }
}

/// An instance's identity: (source, node, instance id).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceKey {
    pub node: NodeKey,
    pub id: Arc<str>,
}

/// A check's identity: (source, node, check id).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckKey {
    pub node: NodeKey,
    pub id: Arc<str>,
}

/// A machine, or what stands for one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub source: SourceId,
    /// As registered, case kept.
    pub name: Arc<str>,
    /// A UUID, or empty.
    pub id: Arc<str>,
    pub datacenter: Arc<str>,
    /// An IP address or a host name.
    pub address: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tagged_addresses: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<BTreeMap<String, String>>,
    pub create_index: Index,
    pub modify_index: Index,
}

impl Node {
    pub fn key(&self) -> NodeKey {
        NodeKey::of(self.source, &self.name)
    }
}

/// Sampling weights of an instance, by its health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weights {
    pub passing: u16,
    pub warning: u16,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

/// An address of an instance for one purpose (`lan`, `wan`, `lan_ipv4`, …).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAddress {
    pub address: String,
    pub port: u16,
}

/// One of several ports of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedPort {
    pub name: String,
    pub port: u16,
    #[serde(default)]
    pub default: bool,
}

/// One instance of a service on a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    pub source: SourceId,
    /// The node's name as registered.
    #[serde(deserialize_with = "text")]
    pub node: Arc<str>,
    /// Unique on its node.
    #[serde(deserialize_with = "text")]
    pub id: Arc<str>,
    /// The service's name as registered.
    #[serde(deserialize_with = "text")]
    pub service: Arc<str>,
    /// Empty, or a mesh kind such as `connect-proxy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Arc<str>>,
    /// An IP address or a host name; empty means the node's address.
    #[serde(deserialize_with = "text")]
    pub address: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tagged_addresses: Option<Box<BTreeMap<String, ServiceAddress>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Box<BTreeMap<String, String>>>,
    pub port: u16,
    /// Ports by name, where there are several; `port` is then the default one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<NamedPort>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket_path: Option<Arc<str>>,
    #[serde(default)]
    pub weights: Weights,
    #[serde(default)]
    pub enable_tag_override: bool,
    /// Mesh fields, kept as they came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Box<Json>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<Box<Json>>,
    /// Registered with our own agent (its API, or a services file), rather than written to the catalog from outside.
    #[serde(default)]
    pub agent: bool,
    pub create_index: Index,
    pub modify_index: Index,
}

impl Instance {
    pub fn node_key(&self) -> NodeKey {
        NodeKey::of(self.source, &self.node)
    }

    pub fn key(&self) -> InstanceKey {
        InstanceKey { node: self.node_key(), id: self.id.clone() }
    }

    /// Natural order: by node name in any case, then by source and id.
    pub fn cmp_natural(&self, other: &Instance) -> Ordering {
        fn lower(name: &str) -> impl Iterator<Item = char> {
            name.chars().flat_map(char::to_lowercase)
        }
        let same = Arc::ptr_eq(&self.node, &other.node);
        let names = if same { Ordering::Equal } else { lower(&self.node).cmp(lower(&other.node)) };
        names.then(self.source.cmp(&other.source)).then_with(|| self.id.cmp(&other.id))
    }

    /// The service that this instance takes mesh connections for, in lower case: the one that a sidecar proxy stands in
    /// front of, or its own when it speaks the mesh's protocol itself.
    pub fn mesh_destination(&self) -> Option<Arc<str>> {
        if self.kind.as_deref() == Some("connect-proxy") {
            let proxy = self.proxy.as_ref()?;
            return Some(proxy.get("DestinationServiceName")?.as_str()?.to_lowercase().into());
        }
        let native = self.connect.as_ref()?.get("Native")?.as_bool()?;
        native.then(|| self.service.to_lowercase().into())
    }

    /// How this instance's key compares with another, without making the key.
    pub fn cmp_key(&self, key: &InstanceKey) -> Ordering {
        let name = self.node.chars().flat_map(char::to_lowercase).cmp(key.node.name.chars());
        name.then(self.source.cmp(&key.node.source)).then_with(|| self.id.cmp(&key.id))
    }
}

/// One check of an instance, or of a whole node when `service_id` is empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub source: SourceId,
    /// The node's name as registered.
    pub node: Arc<str>,
    /// Unique on its node.
    pub id: Arc<str>,
    pub name: Arc<str>,
    pub status: Health,
    #[serde(default)]
    pub notes: Arc<str>,
    #[serde(default)]
    pub output: Arc<str>,
    /// The instance it belongs to; empty for a node-level check.
    #[serde(default)]
    pub service_id: Arc<str>,
    #[serde(default)]
    pub service_name: Arc<str>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_tags: Vec<Arc<str>>,
    /// `http`, `tcp`, `ttl`, …, or empty.
    #[serde(default)]
    pub kind: Arc<str>,
    #[serde(default)]
    pub interval: Arc<str>,
    #[serde(default)]
    pub timeout: Arc<str>,
    #[serde(default)]
    pub exposed_port: u16,
    /// The definition as written to the catalog, for external monitors; kept as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<Box<Json>>,
    /// Held by our own agent.
    #[serde(default)]
    pub agent: bool,
    pub create_index: Index,
    pub modify_index: Index,
}

impl Check {
    pub fn node_key(&self) -> NodeKey {
        NodeKey::of(self.source, &self.node)
    }

    pub fn key(&self) -> CheckKey {
        CheckKey { node: self.node_key(), id: self.id.clone() }
    }
}

/// An entry of the key/value store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvEntry {
    pub key: Arc<str>,
    #[serde(with = "base64_octets")]
    pub value: Arc<[u8]>,
    pub flags: u64,
    pub lock_index: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Arc<str>>,
    pub create_index: Index,
    pub modify_index: Index,
}

/// A node's network coordinate (Vivaldi; seconds).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coordinate {
    pub node: Arc<str>,
    pub segment: Arc<str>,
    pub adjustment: f64,
    pub error: f64,
    pub height: f64,
    pub vec: Vec<f64>,
}

impl Coordinate {
    /// The estimated round-trip time between two coordinates, in seconds; `None` when their dimensions differ.
    pub fn distance(&self, other: &Coordinate) -> Option<f64> {
        if self.vec.len() != other.vec.len() {
            return None;
        }
        let squares: f64 = self.vec.iter().zip(&other.vec).map(|(a, b)| (a - b) * (a - b)).sum();
        let plain = squares.sqrt() + self.height + other.height;
        let adjusted = plain + self.adjustment + other.adjustment;
        Some(if adjusted > 0.0 { adjusted } else { plain })
    }
}

/// Reads a text into the one place where it stays; serde's own way makes a `String` of it first, which is felt a million
/// times.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
    struct Text;
    impl Visitor<'_> for Text {
        type Value = Arc<str>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E>(self, text: &str) -> Result<Arc<str>, E> {
            Ok(text.into())
        }
    }
    deserializer.deserialize_str(Text)
}

mod base64_octets {
    use std::sync::Arc;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(octets: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(octets))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[u8]>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Into::into).map_err(serde::de::Error::custom)
    }
}
