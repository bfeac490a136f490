//! How an upstream is written.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::path::PathBuf;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de::Error as _};

use crate::problem::Problem;

/// Where DNS over HTTPS is, unless the URL says so: what the public resolvers and most servers have.
const PATH: &str = "/dns-query";

/// One upstream: `9.9.9.9`, `9.9.9.9:5353`, `[2620:fe::fe]:53`, `fe80::1%eth0`, a host name in place of the address, and any of
/// them behind `udp://`, `tcp://`, `tls://`, `https://`, `h3://` or `quic://`. A `#` behind it gives the port as dnsmasq writes
/// it (`#853`), or the name that the certificate has to be for (`#dns.example`), as systemd-resolved does.
///
/// In TOML it may be a table too: `{ url = "tls://dns.example", addresses = ["192.0.2.1"] }`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upstream {
    pub protocol: Protocol,
    pub host: Host,
    pub port: u16,
    /// Of the URL; HTTP only.
    pub path: String,
    /// Where the host is; looked up when none is written.
    pub addresses: Vec<Address>,
    pub identity: Identity,
    /// What it says of signatures (AD) is believed although anybody on the way to it could say so.
    pub trust_ad: bool,
}

/// How an upstream is asked; always so, and never by a weaker protocol when that fails. UDP alone goes over to TCP, for
/// what does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    Udp,
    Tcp,
    /// RFC 7858.
    Tls,
    /// RFC 8484 over HTTP/2.
    Https,
    /// RFC 8484 over HTTP/3.
    H3,
    /// RFC 9250.
    Quic,
}

/// Where an upstream is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    Address(Address),
    /// Looked up when a connection is made; for UDP at the start, every minute, and when a look-up had no answer.
    Name(String),
}

/// The address of a server: `9.9.9.9`, `2620:fe::fe`, or `fe80::1%eth0`, which says nothing without its interface (RFC 4007,
/// 11).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    pub ip: IpAddr,
    /// By name or number; with link-local addresses of IPv6, and with no others.
    pub interface: Option<String>,
}

impl Address {
    /// Where its port is now.
    ///
    /// # Errors
    /// There is no such interface; it may come yet, and with another number.
    pub fn at(&self, port: u16) -> Result<SocketAddr, String> {
        let (IpAddr::V6(v6), Some(interface)) = (self.ip, &self.interface) else { return Ok(SocketAddr::new(self.ip, port)) };
        let index = || rustix::net::netdevice::name_to_index(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?, interface).ok();
        match interface.parse().ok().or_else(index) {
            Some(index) => Ok(SocketAddrV6::new(v6, port, 0, index).into()),
            None => Err(format!("expected the interface {interface} for {self}, and there is none now")),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        let interface = match address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => Some(v6.scope_id().to_string()),
            _ => None,
        };
        Self { ip: address.ip(), interface }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (ip, interface) = text.split_once('%').map_or((text, None), |(ip, interface)| (ip, Some(interface)));
        let ip: IpAddr = ip.parse().map_err(|_| format!("expected an address, got {text:?}"))?;
        let is_link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let fine = |name: &str| {
            (1..16).contains(&name.len())
                && name.bytes().all(|octet| octet.is_ascii_graphic() && !b"/%:[]#@\"\\".contains(&octet))
        };
        match interface {
            Some(interface) if is_link_local && fine(interface) => {}
            None if !is_link_local => {}
            _ => {
                return Err(format!(
                    "expected an address that holds on every link, or one with its interface such as fe80::1%eth0, got {text}"
                ));
            }
        }
        match ip {
            IpAddr::V4(v4) if v4.is_broadcast() => Err(format!("expected the address of one server, got {ip}")),
            _ if ip.is_multicast() => Err(format!("expected the address of one server, got {ip}")),
            _ => Ok(Self { ip, interface: interface.map(str::to_owned) }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ip)?;
        self.interface.iter().try_for_each(|interface| write!(f, "%{interface}"))
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// What a server has to prove before it is told a question. All that is written counts. A key that is pinned, with no
/// name and no authority beside it, is enough (RFC 7858, 4.2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The certificate is for this name, and not for the host of the URL.
    pub name: Option<String>,
    /// The certificate's own key is one of these.
    pub pins: Vec<Pin>,
    /// The certificate comes from an authority of this file (PEM), and not from one that the system trusts.
    pub ca: Option<PathBuf>,
}

/// The SHA-256 of a public key as certificates hold it (SubjectPublicKeyInfo), written `sha256/` and base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin(pub [u8; 32]);

impl Protocol {
    const ALL: [Self; 6] = [Self::Udp, Self::Tcp, Self::Tls, Self::Https, Self::H3, Self::Quic];

    pub fn scheme(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Https => "https",
            Self::H3 => "h3",
            Self::Quic => "quic",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 53,
            Self::Tls | Self::Quic => 853,
            Self::Https | Self::H3 => 443,
        }
    }

    pub fn is_encrypted(self) -> bool {
        !matches!(self, Self::Udp | Self::Tcp)
    }

    fn is_http(self) -> bool {
        matches!(self, Self::Https | Self::H3)
    }
}

impl From<SocketAddr> for Upstream {
    fn from(address: SocketAddr) -> Self {
        Self::plain(Protocol::Udp, Host::Address(address.into()), address.port())
    }
}

impl Upstream {
    fn plain(protocol: Protocol, host: Host, port: u16) -> Self {
        let path = if protocol.is_http() { PATH.to_owned() } else { String::new() };
        Self { protocol, host, port, path, addresses: Vec::new(), identity: Identity::default(), trust_ad: false }
    }

