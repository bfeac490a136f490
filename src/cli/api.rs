//! A client of the HTTP API, for the commands that ask a running server (rollcall's own or Consul's).

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::output::printable;
use crate::dns::Name;
use crate::tls;

/// The address that is asked when none is given.
const ADDRESS_DEFAULT: &str = "127.0.0.1:8500";
/// A server on the same machine answers in milliseconds; one that is far away in seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Everything but the unreserved characters of RFC 3986, 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How an answer of the server is shown, and which one is asked.
#[derive(Debug, Args)]
pub(super) struct ShownArgs {
    /// Print JSON, as the HTTP API gives it
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) api: ApiArgs,
}

/// Which server is asked, and how it knows us.
#[derive(Debug, Args)]
#[command(next_help_heading = "HTTP API")]
pub(super) struct ApiArgs {
    /// Ask the server at this address [default: $ROLLCALL_HTTP_ADDR, $CONSUL_HTTP_ADDR, 127.0.0.1:8500]
    #[arg(long, value_name = "ADDR:PORT")]
    http_addr: Option<String>,
    /// Send this token [default: $CONSUL_HTTP_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Send the token that this file holds [default: $CONSUL_HTTP_TOKEN_FILE]
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// Ask about this datacenter
    #[arg(long, value_name = "DC")]
    datacenter: Option<String>,
    /// Accept an answer that may be stale
    #[arg(long)]
    stale: bool,
}

/// Why the server gave no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{address} is no address of an HTTP API: {reason}")]
    Address { address: String, reason: &'static str },
    #[error("cannot read the token from {}", path.display())]
    TokenFile { path: PathBuf, source: io::Error },
    #[error("the token holds characters that no header may hold")]
    Token,
    #[error("cannot prepare a connection")]
    Client(#[source] reqwest::Error),
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error("cannot reach the HTTP API at {address}: {reason}")]
    Connect { address: String, reason: String },
    #[error("{address} gave no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Slow { address: String },
    #[error("{method} {path}: {address} answered {status}: {text}")]
    Refused { address: String, method: Method, path: String, status: StatusCode, text: String },
    #[error("GET {path}: expected {expected} from {address}, got something else")]
    Answer { address: String, path: String, expected: &'static str },
}

impl Error {
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::Address { .. } => Some("write ADDRESS:PORT, http://ADDRESS:PORT or https://NAME:PORT".to_owned()),
            Self::Connect { .. } => Some(
                "is `rollcall serve` running there? Name another address with --http-addr or ROLLCALL_HTTP_ADDR".to_owned(),
            ),
            Self::Slow { .. } => Some("is that the HTTP API, and is the machine under load?".to_owned()),
            Self::Refused { status, .. } if *status == StatusCode::FORBIDDEN || *status == StatusCode::UNAUTHORIZED => {
                Some("give a token with --token, --token-file or CONSUL_HTTP_TOKEN".to_owned())
            }
            Self::Refused { status, .. } if *status == StatusCode::NOT_FOUND => {
                Some("is the address that of a rollcall or Consul HTTP API?".to_owned())
            }
            Self::Answer { .. } => Some("is the address that of a rollcall or Consul HTTP API?".to_owned()),
            Self::TokenFile { .. } | Self::Token | Self::Client(_) | Self::Runtime(_) | Self::Refused { .. } => None,
        }
    }

    pub(super) fn is_usage(&self) -> bool {
        matches!(self, Self::Address { .. } | Self::TokenFile { .. } | Self::Token)
    }

    /// A request that the server understood and did not grant; the next one may fare better.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

/// A server's HTTP API.
pub(super) struct Api {
    /// `http://ADDRESS:PORT`, without a slash at its end.
    base: String,
    token: Option<HeaderValue>,
    common: Vec<(&'static str, String)>,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Api {
    pub(super) fn new(args: ApiArgs) -> Result<Self, Error> {
        let address = args.http_addr.or_else(|| variable("ROLLCALL_HTTP_ADDR")).or_else(|| variable("CONSUL_HTTP_ADDR"));
        let base = base(address.as_deref().unwrap_or(ADDRESS_DEFAULT))?;
        let token_file = args.token_file.or_else(|| variable("CONSUL_HTTP_TOKEN_FILE").map(PathBuf::from));
        let token = match (args.token, token_file) {
            (Some(token), _) => Some(token),
            (None, Some(path)) => match std::fs::read_to_string(&path) {
                Ok(token) => Some(token.trim().to_owned()),
                Err(source) => return Err(Error::TokenFile { path, source }),
            },
            (None, None) => variable("CONSUL_HTTP_TOKEN"),
        };
        let token = token.filter(|token| !token.is_empty()).map(|token| HeaderValue::try_from(token).map_err(|_| Error::Token));
        let mut common = Vec::new();
        common.extend(args.datacenter.map(|datacenter| ("dc", datacenter)));
        common.extend(args.stale.then(|| ("stale", String::new())));
        let mut builder = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT_TIMEOUT).timeout(ANSWER_TIMEOUT);
        tls::provider();
        if !base.starts_with("https://") {
            // Without TLS the certificates of the system are not wanted, and a small machine may have none.
            builder = builder.tls_certs_only([]);
        }
        Ok(Self {
            base,
            token: token.transpose()?,
            common,
            client: builder.build().map_err(Error::Client)?,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?,
        })
    }

