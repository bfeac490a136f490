//! The rows of the catalog's tables, as sources tell them and as they are kept.
//!
//! Field names follow Consul's JSON, which is also how most rows are stored on disk. `create_index` and `modify_index` are
//! set by the catalog; what a source writes there is ignored.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value as Json;
use smol_str::{SmolStr, ToSmolStr};

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
        Self { name: lowered(name).collect::<String>().into(), source }
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
    if text.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
        text.clone()
    } else {
        lowered(text).collect::<String>().into()
    }
}

/// A text in lower case, letter by letter: what a letter becomes must not hang on its neighbours, or the order of texts
/// would not be that of their letters.
pub(super) fn lowered(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().flat_map(char::to_lowercase)
}

/// An instance's identity: (source, node, instance id).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceKey {
    pub node: NodeKey,
    pub id: SmolStr,
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

/// Where an instance is reached, as it was written. The usual forms are held without a text of their own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Address {
    /// Nothing was said: at its node's address.
    #[default]
    OfNode,
    /// An IP address in its canonical spelling (RFC 5952 for IPv6).
    Ip(IpAddr),
    /// A host name, or an IP address in another spelling.
    Text(Arc<str>),
}

impl Address {
    /// The IP address that it is.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::OfNode => None,
            Self::Ip(address) => Some(*address),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        if text.is_empty() {
            return Self::OfNode;
        }
        match text.parse::<IpAddr>() {
            Ok(address) if address.to_smolstr() == text => Self::Ip(address),
            _ => Self::Text(text.into()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfNode => Ok(()),
            Self::Ip(address) => address.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_smolstr())
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(|text: &str| Address::from(text)))
    }
}

/// Who speaks for an instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Origin {
    /// It was written to the catalog from outside.
    #[default]
    Catalog,
    /// It was registered with our own agent, by its API.
    Agent,
    /// The same, by this services file.
    File(Arc<str>),
}

impl Origin {
    /// Was it registered with our own agent?
    pub fn is_agent(&self) -> bool {
        *self != Self::Catalog
    }
}

/// What only some instances have; one that has none of it holds no such thing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Extra {
    /// A mesh kind such as `connect-proxy`.
    pub kind: Option<Arc<str>>,
    pub tagged_addresses: Option<BTreeMap<String, ServiceAddress>>,
    pub meta: Option<BTreeMap<String, String>>,
    /// Ports by name, where there are several; `port` is then the default one.
    pub ports: Vec<NamedPort>,
    pub socket_path: Option<Arc<str>>,
    /// Mesh fields, kept as they came.
    pub proxy: Option<Json>,
    pub connect: Option<Json>,
}

impl Extra {
    const NONE: Self = Self {
        kind: None,
        tagged_addresses: None,
        meta: None,
        ports: Vec::new(),
        socket_path: None,
        proxy: None,
        connect: None,
    };

    /// As an instance holds it.
    pub fn boxed(self) -> Option<Box<Self>> {
        (self != Self::NONE).then(|| Box::new(self))
    }
}

/// One instance of a service on a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    pub source: SourceId,
    /// The node's name as registered.
    #[serde(deserialize_with = "text")]
    pub node: Arc<str>,
    /// Unique on its node.
    pub id: SmolStr,
    /// The service's name as registered.
    #[serde(deserialize_with = "text")]
    pub service: Arc<str>,
    #[serde(default)]
    pub tags: Arc<[Arc<str>]>,
    #[serde(default)]
    pub address: Address,
    pub port: u16,
    #[serde(default)]
    pub weights: Weights,
    #[serde(default)]
    pub enable_tag_override: bool,
    #[serde(default)]
    pub origin: Origin,
    /// See [`Instance::extra`].
    #[serde(default, with = "extra_text")]
    pub extra: Option<Box<Extra>>,
    pub create_index: Index,
    pub modify_index: Index,
}

impl Instance {
    /// What only some have.
    pub fn extra(&self) -> &Extra {
        static NONE: Extra = Extra::NONE;
        self.extra.as_deref().unwrap_or(&NONE)
    }

    pub fn node_key(&self) -> NodeKey {
        NodeKey::of(self.source, &self.node)
    }

    pub fn key(&self) -> InstanceKey {
        InstanceKey { node: self.node_key(), id: self.id.clone() }
    }

    /// Natural order: by node name in any case, then by source and id.
    pub fn cmp_natural(&self, other: &Instance) -> Ordering {
        let names = if Arc::ptr_eq(&self.node, &other.node) || self.node == other.node {
            Ordering::Equal
        } else {
            lowered(&self.node).cmp(lowered(&other.node))
        };
        names.then(self.source.cmp(&other.source)).then_with(|| self.id.cmp(&other.id))
    }

    /// The service that this instance takes mesh connections for, in lower case: the one that a sidecar proxy stands in
    /// front of, or its own when it speaks the mesh's protocol itself.
    pub fn mesh_destination(&self) -> Option<Arc<str>> {
        let Extra { kind, proxy, connect, .. } = self.extra();
        if kind.as_deref() == Some("connect-proxy") {
            return Some(proxy.as_ref()?.get("DestinationServiceName")?.as_str()?.to_lowercase().into());
        }
        let native = connect.as_ref()?.get("Native")?.as_bool()?;
        native.then(|| self.service.to_lowercase().into())
    }

    /// How this instance's key compares with another, without making the key.
    pub fn cmp_key(&self, key: &InstanceKey) -> Ordering {
        let names = if Arc::ptr_eq(&self.node, &key.node.name) || self.node == key.node.name {
            Ordering::Equal
        } else {
            lowered(&self.node).cmp(key.node.name.chars())
        };
        names.then(self.source.cmp(&key.node.source)).then_with(|| self.id.cmp(&key.id))
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
    pub service_id: SmolStr,
    #[serde(default)]
    pub service_name: Arc<str>,
    #[serde(default)]
    pub service_tags: Arc<[Arc<str>]>,
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
    deserializer.deserialize_str(Text(|text: &str| Arc::from(text)))
}

/// What becomes of a text that is read.
struct Text<F>(F);

impl<T, F: FnOnce(&str) -> T> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<T, E> {
        Ok(self.0(text))
    }
}

/// As JSON within one text, in whatever form the row around it is kept: what it holds came as JSON, and is rare.
mod extra_text {
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Extra;

    #[allow(clippy::ref_option, reason = "the form that serde asks for")]
    pub(super) fn serialize<S: Serializer>(extra: &Option<Box<Extra>>, serializer: S) -> Result<S::Ok, S::Error> {
        let text = extra.as_ref().map(serde_json::to_string).transpose().map_err(S::Error::custom)?;
        text.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<Extra>>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| serde_json::from_str(&text)).transpose().map_err(D::Error::custom)
    }
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
