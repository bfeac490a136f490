//! What was wanted? Flags and files to one [`Config`]; each section is defined by the folder that obeys it.
//!
//! Start with [`load`]. A flag wins over the file. All of it is checked before anything is bound, and a reload checks the
//! whole new configuration before it replaces the old one.

mod agent;
mod file;
pub mod host;
pub mod import;
mod view;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::dns::Name;
use crate::limits::{self, NSID_OCTETS_MAX};
use crate::problem::Problem;
use crate::registry::{self, Identity};
use crate::resolve::answer::{Compat, DnsConfig, RecursorStrategy, Settings};
use crate::resolve::{block, local, rewrite, zone};
use crate::server::{self, ClientsConfig, Listen, ListenAddress, Network, QueryLogConfig, QueryLogFormat, QueryLogTarget, Way};
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
    pub cookie_secret: Option<server::Secret>,
    pub http: Option<SocketAddr>,
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
        wanted.settings.datacenter.clone_from(&self.settings.datacenter);
        wanted.settings.node_name.clone_from(&self.settings.node_name);
        wanted.log_level.clone_from(&self.log_level);
        (!differ.is_empty()).then(|| {
            let problem = Problem::new(format!("some of the configuration changes with a restart:\n{}", differ.join("\n")));
            problem.hint("restart it when that suits, as with systemctl restart rollcall").warning()
        })
    }
}

/// The configuration file.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    compat: Compat,
    node: Node,
    dns: Dns,
    dns_config: DnsConfig,
    registry: Registry,
    forward: upstream::Config,
    clients: ClientsConfig,
    view: Vec<view::Section>,
    record: Vec<local::RecordConfig>,
    block: Vec<block::Config>,
    rewrite: Vec<rewrite::Config>,
    hosts: Vec<PathBuf>,
    hosts_domain: Option<Name>,
    local_ttl: u32,
    private_names: local::PrivateNames,
    zones: zone::Config,
    log: Log,
}

impl Default for File {
    fn default() -> Self {
        let local = local::Config::default();
        Self {
            compat: Compat::default(),
            node: Node::default(),
            dns: Dns::default(),
            dns_config: DnsConfig::default(),
            registry: Registry::default(),
            forward: upstream::Config::default(),
            clients: ClientsConfig::default(),
            view: Vec::new(),
            record: local.record,
            block: Vec::new(),
            rewrite: Vec::new(),
            hosts: local.hosts,
            hosts_domain: local.hosts_domain,
            local_ttl: local.local_ttl,
            private_names: local.private_names,
            zones: zone::Config::default(),
            log: Log::default(),
        }
    }
}

/// The `[node]` section: who we are among the nodes.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Node {
    name: Option<String>,
    id: Option<String>,
    datacenter: Option<String>,
    address: Option<IpAddr>,
    meta: std::collections::BTreeMap<String, String>,
}

/// The `[dns]` section.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Dns {
    listen: Option<Vec<ListenAddress>>,
    workers: Option<usize>,
    domain: Option<Name>,
    alt_domain: Option<Name>,
    translate_wan_addrs: bool,
    #[serde(deserialize_with = "server::networks_alone")]
    proxy_protocol_from: Vec<IpNet>,
    nsid: Option<String>,
    cookie_secret: Option<server::Secret>,
    encrypted: Option<server::Config>,
}

/// The `[registry]` section: the registry's own, and where its HTTP API is.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Registry {
    http: Option<SocketAddr>,
    services: registry::Paths,
    data: Option<PathBuf>,
    enable_script_checks: bool,
    enable_local_script_checks: bool,
}

/// The `[log]` section.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Log {
    level: String,
    queries: Option<QueryLogTarget>,
    format: QueryLogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), queries: None, format: QueryLogFormat::default() }
    }
}

const DNS_PORT: u16 = 53;
const HTTP_PORT: u16 = 8500;
const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Reads everything that these options name.
pub fn load(options: &Options) -> Result<Config, Vec<Problem>> {
    match &options.agent {
        Some(flags) => load_agent(options, flags),
        None => load_own(options),
    }
}