    /// Asks for JSON; `query` comes on top of what every request carries.
    pub(super) fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Error> {
        let bytes = self.request(Method::GET, path, query, None)?;
        serde_json::from_slice(&bytes).map_err(|_| self.unexpected(path, "JSON"))
    }

    pub(super) fn put(&self, path: &str, body: Option<&Value>) -> Result<(), Error> {
        self.request(Method::PUT, path, &[], body).map(|_| ())
    }

    /// Has something done, and asks for JSON on what came of it.
    pub(super) fn order(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Error> {
        let bytes = self.request(Method::PUT, path, query, None)?;
        serde_json::from_slice(&bytes).map_err(|_| self.unexpected(path, "JSON"))
    }

    /// The complaint that the answer to GET `path` is not `expected`.
    pub(super) fn unexpected(&self, path: &str, expected: &'static str) -> Error {
        Error::Answer { address: self.address(), path: path.to_owned(), expected }
    }

    fn request(&self, method: Method, path: &str, query: &[(&str, &str)], body: Option<&Value>) -> Result<Vec<u8>, Error> {
        let mut url = format!("{}{path}", self.base);
        let common = self.common.iter().map(|(name, value)| (*name, value.as_str()));
        for (place, (name, value)) in common.chain(query.iter().copied()).enumerate() {
            url.push(if place == 0 { '?' } else { '&' });
            url.push_str(name);
            if !value.is_empty() {
                url.push('=');
                url.push_str(&escape(value));
            }
        }
        let mut request = self.client.request(method.clone(), url);
        if let Some(token) = &self.token {
            request = request.header("X-Consul-Token", token.clone());
        }
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let failed = |error: reqwest::Error| {
            let address = self.address();
            if error.is_timeout() && !error.is_connect() {
                Error::Slow { address }
            } else {
                Error::Connect { address, reason: root(&error) }
            }
        };
        self.runtime.block_on(async {
            let response = request.send().await.map_err(failed)?;
            let status = response.status();
            let bytes = response.bytes().await.map_err(failed)?;
            if status.is_success() {
                return Ok(bytes.to_vec());
            }
            let text = printable(String::from_utf8_lossy(&bytes).trim());
            Err(Error::Refused { address: self.address(), method, path: path.to_owned(), status, text })
        })
    }

    fn address(&self) -> String {
        self.base.strip_prefix("http://").unwrap_or(&self.base).to_owned()
    }
}

/// A name as one segment of a path.
pub(super) fn escape(segment: &str) -> String {
    utf8_percent_encode(segment, RESERVED).to_string()
}

/// A name as the last segment of a path; the root is none, since a path loses a dot there (RFC 3986, 5.2.4).
pub(super) fn escape_name(name: &Name) -> String {
    if name.is_root() { String::new() } else { escape(&name.to_string()) }
}

/// An environment variable that is set to something.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The innermost cause: what the layers above say of it is only that they were on the way.
fn root(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

fn base(address: &str) -> Result<String, Error> {
    let complaint = |reason| Error::Address { address: address.to_owned(), reason };
    let (scheme, rest) = address.split_once("://").unwrap_or(("http", address));
    if scheme == "unix" {
        return Err(complaint("sockets of the file system are not spoken to"));
    }
    if scheme != "http" && scheme != "https" {
        return Err(complaint("expected http or https before ://"));
    }
    let rest = rest.trim_end_matches('/');
    if rest.is_empty() || rest.contains(char::is_whitespace) {
        return Err(complaint("expected an address"));
    }
    // `:8500` is this machine, as it is where a server listens; a bare address has the port of the API.
    let rest = if rest.starts_with(':') && !rest.starts_with("::") { format!("127.0.0.1{rest}") } else { rest.to_owned() };
    let has_port = rest.rsplit_once(':').is_some_and(|(before, _)| !before.contains(':') || before.ends_with(']'));
    let rest = match (has_port, rest.parse::<std::net::Ipv6Addr>()) {
        (_, Ok(address)) => format!("[{address}]:8500"),
        (false, _) if scheme == "http" && !rest.contains('/') => format!("{rest}:8500"),
        _ => rest,
    };
    Ok(format!("{scheme}://{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_all_their_forms() {
        for (written, meant) in [
            ("127.0.0.1:8500", "http://127.0.0.1:8500"),
            ("http://127.0.0.1:8500/", "http://127.0.0.1:8500"),
            ("https://consul.example:8501", "https://consul.example:8501"),
            ("10.0.0.1", "http://10.0.0.1:8500"),
            (":18500", "http://127.0.0.1:18500"),
            ("::1", "http://[::1]:8500"),
            ("[::1]:8501", "http://[::1]:8501"),
        ] {
            assert_eq!(base(written).unwrap(), meant);
        }
        for wrong in ["", "ftp://x", "unix:///run/consul.sock", "a b"] {
            assert!(base(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_one_segment() {
        assert_eq!(escape("a/b c?d"), "a%2Fb%20c%3Fd");
        assert_eq!(escape("web-1_x.y~"), "web-1_x.y~");
    }
}
