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

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use moka::sync::Cache;
use serde::Deserialize;

use self::authority::Authority;
use super::open_alias;
use crate::dns::{Class, Edns, Message, Name, Opcode, Query, Rcode, Type};
use crate::limits::{ZONE_ANSWERS_OCTETS_MAX, ZONES_MAX};
use crate::problem::Problem;

/// The largest response over UDP, whatever the client takes: what passes any network in one piece.
const UDP_SIZE: u16 = 1232;
/// Aliases that are followed for one question.
const ALIASES_MAX: usize = 8;
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
    /// By apex, in wire form and lower case.
    by_apex: HashMap<Box<[u8]>, Arc<Authority>, foldhash::fast::RandomState>,
    /// Which file each zone came from, so that a bad edit leaves its last good form.
    by_file: HashMap<PathBuf, Arc<Authority>>,
    answers: Cache<Box<[u8]>, Arc<[u8]>, foldhash::fast::RandomState>,
}

impl Zones {
    /// No zones.
    pub fn none() -> Self {
        let answers = Cache::builder()
            .weigher(|key: &Box<[u8]>, octets: &Arc<[u8]>| u32::try_from(key.len() + octets.len() + KEPT_OVERHEAD).unwrap_or(u32::MAX))
            .max_capacity(ZONE_ANSWERS_OCTETS_MAX)
            .build_with_hasher(foldhash::fast::RandomState::default());
        Self { by_apex: HashMap::default(), by_file: HashMap::new(), answers }
    }

    /// Reads every `NAME.zone` of `folder`. A bad file is told; what `previous` had of it is served on.
    pub fn load(folder: &Path, previous: Option<&Zones>) -> (Self, Vec<Problem>) {
        let mut zones = Self::none();
        let mut problems = Vec::new();
        let mut files = match zone_files(folder) {
            Ok(files) => files,
            Err(error) => {
                let problem = Problem::new(format!("cannot read the folder of zone files: {error}")).in_file(folder);
                problems.push(problem.hint("`folder` of [zones] names it"));
                // The files may be there again at the next reload; until then nothing is taken away.
                return (previous.map_or(zones, Zones::with_nothing_kept), problems);
            }
        };
        files.sort();
        if files.len() > ZONES_MAX {
            problems.push(Problem::new(format!("expected at most {ZONES_MAX} zone files, got {}; the last ones are left out", files.len())).in_file(folder));
            files.truncate(ZONES_MAX);
        }
        for file in files {
            match read_zone(&file) {
                Ok(zone) => zones.add(file, Arc::new(zone), &mut problems),
                Err(told) => {
                    let last_good = previous.and_then(|previous| previous.by_file.get(&file)).cloned();
                    let meanwhile = match &last_good {
                        Some(zone) => format!("the last good form of {} is served meanwhile", zone.apex()),
                        None => "nothing of this file is served".to_owned(),
                    };
                    let told = told.into_iter().map(|problem| Problem { message: format!("{}; {meanwhile}", problem.message), ..problem });
                    problems.extend(told);
                    if let Some(zone) = last_good {
                        zones.add(file, zone, &mut problems);
                    }
                }
            }
        }
        (zones, problems)
    }

    fn with_nothing_kept(&self) -> Self {
        Self { by_apex: self.by_apex.clone(), by_file: self.by_file.clone(), ..Self::none() }
    }

    fn add(&mut self, file: PathBuf, zone: Arc<Authority>, problems: &mut Vec<Problem>) {
        let key: Box<[u8]> = zone.apex().to_lowercase().wire().into();
        if let Some(other) = self.by_file.iter().find(|(_, other)| other.apex() == zone.apex()).map(|(other, _)| other) {
            let message = format!("the zone {} is in {} already; nothing of this file is served", zone.apex(), other.display());
            problems.push(Problem::new(message).in_file(file).hint("keep one file a zone, or give it another $ORIGIN"));
            return;
        }
        self.by_apex.insert(key, zone.clone());
        self.by_file.insert(file, zone);
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
        let Some(octets) = key(query, &mut buffer).and_then(|key| self.answers.get(key)) else { return false };
        write(query, &octets, limit, out)
    }

