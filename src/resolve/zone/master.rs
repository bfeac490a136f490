//! Master files (RFC 1035, 5; RFC 2308, 4): text to records, every mistake with its line. Not the decision what is
//! answered of them.
//!
//! Entries, owners, origins and TTLs are read here, because the library's own reader does not say where it failed, splits
//! quoted strings in parentheses and knows no generic form; the data of each record is read through `presentation`.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::presentation::{DataError, read_data};
use crate::dns::{Name, RData, Record, Type};
use crate::file::{self, Stamp};
use crate::limits::{PROBLEMS_PER_FILE_MAX, RRSET_RECORDS_MAX, ZONE_INCLUDES_MAX, ZONE_OCTETS_MAX};
use crate::problem::{Place, Problem};

/// The records of one zone, and the name that it starts at.
#[derive(Debug)]
pub(super) struct Master {
    pub(super) apex: Name,
    pub(super) records: Vec<Record>,
}

/// Reads a zone from its file. Names without a dot at their end are below `origin` until `$ORIGIN` says otherwise; the
/// zone starts at the owner of the SOA record. `files` is told of each file that is read, as it was before.
pub(super) fn read(path: &Path, origin: &Name, files: &mut Files) -> Result<Master, Vec<Problem>> {
    let mut records = Vec::new();
    let mut take = |record, source| {
        records.push((record, source));
        Ok(())
    };
    let mut reader = Reader::new(origin, &mut take);
    reader.read_file(path, 0);
    *files = std::mem::take(&mut reader.files);
    let problems = reader.problems;
    finish(records, problems, path)
}

/// Has `take` told of every record of a text that came from elsewhere and is not served as a zone, with the number of its
/// line; what it says of one is wrong with it. Names without a dot at their end are below the root. Other files are not
/// included, and a mistake does not keep the records behind it out.
pub(in crate::resolve) fn each_record(
    path: &Path,
    text: &str,
    mut take: impl FnMut(Record, usize) -> Result<(), String>,
) -> Vec<Problem> {
    let mut take = |record, source: Source| take(record, source.line);
    let mut reader = Reader { is_whole: false, last_ttl: Some(LIST_TTL), ..Reader::new(&Name::root(), &mut take) };
    reader.read_text(path, text, 0);
    if reader.more > 0 {
        reader.problems.push(Problem::new(format!("{} more entries of this kind are left out", reader.more)).in_file(path));
    }
    reader.problems
}

/// Seconds that a record of such a text may be remembered when it says nothing.
const LIST_TTL: u32 = 60;

/// Files and what they were when they were read.
pub(super) type Files = BTreeMap<PathBuf, Option<Stamp>>;

struct Reader<'t> {
    origin: Name,
    /// The owner of the last record: an indented entry has the same.
    owner: Option<Name>,
    /// `$TTL`.
    default_ttl: Option<u32>,
    last_ttl: Option<u32>,
    /// Who gets the records, and says what is wrong with one.
    take: &'t mut dyn FnMut(Record, Source) -> Result<(), String>,
    files: Files,
    problems: Vec<Problem>,
    /// Further ones of their kind.
    more: usize,
    /// Nothing counts with a mistake in it, and it may have parts in other files.
    is_whole: bool,
    /// Octets that may still be read.
    room: usize,
}

/// Where a record stands, to be told when it turns out wrong later.
struct Source {
    file: Arc<Path>,
    line: usize,
}

/// What is wrong with an entry.
struct Fault {
    span: Range<usize>,
    message: String,
    hint: Option<&'static str>,
}

impl Fault {
    fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), hint: None }
    }

    fn hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }
}

impl<'t> Reader<'t> {
    fn new(origin: &Name, take: &'t mut dyn FnMut(Record, Source) -> Result<(), String>) -> Self {
        let (owner, default_ttl, last_ttl, files, problems, more) = Default::default();
        let (origin, room) = (origin.clone(), ZONE_OCTETS_MAX);
        Self { origin, owner, default_ttl, last_ttl, take, files, problems, more, is_whole: true, room }
    }

