//! Consul's own agent configuration, in JSON: what of it concerns us, and a word on all the rest.
//!
//! `rollcall agent -dev -config-file=FILE` takes it as it is. Keys that we know and obey become [`Agent`]; those that we
//! know and do not need, and those that we do not know, are named in a warning and nothing else happens.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::{
    Agent as Flags, Config, HTTP_PORT, LOOPBACK, Options, as_consul, host, identity, override_domain, override_upstreams,
    sequential, state_directory,
};
use crate::dns::Name;
use crate::limits;
use crate::problem::{Place, Problem, nearest};
use crate::registry;
use crate::resolve::answer::{Compat, DnsConfig, Settings};
use crate::resolve::{local, zone};
use crate::server::{ClientsConfig, Listen, ListenAddress};
use crate::upstream;

/// The keys that we obey, by Consul's names; all optional. Services and checks that stand beside them are read by the
/// registry, as those of services files are.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Agent {
    pub node_name: Option<String>,
    pub node_id: Option<String>,
    pub node_meta: BTreeMap<String, String>,
    pub datacenter: Option<String>,
    pub bind_addr: Option<String>,
    pub client_addr: Option<String>,
    pub advertise_addr: Option<String>,
    pub data_dir: Option<String>,
    pub domain: Option<String>,
    pub alt_domain: Option<String>,
    pub ports: Ports,
    pub addresses: Addresses,
    pub recursors: Vec<String>,
    pub dns_config: Map<String, Json>,
    pub translate_wan_addrs: bool,
    pub enable_script_checks: bool,
    pub enable_local_script_checks: bool,
}

/// Port numbers; -1 switches a listener off.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ports {
    pub dns: Option<i32>,
    pub http: Option<i32>,
}

/// Addresses to listen on, several separated by spaces.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Addresses {
    pub dns: Option<String>,
    pub http: Option<String>,
}

pub(super) const OBEYED: &[&str] = &[
    "node_name",
    "node_id",
    "node_meta",
    "datacenter",
    "bind_addr",
    "client_addr",
    "advertise_addr",
    "data_dir",
    "domain",
    "alt_domain",
    "ports",
    "addresses",
    "recursors",
    "dns_config",
    "translate_wan_addrs",
    "enable_script_checks",
    "enable_local_script_checks",
    "service",
    "services",
    "check",
    "checks",
];

/// Keys of Consul's that say nothing to a single server without a cluster, mesh or ACLs; taken without a word.
pub(super) const NEEDLESS: &[&str] = &[
    "$schema",
    "bootstrap",
    "bootstrap_expect",
    "disable_anonymous_signature",
    "disable_update_check",
    "leave_on_terminate",
    "log_level",
    "rejoin_after_leave",
    "server",
    "skip_leave_on_interrupt",
    "ui",
    "ui_config",
];