    /// Prepares an answer, keeps it, and writes it into `out` as [`Zones::kept`] does.
    pub async fn answer(&self, query: &Query, limit: usize, out: &mut Vec<u8>) {
        let message = self.message(query).await;
        let octets: Arc<[u8]> = message.compose(true).into();
        // An alias that leads out of the zones is completed by others, whose part has a life of its own.
        if message.rcode != Rcode::REFUSED && open_alias(&message).is_none() {
            let mut buffer = [0; KEY_MAX];
            if let Some(key) = key(query, &mut buffer) {
                self.answers.insert(key.into(), octets.clone());
            }
        }
        write(query, &octets, limit, out);
    }

    /// The whole answer, whatever its size. Where its last alias leads out of all zones, [`open_alias`] says to what.
    pub async fn message(&self, query: &Query) -> Message {
        let mut message = query.response(Rcode::NOERROR);
        message.flags.authoritative = true;
        message.flags.recursion_available = true;
        message.edns = query.edns.as_ref().map(|asked| Edns { dnssec_ok: asked.dnssec_ok, ..Edns::new(UDP_SIZE) });
        let question = &query.question;
        let is_transfer = [Type::AXFR, Type::IXFR].contains(&question.qtype);
        let is_in = [Class::IN, Class::ANY].contains(&question.qclass);
        if query.opcode != Opcode::QUERY || is_transfer || !is_in || !self.covers(&question.name) {
            message.flags.authoritative = false;
            message.rcode = if query.opcode == Opcode::QUERY { Rcode::REFUSED } else { Rcode::NOTIMP };
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
        // Aliases that go round in a circle, or too many.
        Message { answers: Vec::new(), additionals: Vec::new(), rcode: Rcode::SERVFAIL, ..message }
    }
}

impl std::fmt::Debug for Zones {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.apexes()).finish()
    }
}

/// The `NAME.zone` files of a folder.
fn zone_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "zone") && path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

fn read_zone(file: &Path) -> Result<Authority, Vec<Problem>> {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let origin = stem.parse::<Name>().map_err(|error| {
        vec![Problem::new(format!("expected the name of a zone before `.zone`: {error}")).in_file(file).hint("for example example.com.zone")]
    })?;
    let master = master::read(file, &origin)?;
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
fn write(query: &Query, octets: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
    let name = query.question.name.wire();
    let question_end = Message::HEADER + name.len() + 4;
    let Some(start) = octets.get(..question_end) else { return false };
    out.clear();
    if octets.len() <= limit {
        out.extend_from_slice(octets);
    } else {
        // RFC 2181, 9: with TC set the sections count for nothing, so that none is sent.
        let rcode = octets.get(3).map_or(0, |byte| byte & 15);
        out.extend_from_slice(start);
        out[6..12].fill(0);
        out[2] |= 0b10;
        if let Some(asked) = &query.edns {
            let mut cut = query.response(Rcode(rcode.into()));
            cut.questions.clear();
            cut.edns = Some(Edns { dnssec_ok: asked.dnssec_ok, ..Edns::new(UDP_SIZE) });
            out.extend_from_slice(cut.compose(false).get(Message::HEADER..).unwrap_or_default());
            out[11] = 1;
        }
    }
    out[..2].copy_from_slice(&query.id.to_be_bytes());
    out[2] = out[2] & !1 | u8::from(query.flags.recursion_desired);
    out[3] = out[3] & !0x10 | u8::from(query.flags.checking_disabled) << 4;
    // Every later owner of this name is a pointer to the question, and so has its case, too.
    out[Message::HEADER..Message::HEADER + name.len()].copy_from_slice(name);
    true
}
