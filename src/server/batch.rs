//! Datagrams by the batch: `recvmmsg` and `sendmmsg`, the only place with `unsafe`.
//!
//! An [`Inbox`] takes what has come, an [`Outbox`] sends what has been put into it. What was received bears a [`Return`]:
//! its answer goes to the same peer from the address that was asked (`IP_PKTINFO`, RFC 3542), so that a wildcard socket on
//! a host with several addresses answers from the right one.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use crate::limits;

/// Datagrams taken with one system call.
const SLOTS: usize = 64;
/// Room for one `in6_pktinfo` control message, the larger of the two kinds.
const CONTROL: usize = 40;

/// Control messages are read and written as these octets, so they must be aligned as `cmsghdr` is.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// Where a datagram came from and by which of our addresses: what its answer needs to find back.
#[derive(Clone, Copy)]
pub(super) struct Return {
    /// Of the larger of the two kinds; its family says which it is.
    peer: libc::sockaddr_in6,
    peer_length: libc::socklen_t,
    control: Control,
    control_length: usize,
}

/// A datagram that came in.
pub(super) struct Datagram {
    octets: Box<[u8; limits::UDP_QUERY_MAX]>,
    length: usize,
    origin: Return,
}

impl Datagram {
    pub(super) fn octets(&self) -> &[u8] {
        &self.octets[..self.length]
    }

    pub(super) fn octets_mut(&mut self) -> &mut [u8] {
        &mut self.octets[..self.length]
    }

    pub(super) fn origin(&self) -> &Return {
        &self.origin
    }
}

/// The headers through which the kernel sees a box, so that what stays the same from batch to batch is written once.
struct Headers {
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

/// What came in with one system call.
pub(super) struct Inbox {
    datagrams: Vec<Datagram>,
    kernel: Headers,
    /// Datagrams of the last batch; the kernel has shortened the lengths in their headers.
    used: usize,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self::made(true)
    }

    /// For sockets that are connected: what comes bears no [`Return`], since all of it is from one peer.
    pub(super) fn of_connected() -> Self {
        Self::made(false)
    }

    fn made(has_origin: bool) -> Self {
        let datagram = || Datagram { octets: Box::new([0; limits::UDP_QUERY_MAX]), length: 0, origin: Return::NONE };
        let datagrams: Vec<Datagram> = (0..SLOTS).map(|_| datagram()).collect();
        // All lengths are set before the first call, as if all slots had been used.
        let mut inbox = Self { datagrams, kernel: Headers::new(), used: SLOTS };
        let Headers { vectors, headers } = &mut inbox.kernel;
        for ((datagram, vector), header) in inbox.datagrams.iter_mut().zip(vectors).zip(headers) {
            vector.iov_base = datagram.octets.as_mut_ptr().cast();
            vector.iov_len = datagram.octets.len();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            if has_origin {
                header.msg_hdr.msg_name = (&raw mut datagram.origin.peer).cast();
                header.msg_hdr.msg_control = datagram.origin.control.0.as_mut_ptr().cast();
            }
        }
        inbox
    }

    /// Takes what is there, after waiting for the first if there is to be at least one.
    pub(super) fn receive(&mut self, socket: &UdpSocket, wait: Wait) -> io::Result<&mut [Datagram]> {
        let bear_origin = |header: &&mut libc::mmsghdr| !header.msg_hdr.msg_name.is_null();
        for header in self.kernel.headers.iter_mut().take(self.used).filter(bear_origin) {
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            header.msg_hdr.msg_controllen = CONTROL as _;
        }
        self.used = 0;
        let flags = match wait {
            Wait::ForOne => libc::MSG_WAITFORONE,
            Wait::No => libc::MSG_DONTWAIT,
        };
        // SAFETY: every header points to a vector, and to a name and a control buffer or to neither, that live on the heap, in
        // `self`, where they have been since `new`, and that are not touched until the call returns; the lengths are those of
        // the buffers.
        let count = unsafe {
            let headers = self.kernel.headers.as_mut_ptr();
            libc::recvmmsg(socket.as_raw_fd(), headers, SLOTS as _, flags, ptr::null_mut())
        };
        let count = match usize::try_from(count) {
            Ok(count) => count,
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => 0,
                error => return Err(error),
            },
        };
        self.used = count;
        for (datagram, header) in self.datagrams.iter_mut().zip(&self.kernel.headers).take(count) {
            let cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            // A datagram that was cut is no message: leave nothing of it.
            datagram.length = if cut { 0 } else { (header.msg_len as usize).min(limits::UDP_QUERY_MAX) };
            datagram.origin.peer_length = header.msg_hdr.msg_namelen;
            datagram.origin.control_length = header.msg_hdr.msg_controllen.min(CONTROL);
            datagram.origin.free_interface();
        }
        Ok(&mut self.datagrams[..count])
    }
}

