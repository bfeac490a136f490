//! Who answers a name, and why: the story of [`Responder::answer`], told instead of played.
//!
//! What is known here is found by the very code that answers; of what is forwarded, the route, what is kept, and how the
//! upstreams are is shown, and when asked for, each of them is asked.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::clients::Standing;
use super::holder::Holder;
use super::responder::Responder;
use super::setup::Setup;
use crate::dns::{Names, Query, Question};
use crate::resolve::Room;
use crate::resolve::answer::{Client, Step};
use crate::resolve::block::Verdict;
use crate::resolve::open_alias;

impl Responder {
    /// Tells who answers a question, to this client, or else to one who may ask for everything. With `ask`, each upstream of
    /// its route is asked now.
    pub async fn explain(&self, question: Question, client: Option<IpAddr>, ask: bool) -> Value {
        let main = self.setup();
        let setup = client.map_or(&main, |client| main.of_client(client));
        let mut told = json!({ "name": question.name.to_string(), "type": question.qtype.to_string() });
        let Some(map) = told.as_object_mut() else { return told };
        map.extend(client.map(|client| ("client".to_owned(), json!(client.to_string()))));
        map.extend(setup.view().map(|view| ("view".to_owned(), json!(view))));
        map.extend(self.told_of(setup, &question, client));
        if map.get("source") == Some(&json!(FORWARDED)) {
            let (names, now) = (Names::One(question.name.clone()), Instant::now());
            let mut kept = setup.forwarder.find(&names, now);
            kept.retain(|entry| entry.qtype() == question.qtype);
            let entries: Vec<_> = kept.iter().map(|entry| entry.shown(now)).collect();
            map.insert("kept".into(), json!(entries));
            let client = told_to(client);
            if let Some(verdict) = kept.iter().find_map(|entry| setup.blocks.judge_answer(&question, client, entry.octets())) {
                map.insert("source".into(), json!("blocked"));
                map.insert("because".into(), json!(blocked_by(&verdict)));
            }
            map.insert("route".into(), json!(setup.forwarder.explain(&question)));
            if ask {
                map.insert("tries".into(), json!(setup.forwarder.try_each(&question).await));
                map.insert("validation".into(), json!(setup.forwarder.judge(&question).await));
            }
        }
        told
    }

    /// Who answers, why, and with which RCODE.
    fn told_of(&self, setup: &Arc<Setup>, question: &Question, client: Option<IpAddr>) -> serde_json::Map<String, Value> {
        let query = Query::of(question.clone());
        let standing = client.map_or(Standing::Everything, |client| setup.standing(client));
        if standing == Standing::Nothing {
            return refused("the client is in clients.refused, or not in clients.allowed");
        }
        let client = told_to(client);
        let catalog = self.catalog();
        let holder = setup.holder(&catalog, &query, client, &mut fastrand::Rng::new(), self.serials.at(Instant::now()));
        let name = &question.name;
        let (source, because, rcode) = match &holder {
            Holder::Local(message) if open_alias(message).is_some() => {
                let because = "a hosts file or a [[record]] has it, as an alias of a name that is looked up in turn";
                ("local", because.to_owned(), None)
            }
            Holder::Rewritten(message) => {
                let target = open_alias(message).map_or_else(|| "another name".to_owned(), |target| target.to_string());
                let because =
                    format!("a [[rewrite]] of the configuration has it stand for {target}, which is looked up in turn");
                ("local", because, None)
            }
            Holder::Local(message) => {
                let because = "a hosts file or a [[record]] of the configuration has this very name";
                ("local", because.to_owned(), Some(message.rcode))
            }
            Holder::Blocked(verdict) => ("blocked", blocked_by(verdict), verdict.message(&query).map(|message| message.rcode)),
            Holder::Route(message) => {
                let because = "a [[forward.route]] of the configuration answers it, and nobody else is asked";
                ("local", because.to_owned(), Some(message.rcode))
            }
            Holder::Special(message) => {
                let because = "names like this never leave the host (RFC 6761, 6762, 7686)";
                ("local", because.to_owned(), Some(message.rcode))
            }
            Holder::Zone => {
                let apexes = setup.zones.apexes();
                let apex = apexes.iter().filter(|apex| name.is_within(apex)).max_by_key(|apex| apex.label_count());
                ("zone", format!("it is in the zone {}", apex.map_or_else(String::new, ToString::to_string)), None)
            }
            Holder::Discovery(Step::Chase(chase)) => {
                let target = &chase.question().name;
                let because = format!(
                    "it is in the discovery domain, and an instance's address is the name {target}, which is looked up in turn"
                );
                ("discovery", because, None)
            }
            Holder::Discovery(Step::Reply(message)) if setup.is_ours(name) => {
                ("discovery", "it is in the discovery domain".to_owned(), Some(message.rcode))
            }
            Holder::Discovery(Step::Reply(message)) => {
                ("discovery", "it is the reverse name of an address that is registered".to_owned(), Some(message.rcode))
            }
            Holder::Nobody(_) if setup.is_ours(name) => {
                return refused("it is in the discovery domain, whose names are never forwarded");
            }
            Holder::Nobody(_) => return refused("there is nobody to ask about other names"),
            Holder::Discovery(Step::Forward) | Holder::Upstreams if standing != Standing::Everything => {
                return refused("nobody here knows it, and the client is not in clients.forwarding_allowed");
            }
            Holder::Discovery(Step::Forward) | Holder::Upstreams => (FORWARDED, "nobody here knows it".to_owned(), None),
        };
        let mut told = serde_json::Map::new();
        told.insert("source".into(), json!(source));
        told.insert("because".into(), json!(because));
        told.extend(rcode.map(|rcode| ("rcode".to_owned(), json!(rcode.to_string()))));
        if let Some(explained) = (source == "discovery").then(|| setup.explain(&catalog, question)).flatten() {
            told.insert("asks_for".into(), json!(explained.asks_for));
            told.insert("instances".into(), json!(explained.instances));
        }
        told
    }
}

/// What there is to tell of a question that is refused.
fn refused(because: &str) -> serde_json::Map<String, Value> {
    let told = [("source", "refused"), ("because", because), ("rcode", "REFUSED")];
    told.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect()
}

/// The client that is meant, who takes answers of any size.
fn told_to(client: Option<IpAddr>) -> Client {
    Client { address: client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), room: Room::Stream }
}

/// Which list has it, and where.
fn blocked_by(verdict: &Verdict<'_>) -> String {
    let Some((has, path, line)) = verdict.place() else { return verdict.reason() };
    let line = line.map_or_else(String::new, |line| format!(":{line}"));
    format!("{}: {}{line} has {has}", verdict.reason(), path.display())
}

const FORWARDED: &str = "forwarded";
