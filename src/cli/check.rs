//! `rollcall check`: find the mistakes of configuration, services files and zones, without starting.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use clap::Args;

use super::definitions::{self, Definitions};
use super::output::Output;
use super::{Done, Error};
use crate::problem::{Place, Problem};

/// Find mistakes in configuration, services files and zones, without starting.
///
/// Prints every problem with its place and what to do, and ends with 2 if there is one.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(super) struct CheckArgs {
    /// The configuration of rollcall (TOML), and the services and zones that it names
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A services file (Consul's JSON), or a folder of them [may be repeated]
    #[arg(long, value_name = "FILE_OR_DIR")]
    services: Vec<PathBuf>,
    /// Files of any of these kinds, told by their names: *.toml, *.json
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  rollcall check --config /etc/rollcall/rollcall.toml
  rollcall check services.d/ web.json";

impl CheckArgs {
    pub(super) fn run(self, output: &mut Output) -> Result<Done, Error> {
        let (configs, services): (Vec<PathBuf>, Vec<PathBuf>) =
            self.paths.into_iter().partition(|path| definitions::has_extension(path, "toml"));
        let mut report = Report { output, done: Done::Yes };
        for path in self.config.into_iter().chain(configs) {
            report.add(&path, configuration(&path))?;
        }
        for path in self.services.into_iter().chain(services) {
            match definitions::files(std::slice::from_ref(&path)) {
                Ok(files) => files.iter().try_for_each(|file| report.add(file, services_file(file)))?,
                Err(problem) => report.add::<&str>(&path, Err(vec![problem]))?,
            }
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
    fn add<T: Display>(&mut self, path: &Path, found: Result<T, Vec<Problem>>) -> Result<(), Error> {
        match found {
            Ok(found) => self.output.line(format_args!("ok: {} ({found})", path.display())),
            Err(problems) => {
                self.done = Done::Usage;
                self.output.flush()?;
                problems.into_iter().for_each(|problem| self.output.failure(&problem.into()));
                Ok(())
            }
        }
    }
}

/// Reads a configuration file, and tells what it is about.
fn configuration(path: &Path) -> Result<String, Vec<Problem>> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| vec![Problem::new(format!("cannot read this file: {error}")).in_file(path)])?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| {
        let problem = Problem::new(error.message()).in_file(path);
        vec![match error.span() {
            Some(span) => problem.at(Place::of(&text, span)),
            None => problem,
        }]
    })?;
    Ok(table.keys().map(|key| format!("[{key}]")).collect::<Vec<_>>().join(" "))
}

/// Reads a services file, and tells what it defines.
fn services_file(path: &Path) -> Result<String, Vec<Problem>> {
    let found = Definitions::read(path).map_err(|problem| vec![problem])?;
    Ok(format!("services: {}, checks: {}", found.services.len(), found.checks.len()))
}
