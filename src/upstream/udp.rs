//! Asking over UDP: a pool of sockets on random ports.
//!
//! Each query takes a socket and an id at random, so that whoever wants to forge a reply has to guess both (RFC 5452, 9).
//! A reply counts when its sender, id and question are those of a query that waits on that socket; any other is passed
//! over and ends nobody's wait. A reply that is right but for the letter case of its question says so ([`Lost::OtherCase`]).

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::cookies::Cookie;
use super::set_id;
use super::sockets::{Allowance, Allowed, Ports, any_towards, bind_towards};
use crate::dns::{LetterCase, Message, Reply, question};
use crate::limits;

/// When a question is sent again that is asked by a socket of its own.
const AGAIN: Duration = Duration::from_secs(2);

/// Why nothing came of an attempt.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// So many wrong replies came that somebody tries to forge the right one.
    #[error("forged replies")]
    Forged,
    /// A reply has the question in another letter case than that in which it was sent.
    #[error("a reply in another letter case than the question")]
    OtherCase,
    /// A reply is right but for its cookie, which was this (RFC 7873, 5.3).
    #[error("a reply without the right cookie")]
    NoCookie(Cookie),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<io::ErrorKind> for Lost {
    fn from(kind: io::ErrorKind) -> Self {
        Self::Io(kind.into())
    }
}

/// The sockets for one address family.
#[derive(Debug)]
pub(super) struct Pool {
    /// Any address of the family.
    any: SocketAddr,
    ports: Option<Ports>,
    sockets: Mutex<Vec<Option<Arc<Port>>>>,
    allowance: Allowance,
}

/// One socket, and who waits on it.
#[derive(Debug)]
struct Port {
    socket: Arc<UdpSocket>,
    waiting: Arc<Waiting>,
    uses: Arc<AtomicU32>,
    /// None of one without which nobody could be asked.
    _allowed: Option<Allowed>,
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
    pub(super) fn v4(ports: Option<Ports>) -> Self {
        Self::new((Ipv4Addr::UNSPECIFIED, 0).into(), ports)
    }

    pub(super) fn v6(ports: Option<Ports>) -> Self {
        Self::new((Ipv6Addr::UNSPECIFIED, 0).into(), ports)
    }

    fn new(any: SocketAddr, ports: Option<Ports>) -> Self {
        let sockets = (0..limits::UPSTREAM_SOCKETS).map(|_| None).collect();
        Self { any, ports, sockets: Mutex::new(sockets), allowance: Allowance::default() }
    }

    /// Sends a query, its question in this case, and waits for its reply, for as long as the caller does. Both are the
    /// caller's own by their id and their case.
    pub(super) async fn ask(&self, upstream: SocketAddr, query: &[u8], case: Option<LetterCase>) -> Result<Vec<u8>, Lost> {
        let port = self.port().await?;
        let (reply, replied) = oneshot::channel();
        let question = question(query).ok_or(io::ErrorKind::InvalidInput)?;
        let id = enlist(&port.waiting, upstream, Expected { question: question.into(), reply })?;
        let enlisted = Enlisted { waiting: &port.waiting, key: (id, upstream) };
        let mut octets = query.to_vec();
        set_id(&mut octets, id);
        if let Some(case) = case {
            case.apply(&mut octets);
        }
        port.socket.send_to(&octets, upstream).await?;
        let mut octets = replied.await.map_err(|_| Lost::Forged)?;
        drop(enlisted);
        if case.is_some_and(|case| !case.take_back(question, &mut octets)) {
            return Err(Lost::OtherCase);
        }
        if let Some(id) = query.first_chunk::<2>() {
            set_id(&mut octets, u16::from_be_bytes(*id));
        }
        Ok(octets)
    }

    /// A socket at random; one that has served its time is replaced by another, on another port. Where no more may be opened,
    /// one that is open.
    async fn port(&self) -> io::Result<Arc<Port>> {
        let at = usize::from(random()?) % limits::UPSTREAM_SOCKETS;
        if let Some(Some(port)) = lock(&self.sockets).get(at)
            && port.uses.fetch_add(1, Ordering::Relaxed) < limits::UPSTREAM_SOCKET_USES
        {
            return Ok(port.clone());
        }
        let allowed = self.allowance.take();
        if allowed.is_none()
            && let Some(port) = self.open_port(at)
        {
            return Ok(port);
        }
        let bound = bind_towards(self.any, self.ports).and_then(|socket| {
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)
        });
        let socket = match bound {
            Ok(socket) => Arc::new(socket),
            Err(error) => return self.open_port(at).ok_or(error),
        };
        let waiting = Arc::new(Waiting::default());
        let stop = CancellationToken::new();
        let uses = Arc::new(AtomicU32::new(1));
        tokio::spawn(read(socket.clone(), waiting.clone(), uses.clone(), stop.clone()));
        let port = Arc::new(Port { socket, waiting, uses, _allowed: allowed, _reader: stop.drop_guard() });
        if let Some(place) = lock(&self.sockets).get_mut(at) {
            *place = Some(port.clone());
        }
        Ok(port)
    }

    /// The next socket that is open and has not served its time.
    fn open_port(&self, at: usize) -> Option<Arc<Port>> {
        let sockets = lock(&self.sockets);
        let (before, behind) = sockets.split_at_checked(at)?;
        let is_usable = |port: &&Arc<Port>| port.uses.fetch_add(1, Ordering::Relaxed) < limits::UPSTREAM_SOCKET_USES;
        behind.iter().chain(before).flatten().find(is_usable).cloned()
    }
}

