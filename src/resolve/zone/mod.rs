//! Whose zones are these? The master files of a folder, answered with authority: any record type, wildcards, aliases,
//! delegations, negative answers with their SOA.
//!
//! Not here: hosts files and single records (`local`), transfers, signing. `hickory-server` is the authority behind it
//! (`authority`); its types end there.
//!
//! Start with [`Zones::load`]. An answer is prepared once, by [`Zones::answer`], and its octets are kept, so that the next
//! one is a copy: [`Zones::kept`]. A reload makes new [`Zones`], which have kept nothing yet.
//!
//! Where a zone overlaps the discovery domain, it speaks for the names that it has ([`Zones::has`]) and for no others, or a
//! zone `consul.` would hide all services: whoever routes asks `has` there, and [`Zones::covers`] elsewhere.

mod authority;
mod master;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use moka::sync::Cache;
use serde::Deserialize;

use self::authority::Authority;
use self::master::Files;
pub(super) use self::master::each_record;
use super::open_alias;
use super::passing::{NO_DATA_TYPE, OTHER_CLASS, ROUND, own_edns, truncated};
use super::rotation::Rotation;
use crate::dns::{Class, ExtendedError, Message, Name, Opcode, Query, Rcode, Type};
use crate::file::Stamp;
use crate::limits::{ALIASES_MAX, ZONE_ANSWERS_OCTETS_MAX, ZONES_MAX};
use crate::problem::Problem;

/// Octets that a kept answer costs besides its key and its octets.
const KEPT_OVERHEAD: usize = 160;

/// `[zones]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the `NAME.zone` files are.
    pub folder: Option<PathBuf>,
}

/// All zones of a folder.
pub struct Zones {
    folder: Option<PathBuf>,
    /// Could it be seen which files it has?
    is_listed: bool,
    /// By apex, in wire form and lower case.
    by_apex: HashMap<Box<[u8]>, Arc<Authority>, foldhash::fast::RandomState>,
    by_file: BTreeMap<PathBuf, ZoneFile>,
    answers: Cache<Box<[u8]>, Prepared, foldhash::fast::RandomState>,
}

/// An answer, and the addresses in it that take turns.
#[derive(Clone)]
struct Prepared {
    octets: Arc<[u8]>,
    rotation: Option<Rotation>,
}

/// A file of the folder.
#[derive(Clone)]
struct ZoneFile {
    /// It, and what it includes.
    read: Files,
    /// What it said when it was last good.
    zone: Option<Arc<Authority>>,
}

impl ZoneFile {
    fn has_changed(&self) -> bool {
        self.read.iter().any(|(path, stamp)| Stamp::of(path) != *stamp)
    }
}

impl Zones {
    /// No zones.
    pub fn none() -> Self {
        let answers = Cache::<Box<[u8]>, Prepared>::builder()
            .weigher(|key, Prepared { octets, .. }| u32::try_from(key.len() + octets.len() + KEPT_OVERHEAD).unwrap_or(u32::MAX))
            .max_capacity(ZONE_ANSWERS_OCTETS_MAX)
            .build_with_hasher(foldhash::fast::RandomState::default());
        Self { folder: None, is_listed: false, by_apex: HashMap::default(), by_file: BTreeMap::new(), answers }
    }

    /// Reads every `NAME.zone` of `folder`. A bad file is told; what `previous` had of it is served on.
    pub fn load(folder: &Path, previous: Option<&Zones>) -> (Self, Vec<Problem>) {
        Self::load_with(folder, previous, |_| true)
    }

    /// The zones as their files are now, when any of these has changed; the others are not read again.
    pub fn reload(&self) -> Option<(Self, Vec<Problem>)> {
        let folder = self.folder.as_deref()?;
        let has_changed = match zone_files(folder) {
            Ok((files, _)) => {
                !self.is_listed || !files.iter().eq(self.by_file.keys()) || self.by_file.values().any(ZoneFile::has_changed)
            }
            Err(_) => self.is_listed,
        };
        has_changed.then(|| Self::load_with(folder, Some(self), ZoneFile::has_changed))
    }

