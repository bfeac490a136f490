//! Asking over UDP: a pool of sockets on random ports.
//!
//! Each query takes a socket and an id at random, so that whoever wants to forge a reply has to guess both (RFC 5452, 9).
//! A reply counts when its sender, id and question are those of a query that waits on that socket; any other is passed
//! over and ends nobody's wait.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::dns::Message;
use crate::limits;

/// The sockets for one address family.
#[derive(Debug)]
pub(super) struct Pool {
    bind: SocketAddr,
    sockets: Mutex<Vec<Option<Arc<Port>>>>,
}

/// One socket, and who waits on it.
#[derive(Debug)]
struct Port {
    socket: Arc<UdpSocket>,
    waiting: Arc<Waiting>,
    uses: std::sync::atomic::AtomicU32,
    /// Ends the task that reads it.
    _reader: DropGuard,
}

type Waiting = Mutex<HashMap<(u16, SocketAddr), Expected>>;

#[derive(Debug)]
struct Expected {
    /// The question as it was asked, name to class.
    question: Box<[u8]>,
    reply: oneshot::Sender<Vec<u8>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub(super) fn v4() -> Self {
        Self::new((Ipv4Addr::UNSPECIFIED, 0).into())
    }

    pub(super) fn v6() -> Self {
        Self::new((Ipv6Addr::UNSPECIFIED, 0).into())
    }

    fn new(bind: SocketAddr) -> Self {
        let sockets = (0..limits::UPSTREAM_SOCKETS).map(|_| None).collect();
        Self { bind, sockets: Mutex::new(sockets) }
    }

    /// Sends a query and waits for its reply, for as long as the caller does. Both bear the query's own id.
    pub(super) async fn ask(&self, upstream: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
        let port = self.port().await?;
        let (reply, replied) = oneshot::channel();
        let question = question(query).ok_or(io::ErrorKind::InvalidInput)?;
        let id = enlist(&port.waiting, upstream, Expected { question: question.into(), reply })?;
        let enlisted = Enlisted { waiting: &port.waiting, key: (id, upstream) };
        let mut octets = query.to_vec();
        set_id(&mut octets, id);
        port.socket.send_to(&octets, upstream).await?;
        let mut octets = replied.await.map_err(|_| io::ErrorKind::ConnectionAborted)?;
        drop(enlisted);
        if let Some(id) = query.first_chunk::<2>() {
            set_id(&mut octets, u16::from_be_bytes(*id));
        }
        Ok(octets)
    }

    /// A socket at random; one that has served its time is replaced by another, on another port.
    async fn port(&self) -> io::Result<Arc<Port>> {
        let at = usize::from(random()?) % limits::UPSTREAM_SOCKETS;
        if let Some(Some(port)) = lock(&self.sockets).get(at)
            && port.uses.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < limits::UPSTREAM_SOCKET_USES
        {
            return Ok(port.clone());
        }
        let socket = Arc::new(UdpSocket::bind(self.bind).await?);
        let waiting = Arc::new(Waiting::default());
        let stop = CancellationToken::new();
        tokio::spawn(read(socket.clone(), waiting.clone(), stop.clone()));
        let port = Arc::new(Port { socket, waiting, uses: 1.into(), _reader: stop.drop_guard() });
        if let Some(place) = lock(&self.sockets).get_mut(at) {
            *place = Some(port.clone());
        }
        Ok(port)
    }
}

/// Takes a place among those who wait, under a random id that nobody else there uses for the same upstream.
fn enlist(waiting: &Waiting, upstream: SocketAddr, expected: Expected) -> io::Result<u16> {
    let mut waiting = lock(waiting);
    if waiting.len() >= limits::UPSTREAM_QUERIES_PER_SOCKET_MAX {
        return Err(io::ErrorKind::QuotaExceeded.into());
    }
    loop {
        let id = random()?;
        if let std::collections::hash_map::Entry::Vacant(place) = waiting.entry((id, upstream)) {
            place.insert(expected);
            return Ok(id);
        }
    }
}

/// Leaves the place when the wait ends, however it ends.
struct Enlisted<'a> {
    waiting: &'a Waiting,
    key: (u16, SocketAddr),
}

impl Drop for Enlisted<'_> {
    fn drop(&mut self) {
        lock(self.waiting).remove(&self.key);
    }
}

/// Hands replies to those who wait for them.
async fn read(socket: Arc<UdpSocket>, waiting: Arc<Waiting>, stop: CancellationToken) {
    let mut buffer = vec![0; Message::MAX];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            () = stop.cancelled() => return,
        };
        // An error is of one datagram that was sent; who waits for its reply waits on.
        let Ok((length, from)) = received else { continue };
        let Some(octets) = buffer.get(..length) else { continue };
        let Some([id_high, id_low, flags]) = octets.first_chunk::<3>() else { continue };
        if flags & 0x80 == 0 {
            continue;
        }
        let key = (u16::from_be_bytes([*id_high, *id_low]), from);
        let mut waiting = lock(&waiting);
        let right = waiting.get(&key).is_some_and(|expected| is_reply_to(octets, &expected.question));
        if right && let Some(expected) = waiting.remove(&key) {
            let _ = expected.reply.send(octets.to_vec());
        }
    }
}

/// Does this message answer this question? Errors may come back without any.
pub(super) fn is_reply_to(octets: &[u8], asked: &[u8]) -> bool {
    match octets.get(4..6) {
        Some([0, 1]) => question(octets).is_some_and(|question| question.eq_ignore_ascii_case(asked)),
        Some([0, 0]) => octets.get(3).is_some_and(|low| low & 15 != 0),
        _ => false,
    }
}

/// The octets of the question, name to class; a name in a question is never compressed.
pub(super) fn question(message: &[u8]) -> Option<&[u8]> {
    let mut at = Message::HEADER;
    loop {
        match *message.get(at)? {
            0 => return message.get(Message::HEADER..at + 5),
            length @ 1..64 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}

fn set_id(octets: &mut [u8], id: u16) {
    if let Some(place) = octets.first_chunk_mut::<2>() {
        *place = id.to_be_bytes();
    }
}

/// Sixteen bits that nobody can foretell.
fn random() -> io::Result<u16> {
    let mut octets = [0; 2];
    getrandom::fill(&mut octets).map_err(|_| io::Error::other("the system gives no random numbers"))?;
    Ok(u16::from_be_bytes(octets))
}
