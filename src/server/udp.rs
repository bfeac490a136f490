//! DNS over UDP: one thread a socket, a batch at a time.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;

use super::answers::pass_on;
use super::batch::{Datagram, Inbox, Outbox, Return, Wait};
use super::query_log::Noted;
use super::relay::{Asker, Flight, Landing, Relay};
use super::responder::{Found, Outcome, Pending, Responder, judge_reply};
use super::setup::Setup;
use super::tally::{Listened, Source};
use super::transport::Transport;
use super::worker::Worker;
use crate::resolve::answer::Client;
use crate::resolve::cache::Entry;
use crate::upstream::FirstAttempt;

/// Answers what comes on `socket`, until it is [released](release), `stopped` is set, and its thread is [woken](wake).
pub(super) fn serve(
    socket: Arc<UdpSocket>,
    responder: Arc<Responder>,
    runtime: Handle,
    listened: &Arc<Listened>,
    stopped: Arc<AtomicBool>,
) -> io::Result<()> {
    let (worker, under_way) = (responder.worker(listened, true), responder.under_way.token());
    thread::Builder::new().name("dns-udp".into()).spawn(move || {
        let (mut inbox, outbox) = (Inbox::new(), Outbox::new());
        let mut listener = Listener { socket, responder, runtime, worker, outbox, relay: None };
        while !stopped.load(Ordering::Relaxed) {
            if let Err(error) = listener.turn(&mut inbox, Wait::ForOne) {
                tracing::error!("cannot receive on {:?}: {error}", listener.socket.local_addr());
                thread::sleep(Duration::from_millis(100));
            }
        }
        // What had come by then is answered; what is asked elsewhere for it is waited for.
        while listener.turn(&mut inbox, Wait::No).is_ok_and(|came| came) {}
        if let Some(relay) = &mut listener.relay {
            relay.forget_clients(&listener.socket);
        }
        while listener.relay.as_ref().is_some_and(|relay| relay.has_askers()) {
            let _ = listener.turn(&mut inbox, Wait::No);
        }
        drop(under_way);
        // Look-ups that went on elsewhere may still hear of it.
        while listener.relay.as_ref().is_some_and(|relay| !relay.is_idle()) {
            let _ = listener.turn(&mut inbox, Wait::No);
        }
    })?;
    Ok(())
}

/// Has the kernel deliver nothing more to a socket, which can still send. What has been delivered can still be read.
pub(super) fn release(socket: &UdpSocket) {
    // Connected, it hears of one peer alone, and that is itself. An address that is gone hears of nobody anyway.
    let _ = socket.local_addr().and_then(|own| socket.connect(own));
}

/// Wakes the thread that serves a socket.
pub(super) fn wake(socket: &UdpSocket) {
    // Also where it says that nothing is connected.
    let _ = socket2::SockRef::from(socket).shutdown(std::net::Shutdown::Read);
}

/// One socket, and what its thread has for itself.
struct Listener {
    socket: Arc<UdpSocket>,
    responder: Arc<Responder>,
    runtime: Handle,
    worker: Worker,
    outbox: Outbox,
    /// Made with the first question that has to be asked elsewhere.
    relay: Option<Box<Relay>>,
}

impl Listener {
    /// Takes what has come, from clients or for them, and answers it. Says whether there was something from clients.
    fn turn(&mut self, inbox: &mut Inbox, mut wait: Wait) -> io::Result<bool> {
        if let Some(mut relay) = self.relay.take_if(|relay| !relay.is_idle()) {
            let clients = relay.wait();
            self.worker.refresh();
            relay.harvest(self.worker.now(), |setup, flight, landing| self.landed(setup, flight, landing));
            self.relay = Some(relay);
            if !clients {
                self.send();
                return Ok(false);
            }
            wait = Wait::No;
        }
        let datagrams = match inbox.receive(&self.socket, wait) {
            Ok(datagrams) => datagrams,
            // An ICMP error of an earlier answer, or a signal: nothing was received.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::Interrupted) => &mut [],
            Err(error) => return Err(error),
        };
        let came = !datagrams.is_empty();
        self.worker.refresh();
        self.worker.read_ahead(datagrams.iter().map(Datagram::octets));
        for datagram in datagrams {
            let (octets, origin) = (datagram.octets(), datagram.origin());
            let client = client(origin);
            match self.responder.answer(&mut self.worker, octets, client, self.outbox.next()) {
                Outcome::Answered => self.put(origin),
                Outcome::Pending(pending) => self.finish(*pending, *origin),
                Outcome::Unknown { setup, key, group } => {
                    if self.relay.is_none() {
                        // What cannot be had leaves all to look-ups.
                        self.relay = Relay::new(&self.socket).map(Box::new).ok();
                    }
                    let asked = self
                        .relay
                        .as_mut()
                        .is_some_and(|relay| relay.ask(&setup, key, group, octets, origin, self.worker.now()));
                    if !asked {
                        self.look_up(&setup, octets, origin, None);
                    }
                }
            }
        }
        self.send();
        if let Some(relay) = &mut self.relay {
            relay.flush();
        }
        Ok(came)
    }

