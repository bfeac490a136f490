//! `rollcall members`: the nodes of the cluster, in Consul's columns.

use clap::Args;
use regex::Regex;
use serde_json::Value;

use super::api::{Api, ShownArgs};
use super::catalog::pairs;
use super::output::{Output, printable};
use super::{Done, Error};

/// List the members of the cluster.
///
/// Exits with 2 when no member matches, as Consul's command does.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct MembersArgs {
    /// Show all that is known of each member
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    detailed: Option<bool>,
    /// Only members whose status (alive, leaving, left, failed) matches
    #[arg(long, value_name = "REGEX", default_value = ".*", value_parser = Regex::new, hide_default_value = true)]
    status: Regex,
    /// The members of the pool between datacenters
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    wan: Option<bool>,
    /// Only members for which this expression is true
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<String>,
    #[command(flatten)]
    shown: ShownArgs,
}

const EXAMPLES: &str = "\
Examples:
  rollcall members
  rollcall members -detailed
  rollcall members -status='alive|left' --json";

impl MembersArgs {
    pub(super) fn run(self, output: &mut Output) -> Result<Done, Error> {
        let api = Api::new(self.shown.api)?;
        let path = "/v1/agent/members";
        let mut query = Vec::new();
        query.extend((self.wan == Some(true)).then_some(("wan", "1")));
        query.extend(self.filter.as_deref().map(|filter| ("filter", filter)));
        let Value::Array(mut members) = api.get(path, &query)? else {
            return Err(api.unexpected(path, "a list of members").into());
        };
        members.retain(|member| self.status.is_match(status(member)));
        members.sort_by_cached_key(|member| {
            let tag = |key| tag(member, key).to_owned();
            (tag("role") != "consul", tag("ap"), tag("segment"), name(member).to_owned())
        });
        if self.shown.json {
            output.json(&Value::Array(members.clone()))?;
        } else if !members.is_empty() {
            output.table(&rows(&members, self.detailed == Some(true)))?;
        }
        Ok(if members.is_empty() { Done::Usage } else { Done::Yes })
    }
}

fn rows(members: &[Value], detailed: bool) -> Vec<Vec<String>> {
    let heading: &[&str] = if detailed {
        &["Node", "Address", "Status", "Tags"]
    } else {
        &["Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Partition", "Segment"]
    };
    let mut rows: Vec<Vec<String>> = vec![heading.iter().map(|&word| word.to_owned()).collect()];
    for member in members {
        let mut row = vec![name(member), &address(member), status(member)].into_iter().map(printable).collect::<Vec<_>>();
        if detailed {
            row.push(pairs(member.get("Tags"), ","));
        } else {
            let or = |text: &str, other: &str| printable(if text.is_empty() { other } else { text });
            let role = tag(member, "role");
            let segment = tag(member, "segment");
            row.extend([
                match role {
                    "consul" => "server",
                    "node" => "client",
                    _ => "unknown",
                }
                .to_owned(),
                printable(tag(member, "build").split(':').next().unwrap_or_default()),
                printable(tag(member, "vsn")),
                printable(tag(member, "dc")),
                or(tag(member, "ap"), "default"),
                if role == "consul" { "<all>".to_owned() } else { or(segment, "<default>") },
            ]);
        }
        rows.push(row);
    }
    rows
}

fn name(member: &Value) -> &str {
    member.get("Name").and_then(Value::as_str).unwrap_or_default()
}

fn tag<'a>(member: &'a Value, key: &str) -> &'a str {
    member.get("Tags").and_then(|tags| tags.get(key)).and_then(Value::as_str).unwrap_or_default()
}

fn address(member: &Value) -> String {
    let address = member.get("Addr").and_then(Value::as_str).unwrap_or_default();
    let port = member.get("Port").and_then(Value::as_u64).unwrap_or_default();
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

fn status(member: &Value) -> &'static str {
    match member.get("Status").and_then(Value::as_u64) {
        Some(0) => "none",
        Some(1) => "alive",
        Some(2) => "leaving",
        Some(3) => "left",
        Some(4) => "failed",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_in_consuls_columns() {
        let server = json!({ "Name": "n1", "Addr": "127.0.0.1", "Port": 8301, "Status": 1,
            "Tags": { "role": "consul", "dc": "dc1", "build": "1.22.5:abcd", "vsn": "2" } });
        let client = json!({ "Name": "n2", "Addr": "::1", "Port": 8301, "Status": 4, "Tags": { "role": "node", "dc": "dc1" } });
        let rows = rows(&[server.clone(), client], false);
        assert_eq!(rows[1], ["n1", "127.0.0.1:8301", "alive", "server", "1.22.5", "2", "dc1", "default", "<all>"]);
        assert_eq!(rows[2], ["n2", "[::1]:8301", "failed", "client", "", "", "dc1", "default", "<default>"]);
        assert_eq!(super::rows(&[server], true)[1][3], "build=1.22.5:abcd,dc=dc1,role=consul,vsn=2");
    }
}
