//! How lists come to be in force: what has not changed is taken over from those before, what cannot be read counts as it
//! last was, and what has lost nearly all of its names is in doubt first.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::file::{self, Item};
use super::list::{Entry, Reading};
use super::names::{Action, Hasher, Reach, Rule};
use super::rpz::Effect;
use super::rules::Rows;
use super::{Block, Blocks, Config};
use crate::file::Stamp;
use crate::limits::{BLOCK_NAMES_MAX, BLOCK_OCTETS_MAX, BLOCKS_MAX};
use crate::metrics::Sum;
use crate::problem::Problem;
use crate::resolve::local::files;

/// One file.
#[derive(Debug)]
pub(super) struct List {
    pub(super) path: PathBuf,
    spares: bool,
    /// As it was when what counts of it was read.
    stamp: Option<Stamp>,
    pub(super) names: usize,
    /// It has lost nearly all of its names since, which may be a mishap.
    doubt: Option<Doubt>,
    /// Answers that it decided, over all reloads.
    pub(super) answered: Arc<Sum>,
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
    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }
}
