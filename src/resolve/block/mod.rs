//! Which names are not to be had? Block lists: files of names, one `[[block]]` of the configuration for those that are
//! answered alike, and response policy zones, which say themselves what is answered.
//!
//! Not here: data of our own, which is never blocked, and watching the files. A [`Blocks`] is loaded once and never changes;
//! when a file did, another is loaded, which takes over from the former one what is as it was, and what cannot be read now.
//!
//! Start with [`Blocks::judge`], which a question meets before anybody else is asked, and [`Blocks::judge_answer`], which
//! what others say meets: a name may be an alias of a blocked one.

mod file;
mod list;
mod names;
mod networks;
mod rpz;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error as _, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use self::file::{Item, Stamp};
use self::list::{Entry, Reading};
use self::names::{Action, Hasher, Lower, Names, Reach, Rule};
use self::networks::{Network, Networks};
use self::rpz::{Effect, Trigger};
use super::answer::Client;
use super::local::{files, respond, soa};
use crate::dns::{Class, ExtendedError, Given, Message, Name, Query, Question, RData, Rcode, Record, Type, given};
use crate::limits::{ADDRESSES_JUDGED_MAX, ALIASES_JUDGED_MAX, BLOCK_NAMES_MAX, BLOCK_OCTETS_MAX, BLOCKS_MAX};
use crate::metrics::Sum;
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
    /// What is said of a blocked name; what the list says when unset, else that there is no such name.
    pub answer: Option<Answer>,
    /// Domains that are spared, with all names below them, whatever the lists say.
    #[serde(deserialize_with = "crate::dns::deserialize_domains")]
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
            answer: None,
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
    /// A response policy zone, as a master file.
    Rpz,
}

/// What is said of a blocked name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// There is no such name.
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
    /// Something is said of clients.
    by_client: bool,
    /// Something is said of the addresses of answers.
    by_address: bool,
    /// Something is said of the aliases of answers.
    by_alias: bool,
}

/// Lists whose names are answered alike.
#[derive(Debug)]
struct Block {
    config: Config,
    lists: Vec<List>,
    rules: Rules,
}

/// What the lists of a block say.
#[derive(Debug, Default)]
struct Rules {
    names: Names,
    clients: Networks,
    addresses: Networks,
    data: Data,
}

/// The records that are given, with their TTLs, by the list that says so and when.
type Data = HashMap<(u16, Trigger), Vec<(u32, RData)>, foldhash::fast::RandomState>;

/// Rules while they are read. A list's own come behind those of the lists before it.
#[derive(Debug, Default)]
struct Rows {
    names: Vec<(u64, Rule)>,
    clients: Vec<(Network, Rule)>,
    addresses: Vec<(Network, Rule)>,
    data: Data,
}

impl Rows {
    fn len(&self) -> usize {
        self.names.len() + self.clients.len() + self.addresses.len() + self.data.len()
    }

    fn put_name(&mut self, hasher: &Hasher, name: &Name, rule: Rule) {
        self.names.push((hasher.hash(Lower::of(name.wire()).wire()), rule));
    }

    /// Notes that the names above one are there.
    fn put_above(&mut self, hasher: &Hasher, name: &Name, number: u16) {
        let rule = Rule::new(number, Action::Given, Reach::NOTHING);
        let lower = Lower::of(name.wire());
        self.names.extend(lower.upwards().skip(1).map(|name| (hasher.hash(name), rule)));
    }

    fn put(&mut self, hasher: &Hasher, number: u16, trigger: Trigger, Effect { action, data }: Effect) {
        let rule = |reach| Rule::new(number, action, reach);
        match &trigger {
            Trigger::Name(name) => {
                self.put_name(hasher, name, rule(Reach::ITSELF));
                self.put_above(hasher, name, number);
            }
            Trigger::Below(name) => {
                self.put_name(hasher, name, rule(Reach::BELOW));
                self.put_above(hasher, name, number);
            }
            Trigger::Client(network) => self.clients.push((*network, rule(Reach::ITSELF))),
            Trigger::Address(network) => self.addresses.push((*network, rule(Reach::ITSELF))),
        }
        if let Some(data) = data {
            self.data.entry((number, trigger)).or_default().push(data);
        }
    }

    /// Takes over what a list said that was numbered otherwise, up to so many names.
    fn take_over(&mut self, rules: &Rules, former: u16, number: u16, room: usize) {
        let own = |rule: Rule| (rule.list() == former).then(|| rule.renumbered(number));
        let of =
            |networks: &Networks| networks.rows().filter_map(|(network, rule)| Some((network, own(rule)?))).collect::<Vec<_>>();
        self.names.extend(rules.names.rows().filter_map(|(hash, rule)| Some((hash, own(rule)?))).take(room));
        self.clients.extend(of(&rules.clients));
        self.addresses.extend(of(&rules.addresses));
        let data = rules.data.iter().filter(|((list, _), _)| *list == former);
        self.data.extend(data.map(|((_, trigger), data)| ((number, trigger.clone()), data.clone())));
    }

    /// How many of each there are.
    fn counts(&self) -> [usize; 3] {
        [self.names.len(), self.clients.len(), self.addresses.len()]
    }

    /// Forgets what the last list said, when so many rules were there before it.
    fn forget_last(&mut self, number: u16, [names, clients, addresses]: [usize; 3]) {
        self.names.truncate(names);
        self.clients.truncate(clients);
        self.addresses.truncate(addresses);
        self.data.retain(|(list, _), _| *list != number);
    }

    fn into_rules(self) -> Rules {
        let Self { names, clients, addresses, data } = self;
        Rules { names: Names::new(names), clients: Networks::new(clients), addresses: Networks::new(addresses), data }
    }
}

