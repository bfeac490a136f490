//! Upstreams that stand in for each other, and the driver that carries a look-up through them: what it says is to be sent
//! is sent, and what is heard is told to it, and noted.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::address::Upstream;
use super::cookies::Cookie;
use super::datagram::Datagrams;
use super::link::Link;
use super::report::Try;
use super::tally::Tally;
use super::trouble::Trouble;
use super::udp::Lost;
use super::under_way::Turn;
use crate::dns::{Query, dnssec_ok, is_bare};
use crate::limits;
use crate::metrics::Labels;
use crate::resolve::Room;
use crate::resolve::failures::Fortune;
use crate::resolve::filter;
use crate::resolve::forward::{self, Condition, Lookup, Manner, Step, Transport, is_good};
use crate::resolve::passing::{clear_ad, of_our_hop, onward};

/// Upstreams that stand in for each other.
#[derive(Debug)]
pub(super) struct Group {
    /// `default`, or the first domain of its route.
    pub(super) name: String,
    pub(super) members: Vec<Member>,
    pub(super) manner: Manner,
    /// One for each member.
    conditions: Mutex<Vec<Condition>>,
    pub(super) fortune: Fortune,
    means: Arc<Means>,
}

/// One of them: how it is reached, and what became of what it was asked.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) link: Arc<Link>,
    pub(super) tally: Arc<Tally>,
    trouble: Trouble,
}

/// What all groups of a forwarder ask with.
#[derive(Debug)]
pub(super) struct Means {
    pub(super) datagrams: Datagrams,
    /// Whose replies are none, by the addresses in them.
    filter: filter::Config,
    /// Look-ups that have ended and may still listen for who is late.
    listening: Arc<Semaphore>,
}

impl Means {
    pub(super) fn new(datagrams: Datagrams, filter: filter::Config) -> Self {
        Self { datagrams, filter, listening: Arc::new(Semaphore::new(limits::LATE_LISTENERS_MAX)) }
    }
}

/// The upstream of a group that is asked first.
#[derive(Debug, Clone, Copy)]
pub struct Favourite {
    pub group: u16,
    upstream: usize,
    pub address: SocketAddr,
    /// It is asked in random letter case, and one attempt that comes back in another is [`Lost::OtherCase`].
    pub random_case: bool,
    /// Goes with each question, and has to come back with its reply.
    pub cookie: Option<Cookie>,
    /// Is what it says of signatures passed on?
    pub is_trusted: bool,
    /// How long to wait for it before a look-up asks others too.
    pub patience: Duration,
}

impl Favourite {
    /// An attempt at this upstream, whose reply will be told by `reply`, or never when that is dropped.
    pub fn attempt(&self, turn: Option<Turn>, sent: Instant, reply: oneshot::Receiver<Result<Vec<u8>, Lost>>) -> FirstAttempt {
        FirstAttempt { turn, upstream: self.upstream, sent, reply }
    }
}

/// An attempt that a listener made by itself. It has not been answered well in time; what still comes of it is told.
#[derive(Debug)]
pub struct FirstAttempt {
    /// That of its question, until a look-up takes it.
    pub(super) turn: Option<Turn>,
    upstream: usize,
    sent: Instant,
    reply: oneshot::Receiver<Result<Vec<u8>, Lost>>,
}

/// An attempt under way: its number, and what comes of it.
type Asking = BoxFuture<'static, (usize, Result<Vec<u8>, Lost>)>;

impl Group {
    /// `tallies` are those of upstreams that were there before, which go on.
    pub(super) fn new(name: String, links: Vec<Arc<Link>>, manner: Manner, means: Arc<Means>, tallies: &[Arc<Tally>]) -> Self {
        let condition = |link: &Arc<Link>| {
            let mut condition = Condition::default();
            condition.is_set_aside = link.watched.leads_back();
            condition
        };
        let conditions = Mutex::new(links.iter().map(condition).collect());
        let mut members: Vec<Member> = Vec::new();
        for link in links {
            // Those that differ by what is not written out, as their pins, are told apart by their number.
            let same = members.iter().filter(|other| other.link.to_string() == link.to_string()).count();
            let upstream = if same == 0 { link.to_string() } else { format!("{link} ({})", same + 1) };
            let former = tallies.iter().find(|tally| tally.is_of(&name, &upstream));
            let tally = former.cloned().unwrap_or_else(|| Arc::new(Tally::new(name.clone(), upstream)));
            members.push(Member { link, tally, trouble: Trouble::default() });
        }
        Self { name, members, manner, conditions, fortune: Fortune::default(), means }
    }