fn load_own(options: &Options) -> Result<Config, Vec<Problem>> {
    let (mut file, table) = match &options.config {
        Some(path) => {
            let (mut file, table): (File, _) = file::load(path).map_err(|problem| vec![problem])?;
            let folder = path.parent().unwrap_or(Path::new(""));
            relative_to(folder, file.hosts.iter_mut().chain(&mut file.zones.folder).chain(&mut file.forward.resolv_conf));
            if let Some(encrypted) = &mut file.dns.encrypted {
                relative_to(folder, encrypted.certificate.iter_mut().chain(&mut encrypted.key));
            }
            relative_to(folder, file.registry.services.0.iter_mut().chain(&mut file.registry.data));
            relative_to(folder, file.forward.files());
            relative_to(folder, file.log.queries.as_mut().and_then(QueryLogTarget::path_mut).into_iter());
            relative_to(folder, file.block.iter_mut().flat_map(block::Config::files));
            (file, table)
        }
        None => Default::default(),
    };
    if options.compat_consul {
        file.compat = Compat::Consul;
    }
    let consul = file.compat == Compat::Consul;
    let mut settings = Settings {
        compat: file.compat,
        alt_domain: file.dns.alt_domain,
        translate_wan_addrs: file.dns.translate_wan_addrs,
        dns_config: file.dns_config,
        ..Settings::default()
    };
    if let Some(domain) = file.dns.domain {
        settings.domain = domain;
    }
    let mut problems = Vec::new();
    override_domain(&mut settings, options, &mut problems);
    let mut forward = file.forward;
    override_upstreams(&mut forward, &options.upstreams, &mut problems);
    if let Some(nsid) = file.dns.nsid.as_ref().filter(|nsid| nsid.len() > NSID_OCTETS_MAX) {
        let problem = format!("expected dns.nsid of at most {NSID_OCTETS_MAX} octets, got one of {}", nsid.len());
        problems.push(Problem::new(problem).hint("a short name of this instance, as `nsid = \"dns-1\"`"));
    }
    let in_file = |problem: Problem| match &options.config {
        Some(path) if problem.file.is_none() => problem.in_file(path),
        _ => problem,
    };
    problems.extend(forward.check().into_iter().chain(file.dns.workers.and_then(wrong_workers)).map(in_file));
    if consul {
        forward.sequential = Some(sequential(&settings));
    }
    let mut registry = file.registry;
    if !options.services.is_empty() {
        registry.services = registry::Paths(options.services.clone());
    }
    let data = options.data.clone().or(registry.data).or_else(state_directory);
    let meta = file.node.meta;
    let name = options.node.clone().or(file.node.name).unwrap_or_else(host::node_name);
    let datacenter = options.datacenter.clone().or(file.node.datacenter).unwrap_or_else(|| "dc1".into());
    let address = file.node.address.unwrap_or_else(host::address);
    let (identity, warning) = identity(name, file.node.id, datacenter, address, meta, data.as_deref());
    let mut warnings = Vec::from_iter(warning);
    let addresses = if !options.dns.is_empty() {
        options.dns.clone()
    } else {
        file.dns.listen.unwrap_or_else(|| vec![SocketAddr::new(LOOPBACK, DNS_PORT).into()])
    };
    let http = options.http.or(registry.http).unwrap_or(SocketAddr::new(LOOPBACK, HTTP_PORT));
    if let Some(encrypted) = &file.dns.encrypted {
        problems.extend(taken_twice(&addresses, http, encrypted));
        match encrypted.check() {
            Ok(more) => warnings.extend(more),
            Err(more) => problems.extend(more),
        }
    }
    let sections = std::mem::take(&mut file.view);
    let views = if consul { view::none(&sections) } else { view::read(sections, &table, options) };
    let views = views.unwrap_or_else(|more| {
        problems.extend(more);
        Vec::new()
    });
    let (told, wrong): (Vec<_>, Vec<_>) = file.clients.check().into_iter().partition(|problem| problem.is_warning);
    warnings.extend(told);
    problems.extend(wrong);
    let query_log = file.log.queries.map(|target| QueryLogConfig { target, format: file.log.format });
    problems.extend(query_log.as_ref().and_then(QueryLogConfig::check));
    if !problems.is_empty() {
        return Err(problems);
    }
    settings.recursors = !consul || forward.upstreams.as_ref().is_some_and(|upstreams| !upstreams.is_empty());
    settings.datacenter = identity.datacenter.to_string();
    settings.node_name = identity.node_name.to_string();
    Ok(Config {
        dns: Listen {
            plain: addresses,
            workers: options.workers.or(file.dns.workers).unwrap_or_else(host::processors).max(1),
            proxies: file.dns.proxy_protocol_from,
            encrypted: file.dns.encrypted,
        },
        nsid: file.dns.nsid,
        cookie_secret: file.dns.cookie_secret,
        http: Some(http),
        settings,
        registry: registry::Config {
            services: registry.services,
            agent_files: Vec::new(),
            data,
            enable_script_checks: registry.enable_script_checks,
            enable_local_script_checks: registry.enable_local_script_checks,
            compat_consul: consul,
        },
        identity,
        local: if consul {
            local::Config { hosts: Vec::new(), record: Vec::new(), ..local::Config::default() }
        } else {
            local::Config {
                hosts: file.hosts,
                hosts_domain: file.hosts_domain,
                record: file.record,
                private_names: file.private_names,
                local_ttl: file.local_ttl,
            }
        },
        zones: file.zones,
        blocks: file.block,
        rewrites: if consul { Vec::new() } else { file.rewrite },
        forward,
        clients: if consul { as_consul(file.clients) } else { file.clients },
        views,
        log_level: file.log.level,
        query_log,
        warnings,
    })
}

