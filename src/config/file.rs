//! Reading a TOML file: every error with its line, and a hint where one can be had.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::limits::CONFIG_OCTETS_MAX;
use crate::problem::{Place, Problem, nearest};

/// Reads `path` as a `T`, and as the table that it is.
pub(super) fn load<T: DeserializeOwned>(path: &Path) -> Result<(T, toml::Table), Problem> {
    let text = crate::file::read_text(path, CONFIG_OCTETS_MAX).map_err(|error| {
        let problem = Problem::new(format!("cannot read the configuration: {error}")).in_file(path);
        problem.hint("give another file with --config; `rollcall serve` needs none")
    })?;
    let parsed = parse(&text).and_then(|read| Ok((read, parse(&text)?)));
    parsed.map_err(|problem| problem.in_file(path))
}

/// Reads a text as a `T`.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let message = error.message();
        let span = error.span().unwrap_or(0..0);
        let problem = Problem::new(expected_and_got(message, Some(text.get(span.clone()).unwrap_or_default())));
        let problem = problem.at(Place::of(text, span));
        problem.hint(hint(message).unwrap_or_else(|| "see the commented sample, zones/rollcall.toml".into()))
    })
}

/// What the parser expects, in its words and in ours.
const WORDS: [(&str, &str); 9] = [
    ("u16", "a number from 0 to 65535"),
    ("u32", "a number from 0 to 4294967295"),
    ("u64", "a number that is not negative"),
    ("usize", "a number that is not negative"),
    ("a nonzero u32", "a number of at least 1"),
    ("a boolean", "true or false"),
    ("a sequence", "a list"),
    ("a string", "a text in quotes"),
    ("a map", "a section"),
];

/// The parser's words in ours. What came is `there`, where its place is known; else what the parser says of it.
pub(super) fn expected_and_got(message: &str, there: Option<&str>) -> String {
    /// Characters of what came that are shown.
    const SHOWN: usize = 40;
    let mismatch = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    let mismatch = mismatch.and_then(|mismatch| mismatch.split_once(", expected "));
    let (expected, came) = if let Some((came, wanted)) = mismatch {
        let wanted = WORDS.iter().find(|(word, _)| *word == wanted).map_or(wanted, |(_, words)| words);
        (format!("expected {wanted}"), Some(came))
    } else if let Some(key) = message.strip_prefix("missing field ") {
        return format!("expected the key {key}, got none");
    } else if let Some(rest) = message.strip_prefix("unknown field ") {
        return format!("expected a known key, got {rest}");
    } else if message == "invalid socket address syntax" {
        // What the standard library says of an address.
        ("expected ADDRESS:PORT".to_owned(), None)
    } else if message.contains("got ") {
        return message.to_owned();
    } else if message.contains("expected") {
        (message.to_owned(), None)
    } else {
        (format!("expected another value: {message}"), None)
    };
    let first = there.map(|there| there.lines().next().unwrap_or_default().trim()).or(came);
    match first.map(|first| first.chars().take(SHOWN).collect::<String>()) {
        None => expected,
        Some(came) if came.is_empty() => format!("{expected}; got the end of the line"),
        Some(came) => format!("{expected}; got {came}"),
    }
}