    /// Has it no connections, and a name alone, or an address on an interface that comes and goes? Then where it is has to be
    /// looked up again and again.
    pub fn is_to_be_found(&self) -> bool {
        let may_move = match &self.host {
            Host::Address(address) => address.interface.is_some(),
            Host::Name(_) => self.addresses.is_empty(),
        };
        self.protocol == Protocol::Udp && may_move || self.addresses.iter().any(|address| address.interface.is_some())
    }

    /// The name, or the address, that the certificate has to be for.
    pub fn server_name(&self) -> String {
        match (&self.identity.name, &self.host) {
            (Some(name), _) | (None, Host::Name(name)) => name.trim_end_matches('.').to_owned(),
            (None, Host::Address(address)) => address.ip.to_string(),
        }
    }

    /// What a URL has between `//` and the path, the port only where it is not that of the protocol.
    pub fn authority(&self) -> String {
        let name = self.server_name();
        let name = if name.contains(':') { format!("[{name}]") } else { name };
        if self.port == self.protocol.port() { name } else { format!("{name}:{}", self.port) }
    }

    /// Is a pinned key all that counts?
    pub fn is_pinned_only(&self) -> bool {
        let Identity { name, pins, ca } = &self.identity;
        !pins.is_empty() && name.is_none() && ca.is_none() && matches!(self.host, Host::Address(_))
    }
}

impl FromStr for Upstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "expected an upstream such as 9.9.9.9, 9.9.9.9:53, [2620:fe::fe]:53, tcp://9.9.9.9, tls://dns.example, \
                 https://dns.example/dns-query, h3://… or quic://…, got {text:?}"
            )
        };
        let (protocol, rest) = match text.split_once("://") {
            None => (Protocol::Udp, text),
            Some((scheme, rest)) => {
                let known = Protocol::ALL.into_iter().find(|protocol| protocol.scheme() == scheme);
                (known.ok_or_else(wrong)?, rest)
            }
        };
        let (rest, mark) = rest.split_once('#').map_or((rest, None), |(rest, mark)| (rest, Some(mark)));
        let (rest, path) = rest.find('/').map_or((rest, None), |at| (&rest[..at], Some(&rest[at..])));
        // A URI template names the parameter of GET (RFC 8484, 4.1); we post.
        let path =
            path.map(|path| path.strip_suffix("{?dns}").unwrap_or(path)).filter(|path| *path != "/" || protocol.is_http());
        // A URL writes the sign before the interface in a longer way (RFC 6874, 2).
        let longer =
            rest.split_once("%25").filter(|(_, after)| text.contains("://") && !after.is_empty() && !after.starts_with(']'));
        let rest = longer.map_or_else(|| rest.to_owned(), |(before, after)| format!("{before}%{after}"));
        let (host, port) = host_and_port(&rest).map_err(|error| error.unwrap_or_else(wrong))?;
        let mut upstream = Self::plain(protocol, host, port.unwrap_or(protocol.port()));
        match path {
            Some(_) if !protocol.is_http() => {
                return Err(format!("expected no path behind a server that speaks no HTTP, got {text:?}"));
            }
            Some(path) if !path.bytes().all(|octet| octet.is_ascii_graphic() && !b"{}\"<>\\^`|".contains(&octet)) => {
                return Err(wrong());
            }
            Some(path) => upstream.path = path.to_owned(),
            None => {}
        }
        match mark {
            Some(digits) if digits.bytes().all(|octet| octet.is_ascii_digit()) => {
                let fits = digits.parse().ok().filter(|_| port.is_none() && !protocol.is_http());
                upstream.port = fits.ok_or_else(wrong)?;
            }
            Some(name) => upstream = upstream.identified(|identity| identity.name = Some(name.to_owned()))?,
            None => {}
        }
        if upstream.port == 0 { Err(format!("expected a port from 1 to 65535, got {text:?}")) } else { Ok(upstream) }
    }
}