/// One file.
#[derive(Debug)]
struct List {
    path: PathBuf,
    spares: bool,
    /// As it was when what counts of it was read.
    stamp: Option<Stamp>,
    names: usize,
    /// It has lost nearly all of its names since, which may be a mishap.
    doubt: Option<Doubt>,
    /// Answers that it decided, over all reloads.
    answered: Arc<Sum>,
}

/// What is to be waited for before a file is believed.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    /// As the file is meanwhile.
    stamp: Stamp,
    since: Instant,
}

impl Doubt {
    /// How long a file must have been so, until it is meant so. A download that empties the file first, and one that gets an
    /// error page of a few words, are seen within it by whoever reads the log.
    const PATIENCE: Duration = Duration::from_secs(60);
    /// A list that has less than one of so many names left is in doubt.
    const SHARE: usize = 10;

    fn until(&self) -> Instant {
        self.since + Self::PATIENCE
    }
}

impl List {
    /// As the file was when it was last looked at.
    fn seen(&self) -> Option<Stamp> {
        self.doubt.map_or(self.stamp, |doubt| Some(doubt.stamp))
    }
}

/// The number of the list that is the configuration itself: its `except`.
const CONFIGURATION: u16 = Rule::LISTS - 1;

/// What may still be read, and when that is.
struct Room {
    octets: u64,
    names: usize,
    now: Instant,
    /// A person wants the files as they are, so that what was in doubt, and told, is not any more.
    confirms: bool,
}

impl Blocks {
    /// Reads the lists of a configuration, as a person wishes. What is wrong is told and the rest counts. What has not changed
    /// since `former` was loaded is not read again, and of what cannot be read its last good state counts on. So it does of a
    /// file that has lost nearly all of its names, until the next time, or until a reload finds it unchanged after a minute.
    pub fn load(configs: &[Config], former: Option<&Self>, now: Instant) -> (Self, Vec<Problem>) {
        Self::load_with(configs, former, Room { octets: BLOCK_OCTETS_MAX, names: BLOCK_NAMES_MAX, now, confirms: true })
    }

    fn load_with(configs: &[Config], former: Option<&Self>, mut room: Room) -> (Self, Vec<Problem>) {
        let hasher = former.map(|former| former.hasher.clone()).unwrap_or_default();
        let mut problems = Vec::new();
        if configs.len() > BLOCKS_MAX {
            let message = format!("expected at most {BLOCKS_MAX} [[block]]s, got {}", configs.len());
            problems.push(Problem::new(message).hint("the last ones block nothing; one [[block]] takes many lists"));
        }
        if configs.iter().any(|config| config.lists.is_empty()) {
            let problem = Problem::new("expected `lists` in each [[block]], got one without any");
            problems.push(problem.hint("`lists = [\"ads.txt\", \"folder/\"]`"));
        }
        let load = |config: &Config| Block::load(config, &hasher, former, &mut room, &mut problems);
        let blocks: Box<[Block]> = configs.iter().take(BLOCKS_MAX).map(load).collect();
        let any = |what: fn(&Block) -> bool| blocks.iter().any(what);
        let (by_client, by_address) =
            (any(|block| !block.rules.clients.is_empty()), any(|block| !block.rules.addresses.is_empty()));
        let by_alias = any(|block| block.config.aliases && !block.rules.names.is_empty());
        (Self { hasher, blocks, by_client, by_address, by_alias }, problems)
    }

    /// The same lists as they are now, when any of their files has changed, or has been in doubt for long enough.
    pub fn reload(&self, now: Instant) -> Option<(Self, Vec<Problem>)> {
        let is_same = |block: &Block| {
            let files = block.config.paths().flat_map(|(path, spares)| files(path).into_iter().map(move |file| (file, spares)));
            let stamps = files.map(|(file, spares)| (Stamp::of(&file), file, spares));
            stamps.eq(block.lists.iter().map(|list| (list.seen(), list.path.clone(), list.spares)))
        };
        if self.blocks.iter().all(is_same) && self.doubted_until().is_none_or(|until| now < until) {
            return None;
        }
        let configs: Vec<Config> = self.blocks.iter().map(|block| block.config.clone()).collect();
        let room = Room { octets: BLOCK_OCTETS_MAX, names: BLOCK_NAMES_MAX, now, confirms: false };
        Some(Self::load_with(&configs, Some(self), room))
    }

    /// When a file that is in doubt is to be looked at again, if there is one.
    pub fn doubted_until(&self) -> Option<Instant> {
        let doubts = self.blocks.iter().flat_map(|block| &block.lists).filter_map(|list| list.doubt);
        doubts.map(|doubt| doubt.until()).min()
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

    /// Is something said of this client? Then what is near, which is the same for all, is not for it.
    pub fn knows(&self, client: IpAddr) -> bool {
        self.by_client && self.blocks.iter().any(|block| block.rules.clients.of(client).next().is_some())
    }

    /// What becomes of this question before anybody is asked? On the way of all that is not near, so without an allocation when
    /// nothing does.
    pub fn judge(&self, question: &Question, client: Client) -> Option<Verdict<'_>> {
        if self.blocks.is_empty() || !matches!(question.qclass, Class::IN | Class::ANY) {
            return None;
        }
        match self.rule(&question.name, Seen { client: Some(client), ..Seen::default() }, client, &mut 0) {
            Ruling::Of(verdict) => Some(verdict),
            Ruling::None | Ruling::Passthru => None,
        }
    }