/// Reads files in order: later scalars win, objects are merged, lists are joined. Problems are errors; warnings name what
/// has no effect.
pub(super) fn read(files: &[(&Path, String)]) -> Result<(Agent, Vec<Problem>), Vec<Problem>> {
    let mut merged = Map::new();
    let (mut warnings, mut problems) = (Vec::new(), Vec::new());
    for (path, text) in files {
        match object(path, text) {
            Ok(object) => {
                warnings.extend(object.keys().filter_map(|key| without_effect(key)).map(|problem| problem.in_file(*path)));
                merge(&mut merged, object);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    match Agent::deserialize(Json::Object(merged)) {
        Ok(agent) => Ok((agent, warnings)),
        Err(error) => Err(vec![Problem::new(error.to_string())]),
    }
}

/// One file's object. Its types are checked here, where line and column are still known.
fn object(path: &Path, text: &str) -> Result<Map<String, Json>, Problem> {
    if path.extension().is_some_and(|extension| extension == "hcl") {
        let problem = Problem::new("expected JSON, got a file in HCL").in_file(path);
        return Err(problem.hint("HCL is not read; write the same settings as JSON"));
    }
    let mut plain = text.to_owned();
    let stripped = json_strip_comments::strip(&mut plain);
    let read = match stripped {
        Ok(()) => serde_json::from_str::<Agent>(&plain).and_then(|_| serde_json::from_str(&plain)),
        // The comment that has no end is where JSON stops making sense too.
        Err(_) => serde_json::from_str(text),
    };
    read.map_err(|error| {
        let start: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        let at = start + error.column().saturating_sub(1);
        Problem::new(error.to_string()).in_file(path).at(Place::of(text, at..at + 1))
    })
}

fn without_effect(key: &str) -> Option<Problem> {
    if OBEYED.contains(&key) || NEEDLESS.contains(&key) {
        return None;
    }
    let problem = Problem::new(format!("`{key}` has no effect here"));
    Some(match nearest(key, OBEYED.iter().copied()) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => problem,
    })
}

fn merge(into: &mut Map<String, Json>, from: Map<String, Json>) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Json::Object(old)), Json::Object(new)) => merge(old, new),
            (Some(Json::Array(old)), Json::Array(new)) => old.extend(new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// Reads the files of these flags, and lays the flags over them.
pub(super) fn load(options: &Options, flags: &Flags) -> Result<Config, Vec<Problem>> {
    let mut files = Vec::new();
    let mut problems = Vec::new();
    for path in agent_files(&flags.config, &mut problems) {
        match crate::file::read_text(&path, limits::CONFIG_OCTETS_MAX) {
            Ok(text) => files.push((path, text)),
            Err(error) => problems.push(Problem::new(format!("expected a readable file, got: {error}")).in_file(path)),
        }
    }
    let texts: Vec<(&Path, String)> = files.iter().map(|(path, text)| (path.as_path(), text.clone())).collect();
    let (file, mut warnings) = match read(&texts) {
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
    let mut domain = |text: Option<&String>| {
        let name = text.map(|text| text.parse::<Name>()).transpose();
        name.unwrap_or_else(|error| {
            problems.push(Problem::new(error.to_string()));
            None
        })
    };
    if let Some(name) = domain(file.domain.as_ref()) {
        settings.domain = name;
    }
    settings.alt_domain = domain(flags.alt_domain.as_ref().or(file.alt_domain.as_ref())).filter(|name| !name.is_root());
    override_domain(&mut settings, options, &mut problems);
    let mut forward = upstream::Config { upstreams: Some(Vec::new()), ..upstream::Config::default() };
    let recursors = if options.upstreams.is_empty() { &file.recursors } else { &options.upstreams };
    override_upstreams(&mut forward, recursors, &mut problems);
    forward.sequential = Some(sequential(&settings));

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
    let dns = Listen {
        plain: addresses.into_iter().map(ListenAddress::from).collect(),
        workers: options.workers.unwrap_or_else(host::processors).max(1),
        proxies: Vec::new(),
        encrypted: None,
    };
    let (told, wrong): (Vec<_>, Vec<_>) = dns.check(http).into_iter().partition(|problem| problem.is_warning);
    warnings.extend(told);
    problems.extend(wrong);
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Config {
        dns,
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
        local: local::Config::none(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_add_up() {
        let one = r#"{"node_name": "a", "ports": {"dns": 8600}, "recursors": ["1.2.3.4"], "service": {"name": "x"}}"#;
        let two = "// second\n{\"node_name\": \"b\", \"ports\": {\"http\": -1}, \"recursors\": [\"5.6.7.8\"], \"raft\": 1}";
        let (agent, warnings) = read(&[(Path::new("1.json"), one.into()), (Path::new("2.json"), two.into())]).unwrap();
        assert_eq!(agent.node_name.as_deref(), Some("b"));
        assert_eq!((agent.ports.dns, agent.ports.http), (Some(8600), Some(-1)));
        assert_eq!(agent.recursors, ["1.2.3.4", "5.6.7.8"]);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].to_string().starts_with("2.json: `raft` has no effect"), "{}", warnings[0]);
    }

    #[test]
    fn errors_have_a_place() {
        let text = "{\n  \"ports\": {\"dns\": \"x\"}\n}";
        let problems = read(&[(Path::new("a.json"), text.into())]).unwrap_err();
        assert!(problems[0].to_string().starts_with("a.json:2:"), "{}", problems[0]);
        let problems = read(&[(Path::new("a.hcl"), "x = 1".into())]).unwrap_err();
        assert!(problems[0].to_string().contains("HCL"), "{}", problems[0]);
    }
}
