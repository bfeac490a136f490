//! The discovery domain: a question and a snapshot of the catalog give an answer.
//!
//! Pure: no sockets, no clock, no runtime; the time and chance are passed in. What has to be waited for is handed out as
//! a [`Step`] that the driver outside carries on. Prepared queries are not known here yet: their names do not exist.
//!
//! Start with [`Discovery::answer`]. The way through: `grammar` reads the name, `presence` says who is in, `order`
//! shuffles, `records` chooses addresses and makes records, `trim` cuts to size; `zone` and `reverse` are the names
//! beside services and nodes; `asking` joins them.
//!
//! With [`Compat::Consul`] answers are Consul's to the octet. By default the RFCs win where the two part ways:
//!
//! | question | Consul's answer | ours by default |
//! | --- | --- | --- |
//! | more than fits, or more than `udp_answer_limit` | cut; TC only with `enable_truncate` | TC whenever an answer was cut; metadata and glue go first, without TC |
//! | `udp_answer_limit` unset | 3 answers over UDP without EDNS | what fits |
//! | OPT in a response that was cut | lost | kept |
//! | EDNS size in the response | the client's, echoed, and used up to 65,467 | 1232, and never more is sent over UDP |
//! | EDNS version above 0 | answered | BADVERS (RFC 6891, 6.1.3) |
//! | DO | cleared | copied (RFC 3225, 3) |
//! | a class other than IN | answered as IN | REFUSED |
//! | opcode NOTIFY | answered as a query | NOTIMP |
//! | IXFR, and the types OPT, TSIG, TKEY | NODATA | NOTIMP |
//! | negative answers, `soa.min_ttl` unset | TTL 0 | TTL 1 |
//! | all instances unhealthy | NXDOMAIN | NXDOMAIN, and an extended error says how many are registered (RFC 8914) |
//! | TXT of a service | its addresses | NODATA |
//! | node, `addr`, `virtual` without such a record | empty, without SOA; `addr` in additional | NODATA with SOA |
//! | SRV, MX, … of an unknown node | empty | NXDOMAIN |
//! | `virtual` of a service without one | empty | NXDOMAIN |
//! | SOA or NS below the apex | the apex's records | NODATA or NXDOMAIN: an answer is owned by what was asked |
//! | other types at the apex | NXDOMAIN | NODATA: it exists |
//! | `service`, `node`, `dc1`, … and `_tcp.service` alone | NXDOMAIN | NODATA: names below them exist (RFC 8020) |
//! | `ns.<domain>`, which the SOA record names | NXDOMAIN | the servers' addresses |
//! | a bare `alt_domain` | SOA of the primary domain | its own SOA |
//! | order of A and AAAA records | uniform | drawn by the instances' weights |
//! | an alias | followed for ANY inside, for A outside, 3 deep, 5 records without EDNS; TTLs overwritten | followed for the type asked, 8 deep; TTLs kept |
//! | an alias beside instances with addresses of the other family | given | NODATA: an alias stands alone (RFC 2181, 10.1) |
//! | the same record twice | given twice | once (RFC 2181, 5) |
//! | a service that is its own alias | recognised in the same case only | in any case |
//! | reverse name, type other than PTR and ANY | the PTR record | forwarded |
//! | unknown reverse name, nothing to forward to | NXDOMAIN with the domain's SOA | left to the driver: it is not ours |
//! | DS at the apex | forwarded | NODATA: the domain never leaves the host |
//! | empty service name | SERVFAIL | NXDOMAIN |
//! | spelling of the owner of `addr` and `virtual` records | lower case | as asked |

mod asking;
mod grammar;
mod order;
mod presence;
mod records;
mod reverse;
mod settings;
mod trim;
mod zone;

use std::net::IpAddr;
use std::sync::Arc;

use asking::Asking;
use fastrand::Rng;

pub use settings::{Compat, DnsConfig, RecursorStrategy, Settings, SoaConfig};

use crate::catalog::Catalog;
use crate::dns::{Class, Message, Name, Query, Question, Record};

/// Answers questions about the discovery domain. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Discovery {
    settings: Arc<Settings>,
}

/// Who asks, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    pub address: IpAddr,
    pub transport: Transport,
}

/// What bounds the size of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One datagram.
    Udp,
    /// Any stream, encrypted or not.
    Tcp,
}

