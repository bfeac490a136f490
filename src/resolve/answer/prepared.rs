//! The plainest questions, answered at once: A, AAAA and SRV of `<service>.service[.<datacenter>].<domain>`, and of
//! `_<service>._tcp.service[.<datacenter>].<domain>`.
//!
//! From the query's octets to the answer's without an allocation and without a lock: the service is found by one hash of
//! the lower-cased label, what its answer is made of is prepared once after each change, and then only copied, in a fresh
//! order. Whatever is not that plain (aliases, limits, what does not fit, what is not there) is left to the general way
//! in `asking`, which gives the same answers; a test holds the two together.

use std::net::IpAddr;

use fastrand::Rng;

use super::grammar::{Form, Place};
use super::presence::{Presence, Wanted};
use super::records::{self, Spot};
use super::{Client, Compat, Discovery, Settings, Step, order, zone};
use crate::catalog::{AHEAD, Catalog, Prepared, Service};
use crate::dns::{Class, Edns, Message, Name, PlainQuery, Query, Question, RData, Rcode, Record, Type};
use crate::limits;
use crate::resolve::Room;

/// Records of one answer at most; more take the general way.
const RECORDS_MAX: usize = 64;
const A_OCTETS: usize = 16;
const AAAA_OCTETS: usize = 28;
/// Where a compression pointer can lead (RFC 1035, 4.1.4).
const POINTER_MAX: usize = 0x3fff;

/// What is prepared, one kind for each type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    A,
    Aaaa,
    Srv,
}

impl Kind {
    fn of(qtype: Type) -> Option<Self> {
        match qtype {
            Type::A => Some(Self::A),
            Type::AAAA => Some(Self::Aaaa),
            Type::SRV => Some(Self::Srv),
            _ => None,
        }
    }
}

/// What the settings make of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Plain {
    /// Tells prepared answers of these settings from those of others.
    maker: u64,
    /// `service.<domain>` and `service.<datacenter>.<domain>` in wire form and lower case; empty when nothing is plain.
    suffixes: Vec<Box<[u8]>>,
    /// Octets of the domain in wire form.
    domain: usize,
    /// The domain's SOA record.
    soa: Option<SoaTemplate>,
}

/// A SOA record whose names end in pointers to the domain in the question; where that stands, and the serial, are filled in
/// as it is written.
#[derive(Debug, Clone)]
struct SoaTemplate {
    octets: Vec<u8>,
    /// Where the pointers to the domain go; the owner is the first.
    pointers: [usize; 3],
    serial: usize,
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
        Self { maker, suffixes, domain: settings.domain.wire().len(), soa: SoaTemplate::new(settings) }
    }

    /// The service that a name of the plain form asks for.
    fn service<'n>(&self, name: &'n [u8]) -> Option<&'n [u8]> {
        let is_ours = |suffix: &[u8]| self.suffixes.iter().any(|plain| **plain == *suffix);
        let (label, suffix) = name.split_at_checked(1 + usize::from(*name.first()?))?;
        if is_ours(suffix) {
            return label.get(1..);
        }
        // RFC 2782's form; `_tcp` is no tag.
        let (b'_', service) = label.get(1..)?.split_first()? else { return None };
        is_ours(suffix.strip_prefix(b"\x04_tcp")?).then_some(service)
    }
}

impl SoaTemplate {
    fn new(settings: &Settings) -> Option<Self> {
        let Record { ttl, data: RData::Soa(soa), .. } = zone::soa(settings.domain.to_lowercase(), 0, settings)? else {
            return None;
        };
        let domain = settings.domain.wire().len();
        let mut octets = vec![0, 0, 0, Type::SOA.0 as u8, 0, 1];
        octets.extend(ttl.to_be_bytes());
        let length_at = octets.len();
        octets.extend([0, 0]);
        let mut pointers = [0; 3];
        for (name, pointer) in [&soa.mname, &soa.rname].into_iter().zip(pointers.iter_mut().skip(1)) {
            octets.extend(name.wire().get(..name.wire().len().checked_sub(domain)?)?);
            *pointer = octets.len();
            octets.extend([0, 0]);
        }
        let serial = octets.len();
        for number in [0, soa.refresh, soa.retry, soa.expire, soa.minimum] {
            octets.extend(number.to_be_bytes());
        }
        let length = u16::try_from(octets.len() - length_at - 2).ok()?;
        octets.get_mut(length_at..length_at + 2)?.copy_from_slice(&length.to_be_bytes());
        Some(Self { octets, pointers, serial })
    }

