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
    /// All of it as addresses, once each, on a host with the interfaces of now; and the interfaces that have none.
    pub(super) fn resolve(&self) -> (Vec<(Way, SocketAddr)>, Vec<Problem>) {
        let plain = self.plain.iter().map(|address| (Way::Plain, address));
        let written: Vec<_> = plain.chain(self.encrypted.iter().flat_map(Config::addresses)).collect();
        let follows = written.iter().any(|(_, address)| matches!(address, ListenAddress::Interface { .. }));
        let interfaces = if follows { if_addrs::get_if_addrs().unwrap_or_default() } else { Vec::new() };
        let (mut found, mut problems) = (Vec::new(), Vec::new());
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
        (found, problems)
    }
}

/// Octets of an interface's name at most (IFNAMSIZ without the zero at its end).
const NAME_MAX: usize = 15;

/// `127.0.0.1:53`, `[::1]:53`, or `eth0:53`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    Socket(SocketAddr),
    Interface { name: String, port: u16 },
}

impl ListenAddress {
    pub fn port(&self) -> u16 {
        match self {
            Self::Socket(address) => address.port(),
            Self::Interface { port, .. } => *port,
        }
    }

    /// The addresses that this is, on a host with these interfaces.
    fn resolve(&self, interfaces: &[if_addrs::Interface]) -> Vec<SocketAddr> {
        match self {
            Self::Socket(address) => vec![*address],
            Self::Interface { name, port } => {
                let own = interfaces.iter().filter(|interface| interface.name == *name);
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
            && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"/:[]".contains(&byte));
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
        ] {
            assert_eq!(text.parse(), Ok(listen.clone()));
            assert_eq!(listen.to_string(), text);
        }
        for text in
            ["eth0", "127.0.0.1", "127.0.0.256:53", "::1:53", "[::1:53", ":53", "eth0:", "eth0:65536", "a-name-too-long-:53"]
        {
            assert!(text.parse::<ListenAddress>().is_err_and(|error| error.contains("INTERFACE:PORT")), "{text}");
        }
    }

    #[test]
    fn an_interface_is_all_of_its_addresses() {
        let listen: ListenAddress = "lo:5300".parse().unwrap();
        let found = listen.resolve(&if_addrs::get_if_addrs().unwrap());
        assert!(found.contains(&([127, 0, 0, 1], 5300).into()), "{found:?}");
        assert!("nosuch0:53".parse::<ListenAddress>().unwrap().resolve(&if_addrs::get_if_addrs().unwrap()).is_empty());
    }
}
