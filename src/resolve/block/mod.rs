//! Which names are not to be had? Block lists: files of names, one `[[block]]` of the configuration for those that are
//! answered alike.
//!
//! Not here: data of our own, which is never blocked, and watching the files. A [`Blocks`] is loaded once and never changes;
//! when a file did, another is loaded, which takes over from the former one what is as it was, and what cannot be read now.
//!
//! Start with [`Blocks::judge`], which a question meets before anybody else is asked, and [`Blocks::judge_answer`], which
//! what others say meets: a name may be an alias of a blocked one.

mod file;
mod list;
mod names;

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error as _, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use self::file::Stamp;
use self::list::Reading;
use self::names::{Action, Hasher, Lower, Names, Reach, Rule};
use super::local::{files, respond, soa};
use crate::dns::{Class, ExtendedError, Given, Message, Name, Query, Question, Rcode, Record, Type, given};
use crate::limits::{ALIASES_JUDGED_MAX, BLOCK_NAMES_MAX, BLOCK_OCTETS_MAX, BLOCKS_MAX};
use crate::metrics::Count;
use crate::problem::Problem;

/// One `[[block]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Files, and folders of them.
    pub lists: Vec<PathBuf>,
    pub form: Form,
    /// Whether an entry holds for all names below it too; by its form when unset: a hosts file's holds for one name, a domain
    /// for all that is below it.
    pub below: Option<bool>,
    pub answer: Answer,
    /// Domains that are spared, with all names below them, whatever the lists say.
    pub except: Vec<Name>,
    /// Lists of such.
    pub except_lists: Vec<PathBuf>,
    /// A name is blocked too when what others say of it is an alias of a blocked one.
    pub aliases: bool,
    /// Seconds that an answer may be remembered.
    pub ttl: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lists: Vec::new(),
            form: Form::default(),
            below: None,
            answer: Answer::default(),
            except: Vec::new(),
            except_lists: Vec::new(),
            aliases: true,
            ttl: 10,
        }
    }
}

impl Config {
    /// The files that it names, to be taken relative to its own place.
    pub fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.lists.iter_mut().chain(&mut self.except_lists)
    }

    fn reading(&self) -> Reading {
        Reading { form: self.form, below: self.below }
    }

    /// Which files there are now, and whether they tell names to be spared.
    fn paths(&self) -> impl Iterator<Item = (&Path, bool)> {
        let spared = self.except_lists.iter().map(|path| (path.as_path(), true));
        self.lists.iter().map(|path| (path.as_path(), false)).chain(spared)
    }
}

/// What the lines of a list look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Each line says what it is.
    #[default]
    Auto,
    /// `0.0.0.0 NAME`.
    Hosts,
    /// A domain a line, or `||DOMAIN^` as browsers' lists have it.
    Domains,
}

