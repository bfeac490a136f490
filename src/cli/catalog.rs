//! `rollcall catalog`: what a server knows, in Consul's words and columns.

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::api::{Api, ShownArgs, escape};
use super::output::{Output, printable};
use super::{Done, Error};

/// List services, nodes and datacenters.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(super) struct CatalogArgs {
    #[command(subcommand)]
    command: CatalogCommand,
}

#[derive(Debug, Subcommand)]
enum CatalogCommand {
    Services(ServicesArgs),
    Nodes(NodesArgs),
    Datacenters(DatacentersArgs),
}

/// List the names of services.
#[derive(Debug, Args)]
#[command(after_help = SERVICES_EXAMPLES)]
struct ServicesArgs {
    /// Show the tags of each service
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    tags: Option<bool>,
    /// Only services with an instance on this node
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Only services on nodes with this key and value [may be repeated]
    #[arg(long, value_name = "KEY=VALUE")]
    node_meta: Vec<String>,
    #[command(flatten)]
    shown: ShownArgs,
}

const SERVICES_EXAMPLES: &str = "\
Examples:
  rollcall catalog services
  rollcall catalog services -tags
  rollcall catalog services -node=worker-1 --json";

/// List nodes.
#[derive(Debug, Args)]
#[command(after_help = NODES_EXAMPLES)]
struct NodesArgs {
    /// Show the whole ID, the tagged addresses and the metadata
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    detailed: Option<bool>,
    /// Only nodes with an instance of this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// The nearest first, seen from this node; _agent is the one that is asked
    #[arg(long, value_name = "NODE")]
    near: Option<String>,
    /// Only nodes for which this expression is true
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<String>,
    /// Only nodes with this key and value [may be repeated]
    #[arg(long, value_name = "KEY=VALUE")]
    node_meta: Vec<String>,
    #[command(flatten)]
    shown: ShownArgs,
}

const NODES_EXAMPLES: &str = "\
Examples:
  rollcall catalog nodes
  rollcall catalog nodes -detailed
  rollcall catalog nodes -service=web
  rollcall catalog nodes -filter='Meta.env == \"qa\"'";

/// List datacenters.
#[derive(Debug, Args)]
struct DatacentersArgs {
    #[command(flatten)]
    shown: ShownArgs,
}

impl CatalogArgs {
    pub(super) fn run(self, output: &mut Output) -> Result<Done, Error> {
        match self.command {
            CatalogCommand::Services(args) => args.run(output),
            CatalogCommand::Nodes(args) => args.run(output),
            CatalogCommand::Datacenters(args) => args.run(output),
        }
    }
}

impl ServicesArgs {
    fn run(self, output: &mut Output) -> Result<Done, Error> {
        let api = Api::new(self.shown.api)?;
        let node_meta = node_meta(&self.node_meta);
        let query: Vec<(&str, &str)> = node_meta.iter().map(|pair| ("node-meta", pair.as_str())).collect();
        let (path, answer) = match &self.node {
            None => ("/v1/catalog/services".to_owned(), api.get("/v1/catalog/services", &query)?),
            Some(node) => {
                let path = format!("/v1/catalog/node/{}", escape(node));
                let answer = api.get(&path, &query)?;
                (path, services_of_node(&answer))
            }
        };
        if self.shown.json {
            output.json(&answer)?;
            return Ok(Done::Yes);
        }
        let Value::Object(services) = answer else {
            return Err(api.unexpected(&path, "an object of services").into());
        };
        if services.is_empty() {
            output.note("No service matches.")?;
            return Ok(Done::Yes);
        }
        for line in service_lines(&services, self.tags == Some(true)) {
            output.line(line)?;
        }
        Ok(Done::Yes)
    }
}

/// Names in their order; with tags, a gap of six spaces after the longest name.
fn service_lines(services: &Map<String, Value>, with_tags: bool) -> Vec<String> {
    let mut names: Vec<&String> = services.keys().collect();
    names.sort();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0) + 6;
    let line = |name: &String| {
        let shown = printable(name);
        if !with_tags {
            return shown;
        }
        let mut tags: Vec<&str> = services.get(name).map(strings).unwrap_or_default();
        tags.sort_unstable();
        format!("{shown:width$}{}", printable(&tags.join(","))).trim_end().to_owned()
    };
    names.into_iter().map(line).collect()
}

/// The services of a node as the list of all services has them: names and their tags.
fn services_of_node(node: &Value) -> Value {
    let mut services: Map<String, Value> = Map::new();
    for instance in node.get("Services").and_then(Value::as_object).into_iter().flat_map(Map::values) {
        let Some(name) = instance.get("Service").and_then(Value::as_str) else { continue };
        let tags = services.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        if let (Value::Array(tags), Some(Value::Array(more))) = (tags, instance.get("Tags")) {
            for tag in more {
                if !tags.contains(tag) {
                    tags.push(tag.clone());
                }
            }
        }
    }
    Value::Object(services)
}

