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
use tokio::sync::watch;

use super::address::{Host, Upstream};
use super::{system, tcp, udp};
use crate::dns::{Edns, ExtendedError, Message, Name, Query, Question, Rcode};
use crate::limits;
use crate::problem::Problem;
use crate::resolve::answer::Transport;
use crate::resolve::cache::{self, Cache, HOP_BY_HOP, Key, Near};
use crate::resolve::forward::{Condition, Lookup, Step, Strategy, is_good};

/// The UDP payload that we take from upstreams and give to clients at most: what passes without fragments (RFC 9715, 3).
const UDP_SIZE: u16 = 1232;
/// How long a client waits for a fresh answer when a stale one is at hand.
const STALE_AFTER: Duration = Duration::from_millis(200);
/// How long an upstream that is probed may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
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
    /// Look-ups under way, and where each will tell its outcome.
    under_way: Mutex<HashMap<Key, watch::Receiver<Option<Outcome>>>>,
    pub counters: Counters,
}

/// An upstream's answer, or why there is none.
type Outcome = Result<Arc<[u8]>, &'static str>;

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
    /// Not looked up, because too many look-ups were under way.
    pub refused: AtomicU64,
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
            let outcome = self.look_up(group, &passed_on(query), transport).await;
            return self.fitted(query, outcome.as_deref().ok_or(SILENCE), transport);
        };
        let kept = self.cache.get(&key).filter(|entry| entry.is_usable(Instant::now()));
        if let Some(entry) = kept.as_ref().filter(|entry| entry.is_fresh(Instant::now())) {
            // Another's look-up ended while this query was on its way here.
            let mut octets = Vec::new();
            entry.write(query, Instant::now(), &mut octets);
            return self.fitted(query, Ok(&octets), transport);
        }
        let stale = |entry: &cache::Entry| self.stale(query, entry, transport);
        if self.failures.contains_key(&key) {
            let reason = "all upstreams failed a moment ago";
            return kept.as_deref().map_or_else(|| self.failure(query, Some(reason)), stale);
        }
        let fresh = self.shared(key, group, query);
        let outcome = match &kept {
            None => fresh.await,
            Some(entry) => match tokio::time::timeout(STALE_AFTER, fresh).await {
                Ok(Ok(octets)) if is_good(&octets) => Ok(octets),
                // RFC 8767, 4: an error refreshes nothing. A look-up that is only late goes on and refreshes the cache.
                _ => return stale(entry),
            },
        };
        self.fitted(query, outcome.as_deref().map_err(|reason| *reason), transport)
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
    async fn shared(self: &Arc<Self>, key: Key, group: u16, query: &Query) -> Outcome {
        let mut told = {
            let mut under_way = self.lock_under_way();
            match under_way.get(&key) {
                Some(told) => told.clone(),
                None if under_way.len() >= limits::LOOKUPS_MAX => {
                    self.counters.refused.fetch_add(1, Ordering::Relaxed);
                    return Err("too many look-ups are under way");
                }
                None => {
                    let (tell, told) = watch::channel(None);
                    under_way.insert(key.clone(), told.clone());
                    tokio::spawn(self.clone().carry(key, group, passed_on(query), tell));
                    told
                }
            }
        };
        let outcome = told.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        outcome.unwrap_or(Err(SILENCE))
    }

    /// Carries a look-up that others may join to its end, and keeps what comes of it.
    async fn carry(self: Arc<Self>, key: Key, group: u16, octets: Vec<u8>, tell: watch::Sender<Option<Outcome>>) {
        let place = UnderWay { forwarder: &self, key: &key };
        let answer: Option<Arc<[u8]>> = self.look_up(group, &octets, Transport::Udp).await.map(Into::into);
        match &answer {
            Some(octets) if is_good(octets) => {
                self.cache.put(key.clone(), octets, Instant::now());
            }
            _ => self.failures.insert(key.clone(), ()),
        }
        drop(place);
        // Nobody may be left to hear it.
        let _ = tell.send(Some(answer.ok_or(SILENCE)));
    }

    /// Carries one look-up to its end.
    async fn look_up(self: &Arc<Self>, group: u16, octets: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let number = usize::from(group);
        let group = self.groups.get(number)?;
        let mut lookup = {
            let mut conditions = group.lock_conditions();
            Lookup::new(self.strategy, transport, &mut conditions, Instant::now(), &mut fastrand::Rng::new())
        };
        let mut asked = FuturesUnordered::new();
        let answer = loop {
            match lookup.step(Instant::now()) {
                Step::Send { attempt, upstream, transport } => {
                    let asking = self.ask_one(group, upstream, transport, octets);
                    asked.push(async move { (attempt, asking.await) });
                }
                Step::Probe { upstream } => {
                    tokio::spawn(self.clone().probe(number, upstream, octets.into()));
                }
                Step::Wait(until) => {
                    tokio::select! {
                        Some((attempt, reply)) = asked.next() => match reply {
                            Ok(reply) => lookup.heard(attempt, reply, Instant::now()),
                            Err(_) => lookup.failed(attempt, Instant::now()),
                        },
                        () = tokio::time::sleep_until(until.into()) => {}
                    }
                }
                Step::Done(answer) => break answer,
            }
        };
        let ended_well = answer.as_deref().is_some_and(is_good);
        for upstream in lookup.useless(Instant::now(), ended_well) {
            group.note(upstream, Condition::missed);
        }
        if answer.is_none() {
            self.counters.failed.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    /// Asks an upstream only to learn whether it is back.
    async fn probe(self: Arc<Self>, group: usize, upstream: usize, octets: Box<[u8]>) {
        if let Some(group) = self.groups.get(group) {
            // What came of it is in the upstream's condition, where an error or silence changes nothing for the better.
            let _ = tokio::time::timeout(PROBE_TIMEOUT, self.ask_one(group, upstream, Transport::Udp, &octets)).await;
        }
    }

    /// Asks one upstream, and takes note of how it went.
    async fn ask_one(&self, group: &Group, upstream: usize, transport: Transport, octets: &[u8]) -> std::io::Result<Vec<u8>> {
        let Some(&(address, own)) = group.upstreams.get(upstream) else { return Err(std::io::ErrorKind::NotFound.into()) };
        self.counters.sent.fetch_add(1, Ordering::Relaxed);
        let sent = Instant::now();
        let reply = match (own, transport) {
            (Transport::Udp, Transport::Udp) if address.is_ipv4() => self.sockets.v4.ask(address, octets).await,
            (Transport::Udp, Transport::Udp) => self.sockets.v6.ask(address, octets).await,
            _ => tcp::ask(address, octets).await,
        };
        match &reply {
            Ok(reply) if is_good(reply) => group.note(upstream, |condition| condition.answered(sent.elapsed())),
            Ok(_) => {}
            Err(error) => {
                tracing::debug!("upstream {address}: {error}");
                group.note(upstream, Condition::missed);
            }
        }
        reply
    }

    /// An answer as this client may have it: its id, its question, its size.
    fn fitted(&self, query: &Query, answer: Result<&[u8], &str>, transport: Transport) -> Vec<u8> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(reason) => return self.failure(query, Some(reason)),
        };
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
        // Whoever can read it is told.
        if query.edns.is_some()
            && let Ok(mut message) = Message::parse(&octets)
        {
            // RFC 8914, 4.4 and 4.20.
            let stale =
                if message.rcode == Rcode::NXDOMAIN { ExtendedError::StaleNxdomain } else { ExtendedError::StaleAnswer };
            if let Some(edns) = &mut message.edns {
                edns.options.push(stale.to_option(SILENCE));
                octets = message.compose(true);
            }
        }
        self.fitted(query, Ok(&octets), transport)
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

    fn lock_under_way(&self) -> MutexGuard<'_, HashMap<Key, watch::Receiver<Option<Outcome>>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there is no answer, when nobody gave one.
const SILENCE: &str = "no upstream answered in time";

/// Takes a look-up from the list when it ends, however it ends.
struct UnderWay<'a> {
    forwarder: &'a Forwarder,
    key: &'a Key,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.forwarder.lock_under_way().remove(self.key);
    }
}

impl Group {
    fn new(upstreams: Vec<(SocketAddr, Transport)>) -> Self {
        let conditions = Mutex::new(vec![Condition::default(); upstreams.len()]);
        Self { upstreams, conditions }
    }

    fn note(&self, upstream: usize, what: impl FnOnce(&mut Condition)) {
        if let Some(condition) = self.lock_conditions().get_mut(upstream) {
            what(condition);
        }
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
                    if own.iter().any(|own| system::is_own(address, *own)) {
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
