//! `rollcall explain`: who answers a name, and why.

use std::net::IpAddr;

use clap::Args;
use serde_json::Value;

use super::api::{Api, ShownArgs, escape_name};
use super::output::{Output, printable};
use super::shown::{UPSTREAM, list, table, text, upstream_row};
use super::{Done, Error, cache};
use crate::dns::Name;

/// Tell who answers a name, and why.
///
/// For the name of a service: its instances, and why each is in the answer or not. For a name that is forwarded: its
/// route, what is cached, and the state of its upstreams.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ExplainArgs {
    /// The name
    #[arg(value_parser = super::name)]
    name: Name,
    /// The type [default: A]
    #[arg(value_name = "TYPE")]
    kind: Option<String>,
    /// Tell what this client would be answered; else one who may ask for everything
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    /// Ask each upstream of a forwarded name now, and show how it fares
    #[arg(long)]
    ask: bool,
    #[command(flatten)]
    shown: ShownArgs,
}

const EXAMPLES: &str = "\
Examples:
  rollcall explain web.service.consul
  rollcall explain www.example.com AAAA --ask
  rollcall explain www.example.com --client 192.0.2.7";

impl ExplainArgs {
    pub(super) fn run(self, output: &mut Output) -> Result<Done, Error> {
        let api = Api::new(self.shown.api)?;
        let path = format!("/v1/rollcall/explain/{}", escape_name(&self.name));
        let mut query: Vec<(&str, &str)> = self.kind.as_deref().map(|kind| ("type", kind)).into_iter().collect();
        let client = self.client.map(|client| client.to_string());
        query.extend(client.as_deref().map(|client| ("client", client)));
        query.extend(self.ask.then_some(("ask", "")));
        let told = api.get(&path, &query)?;
        if self.shown.json {
            output.json(&told)?;
            return Ok(Done::Yes);
        }
        if told["source"].as_str().is_none() {
            return Err(api.unexpected(&path, "who answers").into());
        }
        print(&told, output)?;
        Ok(Done::Yes)
    }
}

/// Who has an answer, for people.
pub(super) fn source_text(source: &str) -> &'static str {
    match source {
        "forwarded" => "an upstream",
        "cache" => "the cache",
        "stale" => "the cache: upstreams are late or fail, and this is past its time",
        "discovery" => "discovery",
        "local" => "local data",
        "zone" => "a zone",
        "blocked" => "a block list",
        "refused" => "nobody (REFUSED)",
        "limited" => "nobody: this client asks too often",
        "failed" => "nobody (SERVFAIL): upstreams fail",
        _ => "nobody",
    }
}

fn print(told: &Value, output: &mut Output) -> Result<(), Error> {
    output.heading(format_args!("{} {}", text(&told["name"]), text(&told["type"])))?;
    let is_kept = || list(&told["kept"]).iter().any(|kept| kept["fresh"] == true);
    let source = match told["source"].as_str() {
        Some("forwarded") if is_kept() => "cache",
        source => source.unwrap_or_default(),
    };
    output.line(format_args!("  answered by  {}", source_text(source)))?;
    for (title, value) in
        [("view", &told["view"]), ("because", &told["because"]), ("asks for", &told["asks_for"]), ("answer", &told["rcode"])]
    {
        if !value.is_null() {
            output.line(format_args!("  {title:11}  {}", text(value)))?;
        }
    }
    let route = &told["route"];
    if route.is_object() {
        let domains = match list(&route["domains"]) {
            [] => "all names without a route of their own".to_owned(),
            _ => match route["more_domains"].as_u64() {
                None | Some(0) => text(&route["domains"]),
                Some(more) => format!("{} and {more} more", text(&route["domains"])),
            },
        };
        output.line(format_args!("  route        {}, for {domains}", text(&route["group"])))?;
        output.line(format_args!("  asked        {}", text(&route["order"])))?;
        if let Some(anchor) = route["trust_anchor"].as_str() {
            output.line(format_args!("  validated    from the trust anchor of {} on", printable(anchor)))?;
        }
        if route["failed_lately"] == true {
            output.line("  failed       a moment ago, so that it is not asked for again at once")?;
        }
    }
    let validation = &told["validation"];
    if validation.is_object() {
        output.line(format_args!("  {:11}  {}", text(&validation["state"]), text(&validation["because"])))?;
    }
    table(output, list(&told["instances"]), &["Node", "ID", "Address", "Port", "Health", "In", "Because"], |instance| {
        let given = if instance["given"] == true { "in" } else { "out" };
        let cells = ["node", "id", "address", "port", "health"].map(|key| text(&instance[key]));
        let because = list(&instance["because"]).iter().map(text).collect::<Vec<_>>().join("; ");
        cells.into_iter().chain([given.to_owned(), because]).collect()
    })?;
    let kept = list(&told["kept"]);
    if route.is_object() {
        output.line("")?;
        if kept.is_empty() { output.line("Not in the cache.")? } else { output.table(&cache::rows(kept))? }
    }
    table(output, list(&route["upstreams"]), &UPSTREAM, upstream_row)?;
    table(output, list(&told["tries"]), &["Asked now", "Outcome", "Time"], |tried| {
        vec![text(&tried["upstream"]), text(&tried["outcome"]), format!("{} ms", tried["took_ms"])]
    })
}
