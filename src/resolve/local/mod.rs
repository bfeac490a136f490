//! What is known without asking anybody? Hosts files, the leases of a DHCP server, the configuration's `[[record]]` entries,
//! and the names that the standards keep on the host.
//!
//! Not here: zone files (`zone`), the discovery domain, anything that changes while the program runs. A [`Local`] is
//! built once and never changes; when a file has changed, [`Local::reload`] builds another.
//!
//! Two questions, asked at two places of the route, because what a person wrote wins over what a standard says:
//! [`Local::answer`] comes first of all, [`Local::special`] after zones, discovery and configured routes, before anything
//! goes to a default upstream. Neither is asked with `compat = "consul"`, which forwards both kinds.

mod hosts;
mod leases;
mod sources;
mod special;

pub(super) use self::sources::files;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use self::leases::Lease;
use self::sources::Source;
use super::domains;
use super::passing::{OTHER_CLASS, ROUND, own_edns};
use super::presentation::{DataError, read_data};
use super::rotation;
use super::route::Here;
use crate::dns::{Class, ExtendedError, Message, Name, Query, RData, Rcode, Record, Soa, Type};
use crate::limits::ALIASES_MAX;
use crate::problem::Problem;

/// Seconds that an address of a hosts file may be remembered, and a "no such name" of local data: short, for an edited
/// file should soon be seen.
const TTL: u32 = 60;
/// Seconds that a lease may be remembered at most: its machine moves on, or comes back elsewhere.
const LEASE_TTL: u32 = 10;
/// Where a client of plain DNS looks for encrypted listeners. Others' answers to it lead past us, so that it is never
/// forwarded, by a route of its own neither (RFC 9462, 4.2 and 6.4).
const DESIGNATIONS: &str = "_dns.resolver.arpa";
/// Seconds that what stands there may be remembered.
const DESIGNATIONS_TTL: u32 = 300;

/// What the configuration says of local names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Files in the form of /etc/hosts. One that does not exist is a problem unless it is /etc/hosts itself.
    pub hosts: Vec<PathBuf>,
    /// Names of one label in hosts files have this domain too.
    pub hosts_domain: Option<Name>,
    /// Lease files of dnsmasq.
    pub leases: Vec<PathBuf>,
    /// The same for their names; that of hosts files when unset.
    pub leases_domain: Option<Name>,
    pub record: Vec<RecordConfig>,
    pub private_names: PrivateNames,
    /// Seconds that local data may be remembered, where it says nothing itself.
    #[serde(deserialize_with = "crate::duration::deserialize_seconds")]
    pub local_ttl: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hosts: vec![PathBuf::from(SYSTEM_HOSTS)],
            hosts_domain: None,
            leases: Vec::new(),
            leases_domain: None,
            record: Vec::new(),
            private_names: PrivateNames::default(),
            local_ttl: TTL,
        }
    }
}

impl Config {
    /// No data at all, not even this host's own names.
    pub fn none() -> Self {
        Self { hosts: Vec::new(), ..Self::default() }
    }
}

/// Where the system has its own.
const SYSTEM_HOSTS: &str = "/etc/hosts";

/// One `[[record]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordConfig {
    pub name: Name,
    #[serde(rename = "type")]
    pub record_type: String,
    /// As a zone file has it; names in it are absolute.
    pub value: String,
    /// Seconds; `local_ttl` when unset.
    #[serde(default, deserialize_with = "crate::duration::deserialize_seconds_if_any")]
    pub ttl: Option<u32>,
}

impl RecordConfig {
    /// The data, or what is wrong with it and what to do.
    pub fn data(&self) -> Result<RData, (String, Option<&'static str>)> {
        let read =
            self.record_type.parse().map_err(DataError::Type).and_then(|kind| read_data(kind, &self.value, &Name::root()));
        read.map_err(|error| (error.to_string(), error.hint()))
    }
}

/// What becomes of names that mean something only in one's own network, when nothing here knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrivateNames {
    /// They are forwarded: clouds, routers and companies answer them.
    #[default]
    Forward,
    /// They do not exist.
    Block,
    /// Names that lead from private addresses back to names do not exist; the others are forwarded.
    #[serde(rename = "block-reverse")]
    BlockReverse,
}

type Names = HashMap<Name, Vec<Datum>, foldhash::fast::RandomState>;

