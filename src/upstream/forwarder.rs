//! Everything that is not known here: which upstreams a name goes to, what is kept of their answers, and the driver that
//! carries a look-up to its reply.
//!
//! Start with [`Forwarder::kept`], which never waits, and [`Forwarder::resolve`], which does. A listener may make the first
//! attempt at a plain question by itself ([`Forwarder::favourite`]) and leave only what does not come of it to a look-up.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::address::{Host, Protocol, Upstream};
use super::link::{Bootstrap, Link, Place};
use super::sentry::{self, Sentry};
use super::tally::{Counters, Tally};
use super::validator::{Validator, Verdict};
use super::{system, tls, udp, validator};
use crate::dns::{Class, Edns, ExtendedError, Flags, Message, Name, PlainQuery, Query, Question, Rcode, Type, is_bare};
use crate::duration;
use crate::limits;
use crate::metrics::{Count, Kind, Labels, Page};
use crate::problem::Problem;
use crate::resolve::answer::Transport;
use crate::resolve::cache::{self, Cache, Entry, HOP_BY_HOP, Key, Names, Stock};
use crate::resolve::dnssec::{self, Reach};
use crate::resolve::failures::{Failures, Fortune, Kind as Failing};
use crate::resolve::filter;
use crate::resolve::forward::{self, Choice, Condition, Lookup, Step, Strategy, is_good};
use crate::resolve::route::{self, Routes, To, Way};

/// How long a client waits for a fresh answer when a stale one is at hand.
const STALE_AFTER: Duration = Duration::from_millis(200);
/// How long an upstream that refuses a question in random letter case may take to answer it as the client wrote.
const TRIAL: Duration = Duration::from_millis(300);
/// How long each upstream may take that is asked to show how it fares.
const TRY_TIMEOUT: Duration = Duration::from_secs(2);

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 100.0
}

/// The `[forward]` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whom to ask about names that have no route of their own; the system's own servers when unset.
    pub upstreams: Option<Vec<Upstream>>,
    /// Where the system's own servers stand, when not in /etc/resolv.conf.
    pub resolv_conf: Option<PathBuf>,
    /// Which of them is asked first.
    pub strategy: Choice,
    /// Questions go out by UDP in random letter case, to upstreams that give it back (0x20).
    pub random_case: bool,
    /// How long a look-up may take.
    #[serde(deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
    pub cache: cache::Config,
    pub route: Vec<Route>,
    /// Addresses of names of one label are asked of nobody but a route of their own.
    pub domain_needed: bool,
    /// What of upstreams' answers is not passed on.
    pub filter: filter::Config,
    /// Whether they are validated.
    pub dnssec: dnssec::Config,
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
        Self {
            upstreams: None,
            resolv_conf: None,
            strategy: Choice::default(),
            random_case: true,
            timeout: Duration::from_millis(2_500),
            cache: cache::Config::default(),
            route: Vec::new(),
            domain_needed: false,
            filter: filter::Config::default(),
            dnssec: dnssec::Config::default(),
            sequential: None,
        }
    }
}

impl Config {
    /// The files that it names, to be taken relative to its own place.
    pub fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let routed = self.route.iter_mut().filter_map(|route| match &mut route.upstreams {
            Some(Whom::Own(upstreams)) => Some(upstreams),
            _ => None,
        });
        let authorities =
            self.upstreams.iter_mut().flatten().chain(routed.flatten()).filter_map(|upstream| upstream.identity.ca.as_mut());
        authorities.chain(&mut self.dnssec.trust_anchor_file)
    }

    /// Has it upstreams without connections that are written by name? Where they are has to be looked up again and again.
    pub fn has_names(&self) -> bool {
        let routed = self.route.iter().filter_map(|route| match &route.upstreams {
            Some(Whom::Own(upstreams)) => Some(upstreams),
            _ => None,
        });
        self.upstreams.iter().chain(routed).flatten().any(|upstream| {
            upstream.protocol == Protocol::Udp && matches!(upstream.host, Host::Name(_)) && upstream.addresses.is_empty()
        })
    }

    /// What is wrong with those files. Those of authorities are read again for each connection.
    pub fn check(&self) -> Vec<Problem> {
        let routed = self.route.iter().filter_map(|route| match &route.upstreams {
            Some(Whom::Own(upstreams)) => Some(upstreams),
            _ => None,
        });
        let files =
            self.upstreams.iter().flatten().chain(routed.flatten()).filter_map(|upstream| upstream.identity.ca.as_ref());
        let wrong = |file: &PathBuf| {
            let problem =
                Problem::new(format!("expected certificates of authorities in PEM, got {}", tls::authorities(file).err()?));
            Some(problem.in_file(file).hint("`ca` names a file with -----BEGIN CERTIFICATE----- in it"))
        };
        let time = limits::LOOKUP_TIME_MIN..=limits::LOOKUP_TIME_MAX;
        let wrong_time = (!time.contains(&self.timeout)).then(|| {
            let (least, most, timeout) = (time.start(), time.end(), self.timeout);
            let problem = Problem::new(format!("forward.timeout: expected {least:?} to {most:?}, got {timeout:?}"));
            problem.hint("a look-up that takes longer than 2.5s is of no use to most clients")
        });
        let anchors = self.dnssec.trust_anchor_file.iter().flat_map(|file| validator::read_anchors(file).1);
        files.filter_map(wrong).chain(wrong_time).chain(anchors).collect()
    }
}

/// Who answers below some domains. What has upstreams of its own never falls back to the others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "RouteText")]
pub struct Route {
    pub domains: Vec<Name>,
    /// Names of one label that are no domain of another route.
    pub single_label: bool,
    /// A and AAAA records of the domains and of all names below them.
    pub addresses: Vec<IpAddr>,
    /// Who is asked for all else; without it, whoever is without this route.
    pub upstreams: Option<Whom>,
    /// Which of them is asked first; without it, as for all other names.
    pub strategy: Option<Choice>,
    /// Answers of upstreams of its own are validated as those of the usual ones are.
    pub validate: bool,
}

/// A route as it is written.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct RouteText {
    #[serde(deserialize_with = "crate::dns::deserialize_domains")]
    domains: Vec<Name>,
    single_label: bool,
    addresses: Vec<IpAddr>,
    upstreams: Option<Whom>,
    strategy: Option<Choice>,
    validate: bool,
}

impl TryFrom<RouteText> for Route {
    type Error = &'static str;

    fn try_from(text: RouteText) -> Result<Self, &'static str> {
        let RouteText { domains, single_label, addresses, upstreams, strategy, validate } = text;
        if domains.is_empty() && !single_label {
            return Err("expected `domains` of this route, got none");
        }
        // A route that was to be private must not be none because a line of it is missing.
        if addresses.is_empty() && upstreams.is_none() {
            return Err("expected `upstreams` or `addresses` of this route, got neither (`upstreams = []` asks nobody)");
        }
        Ok(Self { domains, single_label, addresses, upstreams, strategy, validate })
    }
}

impl Route {
    /// What it means for validation: what only its own upstreams know is in no tree that others sign.
    fn reach(&self) -> Option<Reach> {
        match &self.upstreams {
            Some(Whom::Own(_)) if !self.validate => Some(Reach::Private),
            Some(_) => Some(Reach::Public),
            None => None,
        }
    }

    /// What upstreams are called by whose first route this is.
    fn called(&self) -> String {
        self.domains.first().map_or_else(|| "single_label".to_owned(), |domain| domain.to_lowercase().to_string())
    }
}

/// Whom a route asks: `["10.0.0.2"]`, nobody with `[]`, or the usual upstreams with `"default"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    Default,
    Own(Vec<Upstream>),
}

impl<'de> Deserialize<'de> for Whom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Whom;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of upstreams, [] for nobody, or \"default\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Whom, E> {
                if text == "default" {
                    Ok(Whom::Default)
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Str(text), &self))
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Whom, A::Error> {
                let upstreams = Vec::deserialize(SeqAccessDeserializer::new(list));
                upstreams.map(Whom::Own).map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Names to upstreams to answers.
#[derive(Debug)]
pub struct Forwarder {
    strategy: Strategy,
    random_case: bool,
    /// The first is the default group.
    groups: Vec<Group>,
    /// Domains that are answered by others than that.
    routes: Routes,
    filter: filter::Config,
    /// Judges answers, if that is wanted.
    validator: Option<Validator>,
    cache: Cache,
    sockets: Arc<Sockets>,
    sentry: Arc<Sentry>,
    failures: Failures,
    /// Look-ups under way.
    under_way: Mutex<LookUps>,
    /// Look-ups that have ended and still listen for who is late.
    listening: Arc<Semaphore>,
    pub counters: Arc<Counters>,
}

/// An upstream's answer, or why there is none.
type Outcome = Result<Arc<[u8]>, &'static str>;

/// What a look-up found, as clients may have it.
struct Found {
    octets: Vec<u8>,
    /// For how long it is proved, if it is.
    holds_for: Option<Duration>,
    /// Why it is not what the zone says; it is our own SERVFAIL then.
    bogus: Option<ExtendedError>,
}

impl From<Vec<u8>> for Found {
    fn from(octets: Vec<u8>) -> Self {
        Self { octets, holds_for: None, bogus: None }
    }
}

/// The questions that are being asked, since when, and where each outcome will be told.
type LookUps = HashMap<Key, (Instant, watch::Receiver<Option<Outcome>>)>;

/// An attempt under way: its number, and what comes of it.
type Asking = BoxFuture<'static, (usize, std::io::Result<Vec<u8>>)>;

/// Upstreams that stand in for each other.
#[derive(Debug)]
struct Group {
    /// `default`, or the first domain of its route.
    name: String,
    upstreams: Vec<Arc<Link>>,
    choice: Choice,
    conditions: Mutex<Vec<Condition>>,
    /// One for each upstream.
    tallies: Vec<Arc<Tally>>,
    fortune: Fortune,
}

/// How a question was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// From what is kept.
    Kept,
    /// From what is kept beyond its time.
    Stale,
    /// By an upstream.
    Asked,
    /// With SERVFAIL, since nobody had an answer.
    Nobody,
}

#[derive(Debug)]
struct Sockets {
    v4: udp::Pool,
    v6: udp::Pool,
}

/// What is kept for a query.
pub enum Kept {
    Fresh(Arc<Entry>),
    /// That its name does not exist, or one above it.
    Denied(Arc<Entry>),
    /// Nothing, and nothing is known that stands in the way of asking for it.
    Nothing {
        key: Key,
        group: u16,
    },
    /// That is for [`Forwarder::resolve`] to say.
    Elsewhere,
}

/// The upstream of a group that is asked first.
#[derive(Debug, Clone, Copy)]
pub struct Favourite {
    pub group: u16,
    upstream: usize,
    pub address: SocketAddr,
    /// It is asked in random letter case, and one attempt that comes back in another is [`udp::OTHER_CASE`].
    pub random_case: bool,
    /// Is what it says of signatures passed on?
    pub is_trusted: bool,
    /// How long to wait for it before a look-up asks others too.
    pub patience: Duration,
}

impl Sockets {
    fn of(&self, upstream: SocketAddr) -> &udp::Pool {
        if upstream.is_ipv4() { &self.v4 } else { &self.v6 }
    }
}

impl Favourite {
    /// An attempt at this upstream, whose reply will be told by `reply`, or never when that is dropped.
    pub fn attempt(&self, sent: Instant, reply: oneshot::Receiver<std::io::Result<Vec<u8>>>) -> FirstAttempt {
        FirstAttempt { upstream: self.upstream, sent, reply }
    }
}

/// An attempt that a listener made by itself. It has not been answered well in time; what still comes of it is told.
#[derive(Debug)]
pub struct FirstAttempt {
    upstream: usize,
    sent: Instant,
    reply: oneshot::Receiver<std::io::Result<Vec<u8>>>,
}

