//! Validation (RFC 4035), as far as it needs no arithmetic of keys: which names are validated and from which anchor on, an
//! answer cut into the steps that have to be proved one by one, and what a client is given in the end. Pure; whether a
//! signature is right is found out in `upstream::validator`.
//!
//! Start with [`Config`], then [`links`].

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use foldhash::fast::RandomState;
use serde::{Deserialize, Deserializer, de};

use super::presentation::read_data;
use crate::dns::{Class, Edns, ExtendedError, Message, Name, Query, Question, RData, Rcode, Record, Signature, Type};
use crate::duration;
use crate::limits;

/// The root's keys, as IANA publishes them (https://data.iana.org/root-anchors/root-anchors.xml): KSK-2017 and KSK-2024.
const ROOT: [&str; 2] = [
    ". DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D",
    ". DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16",
];

/// Aliases that are followed within one answer.
const ALIASES_MAX: usize = 16;

/// The `[forward.dnssec]` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Answers of upstreams are validated.
    pub validate: bool,
    /// Keys that are believed; those of the root are known, and those that are written for the root take their place.
    pub trust_anchors: Vec<Anchor>,
    /// A file with more of them, one a line.
    pub trust_anchor_file: Option<PathBuf>,
    /// Domains that are not validated.
    #[serde(deserialize_with = "super::domains::deserialize")]
    pub exceptions: Vec<Name>,
    /// By how much this host's clock may be wrong.
    #[serde(deserialize_with = "duration::deserialize")]
    pub time_tolerance: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            validate: false,
            trust_anchors: Vec::new(),
            trust_anchor_file: None,
            exceptions: Vec::new(),
            time_tolerance: Duration::from_secs(3_600),
        }
    }
}

/// A key that is believed by itself: its DNSKEY record, or the DS record that tells it (RFC 4033, 2), in presentation form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// In lower case.
    pub zone: Name,
    pub data: RData,
}

impl FromStr for Anchor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = |cause: &str| {
            format!("expected a DS or DNSKEY record such as \"corp.example. DS 4711 13 2 5D41…\", got {text:?}{cause}")
        };
        let line: String = text.split(';').next().unwrap_or_default().replace(['(', ')'], " ");
        let mut words = line.split_ascii_whitespace();
        let zone: Name = words.next().and_then(|word| word.parse().ok()).ok_or_else(|| expected(""))?;
        let is_kind = |word: &&str| word.eq_ignore_ascii_case("DS") || word.eq_ignore_ascii_case("DNSKEY");
        let is_aside = |word: &&str| word.eq_ignore_ascii_case("IN") || word.bytes().all(|octet| octet.is_ascii_digit());
        let kind = words.find(|word| !is_aside(word)).filter(is_kind).ok_or_else(|| expected(""))?;
        let kind = if kind.eq_ignore_ascii_case("DS") { Type::DS } else { Type::DNSKEY };
        let rest: Vec<&str> = words.collect();
        let data = match kind {
            Type::DNSKEY => key(&rest).ok_or_else(|| expected("")),
            _ => read_data(kind, &rest.join(" "), &Name::root()).map_err(|error| expected(&format!(": {error}"))),
        }?;
        Ok(Self { zone: zone.to_lowercase(), data })
    }
}

/// The data of a DNSKEY record (RFC 4034, 2.2).
fn key(words: &[&str]) -> Option<RData> {
    let [flags, protocol, algorithm, key @ ..] = words else { return None };
    let flags: u16 = flags.parse().ok()?;
    let mut octets = flags.to_be_bytes().to_vec();
    octets.extend([protocol.parse::<u8>().ok()?, algorithm.parse::<u8>().ok()?]);
    octets.extend(STANDARD.decode(key.concat()).ok().filter(|key| !key.is_empty())?);
    Some(RData::Opaque { record_type: Type::DNSKEY, octets: octets.into() })
}

impl<'de> Deserialize<'de> for Anchor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Anchor {
    /// The root's own.
    pub fn root() -> Vec<Self> {
        ROOT.iter().filter_map(|text| text.parse().ok()).collect()
    }