/// What is said of a blocked name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Answer {
    /// There is no such name.
    #[default]
    Nxdomain,
    /// It has no such data.
    Nodata,
    Refused,
    /// These are its addresses; it has nothing else.
    Addresses(Box<[IpAddr]>),
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Answer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"nxdomain\", \"nodata\", \"null\", \"refused\" or a list of addresses")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Answer, E> {
                match text {
                    "nxdomain" => Ok(Answer::Nxdomain),
                    "nodata" => Ok(Answer::Nodata),
                    "refused" => Ok(Answer::Refused),
                    "null" => Ok(Answer::Addresses([Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()].into())),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Answer, A::Error> {
                let addresses = Box::<[IpAddr]>::deserialize(SeqAccessDeserializer::new(list));
                addresses.map(Answer::Addresses).map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// All `[[block]]`s with their lists.
#[derive(Debug, Default)]
pub struct Blocks {
    hasher: Hasher,
    blocks: Box<[Block]>,
}

/// Lists whose names are answered alike.
#[derive(Debug)]
struct Block {
    config: Config,
    lists: Vec<List>,
    names: Names,
}

/// One file.
#[derive(Debug)]
struct List {
    path: PathBuf,
    spares: bool,
    /// As it was when it was read.
    stamp: Option<Stamp>,
    names: usize,
    /// Answers that it decided, over all reloads.
    answered: Arc<Count>,
}

/// The number of the list that is the configuration itself: its `except`.
const CONFIGURATION: u16 = Rule::LISTS - 1;

/// What may still be read.
struct Room {
    octets: u64,
    names: usize,
}

impl Blocks {
    /// Reads the lists of a configuration. What is wrong is told and the rest counts. What has not changed since `former` was
    /// loaded is not read again, and of what cannot be read its last good state counts on.
    pub fn load(configs: &[Config], former: Option<&Self>) -> (Self, Vec<Problem>) {
        let hasher = former.map(|former| former.hasher.clone()).unwrap_or_default();
        let mut problems = Vec::new();
        if configs.len() > BLOCKS_MAX {
            let message = format!("expected at most {BLOCKS_MAX} [[block]]s, got {}", configs.len());
            problems.push(Problem::new(message).hint("the last ones block nothing; one [[block]] takes many lists"));
        }
        let mut room = Room { octets: BLOCK_OCTETS_MAX, names: BLOCK_NAMES_MAX };
        if configs.iter().any(|config| config.lists.is_empty()) {
            let problem = Problem::new("expected `lists` in each [[block]], got one without any");
            problems.push(problem.hint("`lists = [\"ads.txt\", \"folder/\"]`"));
        }
        let load = |config: &Config| Block::load(config, &hasher, former, &mut room, &mut problems);
        let blocks = configs.iter().take(BLOCKS_MAX).map(load).collect();
        (Self { hasher, blocks }, problems)
    }

    /// The same lists as they are now, when any of their files has changed.
    pub fn reload(&self) -> Option<(Self, Vec<Problem>)> {
        let is_same = |block: &Block| {
            let files = block.config.paths().flat_map(|(path, spares)| files(path).into_iter().map(move |file| (file, spares)));
            let stamps = files.map(|(file, spares)| (Stamp::of(&file), file, spares));
            stamps.eq(block.lists.iter().map(|list| (list.stamp, list.path.clone(), list.spares)))
        };
        if self.blocks.iter().all(is_same) {
            return None;
        }
        let configs: Vec<Config> = self.blocks.iter().map(|block| block.config.clone()).collect();
        Some(Self::load(&configs, Some(self)))
    }

    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Files and folders whose changes matter.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.blocks.iter().flat_map(|block| block.config.paths()).map(|(path, _)| path)
    }

    /// Each list, how many names it has, and how many answers it decided. One that stands in several blocks comes once.
    pub fn lists(&self) -> impl Iterator<Item = (&Path, usize, u64)> {
        let mut seen = HashSet::new();
        let lists = self.blocks.iter().flat_map(|block| &block.lists).filter(move |list| seen.insert(&list.path));
        lists.map(|list| (list.path.as_path(), list.names, list.answered.get()))
    }

    /// Is this question blocked, and by what? On the way of all that is not near, so without an allocation when it is not.
    pub fn judge(&self, question: &Question) -> Option<Verdict<'_>> {
        if self.blocks.is_empty() || !matches!(question.qclass, Class::IN | Class::ANY) {
            return None;
        }
        self.judge_name(&question.name, &mut 0, false)
    }

    /// Is this question blocked for what others answer to it? `octets` are their answer.
    pub fn judge_answer(&self, question: &Question, octets: &[u8]) -> Option<Verdict<'_>> {
        if !self.concerns(octets) || !matches!(question.qclass, Class::IN | Class::ANY) {
            return None;
        }
        // A name that is spared is so with all that it leads to.
        let mut spared = 0;
        let found = self.judge_name(&question.name, &mut spared, false);
        found.or_else(|| {
            let aliases = given(octets).filter_map(|given| match given {
                Given::Alias(name) => Some(name),
                Given::Address(_) => None,
            });
            aliases.take(ALIASES_JUDGED_MAX).find_map(|alias| self.judge_name(&alias, &mut spared, true))
        })
    }

    /// Has an answer of others anything that is judged?
    pub fn concerns(&self, octets: &[u8]) -> bool {
        self.blocks.iter().any(|block| block.config.aliases) && given(octets).any(|given| matches!(given, Given::Alias(_)))
    }

    /// The first block that has this name. Bits of `spared` are those that do not count.
    fn judge_name(&self, name: &Name, spared: &mut u64, is_alias: bool) -> Option<Verdict<'_>> {
        let lower = Lower::of(name.wire());
        for (bit, block) in self.blocks.iter().enumerate().map(|(number, block)| (1 << (number % BLOCKS_MAX), block)) {
            if *spared & bit != 0 || is_alias && !block.config.aliases {
                continue;
            }
            match block.judge(&self.hasher, &lower) {
                Judged::Unknown => {}
                Judged::Spared => *spared |= bit,
                Judged::Blocked { list, above } => {
                    let zone = (0..above).try_fold(name.clone(), |name, _| name.parent())?;
                    let alias = is_alias.then(|| name.clone());
                    return Some(Verdict { block, list: block.lists.get(usize::from(list))?, zone, alias });
                }
            }
        }
        None
    }

    /// A former list of this file that was read like this: its block and its number there.
    fn find(&self, path: &Path, reading: Reading, spares: bool) -> Option<(&Block, u16)> {
        self.blocks.iter().filter(|block| block.config.reading() == reading).find_map(|block| {
            let number = block.lists.iter().position(|list| list.path == path && list.spares == spares)?;
            Some((block, u16::try_from(number).ok()?))
        })
    }

    fn counted(&self, path: &Path) -> Option<Arc<Count>> {
        self.blocks.iter().flat_map(|block| &block.lists).find(|list| list.path == path).map(|list| list.answered.clone())
    }
}

