//! Consul's own agent configuration, in JSON: what of it concerns us, and a word on all the rest.
//!
//! `rollcall agent -dev -config-file=FILE` takes it as it is. Keys that we know and obey become [`Agent`]; those that we
//! know and do not need, and those that we do not know, are named in a warning and nothing else happens.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use crate::problem::{Place, Problem, nearest};

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
