//! Everything that is not known here: what is kept of upstreams' answers, and how a question becomes an answer when it is not.
//!
//! Start with [`Forwarder::kept`], which never waits, and [`Forwarder::resolve`], which does. A listener may make the first
//! attempt at a plain question by itself ([`Forwarder::favourite`]) and leave only what does not come of it to a look-up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join, join_all};

use super::config::Config;
use super::datagram::Datagrams;
use super::group::{Favourite, FirstAttempt, Group, Means};
use super::groups::Groups;
use super::link::Link;
use super::report::Try;
use super::sentry::{self, Sentry};
use super::sockets::Ports;
use super::tally::Counters;
use super::udp::Lost;
use super::under_way::{Joined, Outcome, Told, Turn, UnderWay};
use super::validator::{Validator, Verdict};
use crate::clock::unix_time;
use crate::dns::{
    Class, ExtendedError, Header, Message, Name, Names, PlainQuery, Query, Question, Rcode, Type, is_bare, rcode,
};
use crate::problem::Problem;
use crate::resolve::Room;
use crate::resolve::cache::{self, Cache, Entry, Key, Stock};
use crate::resolve::dnssec;
use crate::resolve::failures::{Failing, Failures};
use crate::resolve::filter;
#[cfg(test)]
use crate::resolve::forward::Condition;
use crate::resolve::forward::is_good;
use crate::resolve::passing::{SILENCE, completed, failure, fitted, passed_on, stale, with_proofs, write_kept};
use crate::resolve::route::Way;

/// How often a question is waited for that others ask, and who come to an end without an outcome.
const TURNS: usize = 3;

/// Names to upstreams to answers.
#[derive(Debug)]
pub struct Forwarder {
    /// As Consul forwards: one after the other, nothing kept, nothing changed.
    is_sequential: bool,
    pub(super) groups: Groups,
    means: Arc<Means>,
    filter: filter::Config,
    /// Judges answers, if that is wanted.
    pub(super) validator: Option<Validator>,
    cache: Cache,
    sentry: Arc<Sentry>,
    failures: Failures,
    under_way: Arc<UnderWay>,
    pub counters: Arc<Counters>,
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

/// What became of a question.
#[derive(Debug)]
pub struct Resolved {
    pub answered: Answered,
    pub octets: Vec<u8>,
    /// The attempts of the look-up that it waited for; none when it waited for none.
    pub tries: Arc<[Try]>,
}

impl From<(Answered, Vec<u8>)> for Resolved {
    fn from((answered, octets): (Answered, Vec<u8>)) -> Self {
        Self { answered, octets, tries: Arc::default() }
    }
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

/// What a look-up found, as clients may have it.
struct Found {
    octets: Vec<u8>,
    /// For how long it is proved, if it is.
    holds_for: Option<Duration>,
    /// Why it is not what the zone says; it is our own SERVFAIL then.
    bogus: Option<ExtendedError>,
}

impl Found {
    /// Why this is no answer, if it is none.
    fn failing(found: Option<&Self>) -> Option<Failing> {
        let Some(Self { octets, bogus, .. }) = found else { return Some(Failing::Silence) };
        (!is_good(octets)).then(|| bogus.map_or(Failing::Error, Failing::Bogus))
    }
}

impl From<Vec<u8>> for Found {
    fn from(octets: Vec<u8>) -> Self {
        Self { octets, holds_for: None, bogus: None }
    }
}

impl Forwarder {
    /// Looks up what is written as a host name, and takes over the cache and the sockets of a `previous` forwarder whose
    /// routes were the same, and the connections to upstreams that are still wanted. `own` are our listeners, which are
    /// never asked. Upstreams that cannot be found are problems; the others serve.
    pub async fn new(config: &Config, previous: Option<&Self>, own: &[SocketAddr]) -> (Self, Vec<Problem>) {
        let is_sequential = config.sequential.is_some();
        let datagrams = previous.map(|other| &other.means.datagrams);
        let (random_case, cookies) = (config.random_case && !is_sequential, config.cookies && !is_sequential);
        let datagrams = Datagrams::new(random_case, cookies, config.ports, datagrams);
        let means = Arc::new(Means::new(datagrams, config.filter.clone()));
        let (groups, mut problems) = Groups::new(config, &means, previous.map(|other| &other.groups), own).await;
        let validator = (config.dnssec.validate && !is_sequential).then(|| {
            let reach = config.route.iter().filter_map(|route| Some((route, route.reach()?)));
            let reach = reach.flat_map(|(route, reach)| route.domains.iter().map(move |domain| (domain.clone(), reach)));
            let (validator, wrong) = Validator::new(&config.dnssec, &reach.collect::<Vec<_>>());
            problems.extend(wrong);
            validator
        });
        let same = |other: &&Self| {
            other.groups.is_same(&groups)
                && *other.cache.config() == config.cache
                && other.filter == config.filter
                && other.validator.as_ref().map(Validator::written) == validator.as_ref().map(Validator::written)
        };
        let cache = previous.filter(same).map_or_else(|| Cache::new(config.cache.clone()), |other| other.cache.clone());
        let forwarder = Self {
            is_sequential,
            groups,
            means,
            filter: config.filter.clone(),
            validator,
            cache,
            sentry: previous.map_or_else(Arc::default, |other| other.sentry.clone()),
            failures: Failures::new(Duration::from_secs(config.cache.max_failure_ttl.into())),
            under_way: Arc::default(),
            counters: previous.map_or_else(Arc::default, |other| other.counters.clone()),
        };
        (forwarder, problems)
    }