    fn read_file(&mut self, path: &Path, depth: usize) {
        self.files.entry(path.to_owned()).or_insert_with(|| Stamp::of(path));
        let text = file::read(path, self.room as u64).map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => format!("expected at most {} MB of one zone", ZONE_OCTETS_MAX >> 20),
            _ => format!("cannot read this file: {error}"),
        });
        let text = text.and_then(|octets| {
            String::from_utf8(octets).map_err(|error| {
                let at = error.utf8_error().valid_up_to();
                let line = error.as_bytes()[..at].iter().filter(|&&octet| octet == b'\n').count() + 1;
                format!("expected text in UTF-8, got something else on line {line}; write an octet as \\DDD")
            })
        });
        let text = match text {
            Ok(text) => text,
            Err(message) => return self.problems.push(Problem::new(message).in_file(path)),
        };
        self.room = self.room.saturating_sub(text.len());
        self.read_text(path, &text, depth);
    }

    fn read_text(&mut self, path: &Path, text: &str, depth: usize) {
        let file: Arc<Path> = path.into();
        let mut line = 1;
        let mut counted = 0;
        for entry in entries(text) {
            let read = entry.and_then(|entry| {
                let Some(first) = entry.words.first() else { return Ok(()) };
                let start = first.span.start;
                line += text.get(counted..start).map_or(0, |passed| passed.matches('\n').count());
                counted = start;
                self.read_entry(&entry, &Source { file: file.clone(), line }, path, depth)
            });
            if let Err(fault) = read {
                if self.problems.len() >= PROBLEMS_PER_FILE_MAX {
                    self.more += 1;
                    continue;
                }
                let problem = Problem::new(fault.message).in_file(path).at(Place::of(text, fault.span));
                let problem = problem.hint("an entry is NAME [TTL] [IN] TYPE DATA, as in RFC 1035, 5.1");
                self.problems.push(match fault.hint {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                });
                if self.is_whole && self.problems.len() >= PROBLEMS_PER_FILE_MAX {
                    return;
                }
            }
        }
    }

    fn read_entry(&mut self, entry: &Entry<'_>, source: &Source, path: &Path, depth: usize) -> Result<(), Fault> {
        let Some((first, rest)) = entry.words.split_first() else { return Ok(()) };
        if !first.text.starts_with('$') {
            return self.read_record(entry, source);
        }
        let argument =
            || rest.first().ok_or_else(|| Fault::new(first.span.clone(), format!("expected a value behind {}", first.text)));
        match first.text.to_ascii_uppercase().as_str() {
            "$ORIGIN" => self.origin = self.name(argument()?)?,
            "$TTL" => {
                let word = argument()?;
                let ttl = read_ttl(word.text);
                self.default_ttl = Some(ttl.ok_or_else(|| {
                    Fault::new(word.span.clone(), format!("expected a time such as 300 or 1h, got {:?}", word.text))
                })?);
            }
            "$INCLUDE" => {
                let word = argument()?;
                if !self.is_whole {
                    return Err(Fault::new(word.span.clone(), "expected all entries in this file, got $INCLUDE"));
                }
                if depth >= ZONE_INCLUDES_MAX {
                    return Err(Fault::new(
                        word.span.clone(),
                        format!("expected at most {ZONE_INCLUDES_MAX} files that include one another"),
                    ));
                }
                // RFC 1035, 5.1: the origin of the including file does not change.
                let origin = self.origin.clone();
                if let Some(word) = rest.get(1) {
                    self.origin = self.name(word)?;
                }
                let included: PathBuf = path.parent().unwrap_or(Path::new("")).join(word.text.trim_matches('"'));
                self.read_file(&included, depth + 1);
                self.origin = origin;
            }
            other => {
                let fault = Fault::new(first.span.clone(), format!("expected $ORIGIN, $TTL or $INCLUDE, got {other}"));
                return Err(fault.hint("$GENERATE and other extensions are not read: write the records out"));
            }
        }
        Ok(())
    }

    /// `[OWNER] [TTL] [CLASS] TYPE DATA`, TTL and class in either order.
    fn read_record(&mut self, entry: &Entry<'_>, source: &Source) -> Result<(), Fault> {
        let mut words = entry.words.iter();
        if !entry.is_indented
            && let Some(word) = words.next()
        {
            self.owner = Some(self.name(word)?);
        }
        let (mut ttl, mut kind) = (None, None);
        for word in words.by_ref() {
            if word.text.eq_ignore_ascii_case("IN") {
                continue;
            }
            if ["CH", "HS", "CS"].iter().any(|class| word.text.eq_ignore_ascii_case(class)) {
                return Err(Fault::new(word.span.clone(), format!("expected class IN, got {}", word.text)));
            }
            if ttl.is_none()
                && let Some(time) = read_ttl(word.text)
            {
                ttl = Some(time);
                continue;
            }
            let hint = "an entry is `OWNER [TTL] [IN] TYPE DATA`; an indented one has the owner of the entry before";
            kind = Some((word, word.text.parse().map_err(|error: String| Fault::new(word.span.clone(), error).hint(hint))?));
            break;
        }
        let Some((kind_word, kind)) = kind else {
            return Err(
                Fault::new(entry.span(), "expected a record type and data").hint("an entry is `OWNER [TTL] [IN] TYPE DATA`")
            );
        };
        let owner = self
            .owner
            .clone()
            .ok_or_else(|| Fault::new(kind_word.span.clone(), "expected an owner: no entry before this one has any"))?;
        let data = match (kind, words.as_slice()) {
            // A policy zone has a million of them.
            (Type::CNAME, [target]) if !target.text.starts_with('\\') => RData::Cname(self.name(target)?),
            (kind, rest) => {
                let origin = self.origin.to_string();
                let text: Vec<&str> =
                    rest.iter().map(|word| if word.text == "@" { origin.as_str() } else { word.text }).collect();
                let span = match (rest.first(), rest.last()) {
                    (Some(first), Some(last)) => first.span.start..last.span.end,
                    _ => kind_word.span.clone(),
                };
                let wrong = |error: DataError| Fault { span, message: error.to_string(), hint: error.hint() };
                read_data(kind, &text.join(" "), &self.origin).map_err(wrong)?
            }
        };
        let minimum = match &data {
            RData::Soa(soa) => Some(soa.minimum),
            _ => None,
        };
        // RFC 2308, 4, and before $TTL was known: the last one written; an SOA record may stand for its own.
        let ttl = ttl.or(self.default_ttl).or(self.last_ttl).or(minimum);
        let ttl = ttl.ok_or_else(|| {
            Fault::new(kind_word.span.clone(), "expected a TTL for this record").hint("write `$TTL 300` at the top of the file")
        })?;
        self.last_ttl = Some(ttl);
        let source = Source { file: source.file.clone(), line: source.line };
        (self.take)(Record::new(owner, ttl, data), source).map_err(|message| Fault::new(entry.span(), message))
    }

    /// A name, below the origin unless it ends with a dot.
    fn name(&self, word: &Word<'_>) -> Result<Name, Fault> {
        if word.text == "@" {
            return Ok(self.origin.clone());
        }
        let name: Name =
            word.text.parse().map_err(|error| Fault::new(word.span.clone(), format!("expected a name: {error}")))?;
        let escapes = word.text.trim_end_matches('.').bytes().rev().take_while(|&byte| byte == b'\\').count();
        if word.text.ends_with('.') && escapes % 2 == 0 {
            return Ok(name);
        }
        let whole = Name::from_labels(name.labels().chain(self.origin.labels()));
        whole.ok_or_else(|| {
            Fault::new(word.span.clone(), format!("expected a name of at most 255 octets with its origin {}", self.origin))
        })
    }
}