    /// What is made of them: the folder, and all files that were read.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let files = self.by_file.values().flat_map(|file| file.read.keys());
        self.folder.iter().chain(files).map(PathBuf::as_path)
    }

    fn load_with(folder: &Path, previous: Option<&Zones>, is_due: fn(&ZoneFile) -> bool) -> (Self, Vec<Problem>) {
        let mut zones = Self { folder: Some(folder.to_owned()), is_listed: true, ..Self::none() };
        let mut problems = Vec::new();
        let (files, left_out) = match zone_files(folder) {
            Ok(listed) => listed,
            Err(error) => {
                let problem = Problem::new(format!("cannot read the folder of zone files: {error}")).in_file(folder);
                problems.push(problem.hint("`folder` of [zones] names it"));
                // The files may be there again later; until then nothing is taken away.
                if let Some(previous) = previous {
                    (zones.by_apex, zones.by_file) = (previous.by_apex.clone(), previous.by_file.clone());
                }
                return (Self { is_listed: false, ..zones }, problems);
            }
        };
        if left_out > 0 {
            let got = files.len() + left_out;
            let problem = format!("expected at most {ZONES_MAX} zone files, got {got}; the last ones are left out");
            problems.push(Problem::new(problem).in_file(folder));
        }
        for file in files {
            let former = previous.and_then(|previous| previous.by_file.get(&file));
            if let Some(former) = former.filter(|former| !is_due(former)) {
                zones.add(file, former.clone(), &mut problems);
                continue;
            }
            let mut read = Files::new();
            let zone = match read_zone(&file, &mut read) {
                Ok(zone) => Some(Arc::new(zone)),
                Err(told) => {
                    let last_good = former.and_then(|former| former.zone.clone());
                    let meanwhile = match &last_good {
                        Some(zone) => format!("the last good form of {} is served meanwhile", zone.apex()),
                        None => "nothing of this file is served".to_owned(),
                    };
                    let told = told
                        .into_iter()
                        .map(|problem| Problem { message: format!("{}; {meanwhile}", problem.message), ..problem });
                    problems.extend(told);
                    last_good
                }
            };
            zones.add(file, ZoneFile { read, zone }, &mut problems);
        }
        (zones, problems)
    }

    fn add(&mut self, path: PathBuf, file: ZoneFile, problems: &mut Vec<Problem>) {
        if let Some(zone) = &file.zone {
            let key: Box<[u8]> = zone.apex().to_lowercase().wire().into();
            if let Some(present) = self.by_apex.get(&key) {
                let is_its = |file: &ZoneFile| file.zone.as_ref().is_some_and(|zone| Arc::ptr_eq(zone, present));
                let other = self.by_file.iter().find(|(_, file)| is_its(file));
                let other = other.map_or_else(|| Path::new("another file").display(), |(other, _)| other.display());
                let message = format!("the zone {} is in {other} already; nothing of this file is served", zone.apex());
                let problem = Problem::new(message).in_file(&path);
                problems.push(problem.hint("keep one file a zone, or give it another $ORIGIN"));
            } else {
                self.by_apex.insert(key, zone.clone());
            }
        }
        self.by_file.insert(path, file);
    }

    /// The names at which zones start.
    pub fn apexes(&self) -> Vec<Name> {
        let mut apexes: Vec<Name> = self.by_apex.values().map(|zone| zone.apex().clone()).collect();
        apexes.sort_by_key(Name::to_string);
        apexes
    }

    /// Is `name` at or below the start of a zone?
    pub fn covers(&self, name: &Name) -> bool {
        self.zone_of(name).is_some()
    }

    /// Does a zone have records of this very name?
    pub fn has(&self, name: &Name) -> bool {
        self.zone_of(name).is_some_and(|zone| zone.has(name))
    }

    /// The zone with the longest apex that `name` is within. On every query's way, so without allocation.
    fn zone_of(&self, name: &Name) -> Option<&Arc<Authority>> {
        if self.by_apex.is_empty() {
            return None;
        }
        let mut buffer = [0; 255];
        let lower = buffer.get_mut(..name.wire().len())?;
        lower.copy_from_slice(name.wire());
        lower.make_ascii_lowercase();
        let mut rest: &[u8] = lower;
        loop {
            if let Some(zone) = self.by_apex.get(rest) {
                return Some(zone);
            }
            let label = usize::from(*rest.first()?);
            rest = rest.get(label + 1..).filter(|_| label > 0)?;
        }
    }

    /// Writes the kept answer to a question into `out`, if there is one, with the id, the case and the RD and CD bits of
    /// this query. An answer above `limit` octets is cut down to its question with TC set.
    pub fn kept(&self, query: &Query, limit: usize, out: &mut Vec<u8>) -> bool {
        let mut buffer = [0; KEY_MAX];
        let Some(prepared) = key(query, &mut buffer).and_then(|key| self.answers.get(key)) else { return false };
        write(query, &prepared, limit, out)
    }

    /// Prepares an answer, keeps it, and writes it into `out` as [`Zones::kept`] does.
    pub async fn answer(&self, query: &Query, limit: usize, out: &mut Vec<u8>) {
        let message = self.message(query).await;
        let octets: Arc<[u8]> = message.compose(true).into();
        let prepared = Prepared { rotation: Rotation::of(&octets), octets };
        // An alias that leads out of the zones is completed by others, whose part has a life of its own.
        if message.rcode != Rcode::REFUSED && open_alias(&message).is_none() {
            let mut buffer = [0; KEY_MAX];
            if let Some(key) = key(query, &mut buffer) {
                self.answers.insert(key.into(), prepared.clone());
            }
        }
        write(query, &prepared, limit, out);
    }

    /// The whole answer, whatever its size. Where its last alias leads out of all zones, [`open_alias`] says to what.
    pub async fn message(&self, query: &Query) -> Message {
        let mut message = query.response(Rcode::NOERROR);
        message.flags.authoritative = true;
        message.flags.recursion_available = true;
        message.edns = own_edns(query);
        let question = &query.question;
        let is_transfer = [Type::AXFR, Type::IXFR].contains(&question.qtype);
        let is_in = [Class::IN, Class::ANY].contains(&question.qclass);
        if query.opcode != Opcode::QUERY || is_transfer || !is_in || !self.covers(&question.name) {
            message.flags.authoritative = false;
            let (rcode, (code, text)) = match query.opcode {
                Opcode::QUERY if is_in => (Rcode::REFUSED, NO_DATA_TYPE),
                Opcode::QUERY => (Rcode::REFUSED, OTHER_CLASS),
                _ => (Rcode::NOTIMP, (ExtendedError::NotSupported, Query::ONLY)),
            };
            message.rcode = rcode;
            message.give_reason(code, text);
            return message;
        }
        let mut name = question.name.clone();
        for _ in 0..=ALIASES_MAX {
            let Some(zone) = self.zone_of(&name) else { return message };
            match zone.answer(&mut message, &name, question.qtype).await {
                Some(target) => name = target,
                None => return message,
            }
        }
        let mut failed = Message { answers: Vec::new(), additionals: Vec::new(), rcode: Rcode::SERVFAIL, ..message };
        failed.give_reason(ExtendedError::Other, ROUND);
        failed
    }
}

