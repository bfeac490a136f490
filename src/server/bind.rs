//! Binding: sockets for every worker on every address, and who holds a port that we cannot have.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use socket2::{Domain, Protocol, Socket, Type};

use super::batch;

/// Octets asked of the kernel for datagrams that wait to be read, and for those that wait to leave; it grants as much as it
/// allows.
const BUFFER: usize = 4 << 20;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1_024;

/// The sockets of one listen address.
pub struct Bound {
    pub address: SocketAddr,
    /// One a worker, all on the same port.
    pub udp: Vec<UdpSocket>,
    pub tcp: TcpListener,
}

/// Why an address cannot be listened on, and what to do.
#[derive(Debug)]
pub struct BindError {
    pub address: SocketAddr,
    pub protocol: &'static str,
    pub error: io::Error,
    pub holder: Option<Holder>,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, protocol, error, holder } = self;
        writeln!(f, "cannot listen on {address} ({protocol})")?;
        writeln!(f, "  expected  an address that is free and may be used")?;
        write!(f, "  got       {error}")?;
        match holder {
            Some(holder) => writeln!(f, ", held by {holder}")?,
            None => writeln!(f)?,
        }
        let hint = match (error.kind(), holder) {
            (io::ErrorKind::AddrInUse, Some(holder)) => match &*holder.command {
                "systemd-resolve" => "stop it first: systemctl disable --now systemd-resolved; or give another address",
                "dnsmasq" => "stop it first: systemctl disable --now dnsmasq; or give another address",
                "rollcall" => "another rollcall is running; stop it, or give this one another address",
                _ => "stop that process, or give another address",
            },
            (io::ErrorKind::AddrInUse, None) => "another process holds it (run as root to see which); give another address",
            (io::ErrorKind::PermissionDenied, _) => {
                "ports below 1024 need the capability CAP_NET_BIND_SERVICE: use the systemd unit, run as root, or give a port above 1023"
            }
            (io::ErrorKind::AddrNotAvailable, _) => "this host has no such address; see `ip address`",
            _ => "give another address",
        };
        write!(f, "  hint      {hint} (--dns ADDR:PORT and --http ADDR:PORT, or the addresses in the configuration)")
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        None
    }
}

/// A process that holds a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    pub command: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.command, self.pid)
    }
}

/// How often the kernel may choose a port for UDP that is free for TCP too.
const CHOICES_MAX: usize = 16;

/// Binds UDP, `workers` times, and TCP on one address. With port 0 the kernel's choice for UDP serves TCP too.
pub fn bind_dns(address: SocketAddr, workers: usize) -> Result<Bound, BindError> {
    for _ in 1..CHOICES_MAX {
        match bind_both(address, workers) {
            Err(taken) if address.port() == 0 && taken.error.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound,
        }
    }
    bind_both(address, workers)
}

fn bind_both(address: SocketAddr, workers: usize) -> Result<Bound, BindError> {
    let fail = |protocol, error| failed(address, protocol, error);
    // A socket that shares its port would silently split the queries with another process that shares it too; so the
    // port is first taken alone.
    let first = udp_socket(address, false).map_err(|error| fail("udp", error))?;
    let address = first.local_addr().map_err(|error| fail("udp", error))?;
    let tcp = tcp_listener(address).map_err(|error| fail("tcp", error))?;
    let mut udp = vec![first];
    if workers > 1 {
        udp.clear();
        for _ in 0..workers {
            udp.push(udp_socket(address, true).map_err(|error| fail("udp", error))?);
        }
    }
    Ok(Bound { address, udp, tcp })
}

/// Binds a TCP listener for the HTTP API.
pub fn bind_http(address: SocketAddr) -> Result<TcpListener, BindError> {
    tcp_listener(address).map_err(|error| failed(address, "tcp", error))
}

/// Binds a TCP listener for DNS over TLS; a port that was left to the kernel stands in `address` then.
pub(super) fn bind_stream(address: &mut SocketAddr) -> Result<TcpListener, BindError> {
    let listener = bind_http(*address)?;
    *address = listener.local_addr().map_err(|error| failed(*address, "tcp", error))?;
    Ok(listener)
}

/// Binds one UDP socket for QUIC, likewise.
pub(super) fn bind_quic(address: &mut SocketAddr) -> Result<UdpSocket, BindError> {
    let socket = udp_socket(*address, false).map_err(|error| failed(*address, "udp", error))?;
    *address = socket.local_addr().map_err(|error| failed(*address, "udp", error))?;
    Ok(socket)
}