impl Forwarder {
    /// Looks up what is written as a host name, and takes over the cache and the sockets of a `previous` forwarder whose
    /// routes were the same, and the connections to upstreams that are still wanted. `own` are our listeners, which are
    /// never asked. Upstreams that cannot be found are problems; the others serve.
    pub async fn new(config: &Config, previous: Option<&Forwarder>, own: &[SocketAddr]) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let former = previous.iter().flat_map(|other| &other.groups).flat_map(|group| &group.upstreams);
        let mut known = former.cloned().collect();
        let defaults = match &config.upstreams {
            Some(upstreams) => links(upstreams, own, &mut known, &mut problems).await,
            None if config.sequential.is_some() => Vec::new(),
            None => match system_upstreams(config, own) {
                Ok(addresses) => {
                    addresses.into_iter().map(|address| link(address.into(), Place::At(address), &mut known)).collect()
                }
                Err(problem) => {
                    problems.push(problem);
                    Vec::new()
                }
            },
        };
        let tallies = previous.map_or_else(Vec::new, Forwarder::tallies);
        let mut groups = vec![Group::new("default".into(), defaults, config.strategy, &tallies)];
        let mut routes = Routes::new(config.domain_needed);
        // Lists of domains may have a route each, and all of them the same upstreams, which are told by how they are written.
        let mut numbers: HashMap<String, u16> = HashMap::new();
        for route in &config.route {
            let to = match &route.upstreams {
                None => None,
                Some(Whom::Default) => Some(To::Group(0)),
                Some(Whom::Own(upstreams)) if upstreams.is_empty() => Some(To::Nobody),
                Some(Whom::Own(upstreams)) => {
                    let choice = route.strategy.unwrap_or(config.strategy);
                    let written = format!("{choice:?} {upstreams:?}");
                    match (numbers.get(&written), u16::try_from(groups.len())) {
                        (Some(number), _) => Some(To::Group(*number)),
                        (None, Ok(number)) => {
                            let upstreams = links(upstreams, own, &mut known, &mut problems).await;
                            groups.push(Group::new(route.called(), upstreams, choice, &tallies));
                            numbers.insert(written, number);
                            Some(To::Group(number))
                        }
                        (None, Err(_)) => {
                            let problem = Problem::new("expected at most 65,535 different lists of upstreams, got more");
                            problems.push(problem.hint("names of the routes beyond that do not exist"));
                            Some(To::Nobody)
                        }
                    }
                }
            };
            let own = route::Route { addresses: route.addresses.clone().into(), to };
            route.domains.iter().for_each(|domain| routes.add(domain, own.clone()));
            if route.single_label {
                routes.add_single_label(own);
            }
        }
        let strategy = match config.sequential {
            Some(Sequential { timeout, random }) => Strategy::Sequential { timeout, random },
            None => Strategy::Hedged { choice: config.strategy, deadline: config.timeout },
        };
        let validator = (config.dnssec.validate && config.sequential.is_none()).then(|| {
            let reach = config.route.iter().filter_map(|route| Some((route, route.reach()?)));
            let reach = reach.flat_map(|(route, reach)| route.domains.iter().map(move |domain| (domain.clone(), reach)));
            let (validator, wrong) = Validator::new(&config.dnssec, &reach.collect::<Vec<_>>());
            problems.extend(wrong);
            validator
        });
        // A name that leads elsewhere is still the same upstream.
        let same = |other: &&Forwarder| {
            let both = || other.groups.iter().zip(&groups);
            other.routes == routes
                && other.groups.len() == groups.len()
                && both().all(|(one, other)| one.named() == other.named())
                && *other.cache.config() == config.cache
                && other.filter == config.filter
                && other.validator.as_ref().map(Validator::written) == validator.as_ref().map(Validator::written)
        };
        let cache = previous.filter(same).map_or_else(|| Cache::new(config.cache.clone()), |other| other.cache.clone());
        let sockets = match previous {
            Some(other) => other.sockets.clone(),
            None => Arc::new(Sockets { v4: udp::Pool::v4(), v6: udp::Pool::v6() }),
        };
        let sentry = previous.map_or_else(Arc::default, |other| other.sentry.clone());
        let failures = Failures::new(Duration::from_secs(config.cache.max_failure_ttl.into()));
        let counters = previous.map_or_else(Arc::default, |other| other.counters.clone());
        let (under_way, listening) = (Mutex::default(), Arc::new(Semaphore::new(limits::LATE_LISTENERS_MAX)));
        let filter = config.filter.clone();
        let random_case = config.random_case && config.sequential.is_none();
        let forwarder = Self {
            strategy,
            random_case,
            groups,
            routes,
            filter,
            validator,
            cache,
            sockets,
            sentry,
            failures,
            under_way,
            listening,
            counters,
        };
        (forwarder, problems)
    }

    /// What is kept of these names, and may still be given. Looks at each entry.
    pub fn find(&self, names: &Names, now: Instant) -> Vec<Arc<Entry>> {
        self.cache.find(names, now)
    }

    /// Forgets what is kept of these names, failures too; says how many answers that were. Looks at each entry.
    pub fn forget(&self, names: &Names) -> usize {
        self.failures.clear();
        self.cache.forget(names)
    }

    /// How much is kept.
    pub fn stock(&self) -> Stock {
        self.cache.stock()
    }

    fn tallies(&self) -> Vec<Arc<Tally>> {
        self.groups.iter().flat_map(|group| group.tallies.iter().cloned()).collect()
    }

    pub(super) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Says whom the kept answers are from, and by which rules they are kept: what is of another mark is of no use.
    pub(super) fn mark(&self) -> u32 {
        let upstreams: Vec<Vec<_>> = self.groups.iter().map(Group::written).collect();
        let (routes, filter) = (self.routes.written(), &self.filter);
        let cache::Config { min_ttl, max_ttl, max_negative_ttl, .. } = self.cache.config();
        let judged = self.validator.as_ref().map(Validator::written);
        crc32fast::hash(
            format!("{routes:?} {upstreams:?} {filter:?} {judged:?} {min_ttl} {max_ttl} {max_negative_ttl}").as_bytes(),
        )
    }

    /// Is anything kept at all?
    pub fn keeps(&self) -> bool {
        !self.is_sequential() && self.cache.config().size > 0
    }

    /// Where a question goes, and how those are who would be asked.
    pub fn explain(&self, question: &Question) -> Value {
        let Some(number) = self.routes.group(question) else { return Value::Null };
        let Some(group) = self.groups.get(usize::from(number)) else { return Value::Null };
        let conditions = group.lock_conditions().clone();
        let upstreams = group.tallies.iter().zip(&group.upstreams).zip(conditions).map(|((tally, link), condition)| {
            let is_asked_so = self.random_case && link.upstream.protocol == Protocol::Udp;
            let random_case = is_asked_so && link.spelling.is_proved();
            json!({
                "upstream": tally.text(),
                "up": !condition.is_suspect(),
                "leads_back": condition.is_set_aside,
                "latency_ms": condition.latency.map(milliseconds),
                "random_case": random_case,
                "useless_in_a_row": condition.lost,
                "sent": tally.sent.get(),
                "answered": tally.answered.get(),
                "failed": tally.failed.get(),
                "missed": tally.missed.get(),
            })
        });
        let failed_lately =
            Key::new(&Query::of(question.clone()), number).is_some_and(|key| self.failed_lately(&key, number).is_some());
        let anchor = self.validator.as_ref().and_then(|validator| validator.anchor_of(question));
        json!({
            "group": group.name,
            "number": number,
            "domains": self.routes.domains_of(number),
            "order": match (self.strategy, group.choice) {
                (Strategy::Sequential { random: false, .. }, _) => "one after the other",
                (Strategy::Sequential { random: true, .. }, _) => "one after the other, in random order",
                (_, Choice::Hedged) => "the fastest first, another one when it is late",
                (_, Choice::Strict) => "as they are written, the next one when one is late",
                (_, Choice::Parallel) => "all at once",
                (_, Choice::Random) => "any of them first, another one when it is late",
            },
            "failed_lately": failed_lately,
            "trust_anchor": anchor.map(|zone| zone.to_string()),
            "upstreams": upstreams.collect::<Vec<_>>(),
        })
    }

    /// Asks each upstream that a question may go to, all at once, and tells how each fared. Nothing of it is kept.
    pub async fn try_each(self: &Arc<Self>, question: &Question) -> Value {
        let number = self.routes.group(question).map(usize::from);
        let Some((number, group)) = number.and_then(|number| Some((number, self.groups.get(number)?))) else {
            return Value::Null;
        };
        let query = Query { edns: Some(Edns::new(limits::UDP_PAYLOAD)), ..Query::of(question.clone()) };
        let octets: Arc<[u8]> = query.compose().into();
        let tries = group.tallies.iter().enumerate().map(|(upstream, tally)| {
            let asking = self.clone().ask_one(number, upstream, Transport::Udp, octets.clone(), false);
            async move {
                let begun = Instant::now();
                let asked = tokio::time::timeout(TRY_TIMEOUT, asking);
                let outcome = match asked.await {
                    Ok(Ok(reply)) => {
                        let [_, _, high, low, _, _, count_high, count_low, ..] = reply[..] else { return Value::Null };
                        let count = u16::from_be_bytes([count_high, count_low]);
                        let rcode = Rcode(u16::from(low & 15));
                        let cut = if high & 2 != 0 { ", cut: it comes whole over TCP" } else { "" };
                        format!("{rcode}, {count} {}{cut}", if count == 1 { "record" } else { "records" })
                    }
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => format!("silent for {} s", TRY_TIMEOUT.as_secs()),
                };
                json!({ "upstream": tally.text(), "outcome": outcome, "took_ms": milliseconds(begun.elapsed()) })
            }
        });
        Value::Array(futures_util::future::join_all(tries).await)
    }

    /// What validation makes of the answer to a question, and why.
    pub async fn judge(self: &Arc<Self>, question: &Question) -> Value {
        let told = |state: &str, because: String| json!({ "state": state, "because": because });
        let Some(validator) = &self.validator else { return Value::Null };
        let Some(anchor) = validator.anchor_of(question) else {
            return told("not validated", "it is in an exception of [forward.dnssec], or in a route of its own".into());
        };
        let reply = match self.ask_unjudged(question.clone()).await {
            Ok(reply) => reply,
            Err(reason) => return told("unknown", reason),
        };
        match validator.judge(self, &reply).await {
            Verdict::Secure(_) => told("secure", format!("it is signed, from the trust anchor of {anchor} on")),
            Verdict::Insecure => told("insecure", "it is in a zone that is not signed, as the zone above it proves".into()),
            Verdict::Bogus(fault) => told("bogus", fault.text),
        }
    }

    /// Sees which upstreams lead back to us, as long as this forwarder is the one in force: asks those that are due, and
    /// returns when others may be, or when there is another forwarder.
    pub async fn watch(self: &Arc<Self>, in_doubt: bool) -> bool {
        if self.is_sequential() {
            // As Consul does not.
            return self.sentry.wait(Instant::now() + sentry::AROUND_MAX).await;
        }
        let mut links: Vec<&Arc<Link>> = Vec::new();
        for link in self.groups.iter().flat_map(|group| &group.upstreams) {
            if !links.iter().any(|other| Arc::ptr_eq(other, link)) {
                links.push(link);
            }
        }
        let now = Instant::now();
        let is_due = |link: &&&Arc<Link>| link.watched.due(in_doubt, now) <= now;
        futures_util::future::join_all(links.iter().filter(is_due).map(|link| self.probe_the_way(link))).await;
        let now = Instant::now();
        let next = links.iter().map(|link| link.watched.due(false, now)).min();
        self.sentry.wait(next.unwrap_or(now + sentry::SET_ASIDE)).await
    }

    /// Are the upstreams of both the same, and in the same places?
    pub fn asks_the_same(&self, other: &Self) -> bool {
        let all_in = |one: &Group, other: &Group| {
            one.upstreams.iter().all(|link| other.upstreams.iter().any(|other| Arc::ptr_eq(link, other)))
        };
        self.groups.len() == other.groups.len()
            && self.groups.iter().zip(&other.groups).all(|(one, other)| all_in(one, other) && all_in(other, one))
    }

    /// Has all of them looked at now: this forwarder has come into force.
    pub fn watch_anew(&self) {
        self.groups.iter().flat_map(|group| &group.upstreams).for_each(|link| link.watched.forget());
        self.sentry.wake();
    }

    /// Asks one upstream for a name that nobody knows, and sees whether the question comes here.
    async fn probe_the_way(&self, link: &Arc<Link>) {
        let Ok(name) = self.sentry.begin(link, Instant::now()) else { return };
        let query = Query::of(Question { name: name.clone(), qtype: Type::HINFO, qclass: Class::IN }).compose();
        let reply = async {
            match (link.upstream.protocol, link.address()) {
                (Protocol::Udp, Some(address)) => self.ask_by_datagram(link, address, &query, true).await.1,
                _ => link.ask(&query).await.map(|(_, reply)| reply),
            }
        };
        // What it says is of no interest, nor that it says nothing.
        let _ = tokio::time::timeout(sentry::AROUND_MAX, reply).await;
        // Whoever has brought it back is noted by now, in a state of its own.
        if self.sentry.asked(&name).is_some() {
            self.sentry.end(&name);
            self.set_aside(link, false);
        }
    }

    /// Is this the name that an upstream was asked for only to see whether it leads here? Then it does, and is set aside.
    pub fn has_come_back(&self, name: &Name) -> bool {
        let Some(link) = self.sentry.asked(name) else { return false };
        self.sentry.end(name);
        self.set_aside(&link, true);
        true
    }

    /// Sets an upstream aside, or asks it again as any other.
    fn set_aside(&self, link: &Arc<Link>, leads_back: bool) {
        let is_new = link.watched.note(leads_back);
        for group in &self.groups {
            let mut conditions = group.lock_conditions();
            for (condition, _) in conditions.iter_mut().zip(&group.upstreams).filter(|(_, own)| Arc::ptr_eq(own, link)) {
                condition.is_set_aside = leads_back;
            }
        }
        if is_new && leads_back {
            let problem =
                Problem::new(format!("upstream {link}: expected a server that asks others, got our own question back"));
            let hint = "it, or whom it asks, has this server as its upstream: change that there, or take it out here; it is set \
                        aside meanwhile, and looked at every minute";
            tracing::warn!("{}", problem.hint(hint));
        } else if is_new {
            tracing::info!("upstream {link} leads back here no more, and is asked again");
        }
    }

    /// Look-ups under way.
    pub fn under_way(&self) -> usize {
        self.lock_under_way().len()
    }

    /// What happened so far, and how much is kept.
    pub fn metrics(all: &[(Option<&str>, &Arc<Self>)], page: &mut Page) {
        use Kind::{Counter, Gauge};
        let of_view = |view: &Option<&str>| -> Labels { view.map(|view| ("view", view.to_owned())).into_iter().collect() };
        let stocks = || all.iter().map(|(view, forwarder)| (of_view(view), forwarder.stock()));
        let stock = |of: fn(&Stock) -> u64| stocks().map(move |(labels, stock)| (labels, of(&stock)));
        let counts = |of: fn(&Counters) -> &Count| {
            all.iter().map(move |(view, forwarder)| (of_view(view), of(&forwarder.counters).get()))
        };
        let entries = stock(|stock| stock.entries as u64);
        page.family(Gauge, "rollcall_cache_entries", "Answers of upstreams that are kept.", entries);
        page.family(Gauge, "rollcall_cache_octets", "What they weigh.", stock(|stock| stock.octets));
        page.family(Gauge, "rollcall_cache_octets_max", "What they may weigh.", stock(|stock| stock.octets_max));
        let evicted = stock(|stock| stock.evicted);
        page.family(Counter, "rollcall_cache_evictions_total", "Answers that made room for others.", evicted);
        let misses = counts(|counters| &counters.misses);
        page.family(Counter, "rollcall_cache_misses_total", "Questions with no fresh answer.", misses);
        let stale = counts(|counters| &counters.stale);
        page.family(Counter, "rollcall_cache_stale_total", "Questions that got a stale answer.", stale);
        page.family(
            Counter,
            "rollcall_cache_prefetches_total",
            "Answers that were fetched anew before their end.",
            counts(|counters| &counters.prefetched),
        );
        let under_way = all.iter().map(|(view, forwarder)| (of_view(view), forwarder.under_way()));
        page.family(Gauge, "rollcall_lookups_under_way", "Questions that are being looked up.", under_way);
        let coalesced = counts(|counters| &counters.coalesced);
        page.family(Counter, "rollcall_lookups_coalesced_total", "Questions that joined one.", coalesced);
        let refused = counts(|counters| &counters.refused);
        page.family(Counter, "rollcall_lookups_refused_total", "Questions beyond the bound.", refused);
        let failed = counts(|counters| &counters.failed);
        page.family(Counter, "rollcall_lookups_failed_total", "Look-ups that no upstream answered.", failed);
        let states = |counters: &Counters| {
            let Counters { secure, insecure, bogus, .. } = counters;
            [("secure", secure.get()), ("insecure", insecure.get()), ("bogus", bogus.get())]
        };
        let validations = all.iter().flat_map(|(view, forwarder)| {
            let labels = |state: &str| [of_view(view), vec![("state", state.to_owned())]].concat();
            states(&forwarder.counters).map(|(state, count)| (labels(state), count))
        });
        page.family(Counter, "rollcall_validations_total", "Answers that were validated, and what they are.", validations);
        let groups =
            || all.iter().flat_map(move |(view, forwarder)| forwarder.groups.iter().map(move |group| (of_view(view), group)));
        let labels = |of_view: &Labels, group: &Group, tally: &Tally| [&of_view[..], &group.labels(tally)].concat();
        let each = || {
            groups().flat_map(move |(of_view, group)| {
                group.tallies.iter().map(move |tally| (labels(&of_view, group, tally), tally))
            })
        };
        let counts = |of: fn(&Tally) -> &Count| each().map(move |(labels, tally)| (labels, of(tally).get()));
        page.family(Counter, "rollcall_upstream_sent_total", "Queries that it was sent.", counts(|tally| &tally.sent));
        page.family(Counter, "rollcall_upstream_answered_total", "Good answers of it.", counts(|tally| &tally.answered));
        page.family(
            Counter,
            "rollcall_upstream_failed_total",
            "Errors of it, and attempts that could not be made.",
            counts(|tally| &tally.failed),
        );
        page.family(
            Counter,
            "rollcall_upstream_missed_total",
            "Look-ups to which it was of no use in time.",
            counts(|tally| &tally.missed),
        );
        let conditions = || {
            groups().flat_map(move |(of_view, group)| {
                let conditions = group.lock_conditions().clone();
                let labels = group.tallies.iter().map(|tally| labels(&of_view, group, tally));
                labels.zip(conditions).collect::<Vec<_>>()
            })
        };
        let up = conditions().map(|(labels, condition)| (labels, u8::from(!condition.is_suspect())));
        page.family(
            Gauge,
            "rollcall_upstream_up",
            "1, or 0 for an upstream that is asked last because it failed or did not answer.",
            up,
        );
        let set_aside = conditions().map(|(labels, condition)| (labels, u8::from(condition.is_set_aside)));
        page.family(
            Gauge,
            "rollcall_upstream_leads_back",
            "1 for an upstream that is not asked because it leads back here.",
            set_aside,
        );
        let latencies =
            conditions().filter_map(|(labels, condition)| condition.latency.map(|latency| (labels, latency.as_secs_f64())));
        page.family(Gauge, "rollcall_upstream_latency_seconds", "How long it takes, smoothed.", latencies);
        page.histograms(
            "rollcall_upstream_seconds",
            "How long its good answers took.",
            each().map(|(labels, tally)| (labels, &tally.took)),
        );
    }

    /// Is there anybody to ask about names without a route?
    pub fn has_upstreams(&self) -> bool {
        self.groups.first().is_some_and(|group| !group.upstreams.is_empty())
    }

    /// The way that a route has for this question.
    pub fn way(&self, question: &Question) -> Way {
        self.routes.way(question)
    }

    /// Is a name in a domain that a route answers by itself, at least in part?
    pub fn is_answered_here(&self, name: &Name) -> bool {
        self.routes.is_answered_here(name)
    }

    /// What is kept for a query: `plain` is the same as `query`, if it is plain. Never waits.
    pub fn kept(&self, query: &Query, plain: Option<&PlainQuery<'_>>, now: Instant) -> Kept {
        let Some(group) = self.routes.group(&query.question) else { return Kept::Elsewhere };
        let key = match plain {
            _ if self.is_sequential() => None,
            Some(plain) => Some(Key::of(plain, group)),
            None => Key::new(query, group),
        };
        let Some(key) = key else { return Kept::Elsewhere };
        let kept = self.cache.get(&key);
        if let Some(entry) = kept.as_ref().filter(|entry| entry.is_fresh(now)) {
            return Kept::Fresh(entry.clone());
        }
        let is_judged = self.judging(query).is_some();
        // What is validated is not denied by a name above it that may not be.
        if let Some(entry) = self.cache.denial(&key, now).filter(|_| !is_judged) {
            return Kept::Denied(entry);
        }
        match kept {
            None if plain.is_some() && !self.failures.knows(&key) && !is_judged => Kept::Nothing { key, group },
            _ => Kept::Elsewhere,
        }
    }

    /// Whom to ask first about names of this group, by UDP; `None` when that is for [`Forwarder::resolve`] to find out.
    pub fn favourite(&self, group: u16, now: Instant) -> Option<Favourite> {
        // Replies that are to be edited go through a look-up.
        let own = self.groups.get(usize::from(group)).filter(|_| !self.is_sequential() && self.filter.is_empty())?;
        let (upstream, patience) = forward::favourite(own.choice, &mut own.lock_conditions(), now, fastrand::u32(..))?;
        let link = own.upstreams.get(upstream).filter(|link| link.upstream.protocol == Protocol::Udp)?;
        let random_case = self.random_case && link.spelling.is_proved();
        let is_trusted = link.is_trusted();
        Some(Favourite { group, upstream, address: link.address()?, random_case, is_trusted, patience })
    }

    /// Takes note of first attempts that a listener made by itself.
    pub fn note_sent(&self, favourite: &Favourite, count: u64) {
        if let Some(tally) = self.groups.get(usize::from(favourite.group)).and_then(|own| own.tallies.get(favourite.upstream)) {
            tally.sent.raise(count);
        }
        self.counters.misses.raise(count);
    }

    /// Takes note of good replies of a favourite, and of how long it took for the last of them.
    pub fn note_answered(&self, favourite: &Favourite, took: Duration, count: u32) {
        if let Some(group) = self.groups.get(usize::from(favourite.group)) {
            group.answered(favourite.upstream, took, count);
            match group.upstreams.get(favourite.upstream) {
                Some(link) if favourite.random_case => link.spelling.kept(count),
                Some(link) if self.random_case && link.spelling.as_written(Instant::now()) => tell_changed(link),
                _ => {}
            }
        }
    }

    /// Sets what is known of upstreams to these latencies.
    #[cfg(test)]
    pub fn measured(&self, group: u16, latencies: [(SocketAddr, Duration); 2]) {
        let group = &self.groups[usize::from(group)];
        for (address, latency) in latencies {
            let upstream = group.upstreams.iter().position(|link| link.address() == Some(address)).unwrap();
            group.upstreams[upstream].spelling.kept(1);
            group.note(upstream, |condition| {
                *condition = Condition::default();
                condition.answered(latency, 1);
            });
        }
    }

    /// Keeps a good and whole reply, if it may be kept. Else it takes the place of what was kept: that is not so any more,
    /// and must not come back as a stale answer.
    pub fn keep(&self, key: Key, reply: &[u8], now: Instant) -> Option<Arc<Entry>> {
        self.keep_until(key, reply, now, None)
    }

    /// The same with an end beyond which it may not be given, however stale an answer may be.
    fn keep_until(&self, key: Key, reply: &[u8], now: Instant, end: Option<Instant>) -> Option<Arc<Entry>> {
        let kept = self.cache.put_until(key.clone(), reply, now, end);
        if kept.is_none() {
            self.cache.remove(&key);
        }
        kept
    }

    /// Asks upstream, or whoever asks the same already; `octets` are the query's own. Always has an answer, SERVFAIL at
    /// the worst. `first` is an attempt that was made already; such a query is plain, and came by UDP.
    pub async fn resolve(
        self: &Arc<Self>,
        query: &Query,
        octets: &[u8],
        transport: Transport,
        first: Option<FirstAttempt>,
    ) -> (Answered, Vec<u8>) {
        let nobody = |reason| (Answered::Nobody, self.failure(query, Some(reason)));
        let Some(group) = self.routes.group(&query.question) else {
            return nobody((ExtendedError::NoReachableAuthority, "nobody is asked about this name"));
        };
        if self.is_sequential() {
            // Consul's own answer when all recursors fail: SERVFAIL, with the client's OPT.
            return match self.unchanged(group, query, octets, transport).await {
                Some(answer) => (Answered::Asked, answer),
                None => (Answered::Nobody, self.failure(query, None)),
            };
        }
        if !is_bare(octets) {
            self.counters.misses.raise(1);
            let answer = self.unchanged(group, query, octets, transport).await;
            return self.fitted(query, octets, answer.as_deref().ok_or(SILENCE), transport);
        }
        let Some(key) = Key::new(query, group) else {
            self.counters.misses.raise(1);
            let answer = self.found(group, query, transport, None).await.map(|found| found.octets);
            return self.fitted(query, octets, answer.as_deref().ok_or(SILENCE), transport);
        };
        let kept = self.cache.get(&key).filter(|entry| entry.is_usable(Instant::now()));
        if let Some(entry) = kept.as_ref().filter(|entry| entry.is_fresh(Instant::now())) {
            // Another's look-up ended while this query was on its way here, or it is a question of our own.
            let mut answer = Vec::new();
            write_kept(entry, query, octets, transport, Instant::now(), &mut answer);
            return (Answered::Kept, answer);
        }
        self.counters.misses.raise(u64::from(first.is_none()));
        let stale = |entry: &Entry| (Answered::Stale, self.stale(query, octets, entry, transport));
        if let Some(failing) = self.failed_lately(&key, group) {
            self.scout(group, query);
            let reason = match failing {
                Failing::Bogus(code) => (code, BOGUS_LATELY),
                Failing::Silence | Failing::Error => FAILED_LATELY,
            };
            return kept.as_deref().map_or_else(|| nobody(reason), stale);
        }
        let (begun, told) = match self.shared(key, group, query, first) {
            Ok(shared) => shared,
            Err(reason) => {
                let reason = (ExtendedError::NoReachableAuthority, reason);
                return kept.as_deref().map_or_else(|| nobody(reason), stale);
            }
        };
        let outcome = match &kept {
            None => outcome(told).await,
            // Whoever joins a look-up later waits for less: it is the look-up that is late.
            Some(entry) => match tokio::time::timeout_at((begun + STALE_AFTER).into(), outcome(told)).await {
                Ok(Ok(octets)) if is_good(&octets) => Ok(octets),
                // RFC 8767, 4: an error refreshes nothing. A look-up that is only late goes on and refreshes the cache.
                _ => return stale(entry),
            },
        };
        self.fitted(query, octets, outcome.as_deref().map_err(|reason| *reason), transport)
    }

    /// Fetches what is kept for a query anew, if that is still near its end.
    pub async fn fetch_anew(self: &Arc<Self>, query: &Query) {
        let Some(group) = self.routes.group(&query.question) else { return };
        let Some(key) = Key::new(query, group) else { return };
        if self.cache.get(&key).is_some_and(|entry| entry.is_due(Instant::now())) {
            self.counters.prefetched.raise(1);
            // What comes of it is kept by whoever carries it, and a failure leaves what is there.
            if let Ok((_, told)) = self.shared(key, group, query, None) {
                let _ = outcome(told).await;
            }
        }
    }

    /// Asks a question of our own; `None` when nobody answers.
    pub async fn ask(self: &Arc<Self>, question: Question) -> Option<Message> {
        let query = Query::of(question);
        let transport = if self.is_sequential() { Transport::Udp } else { Transport::Tcp };
        let (_, octets) = self.resolve(&query, &query.compose(), transport, None).await;
        Message::parse(&octets).ok().filter(|message| message.rcode != Rcode::SERVFAIL)
    }

    /// Has a question failed, and is not to be asked again yet?
    fn failed_lately(&self, key: &Key, group: u16) -> Option<Failing> {
        let own = self.groups.get(usize::from(group))?;
        self.failures.stands(key, &own.fortune, Instant::now())
    }

    /// Who judges the answer to a query. Whoever checks by himself wants it as it is (RFC 4035, 3.2.2).
    fn judging(&self, query: &Query) -> Option<&Validator> {
        let validator = self.validator.as_ref().filter(|_| !query.flags.checking_disabled)?;
        validator.anchor_of(&query.question).map(|_| validator)
    }

    /// Asks for records that are to prove others, or to be proved: with their signatures, and judged by nobody.
    pub(super) fn ask_unjudged(self: &Arc<Self>, question: Question) -> BoxFuture<'static, Result<Message, String>> {
        let forwarder = self.clone();
        let what = format!("{} of {}", question.qtype, question.name);
        async move {
            let query = with_proofs(&Query::of(question));
            let (answered, octets) = forwarder.resolve(&query, &query.compose(), Transport::Tcp, None).await;
            match Message::parse(&octets) {
                Ok(message) if is_good(&octets) => Ok(message),
                Ok(message) if answered != Answered::Nobody => Err(format!("{what}: an upstream answered {}", message.rcode)),
                _ => Err(format!("{what}: {SILENCE}")),
            }
        }
        .boxed()
    }

    /// Has a question looked up, and makes of the reply what its client may have: validated if that is wanted, and without
    /// what is not to be passed on.
    async fn found(
        self: &Arc<Self>,
        group: u16,
        query: &Query,
        transport: Transport,
        first: Option<FirstAttempt>,
    ) -> Option<Found> {
        let Some(validator) = self.judging(query) else {
            let reply = self.look_up(group, query, &passed_on(query), transport, first).await?;
            return Some(completed(self.filter.apply(reply)?, query).into());
        };
        let asked = with_proofs(query);
        let reply = self.look_up(group, &asked, &passed_on(&asked), transport, None).await?;
        let is_good = is_good(&reply);
        let mut message = Message::parse(&completed(reply, &asked)).ok()?;
        message.questions = vec![query.question.clone()];
        let counters = &self.counters;
        let verdict = if is_good { validator.judge(self, &message).await } else { Verdict::Insecure };
        let now = unix_time();
        let (message, holds_for) = match verdict {
            Verdict::Secure(links) => {
                counters.secure.raise(1);
                let left = links.iter().filter_map(|link| link.left(now)).min();
                (dnssec::given(message, Some(&links), query, now), left.map(|left| Duration::from_secs(left.into())))
            }
            Verdict::Insecure => {
                counters.insecure.raise(u64::from(is_good));
                (dnssec::given(message, None, query, now), None)
            }
            Verdict::Bogus(fault) => {
                counters.bogus.raise(1);
                let Question { name, qtype, .. } = &query.question;
                tracing::debug!("bogus: {qtype} of {name}: {fault}");
                let text = format!("{fault}; is it so for others too? {EXCEPTION}");
                let octets = self.failure(query, Some((fault.code, &text)));
                return Some(Found { octets, holds_for: None, bogus: Some(fault.code) });
            }
        };
        Some(Found { octets: self.filter.apply(message.compose(true))?, holds_for, bogus: None })
    }

    /// An answer as it came, but for what is not to be passed on. `octets` are the query's own, which go upstream.
    async fn unchanged(self: &Arc<Self>, group: u16, query: &Query, octets: &[u8], transport: Transport) -> Option<Vec<u8>> {
        self.filter.apply(self.look_up(group, query, octets, transport, None).await?)
    }

    fn is_sequential(&self) -> bool {
        matches!(self.strategy, Strategy::Sequential { .. })
    }

    /// Joins a look-up of the same question, or begins one: since when it is under way, and where its outcome will be told.
    /// It goes on when nobody waits for it any more.
    fn shared(
        self: &Arc<Self>,
        key: Key,
        group: u16,
        query: &Query,
        first: Option<FirstAttempt>,
    ) -> Result<(Instant, watch::Receiver<Option<Outcome>>), &'static str> {
        let mut under_way = self.lock_under_way();
        match under_way.get(&key) {
            Some(shared) => {
                self.counters.coalesced.raise(1);
                Ok(shared.clone())
            }
            None if under_way.len() >= limits::LOOKUPS_MAX => {
                self.counters.refused.raise(1);
                Err("too many look-ups are under way")
            }
            None => {
                let (tell, told) = watch::channel(None);
                let shared = (Instant::now(), told);
                under_way.insert(key.clone(), shared.clone());
                tokio::spawn(self.clone().carry(key, group, query.clone(), first, tell));
                Ok(shared)
            }
        }
    }

    /// Carries a look-up that others may join to its end, and keeps what comes of it.
    async fn carry(
        self: Arc<Self>,
        key: Key,
        group: u16,
        query: Query,
        first: Option<FirstAttempt>,
        tell: watch::Sender<Option<Outcome>>,
    ) {
        let place = UnderWay { forwarder: &self, key: &key };
        let found = self.found(group, &query, Transport::Udp, first).await;
        let (end, bogus) = found.as_ref().map_or((None, None), |found| (found.holds_for, found.bogus));
        let end = end.map(|holds_for| Instant::now() + holds_for);
        let mut answer: Option<Arc<[u8]>> = found.map(|found| found.octets.into());
        match (&answer, self.groups.get(usize::from(group))) {
            (Some(octets), _) if is_good(octets) => {
                self.failures.forget(&key);
                // The first to ask gets the TTLs that the next ones get.
                if let Some(entry) = self.keep_until(key.clone(), octets, Instant::now(), end) {
                    answer = Some(entry.octets().into());
                }
            }
            (_, Some(own)) => {
                let kind = match bogus {
                    Some(code) => Failing::Bogus(code),
                    None if answer.is_none() => Failing::Silence,
                    None => Failing::Error,
                };
                let now = Instant::now();
                let has_stale = self.cache.get(&key).is_some_and(|entry| entry.is_usable(now));
                self.failures.note(key.clone(), kind, has_stale, &own.fortune, now);
            }
            (_, None) => {}
        }
        drop(place);
        // Nobody may be left to hear it.
        let _ = tell.send(Some(answer.ok_or(SILENCE)));
    }

    /// Carries one look-up to its end. `octets` are the query as it goes upstream.
    async fn look_up(
        self: &Arc<Self>,
        group: u16,
        query: &Query,
        octets: &[u8],
        transport: Transport,
        first: Option<FirstAttempt>,
    ) -> Option<Vec<u8>> {
        let number = usize::from(group);
        let group = self.groups.get(number)?;
        let octets: Arc<[u8]> = octets.into();
        let mut rng = fastrand::Rng::new();
        let mut lookup = {
            let mut conditions = group.lock_conditions();
            match (&first, self.strategy) {
                (Some(first), Strategy::Hedged { deadline, .. }) => {
                    Lookup::begun(first.upstream, first.sent, group.choice, deadline, &mut conditions, &mut rng)
                }
                (None, Strategy::Hedged { deadline, .. }) => {
                    let strategy = Strategy::Hedged { choice: group.choice, deadline };
                    Lookup::new(strategy, transport, &mut conditions, Instant::now(), &mut rng)
                }
                _ => Lookup::new(self.strategy, transport, &mut conditions, Instant::now(), &mut rng),
            }
        };
        lookup = lookup.with_edns(query.edns.is_some());
        let without_edns = OnceLock::new();
        let mut asked: FuturesUnordered<Asking> = FuturesUnordered::new();
        if let Some(FirstAttempt { upstream, sent, reply }) = first {
            let (forwarder, as_written) = (self.clone(), octets.clone());
            let heard = async move {
                let reply = reply.await.unwrap_or_else(|_| Err(std::io::ErrorKind::ConnectionRefused.into()));
                let link = forwarder.groups.get(number).and_then(|group| group.upstreams.get(upstream));
                let (sent, reply) = match (&reply, link.and_then(|link| Some((link, link.address()?)))) {
                    (Err(error), Some((link, address))) if error.kind() == udp::OTHER_CASE => {
                        forwarder.ask_as_written(link, address, &as_written).await
                    }
                    _ => (sent, reply),
                };
                (0, forwarder.judged(number, upstream, sent, reply))
            };
            asked.push(heard.boxed());
        }
        let answer = loop {
            match lookup.step(Instant::now()) {
                Step::Send { attempt, upstream, transport, edns } => {
                    let octets = match edns {
                        true => &octets,
                        false => without_edns.get_or_init(|| Query { edns: None, ..onward(query) }.compose().into()),
                    };
                    let asking = self.clone().ask_one(number, upstream, transport, octets.clone(), attempt == 0);
                    asked.push(async move { (attempt, asking.await) }.boxed());
                }
                Step::Probe { upstream } => {
                    tokio::spawn(self.clone().probe(number, upstream, octets.clone()));
                }
                Step::Wait(until) => {
                    tokio::select! {
                        Some((attempt, reply)) = asked.next() => match reply {
                            Ok(reply) if !self.filter.ignores(&reply) => lookup.heard(attempt, reply, Instant::now()),
                            Err(error) if error.kind() == udp::GUESSED_AT => lookup.guessed_at(attempt, Instant::now()),
                            _ => lookup.failed(attempt, Instant::now()),
                        },
                        () = tokio::time::sleep_until(until.into()) => {}
                    }
                }
                Step::Done(answer) => break answer,
            }
        };
        let ended_well = answer.as_deref().is_some_and(is_good);
        for upstream in lookup.useless(Instant::now(), ended_well) {
            group.missed(upstream);
        }
        if !ended_well {
            group.fortune.failed();
        }
        if answer.is_none() {
            self.counters.failed.raise(1);
            self.sentry.wake();
        }
        let open: Vec<(usize, usize)> = lookup.open().collect();
        if !open.is_empty()
            && ended_well
            && let Ok(permit) = self.listening.clone().try_acquire_owned()
        {
            tokio::spawn(self.clone().listen(number, open, asked, permit));
        }
        answer
    }

    /// Hears what still comes of the attempts of a look-up that has ended, to tell who is late from who is silent.
    async fn listen(
        self: Arc<Self>,
        group: usize,
        mut open: Vec<(usize, usize)>,
        mut asked: FuturesUnordered<Asking>,
        _permit: OwnedSemaphorePermit,
    ) {
        let until = tokio::time::Instant::now() + forward::LATE;
        while !open.is_empty()
            && let Ok(Some((attempt, _))) = tokio::time::timeout_at(until, asked.next()).await
        {
            open.retain(|(number, _)| *number != attempt);
        }
        if let Some(group) = self.groups.get(group) {
            open.iter().for_each(|(_, upstream)| group.note(*upstream, Condition::lost));
        }
    }

    /// Has an upstream probed with this query, when none of its group is well and it is time: who asks only for what failed
    /// a moment ago would not see that they are back.
    fn scout(self: &Arc<Self>, group: u16, query: &Query) {
        let number = usize::from(group);
        let upstream = self.groups.get(number).and_then(|own| forward::scout(&mut own.lock_conditions(), Instant::now()));
        if let Some(upstream) = upstream {
            tokio::spawn(self.clone().probe(number, upstream, passed_on(query).into()));
        }
    }

    /// Asks an upstream only to learn whether it is back, or better than it was.
    async fn probe(self: Arc<Self>, group: usize, upstream: usize, octets: Arc<[u8]>) {
        // What came of it is in the upstream's condition, where an error or silence changes nothing for the better.
        let asking = self.clone().ask_one(group, upstream, Transport::Udp, octets, false);
        if tokio::time::timeout(forward::LATE, asking).await.is_err()
            && let Some(group) = self.groups.get(group)
        {
            group.note(upstream, Condition::missed);
            group.note(upstream, Condition::lost);
        }
    }

    /// Asks one upstream, and takes note of how it went.
    async fn ask_one(
        self: Arc<Self>,
        group: usize,
        upstream: usize,
        transport: Transport,
        octets: Arc<[u8]>,
        is_first: bool,
    ) -> std::io::Result<Vec<u8>> {
        let known = self.groups.get(group).and_then(|group| group.upstreams.get(upstream).zip(group.tallies.get(upstream)));
        let Some((link, tally)) = known else { return Err(std::io::ErrorKind::NotFound.into()) };
        tally.sent.raise(1);
        let sent = Instant::now();
        let (sent, reply) = match (link.upstream.protocol, transport, link.address()) {
            (Protocol::Udp, Transport::Udp, Some(address)) => self.ask_by_datagram(link, address, &octets, is_first).await,
            // How long a connection takes to be made says nothing of how long the next reply will take. And nobody guesses
            // at what comes on one, whatever it is that ends it.
            _ => match link.ask(&octets).await {
                Ok((sent, reply)) => (sent, Ok(reply)),
                Err(error) => (sent, Err(std::io::Error::other(error))),
            },
        };
        self.judged(group, upstream, sent, reply)
    }

    /// Asks by datagram, in random letter case as far as the upstream bears it, or may show that it does; since when, and what
    /// came of it.
    async fn ask_by_datagram(
        &self,
        link: &Link,
        address: SocketAddr,
        octets: &[u8],
        is_first: bool,
    ) -> (Instant, std::io::Result<Vec<u8>>) {
        let (pool, sent, spelling) = (self.sockets.of(address), Instant::now(), &link.spelling);
        let is_proved = spelling.is_proved();
        let random = self.random_case && is_bare(octets) && spelling.is_kept(sent) && (is_proved || is_first);
        let case = match random.then(udp::random_case).transpose() {
            Ok(case) => case,
            Err(error) => return (sent, Err(error)),
        };
        if case.is_some() {
            spelling.tries(sent);
        }
        match pool.ask(address, octets, case).await {
            Err(error) if error.kind() == udp::OTHER_CASE => self.ask_as_written(link, address, octets).await,
            Ok(reply) if case.is_none() => {
                if is_good(&reply) && spelling.as_written(Instant::now()) {
                    tell_changed(link);
                }
                (sent, Ok(reply))
            }
            // Is it the case that it refuses?
            Ok(refusal) if !is_proved && !is_good(&refusal) => {
                let again = Instant::now();
                match tokio::time::timeout(TRIAL, pool.ask(address, octets, None)).await {
                    Ok(Ok(reply)) if is_good(&reply) => {
                        if spelling.changed(again) {
                            tell_changed(link);
                        }
                        (again, Ok(reply))
                    }
                    _ => (sent, Ok(refusal)),
                }
            }
            Ok(reply) => {
                spelling.kept(1);
                (sent, Ok(reply))
            }
            Err(error) => (sent, Err(error)),
        }
    }

    /// Asks once more, as the client wrote, where a question came back in another case than that in which it was sent.
    async fn ask_as_written(&self, link: &Link, address: SocketAddr, octets: &[u8]) -> (Instant, std::io::Result<Vec<u8>>) {
        let now = Instant::now();
        if link.spelling.changed(now) {
            tell_changed(link);
        }
        (now, self.sockets.of(address).ask(address, octets, None).await)
    }

    /// Takes note of how an attempt went.
    fn judged(
        &self,
        group: usize,
        upstream: usize,
        sent: Instant,
        mut reply: std::io::Result<Vec<u8>>,
    ) -> std::io::Result<Vec<u8>> {
        let Some(group) = self.groups.get(group) else { return reply };
        if let Ok(reply) = &mut reply
            && !self.is_sequential()
            && group.upstreams.get(upstream).is_some_and(|link| !link.is_trusted())
        {
            clear_ad(reply);
        }
        match &reply {
            Ok(reply) if is_good(reply) => group.answered(upstream, sent.elapsed(), 1),
            Ok(_) => group.failed(upstream),
            Err(error) => {
                let guessed_at = error.kind() == udp::GUESSED_AT;
                if let Some(link) = group.upstreams.get(upstream) {
                    tracing::debug!("upstream {link}: {}{error}", if guessed_at { "forged replies, " } else { "" });
                }
                // Forged replies are nothing that it has done.
                if !guessed_at {
                    group.note(upstream, Condition::missed);
                    group.failed(upstream);
                }
            }
        }
        reply
    }

    /// An answer as this client may have it: its id, its question, its size. `octets` are the query's own.
    fn fitted(&self, query: &Query, octets: &[u8], answer: Result<&[u8], &str>, transport: Transport) -> (Answered, Vec<u8>) {
        // Who has come by a stream can do nothing with a part of an answer.
        let is_part = |answer: &[u8]| transport == Transport::Tcp && answer.get(2).is_some_and(|high| high & 2 != 0);
        match answer {
            Ok(answer) if is_part(answer) => {
                (Answered::Nobody, self.failure(query, Some((ExtendedError::NoReachableAuthority, PART))))
            }
            Ok(answer) => (Answered::Asked, self.cut(query, octets, answer, transport)),
            Err(reason) => (Answered::Nobody, self.failure(query, Some((ExtendedError::NoReachableAuthority, reason)))),
        }
    }

    fn cut(&self, query: &Query, octets: &[u8], answer: &[u8], transport: Transport) -> Vec<u8> {
        if answer.len() > transport.room(query.payload_size()) {
            return truncated(query, answer);
        }
        let mut answer = answer.to_vec();
        cache::patch(&mut answer, octets);
        answer
    }

    fn stale(&self, query: &Query, octets: &[u8], entry: &Entry, transport: Transport) -> Vec<u8> {
        self.counters.stale.raise(1);
        let mut answer = Vec::new();
        entry.write(octets, Instant::now(), &mut answer);
        // Whoever can read it is told.
        if query.edns.is_some()
            && let Ok(mut message) = Message::parse(&answer)
        {
            // RFC 8914, 4.4 and 4.20.
            let stale =
                if message.rcode == Rcode::NXDOMAIN { ExtendedError::StaleNxdomain } else { ExtendedError::StaleAnswer };
            if let Some(edns) = &mut message.edns {
                edns.options.push(stale.to_option(SILENCE));
                answer = message.compose(true);
            }
        }
        self.cut(query, octets, &answer, transport)
    }

    /// SERVFAIL, with the reason for those who can read it.
    fn failure(&self, query: &Query, reason: Option<(ExtendedError, &str)>) -> Vec<u8> {
        let mut message = query.response(Rcode::SERVFAIL);
        message.flags.recursion_available = true;
        message.edns = query.edns.as_ref().map(|edns| match reason {
            Some((code, reason)) => {
                let options = vec![code.to_option(reason)];
                Edns { dnssec_ok: edns.dnssec_ok, options, ..Edns::new(limits::UDP_PAYLOAD) }
            }
            None => Edns { options: Vec::new(), dnssec_ok: false, ..Edns::new(edns.udp_size) },
        });
        message.compose(true)
    }

    fn lock_under_way(&self) -> MutexGuard<'_, LookUps> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there is no answer, when nobody gave one.