    /// What becomes of this question after what others answer to it? `octets` are their answer.
    pub fn judge_answer(&self, question: &Question, client: Client, octets: &[u8]) -> Option<Verdict<'_>> {
        if !self.concerns(octets) || !matches!(question.qclass, Class::IN | Class::ANY) {
            return None;
        }
        let (mut names, mut addresses, mut is_whole) = (vec![question.name.clone()], Vec::new(), true);
        for given in given(octets) {
            match given {
                Given::Alias(name) if names.len() <= ALIASES_JUDGED_MAX => names.push(name),
                Given::Address(address) if addresses.len() < ADDRESSES_JUDGED_MAX => addresses.push(address),
                Given::Alias(_) => is_whole &= !self.by_alias,
                Given::Address(_) => is_whole &= !self.by_address,
            }
        }
        // Whom a block spares it spares with all that the name leads to. The addresses are those of the last name.
        let (mut spared, last) = (0, names.len() - 1);
        for (number, name) in names.iter().enumerate() {
            let addresses = if number == last { &addresses[..] } else { &[] };
            let seen = Seen { client: (number == 0).then_some(client), addresses, is_alias: number > 0 };
            match self.rule(name, seen, client, &mut spared) {
                Ruling::Of(verdict) => return Some(verdict),
                Ruling::Passthru => return None,
                Ruling::None => {}
            }
        }
        // What leads further than is looked up may lead to what is blocked, and whoever has such a name would have it so.
        let is_spared = (0..self.blocks.len()).all(|number| spared & 1 << (number % BLOCKS_MAX) != 0);
        (!is_whole && !is_spared).then_some(Verdict::Unknown)
    }

    /// Has an answer of others anything that is judged?
    pub fn concerns(&self, octets: &[u8]) -> bool {
        (self.by_alias || self.by_address)
            && given(octets).any(|given| match given {
                Given::Alias(_) => self.by_alias,
                Given::Address(_) => self.by_address,
            })
    }

    /// The first block that says something of a name. Bits of `spared` are those that do not count.
    fn rule(&self, name: &Name, seen: Seen<'_>, client: Client, spared: &mut u64) -> Ruling<'_> {
        let lower = Lower::of(name.wire());
        for (bit, block) in self.blocks.iter().enumerate().map(|(number, block)| (1 << (number % BLOCKS_MAX), block)) {
            if *spared & bit != 0 {
                continue;
            }
            let Some(hit) = block.hit(&self.hasher, &lower, &seen) else { continue };
            match hit.rule.action() {
                Action::Except => *spared |= bit,
                Action::Passthru => return Ruling::Passthru,
                // By a stream it comes through.
                Action::TcpOnly if client.room != crate::resolve::Room::Datagram && block.config.answer.is_none() => {
                    return Ruling::Passthru;
                }
                action => {
                    let Some(list) = block.lists.get(usize::from(hit.rule.list())) else { continue };
                    let trigger = hit.trigger(name);
                    let alias = seen.is_alias.then(|| name.clone());
                    return Ruling::Of(Verdict::Listed(Listed {
                        block,
                        list,
                        number: hit.rule.list(),
                        action,
                        trigger,
                        alias,
                    }));
                }
            }
        }
        Ruling::None
    }

    /// A former list of this file that was read like this: its block and its number there.
    fn find(&self, path: &Path, reading: Reading, spares: bool) -> Option<(&Block, u16)> {
        self.blocks.iter().filter(|block| block.config.reading() == reading).find_map(|block| {
            let number = block.lists.iter().position(|list| list.path == path && list.spares == spares)?;
            Some((block, u16::try_from(number).ok()?))
        })
    }

    fn counted(&self, path: &Path) -> Option<Arc<Sum>> {
        self.blocks.iter().flat_map(|block| &block.lists).find(|list| list.path == path).map(|list| list.answered.clone())
    }
}

/// What is judged besides a name.
#[derive(Debug, Default, Clone, Copy)]
struct Seen<'a> {
    /// Who asks, where that is judged with it.
    client: Option<Client>,
    /// The addresses of the name in others' answer.
    addresses: &'a [IpAddr],
    /// The name is none that was asked for, but an alias in others' answer.
    is_alias: bool,
}

/// What all blocks together say.
enum Ruling<'a> {
    None,
    /// Nothing happens, whatever others of them say.
    Passthru,
    Of(Verdict<'a>),
}

/// The rule of a block that counts.
struct Hit {
    rule: Rule,
    by: By,
}

/// What it is of.
enum By {
    /// The name that is so many labels above.
    Name(usize),
    Client(Network),
    Address(Network),
}

impl Hit {
    /// When the rule holds, if it does for this name.
    fn trigger(&self, name: &Name) -> Trigger {
        match self.by {
            By::Client(network) => Trigger::Client(network),
            By::Address(network) => Trigger::Address(network),
            By::Name(0) => Trigger::Name(name.clone()),
            By::Name(above) => {
                Trigger::Below((0..above).try_fold(name.clone(), |name, _| name.parent()).unwrap_or_else(Name::root))
            }
        }
    }
}