/// Binds TCP and UDP for HTTPS, whose versions share one port, likewise.
pub(super) fn bind_https(address: &mut SocketAddr) -> Result<(TcpListener, UdpSocket), BindError> {
    let Bound { address: bound, mut udp, tcp } = bind_dns(*address, 1)?;
    *address = bound;
    let socket = udp.pop().ok_or_else(|| failed(bound, "udp", io::ErrorKind::Other.into()))?;
    Ok((tcp, socket))
}

fn failed(address: SocketAddr, protocol: &'static str, error: io::Error) -> BindError {
    let holder = (error.kind() == io::ErrorKind::AddrInUse).then(|| holder(address, protocol)).flatten();
    BindError { address, protocol, error, holder }
}

fn udp_socket(address: SocketAddr, share: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(share)?;
    socket.bind(&address.into())?;
    // As much as is allowed: a smaller buffer only loses more in a burst.
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
    let socket = UdpSocket::from(socket);
    batch::tell_local_address(&socket)?;
    // What a forged ICMP message says of a path must not have answers cut into fragments (RFC 9715, 3.1; RFC 8900). They
    // are small enough for every path. A kernel that cannot does as it did.
    let _ = match address {
        SocketAddr::V4(_) => sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::OMIT),
        SocketAddr::V6(_) => sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::OMIT),
    };
    Ok(socket)
}

fn tcp_listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A listener may follow its predecessor at once, whose old connections are still in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The process that holds `address`, as far as /proc shows it to us.
fn holder(address: SocketAddr, protocol: &str) -> Option<Holder> {
    let inodes = [(protocol.to_owned(), 4), (format!("{protocol}6"), 16)].map(|(table, size)| {
        let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        text.lines().skip(1).filter_map(|line| socket_inode(line, size, protocol, address)).collect::<Vec<_>>()
    });
    let inodes: Vec<String> = inodes.concat().into_iter().map(|inode| format!("socket:[{inode}]")).collect();
    if inodes.is_empty() {
        return None;
    }
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let holds = fs::read_dir(entry.path().join("fd")).ok()?.flatten().any(|fd| {
            fs::read_link(fd.path()).is_ok_and(|target| inodes.iter().any(|inode| target.as_os_str() == inode.as_str()))
        });
        let command = || fs::read_to_string(entry.path().join("comm")).ok().map(|text| text.trim().to_owned());
        holds.then(command).flatten().map(|command| Holder { pid, command })
    })
}

/// The inode of a socket in a line of /proc/net/{udp,tcp}{,6}, if it stands in the way of `address`.
fn socket_inode(line: &str, octets: usize, protocol: &str, address: SocketAddr) -> Option<u64> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (local, port) = fields.get(1)?.split_once(':')?;
    if u16::from_str_radix(port, 16).ok()? != address.port() || protocol == "tcp" && *fields.get(3)? != LISTEN {
        return None;
    }
    // Words of four octets, each in the host's order.
    let words: Vec<u32> = (0..octets / 4).map_while(|n| u32::from_str_radix(local.get(n * 8..n * 8 + 8)?, 16).ok()).collect();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let local: IpAddr = match octets {
        4 => <[u8; 4]>::try_from(bytes).ok()?.into(),
        _ => <[u8; 16]>::try_from(bytes).ok()?.into(),
    };
    let in_the_way = local == address.ip() || local.is_unspecified() || address.ip().is_unspecified();
    in_the_way.then(|| fields.get(9)?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_a_port_that_nobody_else_gets() {
        let bound = bind_dns("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        assert_eq!(bound.udp.len(), 3);
        assert!(bound.udp.iter().all(|socket| socket.local_addr().unwrap() == bound.address));
        let error = bind_dns(bound.address, 1).err().unwrap();
        assert_eq!(error.holder.as_ref().map(|holder| holder.pid), Some(std::process::id()));
        assert!(error.to_string().contains("held by"), "{error}");
    }

    #[test]
    fn rfc9715_3_1_no_path_cuts_answers_into_fragments() {
        let bound = bind_dns("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        for socket in &bound.udp {
            assert_eq!(sockopt::ip_mtu_discover(socket).unwrap(), Ipv4PathMtuDiscovery::OMIT);
        }
        let bound = bind_dns("[::1]:0".parse().unwrap(), 1).unwrap();
        assert_eq!(sockopt::ipv6_mtu_discover(&bound.udp[0]).unwrap(), Ipv6PathMtuDiscovery::OMIT);
    }

    #[test]
    fn a_foreign_address_says_what_to_do() {
        let error = bind_http("192.0.2.1:8500".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("this host has no such address"), "{error}");
    }
}