    /// Those of a file, one a line; what stands on a line that has none, with its number.
    pub fn read_all(text: &str) -> (Vec<Self>, Vec<(usize, String)>) {
        let (mut anchors, mut wrong) = (Vec::new(), Vec::new());
        for (number, line) in text.lines().enumerate() {
            let is_empty = line.split(';').next().is_none_or(|line| line.trim().is_empty());
            match line.parse() {
                _ if is_empty => {}
                Ok(anchor) => anchors.push(anchor),
                Err(error) => wrong.push((number + 1, error)),
            }
        }
        (anchors, wrong)
    }
}

/// What a configuration says of a domain and all below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Others than the usual upstreams are asked, about whose names no zone above can say anything.
    Private,
    /// The same, and they are part of the public tree all the same.
    Public,
    /// It has a trust anchor.
    Anchor,
    /// It is not validated, whatever else is said of it.
    Exception,
}

/// Which names are validated.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    domains: HashMap<Name, Reach, RandomState>,
}

impl Scope {
    /// Of several things that are said of one domain, the stronger one counts.
    pub fn add(&mut self, domain: &Name, reach: Reach) {
        let known = self.domains.entry(domain.to_lowercase()).or_insert(reach);
        *known = reach.max(*known);
    }

    /// All that is said, the same for the same rules.
    pub fn written(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.domains.iter().map(|(domain, reach)| format!("{domain} {reach:?}")).collect();
        lines.sort();
        lines
    }

    /// The trust anchor from which an answer to this question can be proved; `None` when it is not validated. Longer domains
    /// decide first. A DS record is of the zone above its name.
    pub fn anchor_of(&self, question: &Question) -> Option<Name> {
        if question.qclass != Class::IN || question.qtype == Type::RRSIG {
            return None;
        }
        let name = question.name.to_lowercase();
        let mut rest = if question.qtype == Type::DS { name.parent() } else { Some(name) };
        let mut is_public = false;
        while let Some(domain) = rest {
            match self.domains.get(&domain) {
                Some(Reach::Exception) => return None,
                Some(Reach::Private) if !is_public => return None,
                Some(Reach::Anchor) => return Some(domain),
                Some(Reach::Public) => is_public = true,
                Some(Reach::Private) | None => {}
            }
            rest = domain.parent();
        }
        None
    }
}

/// One step of an answer: what it says of one name and type, with the records that are to prove it and no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub question: Question,
    /// An answer to this question alone.
    pub message: Message,
    /// An alias that follows from it and is not signed itself (RFC 6672, 5.3.1).
    pub follows: Option<Record>,
}

impl Link {
    /// Is it said that there is nothing?
    pub fn is_negative(&self) -> bool {
        self.message.answers.is_empty()
    }

    fn records(&self) -> impl Iterator<Item = &Record> {
        self.message.answers.iter().chain(&self.message.authorities)
    }

    /// The sets of records in it: an owner, a type, and the signatures that came with them.
    fn sets(&self) -> Vec<(&Name, Type, Vec<Signature>)> {
        let mut sets: Vec<(&Name, Type, Vec<Signature>)> = Vec::new();
        for record in self.records().filter(|record| record.record_type() != Type::RRSIG) {
            let known = sets.iter().any(|(owner, kind, _)| (*owner, *kind) == (&record.owner, record.record_type()));
            if !known {
                let signatures = signatures(self.records(), &record.owner, record.record_type());
                sets.push((&record.owner, record.record_type(), signatures.filter_map(Signature::of).collect()));
            }
        }
        sets
    }

