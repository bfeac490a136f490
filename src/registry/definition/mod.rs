//! What a service and a check are, as their owners write them: the body of a registration, an entry of a file.
//!
//! A definition is checked when it is read: what stands here can be registered and run. It is not a row of the
//! catalog; the registry makes rows of it. Start at [`ServiceDefinition`] and [`service`].

mod file;
mod read;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use smol_str::SmolStr;

use crate::catalog::{Address, Extra, Health, Index, Instance, NamedPort, Origin, ServiceAddress, SourceId, Weights};
use crate::duration;

pub use file::{Definitions, Form, Written, file, written};
pub use read::{check, port_is_sound, service};

/// One instance of a service, with the checks that tell how well it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceDefinition {
    /// The name, unless another was given.
    pub id: SmolStr,
    pub name: Arc<str>,
    /// Empty, or a mesh kind such as `connect-proxy`.
    #[serde(default)]
    pub kind: Arc<str>,
    #[serde(default)]
    pub tags: Vec<Arc<str>>,
    #[serde(default)]
    pub address: Address,
    #[serde(default)]
    pub port: u16,
    /// Named ports, kept as they came.
    #[serde(default)]
    pub ports: Option<Json>,
    #[serde(default)]
    pub socket_path: Arc<str>,
    #[serde(default)]
    pub tagged_addresses: BTreeMap<String, ServiceAddress>,
    #[serde(default)]
    pub meta: BTreeMap<String, String>,
    #[serde(default)]
    pub weights: Weights,
    #[serde(default)]
    pub enable_tag_override: bool,
    /// Mesh fields, kept as they came.
    #[serde(default)]
    pub proxy: Option<Json>,
    #[serde(default)]
    pub connect: Option<Json>,
    /// Their `service_id` is this service's id.
    #[serde(default)]
    pub checks: Vec<CheckDefinition>,
}

/// How one aspect of a service or a node is watched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckDefinition {
    pub id: Arc<str>,
    pub name: Arc<str>,
    #[serde(default)]
    pub notes: Arc<str>,
    /// Empty for a check of the whole node.
    #[serde(default)]
    pub service_id: SmolStr,
    /// Defined inside its service, not by itself.
    #[serde(default)]
    pub within_service: bool,
    pub kind: CheckKind,
    /// Zero for kinds that do not run.
    #[serde(default)]
    pub interval: Duration,
    /// Zero means the kind's own default.
    #[serde(default)]
    pub timeout: Duration,
    /// What it says before it first ran; see [`CheckDefinition::initial_status`].
    #[serde(default)]
    pub status: Option<Health>,
    #[serde(default)]
    pub success_before_passing: u32,
    #[serde(default)]
    pub failures_before_warning: u32,
    #[serde(default)]
    pub failures_before_critical: u32,
    #[serde(default)]
    pub deregister_critical_service_after: Option<Duration>,
    pub output_max_size: usize,
}

/// What a check does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    Http {
        url: String,
        method: String,
        header: BTreeMap<String, Vec<String>>,
        body: String,
        disable_redirects: bool,
        tls_server_name: String,
        tls_skip_verify: bool,
    },
    Tcp {
        /// HOST:PORT
        address: String,
        tls: bool,
        tls_server_name: String,
        tls_skip_verify: bool,
    },
    Udp {
        /// HOST:PORT
        address: String,
    },
    /// Its owner reports; it is critical when nothing was heard for that long.
    Ttl {
        ttl: Duration,
    },
    Script {
        args: Vec<String>,
    },
    /// As well as another instance, or as a whole node when `service` is empty.
    Alias {
        service: Arc<str>,
        node: Arc<str>,
    },
    /// A kind that Consul has and that is not run here; `name` is Consul's word for it.
    Other {
        name: String,
    },
}

/// Octets of output that are kept of a check that does not say how many, and at most.
pub const OUTPUT_MAX_SIZE: usize = 4096;

impl ServiceDefinition {
    /// The named ports, those that are well-formed.
    fn named_ports(&self) -> Vec<NamedPort> {
        let Some(Json::Array(ports)) = &self.ports else { return Vec::new() };
        let field = |port: &Json, key: &str| {
            port.as_object()?.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value.clone())
        };
        let named = ports.iter().filter_map(|port| {
            Some(NamedPort {
                name: field(port, "name")?.as_str()?.to_owned(),
                port: u16::try_from(field(port, "port")?.as_u64()?).ok()?,
                default: field(port, "default").is_some_and(|default| default == Json::Bool(true)),
            })
        });
        named.collect()
    }

    /// The row of the catalog for this instance on `node`, registered by this file or by the API; the catalog numbers it.
    pub fn instance(&self, node: &Arc<str>, file: Option<&Arc<str>>) -> Instance {
        let some = |text: &Arc<str>| (!text.is_empty()).then(|| text.clone());
        let extra = Extra {
            kind: some(&self.kind),
            tagged_addresses: (!self.tagged_addresses.is_empty()).then(|| self.tagged_addresses.clone()),
            meta: (!self.meta.is_empty()).then(|| self.meta.clone()),
            ports: self.named_ports(),
            socket_path: some(&self.socket_path),
            proxy: self.proxy.clone(),
            connect: self.connect.clone(),
        };
        Instance {
            source: SourceId::LOCAL,
            node: node.clone(),
            id: self.id.clone(),
            service: self.name.clone(),
            tags: self.tags.iter().cloned().collect(),
            address: self.address.clone(),
            port: self.port,
            weights: self.weights,
            enable_tag_override: self.enable_tag_override,
            origin: file.map_or(Origin::Agent, |file| Origin::File(file.clone())),
            extra: extra.boxed(),
            create_index: Index::default(),
            modify_index: Index::default(),
        }
    }
}

