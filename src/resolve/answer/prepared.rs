//! The plainest questions, answered at once: A or AAAA of `<service>.service[.<datacenter>].<domain>`.
//!
//! From the query's octets to the answer's without an allocation and without a lock: the service is found by one hash of
//! the lower-cased label, its records are prepared once after each change and then only copied, in a fresh uniform order.
//! Whatever is not that plain (weights, aliases, limits, what does not fit, what is not there) is left to the general way
//! in `asking`, which gives the same answers; a test holds the two together.

use std::net::IpAddr;

use fastrand::Rng;

use super::grammar::{Form, Place};
use super::presence::{Presence, Wanted};
use super::records::{self, Spot};
use super::{Compat, Discovery, Settings, Transport, trim};
use crate::catalog::{Catalog, Prepared, Service};
use crate::dns::{Message, Name, Type};

/// Records of one answer at most; more take the general way.
const RECORDS_MAX: usize = 64;
const A_OCTETS: usize = 16;
const AAAA_OCTETS: usize = 28;
const OPT_OCTETS: usize = 11;

/// What the settings make of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Plain {
    /// Tells prepared records of these settings from those of others.
    maker: u64,
    /// `service.<domain>` and `service.<datacenter>.<domain>` in wire form and lower case; empty when nothing is plain.
    suffixes: Vec<Box<[u8]>>,
}

impl Plain {
    pub(super) fn new(settings: &Settings) -> Self {
        static MAKERS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let maker = MAKERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let config = &settings.dns_config;
        let plain = settings.compat == Compat::Rfc
            && config.a_record_limit == 0
            && config.udp_answer_limit.is_none()
            && !config.disable_compression;
        let datacenter = settings.datacenter.to_lowercase();
        let domain = |labels: &[&str]| settings.domain.prefixed(labels.iter().map(|label| label.as_bytes()));
        let names = [domain(&["service"]), domain(&["service", &datacenter])];
        let wire = |name: &Name| name.to_lowercase().wire().into();
        let suffixes = if plain { names.iter().flatten().map(wire).collect() } else { Vec::new() };
        Self { maker, suffixes }
    }
}

/// A query of the plain form, its parts where they stand in the octets.
struct PlainQuery {
    /// Where the question ends.
    end: usize,
    qtype: Type,
    /// The payload size and DO of its OPT record.
    edns: Option<(u16, bool)>,
    lower: [u8; 256],
    /// Octets of the name in `lower`.
    name: usize,
}

impl PlainQuery {
    fn parse(octets: &[u8]) -> Option<Self> {
        const RD: u8 = 1;
        const AD_CD: u8 = 0x30;
        let (header, rest) = octets.split_first_chunk::<{ Message::HEADER }>()?;
        let [_, _, high, low, 0, 1, 0, 0, 0, 0, 0, additionals @ (0 | 1)] = *header else { return None };
        if high & !RD != 0 || low & !AD_CD != 0 {
            return None;
        }
        let mut lower = [0; 256];
        let mut at = 0;
        loop {
            let length = usize::from(*rest.get(at)?);
            if length == 0 {
                at += 1;
                break;
            }
            if length > 63 {
                return None;
            }
            let end = at + 1 + length;
            let (label, place) = (rest.get(at..end)?, lower.get_mut(at..end)?);
            place.copy_from_slice(label);
            place.make_ascii_lowercase();
            at = end;
        }
        let (question, after) = rest.get(at..)?.split_first_chunk::<4>()?;
        let [type_high, type_low, 0, 1] = *question else { return None };
        let edns = match (additionals, after) {
            (0, []) => None,
            (1, [0, 0, 41, size_high, size_low, 0, 0, flags, 0, 0, 0]) if flags & 0x7f == 0 => {
                Some((u16::from_be_bytes([*size_high, *size_low]), flags & 0x80 != 0))
            }
            _ => return None,
        };
        let qtype = Type(u16::from_be_bytes([type_high, type_low]));
        // Length octets below 64 are no letters, so that lower-casing left them alone.
        Some(Self { end: Message::HEADER + at + 4, qtype, edns, lower, name: at })
    }
}

impl Discovery {
    /// Answers a plain question into `out`; `false` leaves `out` as it was, and the question to [`Discovery::answer`].
    pub fn answer_at_once(
        &self,
        catalog: &Catalog,
        octets: &[u8],
        transport: Transport,
        rng: &mut Rng,
        out: &mut Vec<u8>,
    ) -> bool {
        self.try_at_once(catalog, octets, transport, rng, out).is_some()
    }

