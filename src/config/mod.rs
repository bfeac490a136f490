//! What was wanted? Flags and files to one [`Config`]; each section is defined by the folder that obeys it.
//!
//! Start with [`load`]. A flag wins over the file. All of it is checked before anything is bound, and a reload checks the
//! whole new configuration before it replaces the old one.

mod agent;
mod file;
pub mod host;
pub mod import;
mod own;
mod view;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::dns::Name;
use crate::limits;
use crate::problem::Problem;
use crate::registry::{self, Identity};
use crate::resolve::answer::{RecursorStrategy, Settings};
use crate::resolve::{block, local, rewrite, zone};
use crate::server::{self, ClientsConfig, Listen, ListenAddress, Network, QueryLogConfig};
use crate::upstream::{self, Sequential};

pub use view::View;

/// What the command line asks of a server; each value that is given wins over the configuration file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Our own configuration (TOML).
    pub config: Option<PathBuf>,
    pub dns: Vec<ListenAddress>,
    pub http: Option<SocketAddr>,
    pub upstreams: Vec<String>,
    pub services: Vec<PathBuf>,
    pub data: Option<PathBuf>,
    pub workers: Option<usize>,
    pub domain: Option<String>,
    pub node: Option<String>,
    pub datacenter: Option<String>,
    /// Take Consul's side wherever the two differ.
    pub compat_consul: bool,
    /// Given when the server starts as `rollcall agent`.
    pub agent: Option<Agent>,
}

/// What Consul's own agent flags ask for, beyond what [`Options`] has a word for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agent {
    /// Nothing is kept on disk, and the defaults are those of one server on this machine.
    pub dev: bool,
    /// Consul's configuration files and folders, in the order in which they were given.
    pub config: Vec<PathBuf>,
    pub client: Option<String>,
    pub alt_domain: Option<String>,
    pub dns_port: Option<i32>,
    pub http_port: Option<i32>,
    pub log_level: Option<String>,
    pub enable_script_checks: Option<bool>,
    pub enable_local_script_checks: Option<bool>,
    /// Flags that are known and have no effect here; each is worth a warning.
    pub without_effect: Vec<&'static str>,
}

/// Everything a server needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    pub dns: Listen,
    /// What tells this instance from others (RFC 5001).
    pub nsid: Option<String>,
    /// What clients' cookies are made with; without it, by chance at each start.
    pub cookie_secret: Option<server::Secrets>,
    pub http: Option<SocketAddr>,
    /// Without what follows from the rest: who we are, and whether others are asked.
    pub settings: Settings,
    pub registry: registry::Config,
    pub identity: Identity,
    pub local: local::Config,
    pub zones: zone::Config,
    pub blocks: Vec<block::Config>,
    pub rewrites: Vec<rewrite::Config>,
    pub forward: upstream::Config,
    pub clients: ClientsConfig,
    pub views: Vec<View>,
    pub log_level: String,
    pub query_log: Option<QueryLogConfig>,
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Puts into `wanted` what stays in force of this one until a restart; tells where that is something else than was wanted.
    pub fn keep_until_restart(&self, wanted: &mut Self) -> Option<Problem> {
        let of = |config: &Self| -> [(&str, String); 10] {
            let (registry, identity) = (&config.registry, &config.identity);
            [
                ("dns.workers", config.dns.workers.to_string()),
                ("registry.data", registry.data.as_ref().map_or("none".into(), |data| format!("{data:?}"))),
                ("registry.services", format!("{:?}", registry.services.0)),
                ("registry.enable_script_checks", registry.enable_script_checks.to_string()),
                ("registry.enable_local_script_checks", registry.enable_local_script_checks.to_string()),
                (
                    "compat (of the registry and the HTTP API)",
                    if registry.compat_consul { "\"consul\"" } else { "none" }.into(),
                ),
                ("node.name", format!("{:?}", identity.node_name)),
                ("node.datacenter", format!("{:?}", identity.datacenter)),
                ("node.meta", format!("{:?}", identity.node_meta)),
                ("log.level", format!("{:?}", config.log_level)),
            ]
        };
        let differ = of(self).into_iter().zip(of(wanted)).filter(|(own, other)| own != other);
        let differ: Vec<String> =
            differ.map(|((key, own), (_, other))| format!("  {key} is {own} until then, not {other}")).collect();
        wanted.dns.workers = self.dns.workers;
        (wanted.registry, wanted.identity) = (self.registry.clone(), self.identity.clone());
        wanted.log_level.clone_from(&self.log_level);
        (!differ.is_empty()).then(|| {
            let problem = Problem::new(format!("some of the configuration changes with a restart:\n{}", differ.join("\n")));
            problem.hint("restart it when that suits, as with systemctl restart rollcall").warning()
        })
    }
}

