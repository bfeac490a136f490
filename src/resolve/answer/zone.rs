//! The zone itself: its SOA record and its name servers.

use crate::catalog::Catalog;
use crate::dns::{Name, RData, Record, Soa, Type};

use super::grammar::{Form, Place};
use super::presence::{Candidate, Presence, Wanted};
use super::{Settings, order, records};

/// The service whose healthy instances are the zone's name servers.
const SERVERS: &str = "consul";
/// An answer names no more servers than this.
const SERVERS_MAX: usize = 3;

/// The zone that a name lies in, its name as a SOA record's owner.
///
/// Consul has the alternative zone only for names below it that are spelled in lower case there, and the primary one for
/// the bare name.
pub(super) fn of(name: &Name, settings: &Settings) -> Name {
    let Some(alt) = &settings.alt_domain else { return settings.domain.to_lowercase() };
    let alt = alt.to_lowercase();
    let within = match settings.is_consul() {
        true => name.wire().ends_with(alt.wire()) && name.label_count() > alt.label_count(),
        false => true,
    };
    let nested = alt.is_within(&settings.domain) || !name.is_within(&settings.domain);
    if within && nested && name.is_within(&alt) { alt } else { settings.domain.to_lowercase() }
}

/// The SOA record of the zone that a name lies in. Its TTL is its minimum (RFC 2308, 3); its serial is the time.
pub(super) fn soa(zone: Name, now: u64, settings: &Settings) -> Option<Record> {
    let config = &settings.dns_config.soa;
    let minimum = settings.negative_ttl();
    let soa = Soa {
        mname: zone.prefixed([&b"ns"[..]])?,
        rname: zone.prefixed([&b"hostmaster"[..]])?,
        // RFC 1982: serials are compared in a circle, so the upper half of the seconds may go.
        serial: now as u32,
        refresh: config.refresh,
        retry: config.retry,
        expire: config.expire,
        minimum,
    };
    Some(Record::new(zone, minimum, RData::Soa(Box::new(soa))))
}

/// A few of the nodes that serve the zone, at random, each with its name below `domain`.
pub(super) fn servers<'a>(
    catalog: &'a Catalog,
    domain: &Name,
    settings: &Settings,
    rng: &mut fastrand::Rng,
) -> Vec<(Name, Candidate<'a>)> {
    let wanted = Wanted { service: SERVERS, tag: None, form: Form::Service, place: &Place::default() };
    let presence = Presence::of(catalog, wanted, &settings.datacenter, settings.dns_config.only_passing);
    let Presence::Present(mut candidates) = presence else { return Vec::new() };
    order::shuffle(&mut candidates, rng);
    // A host name has letters, digits and hyphens only (RFC 952).
    let is_host = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let named = candidates
        .into_iter()
        .filter(|candidate| is_host(&candidate.node.name))
        .filter_map(|candidate| Some((records::node_name(candidate.node, domain, settings)?.to_lowercase(), candidate)));
    named.take(SERVERS_MAX).collect()
}

/// The address record of a server, as additional data to its NS record.
pub(super) fn glue(owner: &Name, server: &Candidate<'_>, qtype: Type, settings: &Settings) -> Option<Record> {
    let address = records::ip(records::node_address(server.node, qtype, settings))?;
    records::suits(address, qtype, settings).then(|| Record::address(owner.clone(), settings.node_ttl(), address))
}
