//! Is an answer what its zone says? Signatures and denials are judged by `hickory`, step by step as `resolve::dnssec` cuts
//! an answer; whatever else that needs (keys, DS records, where zones begin) is asked through the forwarder, so that it is
//! kept, shared and bounded as all that is asked. Here is what `hickory` leaves to others: trust anchors that are DS records
//! or stand below the root, how much may be asked for, and why an answer is bogus.
//!
//! Start with [`Validator::judge`].

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::stream::{self, Stream};
use hickory_net::dnssec::DnssecDnsHandle;
use hickory_net::runtime::{RuntimeProvider, Time, TokioRuntimeProvider, TokioTime};
use hickory_net::xfer::{DnsHandle, FirstAnswer};
use hickory_net::{DnsError, NetError};
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS, RRSIG};
use hickory_proto::dnssec::{Proof, TrustAnchors, Verifier};
use hickory_proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Query as Asked};
use hickory_proto::rr::{self, DNSClass, LowerName, RecordType};
use hickory_proto::serialize::binary::BinEncodable;

use super::forwarder::Forwarder;
use crate::clock::unix_time;
use crate::dns::{Class, ExtendedError, Message, Name, Question, Type};
use crate::limits;
use crate::problem::Problem;
use crate::resolve::dnssec::{Anchor, Config, Fault, Link, Reach, Scope, links};

/// What an answer is (RFC 4033, 5). What could not be found out counts as bogus (RFC 4035, 4.3, leaves that to us).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Proved, in these steps.
    Secure(Vec<Link>),
    /// Proved to be in a zone that is not signed, or not validated here.
    Insecure,
    Bogus(Fault),
}

/// Judges answers of upstreams.
pub(super) struct Validator {
    scope: Scope,
    anchors: Vec<Anchor>,
    tolerance: Duration,
    /// The keys of zones with anchors, as they are now.
    primed: Mutex<HashMap<Name, Arc<Primed>>>,
    /// That upstreams strip signatures, and that the clock is wrong, has been told.
    has_told: AtomicBool,
}

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Validator").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// A zone with a trust anchor, whose own keys are proved.
struct Primed {
    handle: DnssecDnsHandle<Asker>,
    keys: Arc<TrustAnchors>,
    until: Instant,
}

/// One step that is judged.
struct Case {
    forwarder: Arc<Forwarder>,
    anchor: Name,
    /// Seconds since 1970.
    now: u64,
    /// The answer itself; taken by the first who asks.
    answer: Mutex<Option<DnsResponse>>,
    /// Look-ups that may still be made.
    left: Arc<AtomicUsize>,
    /// What they found out of the way, the first of it.
    fault: Mutex<Option<Fault>>,
}