fn load_agent(options: &Options, flags: &Agent) -> Result<Config, Vec<Problem>> {
    let mut files = Vec::new();
    let mut problems = Vec::new();
    for path in agent_files(&flags.config, &mut problems) {
        match crate::file::read_text(&path, limits::CONFIG_OCTETS_MAX) {
            Ok(text) => files.push((path, text)),
            Err(error) => problems.push(Problem::new(format!("expected a readable file, got: {error}")).in_file(path)),
        }
    }
    let texts: Vec<(&Path, String)> = files.iter().map(|(path, text)| (path.as_path(), text.clone())).collect();
    let (file, mut warnings) = match agent::read(&texts) {
        Ok(read) => read,
        Err(more) => {
            problems.extend(more);
            return Err(problems);
        }
    };
    warnings.extend(flags.without_effect.iter().map(|flag| Problem::new(format!("`{flag}` has no effect here")).warning()));
    let dns_config = DnsConfig::deserialize(Json::Object(file.dns_config)).unwrap_or_else(|error| {
        problems.push(Problem::new(format!("dns_config: {error}")));
        DnsConfig::default()
    });
    let mut settings =
        Settings { compat: Compat::Consul, translate_wan_addrs: file.translate_wan_addrs, dns_config, ..Settings::default() };
    for (text, place) in [(&file.domain, 0), (flags.alt_domain.as_ref().map_or(&file.alt_domain, |_| &flags.alt_domain), 1)] {
        match text.as_deref().map(str::parse::<Name>) {
            None => {}
            Some(Ok(name)) if place == 0 => settings.domain = name,
            Some(Ok(name)) => settings.alt_domain = (!name.is_root()).then_some(name),
            Some(Err(error)) => problems.push(Problem::new(error.to_string())),
        }
    }
    override_domain(&mut settings, options, &mut problems);
    let mut forward = upstream::Config { upstreams: Some(Vec::new()), ..upstream::Config::default() };
    let recursors = if options.upstreams.is_empty() { &file.recursors } else { &options.upstreams };
    override_upstreams(&mut forward, recursors, &mut problems);
    forward.sequential = Some(sequential(&settings));
    settings.recursors = forward.upstreams.as_ref().is_some_and(|upstreams| !upstreams.is_empty());

    let client = flags.client.clone().or(file.client_addr).unwrap_or_else(|| "127.0.0.1".into());
    let mut listen = |own: Option<String>, port: Option<i32>, default: u16| -> Vec<SocketAddr> {
        let port = match port {
            None => default,
            // Consul's way to switch a listener off.
            Some(number) => match u16::try_from(number) {
                Ok(port) => port,
                Err(_) => return Vec::new(),
            },
        };
        let text = own.unwrap_or_else(|| client.clone());
        let addresses = text.split_ascii_whitespace().filter_map(|text| match text.parse::<IpAddr>() {
            Ok(address) => Some(SocketAddr::new(address, port)),
            Err(_) => {
                problems.push(Problem::new(format!("expected an address to listen on, got {text:?}")));
                None
            }
        });
        addresses.collect()
    };
    let addresses = listen(file.addresses.dns, flags.dns_port.or(file.ports.dns), 8600);
    let http = listen(file.addresses.http, flags.http_port.or(file.ports.http), HTTP_PORT).first().copied();
    let data =
        if flags.dev { None } else { options.data.clone().or(file.data_dir.map(PathBuf::from)).or_else(state_directory) };
    let name = options.node.clone().or(file.node_name).unwrap_or_else(host::node_name);
    let datacenter = options.datacenter.clone().or(file.datacenter).unwrap_or_else(|| "dc1".into());
    let bound = file.advertise_addr.or(file.bind_addr).and_then(|text| text.parse::<IpAddr>().ok());
    let address = match bound.filter(|address| !address.is_unspecified()) {
        Some(address) => address,
        None if flags.dev => LOOPBACK,
        None => host::address(),
    };
    let (identity, warning) = identity(name, file.node_id, datacenter, address, file.node_meta, data.as_deref());
    warnings.extend(warning);
    if !problems.is_empty() {
        return Err(problems);
    }
    settings.datacenter = identity.datacenter.to_string();
    settings.node_name = identity.node_name.to_string();
    Ok(Config {
        dns: Listen {
            plain: addresses.into_iter().map(ListenAddress::from).collect(),
            workers: options.workers.unwrap_or_else(host::processors).max(1),
            proxies: Vec::new(),
            encrypted: None,
        },
        nsid: None,
        cookie_secret: None,
        http,
        settings,
        registry: registry::Config {
            services: registry::Paths::default(),
            agent_files: flags.config.clone(),
            data,
            enable_script_checks: flags.enable_script_checks.unwrap_or(file.enable_script_checks),
            enable_local_script_checks: flags.enable_local_script_checks.unwrap_or(file.enable_local_script_checks),
            compat_consul: true,
        },
        identity,
        local: local::Config { hosts: Vec::new(), record: Vec::new(), ..local::Config::default() },
        zones: zone::Config::default(),
        blocks: Vec::new(),
        rewrites: Vec::new(),
        forward,
        clients: as_consul(ClientsConfig::default()),
        views: Vec::new(),
        log_level: flags.log_level.as_deref().unwrap_or("info").to_lowercase(),
        query_log: None,
        warnings,
    })
}

