//! Everything that is not known here: which upstreams a name goes to, what is kept of their answers, and the driver that
//! carries a look-up to its reply.
//!
//! Start with [`Forwarder::answer`], which never waits, and [`Forwarder::resolve`], which does.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::Deserialize;
use tokio::sync::oneshot;

use super::address::{Host, Upstream};
use super::{system, tcp, udp};
use crate::dns::{Edns, ExtendedError, Message, Name, Query, Question, Rcode};
use crate::problem::Problem;
use crate::resolve::answer::Transport;
use crate::resolve::cache::{self, Cache, HOP_BY_HOP, Key, Near};
use crate::resolve::forward::{Condition, Lookup, Step, Strategy};

/// The UDP payload that we take from upstreams and give to clients at most: what passes without fragments (RFC 9715, 3).
const UDP_SIZE: u16 = 1232;
/// How long a client waits for a fresh answer when a stale one is at hand.
const STALE_AFTER: Duration = Duration::from_millis(200);
/// How long a failure is remembered (RFC 9520, 3.2: at least a second).
const FAILURE_TTL: Duration = Duration::from_secs(1);

/// The `[forward]` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whom to ask about names that have no route of their own; the system's own servers when unset.
    pub upstreams: Option<Vec<Upstream>>,
    /// How long a look-up may take.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    pub cache: cache::Config,
    pub route: Vec<Route>,
    /// Consul's way: one after the other, nothing kept, nothing changed.
    #[serde(skip)]
    pub sequential: Option<Sequential>,
}

/// Consul's `recursor_timeout` and `recursor_strategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequential {
    pub timeout: Duration,
    pub random: bool,
}

impl Default for Config {
    fn default() -> Self {
        let timeout = Duration::from_millis(2_500);
        Self { upstreams: None, timeout, cache: cache::Config::default(), route: Vec::new(), sequential: None }
    }
}

/// Domains that have upstreams of their own. They never fall back to the others.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    pub domains: Vec<Name>,
    pub upstreams: Vec<Upstream>,
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = |_| serde::de::Error::custom(format!("expected a duration such as \"2s\" or \"500ms\", got {text:?}"));
    humantime::parse_duration(&text).map_err(wrong)
}

/// Names to upstreams to answers.
#[derive(Debug)]
pub struct Forwarder {
    strategy: Strategy,
    /// The first is the default group.
    groups: Vec<Group>,
    /// Domains with a group of their own.
    routes: HashMap<Name, u16>,
    cache: Cache,
    sockets: Arc<Sockets>,
    failures: moka::sync::Cache<Key, ()>,
    /// Look-ups under way, and who else waits for each.
    under_way: Mutex<UnderWay>,
    pub counters: Counters,
}

/// Who waits for each question that is being asked; bounded by the queries that may wait at all.
type UnderWay = HashMap<Key, Vec<oneshot::Sender<Option<Arc<[u8]>>>>>;

/// Upstreams that stand in for each other.
#[derive(Debug)]
struct Group {
    upstreams: Vec<(SocketAddr, Transport)>,
    conditions: Mutex<Vec<Condition>>,
}

#[derive(Debug)]
struct Sockets {
    v4: udp::Pool,
    v6: udp::Pool,
}

/// What happened so far.
#[derive(Debug, Default)]
pub struct Counters {
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    pub stale: AtomicU64,
    pub sent: AtomicU64,
    pub failed: AtomicU64,
}

