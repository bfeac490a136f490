//! Whom does the system ask? The servers of resolv.conf, when the configuration names none; and the addresses of upstreams
//! that are written as host names. Not the asking of clients' questions: `hickory-resolver` reads and looks up, at the start
//! and at a reload.
//!
//! Start with [`upstreams`]; [`bootstrap`] is for host names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::parse_resolv_conf;

use super::address::Address;
use crate::limits;
use crate::problem::Problem;

/// Where the system's list is.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where systemd-resolved writes whom it asks itself, while resolv.conf names its stub.
pub const RESOLVED_CONF: &str = "/run/systemd/resolve/resolv.conf";

/// systemd-resolved's stub listeners (systemd-resolved.service(8)).
const STUBS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 54))];
const PORT: u16 = 53;
/// For one server to answer; a bootstrap look-up asks each twice.
const TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;

/// The servers that `resolv_conf` names, in its order and each once, without those that are `own` listeners: a forwarder
/// that asks itself answers nobody. Where it names systemd-resolved's stub, or only ourselves, the servers that
/// systemd-resolved asks are taken from `resolved_conf` instead.
pub fn upstreams(resolv_conf: &Path, resolved_conf: &Path, own: &[SocketAddr]) -> Result<Vec<SocketAddr>, Problem> {
    let hint = "name the servers to ask: `upstreams = [\"192.0.2.53\"]` in [forward], or --upstream 192.0.2.53:53";
    let system = nameservers(resolv_conf).map_err(|error| {
        Problem::new(format!("cannot read which servers this system asks: {error}")).in_file(resolv_conf).hint(hint)
    });
    let usable = |servers: &[SocketAddr]| -> Vec<SocketAddr> {
        let mut usable: Vec<SocketAddr> = Vec::new();
        for server in servers {
            if !usable.contains(server) && !own.iter().any(|own| is_own(*server, *own)) {
                usable.push(*server);
            }
        }
        usable
    };
    let named = system.as_deref().map(usable).unwrap_or_default();
    let real: Vec<SocketAddr> = named.iter().copied().filter(|server| !STUBS.contains(&server.ip())).collect();
    if real.len() == named.len() && !real.is_empty() {
        return Ok(real);
    }
    let behind = nameservers(resolved_conf).map(|servers| usable(&servers)).unwrap_or_default();
    // The stub itself answers, too, when nothing is known of what is behind it.
    let found = [behind, real, named].into_iter().find(|servers| !servers.is_empty());
    match (found, system) {
        (Some(servers), _) => Ok(servers),
        (None, Err(problem)) => Err(problem),
        (None, Ok(servers)) if servers.is_empty() => {
            Err(Problem::new("expected `nameserver ADDRESS` lines, got none").in_file(resolv_conf).hint(hint))
        }
        (None, Ok(_)) => Err(Problem::new("expected a server other than ourselves, got none").in_file(resolv_conf).hint(hint)),
    }
}

/// The addresses of the upstream `host`, asked of the servers `via`.
pub async fn bootstrap(host: &str, port: u16, via: &[SocketAddr]) -> Result<Vec<SocketAddr>, Problem> {
    let hint = "write the upstream as an address, or name servers by address that know it";
    let problem = |message: String| Problem::new(message).hint(hint);
    if via.is_empty() {
        return Err(problem(format!("expected a server by address to look up the upstream {host}, and there is none")));
    }
    let servers = via.iter().map(|server| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = server.port();
            connection
        });
        // Another server may know a name that one does not.
        NameServerConfig::new(server.ip(), false, connections.into())
    });
    let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
    let mut options = ResolverOpts::default();
    (options.timeout, options.attempts) = (TIMEOUT, ATTEMPTS);
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options).build();
    let resolver = resolver.map_err(|error| problem(format!("cannot look up the upstream {host}: {error}")))?;
    // With a dot at its end the name is absolute: no search domain is tried.
    let absolute = format!("{}.", host.trim_end_matches('.'));
    let found = resolver.lookup_ip(absolute).await;
    let found = found.map_err(|error| problem(format!("cannot look up the upstream {host}: {error}")))?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found.iter().map(|ip| SocketAddr::new(ip, port)) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    match addresses.is_empty() {
        false => Ok(addresses),
        true => Err(problem(format!("expected an address of the upstream {host}, and it has none"))),
    }
}

/// The `nameserver` lines of a resolv.conf.
fn nameservers(path: &Path) -> std::io::Result<Vec<SocketAddr>> {
    let text = String::from_utf8_lossy(&crate::file::read(path, limits::CONFIG_OCTETS_MAX)?).into_owned();
    // Only these lines, each by itself: the library refuses the whole file for a search domain that it cannot read, and routers
    // on several links may have one address.
    let lines = text.lines().map(str::trim_start).filter(|line| line.starts_with("nameserver"));
    let servers = lines.flat_map(|line| {
        // The one error left is that there are none.
        let servers: Vec<IpAddr> = parse_resolv_conf(line.as_bytes())
            .map(|(config, _)| config.name_servers().iter().map(|server| server.ip).collect())
            .unwrap_or_default();
        servers.into_iter().map(|ip| with_interface(ip, line)).collect::<Vec<_>>()
    });
    Ok(servers.collect())
}

