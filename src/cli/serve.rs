//! `rollcall serve`, and `rollcall agent` for those who come from Consul.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::output::Output;
use super::{Done, Error};
use crate::run::{self, Agent, Options, Ready};
use crate::server::ListenAddress;

/// Answer DNS and the HTTP API.
///
/// Everything is optional: without a file and without flags it answers service names on 127.0.0.1:53, has its HTTP API
/// on 127.0.0.1:8500, and forwards other names to the servers that this machine uses now. A flag wins over the
/// configuration file. SIGHUP reads the configuration again, SIGTERM and Ctrl-C end it.
#[derive(Debug, Args)]
#[command(after_help = SERVE_EXAMPLES)]
pub(super) struct ServeArgs {
    /// Read the configuration from this file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Answer DNS on this address, or those of this interface, over UDP and TCP [may be repeated]
    #[arg(long, value_name = "ADDR:PORT")]
    dns: Vec<ListenAddress>,
    /// Serve the HTTP API on this address
    #[arg(long, value_name = "ADDR:PORT")]
    http: Option<SocketAddr>,
    /// Forward other names to this server: 9.9.9.9, tls://dns.quad9.net, https://…, quic://… [may be repeated]
    #[arg(long = "upstream", value_name = "UPSTREAM")]
    upstreams: Vec<String>,
    /// Read services from this file or folder (Consul's JSON), and watch it
    #[arg(long, value_name = "FILE_OR_DIR")]
    services: Vec<PathBuf>,
    /// Keep registrations in this folder
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Answer with this many threads [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=crate::limits::WORKERS_MAX as i64))]
    workers: Option<u16>,
    /// Answer service names under this domain [default: consul]
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// Behave as this program does wherever rollcall differs
    #[arg(long, value_name = "PROGRAM")]
    compat: Option<Compat>,
    /// Give this node this name [default: the name of the host]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Give the datacenter this name [default: dc1]
    #[arg(long, value_name = "DC")]
    datacenter: Option<String>,
    /// Print one line of JSON with the addresses as soon as questions are answered
    #[arg(long)]
    ready_json: bool,
}

const SERVE_EXAMPLES: &str = "\
Examples:
  rollcall serve                                              port 53, the servers that this machine uses now
  rollcall serve --config /etc/rollcall/rollcall.toml
  rollcall serve --dns 127.0.0.1:1053 --upstream 9.9.9.9:53 --services ./services.d
  rollcall serve --dns 127.0.0.1:0 --http 127.0.0.1:0 --data /tmp/rollcall --ready-json";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Compat {
    Consul,
}

impl ServeArgs {
    pub(super) fn run(self, output: &mut Output) -> Result<Done, Error> {
        let ready_json = self.ready_json;
        let options = Options {
            config: self.config,
            dns: self.dns,
            http: self.http,
            upstreams: self.upstreams,
            services: self.services,
            data: self.data,
            workers: self.workers.map(usize::from),
            domain: self.domain,
            node: self.node,
            datacenter: self.datacenter,
            compat_consul: self.compat == Some(Compat::Consul),
            agent: None,
        };
        start(options, ready_json, output)
    }
}

