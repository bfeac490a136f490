//! What is told of upstreams: how they fare, whom a question would go to, and what each says to it now.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde::{Serialize, Serializer};

use super::forwarder::Forwarder;
use super::group::{Group, Member};
use super::link::Link;
use super::tally::{Counters, Tally};
use super::validator::Verdict;
use crate::dns::{Edns, Header, Query, Question, Section};
use crate::limits;
use crate::metrics::{Count, Kind, Labels, Page};
use crate::resolve::cache::{Key, Stock};
use crate::resolve::forward::{Condition, Heard, Manner, Strategy, Transport, Tried, is_success};

/// How long each upstream may take that is asked to show how it fares.
const TRY_TIMEOUT: Duration = Duration::from_secs(2);
/// So many domains of a route are told, and the number of the others.
const DOMAINS_TOLD: usize = 8;

/// Where a question goes.
#[derive(Debug, Serialize)]
pub struct Way {
    #[serde(flatten)]
    standing: Standing,
    failed_lately: bool,
    /// The zone from whose keys on an answer is validated.
    trust_anchor: Option<String>,
}

/// Upstreams that stand in for each other, and how they fare.
#[derive(Debug, Serialize)]
pub struct Standing {
    group: String,
    number: u16,
    /// The first of those that go there too; none for all names without a route.
    domains: Vec<String>,
    /// How many there are beside those.
    more_domains: usize,
    order: &'static str,
    upstreams: Vec<Faring>,
}

/// How an upstream fares.
#[derive(Debug, Serialize)]
struct Faring {
    upstream: Arc<str>,
    up: bool,
    leads_back: bool,
    latency_ms: Option<f64>,
    random_case: bool,
    cookies: bool,
    useless_in_a_row: u32,
    sent: u64,
    answered: u64,
    failed: u64,
    missed: u64,
}

/// One attempt of a look-up, and what came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Try {
    upstream: Arc<str>,
    #[serde(skip)]
    address: Option<SocketAddr>,
    /// `udp`, or `stream` for whatever has connections.
    by: &'static str,
    /// When it was made, from the beginning of the look-up on.
    after_ms: f64,
    took_ms: f64,
    #[serde(rename = "outcome", serialize_with = "collect_str")]
    heard: Heard,
}

/// What an upstream says to a question now.
#[derive(Debug, Serialize)]
pub struct Said {
    upstream: Arc<str>,
    outcome: String,
    took_ms: f64,
}

/// What validation makes of an answer.
#[derive(Debug, Serialize)]
pub struct Judged {
    state: &'static str,
    because: String,
}

fn collect_str<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

impl Try {
    pub(super) fn new(Member { link, tally, .. }: &Member, tried: Tried) -> Self {
        let is_datagram = link.by_datagram().is_some() && tried.transport == Transport::Udp;
        Self {
            upstream: tally.text().clone(),
            address: link.address(),
            by: if is_datagram { "udp" } else { "stream" },
            after_ms: milliseconds(tried.after),
            took_ms: milliseconds(tried.took),
            heard: tried.heard,
        }
    }

    /// Where the upstream is that had the answer, when it is known where that is. The last good one was taken.
    pub fn answered_by(tries: &[Self]) -> Option<SocketAddr> {
        let is_good = |tried: &&Self| matches!(tried.heard, Heard::Whole(rcode) if is_success(rcode));
        tries.iter().rev().find(is_good)?.address
    }
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 100.0
}

/// In which order upstreams are asked, for people.
fn order(manner: Manner) -> &'static str {
    match manner {
        Manner::Sequential { random: false, .. } => "one after the other",
        Manner::Sequential { random: true, .. } => "one after the other, in random order",
        Manner::Ranked { strategy: Strategy::Hedged, .. } => "the fastest first, another one when it is late",
        Manner::Ranked { strategy: Strategy::Strict, .. } => "as they are written, the next one when one is late",
        Manner::Ranked { strategy: Strategy::Parallel, .. } => "all at once",
        Manner::Ranked { strategy: Strategy::Random, .. } => "any of them first, another one when it is late",
    }
}

/// What a reply is, or why there is none.
fn outcome(reply: Result<&[u8], impl Display>) -> String {
    let header = match reply {
        Ok(reply) => Header::of(reply),
        Err(error) => return error.to_string(),
    };
    let Some(header) = header else { return "no message".to_owned() };
    let count = header.count(Section::Answer);
    let truncated = if header.flags().truncated { ", truncated (complete over TCP)" } else { "" };
    format!("{}, {count} {}{truncated}", header.rcode(), if count == 1 { "record" } else { "records" })
}

impl Forwarder {
    /// Where a question goes, and how those are who would be asked; `None` when nobody is.
    pub fn explain(&self, question: &Question) -> Option<Way> {
        let (number, group) = self.groups.of(question)?;
        let key = Key::new(&Query::of(question.clone()), number);
        let anchor = self.validator.as_ref().and_then(|validator| validator.anchor_of(question));
        Some(Way {
            standing: self.standing(number, group),
            failed_lately: key.is_some_and(|key| self.failed_lately(&key, false, group).is_some()),
            trust_anchor: anchor.map(|zone| zone.to_string()),
        })
    }

