//! How an upstream is written.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::Deserialize;

use crate::resolve::answer::Transport;

/// The port of DNS.
const PORT: u16 = 53;

/// One upstream: `9.9.9.9`, `9.9.9.9:5353`, `[2620:fe::fe]:53`, `udp://…`, `tcp://…`, or a host name in place of the
/// address.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Upstream {
    pub host: Host,
    pub port: u16,
    /// With TCP it is never asked over UDP.
    pub transport: Transport,
}

/// Where an upstream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    Address(IpAddr),
    /// Looked up when the server starts and at each reload.
    Name(String),
}

impl From<SocketAddr> for Upstream {
    fn from(address: SocketAddr) -> Self {
        Self { host: Host::Address(address.ip()), port: address.port(), transport: Transport::Udp }
    }
}

impl FromStr for Upstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("expected an upstream such as 9.9.9.9, 9.9.9.9:53, [2620:fe::fe]:53 or tcp://9.9.9.9, got {text:?}");
        let (transport, rest) = match text.split_once("://") {
            None => (Transport::Udp, text),
            Some(("udp", rest)) => (Transport::Udp, rest),
            Some(("tcp", rest)) => (Transport::Tcp, rest),
            Some((scheme @ ("tls" | "https" | "quic" | "h3"), _)) => {
                return Err(format!("expected udp:// or tcp://, got {scheme}://, which is not spoken yet"));
            }
            Some(_) => return Err(wrong()),
        };
        if let Ok(address) = rest.parse::<SocketAddr>() {
            return Ok(Self { transport, ..address.into() });
        }
        let bare = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(rest);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self { host: Host::Address(address), port: PORT, transport });
        }
        let (name, port) = match rest.rsplit_once(':') {
            Some((name, port)) => (name, port.parse().map_err(|_| wrong())?),
            None => (rest, PORT),
        };
        let is_name = |name: &str| {
            let labels = || name.trim_end_matches('.').split('.');
            let fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            // A last label of digits alone is an address that was written wrong.
            labels().all(|label| !label.is_empty() && label.chars().all(fine))
                && labels().next_back().is_some_and(|last| last.chars().any(|c| c.is_ascii_alphabetic()))
        };
        if is_name(name) { Ok(Self { host: Host::Name(name.to_owned()), port, transport }) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for Upstream {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.transport == Transport::Tcp { "tcp://" } else { "" };
        match &self.host {
            Host::Address(address) => write!(f, "{scheme}{}", SocketAddr::new(*address, self.port)),
            Host::Name(name) => write!(f, "{scheme}{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_written_in_many_ways() {
        for (text, shown) in [
            ("9.9.9.9", "9.9.9.9:53"),
            ("9.9.9.9:5353", "9.9.9.9:5353"),
            ("::1", "[::1]:53"),
            ("[::1]", "[::1]:53"),
            ("[::1]:54", "[::1]:54"),
            ("udp://1.1.1.1", "1.1.1.1:53"),
            ("tcp://1.1.1.1", "tcp://1.1.1.1:53"),
            ("dns.example:99", "dns.example:99"),
        ] {
            assert_eq!(text.parse::<Upstream>().map(|upstream| upstream.to_string()), Ok(shown.to_owned()));
        }
        for text in ["", "1.2.3.4::53", "1.2.3", "300.1.1.1", "http://x", "a b", "x:99999", "tls://1.1.1.1"] {
            let error = text.parse::<Upstream>().unwrap_err();
            assert!(error.contains("expected") && error.contains("got"), "{text}: {error}");
        }
    }
}