    /// Why it may prove nothing, as far as the records themselves tell.
    pub fn fault(&self, now: u32) -> Option<Fault> {
        let time = |seconds: u32| humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds.into()));
        for (owner, kind, signatures) in self.sets() {
            let what = format!("{kind} of {owner}");
            if signatures.is_empty() {
                return Some(Fault::new(ExtendedError::RrsigsMissing, format!("{what} came without signatures")));
            }
            if signatures.iter().all(|signature| signature.left(now).is_none()) {
                let last = signatures.iter().map(|signature| signature.expiration).max().unwrap_or_default();
                let text = format!("the signature of {what} expired at {}", time(last));
                return Some(Fault::new(ExtendedError::SignatureExpired, text));
            }
            if signatures.iter().all(|signature| signature.is_ahead(now)) {
                let first = signatures.iter().map(|signature| signature.inception).min().unwrap_or_default();
                let text = format!("the signature of {what} is valid from {} on only", time(first));
                return Some(Fault::new(ExtendedError::SignatureNotYetValid, text));
            }
        }
        let denies = |record: &Record| [Type::NSEC, Type::NSEC3].contains(&record.record_type());
        let Question { name, qtype, .. } = &self.question;
        (self.is_negative() && !self.message.authorities.iter().any(denies))
            .then(|| Fault::new(ExtendedError::NsecMissing, format!("nothing proves that {name} has no {qtype} records")))
    }

    /// Seconds until the first of the signatures in it expires.
    pub fn left(&self, now: u32) -> Option<u32> {
        self.records().filter_map(Signature::of).filter_map(|signature| signature.left(now)).min()
    }
}

/// Why an answer is bogus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub code: ExtendedError,
    /// For people; ends without a full stop.
    pub text: String,
}