    fn write(&self, domain_at: usize, now: u64, out: &mut Vec<u8>) -> Option<()> {
        let start = out.len();
        out.extend_from_slice(&self.octets);
        let written = out.get_mut(start..)?;
        for at in self.pointers {
            written.get_mut(at..at + 2)?.copy_from_slice(&pointer(domain_at));
        }
        written.get_mut(self.serial..self.serial + 4)?.copy_from_slice(&(now as u32).to_be_bytes());
        Some(())
    }
}

fn pointer(at: usize) -> [u8; 2] {
    (0xc000 | at as u16).to_be_bytes()
}

impl Discovery {
    /// Reads what answers to these questions need; see [`Catalog::read_ahead`].
    pub fn read_ahead<'q>(&self, catalog: &Catalog, queries: impl Iterator<Item = PlainQuery<'q>>) {
        let (mut hashes, mut count) = ([0; AHEAD], 0);
        for query in queries {
            if let (Some(hash), Some(service)) = (hashes.get_mut(count), self.plain.service(query.name())) {
                *hash = catalog.service_hash(service);
                count += 1;
            }
        }
        catalog.read_ahead(hashes.get(..count).unwrap_or_default());
    }

    /// Answers a plain question into `out`; `false` leaves `out` as it was, and the question to [`Discovery::answer`].
    /// `now` is Unix time, in seconds.
    pub fn answer_at_once(
        &self,
        catalog: &Catalog,
        query: &PlainQuery<'_>,
        room: Room,
        rng: &mut Rng,
        now: u64,
        out: &mut Vec<u8>,
    ) -> bool {
        let start = out.len();
        let answered = self.try_at_once(catalog, query, room, rng, now, out).is_some();
        if !answered {
            out.truncate(start);
        }
        answered
    }

    fn try_at_once(
        &self,
        catalog: &Catalog,
        query: &PlainQuery<'_>,
        room: Room,
        rng: &mut Rng,
        now: u64,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let service = self.plain.service(query.name())?;
        let kind = Kind::of(query.qtype())?;
        let service = catalog.service_by_key(service)?;
        let nodes = catalog.nodes_index();
        let mut write = |prepared: Option<&[u8]>| self.write_prepared(kind, prepared?, query, room, rng, now, out);
        match service.memo.get(kind as usize, self.plain.maker, nodes, &mut write) {
            Some(written) => written,
            None => {
                let octets = self.prepare(catalog, service, kind).map(Vec::into_boxed_slice);
                let written = write(octets.as_deref());
                service.memo.set(kind as usize, Prepared { maker: self.plain.maker, nodes, octets });
                written
            }
        }
    }

    /// The answer that was prepared by [`Discovery::prepare`].
    #[allow(clippy::too_many_arguments, reason = "what an answer is made of")]
    fn write_prepared(
        &self,
        kind: Kind,
        prepared: &[u8],
        query: &PlainQuery<'_>,
        room: Room,
        rng: &mut Rng,
        now: u64,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let (size, prepared) = prepared.split_first_chunk()?;
        let opt = if query.edns().is_some() { Edns::BARE } else { 0 };
        let size = Message::HEADER + query.question().len() + usize::from(u16::from_be_bytes(*size)) + opt;
        if size > room.octets(query.payload_size()) {
            return None;
        }
        let start = out.len();
        let [id_high, id_low, high, low, ..] = *query.octets() else { return None };
        let recursion = u8::from(self.settings.recursors) << 7;
        out.extend([id_high, id_low, 0x84 | high, recursion | low & 0x10, 0, 1, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(query.question());
        let mut counts = match kind {
            Kind::A => addresses::<4>(prepared, Type::A, rng, out)?,
            Kind::Aaaa => addresses::<16>(prepared, Type::AAAA, rng, out)?,
            Kind::Srv => servers(prepared, start, rng, out)?,
        };
        if counts.answers == 0 {
            let question = Message::HEADER + query.question().len();
            let domain_at = question.checked_sub(4 + self.plain.domain)?;
            self.plain.soa.as_ref()?.write(domain_at, now, out)?;
            counts.authorities = 1;
        }
        if let Some((_, dnssec_ok)) = query.edns() {
            out.extend(Edns::bare(limits::UDP_PAYLOAD, dnssec_ok));
            counts.additionals += 1;
        }
        let header = out.get_mut(start..)?.first_chunk_mut::<{ Message::HEADER }>()?;
        header[7] = counts.answers;
        header[9] = counts.authorities;
        header[11] = counts.additionals;
        Some(())
    }

    /// What a service's answer is made of, behind the octets that it will have beside header, question and OPT; `None`
    /// when the general way has to be taken.
    fn prepare(&self, catalog: &Catalog, service: &Service, kind: Kind) -> Option<Vec<u8>> {
        let (size, octets) = match kind {
            Kind::A => self.prepare_addresses(catalog, service, Type::A, A_OCTETS)?,
            Kind::Aaaa => self.prepare_addresses(catalog, service, Type::AAAA, AAAA_OCTETS)?,
            Kind::Srv => self.prepare_servers(catalog, service)?,
        };
        Some([&u16::try_from(size).ok()?.to_be_bytes(), &octets[..]].concat())
    }

    fn prepare_addresses(&self, catalog: &Catalog, service: &Service, qtype: Type, record: usize) -> Option<(usize, Vec<u8>)> {
        let settings = &*self.settings;
        let place = Place::default();
        let wanted = Wanted { service: &service.key, tag: None, form: Form::Service, place: &place };
        let present = Presence::of(catalog, wanted, &settings.datacenter, settings.dns_config.only_passing);
        let Presence::Present(candidates) = present else { return None };
        let mut addresses: Vec<(IpAddr, u16)> = Vec::with_capacity(candidates.len());
        for candidate in &candidates {
            match Spot::of(candidate, &Name::root(), qtype, settings)? {
                Spot::Node(address) | Spot::Address(address) if records::suits(address, qtype, settings) => {
                    // Two instances at one address are drawn as two; the general way knows how. So does it what comes last.
                    if candidate.weight() == 0 || addresses.iter().any(|(other, _)| *other == address) {
                        return None;
                    }
                    addresses.push((address, candidate.weight()));
                }
                Spot::Node(_) | Spot::Address(_) => {}
                Spot::Host(_) => return None,
            }
        }
        if addresses.len() > RECORDS_MAX {
            return None;
        }
        let even = addresses.iter().all(|(_, weight)| addresses.first().is_some_and(|(_, first)| first == weight));
        let soa = || self.plain.soa.as_ref().map(|soa| soa.octets.len());
        let size = if addresses.is_empty() { soa()? } else { addresses.len() * record };
        let mut octets = vec![u8::from(even)];
        octets.extend(settings.service_ttl(&service.key).to_be_bytes());
        for (address, weight) in addresses {
            octets.extend(weight.to_be_bytes());
            match address {
                IpAddr::V4(v4) => octets.extend(v4.octets()),
                IpAddr::V6(v6) => octets.extend(v6.octets()),
            }
        }
        Some((size, octets))
    }

    /// Takes apart what the general way says.
    fn prepare_servers(&self, catalog: &Catalog, service: &Service) -> Option<(usize, Vec<u8>)> {
        let name = self.settings.domain.to_lowercase().prefixed([service.key.as_bytes(), &b"service"[..]])?;
        let query = Query::of(Question { name, qtype: Type::SRV, qclass: Class::IN });
        let client = Client { address: [127, 0, 0, 1].into(), room: Room::Stream };
        let Step::Reply(message) = self.answer(catalog, &query, client, &mut Rng::with_seed(0), 0) else { return None };
        if message.rcode != Rcode::NOERROR || message.answers.is_empty() || message.answers.len() > RECORDS_MAX {
            return None;
        }
        let mut glue: Vec<Option<&Record>> = message.additionals.iter().map(Some).collect();
        let (mut size, mut octets) = (0, vec![message.answers.len() as u8]);
        for record in &message.answers {
            let RData::Srv(srv) = &record.data else { return None };
            let of_target = |place: &&mut Option<&Record>| {
                place.is_some_and(|glue| glue.owner == srv.target && [Type::A, Type::AAAA].contains(&glue.record_type()))
            };
            let glue = glue.iter_mut().find(of_target).and_then(Option::take);
            let target = srv.target.to_lowercase();
            let mut answer = pointer(Message::HEADER).to_vec();
            answer.extend([0, Type::SRV.0 as u8, 0, 1]);
            answer.extend(record.ttl.to_be_bytes());
            answer.extend(u16::try_from(6 + target.wire().len()).ok()?.to_be_bytes());
            answer.extend([srv.priority, srv.weight, srv.port].iter().flat_map(|number| number.to_be_bytes()));
            answer.extend(target.wire());
            let glue = glue.map(Record::uncompressed).unwrap_or_default();
            let glue = glue.get(target.wire().len()..).unwrap_or_default();
            octets.extend([u8::try_from(target.wire().len()).ok()?, u8::try_from(glue.len()).ok()?]);
            octets.extend(u16::try_from(answer.len()).ok()?.to_be_bytes());
            // The owner of an address is a pointer to the target.
            size += answer.len() + if glue.is_empty() { 0 } else { 2 + glue.len() };
            octets.extend(answer);
            octets.extend(glue);
        }
        // What is left says something of nodes.
        let rest: Vec<&Record> = glue.into_iter().flatten().collect();
        octets.push(u8::try_from(rest.len()).ok().filter(|rest| usize::from(*rest) < RECORDS_MAX)?);
        for record in rest.into_iter().map(Record::uncompressed) {
            size += record.len();
            octets.extend(record);
        }
        Some((size, octets))
    }
}

/// How many records each section got.
struct Counts {
    answers: u8,
    authorities: u8,
    additionals: u8,
}

/// Address records in a fresh order; `prepared` is made by [`Discovery::prepare_addresses`].
fn addresses<const SIZE: usize>(prepared: &[u8], qtype: Type, rng: &mut Rng, out: &mut Vec<u8>) -> Option<Counts> {
    let (&[even, ttl @ ..], rest) = prepared.split_first_chunk::<5>()?;
    let entry = 2 + SIZE;
    let count = rest.len() / entry;
    let weight = |at: u8| {
        let weight = rest.get(usize::from(at) * entry..).and_then(|entry| entry.first_chunk());
        u32::from(weight.map_or(0, |weight| u16::from_be_bytes(*weight)))
    };
    let mut order: [u8; RECORDS_MAX] = std::array::from_fn(|at| at as u8);
    let mut left: u32 = if even == 1 { 0 } else { order.get(..count)?.iter().map(|at| weight(*at)).sum() };
    // Fisher and Yates, drawing as it copies; by weight, each place is drawn among those that are left (RFC 2782).
    for place in 0..count {
        let drawn = if even == 1 {
            place + rng.usize(..count - place)
        } else {
            let mut at = rng.u32(..left);
            let mut drawn = place;
            while let Some(next) = at.checked_sub(weight(*order.get(drawn)?)) {
                (at, drawn) = (next, drawn + 1);
            }
            left -= weight(*order.get(drawn)?);
            drawn
        };
        order.swap(place, drawn);
        let at = usize::from(*order.get(place)?) * entry + 2;
        // The owner is the question's name, at the header's end (RFC 1035, 4.1.4).
        let [owner_high, owner_low] = pointer(Message::HEADER);
        let [ttl_1, ttl_2, ttl_3, ttl_4] = ttl;
        out.extend([owner_high, owner_low, 0, qtype.0 as u8, 0, 1, ttl_1, ttl_2, ttl_3, ttl_4, 0, SIZE as u8]);
        out.extend_from_slice(rest.get(at..at + SIZE)?);
    }
    Some(Counts { answers: count as u8, authorities: 0, additionals: 0 })
}

/// SRV records in a fresh order, then the addresses of their targets; `prepared` is made by
/// [`Discovery::prepare_servers`], and the message begins at `start`.
fn servers(prepared: &[u8], start: usize, rng: &mut Rng, out: &mut Vec<u8>) -> Option<Counts> {
    /// An answer, and its target's address records without their owner.
    #[derive(Clone, Copy, Default)]
    struct Piece<'p> {
        answer: &'p [u8],
        target: usize,
        glue: &'p [u8],
        written: usize,
    }
    let (&count, mut rest) = prepared.split_first()?;
    let count = usize::from(count);
    let mut pieces = [Piece::default(); RECORDS_MAX];
    let pieces = pieces.get_mut(..count)?;
    for piece in &mut *pieces {
        let ([target, glue, high, low], after) = rest.split_first_chunk::<4>()?;
        let (answer, after) = after.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
        let (glue, after) = after.split_at_checked(usize::from(*glue))?;
        *piece = Piece { answer, target: usize::from(*target), glue, written: 0 };
        rest = after;
    }
    order::shuffle(pieces, rng);
    for piece in &mut *pieces {
        out.extend_from_slice(piece.answer);
        piece.written = out.len() - start - piece.target;
    }
    let mut additionals = 0;
    for piece in pieces.iter().filter(|piece| !piece.glue.is_empty()) {
        if piece.written > POINTER_MAX {
            return None;
        }
        out.extend(pointer(piece.written));
        out.extend_from_slice(piece.glue);
        additionals += 1;
    }
    let (more, rest) = rest.split_first()?;
    out.extend_from_slice(rest);
    Some(Counts { answers: count as u8, authorities: 0, additionals: additionals + more })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Change, Check, Health, Index, Instance, Node, Origin, SourceId, Weights};
    use crate::dns::{Edns, Flags, Opcode};

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
            tags: Default::default(),
            address: address.into(),
            port: 80,
            weights: Weights { passing: weight, warning: weight },
            enable_tag_override: false,
            extra: None,
            origin: Origin::Catalog,
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
            service_tags: Default::default(),
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
        for section in [&mut message.answers, &mut message.additionals] {
            section.sort_by_key(|record: &Record| format!("{record:?}"));
        }
        message
    }

    /// Both ways on one question; says whether the short one answered.
    fn compare(discovery: &Discovery, catalog: &Catalog, query: &Query, rng: &mut Rng) -> bool {
        let (octets, mut out) = (query.compose(), Vec::new());
        let plain = PlainQuery::parse(&octets).unwrap();
        let at_once = discovery.answer_at_once(catalog, &plain, Room::Datagram, rng, 1, &mut out);
        let client = Client { address: [127, 0, 0, 1].into(), room: Room::Datagram };
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
                let names = [
                    "web.service.consul",
                    "WeB.Service.dc1.CONSUL",
                    "_Web._tcp.service.consul",
                    "_web._http.service.consul",
                    "web.service.dc2.consul",
                    "no.service.consul",
                ];
                let qtype = [Type::A, Type::AAAA, Type::SRV][rng.usize(..3)];
                let query = query(names[rng.usize(..6)], qtype, edns);
                if compare(&discovery, &catalog, &query, &mut rng) { short += 1 } else { long += 1 }
            }
        }
        assert!(short > 300 && long > 300, "{short} at once, {long} in general");
    }

    #[test]
    fn what_does_not_fit_is_left_to_the_general_way() {
        let discovery = Discovery::new(Settings::default());
        let mut rng = Rng::with_seed(4);
        for (name, qtype, count) in [
            ("web.service.consul", Type::A, 50),
            ("web.service.dc1.consul", Type::AAAA, 30),
            ("_web._tcp.service.consul", Type::SRV, 10),
        ] {
            let mut catalog = apply(&Catalog::default(), node("n1", "10.0.0.1", "dc1"));
            for id in 0..count {
                let address = if qtype == Type::AAAA { format!("2001:db8::{id}") } else { format!("10.1.1.{id}") };
                catalog = apply(&catalog, instance("n1", id, &address, 1));
            }
            let mut ask = |size| {
                let octets = query(name, qtype, Some(Edns::new(size))).compose();
                let (plain, mut out) = (PlainQuery::parse(&octets).unwrap(), Vec::new());
                let answered = discovery.answer_at_once(&catalog, &plain, Room::Datagram, &mut rng, 1, &mut out);
                assert!(answered || out.is_empty());
                answered.then_some(out.len())
            };
            let whole = ask(1232).unwrap();
            assert!((600..1200).contains(&whole), "{qtype}: {whole}");
            for size in 512..=1232 {
                assert_eq!(ask(size), (usize::from(size) >= whole).then_some(whole), "{qtype} in {size}");
            }
        }
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
            let plain = PlainQuery::parse(&octets).unwrap();
            assert!(discovery.answer_at_once(&catalog, &plain, Room::Datagram, &mut rng, 1, &mut out));
            let order = Message::parse(&out).unwrap().answers.iter().map(|record| format!("{:?}", record.data)).collect();
            *seen.entry(order).or_default() += 1.0;
        }
        let expected = ROUNDS / 6.0;
        let chi_square: f64 = seen.values().map(|count| (count - expected).powi(2) / expected).sum();
        // 5 degrees of freedom: above 20.5 in one of a thousand runs, and the seed is fixed.
        assert!(seen.len() == 6 && chi_square < 20.5, "{chi_square}: {seen:?}");
    }

    #[test]
    fn heavier_instances_come_first_more_often() {
        let mut catalog = apply(&Catalog::default(), node("n1", "10.0.0.1", "dc1"));
        for (id, weight) in [(0, 1), (1, 2), (2, 5)] {
            catalog = apply(&catalog, instance("n1", id, &format!("10.1.1.{id}"), weight));
        }
        let discovery = Discovery::new(Settings::default());
        let (octets, mut rng) = (query("web.service.consul", Type::A, None).compose(), Rng::with_seed(9));
        let plain = PlainQuery::parse(&octets).unwrap();
        let mut seen = std::collections::BTreeMap::<Vec<u8>, f64>::new();
        const ROUNDS: f64 = 16_000.0;
        for _ in 0..ROUNDS as usize {
            let mut out = Vec::new();
            assert!(discovery.answer_at_once(&catalog, &plain, Room::Datagram, &mut rng, 1, &mut out));
            let last = |record: &Record| if let RData::A(v4) = record.data { v4.octets()[3] } else { 9 };
            *seen.entry(Message::parse(&out).unwrap().answers.iter().map(last).collect()).or_default() += 1.0;
        }
        // Of three drawn by weight without putting back, the order (a, b, c) has the share a/8 * b/(8-a).
        let weights = [1.0, 2.0, 5.0];
        let share = |order: &[u8]| {
            let [a, b] = [order[0], order[1]].map(|id| weights[usize::from(id)]);
            a / 8.0 * b / (8.0 - a)
        };
        let chi_square: f64 =
            seen.iter().map(|(order, count)| (count - share(order) * ROUNDS).powi(2) / (share(order) * ROUNDS)).sum();
        assert!(seen.len() == 6 && chi_square < 20.5, "{chi_square}: {seen:?}");
    }
}
