//! What this host says of itself, where the configuration is silent.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;

use if_addrs::{IfAddr, Interface, get_if_addrs};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::problem::Problem;

/// The host's name, as its kernel knows it.
pub fn node_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" | "(none)" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

/// The address by which others reach this host: the one its default route leaves from. Nothing is sent to find it; a host
/// without a route has its loopback address.
pub fn address() -> IpAddr {
    // RFC 5737 and RFC 3849 addresses, which no network routes specially.
    let routes = [("0.0.0.0:0", "192.0.2.1:53"), ("[::]:0", "[2001:db8::1]:53")];
    let leaving = |(from, to): (&str, &str)| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    routes.into_iter().find_map(leaving).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The networks that this host is in, by its interfaces. One that could be half the world is only our own address there.
pub fn networks() -> Vec<IpNet> {
    let network = |interface: Interface| match interface.addr {
        IfAddr::V4(v4) => Ipv4Net::new(v4.ip, if v4.prefixlen < 8 { 32 } else { v4.prefixlen }).map(IpNet::V4).ok(),
        IfAddr::V6(v6) => Ipv6Net::new(v6.ip, if v6.prefixlen < 32 { 128 } else { v6.prefixlen }).map(IpNet::V6).ok(),
    };
    let mut networks: Vec<IpNet> = get_if_addrs().unwrap_or_default().into_iter().filter_map(network).collect();
    networks.sort_unstable();
    networks
}

/// Processors that this process may use.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// This node's id: kept in the data directory, so that it stays the same; made anew where there is none.
pub fn node_id(data: Option<&Path>) -> (String, Option<Problem>) {
    let path = data.map(|data| data.join("node-id"));
    if let Some(path) = &path
        && let Ok(text) = fs::read_to_string(path)
        && text.trim().len() == 36
    {
        return (text.trim().to_owned(), None);
    }
    let id = random_uuid();
    let written = path.map(|path| {
        path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, &id)).map_err(|error| (path, error))
    });
    let warning = written.and_then(Result::err).map(|(path, error)| {
        Problem::new(format!("cannot keep this node's id: {error}"))
            .in_file(path)
            .hint("give a writable place: --data DIR")
            .warning()
    });
    (id, warning)
}

/// A UUID of version 4 (RFC 9562, 5.4).
fn random_uuid() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62;
    let hex = format!("{bits:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| hex.get(part).unwrap_or_default());
    parts.join("-")
}