/// All exact local data.
#[derive(Debug, Default)]
pub struct Local {
    config: Config,
    hosts: Vec<Source>,
    leases: Vec<Source>,
    /// Of hosts files and records.
    names: Arc<Names>,
    /// Of leases, which come and go: what is above wins over them, type by type.
    leased: Names,
    /// When the next lease ends, in seconds since 1970.
    leased_until: Option<u64>,
    /// What [`Local::designate`] was told.
    designations: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Datum {
    ttl: u32,
    data: RData,
}

impl Local {
    /// Reads the files and the records. What is wrong is told, and the rest is there; of a file that cannot be read, what
    /// `former` had of it. `now` is in seconds since 1970.
    pub fn load(config: &Config, former: Option<&Self>, now: u64) -> (Self, Vec<Problem>) {
        let known = former.map_or((&[][..], &[][..]), |former| (&former.hosts, &former.leases));
        let (hosts, mut problems) = sources::read(&sources::HOSTS, &config.hosts, known.0, |_| true);
        let (leases, more) = sources::read(&sources::LEASES, &config.leases, known.1, |_| true);
        problems.extend(more);
        let mut local = Self { config: config.clone(), ..Self::default() };
        local.take_hosts(hosts, &mut problems);
        local.take_leases(leases, now, &mut problems);
        (local, problems)
    }

    /// The same as its files are now, when any of them has changed, or a lease has ended; what has not changed is not read
    /// again.
    pub fn reload(&self, now: u64) -> Option<(Self, Vec<Problem>)> {
        let (hosts, mut problems) = sources::read(&sources::HOSTS, &self.config.hosts, &self.hosts, Source::has_changed);
        let (leases, more) = sources::read(&sources::LEASES, &self.config.leases, &self.leases, Source::has_changed);
        problems.extend(more);
        let has_ended = self.leased_until.is_some_and(|until| until <= now);
        if hosts == self.hosts && leases == self.leases && !has_ended {
            return None;
        }
        let mut local = Self {
            config: self.config.clone(),
            hosts: self.hosts.clone(),
            leases: self.leases.clone(),
            names: self.names.clone(),
            designations: self.designations.clone(),
            ..Self::default()
        };
        if hosts != self.hosts {
            local.take_hosts(hosts, &mut problems);
            problems.extend(local.designate(&self.designations));
        }
        local.take_leases(leases, now, &mut problems);
        Some((local, problems))
    }

    /// When the next lease ends, if there is one that does, in seconds since 1970.
    pub fn leased_until(&self) -> Option<u64> {
        self.leased_until
    }

    /// Are hosts files and records what they were of this one?
    pub fn differs_in_leases_alone(&self, former: &Self) -> bool {
        Arc::ptr_eq(&self.names, &former.names)
    }

    /// What it is made of: the files and folders of the configuration.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.config.hosts.iter().chain(&self.config.leases).map(PathBuf::as_path)
    }

    /// Knows what these hosts files and the records say. Of files that it has it was told already what is wrong.
    fn take_hosts(&mut self, files: Vec<Source>, problems: &mut Vec<Problem>) {
        self.names = Arc::default();
        self.add_localhost();
        for record in &self.config.clone().record {
            let problem = self.add_record(record).err();
            problems.extend(problem.filter(|_| self.hosts.is_empty()));
        }
        let known = std::mem::take(&mut self.hosts);
        let known = sources::by_path(&known);
        for file in &files {
            let told = problems.len();
            self.add_hosts(file, problems);
            if file.is_told_by(&known) {
                problems.truncate(told);
            }
        }
        self.hosts = files;
    }

    /// Knows the names of the leases of these files that have not ended; likewise.
    fn take_leases(&mut self, files: Vec<Source>, now: u64, problems: &mut Vec<Problem>) {
        (self.leased, self.leased_until) = Default::default();
        let known = std::mem::take(&mut self.leases);
        let known = sources::by_path(&known);
        for file in &files {
            let told = problems.len();
            for lease in leases::leases(&file.path, &file.text, problems) {
                if lease.until.is_none_or(|until| until > now) {
                    self.leased_until = self.leased_until.into_iter().chain(lease.until).min();
                    self.add_lease(lease);
                }
            }
            if file.is_told_by(&known) {
                problems.truncate(told);
            }
        }
        self.leases = files;
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.names.keys().chain(self.leased.keys())
    }