    /// Answers those who asked what an upstream has now answered, or has not.
    fn landed(&mut self, setup: &Arc<Setup>, flight: &mut Flight, landing: Landing<'_>) {
        match landing {
            Landing::Reply(reply) => {
                let now = self.worker.now();
                let turn = flight.turn.take();
                let kept = turn.as_ref().and_then(|turn| setup.forwarder.keep(turn, reply, now));
                if let Some(turn) = turn {
                    turn.end_with(kept.as_deref().map_or(reply, Entry::octets));
                }
                for Asker { octets, origin } in flight.askers() {
                    let out = self.outbox.next();
                    let who = client(origin);
                    let (source, upstream) = match judge_reply(setup, reply, octets, who, out) {
                        None => {
                            pass_on(kept.as_deref(), reply, octets, now, out);
                            (Source::Forwarded, Some(flight.upstream()))
                        }
                        Some(Found::Answered(source)) => (source, None),
                        // Another name is given in its place, which has to be looked up in turn.
                        Some(_) => {
                            self.look_up(setup, octets, origin, None);
                            continue;
                        }
                    };
                    let (client, since) = (who.address, flight.sent());
                    self.worker.waited(now.saturating_duration_since(since));
                    self.worker.note(setup, &Noted { client, query: octets, since, source, upstream, answer: out });
                    self.worker.seal(octets, who, out);
                    self.put(origin);
                }
            }
            Landing::GoesOn(attempt) => {
                let mut attempt = Some(attempt);
                for Asker { octets, origin } in flight.askers() {
                    self.look_up(setup, octets, origin, attempt.take());
                }
            }
        }
    }

    /// Has the runtime look up a plain query.
    fn look_up(&mut self, setup: &Arc<Setup>, octets: &[u8], origin: &Return, first: Option<FirstAttempt>) {
        match self.responder.look_up(&mut self.worker, setup, octets, client(origin), first, self.outbox.next()) {
            Some(pending) => self.finish(pending, *origin),
            None => self.put(origin),
        }
    }

    /// Has the runtime carry an answer to its end. It leaves by the same socket.
    fn finish(&self, pending: Pending, origin: Return) {
        let (responder, socket) = (self.responder.clone(), self.socket.clone());
        let finish = async move {
            let answer = responder.finish(pending).await;
            if !answer.is_empty() {
                // A client that has gone is nobody's fault.
                let _ = origin.send(&socket, &answer);
            }
        };
        self.responder.under_way.spawn_on(finish, &self.runtime);
    }

    /// Puts the answer in the outbox on its way to where its query came from. A client that has gone is nobody's fault.
    fn put(&mut self, origin: &Return) {
        let _ = self.outbox.put(origin, &self.socket);
    }

    fn send(&mut self) {
        self.worker.flush_log();
        let _ = self.outbox.send(&self.socket);
    }
}

