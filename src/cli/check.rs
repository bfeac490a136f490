//! `rollcall check`: find the mistakes of configuration, services files and zones, without starting.

use std::path::{Path, PathBuf};

use clap::Args;

use super::definitions::{self, Definitions};
use super::output::Output;
use super::{Done, Error};

/// Find mistakes in configuration, services files and zones, without starting.
///
/// Prints every problem with its place and what to do, and ends with 2 if there is one.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(super) struct CheckArgs {
    /// A services file (Consul's JSON), or a folder of them [may be repeated]
    #[arg(long, value_name = "FILE_OR_DIR")]
    services: Vec<PathBuf>,
    /// Services files (*.json), or folders of them
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  rollcall check services.d/ web.json";

impl CheckArgs {
    pub(super) fn run(self, output: &mut Output) -> Result<Done, Error> {
        let mut done = Done::Yes;
        for path in definitions::files(&[self.services, self.paths].concat())? {
            match services(&path) {
                Ok(found) => output.line(format_args!("{}: {found}", path.display()))?,
                Err(error) => {
                    output.flush()?;
                    output.failure(&error.into());
                    done = Done::Usage;
                }
            }
        }
        Ok(done)
    }
}

fn services(path: &Path) -> Result<String, definitions::Error> {
    let found = Definitions::read(path)?;
    Ok(format!("{} services, {} checks", found.services.len(), found.checks.len()))
}