    /// What a name has, if it is here.
    fn data<'a>(&'a self, name: &Name) -> Option<impl Iterator<Item = &'a Datum> + Clone + use<'a>> {
        // Without leases the second one is not even hashed.
        let (fixed, leased) = (self.names.get(name), self.leased.get(name));
        (fixed.is_some() || leased.is_some()).then(|| fixed.into_iter().chain(leased).flatten())
    }

    /// Has these SVCB records, as a master file has their data, tell clients how else we can be asked (RFC 9462, 4).
    pub fn designate(&mut self, values: &[String]) -> Vec<Problem> {
        let Ok(name) = DESIGNATIONS.parse::<Name>() else { return Vec::new() };
        Arc::make_mut(&mut self.names).entry(name.clone()).or_default();
        self.designations = values.to_vec();
        let record = |value: &String| RecordConfig {
            name: name.clone(),
            record_type: "SVCB".into(),
            value: value.clone(),
            ttl: Some(DESIGNATIONS_TTL),
        };
        values.iter().filter_map(|value| self.add_record(&record(value)).err()).collect()
    }

    /// Is there any name in this domain?
    pub fn has_within(&self, domain: &Name) -> bool {
        self.names().any(|name| name.is_within(domain))
    }

    /// The answer to a question about a name that is here exactly. A known name without the wanted type is NODATA: what is
    /// local is never mixed with what others say of the same name.
    ///
    /// An alias is followed as far as local data goes; where it leads on, [`crate::resolve::open_alias`] says to what.
    pub fn answer(&self, query: &Query) -> Option<Message> {
        let question = &query.question;
        let mut data = self.data(&question.name)?;
        if let Some(refusal) = of_other_class(query) {
            return Some(refusal);
        }
        let mut message = respond(query, Rcode::NOERROR);
        let mut owner = question.name.clone();
        for _ in 0..=ALIASES_MAX {
            let wanted = |datum: &&Datum| question.qtype == Type::ANY || datum.data.record_type() == question.qtype;
            let before = message.answers.len();
            message.answers.extend(data.clone().filter(wanted).map(|datum| datum.to_record(&owner)));
            if message.answers.len() > before {
                rotation::turn(message.answers.get_mut(before..).unwrap_or_default());
                return Some(message);
            }
            let Some((alias, target)) = data.clone().find_map(|datum| match &datum.data {
                RData::Cname(target) => Some((datum.to_record(&owner), target.clone())),
                _ => None,
            }) else {
                // RFC 2308, 2.2: NODATA has the SOA; each local name is the apex of its own small zone.
                message.authorities.push(soa(owner, TTL));
                return Some(message);
            };
            message.answers.push(alias);
            let Some(next) = self.data(&target) else { return Some(message) };
            (owner, data) = (target, next);
        }
        let mut message = respond(query, Rcode::SERVFAIL);
        message.give_reason(ExtendedError::Other, ROUND);
        Some(message)
    }

    /// The answer to a question about a name that must not leave the host, or that was told not to.
    pub fn special(&self, query: &Query) -> Option<Message> {
        let (zone, meaning) = special::meaning(&query.question, self.config.private_names)?;
        if let Some(refusal) = of_other_class(query) {
            return Some(refusal);
        }
        let mut message = respond(query, Rcode::NOERROR);
        match meaning {
            special::Meaning::Loopback => {
                let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
                let records = loopback.map(|address| Record::address(query.question.name.clone(), TTL, address));
                let wanted = |record: &Record| [record.record_type(), Type::ANY].contains(&query.question.qtype);
                message.answers.extend(records.into_iter().filter(wanted));
            }
            special::Meaning::Empty => {}
            special::Meaning::Nothing(code, by) => {
                message.rcode = Rcode::NXDOMAIN;
                message.give_reason(code, format_args!("nobody is asked about names below {zone} ({by})"));
            }
        }
        if message.answers.is_empty() {
            message.authorities.push(soa(zone, TTL));
        }
        Some(message)
    }

    /// The answer that a route gives by itself. `exists` says whether a name of local data is below the one in question,
    /// which then exists too (RFC 8020).
    pub fn answer_here(&self, query: &Query, here: &Here, exists: bool) -> Message {
        if let Some(refusal) = of_other_class(query) {
            return refusal;
        }
        let mut message = respond(query, Rcode::NOERROR);
        match here {
            Here::Addresses(addresses) => {
                let records =
                    addresses.iter().map(|ip| Record::address(query.question.name.clone(), self.config.local_ttl, *ip));
                message.answers.extend(records);
            }
            Here::Nothing { domain, has_addresses } => {
                if !exists && !has_addresses {
                    message.rcode = Rcode::NXDOMAIN;
                    message.give_reason(ExtendedError::Other, format_args!("nobody is asked about names below {domain}"));
                }
                message.authorities.push(soa(domain.clone(), TTL));
            }
            Here::ShortName => {
                if !exists {
                    message.rcode = Rcode::NXDOMAIN;
                    message.give_reason(ExtendedError::Other, "nobody is asked about names of one label (domain_needed)");
                }
                message.authorities.push(soa(query.question.name.clone(), TTL));
            }
        }
        message
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.names.len() + self.leased.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn add_record(&mut self, record: &RecordConfig) -> Result<(), Problem> {
        let told =
            |problem: String| Problem::new(format!("[[record]] {}: {problem}; this record is not answered", record.name));
        if record.name.labels().next() == Some(b"*") {
            return Err(told("expected one exact name, got a wildcard".into())
                .hint("wildcards are for zone files: `*.apps A 192.0.2.1`"));
        }
        let ttl = record.ttl.unwrap_or(self.config.local_ttl);
        if ttl > i32::MAX.cast_unsigned() {
            return Err(told(format!("expected a ttl of at most 2147483647 seconds (RFC 2181, 8), got {ttl}")));
        }
        let data = record.data().map_err(|(error, hint)| {
            let problem = told(error);
            hint.map_or(problem.clone(), |hint| problem.hint(hint))
        })?;
        let is_alias = data.record_type() == Type::CNAME;
        let present = self.names.get(&record.name).map_or(&[][..], Vec::as_slice);
        let conflicts = present.iter().any(|datum| datum.data != data && (is_alias || datum.data.record_type() == Type::CNAME));
        if conflicts {
            return Err(told("a CNAME is the only record of its name (RFC 1034, 3.6.2), and this name has others".into()));
        }
        self.add(record.name.clone(), ttl, data);
        Ok(())
    }

    fn add_hosts(&mut self, file: &Source, problems: &mut Vec<Problem>) {
        let localhost = "localhost".parse::<Name>().ok();
        // `localhost` is said already, and an alias is the only record of its name: the configuration wins.
        let is_taken = |local: &Self, name: &Name| {
            Some(name) == localhost.as_ref() || local.names.get(name).is_some_and(|data| data.iter().any(Datum::is_alias))
        };
        let (ttl, domain) = (self.config.local_ttl, self.config.hosts_domain.clone());
        for mut entry in hosts::entries(&file.path, &file.text, problems) {
            // The long form stands first: it is what the address is called.
            let long = |name: &Name| domain.as_ref().filter(|_| name.label_count() == 1)?.prefixed(name.labels());
            entry.names = entry.names.into_iter().flat_map(|name| long(&name).into_iter().chain([name])).collect();
            let reverse = reverse_name(entry.address);
            if let (Some(first), Some(reverse)) = (entry.names.first(), reverse)
                // The first line that names an address says what it is called.
                && !self.names.contains_key(&reverse)
            {
                self.add(reverse, ttl, RData::Ptr(first.clone()));
            }
            for name in entry.names {
                if !is_taken(self, &name) {
                    self.add(name, ttl, entry.address.into());
                }
            }
        }
    }

    /// RFC 6761, 6.3: `localhost` is the loopback address in both families, whatever a hosts file has of it.
    fn add_localhost(&mut self) {
        let Ok(localhost) = "localhost.".parse::<Name>() else { return };
        for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            self.add(localhost.clone(), TTL, address.into());
            if let Some(reverse) = reverse_name(address) {
                self.add(reverse, TTL, RData::Ptr(localhost.clone()));
            }
        }
    }

    /// A name of one label has the domain too, and that is what the address is called. What hosts files and records say of the
    /// same name and type, or address, counts instead.
    fn add_lease(&mut self, lease: Lease) {
        let Lease { name, address, .. } = lease;
        let domain = self.config.leases_domain.as_ref().or(self.config.hosts_domain.as_ref());
        let long = domain.filter(|_| name.label_count() == 1).and_then(|domain| domain.prefixed(name.labels()));
        let ttl = self.config.local_ttl.min(LEASE_TTL);
        let called = long.as_ref().unwrap_or(&name).clone();
        if let Some(reverse) = reverse_name(address).filter(|reverse| self.data(reverse).is_none()) {
            add(&mut self.leased, reverse, ttl, RData::Ptr(called));
        }
        for name in long.into_iter().chain([name]) {
            let data = RData::from(address);
            let fixed = self.names.get(&name).into_iter().flatten();
            if !fixed.into_iter().any(|datum| datum.is_alias() || datum.data.record_type() == data.record_type()) {
                add(&mut self.leased, name, ttl, data);
            }
        }
    }

    fn add(&mut self, name: Name, ttl: u32, data: RData) {
        add(Arc::make_mut(&mut self.names), name, ttl, data);
    }
}