/// For an unknown key, the known one that it is most like.
fn hint(message: &str) -> Option<String> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    let known: Vec<&str> = quoted.collect();
    Some(match nearest(unknown, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the keys of this section are {}", known.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[allow(dead_code, reason = "only its reading matters here")]
        listen: Vec<std::net::SocketAddr>,
    }

    #[test]
    fn lists_of_domains_have_no_names_that_nobody_asks_for() {
        type Read = fn(super::super::own::File) -> Vec<crate::dns::Name>;
        let lists: [(&str, Read); 4] = [
            ("[[forward.route]]\nupstreams = []\ndomains = ", |file| file.forward.route[0].domains.clone()),
            ("[forward.filter]\nprivate_allowed = ", |file| file.forward.filter.private_allowed),
            ("[forward.dnssec]\nexceptions = ", |file| file.forward.dnssec.exceptions),
            ("[[block]]\nexcept = ", |file| file.block[0].except.clone()),
        ];
        for (list, read) in lists {
            for (domain, hint) in
                [("*.corp.example", "write corp.example"), ("*", "write"), ("a.*.example", "each that is meant"), ("", "root")]
            {
                let problem = parse::<super::super::own::File>(&format!("{list}[{domain:?}]\n")).unwrap_err();
                assert!(problem.message.contains(hint) && problem.place.is_some(), "{list} {domain}: {problem}");
            }
            let names = read(parse(&format!("{list}[\"münchen.example\", \".\"]\n")).unwrap());
            assert_eq!(names.iter().map(ToString::to_string).collect::<Vec<_>>(), ["xn--mnchen-3ya.example.", "."], "{list}");
        }
        let file: super::super::own::File =
            parse("[[record]]\nname = \"é.example\"\ntype = \"A\"\nvalue = \"192.0.2.1\"\n").unwrap();
        assert_eq!(file.record[0].name.to_string(), "xn--9ca.example.");
    }

    #[test]
    fn amounts_may_have_units_and_what_is_wrong_is_told_with_them() {
        let read = |text: &str| parse::<super::super::own::File>(text);
        let file = read("[forward.cache]\nsize = \"64MB\"\nmin_ttl = \"5m\"\nmax_ttl = 3600\n").unwrap();
        let cache = file.forward.cache;
        assert_eq!((cache.size, cache.min_ttl, cache.max_ttl), (64 << 20, 300, 3600));
        for (text, octets) in [("7", 7), ("\"7\"", 7), ("\"1 GiB\"", 1 << 30), ("\"512kB\"", 512 << 10)] {
            assert_eq!(read(&format!("[forward.cache]\nsize = {text}\n")).unwrap().forward.cache.size, octets, "{text}");
        }
        for (text, told) in [
            ("[forward.cache]\nsize = \"much\"", "expected octets, such as 33554432 or \"32MB\"; got \"much\""),
            ("[forward.cache]\nsize = \"99999999999GB\"", "expected octets"),
            ("[forward.cache]\nsize = -1", "expected octets"),
            ("[forward.cache]\nmin_ttl = \"0.5s\"", "expected seconds, such as 300 or \"5m\"; got \"0.5s\""),
            ("[forward.cache]\nmax_ttl = 5000000000", "expected seconds"),
            ("local_ttl = true", "expected seconds"),
            ("[clients]\nrate = 0", "expected a number of at least 1; got 0"),
            ("[forward]\nrandom_case = \"no\"", "expected true or false; got \"no\""),
            ("hosts = 7", "expected a list; got 7"),
            ("[[view]]\nname = \"x\"", "expected the key `clients`, got none"),
            ("[log]\nlevel = \"verbose\"", "expected one of error, warn, info, debug, trace, off, got \"verbose\""),
            ("[[forward.route]]\nupstreams = []\ndomains = [\"10.0.0.1/8\"]", "write \"10.0.0.0/8\" or \"10.0.0.1\""),
        ] {
            let problem = read(text).unwrap_err();
            assert!(problem.message.contains(told) && problem.place.is_some(), "{text}: {problem}");
        }
        let file = read("[[forward.route]]\nupstreams = []\ndomains = [\"10.0.0.0/8\", \"172.16.0.0/12\", \"corp.example\"]\n")
            .unwrap();
        let domains: Vec<String> = file.forward.route[0].domains.iter().map(ToString::to_string).collect();
        assert_eq!(
            (domains.len(), &*domains[0], &*domains[1], &*domains[17]),
            (18, "10.in-addr.arpa.", "16.172.in-addr.arpa.", "corp.example.")
        );
    }

    #[test]
    fn errors_point_at_the_value() {
        let problem = parse::<Sample>("# a\nlisten = [\"nowhere\"]\n").unwrap_err();
        assert_eq!(problem.place.as_ref().map(|place| (place.line, place.width)), Some((2, 9)), "{problem}");
        let problem = parse::<Sample>("lisen = []\n").unwrap_err();
        assert_eq!(problem.hint.as_deref(), Some("did you mean `listen`?"), "{problem}");
    }
}