/// Asks one server by a socket of its own, again and again for as long as the caller waits.
pub(super) async fn ask_alone(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let asked = question(query).ok_or(io::ErrorKind::InvalidInput)?;
    let socket = UdpSocket::bind(any_towards(server)).await?;
    socket.connect(server).await?;
    let mut buffer = vec![0; Message::MAX];
    loop {
        socket.send(query).await?;
        let until = tokio::time::Instant::now() + AGAIN;
        while let Ok(received) = tokio::time::timeout_at(until, socket.recv(&mut buffer)).await {
            let octets = buffer.get_mut(..received?).unwrap_or_default();
            // What is no reply to this question ends no wait.
            if octets.get(..2) == query.get(..2)
                && let Some((_, length)) = Reply::read_datagram(octets, asked)
            {
                return Ok(octets.get(..length).unwrap_or_default().to_vec());
            }
        }
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

/// Hands replies to those who wait for them. After too many wrong ones the port is used no more, and who waits is told.
async fn read(socket: Arc<UdpSocket>, waiting: Arc<Waiting>, uses: Arc<AtomicU32>, stop: CancellationToken) {
    thread_local! {
        // One for all sockets that a thread reads: each alone would hold it for good.
        static BUFFER: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; Message::MAX]);
    }
    let mut strays = 0;
    loop {
        tokio::select! {
            _ = socket.readable() => {}
            () = stop.cancelled() => return,
        }
        BUFFER.with_borrow_mut(|buffer| {
            // An error is of one datagram that was sent, or there is nothing after all; who waits for a reply waits on.
            if let Ok((length, from)) = socket.try_recv_from(buffer)
                && let Some(octets) = buffer.get_mut(..length)
            {
                // Who is no upstream from whom a reply is due here forges none.
                let is_stray = !hand_over(&waiting, octets, from);
                strays += u32::from(is_stray && lock(&waiting).keys().any(|(_, upstream)| *upstream == from));
            }
        });
        if strays > limits::UPSTREAM_SOCKET_STRAYS_MAX {
            uses.store(limits::UPSTREAM_SOCKET_USES, Ordering::Relaxed);
            lock(&waiting).clear();
        }
    }
}

/// Gives a reply to who waits for it. What is no reply, not to what was asked, or cannot be read ends nobody's wait: then it
/// says no.
fn hand_over(waiting: &Waiting, octets: &mut [u8], from: SocketAddr) -> bool {
    let Some(id) = octets.first_chunk::<2>() else { return false };
    let key = (u16::from_be_bytes(*id), from);
    let mut waiting = lock(waiting);
    if let Some(expected) = waiting.get(&key)
        && let Some((_, length)) = Reply::read_datagram(octets, &expected.question)
        && let Some(expected) = waiting.remove(&key)
    {
        let _ = expected.reply.send(octets.get(..length).unwrap_or_default().to_vec());
        return true;
    }
    false
}

/// Sixteen bits that nobody can foretell.
fn random() -> io::Result<u16> {
    octets().map(u16::from_be_bytes)
}

/// A letter case that nobody can foretell.
pub(super) fn random_case() -> io::Result<LetterCase> {
    octets().map(|octets| LetterCase::new(u64::from_be_bytes(octets)))
}