/// Adds a datum once, and keeps one TTL for each RRset (RFC 2181, 5.2): the lowest.
fn add(names: &mut Names, name: Name, ttl: u32, data: RData) {
    let present = names.entry(name).or_default();
    if !present.iter().any(|datum| datum.data == data) {
        present.push(Datum { ttl, data: data.clone() });
    }
    let set = || present.iter().filter(|datum| datum.data.record_type() == data.record_type());
    let lowest = set().map(|datum| datum.ttl).min().unwrap_or(ttl).min(ttl);
    for datum in present.iter_mut().filter(|datum| datum.data.record_type() == data.record_type()) {
        datum.ttl = lowest;
    }
}

impl Datum {
    fn is_alias(&self) -> bool {
        matches!(self.data, RData::Cname(_))
    }

    fn to_record(&self, owner: &Name) -> Record {
        Record::new(owner.clone(), self.ttl, self.data.clone())
    }
}

/// The refusal of a question about anything but the Internet.
fn of_other_class(query: &Query) -> Option<Message> {
    let is_other = ![Class::IN, Class::ANY].contains(&query.question.qclass);
    is_other.then(|| {
        let mut message = respond(query, Rcode::REFUSED);
        message.give_reason(OTHER_CLASS.0, OTHER_CLASS.1);
        message
    })
}