const SILENCE: &str = "no upstream answered in time";

/// Why a part of an answer is none.
const PART: &str = "upstreams gave a part of the answer, and none over TCP";

/// What comes of a look-up that is under way.
async fn outcome(mut told: watch::Receiver<Option<Outcome>>) -> Outcome {
    let outcome = told.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
    outcome.unwrap_or(Err(SILENCE))
}

/// Why a question is not asked again at once (RFC 8914, 4.14).
const FAILED_LATELY: (ExtendedError, &str) = (ExtendedError::CachedError, "all upstreams failed a moment ago");

/// The same of an answer that was judged (RFC 4035, 4.7).
const BOGUS_LATELY: &str = "it did not pass validation a moment ago; `rollcall explain NAME --ask` says why";
/// What to do about answers that do not.
const EXCEPTION: &str = "forward.dnssec.exceptions leaves a domain unvalidated";

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
    /// `tallies` are those of upstreams that were there before, which go on.
    fn new(name: String, upstreams: Vec<Arc<Link>>, choice: Choice, tallies: &[Arc<Tally>]) -> Self {
        let condition = |link: &Arc<Link>| {
            let mut condition = Condition::default();
            condition.is_set_aside = link.watched.leads_back();
            condition
        };
        let conditions = Mutex::new(upstreams.iter().map(condition).collect());
        let tally = |(place, link): (usize, &Arc<Link>)| {
            // Those that differ by what is not written out, as their pins, are told apart by their number.
            let same = upstreams.iter().take(place).filter(|other| other.to_string() == link.to_string()).count();
            let upstream = if same == 0 { link.to_string() } else { format!("{link} ({})", same + 1) };
            let former = tallies.iter().find(|tally| tally.is_of(&name, &upstream));
            former.cloned().unwrap_or_else(|| Arc::new(Tally::new(name.clone(), upstream)))
        };
        let tallies = upstreams.iter().enumerate().map(tally).collect();
        Self { name, upstreams, choice, conditions, tallies, fortune: Fortune::default() }
    }

    /// Its upstreams as they were written, each once however many addresses its name has.
    fn named(&self) -> Vec<&Upstream> {
        let mut named: Vec<&Upstream> = self.upstreams.iter().map(|link| &link.upstream).collect();
        named.dedup();
        named
    }

    /// Its upstreams as they were written, and where they are when their names were looked up.
    fn written(&self) -> Vec<(&Upstream, Option<SocketAddr>)> {
        self.upstreams.iter().map(|link| (&link.upstream, link.address())).collect()
    }

    /// How one of its upstreams is called in metrics.
    fn labels(&self, tally: &Tally) -> Labels {
        vec![("group", self.name.clone()), ("upstream", tally.text().to_owned())]
    }

    /// Takes note of good answers, of which the last took so long.
    fn answered(&self, upstream: usize, took: Duration, count: u32) {
        let mut conditions = self.lock_conditions();
        self.fortune.answered(forward::answered(&mut conditions, upstream, took, count));
        if let Some(tally) = self.tallies.get(upstream) {
            tally.answered(took, count);
        }
    }

    /// Takes note that there was no good answer in time.
    fn missed(&self, upstream: usize) {
        self.note(upstream, Condition::missed);
        if let Some(tally) = self.tallies.get(upstream) {
            tally.missed.raise(1);
        }
    }

    fn note(&self, upstream: usize, what: impl FnOnce(&mut Condition)) {
        if let Some(condition) = self.lock_conditions().get_mut(upstream) {
            what(condition);
        }
    }

    fn failed(&self, upstream: usize) {
        if let Some(tally) = self.tallies.get(upstream) {
            tally.failed.raise(1);
        }
    }

    fn lock_conditions(&self) -> MutexGuard<'_, Vec<Condition>> {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The servers that the system asks.