/// Start as Consul's agent does, from its own configuration.
///
/// Takes Consul's agent configuration (JSON) and flags, with one dash or two, and behaves as Consul does wherever
/// rollcall differs. What rollcall has no use for is named in a warning. DNS is on port 8600, the HTTP API on 8500.
#[derive(Debug, Args)]
#[command(after_help = AGENT_EXAMPLES)]
pub(super) struct AgentArgs {
    /// One server on this machine that keeps nothing on disk
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    dev: Option<bool>,
    /// Read this configuration file (JSON) [may be repeated]
    #[arg(long, value_name = "FILE")]
    config_file: Vec<PathBuf>,
    /// Read the *.json files of this folder in the order of their names [may be repeated]
    #[arg(long, value_name = "DIR")]
    config_dir: Vec<PathBuf>,
    /// Keep registrations in this folder
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Give this node this name [default: the name of the host]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Give the datacenter this name [default: dc1]
    #[arg(long, value_name = "DC")]
    datacenter: Option<String>,
    /// Serve DNS and the HTTP API on these addresses [default: 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    client: Option<String>,
    /// Answer DNS on this port; -1 switches it off [default: 8600]
    #[arg(long, value_name = "PORT", allow_negative_numbers = true)]
    dns_port: Option<i32>,
    /// Serve the HTTP API on this port; -1 switches it off [default: 8500]
    #[arg(long, value_name = "PORT", allow_negative_numbers = true)]
    http_port: Option<i32>,
    /// Forward other names to this server [may be repeated]
    #[arg(long, value_name = "ADDR")]
    recursor: Vec<String>,
    /// Answer service names under this domain [default: consul]
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// Answer service names under this domain too
    #[arg(long, value_name = "NAME")]
    alt_domain: Option<String>,
    /// Log from this level on: trace, debug, info, warn, error
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Run the commands of script checks, wherever they were registered
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    enable_script_checks: Option<bool>,
    /// Run the commands of script checks from configuration files only
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    enable_local_script_checks: Option<bool>,
    /// Print one line of JSON with the addresses as soon as questions are answered
    #[arg(long)]
    ready_json: bool,
    /// Without effect: the address between agents
    #[arg(long, value_name = "ADDR")]
    bind: Option<String>,
    /// Without effect: the address that is told to other agents
    #[arg(long, value_name = "ADDR")]
    advertise: Option<String>,
    /// Without effect: every rollcall holds its own registry
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    server: Option<bool>,
    /// Without effect: there is no election
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    bootstrap: Option<bool>,
    /// Without effect: there is no election
    #[arg(long, value_name = "N")]
    bootstrap_expect: Option<u32>,
    /// Without effect: there is no cluster to join
    #[arg(long, value_name = "ADDR")]
    retry_join: Vec<String>,
    /// Without effect: there is no web page
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    ui: Option<bool>,
}

const AGENT_EXAMPLES: &str = "\
Examples:
  rollcall agent -dev
  rollcall agent -dev -config-file=agent.json -config-file=services.json
  rollcall agent -data-dir=/var/lib/rollcall -config-dir=/etc/consul.d -client=127.0.0.1";

impl AgentArgs {
    pub(super) fn run(self, output: &mut Output) -> Result<Done, Error> {
        let ready_json = self.ready_json;
        let without_effect = self.without_effect();
        let options = Options {
            upstreams: self.recursor,
            data: self.data_dir,
            domain: self.domain,
            node: self.node,
            datacenter: self.datacenter,
            compat_consul: true,
            agent: Some(Agent {
                dev: self.dev.unwrap_or(false),
                config: self.config_file.into_iter().chain(self.config_dir).collect(),
                client: self.client,
                alt_domain: self.alt_domain,
                dns_port: self.dns_port,
                http_port: self.http_port,
                log_level: self.log_level,
                enable_script_checks: self.enable_script_checks,
                enable_local_script_checks: self.enable_local_script_checks,
                without_effect,
            }),
            ..Options::default()
        };
        start(options, ready_json, output)
    }

    fn without_effect(&self) -> Vec<&'static str> {
        [
            ("-bind", self.bind.is_some()),
            ("-advertise", self.advertise.is_some()),
            ("-server", self.server.is_some()),
            ("-bootstrap", self.bootstrap.is_some()),
            ("-bootstrap-expect", self.bootstrap_expect.is_some()),
            ("-retry-join", !self.retry_join.is_empty()),
            ("-ui", self.ui.is_some()),
        ]
        .into_iter()
        .filter_map(|(flag, given)| given.then_some(flag))
        .collect()
    }
}

fn start(options: Options, ready_json: bool, output: &mut Output) -> Result<Done, Error> {
    let mut told = Ok(());
    run::serve(options, |ready| told = tell(ready, ready_json, output))?;
    told.map(|()| Done::Yes)
}

/// The ready line is a contract: test and bench tools read the ports from it.
fn tell(ready: &Ready, as_json: bool, output: &mut Output) -> Result<(), Error> {
    if as_json {
        let mut line = json!({ "ready": true, "dns": ready.dns, "http": ready.http, "pid": std::process::id() });
        for (way, address) in &ready.encrypted {
            let addresses = line[way.to_string()].take();
            let addresses = addresses.as_array().into_iter().flatten().cloned().chain([json!(address)]);
            line[way.to_string()] = addresses.collect();
        }
        return output.json_line(&line);
    }
    for address in &ready.dns {
        output.line(format_args!("DNS       {address}, UDP and TCP"))?;
    }
    for (way, address) in &ready.encrypted {
        output.line(format_args!("DNS       {address}, {}", way.to_string().to_uppercase()))?;
    }
    if let Some(address) = ready.http {
        output.line(format_args!("HTTP API  http://{address}/v1/"))?;
    }
    output.line(format_args!("names     *.service.{0}, *.node.{0}; others are forwarded", ready.domain))?;
    output.flush()
}
