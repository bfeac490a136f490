//! One question on its way through the catalog.

use std::collections::HashSet;
use std::net::IpAddr;

use fastrand::Rng;

use super::grammar::{Form, Lookup, Place};
use super::presence::{Candidate, Presence, Wanted};
use super::records::{self, InstanceAddress, Spot};
use super::{Client, Learned, Settings, order, reverse, trim, zone};
use crate::catalog::{Catalog, NodeEntry, NodeKey, SourceId};
use crate::dns::{
    Class, ClientSubnet, Edns, ExtendedError, Message, Name, Opcode, Query, Question, RData, Rcode, Record, Type,
};
use crate::limits;
use crate::resolve::Room;
use crate::resolve::open_alias;
use crate::resolve::passing::{NO_DATA_TYPE, OTHER_CLASS, OTHER_VERSION};

/// How many names below the domain an alias may lead through.
const ALIAS_DEPTH: u32 = 8;
/// Consul's bound for the same.
const CONSUL_ALIAS_DEPTH: u32 = 3;
/// Consul gives a client without EDNS no more records than this of where an alias leads.
const CONSUL_ALIAS_RECORDS: usize = 5;

/// A question, and all that its answer depends on.
pub(super) struct Asking<'a> {
    pub(super) settings: &'a Settings,
    pub(super) catalog: &'a Catalog,
    pub(super) query: &'a Query,
    pub(super) client: Client,
    pub(super) rng: Rng,
    pub(super) now: u64,
    /// What upstream said so far about names outside the domain.
    pub(super) learned: &'a [Learned],
    /// The first name outside the domain of which nothing is known yet.
    pub(super) missing: Option<Question>,
}

/// What a look-up found.
#[derive(Debug, Default)]
struct Found {
    verdict: Verdict,
    answers: Vec<Record>,
    additionals: Vec<Record>,
    /// For the extended error, when there is nothing to give.
    reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Verdict {
    /// Records, or in Consul's way of NODATA an empty answer without a SOA record.
    #[default]
    Found,
    /// The name exists and has no such records: NOERROR with a SOA record (RFC 2308, 2.2).
    NoData,
    /// NXDOMAIN, with a SOA record.
    NoName,
    /// SERVFAIL.
    Failure,
}

impl Verdict {
    fn alone(self) -> Found {
        Found { verdict: self, ..Found::default() }
    }
}

impl Found {
    fn answers(answers: Vec<Record>) -> Self {
        Self { answers, ..Self::default() }
    }
}

impl<'a> Asking<'a> {
    /// The answer; `None` when the question is to be forwarded.
    pub(super) fn reply(&mut self) -> Option<Message> {
        let Question { name, qtype, qclass } = &self.query.question;
        let (name, qtype) = (name.clone(), *qtype);
        let consul = self.settings.is_consul();
        let ours = self.domain_of(&name);
        if !consul {
            if self.query.edns.as_ref().is_some_and(|edns| edns.version > 0) {
                return Some(self.turned_away(Rcode::BADVERS, OTHER_VERSION));
            }
            if self.query.opcode != Opcode::QUERY {
                return Some(self.turned_away(Rcode::NOTIMP, (ExtendedError::NotSupported, Query::ONLY)));
            }
            if ours.is_some() {
                if *qclass != Class::IN {
                    return Some(self.turned_away(Rcode::REFUSED, OTHER_CLASS));
                }
                if matches!(qtype, Type::OPT | Type::TKEY | Type::TSIG | Type::IXFR | Type::AXFR) {
                    return Some(self.turned_away(Rcode::NOTIMP, NO_DATA_TYPE));
                }
            }
        }
        let Some((labels, domain)) = ours else {
            return if reverse::is_reverse(&name) { self.reverse(&name, qtype) } else { None };
        };
        let is_apex = labels.is_empty();
        let mut message = self.response(Rcode::NOERROR);
        let mut reason = None;
        match qtype {
            // The parent zone speaks about an apex's DS records (RFC 4035, 3.1.4.1); ours has no parent that knows it.
            Type::DS if consul && is_apex && domain.parent().is_none_or(|parent| self.domain_of(&parent).is_none()) => {
                return None;
            }
            Type::SOA if consul || is_apex => {
                let (servers, glue) = self.servers(&domain);
                message.answers.extend(self.soa(&name));
                (message.authorities, message.additionals) = (servers, glue);
            }
            Type::NS if consul || is_apex => (message.answers, message.additionals) = self.servers(&domain),
            Type::AXFR => message.rcode = Rcode::NOTIMP,
            _ => {
                let depth = if consul { CONSUL_ALIAS_DEPTH } else { ALIAS_DEPTH };
                let found = self.look_up(&name, qtype, depth, self.query.edns.is_some());
                message.rcode = match found.verdict {
                    Verdict::Found | Verdict::NoData => Rcode::NOERROR,
                    Verdict::NoName => Rcode::NXDOMAIN,
                    Verdict::Failure => Rcode::SERVFAIL,
                };
                if matches!(found.verdict, Verdict::NoData | Verdict::NoName) {
                    message.authorities.extend(self.soa(&name));
                }
                (message.answers, message.additionals) = (found.answers, found.additionals);
                reason = found.reason;
                if !consul {
                    self.close(&mut message, qtype);
                }
            }
        }
        Some(self.finish(message, reason))
    }

