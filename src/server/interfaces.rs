//! When do this host's interfaces and their addresses change? The kernel tells whoever asks it (rtnetlink(7)).

use std::io;
use std::sync::Arc;
use std::thread;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use tokio::sync::Notify;

/// RTMGRP_LINK, RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;

/// Word of changes, for as long as the process lives.
#[derive(Debug)]
pub struct Interfaces(Arc<Notify>);

impl Interfaces {
    pub fn watch() -> io::Result<Self> {
        // Without a protocol it is NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        let told = Arc::new(Notify::new());
        let tell = told.clone();
        thread::Builder::new().name("interfaces".into()).spawn(move || {
            // What it was is not read: some of it is lost when there is too little room, so that all is looked at anyway.
            let mut room = [0; 4096];
            loop {
                match recv(&socket, &mut room, RecvFlags::empty()) {
                    Ok(_) | Err(Errno::NOBUFS) => tell.notify_one(),
                    Err(Errno::INTR) => {}
                    Err(error) => return tracing::warn!("interfaces are not watched any more: {error}"),
                }
            }
        })?;
        Ok(Self(told))
    }

    /// Waits until something changed. What changed before is not lost when the wait is given up.
    pub async fn changed(&self) {
        self.0.notified().await;
    }
}
