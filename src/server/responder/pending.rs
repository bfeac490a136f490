//! What has to be waited for: an upstream, where an alias leads, a zone's first answer.

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use super::{Found, Responder, blocked};
use crate::clock::unix_time;
use crate::dns::{Class, ExtendedError, Message, Query, Question, Rcode};
use crate::limits;
use crate::resolve::Room;
use crate::resolve::answer::{Chase, Client, Step};
use crate::resolve::open_alias;
use crate::server::answers::{error, fit};
use crate::server::holder::Holder;
use crate::server::places::Place;
use crate::server::query_log::{Batch, Noted};
use crate::server::setup::Setup;
use crate::server::tally::{Listened, Source};
use crate::server::worker::Worker;
use crate::upstream::{Answered, FirstAttempt, Resolved, Try};

/// A query whose answer has to be waited for.
#[derive(Debug)]
pub(in crate::server) struct Pending {
    setup: Arc<Setup>,
    query: Query,
    octets: Box<[u8]>,
    client: Client,
    wait: Wait,
    since: Instant,
    listened: Arc<Listened>,
    _place: Option<Place>,
}

/// An answer that was waited for.
struct Given {
    source: Source,
    octets: Vec<u8>,
    /// What upstreams were tried for it.
    tries: Arc<[Try]>,
}

impl From<(Source, Vec<u8>)> for Given {
    fn from((source, octets): (Source, Vec<u8>)) -> Self {
        Self { source, octets, tries: Arc::default() }
    }
}

#[derive(Debug)]
pub(in crate::server) enum Wait {
    /// For an upstream, to which a first attempt may have been made.
    Forward(Option<FirstAttempt>),
    /// For an upstream to say where an alias of the discovery domain leads.
    Chase(Box<Chase>),
    /// For a zone's first answer to this question.
    Zone,
    /// For where an alias leads that this source has.
    Complete(Source, Box<Message>),
}

impl Responder {
    /// Takes a place among those who wait, if it is for others; without one left, what to answer.
    pub(super) fn pending(
        &self,
        worker: &Worker,
        setup: &Arc<Setup>,
        query: Query,
        octets: &[u8],
        client: Client,
        wait: Wait,
    ) -> Result<Pending, (Source, Vec<u8>)> {
        // A zone of ours has its answer at once.
        let is_ours = matches!(wait, Wait::Zone);
        let place = self.places.take(client.address, &query.question.name);
        match (place, is_ours) {
            (place, true) | (place @ Some(_), false) => {
                let (setup, since, listened) = (setup.clone(), worker.now, worker.notes.listened.clone());
                Ok(Pending { setup, query, octets: octets.into(), client, wait, since, listened, _place: place })
            }
            (None, false) => {
                if matches!(wait, Wait::Forward(_))
                    && let Some(answer) = setup.forwarder.stale(&query, octets, client.room, worker.now)
                    && setup.blocks.judge_answer(&query.question, client, &answer).is_none()
                {
                    return Err((Source::Stale, answer));
                }
                let reason = "too many queries of this client, or below this domain, wait for upstreams";
                Err((Source::Failed, error(&query, Rcode::SERVFAIL, Some((ExtendedError::Other, reason))).compose(true)))
            }
        }
    }

    /// Waits for the answer.
    pub(in crate::server) async fn finish(&self, mut pending: Pending) -> Vec<u8> {
        let wait = mem::replace(&mut pending.wait, Wait::Zone);
        let Given { source, octets: mut answer, tries } = self.found(&pending, wait).await;
        let Pending { setup, query, octets, client, since, listened, .. } = &pending;
        setup.introduce(query, *client, &mut answer);
        setup.tell(query, *client, source, &tries, &mut answer);
        listened.shared.note(source, &answer);
        if source != Source::Zone {
            listened.shared.waits.note(since.elapsed(), 1);
        }
        if let Some(log) = &setup.log {
            let (client, since) = (client.address, *since);
            let mut batch = Batch::of(listened.place.clone());
            let upstream = Try::answered_by(&tries).filter(|_| source == Source::Forwarded);
            batch.add(log, &Noted { client, query: octets, since, source, upstream, answer: &answer });
            batch.flush();
        }
        setup.seal(octets, *client, unix_time().as_secs(), &mut answer);
        answer
    }