    /// An alias that ends in the domain without what was asked for is a negative answer (RFC 2308, 2) and has the RCODE of
    /// its end (RFC 6604, 3).
    fn close(&mut self, message: &mut Message, qtype: Type) {
        let Some(end) = open_alias(message).filter(|end| self.domain_of(end).is_some()) else { return };
        match self.look_up(&end, qtype, 0, false).verdict {
            Verdict::NoName => message.rcode = Rcode::NXDOMAIN,
            Verdict::NoData => {}
            Verdict::Found | Verdict::Failure => return,
        }
        message.authorities.extend(self.soa(&end));
    }

    /// An empty response with the header's bits set.
    fn response(&self, rcode: Rcode) -> Message {
        let mut message = self.query.response(rcode);
        message.flags.authoritative = rcode != Rcode::REFUSED && rcode != Rcode::BADVERS;
        message.flags.recursion_available = self.settings.recursors;
        if self.query.opcode != Opcode::QUERY {
            message.flags.recursion_desired = false;
            message.flags.checking_disabled = false;
        }
        message
    }

    /// What we do not answer at all, and why.
    fn turned_away(&self, rcode: Rcode, (code, text): (ExtendedError, &str)) -> Message {
        let mut message = self.finish(self.response(rcode), None);
        message.give_reason(code, text);
        message
    }

    /// Adds OPT where the query had it, and cuts the message to what the client takes.
    fn finish(&self, mut message: Message, reason: Option<String>) -> Message {
        let consul = self.settings.is_consul();
        message.edns = self.query.edns.as_ref().map(|theirs| self.edns(theirs, reason));
        let config = &self.settings.dns_config;
        let compress = !config.disable_compression;
        let client_size = self.query.payload_size();
        if consul {
            let limits = trim::ConsulLimits {
                room: self.client.room,
                client_size,
                udp_answer_limit: config.udp_answer_limit.unwrap_or(3).into(),
                compress,
            };
            message.flags.truncated = trim::trim_as_consul(&mut message, limits) && config.enable_truncate;
            return message;
        }
        dedupe(&mut message);
        let room = self.client.room.octets(client_size);
        let limit = config.udp_answer_limit.map_or(usize::MAX, usize::from);
        if room == Room::DATAGRAM_MIN && message.answers.len() > limit {
            message.answers.truncate(limit);
            message.flags.truncated = true;
        }
        trim::fit(&mut message, room, compress);
        message
    }

    fn edns(&self, theirs: &Edns, reason: Option<String>) -> Edns {
        let mut ours = Edns::new(theirs.udp_size);
        // The answer is the same for every client (RFC 7871, 7.2.1): scope 0.
        let subnet = theirs.client_subnet().map(|subnet| ClientSubnet { scope_prefix: 0, ..subnet }.to_option());
        ours.options.extend(subnet);
        if !self.settings.is_consul() {
            ours.udp_size = limits::UDP_PAYLOAD;
            // RFC 3225, 3: copied, whatever it means to us.
            ours.dnssec_ok = theirs.dnssec_ok;
            ours.options.extend(reason.map(|reason| ExtendedError::Other.to_option(&reason)));
        }
        ours
    }