tokio::task_local! {
    /// What is being judged, for those whom `hickory` asks in its course.
    static CASE: Arc<Case>;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn indeterminate(text: String) -> Fault {
    Fault::new(ExtendedError::DnssecIndeterminate, text)
}

impl Validator {
    /// `routes` are domains that others than the usual upstreams are asked about, or about which the usual ones are asked all
    /// the same. What is wrong with the anchors' file is told; the others count.
    pub(super) fn new(config: &Config, routes: &[(Name, Reach)]) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut anchors = config.trust_anchors.clone();
        if let Some(file) = &config.trust_anchor_file {
            let (found, wrong) = read_anchors(file);
            anchors.extend(found);
            problems.extend(wrong);
        }
        if !anchors.iter().any(|anchor| anchor.zone.is_root()) {
            anchors.extend(Anchor::root());
        }
        let mut scope = Scope::default();
        routes.iter().for_each(|(domain, reach)| scope.add(domain, *reach));
        anchors.iter().for_each(|anchor| scope.add(&anchor.zone, Reach::Anchor));
        config.exceptions.iter().for_each(|domain| scope.add(domain, Reach::Exception));
        let (primed, has_told) = Default::default();
        (Self { scope, anchors, tolerance: config.time_tolerance, primed, has_told }, problems)
    }

    /// The anchor from which an answer to this question would be proved; `None` when it is not validated.
    pub(super) fn anchor_of(&self, question: &Question) -> Option<Name> {
        self.scope.anchor_of(question)
    }

    /// All that it goes by, the same for the same rules.
    pub(super) fn written(&self) -> Vec<String> {
        let mut lines = self.scope.written();
        lines.extend(self.anchors.iter().map(|anchor| format!("{anchor:?}")));
        lines.push(format!("{:?}", self.tolerance));
        lines
    }

    /// Judges a whole answer with NOERROR or NXDOMAIN, which came with all that proves it.
    pub(super) async fn judge(&self, forwarder: &Arc<Forwarder>, reply: &Message) -> Verdict {
        let judged = self.judge_links(forwarder, reply);
        match tokio::time::timeout(limits::VALIDATION_TIME_MAX, judged).await {
            Ok(verdict) => verdict,
            Err(_) => Verdict::Bogus(indeterminate("what would prove it did not come in time".into())),
        }
    }

    async fn judge_links(&self, forwarder: &Arc<Forwarder>, reply: &Message) -> Verdict {
        let Some(links) = links(reply) else {
            return Verdict::Bogus(Fault::new(ExtendedError::DnssecBogus, "its aliases lead nowhere".into()));
        };
        let left = Arc::new(AtomicUsize::new(limits::VALIDATION_LOOKUPS_MAX));
        let mut is_secure = true;
        for link in &links {
            match self.judge_link(forwarder, link, &left).await {
                Ok(proved) => is_secure &= proved,
                Err(fault) => return Verdict::Bogus(fault),
            }
        }
        if is_secure { Verdict::Secure(links) } else { Verdict::Insecure }
    }

    /// Is one step proved? An error when it is bogus. A clock that is a little wrong is borne with.
    async fn judge_link(&self, forwarder: &Arc<Forwarder>, link: &Link, left: &Arc<AtomicUsize>) -> Result<bool, Fault> {
        let Some(anchor) = self.anchor_of(&link.question) else { return Ok(false) };
        let now = unix_time().as_secs();
        let primed = self.primed(forwarder, &anchor, now).await?;
        let at = |now, handle| judge_at(forwarder, link, &anchor, handle, left, now);
        let fault = match at(now, primed.handle.clone()).await {
            Err(fault) => fault,
            proved => return proved,
        };
        let tolerance = self.tolerance.as_secs();
        let other = match fault.code {
            ExtendedError::SignatureExpired if tolerance > 0 => now.saturating_sub(tolerance),
            ExtendedError::SignatureNotYetValid if tolerance > 0 => now + tolerance,
            _ => return Err(fault),
        };
        // What is remembered of other answers was judged at another time.
        let handle = DnssecDnsHandle::with_trust_anchor(Asker, primed.keys.clone()).validation_cache_size(1);
        at(other, handle).await.map_err(|_| fault)
    }

    /// The keys of a zone with a trust anchor (RFC 4035, 5): all of them, once one that is trusted has signed them.
    async fn primed(&self, forwarder: &Arc<Forwarder>, zone: &Name, now: u64) -> Result<Arc<Primed>, Fault> {
        let known = lock(&self.primed).get(zone).filter(|primed| Instant::now() < primed.until).cloned();
        if let Some(primed) = known {
            return Ok(primed);
        }
        let question = Question { name: zone.clone(), qtype: Type::DNSKEY, qclass: Class::IN };
        let reply = forwarder.ask_unjudged(question).await.map_err(indeterminate)?;
        let anchors = self.anchors.iter().filter(|anchor| anchor.zone == *zone);
        let primed = prime(zone, anchors, &reply, now, self.tolerance.as_secs()).inspect_err(|fault| self.tell(zone, fault))?;
        let primed = Arc::new(primed);
        lock(&self.primed).insert(zone.clone(), primed.clone());
        Ok(primed)
    }

    /// Says, once, what keeps everything from being validated.
    fn tell(&self, zone: &Name, fault: &Fault) {
        if self.has_told.swap(true, Ordering::Relaxed) {
            return;
        }
        let hint = match fault.code {
            ExtendedError::SignatureExpired | ExtendedError::SignatureNotYetValid => {
                "set this host's clock; the names of its time servers belong in `exceptions` of [forward.dnssec], so that they \
                 can be looked up while it is wrong"
            }
            ExtendedError::RrsigsMissing => {
                "upstreams that strip signatures cannot be validated: ask others, or set `validate = false` in [forward.dnssec]"
            }
            _ => "are the trust anchors of [forward.dnssec] those of this zone, and do the upstreams pass on DNSSEC's records?",
        };
        let problem = Problem::new(format!("no answer can be validated below {zone}: {fault}")).hint(hint);
        tracing::error!("{problem}");
    }
}