    /// Its upstreams as they were written, each once however many addresses its name has.
    pub(super) fn named(&self) -> Vec<&Upstream> {
        let mut named: Vec<&Upstream> = self.members.iter().map(|member| &member.link.upstream).collect();
        named.dedup();
        named
    }

    /// Its upstreams as they were written, and where they are when their names were looked up.
    pub(super) fn written(&self) -> Vec<(&Upstream, Option<SocketAddr>)> {
        self.members.iter().map(|Member { link, .. }| (&link.upstream, link.address())).collect()
    }

    /// How one of its upstreams is called in metrics.
    pub(super) fn labels(&self, member: &Member) -> Labels {
        vec![("group", self.name.clone()), ("upstream", member.tally.text().to_string())]
    }

    /// How its upstreams fare.
    pub(super) fn fares(&self) -> Vec<(&Member, Condition)> {
        self.members.iter().zip(self.conditions().clone()).collect()
    }

    /// Is one of them asked in random letter case?
    pub(super) fn in_random_case(&self, link: &Link) -> bool {
        self.means.datagrams.random_case && link.by_datagram().is_some() && link.spelling.is_proved()
    }

    /// Does one of them give cookies?
    pub(super) fn has_cookie(&self, link: &Link) -> bool {
        self.means.datagrams.cookie(link, Instant::now()).is_some()
    }

    /// Has it the same upstreams, in the same places?
    pub(super) fn asks_the_same(&self, other: &Self) -> bool {
        let all_in = |one: &Self, other: &Self| {
            one.members.iter().all(|Member { link, .. }| other.members.iter().any(|other| Arc::ptr_eq(link, &other.link)))
        };
        all_in(self, other) && all_in(other, self)
    }

    /// Whom to ask first, by UDP; `None` when that is for a look-up to find out. `number` is the group's own.
    pub(super) fn favourite(&self, number: u16, now: Instant) -> Option<Favourite> {
        let Manner::Ranked { strategy, .. } = self.manner else { return None };
        let (upstream, patience) = forward::favourite(strategy, &mut self.conditions(), now, fastrand::u32(..))?;
        let link = &self.members.get(upstream)?.link;
        let (random_case, is_trusted) = (self.in_random_case(link), link.is_trusted());
        let (address, cookie) = (link.by_datagram()?, self.means.datagrams.cookie(link, now));
        Some(Favourite { group: number, upstream, address, random_case, cookie, is_trusted, patience })
    }

    /// Takes note of first attempts that a listener made by itself.
    pub(super) fn note_sent(&self, favourite: &Favourite, count: u64) {
        if let Some(member) = self.members.get(favourite.upstream) {
            member.tally.sent.raise(count);
        }
    }

    /// Takes note of good replies of a favourite, and of how long it took for the last of them.
    pub(super) fn note_answered(&self, favourite: &Favourite, took: Duration, count: u32) {
        self.answered(favourite.upstream, took, count);
        if let Some(member) = self.members.get(favourite.upstream) {
            self.means.datagrams.answered(&member.link, favourite.random_case, count);
        }
    }

    /// Takes the cookie that a favourite was asked with out of its reply. False when that is not to be taken
    /// ([`Lost::NoCookie`]).
    pub(super) fn take_cookie_back(&self, favourite: &Favourite, reply: &mut Vec<u8>, had_edns: bool, now: Instant) -> bool {
        match (self.members.get(favourite.upstream), &favourite.cookie) {
            (Some(member), Some(cookie)) => member.link.cookies.take_back(cookie, reply, had_edns, now),
            _ => true,
        }
    }