fn client(origin: &Return) -> Client {
    Client { address: origin.peer().ip(), room: Transport::Udp.room() }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use arc_swap::ArcSwap;

    use super::super::serials::Serials;
    use super::*;
    use crate::dns::{Class, Edns, Flags, Message, Opcode, Query, Question, Rcode, Record, Type};
    use crate::resolve::answer::Settings;
    use crate::upstream::udp_peer::Peer;
    use crate::upstream::{self, Forwarder};

    /// An upstream that gives each name its address, but does with some what their first label says.
    async fn upstream(last: u8, obeys: bool) -> Peer {
        Peer::sending(move |query| {
            let name = query.question.name.to_lowercase().to_string();
            let order = if obeys { name.split(['.', '-']).next().unwrap_or_default() } else { "" };
            let mut message = query.response(if order == "fail" { Rcode::SERVFAIL } else { Rcode::NOERROR });
            message.edns = query.edns.clone().filter(|_| order != "bare");
            message.flags.truncated = order == "cut";
            if order == "small" {
                message.questions[0].name = query.question.name.to_lowercase();
            }
            if message.rcode == Rcode::NOERROR && order != "cut" {
                message.answers.push(Record::address(query.question.name.clone(), 300, [192, 0, 2, last].into()));
            }
            let right = message.compose(true);
            let mut datagrams = Vec::new();
            if order == "forged" {
                let mut wrong_id = message.clone();
                wrong_id.id ^= 1;
                let mut wrong_name = message.clone();
                wrong_name.questions[0].name = "other.example.net".parse().unwrap();
                datagrams = vec![wrong_id.compose(true), wrong_name.compose(true), right[..20].to_vec(), Vec::new()];
                datagrams.iter_mut().filter_map(|wrong| wrong.last_mut()).for_each(|last| *last ^= 1);
            }
            if order != "mute" {
                datagrams.push(right);
            }
            (Duration::from_millis(if order == "late" { 800 } else { 0 }), datagrams)
        })
        .await
    }

    struct World {
        listener: Listener,
        inbox: Inbox,
        client: UdpSocket,
        /// Flights that were seen under way.
        flights: usize,
    }

    impl World {
        /// A listener whose thread is the test's own, with upstreams that have been measured.
        async fn new(upstreams: &[&Peer]) -> Self {
            let addresses = upstreams.iter().map(|upstream| upstream.address.into()).collect();
            let config = upstream::Config { upstreams: Some(addresses), ..Default::default() };
            let (forwarder, _) = Forwarder::new(&config, None, &[]).await;
            let responder =
                Responder::new(Setup::before(forwarder, Settings::default()), Arc::new(ArcSwap::default()), Serials::default());
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.connect(socket.local_addr().unwrap()).unwrap();
            client.set_nonblocking(true).unwrap();
            let listened = responder.tallies.listener("127.0.0.1:53".into(), Transport::Udp);
            let (worker, outbox, runtime) = (responder.worker(&listened, true), Outbox::new(), Handle::current());
            let listener = Listener { socket: Arc::new(socket), responder, runtime, worker, outbox, relay: None };
            let mut world = Self { listener, inbox: Inbox::new(), client, flights: 0 };
            for n in 0..upstreams.len() * 2 {
                world.ask(&[&format!("warm{n}.example.net")]).await;
            }
            (world.flights, world.listener.relay) = (0, None);
            upstreams.iter().for_each(|upstream| upstream.heard().clear());
            world
        }

        /// Asks all of them at once, the first with id 0; the answers by their ids.
        async fn ask(&mut self, names: &[&str]) -> Vec<Message> {
            for (id, name) in (0..).zip(names) {
                let flags = Flags { recursion_desired: true, ..Flags::default() };
                let question = Question { name: name.parse().unwrap(), qtype: Type::A, qclass: Class::IN };
                let query = Query { id, opcode: Opcode::QUERY, flags, question, edns: Some(Edns::new(4096)) };
                self.client.send(&query.compose()).unwrap();
            }
            let (mut answers, begun) = (Vec::new(), Instant::now());
            while answers.len() < names.len() {
                assert!(begun.elapsed() < Duration::from_secs(20), "{names:?}: {answers:?}");
                tokio::task::block_in_place(|| self.listener.turn(&mut self.inbox, Wait::ForOne)).unwrap();
                self.flights = self.flights.max(self.listener.relay.as_ref().map_or(0, |relay| relay.len()));
                let mut octets = [0; 4096];
                while let Ok(length) = self.client.recv(&mut octets) {
                    answers.push(Message::parse(&octets[..length]).unwrap());
                }
            }
            answers.sort_by_key(|message| message.id);
            answers
        }

        /// Waits until nothing is under way any more.
        fn drain(&mut self) {
            let begun = Instant::now();
            while self.listener.relay.as_ref().is_some_and(|relay| !relay.is_idle()) {
                assert!(begun.elapsed() < Duration::from_secs(20), "what nobody waits for is forgotten");
                tokio::task::block_in_place(|| self.listener.turn(&mut self.inbox, Wait::ForOne)).unwrap();
            }
            self.flights = 0;
        }

        /// The last octet of the address that this name is given.
        async fn address(&mut self, name: &str) -> u8 {
            let answer = self.ask(&[name]).await.remove(0);
            assert_eq!((answer.rcode, answer.answers.len()), (Rcode::NOERROR, 1), "{answer:?}");
            assert!(answer.edns.is_some(), "who asks with EDNS is answered with it");
            match answer.answers[0].data {
                crate::dns::RData::A(address) => address.octets()[3],
                _ => 0,
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn plain_questions_are_asked_by_the_worker_itself() {
        let upstream = upstream(1, true).await;
        let mut world = World::new(&[&upstream]).await;
        let names: Vec<String> = (0..200).map(|n| format!("N{n}.example.net")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let answers = world.ask(&names).await;
        for (answer, name) in answers.iter().zip(&names) {
            assert_eq!(answer.questions[0].name.to_string(), format!("{name}."), "as it was spelled");
            assert_eq!((answer.answers.len(), answer.edns.is_some()), (1, true));
        }
        assert!(world.flights > 1);
        let heard = std::mem::take(&mut *upstream.heard());
        assert_eq!(heard.len(), names.len());
        assert!(heard.iter().all(|(_, query)| query.edns.as_ref().unwrap().udp_size == crate::limits::UDP_PAYLOAD));
        let ids: std::collections::HashSet<u16> = heard.iter().map(|(_, query)| query.id).collect();
        assert!(ids.len() > 190, "random ids, not the clients'");
        for n in 0..20 {
            world.ask(&[&format!("port{n}.example.net")]).await;
        }
        let ports: std::collections::HashSet<u16> = upstream.heard().iter().map(|(from, _)| from.port()).collect();
        assert!(ports.len() > 10, "{ports:?}");

        upstream.heard().clear();
        let answers = world.ask(&["same.example.net", "SAME.example.net", "same.Example.net"]).await;
        assert_eq!(answers[1].questions[0].name.to_string(), "SAME.example.net.");
        assert_eq!(upstream.heard().len(), 1, "identical questions are one");
        world.ask(&["same.example.net"]).await;
        assert_eq!(upstream.heard().len(), 1, "and the answer is kept");
        let setup = world.listener.responder.setup();
        assert_eq!(setup.forwarder.counters.misses.get(), 2 + 200 + 20 + 1);
        let mut page = crate::metrics::Page::default();
        Forwarder::metrics(&[(None, &setup.forwarder)], &mut page);
        let text = page.into_text();
        let number = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.split(' ').nth(1)).map(str::to_owned);
        assert_eq!(number("rollcall_upstream_seconds_count"), number("rollcall_upstream_answered_total"), "each is measured");
        assert_eq!(
            number("rollcall_wait_seconds_count"),
            number("rollcall_answers_total{source=\"forwarded\"}"),
            "for each client"
        );
        assert_eq!(setup.forwarder.counters.coalesced.get(), 2);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whatever_goes_wrong_another_upstream_answers() {
        let (quick, other) = (upstream(1, true).await, upstream(2, false).await);
        let mut world = World::new(&[&quick, &other]).await;
        // Who is asked first is certain so, and a busy machine has time.
        let forwarder = world.listener.responder.setup().forwarder.clone();
        let settle = || {
            forwarder.measured(0, [(quick.address, Duration::from_millis(100)), (other.address, Duration::from_millis(200))])
        };
        for (name, expected) in
            [("good", 1), ("bare", 1), ("forged", 1), ("small", 1), ("fail", 2), ("cut", 2), ("mute", 2), ("late", 2)]
        {
            world.drain();
            settle();
            let begun = Instant::now();
            assert_eq!(world.address(&format!("{name}-1.example.net")).await, expected, "{name}");
            assert!(begun.elapsed() < Duration::from_secs(5), "{name}: {:?}", begun.elapsed());
            assert_eq!(world.flights, 1, "{name}: asked by the worker");
            let sockets = world.listener.relay.as_ref().map_or(0, |relay| relay.sockets());
            assert_eq!(sockets == 0, expected == 2 && ["mute", "late"].contains(&name), "{name}: silence takes new sockets");
        }
        settle();
        quick.stop().await;
        assert_eq!(world.address("gone.example.net").await, 2);
        world.drain();
    }
}