fn system_upstreams(config: &Config, own: &[SocketAddr]) -> Result<Vec<SocketAddr>, Problem> {
    let resolv_conf = config.resolv_conf.as_deref().unwrap_or(Path::new(system::RESOLV_CONF));
    system::upstreams(resolv_conf, Path::new(system::RESOLVED_CONF), own)
}

/// Upstreams as they are reached. Host names without addresses are looked up by those that are written as addresses and
/// asked in plain text, else by the system's: for UDP, which has no connections, now.
async fn links(
    upstreams: &[Upstream],
    own: &[SocketAddr],
    known: &mut Vec<Arc<Link>>,
    problems: &mut Vec<Problem>,
) -> Vec<Arc<Link>> {
    let mut found: Vec<Arc<Link>> = Vec::new();
    let mut bootstrap = Bootstrap { via: Vec::new(), own: own.to_vec() };
    let plain = upstreams.iter().filter(|upstream| !upstream.protocol.is_encrypted());
    let plain = plain.filter_map(|upstream| match upstream.host {
        Host::Address(address) => Some(SocketAddr::new(address, upstream.port)),
        Host::Name(_) => None,
    });
    bootstrap.via = plain.filter(|address| !bootstrap.is_own(*address)).collect();
    for upstream in upstreams {
        let at = |address: &IpAddr| Place::At(SocketAddr::new(*address, upstream.port));
        let places = match &upstream.host {
            Host::Address(address) => vec![at(address)],
            Host::Name(_) if !upstream.addresses.is_empty() => upstream.addresses.iter().map(at).collect(),
            Host::Name(_) if upstream.protocol != Protocol::Udp => vec![Place::Named(bootstrap.clone())],
            Host::Name(name) => match bootstrap.look_up(name, upstream.port).await {
                Ok(addresses) => addresses.into_iter().map(Place::At).collect(),
                Err(problem) => {
                    problems.push(problem);
                    // It is asked where it was.
                    known.iter().filter(|link| link.upstream == *upstream).map(|link| link.place.clone()).collect()
                }
            },
        };
        for place in places {
            match place {
                Place::At(address) if bootstrap.is_own(address) => {
                    problems.push(Problem::new(format!("upstream {upstream} is this server itself; it is left out")));
                }
                place if found.iter().any(|link| link.is_same(upstream, &place)) => {}
                place => found.push(link(upstream.clone(), place, known)),
            }
        }
    }
    found
}