impl Block {
    fn load(config: &Config, hasher: &Hasher, former: Option<&Blocks>, room: &mut Room, problems: &mut Vec<Problem>) -> Self {
        let (mut lists, mut rows) = (Vec::new(), Rows::default());
        for name in &config.except {
            rows.put_name(hasher, name, Rule::new(CONFIGURATION, Action::Except, Reach::BOTH));
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
        Self { config: config.clone(), lists, rules: rows.into_rules() }
    }

    /// The rule that counts: what spares a name before all, then that of the first list; in one list, of the client before the
    /// name before its addresses, and of the longer name or network (draft-vixie-dnsop-dns-rpz, 5).
    fn hit(&self, hasher: &Hasher, lower: &Lower, seen: &Seen<'_>) -> Option<Hit> {
        let Rules { names, clients, addresses, .. } = &self.rules;
        let mut first: Option<Hit> = None;
        let mut put = |rule: Rule, by: By| {
            if first.as_ref().is_none_or(|first| rule.list() < first.rule.list()) {
                first = Some(Hit { rule, by });
            }
        };
        if let Some(client) = seen.client.filter(|_| !clients.is_empty()) {
            clients.of(client.address).for_each(|(network, rule)| put(rule, By::Client(network)));
        }
        if !names.is_empty() && (!seen.is_alias || self.config.aliases) {
            let mut hidden = [0u64; Rule::LISTS as usize / 64];
            for (above, name) in lower.upwards().enumerate() {
                let rules = names.rules(hasher.hash(name));
                for rule in rules.iter().filter(|rule| rule.holds(above)) {
                    if rule.action() == Action::Except {
                        return Some(Hit { rule: *rule, by: By::Name(above) });
                    }
                    let (word, bit) = (rule.list() / 64, 1 << (rule.list() % 64));
                    if hidden.get(usize::from(word)).is_none_or(|word| word & bit == 0) {
                        put(*rule, By::Name(above));
                    }
                }
                for list in rules.iter().filter(|rule| rule.hides()).map(|rule| rule.list()) {
                    if let Some(word) = hidden.get_mut(usize::from(list / 64)) {
                        *word |= 1 << (list % 64);
                    }
                }
            }
        }
        if !addresses.is_empty() {
            // Of several networks the longest counts, and of several as long the first.
            let mut found: Vec<_> = seen.addresses.iter().flat_map(|address| addresses.of(*address)).collect();
            found.sort_by(|(one, _), (other, _)| one.first_before(other));
            found.into_iter().for_each(|(network, rule)| put(rule, By::Address(network)));
        }
        first
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
        rows: &mut Rows,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let stamp = Stamp::of(&path);
        let answered = former.and_then(|former| former.counted(&path)).unwrap_or_default();
        let known = former.and_then(|former| former.find(&path, config.reading(), spares));
        let known = known.and_then(|(block, number)| Some((block, number, block.lists.get(usize::from(number))?)));
        let (before, counts) = (rows.len(), rows.counts());
        let take_over = |rows: &mut Rows, room: &mut Room| {
            let Some((block, former, list)) = known else { return 0 };
            rows.take_over(&block.rules, former, number, room.names);
            room.names = room.names.saturating_sub(rows.len() - before);
            list.names
        };
        let doubt = known.and_then(|(_, _, list)| list.doubt);
        let is_believed = doubt.is_some_and(|doubt| room.confirms || stamp == Some(doubt.stamp) && room.now >= doubt.until());
        if let (Some(stamp), Some((_, _, list))) = (stamp, known)
            && (list.stamp == Some(stamp) || list.seen() == Some(stamp) && !is_believed)
        {
            let names = take_over(rows, room);
            let doubt = doubt.filter(|doubt| doubt.stamp == stamp);
            return Self { path, spares, stamp: list.stamp, names, doubt, answered };
        }
        let (mut left_out, mut names) = (0, 0);
        let read = file::read(&path, config.reading(), &mut room.octets, &mut |_, item| {
            if rows.len() - before >= room.names {
                left_out += 1;
                return;
            }
            names += 1;
            match item {
                Item::Entry(Entry { name, reach, is_exception }) => {
                    let action = if spares || is_exception { Action::Except } else { Action::Given };
                    rows.put_name(hasher, &name, Rule::new(number, action, reach));
                }
                Item::Policy(trigger, _) if spares => {
                    rows.put(hasher, number, trigger, Effect { action: Action::Except, data: None });
                }
                Item::Policy(trigger, effect) => rows.put(hasher, number, trigger, effect),
            }
        });
        let had = known.map_or(0, |(_, _, list)| list.names);
        let is_emptied = had > (names + left_out) * Doubt::SHARE;
        let mut list = Self { path, spares, stamp, names, doubt: None, answered };
        match (read, stamp, known) {
            (Ok(_), Some(stamp), Some((_, _, known))) if is_emptied && !is_believed => {
                rows.forget_last(number, counts);
                list.names = take_over(rows, room);
                list.stamp = known.stamp;
                list.doubt = Some(Doubt { stamp, since: room.now });
                if doubt.is_none() {
                    let message = format!(
                        "expected most of the {had} names that this list had, got {names}; its last good state counts meanwhile"
                    );
                    let hint = "if it is meant so, send SIGHUP, or leave it so for a minute; a new list is best written \
                                beside it and renamed, as with `curl -o new URL && mv new LIST`";
                    problems.push(Problem::new(message).in_file(&list.path).hint(hint));
                }
            }
            (Ok(told), ..) => {
                problems.extend(told);
                room.names = room.names.saturating_sub(rows.len() - before);
                if is_emptied {
                    let message = format!("this list had {had} names and has {names} now, which count from here on");
                    problems.push(Problem::new(message).in_file(&list.path).warning());
                }
            }
            (Err(problem), ..) => {
                rows.forget_last(number, counts);
                list.names = take_over(rows, room);
                let meanwhile = match known {
                    Some(_) => format!("its last good state of {} names counts meanwhile", list.names),
                    None => "nothing of this file is blocked".to_owned(),
                };
                problems.push(Problem { message: format!("{}; {meanwhile}", problem.message), ..problem });
            }
        }
        if left_out > 0 {
            let message =
                format!("expected at most {BLOCK_NAMES_MAX} names in all block lists; {left_out} of this one are left out");
            problems.push(Problem::new(message).in_file(&list.path));
        }
        list
    }

    /// What it is called.
    fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }
}

/// What becomes of a question.
#[derive(Debug)]
pub enum Verdict<'a> {
    /// What a list says.
    Listed(Listed<'a>),
    /// Nothing is passed on, as others' answer has more aliases or addresses than are looked up.
    Unknown,
}