    /// Carries one look-up to its end. `octets` are the query as it goes upstream, `first` an attempt that was made already;
    /// `tries` is told how each attempt went.
    pub(super) async fn look_up(
        self: &Arc<Self>,
        query: &Query,
        octets: &[u8],
        room: Room,
        first: Option<FirstAttempt>,
        tries: &mut Vec<Try>,
    ) -> Option<Vec<u8>> {
        let octets: Arc<[u8]> = octets.into();
        let mut lookup = self.begin(room, first.as_ref()).with_edns(query.edns.is_some() && is_bare(&octets));
        let without_edns = OnceLock::new();
        let mut asked: FuturesUnordered<Asking> = FuturesUnordered::new();
        if let Some(first) = first {
            let reply = self.clone().hear(first, octets.clone());
            asked.push(async move { (0, reply.await) }.boxed());
        }
        let answer = loop {
            match lookup.step(Instant::now()) {
                Step::Send { attempt, upstream, transport, edns } => {
                    let octets = match edns {
                        true => &octets,
                        false => without_edns.get_or_init(|| Query { edns: None, ..onward(query) }.compose().into()),
                    };
                    let reply = self.clone().ask(upstream, transport, octets.clone(), attempt == 0);
                    asked.push(async move { (attempt, reply.await) }.boxed());
                }
                Step::Probe { upstream } => {
                    tokio::spawn(self.clone().probe(upstream, octets.clone()));
                }
                Step::Wait(until) => {
                    tokio::select! {
                        Some((attempt, reply)) = asked.next() => match reply {
                            Ok(reply) if !self.means.filter.ignores(&reply) => lookup.heard(attempt, reply, Instant::now()),
                            Err(Lost::Forged) => lookup.guessed_at(attempt, Instant::now()),
                            _ => lookup.failed(attempt, Instant::now()),
                        },
                        () = tokio::time::sleep_until(until.into()) => {}
                    }
                }
                Step::Done(answer) => break answer,
            }
        };
        tries.extend(lookup.tries(Instant::now()).filter_map(|tried| Some(Try::new(self.members.get(tried.upstream)?, tried))));
        let ended_well = answer.as_deref().is_some_and(is_good);
        for upstream in lookup.useless(Instant::now(), ended_well) {
            self.missed(upstream);
        }
        if !ended_well {
            self.fortune.failed();
        }
        let open: Vec<(usize, usize)> = lookup.open().collect();
        if !open.is_empty()
            && ended_well
            && let Ok(permit) = self.means.listening.clone().try_acquire_owned()
        {
            tokio::spawn(self.clone().listen(open, asked, permit));
        }
        answer
    }

    fn begin(&self, room: Room, first: Option<&FirstAttempt>) -> Lookup {
        let (conditions, rng) = (&mut self.conditions(), &mut fastrand::Rng::new());
        match first {
            Some(first) => Lookup::begun(first.upstream, first.sent, self.manner, conditions, rng),
            None => Lookup::new(self.manner, room, conditions, Instant::now(), rng),
        }
    }

    /// Hears what still comes of an attempt that a listener made.
    async fn hear(self: Arc<Self>, first: FirstAttempt, as_written: Arc<[u8]>) -> Result<Vec<u8>, Lost> {
        let FirstAttempt { upstream, sent, reply, .. } = first;
        let reply = reply.await.unwrap_or_else(|_| Err(io::ErrorKind::ConnectionRefused.into()));
        let link = self.members.get(upstream).map(|member| &member.link);
        let (sent, reply) = match (&reply, link.and_then(|link| Some((link, link.address()?)))) {
            (Err(Lost::OtherCase), Some((link, address))) => {
                self.means.datagrams.ask_as_written(link, address, &as_written).await
            }
            (Err(Lost::NoCookie(cookie)), Some((link, address))) => {
                (Instant::now(), self.means.datagrams.ask_without(link, address, &as_written, None, cookie).await)
            }
            _ => (sent, reply),
        };
        self.judged(upstream, &as_written, sent, reply)
    }

    /// Hears what still comes of the attempts of a look-up that has ended, to tell who is late from who is silent.
    async fn listen(
        self: Arc<Self>,
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
        open.iter().for_each(|(_, upstream)| self.note(*upstream, Condition::lost));
    }

    /// Has an upstream probed with this query, when none of them is well and it is time: who asks only for what failed
    /// a moment ago would not see that they are back.
    pub(super) fn scout(self: &Arc<Self>, octets: impl FnOnce() -> Vec<u8>) {
        let upstream = forward::scout(&mut self.conditions(), Instant::now());
        if let Some(upstream) = upstream {
            tokio::spawn(self.clone().probe(upstream, octets().into()));
        }
    }