    /// A reverse look-up; `None` when it is to be forwarded.
    fn reverse(&self, name: &Name, qtype: Type) -> Option<Message> {
        let consul = self.settings.is_consul();
        let asks = consul || self.query.question.qclass == Class::IN && matches!(qtype, Type::PTR | Type::ANY);
        let target = if asks { reverse::look_up(self.catalog, name, self.settings) } else { None };
        let mut message = self.response(Rcode::NOERROR);
        let soa = || zone::soa(self.settings.domain.to_lowercase(), self.now, self.settings);
        if consul && qtype == Type::SOA {
            message.authorities.extend(soa());
        }
        match target {
            Some(target) => message.answers.push(Record::new(name.clone(), 0, RData::Ptr(target))),
            None if self.settings.recursors || !consul => return None,
            None => {
                message.rcode = Rcode::NXDOMAIN;
                message.authorities.extend(soa());
            }
        }
        message.edns = self.query.edns.as_ref().map(|theirs| self.edns(theirs, None));
        Some(message)
    }

    /// Looks up a name in the domain.
    fn look_up(&mut self, name: &Name, qtype: Type, depth: u32, has_edns: bool) -> Found {
        let consul = self.settings.is_consul();
        let Some((labels, domain)) = self.domain_of(name) else { return Verdict::NoName.alone() };
        let about = About { name, domain: &domain, qtype, depth, has_edns };
        // Consul writes the names that stand for addresses in lower case.
        let literal_owner = || match consul {
            true => domain
                .prefixed(labels.iter().map(|label| label.to_ascii_lowercase()).collect::<Vec<_>>().iter().map(Vec::as_slice)),
            false => Some(name.clone()),
        };
        match Lookup::parse(&labels, qtype) {
            Lookup::Apex if !consul => Verdict::NoData.alone(),
            Lookup::NameServer if !consul => self.name_server(&about),
            // A name that others stand below exists (RFC 8020), though it has no records.
            Lookup::Branch(place) if !consul && self.exists(&place) => Verdict::NoData.alone(),
            Lookup::Apex | Lookup::NameServer | Lookup::Branch(_) | Lookup::Nothing => Verdict::NoName.alone(),
            // There are no prepared queries yet, so none is known by any name.
            Lookup::Query => Verdict::NoName.alone(),
            Lookup::Address(address) => self.literal(literal_owner(), address, qtype),
            Lookup::Virtual { name: service, peer } => match self.virtual_address(&service, peer.as_deref()) {
                Some(address) => self.literal(literal_owner(), address, qtype),
                None if consul => Found::default(),
                None => Verdict::NoName.alone(),
            },
            Lookup::Node { name: node, place } => self.node(&about, &node, &place),
            Lookup::Service { name: service, .. } if service.is_empty() => match consul {
                true => Verdict::Failure.alone(),
                false => Verdict::NoName.alone(),
            },
            Lookup::Service { name: service, tag, form, mut place } => {
                // Consul looks at home whatever peer these forms name.
                if consul && form != Form::Service {
                    place.peer = None;
                }
                let wanted = Wanted { service: &service, tag: tag.as_deref(), form, place: &place };
                self.service(&about, wanted)
            }
        }
    }

