//! Which names are not to be had? Block lists: files of names, one `[[block]]` of the configuration for those that are
//! answered alike, and response policy zones, which say themselves what is answered.
//!
//! Not here: data of our own, which is never blocked, and watching the files. A [`Blocks`] is loaded once and never changes;
//! when a file did, another is loaded, which takes over from the former one what is as it was, and what cannot be read now.
//!
//! Start with [`Blocks::judge`], which a question meets before anybody else is asked, and [`Blocks::judge_answer`], which
//! what others say meets: a name may be an alias of a blocked one.

mod config;
mod file;
mod list;
mod load;
mod names;
mod networks;
mod rpz;
mod rules;
mod verdict;

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;

pub use self::config::{Answer, Config, Form};
use self::load::List;
use self::names::{Action, Hasher, Lower, Rule};
use self::networks::Network;
use self::rpz::Trigger;
use self::rules::Rules;
pub use self::verdict::{Listed, Verdict};
use super::answer::Client;
use crate::dns::{Class, Given, Name, Question, given};
use crate::limits::{ADDRESSES_JUDGED_MAX, ALIASES_JUDGED_MAX, BLOCKS_MAX};

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

impl Blocks {
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::Ipv4Addr;
    use std::time::{Duration, Instant};

    use tempfile::TempDir;

    use super::*;
    use crate::dns::{Edns, Message, Query, RData, Rcode, Record, Type};
    use crate::problem::Problem;

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
