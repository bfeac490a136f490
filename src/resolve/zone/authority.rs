//! One zone and its authority: `hickory-server`'s in-memory zone holds the RRsets, looks them up and makes records of
//! wildcards. Which kind of answer a name has is found here, from the names that exist (RFC 1034, 4.3.2; RFC 4592): the
//! library lets a wildcard match names that exist, calls a missing type of a wildcard NXDOMAIN, and puts a referral into
//! the answer section.

use std::collections::{BTreeMap, HashMap};

use hickory_proto::rr::{LowerName, RecordSet, RecordType, RrKey};
use hickory_server::net::runtime::TokioRuntimeProvider;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AuthLookup, AxfrPolicy, LookupControlFlow, LookupOptions, ZoneHandler, ZoneType};

use super::super::presentation::{from_hickory, to_hickory, to_hickory_name};
use super::master::Master;
use crate::dns::{Message, Name, RData, Rcode, Record, Type};

pub(super) struct Authority {
    apex: Name,
    /// With the TTL of negative answers: the lower of its own and its last field (RFC 2308, 3).
    soa: Record,
    /// Every name that exists with its types; one that only has names below it has none (RFC 8020).
    names: HashMap<Name, Vec<Type>, foldhash::fast::RandomState>,
    records: InMemoryZoneHandler<TokioRuntimeProvider>,
}

/// What a zone has for a question.
enum Found {
    Records,
    NoData,
    NxDomain,
    /// The name is at or below this one, which others answer for.
    Referral(Name),
}

impl Authority {
    /// Builds the authority of what was read; the library's words when it refuses.
    pub(super) fn new(master: Master) -> Result<Self, String> {
        let Master { apex, records } = master;
        let mut names: HashMap<Name, Vec<Type>, foldhash::fast::RandomState> = HashMap::default();
        let mut sets: BTreeMap<RrKey, RecordSet> = BTreeMap::new();
        let mut soa = None;
        for record in records {
            let kind = record.record_type();
            if let RData::Soa(data) = &record.data {
                soa = Some(Record { ttl: record.ttl.min(data.minimum), ..record.clone() });
            }
            let types = names.entry(record.owner.clone()).or_default();
            if !types.contains(&kind) {
                types.push(kind);
            }
            let mut above = record.owner.parent();
            while let Some(name) = above.filter(|name| name.is_within(&apex)) {
                above = name.parent();
                names.entry(name).or_default();
            }
            let told = format!("{} {kind}", record.owner);
            let record = to_hickory(record).ok_or_else(|| format!("the record {told} does not fit a message"))?;
            let key = RrKey::new(LowerName::from(&record.name), record.record_type());
            match sets.entry(key) {
                std::collections::btree_map::Entry::Vacant(vacant) => {
                    vacant.insert(RecordSet::from(record));
                }
                std::collections::btree_map::Entry::Occupied(mut set) => {
                    set.get_mut().insert(record, 0);
                }
            }
        }
        for set in sets.values() {
            // What cannot be said must not be answered as if it were empty.
            if from_hickory(set.records_without_rrsigs().cloned().collect()).is_none() {
                return Err(format!(
                    "the {} records of {} do not fit a message of 65535 octets",
                    set.record_type(),
                    set.name()
                ));
            }
        }
        let soa = soa.ok_or_else(|| "there is no SOA record".to_owned())?;
        let records = InMemoryZoneHandler::new(to_hickory_name(&apex), sets, ZoneType::Primary, AxfrPolicy::Deny)?;
        Ok(Self { apex, soa, names, records })
    }

    pub(super) fn apex(&self) -> &Name {
        &self.apex
    }

    /// Does this very name have records here?
    pub(super) fn has(&self, name: &Name) -> bool {
        self.names.get(name).is_some_and(|types| !types.is_empty())
    }

    /// Adds to `message` what this zone says of `name`, and returns the name that an alias leads to.
    pub(super) async fn answer(&self, message: &mut Message, name: &Name, qtype: Type) -> Option<Name> {
        match self.find(name, qtype) {
            Found::NoData => message.authorities.push(self.soa.clone()),
            Found::NxDomain => {
                message.rcode = Rcode::NXDOMAIN;
                message.authorities.push(self.soa.clone());
            }
            Found::Referral(cut) => {
                // RFC 1034, 4.3.2, 3b: what is below the cut is not ours to say, but where to ask is.
                message.flags.authoritative = !message.answers.is_empty();
                let servers = self.lookup(&cut, Type::NS).await;
                for target in servers.iter().filter_map(|record| target(&record.data)) {
                    self.add_glue(message, target).await;
                }
                message.authorities.extend(servers);
            }
            Found::Records => {
                let records = self.lookup(name, qtype).await;
                let alias = records.iter().find_map(|record| match &record.data {
                    RData::Cname(target) if ![Type::CNAME, Type::ANY].contains(&qtype) => Some(target.clone()),
                    _ => None,
                });
                for target in records.iter().filter_map(|record| target(&record.data)) {
                    self.add_addresses(message, target).await;
                }
                message.answers.extend(records);
                return alias;
            }
        }
        None
    }