/// How an answer goes on.
#[derive(Debug)]
pub enum Step {
    /// The answer, already cut to size; [`Discovery::compose`] writes it.
    Reply(Box<Message>),
    /// An alias leads outside the domain: ask [`Chase::question`] upstream, then [`Chase::resume`].
    Chase(Box<Chase>),
    /// Not ours: a reverse name of an address that nobody here has, or a name outside the domain. Forwarded, or
    /// refused when there is nobody to forward to.
    Forward,
}

impl Discovery {
    pub fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings) }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Is this name in the discovery domain, under either of its names? Such a name never goes upstream.
    pub fn is_ours(&self, name: &Name) -> bool {
        domain_of(&self.settings, name).is_some()
    }

    /// May the catalog know this name: is it in the domain, or a reverse name? Only such names need [`Self::answer`].
    pub fn may_know(&self, name: &Name) -> bool {
        self.is_ours(name) || reverse::is_reverse(name)
    }

    /// Answers a query from a snapshot. `now` is Unix time in seconds.
    pub fn answer(&self, catalog: &Catalog, query: &Query, client: Client, rng: &mut Rng, now: u64) -> Step {
        let seed = rng.u64(..);
        match self.ask(catalog, query, client, seed, now, &[]) {
            Asked::Replied(message) => Step::Reply(message),
            Asked::Forward => Step::Forward,
            Asked::Missing(question) => Step::Chase(Box::new(Chase {
                discovery: self.clone(),
                catalog: catalog.clone(),
                query: query.clone(),
                client,
                seed,
                now,
                learned: Vec::new(),
                question,
            })),
        }
    }

    /// Writes an answer's octets.
    pub fn compose(&self, message: &Message) -> Vec<u8> {
        message.compose(!self.settings.dns_config.disable_compression)
    }

    fn ask(&self, catalog: &Catalog, query: &Query, client: Client, seed: u64, now: u64, learned: &[Learned]) -> Asked {
        let settings = &*self.settings;
        let rng = Rng::with_seed(seed);
        let mut asking = Asking { settings, catalog, query, client, rng, now, learned, missing: None };
        let reply = asking.reply();
        match (asking.missing, reply) {
            (Some(question), _) => Asked::Missing(question),
            (None, Some(message)) => Asked::Replied(Box::new(message)),
            (None, None) => Asked::Forward,
        }
    }
}

/// An answer that waits for what upstream knows of a name outside the domain.
///
/// It keeps what it began with, the snapshot and the chance too, and is found again from the start with every piece
/// that was learned: the same shuffle gives the same alias, so nothing is asked twice.
#[derive(Debug)]
pub struct Chase {
    discovery: Discovery,
    catalog: Catalog,
    query: Query,
    client: Client,
    seed: u64,
    now: u64,
    learned: Vec<Learned>,
    question: Question,
}

impl Chase {
    /// What to ask upstream.
    pub fn question(&self) -> &Question {
        &self.question
    }

    /// Goes on with what upstream said, `None` when it said nothing. Asks at most [`crate::limits::CHASES_MAX`] times.
    pub fn resume(mut self, response: Option<Message>) -> Step {
        let mut records = response.map(|message| message.answers).unwrap_or_default();
        records.retain(|record| record.class == Class::IN);
        self.learned.push(Learned { question: self.question.clone(), records });
        let Self { discovery, catalog, query, client, seed, now, learned, .. } = &self;
        match discovery.ask(catalog, query, *client, *seed, *now, learned) {
            Asked::Replied(message) => Step::Reply(message),
            Asked::Forward => Step::Forward,
            Asked::Missing(question) => {
                self.question = question;
                Step::Chase(Box::new(self))
            }
        }
    }
}

/// What upstream said to a question.
#[derive(Debug)]
struct Learned {
    question: Question,
    records: Vec<Record>,
}

enum Asked {
    Replied(Box<Message>),
    Missing(Question),
    Forward,
}

/// The labels left of the discovery domain that a name lies in, and that domain as the name spells it; of two domains
/// one within the other, the inner one.
fn domain_of<'n>(settings: &Settings, name: &'n Name) -> Option<(Vec<&'n [u8]>, Name)> {
    let domains = [Some(&settings.domain), settings.alt_domain.as_ref()];
    let above = domains.into_iter().flatten().filter_map(|domain| name.labels_above(domain));
    let labels = above.min_by_key(Vec::len)?;
    let domain = Name::from_labels(name.labels().skip(labels.len()))?;
    Some((labels, domain))
}
