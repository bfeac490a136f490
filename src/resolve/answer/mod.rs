//! The discovery domain: a question and a snapshot of the catalog give an answer.
//!
//! Pure: no sockets, no clock, no runtime; the time and chance are passed in. What has to be waited for is handed out as
//! a [`Step`] that the driver outside carries on. Prepared queries are not known here yet: their names do not exist.
//!
//! Start with [`Discovery::answer`]. The way through: `grammar` reads the name, `presence` says who is in, `order`
//! shuffles, `records` chooses addresses and makes records, `trim` cuts to size; `zone` and `reverse` are the names
//! beside services and nodes; `asking` joins them.
//!
//! With [`Compat::Consul`] answers are Consul's to the octet. By default the RFCs win where the two part ways; the table of
//! `docs/consul.md` has a row for each such place, and `tests/process/differences.rs` a test for each row.

mod asking;
mod explain;
mod grammar;
mod order;
mod prepared;
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

pub use explain::{Explained, Judged};
pub use settings::{Compat, DnsConfig, RecursorStrategy, Settings, SoaConfig};

use crate::catalog::Catalog;
use crate::dns::{Class, Message, Name, Query, Question, Record};
use crate::resolve::Room;

/// Answers questions about the discovery domain. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Discovery {
    settings: Arc<Settings>,
    plain: Arc<prepared::Plain>,
}