/// Whether to wait when nothing is there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wait {
    ForOne,
    No,
}

/// What goes out with one system call.
pub(super) struct Outbox {
    letters: Vec<(Return, Vec<u8>)>,
    count: usize,
    kernel: Headers,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self { letters: vec![(Return::NONE, Vec::new()); SLOTS], count: 0, kernel: Headers::new() }
    }

    /// Where the next datagram is to be written; empty. There is always one, since a full box is sent by [`Outbox::put`].
    pub(super) fn next(&mut self) -> &mut Vec<u8> {
        let next = &mut self.letters[self.count.min(SLOTS - 1)].1;
        next.clear();
        next
    }

    /// Puts what was written to `next` into the box, unless that is nothing; a box that is full leaves.
    pub(super) fn put(&mut self, to: &Return, socket: &UdpSocket) -> io::Result<()> {
        let Some((address, octets)) = self.letters.get_mut(self.count) else { return Ok(()) };
        if octets.is_empty() {
            return Ok(());
        }
        *address = *to;
        self.count += 1;
        if self.count < SLOTS { Ok(()) } else { self.send(socket) }
    }

    /// Sends what is in the box, and waits for nothing: what the kernel has no room for is lost, as on the way. Answers to
    /// addresses that nobody has stay in the socket's buffer for seconds, and whoever waited for room there could be
    /// stopped by a few forged queries. A peer that cannot be reached costs only itself; the last such error is told.
    pub(super) fn send(&mut self, socket: &UdpSocket) -> io::Result<()> {
        let waiting = mem::take(&mut self.count);
        let headers = self.kernel.headers.iter_mut().zip(&mut self.kernel.vectors);
        for ((to, octets), (header, vector)) in self.letters.iter_mut().take(waiting).zip(headers) {
            vector.iov_base = octets.as_mut_ptr().cast();
            vector.iov_len = octets.len();
            let header = &mut header.msg_hdr;
            header.msg_name = (&raw mut to.peer).cast();
            header.msg_namelen = to.peer_length;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_control = to.control.0.as_mut_ptr().cast();
            header.msg_controllen = to.control_length as _;
        }
        let mut result = Ok(());
        let mut sent = 0;
        while sent < waiting {
            // SAFETY: headers `sent..waiting` were set above and point to buffers that live in `self`.
            let count = unsafe {
                let headers = self.kernel.headers.as_mut_ptr().add(sent);
                libc::sendmmsg(socket.as_raw_fd(), headers, (waiting - sent) as _, libc::MSG_DONTWAIT)
            };
            match usize::try_from(count) {
                Ok(count) => sent += count.max(1),
                Err(_) => {
                    let error = io::Error::last_os_error();
                    // No room is so for all that are left; any other error concerns the first of them (no route).
                    sent = if error.kind() == io::ErrorKind::WouldBlock { waiting } else { sent + 1 };
                    result = Err(error);
                }
            }
        }
        result
    }
}

impl Headers {
    fn new() -> Self {
        let vector = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        // SAFETY: an mmsghdr is plain data for which all zeroes is a valid value.
        let header: libc::mmsghdr = unsafe { mem::zeroed() };
        Self { vectors: vec![vector; SLOTS], headers: vec![header; SLOTS] }
    }
}

impl Return {
    /// Nowhere, or where a connected socket leads.
    pub(super) const NONE: Self = Self {
        // SAFETY: a sockaddr_in6 is plain data for which all zeroes is a valid value (AF_UNSPEC).
        peer: unsafe { mem::zeroed() },
        peer_length: 0,
        control: Control([0; CONTROL]),
        control_length: 0,
    };

    pub(super) fn peer(&self) -> SocketAddr {
        let unspecified = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        match i32::from(self.peer.sin6_family) {
            libc::AF_INET => {
                // SAFETY: the kernel wrote a sockaddr_in, as its family says, which is the shorter of the two.
                let peer = unsafe { &*(&raw const self.peer).cast::<libc::sockaddr_in>() };
                SocketAddr::new(Ipv4Addr::from(u32::from_be(peer.sin_addr.s_addr)).into(), u16::from_be(peer.sin_port))
            }
            libc::AF_INET6 => {
                SocketAddr::new(Ipv6Addr::from(self.peer.sin6_addr.s6_addr).into(), u16::from_be(self.peer.sin6_port))
            }
            _ => unspecified,
        }
    }

