//! Encrypted listeners: what the configuration says of them, and what clients of plain DNS are told of them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use super::certificate::{self, Certificates, Files};
use super::listen::ListenAddress;
use crate::dns::Name;
use crate::problem::Problem;

/// The `[dns.encrypted]` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// DNS over TLS (RFC 7858), most often on port 853.
    pub tls: Vec<ListenAddress>,
    /// DNS over HTTPS (RFC 8484) by TCP, and by QUIC as HTTP/3, most often on port 443.
    pub https: Vec<ListenAddress>,
    /// DNS over QUIC (RFC 9250), most often on port 853.
    pub quic: Vec<ListenAddress>,
    /// Where the certificate is, with those of its issuers behind it (PEM).
    pub certificate: Option<PathBuf>,
    /// Where its key is (PEM).
    pub key: Option<PathBuf>,
    /// The path of HTTPS requests.
    pub path: String,
    /// The name in the certificate, by which clients of plain DNS are told of these listeners (RFC 9462).
    pub name: Option<Name>,
}

impl Default for Config {
    fn default() -> Self {
        let path = "/dns-query".to_owned();
        Self { tls: Vec::new(), https: Vec::new(), quic: Vec::new(), certificate: None, key: None, path, name: None }
    }
}

/// A way to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By UDP and TCP, as it is.
    Plain,
    Tls,
    Https,
    Quic,
}

impl Way {
    pub(super) fn has_tcp(self) -> bool {
        self != Self::Quic
    }

    /// HTTP/3 is by QUIC.
    pub(super) fn has_udp(self) -> bool {
        self != Self::Tls
    }

    /// Can they not have the same address?
    pub(super) fn shares_with(self, other: Self) -> bool {
        self.has_udp() && other.has_udp() || self.has_tcp() && other.has_tcp()
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Plain => "dns",
            Self::Tls => "tls",
            Self::Https => "https",
            Self::Quic => "quic",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Config {
    /// All addresses, and what is spoken there.
    pub fn addresses(&self) -> impl Iterator<Item = (Way, &ListenAddress)> {
        let all = [(Way::Tls, &self.tls), (Way::Https, &self.https), (Way::Quic, &self.quic)];
        all.into_iter().flat_map(|(way, addresses)| addresses.iter().map(move |address| (way, address)))
    }

    /// Reads the certificate.
    pub(super) fn open(&self) -> Result<Arc<Certificates>, Problem> {
        Certificates::open(self.files()?)
    }

    /// Looks at all of it, the certificate too; warnings if it will do.
    pub fn check(&self) -> Result<Vec<Problem>, Vec<Problem>> {
        let mut problems = Vec::new();
        if self.addresses().next().is_none() {
            let problem = Problem::new("[dns.encrypted]: expected addresses to listen on, got none");
            problems.push(problem.hint("write tls = [\"127.0.0.1:853\"], or https, or quic; or take the section out"));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~!$&'()*+,;=:@".contains(c);
        if !self.path.starts_with('/') || !self.path.chars().all(plain) {
            let problem = Problem::new(format!("[dns.encrypted]: expected a path such as \"/dns-query\", got {:?}", self.path));
            problems.push(problem.hint("it is what follows the server's name in a URL, without a query"));
        }
        let read = self.files().and_then(|files| certificate::read(&files));
        match read {
            Ok((_, warnings)) if problems.is_empty() => return Ok(warnings),
            Ok(_) => {}
            Err(problem) => problems.push(problem),
        }
        Err(problems)
    }

    fn files(&self) -> Result<Files, Problem> {
        let missing = |key: &str, hint: &str| Problem::new(format!("[dns.encrypted]: expected `{key}`, got none")).hint(hint);
        let certificate = self.certificate.clone().ok_or_else(|| missing("certificate", "the path of a PEM file"))?;
        let key = self.key.clone().ok_or_else(|| missing("key", "the path of the PEM file that has the certificate's key"))?;
        let name = self.name.as_ref().map(|name| name.to_string().trim_end_matches('.').to_owned());
        Ok(Files { certificate, key, name })
    }

    /// The SVCB records of `_dns.resolver.arpa` that lead to the listeners at these addresses (RFC 9462, 4; RFC 9461), as a
    /// master file has their data.
    pub(super) fn designations(&self, addresses: &[(Way, SocketAddr)]) -> Vec<String> {
        let Some(name) = &self.name else { return Vec::new() };
        // An address of one link says nothing to whoever reads it elsewhere.
        let is_anywhere = |ip: IpAddr| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let encrypted = addresses.iter().filter(|(way, address)| *way != Way::Plain && is_anywhere(address.ip()));
        let designation = |(priority, (way, address)): (usize, &(Way, SocketAddr))| {
            let (protocols, path) = match way {
                Way::Plain => ("", String::new()),
                Way::Tls => ("dot", String::new()),
                // Its number comes last, and so does it.
                Way::Https => ("h2,h3", format!(" key7={}{{?dns}}", self.path)),
                Way::Quic => ("doq", String::new()),
            };
            let hint = match address {
                // Wherever the client found us is an address of ours; we do not know which.
                address if address.ip().is_unspecified() => String::new(),
                SocketAddr::V4(v4) => format!(" ipv4hint={}", v4.ip()),
                SocketAddr::V6(v6) => format!(" ipv6hint={}", v6.ip()),
            };
            format!("{priority} {name} alpn={protocols} port={}{hint}{path}", address.port())
        };
        (1..).zip(encrypted).map(designation).collect()
    }
}

/// Takes the certificate again, which may be in other files now; what is wrong with it is told.
pub(super) fn renew(certificates: &Certificates, config: &Config) {
    match config.files() {
        Ok(files) => certificates.renew(files),
        Err(problem) => tracing::error!("{problem}; the certificate in force stays"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn designations_lead_to_every_listener() {
        let config = Config { name: Some("dns.test".parse().unwrap()), ..Config::default() };
        let addresses = [
            (Way::Plain, "192.0.2.1:53"),
            (Way::Tls, "192.0.2.1:853"),
            (Way::Tls, "[fe80::1%2]:853"),
            (Way::Tls, "[::]:853"),
            (Way::Https, "[2001:db8::1]:443"),
            (Way::Quic, "192.0.2.1:853"),
        ];
        let addresses = addresses.map(|(way, text)| (way, text.parse().unwrap()));
        let expected = [
            "1 dns.test. alpn=dot port=853 ipv4hint=192.0.2.1",
            "2 dns.test. alpn=dot port=853",
            "3 dns.test. alpn=h2,h3 port=443 ipv6hint=2001:db8::1 key7=/dns-query{?dns}",
            "4 dns.test. alpn=doq port=853 ipv4hint=192.0.2.1",
        ];
        assert_eq!(config.designations(&addresses), expected);
        assert!(Config { name: None, ..config }.designations(&addresses).is_empty());
    }

    #[test]
    fn a_section_that_cannot_be_obeyed_is_told() {
        let config = Config { path: "dns query".into(), ..Config::default() };
        let told: Vec<String> = config.check().unwrap_err().iter().map(ToString::to_string).collect();
        for (told, words) in told.iter().zip(["expected addresses", "expected a path", "expected `certificate`"]) {
            assert!(told.contains(words), "{told}");
        }
        assert_eq!(told.len(), 3);
    }
}
