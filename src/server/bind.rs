//! Binding: the sockets of each listen address, and who holds a port that we cannot have.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::batch;
use super::encrypted::Way;
use crate::limits;

/// Octets asked of the kernel for datagrams that wait to be read, and for those that wait to leave; it grants as much as it
/// allows.
const BUFFER: usize = 4 << 20;

/// The sockets of one listen address.
pub(super) struct Bound {
    pub(super) address: SocketAddr,
    /// Plain DNS has one a worker, all on the same port.
    pub(super) udp: Vec<UdpSocket>,
    pub(super) tcp: Option<TcpListener>,
    /// Does this host have the address now?
    pub(super) is_here: bool,
}

/// Who else may have a port that is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Company {
    None,
    /// Sockets of former listeners of ours, which share it.
    Former,
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
            Some(holder) if holder.is_us() => writeln!(f, ", held by this rollcall itself")?,
            Some(holder) => writeln!(f, ", held by {holder}")?,
            None => writeln!(f)?,
        }
        let hint = match (error.kind(), holder) {
            (io::ErrorKind::AddrInUse, Some(holder)) if holder.is_us() => {
                "the configuration has it twice, by itself, as 0.0.0.0 or [::], or for HTTP too: keep one of them"
            }
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

impl BindError {
    /// Was it perhaps this process that had the port?
    pub fn may_be_ours(&self) -> bool {
        let is_ours = self.holder.as_ref().is_none_or(Holder::is_us);
        self.error.kind() == io::ErrorKind::AddrInUse && is_ours
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

impl Holder {
    fn is_us(&self) -> bool {
        self.pid == std::process::id()
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.command, self.pid)
    }
}

/// How often the kernel may choose a port for UDP that is free for TCP too.
const CHOICES_MAX: usize = 16;

/// Binds what is spoken this way: UDP, `workers` times for plain DNS, and TCP. With port 0 the kernel's choice for UDP serves
/// TCP too. An address that this host has not is bound too, and answers once the host has it.
pub(super) fn bind(way: Way, address: SocketAddr, workers: usize, company: Company) -> Result<Bound, BindError> {
    for _ in 1..CHOICES_MAX {
        match bind_once(way, address, workers, company) {
            Err(taken) if address.port() == 0 && taken.error.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound,
        }
    }
    bind_once(way, address, workers, company)
}

fn bind_once(way: Way, address: SocketAddr, workers: usize, company: Company) -> Result<Bound, BindError> {
    let sockets = if way == Way::Plain { workers } else { usize::from(way.has_udp()) };
    let mut bound = Bound { address, udp: Vec::new(), tcp: None, is_here: true };
    let fail = |address, protocol| move |error| failed(address, protocol, error);
    let share = company == Company::Former;
    if sockets > 0 {
        // A socket that shares its port would silently split the queries with another process that shares it too; so the
        // port is first taken alone.
        let (first, is_here) = udp_socket(address, share).map_err(fail(address, "udp"))?;
        bound.address = first.local_addr().map_err(fail(address, "udp"))?;
        bound.is_here = is_here;
        bound.udp.push(first);
    }
    if way.has_tcp() {
        let (tcp, is_here) = tcp_listener(bound.address, true, share).map_err(fail(bound.address, "tcp"))?;
        bound.address = tcp.local_addr().map_err(fail(bound.address, "tcp"))?;
        // The kernel would hold megabytes of what a client does not read.
        let _ = SockRef::from(&tcp).set_send_buffer_size(limits::ANSWER_OCTETS_PER_CONNECTION_MAX);
        bound.is_here = is_here;
        bound.tcp = Some(tcp);
    }
    while bound.udp.len() < sockets {
        // The first may have queries by now, and stays.
        let first = bound.udp.first().map_or(Ok(()), |first| SockRef::from(first).set_reuse_port(true));
        let more = first.and_then(|()| udp_socket(bound.address, true));
        bound.udp.push(more.map_err(fail(bound.address, "udp"))?.0);
    }
    Ok(bound)
}

/// Binds a TCP listener for the HTTP API.
pub fn bind_http(address: SocketAddr) -> Result<TcpListener, BindError> {
    tcp_listener(address, false, false).map(|(listener, _)| listener).map_err(|error| failed(address, "tcp", error))
}

fn failed(address: SocketAddr, protocol: &'static str, error: io::Error) -> BindError {
    let holder = (error.kind() == io::ErrorKind::AddrInUse).then(|| holder(address, protocol)).flatten();
    BindError { address, protocol, error, holder }
}

/// And whether this host has the address.
fn udp_socket(address: SocketAddr, share: bool) -> io::Result<(UdpSocket, bool)> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(share)?;
    let is_here = bind_even_elsewhere(&socket, address)?;
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
    Ok((socket, is_here))
}

/// Binds a socket, also to an address that this host has not (yet); says whether it has.
fn bind_even_elsewhere(socket: &Socket, address: SocketAddr) -> io::Result<bool> {
    match socket.bind(&address.into()) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            if address.is_ipv4() {
                socket.set_freebind_v4(true)?
            } else {
                socket.set_freebind_v6(true)?
            }
            socket.bind(&address.into())?;
            Ok(false)
        }
        bound => bound.map(|()| true),
    }
}

/// And whether this host has the address, which it must have unless that may be `elsewhere`.
fn tcp_listener(address: SocketAddr, elsewhere: bool, share: bool) -> io::Result<(TcpListener, bool)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A listener may follow its predecessor at once, whose old connections are still in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    socket.set_nonblocking(true)?;
    let is_here = match elsewhere {
        true => bind_even_elsewhere(&socket, address)?,
        false => socket.bind(&address.into()).map(|()| true)?,
    };
    socket.listen(limits::LISTEN_BACKLOG)?;
    Ok((socket.into(), is_here))
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
        let bound = bind(Way::Plain, "127.0.0.1:0".parse().unwrap(), 3, Company::None).unwrap();
        assert_eq!(bound.udp.len(), 3);
        assert!(bound.udp.iter().all(|socket| socket.local_addr().unwrap() == bound.address));
        let error = bind(Way::Plain, bound.address, 1, Company::None).err().unwrap();
        assert_eq!(error.holder.as_ref().map(|holder| holder.pid), Some(std::process::id()));
        assert!(error.to_string().contains("the configuration has it twice"), "{error}");
    }

    #[test]
    fn rfc9715_3_1_no_path_cuts_answers_into_fragments() {
        let bound = bind(Way::Plain, "127.0.0.1:0".parse().unwrap(), 2, Company::None).unwrap();
        for socket in &bound.udp {
            assert_eq!(sockopt::ip_mtu_discover(socket).unwrap(), Ipv4PathMtuDiscovery::OMIT);
        }
        let bound = bind(Way::Plain, "[::1]:0".parse().unwrap(), 1, Company::None).unwrap();
        assert_eq!(sockopt::ipv6_mtu_discover(&bound.udp[0]).unwrap(), Ipv6PathMtuDiscovery::OMIT);
    }

    #[test]
    fn a_foreign_address_says_what_to_do() {
        let error = bind_http("192.0.2.1:8500".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("this host has no such address"), "{error}");
        let bound = bind(Way::Https, "192.0.2.1:0".parse().unwrap(), 1, Company::None).unwrap();
        assert!(!bound.is_here && bound.tcp.is_some() && bound.udp.len() == 1);
    }
}
