//! The story of one query, whatever listener it came by.
//!
//! [`Responder::answer`] runs on the listener's own thread and never waits: what is known here is answered at once. What
//! must wait for somebody else becomes [`Pending`], which [`Responder::finish`] carries to its end.
//!
//! The order in which it is asked who knows a name: data of exactly this name (hosts files, `[[record]]`, `[[rewrite]]`,
//! zones), the discovery domain and the reverse names of what is in it, block lists, a route that answers by itself or names
//! its own upstreams, names that never leave a host, what is kept of upstreams' answers, the upstreams. What upstreams say,
//! kept or new, meets the block lists again before it is passed on: the name may be an alias of a blocked one.

mod pending;

use std::net::IpAddr;
use std::ptr;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio::sync::{Notify, mpsc};
use tokio_util::task::TaskTracker;

pub(super) use self::pending::Pending;
use self::pending::Wait;
use super::answers::{error, fit, hold_back, refuse};
use super::clients::Standing;
use super::holder::Holder;
use super::places::Places;
use super::prefetch::{Due, Queue};
use super::query_log::Noted;
use super::serials::Serials;
use super::setup::Setup;
use super::tally::{Listened, Source, Tallies};
use super::worker::{NearOf, Worker};
use crate::catalog::Catalog;
use crate::dns::{ExtendedError, Header, Message, Names, Opcode, PlainQuery, Query, Rcode, Reject, Type, is_bare};
use crate::limits;
use crate::metrics::{Kind, Labels, Page};
use crate::resolve::Room;
use crate::resolve::answer::{Client, Step};
use crate::resolve::block::Verdict;
use crate::resolve::cache::Key;
use crate::resolve::open_alias;
use crate::resolve::passing::{OTHER_VERSION, truncated, write_kept};
use crate::upstream::{FirstAttempt, Forwarder, Kept};

/// Turns queries into answers; shared by all listeners.
#[derive(Debug)]
pub struct Responder {
    setup: Arc<ArcSwap<Setup>>,
    catalog: Arc<ArcSwap<Catalog>>,
    places: Arc<Places>,
    /// Who has clients to answer yet: connections, threads, look-ups for who asked over UDP.
    pub(super) under_way: TaskTracker,
    pub(super) serials: Serials,
    pub(super) tallies: Tallies,
    prefetch: Queue,
    /// Tells whoever watches what a setup is made of that another is in force.
    pub(super) replaced: Notify,
}

/// A query in each of its forms, and who asks.
pub(super) struct Asked<'a> {
    pub(super) query: &'a Query,
    pub(super) octets: &'a [u8],
    pub(super) plain: Option<&'a PlainQuery<'a>>,
    pub(super) client: Client,
}

/// Is it about who has an address?
fn is_reverse(query: &PlainQuery<'_>) -> bool {
    query.name().ends_with(b"\x04arpa\0")
}

/// What became of a query.
pub(super) enum Outcome {
    /// Its answer, if it gets one, was written.
    Answered,
    /// It is plain, nobody here knows its answer, and nothing stands in the way of asking an upstream of this group: by
    /// [`Responder::look_up`], or as the listener knows better.
    Unknown {
        setup: Arc<Setup>,
        key: Key,
        group: u16,
    },
    Pending(Box<Pending>),
}

/// Where the answer to a query is.
pub(super) enum Found {
    /// It was written, with what this source had.
    Answered(Source),
    /// It was written and counted.
    Written,
    /// It has to be waited for.
    Elsewhere(Wait),
    /// The question is plain, and nothing stands in the way of asking an upstream of this group.
    Nowhere { key: Key, group: u16 },
}

impl Responder {
    pub fn new(setup: Setup, catalog: Arc<ArcSwap<Catalog>>, serials: Serials) -> Arc<Self> {
        let (setup, tallies, prefetch) = (Arc::new(ArcSwap::from_pointee(setup)), Tallies::default(), Queue::default());
        let under_way = TaskTracker::new();
        Arc::new(Self {
            setup,
            catalog,
            places: Arc::default(),
            under_way,
            serials,
            tallies,
            prefetch,
            replaced: Notify::new(),
        })
    }