impl Verdict<'_> {
    /// Counts it.
    pub fn note(&self) {
        self.counted().into_iter().for_each(|answered| answered.raise(1));
    }

    /// Where the answers of its list are counted.
    pub fn counted(&self) -> Option<&Arc<Sum>> {
        match self {
            Self::Listed(listed) => Some(&listed.list.answered),
            Self::Unknown => None,
        }
    }

    /// What is answered; `None` for nothing. Where an alias in it leads is for the caller to add.
    pub fn message(&self, query: &Query) -> Option<Message> {
        match self {
            Self::Listed(listed) => listed.message(query),
            Self::Unknown => {
                let mut message = respond(query, Rcode::SERVFAIL);
                message.flags.authoritative = false;
                if let Some(edns) = &mut message.edns {
                    edns.options.push(ExtendedError::Other.to_option(&self.reason()));
                }
                Some(message)
            }
        }
    }

    /// Why, in a few words.
    pub fn reason(&self) -> String {
        match self {
            Self::Listed(listed) => listed.reason(),
            Self::Unknown => "the answer has too many aliases or addresses for block lists".to_owned(),
        }
    }

    /// Where it stands: what the list has, the file, and the line if it is still there. Reads the file.
    pub fn place(&self) -> Option<(String, &Path, Option<usize>)> {
        match self {
            Self::Listed(listed) => Some(listed.place()),
            Self::Unknown => None,
        }
    }
}

/// What a list says of a question.
#[derive(Debug)]
pub struct Listed<'a> {
    block: &'a Block,
    list: &'a List,
    /// That of the list.
    number: u16,
    action: Action,
    trigger: Trigger,
    /// The name of the answer that is meant, when it is not that of the question.
    alias: Option<Name>,
}