/// The link to an upstream: another group's, or that of before a reload, with its connections, if there is one.
fn link(upstream: Upstream, place: Place, known: &mut Vec<Arc<Link>>) -> Arc<Link> {
    if let Some(link) = known.iter().find(|link| link.is_same(&upstream, &place)) {
        return link.clone();
    }
    let link = Arc::new(Link::new(upstream, place));
    known.push(link.clone());
    link
}

/// The query as it goes upstream: the client's flags and options, but for those that concern only its own hop, and with
/// the payload size that we take.
fn passed_on(query: &Query) -> Vec<u8> {
    onward(query).compose()
}

/// The same with no more in it than others who ask the same can share: RD, AD and CD are all that a query says by its flags
/// (RFC 1035, 4.1.1), and an upstream that stumbles over another would answer all of them with an error.
fn onward(query: &Query) -> Query {
    let Flags { recursion_desired, authentic_data, checking_disabled, .. } = query.flags;
    let mut query = query.clone();
    query.flags = Flags { recursion_desired, authentic_data, checking_disabled, ..Flags::default() };
    if let Some(edns) = &mut query.edns {
        edns.udp_size = limits::UDP_PAYLOAD;
        edns.options.retain(|option| !HOP_BY_HOP.contains(&option.code));
    }
    query
}

/// Tells that an upstream is asked in random letter case no more.
fn tell_changed(link: &Link) {
    let problem = Problem::new(format!(
        "upstream {link}: expected questions answered, and given back, in the letter case in which they are sent"
    ));
    let hint = "it is asked as clients write them, which is a little easier to forge; try other software there";
    tracing::warn!("{}", problem.hint(hint));
}

/// The query with which all comes that proves the answer, whatever the upstream itself thinks of it (RFC 6840, 5.9).
fn with_proofs(query: &Query) -> Query {
    let mut query = query.clone();
    query.edns.get_or_insert_with(|| Edns::new(limits::UDP_PAYLOAD)).dnssec_ok = true;
    query.flags.checking_disabled = true;
    query
}

/// Seconds since 1970, as signatures have them.
fn unix_time() -> u32 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() as u32)
}

/// An upstream's answer with what some of them leave out: the question, without which stub resolvers pass an answer over,
/// and the OPT record that is due to whoever sent one (RFC 6891, 6.1.1).
fn completed(mut answer: Vec<u8>, query: &Query) -> Vec<u8> {
    let Ok(message) = Message::parse(&answer) else { return answer };
    if message.questions.is_empty() {
        let recursion_available = message.flags.recursion_available;
        let mut whole = query.response(message.rcode);
        whole.flags.recursion_available = recursion_available;
        whole.edns = message.edns.or_else(|| own_edns(query)).filter(|_| query.edns.is_some());
        return whole.compose(true);
    }
    if query.edns.is_none() && message.edns.is_some() {
        // Who sent no OPT record gets none (RFC 6891, 7).
        return Message { edns: None, ..message }.compose(true);
    }
    if let Some(edns) = own_edns(query).filter(|_| message.edns.is_none()) {
        add_edns(&mut answer, edns.dnssec_ok);
    }
    answer
}

/// Takes the AD bit from a message.
pub fn clear_ad(message: &mut [u8]) {
    if let Some(octet) = message.get_mut(3) {
        *octet &= !0x20;
    }
}

