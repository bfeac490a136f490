//! Where to listen, as it is written: addresses, or interfaces, whose addresses are listened on as they come and go.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

use super::encrypted::{Config, Way};
use crate::problem::Problem;

/// Where DNS is answered, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Where plain DNS is answered, over UDP and TCP.
    pub plain: Vec<ListenAddress>,
    /// Threads for each of these addresses.
    pub workers: usize,
    /// Proxies that say by the PROXY protocol whose connections they hand on.
    pub proxies: Vec<IpNet>,
    pub encrypted: Option<Config>,
}

impl Listen {
    fn written(&self) -> impl Iterator<Item = (Way, &ListenAddress)> {
        let plain = self.plain.iter().map(|address| (Way::Plain, address));
        plain.chain(self.encrypted.iter().flat_map(Config::addresses))
    }

    /// Where plain DNS is answered, as far as that does not depend on interfaces.
    pub fn sockets(&self) -> impl Iterator<Item = SocketAddr> {
        self.plain.iter().filter_map(|address| match address {
            ListenAddress::Socket(address) => Some(*address),
            ListenAddress::Interface { .. } => None,
        })
    }

    /// Addresses that overlap, the HTTP API's too, as far as that does not depend on interfaces: a warning where both are
    /// listened on in the same way, an error where one of them cannot be had.
    pub fn check(&self, http: Option<SocketAddr>) -> Vec<Problem> {
        let http = http.map(ListenAddress::Socket);
        let mut taken: Vec<(Option<Way>, &ListenAddress)> = http.iter().map(|address| (None, address)).collect();
        let mut problems = Vec::new();
        for (way, address) in self.written() {
            let is_in_the_way = |(other_way, other): &&(Option<Way>, &ListenAddress)| {
                other_way.map_or(way.has_tcp(), |other_way| way.shares_with(other_way)) && address.overlaps(other)
            };
            problems.extend(taken.iter().find(is_in_the_way).map(|(other_way, other)| match other_way {
                Some(other_way) if *other_way == way => {
                    let problem =
                        Problem::new(format!("expected each address to listen on once, got {other} and {address} ({way})"));
                    problem.hint("take one of them out; 0.0.0.0 has every IPv4 address, and [::] every IPv6 address").warning()
                }
                _ => {
                    let holder = other_way.map_or("the HTTP API".into(), |way| way.to_string());
                    let got = format!("got {address} beside {other} ({holder})");
                    let problem = Problem::new(format!("expected an address of its own for {way}, {got}"));
                    problem.hint(
                        "the usual ports are 53 for plain DNS, 853 for tls and quic, 443 for https, 8500 for the HTTP API",
                    )
                }
            }));
            taken.push((Some(way), address));
        }
        problems
    }

    /// All of it as addresses, on a host with the interfaces of now; and the interfaces that have none. Each is had once, and
    /// not by itself where 0.0.0.0 or [::] has it in the same way.
    pub(super) fn resolve(&self) -> (Vec<(Way, SocketAddr)>, Vec<Problem>) {
        let written: Vec<_> = self.written().collect();
        let follows = written.iter().any(|(_, address)| matches!(address, ListenAddress::Interface { .. }));
        let interfaces = if follows { if_addrs::get_if_addrs().unwrap_or_default() } else { Vec::new() };
        let (mut found, mut problems) = (Vec::<(Way, SocketAddr)>::new(), Vec::new());
        for (way, address) in written {
            let addresses = address.resolve(&interfaces);
            if addresses.is_empty() {
                let problem = Problem::new(format!("expected an interface with an address, got none for \"{address}\""));
                problems.push(problem.hint("it is listened on as soon as it has one; see `ip address`").warning());
            }
            for address in addresses {
                // What the kernel chooses is another one each time.
                if address.port() == 0 || !found.contains(&(way, address)) {
                    found.push((way, address));
                }
            }
        }
        let wildcards: Vec<_> = found.iter().filter(|(_, address)| address.ip().is_unspecified()).copied().collect();
        found.retain(|(way, address)| {
            let has_it = |(other_way, other): &(Way, SocketAddr)| other_way == way && overlap(*other, *address);
            address.ip().is_unspecified() || !wildcards.iter().any(has_it)
        });
        (found, problems)
    }
}