    /// All that may be asked, and how they fare.
    pub fn standings(&self) -> Vec<Standing> {
        (0..).zip(&self.groups.all).map(|(number, group)| self.standing(number, group)).collect()
    }

    fn standing(&self, number: u16, group: &Group) -> Standing {
        let faring = |(Member { link, tally, .. }, condition): (&Member, Condition)| Faring {
            upstream: tally.text().clone(),
            up: !condition.is_suspect(),
            leads_back: condition.is_set_aside,
            latency_ms: condition.latency.map(milliseconds),
            random_case: group.in_random_case(link),
            cookies: group.has_cookie(link),
            useless_in_a_row: condition.misses,
            sent: tally.sent.get(),
            answered: tally.answered.get(),
            failed: tally.failed.get(),
            missed: tally.missed.get(),
        };
        let mut domains = self.groups.routes.domains_of(number);
        let more_domains = domains.len().saturating_sub(DOMAINS_TOLD);
        domains.truncate(DOMAINS_TOLD);
        let upstreams = group.fares().into_iter().map(faring).collect();
        Standing { group: group.name.clone(), number, domains, more_domains, order: order(group.manner), upstreams }
    }

    /// Asks each upstream that a question may go to, all at once, and tells how each fared. It counts as any question to
    /// them, and nothing of what they say is kept.
    pub async fn try_each(&self, question: &Question) -> Vec<Said> {
        let Some((_, group)) = self.groups.of(question) else { return Vec::new() };
        let query = Query { edns: Some(Edns::new(limits::UDP_PAYLOAD)), ..Query::of(question.clone()) };
        let octets: Arc<[u8]> = query.compose().into();
        let tries = group.members.iter().enumerate().map(|(upstream, member)| {
            let asking = group.clone().ask(upstream, Transport::Udp, octets.clone(), false);
            async move {
                let begun = Instant::now();
                let outcome = match tokio::time::timeout(TRY_TIMEOUT, asking).await {
                    Ok(reply) => outcome(reply.as_deref()),
                    Err(_) => format!("silent for {} s", TRY_TIMEOUT.as_secs()),
                };
                Said { upstream: member.tally.text().clone(), outcome, took_ms: milliseconds(begun.elapsed()) }
            }
        });
        join_all(tries).await
    }