    /// The setup in force.
    pub fn setup(&self) -> Arc<Setup> {
        self.setup.load_full()
    }

    pub(super) fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// What was asked and answered, by whom, and what is kept.
    pub fn metrics(&self, page: &mut Page) {
        self.tallies.metrics(page);
        page.number(Kind::Counter, "rollcall_cache_hits_total", "Questions with a fresh answer that is kept.", self.hits());
        let setup = self.setup();
        Forwarder::metrics(&setup.forwarders(), page);
        if let Some(log) = &setup.log {
            log.metrics(page);
        }
        let block_lists = setup.block_lists();
        if !block_lists.is_empty() {
            let lists = || {
                block_lists.iter().flat_map(|(view, blocks)| {
                    blocks.lists().map(move |(path, names, answered)| {
                        let view = view.map(|view| ("view", view.to_owned()));
                        let labels: Labels = view.into_iter().chain([("list", path.display().to_string())]).collect();
                        (labels, names, answered)
                    })
                })
            };
            let names = lists().map(|(labels, names, _)| (labels, names));
            page.family(Kind::Gauge, "rollcall_block_names", "Names of each block list.", names);
            let answered = lists().map(|(labels, _, answered)| (labels, answered));
            page.family(Kind::Counter, "rollcall_blocked_total", "Answers that each block list decided.", answered);
        }
    }

    /// Questions that were answered from what is kept and fresh.
    pub fn hits(&self) -> u64 {
        self.tallies.answers(Source::Cache)
    }

    /// May this client, which has shown that answers reach it, have one more connection now?
    pub(super) fn admits(&self, client: IpAddr) -> bool {
        !self.setup.load().clients.asks_too_often(client, || true, Instant::now())
    }

    /// Takes note of the networks that this host is in now.
    pub fn moved(&self, around: &[IpNet]) {
        let setup = self.setup();
        if let Some(clients) = setup.clients.moved(around) {
            tracing::info!("the networks of this host have changed, and with them whose queries are forwarded");
            let clients = Arc::new(clients);
            // A reload that came between has looked around by itself.
            self.setup.compare_and_swap(&setup, Arc::new(setup.changed(|setup| setup.clients = clients.clone())));
        }
    }

    /// Puts another setup in force; queries under way finish with the one they began with.
    pub fn replace(&self, setup: Setup) {
        self.setup.store(Arc::new(setup));
        self.replaced.notify_one();
    }

    /// Puts another form of a part in force in its place, unless another is already. What workers have near is void then.
    pub(super) fn replace_part<T>(&self, part: fn(&mut Setup) -> &mut Arc<T>, former: &Arc<T>, new: &Arc<T>) {
        let replace = |setup: &mut Setup| {
            let part = part(setup);
            if Arc::ptr_eq(part, former) {
                part.clone_from(new);
                setup.settle();
            }
        };
        self.setup.rcu(|setup| setup.changed(replace));
    }

    /// Puts another forwarder of the same routes in force in the place of this one.
    pub fn replace_forwarder(&self, former: &Arc<Forwarder>, forwarder: Forwarder) {
        self.replace_part(|setup| &mut setup.forwarder, former, &Arc::new(forwarder));
        self.replaced.notify_one();
    }

    /// Whom to tell what is to be fetched anew; there is one who hears it.
    pub(super) fn due(&self) -> mpsc::Receiver<Due> {
        self.prefetch.receiver()
    }

    /// Forgets what is kept of these names, everywhere; says how many answers of upstreams that were. Looks at each entry.
    pub fn forget(&self, names: &Names) -> usize {
        let forgotten = self.setup().forwarders().into_iter().map(|(_, forwarder)| forwarder.forget(names)).sum();
        // What a worker has near is worth as much as the setup that it is of, which it looks at anyway.
        self.setup.rcu(|setup| setup.changed(|_| ()));
        forgotten
    }