/// Can a port not be bound at one of them because of the other?
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let is_one = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    // What the kernel chooses is free.
    one.port() == other.port() && one.port() != 0 && one.is_ipv4() == other.is_ipv4() && is_one
}

/// Octets of an interface's name at most (IFNAMSIZ without the zero at its end).
const NAME_MAX: usize = 15;

/// `127.0.0.1:53`, `[::1]:53`, `eth0:53`, or `eth*:53` for all interfaces whose names begin so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    Socket(SocketAddr),
    Interface { name: String, port: u16 },
}

/// Does an interface's name fit one that may end in `*`?
pub fn is_interface(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

impl ListenAddress {
    pub fn port(&self) -> u16 {
        match self {
            Self::Socket(address) => address.port(),
            Self::Interface { port, .. } => *port,
        }
    }

    /// Do they overlap, whatever addresses interfaces have?
    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Socket(one), Self::Socket(other)) => overlap(*one, *other),
            _ => self == other && self.port() != 0,
        }
    }

    /// The addresses that this is, on a host with these interfaces.
    fn resolve(&self, interfaces: &[if_addrs::Interface]) -> Vec<SocketAddr> {
        match self {
            Self::Socket(address) => vec![*address],
            Self::Interface { name, port } => {
                let own = interfaces.iter().filter(|interface| is_interface(name, &interface.name));
                own.map(|interface| match interface.ip() {
                    // Such an address is nothing without its interface.
                    IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                        SocketAddrV6::new(v6, *port, 0, interface.index.unwrap_or_default()).into()
                    }
                    address => SocketAddr::new(address, *port),
                })
                .collect()
            }
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Socket(address)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Interface { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Socket(address));
        }
        let expected = || {
            format!(
                "expected ADDRESS:PORT or INTERFACE:PORT, such as \"127.0.0.1:53\", \"[::1]:53\" or \"eth0:53\"; got {text:?}"
            )
        };
        let (name, port) = text.rsplit_once(':').ok_or_else(expected)?;
        // What has no letter was meant for an address.
        let is_name = name.len() <= NAME_MAX
            && name.contains(|c: char| c.is_ascii_alphabetic())
            && name.strip_suffix('*').unwrap_or(name).bytes().all(|byte| byte.is_ascii_graphic() && !b"/:[]*".contains(&byte));
        match port.parse() {
            Ok(port) if is_name => Ok(Self::Interface { name: name.to_owned(), port }),
            _ => Err(expected()),
        }
    }
}