impl Forwarder {
    /// Looks up what is written as a host name, and takes over the cache and the sockets of a `previous` forwarder whose
    /// routes were the same. `own` are our listeners, which are never asked. Upstreams that cannot be found are problems;
    /// the others serve.
    pub async fn new(config: &Config, previous: Option<&Forwarder>, own: &[SocketAddr]) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let defaults = match &config.upstreams {
            Some(upstreams) => addresses(upstreams, own, &mut problems).await,
            None if config.sequential.is_some() => Vec::new(),
            None => match system::upstreams(Path::new(system::RESOLV_CONF), Path::new(system::RESOLVED_CONF), own) {
                Ok(addresses) => addresses.into_iter().map(|address| (address, Transport::Udp)).collect(),
                Err(problem) => {
                    problems.push(problem);
                    Vec::new()
                }
            },
        };
        let mut groups = vec![Group::new(defaults)];
        let mut routes = HashMap::new();
        for route in &config.route {
            let group = u16::try_from(groups.len()).unwrap_or(u16::MAX);
            groups.push(Group::new(addresses(&route.upstreams, own, &mut problems).await));
            routes.extend(route.domains.iter().map(|domain| (domain.to_lowercase(), group)));
        }
        let strategy = match config.sequential {
            Some(Sequential { timeout, random }) => Strategy::Sequential { timeout, random },
            None => Strategy::Hedged { deadline: config.timeout },
        };
        let same = |other: &&Forwarder| {
            let upstreams = |forwarder: &Forwarder| forwarder.groups.iter().map(|g| g.upstreams.clone()).collect::<Vec<_>>();
            other.routes == routes
                && upstreams(other) == groups.iter().map(|g| g.upstreams.clone()).collect::<Vec<_>>()
                && *other.cache.config() == config.cache
        };
        let cache = previous.filter(same).map_or_else(|| Cache::new(config.cache.clone()), |other| other.cache.clone());
        let sockets = previous
            .map_or_else(|| Arc::new(Sockets { v4: udp::Pool::v4(), v6: udp::Pool::v6() }), |other| other.sockets.clone());
        let failures = moka::sync::Cache::builder().max_capacity(10_000).time_to_live(FAILURE_TTL).build();
        let (under_way, counters) = (Mutex::default(), Counters::default());
        (Self { strategy, groups, routes, cache, sockets, failures, under_way, counters }, problems)
    }

    /// Is there anybody to ask about names without a route?
    pub fn has_upstreams(&self) -> bool {
        self.groups.first().is_some_and(|group| !group.upstreams.is_empty())
    }

    /// Does a route of its own lead this name elsewhere?
    pub fn has_route(&self, name: &Name) -> bool {
        self.group(name) != 0
    }

    /// Writes an answer that is kept and fresh; never waits.
    pub fn answer(&self, query: &Query, transport: Transport, now: Instant, near: &mut Near, out: &mut Vec<u8>) -> bool {
        if self.is_sequential() {
            return false;
        }
        let start = out.len();
        if !near.answer(&self.cache, query, self.group(&query.question.name), now, out) {
            return false;
        }
        self.counters.hits.fetch_add(1, Ordering::Relaxed);
        if out.len() - start > size_limit(query, transport) {
            let cut = truncated(query, out.get(start..).unwrap_or_default());
            out.truncate(start);
            out.extend(cut);
        }
        true
    }

    /// Asks upstream, or whoever asks the same already; `octets` are the query's own. Always has an answer, SERVFAIL at
    /// the worst.
    pub async fn resolve(self: &Arc<Self>, query: &Query, octets: &[u8], transport: Transport) -> Vec<u8> {
        let group = self.group(&query.question.name);
        if self.is_sequential() {
            let answer = self.look_up(group, octets, transport).await;
            // Consul's own answer when all recursors fail: SERVFAIL, with the client's OPT.
            return answer.unwrap_or_else(|| self.failure(query, None));
        }
        self.counters.misses.fetch_add(1, Ordering::Relaxed);
        let Some(key) = Key::new(query, group) else {
            let answer = self.look_up(group, &passed_on(query), transport).await;
            return self.fitted(query, answer.as_deref(), transport);
        };
        let stale = self.cache.get(&key).filter(|entry| entry.is_usable(Instant::now()));
        if self.failures.contains_key(&key) {
            return match stale {
                Some(stale) => self.stale(query, &stale, transport),
                None => self.failure(query, Some("all upstreams failed a moment ago")),
            };
        }
        let fresh = self.shared(key, group, query);
        let answer = match stale {
            None => fresh.await,
            Some(stale) => match tokio::time::timeout(STALE_AFTER, fresh).await {
                Ok(Some(answer)) => Some(answer),
                // The look-up goes on by itself and refreshes the cache.
                Ok(None) | Err(_) => return self.stale(query, &stale, transport),
            },
        };
        self.fitted(query, answer.as_deref(), transport)
    }

    /// Asks a question of our own; `None` when nobody answers.
    pub async fn ask(self: &Arc<Self>, question: Question) -> Option<Message> {
        let query = Query::of(question);
        let mut near = Near::default();
        let mut octets = Vec::new();
        if !self.answer(&query, Transport::Tcp, Instant::now(), &mut near, &mut octets) {
            let transport = if self.is_sequential() { Transport::Udp } else { Transport::Tcp };
            octets = self.resolve(&query, &query.compose(), transport).await;
        }
        Message::parse(&octets).ok().filter(|message| message.rcode != Rcode::SERVFAIL)
    }

    fn is_sequential(&self) -> bool {
        matches!(self.strategy, Strategy::Sequential { .. })
    }

    /// The group that a name goes to: that of the longest domain that it is in.
    fn group(&self, name: &Name) -> u16 {
        if self.routes.is_empty() {
            return 0;
        }
        let mut rest = Some(name.clone());
        while let Some(domain) = rest {
            if let Some(group) = self.routes.get(&domain) {
                return *group;
            }
            rest = domain.parent();
        }
        0
    }

    /// Joins a look-up of the same question, or begins one. It goes on when nobody waits for it any more.
    async fn shared(self: &Arc<Self>, key: Key, group: u16, query: &Query) -> Option<Arc<[u8]>> {
        let (tell, told) = oneshot::channel();
        let first = {
            let mut under_way = self.lock_under_way();
            let waiting = under_way.entry(key.clone()).or_default();
            waiting.push(tell);
            waiting.len() == 1
        };
        if first {
            let (forwarder, octets) = (self.clone(), passed_on(query));
            tokio::spawn(async move {
                let answer: Option<Arc<[u8]>> = forwarder.look_up(group, &octets, Transport::Udp).await.map(Into::into);
                let rcode = answer.as_deref().and_then(|octets| octets.get(3)).map(|low| Rcode(u16::from(low & 15)));
                match (&answer, rcode) {
                    (Some(octets), Some(Rcode::NOERROR | Rcode::NXDOMAIN)) => {
                        forwarder.cache.put(key.clone(), octets, Instant::now());
                    }
                    _ => forwarder.failures.insert(key.clone(), ()),
                }
                let waiting = forwarder.lock_under_way().remove(&key).unwrap_or_default();
                for tell in waiting {
                    let _ = tell.send(answer.clone());
                }
            });
        }
        told.await.ok().flatten()
    }

    /// Carries one look-up to its end.
    async fn look_up(&self, group: u16, octets: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let group = self.groups.get(usize::from(group))?;
        let begun = Instant::now();
        let mut lookup = {
            let mut conditions = group.lock_conditions();
            Lookup::new(self.strategy, transport, &mut conditions, begun, &mut fastrand::Rng::new())
        };
        let mut asked = FuturesUnordered::new();
        let answer = loop {
            match lookup.step(Instant::now()) {
                Step::Send { attempt, upstream, transport } => {
                    self.counters.sent.fetch_add(1, Ordering::Relaxed);
                    let sent = Instant::now();
                    let asking = self.ask_one(group, upstream, transport, octets);
                    asked.push(async move { (attempt, upstream, sent, asking.await) });
                }
                Step::Wait(until) => {
                    tokio::select! {
                        Some((attempt, upstream, sent, reply)) = asked.next() => match reply {
                            Ok(reply) => {
                                let now = Instant::now();
                                if let Some(condition) = group.lock_conditions().get_mut(upstream) {
                                    condition.answered(now.duration_since(sent));
                                }
                                lookup.heard(attempt, reply, now);
                            }
                            Err(error) => {
                                tracing::debug!("upstream {:?}: {error}", group.upstreams.get(upstream));
                                if let Some(condition) = group.lock_conditions().get_mut(upstream) {
                                    condition.missed();
                                }
                                lookup.failed(attempt, Instant::now());
                            }
                        },
                        () = tokio::time::sleep_until(until.into()) => {}
                    }
                }
                Step::Done(answer) => break answer,
            }
        };
        let mut conditions = group.lock_conditions();
        for upstream in lookup.late(Instant::now()) {
            if let Some(condition) = conditions.get_mut(upstream) {
                condition.missed();
            }
        }
        if answer.is_none() {
            self.counters.failed.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    async fn ask_one(&self, group: &Group, upstream: usize, transport: Transport, octets: &[u8]) -> std::io::Result<Vec<u8>> {
        let Some(&(address, own)) = group.upstreams.get(upstream) else { return Err(std::io::ErrorKind::NotFound.into()) };
        match (own, transport) {
            (Transport::Udp, Transport::Udp) if address.is_ipv4() => self.sockets.v4.ask(address, octets).await,
            (Transport::Udp, Transport::Udp) => self.sockets.v6.ask(address, octets).await,
            _ => tcp::ask(address, octets).await,
        }
    }

    /// An answer as this client may have it: its id, its question, its size.
    fn fitted(&self, query: &Query, answer: Option<&[u8]>, transport: Transport) -> Vec<u8> {
        let Some(answer) = answer else { return self.failure(query, Some("no upstream answered in time")) };
        if answer.len() > size_limit(query, transport) {
            return truncated(query, answer);
        }
        let mut octets = answer.to_vec();
        cache::patch(&mut octets, query);
        octets
    }

    fn stale(&self, query: &Query, entry: &cache::Entry, transport: Transport) -> Vec<u8> {
        self.counters.stale.fetch_add(1, Ordering::Relaxed);
        let mut octets = Vec::new();
        entry.write(query, Instant::now(), &mut octets);
        // RFC 8914, 4.4: whoever can read it is told.
        if query.edns.is_some()
            && let Ok(mut message) = Message::parse(&octets)
            && let Some(edns) = &mut message.edns
        {
            edns.options.push(ExtendedError::StaleAnswer.to_option("no upstream answered in time"));
            octets = message.compose(true);
        }
        self.fitted(query, Some(&octets), transport)
    }

    /// SERVFAIL, with the reason for those who can read it.
    fn failure(&self, query: &Query, reason: Option<&str>) -> Vec<u8> {
        let mut message = query.response(Rcode::SERVFAIL);
        message.flags.recursion_available = true;
        message.edns = query.edns.as_ref().map(|edns| match reason {
            Some(reason) => {
                let options = vec![ExtendedError::NoReachableAuthority.to_option(reason)];
                Edns { dnssec_ok: edns.dnssec_ok, options, ..Edns::new(UDP_SIZE) }
            }
            None => Edns { options: Vec::new(), dnssec_ok: false, ..Edns::new(edns.udp_size) },
        });
        message.compose(true)
    }

    fn lock_under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    fn new(upstreams: Vec<(SocketAddr, Transport)>) -> Self {
        let conditions = Mutex::new(vec![Condition::default(); upstreams.len()]);
        Self { upstreams, conditions }
    }

    fn lock_conditions(&self) -> MutexGuard<'_, Vec<Condition>> {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The addresses of upstreams, host names looked up by those that are written as addresses, else by the system's.
async fn addresses(upstreams: &[Upstream], own: &[SocketAddr], problems: &mut Vec<Problem>) -> Vec<(SocketAddr, Transport)> {
    let mut found = Vec::new();
    let plain: Vec<SocketAddr> = upstreams
        .iter()
        .filter_map(|upstream| match upstream.host {
            Host::Address(address) => Some(SocketAddr::new(address, upstream.port)),
            Host::Name(_) => None,
        })
        .collect();
    for upstream in upstreams {
        let addresses = match &upstream.host {
            Host::Address(address) => Ok(vec![SocketAddr::new(*address, upstream.port)]),
            Host::Name(name) => {
                let via = match plain.is_empty() {
                    true => system::upstreams(Path::new(system::RESOLV_CONF), Path::new(system::RESOLVED_CONF), own),
                    false => Ok(plain.clone()),
                };
                match via {
                    Ok(via) => system::bootstrap(name, upstream.port, &via).await,
                    Err(problem) => Err(problem),
                }
            }
        };
        match addresses {
            Ok(addresses) => {
                for address in addresses {
                    if own.contains(&address) {
                        problems.push(Problem::new(format!("upstream {upstream} is this server itself; it is left out")));
                    } else if !found.contains(&(address, upstream.transport)) {
                        found.push((address, upstream.transport));
                    }
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    found
}

/// The query as it goes upstream: the client's flags and options, but for those that concern only its own hop, and with
/// the payload size that we take.
fn passed_on(query: &Query) -> Vec<u8> {
    let mut query = query.clone();
    if let Some(edns) = &mut query.edns {
        edns.udp_size = UDP_SIZE;
        edns.options.retain(|option| !HOP_BY_HOP.contains(&option.code));
    }
    query.compose()
}

/// Octets that this client takes (RFC 6891, 6.2.5).
pub fn size_limit(query: &Query, transport: Transport) -> usize {
    match (transport, &query.edns) {
        (Transport::Tcp, _) => Message::MAX,
        (Transport::Udp, None) => 512,
        (Transport::Udp, Some(edns)) => usize::from(edns.udp_size.clamp(512, UDP_SIZE)),
    }
}

/// An answer of which nothing fits but its header: the client asks again over TCP.
fn truncated(query: &Query, whole: &[u8]) -> Vec<u8> {
    let mut message = query.response(Rcode(u16::from(whole.get(3).copied().unwrap_or_default() & 15)));
    message.flags.truncated = true;
    message.flags.recursion_available = true;
    message.edns = query.edns.as_ref().map(|edns| Edns { dnssec_ok: edns.dnssec_ok, ..Edns::new(UDP_SIZE) });
    message.compose(true)
}
