//! Our own configuration (TOML).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};
use toml::Table;

use super::{
    Config, DNS_PORT, HTTP_PORT, LOOPBACK, Options, as_consul, file, host, identity, override_domain, override_upstreams,
    relative_to, sequential, state_directory, view,
};
use crate::dns::Name;
use crate::duration;
use crate::limits::{self, NSID_OCTETS_MAX};
use crate::problem::Problem;
use crate::registry;
use crate::resolve::answer::{Compat, DnsConfig, Settings};
use crate::resolve::{block, local, rewrite, zone};
use crate::server::{self, ClientsConfig, Listen, ListenAddress, QueryLogConfig, QueryLogFormat, QueryLogTarget};
use crate::upstream;

/// The configuration file.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    compat: Compat,
    node: Node,
    dns: Dns,
    dns_config: DnsConfig,
    registry: Registry,
    pub(super) forward: upstream::Config,
    clients: ClientsConfig,
    view: Vec<view::Section>,
    pub(super) record: Vec<local::RecordConfig>,
    pub(super) block: Vec<block::Config>,
    rewrite: Vec<rewrite::Config>,
    hosts: Vec<PathBuf>,
    hosts_domain: Option<Name>,
    leases: Vec<PathBuf>,
    leases_domain: Option<Name>,
    #[serde(deserialize_with = "duration::deserialize_seconds")]
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
            leases: local.leases,
            leases_domain: local.leases_domain,
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
    meta: BTreeMap<String, String>,
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
    cookie_secret: Option<server::Secrets>,
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
    #[serde(deserialize_with = "level")]
    level: String,
    queries: Option<QueryLogTarget>,
    format: QueryLogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), queries: None, format: QueryLogFormat::default() }
    }
}

/// How much is logged; what is unknown would silence all of it.
fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    let text = String::deserialize(deserializer)?;
    let level = text.to_lowercase();
    let wrong = || de::Error::custom(format!("expected one of {}, got {text:?}", LEVELS.join(", ")));
    if LEVELS.contains(&&*level) { Ok(level) } else { Err(wrong()) }
}

/// Reads a file, and what it names relative to its own place.
fn read(path: &Path) -> Result<(File, Table), Problem> {
    let (mut file, table): (File, _) = file::load(path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    relative_to(
        folder,
        file.hosts.iter_mut().chain(&mut file.leases).chain(&mut file.zones.folder).chain(&mut file.forward.resolv_conf),
    );
    if let Some(encrypted) = &mut file.dns.encrypted {
        relative_to(folder, encrypted.certificate.iter_mut().chain(&mut encrypted.key));
    }
    relative_to(folder, file.registry.services.0.iter_mut().chain(&mut file.registry.data));
    relative_to(folder, file.forward.files());
    relative_to(folder, file.log.queries.as_mut().and_then(QueryLogTarget::path_mut).into_iter());
    relative_to(folder, file.block.iter_mut().flat_map(block::Config::files));
    Ok((file, table))
}

/// Reads the file of these options, if they have one, and lays them over it.
pub(super) fn load(options: &Options) -> Result<Config, Vec<Problem>> {
    let (mut file, table) = match &options.config {
        Some(path) => read(path).map_err(|problem| vec![problem])?,
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
    let dns = Listen {
        plain: addresses,
        workers: options.workers.or(file.dns.workers).unwrap_or_else(host::processors).max(1),
        proxies: file.dns.proxy_protocol_from,
        encrypted: file.dns.encrypted,
    };
    let (told, wrong): (Vec<_>, Vec<_>) =
        dns.check(Some(http)).into_iter().chain(file.clients.check()).partition(|problem| problem.is_warning);
    warnings.extend(told);
    problems.extend(wrong);
    match dns.encrypted.as_ref().map_or(Ok(Vec::new()), server::Config::check) {
        Ok(more) => warnings.extend(more),
        Err(more) => problems.extend(more),
    }
    let sections = std::mem::take(&mut file.view);
    let views = if consul { view::none(&sections) } else { view::read(sections, &table, options) };
    let views = views.unwrap_or_else(|more| {
        problems.extend(more);
        Vec::new()
    });
    let query_log = file.log.queries.map(|target| QueryLogConfig { target, format: file.log.format });
    problems.extend(query_log.as_ref().and_then(QueryLogConfig::check));
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Config {
        dns,
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
        local: match consul {
            true => local::Config::none(),
            false => local::Config {
                hosts: file.hosts,
                hosts_domain: file.hosts_domain,
                leases: file.leases,
                leases_domain: file.leases_domain,
                record: file.record,
                private_names: file.private_names,
                local_ttl: file.local_ttl,
            },
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

fn wrong_workers(workers: usize) -> Option<Problem> {
    let problem = || Problem::new(format!("dns.workers: expected 1 to {}, got {workers}", limits::WORKERS_MAX));
    let hint = "leave it out for one thread for each processor";
    (!(1..=limits::WORKERS_MAX).contains(&workers)).then(|| problem().hint(hint))
}
