//! `rollcall cache`: what a server keeps of upstreams' answers, and how to make it forget.

use clap::{ArgGroup, Args, Subcommand};
use serde_json::Value;

use super::api::{Api, ShownArgs, escape_name};
use super::output::{Output, printable};
use super::shown::{group, list, text};
use super::{Done, Error};
use crate::dns::Name;

/// Inspect and flush the cache of upstreams' answers.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(super) struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    Stats(StatsArgs),
    Lookup(LookupArgs),
    Flush(FlushArgs),
}

/// Show the cache's size, hits and misses.
#[derive(Debug, Args)]
struct StatsArgs {
    #[command(flatten)]
    shown: ShownArgs,
}

/// Show the cached answers of a name.
///
/// An answer is kept for each type, for each group of upstreams, and for each way of asking that changes it: the flags
/// RD, AD and CD, EDNS and its DO. Exits with 1 when nothing is cached.
#[derive(Debug, Args)]
#[command(after_help = LOOKUP_EXAMPLES)]
struct LookupArgs {
    /// The name
    #[arg(value_parser = super::name)]
    name: Name,
    /// Only answers of this type
    #[arg(value_name = "TYPE")]
    kind: Option<String>,
    #[command(flatten)]
    shown: ShownArgs,
}

const LOOKUP_EXAMPLES: &str = "\
Examples:
  rollcall cache lookup example.com
  rollcall cache lookup example.com AAAA --json";

/// Flush cached answers, so that upstreams are asked again.
#[derive(Debug, Args)]
#[command(after_help = FLUSH_EXAMPLES, group = ArgGroup::new("what").required(true))]
struct FlushArgs {
    /// This very name, with all types
    #[arg(group = "what", value_parser = super::name)]
    name: Option<Name>,
    /// This domain and all names in it
    #[arg(long, value_name = "DOMAIN", group = "what", value_parser = super::name)]
    below: Option<Name>,
    /// Everything
    #[arg(long, group = "what")]
    all: bool,
    #[command(flatten)]
    shown: ShownArgs,
}

const FLUSH_EXAMPLES: &str = "\
Examples:
  rollcall cache flush www.example.com
  rollcall cache flush --below example.com
  rollcall cache flush --all";

impl CacheArgs {
    pub(super) fn run(self, output: &mut Output) -> Result<Done, Error> {
        match self.command {
            CacheCommand::Stats(args) => args.run(output),
            CacheCommand::Lookup(args) => args.run(output),
            CacheCommand::Flush(args) => args.run(output),
        }
    }
}

impl StatsArgs {
    fn run(self, output: &mut Output) -> Result<Done, Error> {
        let (api, path) = (Api::new(self.shown.api)?, "/v1/rollcall/cache");
        let answer = api.get(path, &[])?;
        if self.shown.json {
            output.json(&answer)?;
            return Ok(Done::Yes);
        }
        let Value::Object(stats) = &answer else { return Err(api.unexpected(path, "an object").into()) };
        let mut rows = vec![vec!["What".to_owned(), "Count".to_owned()]];
        rows.extend(stats.iter().map(|(what, count)| vec![printable(&what.replace('_', " ")), printable(&count.to_string())]));
        output.table(&rows)?;
        Ok(Done::Yes)
    }
}

impl LookupArgs {
    fn run(self, output: &mut Output) -> Result<Done, Error> {
        let api = Api::new(self.shown.api)?;
        let path = format!("/v1/rollcall/cache/entries/{}", escape_name(&self.name));
        let query: Vec<(&str, &str)> = self.kind.as_deref().map(|kind| ("type", kind)).into_iter().collect();
        let answer = api.get(&path, &query)?;
        let Value::Array(entries) = &answer else { return Err(api.unexpected(&path, "a list of answers").into()) };
        let done = if entries.is_empty() { Done::No } else { Done::Yes };
        if self.shown.json {
            output.json(&answer)?;
        } else if entries.is_empty() {
            output.note(format_args!("Nothing is kept of {}", self.name))?;
        } else {
            output.table(&rows(entries))?;
        }
        Ok(done)
    }
}

/// Answers that are kept, as a table.
pub(super) fn rows(entries: &[Value]) -> Vec<Vec<String>> {
    let heading = ["Name", "Type", "Answer", "Records", "Age", "TTL", "Group", "Asked with"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(entries.iter().map(|entry| {
        let flags: Vec<String> = list(&entry["flags"]).iter().map(text).collect();
        let stale = entry["fresh"] == false;
        let ttl = if stale { format!("stale, usable for {} s", entry["usable_for"]) } else { format!("{} s", entry["ttl"]) };
        vec![
            text(&entry["name"]),
            text(&entry["type"]),
            text(&entry["rcode"]),
            text(&entry["answers"]),
            format!("{} s", text(&entry["age"])),
            ttl,
            group(entry),
            flags.join(" "),
        ]
    }));
    rows
}

impl FlushArgs {
    fn run(self, output: &mut Output) -> Result<Done, Error> {
        let api = Api::new(self.shown.api)?;
        let query = match (&self.name, &self.below) {
            (Some(name), _) => ("name", name.to_string()),
            (None, Some(domain)) => ("below", domain.to_string()),
            (None, None) => ("all", String::new()),
        };
        let path = "/v1/rollcall/cache/flush";
        let answer = api.order(path, &[(query.0, &*query.1)])?;
        if self.shown.json {
            output.json(&answer)?;
            return Ok(Done::Yes);
        }
        let Some(count) = answer["forgotten"].as_u64() else {
            return Err(api.unexpected(path, "how many answers were forgotten").into());
        };
        match count {
            1 => output.line("Forgot 1 answer")?,
            count => output.line(format_args!("Forgot {count} answers"))?,
        }
        Ok(Done::Yes)
    }
}
