//! `rollcall services`: tell a server that instances come or go.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::api::{self, Api, ApiArgs, escape};
use super::definitions::{self, field};
use super::output::{Output, printable};
use super::{Done, Error};
use crate::registry::definition;

/// Register and deregister services.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(super) struct ServicesArgs {
    #[command(subcommand)]
    command: ServicesCommand,
}

#[derive(Debug, Subcommand)]
enum ServicesCommand {
    Register(RegisterArgs),
    Deregister(DeregisterArgs),
}

/// Register the services of files, or one service that the flags describe.
///
/// Files hold Consul's service definitions as JSON; comments are accepted. A service that is registered again replaces
/// the former one of the same ID. With files, the flags fill what the files leave open, and tags are added.
#[derive(Debug, Args)]
#[command(after_help = REGISTER_EXAMPLES)]
struct RegisterArgs {
    /// Register the services of this file, or of the *.json files of this folder; - is the standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The name of the service
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The ID of the instance [default: the name]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Where the instance is [default: the address of the node]
    #[arg(long, value_name = "ADDR")]
    address: Option<String>,
    /// The port of the instance
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// The socket of the instance, in place of a port
    #[arg(long, value_name = "PATH", conflicts_with = "port")]
    socket: Option<String>,
    /// A tag [may be repeated]
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// A key and its value [may be repeated]
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    meta: Vec<(String, String)>,
    /// An address for a purpose: lan, wan, or a name of your own [may be repeated]
    #[arg(long = "tagged-address", value_name = "NAME=ADDR[:PORT]", value_parser = key_value)]
    tagged_addresses: Vec<(String, String)>,
    /// The kind of the service, for a mesh
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    #[command(flatten)]
    api: ApiArgs,
}

const REGISTER_EXAMPLES: &str = "\
Examples:
  rollcall services register web.json
  rollcall services register -name=web -id=web-1 -address=10.0.0.5 -port=80 -tag=v2
  rollcall services register --http-addr 10.0.0.1:8500 services.d/