impl Fault {
    pub fn new(code: ExtendedError, text: String) -> Self {
        Self { code, text }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The signatures of an owner's records of a type, as many as anybody has a reason for.
fn signatures<'a>(records: impl Iterator<Item = &'a Record>, owner: &'a Name, kind: Type) -> impl Iterator<Item = &'a Record> {
    let covers = move |record: &&Record| {
        record.owner == *owner && Signature::of(record).is_some_and(|signature| signature.covered == kind)
    };
    records.filter(covers).take(limits::SIGNATURES_PER_RRSET_MAX)
}

/// Cuts an answer into its steps: an alias for each name on the way, and at its end records or their absence. What belongs
/// to none of them is left out, since nobody vouches for it. `None` when the steps lead nowhere.
pub fn links(reply: &Message) -> Option<Vec<Link>> {
    let question = reply.questions.first()?;
    let mut name = question.name.clone();
    let mut links = Vec::new();
    while links.len() < ALIASES_MAX {
        let alias = reply.answers.iter().find_map(|record| match &record.data {
            RData::Cname(target) if record.owner == name => Some((record, target)),
            _ => None,
        });
        if question.qtype == Type::ANY {
            // RFC 6840, 4.2: whatever came counts.
            let mut kinds: Vec<Type> = Vec::new();
            for record in reply.answers.iter().filter(|record| record.owner == name) {
                let kind = record.record_type();
                if kind != Type::RRSIG && !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            if !kinds.is_empty() {
                links.extend(kinds.into_iter().map(|kind| positive(reply, &name, kind)));
                return Some(links);
            }
        }
        if let Some((record, target)) = alias
            && signatures(reply.answers.iter(), &name, Type::CNAME).next().is_none()
            && let Some((owner, became)) = renamed(reply, &name)
        {
            if became != *target {
                return None;
            }
            links.push(Link { follows: Some(record.clone()), ..positive(reply, &owner, Type::DNAME) });
            if question.qtype == Type::CNAME {
                return Some(links);
            }
            name = became;
            continue;
        }
        if reply.answers.iter().any(|record| record.owner == name && record.record_type() == question.qtype) {
            links.push(positive(reply, &name, question.qtype));
            return Some(links);
        }
        match alias {
            Some((_, target)) => {
                links.push(positive(reply, &name, Type::CNAME));
                name = target.clone();
            }
            None => {
                links.push(negative(reply, &name, question.qtype));
                return Some(links);
            }
        }
    }
    None
}

/// The owner of a DNAME record above this name, and what the name becomes by it.
fn renamed(reply: &Message, name: &Name) -> Option<(Name, Name)> {
    reply.answers.iter().find_map(|record| {
        let RData::Opaque { record_type: Type::DNAME, octets } = &record.data else { return None };
        let (target, _) = Name::parse(octets, 0).ok()?;
        let above = name.labels_above(&record.owner).filter(|labels| !labels.is_empty())?;
        Some((record.owner.clone(), target.prefixed(above)?))
    })
}

fn link(reply: &Message, name: &Name, qtype: Type, answers: Vec<Record>, authorities: Vec<Record>) -> Link {
    let question = Question { name: name.clone(), qtype, qclass: Class::IN };
    let rcode = if answers.is_empty() { reply.rcode } else { Rcode::NOERROR };
    let mut message = Message { rcode, answers, authorities, ..Query::of(question.clone()).response(rcode) };
    message.flags.recursion_available = true;
    Link { question, message, follows: None }
}

fn positive(reply: &Message, name: &Name, kind: Type) -> Link {
    let is_meant = |record: &&Record| record.owner == *name && record.record_type() == kind;
    let mut answers: Vec<Record> = reply.answers.iter().filter(is_meant).cloned().collect();
    let signed = signatures(reply.answers.iter(), name, kind);
    answers.extend(signed.cloned());
    // A record that a wildcard stands for has fewer labels signed than it has: that there is no closer name needs a proof
    // (RFC 4035, 5.3.4).
    let own = name.label_count() - usize::from(name.labels().next() == Some(b"*"));
    let expanded = answers.iter().filter_map(Signature::of).find(|signature| usize::from(signature.labels) < own);
    let authorities = expanded.map_or_else(Vec::new, |signature| denials(reply, &signature.signer));
    link(reply, name, kind, answers, authorities)
}

fn negative(reply: &Message, name: &Name, qtype: Type) -> Link {
    let soa = reply.authorities.iter().find(|record| record.record_type() == Type::SOA && name.is_within(&record.owner));
    let authorities = match soa {
        Some(soa) => {
            let signed = signatures(reply.authorities.iter(), &soa.owner, Type::SOA).cloned();
            [soa.clone()].into_iter().chain(signed).chain(denials(reply, &soa.owner)).collect()
        }
        None => {
            let denied = reply.authorities.iter().filter_map(Signature::of);
            let mut denied = denied.filter(|own| [Type::NSEC, Type::NSEC3].contains(&own.covered));
            let signer = denied.find(|own| name.is_within(&own.signer)).map(|own| own.signer);
            signer.map_or_else(Vec::new, |signer| denials(reply, &signer))
        }
    };
    link(reply, name, qtype, Vec::new(), authorities)
}

/// The records of a zone that say what it has not, with their signatures: as many as a proof may need.
fn denials(reply: &Message, zone: &Name) -> Vec<Record> {
    let mut found = Vec::new();
    let denies = |record: &&Record| [Type::NSEC, Type::NSEC3].contains(&record.record_type());
    let mut count = 0;
    for record in reply.authorities.iter().filter(denies) {
        let own: Vec<&Record> = signatures(reply.authorities.iter(), &record.owner, record.record_type()).collect();
        let is_of_zone = own.iter().filter_map(|record| Signature::of(record)).any(|own| own.signer == *zone);
        if is_of_zone && count < limits::DENIALS_MAX {
            count += 1;
            found.push(record.clone());
            found.extend(own.into_iter().cloned());
        }
    }
    found
}

/// Takes out of an answer what proves it, but for what was asked for (RFC 4035, 3.2.1).
pub fn drop_proofs(answer: &mut Message, asked: Type) {
    let is_plain = |record: &Record| !record.record_type().is_proof();
    answer.answers.retain(|record| is_plain(record) || record.record_type() == asked);
    answer.authorities.retain(is_plain);
    answer.additionals.retain(is_plain);
}

/// The answer that a client is given. `proved` are its steps, when all of them are proved; then what is not of them is left
/// out, and no TTL is longer than its signature allows (RFC 4035, 5.3.3). `now` is in seconds since 1970.
pub fn given(mut reply: Message, proved: Option<&[Link]>, query: &Query, now: u32) -> Message {
    let dnssec_ok = query.edns.as_ref().is_some_and(|edns| edns.dnssec_ok);
    if let Some(links) = proved {
        let sets: Vec<(&Name, Type, Vec<Signature>)> = links.iter().flat_map(Link::sets).collect();
        let follows = |record: &Record| links.iter().any(|link| link.follows.as_ref() == Some(record));
        let vouch = |record: &mut Record| {
            let kind = Signature::of(record).map_or(record.record_type(), |signature| signature.covered);
            let set = sets.iter().find(|(owner, own, _)| **owner == record.owner && *own == kind);
            let allowed = set.iter().flat_map(|(_, _, signatures)| signatures);
            let allowed = allowed.filter_map(|signature| Some(signature.left(now)?.min(signature.original_ttl))).max();
            let is_vouched = set.is_some() || follows(record);
            record.ttl = record.ttl.min(allowed.unwrap_or(record.ttl));
            is_vouched
        };
        reply.answers.retain_mut(vouch);
        reply.authorities.retain_mut(vouch);
        reply.additionals.clear();
        if links.last().is_some_and(|link| !link.is_negative()) {
            reply.rcode = Rcode::NOERROR;
        }
    }
    if !dnssec_ok {
        drop_proofs(&mut reply, query.question.qtype);
    }
    reply.flags.authentic_data = proved.is_some() && (dnssec_ok || query.flags.authentic_data);
    reply.flags.checking_disabled = query.flags.checking_disabled;
    reply.flags.recursion_desired = query.flags.recursion_desired;
    let options = reply.edns.take().map(|edns| edns.options).unwrap_or_default();
    reply.edns = query.edns.as_ref().map(|_| Edns { dnssec_ok, options, ..Edns::new(limits::UDP_PAYLOAD) });
    reply
}

#[cfg(test)]
mod tests {
    use hickory_proto::dnssec::rdata::DNSKEY;
    use hickory_proto::dnssec::{DigestType, TrustAnchors};
    use hickory_proto::rr;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn question(text: &str, qtype: Type) -> Question {
        Question { name: name(text), qtype, qclass: Class::IN }
    }

    #[test]
    fn the_roots_anchors_are_the_keys_that_the_library_has() {
        let keys = TrustAnchors::default();
        let anchors = Anchor::root();
        assert_eq!((anchors.len(), keys.len()), (2, 2));
        for (n, anchor) in anchors.iter().enumerate() {
            let key = DNSKEY::with_flags(257, keys.get(n).unwrap().clone());
            let digest = key.to_digest(&rr::Name::root(), DigestType::SHA256).unwrap();
            let RData::Opaque { record_type: Type::DS, octets } = &anchor.data else { panic!("{anchor:?}") };
            assert_eq!(octets[..2], key.calculate_key_tag().unwrap().to_be_bytes());
            assert_eq!(octets[4..], *digest.as_ref());
        }
    }

    #[test]
    fn anchors_are_written_as_records_are() {
        let digest = "AB".repeat(32);
        for text in [
            format!("corp.example. DS 4711 13 2 {digest}"),
            format!("Corp.Example 3600 IN DS 4711 13 2 ({} {}) ; ours", &digest[..32], &digest[32..]),
            "corp.example. IN DNSKEY 257 3 13 AAAA BBBB ;{id = 4711}".to_owned(),
        ] {
            let anchor: Anchor = text.parse().unwrap();
            assert_eq!(anchor.zone.wire(), name("corp.example").wire(), "{text}");
        }
        for text in ["", "corp.example.", "corp.example. A 192.0.2.1", "corp.example. DS 1 2", "x. DNSKEY 257 3 13 !"] {
            assert!(text.parse::<Anchor>().unwrap_err().contains("expected a DS or DNSKEY record"), "{text}");
        }
        let (anchors, wrong) = Anchor::read_all("; a file\n\nx. DNSKEY 257 3 13 AAAA\nno anchor\n");
        assert_eq!((anchors.len(), wrong.len(), wrong[0].0), (1, 1, 4));
    }

    #[test]
    fn the_longest_domain_says_whether_a_name_is_validated() {
        let mut scope = Scope::default();
        for (domain, reach) in [
            (".", Reach::Anchor),
            ("corp.example", Reach::Private),
            ("open.corp.example", Reach::Public),
            ("signed.corp.example", Reach::Anchor),
            ("old.signed.corp.example", Reach::Exception),
            ("lan", Reach::Exception),
        ] {
            scope.add(&name(domain), reach);
        }
        let anchor = |text: &str, qtype| scope.anchor_of(&question(text, qtype)).map(|zone| zone.to_string());
        let root = || Some(".".to_owned());
        assert_eq!(anchor("www.Example.net", Type::A), root());
        assert_eq!(anchor("db.corp.example", Type::A), None, "nobody above can say what is there");
        assert_eq!(anchor("corp.example", Type::DS), root(), "that is the zone's above");
        assert_eq!(anchor("www.open.corp.example", Type::A), root());
        assert_eq!(anchor("www.signed.corp.example", Type::A), Some("signed.corp.example.".into()));
        assert_eq!(anchor("signed.corp.example", Type::DS), None);
        assert_eq!(anchor("www.old.signed.corp.example", Type::A), None);
        assert_eq!((anchor("x.lan", Type::A), anchor(".", Type::DNSKEY)), (None, root()));
        assert_eq!(anchor("www.example.net", Type::RRSIG), None, "signatures are not signed");
    }

    /// A signature of this type by `signer`, of so many labels, that ends at 2,000.
    fn signature(owner: &str, covered: Type, labels: u8, signer: &str) -> Record {
        let mut octets = covered.0.to_be_bytes().to_vec();
        octets.extend([13, labels]);
        octets.extend([300u32, 2_000, 1_000].map(u32::to_be_bytes).concat());
        octets.extend([0, 7]);
        octets.extend(name(signer).wire());
        octets.push(1);
        Record::new(name(owner), 900, RData::Opaque { record_type: Type::RRSIG, octets: octets.into() })
    }

    fn opaque(owner: &str, record_type: Type, octets: &[u8]) -> Record {
        Record::new(name(owner), 900, RData::Opaque { record_type, octets: octets.into() })
    }

    fn reply(asked: &str, answers: Vec<Record>, authorities: Vec<Record>) -> Message {
        let response = Query::of(question(asked, Type::A)).response(Rcode::NOERROR);
        Message { answers, authorities, ..response }
    }

    #[test]
    fn an_answer_is_cut_into_what_each_name_on_the_way_says() {
        let address = Record::new(name("x.org"), 900, RData::A([192, 0, 2, 1].into()));
        let stray = Record::new(name("stray.net"), 900, RData::A([192, 0, 2, 66].into()));
        let answers = vec![
            Record::new(name("a.net"), 900, RData::Cname(name("b.z.net"))),
            signature("a.net", Type::CNAME, 2, "net"),
            opaque("z.net", Type::DNAME, name("org").wire()),
            signature("z.net", Type::DNAME, 2, "net"),
            Record::new(name("b.z.net"), 900, RData::Cname(name("b.org"))),
            Record::new(name("b.org"), 900, RData::Cname(name("x.org"))),
            signature("b.org", Type::CNAME, 1, "org"),
            address.clone(),
            signature("x.org", Type::A, 2, "org"),
            stray.clone(),
        ];
        let denial = || vec![opaque("a.org", Type::NSEC, b"\0"), signature("a.org", Type::NSEC, 2, "org")];
        let others = vec![opaque("a.net", Type::NSEC, b"\0"), signature("a.net", Type::NSEC, 2, "net")];
        let whole = reply("A.net", answers, [denial(), others].concat());
        let links = links(&whole).unwrap();
        let steps: Vec<(String, Type)> =
            links.iter().map(|link| (link.question.name.to_string(), link.question.qtype)).collect();
        let expected = [("A.net.", Type::CNAME), ("z.net.", Type::DNAME), ("b.org.", Type::CNAME), ("x.org.", Type::A)];
        assert_eq!(steps, expected.map(|(name, kind)| (name.to_owned(), kind)));
        assert_eq!(links[2].message.authorities, denial(), "a wildcard's: its zone says that nothing is closer");
        assert!([0, 1, 3].iter().all(|n| links[*n].message.authorities.is_empty()));
        // Neither what nobody vouches for, nor a TTL longer than the signature's.
        let query = Query { edns: Some(Edns { dnssec_ok: true, ..Edns::new(1232) }), ..Query::of(question("a.net", Type::A)) };
        let given = given(whole.clone(), Some(&links), &query, 1_900);
        assert!(
            given.flags.authentic_data && given.answers.len() == whole.answers.len() - 1 && !given.answers.contains(&stray)
        );
        assert_eq!((given.answers[0].ttl, given.answers[4].ttl, given.authorities.len()), (100, 900, 2));
        let plain = super::given(whole, Some(&links), &Query::of(question("a.net", Type::A)), 1_500);
        assert_eq!((plain.answers.len(), plain.authorities.len(), plain.flags.authentic_data), (5, 0, false));
        assert_eq!((plain.answers[4].ttl, plain.edns), (300, None));
    }

    #[test]
    fn an_alias_that_does_not_follow_and_a_loop_lead_nowhere() {
        let dname = opaque("z.net", Type::DNAME, name("org").wire());
        let lie = Record::new(name("b.z.net"), 900, RData::Cname(name("b.com")));
        assert_eq!(links(&reply("b.z.net", vec![dname, lie], vec![])), None);
        let alias = |from: &str, to: &str| Record::new(name(from), 900, RData::Cname(name(to)));
        assert_eq!(links(&reply("a.net", vec![alias("a.net", "b.net"), alias("b.net", "a.net")], vec![])), None);
    }

    #[test]
    fn what_is_wrong_with_an_answer_is_told_from_its_records() {
        let address = || Record::new(name("x.org"), 900, RData::A([192, 0, 2, 1].into()));
        let code = |answers: Vec<Record>, now: u32| {
            let links = links(&reply("x.org", answers, vec![])).unwrap();
            links[0].fault(now).map(|fault| fault.code)
        };
        assert_eq!(code(vec![address()], 1_500), Some(ExtendedError::RrsigsMissing));
        let signed = || vec![address(), signature("x.org", Type::A, 2, "org")];
        assert_eq!(code(signed(), 1_500), None);
        assert_eq!(code(signed(), 2_001), Some(ExtendedError::SignatureExpired));
        assert_eq!(code(signed(), 999), Some(ExtendedError::SignatureNotYetValid));
        assert_eq!(code(vec![], 1_500), Some(ExtendedError::NsecMissing));
    }

    /// Signatures and keys by the hundred that all have to be tried (CVE-2023-50387), and denials that have to be hashed.
    #[test]
    fn what_is_judged_of_an_answer_is_bounded() {
        let signed = |owner: &str, covered| vec![signature(owner, covered, 2, "org"); 100];
        let address = Record::new(name("x.org"), 900, RData::A([192, 0, 2, 1].into()));
        let positive = links(&reply("x.org", [vec![address], signed("x.org", Type::A)].concat(), vec![])).unwrap();
        assert_eq!(positive[0].message.answers.len(), 1 + limits::SIGNATURES_PER_RRSET_MAX);
        let denial = |n| {
            let owner = format!("n{n}.org");
            [vec![opaque(&owner, Type::NSEC3, b"\x01\0\0\0\0\0")], signed(&owner, Type::NSEC3)].concat()
        };
        let negative = links(&reply("x.org", vec![], (0..50).flat_map(denial).collect())).unwrap();
        let kept = &negative[0].message.authorities;
        assert_eq!(kept.len(), limits::DENIALS_MAX * (1 + limits::SIGNATURES_PER_RRSET_MAX));
    }
}