    /// For a thread of this listener, which has a tally of its own then, or for one of its many connections.
    pub(super) fn worker(&self, listened: &Arc<Listened>, is_thread: bool) -> Worker {
        Worker::new(self.setup.clone(), self.catalog.clone(), self.serials, listened, is_thread)
    }

    /// Answers into `out`, which stays empty when there is no answer; or says what has to be waited for.
    pub(super) fn answer(&self, worker: &mut Worker, octets: &[u8], client: Client, out: &mut Vec<u8>) -> Outcome {
        let plain = PlainQuery::parse(octets);
        let may_have_cookie = plain.as_ref().is_none_or(PlainQuery::has_cookie);
        let outcome = self.answer_unsealed(worker, octets, plain, client, out);
        if may_have_cookie {
            worker.seal(octets, client, out);
        }
        outcome
    }

    /// The same, but for the client's cookie.
    fn answer_unsealed(
        &self,
        worker: &mut Worker,
        octets: &[u8],
        plain: Option<PlainQuery<'_>>,
        client: Client,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let Worker { notes, setup, catalog, near, rng, now, clock, serial, .. } = worker;
        let setup = setup.load().of_client(client.address);
        let since = *now;
        let noted = |source| Noted { client: client.address, query: octets, since, source, upstream: None, answer: &[] };
        let standing = setup.standing(client.address);
        let proven = || client.room == Room::Stream || setup.has_good_cookie(octets, client, *clock);
        let too_often = setup.clients.asks_too_often(client.address, proven, *now);
        if let Some(plain) = &plain
            && standing != Standing::Nothing
            && !too_often
        {
            if setup.at_once && setup.discovery.answer_at_once(catalog.load(), plain, client.room, rng, *serial, out) {
                notes.note(setup, &Noted { answer: out, ..noted(Source::Discovery) });
                return Outcome::Answered;
            }
            // Who has an address may have changed; all else that is near was not ours, and is not until the next setup.
            if standing == Standing::Everything
                && let Some(NearOf { of, near, blocked, .. }) = near.get_mut(setup.place)
                && ptr::eq(of.as_ptr(), Arc::as_ptr(setup))
                && !is_reverse(plain)
                && !setup.blocks.knows(client.address)
            {
                let room = client.room.octets(plain.payload_size());
                if let Some((entry, ())) = near.get(plain, *now)
                    && entry.size() <= room
                {
                    entry.write(octets, *now, out);
                    notes.note(setup, &Noted { answer: out, ..noted(Source::Cache) });
                    if entry.is_due(*now) {
                        self.prefetch.put(setup, entry, octets);
                    }
                    return Outcome::Answered;
                }
                if let Some((entry, answered)) = blocked.get(plain, *now)
                    && entry.size() <= room
                {
                    entry.write(octets, *now, out);
                    answered.raise(1);
                    notes.note(setup, &Noted { answer: out, ..noted(Source::Blocked) });
                    return Outcome::Answered;
                }
            }
        }
        let setup = setup.clone();
        let parsed = if setup.is_consul() { Query::parse_as_consul(octets) } else { Query::parse(octets) };
        let query = match parsed {
            Ok(query) => query,
            Err(Reject::Ignore) => {
                notes.note(&setup, &noted(Source::Invalid));
                return Outcome::Answered;
            }
            // By datagram its address may be forged.
            Err(Reject::Reply(_)) if client.room == Room::Datagram && (too_often || standing == Standing::Nothing) => {
                notes.note(&setup, &noted(Source::Limited));
                return Outcome::Answered;
            }
            Err(Reject::Reply(mut message)) => {
                // Of an error, or with a cookie that was asked for alone.
                message.edns.iter_mut().for_each(|edns| edns.udp_size = limits::UDP_PAYLOAD);
                out.extend(message.compose(true));
                notes.note(&setup, &Noted { answer: out, ..noted(Source::Invalid) });
                return Outcome::Answered;
            }
        };
        if too_often {
            hold_back(&setup, &query, client, out);
            notes.note(&setup, &Noted { answer: out, ..noted(Source::Limited) });
            return Outcome::Answered;
        }
        if standing == Standing::Nothing {
            refuse(&setup, &query, client, standing, out);
            notes.note(&setup, &Noted { answer: out, ..noted(Source::Refused) });
            return Outcome::Answered;
        }
        let asked = Asked { query: &query, octets, plain: plain.as_ref(), client };
        match self.answer_query(worker, &setup, &asked, out) {
            Found::Answered(source) => {
                setup.introduce(&query, client, out);
                setup.tell(&query, client, source, &[], out);
                worker.note(&setup, &Noted { answer: out, ..noted(source) });
                Outcome::Answered
            }
            Found::Written => {
                setup.introduce(&query, client, out);
                if let Some(log) = &setup.log {
                    worker.notes.batch.add(log, &Noted { answer: out, ..noted(Source::Invalid) });
                }
                Outcome::Answered
            }
            Found::Nowhere { key, group } => Outcome::Unknown { setup, key, group },
            Found::Elsewhere(wait) => match self.pending(worker, &setup, query, octets, client, wait) {
                Ok(pending) => Outcome::Pending(Box::new(pending)),
                Err((source, answer)) => {
                    worker.note(&setup, &Noted { answer: &answer, ..noted(source) });
                    out.extend(answer);
                    Outcome::Answered
                }
            },
        }
    }