/// Adds our OPT record to an answer that has none. It goes behind all other records, where it changes no octet of theirs:
/// data of types that we do not know may hold pointers.
pub fn add_edns(answer: &mut Vec<u8>, dnssec_ok: bool) {
    if let Some(count) = answer.get_mut(10..12).and_then(|rest| rest.first_chunk_mut::<2>()) {
        *count = u16::from_be_bytes(*count).saturating_add(1).to_be_bytes();
        answer.extend(Edns::bare(limits::UDP_PAYLOAD, dnssec_ok));
    }
}

/// The OPT record of an answer that has none of an upstream's, for clients that sent one.
fn own_edns(query: &Query) -> Option<Edns> {
    query.edns.as_ref().map(|edns| Edns { dnssec_ok: edns.dnssec_ok, ..Edns::new(limits::UDP_PAYLOAD) })
}

/// Writes an answer that is kept, as much of it as the client takes; `octets` are the query's own.
pub fn write_kept(entry: &Entry, query: &Query, octets: &[u8], transport: Transport, now: Instant, out: &mut Vec<u8>) {
    if entry.size() <= transport.room(query.payload_size()) {
        return entry.write(octets, now, out);
    }
    let mut whole = Vec::new();
    entry.write(octets, now, &mut whole);
    out.extend(truncated(query, &whole));
}