A file:
  {\"services\": [{\"id\": \"web-1\", \"name\": \"web\", \"address\": \"10.0.0.5\", \"port\": 80,
                 \"check\": {\"http\": \"http://10.0.0.5/health\", \"interval\": \"5s\"}}]}";

/// Take services out, by their IDs or by the files that defined them.
#[derive(Debug, Args)]
#[command(after_help = DEREGISTER_EXAMPLES)]
struct DeregisterArgs {
    /// Deregister the services of this file, or of the *.json files of this folder
    #[arg(value_name = "FILE", required_unless_present = "ids")]
    files: Vec<PathBuf>,
    /// Deregister the instance of this ID [may be repeated]
    #[arg(long = "id", value_name = "ID", conflicts_with = "files")]
    ids: Vec<String>,
    #[command(flatten)]
    api: ApiArgs,
}

const DEREGISTER_EXAMPLES: &str = "\
Examples:
  rollcall services deregister -id=web-1
  rollcall services deregister web.json";

impl ServicesArgs {
    pub(super) fn run(self, output: &mut Output) -> Result<Done, Error> {
        match self.command {
            ServicesCommand::Register(args) => args.run(output),
            ServicesCommand::Deregister(args) => args.run(output),
        }
    }
}

impl RegisterArgs {
    fn run(self, output: &mut Output) -> Result<Done, Error> {
        let mut read = match (&self.name, self.files.is_empty()) {
            (Some(name), true) => {
                let service = Map::from_iter([("Name".to_owned(), json!(name))]);
                ReadFiles { services: vec![service], ..ReadFiles::default() }
            }
            (None, false) => ReadFiles::read(&self.files, output)?,
            (None, true) => return Err(Error::Register { got: "neither" }),
            (Some(_), false) => return Err(Error::Register { got: "both" }),
        };
        for service in &mut read.services {
            self.complete(service);
        }
        let mut done = read.done;
        let api = Api::new(self.api)?;
        for service in read.services {
            let name = definitions::text(&service, "name").map(printable).unwrap_or_default();
            let registered = api.put("/v1/agent/service/register", Some(&Value::Object(service)));
            tell(registered, "service", &name, "registered", &mut done, output)?;
        }
        for check in read.checks {
            let name = definitions::text(&check, "name").map(printable).unwrap_or_default();
            let registered = api.put("/v1/agent/check/register", Some(&Value::Object(check)));
            tell(registered, "check", &name, "registered", &mut done, output)?;
        }
        Ok(done)
    }

    /// Fills what the definition leaves open.
    fn complete(&self, service: &mut Map<String, Value>) {
        let mut fill = |key: &str, value: Option<Value>| {
            let open = match field(service, key) {
                None | Some(Value::Null) => true,
                Some(Value::String(text)) => text.is_empty(),
                Some(Value::Number(number)) => number.as_u64() == Some(0),
                Some(_) => false,
            };
            if let (true, Some(value)) = (open, value) {
                remove(service, key);
                service.insert(key.to_owned(), value);
            }
        };
        fill("ID", self.id.as_ref().map(|id| json!(id)));
        fill("Address", self.address.as_ref().map(|address| json!(address)));
        fill("Port", self.port.map(|port| json!(port)));
        fill("SocketPath", self.socket.as_ref().map(|path| json!(path)));
        fill("Kind", self.kind.as_ref().map(|kind| json!(kind)));
        if !self.tags.is_empty() {
            let mut tags = match remove(service, "Tags") {
                Some(Value::Array(tags)) => tags,
                _ => Vec::new(),
            };
            tags.extend(self.tags.iter().map(|tag| json!(tag)));
            service.insert("Tags".to_owned(), Value::Array(tags));
        }
        let maps = [
            ("Meta", self.meta.iter().map(|(key, value)| (key.clone(), json!(value))).collect::<Map<_, _>>()),
            ("TaggedAddresses", self.tagged_addresses.iter().map(|(name, address)| (name.clone(), tagged(address))).collect()),
        ];
        for (key, mut given) in maps {
            if !given.is_empty() {
                if let Some(Value::Object(written)) = remove(service, key) {
                    given.extend(written);
                }
                service.insert(key.to_owned(), Value::Object(given));
            }
        }
    }
}

impl DeregisterArgs {
    fn run(self, output: &mut Output) -> Result<Done, Error> {
        let read = if self.files.is_empty() { ReadFiles::default() } else { ReadFiles::read(&self.files, output)? };
        let mut done = read.done;
        let ids: Vec<String> = read.services.iter().filter_map(definitions::id).map(str::to_owned).chain(self.ids).collect();
        let api = Api::new(self.api)?;
        for id in ids {
            let gone = api.put(&format!("/v1/agent/service/deregister/{}", escape(&id)), None);
            tell(gone, "service", &printable(&id), "deregistered", &mut done, output)?;
        }
        Ok(done)
    }
}

/// What the files hold that could be read.
struct ReadFiles {
    services: Vec<Map<String, Value>>,
    checks: Vec<Map<String, Value>>,
    done: Done,
}

impl Default for ReadFiles {
    fn default() -> Self {
        Self { services: Vec::new(), checks: Vec::new(), done: Done::Yes }
    }
}

impl ReadFiles {
    /// What is wrong is reported with its place, and does not keep its neighbours out.
    fn read(paths: &[PathBuf], output: &mut Output) -> Result<Self, Error> {
        let mut read = Self::default();
        for path in definitions::files(paths)? {
            let (mut found, problems) = match definitions::read(&path) {
                Ok(read) => read,
                Err(problem) => (definition::Written::default(), vec![problem]),
            };
            for problem in problems {
                if !problem.is_warning {
                    read.done = Done::Usage;
                }
                output.flush()?;
                output.problem(&problem);
            }
            read.services.append(&mut found.services);
            read.checks.append(&mut found.checks);
        }
        Ok(read)
    }
}

/// One refusal does not keep the others from being tried; a server that is away does.
fn tell(
    result: Result<(), api::Error>,
    kind: &str,
    name: &str,
    did: &'static str,
    done: &mut Done,
    output: &mut Output,
) -> Result<(), Error> {
    match result {
        Ok(()) => {
            let (first, rest) = did.split_at(1);
            output.line(format_args!("{}{rest} {kind}: {name}", first.to_uppercase()))
        }
        Err(source) if source.is_refusal() => {
            output.flush()?;
            output.failure(&Error::Refused { what: format!("{kind} {name}"), done: did, source: Box::new(source) });
            if *done == Done::Yes {
                *done = Done::No;
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn remove(service: &mut Map<String, Value>, key: &str) -> Option<Value> {
    let fold = |key: &str| key.replace('_', "").to_lowercase();
    let written = service.keys().find(|written| fold(written) == fold(key)).cloned()?;
    service.remove(&written)
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("expected KEY=VALUE, got {text}")),
    }
}

fn tagged(address: &str) -> Value {
    let split = address.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
    match split.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?))) {
        Some((host, port)) => json!({ "Address": host.trim_start_matches('[').trim_end_matches(']'), "Port": port }),
        None => json!({ "Address": address }),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        args: RegisterArgs,
    }

    fn complete(flags: &[&str], service: Value) -> Value {
        let Value::Object(mut service) = service else { panic!("a service is an object") };
        Alone::parse_from(["register"].iter().chain(flags)).args.complete(&mut service);
        Value::Object(service)
    }

    #[test]
    fn flags_fill_what_a_file_leaves_open() {
        assert_eq!(
            complete(&["x.json", "--port=81", "--id=i", "--tag=b"], json!({ "name": "web", "port": 80, "tags": ["a"] })),
            json!({ "name": "web", "port": 80, "ID": "i", "Tags": ["a", "b"] })
        );
        assert_eq!(
            complete(&["--name=web", "--meta=k=v=w", "--tagged-address=wan=[::1]:80"], json!({ "Name": "web" })),
            json!({ "Name": "web", "Meta": { "k": "v=w" }, "TaggedAddresses": { "wan": { "Address": "::1", "Port": 80 } } })
        );
    }

    #[test]
    fn a_file_and_a_name_exclude_each_other() {
        for words in [&["register", "a.json", "--name=web"][..], &["register"]] {
            let refused = Alone::parse_from(words).args.run(&mut Output::new());
            assert!(matches!(refused, Err(Error::Register { .. })), "{words:?}");
        }
        assert!(Alone::try_parse_from(["register", "--name=web", "--meta=novalue"]).is_err());
    }
}
