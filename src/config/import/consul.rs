//! Consul's agent configuration, in JSON. `rollcall agent` takes such files as they are; this makes our own of them.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use super::draft::{Draft, Item, Section, quoted};
use super::{Disk, Import, Left, Origin, Remarks, finish, texts};
use crate::config::agent;
use crate::problem::Problem;

/// Reads Consul's files as ours. Later files win, as with Consul.
pub fn consul(files: &[PathBuf]) -> Result<Import, Vec<Problem>> {
    let texts = texts(files, &mut Disk::new())?;
    let read: Vec<(&Path, String)> = texts.iter().map(|(path, text)| (path.as_path(), text.clone())).collect();
    let (agent, _) = agent::read(&read)?;
    let mut import = Consul { remarks: Remarks::default(), draft: Draft::default(), keys: Vec::new() };
    for (path, text) in &texts {
        import.note(path, text);
    }
    import.write(agent)
}

struct Consul {
    remarks: Remarks,
    draft: Draft,
    /// The top-level keys of all files, with their places.
    keys: Vec<(String, Origin)>,
}

/// Characters of a line that are shown as they are; a file of one line would be shown at each of its settings otherwise.
const LINE: usize = 100;

/// A setting without its neighbours of the same line.
fn setting(key: &str, value: &Json) -> String {
    let whole = format!("\"{key}\": {value}");
    match whole.char_indices().nth(LINE) {
        Some((end, _)) => format!("{}…", &whole[..end]),
        None => whole,
    }
}

impl Consul {
    /// Takes note of a file's keys, and of those that have no effect.
    fn note(&mut self, path: &Path, text: &str) {
        let mut plain = text.to_owned();
        let _ = json_strip_comments::strip(&mut plain);
        // It was read as an object before.
        let object: Map<String, Json> = serde_json::from_str(&plain).unwrap_or_default();
        for (key, value) in &object {
            let written = format!("\"{key}\"");
            let line = plain.lines().position(|line| line.contains(&written));
            let whole = line.and_then(|line| text.lines().nth(line)).unwrap_or(&written).trim();
            let shown = if whole.chars().count() > LINE { setting(key, value) } else { whole.to_owned() };
            let origin = Origin::new(path, line.map(|line| line + 1), &shown);
            if agent::NEEDLESS.contains(&&**key) {
                self.remarks.needless(&origin, format!("`{key}` says nothing to a single server"));
            } else if !agent::OBEYED.contains(&&**key) {
                let left = Left::new(format!("`{key}` has no effect here"));
                let hint = match &**key {
                    "retry_join" | "start_join" | "encrypt" | "gossip_lan" | "primary_datacenter" => {
                        Some("there is no cluster to join: each rollcall holds its own registry")
                    }
                    "acl" => Some("there are no ACLs: keep the HTTP API on 127.0.0.1, or behind a firewall"),
                    "connect" | "tls" | "verify_incoming" | "verify_outgoing" | "ca_file" | "cert_file" | "key_file" => {
                        Some("there is no service mesh, and the HTTP API speaks no TLS")
                    }
                    "telemetry" => Some("rollcall's metrics are at /metrics of the HTTP API, for Prometheus to fetch"),
                    _ => None,
                };
                self.remarks.left_out(&origin, hint.map_or(left.clone(), |hint| left.hint(hint)));
            }
            self.keys.push((key.clone(), origin));
        }
    }

    /// The places of these keys.
    fn from(&self, keys: &[&str]) -> Vec<Origin> {
        self.keys.iter().filter(|(key, _)| keys.contains(&&**key)).map(|(_, origin)| origin.clone()).collect()
    }

    fn set(&mut self, section: Section, key: &'static str, value: Option<String>, keys: &[&str]) {
        if let Some(value) = value {
            let from = self.from(keys);
            self.draft.set(section, key, value, from);
        }
    }

