//! Which verb? One file a command; the only folder that prints.
//!
//! Commands speak to a running server by its HTTP API or its DNS port, never by its files, so they work against another
//! machine and against Consul as well. Exit codes are an interface: 0 done, 1 the answer is no, 2 usage or
//! configuration. Output that a program may want is JSON with `--json`; for people it is text, and colours are left out
//! when the output is no terminal or `NO_COLOR` is set.
//!
//! Start with [`main`], then [`Command`].

mod api;
mod cache;
mod catalog;
mod check;
mod definitions;
mod explain;
mod import;
mod members;
mod output;
mod query;
mod serve;
mod services;
mod shell;
mod shown;
mod spelling;
mod status;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use output::Output;

use crate::dns::Name;
use crate::problem::Problem;

/// The program: reads the arguments, runs one command, tells how it went by the exit code.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = command();
    let arguments = spelling::rewrite(&command, arguments);
    let matched = command.try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match matched {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to stdout, complaints to stderr; a reader that left early is no reason to complain.
            let _ = error.print();
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    let mut output = Output::new();
    let done = cli.command.run(&mut output).and_then(|done| output.flush().map(|()| done));
    match done {
        Ok(done) => done.into(),
        // The reader has what it wanted (`rollcall catalog services | head -1`).
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = output.flush();
            output.failure(&error);
            error.exit_code().into()
        }
    }
}

/// The whole command tree, for completions, manual pages and the rewriting of Consul's flags.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// A name as it stands on the command line, the same for all commands: escapes as in a master file, letters of any language,
/// and `.` for the root.
fn name(word: &str) -> Result<Name, String> {
    match word {
        "" => Err("expected a name, got none; the root is `.`".to_owned()),
        word => Name::from_idn(word).map_err(|error| error.to_string()),
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Yes,
    /// The question was answered, and the answer is no: no such name, nothing matched, a service was refused.
    No,
    /// What the user wrote cannot be used.
    Usage,
}

impl From<Done> for ExitCode {
    fn from(done: Done) -> Self {
        match done {
            Done::Yes => Self::SUCCESS,
            Done::No => Self::from(1),
            Done::Usage => Self::from(2),
        }
    }
}

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot write the output")]
    Output(#[source] io::Error),
    #[error(transparent)]
    Api(#[from] api::Error),
    #[error("{what} was not {done}")]
    Refused { what: String, done: &'static str, source: Box<api::Error> },
    #[error(transparent)]
    Problem(Box<Problem>),
    #[error(transparent)]
    Query(#[from] query::Error),
    #[error(transparent)]
    Run(#[from] crate::run::Error),
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("expected files, or a service that the flags describe; got {got}")]
    Register { got: &'static str },
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl Error {
    /// What the user can do about it.
    fn hint(&self) -> Option<String> {
        match self {
            Self::Api(error) => error.hint(),
            Self::Refused { source, .. } => source.hint(),
            Self::Query(error) => error.hint(),
            Self::Register { .. } => Some("try `rollcall services register web.json`, or -name=web -port=80".to_owned()),
            Self::Problem(_) | Self::Output(_) | Self::Run(_) | Self::Write { .. } => None,
        }
    }

    fn exit_code(&self) -> Done {
        match self {
            Self::Problem(_) => Done::Usage,
            Self::Api(error) if error.is_usage() => Done::Usage,
            Self::Query(error) if error.is_usage() => Done::Usage,
            Self::Run(error) if error.is_usage() => Done::Usage,
            // Consul's command ends with 1 here, and scripts may look at it.
            Self::Register { .. } => Done::No,
            Self::Run(_) | Self::Api(_) | Self::Refused { .. } | Self::Query(_) | Self::Output(_) | Self::Write { .. } => {
                Done::No
            }
        }
    }
}

/// DNS that knows who is present and well.
///
/// rollcall answers the names of services from its own registry, healthy instances only, and forwards every other name.
/// It is one program in place of systemd-resolved, dnsmasq and Consul's DNS port.
#[derive(Debug, Parser)]
#[command(name = "rollcall", version, max_term_width = 100, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  rollcall serve --dns 127.0.0.1:1053 --upstream 9.9.9.9:53   start, without any file
  rollcall services register web.json                         register the services of a file
  rollcall query web.service.consul SRV @127.0.0.1:1053       ask, and see who answered and why
  rollcall explain web.service.consul                         who answers, and why
  rollcall status                                             how the server fares, and whom it asks
  rollcall catalog services --tags                            what is known
  rollcall check --config rollcall.toml                       find mistakes before starting
  rollcall import dnsmasq /etc/dnsmasq.conf                   make a configuration from another program's

Flags of Consul's commands may be written with one dash, as Consul writes them.
Exit codes: 0 done, 1 the answer is no, 2 usage or configuration.";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Agent(serve::AgentArgs),
    Services(services::ServicesArgs),
    Catalog(catalog::CatalogArgs),
    Members(members::MembersArgs),
    Query(query::QueryArgs),
    Explain(explain::ExplainArgs),
    Cache(cache::CacheArgs),
    Status(status::StatusArgs),
    Check(check::CheckArgs),
    Import(import::ImportArgs),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
}

impl Command {
    fn run(self, output: &mut Output) -> Result<Done, Error> {
        match self {
            Self::Serve(args) => args.run(output),
            Self::Agent(args) => args.run(output),
            Self::Services(args) => args.run(output),
            Self::Catalog(args) => args.run(output),
            Self::Members(args) => args.run(output),
            Self::Query(args) => args.run(output),
            Self::Explain(args) => args.run(output),
            Self::Cache(args) => args.run(output),
            Self::Status(args) => args.run(output),
            Self::Check(args) => args.run(output),
            Self::Import(args) => args.run(output),
            Self::Completions(args) => args.run(output),
            Self::Man(args) => args.run(output),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself() {
        fn walk(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no description", command.get_name());
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                assert!(argument.get_help().is_some(), "{} {} has no help", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&command());
    }

    /// What users read is reviewed like code: `UPDATE=1 cargo test --lib cli` writes the file anew.
    #[test]
    fn help_reads_as_it_was_reviewed() {
        fn walk(command: &mut clap::Command, text: &mut String) {
            let help = command.clone().term_width(100).render_long_help().to_string();
            let name = command.get_bin_name().unwrap_or_default().to_owned();
            text.push_str(&format!("==== {name}\n{help}\n"));
            for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
                walk(below, text);
            }
        }
        let mut root = command();
        root.build();
        let mut now = String::new();
        walk(&mut root, &mut now);
        let now: String = now.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cli-help.txt");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, &now).unwrap();
        }
        let reviewed = std::fs::read_to_string(&file).unwrap();
        for (number, (now, reviewed)) in now.lines().zip(reviewed.lines()).enumerate() {
            assert_eq!(now, reviewed, "line {} of tests/data/cli-help.txt; UPDATE=1 writes it anew", number + 1);
        }
        assert_eq!(now.len(), reviewed.len());
    }
}