/// What only the whole zone shows.
fn finish(records: Vec<(Record, Source)>, mut problems: Vec<Problem>, path: &Path) -> Result<Master, Vec<Problem>> {
    if !problems.is_empty() {
        return Err(problems);
    }
    let at = |source: &Source, message: String| {
        // The line's text is not kept; its number is enough to find it.
        let place = Place { line: source.line, column: 1, text: String::new(), width: 1 };
        let mut problem = Problem::new(message).in_file(&*source.file);
        if let Ok(text) = file::read_text(&source.file, ZONE_OCTETS_MAX as u64)
            && let Some(line) = text.lines().nth(source.line - 1)
        {
            problem = problem.at(Place { text: line.to_owned(), width: line.chars().count().max(1), ..place });
        }
        problem
    };
    let mut starts = records.iter().filter(|(record, _)| record.record_type() == Type::SOA);
    let apex = match (starts.next(), starts.next()) {
        (Some((record, _)), None) => record.owner.clone(),
        (Some(_), Some((_, source))) => return Err(vec![at(source, "expected one SOA record, got a second one".into())]),
        (None, _) => {
            let problem = Problem::new("expected an SOA record, which starts a zone, and there is none").in_file(path);
            return Err(vec![problem.hint("for example `@ 300 SOA ns hostmaster 1 3600 600 86400 60`")]);
        }
    };
    let mut types: HashMap<&Name, usize> = HashMap::new();
    let mut sets: HashMap<(&Name, Type), usize> = HashMap::new();
    for (record, source) in &records {
        *types.entry(&record.owner).or_default() += 1;
        let set = sets.entry((&record.owner, record.record_type())).or_default();
        *set += 1;
        if *set == RRSET_RECORDS_MAX + 1 {
            let told = format!(
                "expected at most {RRSET_RECORDS_MAX} records of one name and type, as a message has at most 65535 octets"
            );
            problems.push(at(source, told));
        }
    }
    for (record, source) in &records {
        if !record.owner.is_within(&apex) {
            problems.push(at(source, format!("expected a name within {apex}, where this zone starts, got {}", record.owner)));
        }
        let others = types.get(&record.owner).copied().unwrap_or_default();
        if record.record_type() == Type::CNAME && others > 1 {
            let problem = at(
                source,
                format!("a CNAME is the only record of its name (RFC 1034, 3.6.2), and {} has others", record.owner),
            );
            problems.push(problem);
        }
        if problems.len() >= PROBLEMS_PER_FILE_MAX {
            break;
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut records: Vec<Record> = records.into_iter().map(|(record, _)| record).collect();
    level_ttls(&mut records);
    Ok(Master { apex, records })
}

/// Gives each RRset one TTL (RFC 2181, 5.2): its lowest.
fn level_ttls(records: &mut [Record]) {
    let mut lowest: HashMap<(Name, Type), u32> = HashMap::new();
    for record in records.iter() {
        let ttl = lowest.entry((record.owner.clone(), record.record_type())).or_insert(record.ttl);
        *ttl = record.ttl.min(*ttl);
    }
    for record in records {
        if let Some(&ttl) = lowest.get(&(record.owner.clone(), record.record_type())) {
            record.ttl = ttl;
        }
    }
}

/// Seconds, or a sum such as `1h30m`; at most 2^31 - 1 (RFC 2181, 8).
fn read_ttl(word: &str) -> Option<u32> {
    let (mut total, mut number) = (0u32, None::<u32>);
    for byte in word.bytes() {
        let unit = match byte.to_ascii_lowercase() {
            digit @ b'0'..=b'9' => {
                number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(u32::from(digit - b'0'))?);
                continue;
            }
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    if word.bytes().last().is_some_and(|byte| byte.is_ascii_digit()) {
        total = total.checked_add(number?)?;
    }
    (!word.is_empty() && total <= i32::MAX.cast_unsigned()).then_some(total)
}

/// One entry: a line, or several in parentheses.
struct Entry<'a> {
    is_indented: bool,
    words: Vec<Word<'a>>,
}

impl Entry<'_> {
    fn span(&self) -> Range<usize> {
        match (self.words.first(), self.words.last()) {
            (Some(first), Some(last)) => first.span.start..last.span.end,
            _ => 0..0,
        }
    }
}

/// A word as it is written, quotes and escapes included.
struct Word<'a> {
    text: &'a str,
    span: Range<usize>,
}