/// An answer of which nothing fits but its header: the client asks again over TCP.
pub fn truncated(query: &Query, whole: &[u8]) -> Vec<u8> {
    let mut message = query.response(Rcode(u16::from(whole.get(3).copied().unwrap_or_default() & 15)));
    message.flags.truncated = true;
    message.flags.recursion_available = true;
    message.edns = own_edns(query);
    message.compose(true)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use futures_util::future::join_all;
    use tokio::net::UdpSocket;

    use super::super::peer;
    use super::*;
    use crate::dns::{RData, Record, Soa};

    /// An upstream that does with each query as it is told.
    struct Peer {
        address: SocketAddr,
        asked: Arc<AtomicU64>,
        task: tokio::task::JoinHandle<()>,
    }

    impl Drop for Peer {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    impl Peer {
        /// Answers after a time; with nothing when there is no answer.
        async fn start(delay_ms: u64, answer: impl Fn(&Query) -> Option<Message> + Send + 'static) -> Self {
            let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
            let (address, asked) = (socket.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
            let count = asked.clone();
            let task = tokio::spawn(async move {
                let mut buffer = [0; 1500];
                while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                    count.fetch_add(1, Ordering::SeqCst);
                    let Some(message) = answer(&Query::parse(&buffer[..length]).unwrap()) else { continue };
                    let socket = socket.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
                        socket.send_to(&message.compose(true), from).await.unwrap();
                    });
                }
            });
            Self { address, asked, task }
        }

        fn asked(&self) -> u64 {
            self.asked.load(Ordering::SeqCst)
        }
    }

    fn right(query: &Query) -> Option<Message> {
        let mut message = query.response(Rcode::NOERROR);
        message.answers.push(Record::new(query.question.name.clone(), 60, RData::A([192, 0, 2, 1].into())));
        message.edns = query.edns.clone();
        Some(message)
    }

    fn negative(query: &Query) -> Option<Message> {
        let mut message = query.response(Rcode::NXDOMAIN);
        let name: Name = "example.net".parse().unwrap();
        let (mname, rname) = (name.clone(), name.clone());
        let soa = Soa { mname, rname, serial: 1, refresh: 1, retry: 1, expire: 1, minimum: 5 };
        message.authorities.push(Record::new(name, 60, RData::Soa(Box::new(soa))));
        message.edns = query.edns.clone();
        Some(message)
    }

    fn wrong(query: &Query) -> Option<Message> {
        Some(query.response(Rcode::SERVFAIL))
    }

    fn silent(_: &Query) -> Option<Message> {
        None
    }

    fn query(name: &str, edns: bool) -> Query {
        let question = Question { name: name.parse().unwrap(), qtype: Type::A, qclass: Class::IN };
        Query { edns: edns.then(|| Edns::new(1232)), ..Query::of(question) }
    }

    fn config(peers: &[&Peer]) -> Config {
        let timeout = Duration::from_millis(600);
        Config { upstreams: Some(peers.iter().map(|peer| peer.address.into()).collect()), timeout, ..Config::default() }
    }

    async fn forwarder(config: &Config) -> Arc<Forwarder> {
        let (forwarder, problems) = Forwarder::new(config, None, &[]).await;
        assert_eq!(problems, []);
        Arc::new(forwarder)
    }

    async fn ask(forwarder: &Arc<Forwarder>, query: &Query) -> Message {
        let (_, octets) = forwarder.resolve(query, &query.compose(), Transport::Udp, None).await;
        Message::parse(&octets).unwrap()
    }

    /// Keeps an answer that is past its time.
    fn keep_stale(forwarder: &Forwarder, query: &Query, message: &Message) {
        let then = Instant::now().checked_sub(Duration::from_secs(3_000)).unwrap();
        forwarder.cache.put(Key::new(query, 0).unwrap(), &message.compose(true), then).unwrap();
    }

    fn extended_error(message: &Message) -> Option<u16> {
        let option = message.edns.as_ref()?.option(crate::dns::option::EXTENDED_ERROR)?;
        Some(u16::from_be_bytes(*option.data.first_chunk()?))
    }

    #[tokio::test]
    async fn an_error_of_one_upstream_is_not_passed_on() {
        let (bad, good) = (Peer::start(0, wrong).await, Peer::start(5, right).await);
        let forwarder = forwarder(&config(&[&bad, &good])).await;
        for n in 0..20 {
            let message = ask(&forwarder, &query(&format!("n{n}.example.net"), false)).await;
            assert_eq!((message.rcode, message.answers.len()), (Rcode::NOERROR, 1), "question {n}");
        }
        assert!(bad.asked() < 6, "who answers with errors is asked now and then only, not {} times", bad.asked());
    }

    #[tokio::test]
    async fn rfc6891_7_who_sends_no_opt_record_gets_none() {
        let eager = |query: &Query| Some(Message { edns: Some(Edns::new(1232)), ..right(query)? });
        let peer = Peer::start(0, eager).await;
        let forwarder = forwarder(&config(&[&peer])).await;
        for edns in [false, true] {
            let message = ask(&forwarder, &query("www.example.net", edns)).await;
            assert_eq!((message.answers.len(), message.edns.is_some()), (1, edns), "{message:?}");
        }
    }

    #[tokio::test]
    async fn who_asks_by_tcp_is_not_told_to_ask_by_tcp() {
        let cut = |query: &Query| {
            let mut message = query.response(Rcode::NOERROR);
            message.flags.truncated = true;
            Some(message)
        };
        let peer = Peer::start(0, cut).await;
        let forwarder = forwarder(&config(&[&peer])).await;
        for (transport, rcode) in [(Transport::Udp, Rcode::NOERROR), (Transport::Tcp, Rcode::SERVFAIL)] {
            let query = query("www.example.net", true);
            let (_, octets) = forwarder.resolve(&query, &query.compose(), transport, None).await;
            let message = Message::parse(&octets).unwrap();
            assert_eq!((message.rcode, message.flags.truncated), (rcode, transport == Transport::Udp), "{message:?}");
        }
    }

    #[tokio::test]
    async fn an_upstream_older_than_edns_answers_who_has_it() {
        let old = |query: &Query| match query.edns {
            None => right(query),
            // It gives back nothing but the header.
            Some(_) => Some(Message { questions: Vec::new(), edns: None, ..query.response(Rcode::FORMERR) }),
        };
        let peer = Peer::start(0, old).await;
        let forwarder = forwarder(&config(&[&peer])).await;
        let message = ask(&forwarder, &query("www.example.net", true)).await;
        assert_eq!((message.rcode, message.answers.len(), message.edns.is_some()), (Rcode::NOERROR, 1, true), "{message:?}");
        assert_eq!(peer.asked(), 3, "with EDNS, without random case, without EDNS");
    }

    #[tokio::test]
    async fn dns0x20_an_upstream_that_changes_the_case_is_asked_as_the_client_wrote() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = seen.clone();
        let lower = move |query: &Query| {
            note.lock().unwrap().push(query.question.name.wire().to_vec());
            let mut message = right(query)?;
            message.questions[0].name = query.question.name.to_lowercase();
            Some(message)
        };
        let peer = Peer::start(0, lower).await;
        let forwarder = forwarder(&config(&[&peer])).await;
        for n in 0..20 {
            let asked = query(&format!("n{n}.A-Name-of-Some-Letters.example.net"), n % 2 == 0);
            let message = ask(&forwarder, &asked).await;
            assert_eq!((message.rcode, message.answers.len()), (Rcode::NOERROR, 1), "question {n}");
            assert_eq!(message.questions[0].name.wire(), asked.question.name.wire(), "as the client wrote it");
            assert_eq!(message.answers[0].owner.wire(), asked.question.name.wire());
        }
        let seen = seen.lock().unwrap();
        let varied = seen.iter().filter(|name| !name.ends_with(b"\x16A-Name-of-Some-Letters\x07example\x03net\0")).count();
        assert_eq!((seen.len(), varied), (23, 3), "three in a row are a habit");
    }

    #[tokio::test]
    async fn dns0x20_an_upstream_that_drops_or_refuses_mixed_case_is_asked_as_the_client_wrote() {
        for refuses in [false, true] {
            let picky = move |query: &Query| {
                let name = &query.question.name;
                if name.wire() == name.to_lowercase().wire() {
                    return right(query);
                }
                refuses.then(|| query.response(Rcode::REFUSED))
            };
            let peer = Peer::start(0, picky).await;
            let forwarder = forwarder(&config(&[&peer])).await;
            for n in 0..8 {
                let asked = query(&format!("n{n}.a-name-of-some-letters.example.net"), n % 2 == 0);
                let message = ask(&forwarder, &asked).await;
                assert_eq!((message.rcode, message.answers.len()), (Rcode::NOERROR, 1), "refuses: {refuses}, question {n}");
            }
            assert!(!forwarder.groups[0].upstreams[0].spelling.is_kept(Instant::now()));
            assert!(peer.asked() < 16, "refuses: {refuses}; it is asked twice for a while only: {} times", peer.asked());
        }
    }

    #[tokio::test]
    async fn rfc4343_4_1_a_client_gets_its_own_case_from_upstreams_that_keep_it() {
        let peer = Peer::start(0, right).await;
        for random_case in [true, false] {
            let forwarder = forwarder(&Config { random_case, ..config(&[&peer]) }).await;
            for n in 0..50 {
                let asked = query(&format!("n{n}.WWW.Example.net"), false);
                let message = ask(&forwarder, &asked).await;
                assert_eq!(message.questions[0].name.wire(), asked.question.name.wire());
                assert_eq!(message.answers[0].owner.wire(), asked.question.name.wire());
            }
            assert!(forwarder.groups[0].upstreams[0].spelling.is_kept(Instant::now()));
        }
        assert_eq!(peer.asked(), 100, "and nothing is asked twice");
    }

    #[tokio::test]
    async fn rfc5452_5_the_same_question_is_looked_up_once_for_all() {
        let peer = Peer::start(40, right).await;
        let forwarder = forwarder(&config(&[&peer])).await;
        let queries: Vec<Query> = ["www.example.net", "WWW.example.net", "www.EXAMPLE.net"]
            .iter()
            .cycle()
            .zip(0..60)
            .map(|(name, id)| Query { id, ..query(name, true) })
            .collect();
        let answers = join_all(queries.iter().map(|query| ask(&forwarder, query))).await;
        for (query, answer) in queries.iter().zip(&answers) {
            assert_eq!((answer.id, answer.answers.len()), (query.id, 1));
            assert_eq!(answer.questions[0].name.wire(), query.question.name.wire(), "as this client spelled it");
        }
        assert_eq!(peer.asked(), 1);
        assert!(forwarder.lock_under_way().is_empty());
    }

    #[tokio::test]
    async fn what_was_kept_is_given_when_upstreams_fail_or_are_late() {
        let (failing, mute, slow) = (Peer::start(0, wrong).await, Peer::start(0, silent).await, Peer::start(300, right).await);
        for peer in [&failing, &mute, &slow] {
            let forwarder = forwarder(&config(&[peer])).await;
            for (name, kept, code) in [("www.example.net", right as fn(&Query) -> _, 3), ("no.example.net", negative, 19)] {
                let asked = query(name, true);
                let kept = kept(&asked).unwrap();
                keep_stale(&forwarder, &asked, &kept);
                let begun = Instant::now();
                let message = ask(&forwarder, &asked).await;
                assert!(begun.elapsed() < Duration::from_millis(290), "{name}: after {:?}", begun.elapsed());
                assert_eq!((message.rcode, extended_error(&message)), (kept.rcode, Some(code)), "{name}");
                assert!(message.answers.iter().chain(&message.authorities).all(|record| record.ttl == 30), "{message:?}");
            }
            assert!(forwarder.counters.stale.get() == 2);
        }
    }

    #[tokio::test]
    async fn queries_whose_flags_change_the_answer_are_told_apart() {
        // Servers refuse what is asked without RD, and set AD for who asked so (RFC 6840, 5.8).
        let by_flags = |query: &Query| {
            let mut message = if query.flags.recursion_desired { right(query)? } else { query.response(Rcode::REFUSED) };
            message.flags.authentic_data = query.flags.authentic_data;
            Some(message)
        };
        let peer = Peer::start(0, by_flags).await;
        let forwarder = forwarder(&config(&[&peer])).await;
        let plain = query("www.example.net", false);
        let (mut unrecursive, mut authentic) = (plain.clone(), plain.clone());
        unrecursive.flags.recursion_desired = false;
        authentic.flags.authentic_data = true;
        assert_eq!(ask(&forwarder, &unrecursive).await.rcode, Rcode::REFUSED);
        assert!(ask(&forwarder, &authentic).await.flags.authentic_data);
        let message = ask(&forwarder, &plain).await;
        assert_eq!((message.rcode, message.flags.authentic_data), (Rcode::NOERROR, false));
    }

    #[tokio::test]
    async fn the_first_answer_keeps_to_the_bounds_of_ttls_too() {
        let peer = Peer::start(0, right).await;
        for (min_ttl, max_ttl, ttl) in [(0, 20, 20), (300, 86_400, 300)] {
            let cache = cache::Config { min_ttl, max_ttl, ..cache::Config::default() };
            let forwarder = forwarder(&Config { cache, ..config(&[&peer]) }).await;
            for _ in 0..2 {
                assert_eq!(ask(&forwarder, &query("www.example.net", false)).await.answers[0].ttl, ttl);
            }
        }
    }

    #[tokio::test]
    async fn what_upstreams_leave_out_is_put_back() {
        let old = |query: &Query| Some(Message { edns: None, ..right(query)? });
        let terse = |query: &Query| Some(Message { questions: Vec::new(), ..query.response(Rcode::REFUSED) });
        let (old, terse) = (Peer::start(0, old).await, Peer::start(0, terse).await);
        let (old, terse) = (forwarder(&config(&[&old])).await, forwarder(&config(&[&terse])).await);
        for edns in [true, false] {
            let asked = query("WWW.example.net", edns);
            // The second time it is kept.
            for _ in 0..2 {
                let message = ask(&old, &asked).await;
                assert_eq!((message.answers.len(), message.edns.is_some()), (1, edns));
            }
            let message = ask(&terse, &asked).await;
            assert_eq!((message.rcode, message.edns.is_some()), (Rcode::REFUSED, edns));
            assert_eq!(message.questions[0].name.wire(), asked.question.name.wire());
        }
    }

    #[tokio::test]
    async fn a_late_answer_refreshes_what_was_stale() {
        let slow = Peer::start(300, right).await;
        let forwarder = forwarder(&config(&[&slow])).await;
        let asked = query("www.example.net", true);
        keep_stale(&forwarder, &asked, &right(&asked).unwrap());
        assert_eq!(extended_error(&ask(&forwarder, &asked).await), Some(3));
        let (mut out, begun) = (Vec::new(), Instant::now());
        let entry = loop {
            if let Kept::Fresh(entry) = forwarder.kept(&asked, None, Instant::now()) {
                break entry;
            }
            assert!(begun.elapsed() < Duration::from_secs(5), "the look-up did not go on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        write_kept(&entry, &asked, &asked.compose(), Transport::Udp, Instant::now(), &mut out);
        assert_eq!(Message::parse(&out).unwrap().answers[0].ttl, 60);
    }

    #[tokio::test]
    async fn silence_of_all_is_a_failure_with_its_reason_and_is_remembered() {
        let mute = Peer::start(0, silent).await;
        let forwarder = forwarder(&Config { timeout: Duration::from_millis(150), ..config(&[&mute]) }).await;
        let asked = query("www.example.net", true);
        let message = ask(&forwarder, &asked).await;
        assert_eq!((message.rcode, extended_error(&message)), (Rcode::SERVFAIL, Some(22)));
        let before = mute.asked();
        let message = ask(&forwarder, &asked).await;
        assert_eq!((message.rcode, extended_error(&message)), (Rcode::SERVFAIL, Some(13)), "RFC 8914, 4.14: a cached error");
        assert_eq!(mute.asked(), before, "RFC 9520, 3.2: not asked again at once");
        let message = ask(&forwarder, &query("www.example.net", false)).await;
        assert_eq!((message.rcode, message.edns), (Rcode::SERVFAIL, None), "OPT only for who sent one");
    }

    #[tokio::test]
    async fn rfc8767_5_a_stale_answer_waits_once_for_a_look_up_that_is_late() {
        let mute = Peer::start(0, silent).await;
        let forwarder = forwarder(&Config { timeout: Duration::from_secs(5), ..config(&[&mute]) }).await;
        let asked = query("www.example.net", true);
        keep_stale(&forwarder, &asked, &right(&asked).unwrap());
        assert_eq!(extended_error(&ask(&forwarder, &asked).await), Some(3));
        let begun = Instant::now();
        assert_eq!(extended_error(&ask(&forwarder, &asked).await), Some(3));
        assert!(begun.elapsed() < STALE_AFTER / 2, "it waited for {:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn rfc8767_4_a_name_that_is_gone_takes_the_place_of_what_was_stale() {
        let peer = Peer::start(0, negative).await;
        let forwarder = forwarder(&config(&[&peer])).await;
        let asked = query("www.example.net", true);
        keep_stale(&forwarder, &asked, &right(&asked).unwrap());
        for _ in 0..2 {
            let message = ask(&forwarder, &asked).await;
            assert_eq!((message.rcode, extended_error(&message)), (Rcode::NXDOMAIN, None));
        }
        assert_eq!(peer.asked(), 1);
    }

    #[tokio::test]
    async fn who_is_late_is_told_from_who_is_silent() {
        let (late, mute, quick) = (Peer::start(150, right).await, Peer::start(0, silent).await, Peer::start(0, right).await);
        for (peer, comes) in [(&late, true), (&mute, false)] {
            let forwarder = forwarder(&config(&[peer, &quick])).await;
            let (slow, other) = (peer.address, quick.address);
            forwarder.measured(0, [(slow, Duration::from_millis(10)), (other, Duration::from_millis(50))]);
            assert_eq!(ask(&forwarder, &query("www.example.net", false)).await.rcode, Rcode::NOERROR);
            let before = forwarder.groups[0].lock_conditions()[0].clone();
            assert_eq!(before.lost, 1, "it was of no use");
            let begun = Instant::now();
            loop {
                let now = forwarder.groups[0].lock_conditions()[0].clone();
                if now != before {
                    break assert_eq!((now.lost == 0, now.latency > before.latency), (comes, comes), "{now:?}");
                }
                assert!(begun.elapsed() < Duration::from_secs(10), "nothing was learnt");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    #[tokio::test]
    async fn connections_to_who_is_silent_are_bounded() {
        let mute = Peer::start(0, silent).await;
        let listener = tokio::net::TcpListener::bind(mute.address).await.unwrap();
        let forwarder = forwarder(&Config { timeout: Duration::from_millis(1_200), ..config(&[&mute]) }).await;
        let opened = async {
            let mut streams = Vec::new();
            loop {
                streams.push(listener.accept().await.unwrap());
                assert!(streams.len() <= limits::UPSTREAM_CONNECTIONS_MAX, "one more for each look-up");
            }
        };
        let queries: Vec<Query> = (0..1_000).map(|n| query(&format!("n{n}.example.net"), false)).collect();
        let asked = join_all(queries.iter().map(|query| ask(&forwarder, query)));
        let messages = tokio::select! {
            messages = asked => messages,
            () = opened => unreachable!("it accepts for ever"),
        };
        assert!(messages.iter().all(|message| message.rcode == Rcode::SERVFAIL));
    }

    #[tokio::test]
    async fn each_route_has_the_strategy_that_is_written() {
        let text = "upstreams = [\"192.0.2.1\"]\nstrategy = \"strict\"\n\
            [[route]]\ndomains = [\"a.example\"]\nupstreams = [\"192.0.2.2\"]\nstrategy = \"parallel\"\n\
            [[route]]\ndomains = [\"b.example\"]\nupstreams = [\"192.0.2.3\"]\n";
        let config: Config = toml::from_str(text).unwrap();
        let (forwarder, _) = Forwarder::new(&config, None, &[]).await;
        let choices: Vec<Choice> = forwarder.groups.iter().map(|group| group.choice).collect();
        assert_eq!(choices, [Choice::Strict, Choice::Parallel, Choice::Strict]);
        let error = toml::from_str::<Config>("strategy = \"best\"").unwrap_err().to_string();
        assert!(error.contains("`hedged`, `strict`, `parallel`, `random`"), "{error}");
    }

    #[tokio::test]
    async fn rfc9520_3_2_a_failure_ends_with_the_silence_that_it_came_from() {
        let is_back = Arc::new(AtomicBool::new(false));
        let back = is_back.clone();
        let peer = Peer::start(0, move |query| if back.load(Ordering::SeqCst) { right(query) } else { None }).await;
        let (timeout, cache) = (Duration::from_millis(100), cache::Config { max_failure_ttl: 30, ..Default::default() });
        let forwarder = forwarder(&Config { timeout, cache, ..config(&[&peer]) }).await;
        let (asked, stale) = (query("www.example.net", true), query("old.example.net", true));
        keep_stale(&forwarder, &stale, &right(&stale).unwrap());
        for name in ["a.example.net", "b.example.net"] {
            assert_eq!(ask(&forwarder, &query(name, true)).await.rcode, Rcode::SERVFAIL);
        }
        // Both failed so often that they are left alone for half a minute.
        for _ in 0..6 {
            for query in [&asked, &stale] {
                let fortune = &forwarder.groups[0].fortune;
                forwarder.failures.note(Key::new(query, 0).unwrap(), Failing::Silence, false, fortune, Instant::now());
            }
        }
        assert_eq!(extended_error(&ask(&forwarder, &asked).await), Some(13));
        is_back.store(true, Ordering::SeqCst);
        let begun = Instant::now();
        while extended_error(&ask(&forwarder, &stale).await) == Some(3) {
            assert!(begun.elapsed() < Duration::from_secs(10), "an upstream that is back was not seen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for query in [&stale, &asked] {
            let message = ask(&forwarder, query).await;
            assert_eq!((message.rcode, message.answers[0].ttl), (Rcode::NOERROR, 60), "right again at once");
        }
    }

    #[tokio::test]
    async fn rfc8767_4_what_an_upstream_says_now_replaces_what_was_stale() {
        let answers: [fn(&Query) -> Option<Message>; 2] = [
            |query| {
                let mut message = right(query)?;
                message.answers[0].ttl = 0;
                Some(message)
            },
            // Without an SOA record it may not be kept.
            |query| Some(Message { authorities: Vec::new(), ..negative(query)? }),
        ];
        for answer in answers {
            let peer = Peer::start(0, answer).await;
            let forwarder = forwarder(&Config { timeout: Duration::from_millis(150), ..config(&[&peer]) }).await;
            let asked = query("www.example.net", true);
            keep_stale(&forwarder, &asked, &right(&asked).unwrap());
            assert_eq!(extended_error(&ask(&forwarder, &asked).await), None);
            drop(peer);
            assert_eq!(ask(&forwarder, &asked).await.rcode, Rcode::SERVFAIL, "and it does not come back");
        }
    }

    #[tokio::test]
    async fn an_upstream_that_is_back_is_seen_although_it_is_slower() {
        let (slow, fast) = (Peer::start(60, right).await, Peer::start(0, right).await);
        let forwarder = forwarder(&config(&[&slow, &fast])).await;
        let group = &forwarder.groups[0];
        group.note(0, Condition::missed);
        group.note(0, Condition::missed);
        assert_eq!(ask(&forwarder, &query("www.example.net", false)).await.rcode, Rcode::NOERROR);
        let begun = Instant::now();
        while group.lock_conditions()[0].lost > 0 {
            assert!(begun.elapsed() < Duration::from_secs(5), "its answer to the probe did not count");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(group.lock_conditions()[0].latency >= Some(Duration::from_millis(60)));
    }

    #[tokio::test]
    async fn rfc4035_4_9_3_who_calls_an_answer_authentic_must_be_beyond_doubt() {
        let trusting = |text: &str| toml::from_str::<Config>(&format!("upstreams = [{text}]")).unwrap();
        for (upstream, is_believed) in [
            ("\"192.0.2.53\"", false),
            ("\"tcp://192.0.2.53\"", false),
            ("{ url = \"192.0.2.53\", trust_ad = true }", true),
            ("\"tls://192.0.2.53\"", true),
            ("\"https://192.0.2.53\"", true),
            ("\"127.0.0.1:5399\"", true),
            ("\"[::1]:5399\"", true),
        ] {
            let forwarder = forwarder(&trusting(upstream)).await;
            let mut message = right(&query("www.example.net", false)).unwrap();
            message.flags.authentic_data = true;
            let reply = forwarder.judged(0, 0, Instant::now(), Ok(message.compose(true))).unwrap();
            assert_eq!(Message::parse(&reply).unwrap().flags.authentic_data, is_believed, "{upstream}");
        }
        let both = trusting("\"192.0.2.53\", { url = \"192.0.2.53\", trust_ad = true }");
        let both = forwarder(&both).await.groups[0].upstreams.iter().map(|link| link.is_trusted()).collect::<Vec<_>>();
        assert_eq!(both, [false, true], "they do not share a connection");
    }

    #[tokio::test]
    async fn a_private_route_never_falls_back() {
        let (public, private) = (Peer::start(0, right).await, Peer::start(0, silent).await);
        let domains = vec!["corp.example".parse().unwrap()];
        let upstreams = Some(Whom::Own(vec![private.address.into()]));
        let route = Route { domains, upstreams, ..Route::default() };
        let timeout = Duration::from_millis(150);
        let forwarder = forwarder(&Config { route: vec![route], timeout, ..config(&[&public]) }).await;
        assert_eq!(ask(&forwarder, &query("www.CORP.example", false)).await.rcode, Rcode::SERVFAIL);
        assert_eq!(public.asked(), 0);
        assert_eq!(ask(&forwarder, &query("corp.example.net", false)).await.rcode, Rcode::NOERROR);
    }

    #[tokio::test]
    async fn a_private_route_whose_upstreams_are_unknown_falls_back_to_nobody() {
        let public = Peer::start(0, right).await;
        let text = "[[route]]\ndomains = [\"corp.example\"]\nupstreams = [\"dns.corp.invalid\"]\n\
                    [[route]]\ndomains = [\"shut.example\"]\nupstreams = []\n\
                    [[route]]\ndomains = [\"open.corp.example\"]\nupstreams = \"default\"\n";
        let routes: Config = toml::from_str(text).unwrap();
        let (forwarder, problems) = Forwarder::new(&Config { route: routes.route, ..config(&[&public]) }, None, &[]).await;
        assert_eq!(problems.len(), 1, "the host name cannot be looked up: {problems:?}");
        let (forwarder, asked) = (Arc::new(forwarder), public.asked());
        for name in ["www.corp.example", "corp.example", "www.shut.example"] {
            assert_eq!(ask(&forwarder, &query(name, false)).await.rcode, Rcode::SERVFAIL, "{name}");
            assert_eq!(forwarder.ask(query(name, false).question).await, None, "{name}");
        }
        assert_eq!(public.asked(), asked, "nobody else was asked");
        assert_eq!(ask(&forwarder, &query("x.open.corp.example", false)).await.rcode, Rcode::NOERROR);
        assert_eq!(public.asked(), asked + 1);
    }

    #[test]
    fn a_route_says_whom_it_asks() {
        let read = |text: &str| toml::from_str::<Route>(text).map_err(|error| error.message().to_owned());
        let route = read("domains = [\"a\"]\nupstreams = [\"192.0.2.1\"]").unwrap();
        assert_eq!(route.upstreams, Some(Whom::Own(vec!["192.0.2.1".parse().unwrap()])));
        assert_eq!(read("single_label = true\nupstreams = \"default\"").unwrap().upstreams, Some(Whom::Default));
        assert_eq!(read("domains = [\"a\"]\naddresses = [\"192.0.2.1\"]").unwrap().upstreams, None);
        for (text, said) in [
            ("domains = [\"a\"]", "expected `upstreams` or `addresses`"),
            ("upstreams = []", "expected `domains`"),
            ("domains = [\"a\"]\nupstreams = \"192.0.2.1\"", "a list of upstreams, [] for nobody, or \"default\""),
            ("domains = [\"a\"]\nupstreams = [\"http://x\"]", "expected an upstream such as"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn what_is_not_to_be_passed_on_is_neither_given_nor_kept() {
        let private = |query: &Query| {
            let mut message = query.response(Rcode::NOERROR);
            message.answers.push(Record::new(query.question.name.clone(), 60, RData::A([10, 0, 0, 1].into())));
            Some(message)
        };
        let (bad, good) = (Peer::start(0, private).await, Peer::start(40, right).await);
        let filter = filter::Config { private_addresses: true, ..Default::default() };
        let blocking = forwarder(&Config { filter, ..config(&[&bad]) }).await;
        // The second time it would be kept.
        for _ in 0..2 {
            let message = ask(&blocking, &query("www.example.net", false)).await;
            assert_eq!((message.rcode, message.answers.len()), (Rcode::NOERROR, 0));
        }
        assert!(blocking.favourite(0, Instant::now()).is_none(), "no listener passes on replies by itself");
        let filter = filter::Config { ignored: vec!["10.0.0.0/8".parse().unwrap()], ..Default::default() };
        let waiting = forwarder(&Config { filter, ..config(&[&bad, &good]) }).await;
        for n in 0..5 {
            let message = ask(&waiting, &query(&format!("n{n}.example.net"), false)).await;
            assert_eq!(message.answers[0].data, RData::A([192, 0, 2, 1].into()), "the reply that counts is awaited");
        }
    }

    #[tokio::test]
    async fn we_are_no_upstream_of_ours_on_whatever_address() {
        let upstreams = ["127.0.0.1:5353", "127.0.0.9:5353", "127.0.0.9:5354"].map(|text| text.parse().unwrap());
        let config = Config { upstreams: Some(upstreams.into()), ..Config::default() };
        let (forwarder, problems) = Forwarder::new(&config, None, &["0.0.0.0:5353".parse().unwrap()]).await;
        assert_eq!(problems.len(), 2, "{problems:?}");
        let left: Vec<String> = forwarder.groups[0].upstreams.iter().map(ToString::to_string).collect();
        assert_eq!(left, ["127.0.0.9:5354"]);
    }

    #[tokio::test]
    async fn a_silent_server_on_a_connection_holds_up_nobody_while_there_is_another() {
        for protocol in [Protocol::Tcp, Protocol::Tls, Protocol::Https, Protocol::H3, Protocol::Quic] {
            let (mute, well) = (peer::Peer::silent(protocol).await, peer::Peer::start(protocol).await);
            let upstreams = vec![mute.upstream(), well.upstream()];
            let forwarder = forwarder(&Config { upstreams: Some(upstreams), ..Config::default() }).await;
            for n in 0..10 {
                let begun = Instant::now();
                let message = ask(&forwarder, &query(&format!("n{n}.example.net"), n % 2 == 0)).await;
                assert_eq!((message.rcode, message.answers.len()), (Rcode::NOERROR, 1), "{protocol:?}");
                assert!(begun.elapsed() < Duration::from_millis(400), "{protocol:?}: {:?}", begun.elapsed());
            }
            assert!(mute.asked().len() < 5, "{protocol:?}: it is asked last soon");
            assert_eq!(well.connections(), 1, "{protocol:?}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_asked_encrypted_is_not_asked() {
        // The address answers in plain text, over UDP and TCP, and trusts nobody's certificate.
        let plain = peer::Peer::start(Protocol::Tcp).await;
        let udp = UdpSocket::bind(plain.address).await.unwrap();
        for scheme in ["tls", "https", "h3", "quic"] {
            let upstreams = vec![format!("{scheme}://{}", plain.address).parse().unwrap()];
            let timeout = Duration::from_millis(1_500);
            let forwarder = forwarder(&Config { upstreams: Some(upstreams), timeout, ..Config::default() }).await;
            let asked = query("secret.example.net", false);
            let message = ask(&forwarder, &asked).await;
            assert_eq!(message.rcode, Rcode::SERVFAIL, "{scheme}");
            let mut buffer = [0; 1500];
            let name = asked.question.name.wire();
            while let Ok((length, _)) = udp.try_recv_from(&mut buffer) {
                assert!(!buffer[..length].windows(name.len()).any(|window| window == name), "{scheme}: the name in a datagram");
            }
        }
        // A client's hello read as a frame is not a query, and nothing else came.
        assert_eq!(plain.asked(), [[0u8; 0]; 0]);
    }

    #[tokio::test]
    async fn connections_outlive_a_reload_and_one_server_has_them_once() {
        let peer = peer::Peer::start(Protocol::Tls).await;
        let upstreams = Some(Whom::Own(vec![peer.upstream()]));
        let route = Route { domains: vec!["corp.example".parse().unwrap()], upstreams, ..Route::default() };
        let config =
            Config { upstreams: Some(vec![peer.upstream(), peer.upstream()]), route: vec![route], ..Config::default() };
        let before = forwarder(&config).await;
        ask(&before, &query("www.example.net", false)).await;
        let (after, problems) = Forwarder::new(&config, Some(&before), &[]).await;
        assert_eq!(problems, []);
        let after = Arc::new(after);
        drop(before);
        let misses = || after.counters.misses.get();
        ask(&after, &query("www.example.net", false)).await;
        assert_eq!(misses(), 1, "nor is the cache lost");
        ask(&after, &query("www.corp.example", false)).await;
        assert_eq!((misses(), peer.asked().len(), peer.connections()), (2, 2, 1));
        let changed = Config { upstreams: Some(Vec::new()), ..config };
        let (other, _) = Forwarder::new(&changed, Some(&after), &[]).await;
        assert!(matches!(
            other.kept(&query("www.example.net", false), None, Instant::now()),
            Kept::Elsewhere | Kept::Nothing { .. }
        ));
    }

    #[tokio::test]
    async fn upstreams_by_name_are_looked_up_by_those_in_plain_text() {
        let secure = peer::Peer::start(Protocol::Tls).await;
        let asked_for = Arc::new(Mutex::new(Vec::new()));
        let noted = asked_for.clone();
        let plain = Peer::start(0, move |query| {
            noted.lock().unwrap().push(query.question.name.to_string());
            let mut message = query.response(Rcode::NOERROR);
            // The first address is of a server that never ends its handshake.
            for last in [2, 1].into_iter().filter(|_| query.question.qtype == Type::A) {
                message.answers.push(Record::new(query.question.name.clone(), 60, RData::A([127, 0, 0, last].into())));
            }
            Some(message)
        })
        .await;
        let mut upstream = secure.upstream();
        upstream.addresses.clear();
        let config = Config { upstreams: Some(vec![upstream.clone(), plain.address.into()]), ..Config::default() };
        let _stuck = tokio::net::TcpListener::bind(("127.0.0.2", secure.address.port())).await.unwrap();
        let by_name = forwarder(&config).await;
        assert_eq!(asked_for.lock().unwrap().len(), 0, "nothing is looked up before it is needed");
        let (begun, mut n) = (Instant::now(), 0);
        while secure.asked().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(5), "the encrypted one is asked once it is connected to");
            n += 1;
            assert_eq!(ask(&by_name, &query(&format!("n{n}.example.net"), false)).await.rcode, Rcode::NOERROR);
        }
        assert!(asked_for.lock().unwrap().iter().any(|name| name.starts_with(peer::NAME)));
        // That server is ourselves: nobody is left who could be asked.
        let (alone, problems) = Forwarder::new(&config, None, &[plain.address]).await;
        assert!(problems.iter().any(|problem| problem.message.contains("this server itself")), "{problems:?}");
        let Place::Named(bootstrap) = &alone.groups[0].upstreams[0].place else { panic!("it has a name") };
        assert!(bootstrap.via.is_empty());
    }

    #[tokio::test]
    async fn an_upstream_by_name_is_followed_and_asked_where_it_was_while_nobody_knows() {
        let last = Arc::new(AtomicU64::new(1));
        let now_at = last.clone();
        let plain = Peer::start(0, move |query| {
            let last = now_at.load(Ordering::SeqCst) as u8;
            let mut message = query.response(if last == 0 { Rcode::NXDOMAIN } else { Rcode::NOERROR });
            if query.question.qtype == Type::A && last > 0 {
                message.answers.push(Record::new(query.question.name.clone(), 60, RData::A([127, 0, 0, last].into())));
            }
            Some(message)
        })
        .await;
        let upstreams = vec![plain.address.into(), "udp://dns.example.net:5353".parse().unwrap()];
        let named = Config { upstreams: Some(upstreams), ..Config::default() };
        assert!(named.has_names() && !config(&[&plain]).has_names());
        let places = |forwarder: &Forwarder| -> Vec<String> {
            forwarder.groups[0].upstreams[1..].iter().map(|link| link.address().unwrap().to_string()).collect()
        };
        let (first, problems) = Forwarder::new(&named, None, &[]).await;
        assert_eq!((problems, places(&first)), (vec![], vec!["127.0.0.1:5353".to_owned()]));
        let again = Forwarder::new(&named, Some(&first), &[]).await.0;
        assert!(again.asks_the_same(&first));
        last.store(2, Ordering::SeqCst);
        let second = Forwarder::new(&named, Some(&first), &[]).await.0;
        assert_eq!((places(&second), second.asks_the_same(&first)), (vec!["127.0.0.2:5353".to_owned()], false));
        last.store(0, Ordering::SeqCst);
        let (third, problems) = Forwarder::new(&named, Some(&second), &[]).await;
        assert_eq!((problems.len(), third.asks_the_same(&second)), (1, true));
    }

    #[tokio::test]
    async fn look_ups_are_bounded() {
        let peer = Peer::start(0, right).await;
        let forwarder = forwarder(&config(&[&peer])).await;
        let (_tell, told) = watch::channel(None);
        for n in 0..limits::LOOKUPS_MAX {
            let key = Key::new(&query(&format!("n{n}.example.net"), false), 0).unwrap();
            forwarder.lock_under_way().insert(key, (Instant::now(), told.clone()));
        }
        let message = ask(&forwarder, &query("one.more.example.net", false)).await;
        assert_eq!((message.rcode, peer.asked()), (Rcode::SERVFAIL, 0));
        assert_eq!(forwarder.counters.refused.get(), 1);
    }

    #[tokio::test]
    async fn consuls_way_asks_in_order_and_changes_nothing() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let saw = seen.clone();
        let note = move |query: &Query| {
            saw.lock().unwrap().push(Query { id: 0, ..query.clone() });
            wrong(query)
        };
        let (bad, good) = (Peer::start(0, note).await, Peer::start(0, right).await);
        let sequential = Some(Sequential { timeout: Duration::from_secs(2), random: false });
        let both = forwarder(&Config { sequential, ..config(&[&bad, &good]) }).await;
        let mut asked = query("www.EXAMPLE.net", true);
        asked.edns = Some(Edns { udp_size: 4096, dnssec_ok: true, ..Edns::new(0) });
        assert_eq!(ask(&both, &asked).await.answers.len(), 1);
        assert_eq!(*seen.lock().unwrap(), [Query { id: 0, ..asked.clone() }]);
        let alone = forwarder(&Config { sequential, ..config(&[&bad]) }).await;
        let message = ask(&alone, &asked).await;
        assert_eq!((message.rcode, message.flags.recursion_available, extended_error(&message)), (Rcode::SERVFAIL, true, None));
        assert_eq!(message.id, asked.id);
    }
}