/// Who asks, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    pub address: IpAddr,
    pub room: Room,
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
        Self { plain: Arc::new(prepared::Plain::new(&settings)), settings: Arc::new(settings) }
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

    /// Answers a query from a snapshot. `now` is Unix time in seconds, which never goes back: the serial of the SOA record.
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::catalog::{Change, Check, Extra, Health, Instance, Node};
    use crate::dns::{Edns, Flags, Opcode, RData, Rcode, Type, option};

    const NOW: u64 = 1_800_000_000;

    fn node(name: &str, address: &str, more: Value) -> Change {
        let mut row = json!({"source": 0, "name": name, "id": "", "datacenter": "dc1", "address": address,
            "create_index": 0, "modify_index": 0});
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Change::PutNode(serde_json::from_value::<Node>(row).unwrap())
    }

    fn instance(node: &str, id: &str, service: &str, address: &str, more: Value) -> Change {
        let mut row = json!({"source": 0, "node": node, "id": id, "service": service, "address": address, "port": 80,
            "create_index": 0, "modify_index": 0});
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let extra = serde_json::from_value::<Extra>(more).unwrap().boxed();
        Change::PutInstance(Instance { extra, ..serde_json::from_value(row).unwrap() })
    }

    fn check(node: &str, id: &str, service_id: &str, status: Health) -> Change {
        let row = json!({"source": 0, "node": node, "id": id, "name": id, "status": status, "service_id": service_id,
            "create_index": 0, "modify_index": 0});
        Change::PutCheck(serde_json::from_value::<Check>(row).unwrap())
    }

    fn catalog(changes: impl IntoIterator<Item = Change>) -> Catalog {
        let mut edit = Catalog::default().edit();
        for change in changes {
            edit.apply(change).unwrap();
        }
        edit.finish().0
    }

    /// Three servers of `web`, one of each health; and one of everything odd.
    fn sample() -> Catalog {
        let proxy = json!({"kind": "connect-proxy", "proxy": {"DestinationServiceName": "web"},
            "tagged_addresses": {"consul-virtual": {"address": "240.0.0.1", "port": 80}}});
        let mut changes = vec![
            node("self", "127.0.0.1", json!({})),
            instance("self", "consul", "consul", "", json!({"port": 8300})),
            node("a", "127.0.1.1", json!({"meta": {"env": "prod"}})),
            node("b", "127.0.1.2", json!({"tagged_addresses": {"lan_ipv6": "2001:db8::2"}})),
            node("c", "127.0.1.3", json!({})),
            node("host", "www.example", json!({"meta": {"env": "prod"}})),
            node("far", "10.9.0.1", json!({"datacenter": "east", "tagged_addresses": {"wan": "198.51.100.9"}})),
            instance("a", "web-1", "web", "", json!({"tags": ["V1"], "weights": {"passing": 9, "warning": 1}})),
            instance("b", "web-2", "web", "", json!({"tags": ["v1"]})),
            instance("c", "web-3", "web", "", json!({})),
            check("b", "slow", "web-2", Health::Warning),
            check("c", "dead", "", Health::Critical),
            instance("a", "proxy", "web-proxy", "", proxy),
            instance("c", "gone", "gone", "127.1.0.9", json!({})),
            instance("a", "out", "outside", "www.example", json!({})),
            instance("a", "mixed-4", "mixed", "127.1.0.1", json!({})),
            instance("b", "mixed-out", "mixed", "www.example", json!({})),
            instance("a", "to-b", "to-b", "b.node.consul", json!({})),
            instance("a", "circle", "circle", "circle.service.consul", json!({})),
            instance("a", "twin-1", "twin", "127.1.0.2", json!({})),
            instance("b", "twin-2", "twin", "127.1.0.2", json!({})),
            instance(
                "a",
                "ports",
                "ports",
                "127.1.0.3",
                json!({"port": 0, "ports": [
                {"name": "admin", "port": 81}, {"name": "http", "port": 82, "default": true}]}),
            ),
            instance("far", "far", "far", "", json!({})),
        ];
        for at in 0..60u8 {
            let address = Ipv4Addr::new(127, 2, 0, at + 1).to_string();
            changes.push(instance("a", &format!("many-{at}"), "many", &address, json!({"port": 2000 + u16::from(at)})));
        }
        for at in 1..=6 {
            let next = if at == 6 { "127.1.0.6".into() } else { format!("chain-{}.service.consul", at + 1) };
            let name = format!("chain-{at}");
            changes.push(instance("a", &name, &name, &next, json!({})));
        }
        catalog(changes)
    }

    fn settings(compat: Compat) -> Settings {
        let alt_domain = Some("alt.test.".parse().unwrap());
        Settings { compat, alt_domain, node_name: "self".into(), ..Settings::default() }
    }

    fn query(name: &str, qtype: Type) -> Query {
        let flags = Flags { recursion_desired: true, ..Flags::default() };
        let question = Question { name: name.parse().unwrap(), qtype, qclass: Class::IN };
        Query { id: 7, opcode: Opcode::QUERY, flags, question, edns: None }
    }

    fn with_edns(name: &str, qtype: Type, size: u16) -> Query {
        Query { edns: Some(Edns::new(size)), ..query(name, qtype) }
    }

    const UDP: Client = Client { address: IpAddr::V4(Ipv4Addr::LOCALHOST), room: Room::Datagram };
    const TCP: Client = Client { room: Room::Stream, ..UDP };

    fn step(settings: Settings, query: &Query, client: Client) -> Step {
        Discovery::new(settings).answer(&sample(), query, client, &mut fastrand::Rng::with_seed(5), NOW)
    }

    fn reply_to(settings: Settings, query: &Query, client: Client) -> Message {
        match step(settings, query, client) {
            Step::Reply(message) => *message,
            other => panic!("{other:?}"),
        }
    }

    /// Both sides' answers, Consul's first.
    fn both(query: &Query, client: Client) -> [Message; 2] {
        [Compat::Consul, Compat::Rfc].map(|compat| reply_to(settings(compat), query, client))
    }

    fn ask(name: &str, qtype: Type) -> [Message; 2] {
        both(&query(name, qtype), UDP)
    }

    /// RCODE and the counts of the three sections.
    fn shape(message: &Message) -> (Rcode, usize, usize, usize) {
        (message.rcode, message.answers.len(), message.authorities.len(), message.additionals.len())
    }

    const NODATA: (Rcode, usize, usize, usize) = (Rcode::NOERROR, 0, 1, 0);
    const NO_NAME: (Rcode, usize, usize, usize) = (Rcode::NXDOMAIN, 0, 1, 0);
    const BARE: (Rcode, usize, usize, usize) = (Rcode::NOERROR, 0, 0, 0);

    /// Asserts one row of the table: the shapes of Consul's answer and of ours.
    fn differ(name: &str, qtype: Type, consul: (Rcode, usize, usize, usize), ours: (Rcode, usize, usize, usize)) {
        let [theirs, mine] = ask(name, qtype);
        assert_eq!(shape(&theirs), consul, "{name} {qtype}, Consul");
        assert_eq!(shape(&mine), ours, "{name} {qtype}, ours");
    }

    fn addresses(message: &Message) -> Vec<String> {
        let mut texts: Vec<String> = message
            .answers
            .iter()
            .filter_map(|record| match &record.data {
                RData::A(v4) => Some(v4.to_string()),
                RData::Aaaa(v6) => Some(v6.to_string()),
                _ => None,
            })
            .collect();
        texts.sort();
        texts
    }

    #[test]
    fn who_is_well_is_given() {
        for message in ask("web.service.consul.", Type::A) {
            assert_eq!(addresses(&message), ["127.0.1.1", "127.0.1.2"]);
            assert!(message.flags.authoritative && message.flags.recursion_desired && !message.flags.recursion_available);
        }
        for name in ["v1.web.service.consul.", "_web._v1.service.dc1.consul.", "V1.WEB.Service.dc1.dc.ALT.test."] {
            for message in ask(name, Type::A) {
                assert_eq!(addresses(&message).len(), 2, "{name}");
                assert_eq!(message.answers[0].owner.to_string(), name);
            }
        }
        for name in ["v2.web.service.consul.", "web.service.east.consul.", "web.service.p.peer.consul.", "no.service.consul."] {
            differ(name, Type::A, NO_NAME, NO_NAME);
        }
        let dns_config = DnsConfig { only_passing: true, ..DnsConfig::default() };
        let message = reply_to(Settings { dns_config, ..settings(Compat::Rfc) }, &query("web.service.consul.", Type::A), UDP);
        assert_eq!(addresses(&message), ["127.0.1.1"]);
    }

    #[test]
    fn srv_points_to_nodes_and_addresses() {
        for message in ask("web.service.Consul.", Type::SRV) {
            let mut srvs: Vec<_> = message
                .answers
                .iter()
                .filter_map(|record| match &record.data {
                    RData::Srv(srv) => Some((srv.target.to_string(), srv.weight, srv.port)),
                    _ => None,
                })
                .collect();
            srvs.sort();
            let v6 = "20010db8000000000000000000000002.addr.dc1.Consul.".to_owned();
            assert_eq!(srvs, [(v6, 1, 80), ("a.node.dc1.Consul.".to_owned(), 9, 80)]);
        }
        for (name, port) in [("ports.service", 82), ("ports.service.admin.port", 81)] {
            for message in ask(&format!("{name}.consul."), Type::SRV) {
                assert!(matches!(&message.answers[0].data, RData::Srv(srv) if srv.port == port), "{name}");
            }
        }
        differ("ports.service.no.port.consul.", Type::SRV, NO_NAME, NO_NAME);
    }

    #[test]
    fn another_datacenter_is_reached_by_its_wan_address() {
        for (translate_wan_addrs, expected) in [(false, "10.9.0.1"), (true, "198.51.100.9")] {
            for name in ["far.service.east.consul.", "far.node.east.dc.consul."] {
                let settings = Settings { translate_wan_addrs, ..settings(Compat::Rfc) };
                assert_eq!(addresses(&reply_to(settings, &query(name, Type::A), UDP)), [expected], "{name}");
            }
        }
        differ("far.node.consul.", Type::A, NO_NAME, NO_NAME);
    }

    #[test]
    fn the_mesh_has_names() {
        for message in ask("web.connect.consul.", Type::A) {
            assert_eq!(addresses(&message), ["127.0.1.1"]);
        }
        for message in ask("web.virtual.consul.", Type::A) {
            assert_eq!(addresses(&message), ["240.0.0.1"]);
        }
        differ("web.connect.p.peer.consul.", Type::A, (Rcode::NOERROR, 1, 0, 0), NO_NAME);
        differ("web.ingress.consul.", Type::A, NO_NAME, NO_NAME);
        differ("many.connect.consul.", Type::A, NO_NAME, NO_NAME);
    }

    #[test]
    fn an_answer_that_was_cut_says_so() {
        let [theirs, ours] = ask("many.service.consul.", Type::A);
        assert_eq!((theirs.answers.len(), theirs.flags.truncated), (3, false));
        assert!(ours.answers.len() > 20 && ours.flags.truncated && ours.compose(true).len() <= 512);
        let whole = reply_to(settings(Compat::Rfc), &query("many.service.consul.", Type::A), TCP);
        assert_eq!((whole.answers.len(), whole.flags.truncated), (60, false));
        let dns_config = DnsConfig { enable_truncate: true, udp_answer_limit: Some(2), ..DnsConfig::default() };
        for compat in [Compat::Consul, Compat::Rfc] {
            let settings = Settings { dns_config: dns_config.clone(), ..settings(compat) };
            let message = reply_to(settings, &query("many.service.consul.", Type::A), UDP);
            assert_eq!((message.answers.len(), message.flags.truncated), (2, true));
        }
    }

    #[test]
    fn a_sample_is_a_whole_answer() {
        let dns_config = DnsConfig { a_record_limit: 5, ..DnsConfig::default() };
        for (client, query) in
            [(TCP, query("many.service.consul.", Type::A)), (UDP, with_edns("many.service.consul.", Type::A, 4096))]
        {
            for compat in [Compat::Consul, Compat::Rfc] {
                let settings = Settings { dns_config: dns_config.clone(), ..settings(compat) };
                let message = reply_to(settings, &query, client);
                assert_eq!((message.answers.len(), message.flags.truncated), (5, false));
            }
        }
    }

    #[test]
    fn opt_survives_a_cut_and_speaks_for_us() {
        let [theirs, ours] = both(&with_edns("many.service.consul.", Type::SRV, 4096), UDP);
        assert_eq!(theirs.edns, None);
        assert_eq!(ours.edns.as_ref().map(|edns| edns.udp_size), Some(1232));
        assert!(ours.compose(true).len() <= 1232);
        let [theirs, _] = both(&with_edns("web.service.consul.", Type::A, 12_345), UDP);
        assert_eq!(theirs.edns.map(|edns| edns.udp_size), Some(12_345));
    }

    #[test]
    fn rfc6891_6_1_3_edns_follows_the_rfc() {
        let mut asked = with_edns("web.service.consul.", Type::A, 1232);
        asked.edns.as_mut().unwrap().dnssec_ok = true;
        let [theirs, ours] = both(&asked, UDP);
        assert!(!theirs.edns.unwrap().dnssec_ok && ours.edns.unwrap().dnssec_ok);
        asked.edns.as_mut().unwrap().version = 1;
        let [theirs, ours] = both(&asked, UDP);
        assert_eq!((theirs.rcode, theirs.answers.len()), (Rcode::NOERROR, 2));
        assert_eq!((ours.rcode, ours.answers.len(), ours.edns.unwrap().version), (Rcode::BADVERS, 0, 0));
    }

    #[test]
    fn rfc6895_3_1_other_classes_opcodes_and_meta_types_are_turned_away() {
        let chaos = Query {
            question: Question { qclass: Class::CH, ..query("web.service.consul.", Type::A).question },
            ..query(".", Type::A)
        };
        let [theirs, ours] = both(&chaos, UDP);
        assert_eq!((theirs.rcode, theirs.answers.len(), ours.rcode), (Rcode::NOERROR, 2, Rcode::REFUSED));
        let notify = Query { opcode: Opcode::NOTIFY, ..query("web.service.consul.", Type::A) };
        let [theirs, ours] = both(&notify, UDP);
        assert_eq!((theirs.rcode, ours.rcode), (Rcode::NOERROR, Rcode::NOTIMP));
        for qtype in [Type::IXFR, Type::OPT, Type::TSIG, Type::TKEY] {
            differ("web.service.consul.", qtype, NODATA, (Rcode::NOTIMP, 0, 0, 0));
        }
        differ("web.service.consul.", Type::AXFR, (Rcode::NOTIMP, 0, 0, 0), (Rcode::NOTIMP, 0, 0, 0));
    }

    #[test]
    fn negative_answers_may_be_kept_for_a_second() {
        let [theirs, ours] = ask("no.service.consul.", Type::A).map(|message| message.authorities[0].clone());
        for (soa, ttl) in [(theirs, 0), (ours, 1)] {
            assert_eq!(soa.ttl, ttl);
            assert!(matches!(&soa.data, RData::Soa(data) if data.minimum == ttl && data.serial == NOW as u32));
        }
    }

    #[test]
    fn unhealthy_is_not_unknown() {
        let reason = |message: &Message| {
            let edns = message.edns.as_ref().unwrap();
            edns.option(option::EXTENDED_ERROR).map(|error| String::from_utf8_lossy(&error.data[2..]).into_owned())
        };
        let [theirs, ours] = both(&with_edns("gone.service.consul.", Type::A, 1232), UDP);
        assert_eq!((shape(&theirs), shape(&ours)), (NO_NAME, NO_NAME));
        assert_eq!((reason(&theirs), reason(&ours)), (None, Some("no healthy instance among 1 registered".into())));
        let [_, unknown] = both(&with_edns("no.service.consul.", Type::A, 1232), UDP);
        assert_eq!(reason(&unknown), None);
    }

    #[test]
    fn rfc2308_2_2_nodata_has_a_soa_record() {
        differ("web.service.consul.", Type::TXT, (Rcode::NOERROR, 2, 0, 0), NODATA);
        differ("a.node.consul.", Type::AAAA, (Rcode::NOERROR, 0, 0, 1), NODATA);
        differ("a.node.consul.", Type::SRV, BARE, NODATA);
        differ("no.node.consul.", Type::SRV, BARE, NO_NAME);
        differ("c.node.consul.", Type::TXT, BARE, NODATA);
        differ("7f000001.addr.consul.", Type::AAAA, (Rcode::NOERROR, 0, 0, 1), NODATA);
        differ("web.virtual.consul.", Type::AAAA, (Rcode::NOERROR, 0, 0, 1), NODATA);
        differ("no.virtual.consul.", Type::A, BARE, NO_NAME);
    }

    #[test]
    fn the_apex_answers_for_itself_only() {
        differ("web.service.consul.", Type::SOA, (Rcode::NOERROR, 1, 1, 1), NODATA);
        differ("no.service.consul.", Type::NS, (Rcode::NOERROR, 1, 0, 1), NO_NAME);
        differ("consul.", Type::A, NO_NAME, NODATA);
        for message in ask("consul.", Type::SOA).into_iter().chain(ask("consul.", Type::NS)) {
            assert_eq!((message.answers.len(), message.additionals.len()), (1, 1));
        }
    }

    #[test]
    fn rfc4592_2_2_2_names_that_others_stand_below_exist() {
        for name in [
            "service.consul.",
            "node.dc1.consul.",
            "addr.consul.",
            "dc1.consul.",
            "service.east.consul.",
            "_tcp.service.consul.",
        ] {
            differ(name, Type::A, NO_NAME, NODATA);
        }
        for name in ["foo.consul.", "service.west.consul.", "service.a.b.consul.", "q.query.consul."] {
            differ(name, Type::A, NO_NAME, NO_NAME);
        }
    }

    #[test]
    fn the_name_server_has_an_address() {
        differ("ns.consul.", Type::A, NO_NAME, (Rcode::NOERROR, 1, 0, 0));
        differ("ns.consul.", Type::AAAA, NO_NAME, NODATA);
    }

    #[test]
    fn each_zone_has_its_own_soa_record() {
        let zone = |message: &Message| message.authorities.first().map(|soa| soa.owner.to_string());
        let zones = |name: &str| ask(name, Type::A).map(|message| zone(&message).unwrap());
        assert_eq!(zones("alt.test."), ["consul.", "alt.test."]);
        assert_eq!(zones("no.service.alt.test."), ["alt.test.", "alt.test."]);
        assert_eq!(zones("no.service.ALT.test."), ["consul.", "alt.test."]);
        let discovery = Discovery::new(settings(Compat::Rfc));
        assert!(["consul.", "x.CONSUL.", "alt.test."].iter().all(|name| discovery.is_ours(&name.parse().unwrap())));
        assert!(["test.", "xconsul.", ".", "arpa."].iter().all(|name| !discovery.is_ours(&name.parse().unwrap())));
    }

    #[test]
    fn heavier_instances_come_first_more_often() {
        let catalog = sample();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut firsts = |compat| {
            let discovery = Discovery::new(settings(compat));
            let mut count = 0;
            for _ in 0..2000 {
                let Step::Reply(message) =
                    discovery.answer(&catalog, &query("web.service.consul.", Type::A), UDP, &mut rng, NOW)
                else {
                    panic!("no reply")
                };
                count += u32::from(message.answers[0].data == RData::A([127, 0, 1, 1].into()));
            }
            count
        };
        // Half of 2000 with a deviation of 22, and nine tenths with 13.
        assert!((880..1120).contains(&firsts(Compat::Consul)));
        assert!((1730..1870).contains(&firsts(Compat::Rfc)));
    }

    #[test]
    fn aliases_inside_are_followed() {
        let data = |message: &Message| message.answers.iter().map(|record| record.data.clone()).collect::<Vec<_>>();
        let alias = RData::Cname("b.node.consul.".parse().unwrap());
        let [theirs, ours] = ask("to-b.service.consul.", Type::A);
        assert_eq!(data(&theirs), [alias.clone(), RData::Aaaa("2001:db8::2".parse().unwrap())]);
        assert_eq!(data(&ours), [alias, RData::A([127, 0, 1, 2].into())]);
        let [theirs, ours] = both(&query("chain-1.service.consul.", Type::A), TCP);
        assert_eq!((theirs.answers.len(), ours.answers.len()), (4, 6));
        for (name, expected) in [("circle.service.consul.", [1, 1]), ("Circle.service.consul.", [2, 1])] {
            assert_eq!(ask(name, Type::A).map(|message| message.answers.len()), expected, "{name}");
        }
    }

    #[test]
    fn rfc2181_10_1_an_alias_stands_alone() {
        differ("mixed.service.consul.", Type::AAAA, (Rcode::NOERROR, 1, 0, 0), NODATA);
        for message in ask("mixed.service.consul.", Type::A) {
            assert_eq!(addresses(&message), ["127.1.0.1"]);
        }
    }

    #[test]
    fn aliases_outside_are_chased_once_each() {
        for (compat, qtype, asked, ttl) in [
            (Compat::Consul, Type::AAAA, Type::A, 0),
            (Compat::Rfc, Type::AAAA, Type::AAAA, 77),
            (Compat::Rfc, Type::SRV, Type::A, 77),
        ] {
            let settings = Settings { recursors: true, ..settings(compat) };
            let Step::Chase(chase) = step(settings.clone(), &query("outside.service.consul.", qtype), UDP) else {
                panic!("no chase")
            };
            assert_eq!((chase.question().name.to_string(), chase.question().qtype), ("www.example.".into(), asked));
            let mut response = query("www.example.", asked).response(Rcode::NOERROR);
            response.answers.push(Record::address("www.example.".parse().unwrap(), 77, [127, 4, 0, 1].into()));
            let Step::Reply(message) = chase.resume(Some(response)) else { panic!("no reply") };
            let followed =
                message.answers.iter().chain(&message.additionals).find(|record| record.owner.to_string() == "www.example.");
            assert_eq!(followed.map(|record| record.ttl), Some(ttl));
            assert!(message.flags.recursion_available);
            let Step::Chase(chase) = step(settings, &query("outside.service.consul.", qtype), UDP) else { panic!("no chase") };
            let Step::Reply(message) = chase.resume(None) else { panic!("no reply") };
            assert_eq!((message.rcode, message.answers.len()), (Rcode::NOERROR, 1));
        }
        // Nobody to ask: the alias alone.
        for message in ask("outside.service.consul.", Type::A) {
            assert_eq!(message.answers.len(), 1);
        }
    }

    #[test]
    fn chases_are_bounded() {
        let hosts = (0..100).map(|at| instance("a", &format!("i{at}"), "hosts", &format!("h{at}.example"), json!({})));
        let catalog = catalog([node("a", "127.0.0.1", json!({}))].into_iter().chain(hosts));
        let discovery = Discovery::new(Settings { recursors: true, ..settings(Compat::Rfc) });
        let mut step =
            discovery.answer(&catalog, &query("hosts.service.consul.", Type::SRV), TCP, &mut fastrand::Rng::with_seed(1), NOW);
        let mut asked = std::collections::HashSet::new();
        while let Step::Chase(chase) = step {
            assert!(asked.insert(chase.question().clone()), "asked twice: {:?}", chase.question());
            step = chase.resume(None);
        }
        assert_eq!(asked.len(), crate::limits::CHASES_MAX);
        assert!(matches!(step, Step::Reply(message) if message.answers.len() == 100));
    }

    #[test]
    fn a_record_is_given_once() {
        let [theirs, ours] = ask("twin.service.consul.", Type::SRV);
        assert_eq!((theirs.answers.len(), ours.answers.len()), (2, 1));
    }

    #[test]
    fn reverse_names_lead_back() {
        let target = |message: &Message| match &message.answers[0].data {
            RData::Ptr(target) => target.to_string(),
            other => panic!("{other:?}"),
        };
        for message in ask("1.1.0.127.in-addr.arpa.", Type::PTR).into_iter().chain(ask("1.1.0.127.in-addr.arpa.", Type::ANY)) {
            assert_eq!(target(&message), "a.node.dc1.consul.");
        }
        for message in ask("9.0.1.127.in-addr.arpa.", Type::PTR) {
            assert_eq!(target(&message), "gone.service.dc1.consul.");
        }
        let a = query("1.1.0.127.in-addr.arpa.", Type::A);
        assert_eq!(reply_to(settings(Compat::Consul), &a, UDP).answers.len(), 1);
        assert!(matches!(step(settings(Compat::Rfc), &a, UDP), Step::Forward));
        let unknown = query("9.9.9.127.in-addr.arpa.", Type::PTR);
        assert_eq!(shape(&reply_to(settings(Compat::Consul), &unknown, UDP)), NO_NAME);
        assert!(matches!(step(settings(Compat::Rfc), &unknown, UDP), Step::Forward));
        let recursors = Settings { recursors: true, ..settings(Compat::Consul) };
        assert!(matches!(step(recursors, &unknown, UDP), Step::Forward));
    }

    #[test]
    fn the_domain_never_leaves_the_host() {
        let ds = query("consul.", Type::DS);
        assert!(matches!(step(settings(Compat::Consul), &ds, UDP), Step::Forward));
        assert_eq!(shape(&reply_to(settings(Compat::Rfc), &ds, UDP)), NODATA);
        differ("x.consul.", Type::DS, NO_NAME, NO_NAME);
    }

    #[test]
    fn odd_names_get_no_name() {
        differ("_._.service.consul.", Type::SRV, (Rcode::SERVFAIL, 0, 0, 0), NO_NAME);
        let owners = ask("7F000001.Addr.Consul.", Type::A).map(|message| message.answers[0].owner.to_string());
        assert_eq!(owners, ["7f000001.addr.Consul.", "7F000001.Addr.Consul."]);
    }

    #[test]
    fn a_node_shows_its_metadata() {
        for message in ask("a.node.consul.", Type::A) {
            assert_eq!(shape(&message), (Rcode::NOERROR, 1, 0, 1));
        }
        for message in ask("host.node.consul.", Type::TXT).into_iter().chain(ask("a.node.consul.", Type::TXT)) {
            assert_eq!(message.answers.iter().map(|r| r.data.clone()).collect::<Vec<_>>(), [RData::text(b"env=prod")]);
        }
        let dns_config = DnsConfig { enable_additional_node_meta_txt: false, ..DnsConfig::default() };
        let settings = Settings { dns_config, ..settings(Compat::Consul) };
        assert_eq!(reply_to(settings.clone(), &query("a.node.consul.", Type::A), UDP).additionals.len(), 0);
        assert_eq!(reply_to(settings, &query("a.node.consul.", Type::ANY), UDP).answers.len(), 2);
    }

    fn an_address() -> impl Strategy<Value = String> {
        prop_oneof![
            Just(String::new()),
            any::<u8>().prop_map(|last| format!("127.0.0.{last}")),
            any::<u16>().prop_map(|last| format!("2001:db8::{last:x}")),
            a_name(),
            "[ -~]{0,12}",
        ]
    }

    fn a_label() -> impl Strategy<Value = String> {
        prop_oneof![
            8 => proptest::sample::select(vec![
                "web", "db", "a", "b", "service", "node", "addr", "connect", "virtual", "ingress", "query", "dc1", "east", "dc",
                "peer", "port", "http", "ns", "_web", "_tcp", "_t", "t", "7f000001", "20010db8000000000000000000000001", "www",
            ]).prop_map(str::to_owned),
            1 => "[a-zA-Z0-9_-]{1,63}",
            1 => Just("\\000\\255\\.".to_owned()),
        ]
    }

    fn a_name() -> impl Strategy<Value = String> {
        let domain = proptest::sample::select(vec!["consul", "CONSUL", "alt.test", "example", "in-addr.arpa", ""]);
        (proptest::collection::vec(a_label(), 0..5), domain)
            .prop_map(|(labels, domain)| format!("{}.{domain}", labels.join(".")))
    }

    fn a_catalog() -> impl Strategy<Value = Catalog> {
        let nodes = proptest::collection::vec((a_label(), an_address(), an_address(), "[ -~]{0,300}", any::<bool>()), 1..5);
        let service = proptest::sample::select(vec!["web", "db", "consul", "_web", "we.b"]);
        let instances =
            proptest::collection::vec((any::<u8>(), service, an_address(), an_address(), any::<u16>(), 0..3u8), 0..120);
        (nodes, instances).prop_map(|(nodes, instances)| {
            let mut edit = Catalog::default().edit();
            for (name, address, tagged, meta, far) in &nodes {
                let more = json!({"datacenter": if *far { "east" } else { "dc1" }, "meta": {"k": meta, "rfc1035-x": meta, " =": meta},
                    "tagged_addresses": {"lan_ipv6": tagged, "wan": tagged}});
                edit.apply(node(name, address, more)).unwrap();
            }
            for (at, (on, service, address, tagged, number, health)) in instances.iter().enumerate() {
                let on = &nodes[usize::from(*on) % nodes.len()].0;
                let (id, weight) = (format!("i{at}"), u32::from(*number) % 4);
                let more = json!({"port": number, "tags": ["t"], "weights": {"passing": weight, "warning": 1},
                    "tagged_addresses": {"lan_ipv4": {"address": tagged, "port": 1}}, "connect": {"Native": number % 2 == 0}});
                edit.apply(instance(on, &id, service, address, more)).unwrap();
                let health = [Health::Passing, Health::Warning, Health::Critical][usize::from(*health)];
                edit.apply(check(on, &format!("c{at}"), &id, health)).unwrap();
            }
            edit.finish().0
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn any_question_to_any_catalog_has_an_answer_that_fits(
            catalog in a_catalog(),
            name in a_name(),
            qtype in proptest::sample::select(vec![1u16, 2, 5, 6, 12, 15, 16, 28, 33, 33, 43, 65, 255, 999]),
            size in proptest::option::of(any::<u16>()),
            tcp in any::<bool>(),
            consul in any::<bool>(),
            recursors in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let Ok(name) = name.parse::<Name>() else { return Ok(()) };
            let compat = if consul { Compat::Consul } else { Compat::Rfc };
            let discovery = Discovery::new(Settings { recursors, translate_wan_addrs: seed % 2 == 0, ..settings(compat) });
            let query = Query { edns: size.map(Edns::new), question: Question { name, qtype: Type(qtype), qclass: Class::IN }, ..query(".", Type::A) };
            let client = if tcp { TCP } else { UDP };
            let mut step = discovery.answer(&catalog, &query, client, &mut fastrand::Rng::with_seed(seed), NOW);
            let mut chases = 0;
            while let Step::Chase(chase) = step {
                chases += 1;
                prop_assert!(chases <= crate::limits::CHASES_MAX && recursors);
                prop_assert!(!discovery.is_ours(&chase.question().name), "never upstream: {:?}", chase.question());
                let mut response = query.response(Rcode::NOERROR);
                let owner = chase.question().name.clone();
                response.answers.push(Record::address(owner, 60, [127, 0, 0, 1].into()));
                step = chase.resume((seed % 3 > 0).then_some(response));
            }
            match step {
                Step::Reply(message) => {
                    let octets = discovery.compose(&message);
                    let read = Message::parse(&octets);
                    prop_assert!(read.is_ok(), "{read:?}");
                    let read = read.unwrap();
                    prop_assert_eq!(&read.answers, &message.answers);
                    let budget = match (tcp, consul) {
                        (true, _) => Message::MAX,
                        (false, true) => usize::from(size.unwrap_or(0)).max(512),
                        (false, false) => usize::from(size.unwrap_or(0)).clamp(512, 1232),
                    };
                    // Consul gives one answer whatever its size.
                    prop_assert!(octets.len() <= budget || consul && message.answers.len() <= 1, "{} octets", octets.len());
                    let aliased = message.answers.first().is_some_and(|record| record.record_type() == Type::CNAME);
                    prop_assert!(consul || message.answers.is_empty() || aliased || message.rcode == Rcode::NOERROR);
                }
                Step::Forward => prop_assert!(!discovery.is_ours(&query.question.name) || query.question.qtype == Type::DS),
                Step::Chase(_) => unreachable!(),
            }
        }
    }
}