    fn service(&mut self, about: &About<'_>, wanted: Wanted<'_>) -> Found {
        let settings = self.settings;
        let presence = Presence::of(self.catalog, wanted, &settings.datacenter, settings.dns_config.only_passing);
        let mut candidates = match presence {
            Presence::Present(candidates) => candidates,
            // `_tcp.service` stands above `_web._tcp.service`.
            Presence::Unknown
                if !settings.is_consul()
                    && wanted.tag.is_none()
                    && wanted.service.starts_with('_')
                    && wanted.form == Form::Service =>
            {
                return Verdict::NoData.alone();
            }
            Presence::Unknown => return Verdict::NoName.alone(),
            Presence::Unhealthy { registered } => {
                let reason = Some(format!("no healthy instance among {registered} registered"));
                return Found { reason, ..Verdict::NoName.alone() };
            }
        };
        let ttl = settings.service_ttl(wanted.service);
        let found = if about.qtype == Type::SRV {
            let port_name = wanted.place.port.as_deref();
            candidates.retain(|candidate| records::port(candidate, port_name, settings).is_some());
            if candidates.is_empty() {
                return Verdict::NoName.alone();
            }
            order::shuffle(&mut candidates, &mut self.rng);
            self.srv_records(about, &candidates, port_name, ttl)
        } else {
            match settings.is_consul() {
                true => order::shuffle(&mut candidates, &mut self.rng),
                false => order::weighted_shuffle(&mut candidates, &mut self.rng, Candidate::weight),
            }
            Found::answers(self.address_records(about, &candidates, ttl))
        };
        if found.answers.is_empty() { Verdict::NoData.alone() } else { found }
    }

    /// One record for each distinct address of the family; else, when all instances are hosts outside, an alias to one.
    fn address_records(&mut self, about: &About<'_>, candidates: &[Candidate<'_>], ttl: u32) -> Vec<Record> {
        let settings = self.settings;
        let limit = settings.dns_config.a_record_limit as usize;
        let mut host = None;
        let mut has_address = false;
        let mut seen: HashSet<IpAddr> = HashSet::new();
        let mut answers = Vec::new();
        for candidate in candidates {
            match Spot::of(candidate, about.name, about.qtype, settings) {
                Some(Spot::Node(address) | Spot::Address(address)) => {
                    has_address = true;
                    if records::suits(address, about.qtype, settings) && seen.insert(address) {
                        answers.push(Record::address(about.name.clone(), ttl, address));
                        if answers.len() == limit {
                            break;
                        }
                    }
                }
                Some(Spot::Host(name)) if host.is_none() => host = name.parse::<Name>().ok(),
                Some(Spot::Host(_)) | None => {}
            }
        }
        // An alias stands beside no other data (RFC 2181, 10.1); Consul asks only whether this answer has any.
        let alias_allowed = if settings.is_consul() { answers.is_empty() } else { !has_address };
        if let Some(target) = host.filter(|_| alias_allowed) {
            answers.push(Record::new(about.name.clone(), ttl, RData::Cname(target.clone())));
            if settings.is_consul() || about.qtype != Type::CNAME {
                answers.extend(self.follow_for_service(about, &target, ttl));
            }
        }
        answers
    }