impl NodesArgs {
    fn run(self, output: &mut Output) -> Result<Done, Error> {
        let api = Api::new(self.shown.api)?;
        let node_meta = node_meta(&self.node_meta);
        let mut query: Vec<(&str, &str)> = node_meta.iter().map(|pair| ("node-meta", pair.as_str())).collect();
        query.extend(self.near.as_deref().map(|near| ("near", near)));
        query.extend(self.filter.as_deref().map(|filter| ("filter", filter)));
        let path = match &self.service {
            None => "/v1/catalog/nodes".to_owned(),
            Some(service) => format!("/v1/catalog/service/{}", escape(service)),
        };
        let answer = api.get(&path, &query)?;
        if self.shown.json {
            output.json(&answer)?;
            return Ok(Done::Yes);
        }
        let Value::Array(nodes) = answer else {
            return Err(api.unexpected(&path, "a list of nodes").into());
        };
        if nodes.is_empty() {
            output.note("No node matches.")?;
            return Ok(Done::Yes);
        }
        output.table(&node_rows(&nodes, self.detailed == Some(true)))?;
        Ok(Done::Yes)
    }
}

fn node_rows(nodes: &[Value], detailed: bool) -> Vec<Vec<String>> {
    let mut heading = vec!["Node", "ID", "Address", "DC"];
    if detailed {
        heading.extend(["TaggedAddresses", "Meta"]);
    }
    let mut rows: Vec<Vec<String>> = vec![heading.into_iter().map(str::to_owned).collect()];
    for node in nodes {
        let text = |key| printable(node.get(key).and_then(Value::as_str).unwrap_or_default());
        let id = text("ID");
        let short = id.split('-').next().unwrap_or_default().to_owned();
        let mut row = vec![text("Node"), if detailed { id } else { short }, text("Address"), text("Datacenter")];
        if detailed {
            row.push(pairs(node.get("TaggedAddresses"), ", "));
            // The metadata of the node; in a list of instances `Meta` has another meaning.
            row.push(pairs(node.get("NodeMeta").or_else(|| node.get("Meta")), ", "));
        }
        // A node with three instances of a service is one node.
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows
}

impl DatacentersArgs {
    fn run(self, output: &mut Output) -> Result<Done, Error> {
        let api = Api::new(self.shown.api)?;
        let path = "/v1/catalog/datacenters";
        let answer = api.get(path, &[])?;
        if self.shown.json {
            output.json(&answer)?;
            return Ok(Done::Yes);
        }
        if !answer.is_array() {
            return Err(api.unexpected(path, "a list of datacenters").into());
        }
        for datacenter in strings(&answer) {
            output.line(printable(datacenter))?;
        }
        Ok(Done::Yes)
    }
}

/// `k=v, k=v` in the order of the keys.
pub(super) fn pairs(map: Option<&Value>, between: &str) -> String {
    let mut pairs: Vec<String> = map
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{}={}", printable(key), printable(value.as_str().unwrap_or_default())))
        .collect();
    pairs.sort();
    pairs.join(between)
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The command line writes `key=value`, the HTTP API `key:value`.
fn node_meta(written: &[String]) -> Vec<String> {
    written.iter().map(|pair| pair.replacen('=', ":", 1)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn services_are_sorted_and_tags_stand_six_after_the_longest_name() {
        let Value::Object(services) = json!({ "web": ["v2", "a"], "consul": [], "api-long": ["x"] }) else { unreachable!() };
        assert_eq!(service_lines(&services, false), ["api-long", "consul", "web"]);
        assert_eq!(service_lines(&services, true), ["api-long      x", "consul", "web           a,v2"]);
    }

    #[test]
    fn the_services_of_a_node_are_names_and_their_tags() {
        let node = json!({ "Node": {}, "Services": {
            "w1": { "Service": "web", "Tags": ["a"] }, "w2": { "Service": "web", "Tags": ["a", "b"] }, "c": { "Service": "c", "Tags": null } } });
        assert_eq!(services_of_node(&node), json!({ "web": ["a", "b"], "c": [] }));
        assert_eq!(services_of_node(&Value::Null), json!({}));
    }

    #[test]
    fn nodes_are_listed_once_with_a_short_id() {
        let node = json!({ "Node": "n1", "ID": "0a000000-0000-4000-8000-0000000000ff", "Address": "10.0.0.1", "Datacenter": "dc1",
            "TaggedAddresses": { "wan": "1.2.3.4", "lan": "10.0.0.1" }, "Meta": null, "NodeMeta": { "k": "v" } });
        let rows = node_rows(&[node.clone(), node.clone()], false);
        assert_eq!(rows, [vec!["Node", "ID", "Address", "DC"], vec!["n1", "0a000000", "10.0.0.1", "dc1"]]);
        let rows = node_rows(&[node], true);
        assert_eq!(rows[1][1], "0a000000-0000-4000-8000-0000000000ff");
        assert_eq!(rows[1][4..], ["lan=10.0.0.1, wan=1.2.3.4", "k=v"]);
    }
}
