//! `rollcall status`: how a server fares, at one glance.

use clap::Args;
use serde_json::Value;

use super::api::{Api, ShownArgs};
use super::output::Output;
use super::shown::{UPSTREAM, group, list, text, upstream_row};
use super::{Done, Error};

/// Show how a server fares: where it listens, what it knows, whom it asks.
///
/// Exits with 1 when all upstreams of a group fail.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    shown: ShownArgs,
}

const EXAMPLES: &str = "\
Examples:
  rollcall status
  rollcall status --json | jq '.groups[].upstreams[] | select(.up | not)'";

impl StatusArgs {
    pub(super) fn run(self, output: &mut Output) -> Result<Done, Error> {
        let (api, path) = (Api::new(self.shown.api)?, "/v1/rollcall/status");
        let status = api.get(path, &[])?;
        if self.shown.json {
            output.json(&status)?;
        } else if status["groups"].is_array() {
            print(&status, output)?;
        } else {
            return Err(api.unexpected(path, "how the server fares").into());
        }
        let is_served = |group: &Value| {
            let upstreams = list(&group["upstreams"]);
            upstreams.is_empty() || upstreams.iter().any(|upstream| upstream["up"] == true)
        };
        Ok(if list(&status["groups"]).iter().all(is_served) { Done::Yes } else { Done::No })
    }
}

fn print(status: &Value, output: &mut Output) -> Result<(), Error> {
    output.heading(format_args!("rollcall {}, up for {}", text(&status["version"]), text(&status["uptime"])))?;
    output.line(format_args!("  listens      {}", listeners(list(&status["listeners"]))))?;
    let registry = &status["registry"];
    let count = |value: &Value, one: &str| {
        let number = text(value);
        if number == "1" { format!("1 {one}") } else { format!("{number} {one}s") }
    };
    let instances: Vec<_> = ["passing", "warning", "critical"]
        .iter()
        .filter(|&&health| registry["instances"][health] != 0)
        .map(|health| format!("{} {health}", text(&registry["instances"][health])))
        .collect();
    let instances = if instances.is_empty() { "none".to_owned() } else { instances.join(", ") };
    let (services, nodes) = (count(&registry["services"], "service"), count(&registry["nodes"], "node"));
    output.line(format_args!("  registry     {services} on {nodes}; instances: {instances}"))?;
    let cache = &status["cache"];
    let megabytes = |value: &Value| format!("{:.1}", value.as_f64().unwrap_or_default() / f64::from(1 << 20));
    output.line(format_args!(
        "  cache        {}, {} of {} MB; {}, {}",
        count(&cache["entries"], "answer"),
        megabytes(&cache["octets"]),
        megabytes(&cache["octets_max"]),
        count(&cache["hits"], "hit"),
        text(&cache["misses"]) + " misses",
    ))?;
    for lists in list(&status["block_lists"]) {
        output.line(format_args!("  blocks       {} of {}", count(&lists["names"], "name"), text(&lists["list"])))?;
    }
    let rows = list(&status["groups"]).iter().flat_map(|value| {
        let of = group(value);
        list(&value["upstreams"]).iter().map(move |upstream| [vec![of.clone()], upstream_row(upstream)].concat())
    });
    let heading = ["Group"].into_iter().chain(UPSTREAM).map(str::to_owned).collect();
    let rows: Vec<_> = [heading].into_iter().chain(rows).collect();
    output.line("")?;
    if rows.len() > 1 { output.table(&rows) } else { output.line("Nobody is asked about names of others.") }
}

/// Each address once, with its transports.
fn listeners(listeners: &[Value]) -> String {
    let mut places: Vec<(String, Vec<String>)> = Vec::new();
    for listener in listeners {
        let (address, transport) = (text(&listener["address"]), text(&listener["transport"]));
        match places.iter_mut().find(|(other, _)| *other == address) {
            Some((_, transports)) => transports.push(transport),
            None => places.push((address, vec![transport])),
        }
    }
    let places: Vec<_> = places.iter().map(|(address, transports)| format!("{address} ({})", transports.join(", "))).collect();
    if places.is_empty() { "nowhere".to_owned() } else { places.join(", ") }
}
