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
        let problem = Problem::new(expected_and_got(message, text.get(span.clone()).unwrap_or_default()));
        let problem = problem.at(Place::of(text, span));
        problem.hint(hint(message).unwrap_or_else(|| "see the commented sample, zones/rollcall.toml".into()))
    })
}

/// The parser's words, with what stands at the place where they do not say it.
fn expected_and_got(message: &str, there: &str) -> String {
    /// Characters of what came that are shown.
    const SHOWN: usize = 40;
    let message = match message.strip_prefix("unknown field ") {
        Some(rest) => format!("expected a known key, got {rest}"),
        // What the standard library says of an address.
        None if message == "invalid socket address syntax" => "expected ADDRESS:PORT".to_owned(),
        None if message.contains("expected") => message.to_owned(),
        None => format!("expected another value: {message}"),
    };
    if message.contains("got ") {
        return message;
    }
    let first = there.lines().next().unwrap_or_default().trim();
    let came: String = first.chars().take(SHOWN).collect();
    if came.is_empty() { format!("{message}; got the end of the line") } else { format!("{message}; got {came}") }
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
    fn errors_point_at_the_value() {
        let problem = parse::<Sample>("# a\nlisten = [\"nowhere\"]\n").unwrap_err();
        assert_eq!(problem.place.as_ref().map(|place| (place.line, place.width)), Some((2, 9)), "{problem}");
        let problem = parse::<Sample>("lisen = []\n").unwrap_err();
        assert_eq!(problem.hint.as_deref(), Some("did you mean `listen`?"), "{problem}");
    }
}