    fn write(mut self, agent: agent::Agent) -> Result<Import, Vec<Problem>> {
        self.draft.set(Section::Top, "compat", quoted("consul"), Vec::new());
        // Consul takes an empty text for one that is not there.
        let text = |value: &Option<String>| value.as_ref().filter(|text| !text.is_empty()).map(quoted);
        self.set(Section::Node, "name", text(&agent.node_name), &["node_name"]);
        self.set(Section::Node, "id", text(&agent.node_id), &["node_id"]);
        self.set(Section::Node, "datacenter", text(&agent.datacenter), &["datacenter"]);
        let address = agent.advertise_addr.as_ref().or(agent.bind_addr.as_ref());
        match address.map(|text| text.parse::<std::net::IpAddr>()) {
            Some(Ok(address)) if !address.is_unspecified() => {
                self.set(Section::Node, "address", Some(quoted(address.to_string())), &["advertise_addr", "bind_addr"]);
            }
            Some(Err(_)) => {
                let key = if agent.advertise_addr.is_some() { "advertise_addr" } else { "bind_addr" };
                for origin in self.from(&[key]) {
                    let left = Left::new(format!("`{key}`: expected an address; templates are not read"));
                    self.remarks.left_out(&origin, left.hint("`address` in [node] is what other hosts reach this one at"));
                }
            }
            _ => {}
        }
        if !agent.node_meta.is_empty() {
            let pairs: Vec<String> =
                agent.node_meta.iter().map(|(key, value)| format!("{} = {}", quoted(key), quoted(value))).collect();
            self.set(Section::Node, "meta", Some(format!("{{ {} }}", pairs.join(", "))), &["node_meta"]);
        }
        self.write_listeners(&agent);
        self.set(Section::Dns, "domain", text(&agent.domain), &["domain"]);
        self.set(Section::Dns, "alt_domain", text(&agent.alt_domain), &["alt_domain"]);
        let is_true = |value: bool| value.then(|| "true".to_owned());
        self.set(Section::Dns, "translate_wan_addrs", is_true(agent.translate_wan_addrs), &["translate_wan_addrs"]);
        self.write_dns_config(&agent.dns_config)?;
        self.set(Section::Registry, "data", text(&agent.data_dir), &["data_dir"]);
        for origin in self.from(&["data_dir"]) {
            self.remarks.changed(&origin, "what Consul keeps there is not read: services register again, or stand in files");
        }
        let (any, own) = (agent.enable_script_checks, agent.enable_local_script_checks);
        self.set(Section::Registry, "enable_script_checks", is_true(any), &["enable_script_checks"]);
        self.set(Section::Registry, "enable_local_script_checks", is_true(own), &["enable_local_script_checks"]);
        let mut services: Vec<Item> = Vec::new();
        for origin in self.from(&["service", "services", "check", "checks"]) {
            let file = super::absolute(&origin.file.to_string_lossy());
            services.push(Item { value: quoted(file.to_string_lossy()), from: vec![origin] });
        }
        if !services.is_empty() {
            self.draft.add(Section::Registry, "services", services);
        }
        let origins = self.from(&["recursors"]);
        let recursors = agent.recursors.iter().filter_map(|text| match text.parse::<crate::upstream::Upstream>() {
            Ok(_) => Some(Item { value: quoted(text), from: origins.clone() }),
            Err(error) => {
                origins.iter().for_each(|origin| self.remarks.left_out(origin, Left::new(error.clone())));
                None
            }
        });
        let recursors: Vec<Item> = recursors.collect();
        // None means that other names are refused, as Consul does.
        self.draft.list(Section::Forward, "upstreams", recursors);
        let title = "Made by `rollcall import consul`; above each setting stands the line that it comes from.";
        let settings = self.keys.len();
        finish(self.draft.into_toml(title), self.remarks, settings)
    }

    fn write_listeners(&mut self, agent: &agent::Agent) {
        let client = agent.client_addr.as_deref().unwrap_or("127.0.0.1");
        for (is_dns, own, port, default) in [
            (true, agent.addresses.dns.as_deref(), agent.ports.dns, 8600),
            (false, agent.addresses.http.as_deref(), agent.ports.http, 8500),
        ] {
            let from = self.from(&["addresses", "client_addr", "ports"]);
            let Ok(port) = u16::try_from(port.unwrap_or(default)) else {
                let what = if is_dns { "the DNS listener" } else { "the HTTP API" };
                from.iter()
                    .for_each(|origin| self.remarks.left_out(origin, Left::new(format!("{what} cannot be switched off"))));
                continue;
            };
            let mut items = Vec::new();
            for word in own.unwrap_or(client).split_ascii_whitespace() {
                match word.parse::<std::net::IpAddr>() {
                    Ok(address) => {
                        let value = quoted(std::net::SocketAddr::new(address, port).to_string());
                        items.push(Item { value, from: from.clone() });
                    }
                    Err(_) => {
                        let why = format!("expected an address to listen on, got {word:?}; templates are not read");
                        from.iter().for_each(|origin| self.remarks.left_out(origin, Left::new(why.clone())));
                    }
                }
            }
            match (is_dns, items.into_iter().next()) {
                (true, Some(first)) => {
                    // All lines say so of each address: once is enough.
                    let more = own.unwrap_or(client).split_ascii_whitespace().skip(1).filter_map(|word| word.parse().ok());
                    let more = more.map(|address| Item {
                        value: quoted(std::net::SocketAddr::new(address, port).to_string()),
                        from: Vec::new(),
                    });
                    self.draft.add(Section::Dns, "listen", [first].into_iter().chain(more.collect::<Vec<_>>()));
                }
                (false, Some(first)) => self.draft.set(Section::Registry, "http", first.value, first.from),
                (_, None) => {}
            }
        }
    }