impl Upstream {
    fn identified(mut self, what: impl FnOnce(&mut Identity)) -> Result<Self, String> {
        what(&mut self.identity);
        if !self.protocol.is_encrypted() && self.identity != Identity::default() {
            return Err(format!("expected tls://, https://, h3:// or quic:// before a name, pin or ca, got {self}"));
        }
        match &self.identity.name {
            Some(name) if !is_name(name) => {
                Err(format!("expected the name of a certificate, such as dns.example, got {name:?}"))
            }
            _ => Ok(self),
        }
    }
}

/// An address or a name, with or without a port.
///
/// # Errors
/// What is wrong with what is an address.
fn host_and_port(text: &str) -> Result<(Host, Option<u16>), Option<String>> {
    let (bare, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((bare, "")) => (bare, None),
        Some((bare, port)) => (bare, Some(port.strip_prefix(':').ok_or(None)?)),
        None => match text.rsplit_once(':') {
            // Colons are of the address where there are several.
            Some((host, port)) if !host.contains(':') => (host, Some(port)),
            _ => (text, None),
        },
    };
    let port = port.map(|port| port.parse().map_err(|_| None)).transpose()?;
    let is_address = bare.split('%').next().is_some_and(|ip| ip.parse::<IpAddr>().is_ok());
    match is_address {
        true => Ok((Host::Address(bare.parse().map_err(Some)?), port)),
        false if is_name(bare) && !text.starts_with('[') => Ok((Host::Name(bare.to_owned()), port)),
        false => Err(None),
    }
}

fn is_name(name: &str) -> bool {
    let labels = || name.trim_end_matches('.').split('.');
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    // A last label of digits alone is an address that was written wrong.
    labels().all(|label| (1..64).contains(&label.len()) && label.chars().all(fine))
        && labels().next_back().is_some_and(|last| last.chars().any(|c| c.is_ascii_alphabetic()))
}

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let decode = |text: &str| STANDARD.decode(text).ok()?.try_into().ok();
        let rest = text.strip_prefix("sha256/");
        // curl writes two slashes, and base64 may begin with one.
        let pin = rest.and_then(|rest| decode(rest).or_else(|| decode(rest.strip_prefix('/')?)));
        pin.map(Self).ok_or_else(|| format!("expected sha256/ and 44 characters of base64, got {text:?}"))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256/{}", STANDARD.encode(self.0))
    }
}