/// A response with this host's authority, with an OPT record exactly when the query has one.
pub(super) fn respond(query: &Query, rcode: Rcode) -> Message {
    let mut message = query.response(rcode);
    message.flags.authoritative = rcode != Rcode::REFUSED && rcode != Rcode::SERVFAIL;
    message.flags.recursion_available = true;
    message.edns = own_edns(query);
    message
}

/// The start of authority of a domain that is answered here, as RFC 6303, 3 has it.
pub(super) fn soa(zone: Name, ttl: u32) -> Record {
    let rname = Name::from_labels([&b"nobody"[..], b"invalid"]).unwrap_or_else(Name::root);
    let soa = Soa { mname: zone.clone(), rname, serial: 1, refresh: 3600, retry: 1200, expire: 604_800, minimum: ttl };
    Record::new(zone, ttl, RData::Soa(Box::new(soa)))
}

/// The name that leads from an address back to a name (RFC 1035, 3.5; RFC 3596, 2.5).
fn reverse_name(address: IpAddr) -> Option<Name> {
    domains::reverse(address.into()).pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    use crate::dns::{Flags, Opcode, Question};

    fn query(name: &str, qtype: Type) -> Query {
        let question = Question { name: name.parse().unwrap(), qtype, qclass: Class::IN };
        let flags = Flags { recursion_desired: true, ..Flags::default() };
        Query { id: 7, opcode: Opcode::QUERY, flags, question, edns: None }
    }

    fn record(name: &str, record_type: &str, value: &str) -> RecordConfig {
        RecordConfig { name: name.parse().unwrap(), record_type: record_type.into(), value: value.into(), ttl: None }
    }

    fn local(hosts: &str, record: Vec<RecordConfig>) -> (Local, Vec<Problem>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        std::fs::write(&path, hosts).unwrap();
        Local::load(&Config { hosts: vec![path], record, ..Config::default() }, None, NOW)
    }

    fn data(message: &Message) -> Vec<RData> {
        message.answers.iter().map(|record| record.data.clone()).collect()
    }

    #[test]
    fn hosts_are_answered_both_ways() {
        let (local, problems) =
            local("192.0.2.1 web.example web\n2001:db8::1 web\n192.0.2.1 other\n127.0.1.1 localhost", vec![]);
        assert_eq!(problems, []);
        let message = local.answer(&query("WEB.", Type::A)).unwrap();
        assert_eq!(data(&message), [RData::A([192, 0, 2, 1].into())]);
        assert_eq!(message.answers[0].owner.wire(), b"\x03WEB\x00", "the case of the question comes back");
        assert!(message.flags.authoritative && message.flags.recursion_available && message.flags.recursion_desired);
        assert_eq!(data(&local.answer(&query("web.", Type::AAAA)).unwrap()), [RData::Aaaa("2001:db8::1".parse().unwrap())]);
        let reverse = local.answer(&query("1.2.0.192.in-addr.arpa.", Type::PTR)).unwrap();
        assert_eq!(data(&reverse), [RData::Ptr("web.example.".parse().unwrap())], "the first line of an address names it");
        assert_eq!(data(&local.answer(&query("localhost.", Type::A)).unwrap()), [RData::A(Ipv4Addr::LOCALHOST)]);
        assert_eq!(local.answer(&query("x.web.", Type::A)), None);
    }

    #[test]
    fn another_type_of_a_local_name_is_nodata_with_its_soa() {
        let (local, _) = local("192.0.2.1 web", vec![]);
        let message = local.answer(&query("web.", Type::MX)).unwrap();
        assert_eq!(
            (message.rcode, message.answers.len(), message.authorities[0].record_type()),
            (Rcode::NOERROR, 0, Type::SOA)
        );
        let other_class =
            Query { question: Question { qclass: Class::CH, ..query("web.", Type::A).question }, ..query("web.", Type::A) };
        assert_eq!(local.answer(&other_class).unwrap().rcode, Rcode::REFUSED);
    }

    #[test]
    fn records_of_any_type_are_answered_and_bad_ones_told() {
        let records = vec![
            record("web.example.", "A", "192.0.2.1"),
            record("web.example.", "a", "192.0.2.2"),
            record("mail.example.", "MX", "10 mx.example."),
            record("odd.example.", "TYPE65280", "\\# 2 abcd"),
            record("bad.example.", "A", "nowhere"),
            record("*.example.", "A", "192.0.2.1"),
            record("web.example.", "CNAME", "other."),
        ];
        let (local, problems) = local("", records);
        assert_eq!(local.answer(&query("web.example.", Type::A)).unwrap().answers.len(), 2);
        assert_eq!(local.answer(&query("mail.example.", Type::MX)).unwrap().answers.len(), 1);
        let octets = [0xab, 0xcd].into();
        assert_eq!(
            data(&local.answer(&query("odd.example.", Type(65280))).unwrap()),
            [RData::Opaque { record_type: Type(65280), octets }]
        );
        let messages: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(messages.len(), 3, "{messages:?}");
        assert!(
            messages[0].starts_with("[[record]] bad.example.: expected the data of a record of type A, got \"nowhere\""),
            "{messages:?}"
        );
        assert!(messages[1].contains("one exact name") && messages[2].contains("the only record of its name"), "{messages:?}");
    }

    #[test]
    fn rfc2181_5_2_local_data_has_one_ttl_for_an_rrset() {
        let with_ttl = |value: &str, record_type: &str, ttl: u32| RecordConfig {
            ttl: Some(ttl),
            ..record("web.example.", record_type, value)
        };
        let records = vec![
            with_ttl("192.0.2.1", "A", 300),
            with_ttl("192.0.2.2", "A", 20),
            with_ttl("192.0.2.3", "A", 90),
            with_ttl("x", "TXT", 300),
        ];
        let (local, _) = local("", records);
        let ttls = |qtype| {
            local.answer(&query("web.example.", qtype)).unwrap().answers.iter().map(|record| record.ttl).collect::<Vec<_>>()
        };
        assert_eq!((ttls(Type::A), ttls(Type::TXT)), (vec![20; 3], vec![300]));
    }

    #[test]
    fn rfc1794_local_addresses_take_turns() {
        let hosts = "192.0.2.1 web\n192.0.2.2 web\n192.0.2.3 web\n2001:db8::1 web\n2001:db8::2 web\n";
        let (local, _) = local(hosts, vec![record("mail.", "MX", "10 a."), record("mail.", "MX", "10 b.")]);
        let firsts = |name, qtype| {
            let first = |_| data(&local.answer(&query(name, qtype)).unwrap())[0].clone();
            (0..300).map(first).collect::<Vec<_>>()
        };
        let shares = |name, qtype| {
            let firsts = firsts(name, qtype);
            let count = |datum: &RData| firsts.iter().filter(|first| *first == datum).count();
            local.names[&name.parse::<Name>().unwrap()]
                .iter()
                .map(|datum| count(&datum.data))
                .filter(|n| *n > 0)
                .collect::<Vec<_>>()
        };
        // Each as often but for chance.
        for (qtype, count, least) in [(Type::A, 3, 40), (Type::AAAA, 2, 80)] {
            let shares = shares("web.", qtype);
            assert!(shares.len() == count && shares.iter().all(|share| *share > least), "{qtype}: {shares:?}");
        }
        assert_eq!(shares("mail.", Type::MX), [300], "others stand as they were written");
    }

    #[test]
    fn aliases_are_followed_and_circles_end() {
        let records = vec![
            record("a.", "CNAME", "b."),
            record("b.", "CNAME", "c."),
            record("c.", "A", "192.0.2.3"),
            record("out.", "CNAME", "elsewhere.example."),
            record("round.", "CNAME", "round2."),
            record("round2.", "CNAME", "round."),
        ];
        let (local, problems) = local("192.0.2.9 a", records);
        assert_eq!(problems, []);
        let message = local.answer(&query("a.", Type::A)).unwrap();
        assert_eq!(message.answers.iter().map(Record::record_type).collect::<Vec<_>>(), [Type::CNAME, Type::CNAME, Type::A]);
        assert_eq!(super::super::open_alias(&message), None);
        assert_eq!(
            super::super::open_alias(&local.answer(&query("a.", Type::AAAA)).unwrap()),
            None,
            "the chain ends in NODATA"
        );
        let out = local.answer(&query("out.", Type::A)).unwrap();
        assert_eq!(super::super::open_alias(&out), Some("elsewhere.example.".parse().unwrap()));
        assert_eq!(local.answer(&query("round.", Type::A)).unwrap().rcode, Rcode::SERVFAIL);
    }

    #[test]
    fn special_names_are_answered_here() {
        let (local, _) = local("", vec![]);
        let loopback = local.special(&query("app.localhost.", Type::AAAA)).unwrap();
        assert_eq!(data(&loopback), [RData::Aaaa(Ipv6Addr::LOCALHOST)]);
        assert_eq!(local.special(&query("app.localhost.", Type::TXT)).unwrap().rcode, Rcode::NOERROR);
        let onion = local.special(&query("x.onion.", Type::A)).unwrap();
        assert_eq!((onion.rcode, onion.authorities[0].owner.to_string()), (Rcode::NXDOMAIN, "onion.".into()));
        assert_eq!(local.special(&query("db.internal.", Type::A)), None);
    }

    #[test]
    fn hosts_may_be_folders_and_names_of_one_label_have_a_domain() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("b"), "192.0.2.1 second\n").unwrap();
        std::fs::write(folder.path().join("a"), "192.0.2.1 web web.example\n").unwrap();
        std::fs::write(folder.path().join(".hidden"), "192.0.2.9 hidden\n").unwrap();
        let config = Config {
            hosts: vec![folder.path().to_owned()],
            hosts_domain: Some("corp.test".parse().unwrap()),
            local_ttl: 7,
            ..Config::default()
        };
        let (local, problems) = Local::load(&config, None, NOW);
        assert_eq!(problems, []);
        for name in ["web.", "web.corp.test.", "web.example.", "second."] {
            let message = local.answer(&query(name, Type::A)).unwrap();
            assert_eq!((data(&message), message.answers[0].ttl), (vec![RData::A([192, 0, 2, 1].into())], 7), "{name}");
        }
        assert_eq!(local.answer(&query("web.example.corp.test.", Type::A)), None);
        assert_eq!(local.answer(&query("hidden.", Type::A)), None);
        let reverse = local.answer(&query("1.2.0.192.in-addr.arpa.", Type::PTR)).unwrap();
        assert_eq!(data(&reverse), [RData::Ptr("web.corp.test.".parse().unwrap())]);
    }

    #[test]
    fn what_a_route_answers_by_itself() {
        let (local, _) = local("", vec![]);
        let addresses = Here::Addresses(["192.0.2.1".parse().unwrap()].into());
        let message = local.answer_here(&query("x.ads.example.", Type::A), &addresses, false);
        assert_eq!((data(&message), message.answers[0].ttl), (vec![RData::A([192, 0, 2, 1].into())], 60));
        for (has_addresses, exists, rcode) in
            [(false, false, Rcode::NXDOMAIN), (true, false, Rcode::NOERROR), (false, true, Rcode::NOERROR)]
        {
            let nothing = Here::Nothing { domain: "ads.example".parse().unwrap(), has_addresses };
            let message = local.answer_here(&query("x.ads.example.", Type::MX), &nothing, exists);
            assert_eq!((message.rcode, message.answers.len()), (rcode, 0));
            assert_eq!(message.authorities[0].owner, "ads.example".parse().unwrap());
        }
    }

    #[test]
    fn a_missing_file_is_told() {
        let config = Config { hosts: vec![PathBuf::from("/nonexistent/hosts")], ..Config::default() };
        let (local, problems) = Local::load(&config, None, NOW);
        assert_eq!((local.len(), problems.len()), (3, 1));
        assert!(problems[0].message.contains("cannot read"), "{problems:?}");
    }

    #[test]
    fn leases_are_answered_both_ways_until_they_end() {
        let folder = tempfile::tempdir().unwrap();
        let (hosts, leases) = (folder.path().join("hosts"), folder.path().join("leases"));
        std::fs::write(&hosts, "192.0.2.1 laptop\n").unwrap();
        let soon = NOW + 100;
        let text = format!(
            "{soon} 02:00:00:00:00:01 192.0.2.50 printer *\n{soon} 02:00:00:00:00:02 192.0.2.51 laptop *\n1 x 192.0.2.52 old *\n\
             duid 00:01\n0 12 2001:db8::50 laptop 00:02\n"
        );
        std::fs::write(&leases, text).unwrap();
        let config = Config {
            hosts: vec![hosts],
            leases: vec![leases.clone()],
            leases_domain: Some("lan".parse().unwrap()),
            ..Config::default()
        };
        let (local, problems) = Local::load(&config, None, NOW);
        assert_eq!((problems, local.leased_until), (vec![], Some(soon)));
        for name in ["printer.", "PRINTER.lan."] {
            let message = local.answer(&query(name, Type::A)).unwrap();
            assert_eq!((data(&message), message.answers[0].ttl), (vec![RData::A([192, 0, 2, 50].into())], LEASE_TTL));
        }
        let reverse = |name: &str| data(&local.answer(&query(name, Type::PTR)).unwrap());
        assert_eq!(reverse("50.2.0.192.in-addr.arpa."), [RData::Ptr("printer.lan.".parse().unwrap())]);
        // A hosts file wins, type by type.
        assert_eq!(data(&local.answer(&query("laptop.", Type::A)).unwrap()), [RData::A([192, 0, 2, 1].into())]);
        let six = [RData::Aaaa("2001:db8::50".parse().unwrap())];
        assert_eq!(data(&local.answer(&query("laptop.", Type::AAAA)).unwrap()), six);
        assert_eq!(local.answer(&query("old.", Type::A)), None);
        assert!(local.reload(NOW).is_none());

        // Time goes by; one has no end.
        let mut later = Local { config, names: local.names.clone(), ..Local::default() };
        later.take_leases(local.leases.clone(), soon, &mut Vec::new());
        assert_eq!((later.answer(&query("printer.", Type::A)), later.leased_until), (None, None));
        assert_eq!(data(&later.answer(&query("laptop.lan.", Type::AAAA)).unwrap()), six);
        let ended = Local { leased_until: Some(1), ..local };
        assert!(ended.reload(NOW).is_some());
    }

    #[test]
    fn what_has_changed_is_read_again_and_what_cannot_be_read_says_on_what_it_said() {
        let root = tempfile::tempdir().unwrap();
        let (single, folder) = (root.path().join("single"), root.path().join("folder"));
        let write = |path: &Path, text: &str| {
            // Another file each time, whatever the clock's tick is.
            std::fs::write(path.with_extension("new"), text).unwrap();
            std::fs::rename(path.with_extension("new"), path).unwrap();
        };
        std::fs::create_dir(&folder).unwrap();
        write(&single, "192.0.2.1 one\nnowhere bad\n");
        write(&folder.join("a"), "192.0.2.2 two\n");
        let config = Config { hosts: vec![single.clone(), folder.clone()], ..Config::default() };
        let (local, problems) = Local::load(&config, None, NOW);
        assert_eq!(problems.len(), 1, "{problems:?}");
        let knows = |local: &Local| {
            let names = ["one.", "two.", "three."].into_iter();
            names.filter(|name| local.answer(&query(name, Type::A)).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(knows(&local), ["one.", "two."]);
        assert!(local.reload(NOW).is_none(), "nothing has changed");

        write(&folder.join("b"), "192.0.2.3 three\n");
        let (local, problems) = local.reload(NOW).unwrap();
        assert_eq!((knows(&local), problems), (vec!["one.", "two.", "three."], vec![]), "what was told is not told again");
        std::fs::remove_file(folder.join("b")).unwrap();
        std::fs::remove_file(&single).unwrap();
        let (local, problems) = local.reload(NOW).unwrap();
        assert_eq!(knows(&local), ["one.", "two."], "a file of a folder may go, one that is asked for may not");
        assert!(problems.len() == 1 && problems[0].message.contains("what it said last counts"), "{problems:?}");
        assert!(local.reload(NOW).is_none());

        std::fs::rename(&folder, root.path().join("away")).unwrap();
        let (local, problems) = local.reload(NOW).unwrap();
        assert_eq!((knows(&local), problems.len()), (vec!["one.", "two."], 1), "{problems:?}");
        assert!(local.reload(NOW).is_none());
        std::fs::create_dir(&folder).unwrap();
        write(&single, "192.0.2.3 three\n");
        let (local, problems) = local.reload(NOW).unwrap();
        assert_eq!((knows(&local), problems), (vec!["three."], vec![]));

        // A person asked for all to be read again.
        std::fs::remove_file(&single).unwrap();
        let (local, problems) = Local::load(&config, Some(&local), NOW);
        assert_eq!((knows(&local), problems.len()), (vec!["three."], 1), "{problems:?}");
        let (local, _) = Local::load(&Config { hosts: vec![folder], ..Config::default() }, Some(&local), NOW);
        assert_eq!(knows(&local), [""; 0]);
    }

    #[test]
    fn the_configuration_is_read() {
        let text =
            "hosts = [\"h\"]\nprivate_names = \"block\"\n[[record]]\nname = \"a.b\"\ntype = \"A\"\nvalue = \"192.0.2.1\"";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!((config.private_names, config.record[0].ttl, config.local_ttl), (PrivateNames::Block, None, 60));
        assert!(toml::from_str::<Config>("host = []").is_err());
    }
}