    /// What is kept of these names, and may still be given. Looks at each entry.
    pub fn find(&self, names: &Names, now: Instant) -> Vec<Arc<Entry>> {
        self.cache.find(names, now)
    }

    /// Forgets what is kept of these names, failures too; says how many answers that were. Looks at each entry. What has been
    /// asked by now is told to those who wait for it, and kept no more.
    pub fn forget(&self, names: &Names) -> usize {
        self.under_way.disown();
        self.failures.clear();
        self.cache.forget(names)
    }

    /// How much is kept.
    pub fn stock(&self) -> Stock {
        self.cache.stock()
    }

    pub(super) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Says whom the kept answers are from, and by which rules they are kept: what is of another mark is of no use. It goes by
    /// what these look like when they are written out, which another version may do otherwise: then one start begins cold.
    pub(super) fn mark(&self) -> u32 {
        let upstreams: Vec<Vec<_>> = self.groups.all.iter().map(|group| group.written()).collect();
        let (routes, filter) = (self.groups.routes.written(), &self.filter);
        let cache::Config { min_ttl, max_ttl, max_negative_ttl, .. } = self.cache.config();
        let judged = self.validator.as_ref().map(Validator::written);
        crc32fast::hash(
            format!("{routes:?} {upstreams:?} {filter:?} {judged:?} {min_ttl} {max_ttl} {max_negative_ttl}").as_bytes(),
        )
    }

    /// Is anything kept at all?
    pub fn keeps(&self) -> bool {
        !self.is_sequential && self.cache.config().size > 0
    }

    /// Sees which upstreams lead back to us: asks those that are due, and says when others will be.
    pub async fn watch(&self, in_doubt: bool) -> Instant {
        let now = Instant::now();
        if self.is_sequential {
            // As Consul does not.
            return now + sentry::SET_ASIDE;
        }
        let links = self.groups.links();
        let is_due = |link: &&&Arc<Link>| link.watched.due(in_doubt, now) <= now;
        let cookie_due = |link: &Arc<Link>, now| self.means.datagrams.cookie_due(link, now);
        let probes = join_all(links.iter().filter(is_due).map(|link| self.probe_the_way(link)));
        let gives_none = links.iter().filter(|link| cookie_due(link, now).is_some_and(|due| due <= now));
        join(probes, join_all(gives_none.map(|link| self.ask_for_cookie(link)))).await;
        let now = Instant::now();
        let for_cookies = links.iter().filter_map(|link| cookie_due(link, now));
        let next = links.iter().map(|link| link.watched.due(false, now)).chain(for_cookies).min();
        // Whatever keeps a question from being asked, a moment goes by.
        next.unwrap_or(now + sentry::SET_ASIDE).max(now + sentry::PAUSE)
    }