    /// Answers as [`Responder::answer`] does, for listeners that leave to us what nobody here knows.
    pub(super) fn begin(&self, worker: &mut Worker, octets: &[u8], client: Client, out: &mut Vec<u8>) -> Option<Pending> {
        let pending = match self.answer(worker, octets, client, out) {
            Outcome::Answered => None,
            Outcome::Pending(pending) => Some(*pending),
            Outcome::Unknown { setup, .. } => self.look_up(worker, &setup, octets, client, None, out),
        };
        worker.flush_log();
        pending
    }

    /// The answer to a query that came by itself, as those over HTTPS and QUIC do; empty when there is none.
    pub(super) async fn ask(&self, listened: &Arc<Listened>, octets: &[u8], client: Client) -> Vec<u8> {
        let mut out = Vec::new();
        match self.begin(&mut self.worker(listened, false), octets, client, &mut out) {
            None => out,
            Some(pending) => self.finish(pending).await,
        }
    }

    /// The same for who may take back what it asked: a look-up has its client's place until it ends, or somebody could begin
    /// any number of them.
    pub(super) async fn ask_to_the_end(self: &Arc<Self>, listened: &Arc<Listened>, octets: &[u8], client: Client) -> Vec<u8> {
        let mut out = Vec::new();
        match self.begin(&mut self.worker(listened, false), octets, client, &mut out) {
            None => out,
            Some(pending) => {
                let responder = self.clone();
                tokio::spawn(async move { responder.finish(pending).await }).await.unwrap_or_default()
            }
        }
    }

    /// Has a query looked up that nobody here knows. `first` is an attempt that was made already, for a plain query by UDP.
    /// Answers into `out` when there is no room for one more that waits.
    pub(super) fn look_up(
        &self,
        worker: &mut Worker,
        setup: &Arc<Setup>,
        octets: &[u8],
        client: Client,
        first: Option<FirstAttempt>,
        out: &mut Vec<u8>,
    ) -> Option<Pending> {
        let query = Query::parse(octets).ok()?;
        match self.pending(worker, setup, query, octets, client, Wait::Forward(first)) {
            Ok(pending) => Some(pending),
            Err((source, answer)) => {
                let (address, since) = (client.address, worker.now);
                let noted = Noted { client: address, query: octets, since, source, upstream: None, answer: &answer };
                worker.note(setup, &noted);
                out.extend(answer);
                setup.seal(octets, client, worker.clock, out);
                None
            }
        }
    }

