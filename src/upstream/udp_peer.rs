//! For tests: upstreams that are asked by datagram, and a forwarder that asks them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;

use super::{Config, Forwarder};
use crate::dns::{Class, Edns, Message, Name, Query, Question, RData, Rcode, Record, Soa, Type};
use crate::resolve::Room;
use crate::resolve::cache::Key;

/// An upstream that does with each query as it is told.
pub(super) struct Peer {
    pub(super) address: SocketAddr,
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
    pub(super) async fn start(delay_ms: u64, answer: impl Fn(&Query) -> Option<Message> + Send + 'static) -> Self {
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

    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

pub(super) fn right(query: &Query) -> Option<Message> {
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