impl Upstream {
    /// It is told that we would ask ourselves.
    pub(super) fn is_us(&self) -> Problem {
        let problem = Problem::new(format!("upstream {self} is this server itself; it is left out"));
        problem.hint("name the servers that know what this one does not")
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.protocol != Protocol::Udp {
            write!(f, "{}://", self.protocol.scheme())?;
        }
        match &self.host {
            // What would be read as the longer sign.
            Host::Address(Address { ip, interface: Some(interface) })
                if self.protocol != Protocol::Udp && interface.starts_with("25") && interface.len() > 2 =>
            {
                write!(f, "[{ip}%25{interface}]:{}", self.port)?;
            }
            Host::Address(address) if address.ip.is_ipv6() => write!(f, "[{address}]:{}", self.port)?,
            Host::Address(address) => write!(f, "{address}:{}", self.port)?,
            Host::Name(name) => write!(f, "{name}:{}", self.port)?,
        }
        f.write_str(&self.path)?;
        self.identity.name.iter().try_for_each(|name| write!(f, "#{name}"))
    }
}

impl<'de> Deserialize<'de> for Upstream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            url: String,
            #[serde(default)]
            addresses: Vec<Address>,
            name: Option<String>,
            #[serde(default)]
            pin: Vec<String>,
            ca: Option<PathBuf>,
            #[serde(default)]
            trust_ad: bool,
        }

        impl TryFrom<Table> for Upstream {
            type Error = String;

            fn try_from(Table { url, addresses, name, pin, ca, trust_ad }: Table) -> Result<Self, String> {
                let mut upstream: Self = url.parse()?;
                if !addresses.is_empty() && matches!(upstream.host, Host::Address(_)) {
                    return Err(format!("expected no addresses, or a host name in the url, got {url:?}"));
                }
                (upstream.addresses, upstream.trust_ad) = (addresses, trust_ad);
                let pins = pin.iter().map(|pin| pin.parse()).collect::<Result<Vec<Pin>, _>>()?;
                upstream.identified(|identity| {
                    identity.name = name.or(identity.name.take());
                    (identity.pins, identity.ca) = (pins, ca);
                })
            }
        }

        /// A text or a table; told apart by hand, so that an error says what is wrong in it.
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Upstream;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an upstream such as \"tls://dns.example\", or { url = \"tls://dns.example\", … }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Upstream, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Upstream, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map))?.try_into().map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(Either)
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
            ("9.9.9.9#5353", "9.9.9.9:5353"),
            ("::1", "[::1]:53"),
            ("[::1]", "[::1]:53"),
            ("fe80::1%eth0", "[fe80::1%eth0]:53"),
            ("fe80::1%eth0#5353", "[fe80::1%eth0]:5353"),
            ("[fe80::1%br-lan.7]:5353", "[fe80::1%br-lan.7]:5353"),
            ("udp://fe80::1%2", "[fe80::1%2]:53"),
            ("tls://[fe80::1%25eth0]#dns.example", "tls://[fe80::1%eth0]:853#dns.example"),
            ("tls://[fe80::1%25]", "tls://[fe80::1%25]:853"),
            ("tls://[fe80::1%2525a]", "tls://[fe80::1%2525a]:853"),
            ("udp://[fe80::1%2525a]", "[fe80::1%25a]:53"),
            ("[::1]:54", "[::1]:54"),
            ("udp://1.1.1.1", "1.1.1.1:53"),
            ("tcp://1.1.1.1", "tcp://1.1.1.1:53"),
            ("tcp://1.1.1.1/", "tcp://1.1.1.1:53"),
            ("dns.example:99", "dns.example:99"),
            ("tls://1.1.1.1", "tls://1.1.1.1:853"),
            ("tls://dns.example#8853", "tls://dns.example:8853"),
            ("tls://dns.example:8853", "tls://dns.example:8853"),
            ("tls://192.0.2.1#dns.example", "tls://192.0.2.1:853#dns.example"),
            ("tls://[::1]:99#dns.example", "tls://[::1]:99#dns.example"),
            ("quic://dns.example", "quic://dns.example:853"),
            ("https://dns.example", "https://dns.example:443/dns-query"),
            ("https://dns.example:8443/q/{?dns}", "https://dns.example:8443/q/"),
            ("https://192.0.2.1/q#dns.example", "https://192.0.2.1:443/q#dns.example"),
            ("h3://[2001:db8::1]/dns-query", "h3://[2001:db8::1]:443/dns-query"),
        ] {
            let upstream = text.parse::<Upstream>();
            assert_eq!(upstream.as_ref().map(ToString::to_string), Ok(shown.to_owned()), "{text}");
            assert_eq!(shown.parse(), upstream, "as it is shown it is the same");
        }
        for text in [
            "",
            "1.2.3.4::53",
            "1.2.3",
            "300.1.1.1",
            "http://x",
            "a b",
            "x:99999",
            "x#99999",
            "x:1#2",
            "9.9.9.9#dns.example",
            "tcp://9.9.9.9#dns.example",
            "tls://x/path",
            "tls://x#not a name",
            "https://x/a b",
            "https://user@x/",
            "https:///dns-query",
            // What is an address and no server's.
            "1.2.3.4:0",
            "1.2.3.4#0",
            "dns.example:0",
            "tls://1.2.3.4:0",
            "255.255.255.255",
            "224.0.0.251:5353",
            "ff02::fb",
            "fe80::1",
            "[fe80::1]:53",
            "fe80::1%",
            "2001:db8::1%eth0",
            "192.0.2.1%eth0",
            "fe80::1%a/b",
            "fe80::1%of-too-many-letters",
            "[dns.example]",
            "[::1]53",
        ] {
            let error = text.parse::<Upstream>().unwrap_err();
            assert!(error.contains("expected") && error.contains("got"), "{text}: {error}");
        }
    }

    #[test]
    fn whom_to_expect_is_written_beside_it() {
        #[derive(Debug, Deserialize)]
        struct File {
            upstreams: Vec<Upstream>,
        }
        let read = |text: &str| toml::from_str::<File>(&format!("upstreams = [{text}]")).map(|file| file.upstreams);
        let pin = "sha256/4/WuhRIKnGmR0l0dTVvaNGIfTJxvUpPJI5Wz6qGjDKM=";
        let [text, table] = &read(&format!(
            "\"9.9.9.9\", {{ url = \"tls://dns.example\", addresses = [\"192.0.2.1\", \"::1\"], name = \"other.example\", \
             pin = [\"{pin}\"], ca = \"ca.pem\" }}"
        ))
        .unwrap()[..] else {
            panic!("two upstreams")
        };
        assert_eq!(*text, "9.9.9.9".parse().unwrap());
        assert_eq!((table.addresses.len(), table.server_name().as_str()), (2, "other.example"));
        assert_eq!(table.identity.pins[0].to_string(), pin);
        assert_eq!(table.identity.ca.as_deref(), Some("ca.pem".as_ref()));
        assert!(!table.is_pinned_only());
        let alone =
            &read(&format!("{{ url = \"quic://192.0.2.1\", pin = [\"{}\"] }}", pin.replace("sha256/", "sha256//"))).unwrap()[0];
        assert_eq!((alone.is_pinned_only(), alone.identity.pins[0].to_string().as_str()), (true, pin));
        for (text, said) in [
            ("1", "upstream such as"),
            ("{ url = \"tls://x\", pins = [] }", "pins"),
            ("{ addresses = [\"::1\"] }", "url"),
            ("{ url = \"tls://x\", pin = [\"sha256/AAAA\"] }", "44 characters"),
            ("{ url = \"9.9.9.9\", ca = \"ca.pem\" }", "tls://"),
            ("{ url = \"tls://9.9.9.9\", addresses = [\"192.0.2.1\"] }", "a host name in the url"),
            ("{ url = \"tls://9.9.9.9\", name = \"a b\" }", "name of a certificate"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