    /// Consul's own words, which are ours too.
    fn write_dns_config(&mut self, dns_config: &Map<String, Json>) -> Result<(), Vec<Problem>> {
        let from = self.from(&["dns_config"]);
        let value = toml::Value::try_from(dns_config).map_err(|error| vec![Problem::new(format!("dns_config: {error}"))])?;
        let toml::Value::Table(table) = value else { return Ok(()) };
        let mut first = true;
        for (key, value) in table {
            let from = if std::mem::take(&mut first) { from.clone() } else { Vec::new() };
            self.draft.set_as_written(Section::DnsConfig, key, inline(&value), from);
        }
        Ok(())
    }
}

/// A value on one line.
fn inline(value: &toml::Value) -> String {
    let all = |values: Vec<String>| values.join(", ");
    match value {
        toml::Value::String(text) => quoted(text),
        toml::Value::Array(values) => format!("[{}]", all(values.iter().map(inline).collect())),
        toml::Value::Table(table) => {
            format!("{{ {} }}", all(table.iter().map(|(key, value)| format!("{} = {}", quoted(key), inline(value))).collect()))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::import::Fate;
    use crate::config::{Options, load};

    #[test]
    fn an_agents_configuration_becomes_ours() {
        let folder = tempfile::tempdir().unwrap();
        let (file, toml) = (folder.path().join("agent.json"), folder.path().join("rollcall.toml"));
        let text = r#"{
  // comments are fine
  "node_name": "n1", "datacenter": "dc2", "domain": "corp.", "server": true,
  "client_addr": "127.0.0.1 ::1",
  "ports": {"dns": 5300, "http": 8501},
  "recursors": ["192.0.2.1", "192.0.2.2:5353"],
  "dns_config": {"service_ttl": {"*": "5s"}, "only_passing": true, "soa": {"min_ttl": 3}},
  "node_meta": {"rack": "a \"b\""},
  "retry_join": ["192.0.2.9"],
  "services": [{"name": "web", "port": 80}]
}"#;
        std::fs::write(&file, text).unwrap();
        let import = consul(std::slice::from_ref(&file)).unwrap();
        std::fs::write(&toml, &import.toml).unwrap();
        let config = load(&Options { config: Some(toml), ..Options::default() }).unwrap();
        assert_eq!(config.dns.plain, ["127.0.0.1:5300".parse().unwrap(), "[::1]:5300".parse().unwrap()], "{}", import.toml);
        assert_eq!(config.http, Some("127.0.0.1:8501".parse().unwrap()));
        assert_eq!((&*config.identity.node_name, &*config.identity.datacenter), ("n1", "dc2"));
        assert_eq!(config.identity.node_meta["rack"], "a \"b\"");
        assert_eq!(config.settings.domain, "corp".parse().unwrap());
        assert!(config.settings.dns_config.only_passing);
        assert_eq!(config.settings.dns_config.service_ttl["*"], std::time::Duration::from_secs(5));
        assert_eq!(config.forward.upstreams.map(|upstreams| upstreams.len()), Some(2));
        assert_eq!(config.registry.services.0, std::slice::from_ref(&file));
        let lost: Vec<_> = import.remarks.iter().filter(|remark| remark.fate == Fate::LeftOut).collect();
        assert_eq!((lost.len(), lost[0].origin.line), (1, Some(9)), "{lost:?}");
        assert!(!import.is_whole() && lost[0].instead.as_ref().is_some_and(|hint| hint.contains("cluster")));
        // Settings and services in one line of one file: each is told by itself, and the file is no riddle to the loader of
        // services.
        let line = r#"{"server": true, "acl": {"enabled": true}, "bind_addr": "{{ GetPrivateIP }}", "recursors": ["192.0.2.1"], "service": {"name": "db", "port": 5432}}"#;
        std::fs::write(&file, line).unwrap();
        let import = consul(std::slice::from_ref(&file)).unwrap();
        let told: Vec<String> = import.remarks.iter().map(|remark| format!("{} {}", remark.origin.text, remark.why)).collect();
        assert_eq!(
            told,
            [
                "\"acl\": {\"enabled\":true} `acl` has no effect here",
                "\"server\": true `server` says nothing to a single server",
                "\"bind_addr\": \"{{ GetPrivateIP }}\" `bind_addr`: expected an address; templates are not read",
            ]
        );
        assert!(import.toml.contains("agent.json:1: \"recursors\": [\"192.0.2.1\"]\nupstreams"), "{}", import.toml);
        let (definitions, problems) = crate::registry::definition::file(Default::default(), &file, line);
        assert_eq!((definitions.services.len(), problems), (1, vec![]));
        std::fs::write(&file, "{\"ports\": 3}").unwrap();
        assert!(consul(&[file]).is_err());
    }
}