/// The entries of a text. After a quote or a parenthesis that is not closed there are no more: what follows cannot be told.
fn entries(text: &str) -> impl Iterator<Item = Result<Entry<'_>, Fault>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= text.len() {
            return None;
        }
        let entry = next_entry(text, &mut at);
        if entry.is_err() {
            at = text.len();
        }
        Some(entry)
    })
}

fn next_entry<'a>(text: &'a str, at: &mut usize) -> Result<Entry<'a>, Fault> {
    let bytes = text.as_bytes();
    let mut entry = Entry { is_indented: matches!(bytes.get(*at), Some(b' ' | b'\t')), words: Vec::new() };
    let mut open = None;
    loop {
        match bytes.get(*at) {
            None => match open {
                Some(open) => {
                    return Err(Fault::new(open..open + 1, "expected a closing parenthesis before the end of the file"));
                }
                None => return Ok(entry),
            },
            Some(b'\n') => {
                *at += 1;
                if open.is_none() {
                    return Ok(entry);
                }
            }
            Some(b' ' | b'\t' | b'\r') => *at += 1,
            Some(b';') => *at += bytes[*at..].iter().take_while(|&&byte| byte != b'\n').count(),
            Some(b'(') if open.is_none() => {
                open = Some(*at);
                *at += 1;
            }
            Some(b')') if open.is_some() => {
                open = None;
                *at += 1;
            }
            Some(b'(' | b')') => return Err(Fault::new(*at..*at + 1, "expected parentheses in pairs, not one within another")),
            Some(_) => {
                let start = *at;
                let mut is_quoted = false;
                while let Some(byte) = bytes.get(*at) {
                    match byte {
                        b'\n' if is_quoted => return Err(Fault::new(start..*at, "expected a closing quote on the same line")),
                        b' ' | b'\t' | b'\r' | b'\n' | b';' | b'(' | b')' if !is_quoted => break,
                        b'\\' => *at += 1,
                        b'"' => is_quoted = !is_quoted,
                        _ => {}
                    }
                    *at += 1;
                }
                *at = (*at).min(text.len());
                if is_quoted {
                    return Err(Fault::new(start..*at, "expected a closing quote before the end of the file"));
                }
                entry.words.push(Word { text: text.get(start..*at).unwrap_or_default(), span: start..*at });
            }
        }
    }
}
