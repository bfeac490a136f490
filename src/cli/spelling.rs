//! Consul's way to write flags: `-config-file=FILE`, with one dash.
//!
//! An argument with one dash is given its second one when it names a long option of the command in whose place it
//! stands; all else is left as it is, so that a mistake is reported in the user's own spelling.

use std::collections::BTreeSet;
use std::ffi::OsString;

/// The arguments with each long option in our spelling.
pub(super) fn rewrite(root: &clap::Command, arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments = arguments.into_iter();
    let mut rewritten: Vec<OsString> = arguments.next().into_iter().collect();
    let mut command = root;
    let mut known = long_options(command);
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            rewritten.push(argument);
            rewritten.extend(arguments);
            break;
        }
        match argument.to_str() {
            Some(text) if is_single_dashed(text, &known) => rewritten.push(format!("-{text}").into()),
            Some(text) => {
                if let Some(below) = command.find_subcommand(text) {
                    command = below;
                    known = long_options(command);
                }
                rewritten.push(argument);
            }
            None => rewritten.push(argument),
        }
    }
    rewritten
}

fn is_single_dashed(argument: &str, known: &BTreeSet<&str>) -> bool {
    let Some(rest) = argument.strip_prefix('-') else { return false };
    let name = rest.split_once('=').map_or(rest, |(name, _)| name);
    name.len() > 1 && known.contains(name)
}

fn long_options(command: &clap::Command) -> BTreeSet<&str> {
    let mut known: BTreeSet<&str> =
        command.get_arguments().filter_map(clap::Arg::get_long_and_visible_aliases).flatten().collect();
    known.extend(["help", "version"]);
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(line: &str) -> String {
        let words = rewrite(&super::super::command(), line.split(' ').map(OsString::from));
        words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn one_dash_becomes_two_where_the_command_has_the_option() {
        assert_eq!(
            rewritten("rollcall agent -dev -config-file=conf/base.json -dns-port 8600"),
            "rollcall agent --dev --config-file=conf/base.json --dns-port 8600"
        );
        assert_eq!(rewritten("rollcall services deregister -id=x"), "rollcall services deregister --id=x");
        assert_eq!(rewritten("rollcall catalog services -tags"), "rollcall catalog services --tags");
        assert_eq!(rewritten("rollcall members -status alive"), "rollcall members --status alive");
        assert_eq!(rewritten("rollcall -version"), "rollcall --version");
    }

    #[test]
    fn everything_else_stays() {
        for line in [
            "rollcall agent -nonsense",
            "rollcall serve --dns 127.0.0.1:53",
            "rollcall -h",
            "rollcall check -- -config",
            "rollcall",
        ] {
            assert_eq!(rewritten(line), line);
        }
    }
}