    fn answer_query(&self, worker: &mut Worker, setup: &Arc<Setup>, asked: &Asked<'_>, out: &mut Vec<u8>) -> Found {
        if let Some(found) = self.known_here(worker, setup, asked, out) {
            return found;
        }
        let &Asked { query, octets, plain, client } = asked;
        let standing = setup.standing(client.address);
        if standing != Standing::Everything {
            refuse(setup, query, client, standing, out);
            return Found::Answered(Source::Refused);
        }
        if plain.is_none() && !is_bare(octets) {
            return Found::Elsewhere(Wait::Forward(None));
        }
        if query.question.qtype == Type::ANY && client.room == Room::Datagram && !setup.is_consul() {
            // RFC 8482, 4.4: all that there is of a name goes only to who is there, which a datagram does not show.
            out.extend(truncated(query, &[], Message::MAX));
            return Found::Answered(Source::Forwarded);
        }
        let entry = match setup.forwarder.kept(query, plain, worker.now) {
            Kept::Fresh(entry) => entry,
            Kept::Denied(entry) => match entry.denied(query, worker.now) {
                Some(message) => {
                    fit(message, query, client.room, out);
                    return Found::Answered(Source::Cache);
                }
                None => return Found::Elsewhere(Wait::Forward(None)),
            },
            Kept::Nothing { key, group } => return Found::Nowhere { key, group },
            Kept::Elsewhere => return Found::Elsewhere(Wait::Forward(None)),
        };
        if let Some(verdict) = setup.blocks.judge_answer(&query.question, client, entry.octets()) {
            return blocked(&verdict, query, client, out);
        }
        write_kept(&entry, query, octets, client.room, worker.now, out);
        entry.note_given();
        if entry.is_due(worker.now) && entry.is_popular() {
            self.prefetch.put(setup, &entry, octets);
        }
        // A connection is too short-lived, and there are too many, for each to have a cache of its own. And what a client gets
        // of whom a list says something is not for all.
        if let Some(plain) = plain.filter(|_| client.room == Room::Datagram && !setup.blocks.knows(client.address)) {
            worker.have_near(setup, plain, entry);
        }
        Found::Answered(Source::Cache)
    }

    /// Answers what is for us to answer; `None` for what is forwarded.
    pub(super) fn known_here(
        &self,
        worker: &mut Worker,
        setup: &Arc<Setup>,
        &Asked { query, plain, client, .. }: &Asked<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Found> {
        if !setup.is_consul() {
            if query.edns.as_ref().is_some_and(|edns| edns.version > 0) {
                // RFC 6891, 6.1.3.
                out.extend(error(query, Rcode::BADVERS, Some(OTHER_VERSION)).compose(true));
                worker.notes.listened.shared.note_bad_version();
                return Some(Found::Written);
            }
            if query.opcode != Opcode::QUERY {
                let reason = (ExtendedError::NotSupported, Query::ONLY);
                out.extend(error(query, Rcode::NOTIMP, Some(reason)).compose(true));
                return Some(Found::Answered(Source::Invalid));
            }
            if query.question.qtype == Type::HINFO && self.setup().has_come_back(&query.question.name) {
                // Whatever it is told, it is told to ourselves.
                out.extend(error(query, Rcode::NOERROR, None).compose(true));
                return Some(Found::Answered(Source::Local));
            }
        }
        let found = match setup.holder(worker.catalog.load(), query, client, &mut worker.rng, worker.serial) {
            Holder::Local(message) if open_alias(&message).is_some() => {
                Found::Elsewhere(Wait::Complete(Source::Local, Box::new(message)))
            }
            Holder::Rewritten(message) => Found::Elsewhere(Wait::Complete(Source::Local, Box::new(message))),
            Holder::Local(message) | Holder::Route(message) | Holder::Special(message) => {
                fit(message, query, client.room, out);
                Found::Answered(Source::Local)
            }
            Holder::Zone => {
                let kept = setup.zones.kept(query, client.room.octets(query.payload_size()), out);
                if kept { Found::Answered(Source::Zone) } else { Found::Elsewhere(Wait::Zone) }
            }
            Holder::Discovery(Step::Reply(message)) => {
                out.extend(setup.discovery.compose(&message));
                Found::Answered(Source::Discovery)
            }
            Holder::Discovery(Step::Chase(chase)) => Found::Elsewhere(Wait::Chase(chase)),
            Holder::Blocked(verdict) => {
                let found = blocked(&verdict, query, client, out);
                // As for what is kept: not what only fits a larger datagram, and nothing that is not for all.
                let is_near = client.room == Room::Datagram && !setup.blocks.knows(client.address);
                if let (true, Some(plain), Some(answered), Found::Answered(_)) = (is_near, plain, verdict.counted(), &found)
                    && Header::of(out).is_some_and(|header| !header.flags().truncated)
                {
                    worker.have_blocked_near(setup, plain, out, answered);
                }
                found
            }
            Holder::Nobody(message) => {
                out.extend(message.compose(true));
                Found::Answered(Source::Refused)
            }
            Holder::Discovery(Step::Forward) | Holder::Upstreams => return None,
        };
        Some(found)
    }
}

/// Answers what is blocked.
fn blocked(verdict: &Verdict<'_>, query: &Query, client: Client, out: &mut Vec<u8>) -> Found {
    verdict.note();
    match verdict.message(query) {
        Some(message) if open_alias(&message).is_some() => {
            return Found::Elsewhere(Wait::Complete(Source::Blocked, Box::new(message)));
        }
        Some(message) => fit(message, query, client.room, out),
        None => {}
    }
    Found::Answered(Source::Blocked)
}

/// Judges what an upstream answered to a plain query over UDP.
pub(super) fn judge_reply(setup: &Setup, reply: &[u8], octets: &[u8], client: Client, out: &mut Vec<u8>) -> Option<Found> {
    if !setup.blocks.concerns(reply) {
        return None;
    }
    let query = Query::parse(octets).ok()?;
    let verdict = setup.blocks.judge_answer(&query.question, client, reply)?;
    Some(blocked(&verdict, &query, client, out))
}

#[cfg(test)]
mod tests {
    use std::mem;