fn wrong_workers(workers: usize) -> Option<Problem> {
    let problem = || Problem::new(format!("dns.workers: expected 1 to {}, got {workers}", limits::WORKERS_MAX));
    let hint = "leave it out for one thread for each processor";
    (!(1..=limits::WORKERS_MAX).contains(&workers)).then(|| problem().hint(hint))
}

/// Consul forwards for whoever asks, unless somebody says otherwise.
fn as_consul(clients: ClientsConfig) -> ClientsConfig {
    let forwarding_allowed = clients.forwarding_allowed.or_else(|| Some(vec![Network::Any]));
    ClientsConfig { forwarding_allowed, ..clients }
}

/// The files themselves, and the `*.json` files of folders in the order of their names.
fn agent_files(paths: &[PathBuf], problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        match fs::read_dir(path) {
            Ok(entries) => {
                let entries = entries.flatten().map(|entry| entry.path());
                let mut listed: Vec<PathBuf> = entries.filter(|file| file.extension().is_some_and(|e| e == "json")).collect();
                listed.sort();
                files.extend(listed);
            }
            Err(error) => problems.push(Problem::new(format!("expected a readable folder, got: {error}")).in_file(path)),
        }
    }
    files
}

fn relative_to<'a>(folder: &Path, paths: impl Iterator<Item = &'a mut PathBuf>) {
    for path in paths {
        *path = folder.join(&path);
    }
}

/// Addresses that an encrypted listener wants and another one has.
fn taken_twice(dns: &[ListenAddress], http: SocketAddr, encrypted: &server::Config) -> Vec<Problem> {
    let (mut tcp, mut udp) = (dns.to_vec(), dns.to_vec());
    tcp.push(http.into());
    let mut problems = Vec::new();
    for (way, address) in encrypted.addresses().filter(|(_, address)| address.port() != 0) {
        let ports: &mut [&mut Vec<ListenAddress>] = match way {
            Way::Plain => &mut [],
            Way::Tls => &mut [&mut tcp],
            Way::Quic => &mut [&mut udp],
            // HTTP/3 is by QUIC.
            Way::Https => &mut [&mut tcp, &mut udp],
        };
        if ports.iter().any(|port| port.contains(address)) {
            let problem =
                Problem::new(format!("[dns.encrypted]: expected an address of its own for {way}, got {address} again"));
            problems.push(problem.hint("the usual ports are 853 for tls and quic, 443 for https, 53 for plain DNS"));
        }
        ports.iter_mut().for_each(|port| port.push(address.clone()));
    }
    problems
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
    mut meta: std::collections::BTreeMap<String, String>,
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
