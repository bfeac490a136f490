//! `rollcall import`: what another program's configuration says, as ours.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{Output, printable};
use super::{Done, Error};
use crate::config::import::{self, Fate, Import};
use crate::problem::Problem;

/// Make a configuration from another program's.
///
/// Reads the files of the program that rollcall is to replace and prints rollcall's own configuration (TOML), with the
/// original line as a comment above each setting. What could not be carried over is reported on standard error, with
/// its line, the reason and what to do instead. Nothing is changed, and no server is asked.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    Dnsmasq(DnsmasqArgs),
    Resolved(ResolvedArgs),
    Consul(ConsulArgs),
}

/// Read dnsmasq's configuration.
///
/// What the files include (conf-file, conf-dir, servers-file) is read as dnsmasq reads it.
#[derive(Debug, Args)]
#[command(after_help = DNSMASQ_EXAMPLES)]
struct DnsmasqArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Go on without this option, although answers would be wrong or unsafe [may be repeated]
    #[arg(long, value_name = "OPTION", value_delimiter = ',')]
    allow: Vec<String>,
}

/// Read systemd-resolved's configuration.
///
/// The drop-ins of FILE.d, beside the file, are read too. Without FILE it is what resolved reads itself: resolved.conf and the
/// drop-ins below /etc/systemd, /run/systemd, /usr/local/lib/systemd and /usr/lib/systemd.
#[derive(Debug, Args)]
#[command(after_help = RESOLVED_EXAMPLES)]
struct ResolvedArgs {
    /// The files, in the order in which the program reads them; those that it reads on this machine when none is named
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Read the configuration of Consul's agent (JSON).
///
/// The configuration that comes of it takes Consul's side wherever the two differ. Without an import,
/// `rollcall agent -config-file=FILE` takes such files as they are.
#[derive(Debug, Args)]
#[command(after_help = CONSUL_EXAMPLES)]
struct ConsulArgs {
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
struct CommonArgs {
    /// The files, in the order in which the program reads them
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct OutputArgs {
    /// Write the configuration to this file rather than to standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write over a file that exists
    #[arg(long, requires = "output")]
    force: bool,
    /// Print the configuration and the remarks on it as JSON
    #[arg(long)]
    json: bool,
}

const DNSMASQ_EXAMPLES: &str = "\
Examples:
  rollcall import dnsmasq /etc/dnsmasq.conf
  rollcall import dnsmasq /etc/dnsmasq.conf /etc/dnsmasq.d/*.conf --output rollcall.toml
  rollcall check --config rollcall.toml

Exit codes: 0 all came over, 1 something did not, 2 usage, a file that cannot be read, or an option without which
answers would be wrong or unsafe (then nothing is written).";

const RESOLVED_EXAMPLES: &str = "\
Examples:
  rollcall import resolved
  rollcall import resolved /etc/systemd/resolved.conf --output rollcall.toml

Exit codes: 0 all came over, 1 something did not, 2 usage, or a file that cannot be read.";

const CONSUL_EXAMPLES: &str = "\
Examples:
  rollcall import consul /etc/consul.d/*.json
  rollcall import consul agent.json services.json --output rollcall.toml

Exit codes: 0 all came over, 1 something did not, 2 usage, or a file that cannot be read.";

impl ImportArgs {
    pub(super) fn run(self, output: &mut Output) -> Result<Done, Error> {
        type Importer = fn(&[PathBuf]) -> Result<Import, Vec<Problem>>;
        let (importer, files, args, allowed): (Importer, Vec<PathBuf>, OutputArgs, Vec<String>) = match self.from {
            From::Dnsmasq(args) => (import::dnsmasq, args.common.files, args.common.output, args.allow),
            From::Resolved(args) => (import::resolved, args.files, args.output, Vec::new()),
            From::Consul(args) => (import::consul, args.common.files, args.common.output, Vec::new()),
        };
        let mut import = match importer(&files) {
            Ok(import) => import,
            Err(problems) => {
                output.flush()?;
                problems.iter().for_each(|problem| output.problem(problem));
                return Ok(Done::Usage);
            }
        };
        import.refused.retain(|option| !allowed.contains(option));
        let is_refused = !import.refused.is_empty();
        if let Some(path) = args.output.as_ref().filter(|_| !is_refused) {
            write(path, &import.toml, args.force)?;
        }
        if args.json {
            let toml = (!is_refused).then_some(&import.toml);
            let Import { remarks, settings, refused, .. } = &import;
            output.json(&json!({ "toml": toml, "settings": settings, "refused": refused, "remarks": remarks }))?;
        } else {
            if args.output.is_none() && !is_refused {
                output.bytes(import.toml.as_bytes())?;
            }
            report(&import, output)?;
        }
        if is_refused {
            let names = import.refused.join(",");
            let problem = Problem::new(format!("nothing was written: without {names} answers would be wrong or unsafe"));
            output.flush()?;
            output.problem(&problem.hint(format!("--allow {names} goes on without")));
            return Ok(Done::Usage);
        }
        Ok(if import.is_whole() { Done::Yes } else { Done::No })
    }
}

/// Says of each setting that did not come over as it was what became of it; what is lost comes last, where it is seen.
fn report(import: &Import, output: &mut Output) -> Result<(), Error> {
    for fate in [Fate::Needless, Fate::Changed, Fate::LeftOut] {
        for remark in import.remarks.iter().filter(|remark| remark.fate == fate) {
            let said = remark.to_string();
            let said: Vec<String> = said.lines().map(printable).collect();
            output.note(format_args!("{fate}: {}", said.join("\n")))?;
        }
    }
    let count = |fate| import.remarks.iter().filter(|remark| remark.fate == fate).count();
    let (lost, changed, needless) = (count(Fate::LeftOut), count(Fate::Changed), count(Fate::Needless));
    output.note(format_args!(
        "{} settings read: {lost} not carried over, {changed} changed, {needless} not needed",
        import.settings
    ))
}

/// Writes a file that was not there, or over it when that is wanted.
fn write(path: &Path, text: &str, force: bool) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    options.write(true).truncate(true).create(force).create_new(!force);
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let problem = Problem::new("expected a file that does not exist yet, and this one does").in_file(path);
            problem.hint("--force writes over it").into()
        }
        _ => Error::Write { path: path.to_owned(), source: error },
    })
}