    use serde_json::json;

    use super::super::transport::Transport;
    use super::*;
    use crate::catalog::{Change, Instance, Node};
    use crate::dns::{Class, Edns, Flags, Question, Record, Type};
    use crate::resolve::answer::Settings;
    use crate::resolve::block::Blocks;
    use crate::upstream;
    use crate::upstream::udp_peer::{Peer, right};

    fn row<T: serde::de::DeserializeOwned>(mut row: serde_json::Value) -> T {
        for (key, value) in [("source", json!(0)), ("create_index", json!(0)), ("modify_index", json!(0))] {
            row.as_object_mut().unwrap().insert(key.into(), value);
        }
        serde_json::from_value(row).unwrap()
    }

    /// Three instances of `even` and three of `heavy`, whose weights differ.
    fn catalog() -> Catalog {
        let mut edit = Catalog::default().edit();
        let node: Node = row(json!({"name": "n", "id": "", "datacenter": "dc1", "address": "127.0.0.1", "meta": {"k": "v"}}));
        edit.apply(Change::PutNode(node)).unwrap();
        for (at, service) in ["even", "heavy"].iter().cycle().take(6).enumerate() {
            let weight = if *service == "heavy" { at + 1 } else { 1 };
            let instance: Instance = row(json!({"node": "n", "id": at.to_string(), "service": service, "port": 80,
                "address": format!("127.1.0.{at}"), "weights": {"passing": weight, "warning": 1}}));
            edit.apply(Change::PutInstance(instance)).unwrap();
        }
        edit.finish().0
    }

    /// A server before an upstream that gives every name one address.
    async fn responder() -> Arc<Responder> {
        let peer = Peer::start(0, right).await;
        let config = upstream::Config { upstreams: Some(vec![peer.address.into()]), ..Default::default() };
        // It ends with the test's runtime.
        mem::forget(peer);
        let (forwarder, problems) = Forwarder::new(&config, None, &[]).await;
        assert!(problems.is_empty());
        let setup = Setup::before(forwarder, Settings { recursors: true, ..Settings::default() });
        Responder::new(setup, Arc::new(ArcSwap::from_pointee(catalog())), Serials::default())
    }

