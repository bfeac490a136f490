//! Connections that are kept: one upstream, as it is reached over TCP, TLS, HTTP or QUIC.
//!
//! A connection is made when it is needed, in a task of its own, so that a query that gives up waiting leaves it to the next
//! one; it carries many queries at one time, is used again, is closed when nobody used it for a while, and is made
//! anew when it breaks in use. A query that meets a broken one goes out again on a new one at once. A connection that has
//! said nothing for long, although it owes a reply, is passed over: its other end may be gone without a word.
//!
//! Start with [`Link::ask`].

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::address::{Host, Protocol, Upstream};
use super::bootstrap::{Found, Place};
use super::connection::{Connection, Wire, is_ended};
use super::cookies::Cookies;
use super::sentry::Watched;
use super::spelling::Spelling;
use super::{ended, https, quic, set_id, tcp, tls};
use crate::dns::{drop_options, option, pad};
use crate::limits;
use crate::problem::Problem;

/// How long a connection may take to be made, with its handshakes and the look-up of its server's name.
const DIAL_MAX: Duration = Duration::from_secs(4);
/// After one that could not be made, the next is tried so much later; who needs it waits.
const DIAL_AGAIN: Duration = Duration::from_millis(250);
/// When the next address of a name is tried too (RFC 8305, 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// How long a connection is kept that nobody uses. Servers close theirs after 10 to 30 s, and a firewall that forgets
/// one in between would cost a wait.
const IDLE_MAX: Duration = Duration::from_secs(20);
/// The shortest silence, a reply being due, after which a connection is in doubt; and in multiples of the usual time.
const DOUBT_MIN: Duration = Duration::from_millis(300);
const DOUBT_TIMES: u32 = 4;
/// How often it is told that an upstream cannot be connected to.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// Queries are padded to multiples of this (RFC 8467, 4.1).
const BLOCK: usize = 128;
/// Options that concern one connection and not the answer.
const OF_THE_CONNECTION: [u16; 2] = [option::TCP_KEEPALIVE, option::PADDING];

/// One upstream, and the connections to it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) upstream: Upstream,
    pub(super) place: Place,
    /// How it gives back what it is asked by datagram.
    pub(super) spelling: Spelling,
    /// Does it give cookies?
    pub(super) cookies: Cookies,
    /// Does it lead back to us?
    pub(super) watched: Watched,
    /// How long a connection is kept that nobody uses.
    idle: Duration,
    tls: OnceLock<Arc<ClientConfig>>,
    found: Found,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connections: Vec<Arc<Connection>>,
    /// The connection that is being made.
    dialing: Option<Dialing>,
    /// When the last one could not be made.
    failed: Option<Instant>,
    told: Option<Instant>,
    /// How long a reply takes, smoothed.
    usual: Duration,
}

/// Tells a connection that is being made, or why it could not be.
type Dialing = watch::Receiver<Option<Result<Arc<Connection>, Arc<str>>>>;

impl Link {
    pub(super) fn new(upstream: Upstream, place: Place) -> Self {
        Self {
            upstream,
            place,
            spelling: Spelling::default(),
            cookies: Cookies::default(),
            watched: Watched::default(),
            idle: IDLE_MAX,
            tls: OnceLock::new(),
            found: Found::default(),
            state: Mutex::default(),
        }
    }

    /// Do both lead to the same server in the same way? Names count only where they are proved.
    pub(super) fn is_same(&self, upstream: &Upstream, place: &Place) -> bool {
        let same_way = self.upstream.protocol == upstream.protocol && self.place == *place;
        let same_way = same_way && self.upstream.trust_ad == upstream.trust_ad;
        let is_proved = upstream.protocol.is_encrypted() || matches!(place, Place::Named(_));
        same_way && (!is_proved || self.upstream == *upstream)
    }

    /// Is what it says of signatures to be believed? On a way on which anybody may put in a word, only if the configuration
    /// says so (RFC 4035, 4.9.3; RFC 6840, 5.8).
    pub(super) fn is_trusted(&self) -> bool {
        let is_here = self.address().is_some_and(|address| address.ip().is_loopback());
        is_here || self.upstream.protocol.is_encrypted() || self.upstream.trust_ad
    }

