//! For tests: upstreams that are asked by datagram, and a forwarder that asks them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;

use super::{Config, Forwarder};
use crate::dns::{Class, Edns, Message, Name, Query, Question, RData, Rcode, Record, Soa, Type};
use crate::resolve::Room;
use crate::resolve::cache::Key;

/// An upstream that does with each query as it is told, and remembers who asked what.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<(SocketAddr, Query)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    /// Answers after a time; with nothing when there is no answer.
    pub(crate) async fn start(delay_ms: u64, answer: impl Fn(&Query) -> Option<Message> + Send + 'static) -> Self {
        let octets = move |query: &Query| answer(query).map(|message| message.compose(true)).into_iter().collect();
        Self::sending(move |query| (Duration::from_millis(delay_ms), octets(query))).await
    }

    /// Sends these datagrams after this time.
    pub(crate) async fn sending(replies: impl Fn(&Query) -> (Duration, Vec<Vec<u8>>) + Send + 'static) -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let (address, heard) = (socket.local_addr().unwrap(), Arc::<Mutex<Vec<_>>>::default());
        let note = heard.clone();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let query = Query::parse(&buffer[..length]).unwrap();
                let (after, datagrams) = replies(&query);
                note.lock().unwrap().push((from, query));
                let socket = socket.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    for datagram in datagrams {
                        socket.send_to(&datagram, from).await.unwrap();
                    }
                });
            }
        });
        Self { address, heard, task }
    }

    /// How many queries came.
    pub(crate) fn asked(&self) -> u64 {
        self.heard().len() as u64
    }

    /// What they were, and from where.
    pub(crate) fn heard(&self) -> MutexGuard<'_, Vec<(SocketAddr, Query)>> {
        self.heard.lock().unwrap()
    }

    /// Hears nothing more; nobody listens on its port.
    pub(crate) async fn stop(&self) {
        self.task.abort();
        while !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
    }
}

pub(crate) fn right(query: &Query) -> Option<Message> {
    let mut message = query.response(Rcode::NOERROR);
    message.answers.push(Record::new(query.question.name.clone(), 60, RData::A([192, 0, 2, 1].into())));
    message.edns = query.edns.clone();
    Some(message)
}

pub(super) fn negative(query: &Query) -> Option<Message> {
    let mut message = query.response(Rcode::NXDOMAIN);
    let name: Name = "example.net".parse().unwrap();
    let (mname, rname) = (name.clone(), name.clone());
    let soa = Soa { mname, rname, serial: 1, refresh: 1, retry: 1, expire: 1, minimum: 5 };
    message.authorities.push(Record::new(name, 60, RData::Soa(Box::new(soa))));
    message.edns = query.edns.clone();
    Some(message)
}

pub(super) fn wrong(query: &Query) -> Option<Message> {
    Some(query.response(Rcode::SERVFAIL))
}

pub(super) fn silent(_: &Query) -> Option<Message> {
    None
}

pub(super) fn query(name: &str, edns: bool) -> Query {
    let question = Question { name: name.parse().unwrap(), qtype: Type::A, qclass: Class::IN };
    Query { edns: edns.then(|| Edns::new(1232)), ..Query::of(question) }
}

pub(super) fn config(peers: &[&Peer]) -> Config {
    let timeout = Duration::from_millis(600);
    Config { upstreams: Some(peers.iter().map(|peer| peer.address.into()).collect()), timeout, ..Config::default() }
}

pub(super) async fn forwarder(config: &Config) -> Arc<Forwarder> {
    let (forwarder, problems) = Forwarder::new(config, None, &[]).await;
    assert_eq!(problems, []);
    Arc::new(forwarder)
}

pub(super) async fn ask(forwarder: &Arc<Forwarder>, query: &Query) -> Message {
    let octets = forwarder.resolve(query, &query.compose(), Room::Datagram, None).await.octets;
    Message::parse(&octets).unwrap()
}

/// Keeps an answer that is past its time.
pub(super) fn keep_stale(forwarder: &Forwarder, query: &Query, message: &Message) {
    let then = Instant::now().checked_sub(Duration::from_secs(3_000)).unwrap();
    forwarder.cache().put(Key::new(query, 0).unwrap(), &message.compose(true), then).unwrap();
}

pub(super) fn extended_error(message: &Message) -> Option<u16> {
    let option = message.edns.as_ref()?.option(crate::dns::option::EXTENDED_ERROR)?;
    Some(u16::from_be_bytes(*option.data.first_chunk()?))
}