    fn try_at_once(
        &self,
        catalog: &Catalog,
        octets: &[u8],
        transport: Transport,
        rng: &mut Rng,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let query = PlainQuery::parse(octets)?;
        let name = query.lower.get(..query.name)?;
        let (label, suffix) = name.split_at_checked(1 + usize::from(*name.first()?))?;
        if !self.plain.suffixes.iter().any(|plain| **plain == *suffix) {
            return None;
        }
        let service = catalog.service_by_key(label.get(1..)?)?;
        let nodes = catalog.nodes_index();
        let mut memo = service.memo.get();
        if !memo.as_ref().is_some_and(|memo| memo.maker == self.plain.maker && memo.nodes == nodes) {
            service.memo.set(self.prepare(catalog, service));
            memo = service.memo.get();
        }
        let prepared = memo.as_ref()?;
        let (records, size) = match query.qtype {
            Type::A => (prepared.a.as_deref()?, A_OCTETS),
            Type::AAAA => (prepared.aaaa.as_deref()?, AAAA_OCTETS),
            _ => return None,
        };
        let limit = match (transport, query.edns) {
            (Transport::Tcp, _) => Message::MAX,
            (Transport::Udp, None) => trim::UDP_MIN,
            (Transport::Udp, Some((size, _))) => usize::from(size).clamp(trim::UDP_MIN, trim::UDP_MAX),
        };
        if query.end + records.len() + if query.edns.is_some() { OPT_OCTETS } else { 0 } > limit {
            return None;
        }
        let count = records.len() / size;
        let [id_high, id_low, high, low, ..] = *octets else { return None };
        let recursion = u8::from(self.settings.recursors) << 7;
        out.extend([id_high, id_low, 0x84 | high, recursion | low & 0x10, 0, 1, 0, count as u8, 0, 0, 0]);
        out.push(u8::from(query.edns.is_some()));
        out.extend_from_slice(octets.get(Message::HEADER..query.end)?);
        // Fisher and Yates, drawing as it copies.
        let mut order: [u8; RECORDS_MAX] = std::array::from_fn(|n| n as u8);
        for place in 0..count {
            let drawn = place + rng.usize(..count - place);
            order.swap(place, drawn);
            let at = usize::from(order[place]) * size;
            out.extend_from_slice(records.get(at..at + size)?);
        }
        if let Some((_, dnssec_ok)) = query.edns {
            let [size_high, size_low] = (trim::UDP_MAX as u16).to_be_bytes();
            out.extend([0, 0, 41, size_high, size_low, 0, 0, u8::from(dnssec_ok) << 7, 0, 0, 0]);
        }
        Some(())
    }

    /// Makes a service's records.
    fn prepare(&self, catalog: &Catalog, service: &Service) -> Prepared {
        Prepared {
            maker: self.plain.maker,
            nodes: catalog.nodes_index(),
            a: self.prepare_records(catalog, service, Type::A),
            aaaa: self.prepare_records(catalog, service, Type::AAAA),
        }
    }

