//! `rollcall check`: find the mistakes of configuration, services files and zones, without starting.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use super::definitions;
use super::output::Output;
use super::{Done, Error};
use crate::clock::unix_time;
use crate::config::{self, Options};
use crate::limits;
use crate::problem::Problem;
use crate::registry::definition::{self, Form};
use crate::resolve::block::Blocks;
use crate::resolve::local::Local;
use crate::resolve::rewrite::Rewrites;
use crate::resolve::zone::{self, Zones};
use crate::server::QueryLogConfig;

/// Find mistakes in configuration, services files and zones, without starting.
///
/// Prints every problem with its place and what to do, and exits with 2 if there is one.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(super) struct CheckArgs {
    /// The configuration of rollcall (TOML), and the services and zones that it names
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A services file (Consul's JSON), or a folder of them [may be repeated]
    #[arg(long, value_name = "FILE_OR_DIR")]
    services: Vec<PathBuf>,
    /// Files of any of these kinds, told by their names: *.toml, *.json, *.zone
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  rollcall check --config /etc/rollcall/rollcall.toml
  rollcall check services.d/ web.json example.test.zone";

impl CheckArgs {
    pub(super) fn run(self, output: &mut Output) -> Result<Done, Error> {
        let is = |extension: &'static str| move |path: &PathBuf| definitions::has_extension(path, extension);
        let (configs, others): (Vec<_>, Vec<_>) = self.paths.into_iter().partition(is("toml"));
        let (zones, services): (Vec<_>, Vec<_>) = others.into_iter().partition(is("zone"));
        let mut report = Report { output, done: Done::Yes };
        for path in self.config.into_iter().chain(configs) {
            let (holds, problems) = configuration(&path);
            report.add(&path, holds, problems)?;
        }
        for path in self.services.into_iter().chain(services) {
            match definitions::files(std::slice::from_ref(&path)) {
                Ok(files) => files.iter().try_for_each(|file| {
                    let (holds, problems) = services_file(file);
                    report.add(file, holds, problems)
                })?,
                Err(problem) => report.add(&path, "", vec![problem])?,
            }
        }
        for path in zones {
            report.add(&path, "a zone", zone::check(&path))?;
        }
        Ok(report.done)
    }
}

/// What was found, as it is found.
struct Report<'a> {
    output: &'a mut Output,
    done: Done,
}

impl Report<'_> {
    /// Says what a file holds, or what is wrong with it; warnings alone are no reason to fail.
    fn add(&mut self, path: &Path, holds: impl Display, problems: Vec<Problem>) -> Result<(), Error> {
        let failed = problems.iter().any(|problem| !problem.is_warning);
        for problem in problems {
            self.output.flush()?;
            self.output.problem(&problem);
        }
        if failed {
            self.done = Done::Usage;
            return Ok(());
        }
        self.output.line(format_args!("ok: {} ({holds})", path.display()))
    }
}

/// Reads a configuration file and all that it names, and tells what it is about.
fn configuration(path: &Path) -> (String, Vec<Problem>) {
    let options = Options { config: Some(path.to_owned()), ..Options::default() };
    let config = match config::load(&options) {
        Ok(config) => config,
        Err(problems) => return (String::new(), problems),
    };
    let mut problems = config.warnings;
    let mut holds = vec![format!("domain {}", config.settings.domain)];
    problems.extend(Local::load(&config.local, None, unix_time().as_secs()).1);
    let own: Vec<SocketAddr> = config.dns.sockets().collect();
    let views = config.views.iter().map(|view| &view.forward);
    for problem in views.chain([&config.forward]).flat_map(|forward| forward.asks_itself(&own)) {
        // A view has what it does not say itself from the rest.
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    problems.extend(config.query_log.as_ref().and_then(QueryLogConfig::obstacle));
    if let Some(folder) = &config.zones.folder {
        let (zones, more) = Zones::load(folder, None);
        problems.extend(more);
        holds.push(format!("zones: {}", zones.apexes().len()));
    }
    problems.extend(Rewrites::new(&config.rewrites, config.local.local_ttl).1);
    if !config.blocks.is_empty() {
        let (blocks, more) = Blocks::load(&config.blocks, None, Instant::now());
        problems.extend(more);
        let names: usize = blocks.lists().map(|(_, names, _)| names).sum();
        holds.push(format!("block lists: {}, with {names} names", blocks.lists().count()));
    }
    for services in &config.registry.services.0 {
        match definitions::files(std::slice::from_ref(services)) {
            Ok(files) => files.iter().for_each(|file| {
                let (found, more) = services_file(file);
                holds.push(found);
                problems.extend(more);
            }),
            Err(problem) => problems.push(problem),
        }
    }
    (holds.join(", "), problems)
}

/// Reads a services file, and tells what it defines.
fn services_file(path: &Path) -> (String, Vec<Problem>) {
    let text = match crate::file::read_text(path, limits::SERVICES_FILE_OCTETS_MAX) {
        Ok(text) => text,
        Err(error) => {
            let problem = Problem::new(format!("expected a readable file, got: {error}"));
            return (String::new(), vec![problem.in_file(path)]);
        }
    };
    let (found, problems) = definition::file(Form::Services, path, &text);
    let own: usize = found.services.iter().map(|service| service.checks.len()).sum();
    (format!("services: {}, checks: {}", found.services.len(), found.checks.len() + own), problems)
}