/// What a block has to say of a name.
enum Judged {
    Unknown,
    Spared,
    /// By this list, with the name that is so many labels above.
    Blocked {
        list: u16,
        above: usize,
    },
}

impl Block {
    fn load(config: &Config, hasher: &Hasher, former: Option<&Blocks>, room: &mut Room, problems: &mut Vec<Problem>) -> Self {
        let (mut lists, mut rows) = (Vec::new(), Vec::new());
        for name in &config.except {
            rows.push((hasher.hash(Lower::of(name.wire()).wire()), Rule::new(CONFIGURATION, Action::Except, Reach::BOTH)));
        }
        for (path, spares) in config.paths() {
            for file in files(path) {
                let Some(number) = u16::try_from(lists.len()).ok().filter(|number| *number < CONFIGURATION) else {
                    let message =
                        format!("expected at most {CONFIGURATION} lists in one [[block]]; nothing of this one counts");
                    problems.push(Problem::new(message).in_file(file));
                    continue;
                };
                let list = List::load(file, spares, number, config, hasher, former, room, &mut rows, problems);
                lists.push(list);
            }
        }
        Self { config: config.clone(), lists, names: Names::new(rows) }
    }

    fn judge(&self, hasher: &Hasher, lower: &Lower) -> Judged {
        if self.names.is_empty() {
            return Judged::Unknown;
        }
        let mut found: Option<(u16, usize)> = None;
        for (above, name) in lower.upwards().enumerate() {
            for rule in self.names.rules(hasher.hash(name)).iter().filter(|rule| rule.holds(above)) {
                match rule.action() {
                    Action::Except => return Judged::Spared,
                    // Of one list, what is said of the longer name counts.
                    Action::Given if found.is_none_or(|(list, _)| rule.list() < list) => found = Some((rule.list(), above)),
                    Action::Given => {}
                }
            }
        }
        found.map_or(Judged::Unknown, |(list, above)| Judged::Blocked { list, above })
    }
}