impl std::fmt::Debug for Zones {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.apexes()).finish()
    }
}

/// The `NAME.zone` files of a folder in the order of their names, and how many there are beyond as many as may be.
fn zone_files(folder: &Path) -> std::io::Result<(Vec<PathBuf>, usize)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "zone") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    let left_out = files.len().saturating_sub(ZONES_MAX);
    files.truncate(ZONES_MAX);
    Ok((files, left_out))
}

/// What is wrong with a zone file.
pub fn check(file: &Path) -> Vec<Problem> {
    read_zone(file, &mut Files::new()).err().unwrap_or_default()
}

/// Reads a zone; `files` is told of all that was read for it.
fn read_zone(file: &Path, files: &mut Files) -> Result<Authority, Vec<Problem>> {
    files.insert(file.to_owned(), Stamp::of(file));
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let origin = Name::from_idn(stem).map_err(|error| {
        vec![
            Problem::new(format!("expected the name of a zone before `.zone`: {error}"))
                .in_file(file)
                .hint("for example example.com.zone"),
        ]
    })?;
    let master = master::read(file, &origin, files)?;
    Authority::new(master).map_err(|error| vec![Problem::new(error).in_file(file)])
}

/// The longest key: a name, a type, a class, and one octet of bits.
const KEY_MAX: usize = 255 + 5;