    /// Where it is, when that is no question.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self.place {
            Place::At(address) => Some(address),
            Place::Named(_) => None,
        }
    }

    /// Where it is asked by datagram; `None` for what has connections, and for what has to be found first.
    pub(super) fn by_datagram(&self) -> Option<SocketAddr> {
        self.address().filter(|_| self.upstream.protocol == Protocol::Udp)
    }

    /// Sends a query and waits for its reply, for as long as the caller does. The reply bears the query's own id, and comes
    /// with the time at which it was asked for, which is after a connection was made.
    pub(super) async fn ask(self: &Arc<Self>, query: &[u8]) -> io::Result<(Instant, Vec<u8>)> {
        let mut octets = query.to_vec();
        if self.upstream.protocol.is_encrypted() {
            drop_options(&mut octets, &[option::PADDING]);
            pad(&mut octets, BLOCK);
        }
        // A stream of one query needs no id, and a cache of HTTP finds the same query only without (RFC 8484, 4.1;
        // RFC 9250, 4.2.1). On a connection that has them, its ids are given there.
        set_id(&mut octets, 0);
        let begun = Instant::now();
        let mut no_older_than = None;
        loop {
            let connection = self.connection(no_older_than).await?;
            let sent = Instant::now();
            match connection.clone().ask(self.clone(), octets.clone()).await {
                // It was broken already, or its server did not want another query: a new one shows what is the matter.
                Err(error) if is_ended(&error) && connection.made < begun && no_older_than.is_none() => {
                    no_older_than = Some(begun);
                }
                Err(error) => return Err(error),
                Ok(mut reply) => {
                    drop_options(&mut reply, &OF_THE_CONNECTION);
                    if let Some(id) = query.first_chunk() {
                        set_id(&mut reply, u16::from_be_bytes(*id));
                    }
                    return Ok((sent, reply));
                }
            }
        }
    }

    /// A connection with room for a query; waits until one is made if there is none.
    async fn connection(self: &Arc<Self>, no_older_than: Option<Instant>) -> io::Result<Arc<Connection>> {
        let mut dialing = {
            let mut state = self.lock();
            state.connections.retain(|connection| !connection.end.is_cancelled());
            let (now, doubt) = (Instant::now(), DOUBT_MIN.max(state.usual * DOUBT_TIMES));
            let young = |connection: &&Arc<Connection>| no_older_than.is_none_or(|than| connection.made >= than);
            let room = state.connections.len() < limits::UPSTREAM_CONNECTIONS_MAX;
            let ranked = state.connections.iter().filter(young).map(|connection| {
                let (silent, waiting) = connection.burden(now);
                (silent > doubt, waiting, connection)
            });
            match ranked.min_by_key(|(doubtful, waiting, _)| (*doubtful, *waiting)) {
                Some((doubtful, waiting, best)) if !(doubtful && room) => {
                    let best = best.clone();
                    if waiting >= limits::UPSTREAM_QUERIES_PER_CONNECTION && room {
                        self.dial(&mut state);
                    }
                    return Ok(best);
                }
                _ => self.dial(&mut state),
            }
        };
        let told = dialing.wait_for(Option::is_some).await.ok().and_then(|told| told.clone());
        told.ok_or_else(ended)?.map_err(|why| io::Error::other(why.to_string()))
    }

    /// Begins to make a connection, unless one is being made; a moment later if the last one could not be made just now.
    fn dial(self: &Arc<Self>, state: &mut State) -> Dialing {
        if let Some(dialing) = state.dialing.as_ref().filter(|dialing| dialing.has_changed().is_ok()) {
            return dialing.clone();
        }
        let (tell, told) = watch::channel(None);
        state.dialing = Some(told.clone());
        let (link, not_before) = (self.clone(), state.failed.map(|failed| failed + DIAL_AGAIN));
        tokio::spawn(async move {
            if let Some(then) = not_before {
                tokio::time::sleep_until(then.into()).await;
            }
            let outcome = match tokio::time::timeout(DIAL_MAX, link.connect()).await {
                Ok(Ok((wire, end))) => Ok(Arc::new(Connection::new(wire, end))),
                Ok(Err(error)) => Err(error.to_string().into()),
                Err(_) => Err(format!("nothing within {} s", DIAL_MAX.as_secs()).into()),
            };
            let mut state = link.lock();
            state.dialing = None;
            match &outcome {
                Ok(connection) => {
                    state.failed = None;
                    state.connections.push(connection.clone());
                    tokio::spawn(link.clone().keep(connection.clone()));
                }
                Err(why) => link.note_failure(&mut state, why),
            }
            drop(state);
            // Nobody may be left to use it yet.
            let _ = tell.send(Some(outcome));
        });
        told
    }

    /// Makes a connection, and what ends it.
    async fn connect(&self) -> io::Result<(Wire, CancellationToken)> {
        let has_failed = self.lock().failed.is_some();
        let addresses = self.found.addresses(&self.place, &self.upstream, has_failed).await?;
        let mut untried = addresses.into_iter();
        let mut trying = FuturesUnordered::new();
        let mut error = io::Error::from(io::ErrorKind::NotFound);
        loop {
            match untried.next() {
                Some(address) => trying.push(self.connect_to(address)),
                None if trying.is_empty() => return Err(error),
                None => {}
            }
            tokio::select! {
                Some(outcome) = trying.next() => match outcome {
                    Ok(made) => return Ok(made),
                    Err(other) => error = other,
                },
                () = tokio::time::sleep(NEXT_ADDRESS), if untried.len() > 0 => {}
            }
        }
    }

    async fn connect_to(&self, address: SocketAddr) -> io::Result<(Wire, CancellationToken)> {
        let (upstream, token) = (&self.upstream, CancellationToken::new());
        let end = token.clone();
        let tcp = async || -> io::Result<TcpStream> {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let quic = async |alpn| quic::dial(address, upstream, self.tls(Some(alpn))?).await;
        let wire = match upstream.protocol {
            // What UDP has no room for.
            Protocol::Udp | Protocol::Tcp => Wire::Pipe(tcp::Pipe::new(tcp().await?, end)),
            Protocol::Tls => Wire::Pipe(tcp::Pipe::new(tls::handshake(tcp().await?, upstream, self.tls(None)?).await?, end)),
            Protocol::Https => {
                Wire::Http2(https::Http2::new(tcp().await?, upstream, self.tls(Some(https::ALPN_H2))?, end).await?)
            }
            Protocol::H3 => Wire::Http3(https::Http3::new(quic(https::ALPN_H3).await?, upstream, end).await?),
            Protocol::Quic => Wire::Doq(quic::Doq::new(quic(quic::ALPN).await?, end)),
        };
        Ok((wire, token))
    }

    /// Whom to trust, kept with the tickets that make the next handshake shorter; a file of authorities is read each time.
    fn tls(&self, alpn: Option<&[u8]>) -> io::Result<Arc<ClientConfig>> {
        if let Some(config) = self.tls.get() {
            return Ok(config.clone());
        }
        let config = Arc::new(tls::client(&self.upstream, alpn)?);
        Ok(if self.upstream.identity.ca.is_some() { config } else { self.tls.get_or_init(|| config).clone() })
    }

    /// Sees a connection to its end, and that there is another when it broke in use.
    async fn keep(self: Arc<Self>, connection: Arc<Connection>) {
        let is_idle = loop {
            tokio::select! {
                () = connection.end.cancelled() => break false,
                () = tokio::time::sleep_until(connection.idle_at(self.idle).into()) => if connection.is_idle(self.idle) {
                    break true;
                }
            }
        };
        connection.end.cancel();
        self.lock().connections.retain(|other| !Arc::ptr_eq(other, &connection));
        while !is_idle && connection.was_of_use() {
            let mut dialing = {
                let mut state = self.lock();
                if !state.connections.is_empty() {
                    break;
                }
                self.dial(&mut state)
            };
            // Its outcome is in the state.
            let _ = dialing.wait_for(Option::is_some).await;
        }
    }

    /// A reply took so long.
    pub(super) fn note_time(&self, took: Duration) {
        let mut state = self.lock();
        state.usual = (state.usual * 7 + took) / 8;
    }

    /// Remembers for a moment that the upstream cannot be connected to, and tells it now and then.
    fn note_failure(&self, state: &mut State, why: &Arc<str>) {
        let now = Instant::now();
        state.failed = Some(now);
        if state.told.is_some_and(|told| now.duration_since(told) < TOLD_EVERY) {
            return;
        }
        state.told = Some(now);
        let problem = Problem::new(format!("upstream {self}: expected a connection, got: {why}"));
        let problem = match self.upstream.protocol.is_encrypted() && why.contains("certificate") {
            true => problem.hint(
                "is it the right server? Otherwise say whom to expect: { url = …, name = \"…\", ca = \"…\", pin = [\"…\"] }",
            ),
            false => problem,
        };
        tracing::warn!("{problem}");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.upstream.host, &self.place) {
            (Host::Name(_), Place::At(address)) => write!(f, "{} ({})", self.upstream, address.ip()),
            _ => write!(f, "{}", self.upstream),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::net::TcpListener;

    use super::super::address::{Identity, Pin};
    use super::super::peer::{NAME, Peer, right};
    use super::*;
    use crate::dns::{Class, Edns, Message, Query, Question, Type};

    const ALL: [Protocol; 5] = [Protocol::Tcp, Protocol::Tls, Protocol::Https, Protocol::H3, Protocol::Quic];
    const ENCRYPTED: [Protocol; 4] = [Protocol::Tls, Protocol::Https, Protocol::H3, Protocol::Quic];

    fn query(name: &str) -> Vec<u8> {
        let question = Question { name: name.parse().unwrap(), qtype: Type::A, qclass: Class::IN };
        Query { edns: Some(Edns::new(1232)), ..Query::of(question) }.compose()
    }

    fn to(peer: &Peer) -> Arc<Link> {
        Arc::new(Link::new(peer.upstream(), Place::At(peer.address)))
    }

    /// Asks, and sees that the reply is to the query.
    async fn ask(link: &Arc<Link>, name: &str) -> Message {
        let asked = query(name);
        let answered = tokio::time::timeout(Duration::from_secs(10), link.ask(&asked)).await.expect("an end of the wait");
        let message = Message::parse(&answered.unwrap_or_else(|error| panic!("{link}: {error}")).1).unwrap();
        assert_eq!(message.id.to_be_bytes(), asked[..2], "{link}: the query's own id");
        assert_eq!((message.questions[0].name.to_string(), message.answers.len()), (format!("{name}."), 1), "{link}");
        message
    }

    async fn error(link: &Arc<Link>) -> String {
        link.ask(&query("www.example.net")).await.expect_err("no reply").to_string()
    }

    /// Waits for what happens in the background.
    async fn within(wanted: &str, mut seen: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !seen() {
            assert!(begun.elapsed() < Duration::from_secs(10), "not within 10 s: {wanted}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    #[tokio::test]
    async fn every_protocol_asks_and_uses_its_connection_again() {
        for protocol in ALL {
            let peer = Peer::start(protocol).await;
            let link = to(&peer);
            for n in 0..5 {
                let message = ask(&link, &format!("n{n}.example.net")).await;
                let options: Vec<u16> = message.edns.unwrap().options.iter().map(|option| option.code).collect();
                assert_eq!(options, [15], "{link}: what concerns the connection is taken out");
            }
            assert_eq!(peer.connections(), 1, "{link}");
            for asked in peer.asked() {
                assert_eq!(asked.len() % BLOCK == 0, protocol.is_encrypted(), "{link}: {} octets", asked.len());
                if ![Protocol::Tcp, Protocol::Tls].contains(&protocol) {
                    assert_eq!(asked[..2], [0, 0], "{link}: no id");
                }
            }
        }
    }

    #[tokio::test]
    async fn many_queries_share_a_connection_and_none_waits_for_another() {
        let trials = ALL.map(async |protocol| {
            let peer = Peer::sometimes_slow(protocol, Duration::from_millis(200)).await;
            let link = to(&peer);
            ask(&link, "www.example.net").await;
            let order = Mutex::new(Vec::new());
            join_all(["slow", "a", "slow2", "b"].map(|name| {
                let (link, order) = (&link, &order);
                async move {
                    ask(link, &format!("{name}.example.net")).await;
                    order.lock().unwrap().push(name);
                }
            }))
            .await;
            let order = order.into_inner().unwrap();
            assert!(order[..2].iter().all(|name| !name.starts_with("slow")), "{link}: {order:?}");
            assert_eq!(peer.connections(), 1, "{link}");
        });
        join_all(trials).await;
    }

    #[tokio::test]
    async fn a_crowd_waits_for_one_handshake_and_gets_a_bounded_number_of_connections() {
        let trials = ALL.map(async |protocol| {
            let peer = Peer::sometimes_slow(protocol, Duration::from_millis(300)).await;
            let link = to(&peer);
            let names: Vec<String> =
                (0..2 * limits::UPSTREAM_QUERIES_PER_CONNECTION).map(|n| format!("slow{n}.example.net")).collect();
            join_all(names.iter().map(|name| ask(&link, name))).await;
            assert_eq!(peer.connections(), 1, "{link}: all came while it was being made");
            join_all(names.iter().map(|name| ask(&link, name))).await;
            // One more is made at a time.
            join_all(names.iter().map(|name| ask(&link, name))).await;
            let connections = peer.connections();
            assert!((2..=limits::UPSTREAM_CONNECTIONS_MAX).contains(&connections), "{link}: {connections} connections");
        });
        join_all(trials).await;
    }

    #[tokio::test]
    async fn a_connection_has_a_bounded_number_of_queries() {
        let peer = Peer::silent(Protocol::Tls).await;
        let link = to(&peer);
        let asked = query("www.example.net");
        let busy = link.connection(None).await.unwrap();
        let waits = (0..limits::UPSTREAM_QUERIES_PER_CONNECTION_MAX).map(|_| busy.clone().ask(link.clone(), asked.clone()));
        assert!(tokio::time::timeout(Duration::from_millis(500), join_all(waits)).await.is_err(), "nobody is answered");
        let error = busy.ask(link.clone(), asked.clone()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
    }

    #[tokio::test]
    async fn a_connection_that_was_killed_is_made_anew_before_it_is_needed() {
        for protocol in ALL {
            let peer = Peer::start(protocol).await;
            let link = to(&peer);
            ask(&link, "www.example.net").await;
            peer.kill();
            within("a second connection that nobody asked for", || peer.connections() == 2).await;
            within("its handshake", || link.lock().connections.len() == 1).await;
            ask(&link, "www.example.net").await;
            assert_eq!(peer.connections(), 2, "{link}");
            // That one is not used, and so nobody hurries to replace it.
            link.lock().connections[0].has_been_of_no_use();
            peer.kill();
            within("the end of it", || link.lock().connections.is_empty()).await;
            ask(&link, "www.example.net").await;
            assert_eq!(peer.connections(), 3, "{link}");
        }
    }

    #[tokio::test]
    async fn a_query_that_meets_a_broken_connection_goes_out_again() {
        for protocol in ALL {
            // Breaks off at each second query.
            let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let counted = count.clone();
            let peer = Peer::with_habit(protocol, move |query| {
                let second = counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % 2 == 1;
                Box::pin(async move { (!second).then(|| right(&query)) })
            })
            .await;
            let link = to(&peer);
            for n in 0..3 {
                ask(&link, "www.example.net").await;
                let breaks = async {
                    within("a query without an answer", || peer.asked().len() == 3 * n + 2).await;
                    peer.kill();
                };
                // The third, which is the second one again, is answered.
                tokio::join!(ask(&link, "www.example.net"), breaks);
                assert_eq!(peer.asked().len(), 3 * n + 3, "{link}");
                // The count of the next turn begins with an answer.
                count.store(0, std::sync::atomic::Ordering::SeqCst);
            }
        }
    }

    #[tokio::test]
    async fn a_connection_that_owes_a_reply_for_long_is_passed_over_and_closed_at_last() {
        let trials = ALL.map(async |protocol| {
            let habit = |query: Vec<u8>| async move { (!query[13..].starts_with(b"mute")).then(|| right(&query)) };
            let peer = Peer::with_habit(protocol, move |query| Box::pin(habit(query))).await;
            let link = to(&peer);
            ask(&link, "www.example.net").await;
            let asked = query("mute.example.net");
            let given_up = tokio::time::timeout(DOUBT_MIN + Duration::from_millis(50), link.ask(&asked)).await;
            assert!(given_up.is_err(), "{link}");
            ask(&link, "www.example.net").await;
            assert_eq!(peer.connections(), 2, "{link}: the first one may be dead");
            let old = link.lock().connections[0].clone();
            within("the end of the silent one", || old.end.is_cancelled()).await;
            within("its place given up", || link.lock().connections.len() == 1).await;
        });
        join_all(trials).await;
    }

    #[tokio::test]
    async fn rfc8310_8_only_who_proves_the_name_is_asked() {
        for protocol in ENCRYPTED {
            let peer = Peer::start(protocol).await;
            let refused = async |what: &str, wanted: &str, change: &dyn Fn(&mut Upstream)| {
                let mut upstream = peer.upstream();
                change(&mut upstream);
                let error = error(&Arc::new(Link::new(upstream, Place::At(peer.address)))).await;
                assert!(error.contains("certificate") && error.contains(wanted), "{protocol:?}, {what}: {error}");
            };
            refused("the name of another", "other.test", &|upstream| upstream.identity.name = Some("other.test".into())).await;
            refused("an authority that nobody here knows", "UnknownIssuer", &|upstream| upstream.identity.ca = None).await;
            let shown = peer.pin.to_string();
            refused("another key", &shown, &|upstream| upstream.identity.pins = vec![Pin([7; 32])]).await;
            refused("another key, pinned alone", &shown, &|upstream| {
                upstream.host = Host::Address(peer.address.into());
                upstream.addresses.clear();
                upstream.identity = Identity { pins: vec![Pin([7; 32])], ..Identity::default() };
            })
            .await;
            refused("a pinned key of the wrong name", "other.test", &|upstream| {
                upstream.identity.name = Some("other.test".into());
                upstream.identity.pins = vec![peer.pin];
            })
            .await;
            assert_eq!(peer.asked(), [[0u8; 0]; 0], "{protocol:?}: nobody of them was told a question");
        }
    }

    #[tokio::test]
    async fn who_proves_what_is_written_is_asked() {
        for protocol in ENCRYPTED {
            let peer = Peer::start(protocol).await;
            let accepted = async |change: &dyn Fn(&mut Upstream)| {
                let mut upstream = peer.upstream();
                change(&mut upstream);
                ask(&Arc::new(Link::new(upstream, Place::At(peer.address))), "www.example.net").await;
            };
            accepted(&|upstream| upstream.identity.pins = vec![Pin([7; 32]), peer.pin]).await;
            // HTTP servers are asked by the name in the certificate, which the peer looks at.
            accepted(&|upstream| {
                upstream.host = Host::Address(peer.address.into());
                upstream.identity.name = Some(NAME.into());
            })
            .await;
            if matches!(protocol, Protocol::Tls | Protocol::Quic) {
                let by_address = |upstream: &mut Upstream| upstream.host = Host::Address(peer.address.into());
                accepted(&by_address).await;
                accepted(&|upstream| {
                    by_address(upstream);
                    upstream.identity = Identity { pins: vec![peer.pin], ..Identity::default() };
                })
                .await;
            }
        }
    }

    #[tokio::test]
    async fn a_handshake_that_never_ends_is_given_up_and_shared() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let link = Arc::new(Link::new(format!("tls://{address}").parse().unwrap(), Place::At(address)));
        let begun = Instant::now();
        let errors = join_all((0..20).map(|_| error(&link))).await;
        assert!(begun.elapsed() >= DIAL_MAX && errors.iter().all(|error| error.contains("nothing within")), "{errors:?}");
        let (_first, _) = listener.accept().await.unwrap();
        let second = tokio::time::timeout(Duration::from_millis(20), listener.accept()).await;
        assert!(second.is_err(), "20 queries were one connection");
    }

    #[tokio::test]
    async fn a_connection_that_was_refused_is_tried_again_after_a_moment() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let link = Arc::new(Link::new(format!("tcp://{address}").parse().unwrap(), Place::At(address)));
        assert!(error(&link).await.contains("refused"));
        let begun = Instant::now();
        assert!(error(&link).await.contains("refused") && begun.elapsed() > DIAL_AGAIN / 2, "not tried again at once");
        let _listener = TcpListener::bind(address).await.unwrap();
        let asked = query("www.example.net");
        assert!(tokio::time::timeout(2 * DIAL_AGAIN, link.ask(&asked)).await.is_err(), "it waits for a reply now");
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed() {
        let trials = ALL.map(async |protocol| {
            let peer = Peer::sometimes_slow(protocol, Duration::from_millis(300)).await;
            let link =
                Arc::new(Link { idle: Duration::from_millis(100), ..Link::new(peer.upstream(), Place::At(peer.address)) });
            ask(&link, "slow.example.net").await;
            within("the end of it", || link.lock().connections.is_empty()).await;
            ask(&link, "slow.example.net").await;
            assert_eq!(peer.connections(), 2, "{link}: neither while a query was under way, and not made anew for nobody");
        });
        join_all(trials).await;
    }
}