    fn find(&self, name: &Name, qtype: Type) -> Found {
        let Some(above) = name.labels_above(&self.apex) else { return Found::NxDomain };
        // From just below the apex down to the name: the first cut on the way decides.
        for skipped in (0..above.len()).rev() {
            let at = Name::from_labels(name.labels().skip(skipped));
            let is_parents = skipped == 0 && qtype == Type::DS;
            if let Some(at) = at
                && !is_parents
                && self.names.get(&at).is_some_and(|types| types.contains(&Type::NS))
            {
                return Found::Referral(at);
            }
        }
        let has = |types: &Vec<Type>| match qtype {
            Type::ANY => !types.is_empty(),
            qtype => types.contains(&qtype) || types.contains(&Type::CNAME),
        };
        if let Some(types) = self.names.get(name) {
            return if has(types) { Found::Records } else { Found::NoData };
        }
        // RFC 4592, 3.3.1: only the wildcard right below the closest name that exists counts.
        let mut encloser = name.parent();
        while let Some(closest) = encloser {
            if self.names.contains_key(&closest) {
                let wildcard = closest.prefixed([&b"*"[..]]);
                return match wildcard.and_then(|wildcard| self.names.get(&wildcard)) {
                    Some(types) if has(types) => Found::Records,
                    Some(_) => Found::NoData,
                    None => Found::NxDomain,
                };
            }
            encloser = closest.parent();
        }
        Found::NxDomain
    }

    /// The RRset of a name, or its CNAME, or for ANY one of its sets (RFC 8482, 4.1).
    async fn lookup(&self, name: &Name, qtype: Type) -> Vec<Record> {
        let lower = LowerName::from(&to_hickory_name(name));
        let found = self.records.lookup(&lower, RecordType::from(qtype.0), None, LookupOptions::default()).await;
        let (LookupControlFlow::Continue(Ok(found)) | LookupControlFlow::Break(Ok(found))) = found else { return Vec::new() };
        // The library goes on behind an alias; here each step is found anew.
        let AuthLookup::Records { answers, .. } = found else { return Vec::new() };
        let records = answers.iter().filter(|record| LowerName::from(&record.name) == lower).cloned().collect();
        let mut records = from_hickory(records).unwrap_or_default();
        for record in &mut records {
            // The case that was asked, so that the owner is a pointer to the question.
            record.owner = name.clone();
        }
        records
    }

    /// The addresses of a name that another record mentions, when the zone has them (RFC 1035, 3.3.9; RFC 2782).
    async fn add_addresses(&self, message: &mut Message, name: &Name) {
        for kind in [Type::A, Type::AAAA] {
            if name.is_within(&self.apex) && matches!(self.find(name, kind), Found::Records) {
                let records = self.lookup(name, kind).await;
                add_once(message, records.into_iter().filter(|record| record.record_type() == kind));
            }
        }
    }

    /// The addresses of a server below a cut, which stand in the zone for nothing else.
    async fn add_glue(&self, message: &mut Message, name: &Name) {
        let lower = LowerName::from(&to_hickory_name(name));
        for kind in [RecordType::A, RecordType::AAAA] {
            let records = self.records.records().await;
            let Some(set) = records.get(&RrKey::new(lower.clone(), kind)) else { continue };
            let records = from_hickory(set.records_without_rrsigs().cloned().collect());
            add_once(message, records.unwrap_or_default().into_iter());
        }
    }
}

fn add_once(message: &mut Message, records: impl Iterator<Item = Record>) {
    for record in records {
        if !message.additionals.contains(&record) {
            message.additionals.push(record);
        }
    }
}

/// The host that a record mentions, whose addresses its reader wants next.
fn target(data: &RData) -> Option<&Name> {
    match data {
        RData::Ns(name) => Some(name),
        RData::Mx { exchange, .. } => Some(exchange),
        RData::Srv(srv) => Some(&srv.target),
        _ => None,
    }
}