impl Listed<'_> {
    fn message(&self, query: &Query) -> Option<Message> {
        let Config { answer, ttl, .. } = &self.block.config;
        let (name, qtype) = (&query.question.name, query.question.qtype);
        let wanted = |record: &Record| [record.record_type(), Type::ANY].contains(&qtype);
        let addressed = |addresses: &[IpAddr]| {
            let records = addresses.iter().map(|address| Record::address(name.clone(), *ttl, *address));
            records.filter(wanted).collect()
        };
        let (rcode, answers): (_, Vec<Record>) = match (answer, self.action) {
            (Some(Answer::Addresses(addresses)), _) => (Rcode::NOERROR, addressed(addresses)),
            (Some(Answer::Refused), _) => (Rcode::REFUSED, Vec::new()),
            (Some(Answer::Nodata), _) | (None, Action::Nodata) => (Rcode::NOERROR, Vec::new()),
            (None, Action::Drop) => return None,
            (None, Action::TcpOnly) => {
                let mut message = respond(query, Rcode::NOERROR);
                (message.flags.authoritative, message.flags.truncated) = (false, true);
                return Some(message);
            }
            (None, Action::Data) => (Rcode::NOERROR, self.data(name, qtype)),
            (Some(Answer::Nxdomain), _) | (None, _) => (Rcode::NXDOMAIN, Vec::new()),
        };
        let mut message = respond(query, rcode);
        // We say it, but not in the name of whoever has the zone.
        message.flags.authoritative = false;
        message.answers = answers;
        if message.answers.is_empty() && rcode != Rcode::REFUSED {
            let zone = match &self.trigger {
                Trigger::Name(zone) | Trigger::Below(zone) if self.alias.is_none() => zone,
                _ => name,
            };
            message.authorities.push(soa(zone.clone(), *ttl));
        }
        // RFC 8914, 4.5 and 4.16.
        let code = if message.answers.is_empty() { ExtendedError::Blocked } else { ExtendedError::Forged };
        if let Some(edns) = &mut message.edns {
            edns.options.push(code.to_option(&self.reason()));
        }
        Some(message)
    }

    /// The records that the list gives.
    fn data(&self, name: &Name, qtype: Type) -> Vec<Record> {
        let data = self.block.rules.data.get(&(self.number, self.trigger.clone())).map_or(&[][..], Vec::as_slice);
        let alias = data.iter().find_map(|(ttl, data)| match data {
            RData::Cname(target) => Some((ttl, target)),
            _ => None,
        });
        if let Some((ttl, target)) = alias {
            // `*.garden.example.`: the name in question, below that.
            let target = match target.labels().next() {
                Some(b"*") => target.parent().and_then(|garden| garden.prefixed(name.labels())),
                _ => Some(target.clone()),
            };
            return target.map(|target| Record::new(name.clone(), *ttl, RData::Cname(target))).into_iter().collect();
        }
        let records = data.iter().map(|(ttl, data)| Record::new(name.clone(), *ttl, data.clone()));
        records.filter(|record| [record.record_type(), Type::ANY].contains(&qtype)).collect()
    }

    fn reason(&self) -> String {
        let list = self.list.name();
        match (&self.alias, &self.trigger) {
            (_, Trigger::Client(_)) => format!("blocked by {list}, as a client"),
            (_, Trigger::Address(network)) => format!("blocked by {list}, as the address {network}"),
            (Some(alias), _) => format!("blocked by {list}, as an alias of {alias}"),
            (None, _) => format!("blocked by {list}"),
        }
    }

    fn place(&self) -> (String, &Path, Option<usize>) {
        let line = self.line_of(|item| match (item, &self.trigger) {
            (Item::Entry(entry), Trigger::Name(name) | Trigger::Below(name)) => entry.name == *name,
            (Item::Entry(_), _) => false,
            (Item::Policy(trigger, _), own) => trigger == own,
        });
        let has = match (&self.trigger, self.action) {
            // A list of names does not tell the two apart.
            (Trigger::Below(name), Action::Given) => name.to_string(),
            (trigger, _) => trigger.to_string(),
        };
        (has, &self.list.path, line)
    }

    fn line_of(&self, is_it: impl Fn(&Item) -> bool) -> Option<usize> {
        let mut line = None;
        let _ = file::read(&self.list.path, self.block.config.reading(), &mut { BLOCK_OCTETS_MAX }, &mut |number, item| {
            if line.is_none() && is_it(&item) {
                line = Some(number);
            }
        });
        line
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::dns::Edns;

    const CLIENT: Client = Client { address: IpAddr::V4(Ipv4Addr::LOCALHOST), room: crate::resolve::Room::Datagram };

    fn now() -> Instant {
        Instant::now()
    }

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

    fn list_of(verdict: &Verdict<'_>) -> String {
        match verdict {
            Verdict::Listed(listed) => listed.list.name(),
            Verdict::Unknown => "unknown".to_owned(),
        }
    }

    fn judged(blocks: &Blocks, name: &str) -> Option<String> {
        blocks
            .judge(&query(name, Type::A).question, CLIENT)
            .map(|verdict| format!("{} {}", list_of(&verdict), verdict.place().unwrap().0.to_lowercase()))
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
        let (blocks, problems) = Blocks::load(&[config(&folder, &["hosts", "domains"])], None, now());
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
        assert!(blocks.judge(&chaos, CLIENT).is_none());
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
        let (blocks, problems) = Blocks::load(&[first, config(&folder, &["malware"])], None, now());
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
        let (blocks, _) = Blocks::load(&[config(&folder, &["ads"])], None, now());
        let news = query("www.news.example", Type::A);
        let verdict = |query: &Query, aliases: &[&str]| {
            let octets = aliased(query, aliases);
            blocks.judge_answer(&query.question, CLIENT, &octets).map(|verdict| verdict.reason())
        };
        assert_eq!(verdict(&news, &[]), None);
        assert_eq!(verdict(&news, &["cdn.example"]), None);
        let expected = "blocked by ads, as an alias of x.ads.example.";
        assert_eq!(verdict(&news, &["cdn.example", "x.ads.example"]).as_deref(), Some(expected));
        assert_eq!(verdict(&query("shop.example", Type::A), &["x.ads.example"]), None, "who is spared may lead there");
        // What is longer than is looked up is not passed on, unless all of it is spared.
        let chain = |count: usize| (0..count).map(|n| format!("{n}.cdn.example")).collect::<Vec<_>>();
        let of = |query: &Query, chain: &[String]| verdict(query, &chain.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(of(&news, &chain(ALIASES_JUDGED_MAX)), None);
        for count in [ALIASES_JUDGED_MAX + 1, 2000] {
            let expected = "the answer has too many aliases or addresses for block lists";
            assert_eq!(of(&news, &chain(count)).as_deref(), Some(expected));
            assert_eq!(of(&query("shop.example", Type::A), &chain(count)), None);
            let message = blocks.judge_answer(&news.question, CLIENT, &aliased(&news, &["x.cdn.example"; 40])).unwrap();
            assert_eq!(message.message(&news).map(|message| message.rcode), Some(Rcode::SERVFAIL));
        }
        let (blocks, _) = Blocks::load(&[Config { aliases: false, ..config(&folder, &["ads"]) }], None, now());
        assert!(blocks.judge_answer(&news.question, CLIENT, &aliased(&news, &["x.ads.example"])).is_none());
    }

    #[test]
    fn rfc9460_2_4_the_targets_of_service_bindings_are_aliases_too() {
        let folder = folder(&[("ads", "ads.example\n")]);
        let (blocks, _) = Blocks::load(&[config(&folder, &["ads"])], None, now());
        let query = query("www.news.example", Type::HTTPS);
        for (priority, target, is_blocked) in [
            (0, "x.ads.example", true),
            // It may have addresses with it, so that nobody asks for them.
            (1, "x.ads.example", true),
            (0, "cdn.example", false),
            (1, ".", false),
        ] {
            let mut message = query.response(Rcode::NOERROR);
            let octets = [&[0, priority], target.parse::<Name>().unwrap().wire(), &[0, 1, 0, 3, 2, b'h', b'2']].concat();
            let data = RData::Opaque { record_type: Type::HTTPS, octets: octets.into() };
            message.answers.push(Record::new(query.question.name.clone(), 60, data));
            let octets = message.compose(true);
            assert_eq!(blocks.concerns(&octets), target != ".");
            let verdict = blocks.judge_answer(&query.question, CLIENT, &octets);
            assert_eq!(verdict.map(|verdict| verdict.reason()).is_some(), is_blocked, "{priority} {target}");
        }
    }

    #[test]
    fn answers_say_why_and_are_of_our_own_making() {
        let folder = folder(&[("ads.txt", "ads.example\n")]);
        let answered = |answer: &str, qtype| {
            let answer = Some(serde_json::from_str(answer).unwrap());
            let (blocks, _) = Blocks::load(&[Config { answer, ..config(&folder, &["ads.txt"]) }], None, now());
            let query = query("x.ads.example", qtype);
            blocks.judge(&query.question, CLIENT).unwrap().message(&query).unwrap()
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
        let (blocks, problems) = Blocks::load(&[config(&folder, &["ads", "more"])], None, now());
        assert_eq!(problems, []);
        assert!(blocks.reload(now()).is_none(), "nothing has changed");
        blocks.judge(&query("ads.example", Type::A).question, CLIENT).unwrap().note();
        // Another list in the place of one, while the other is gone.
        fs::write(folder.path().join("new"), "other.example\nads.example\n").unwrap();
        fs::rename(folder.path().join("new"), folder.path().join("more")).unwrap();
        fs::remove_file(folder.path().join("ads")).unwrap();
        let (blocks, problems) = blocks.reload(now()).unwrap();
        assert!(problems[0].message.ends_with("its last good state of 1 names counts meanwhile"), "{problems:?}");
        assert_eq!(judged(&blocks, "ads.example").as_deref(), Some("ads ads.example."));
        assert_eq!(judged(&blocks, "other.example").as_deref(), Some("more other.example."));
        assert_eq!(judged(&blocks, "more.example"), None);
        assert_eq!(blocks.lists().next().unwrap().2, 1, "what was counted is not forgotten");
        // What is there is no list, and then there is one again.
        fs::write(folder.path().join("ads"), "<html>\nNot found\n</html>\n").unwrap();
        let (blocks, problems) = blocks.reload(now()).unwrap();
        assert!(problems[0].message.contains("expected a list of names, got none"), "{problems:?}");
        assert_eq!(judged(&blocks, "ads.example").as_deref(), Some("ads ads.example."));
        assert!(blocks.reload(now()).is_none(), "told once");
        fs::write(folder.path().join("ads"), "0.0.0.0 third.example\n").unwrap();
        let (blocks, problems) = blocks.reload(now()).unwrap();
        assert_eq!(problems, []);
        assert_eq!(judged(&blocks, "third.example").as_deref(), Some("ads third.example."));
        assert_eq!(judged(&blocks, "ads.example").as_deref(), Some("more ads.example."));
        assert_eq!(blocks.judge(&query("third.example", Type::A).question, CLIENT).unwrap().place().unwrap().2, Some(1));
        // Of a configuration that reads it otherwise, nothing is taken over.
        let other = Config { below: Some(true), ..config(&folder, &["ads"]) };
        let (blocks, _) = Blocks::load(&[other], Some(&blocks), now());
        assert_eq!(judged(&blocks, "x.third.example").as_deref(), Some("ads third.example."));
    }

    #[test]
    fn a_list_that_is_emptied_counts_until_that_is_meant() {
        let full: String = (0..100).map(|n| format!("ads{n}.example\n")).collect();
        let folder = folder(&[("ads", &full), ("more", "more.example\n")]);
        let write = |text: &str| fs::write(folder.path().join("ads"), text).unwrap();
        let told = |problems: Vec<Problem>| problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>();
        let configs = [config(&folder, &["ads", "more"])];
        let (start, second) = (now(), Duration::from_secs(1));
        let (full_blocks, problems) = Blocks::load(&configs, None, start);
        assert_eq!((problems, full_blocks.doubted_until()), (vec![], None));
        let doubted = "expected most of the 100 names that this list had, got 0; its last good state counts meanwhile";
        let few = "rate.limited\nads1.example\n";
        for text in ["", "# nothing\n", few] {
            write(text);
            let (doubting, problems) = full_blocks.reload(start).unwrap();
            assert_eq!(told(problems), [doubted.replace("got 0", if text == few { "got 2" } else { "got 0" })], "{text:?}");
            for blocked in ["ads99.example", "more.example"] {
                assert!(judged(&doubting, blocked).is_some(), "{text:?} {blocked}");
            }
            assert_eq!((judged(&doubting, "rate.limited"), doubting.lists().next().unwrap().1), (None, 100));
            assert_eq!(doubting.doubted_until(), Some(start + 60 * second));
            assert!(doubting.reload(start + 59 * second).is_none());
            let (meant, problems) = doubting.reload(start + 60 * second).unwrap();
            let left = if text == few { 2 } else { 0 };
            assert_eq!(told(problems), [format!("this list had 100 names and has {left} now, which count from here on")]);
            assert_eq!((judged(&meant, "ads99.example"), meant.doubted_until()), (None, None));
            assert_eq!(judged(&meant, "rate.limited").is_some(), text == few);
            assert!(judged(&meant, "more.example").is_some());
            // Whoever asks for it, and has been told, does not wait.
            let (meant, _) = Blocks::load(&configs, Some(&doubting), start);
            assert_eq!((judged(&meant, "ads99.example"), meant.doubted_until()), (None, None));
            // Whoever was not told is.
            let (doubting, problems) = Blocks::load(&configs, Some(&full_blocks), start);
            assert_eq!((problems.len(), judged(&doubting, "ads99.example").is_some()), (1, true));
        }
        // A download that goes on is told of once, waited for, and then counts at once.
        let (doubting, _) = full_blocks.reload(start).unwrap();
        write("ads1.example\nads2.example\nads3.example\n");
        let (doubting, problems) = doubting.reload(start + 50 * second).unwrap();
        assert_eq!((problems, doubting.doubted_until()), (vec![], Some(start + 110 * second)));
        write(full.split_once("ads50").unwrap().0);
        let (half, problems) = doubting.reload(start + 51 * second).unwrap();
        assert_eq!((problems, half.doubted_until(), judged(&half, "ads99.example")), (vec![], None, None));
        assert!(judged(&half, "ads1.example").is_some());
    }

    #[test]
    fn a_folder_has_the_lists_that_are_in_it() {
        let folder = folder(&[("b.txt", "b.example\n"), ("a.txt", "a.example\nb.example\n"), (".hidden", "h.example\n")]);
        let (blocks, problems) = Blocks::load(&[config(&folder, &[""])], None, now());
        assert_eq!(problems, []);
        assert_eq!(judged(&blocks, "b.example").as_deref(), Some("a.txt b.example."), "the first that has it");
        assert_eq!(judged(&blocks, "h.example"), None);
        fs::remove_file(folder.path().join("a.txt")).unwrap();
        fs::write(folder.path().join("c.txt"), "c.example\n").unwrap();
        let (blocks, problems) = blocks.reload(now()).unwrap();
        assert_eq!(problems, []);
        assert_eq!(judged(&blocks, "a.example"), None);
        assert_eq!(judged(&blocks, "b.example").as_deref(), Some("b.txt b.example."));
        assert_eq!(judged(&blocks, "c.example").as_deref(), Some("c.txt c.example."));
    }

    #[test]
    fn names_that_are_not_blocked_cost_no_allocation() {
        let lines: String = (0..1000).map(|n| format!("ads{n}.example\n")).collect();
        let folder = folder(&[("ads", &lines)]);
        let (blocks, _) = Blocks::load(&[config(&folder, &["ads"])], None, now());
        let longest = query(&"a.".repeat(127), Type::A);
        let query = query("a.long.name.that.nobody.has.example", Type::A);
        let octets = aliased(&query, &[]);
        let count = allocation_counter::measure(|| {
            assert!(blocks.judge(&query.question, CLIENT).is_none());
            assert!(blocks.judge(&longest.question, CLIENT).is_none());
            assert!(blocks.judge_answer(&query.question, CLIENT, &octets).is_none());
        });
        assert_eq!(count.count_total, 0, "{count:?}");
    }

    /// What a policy says to a question, in short.
    fn said(blocks: &Blocks, client: Client, query: &Query, answer: &[u8]) -> String {
        let verdict = blocks.judge(&query.question, client);
        let Some(verdict) = verdict.or_else(|| blocks.judge_answer(&query.question, client, answer)) else { return "-".into() };
        let Some(message) = verdict.message(query) else { return format!("{} drop", list_of(&verdict)) };
        let data = message.answers.iter().map(|record| format!(" {:?}", record.data));
        let cut = if message.flags.truncated { " TC" } else { "" };
        format!("{} {}{cut}{}", list_of(&verdict), message.rcode, data.collect::<String>())
    }

    #[test]
    fn rpz_5_the_first_list_counts_then_the_client_the_name_and_the_address() {
        let one = "$TTL 60\n32.9.0.0.127.rpz-client-ip CNAME rpz-drop.\n24.0.2.0.192.rpz-ip CNAME *.\n32.7.2.0.192.rpz-ip CNAME .\n\
            a.example CNAME *.\n*.a.example CNAME .\nx.a.example CNAME rpz-passthru.\ny.z.example A 192.0.2.99\ntcp.example CNAME rpz-tcp-only.\n";
        let two = "$TTL 60\na.example CNAME .\nx.a.example CNAME .\nb.example CNAME .\ng.example CNAME *.garden.example.\n\
            *.z.example TXT \"z\"\n8.0.0.0.198.rpz-ip CNAME .\n";
        let folder = folder(&[("one", one), ("two", two)]);
        for separate in [false, true] {
            let configs = match separate {
                false => vec![config(&folder, &["one", "two"])],
                true => vec![config(&folder, &["one"]), config(&folder, &["two"])],
            };
            let (blocks, problems) = Blocks::load(&configs, None, now());
            assert_eq!(problems, []);
            let given = |name: &str, addresses: &[[u8; 4]]| {
                let query = query(name, Type::A);
                let mut message = query.response(Rcode::NOERROR);
                let owner = query.question.name.clone();
                message.answers.extend(addresses.iter().map(|address| Record::address(owner.clone(), 60, (*address).into())));
                (query, message.compose(true))
            };
            let stream = Client { room: crate::resolve::Room::Stream, ..CLIENT };
            let dropped = Client { address: [127, 0, 0, 9].into(), ..CLIENT };
            for (name, addresses, client, expected) in [
                ("a.example", &[][..], CLIENT, "one NOERROR"),
                ("q.r.a.example", &[], CLIENT, "one NXDOMAIN"),
                // RFC 4592, 3.3.1: the nearer name hides the wildcard.
                ("q.x.a.example", &[], CLIENT, "-"),
                ("x.a.example", &[[192, 0, 2, 7]], CLIENT, "-"),
                ("a.example", &[], dropped, "one drop"),
                ("b.example", &[], CLIENT, "two NXDOMAIN"),
                ("tcp.example", &[], CLIENT, "one NOERROR TC"),
                ("tcp.example", &[[192, 0, 2, 7]], stream, "-"),
                ("free.example", &[[192, 0, 2, 1]], CLIENT, "one NOERROR"),
                ("free.example", &[[192, 0, 2, 1], [192, 0, 2, 7]], CLIENT, "one NXDOMAIN"),
                ("free.example", &[[198, 1, 2, 3], [192, 0, 2, 1]], CLIENT, "one NOERROR"),
                ("free.example", &[[198, 1, 2, 3]], CLIENT, "two NXDOMAIN"),
                ("free.example", &[[203, 0, 113, 1]], CLIENT, "-"),
                ("y.z.example", &[], CLIENT, "one NOERROR A(192.0.2.99)"),
                ("g.example", &[], CLIENT, "two NOERROR Cname(g.example.garden.example.)"),
            ] {
                let (query, answer) = given(name, addresses);
                assert_eq!(said(&blocks, client, &query, &answer), expected, "{name} {addresses:?} {separate}");
            }
            assert!(blocks.knows(dropped.address) && !blocks.knows(CLIENT.address));
            // An earlier alias of a chain counts before a later one, whatever the lists.
            let query = query("www.example", Type::A);
            assert_eq!(said(&blocks, CLIENT, &query, &aliased(&query, &["b.example", "a.example"])), "two NXDOMAIN");
            assert_eq!(said(&blocks, CLIENT, &query, &aliased(&query, &["x.a.example", "b.example"])), "-", "passed through");
            let (taken, problems) = Blocks::load(&configs, Some(&blocks), now());
            assert_eq!(problems, []);
            assert_eq!(said(&taken, CLIENT, &given("y.z.example", &[]).0, &[]), "one NOERROR A(192.0.2.99)", "taken over");
            fs::write(folder.path().join("one"), "$TTL 60\na CNAME .\n").unwrap();
            fs::write(folder.path().join("two"), "$TTL 60\nz CNAME *.\n").unwrap();
            let (other, problems) = taken.reload(now()).unwrap();
            assert_eq!(problems, []);
            assert_eq!(said(&other, CLIENT, &given("y.z.example", &[]).0, &[]), "-");
            fs::write(folder.path().join("one"), one).unwrap();
            fs::write(folder.path().join("two"), two).unwrap();
        }
        // Whoever sets an answer gets it for all but what is passed through.
        let (blocks, _) = Blocks::load(&[Config { answer: Some(Answer::Refused), ..config(&folder, &["one"]) }], None, now());
        for (name, expected) in [("y.z.example", "one REFUSED"), ("tcp.example", "one REFUSED"), ("x.a.example", "-")] {
            assert_eq!(said(&blocks, CLIENT, &query(name, Type::A), &[]), expected);
        }
    }
}