    /// Sends one answer, later than its batch, and waits for nothing either.
    pub(super) fn send(&self, socket: &UdpSocket, octets: &[u8]) -> io::Result<()> {
        let mut origin = *self;
        let mut vector = libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
        // SAFETY: an msghdr is plain data for which all zeroes is a valid value.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_name = (&raw mut origin.peer).cast();
        header.msg_namelen = origin.peer_length;
        header.msg_iov = &raw mut vector;
        header.msg_iovlen = 1;
        header.msg_control = origin.control.0.as_mut_ptr().cast();
        header.msg_controllen = origin.control_length as _;
        // SAFETY: the header points to locals that outlive the call; sendmsg writes to none of them.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Lets the answer leave by whichever interface its route says, only its source address being kept; a link-local
    /// address is nothing without its interface, so there both stay.
    fn free_interface(&mut self) {
        let header_length = size_of::<libc::cmsghdr>();
        if self.control_length < header_length {
            self.control_length = 0;
            return;
        }
        let base = self.control.0.as_mut_ptr();
        // SAFETY: the buffer is aligned for a cmsghdr and at least as long as one.
        let header = unsafe { &*base.cast::<libc::cmsghdr>() };
        // SAFETY: CMSG_DATA only computes the address behind the header, which stays inside the buffer (40 octets).
        let data = unsafe { libc::CMSG_DATA(header) };
        match (header.cmsg_level, header.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // SAFETY: the kernel put an in_pktinfo there; unaligned reads and writes make no demand on the address.
                unsafe {
                    let mut info = ptr::read_unaligned(data.cast::<libc::in_pktinfo>());
                    info.ipi_ifindex = 0;
                    ptr::write_unaligned(data.cast::<libc::in_pktinfo>(), info);
                }
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: as above, with an in6_pktinfo.
                unsafe {
                    let mut info = ptr::read_unaligned(data.cast::<libc::in6_pktinfo>());
                    if !Ipv6Addr::from(info.ipi6_addr.s6_addr).is_unicast_link_local() {
                        info.ipi6_ifindex = 0;
                    }
                    ptr::write_unaligned(data.cast::<libc::in6_pktinfo>(), info);
                }
            }
            _ => self.control_length = 0,
        }
    }
}

/// Asks the kernel to tell by which of our addresses each datagram came, which only a wildcard socket has to know: any
/// other sends from the one address that it has.
pub(super) fn tell_local_address(socket: &UdpSocket) -> io::Result<()> {
    let (level, name) = match socket.local_addr()? {
        address if !address.ip().is_unspecified() => return Ok(()),
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    set(socket, level, name, 1)
}

/// Has the kernel offer a listener no more connections: none comes by an interface that there is not. Those that have begun
/// with it are still made, and can be accepted.
pub(super) fn release_listener(listener: &TcpListener) -> io::Result<()> {
    set(listener, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, libc::c_int::MAX)
}

fn set(socket: &impl AsRawFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the options that are set here take an int, whose address and size are given.
    let result = unsafe {
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(bound: &str, asked: &str) {
        let server = UdpSocket::bind((bound.parse::<IpAddr>().unwrap(), 0)).unwrap();
        tell_local_address(&server).unwrap();
        let port = server.local_addr().unwrap().port();
        let asked = SocketAddr::new(asked.parse().unwrap(), port);
        let clients: Vec<_> = (0..3)
            .map(|n| {
                let client = UdpSocket::bind((if asked.is_ipv4() { "127.0.0.1" } else { "::1" }, 0)).unwrap();
                client.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
                client.send_to(&[n; 20], asked).unwrap();
                client
            })
            .collect();
        let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new());
        let mut answered = 0;
        while answered < 3 {
            for datagram in inbox.receive(&server, Wait::ForOne).unwrap() {
                assert!(clients.iter().any(|client| client.local_addr().unwrap() == datagram.origin().peer()));
                let octet = datagram.octets()[0];
                if octet == 2 {
                    datagram.origin().send(&server, &[2; 7]).unwrap();
                } else {
                    outbox.next().extend([octet; 7]);
                    outbox.put(datagram.origin(), &server).unwrap();
                }
                answered += 1;
            }
            outbox.send(&server).unwrap();
        }
        assert!(inbox.receive(&server, Wait::No).unwrap().is_empty());
        for (n, client) in clients.iter().enumerate() {
            let mut buffer = [0; 100];
            let (length, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from), (&[n as u8; 7][..], asked), "answers leave from the address asked");
        }
    }

    #[test]
    fn rfc2181_4_1_answers_leave_from_the_address_that_was_asked() {
        exchange("0.0.0.0", "127.0.0.9");
        exchange("127.0.0.1", "127.0.0.1");
        exchange("::", "::1");
    }

    #[test]
    fn a_datagram_that_is_too_long_is_dropped() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(&[1; limits::UDP_QUERY_MAX + 1], server.local_addr().unwrap()).unwrap();
        let mut inbox = Inbox::new();
        let datagrams = inbox.receive(&server, Wait::ForOne).unwrap();
        assert_eq!((datagrams.len(), datagrams[0].octets().len()), (1, 0));
    }
}