impl List {
    #[allow(clippy::too_many_arguments, reason = "what a list is made of, and where its names go")]
    fn load(
        path: PathBuf,
        spares: bool,
        number: u16,
        config: &Config,
        hasher: &Hasher,
        former: Option<&Blocks>,
        room: &mut Room,
        rows: &mut Vec<(u64, Rule)>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let stamp = Stamp::of(&path);
        let answered = former.and_then(|former| former.counted(&path)).unwrap_or_default();
        let known = former.and_then(|former| former.find(&path, config.reading(), spares));
        let known = known.and_then(|(block, number)| Some((block, number, block.lists.get(usize::from(number))?)));
        let before = rows.len();
        let take_over = |rows: &mut Vec<(u64, Rule)>, room: &mut Room| {
            let Some((block, former, list)) = known else { return 0 };
            let own = block.names.rows().filter(|(_, rule)| rule.list() == former);
            rows.extend(own.map(|(hash, rule)| (hash, rule.renumbered(number))).take(room.names));
            room.names -= rows.len() - before;
            list.names
        };
        if stamp.is_some() && known.is_some_and(|(_, _, list)| list.stamp == stamp) {
            let names = take_over(rows, room);
            return Self { path, spares, stamp, names, answered };
        }
        let mut left_out = 0;
        let read = file::read(&path, config.reading(), &mut room.octets, &mut |_, entry| {
            if rows.len() - before >= room.names {
                left_out += 1;
                return;
            }
            let action = if spares || entry.is_exception { Action::Except } else { Action::Given };
            let hash = hasher.hash(Lower::of(entry.name.wire()).wire());
            rows.push((hash, Rule::new(number, action, entry.reach)));
        });
        let names = match read {
            Ok(told) => {
                problems.extend(told);
                let names = rows.len() - before;
                room.names -= names;
                names
            }
            Err(problem) => {
                let names = take_over(rows, room);
                let meanwhile = match known {
                    Some(_) => format!("its last good state of {names} names counts meanwhile"),
                    None => "nothing of this file is blocked".to_owned(),
                };
                problems.push(Problem { message: format!("{}; {meanwhile}", problem.message), ..problem });
                names
            }
        };
        if left_out > 0 {
            let message =
                format!("expected at most {BLOCK_NAMES_MAX} names in all block lists; {left_out} of this one are left out");
            problems.push(Problem::new(message).in_file(&path));
        }
        Self { path, spares, stamp, names, answered }
    }

    /// What it is called.
    fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }
}

/// What becomes of a question.
#[derive(Debug)]
pub struct Verdict<'a> {
    block: &'a Block,
    list: &'a List,
    /// The name that the list has.
    zone: Name,
    /// The name of the answer that is blocked, when it is not that of the question.
    alias: Option<Name>,
}

