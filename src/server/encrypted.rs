//! Encrypted listeners: what the configuration says of them, and how they are bound and begin.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::{fmt, io};

use hyper::header::HeaderValue;
use quinn::Endpoint;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio_rustls::TlsAcceptor;

use super::bind::{self, BindError};
use super::certificate::{self, Certificates, Files};
use super::https::Doh;
use super::quic;
use super::tcp::{self, Protocol, Reception};
use crate::dns::Name;
use crate::problem::Problem;

/// The `[dns.encrypted]` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// DNS over TLS (RFC 7858), most often on port 853.
    pub tls: Vec<SocketAddr>,
    /// DNS over HTTPS (RFC 8484) by TCP, and by QUIC as HTTP/3, most often on port 443.
    pub https: Vec<SocketAddr>,
    /// DNS over QUIC (RFC 9250), most often on port 853.
    pub quic: Vec<SocketAddr>,
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
    Tls,
    Https,
    Quic,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "tls",
            Self::Https => "https",
            Self::Quic => "quic",
        })
    }
}

impl Config {
    /// All addresses, and what is spoken there.
    pub fn addresses(&self) -> impl Iterator<Item = (Way, SocketAddr)> {
        let all = [(Way::Tls, &self.tls), (Way::Https, &self.https), (Way::Quic, &self.quic)];
        all.into_iter().flat_map(|(way, addresses)| addresses.iter().map(move |address| (way, *address)))
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

    /// The SVCB records of `_dns.resolver.arpa` that lead to these listeners (RFC 9462, 4; RFC 9461), as a master file has
    /// their data.
    pub fn designations(&self) -> Vec<String> {
        let Some(name) = &self.name else { return Vec::new() };
        let designation = |(priority, (way, address)): (usize, (Way, SocketAddr))| {
            let (protocols, path) = match way {
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
        (1..).zip(self.addresses()).map(designation).collect()
    }
}

/// The sockets of encrypted listeners, and the certificate that they show.
pub struct Encrypted {
    /// As it was written, with the ports that were chosen.
    pub config: Config,
    pub certificates: Arc<Certificates>,
    tls: Vec<TcpListener>,
    https: Vec<(TcpListener, UdpSocket)>,
    quic: Vec<UdpSocket>,
}

/// Why there are no encrypted listeners.
#[derive(Debug, thiserror::Error)]
pub enum EncryptedError {
    #[error(transparent)]
    Config(#[from] Problem),
    #[error(transparent)]
    Bind(#[from] BindError),
}

impl Encrypted {
    /// Reads the certificate and binds.
    pub fn bind(config: &Config) -> Result<Self, EncryptedError> {
        let certificates = Certificates::open(config.files()?)?;
        let mut bound = config.clone();
        let tls = bound.tls.iter_mut().map(bind::bind_stream).collect::<Result<_, _>>()?;
        let https = bound.https.iter_mut().map(bind::bind_https).collect::<Result<_, _>>()?;
        let quic = bound.quic.iter_mut().map(bind::bind_quic).collect::<Result<_, _>>()?;
        Ok(Self { config: bound, certificates, tls, https, quic })
    }

    /// Begins to answer; the endpoints of QUIC are to be closed at the end.
    pub(super) fn serve(self, reception: impl Fn(SocketAddr, &'static str) -> Arc<Reception>) -> io::Result<Vec<Endpoint>> {
        let runtime = Handle::current();
        let mut endpoints = Vec::new();
        let mut serve_quic = |socket: UdpSocket, tls, protocol| {
            let transport = if matches!(protocol, quic::Protocol::Dns) { "quic" } else { "h3" };
            let reception = reception(socket.local_addr()?, transport);
            let endpoint = quic::endpoint(socket, tls, &protocol)?;
            endpoints.push(endpoint.clone());
            runtime.spawn(quic::serve(endpoint, protocol, reception));
            io::Result::Ok(())
        };
        let config = |protocols: &[&[u8]]| self.certificates.server_config(protocols).map_err(io::Error::other);
        let tcp_listener = |listener| tokio::net::TcpListener::from_std(listener);
        if !self.tls.is_empty() {
            let acceptor = TlsAcceptor::from(Arc::new(config(&[b"dot"])?));
            for listener in self.tls {
                let reception = reception(listener.local_addr()?, "tls");
                runtime.spawn(tcp::serve(tcp_listener(listener)?, Protocol::Tls(acceptor.clone()), reception));
            }
        }
        if !self.https.is_empty() {
            let acceptor = TlsAcceptor::from(Arc::new(config(&[b"h2", b"http/1.1"])?));
            for (listener, socket) in self.https {
                let port = socket.local_addr()?.port();
                let doh = Arc::new(Doh {
                    path: self.config.path.clone(),
                    http3: HeaderValue::try_from(format!("h3=\":{port}\"")).map_err(io::Error::other)?,
                });
                let protocol = Protocol::Https(acceptor.clone(), doh.clone());
                let reception = reception(listener.local_addr()?, "https");
                runtime.spawn(tcp::serve(tcp_listener(listener)?, protocol, reception));
                serve_quic(socket, config(&[b"h3"])?, quic::Protocol::Http3(doh))?;
            }
        }
        for socket in self.quic {
            serve_quic(socket, config(&[b"doq"])?, quic::Protocol::Dns)?;
        }
        runtime.spawn(self.certificates.watch());
        Ok(endpoints)
    }
}

/// Takes the certificate again, which may be in other files now; what is wrong with it is told.
pub fn renew(certificates: &Certificates, config: &Config) {
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
        let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let config = Config {
            tls: vec![address("192.0.2.1:853"), address("[::]:853")],
            https: vec![address("[2001:db8::1]:443")],
            quic: vec![address("192.0.2.1:853")],
            name: Some("dns.test".parse().unwrap()),
            ..Config::default()
        };
        let expected = [
            "1 dns.test. alpn=dot port=853 ipv4hint=192.0.2.1",
            "2 dns.test. alpn=dot port=853",
            "3 dns.test. alpn=h2,h3 port=443 ipv6hint=2001:db8::1 key7=/dns-query{?dns}",
            "4 dns.test. alpn=doq port=853 ipv4hint=192.0.2.1",
        ];
        assert_eq!(config.designations(), expected);
        assert!(Config { name: None, ..config }.designations().is_empty());
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