    /// What validation makes of the answer to a question, and why; `None` when nothing is validated at all.
    pub async fn judge(self: &Arc<Self>, question: &Question) -> Option<Judged> {
        let validator = self.validator.as_ref()?;
        let told = |state, because: String| Some(Judged { state, because });
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

    /// What happened so far, and how much is kept; each forwarder with the name of its view.
    pub fn metrics(all: &[(Option<&str>, &Arc<Self>)], page: &mut Page) {
        cache_metrics(all, page);
        look_up_metrics(all, page);
        upstream_metrics(all, page);
    }
}

/// Forwarders, each with the name of its view.
type Views<'a> = [(Option<&'a str>, &'a Arc<Forwarder>)];

/// A name, what it means, and where the number is.
type Told<T, V> = (&'static str, &'static str, fn(&T) -> V);
type OfLink = fn(&Group, &Link) -> bool;
type Counted<T> = (&'static str, &'static str, fn(&T) -> &Count);

fn of_view(view: &Option<&str>) -> Labels {
    view.map(|view| ("view", view.to_owned())).into_iter().collect()
}

fn cache_metrics(all: &Views<'_>, page: &mut Page) {
    let stocks: [(Kind, Told<Stock, u64>); 4] = [
        (Kind::Gauge, ("rollcall_cache_entries", "Cached answers of upstreams.", |stock| stock.entries as u64)),
        (Kind::Gauge, ("rollcall_cache_octets", "Octets that cached answers take.", |stock| stock.octets)),
        (Kind::Gauge, ("rollcall_cache_octets_max", "Octets that cached answers may take at most.", |stock| stock.octets_max)),
        (Kind::Counter, ("rollcall_cache_evictions_total", "Cached answers that were evicted.", |stock| stock.evicted)),
    ];
    for (kind, (name, help, of)) in stocks {
        page.family(kind, name, help, all.iter().map(|(view, forwarder)| (of_view(view), of(&forwarder.stock()))));
    }
    let counts: [Counted<Counters>; 3] = [
        ("rollcall_cache_misses_total", "Questions with no fresh answer.", |counters| &counters.misses),
        ("rollcall_cache_stale_total", "Questions that got a stale answer.", |counters| &counters.stale),
        ("rollcall_cache_prefetches_total", "Answers that were fetched anew before their end.", |counters| {
            &counters.prefetched
        }),
    ];
    for (name, help, of) in counts {
        count(all, page, name, help, of);
    }
}

fn count(all: &Views<'_>, page: &mut Page, name: &'static str, help: &str, of: fn(&Counters) -> &Count) {
    let counts = all.iter().map(|(view, forwarder)| (of_view(view), of(&forwarder.counters).get()));
    page.family(Kind::Counter, name, help, counts);
}

fn look_up_metrics(all: &Views<'_>, page: &mut Page) {
    let under_way = all.iter().map(|(view, forwarder)| (of_view(view), forwarder.under_way()));
    page.family(Kind::Gauge, "rollcall_lookups_under_way", "Questions that are being looked up.", under_way);
    let counts: [Counted<Counters>; 3] = [
        ("rollcall_lookups_coalesced_total", "Questions that joined a look-up that was under way.", |counters| {
            &counters.coalesced
        }),
        ("rollcall_lookups_refused_total", "Questions refused, as too many look-ups were under way.", |counters| {
            &counters.refused
        }),
        ("rollcall_lookups_failed_total", "Look-ups that no upstream answered.", |counters| &counters.failed),
    ];
    for (name, help, of) in counts {
        count(all, page, name, help, of);
    }
    let validations = all.iter().flat_map(|(view, forwarder)| {
        let Counters { secure, insecure, bogus, .. } = &*forwarder.counters;
        [("secure", secure), ("insecure", insecure), ("bogus", bogus)]
            .map(|(state, count)| ([of_view(view), vec![("state", state.to_owned())]].concat(), count.get()))
    });
    let help = "Answers that were validated, and what they are.";
    page.family(Kind::Counter, "rollcall_validations_total", help, validations);
}

fn upstream_metrics(all: &Views<'_>, page: &mut Page) {
    let groups =
        || all.iter().flat_map(move |(view, forwarder)| forwarder.groups.all.iter().map(move |group| (of_view(view), group)));
    let labels = |of_view: &Labels, group: &Group, member: &Member| [&of_view[..], &group.labels(member)].concat();
    let each = || {
        groups().flat_map(move |(of_view, group)| {
            group.members.iter().map(move |member| (labels(&of_view, group, member), &*member.tally))
        })
    };
    let counts: [Counted<Tally>; 4] = [
        ("rollcall_upstream_sent_total", "Queries sent to the upstream.", |tally| &tally.sent),
        ("rollcall_upstream_answered_total", "Good answers of the upstream.", |tally| &tally.answered),
        ("rollcall_upstream_failed_total", "Errors of the upstream, and attempts that could not be made.", |tally| {
            &tally.failed
        }),
        ("rollcall_upstream_missed_total", "Look-ups for which the upstream was too late.", |tally| &tally.missed),
    ];
    for (name, help, of) in counts {
        page.family(Kind::Counter, name, help, each().map(|(labels, tally)| (labels, of(tally).get())));
    }
    let members =
        || groups().flat_map(|(of_view, group)| group.members.iter().map(move |member| (of_view.clone(), group, member)));
    let untaken = members().flat_map(|(of_view, group, member)| {
        let counts = [("letter_case", &member.link.spelling.others), ("cookie", &member.link.cookies.missing)];
        counts
            .map(|(wrong, count)| ([labels(&of_view, group, member), vec![("wrong", wrong.to_owned())]].concat(), count.get()))
    });
    let help = "Replies that were right but for the letter case of their question, or for the cookie, and not taken.";
    page.family(Kind::Counter, "rollcall_upstream_untaken_total", help, untaken);
    let guards: [(&str, &str, OfLink); 2] = [
        ("rollcall_upstream_random_case", "1 for an upstream that is asked in random letter case.", Group::in_random_case),
        ("rollcall_upstream_cookies", "1 for an upstream that gives cookies.", Group::has_cookie),
    ];
    for (name, help, of) in guards {
        let states =
            members().map(|(of_view, group, member)| (labels(&of_view, group, member), u8::from(of(group, &member.link))));
        page.family(Kind::Gauge, name, help, states);
    }
    let conditions = || {
        groups().flat_map(move |(of_view, group)| {
            group.fares().into_iter().map(move |(member, condition)| (labels(&of_view, group, member), condition))
        })
    };
    let states: [Told<Condition, bool>; 2] = [
        (
            "rollcall_upstream_up",
            "1, or 0 for an upstream that is asked last because it failed or did not answer.",
            |condition| !condition.is_suspect(),
        ),
        ("rollcall_upstream_leads_back", "1 for an upstream that is not asked because it leads back here.", |condition| {
            condition.is_set_aside
        }),
    ];
    for (name, help, of) in states {
        page.family(Kind::Gauge, name, help, conditions().map(|(labels, condition)| (labels, u8::from(of(&condition)))));
    }
    let latencies =
        conditions().filter_map(|(labels, condition)| condition.latency.map(|latency| (labels, latency.as_secs_f64())));
    let help = "Response time of the upstream, smoothed.";
    page.family(Kind::Gauge, "rollcall_upstream_latency_seconds", help, latencies);
    let help = "Response times of the upstream's good answers.";
    page.histograms("rollcall_upstream_seconds", help, each().map(|(labels, tally)| (labels, &tally.took)));
}
