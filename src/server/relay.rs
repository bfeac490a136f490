//! First attempts at plain questions, made on the worker's own thread.
//!
//! A question that nobody here knows goes to the upstream that is asked first, from one of many sockets on random ports,
//! together with the others of its batch. A good reply in time becomes the answer, without a task, a lock or a channel a
//! query. Whatever else happens (silence, an error, a truncated reply, a socket that fails) a look-up goes on from there,
//! on the runtime ([`Landing::GoesOn`]); should the reply come after all, the look-up is told.
//!
//! Start with [`Relay::ask`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::iter;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use tokio::sync::oneshot;

use super::batch::{Inbox, Outbox, Return, Wait};
use super::setup::Setup;
use crate::dns::{Edns, Header, LetterCase, Message, Reply, drop_options, make_opt_ours, question};
use crate::limits;
use crate::resolve::cache::{HOP_BY_HOP, Key};
use crate::resolve::forward::is_success;
use crate::resolve::passing::{add_edns, clear_ad, wants_proofs};
use crate::upstream::{Allowance, Allowed, Favourite, FirstAttempt, Lost, Ports, Turn, bind_towards};

/// What stands for the clients' socket in epoll; a port is told by its place.
const CLIENTS: u64 = u64::MAX;
/// How often it is looked whether a look-up that goes on elsewhere still waits for the first attempt.
const RECHECK: Duration = Duration::from_millis(100);
/// How often something is drawn by lot that is most often right at once.
const TRIES: usize = 8;
/// Sockets that are read at one time.
const EVENTS: usize = 64;

/// What a worker has asked, and through which sockets.
pub(super) struct Relay {
    epoll: OwnedFd,
    events: Vec<Event>,
    inbox: Inbox,
    outbox: Outbox,
    entropy: Entropy,
    /// By whose word all flights were sent; another setup waits until they have ended.
    setup: Option<Arc<Setup>>,
    /// Sockets on random ports, each connected to one upstream, which then nobody else can answer for.
    ports: Vec<Port>,
    /// The first of the ports of each upstream.
    ways: Vec<(SocketAddr, usize)>,
    allowance: Allowance,
    /// Questions under way, by the port and the id of the reply.
    flights: HashMap<Spot, Flight, RandomState>,
    /// Those of them whose askers wait here.
    asked: HashMap<Key, Spot, RandomState>,
    /// What those flights have in common that are in the outbox.
    batch: Option<Batch>,
    /// When the next flight may be overdue.
    check_at: Option<Instant>,
}

#[derive(Default)]
struct Port {
    socket: Option<UdpSocket>,
    /// What it was opened by.
    _allowed: Option<Allowed>,
    uses: u32,
    /// Flights under way.
    open: usize,
    /// Replies that were to none of them.
    strays: u32,
}

#[derive(Clone, Copy)]
struct Batch {
    favourite: Favourite,
    port: usize,
    count: u64,
}

/// The port by which a question left, and its id there.
type Spot = (usize, u16);

/// A question on its way to an upstream and back.
pub(super) struct Flight {
    key: Key,
    favourite: Favourite,
    /// In which the question went out; without it, as it was asked.
    case: Option<LetterCase>,
    sent: Instant,
    /// When a look-up goes on from here, or asks no more for what comes of this.
    due: Instant,
    /// Whose octets went upstream.
    first: Asker,
    /// Others who ask the same.
    more: Vec<Asker>,
    /// The turn to ask it, until a look-up goes on.
    pub(super) turn: Option<Turn>,
    /// Where a look-up waits that went on from here.
    told: Option<oneshot::Sender<Result<Vec<u8>, Lost>>>,
}

impl Flight {
    /// What a look-up needs to go on from here, and where it will be told what still comes of it.
    fn attempt(&mut self) -> (oneshot::Sender<Result<Vec<u8>, Lost>>, FirstAttempt) {
        let (tell, reply) = oneshot::channel();
        (tell, self.favourite.attempt(self.turn.take(), self.sent, reply))
    }

    pub(super) fn askers(&self) -> impl Iterator<Item = &Asker> {
        iter::once(&self.first).chain(&self.more)
    }
}

