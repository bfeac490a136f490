//! Reading a TOML file: every error with its line, and a hint where one can be had.

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::problem::{Place, Problem, nearest};

/// Reads `path` as a `T`.
pub(super) fn load<T: DeserializeOwned>(path: &Path) -> Result<T, Problem> {
    let text = fs::read_to_string(path).map_err(|error| {
        let problem = Problem::new(format!("cannot read the configuration: {error}")).in_file(path);
        problem.hint("give another file with --config; `rollcall serve` needs none")
    })?;
    parse(&text).map_err(|problem| problem.in_file(path))
}

/// Reads a text as a `T`.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let message = error.message().to_owned();
        let mut problem = Problem::new(message.clone());
        if let Some(span) = error.span() {
            problem = problem.at(Place::of(text, span));
        }
        match hint(&message) {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    })
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
    fn errors_point_at_the_value() {
        let problem = parse::<Sample>("# a\nlisten = [\"nowhere\"]\n").unwrap_err();
        assert_eq!(problem.place.as_ref().map(|place| (place.line, place.width)), Some((2, 9)), "{problem}");
        let problem = parse::<Sample>("lisen = []\n").unwrap_err();
        assert_eq!(problem.hint.as_deref(), Some("did you mean `listen`?"), "{problem}");
    }
}
