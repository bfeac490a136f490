//! What a client asked: path, parameters, body, and the [`Options`] that most endpoints share.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method};

use super::{Refusal, go};
use crate::duration;
use crate::limits;

/// One request, its path and parameters decoded.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    /// What the path says after the route's own part: a name, an id, a key.
    pub(super) rest: String,
    pub(super) parameters: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Request {
    /// Whether a parameter is there, with or without a value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.parameters.iter().any(|(key, _)| key == name)
    }

    /// A parameter's first value, when it has one that is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let first = self.parameters.iter().find(|(key, _)| key == name);
        first.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.parameters.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The namespaces and partitions of other editions are not here.
    pub(super) fn refuse_partitions(&self) -> Result<(), Refusal> {
        let editions = [("X-Consul-Namespace", "ns", "Namespaces are"), ("X-Consul-Partition", "partition", "Partitions are")];
        for (header, parameter, what) in editions {
            if self.headers.get(header).is_some_and(|value| !value.is_empty()) {
                return Err(Refusal::bad(format!("Invalid header: {header:?} - {what} a Consul Enterprise feature")));
            }
            if self.get(parameter).is_some() {
                let text = format!("Invalid query parameter: {parameter:?} - {what} a Consul Enterprise feature");
                return Err(Refusal::bad(text));
            }
        }
        Ok(())
    }
}

/// Decodes a query string; `None` when an escape in it is broken.
pub(super) fn parameters(query: &str) -> Option<Vec<(String, String)>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |text: &str| unescape(&text.replace('+', " "));
        (!pair.contains(';')).then_some(())?;
        Some((plain(key)?, plain(value)?))
    };
    pairs.map(pair).collect()
}

/// Undoes percent-encoding; `None` when it is broken. What is not UTF-8 becomes U+FFFD.
pub(super) fn unescape(text: &str) -> Option<String> {
    let broken = |at: usize| !matches!(text.as_bytes().get(at + 1..at + 3), Some([a, b]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    if text.bytes().enumerate().any(|(at, b)| b == b'%' && broken(at)) {
        return None;
    }
    Some(percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned())
}

/// How fresh an answer must be. One server holds all, so the three are equal, and only the header tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consistency {
    Leader,
    Stale,
    Consistent,
}

impl Consistency {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Consistency::Leader => "leader",
            Consistency::Stale => "stale",
            Consistency::Consistent => "consistent",
        }
    }
}

/// The parameters that reads have in common.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) datacenter: Option<String>,
    /// Wait until something is newer than this; 0 never waits.
    pub(super) index: u64,
    pub(super) wait: Duration,
    pub(super) consistency: Consistency,
    pub(super) cached: bool,
    pub(super) near: Option<String>,
    pub(super) node_meta: Vec<(String, String)>,
    pub(super) tags: Vec<String>,
}

impl Options {
    pub(super) fn parse(request: &Request) -> Result<Options, Refusal> {
        request.refuse_partitions()?;
        let (mut stale, consistent, cached) = (request.has("stale"), request.has("consistent"), request.has("cached"));
        if let Some(age) = request.get("max_stale") {
            let age = duration::parse_nanoseconds(age).map_err(|_| Refusal::bad(format!("Invalid max_stale value {age:?}")))?;
            stale |= age > 0;
        }
        if stale && consistent {
            return Err(Refusal::bad("Cannot specify ?stale with ?consistent, conflicting semantics."));
        }
        if cached && consistent {
            return Err(Refusal::bad("Cannot specify ?cached with ?consistent, conflicting semantics."));
        }
        refuse_cache_control(request)?;
        let wait = match request.get("wait") {
            Some(wait) => duration::parse_nanoseconds(wait).map_err(|_| Refusal::bad("Invalid wait time"))?,
            None => 0,
        };
        let index = match request.get("index") {
            Some(index) => go::parse_uint(index).map_err(|_| Refusal::bad("Invalid index"))?,
            None => 0,
        };
        let node_meta = request.all("node-meta").map(|pair| {
            let (key, value) = pair.split_once(':').unwrap_or((pair, ""));
            (key.to_owned(), value.to_owned())
        });
        Ok(Options {
            datacenter: request.get("dc").map(str::to_owned),
            index,
            wait: match u64::try_from(wait) {
                Ok(0) | Err(_) => Duration::from_secs(limits::BLOCKING_SECONDS_DEFAULT),
                Ok(nanoseconds) => Duration::from_nanos(nanoseconds).min(Duration::from_secs(limits::BLOCKING_SECONDS_MAX)),
            },
            consistency: match (stale, consistent) {
                (true, _) => Consistency::Stale,
                (_, true) => Consistency::Consistent,
                _ => Consistency::Leader,
            },
            cached,
            near: request.get("near").map(str::to_owned),
            node_meta: node_meta.collect(),
            tags: request.all("tag").map(str::to_lowercase).collect(),
        })
    }
}

/// What we hold is always fresh, so `Cache-Control` changes nothing; but its numbers must be numbers.
fn refuse_cache_control(request: &Request) -> Result<(), Refusal> {
    let Some(value) = request.headers.get("cache-control").and_then(|value| value.to_str().ok()) else { return Ok(()) };
    for directive in value.split(',') {
        let directive = directive.trim().to_ascii_lowercase();
        let seconds = directive.strip_prefix("max-age=").or_else(|| directive.strip_prefix("stale-if-error="));
        if seconds.is_some_and(|seconds| seconds.parse::<i64>().is_err()) {
            return Err(Refusal::bad("Invalid Cache-Control header."));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(query: &str) -> Result<Options, Refusal> {
        Options::parse(&Request {
            method: Method::GET,
            rest: String::new(),
            parameters: parameters(query).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        })
    }

    #[test]
    fn waits_are_bounded_and_have_a_default() {
        assert_eq!(options("wait=1s").unwrap().wait, Duration::from_secs(1));
        assert_eq!(options("wait=-1s").unwrap().wait, Duration::from_secs(300));
        assert_eq!(options("").unwrap().wait, Duration::from_secs(300));
        assert_eq!(options("wait=24h").unwrap().wait, Duration::from_secs(600));
        assert_eq!(options("wait=10").unwrap_err().text, "Invalid wait time");
        assert_eq!(options("index=-1").unwrap_err().text, "Invalid index");
    }

    #[test]
    fn conflicting_wishes_are_refused() {
        assert!(options("stale&consistent").is_err());
        assert!(options("cached&consistent").is_err());
        assert_eq!(options("max_stale=5s").unwrap().consistency, Consistency::Stale);
        assert!(options("ns=x").unwrap_err().text.contains("Namespaces"));
    }

    #[test]
    fn only_the_first_colon_splits_node_meta() {
        assert_eq!(options("node-meta=a:b:c").unwrap().node_meta, [("a".to_owned(), "b:c".to_owned())]);
        assert_eq!(options("node-meta=a").unwrap().node_meta, [("a".to_owned(), String::new())]);
    }

    #[test]
    fn broken_escapes_are_seen() {
        assert_eq!(parameters("%zz"), None);
        assert_eq!(parameters("a=%4"), None);
        assert_eq!(parameters("a=b+c%20d&e").unwrap(), [("a".into(), "b c d".into()), ("e".into(), String::new())]);
    }
}