    fn srv_records(&mut self, about: &About<'_>, candidates: &[Candidate<'_>], port_name: Option<&str>, ttl: u32) -> Found {
        let settings = self.settings;
        let mut found = Found::default();
        let mut seen = HashSet::new();
        for candidate in candidates {
            let Some(port) = records::port(candidate, port_name, settings) else { continue };
            let own = InstanceAddress::of(candidate, Type::SRV, settings);
            if !seen.insert((&*candidate.node.name, own, port)) {
                continue;
            }
            let node = &candidate.node.node;
            let (target, glue) = match Spot::of(candidate, about.name, Type::SRV, settings) {
                Some(Spot::Node(address)) => (records::node_name(node, about.domain, settings), Some(address)),
                Some(Spot::Address(address)) => (records::address_name(address, node, about.domain, settings), Some(address)),
                Some(Spot::Host(name)) => (name.parse().ok(), None),
                None => continue,
            };
            let Some(target) = target else { continue };
            found.answers.push(records::srv(about.name.clone(), ttl, candidate.weight(), port, target.clone()));
            match glue {
                Some(address) => found.additionals.push(Record::address(target, ttl, address)),
                None => {
                    let followed = self.follow_for_service(about, &target, ttl);
                    found.additionals.extend(followed);
                }
            }
            if settings.dns_config.enable_additional_node_meta_txt
                && let Some(owner) = records::node_name(node, about.domain, settings)
            {
                found.additionals.extend(records::meta_txt(candidate.node, &owner, ttl));
            }
        }
        found
    }

    fn node(&mut self, about: &About<'_>, node: &str, place: &Place) -> Found {
        let settings = self.settings;
        let consul = settings.is_consul();
        let of_interest = matches!(about.qtype, Type::A | Type::AAAA | Type::ANY | Type::TXT);
        if consul && !of_interest {
            return Found::default();
        }
        let Some(node) = self.find_node(node, place) else { return Verdict::NoName.alone() };
        let ttl = settings.node_ttl();
        let mut found = Found::default();
        let address = records::node_address(node, about.qtype, settings);
        match records::ip(address) {
            _ if consul && about.qtype == Type::TXT => {}
            Some(address) if records::suits(address, about.qtype, settings) && about.qtype != Type::SRV => {
                found.answers.push(Record::address(about.name.clone(), ttl, address));
            }
            Some(_) => {}
            None if !consul && about.qtype == Type::TXT && node.meta.iter().flatten().next().is_some() => {}
            None => {
                if let Ok(target) = address.parse::<Name>()
                    && !target.is_root()
                {
                    found.answers.push(Record::new(about.name.clone(), ttl, RData::Cname(target.clone())));
                    if consul || about.qtype != Type::CNAME {
                        found.answers.extend(self.follow(about, &target));
                    }
                }
            }
        }
        match about.qtype {
            Type::TXT | Type::ANY => found.answers.extend(records::meta_txt(node, about.name, ttl)),
            Type::A | Type::AAAA if settings.dns_config.enable_additional_node_meta_txt => {
                found.additionals.extend(records::meta_txt(node, about.name, ttl));
            }
            _ => {}
        }
        if !consul && found.answers.is_empty() {
            return Verdict::NoData.alone();
        }
        found
    }

    /// A name that stands for an address by itself.
    fn literal(&self, owner: Option<Name>, address: IpAddr, qtype: Type) -> Found {
        let Some(owner) = owner else { return Verdict::NoName.alone() };
        let record = Record::address(owner, self.settings.node_ttl(), address);
        if qtype == Type::ANY || qtype == record.record_type() {
            return Found::answers(vec![record]);
        }
        match self.settings.is_consul() {
            true => Found { additionals: vec![record], ..Found::default() },
            false => Verdict::NoData.alone(),
        }
    }

    /// The address that the mesh gave a service, the same for all its instances.
    fn virtual_address(&self, service: &str, peer: Option<&str>) -> Option<IpAddr> {
        if peer.is_some() {
            return None;
        }
        let mut addresses = self.catalog.mesh_instances(service).filter_map(|instance| {
            let node = self.catalog.node_of(instance)?;
            let local = node.datacenter.eq_ignore_ascii_case(&self.settings.datacenter);
            let tagged = instance.extra().tagged_addresses.as_ref()?.get("consul-virtual")?;
            records::ip(&tagged.address).filter(|_| local)
        });
        addresses.next()
    }

    /// `ns.<domain>`, which the SOA record promises: the addresses of all name servers.
    fn name_server(&mut self, about: &About<'_>) -> Found {
        let settings = self.settings;
        if !matches!(about.qtype, Type::A | Type::AAAA | Type::ANY) {
            return Verdict::NoData.alone();
        }
        let servers = zone::servers(self.catalog, about.domain, settings, &mut self.rng);
        let mut nodes: Vec<&NodeEntry> = servers.into_iter().map(|(_, server)| server.node).collect();
        if nodes.is_empty() {
            nodes.extend(self.catalog.node(&settings.node_name));
        }
        let addresses = nodes.into_iter().filter_map(|node| records::ip(records::node_address(node, about.qtype, settings)));
        let suiting = addresses.filter(|address| records::suits(*address, about.qtype, settings));
        let answers: Vec<_> =
            suiting.map(|address| Record::address(about.name.clone(), settings.node_ttl(), address)).collect();
        if answers.is_empty() { Verdict::NoData.alone() } else { Found::answers(answers) }
    }

    /// NS records, and the addresses of the servers they name.
    fn servers(&mut self, domain: &Name) -> (Vec<Record>, Vec<Record>) {
        let settings = self.settings;
        let servers = zone::servers(self.catalog, domain, settings, &mut self.rng);
        let ns = |name: &Name| Record::new(domain.clone(), settings.node_ttl(), RData::Ns(name.clone()));
        let names = servers.iter().map(|(name, _)| ns(name)).collect();
        let glue = servers.iter().filter_map(|(name, server)| zone::glue(name, server, Type::ANY, settings)).collect();
        (names, glue)
    }

    fn soa(&self, name: &Name) -> Option<Record> {
        zone::soa(zone::of(name, self.settings), self.now, self.settings)
    }

    /// Where an alias of a service leads: aliases and addresses, with the service's TTL where Consul does so.
    fn follow_for_service(&mut self, about: &About<'_>, target: &Name, ttl: u32) -> Vec<Record> {
        let consul = self.settings.is_consul();
        let mut records = self.follow(about, target);
        records.retain(|record| {
            let kept = matches!(record.record_type(), Type::CNAME | Type::A | Type::AAAA);
            kept || !consul && record.record_type() == about.qtype
        });
        if consul {
            if !about.has_edns {
                records.truncate(CONSUL_ALIAS_RECORDS);
            }
            for record in &mut records {
                record.ttl = ttl;
            }
        }
        records
    }

    /// Where an alias leads: below the domain by another look-up, outside it by what upstream says.
    fn follow(&mut self, about: &About<'_>, target: &Name) -> Vec<Record> {
        let consul = self.settings.is_consul();
        if let Some((labels, _)) = self.domain_of(target) {
            let qtype = if consul || about.qtype == Type::SRV { Type::ANY } else { about.qtype };
            return match about.depth.checked_sub(1) {
                Some(depth) if !labels.is_empty() => self.look_up(target, qtype, depth, false).answers,
                _ => Vec::new(),
            };
        }
        if !self.settings.recursors {
            return Vec::new();
        }
        let qtype = if consul || matches!(about.qtype, Type::SRV | Type::ANY) { Type::A } else { about.qtype };
        let question = Question { name: target.clone(), qtype, qclass: Class::IN };
        if let Some(learned) = self.learned.iter().find(|learned| learned.question == question) {
            return learned.records.clone();
        }
        if self.learned.len() < limits::CHASES_MAX {
            self.missing.get_or_insert(question);
        }
        Vec::new()
    }

    /// The node of that name in that place; several sources may tell of the same name.
    fn find_node(&self, name: &str, place: &Place) -> Option<&'a NodeEntry> {
        if place.peer.is_some() {
            return None;
        }
        let datacenter = place.datacenter.as_deref().unwrap_or(&self.settings.datacenter);
        let first = NodeKey::new(SourceId(0), name);
        let named = self.catalog.nodes().range(first.clone()..).take_while(|(key, _)| key.name == first.name);
        named.map(|(_, node)| node).find(|node| node.datacenter.eq_ignore_ascii_case(datacenter))
    }

    fn exists(&self, place: &Place) -> bool {
        let known = |datacenter: &str| {
            datacenter.eq_ignore_ascii_case(&self.settings.datacenter) || self.catalog.datacenters().contains_key(datacenter)
        };
        place.peer.is_none() && place.datacenter.as_deref().is_none_or(known)
    }

    /// The labels left of the discovery domain that a name lies in, and that domain as the name spells it.
    fn domain_of<'n>(&self, name: &'n Name) -> Option<(Vec<&'n [u8]>, Name)> {
        super::domain_of(self.settings, name)
    }
}

/// A look-up's question, which is not always the client's.
struct About<'q> {
    name: &'q Name,
    /// The domain it lies in, as the name spells it: targets are named below it.
    domain: &'q Name,
    qtype: Type,
    /// How many more aliases may be followed.
    depth: u32,
    has_edns: bool,
}

/// Leaves of equal records the first (RFC 2181, 5).
fn dedupe(message: &mut Message) {
    for section in [&mut message.answers, &mut message.additionals] {
        let mut seen = HashSet::new();
        let first: Vec<bool> = section.iter().map(|record| seen.insert((&record.owner, &record.data))).collect();
        let mut first = first.into_iter();
        section.retain(|_| first.next().unwrap_or(true));
    }
}