impl CheckDefinition {
    /// Critical until it is proved otherwise; an alias has nothing of its own to prove.
    pub fn initial_status(&self) -> Health {
        self.status.unwrap_or(match self.kind {
            CheckKind::Alias { .. } => Health::Passing,
            _ => Health::Critical,
        })
    }

    /// What it says before it first ran: nothing, unless it never will.
    pub fn initial_output(&self) -> String {
        match &self.kind {
            CheckKind::Other { name } => {
                format!("checks of kind {name} are not run here: use an http, tcp, udp, ttl or script check")
            }
            _ => String::new(),
        }
    }

    /// The interval as rows of the catalog have it.
    pub fn interval_text(&self) -> String {
        self.duration_text(self.interval)
    }

    /// The timeout as rows of the catalog have it: what was given, not what is taken for want of it.
    pub fn timeout_text(&self) -> String {
        self.duration_text(self.timeout)
    }

    /// Of a check that is defined inside its service, Consul leaves out what was not given; of any other it writes `0s`.
    fn duration_text(&self, given: Duration) -> String {
        if self.within_service && given.is_zero() { String::new() } else { duration::write(given) }
    }
}

impl CheckKind {
    /// Consul's word for it, as in a check's `Type`.
    pub fn name(&self) -> &str {
        match self {
            CheckKind::Http { .. } => "http",
            CheckKind::Tcp { .. } => "tcp",
            CheckKind::Udp { .. } => "udp",
            CheckKind::Ttl { .. } => "ttl",
            CheckKind::Script { .. } => "script",
            CheckKind::Alias { .. } => "alias",
            CheckKind::Other { name } => name,
        }
    }
}

/// Why a definition cannot be registered. The texts are those that Consul gives; clients look for them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("Missing service name")]
    ServiceName,
    #[error("Missing check name")]
    CheckName,
    #[error("Invalid service address")]
    Address { key: &'static str },
    #[error("Invalid Weights: {0}")]
    Weights(&'static str),
    #[error("Invalid Service Meta: {0}")]
    Meta(MetaFault),
    #[error("Validation failed: {0}")]
    Service(&'static str),
    #[error("Invalid check: {reason}")]
    Check { key: &'static str, reason: &'static str },
    /// Of a check within a service.
    #[error("Status for checks must 'passing', 'warning', 'critical'")]
    StatusOfServiceCheck,
    /// Of a check that is registered by itself.
    #[error("Bad check status")]
    StatusOfCheck,
    #[error("{key} has to be {expected}, got {got}")]
    Type { key: String, expected: &'static str, got: String },
    #[error("expected a port of 0 to 65535, got {got}")]
    Port { got: i64 },
    #[error("{key} is no duration: {fault}")]
    Duration { key: String, fault: duration::Fault },
}

/// What is wrong with a service's metadata.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetaFault {
    #[error("Node metadata cannot contain more than {0} key/value pairs")]
    TooMany(usize),
    #[error("Couldn't load metadata pair ('{key}', '{value}'): {reason}")]
    Pair { key: String, value: String, reason: String },
}

impl Invalid {
    /// The key that it is about, in lower case without underscores; `None` for the whole entry.
    pub fn key(&self) -> Option<&str> {
        match self {
            Invalid::ServiceName | Invalid::CheckName | Invalid::Meta(MetaFault::TooMany(_)) | Invalid::Service(_) => None,
            Invalid::Address { key } | Invalid::Check { key, .. } => Some(key),
            Invalid::Weights(_) => Some("weights"),
            Invalid::Port { .. } => Some("port"),
            Invalid::Meta(MetaFault::Pair { key, .. }) | Invalid::Type { key, .. } | Invalid::Duration { key, .. } => Some(key),
            Invalid::StatusOfServiceCheck | Invalid::StatusOfCheck => Some("status"),
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Invalid::ServiceName => "give it a name: {\"name\": \"web\", \"port\": 80}",
            Invalid::CheckName => "give it a name: {\"name\": \"disk\", \"ttl\": \"30s\"}",
            Invalid::Address { .. } => "write an address that others can reach, or leave it out for the node's own",
            Invalid::Weights(_) => "write {\"passing\": 10, \"warning\": 1}: passing from 1, warning from 0, both to 65535",
            Invalid::Port { .. } => "write the port that the service listens on",
            Invalid::Meta(_) => "at most 64 pairs; keys of A-Z a-z 0-9 _ -, to 128 characters; values to 512",
            Invalid::Service(_) => "give either a port or the path of a socket",
            Invalid::Check { .. } => {
                "a check has one of http, tcp, udp, args with an interval, or a ttl: {\"http\": \"http://10.0.0.1/health\", \"interval\": \"10s\"}"
            }
            Invalid::StatusOfServiceCheck | Invalid::StatusOfCheck => "write \"passing\", \"warning\" or \"critical\"",
            Invalid::Type { .. } => "the keys and their types are those of Consul's services files",
            Invalid::Duration { .. } => "write a number and a unit of ns, us, ms, s, m, h: \"10s\", \"1m30s\"",
        }
    }
}