/// Who asks, and in which octets.
pub(super) struct Asker {
    pub(super) octets: Box<[u8]>,
    pub(super) origin: Return,
}

impl Flight {
    /// Whom it was sent to.
    pub(super) fn upstream(&self) -> SocketAddr {
        self.favourite.address
    }

    pub(super) fn sent(&self) -> Instant {
        self.sent
    }
}

/// How a flight ended for the worker.
pub(super) enum Landing<'a> {
    /// With a good and whole reply.
    Reply(&'a [u8]),
    /// A look-up has to go on from here.
    GoesOn(FirstAttempt),
}

impl Relay {
    /// `clients` is the socket that the worker serves; [`Relay::wait`] watches it too.
    pub(super) fn new(clients: &UdpSocket) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, clients, EventData::new_u64(CLIENTS), EventFlags::IN)?;
        Ok(Self {
            epoll,
            events: Vec::with_capacity(EVENTS),
            inbox: Inbox::of_connected(),
            outbox: Outbox::new(),
            entropy: Entropy::new(),
            setup: None,
            ports: Vec::new(),
            ways: Vec::new(),
            allowance: Allowance::default(),
            flights: HashMap::default(),
            asked: HashMap::default(),
            batch: None,
            check_at: None,
        })
    }

    /// Questions under way.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    /// Waits for upstreams alone from now on.
    pub(super) fn forget_clients(&mut self, clients: &UdpSocket) {
        let _ = epoll::delete(&self.epoll, clients);
    }

    /// Sockets that the next questions may leave by as they are.
    #[cfg(test)]
    pub(super) fn sockets(&self) -> usize {
        let usable = |port: &&Port| port.socket.is_some() && port.uses < limits::UPSTREAM_SOCKET_USES;
        self.ports.iter().filter(usable).count()
    }

    /// Is nothing awaited?
    pub(super) fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }

    /// Does somebody wait here for an answer?
    pub(super) fn has_askers(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Asks the favourite upstream of `group`, unless somebody does already. `octets` are those of a plain query. False when
    /// a look-up has to see to it from the beginning: there is no favourite, or too much is under way.
    pub(super) fn ask(
        &mut self,
        setup: &Arc<Setup>,
        key: Key,
        group: u16,
        octets: &[u8],
        origin: &Return,
        now: Instant,
    ) -> bool {
        if !self.setup.as_ref().is_some_and(|own| Arc::ptr_eq(own, setup)) {
            let asks_the_same = |own: &Arc<Setup>| own.place == setup.place && Arc::ptr_eq(&own.forwarder, &setup.forwarder);
            if !self.setup.as_ref().is_some_and(asks_the_same) {
                if !self.is_idle() {
                    return false;
                }
                (self.ports, self.ways) = (Vec::new(), Vec::new());
            }
            self.setup = Some(setup.clone());
        }
        let asker = || Asker { octets: octets.into(), origin: *origin };
        if let Some(flight) = self.asked.get(&key).and_then(|spot| self.flights.get_mut(spot)) {
            // What was asked before it was to be forgotten is no answer to who asks now.
            let is_owned = flight.turn.as_ref().is_some_and(Turn::is_owned);
            let has_room = is_owned && flight.more.len() < limits::RELAY_ASKERS_MAX;
            if has_room {
                flight.more.push(asker());
                setup.forwarder.counters.coalesced.raise(1);
            }
            return has_room;
        }
        if self.flights.len() >= limits::RELAY_FLIGHTS_MAX {
            return false;
        }
        if self.batch.is_some_and(|batch| batch.favourite.group != group) {
            self.flush();
        }
        let Some(Batch { favourite, port, .. }) = self.batch.or_else(|| self.begin(setup, group, now)) else { return false };
        let Some(id) = self.free_id(port) else { return false };
        let case = favourite.random_case.then(|| self.entropy.case()).flatten();
        let Some(Port { socket: Some(socket), open, uses, .. }) = self.ports.get_mut(port) else { return false };
        let Some(turn) = setup.forwarder.turn(&key) else { return false };
        (*open, *uses) = (*open + 1, uses.saturating_add(1));
        let out = self.outbox.next();
        write_query(octets, id, case, out);
        if let Some(cookie) = &favourite.cookie {
            cookie.put(out);
        }
        // Whom a failed datagram concerns is seen when no reply comes; an upstream that is gone tells it to who receives.
        let _ = self.outbox.put(&Return::NONE, socket);
        if let Some(batch) = &mut self.batch {
            batch.count += 1;
        }
        let due = now + favourite.patience;
        self.check_at = Some(self.check_at.map_or(due, |at| at.min(due)));
        self.asked.insert(key.clone(), (port, id));
        let (first, more) = (asker(), Vec::new());
        let flight = Flight { key, favourite, case, sent: now, due, first, more, turn: Some(turn), told: None };
        self.flights.insert((port, id), flight);
        true
    }

    /// Sends what was asked since the last time.
    pub(super) fn flush(&mut self) {
        let (Some(batch), Some(setup)) = (self.batch.take(), &self.setup) else { return };
        if let Some(socket) = self.ports.get(batch.port).and_then(|port| port.socket.as_ref()) {
            let _ = self.outbox.send(socket);
        }
        setup.forwarder.note_sent(&batch.favourite, batch.count);
    }

    /// Waits for a reply, a query, or until a flight is overdue. Says whether the clients' socket has something to read.
    pub(super) fn wait(&mut self) -> bool {
        let left = self.check_at.map_or(RECHECK, |at| at.saturating_duration_since(Instant::now()));
        let timeout = Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos() as _ };
        self.events.clear();
        // An error can only be a signal: then nothing has come.
        let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&timeout));
        self.events.iter().any(|event| event.data.u64() == CLIENTS)
    }

    /// Takes the replies that [`Relay::wait`] has seen, and looks after what is overdue. `landed` is told how each flight
    /// ended for its askers.
    pub(super) fn harvest(&mut self, now: Instant, mut landed: impl FnMut(&Arc<Setup>, &mut Flight, Landing<'_>)) {
        let Some(setup) = self.setup.clone() else { return };
        for at in 0..self.events.len() {
            let port = self.events.get(at).map_or(CLIENTS, |event| event.data.u64());
            let Ok(port) = usize::try_from(port) else { continue };
            let Some(Port { socket: Some(socket), open, strays, .. }) = self.ports.get_mut(port) else { continue };
            let Ok(datagrams) = self.inbox.receive(socket, Wait::No) else {
                // Nobody listens there, or the way there is gone, and with it all that was sent by it.
                self.close(port, || io::ErrorKind::ConnectionRefused.into(), &setup, &mut landed);
                continue;
            };
            // Good replies in a row to what left at the same time.
            let mut answered: Option<(Favourite, Instant, u32)> = None;
            let note = |(favourite, sent, count): (Favourite, Instant, u32)| {
                setup.forwarder.note_answered(&favourite, now.saturating_duration_since(sent), count);
            };
            for datagram in datagrams {
                let octets = datagram.octets_mut();
                *strays += 1;
                let Some(id) = octets.first_chunk() else { continue };
                let Entry::Occupied(flight) = self.flights.entry((port, u16::from_be_bytes(*id))) else { continue };
                let asked = &flight.get().first.octets;
                let Some((reply, length)) = question(asked).and_then(|asked| Reply::read_datagram(octets, asked)) else {
                    continue;
                };
                let Some(octets) = octets.get_mut(..length) else { continue };
                let mut flight = flight.remove();
                *strays -= 1;
                *open = open.saturating_sub(1);
                let (asked, asking) = (&flight.first.octets, flight.key.asking());
                let is_same = match (flight.case, question(asked)) {
                    (Some(case), Some(asked)) => case.take_back(asked, octets),
                    _ => true,
                };
                let mut bare = Vec::new();
                let (octets, reply, wrong) = match flight.favourite.cookie {
                    _ if !is_same => (octets, reply, Some(Lost::OtherCase)),
                    // What it says of its own hop, unasked, is not passed on.
                    None if reply.has_options => {
                        bare.extend_from_slice(octets);
                        drop_options(&mut bare, &HOP_BY_HOP);
                        (&mut bare[..], reply, None)
                    }
                    None => (octets, reply, None),
                    Some(cookie) => {
                        bare.extend_from_slice(octets);
                        let is_right = setup.forwarder.take_cookie_back(&flight.favourite, &mut bare, asking.has_edns(), now);
                        drop_options(&mut bare, &HOP_BY_HOP);
                        let read = question(asked).and_then(|asked| Reply::read(&bare, asked)).filter(|_| is_right);
                        (&mut bare[..], read.unwrap_or(reply), read.is_none().then_some(Lost::NoCookie(cookie)))
                    }
                };
                // What is to be changed of an OPT record that is not the last one, a look-up changes.
                let is_odd = reply.payload_at.is_some() && !reply.ends_with_edns;
                if let Some(at) = reply.payload_at.filter(|_| !is_odd) {
                    make_opt_ours(octets, at, limits::UDP_PAYLOAD, asking.dnssec_ok());
                }
                let heard = |octets: &[u8], wrong: Option<Lost>| wrong.map_or_else(|| Ok(octets.to_vec()), Err);
                if let Some(told) = flight.told.take() {
                    // The look-up may have ended meanwhile.
                    let _ = told.send(heard(octets, wrong));
                    continue;
                }
                self.asked.remove(&flight.key);
                let flags = Header::of(octets).map(Header::flags).unwrap_or_default();
                // Who asks without an OPT record gets none (RFC 6891, 7), nor proofs that he did not ask for.
                let is_unasked = reply.payload_at.is_some() && !asking.has_edns()
                    || reply.has_proofs && !wants_proofs(flight.key.qtype(), asking.dnssec_ok());
                let is_whole = reply.has_question && !flags.truncated && !is_unasked && !is_odd;
                if wrong.is_none() && is_success(reply.rcode) && is_whole {
                    let (favourite, sent) = (flight.favourite, flight.sent);
                    let is_same =
                        |(former, then, _): &(Favourite, Instant, _)| (former.group, *then) == (favourite.group, sent);
                    let count = match answered.filter(is_same) {
                        Some((_, _, count)) => count.saturating_add(1),
                        None => {
                            answered.take().into_iter().for_each(note);
                            1
                        }
                    };
                    answered = Some((favourite, sent, count));
                    // Who sent an OPT record is due one.
                    let is_due = reply.payload_at.is_none() && asking.has_edns();
                    // Nor is everybody's word taken for what is authentic.
                    let is_doubted = flags.authentic_data && !flight.favourite.is_trusted;
                    if !is_due && !is_doubted {
                        landed(&setup, &mut flight, Landing::Reply(octets));
                        continue;
                    }
                    let mut whole = octets.to_vec();
                    if is_due {
                        add_edns(&mut whole, asking.dnssec_ok());
                    }
                    if is_doubted {
                        clear_ad(&mut whole);
                    }
                    landed(&setup, &mut flight, Landing::Reply(&whole));
                } else {
                    let (tell, attempt) = flight.attempt();
                    let _ = tell.send(heard(octets, wrong));
                    landed(&setup, &mut flight, Landing::GoesOn(attempt));
                }
            }
            answered.into_iter().for_each(note);
            if self.ports.get(port).is_some_and(|port| port.strays > limits::UPSTREAM_SOCKET_STRAYS_MAX) {
                // Somebody guesses ids there.
                self.close(port, || Lost::Forged, &setup, &mut landed);
            }
        }
        if self.check_at.is_some_and(|at| at <= now) {
            self.check(now, &setup, landed);
        }
    }

    /// Lets look-ups go on with what is overdue, and forgets what they wait for no more.
    fn check(&mut self, now: Instant, setup: &Arc<Setup>, mut landed: impl FnMut(&Arc<Setup>, &mut Flight, Landing<'_>)) {
        let Self { flights, asked, ports, check_at, .. } = self;
        *check_at = None;
        let mut is_late = false;
        flights.retain(|(port, _), flight| {
            if flight.due <= now {
                flight.due = now + RECHECK;
                match &flight.told {
                    None => {
                        is_late = true;
                        let (tell, attempt) = flight.attempt();
                        asked.remove(&flight.key);
                        landed(setup, flight, Landing::GoesOn(attempt));
                        flight.more = Vec::new();
                        flight.told = Some(tell);
                    }
                    Some(told) if told.is_closed() => {
                        if let Some(port) = ports.get_mut(*port) {
                            port.open = port.open.saturating_sub(1);
                        }
                        return false;
                    }
                    Some(_) => {}
                }
            }
            *check_at = Some(check_at.map_or(flight.due, |at| at.min(flight.due)));
            true
        });
        if is_late {
            // A connected socket keeps the address that it was given, which this host may have lost since.
            ports.iter_mut().for_each(|port| port.uses = limits::UPSTREAM_SOCKET_USES);
        }
    }

    /// Closes a port that failed for this reason; look-ups go on from what was sent by it.
    fn close(
        &mut self,
        port: usize,
        reason: impl Fn() -> Lost,
        setup: &Arc<Setup>,
        mut landed: impl FnMut(&Arc<Setup>, &mut Flight, Landing<'_>),
    ) {
        let Self { flights, asked, ports, .. } = self;
        flights.retain(|(other, _), flight| {
            if *other != port {
                return true;
            }
            let tell = flight.told.take().unwrap_or_else(|| {
                let (tell, attempt) = flight.attempt();
                asked.remove(&flight.key);
                landed(setup, flight, Landing::GoesOn(attempt));
                tell
            });
            let _ = tell.send(Err(reason()));
            false
        });
        if let Some(port) = ports.get_mut(port) {
            *port = Port::default();
        }
    }

    /// Chooses whom a batch goes to, and through which port.
    fn begin(&mut self, setup: &Setup, group: u16, now: Instant) -> Option<Batch> {
        let favourite = setup.forwarder.favourite(group, now)?;
        let port = self.port(favourite.address)?;
        self.batch = Some(Batch { favourite, port, count: 0 });
        self.batch
    }

    /// An id that is not in use there.
    fn free_id(&mut self, port: usize) -> Option<u16> {
        // A port has few flights, so that the first will do, or the second.
        for _ in 0..TRIES {
            let id = self.entropy.next()?;
            if !self.flights.contains_key(&(port, id)) {
                return Some(id);
            }
        }
        None
    }

    /// A random port for this upstream; one that has served its time is replaced by another. Where no more may be opened, one
    /// that is open.
    fn port(&mut self, upstream: SocketAddr) -> Option<usize> {
        let first = match self.ways.iter().find(|(address, _)| *address == upstream) {
            Some((_, first)) => *first,
            None => {
                let first = self.ports.len();
                self.ports.resize_with(first + limits::UPSTREAM_SOCKETS, Port::default);
                self.ways.push((upstream, first));
                first
            }
        };
        // One that has served its time and still awaits replies is passed over; most do not.
        for _ in 0..TRIES {
            let number = first + usize::from(self.entropy.next()?) % limits::UPSTREAM_SOCKETS;
            let port = self.ports.get_mut(number)?;
            if port.socket.is_some() && port.uses < limits::UPSTREAM_SOCKET_USES {
                return Some(number);
            }
            if port.open == 0 {
                return self.renew(number, upstream).or_else(|| self.spare(first, upstream));
            }
        }
        self.spare(first, upstream)
    }

    /// Opens a socket where nothing is awaited, if one more may be.
    fn renew(&mut self, number: usize, upstream: SocketAddr) -> Option<usize> {
        let port = self.ports.get_mut(number)?;
        // Closing a socket takes it out of epoll.
        *port = Port::default();
        let allowed = self.allowance.take()?;
        let ports = self.setup.as_ref().and_then(|setup| setup.forwarder.ports());
        let socket = connected(upstream, ports, &self.epoll, number as u64).ok()?;
        *port = Port { socket: Some(socket), _allowed: Some(allowed), ..Port::default() };
        Some(number)
    }

    /// Where no more may be opened: a port of this upstream that is open, or else one more instead of another upstream's that
    /// is not needed now.
    fn spare(&mut self, first: usize, upstream: SocketAddr) -> Option<usize> {
        let at = usize::from(self.entropy.next()?) % limits::UPSTREAM_SOCKETS;
        let find = |ports: &[Port], is_meant: fn(&Port) -> bool| {
            let mut own = (at..).take(limits::UPSTREAM_SOCKETS).map(|number| first + number % limits::UPSTREAM_SOCKETS);
            own.find(|number| ports.get(*number).is_some_and(is_meant))
        };
        if let Some(number) = find(&self.ports, |port| port.socket.is_some() && port.uses < limits::UPSTREAM_SOCKET_USES) {
            return Some(number);
        }
        let number = find(&self.ports, |port| port.open == 0)?;
        if let Some(idle) = self.ports.iter_mut().find(|port| port.socket.is_some() && port.open == 0) {
            *idle = Port::default();
        }
        self.renew(number, upstream)
    }
}

/// A socket on a random port that hears of this upstream alone.
fn connected(upstream: SocketAddr, ports: Option<Ports>, epoll: impl AsFd, number: u64) -> io::Result<UdpSocket> {
    let socket = bind_towards(upstream, ports)?;
    socket.connect(upstream)?;
    epoll::add(epoll, &socket, EventData::new_u64(number), EventFlags::IN)?;
    Ok(socket)
}

/// A plain query as it goes upstream: with an id and a letter case of its own, and the payload size that we take.
fn write_query(octets: &[u8], id: u16, case: Option<LetterCase>, out: &mut Vec<u8>) {
    out.extend_from_slice(octets);
    if let Some(case) = case {
        case.apply(out);
    }
    if let Some(place) = out.first_chunk_mut() {
        *place = id.to_be_bytes();
    }
    // Its OPT record, if it has one, is the one additional record and stands last. What is in it is for us.
    if octets.get(11) == Some(&1)
        && let Some(end) = question(octets).map(|question| Message::HEADER + question.len())
    {
        out.truncate(end + Edns::BARE);
        if let Some([_, _, _, high, low, _, _, _, _, length @ ..]) = out.last_chunk_mut::<{ Edns::BARE }>() {
            [*high, *low] = limits::UDP_PAYLOAD.to_be_bytes();
            *length = [0, 0];
        }
    }
}

/// Bits that nobody can foretell, taken from the system by the batch.
struct Entropy {
    octets: [u8; 512],
    used: usize,
}

impl Entropy {
    fn new() -> Self {
        Self { octets: [0; 512], used: 512 }
    }

    fn next(&mut self) -> Option<u16> {
        self.draw().map(u16::from_be_bytes)
    }

    fn case(&mut self) -> Option<LetterCase> {
        self.draw().map(|octets| LetterCase::new(u64::from_be_bytes(octets)))
    }

    fn draw<const N: usize>(&mut self) -> Option<[u8; N]> {
        if self.used + N > self.octets.len() {
            getrandom::fill(&mut self.octets).ok()?;
            self.used = 0;
        }
        let octets = *self.octets.get(self.used..)?.first_chunk()?;
        self.used += N;
        Some(octets)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn where_files_are_few_upstreams_share_the_open_sockets() {
        let clients = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut relay = Relay { allowance: Allowance::of(3), ..Relay::new(&clients).unwrap() };
        let open = |relay: &Relay| relay.ports.iter().filter(|port| port.socket.is_some()).count();
        let (first, second) = (SocketAddr::from(([127, 0, 0, 1], 5301)), SocketAddr::from(([127, 0, 0, 1], 5302)));
        let ports: HashSet<usize> = (0..100).map(|_| relay.port(first).expect("a port")).collect();
        assert_eq!((ports.len(), open(&relay)), (3, 3));
        // Another upstream gets the place of one that is idle, and keeps what it has.
        let port = relay.port(second).expect("a port");
        assert!(!ports.contains(&port));
        assert_eq!((0..100).map(|_| relay.port(second)).collect::<HashSet<_>>(), HashSet::from([Some(port)]));
        assert_eq!(open(&relay), 3);
        // Where something is awaited everywhere, nothing is taken away.
        relay.ports.iter_mut().filter(|port| port.socket.is_some()).for_each(|port| port.open = 1);
        assert_eq!(relay.port(SocketAddr::from(([127, 0, 0, 1], 5303))), None);
        assert_eq!(open(&relay), 3);
    }
}