fn octets<const N: usize>() -> io::Result<[u8; N]> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).map_err(|_| io::Error::other("the system gives no random numbers"))?;
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::dns::{Class, Query, Question, Type};

    fn query(name: &str) -> Vec<u8> {
        let question = Question { name: name.parse().unwrap(), qtype: Type::A, qclass: Class::IN };
        Query { id: 7, ..Query::of(question) }.compose()
    }

    /// The reply to a query, `mark` in a place that is not compared.
    fn reply_to(query: &[u8], mark: u8) -> Vec<u8> {
        let mut reply = query.to_vec();
        (reply[2], reply[3]) = (0x80, mark << 4);
        reply
    }

    fn mark(reply: &[u8]) -> u8 {
        reply[3] >> 4
    }

    #[tokio::test]
    async fn only_the_right_reply_ends_the_wait() {
        let (server, stranger) = (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.2:0").await.unwrap());
        let address = server.local_addr().unwrap();
        let asked = query("www.example.net");
        let pool = Pool::v4(None);
        let answer = async {
            let mut buffer = [0; 512];
            let (length, client) = server.recv_from(&mut buffer).await.unwrap();
            let seen = &buffer[..length];
            assert_eq!(seen[2..], asked[2..], "the id apart, the query is the caller's");
            let right = reply_to(seen, 1);
            stranger.send_to(&reply_to(seen, 2), client).await.unwrap();
            let mut other_id = reply_to(seen, 3);
            other_id[1] ^= 1;
            let mut other_question = reply_to(&query("www.example.org"), 4);
            other_question[..2].copy_from_slice(&seen[..2]);
            let mut other_type = reply_to(seen, 5);
            *other_type.iter_mut().nth_back(2).unwrap() = 28;
            let mut no_response = reply_to(seen, 6);
            no_response[2] = 0;
            let mut update = reply_to(seen, 8);
            update[2] |= 5 << 3;
            let mut no_question = seen[..Message::HEADER].to_vec();
            (no_question[2], no_question[3], no_question[5]) = (0x80, 0x70, 0);
            let short = right[..5].to_vec();
            let mut counts = right.clone();
            counts[7] = 1;
            for wrong in [other_id, other_question, other_type, no_response, update, no_question, short, counts, Vec::new()] {
                server.send_to(&wrong, client).await.unwrap();
            }
            server.send_to(&right, client).await.unwrap();
        };
        let waits = tokio::time::timeout(Duration::from_secs(5), pool.ask(address, &asked, None));
        let (reply, ()) = tokio::join!(waits, answer);
        let reply = reply.expect("the right reply is heard").unwrap();
        assert_eq!((mark(&reply), &reply[..2]), (1, &asked[..2]), "under the caller's own id");
    }

    #[tokio::test]
    async fn dns0x20_the_case_is_another_each_time_and_has_to_come_back() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, pool, asked) = (server.local_addr().unwrap(), Pool::v4(None), query("www.Example.net"));
        let mut seen = HashSet::new();
        for _ in 0..100 {
            let case = random_case().unwrap();
            let answer = async {
                let mut buffer = [0; 512];
                let (length, client) = server.recv_from(&mut buffer).await.unwrap();
                seen.insert(buffer[Message::HEADER..length].to_vec());
                server.send_to(&reply_to(&buffer[..length], 1), client).await.unwrap();
            };
            let (reply, ()) = tokio::join!(pool.ask(address, &asked, Some(case)), answer);
            assert_eq!(reply.unwrap()[Message::HEADER..], asked[Message::HEADER..], "the caller's own case");
        }
        // 100 draws of 2^13 are 99 or 100 different ones most often, and 85 or fewer less than once in 10^9 runs.
        assert!(seen.len() > 85, "{} spellings", seen.len());
        let lower = async {
            let mut buffer = [0; 512];
            let (length, client) = server.recv_from(&mut buffer).await.unwrap();
            buffer[Message::HEADER..length - 4].make_ascii_lowercase();
            server.send_to(&reply_to(&buffer[..length], 1), client).await.unwrap();
        };
        // All letters change, so that a small one of them is a capital one.
        let (reply, ()) = tokio::join!(pool.ask(address, &asked, Some(LetterCase::new(u64::MAX))), lower);
        assert!(matches!(reply, Err(Lost::OtherCase)), "{reply:?}");
    }

    #[tokio::test]
    async fn ids_and_ports_are_many() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, pool, asked) = (server.local_addr().unwrap(), Pool::v4(None), query("www.example.net"));
        let (mut ids, mut ports) = (HashSet::new(), HashSet::new());
        for _ in 0..200 {
            let answer = async {
                let mut buffer = [0; 512];
                let (length, client) = server.recv_from(&mut buffer).await.unwrap();
                ids.insert([buffer[0], buffer[1]]);
                ports.insert(client.port());
                server.send_to(&reply_to(&buffer[..length], 1), client).await.unwrap();
            };
            tokio::join!(pool.ask(address, &asked, None), answer).0.unwrap();
        }
        // 200 draws of 256 ports are 139 different ones on average, and 110 or fewer less than once in 10^9 runs.
        assert!(ids.len() > 190 && ports.len() > 110, "{} ids, {} ports", ids.len(), ports.len());
    }

    #[tokio::test]
    async fn who_gives_up_leaves_no_place_taken_and_places_are_bounded() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, pool, asked) = (server.local_addr().unwrap(), Pool::v4(None), query("www.example.net"));
        let given_up = tokio::time::timeout(Duration::from_millis(20), pool.ask(address, &asked, None)).await;
        assert!(given_up.is_err());
        let ports: Vec<Arc<Port>> = lock(&pool.sockets).iter().flatten().cloned().collect();
        assert_eq!(ports.len(), 1, "sockets are bound as they are needed");
        assert!(lock(&ports[0].waiting).is_empty());
        let expected = || Expected { question: Box::default(), reply: oneshot::channel().0 };
        for _ in 0..limits::UPSTREAM_QUERIES_PER_SOCKET_MAX {
            enlist(&ports[0].waiting, address, expected()).unwrap();
        }
        let error = enlist(&ports[0].waiting, address, expected()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
    }

    #[tokio::test]
    async fn rfc5452_9_3_a_port_that_is_guessed_at_is_given_up() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, pool, asked) = (server.local_addr().unwrap(), Pool::v4(None), query("www.example.net"));
        let forger = async {
            let mut buffer = [0; 512];
            let (length, client) = server.recv_from(&mut buffer).await.unwrap();
            for guess in 1..=limits::UPSTREAM_SOCKET_STRAYS_MAX + 1 {
                let mut wrong = reply_to(&buffer[..length], 1);
                wrong[1] ^= guess as u8;
                wrong[0] ^= 1;
                server.send_to(&wrong, client).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let waits = tokio::time::timeout(Duration::from_secs(5), pool.ask(address, &asked, None));
        let (reply, ()) = tokio::join!(waits, forger);
        assert!(matches!(reply.expect("it does not wait on"), Err(Lost::Forged)));
        let sockets = lock(&pool.sockets);
        let used: Vec<u32> = sockets.iter().flatten().map(|port| port.uses.load(Ordering::Relaxed)).collect();
        assert_eq!(used, [limits::UPSTREAM_SOCKET_USES]);
    }

    #[tokio::test]
    async fn what_strangers_send_ends_nobodys_wait() {
        let (server, stranger) = (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let (address, pool, asked) = (server.local_addr().unwrap(), Pool::v4(None), query("www.example.net"));
        let answer = async {
            let mut buffer = [0; 512];
            let (length, client) = server.recv_from(&mut buffer).await.unwrap();
            // It listens on all addresses.
            let port: SocketAddr = ([127, 0, 0, 1], client.port()).into();
            for _ in 0..limits::UPSTREAM_SOCKET_STRAYS_MAX * 2 {
                stranger.send_to(b"junk", port).await.unwrap();
                tokio::task::yield_now().await;
            }
            server.send_to(&reply_to(&buffer[..length], 1), client).await.unwrap();
        };
        let (reply, ()) = tokio::join!(pool.ask(address, &asked, None), answer);
        assert!(reply.is_ok(), "{reply:?}");
    }

    #[tokio::test]
    async fn where_files_are_few_open_sockets_do() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for (allowed, sockets) in [(0, 1), (3, 3)] {
            let (address, asked) = (server.local_addr().unwrap(), query("www.example.net"));
            let pool = Pool { allowance: Allowance::of(allowed), ..Pool::v4(None) };
            let mut ports = HashSet::new();
            for _ in 0..50 {
                let answer = async {
                    let mut buffer = [0; 512];
                    let (length, client) = server.recv_from(&mut buffer).await.unwrap();
                    ports.insert(client.port());
                    server.send_to(&reply_to(&buffer[..length], 1), client).await.unwrap();
                };
                tokio::join!(pool.ask(address, &asked, None), answer).0.unwrap();
            }
            assert_eq!(ports.len(), sockets, "with {allowed} allowed");
            let retired = lock(&pool.sockets).iter().flatten().next().unwrap().clone();
            retired.uses.store(limits::UPSTREAM_SOCKET_USES, Ordering::Relaxed);
            assert!(!Arc::ptr_eq(&pool.port().await.unwrap(), &retired), "one that has served its time is not used");
        }
    }

    #[tokio::test]
    async fn a_socket_that_has_served_its_time_is_replaced() {
        let pool = Pool::v4(None);
        let mut ports = HashSet::new();
        for place in lock(&pool.sockets).iter() {
            assert!(place.is_none());
        }
        for _ in 0..4 * limits::UPSTREAM_SOCKETS {
            let port = pool.port().await.unwrap();
            port.uses.store(limits::UPSTREAM_SOCKET_USES, Ordering::Relaxed);
            ports.insert(port.socket.local_addr().unwrap().port());
        }
        assert!(ports.len() > 2 * limits::UPSTREAM_SOCKETS, "{} ports", ports.len());
        assert!(lock(&pool.sockets).iter().flatten().count() <= limits::UPSTREAM_SOCKETS);
    }
}