    fn prepare_records(&self, catalog: &Catalog, service: &Service, qtype: Type) -> Option<Box<[u8]>> {
        let settings = &*self.settings;
        let place = Place::default();
        let wanted = Wanted { service: &service.key, tag: None, form: Form::Service, place: &place };
        let present = Presence::of(catalog, wanted, &settings.datacenter, settings.dns_config.only_passing);
        let Presence::Present(candidates) = present else { return None };
        let weight = candidates.first()?.weight();
        if weight == 0 || candidates.iter().any(|candidate| candidate.weight() != weight) {
            return None;
        }
        let ttl = settings.service_ttl(&service.key);
        let mut addresses: Vec<IpAddr> = Vec::with_capacity(candidates.len());
        for candidate in &candidates {
            match Spot::of(candidate, &Name::root(), qtype, settings)? {
                Spot::Node(address) | Spot::Address(address) if records::suits(address, qtype, settings) => {
                    // Two instances at one address are drawn as two; the general way knows how.
                    if addresses.contains(&address) {
                        return None;
                    }
                    addresses.push(address);
                }
                Spot::Node(_) | Spot::Address(_) => {}
                Spot::Host(_) => return None,
            }
        }
        if addresses.is_empty() || addresses.len() > RECORDS_MAX {
            return None;
        }
        let mut octets = Vec::with_capacity(addresses.len() * AAAA_OCTETS);
        for address in addresses {
            // The owner is the question's name, at the header's end (RFC 1035, 4.1.4).
            octets.extend([0xc0, Message::HEADER as u8]);
            octets.extend(qtype.0.to_be_bytes());
            octets.extend([0, 1]);
            octets.extend(ttl.to_be_bytes());
            match address {
                IpAddr::V4(v4) => {
                    octets.extend([0, 4]);
                    octets.extend(v4.octets());
                }
                IpAddr::V6(v6) => {
                    octets.extend([0, 16]);
                    octets.extend(v6.octets());
                }
            }
        }
        Some(octets.into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Client, Step};
    use super::*;
    use crate::catalog::{Change, Check, Health, Index, Instance, Node, SourceId, Weights};
    use crate::dns::{Class, Edns, Flags, Opcode, Query, Question, Record};

    fn node(name: &str, address: &str, datacenter: &str) -> Change {
        Change::PutNode(Node {
            source: SourceId::LOCAL,
            name: name.into(),
            id: "".into(),
            datacenter: datacenter.into(),
            address: address.into(),
            tagged_addresses: None,
            meta: None,
            create_index: Index(0),
            modify_index: Index(0),
        })
    }

    fn instance(node: &str, id: usize, address: &str, weight: u16) -> Change {
        Change::PutInstance(Instance {
            source: SourceId::LOCAL,
            node: node.into(),
            id: id.to_string().into(),
            service: "Web".into(),
            kind: None,
            tags: Vec::new(),
            address: address.into(),
            tagged_addresses: None,
            meta: None,
            port: 80,
            ports: Vec::new(),
            socket_path: None,
            weights: Weights { passing: weight, warning: weight },
            enable_tag_override: false,
            proxy: None,
            connect: None,
            agent: false,
            create_index: Index(0),
            modify_index: Index(0),
        })
    }

    fn check(node: &str, id: &str, service_id: &str, status: Health) -> Change {
        Change::PutCheck(Check {
            source: SourceId::LOCAL,
            node: node.into(),
            id: id.into(),
            name: id.into(),
            status,
            notes: "".into(),
            output: "".into(),
            service_id: service_id.into(),
            service_name: "".into(),
            service_tags: Vec::new(),
            kind: "".into(),
            interval: "".into(),
            timeout: "".into(),
            exposed_port: 0,
            definition: None,
            agent: false,
            create_index: Index(0),
            modify_index: Index(0),
        })
    }

    fn apply(catalog: &Catalog, change: Change) -> Catalog {
        let mut edit = catalog.edit();
        edit.apply(change).unwrap();
        edit.finish().0
    }

    fn query(name: &str, qtype: Type, edns: Option<Edns>) -> Query {
        let flags = Flags { recursion_desired: true, ..Flags::default() };
        let question = Question { name: name.parse().unwrap(), qtype, qclass: Class::IN };
        Query { id: 77, opcode: Opcode::QUERY, flags, question, edns }
    }

    fn sorted(mut message: Message) -> Message {
        message.answers.sort_by_key(|record: &Record| format!("{record:?}"));
        message
    }

    /// Both ways on one question; says whether the short one answered.
    fn compare(discovery: &Discovery, catalog: &Catalog, query: &Query, rng: &mut Rng) -> bool {
        let (octets, mut out) = (query.compose(), Vec::new());
        let at_once = discovery.answer_at_once(catalog, &octets, Transport::Udp, rng, &mut out);
        let client = Client { address: [127, 0, 0, 1].into(), transport: Transport::Udp };
        let Step::Reply(general) = discovery.answer(catalog, query, client, rng, 1) else { return false };
        if at_once {
            assert_eq!(sorted(Message::parse(&out).unwrap()), sorted(*general), "{query:?}");
        } else {
            assert!(out.is_empty());
        }
        at_once
    }

    #[test]
    fn the_short_way_says_what_the_general_way_says() {
        let mut rng = Rng::with_seed(3);
        let (mut short, mut long) = (0, 0);
        let discovery = Discovery::new(Settings { recursors: true, ..Settings::default() });
        for _ in 0..600 {
            let mut catalog = apply(&Catalog::default(), node("n1", "10.0.0.1", "dc1"));
            catalog = apply(&catalog, node("n2", "2001:db8::1", if rng.u8(..) < 30 { "dc2" } else { "dc1" }));
            let strange = rng.u8(..4) == 0;
            for id in 0..rng.usize(..8) {
                let address = match rng.u8(..10) {
                    0 if strange => "host.example.net".to_owned(),
                    1 if strange => "10.1.0.1".to_owned(),
                    0..3 => format!("2001:db8::2:{id}"),
                    3 => String::new(),
                    _ => format!("10.1.1.{id}"),
                };
                let weight = if strange { rng.u16(0..3).max(1) } else { 1 };
                let on = if rng.bool() { "n1" } else { "n2" };
                catalog = apply(&catalog, instance(on, id, &address, weight));
                if rng.bool() {
                    let status = [Health::Passing, Health::Warning, Health::Critical][rng.usize(..3)];
                    catalog = apply(&catalog, check(on, &format!("c{id}"), &id.to_string(), status));
                }
            }
            for step in 0..4 {
                if step == 2 {
                    // What was prepared must not outlive a change of a node's health.
                    catalog = apply(&catalog, check("n1", "alive", "", Health::Critical));
                }
                let edns = rng.bool().then(|| Edns { dnssec_ok: rng.bool(), ..Edns::new(rng.u16(..2000)) });
                let name = ["web.service.consul", "WeB.Service.dc1.CONSUL", "web.service.dc2.consul", "no.service.consul"];
                let qtype = [Type::A, Type::AAAA, Type::SRV][rng.usize(..3)];
                let query = query(name[rng.usize(..4)], qtype, edns);
                if compare(&discovery, &catalog, &query, &mut rng) { short += 1 } else { long += 1 }
            }
        }
        assert!(short > 300 && long > 300, "{short} at once, {long} in general");
    }

    #[test]
    fn every_order_is_equally_likely() {
        let mut catalog = apply(&Catalog::default(), node("n1", "10.0.0.1", "dc1"));
        for id in 0..3 {
            catalog = apply(&catalog, instance("n1", id, &format!("10.1.1.{id}"), 1));
        }
        let discovery = Discovery::new(Settings::default());
        let (octets, mut rng) = (query("web.service.consul", Type::A, None).compose(), Rng::with_seed(9));
        let mut seen = std::collections::BTreeMap::<Vec<String>, f64>::new();
        const ROUNDS: f64 = 12_000.0;
        for _ in 0..ROUNDS as usize {
            let mut out = Vec::new();
            assert!(discovery.answer_at_once(&catalog, &octets, Transport::Udp, &mut rng, &mut out));
            let order = Message::parse(&out).unwrap().answers.iter().map(|record| format!("{:?}", record.data)).collect();
            *seen.entry(order).or_default() += 1.0;
        }
        let expected = ROUNDS / 6.0;
        let chi_square: f64 = seen.values().map(|count| (count - expected).powi(2) / expected).sum();
        // 5 degrees of freedom: above 20.5 in one of a thousand runs, and the seed is fixed.
        assert!(seen.len() == 6 && chi_square < 20.5, "{chi_square}: {seen:?}");
    }

    #[test]
    fn odd_queries_are_left_to_the_general_way() {
        let mut catalog = apply(&Catalog::default(), node("n1", "10.0.0.1", "dc1"));
        catalog = apply(&catalog, instance("n1", 1, "10.1.1.1", 1));
        let discovery = Discovery::new(Settings::default());
        let octets = query("web.service.consul", Type::A, Some(Edns::new(1232))).compose();
        let mut rng = Rng::with_seed(1);
        let mut asks = |octets: &[u8]| discovery.answer_at_once(&catalog, octets, Transport::Udp, &mut rng, &mut Vec::new());
        assert!(asks(&octets));
        for cut in 0..octets.len() {
            assert!(!asks(&octets[..cut]), "cut at {cut}");
        }
        for (at, value) in [(2, 0x80), (2, 0x21), (3, 0x40), (5, 2), (7, 1), (11, 2), (octets.len() - 6, 1)] {
            let mut odd = octets.clone();
            odd[at] = value;
            assert!(!asks(&odd), "octet {at} is {value}");
        }
        assert!(!asks(&[&octets[..], &[0]].concat()));
    }
}