impl<'de> Deserialize<'de> for ListenAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listen_address_is_an_address_or_an_interface() {
        let interface = |name: &str, port| ListenAddress::Interface { name: name.to_owned(), port };
        for (text, listen) in [
            ("127.0.0.1:53", ListenAddress::Socket(([127, 0, 0, 1], 53).into())),
            ("[::1]:53", ListenAddress::Socket("[::1]:53".parse().unwrap())),
            ("eth0:53", interface("eth0", 53)),
            ("br-lan.7:853", interface("br-lan.7", 853)),
            ("eth*:53", interface("eth*", 53)),
        ] {
            assert_eq!(text.parse(), Ok(listen.clone()));
            assert_eq!(listen.to_string(), text);
        }
        for text in [
            "eth0",
            "127.0.0.1",
            "127.0.0.256:53",
            "::1:53",
            "[::1:53",
            ":53",
            "eth0:",
            "eth0:65536",
            "e*h:53",
            "*:53",
            "a-name-too-long-:53",
        ] {
            assert!(text.parse::<ListenAddress>().is_err_and(|error| error.contains("INTERFACE:PORT")), "{text}");
        }
    }

    fn listen(plain: &[&str], encrypted: Option<&[(Way, &str)]>) -> Listen {
        let plain = plain.iter().map(|text| text.parse().unwrap()).collect();
        let encrypted = encrypted.map(|written| {
            let mut config = Config::default();
            for (way, text) in written {
                let addresses = match way {
                    Way::Plain => continue,
                    Way::Tls => &mut config.tls,
                    Way::Https => &mut config.https,
                    Way::Quic => &mut config.quic,
                };
                addresses.push(text.parse().unwrap());
            }
            config
        });
        Listen { plain, workers: 1, proxies: Vec::new(), encrypted }
    }

    #[test]
    fn addresses_that_overlap_are_told() {
        let told = |plain: &[&str], encrypted: Option<&[(Way, &str)]>| {
            let problems = listen(plain, encrypted).check(Some(([127, 0, 0, 1], 8500).into()));
            problems.iter().map(|problem| problem.is_warning).collect::<Vec<_>>()
        };
        assert!(
            told(&["127.0.0.1:53", "127.0.0.2:53", "[::]:53", "127.0.0.1:54", "lo:53", "127.0.0.1:0", "127.0.0.1:0"], None)
                .is_empty()
        );
        for (plain, way) in
            [("0.0.0.0:53", None), ("127.0.0.1:53", None), ("127.0.0.1:8500", Some(())), ("0.0.0.0:8500", Some(()))]
        {
            assert_eq!(told(&["127.0.0.1:53", plain], None), [way.is_none()], "{plain}");
        }
        assert_eq!(told(&["[::]:53", "[::1]:53"], None), [true]);
        assert_eq!(told(&["eth0:53", "eth0:53"], None), [true]);
        let encrypted: &[_] = &[(Way::Tls, "0.0.0.0:853"), (Way::Quic, "0.0.0.0:853"), (Way::Https, "127.0.0.1:443")];
        assert!(told(&["127.0.0.1:53"], Some(encrypted)).is_empty());
        assert_eq!(told(&["127.0.0.1:853"], Some(encrypted)), [false, false]);
        assert_eq!(
            told(&[], Some(&[(Way::Https, "0.0.0.0:853"), (Way::Quic, "127.0.0.1:853"), (Way::Tls, "127.0.0.1:8500")])),
            [false, false]
        );
    }

    #[test]
    fn a_wildcard_has_what_is_of_its_kind() {
        let found = |plain: &[&str]| {
            let (found, _) = listen(plain, None).resolve();
            found.into_iter().map(|(_, address)| address.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            found(&["127.0.0.1:5300", "0.0.0.0:5300", "127.0.0.1:5301", "[::1]:5300"]),
            ["0.0.0.0:5300", "127.0.0.1:5301", "[::1]:5300"]
        );
        assert_eq!(found(&["lo:5300", "[::]:5300", "0.0.0.0:5300"]), ["[::]:5300", "0.0.0.0:5300"]);
        assert_eq!(found(&["127.0.0.1:0", "0.0.0.0:0"]), ["127.0.0.1:0", "0.0.0.0:0"]);
    }

    #[test]
    fn an_interface_is_all_of_its_addresses() {
        let listen: ListenAddress = "lo:5300".parse().unwrap();
        let found = listen.resolve(&if_addrs::get_if_addrs().unwrap());
        assert!(found.contains(&([127, 0, 0, 1], 5300).into()), "{found:?}");
        let alike = "l*:5300".parse::<ListenAddress>().unwrap().resolve(&if_addrs::get_if_addrs().unwrap());
        assert!(alike.contains(&([127, 0, 0, 1], 5300).into()), "{alike:?}");
        assert!("nosuch0:53".parse::<ListenAddress>().unwrap().resolve(&if_addrs::get_if_addrs().unwrap()).is_empty());
    }
}