/// The address with the interface that its line has: `fe80::1%eth0` is no address without it, and the library leaves it away.
fn with_interface(ip: IpAddr, line: &str) -> SocketAddr {
    let mut words = line.split_ascii_whitespace().filter_map(|word| word.parse::<Address>().ok());
    let address = words.find(|address| address.ip == ip && address.interface.is_some());
    address.and_then(|address| address.at(PORT).ok()).unwrap_or(SocketAddr::new(ip, PORT))
}

/// Does a query to `server` come to our own listener?
pub(super) fn is_own(server: SocketAddr, own: SocketAddr) -> bool {
    // An address that one can bind is an address of this host.
    let mut any_port = server;
    any_port.set_port(0);
    let is_ours = || server.ip().is_loopback() || UdpSocket::bind(any_port).is_ok();
    server.port() == own.port() && (server.ip() == own.ip() || own.ip().is_unspecified() && is_ours())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::dns::Query;
    use crate::resolve::zone::Zones;

    fn read(resolv: Option<&str>, resolved: Option<&str>, own: &[&str]) -> Result<Vec<String>, Problem> {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("resolv.conf"), folder.path().join("resolved.conf"));
        resolv.into_iter().for_each(|text| fs::write(&first, text).unwrap());
        resolved.into_iter().for_each(|text| fs::write(&second, text).unwrap());
        let own: Vec<SocketAddr> = own.iter().map(|own| own.parse().unwrap()).collect();
        upstreams(&first, &second, &own).map(|servers| servers.iter().map(SocketAddr::to_string).collect())
    }

    #[test]
    fn servers_are_taken_in_order_and_once() {
        let text = "# by hand\nsearch -- not..valid\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver 192.0.2.1\noptions edns0";
        assert_eq!(read(Some(text), None, &[]).unwrap(), ["192.0.2.1:53", "[2001:db8::1]:53"]);
        let routers = "nameserver fe80::1%lo\nnameserver fe80::1%7\n";
        assert_eq!(read(Some(routers), None, &[]).unwrap(), ["[fe80::1%1]:53", "[fe80::1%7]:53"]);
    }

    #[test]
    fn behind_the_stub_are_the_servers_that_it_asks() {
        let stub = "nameserver 127.0.0.53\noptions edns0 trust-ad\n";
        assert_eq!(read(Some(stub), Some("nameserver 192.0.2.7\n"), &[]).unwrap(), ["192.0.2.7:53"]);
        assert_eq!(read(Some("nameserver 127.0.0.54"), Some("nameserver 192.0.2.7\n"), &[]).unwrap(), ["192.0.2.7:53"]);
        assert_eq!(read(Some(stub), None, &[]).unwrap(), ["127.0.0.53:53"], "the stub, when nothing else is known");
        assert_eq!(read(None, Some("nameserver 192.0.2.7"), &[]).unwrap(), ["192.0.2.7:53"]);
    }

    #[test]
    fn we_never_ask_ourselves() {
        let both = "nameserver 127.0.0.1\nnameserver 192.0.2.1\n";
        assert_eq!(read(Some(both), None, &["127.0.0.1:53"]).unwrap(), ["192.0.2.1:53"]);
        assert_eq!(read(Some(both), None, &["0.0.0.0:53"]).unwrap(), ["192.0.2.1:53"]);
        assert_eq!(read(Some(both), None, &["127.0.0.1:1053"]).unwrap(), ["127.0.0.1:53", "192.0.2.1:53"]);
        let only_us = "nameserver 127.0.0.1";
        assert_eq!(read(Some(only_us), Some("nameserver 192.0.2.7"), &["127.0.0.1:53"]).unwrap(), ["192.0.2.7:53"]);
        let problem = read(Some(only_us), None, &["127.0.0.1:53"]).unwrap_err();
        assert!(problem.message.contains("other than ourselves") && problem.hint.is_some(), "{problem}");
        assert!(read(Some("nameserver 127.0.0.53"), None, &["127.0.0.53:53"]).is_err());
    }

    #[test]
    fn nothing_to_ask_is_a_problem_with_a_way_out() {
        for text in [None, Some(""), Some("search example.com\n"), Some("nameserver nowhere\n")] {
            let problem = read(text, None, &[]).unwrap_err();
            assert!(problem.hint.is_some() && problem.file.is_some(), "{problem}");
        }
    }

    #[tokio::test]
    async fn host_names_of_upstreams_are_looked_up() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("up.zone"),
            "@ 60 SOA a b 1 2 3 4 5\ndns A 192.0.2.53\ndns AAAA 2001:db8::53\nmx MX 1 dns\n",
        )
        .unwrap();
        let (zones, problems) = Zones::load(folder.path(), None);
        assert_eq!(problems, []);
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut buffer, mut out) = ([0; 1500], Vec::new());
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let query = Query::parse(&buffer[..length]).unwrap();
                zones.answer(&query, 512, &mut out).await;
                socket.send_to(&out, from).await.unwrap();
            }
        });
        let mut found = bootstrap("dns.up", 853, &[address]).await.unwrap();
        found.sort();
        assert_eq!(found, ["192.0.2.53:853".parse().unwrap(), "[2001:db8::53]:853".parse().unwrap()]);
        for host in ["nope.up", "mx.up", "a..b"] {
            let problem = bootstrap(host, 853, &[address]).await.unwrap_err();
            assert!(problem.message.contains(host), "{problem}");
        }
        assert!(bootstrap("dns.up", 853, &[]).await.is_err());
        server.abort();
    }
}