/// The trust anchors of a file, and what is wrong with the others.
pub(super) fn read_anchors(file: &Path) -> (Vec<Anchor>, Vec<Problem>) {
    match crate::file::read_text(file, limits::CONFIG_OCTETS_MAX) {
        Ok(text) => {
            let (anchors, wrong) = Anchor::read_all(&text);
            let told = wrong.into_iter().take(limits::PROBLEMS_PER_FILE_MAX);
            let told = told.map(|(line, message)| Problem::new(format!("line {line}: {message}")).in_file(file));
            (anchors, told.collect())
        }
        Err(error) => {
            let problem = Problem::new(format!("cannot read trust anchors: {error}")).in_file(file);
            (Vec::new(), vec![problem.hint("names below them are judged by the anchors of the domains above")])
        }
    }
}

/// Finds which keys of a zone are believed, and whether they have signed the others.
fn prime<'a>(
    zone: &Name,
    anchors: impl Iterator<Item = &'a Anchor>,
    reply: &Message,
    now: u64,
    tolerance: u64,
) -> Result<Primed, Fault> {
    let missing = |text: String| Fault::new(ExtendedError::DnskeyMissing, text);
    let bogus = |text: String| Fault::new(ExtendedError::DnssecBogus, text);
    let links = links(reply).unwrap_or_default();
    let link = links.first().filter(|link| !link.is_negative());
    let link = link.ok_or_else(|| missing(format!("{zone} came without DNSKEY records")))?;
    let records =
        respond(&link.message).ok_or_else(|| bogus(format!("the keys of {zone} cannot be read")))?.into_message().answers;
    let (signatures, keys): (Vec<rr::Record>, Vec<rr::Record>) =
        records.into_iter().partition(|record| record.record_type() == RecordType::RRSIG);
    let key_of = |record: &rr::Record| match &record.data {
        rr::RData::DNSSEC(DNSSECRData::DNSKEY(key)) if key.zone_key() && !key.revoke() => Some(key.clone()),
        _ => None,
    };
    let owner = hickory_name(zone);
    let believed: Vec<Believed> = anchors.filter_map(Believed::of).collect();
    let seeds: Vec<DNSKEY> = keys
        .iter()
        .filter_map(key_of)
        .filter(|key| believed.iter().any(|anchor| anchor.tells(&owner, key)))
        .take(limits::SIGNATURES_PER_RRSET_MAX)
        .collect();
    if seeds.is_empty() {
        return Err(missing(format!("no key of {zone} is one of its trust anchors")));
    }
    let is_signed = |time: u32| {
        signatures.iter().filter_map(|record| record.try_borrow::<RRSIG>()).any(|signature| {
            let (data, input) = (signature.data(), signature.data().input());
            let holds =
                rr::SerialNumber::new(time) <= input.sig_expiration && rr::SerialNumber::new(time) >= input.sig_inception;
            let by = |key: &&DNSKEY| {
                key.algorithm() == input.algorithm && key.calculate_key_tag().is_ok_and(|tag| tag == input.key_tag)
            };
            let verifies = |key: &DNSKEY| key.verify_rrsig(&owner, DNSClass::IN, data, keys.iter()).is_ok();
            holds && input.signer_name == owner && seeds.iter().filter(by).any(verifies)
        })
    };
    let times = [now, now.saturating_sub(tolerance), now + tolerance];
    if !times.into_iter().any(|time| is_signed(time as u32)) {
        return Err(link.fault(now as u32).unwrap_or_else(|| bogus(format!("no trust anchor has signed the keys of {zone}"))));
    }
    let mut trusted = TrustAnchors::empty();
    for key in keys.iter().filter_map(key_of) {
        trusted.insert_with_name(key.public_key(), LowerName::new(&owner));
    }
    let trusted = Arc::new(trusted);
    let handle = DnssecDnsHandle::with_trust_anchor(Asker, trusted.clone());
    let handle = handle.validation_cache_size(limits::VALIDATED_RRSETS_MAX);
    let ttl = keys.iter().map(|key| key.ttl).min().unwrap_or_default().clamp(60, 86_400);
    Ok(Primed { handle, keys: trusted, until: Instant::now() + Duration::from_secs(ttl.into()) })
}