    fn query(name: &str, qtype: Type, edns: bool) -> Vec<u8> {
        let question = Question { name: name.parse().unwrap(), qtype, qclass: Class::IN };
        let flags = Flags { recursion_desired: true, ..Flags::default() };
        Query { id: 7, opcode: Opcode::QUERY, flags, question, edns: edns.then(|| Edns::new(1232)) }.compose()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_in_memory_is_answered_without_an_allocation() {
        let responder = responder().await;
        let client = Client { address: [127, 0, 0, 1].into(), room: Room::Datagram };
        let questions = [
            ("even.service.consul", Type::A),
            ("EVEN.service.dc1.Consul", Type::A),
            ("even.service.consul", Type::SRV),
            ("_even._tcp.service.consul", Type::SRV),
            ("even.service.consul", Type::AAAA),
            ("heavy.service.consul", Type::A),
            ("www.example.net", Type::A),
            ("WWW.example.net", Type::A),
        ];
        let listened = responder.tallies.listener("127.0.0.1:53".into(), Transport::Udp);
        let mut worker = responder.worker(&listened, true);
        for (name, qtype) in questions {
            for edns in [false, true] {
                let (octets, mut out) = (query(name, qtype, edns), Vec::with_capacity(4096));
                // The first time it is prepared, or fetched, and then brought near.
                for _ in 0..3 {
                    out.clear();
                    worker.refresh();
                    if let Some(pending) = responder.begin(&mut worker, &octets, client, &mut out) {
                        out.extend(responder.finish(pending).await);
                    }
                }
                let first = Message::parse(&out).unwrap();
                let count = allocation_counter::measure(|| {
                    for _ in 0..100 {
                        out.clear();
                        assert!(matches!(responder.answer(&mut worker, &octets, client, &mut out), Outcome::Answered));
                    }
                });
                assert_eq!(count.count_total, 0, "{name} {qtype}: {count:?}");
                let last = Message::parse(&out).unwrap();
                assert_eq!(last.rcode, Rcode::NOERROR);
                assert_eq!((last.answers.len(), last.additionals.len()), (first.answers.len(), first.additionals.len()));
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_popular_is_fetched_anew_before_its_end_and_once() {
        let responder = responder().await;
        let listened = responder.tallies.listener("127.0.0.1:53".into(), Transport::Udp);
        let forwarder = responder.setup().forwarder.clone();
        tokio::spawn(crate::server::prefetch::run(responder.due()));
        for (name, room, asked_before) in [
            ("near.example.net", Room::Datagram, 1),
            ("shared.example.net", Room::Stream, 2),
            ("early.example.net", Room::Datagram, 99),
        ] {
            let octets = query(name, Type::A, true);
            let asked = Query::parse(&octets).unwrap();
            let mut message = asked.response(Rcode::NOERROR);
            message.edns = asked.edns.clone();
            message.answers.push(Record::address(asked.question.name.clone(), 300, [192, 0, 2, 9].into()));
            let age = if name.starts_with("early") { 200 } else { 280 };
            let then = Instant::now().checked_sub(std::time::Duration::from_secs(age)).unwrap();
            let turn = forwarder.turn(&Key::new(&asked, 0).unwrap()).unwrap();
            forwarder.keep(&turn, &message.compose(true), then).unwrap();
            drop(turn);
            let mut worker = responder.worker(&listened, true);
            let client = Client { address: [127, 0, 0, 1].into(), room };
            let mut ask = || {
                let mut out = Vec::new();
                assert!(matches!(responder.answer(&mut worker, &octets, client, &mut out), Outcome::Answered), "{name}");
            };
            let before = forwarder.counters.prefetched.get();
            (0..asked_before).for_each(|_| ask());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            assert_eq!(forwarder.counters.prefetched.get(), before, "{name}: it was asked for {asked_before} times");
            (0..100).for_each(|_| ask());
            let is_due = || forwarder.find(&Names::One(asked.question.name.clone()), Instant::now())[0].is_due(Instant::now());
            let begun = Instant::now();
            while is_due() {
                assert!(begun.elapsed().as_secs() < 10, "{name}: it was not fetched anew");
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            let expected = if asked_before == 99 { before } else { before + 1 };
            assert_eq!(forwarder.counters.prefetched.get(), expected, "{name}");
        }
    }

    /// The octets of an answer, by whatever way it comes.
    fn answered(responder: &Responder, worker: &mut Worker, octets: &[u8], client: Client) -> Vec<u8> {
        let mut out = Vec::with_capacity(4096);
        assert!(matches!(responder.answer(worker, octets, client, &mut out), Outcome::Answered));
        out
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_blocked_is_answered_alike_the_short_way_and_counted_by_each_worker() {
        let responder = responder().await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ads"), "ads.example\n").unwrap();
        std::fs::write(
            folder.path().join("zone"),
            "$TTL 60\ntcp.test CNAME rpz-tcp-only.\ndrop.test CNAME rpz-drop.\ndata.test TXT hello\n",
        )
        .unwrap();
        let config = |name: &str, answer: &str| {
            let path = folder.path().join(name);
            toml::from_str(&format!("lists = [{path:?}]\nttl = 7\n{answer}")).unwrap()
        };
        let setup = |answer: &str| {
            let (blocks, problems) = Blocks::load(&[config("ads", answer), config("zone", "")], None, Instant::now());
            assert_eq!(problems, []);
            Setup { blocks: Arc::new(blocks), ..Setup::clone(&responder.setup()) }
        };
        let clients = [Room::Datagram, Room::Stream].map(|room| Client { address: [127, 0, 0, 1].into(), room });
        let [client, stream] = clients;
        let listened = responder.tallies.listener("127.0.0.1:53".into(), Transport::Udp);
        let counted = || responder.setup().blocks.lists().map(|(_, _, answered)| answered).collect::<Vec<_>>();
        for answer in ["", "answer = \"null\"", "answer = \"refused\"", "answer = \"nodata\""] {
            responder.replace(setup(answer));
            let (mut one, mut other) = (responder.worker(&listened, true), responder.worker(&listened, true));
            let mut count = 0;
            for (name, qtype) in [("ADS.example", Type::A), ("x.ads.example", Type::AAAA), ("ads.example", Type::HTTPS)] {
                for edns in [false, true] {
                    let octets = query(name, qtype, edns);
                    let whole = answered(&responder, &mut one, &octets, stream);
                    let first = answered(&responder, &mut one, &octets, client);
                    assert_eq!(first, whole, "{name} {qtype}");
                    let (mut out, before) = (Vec::with_capacity(4096), counted()[0]);
                    let measured = allocation_counter::measure(|| {
                        for _ in 0..100 {
                            out.clear();
                            responder.answer(&mut one, &octets, client, &mut out);
                        }
                    });
                    assert_eq!((measured.count_total, &out), (0, &first), "{name} {qtype}: {measured:?}");
                    assert_eq!(answered(&responder, &mut other, &octets, client), first);
                    assert_eq!(answered(&responder, &mut other, &octets, client), first);
                    assert_eq!(counted()[0] - before, 102, "{name} {qtype}");
                    count += 104;
                }
            }
            // A way that depends on more than the question is never short.
            for _ in 0..3 {
                let cut = answered(&responder, &mut one, &query("tcp.test", Type::A, true), client);
                assert!(Header::of(&cut).unwrap().flags().truncated);
                assert!(answered(&responder, &mut one, &query("drop.test", Type::A, false), client).is_empty());
            }
            assert_eq!(counted(), [count, 6]);
        }
        // Another setup, and what was near is void: nobody is told that it is blocked.
        let sources = || [Source::Blocked, Source::Cache].map(|source| responder.tallies.answers(source));
        let (mut worker, octets) = (responder.worker(&listened, true), query("ads.example", Type::A, false));
        answered(&responder, &mut worker, &octets, client);
        let [blocked, cached] = sources();
        // What is dropped is no answer.
        assert_eq!((blocked, cached), (4 * (6 * 104 + 3) + 1, 0));
        responder.replace(Setup { blocks: Arc::default(), ..Setup::clone(&responder.setup()) });
        let mut out = Vec::new();
        assert!(!matches!(responder.answer(&mut worker, &octets, client, &mut out), Outcome::Answered));
        assert!(out.is_empty());
    }
}
