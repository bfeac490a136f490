//! Hosts files: an address, then its names, a line each (hosts(5)). Not the decision what is answered of them.

use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;

use crate::dns::Name;
use crate::limits::PROBLEMS_PER_FILE_MAX;
use crate::problem::{Place, Problem};

/// One line: an address and what it is called, its canonical name first.
pub(super) struct Entry {
    pub(super) address: IpAddr,
    pub(super) names: Vec<Name>,
}

/// Reads all lines. A bad address costs its line, a bad name only itself.
pub(super) fn entries(path: &Path, text: &str, problems: &mut Vec<Problem>) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut wrong: Vec<Wrong> = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let content = line.split('#').next().unwrap_or_default();
        // Words with their places: both are parts of `content`, so that the distance of their beginnings is the offset.
        let span = |word: &str| {
            let offset = start + (word.as_ptr() as usize - content.as_ptr() as usize);
            offset..offset + word.len()
        };
        let mut words = content.split_ascii_whitespace();
        let Some(word) = words.next() else { continue };
        // A scope such as fe80::1%eth0 means something on this host only; DNS has no way to say it.
        let Ok(address) = word.split('%').next().unwrap_or(word).parse::<IpAddr>() else {
            let message = format!("expected an IPv4 or IPv6 address, got {word:?}; this line is left out");
            wrong.push((span(word), message, "a line is `ADDRESS NAME [NAME ...]`, for example `192.0.2.1 web.example web`"));
            continue;
        };
        let mut names = Vec::new();
        let mut is_named = false;
        for word in words {
            is_named = true;
            match word.parse::<Name>() {
                Ok(name) if !name.is_root() && word.is_ascii() => names.push(name),
                Ok(_) => wrong.push((
                    span(word),
                    format!("expected a host name, got {word:?}"),
                    "the other names of this line are taken",
                )),
                Err(error) => {
                    wrong.push((span(word), format!("expected a host name: {error}"), "the other names of this line are taken"))
                }
            }
        }
        if !is_named {
            wrong.push((
                span(word),
                format!("expected at least one name behind {word}"),
                "write `ADDRESS NAME`, or take the line away",
            ));
        }
        if word.contains('%') || names.is_empty() {
            continue;
        }
        entries.push(Entry { address, names });
    }
    tell(path, text, wrong, "is this a hosts file? Each line is `ADDRESS NAME [NAME ...]`", problems);
    entries
}

/// What is wrong with a part of a text, where, and what to do or what becomes of the rest.
pub(super) type Wrong = (Range<usize>, String, &'static str);

/// Tells what is wrong with lines of a file, as much of it as anybody reads; `hint` is for the rest.
pub(super) fn tell(path: &Path, text: &str, wrong: Vec<Wrong>, hint: &str, problems: &mut Vec<Problem>) {
    let more = wrong.len().saturating_sub(PROBLEMS_PER_FILE_MAX);
    for (span, message, hint) in wrong.into_iter().take(PROBLEMS_PER_FILE_MAX) {
        problems.push(Problem::new(message).in_file(path).at(Place::of(text, span)).hint(hint));
    }
    if more > 0 {
        problems.push(Problem::new(format!("{more} more lines of this kind")).in_file(path).hint(hint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<(String, Vec<String>)>, Vec<Problem>) {
        let mut problems = Vec::new();
        let entries = entries(Path::new("hosts"), text, &mut problems);
        let text = |entry: Entry| (entry.address.to_string(), entry.names.iter().map(Name::to_string).collect());
        (entries.into_iter().map(text).collect(), problems)
    }

    #[test]
    fn lines_comments_and_tabs_are_read() {
        let (entries, problems) = read("# all\n192.0.2.1\tweb.example web # us\r\n\n  ::1 ip6-localhost\nfe80::1%lo zoned\n");
        assert_eq!(problems, []);
        assert_eq!(entries[0], ("192.0.2.1".into(), vec!["web.example.".into(), "web.".into()]));
        assert_eq!(entries[1], ("::1".into(), vec!["ip6-localhost.".into()]));
        assert_eq!(entries.len(), 2);
    }

    #[test]
    fn bad_lines_are_told_with_their_place_and_the_others_load() {
        let (entries, problems) = read("192.0.2.300 web\n192.0.2.1 good a..b better\n192.0.2.2\n");
        assert_eq!(entries, [("192.0.2.1".into(), vec!["good.".into(), "better.".into()])]);
        let places: Vec<_> = problems.iter().map(|p| p.place.as_ref().map(|p| (p.line, p.column)).unwrap()).collect();
        assert_eq!(places, [(1, 1), (2, 16), (3, 1)], "{problems:?}");
        assert!(problems[0].to_string().starts_with("hosts:1:1: expected an IPv4 or IPv6 address, got \"192.0.2.300\""));
    }

    #[test]
    fn a_file_of_another_kind_does_not_fill_the_log() {
        let (entries, problems) = read(&"what is this\n".repeat(10_000));
        assert!(entries.is_empty());
        assert_eq!(problems.len(), PROBLEMS_PER_FILE_MAX + 1);
        assert!(problems.last().unwrap().message.starts_with("9980 more"));
    }
}