    async fn found(&self, Pending { setup, query, octets, client, .. }: &Pending, wait: Wait) -> Given {
        let client = *client;
        match wait {
            Wait::Forward(first) => self.forward(setup, query, octets, client, first).await,
            Wait::Chase(chase) => {
                let mut step = Step::Chase(chase);
                loop {
                    step = match step {
                        Step::Chase(chase) => {
                            let question = chase.question().clone();
                            let heard = match self.known(setup, client, &question).await {
                                Some(message) => Some(self.completed(setup, client, message).await),
                                None => None,
                            };
                            chase.resume(heard)
                        }
                        Step::Reply(message) => return (Source::Discovery, setup.discovery.compose(&message)).into(),
                        Step::Forward => return self.forward(setup, query, octets, client, None).await,
                    };
                }
            }
            Wait::Zone => {
                let mut out = Vec::new();
                let message = setup.zones.message(query).await;
                if open_alias(&message).is_some() {
                    fit(self.completed(setup, client, message).await, query, client.room, &mut out);
                } else {
                    setup.zones.answer(query, client.room.octets(query.payload_size()), &mut out).await;
                }
                (Source::Zone, out).into()
            }
            Wait::Complete(source, message) => {
                let mut out = Vec::new();
                fit(self.completed(setup, client, *message).await, query, client.room, &mut out);
                (source, out).into()
            }
        }
    }

    /// What others answer, and who had it.
    async fn forward(
        &self,
        setup: &Arc<Setup>,
        query: &Query,
        octets: &[u8],
        client: Client,
        first: Option<FirstAttempt>,
    ) -> Given {
        let Resolved { answered, octets, tries } = setup.forwarder.resolve(query, octets, client.room, first).await;
        let verdict = setup.blocks.judge_answer(&query.question, client, &octets);
        if let Some(verdict) = verdict {
            let mut out = Vec::new();
            if let Found::Elsewhere(Wait::Complete(_, message)) = blocked(&verdict, query, client, &mut out) {
                fit(self.completed(setup, client, *message).await, query, client.room, &mut out);
            }
            return Given { source: Source::Blocked, octets: out, tries };
        }
        let source = match answered {
            Answered::Kept => Source::Cache,
            Answered::Stale => Source::Stale,
            Answered::Asked => Source::Forwarded,
            Answered::Nobody => Source::Failed,
        };
        Given { source, octets, tries }
    }

    /// Follows an alias that leads out of what is known here: a stub resolver expects the whole chain (RFC 1034, 5.2.2).
    async fn completed(&self, setup: &Arc<Setup>, client: Client, mut message: Message) -> Message {
        for _ in 0..limits::ALIASES_MAX {
            let (Some(target), Some(asked)) = (open_alias(&message), message.questions.first()) else { break };
            let question = Question { name: target, qtype: asked.qtype, qclass: Class::IN };
            let Some(more) = self.known(setup, client, &question).await else {
                // What is at the end is not known, which is another thing than that nothing is there.
                message.rcode = Rcode::SERVFAIL;
                message.give_reason(ExtendedError::NoReachableAuthority, DEAD_ALIAS);
                break;
            };
            if more.answers.is_empty() {
                message.rcode = more.rcode;
                message.authorities = more.authorities;
                break;
            }
            message.answers.extend(more.answers);
        }
        setup.rewrites.disguise(&mut message);
        message
    }

    /// What anybody says of a question of our own; `None` when nobody answers, or an instance's alias would have to be
    /// followed once more.
    async fn known(&self, setup: &Arc<Setup>, client: Client, question: &Question) -> Option<Message> {
        let query = Query::of(question.clone());
        let client = Client { room: Room::Stream, ..client };
        let mut holder =
            setup.holder(&self.catalog(), &query, client, &mut fastrand::Rng::new(), self.serials.at(Instant::now()));
        // What data of our own leads to is not blocked, nor what a block list does.
        if matches!(holder, Holder::Blocked(_)) {
            holder = setup.elsewhere(&query);
        }
        match holder {
            Holder::Local(message) | Holder::Rewritten(message) | Holder::Route(message) | Holder::Special(message) => {
                Some(message)
            }
            Holder::Zone => Some(setup.zones.message(&query).await),
            Holder::Blocked(_) => None,
            Holder::Discovery(Step::Reply(message)) => Some(*message),
            Holder::Discovery(_) | Holder::Nobody(_) => None,
            Holder::Upstreams => setup.forwarder.ask(question.clone()).await,
        }
    }
}

/// Why an alias of ours is answered with SERVFAIL.
const DEAD_ALIAS: &str = "nobody answered for the name that this one stands for";