    /// Asks an upstream only to learn whether it is back, or better than it was.
    async fn probe(self: Arc<Self>, upstream: usize, octets: Arc<[u8]>) {
        // What came of it is in the upstream's condition, where an error or silence changes nothing for the better.
        let asking = self.clone().ask(upstream, Transport::Udp, octets, false);
        if tokio::time::timeout(forward::LATE, asking).await.is_err() {
            self.note(upstream, Condition::missed);
            self.note(upstream, Condition::lost);
        }
    }

    /// Asks one upstream, and takes note of how it went.
    pub(super) async fn ask(
        self: Arc<Self>,
        upstream: usize,
        transport: Transport,
        octets: Arc<[u8]>,
        is_first: bool,
    ) -> Result<Vec<u8>, Lost> {
        let Some(Member { link, tally, .. }) = self.members.get(upstream) else { return Err(io::ErrorKind::NotFound.into()) };
        tally.sent.raise(1);
        let sent = Instant::now();
        let (sent, reply) = match (transport, link.by_datagram()) {
            (Transport::Udp, Some(address)) => self.means.datagrams.ask(link, address, &octets, is_first).await,
            // How long a connection takes to be made says nothing of how long the next reply will take.
            _ => match link.ask(&octets).await {
                Ok((sent, reply)) => (sent, Ok(reply)),
                Err(error) => (sent, Err(error.into())),
            },
        };
        self.judged(upstream, &octets, sent, reply)
    }

    /// Takes note of how an attempt went, in which this was asked.
    fn judged(&self, upstream: usize, asked: &[u8], sent: Instant, mut reply: Result<Vec<u8>, Lost>) -> Result<Vec<u8>, Lost> {
        let Some(Member { link, tally, .. }) = self.members.get(upstream) else { return reply };
        if let Ok(reply) = &mut reply
            && !self.manner.is_sequential()
        {
            if !link.is_trusted() {
                clear_ad(reply);
            }
            of_our_hop(reply, dnssec_ok(asked));
        }
        match &reply {
            Ok(reply) if is_good(reply) => self.answered(upstream, sent.elapsed(), 1),
            Ok(_) => tally.failed.raise(1),
            Err(error) => {
                tracing::debug!("upstream {link}: {error}");
                // Forged replies are nothing that it has done, nor that we ask too much at one time.
                let is_ours = matches!(error, Lost::Io(error) if error.kind() == io::ErrorKind::QuotaExceeded);
                if !is_ours && !matches!(error, Lost::Forged) {
                    self.note(upstream, Condition::missed);
                    tally.failed.raise(1);
                }
            }
        }
        reply
    }

    /// Takes note of good answers, of which the last took so long.
    fn answered(&self, upstream: usize, took: Duration, count: u32) {
        let mut conditions = self.conditions();
        let was_suspect = conditions.get(upstream).is_some_and(Condition::is_suspect);
        self.fortune.answered(forward::answered(&mut conditions, upstream, took, count));
        drop(conditions);
        let Some(Member { link, tally, trouble }) = self.members.get(upstream) else { return };
        tally.answered(took, count);
        if was_suspect {
            trouble.ends(link, &self.name);
        }
    }

    /// Takes note that there was no good answer in time.
    fn missed(&self, upstream: usize) {
        self.note(upstream, Condition::missed);
        if let Some(member) = self.members.get(upstream) {
            member.tally.missed.raise(1);
        }
    }

    /// Sets one of them aside, or asks it again as any other.
    pub(super) fn set_aside(&self, link: &Arc<Link>, leads_back: bool) {
        let mut conditions = self.conditions();
        let places = self.members.iter().zip(conditions.iter_mut());
        places.filter(|(member, _)| Arc::ptr_eq(&member.link, link)).for_each(|(_, own)| own.is_set_aside = leads_back);
    }

    pub(super) fn note(&self, upstream: usize, what: impl FnOnce(&mut Condition)) {
        let mut conditions = self.conditions();
        let Some(condition) = conditions.get_mut(upstream) else { return };
        what(condition);
        if !condition.is_suspect() || condition.is_set_aside {
            return;
        }
        let all_are = conditions.iter().all(Condition::is_suspect);
        drop(conditions);
        if let Some(Member { link, trouble, .. }) = self.members.get(upstream) {
            trouble.goes_on(link, &self.name, all_are);
        }
    }