/// A trust anchor as the library has it.
enum Believed {
    Digest(DS),
    Key(DNSKEY),
}

impl Believed {
    fn of(anchor: &Anchor) -> Option<Self> {
        let record = crate::dns::Record::new(anchor.zone.clone(), 0, anchor.data.clone());
        let question = Question { name: anchor.zone.clone(), qtype: anchor.data.record_type(), qclass: Class::IN };
        let mut message = crate::dns::Query::of(question).response(crate::dns::Rcode::NOERROR);
        message.answers.push(record);
        match respond(&message)?.into_message().answers.pop()?.data {
            rr::RData::DNSSEC(DNSSECRData::DS(digest)) => Some(Self::Digest(digest)),
            rr::RData::DNSSEC(DNSSECRData::DNSKEY(key)) => Some(Self::Key(key)),
            _ => None,
        }
    }

    /// Is it this key that is believed?
    fn tells(&self, owner: &rr::Name, key: &DNSKEY) -> bool {
        match self {
            Self::Key(own) => own.public_key() == key.public_key(),
            Self::Digest(digest) => {
                let is_meant = digest.algorithm() == key.algorithm()
                    && digest.digest_type().is_supported()
                    && key.calculate_key_tag().is_ok_and(|tag| tag == digest.key_tag());
                is_meant && digest.covers(owner, key).unwrap_or(false)
            }
        }
    }
}

/// Judges one step as at this time.
async fn judge_at(
    forwarder: &Arc<Forwarder>,
    link: &Link,
    anchor: &Name,
    handle: DnssecDnsHandle<Asker>,
    left: &Arc<AtomicUsize>,
    now: u64,
) -> Result<bool, Fault> {
    let unreadable = || Fault::new(ExtendedError::DnssecBogus, "its records cannot be read".into());
    let Link { question, message, .. } = link;
    let case = Arc::new(Case {
        forwarder: forwarder.clone(),
        anchor: anchor.clone(),
        now,
        answer: Mutex::new(Some(respond(message).ok_or_else(unreadable)?)),
        left: left.clone(),
        fault: Mutex::default(),
    });
    let (name, kind) = (hickory_name(&question.name), RecordType::from(question.qtype.0));
    let judged = CASE.scope(case.clone(), async {
        handle.lookup(Asked::query(name.clone(), kind), DnsRequestOptions::default()).first_answer().await
    });
    let (proof, denied) = match judged.await {
        Ok(response) if !link.is_negative() => {
            let own = response.answers.iter().filter(|record| record.record_type() == kind && record.name == name);
            // One that is worth less than the others is what the whole of them is worth.
            let least = own.map(|record| record.proof).reduce(|one, other| if is_worse(one, other) { one } else { other });
            (least.unwrap_or(Proof::Bogus), response)
        }
        Ok(response) => {
            let is_proved = response.authorities.iter().any(|record| record.proof == Proof::Secure && is_denial(record));
            (if is_proved { Proof::Secure } else { Proof::Insecure }, response)
        }
        Err(NetError::Dns(DnsError::Nsec { proof, response, .. })) => {
            let proof = match proof {
                Proof::Insecure => Proof::Insecure,
                _ if !link.is_negative() && is_expanded(&name, kind, &response) => Proof::Secure,
                _ => Proof::Bogus,
            };
            (proof, *response)
        }
        Err(error) => {
            let fault = lock(&case.fault).take();
            return Err(fault.unwrap_or_else(|| Fault::new(ExtendedError::DnssecBogus, error.to_string())));
        }
    };
    match proof {
        // Below a span that is opted out of there may be zones that are not signed (RFC 5155, 9.2).
        Proof::Secure => Ok(!is_opted_out(&name, &denied)),
        Proof::Insecure => Ok(false),
        Proof::Bogus | Proof::Indeterminate => {
            Err(lock(&case.fault).take().or_else(|| link.fault(now as u32)).unwrap_or_else(|| {
                let text = match link.is_negative() {
                    true => "what came does not prove that there is no such name or record".into(),
                    false => format!("the signature of {} of {} is wrong", question.qtype, question.name),
                };
                Fault::new(ExtendedError::DnssecBogus, text)
            }))
        }
    }
}