const DNS_PORT: u16 = 53;
const HTTP_PORT: u16 = 8500;
const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Reads everything that these options name.
pub fn load(options: &Options) -> Result<Config, Vec<Problem>> {
    match &options.agent {
        Some(flags) => agent::load(options, flags),
        None => own::load(options),
    }
}

fn relative_to<'a>(folder: &Path, paths: impl Iterator<Item = &'a mut PathBuf>) {
    for path in paths {
        *path = folder.join(&path);
    }
}

/// Consul forwards for whoever asks, unless somebody says otherwise.
fn as_consul(clients: ClientsConfig) -> ClientsConfig {
    let forwarding_allowed = clients.forwarding_allowed.or_else(|| Some(vec![Network::Any]));
    ClientsConfig { forwarding_allowed, ..clients }
}

fn override_domain(settings: &mut Settings, options: &Options, problems: &mut Vec<Problem>) {
    match options.domain.as_deref().map(Name::from_idn) {
        None => {}
        Some(Ok(domain)) => settings.domain = domain,
        Some(Err(error)) => problems.push(Problem::new(format!("--domain: {error}"))),
    }
    if settings.domain.is_root() {
        let problem = Problem::new("expected a discovery domain below the root, got \".\"");
        problems.push(problem.hint("write a name, such as \"consul\": every other name is forwarded"));
    }
}

fn override_upstreams(forward: &mut upstream::Config, texts: &[String], problems: &mut Vec<Problem>) {
    if texts.is_empty() {
        return;
    }
    let mut upstreams = Vec::new();
    for text in texts {
        match text.parse() {
            Ok(upstream) if upstreams.contains(&upstream) => {}
            Ok(upstream) => upstreams.push(upstream),
            Err(error) => problems.push(Problem::new(error)),
        }
    }
    forward.upstreams = Some(upstreams);
}

fn sequential(settings: &Settings) -> Sequential {
    let random = settings.dns_config.recursor_strategy == RecursorStrategy::Random;
    let timeout = settings.dns_config.recursor_timeout.clamp(limits::LOOKUP_TIME_MIN, limits::LOOKUP_TIME_MAX);
    Sequential { timeout, random }
}

/// Where registrations are kept when nothing says where: what systemd gives a service, else the system's or the user's
/// own place for such things.
fn state_directory() -> Option<PathBuf> {
    let from = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    from("STATE_DIRECTORY")
        .or_else(|| from("XDG_STATE_HOME").map(|folder| folder.join("rollcall")))
        .or_else(|| from("HOME").filter(|home| home != Path::new("/root")).map(|home| home.join(".local/state/rollcall")))
        .or_else(|| Some(PathBuf::from("/var/lib/rollcall")))
}

fn identity(
    name: String,
    id: Option<String>,
    datacenter: String,
    address: IpAddr,
    mut meta: BTreeMap<String, String>,
    data: Option<&Path>,
) -> (Identity, Option<Problem>) {
    let (node_id, warning) = match id {
        Some(id) => (id, None),
        None => host::node_id(data),
    };
    meta.insert("consul-network-segment".into(), String::new());
    meta.insert("consul-version".into(), env!("CARGO_PKG_VERSION").into());
    let identity = Identity {
        node_name: name.into(),
        node_id: node_id.into(),
        datacenter: datacenter.to_lowercase().into(),
        address: address.to_string().into(),
        node_meta: meta,
    };
    (identity, warning)
}