    /// Waits until then, or until there is a doubt about who leads back to us, or another forwarder; tells of a doubt.
    pub async fn doubt(&self, until: Instant) -> bool {
        self.sentry.wait(until).await
    }

    /// Does the system ask other servers now than this forwarder, which was to ask those? `own` are our listeners.
    pub fn differs_from_system(&self, config: &Config, own: &[SocketAddr]) -> bool {
        let is_other = |addresses: Vec<SocketAddr>| {
            let members = self.groups.get(0).map_or(&[][..], |group| &group.members);
            !members.iter().map(|member| member.link.address()).eq(addresses.into_iter().map(Some))
        };
        config.asks_the_system() && config.system_upstreams(own).is_ok_and(is_other)
    }

    /// Are the upstreams of both the same, and in the same places?
    pub fn asks_the_same(&self, other: &Self) -> bool {
        self.groups.asks_the_same(&other.groups)
    }

    /// Has all of them looked at now: this forwarder has come into force.
    pub fn watch_anew(&self) {
        self.groups.links().into_iter().for_each(|link| link.watched.forget());
        self.sentry.wake();
    }

    /// Asks one upstream for a name that nobody knows, and sees whether the question comes here.
    async fn probe_the_way(&self, link: &Arc<Link>) {
        let Ok(name) = self.sentry.begin(link, Instant::now()) else { return };
        let query = Query::of(Question { name: name.clone(), qtype: Type::HINFO, qclass: Class::IN }).compose();
        let reply = async {
            match link.by_datagram() {
                Some(address) => self.means.datagrams.ask(link, address, &query, true).await.1,
                None => link.ask(&query).await.map(|(_, reply)| reply).map_err(Lost::from),
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

    /// Asks one upstream whether it gives cookies. That question may show that it leads back here, too.
    async fn ask_for_cookie(&self, link: &Arc<Link>) {
        let Ok(name) = self.sentry.begin(link, Instant::now()) else { return };
        let asking = self.means.datagrams.ask_for_cookie(link, name.clone());
        // One that is silent is asked again.
        let _ = tokio::time::timeout(sentry::AROUND_MAX, asking).await;
        self.sentry.end(&name);
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
        self.groups.all.iter().for_each(|group| group.set_aside(link, leads_back));
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
    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Is there anybody to ask about names without a route?
    pub fn has_upstreams(&self) -> bool {
        self.groups.get(0).is_some_and(|group| !group.members.is_empty())
    }

    /// What the upstreams are called who are asked about a question: `default`, or the first domain of their route.
    pub fn route_of(&self, question: &Question) -> Option<&str> {
        self.groups.of(question).map(|(_, group)| &*group.name)
    }

    /// The way that a route has for this question.
    pub fn way(&self, question: &Question) -> Way {
        self.groups.routes.way(question)
    }

    /// Is a name in a domain that a route answers by itself, at least in part?
    pub fn is_answered_here(&self, name: &Name) -> bool {
        self.groups.routes.is_answered_here(name)
    }

    /// What is kept for a query: `plain` is the same as `query`, if it is plain. Never waits.
    pub fn kept(&self, query: &Query, plain: Option<&PlainQuery<'_>>, now: Instant) -> Kept {
        let Some(group) = self.groups.routes.group(&query.question) else { return Kept::Elsewhere };
        let key = match plain {
            _ if self.is_sequential => None,
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
        self.groups.get(group).filter(|_| self.filter.is_empty())?.favourite(group, now)
    }

    /// The ports that plain questions by UDP leave from.
    pub fn ports(&self) -> Option<Ports> {
        self.means.datagrams.ports
    }

    /// The turn to ask a question, for a listener that asks the favourite; `None` while somebody else asks it, of which a
    /// look-up hears.
    pub fn turn(&self, key: &Key) -> Option<Turn> {
        match self.under_way.join(key) {
            Joined::Begins(turn) => Some(turn),
            Joined::Waits(_) | Joined::Full => None,
        }
    }

    /// Takes note of first attempts that a listener made by itself.
    pub fn note_sent(&self, favourite: &Favourite, count: u64) {
        if let Some(group) = self.groups.get(favourite.group) {
            group.note_sent(favourite, count);
        }
        self.counters.misses.raise(count);
    }

    /// Takes the cookie that a favourite was asked with out of its reply. False when that is not to be taken
    /// ([`super::Lost::NoCookie`]).
    pub fn take_cookie_back(&self, favourite: &Favourite, reply: &mut Vec<u8>, had_edns: bool, now: Instant) -> bool {
        self.groups.get(favourite.group).is_none_or(|group| group.take_cookie_back(favourite, reply, had_edns, now))
    }

    /// Takes note of good replies of a favourite, and of how long it took for the last of them.
    pub fn note_answered(&self, favourite: &Favourite, took: Duration, count: u32) {
        if let Some(group) = self.groups.get(favourite.group) {
            group.note_answered(favourite, took, count);
        }
    }

    /// Sets what is known of upstreams to these latencies.
    #[cfg(test)]
    pub fn measured(&self, group: u16, latencies: [(SocketAddr, Duration); 2]) {
        let group = self.groups.get(group).unwrap();
        for (address, latency) in latencies {
            let upstream = group.members.iter().position(|member| member.link.address() == Some(address)).unwrap();
            group.members[upstream].link.spelling.kept(1);
            group.note(upstream, |condition| {
                *condition = Condition::default();
                condition.answered(latency, 1);
            });
        }
    }

    /// Keeps a good and whole reply, if it may be kept. Else it takes the place of what was kept: that is not so any more,
    /// and must not come back as a stale answer.
    pub fn keep(&self, turn: &Turn, reply: &[u8], now: Instant) -> Option<Arc<Entry>> {
        self.keep_until(turn, reply, now, None)
    }

    /// The same with an end beyond which it may not be given, however stale an answer may be.
    fn keep_until(&self, turn: &Turn, reply: &[u8], now: Instant, end: Option<Instant>) -> Option<Arc<Entry>> {
        if !turn.is_owned() {
            return None;
        }
        let kept = self.cache.put_until(turn.key().clone(), reply, now, end);
        // Looked at once more, so that whoever forgets meanwhile has it out before or sees it here.
        if kept.is_none() || !turn.is_owned() {
            self.cache.remove(turn.key());
        }
        kept
    }

    /// Asks upstream, or whoever asks the same already; `octets` are the query's own. Always has an answer, SERVFAIL at
    /// the worst. `first` is an attempt that was made already; such a query is plain, and came by UDP.
    pub async fn resolve(
        self: &Arc<Self>,
        query: &Query,
        octets: &[u8],
        room: Room,
        mut first: Option<FirstAttempt>,
    ) -> Resolved {
        for _ in 0..TURNS {
            if let Some(resolved) = self.resolve_once(query, octets, room, first.take()).await {
                return resolved;
            }
        }
        nobody(query, (ExtendedError::NoReachableAuthority, SILENCE))
    }

    /// The same; `None` when another had the turn, and came to an end without an outcome.
    async fn resolve_once(
        self: &Arc<Self>,
        query: &Query,
        octets: &[u8],
        room: Room,
        first: Option<FirstAttempt>,
    ) -> Option<Resolved> {
        let nobody = |reason| nobody(query, reason);
        let Some((number, group)) = self.groups.of(&query.question) else {
            return Some(nobody((ExtendedError::NoReachableAuthority, "nobody is asked about this name")));
        };
        if self.is_sequential {
            let mut tries = Vec::new();
            // Consul's own answer when all recursors fail: SERVFAIL, with the client's OPT.
            let (answered, octets) = match self.unchanged(group, query, octets, room, &mut tries).await {
                Some(answer) => (Answered::Asked, answer),
                None => (Answered::Nobody, failure(query, None)),
            };
            return Some(Resolved { answered, octets, tries: tries.into() });
        }
        let Some(key) = is_bare(octets).then(|| Key::new(query, number)).flatten() else {
            return Some(self.resolve_apart(number, group, query, octets, room).await);
        };
        let kept = self.cache.get(&key).filter(|entry| entry.is_usable(Instant::now()));
        if let Some(entry) = kept.as_ref().filter(|entry| entry.is_fresh(Instant::now())) {
            // Another's look-up ended while this query was on its way here, or it is a question of our own.
            let mut answer = Vec::new();
            write_kept(entry, query, octets, room, Instant::now(), &mut answer);
            return Some((Answered::Kept, answer).into());
        }
        self.counters.misses.raise(u64::from(first.is_none()));
        let stale = |entry: &Entry| {
            self.counters.stale.raise(1);
            Resolved::from((Answered::Stale, stale(entry, query, octets, room, Instant::now())))
        };
        if let Some(failing) = self.failed_lately(&key, kept.is_some(), group) {
            group.scout(|| passed_on(query));
            return Some(kept.as_deref().map_or_else(|| nobody(lately(failing)), stale));
        }
        let told = match self.shared(key, group, query, first) {
            Ok(told) => told,
            Err(reason) => {
                let reason = (ExtendedError::NoReachableAuthority, reason);
                return Some(kept.as_deref().map_or_else(|| nobody(reason), stale));
            }
        };
        let begun = told.begun;
        let outcome = match &kept {
            None => told.outcome().await,
            // Whoever joins a look-up later waits for less: it is the look-up that is late.
            Some(entry) => {
                match tokio::time::timeout_at((begun + self.cache.config().stale_after).into(), told.outcome()).await {
                    Ok(Some(outcome)) if outcome.answer.as_deref().is_ok_and(is_good) => Some(outcome),
                    // RFC 8767, 4: an error refreshes nothing. A look-up that is only late goes on and refreshes the cache.
                    _ => return Some(stale(entry)),
                }
            }
        };
        let Outcome { answer, tries } = outcome?;
        Some(answered(query, octets, answer.as_deref().map_err(|reason| *reason), room, tries))
    }

    /// Asks for an answer that is one client's alone, because of an option that we do not know, or of a signature. Its failures
    /// are those of all who ask so: each of them has another signature, or may.
    async fn resolve_apart(
        self: &Arc<Self>,
        number: u16,
        group: &Arc<Group>,
        query: &Query,
        octets: &[u8],
        room: Room,
    ) -> Resolved {
        self.counters.misses.raise(1);
        let key = Key::apart(query, number);
        if let Some(failing) = self.failed_lately(&key, false, group) {
            group.scout(|| passed_on(query));
            return nobody(query, lately(failing));
        }
        let mut tries = Vec::new();
        let found = if is_bare(octets) {
            self.found(group, query, room, None, &mut tries).await
        } else {
            self.unchanged(group, query, octets, room, &mut tries).await.map(Found::from)
        };
        let code = found.as_ref().and_then(|found| rcode(&found.octets));
        match Found::failing(found.as_ref()) {
            None => self.failures.forget(&key),
            // What is wrong with the message, as with one whose option is malformed, says nothing of others'.
            Some(Failing::Error) if code.is_some_and(|code| ![Rcode::SERVFAIL, Rcode::REFUSED].contains(&code)) => {}
            Some(kind) => self.failures.note(&key, kind, &group.fortune, Instant::now()),
        }
        let answer = found.map(|found| found.octets);
        answered(query, octets, answer.as_deref().ok_or(SILENCE), room, tries.into())
    }

    /// What is kept for a query, although it may be past its time: for who would have to wait, and cannot.
    pub fn stale(&self, query: &Query, octets: &[u8], room: Room, now: Instant) -> Option<Vec<u8>> {
        let is_shared = !self.is_sequential && is_bare(octets);
        let (number, _) = self.groups.of(&query.question).filter(|_| is_shared)?;
        let entry = self.cache.get(&Key::new(query, number)?).filter(|entry| entry.is_usable(now))?;
        self.counters.stale.raise(1);
        Some(stale(&entry, query, octets, room, now))
    }

    /// Fetches what is kept for a query anew, if that is still near its end.
    pub async fn fetch_anew(self: &Arc<Self>, query: &Query) {
        let Some((number, group)) = self.groups.of(&query.question) else { return };
        let Some(key) = Key::new(query, number) else { return };
        if self.cache.get(&key).is_some_and(|entry| entry.is_due(Instant::now())) {
            self.counters.prefetched.raise(1);
            // What comes of it is kept by whoever carries it, and a failure leaves what is there.
            if let Ok(told) = self.shared(key, group, query, None) {
                let _ = told.outcome().await;
            }
        }
    }

    /// Asks a question of our own; `None` when nobody answers.
    pub async fn ask(self: &Arc<Self>, question: Question) -> Option<Message> {
        let query = Query::of(question);
        let room = if self.is_sequential { Room::Datagram } else { Room::Stream };
        let Resolved { octets, .. } = self.resolve(&query, &query.compose(), room, None).await;
        Message::parse(&octets).ok().filter(|message| message.rcode != Rcode::SERVFAIL)
    }

    /// Has a question failed, and is not to be asked again yet, by who may be content with a stale answer or not?
    pub(super) fn failed_lately(&self, key: &Key, has_stale: bool, group: &Group) -> Option<Failing> {
        self.failures.stands(key, has_stale, &group.fortune, Instant::now())
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
            let Resolved { answered, octets, .. } = forwarder.resolve(&query, &query.compose(), Room::Stream, None).await;
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
        group: &Arc<Group>,
        query: &Query,
        room: Room,
        first: Option<FirstAttempt>,
        tries: &mut Vec<Try>,
    ) -> Option<Found> {
        let Some(validator) = self.judging(query) else {
            let reply = self.look_up(group, query, &passed_on(query), room, first, tries).await?;
            return Some(completed(self.filter.apply(reply)?, query).into());
        };
        let asked = with_proofs(query);
        let reply = self.look_up(group, &asked, &passed_on(&asked), room, None, tries).await?;
        let is_good = is_good(&reply);
        let mut message = Message::parse(&completed(reply, &asked)).ok()?;
        message.questions = vec![query.question.clone()];
        let counters = &self.counters;
        let verdict = if is_good { validator.judge(self, &message).await } else { Verdict::Insecure };
        // As signatures have it.
        let now = unix_time().as_secs() as u32;
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
                let octets = failure(query, Some((fault.code, &text)));
                return Some(Found { octets, holds_for: None, bogus: Some(fault.code) });
            }
        };
        Some(Found { octets: self.filter.apply(message.compose(true))?, holds_for, bogus: None })
    }

    /// An answer as it came, but for what is not to be passed on. `octets` are the query's own, which go upstream.
    async fn unchanged(
        self: &Arc<Self>,
        group: &Arc<Group>,
        query: &Query,
        octets: &[u8],
        room: Room,
        tries: &mut Vec<Try>,
    ) -> Option<Vec<u8>> {
        self.filter.apply(self.look_up(group, query, octets, room, None, tries).await?)
    }

    /// Has a group carry a look-up to its end. `octets` are the query as it goes upstream.
    async fn look_up(
        &self,
        group: &Arc<Group>,
        query: &Query,
        octets: &[u8],
        room: Room,
        first: Option<FirstAttempt>,
        tries: &mut Vec<Try>,
    ) -> Option<Vec<u8>> {
        let answer = group.look_up(query, octets, room, first, tries).await;
        if answer.is_none() {
            self.counters.failed.raise(1);
            self.sentry.wake();
        }
        answer
    }

    /// Joins a look-up of the same question, or begins one, which goes on when nobody waits for it any more. Says why not
    /// when that cannot be.
    fn shared(
        self: &Arc<Self>,
        key: Key,
        group: &Arc<Group>,
        query: &Query,
        mut first: Option<FirstAttempt>,
    ) -> Result<Told, &'static str> {
        // A listener may have had the turn before.
        let joined = first.as_mut().and_then(|first| first.turn.take()).map(Joined::Begins);
        match joined.unwrap_or_else(|| self.under_way.join(&key)) {
            Joined::Waits(told) => {
                self.counters.coalesced.raise(1);
                Ok(told)
            }
            Joined::Begins(turn) => {
                let told = turn.told();
                tokio::spawn(self.clone().carry(turn, group.clone(), query.clone(), first));
                Ok(told)
            }
            Joined::Full => {
                self.counters.refused.raise(1);
                Err("too many look-ups are under way")
            }
        }
    }

    /// Carries a look-up that others may join to its end, and keeps what comes of it.
    async fn carry(self: Arc<Self>, turn: Turn, group: Arc<Group>, query: Query, first: Option<FirstAttempt>) {
        let mut tries = Vec::new();
        let found = self.found(&group, &query, Room::Datagram, first, &mut tries).await;
        let (now, key) = (Instant::now(), turn.key());
        let failing = Found::failing(found.as_ref());
        let end = found.as_ref().and_then(|found| Some(now + found.holds_for?));
        let mut answer: Option<Arc<[u8]>> = found.map(|found| found.octets.into());
        match failing {
            None => {
                self.failures.forget(key);
                // The first to ask gets the TTLs that the next ones get.
                if let Some(entry) = answer.as_deref().and_then(|octets| self.keep_until(&turn, octets, now, end)) {
                    answer = Some(entry.octets().into());
                }
            }
            // What was asked before others were to forget it says nothing to them.
            Some(kind) if turn.is_owned() => self.failures.note(key, kind, &group.fortune, now),
            Some(_) => {}
        }
        turn.end(|| Outcome { answer: answer.ok_or(SILENCE), tries: tries.into() });
    }
}

/// An answer as this client may have it, or SERVFAIL with the reason why there is none. `octets` are the query's own.
fn answered(query: &Query, octets: &[u8], answer: Result<&[u8], &str>, room: Room, tries: Arc<[Try]>) -> Resolved {
    // Who has come by a stream can do nothing with a part of an answer.
    let is_part = |answer: &[u8]| room == Room::Stream && Header::of(answer).is_some_and(|header| header.flags().truncated);
    let reason = match answer {
        Ok(answer) if is_part(answer) => PART,
        Ok(answer) => {
            return Resolved { answered: Answered::Asked, octets: fitted(query, octets, answer, room), tries };
        }
        Err(reason) => reason,
    };
    Resolved { tries, ..nobody(query, (ExtendedError::NoReachableAuthority, reason)) }
}

/// SERVFAIL, since nobody has an answer, for that reason.
fn nobody(query: &Query, reason: (ExtendedError, &str)) -> Resolved {
    (Answered::Nobody, failure(query, Some(reason))).into()
}

/// Why a question is not asked again at once (RFC 8914, 4.14).
fn lately(failing: Failing) -> (ExtendedError, &'static str) {
    match failing {
        Failing::Bogus(code) => (code, BOGUS_LATELY),
        Failing::Silence | Failing::Error => (ExtendedError::CachedError, "all upstreams failed a moment ago"),
    }
}

/// Why a part of an answer is none.
const PART: &str = "upstreams gave a part of the answer, and none over TCP";

/// Why a question is not asked again at once whose answer was bogus (RFC 4035, 4.7).
const BOGUS_LATELY: &str = "it did not pass validation a moment ago; `rollcall explain NAME --ask` says why";
/// What to do about a zone whose answers do not pass validation.
const EXCEPTION: &str = "forward.dnssec.exceptions leaves a domain unvalidated";

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::Sequential;
    use super::super::udp_peer::*;
    use super::*;
    use crate::dns::{Edns, EdnsOption, RData, Record};
    use crate::limits;

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
        for (room, rcode) in [(Room::Datagram, Rcode::NOERROR), (Room::Stream, Rcode::SERVFAIL)] {
            let query = query("www.example.net", true);
            let Resolved { octets, .. } = forwarder.resolve(&query, &query.compose(), room, None).await;
            let message = Message::parse(&octets).unwrap();
            assert_eq!((message.rcode, message.flags.truncated), (rcode, room == Room::Datagram), "{message:?}");
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
            assert!(forwarder.groups.all[0].members[0].link.spelling.is_kept(Instant::now()));
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
        assert_eq!(forwarder.under_way(), 0);
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
        for (name, edns) in [("WWW.example.net", true), ("WWW.example.org", false)] {
            let asked = query(name, edns);
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
        write_kept(&entry, &asked, &asked.compose(), Room::Datagram, Instant::now(), &mut out);
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
        assert_eq!(mute.asked(), before, "however it is asked for");
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
        assert!(begun.elapsed() < Duration::from_millis(100), "it waited for {:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn rfc8767_5_who_wants_stale_answers_at_once_has_them_and_they_are_refreshed() {
        let slow = Peer::start(100, right).await;
        let cache = cache::Config { stale_after: Duration::ZERO, ..Default::default() };
        let forwarder = forwarder(&Config { cache, ..config(&[&slow]) }).await;
        let asked = query("www.example.net", true);
        keep_stale(&forwarder, &asked, &right(&asked).unwrap());
        assert_eq!(extended_error(&ask(&forwarder, &asked).await), Some(3));
        let begun = Instant::now();
        while !matches!(forwarder.kept(&asked, None, Instant::now()), Kept::Fresh(_)) {
            assert!(begun.elapsed() < Duration::from_secs(5), "the look-up did not go on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(slow.asked(), 1);
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
                let fortune = &forwarder.groups.all[0].fortune;
                forwarder.failures.note(&Key::new(query, 0).unwrap(), Failing::Silence, fortune, Instant::now());
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
    async fn rfc9520_3_2_failures_of_questions_with_unknown_options_are_remembered_too() {
        let broken = |query: &Query| match query.edns.as_ref().map(|edns| &edns.options[..]) {
            Some([]) => right(query),
            Some([option]) if !option.data.is_empty() => wrong(query),
            _ => Some(query.response(Rcode::FORMERR)),
        };
        let peer = Peer::start(0, broken).await;
        let forwarder = forwarder(&config(&[&peer])).await;
        let with_option = |data: &[u8]| {
            let mut query = query("www.example.net", true);
            let options = vec![EdnsOption { code: 65_001, data: data.into() }];
            query.edns = query.edns.map(|edns| Edns { options, ..edns });
            query
        };
        for _ in 0..2 {
            let message = ask(&forwarder, &with_option(&[])).await;
            assert_eq!(message.rcode, Rcode::FORMERR, "what is wrong with a message is its own");
        }
        let message = ask(&forwarder, &with_option(&[1])).await;
        assert_eq!((message.rcode, extended_error(&message)), (Rcode::SERVFAIL, None), "as the upstream said it");
        let before = peer.asked();
        for again in [1, 2] {
            let message = ask(&forwarder, &with_option(&[again])).await;
            assert_eq!(
                (message.rcode, extended_error(&message)),
                (Rcode::SERVFAIL, Some(13)),
                "RFC 8914, 4.14: a cached error"
            );
        }
        assert_eq!(peer.asked(), before, "it is not asked again at once");
        assert_eq!(ask(&forwarder, &query("www.example.net", true)).await.rcode, Rcode::NOERROR, "nor is it others' failure");
    }

    #[tokio::test]
    async fn what_was_asked_before_a_flush_is_not_kept_after_it() {
        let peer = Peer::start(100, right).await;
        let forwarder_of = forwarder;
        let forwarder = forwarder_of(&config(&[&peer])).await;
        let asked = query("www.example.net", true);
        let flush = async {
            while peer.asked() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            forwarder.forget(&Names::One(asked.question.name.clone()));
            assert_eq!(forwarder.under_way(), 0, "nobody joins it");
        };
        let (message, ()) = join(ask(&forwarder, &asked), flush).await;
        assert_eq!(message.answers.len(), 1, "who waited has the answer");
        assert!(!matches!(forwarder.kept(&asked, None, Instant::now()), Kept::Fresh(_)));
        for _ in 0..2 {
            assert_eq!(ask(&forwarder, &asked).await.answers.len(), 1);
        }
        assert_eq!(peer.asked(), 2);
        let mute = Peer::start(0, silent).await;
        let forwarder = forwarder_of(&Config { timeout: Duration::from_millis(300), ..config(&[&mute]) }).await;
        let flush = async {
            while mute.asked() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            forwarder.forget(&Names::All);
        };
        let (message, ()) = join(ask(&forwarder, &asked), flush).await;
        assert_eq!((message.rcode, forwarder.failures.len()), (Rcode::SERVFAIL, 0), "nor is its failure remembered");
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
    async fn look_ups_are_bounded() {
        let peer = Peer::start(0, right).await;
        let forwarder = forwarder(&config(&[&peer])).await;
        let turn = |n| forwarder.under_way.join(&Key::new(&query(&format!("n{n}.example.net"), false), 0).unwrap());
        let _held: Vec<Joined> = (0..limits::LOOKUPS_MAX).map(turn).collect();
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