/// What a kept answer depends on: the name in lower case, type, class, whether there is EDNS, and DO.
fn key<'a>(query: &Query, buffer: &'a mut [u8; KEY_MAX]) -> Option<&'a [u8]> {
    if query.opcode != Opcode::QUERY {
        return None;
    }
    let name = query.question.name.wire();
    let key = buffer.get_mut(..name.len() + 5)?;
    let (lower, rest) = key.split_at_mut(name.len());
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let [type_high, type_low] = query.question.qtype.0.to_be_bytes();
    let [class_high, class_low] = query.question.qclass.0.to_be_bytes();
    let bits = match &query.edns {
        None => 0,
        Some(edns) => 1 | u8::from(edns.dnssec_ok) << 1,
    };
    rest.copy_from_slice(&[type_high, type_low, class_high, class_low, bits]);
    Some(key)
}

/// Writes prepared octets as the answer to this query; `false` when they are none.
fn write(query: &Query, Prepared { octets, rotation }: &Prepared, limit: usize, out: &mut Vec<u8>) -> bool {
    let name = query.question.name.wire();
    if octets.len() < Message::HEADER + name.len() + 4 {
        return false;
    }
    out.clear();
    if octets.len() > limit {
        out.extend(truncated(query, octets, limit));
        return true;
    }
    out.extend_from_slice(octets);
    out[..2].copy_from_slice(&query.id.to_be_bytes());
    if let Some(rotation) = rotation {
        rotation.turn(out);
    }
    out[2] = out[2] & !1 | u8::from(query.flags.recursion_desired);
    out[3] = out[3] & !0x10 | u8::from(query.flags.checking_disabled) << 4;
    // Every later owner of this name is a pointer to the question, and so has its case, too.
    out[Message::HEADER..Message::HEADER + name.len()].copy_from_slice(name);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Edns, Flags, Question, RData};

    const SAMPLE: &str = r#"
$TTL 300
@       SOA     ns hostmaster (
                1 3600 600     ; serial, refresh, retry
                86400 60 )
        NS      ns
        MX      10 mail
        TXT     ( "v=spf1 a; -all"
                  "second part" )
ns      A       127.0.0.1
mail    A       192.0.2.25
www 1h  IN A    192.0.2.80
        AAAA    2001:db8::80
shop    CNAME   www
far     CNAME   www.elsewhere.example.
lost    CNAME   nowhere
round   CNAME   round2
round2  CNAME   round
*.apps  A       192.0.2.81
*.apps  MX      5 mail
a.deep.apps AAAA 2001:db8::1
_web._tcp SRV   1 2 80 www
odd     TYPE65280 \# 4 C0000201
sub     NS      ns.sub
        NS      ns.other.example.