fn is_worse(one: Proof, other: Proof) -> bool {
    let rank = |proof| match proof {
        Proof::Secure => 2,
        Proof::Insecure => 1,
        Proof::Bogus | Proof::Indeterminate => 0,
    };
    rank(one) < rank(other)
}

fn is_denial(record: &rr::Record) -> bool {
    [RecordType::NSEC, RecordType::NSEC3].contains(&record.record_type())
}

/// Are these records proved to be those of a wildcard, and does an NSEC record prove that none is closer to the name (RFC
/// 4035, 5.3.4)? `hickory` wants the wildcard itself denied too, whose own NSEC record it may be that proves it.
fn is_expanded(name: &rr::Name, kind: RecordType, response: &DnsResponse) -> bool {
    let is_secure = |record: &&rr::Record| record.proof == Proof::Secure;
    let own = || response.answers.iter().filter(|record| record.record_type() == kind);
    let signed = response.answers.iter().filter(is_secure).filter_map(|record| record.try_borrow::<RRSIG>());
    let labels = signed.map(|signature| signature.data().input().num_labels).min();
    let in_common = |other: &rr::Name| {
        let both = name.iter().rev().zip(other.iter().rev());
        both.take_while(|(one, other)| one.eq_ignore_ascii_case(other)).count()
    };
    let denies = |record: &rr::Record| {
        let rr::RData::DNSSEC(DNSSECRData::NSEC(nsec)) = &record.data else { return false };
        let (owner, next) = (&record.name, nsec.next_domain_name());
        let is_last = next <= owner && next.zone_of(name);
        // RFC 6840, 4.1: above a zone's cut nothing is known of what is below it.
        let is_blind = nsec.is_ancestor_delegation() && owner.zone_of(name);
        let encloser = in_common(owner).max(in_common(next));
        name > owner && (name < next || is_last) && !is_blind && labels.is_some_and(|labels| usize::from(labels) == encloser)
    };
    own().all(|record| is_secure(&record))
        && own().next().is_some()
        && response.authorities.iter().filter(is_secure).any(denies)
}

/// Does a denial rest on a span that is opted out of, and not on the name itself?
fn is_opted_out(name: &rr::Name, response: &DnsResponse) -> bool {
    let spans = response.authorities.iter().filter_map(|record| match &record.data {
        rr::RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) => Some((record, nsec3)),
        _ => None,
    });
    let mut opted_out = false;
    for (record, nsec3) in spans {
        let hash = nsec3.hash_algorithm().hash(nsec3.salt(), name, nsec3.iterations());
        let own = hash.ok().map(|hash| data_encoding::BASE32_DNSSEC.encode(hash.as_ref()));
        let label = record.name.iter().next().unwrap_or_default();
        if own.is_some_and(|own| own.as_bytes().eq_ignore_ascii_case(label)) {
            return false;
        }
        opted_out |= nsec3.opt_out();
    }
    opted_out
}

fn respond(message: &Message) -> Option<DnsResponse> {
    DnsResponse::from_buffer(message.compose(false)).ok()
}

fn hickory_name(name: &Name) -> rr::Name {
    let mut name = rr::Name::from_labels(name.labels()).unwrap_or_else(|_| rr::Name::root());
    name.set_fqdn(true);
    name
}

/// What `hickory` asks in the course of a judgement.
#[derive(Clone)]
struct Asker;

impl DnsHandle for Asker {
    type Response = Pin<Box<dyn Stream<Item = Result<DnsResponse, NetError>> + Send>>;
    type Runtime = Runtime;