impl Verdict<'_> {
    /// Counts it.
    pub fn note(&self) {
        self.list.answered.raise(1);
    }

    /// What is answered.
    pub fn message(&self, query: &Query) -> Message {
        let Config { answer, ttl, .. } = &self.block.config;
        let rcode = match answer {
            Answer::Nxdomain => Rcode::NXDOMAIN,
            Answer::Nodata | Answer::Addresses(_) => Rcode::NOERROR,
            Answer::Refused => Rcode::REFUSED,
        };
        let mut message = respond(query, rcode);
        // We say it, but not in the name of whoever has the zone.
        message.flags.authoritative = false;
        let question = &query.question;
        if let Answer::Addresses(addresses) = answer {
            let records = addresses.iter().map(|address| Record::address(question.name.clone(), *ttl, *address));
            message.answers.extend(records.filter(|record| [record.record_type(), Type::ANY].contains(&question.qtype)));
        }
        if message.answers.is_empty() && rcode != Rcode::REFUSED {
            let zone = if self.alias.is_some() { &question.name } else { &self.zone };
            message.authorities.push(soa(zone.clone(), *ttl));
        }
        // RFC 8914, 4.5 and 4.16.
        let code = if message.answers.is_empty() { ExtendedError::Blocked } else { ExtendedError::Forged };
        if let Some(edns) = &mut message.edns {
            edns.options.push(code.to_option(&self.reason()));
        }
        message
    }

    /// Why, in a few words.
    pub fn reason(&self) -> String {
        match &self.alias {
            Some(alias) => format!("blocked by {}, as an alias of {alias}", self.list.name()),
            None => format!("blocked by {}", self.list.name()),
        }
    }

    /// The name that the list has.
    pub fn zone(&self) -> &Name {
        &self.zone
    }

    /// Where it stands: the file, and the line if it is still there. Reads the file.
    pub fn place(&self) -> (&Path, Option<usize>) {
        let mut line = None;
        let _ = file::read(&self.list.path, self.block.config.reading(), &mut { BLOCK_OCTETS_MAX }, &mut |number, entry| {
            if line.is_none() && entry.name == self.zone {
                line = Some(number);
            }
        });
        (&self.list.path, line)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::dns::{Edns, RData};

    fn folder(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| fs::write(folder.path().join(name), text).unwrap());
        folder
    }

    fn config(folder: &TempDir, lists: &[&str]) -> Config {
        Config { lists: lists.iter().map(|name| folder.path().join(name)).collect(), ..Config::default() }
    }

    fn query(name: &str, qtype: Type) -> Query {
        let question = Question { name: name.parse().unwrap(), qtype, qclass: Class::IN };
        Query { edns: Some(Edns::new(1232)), ..Query::of(question) }
    }

    fn judged(blocks: &Blocks, name: &str) -> Option<String> {
        blocks
            .judge(&query(name, Type::A).question)
            .map(|verdict| format!("{} {}", verdict.list.name(), verdict.zone.to_lowercase()))
    }

    /// What others answer: an alias of an alias of a name with an address.
    fn aliased(query: &Query, aliases: &[&str]) -> Vec<u8> {
        let mut message = query.response(Rcode::NOERROR);
        let mut owner = query.question.name.clone();
        for alias in aliases {
            let target: Name = alias.parse().unwrap();
            message.answers.push(Record::new(owner, 60, RData::Cname(target.clone())));
            owner = target;
        }
        message.answers.push(Record::address(owner, 60, [192, 0, 2, 1].into()));
        message.compose(true)
    }

    #[test]
    fn a_hosts_list_has_names_and_a_list_of_domains_all_below_them() {
        let folder = folder(&[("hosts", "0.0.0.0 ads.example\n"), ("domains", "track.example\n*.wild.example\n")]);
        let (blocks, problems) = Blocks::load(&[config(&folder, &["hosts", "domains"])], None);
        assert_eq!(problems, []);
        for (name, expected) in [
            ("ADS.example", Some("hosts ads.example.")),
            ("x.ads.example", None),
            ("track.example", Some("domains track.example.")),
            ("a.b.Track.example", Some("domains track.example.")),
            ("xtrack.example", None),
            ("wild.example", None),
            ("a.wild.example", Some("domains wild.example.")),
            ("example", None),
            (".", None),
        ] {
            assert_eq!(judged(&blocks, name).as_deref(), expected, "{name}");
        }
        let chaos = Question { qclass: Class::CH, ..query("ads.example", Type::TXT).question };
        assert!(blocks.judge(&chaos).is_none());
        let lists: Vec<_> = blocks.lists().map(|(path, names, _)| (path.file_name().unwrap().to_owned(), names)).collect();
        assert_eq!(lists, [("hosts".into(), 1), ("domains".into(), 2)]);
    }

    #[test]
    fn what_is_spared_is_so_in_its_own_block() {
        let folder = folder(&[
            ("ads", "ads.example\n@@||good.ads.example^\ncorp.example\n"),
            ("malware", "bad.corp.example\n"),
            ("allow", "fine.ads.example\n"),
        ]);
        let first = Config {
            except: vec!["corp.example".parse().unwrap()],
            except_lists: vec![folder.path().join("allow")],
            ..config(&folder, &["ads"])
        };
        let (blocks, problems) = Blocks::load(&[first, config(&folder, &["malware"])], None);
        assert_eq!(problems, []);
        assert_eq!(judged(&blocks, "x.ads.example").as_deref(), Some("ads ads.example."));
        for name in ["good.ads.example", "x.good.ads.example", "x.fine.ads.example", "corp.example", "www.corp.example"] {
            assert_eq!(judged(&blocks, name), None, "{name}");
        }
        assert_eq!(judged(&blocks, "x.bad.corp.example").as_deref(), Some("malware bad.corp.example."));
    }

    #[test]
    fn an_alias_of_a_blocked_name_is_blocked_too() {
        let folder = folder(&[("ads", "ads.example\n@@||shop.example^\n")]);
        let (blocks, _) = Blocks::load(&[config(&folder, &["ads"])], None);
        let query = query("www.news.example", Type::A);
        let verdict = |query: &Query, aliases| {
            let octets = aliased(query, aliases);
            blocks.judge_answer(&query.question, &octets).map(|verdict| verdict.reason())
        };
        assert_eq!(verdict(&query, &[]), None);
        assert_eq!(verdict(&query, &["cdn.example"]), None);
        let expected = "blocked by ads, as an alias of x.ads.example.";
        assert_eq!(verdict(&query, &["cdn.example", "x.ads.example"]).as_deref(), Some(expected));
        assert_eq!(verdict(&self::query("shop.example", Type::A), &["x.ads.example"]), None, "who is spared may lead there");
        let many: Vec<String> = (0..2000).map(|n| format!("{n}.cdn.example")).collect();
        assert_eq!(verdict(&query, &many.iter().map(String::as_str).collect::<Vec<_>>()), None);
        let (blocks, _) = Blocks::load(&[Config { aliases: false, ..config(&folder, &["ads"]) }], None);
        assert!(blocks.judge_answer(&query.question, &aliased(&query, &["x.ads.example"])).is_none());
    }

    #[test]
    fn answers_say_why_and_are_of_our_own_making() {
        let folder = folder(&[("ads.txt", "ads.example\n")]);
        let answered = |answer: &str, qtype| {
            let answer = serde_json::from_str(answer).unwrap();
            let (blocks, _) = Blocks::load(&[Config { answer, ..config(&folder, &["ads.txt"]) }], None);
            let query = query("x.ads.example", qtype);
            blocks.judge(&query.question).unwrap().message(&query)
        };
        let null = r#""null""#;
        for (answer, qtype, rcode, answers, soa) in [
            (r#""nxdomain""#, Type::A, Rcode::NXDOMAIN, 0, true),
            (r#""nodata""#, Type::A, Rcode::NOERROR, 0, true),
            (r#""refused""#, Type::A, Rcode::REFUSED, 0, false),
            (null, Type::A, Rcode::NOERROR, 1, false),
            (null, Type::AAAA, Rcode::NOERROR, 1, false),
            (null, Type::HTTPS, Rcode::NOERROR, 0, true),
            (null, Type::ANY, Rcode::NOERROR, 2, false),
            (r#"["192.0.2.7"]"#, Type::A, Rcode::NOERROR, 1, false),
            (r#"["192.0.2.7"]"#, Type::AAAA, Rcode::NOERROR, 0, true),
        ] {
            let message = answered(answer, qtype);
            assert_eq!((message.rcode, message.answers.len()), (rcode, answers), "{answer} {qtype}");
            assert!(!message.flags.authoritative && message.flags.recursion_available);
            let owners: Vec<_> = message.authorities.iter().map(|record| (record.owner.to_string(), record.ttl)).collect();
            assert_eq!(owners, if soa { vec![("ads.example.".to_owned(), 10)] } else { vec![] }, "{answer} {qtype}");
            let option = &message.edns.as_ref().unwrap().options[0];
            // RFC 8914: Blocked where nothing is given, Forged Answer where something is.
            assert_eq!((option.code, option.data[1]), (15, if answers > 0 { 4 } else { 15 }));
            assert!(option.data.ends_with(b"blocked by ads.txt"));
            assert_eq!(Message::parse(&message.compose(true)), Ok(message));
        }
        for wrong in [r#""nx""#, "7", r#"["here"]"#] {
            assert!(serde_json::from_str::<Answer>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_read_keeps_its_last_good_state() {
        let folder = folder(&[("ads", "ads.example\n"), ("more", "more.example\n")]);
        let (blocks, problems) = Blocks::load(&[config(&folder, &["ads", "more"])], None);
        assert_eq!(problems, []);
        assert!(blocks.reload().is_none(), "nothing has changed");
        blocks.judge(&query("ads.example", Type::A).question).unwrap().note();
        // Another list in the place of one, while the other is gone.
        fs::write(folder.path().join("new"), "other.example\nads.example\n").unwrap();
        fs::rename(folder.path().join("new"), folder.path().join("more")).unwrap();
        fs::remove_file(folder.path().join("ads")).unwrap();
        let (blocks, problems) = blocks.reload().unwrap();
        assert!(problems[0].message.ends_with("its last good state of 1 names counts meanwhile"), "{problems:?}");
        assert_eq!(judged(&blocks, "ads.example").as_deref(), Some("ads ads.example."));
        assert_eq!(judged(&blocks, "other.example").as_deref(), Some("more other.example."));
        assert_eq!(judged(&blocks, "more.example"), None);
        assert_eq!(blocks.lists().next().unwrap().2, 1, "what was counted is not forgotten");
        // What is there is no list, and then there is one again.
        fs::write(folder.path().join("ads"), "<html>\nNot found\n</html>\n").unwrap();
        let (blocks, problems) = blocks.reload().unwrap();
        assert!(problems[0].message.contains("expected a list of names, got none"), "{problems:?}");
        assert_eq!(judged(&blocks, "ads.example").as_deref(), Some("ads ads.example."));
        assert!(blocks.reload().is_none(), "told once");
        fs::write(folder.path().join("ads"), "0.0.0.0 third.example\n").unwrap();
        let (blocks, problems) = blocks.reload().unwrap();
        assert_eq!(problems, []);
        assert_eq!(judged(&blocks, "third.example").as_deref(), Some("ads third.example."));
        assert_eq!(judged(&blocks, "ads.example").as_deref(), Some("more ads.example."));
        assert_eq!(blocks.judge(&query("third.example", Type::A).question).unwrap().place().1, Some(1));
        // Of a configuration that reads it otherwise, nothing is taken over.
        let other = Config { below: Some(true), ..config(&folder, &["ads"]) };
        let (blocks, _) = Blocks::load(&[other], Some(&blocks));
        assert_eq!(judged(&blocks, "x.third.example").as_deref(), Some("ads third.example."));
    }

    #[test]
    fn a_folder_has_the_lists_that_are_in_it() {
        let folder = folder(&[("b.txt", "b.example\n"), ("a.txt", "a.example\nb.example\n"), (".hidden", "h.example\n")]);
        let (blocks, problems) = Blocks::load(&[config(&folder, &[""])], None);
        assert_eq!(problems, []);
        assert_eq!(judged(&blocks, "b.example").as_deref(), Some("a.txt b.example."), "the first that has it");
        assert_eq!(judged(&blocks, "h.example"), None);
        fs::remove_file(folder.path().join("a.txt")).unwrap();
        fs::write(folder.path().join("c.txt"), "c.example\n").unwrap();
        let (blocks, problems) = blocks.reload().unwrap();
        assert_eq!(problems, []);
        assert_eq!(judged(&blocks, "a.example"), None);
        assert_eq!(judged(&blocks, "b.example").as_deref(), Some("b.txt b.example."));
        assert_eq!(judged(&blocks, "c.example").as_deref(), Some("c.txt c.example."));
    }

    #[test]
    fn names_that_are_not_blocked_cost_no_allocation() {
        let lines: String = (0..1000).map(|n| format!("ads{n}.example\n")).collect();
        let folder = folder(&[("ads", &lines)]);
        let (blocks, _) = Blocks::load(&[config(&folder, &["ads"])], None);
        let longest = query(&"a.".repeat(127), Type::A);
        let query = query("a.long.name.that.nobody.has.example", Type::A);
        let octets = aliased(&query, &[]);
        let count = allocation_counter::measure(|| {
            assert!(blocks.judge(&query.question).is_none());
            assert!(blocks.judge(&longest.question).is_none());
            assert!(blocks.judge_answer(&query.question, &octets).is_none());
        });
        assert_eq!(count.count_total, 0, "{count:?}");
    }
}
