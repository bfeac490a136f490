//! `rollcall completions` and `rollcall man`: what a shell and a reader of manuals want, made from the command tree.

use std::io;
use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;
use clap_mangen::Man;

use super::output::Output;
use super::{Done, Error, command};

/// Print the completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  rollcall completions bash > /usr/share/bash-completion/completions/rollcall
  rollcall completions zsh > \"${fpath[1]}/_rollcall\"
  rollcall completions fish > ~/.config/fish/completions/rollcall.fish";

impl CompletionsArgs {
    pub(super) fn run(self, output: &mut Output) -> Result<Done, Error> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command(), "rollcall", &mut script);
        output.bytes(&script)?;
        Ok(Done::Yes)
    }
}

/// Print the manual page, or write the page of each command into a folder.
#[derive(Debug, Args)]
#[command(after_help = MAN_EXAMPLES)]
pub(super) struct ManArgs {
    /// Write a page for each command into this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

const MAN_EXAMPLES: &str = "\
Examples:
  rollcall man | man -l -
  rollcall man --dir /usr/local/share/man/man1";

impl ManArgs {
    pub(super) fn run(self, output: &mut Output) -> Result<Done, Error> {
        let mut root = command();
        root.build();
        let Some(dir) = self.dir else {
            let (_, page) = page(root)?;
            output.bytes(&page)?;
            return Ok(Done::Yes);
        };
        std::fs::create_dir_all(&dir).map_err(|source| Error::Write { path: dir.clone(), source })?;
        let mut waiting = vec![root];
        while let Some(command) = waiting.pop() {
            waiting.extend(command.get_subcommands().filter(|below| below.get_name() != "help").cloned());
            let (file, bytes) = page(command)?;
            let path = dir.join(file);
            std::fs::write(&path, bytes).map_err(|source| Error::Write { path: path.clone(), source })?;
            output.line(path.display())?;
        }
        Ok(Done::Yes)
    }
}

/// The page of one command of a tree that is built, and the name of its file.
fn page(command: clap::Command) -> Result<(String, Vec<u8>), Error> {
    let file = format!("{}.1", command.get_display_name().unwrap_or(command.get_name()));
    let mut bytes = Vec::new();
    let rendered = Man::new(command).render(&mut bytes);
    rendered.map_err(|source: io::Error| Error::Write { path: PathBuf::from(&file), source })?;
    Ok((file, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_names_its_command() {
        let mut root = command();
        root.build();
        let register = root.find_subcommand("services").and_then(|services| services.find_subcommand("register")).cloned();
        let (file, bytes) = page(register.unwrap()).unwrap();
        assert_eq!(file, "rollcall-services-register.1");
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("rollcall\\-services\\-register \\- Register the services of files"), "{text}");
    }
}