    fn send(&self, request: DnsRequest) -> Self::Response {
        let case = CASE.try_with(Arc::clone);
        Box::pin(stream::once(async move {
            let Ok(case) = case else { return Err(NetError::from("nothing is being judged")) };
            if let Some(answer) = lock(&case.answer).take() {
                return Ok(answer);
            }
            let Some(asked) = request.queries.first() else { return Err(NetError::from("no question")) };
            case.look_up(asked).await.map_err(|fault| {
                let error = NetError::from(fault.text.clone());
                lock(&case.fault).get_or_insert(fault);
                error
            })
        }))
    }
}

impl Case {
    async fn look_up(&self, asked: &Asked) -> Result<DnsResponse, Fault> {
        let wire = asked.name().to_bytes().ok().and_then(|octets| Name::parse(&octets, 0).ok());
        let name = wire.map(|(name, _)| name).ok_or_else(|| indeterminate("a name cannot be read".into()))?;
        let question = Question { name, qtype: Type(asked.query_type().into()), qclass: Class::IN };
        // Above an anchor nothing counts: whoever is sent there has left the zone that the anchor vouches for.
        if !question.name.is_within(&self.anchor) || question.qtype == Type::DS && question.name == self.anchor {
            return Err(Fault::new(
                ExtendedError::DnssecBogus,
                format!("{} has a trust anchor and did not sign this", self.anchor),
            ));
        }
        let spent = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err();
        if spent {
            return Err(indeterminate(format!("more than {} look-ups would prove it", limits::VALIDATION_LOOKUPS_MAX)));
        }
        let what = format!("{} of {}", question.qtype, question.name);
        let is_key = question.qtype == Type::DNSKEY;
        let reply = self.forwarder.ask_unjudged(question).await;
        let reply = reply.map_err(|text| match is_key {
            true => Fault::new(ExtendedError::DnskeyMissing, text),
            false => indeterminate(text),
        })?;
        let link = links(&reply).and_then(|links| links.into_iter().next());
        let link = link.ok_or_else(|| indeterminate(format!("{what} lead nowhere")))?;
        let is_chain = [Type::DNSKEY, Type::DS].contains(&link.question.qtype);
        if is_chain && link.message.answers.len() > limits::KEYS_PER_ZONE_MAX + limits::SIGNATURES_PER_RRSET_MAX {
            return Err(indeterminate(format!("expected at most {} records of {what}, got more", limits::KEYS_PER_ZONE_MAX)));
        }
        if is_key && link.is_negative() {
            let fault = Fault::new(ExtendedError::DnskeyMissing, format!("{what} came without any"));
            lock(&self.fault).get_or_insert(fault);
        } else if is_chain && let Some(fault) = link.fault(self.now as u32) {
            // Whether it matters is found out by whoever asked.
            lock(&self.fault).get_or_insert(fault);
        }
        respond(&link.message).ok_or_else(|| indeterminate(format!("{what} cannot be read")))
    }
}

/// The runtime as `hickory` wants it: the time is that of the case, and there are no sockets.
#[derive(Clone)]
struct Runtime;

struct Clock;

#[async_trait]
impl Time for Clock {
    async fn delay_for(duration: Duration) {
        TokioTime::delay_for(duration).await
    }

    async fn timeout<F: 'static + Future + Send>(duration: Duration, future: F) -> Result<F::Output, io::Error> {
        TokioTime::timeout(duration, future).await
    }

    fn current_time() -> u64 {
        CASE.try_with(|case| case.now).unwrap_or_default()
    }
}

type Stock = TokioRuntimeProvider;
type Made<T> = Pin<Box<dyn Send + Future<Output = io::Result<T>>>>;

impl RuntimeProvider for Runtime {
    type Handle = <Stock as RuntimeProvider>::Handle;
    type Timer = Clock;
    type Udp = <Stock as RuntimeProvider>::Udp;
    type Tcp = <Stock as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        Stock::default().create_handle()
    }

    fn connect_tcp(&self, _: SocketAddr, _: Option<SocketAddr>, _: Option<Duration>) -> Made<Self::Tcp> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn bind_udp(&self, _: SocketAddr, _: SocketAddr) -> Made<Self::Udp> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}