ns.sub  A       192.0.2.53
@       CAA     0 issue "ca.example"
"#;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn with(files: &[(&str, &str)]) -> Self {
            let folder = Self(tempfile::tempdir().unwrap());
            files.iter().for_each(|(name, text)| folder.write(name, text));
            folder
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.0.path().join(name), text).unwrap();
        }

        fn load(&self, previous: Option<&Zones>) -> (Zones, Vec<Problem>) {
            Zones::load(self.0.path(), previous)
        }
    }

    fn sample() -> Zones {
        let (zones, problems) = Folder::with(&[("example.test.zone", SAMPLE)]).load(None);
        assert_eq!(problems, []);
        zones
    }

    fn query(name: &str, qtype: Type) -> Query {
        let question = Question { name: name.parse().unwrap(), qtype, qclass: Class::IN };
        let flags = Flags { recursion_desired: true, ..Flags::default() };
        Query { id: 7, opcode: Opcode::QUERY, flags, question, edns: None }
    }

    async fn ask(zones: &Zones, name: &str, qtype: Type) -> Message {
        let mut octets = Vec::new();
        zones.answer(&query(name, qtype), Message::MAX, &mut octets).await;
        Message::parse(&octets).unwrap()
    }

    fn data(message: &Message) -> Vec<RData> {
        message.answers.iter().map(|record| record.data.clone()).collect()
    }

    fn types(records: &[crate::dns::Record]) -> Vec<Type> {
        records.iter().map(crate::dns::Record::record_type).collect()
    }

    /// Asserts an empty answer with an SOA whose TTL is the lower of the two (RFC 2308, 3).
    fn assert_negative(message: &Message, rcode: Rcode, what: &str) {
        assert_eq!((message.rcode, types(&message.authorities)), (rcode, vec![Type::SOA]), "{what}");
        assert_eq!(
            (message.authorities[0].ttl, message.authorities[0].owner.to_string().as_str()),
            (60, "example.test."),
            "{what}"
        );
    }

    #[tokio::test]
    async fn every_type_is_answered_with_authority() {
        let zones = sample();
        let www = ask(&zones, "WWW.example.test.", Type::A).await;
        assert_eq!(data(&www), [RData::A([192, 0, 2, 80].into())]);
        assert_eq!((www.answers[0].ttl, www.answers[0].owner.wire()), (3600, &b"\x03WWW\x07example\x04test\x00"[..]));
        assert!(www.flags.authoritative && www.flags.response && www.flags.recursion_desired);
        let txt = ask(&zones, "example.test.", Type::TXT).await;
        assert_eq!(data(&txt), [RData::Txt(vec![b"v=spf1 a; -all"[..].into(), b"second part"[..].into()])]);
        let mx = ask(&zones, "example.test.", Type::MX).await;
        assert_eq!((types(&mx.answers), types(&mx.additionals)), (vec![Type::MX], vec![Type::A]));
        let srv = ask(&zones, "_web._tcp.example.test.", Type::SRV).await;
        assert_eq!((types(&srv.answers), types(&srv.additionals)), (vec![Type::SRV], vec![Type::A, Type::AAAA]));
        let odd = ask(&zones, "odd.example.test.", Type(65280)).await;
        assert_eq!(data(&odd), [RData::Opaque { record_type: Type(65280), octets: [192, 0, 2, 1].into() }]);
        for (kind, count) in [(Type::SOA, 1), (Type::NS, 1), (Type::CAA, 1)] {
            assert_eq!(ask(&zones, "example.test.", kind).await.answers.len(), count, "{kind}");
        }
    }

    #[tokio::test]
    async fn rfc4592_3_3_1_wildcards_match_what_does_not_exist_and_nothing_else() {
        let zones = sample();
        let any = ask(&zones, "x.apps.example.test.", Type::A).await;
        assert_eq!((data(&any), any.answers[0].ttl), (vec![RData::A([192, 0, 2, 81].into())], 300));
        assert_eq!(any.answers[0].owner, "x.apps.example.test.".parse().unwrap());
        assert_eq!(ask(&zones, "x.y.apps.example.test.", Type::MX).await.answers.len(), 1);
        assert_negative(
            &ask(&zones, "x.apps.example.test.", Type::TXT).await,
            Rcode::NOERROR,
            "a type that the wildcard has not",
        );
        assert_negative(&ask(&zones, "a.deep.apps.example.test.", Type::A).await, Rcode::NOERROR, "a name that exists");
        assert_negative(&ask(&zones, "deep.apps.example.test.", Type::A).await, Rcode::NOERROR, "a name between");
        assert_negative(&ask(&zones, "b.deep.apps.example.test.", Type::A).await, Rcode::NXDOMAIN, "below a name that exists");
    }

    #[tokio::test]
    async fn rfc1034_4_3_2_aliases_are_followed_to_their_end() {
        let zones = sample();
        let shop = ask(&zones, "shop.example.test.", Type::A).await;
        assert_eq!(types(&shop.answers), [Type::CNAME, Type::A]);
        assert_eq!(types(&ask(&zones, "shop.example.test.", Type::CNAME).await.answers), [Type::CNAME]);
        let nodata = ask(&zones, "shop.example.test.", Type::MX).await;
        assert_negative(&nodata, Rcode::NOERROR, "an alias to a name without the type");
        let lost = ask(&zones, "lost.example.test.", Type::A).await;
        assert_eq!(types(&lost.answers), [Type::CNAME]);
        assert_negative(&lost, Rcode::NXDOMAIN, "an alias to nothing");
        let far = ask(&zones, "far.example.test.", Type::A).await;
        assert_eq!(open_alias(&far), Some("www.elsewhere.example.".parse().unwrap()));
        assert_eq!(ask(&zones, "round.example.test.", Type::A).await.rcode, Rcode::SERVFAIL);
    }

    #[tokio::test]
    async fn aliases_lead_from_zone_to_zone() {
        let other = "@ 60 SOA ns hostmaster 1 2 3 4 5\nwww A 192.0.2.99\n";
        let (zones, problems) = Folder::with(&[("example.test.zone", SAMPLE), ("elsewhere.example.zone", other)]).load(None);
        assert_eq!(problems, []);
        assert_eq!(types(&ask(&zones, "far.example.test.", Type::A).await.answers), [Type::CNAME, Type::A]);
    }

    #[tokio::test]
    async fn rfc1034_4_3_2_a_delegation_is_a_referral_with_its_glue() {
        let zones = sample();
        for name in ["sub.example.test.", "x.sub.example.test.", "ns.sub.example.test."] {
            let referral = ask(&zones, name, Type::A).await;
            assert_eq!(
                (referral.rcode, referral.flags.authoritative, referral.answers.len()),
                (Rcode::NOERROR, false, 0),
                "{name}"
            );
            assert_eq!(types(&referral.authorities), [Type::NS, Type::NS], "{name}");
            assert_eq!(referral.additionals[0].owner, "ns.sub.example.test.".parse().unwrap(), "{name}");
        }
        assert_negative(&ask(&zones, "sub.example.test.", Type::DS).await, Rcode::NOERROR, "the parent's type");
    }

    #[tokio::test]
    async fn rfc2308_2_what_is_absent_says_so_with_the_soa() {
        let zones = sample();
        assert_negative(&ask(&zones, "www.example.test.", Type::TXT).await, Rcode::NOERROR, "another type");
        assert_negative(&ask(&zones, "nope.example.test.", Type::A).await, Rcode::NXDOMAIN, "another name");
        assert_eq!(ask(&zones, "example.test.", Type::AXFR).await.rcode, Rcode::REFUSED);
        assert_eq!(ask(&zones, "elsewhere.test.", Type::A).await.rcode, Rcode::REFUSED);
        assert!(zones.covers(&"A.EXAMPLE.test.".parse().unwrap()) && !zones.covers(&"test.".parse().unwrap()));
        assert!(zones.has(&"www.example.test.".parse().unwrap()) && !zones.has(&"_tcp.example.test.".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_second_answer_is_kept_and_bears_the_new_query() {
        let zones = sample();
        let first = query("www.example.test.", Type::A);
        let mut out = Vec::new();
        assert!(!zones.kept(&first, 512, &mut out));
        zones.answer(&first, 512, &mut out).await;
        let mut second = query("wWw.Example.TEST.", Type::A);
        second.id = 99;
        second.flags = Flags { checking_disabled: true, ..Flags::default() };
        assert!(zones.kept(&second, 512, &mut out));
        let message = Message::parse(&out).unwrap();
        assert_eq!((message.id, message.flags.recursion_desired, message.flags.checking_disabled), (99, false, true));
        assert_eq!(message.questions[0].name.wire(), second.question.name.wire());
        assert_eq!(message.answers[0].owner.wire(), second.question.name.wire());
        second.edns = Some(Edns { dnssec_ok: true, ..Edns::new(4096) });
        assert!(!zones.kept(&second, 512, &mut out), "with EDNS it is another answer");
        zones.answer(&second, 512, &mut out).await;
        let edns = Message::parse(&out).unwrap().edns.unwrap();
        assert_eq!((edns.udp_size, edns.dnssec_ok), (1232, true));
        assert!(!zones.kept(&query("far.example.test.", Type::A), 512, &mut out));
        zones.answer(&query("far.example.test.", Type::A), 512, &mut out).await;
        assert!(!zones.kept(&query("far.example.test.", Type::A), 512, &mut out), "half an answer is not kept");
    }

    #[tokio::test]
    async fn what_does_not_fit_is_truncated() {
        let mut text = "@ 60 SOA ns hostmaster 1 2 3 4 5\n".to_owned();
        for n in 0..100 {
            text += &format!("many A 192.0.2.{n}\n");
        }
        let (zones, problems) = Folder::with(&[("big.zone", &text)]).load(None);
        assert_eq!(problems, []);
        let mut query = query("many.big.", Type::A);
        let mut out = Vec::new();
        zones.answer(&query, 512, &mut out).await;
        let cut = Message::parse(&out).unwrap();
        assert!(cut.flags.truncated && cut.answers.len() == 30 && cut.edns.is_none() && out.len() <= 512);
        assert!(zones.kept(&query, Message::MAX, &mut out));
        assert_eq!(Message::parse(&out).unwrap().answers.len(), 100);
        query.edns = Some(Edns::new(1232));
        zones.answer(&query, 1232, &mut out).await;
        assert!(Message::parse(&out).is_ok_and(|cut| cut.flags.truncated && cut.edns.is_some()));
    }

    #[test]
    fn kept_answers_are_bounded() {
        let (zones, _) = Folder::with(&[("w.zone", "@ 60 SOA ns hostmaster 1 2 3 4 5\n* TXT x\n")]).load(None);
        let octets: Arc<[u8]> = vec![0; 60_000].into();
        for n in 0..1000u32 {
            let prepared = Prepared { octets: octets.clone(), rotation: None };
            zones.answers.insert(n.to_be_bytes().into(), prepared);
        }
        zones.answers.run_pending_tasks();
        assert!(zones.answers.weighted_size() <= ZONE_ANSWERS_OCTETS_MAX, "{}", zones.answers.weighted_size());
    }

    #[tokio::test]
    async fn a_broken_file_is_told_and_its_last_good_form_stays() {
        let broken = "$TTL 60\n@ SOA ns hostmaster 1 2 3 4 5\nwww A 192.0.2.300\nweb AA 192.0.2.1\n";
        let folder = Folder::with(&[("example.test.zone", SAMPLE), ("broken.zone", broken), ("readme.txt", "not a zone")]);
        let (zones, problems) = folder.load(None);
        assert_eq!(zones.apexes(), ["example.test.".parse().unwrap()]);
        let text: Vec<String> = problems.iter().map(Problem::to_string).collect();
        assert_eq!(text.len(), 2, "{text:?}");
        assert!(
            text[0].contains("broken.zone:3:7: expected the data of a record of type A, got \"192.0.2.300\""),
            "{}",
            text[0]
        );
        assert!(text[0].contains("nothing of this file is served"), "{}", text[0]);
        assert!(text[1].contains("broken.zone:4:5: expected a record type"), "{}", text[1]);

        folder.write("broken.zone", "$TTL 60\n@ SOA ns hostmaster 1 2 3 4 5\nwww A 192.0.2.3\n");
        let (zones, problems) = folder.load(Some(&zones));
        assert_eq!(problems, []);
        folder.write("broken.zone", broken);
        let (zones, problems) = folder.load(Some(&zones));
        assert!(problems[0].message.contains("the last good form of broken. is served meanwhile"), "{}", problems[0]);
        assert_eq!(ask(&zones, "www.broken.", Type::A).await.answers.len(), 1);

        let (kept, problems) = Zones::load(Path::new("/nonexistent"), Some(&zones));
        assert_eq!((kept.apexes().len(), problems.len()), (2, 1));
    }

    #[test]
    fn rfc1912_2_mistakes_are_told_where_they_are() {
        let soa = "@ 60 SOA ns hostmaster 1 2 3 4 5\n";
        for (text, line, said) in [
            ("www A 192.0.2.1\n", 1, "expected a TTL"),
            ("www 60 A 192.0.2.1\n", 0, "expected an SOA record"),
            (" 60 A 192.0.2.1\n", 1, "expected an owner"),
            (&format!("{soa}{soa}"), 2, "got a second one"),
            (&format!("{soa}www TXT \"open\n"), 2, "closing quote"),
            (&format!("{soa}www A ( 192.0.2.1\n"), 2, "closing parenthesis"),
            (&format!("{soa}$GENERATE 1-2 a A 192.0.2.1\n"), 2, "got $GENERATE"),
            (&format!("{soa}www.other. A 192.0.2.1\n"), 2, "expected a name within zone."),
            (&format!("{soa}\n\nwww A 192.0.2.1\nwww CNAME x\n"), 5, "the only record of its name"),
            (&format!("{soa}www CH A 192.0.2.1\n"), 2, "expected class IN"),
            (&format!("{soa}a..b A 192.0.2.1\n"), 2, "expected a name"),
            (&format!("{soa}$INCLUDE zone.zone\n"), 2, "include one another"),
            (&format!("{soa}www \n"), 2, "expected a record type and data"),
        ] {
            let (zones, problems) = Folder::with(&[("zone.zone", text)]).load(None);
            assert!(zones.apexes().is_empty(), "{text}");
            let problem = problems.first().unwrap_or_else(|| panic!("{text}"));
            assert!(problem.message.contains(said), "{problem}");
            assert_eq!(problem.place.as_ref().map_or(0, |place| place.line), line, "{problem}");
        }
    }

    #[tokio::test]
    async fn origins_includes_and_escapes_are_read() {
        let main = "$ORIGIN other.example.\n$TTL 1h30m\n@ SOA ns hostmaster 1 2 3 4 5\n$INCLUDE hosts.part sub\nwww A 192.0.2.1\na\\.b\tTXT x\n";
        let folder = Folder::with(&[("name.zone", main), ("hosts.part", "www A 192.0.2.2\n")]);
        let (zones, problems) = folder.load(None);
        assert_eq!(problems, []);
        assert_eq!(zones.apexes(), ["other.example.".parse().unwrap()]);
        let included = ask(&zones, "www.sub.other.example.", Type::A).await;
        assert_eq!((data(&included), included.answers[0].ttl), (vec![RData::A([192, 0, 2, 2].into())], 5400));
        assert_eq!(ask(&zones, "www.other.example.", Type::A).await.answers.len(), 1);
        assert_eq!(ask(&zones, "a\\.b.other.example.", Type::TXT).await.answers.len(), 1);
    }

    #[test]
    fn an_rrset_that_fits_no_message_is_told() {
        let soa = "@ 60 SOA ns hostmaster 1 2 3 4 5\n";
        let many: String = (0..5000u32).map(|n| format!("many A 10.0.{}.{}\n", n / 256, n % 256)).collect();
        let long: String = (0..300).map(|n| format!("long TXT {n}{}\n", "x".repeat(250))).collect();
        for text in [many, long] {
            let (zones, problems) = Folder::with(&[("big.zone", &(soa.to_owned() + &text))]).load(None);
            assert!(zones.apexes().is_empty() && problems.len() == 1, "{problems:?}");
            assert!(problems[0].message.contains("65535 octets"), "{}", problems[0]);
        }
    }

    #[test]
    fn the_shipped_zone_loads() {
        let (zones, problems) = Zones::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("zones"), None);
        assert_eq!(problems, []);
        assert!(zones.has(&"www.example.test.".parse().unwrap()));
    }

    /// Words that mean something, and some that break things.
    const WORDS: &str = r#"@|$ORIGIN|$TTL|$INCLUDE|a|*|b.|é|"|"x y"|\|\1|\200|(|)|;|
|
|
| |	|1h|60|IN|CH|A|AAAA|TXT|MX|SRV|CAA|HTTPS|NAPTR|TLSA|SVCB|CERT|SSHFP|TYPE1|TYPE65280|\#|4|00|C0000201|192.0.2.1|::1|alpn=h2|SOA ns x 1 2 3 4 5"#;

    proptest::proptest! {
        #[test]
        fn no_text_is_too_odd(picks in proptest::collection::vec(0..48usize, 0..60), spaced in proptest::bool::ANY) {
            let words: Vec<&str> = WORDS.split('|').collect();
            let text: Vec<&str> = picks.iter().filter_map(|&pick| words.get(pick).copied()).collect();
            let text = text.join(if spaced { " " } else { "" });
            Folder::with(&[("odd.zone", &text), ("soa.zone", &format!("@ 60 SOA a b 1 2 3 4 5\n{text}"))]).load(None);
        }
    }

    #[test]
    fn two_files_of_one_zone_are_told() {
        let text = "$ORIGIN one.\n@ 60 SOA ns hostmaster 1 2 3 4 5\n";
        let (zones, problems) = Folder::with(&[("a.zone", text), ("b.zone", text)]).load(None);
        assert_eq!((zones.apexes().len(), problems.len()), (1, 1));
        assert!(problems[0].message.contains("a.zone already"), "{}", problems[0]);
    }
}