    fn conditions(&self) -> MutexGuard<'_, Vec<Condition>> {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::net::UdpSocket;

    use super::super::udp_peer::*;
    use super::super::{Config, Protocol, peer};
    use super::*;
    use crate::dns::{Edns, EdnsOption, Message, Rcode};

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
    async fn rfc6891_6_1_1_what_an_upstream_says_of_its_own_hop_is_not_passed_on() {
        let chatty = |query: &Query| {
            let options = [3, 8, 10, 15, 65_001, 65_312].map(|code| EdnsOption { code, data: [0; 8].into() });
            Some(Message { edns: Some(Edns { options: options.into(), ..Edns::new(1232) }), ..right(query)? })
        };
        let peer = Peer::start(0, chatty).await;
        let forwarder = forwarder(&config(&[&peer])).await;
        for _ in 0..2 {
            let message = ask(&forwarder, &query("www.example.net", true)).await;
            let codes: Vec<u16> = message.edns.unwrap().options.iter().map(|option| option.code).collect();
            assert_eq!(codes, [15, 65_001], "an extended error, and what nobody knows");
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
            assert!(!forwarder.groups.all[0].members[0].link.spelling.is_kept(Instant::now()));
            assert!(peer.asked() < 16, "refuses: {refuses}; it is asked twice for a while only: {} times", peer.asked());
        }
    }

    #[tokio::test]
    async fn who_is_late_is_told_from_who_is_silent() {
        let (late, mute, quick) = (Peer::start(150, right).await, Peer::start(0, silent).await, Peer::start(0, right).await);
        for (peer, comes) in [(&late, true), (&mute, false)] {
            let forwarder = forwarder(&config(&[peer, &quick])).await;
            let (slow, other) = (peer.address, quick.address);
            forwarder.measured(0, [(slow, Duration::from_millis(10)), (other, Duration::from_millis(50))]);
            assert_eq!(ask(&forwarder, &query("www.example.net", false)).await.rcode, Rcode::NOERROR);
            let before = forwarder.groups.all[0].fares()[0].1.clone();
            assert_eq!(before.misses, 1, "it was of no use");
            let begun = Instant::now();
            loop {
                let now = forwarder.groups.all[0].fares()[0].1.clone();
                if now != before {
                    break assert_eq!((now.misses == 0, now.latency > before.latency), (comes, comes), "{now:?}");
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
                streams.push(listener.accept().await.unwrap().0);
                // One in doubt is closed when another takes its place, a moment before or after.
                streams.retain(|stream: &tokio::net::TcpStream| {
                    loop {
                        match stream.try_read(&mut [0; 4096]) {
                            Ok(0) => break false,
                            Ok(_) => {}
                            Err(error) => break error.kind() == io::ErrorKind::WouldBlock,
                        }
                    }
                });
                assert!(streams.len() <= 2 * limits::UPSTREAM_CONNECTIONS_MAX, "one more for each look-up");
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
    async fn an_upstream_that_is_back_is_seen_although_it_is_slower() {
        let (slow, fast) = (Peer::start(60, right).await, Peer::start(0, right).await);
        let forwarder = forwarder(&config(&[&slow, &fast])).await;
        let group = &forwarder.groups.all[0];
        group.note(0, Condition::missed);
        group.note(0, Condition::missed);
        assert_eq!(ask(&forwarder, &query("www.example.net", false)).await.rcode, Rcode::NOERROR);
        let begun = Instant::now();
        while group.conditions()[0].misses > 0 {
            assert!(begun.elapsed() < Duration::from_secs(5), "its answer to the probe did not count");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(group.conditions()[0].latency >= Some(Duration::from_millis(60)));
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
            let reply = forwarder.groups.all[0].judged(0, &[], Instant::now(), Ok(message.compose(true))).unwrap();
            assert_eq!(Message::parse(&reply).unwrap().flags.authentic_data, is_believed, "{upstream}");
        }
        let both = trusting("\"192.0.2.53\", { url = \"192.0.2.53\", trust_ad = true }");
        let both =
            forwarder(&both).await.groups.all[0].members.iter().map(|member| member.link.is_trusted()).collect::<Vec<_>>();
        assert_eq!(both, [false, true], "they do not share a connection");
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
    async fn rfc7858_3_1_what_cannot_be_asked_encrypted_is_not_asked() {
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
}
