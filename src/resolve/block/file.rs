//! The file of a block list, read line by line, so that it takes no memory but that of its names.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::Form;
use super::list::{self, Entry, Fault, Reading};
use super::rpz::{self, Effect, Trigger};
use crate::limits::{BLOCK_LINE_OCTETS_MAX, BLOCK_OCTETS_MAX, PROBLEMS_PER_FILE_MAX, ZONE_OCTETS_MAX};
use crate::problem::{Place, Problem};

/// What a file says.
#[derive(Debug)]
pub(super) enum Item {
    /// Of a list of names.
    Entry(Entry),
    /// Of a response policy zone.
    Policy(Trigger, Effect),
}

/// Reads a list, with `each` told of every entry and the number of its line. What is wrong with lines is told; a file that
/// is no list at all is an error. Of `room`, the octets that may be read, it takes what it has.
pub(super) fn read(
    path: &Path,
    reading: Reading,
    room: &mut u64,
    each: &mut impl FnMut(usize, Item),
) -> Result<Vec<Problem>, Problem> {
    let unreadable = |error: io::Error| {
        Problem::new(format!("expected a readable list, got: {error}")).in_file(path).hint("`lists` of [[block]] names it")
    };
    let file = crate::file::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.len() > *room {
        let message =
            format!("expected at most {} MB of block lists together, and this one goes above that", BLOCK_OCTETS_MAX >> 20);
        return Err(Problem::new(message).in_file(path).hint("leave out lists that others contain"));
    }
    let mut from = BufReader::with_capacity(64 << 10, file.take(*room));
    let is_zone = match reading.form {
        Form::Auto => rpz::is_zone(from.fill_buf().map_err(unreadable)?),
        form => form == Form::Rpz,
    };
    if is_zone {
        return zone(path, from, room, each);
    }
    let mut lines = Lines { from, line: Vec::new(), number: 0 };
    let mut told = Told { path, problems: Vec::new(), more: 0, foreign: 0, is_for_browsers: false };
    let mut entries = 0usize;
    while let Some(line) = lines.next().map_err(unreadable)? {
        let number = lines.number;
        let Line::Whole = line else {
            told.wrong(number, "", "", format!("expected lines of at most {BLOCK_LINE_OCTETS_MAX} octets"), "is it a list?");
            continue;
        };
        *room = room.saturating_sub(lines.line.len() as u64);
        let octets = lines.line.strip_prefix(b"\xef\xbb\xbf").filter(|_| number == 1).unwrap_or(&lines.line);
        if matches!(octets, [b'#' | b'!' | b';', ..]) {
            // Comments may be in any encoding.
            continue;
        }
        let Ok(text) = std::str::from_utf8(octets) else {
            told.wrong(number, "", "", "expected text in UTF-8, got something else".into(), "is it a list?");
            continue;
        };
        told.is_for_browsers |= text.starts_with("||") || text.starts_with("@@") || text.starts_with("[Adblock");
        let entry = &mut |entry| {
            entries += 1;
            each(number, Item::Entry(entry));
        };
        list::read(text, reading, entry, &mut |fault| match fault {
            Fault::Wrong { word, message, hint } if !told.is_for_browsers => told.wrong(number, text, word, message, hint),
            _ => told.foreign += 1,
        });
    }
    told.finish(entries)
}

/// Reads a response policy zone, whose entries may have several lines, so that it is in memory as a whole meanwhile.
fn zone(path: &Path, mut from: impl Read, room: &mut u64, each: &mut impl FnMut(usize, Item)) -> Result<Vec<Problem>, Problem> {
    let mut octets = Vec::new();
    let most = ZONE_OCTETS_MAX as u64;
    let wrong = |message| Problem::new(message).in_file(path);
    from.by_ref().take(most + 1).read_to_end(&mut octets).map_err(|error| wrong(format!("cannot read this file: {error}")))?;
    if octets.len() as u64 > most {
        return Err(wrong(format!("expected a zone of at most {} MB, and this one goes above that", most >> 20)));
    }
    *room = room.saturating_sub(octets.len() as u64);
    let text = String::from_utf8(octets).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    let (mut problems, count) = rpz::read(path, &text, &mut |line, trigger, effect| each(line, Item::Policy(trigger, effect)));
    if count == 0 && problems.iter().any(|problem| !problem.is_warning) {
        let first = problems.swap_remove(0);
        return Err(Problem { message: format!("expected a response policy zone: {}", first.message), ..first });
    }
    Ok(problems)
}

/// What is told of one file.
struct Told<'a> {
    path: &'a Path,
    problems: Vec<Problem>,
    /// Further ones of their kind.
    more: usize,
    /// Rules that are not about whole domains.
    foreign: usize,
    /// It has rules of the kind that browsers know, most of which are none of ours.
    is_for_browsers: bool,
}

impl Told<'_> {
    fn wrong(&mut self, number: usize, line: &str, word: &str, message: String, hint: &str) {
        if self.problems.len() >= PROBLEMS_PER_FILE_MAX {
            self.more += 1;
            return;
        }
        // The word is a part of the line.
        let start = (word.as_ptr() as usize).saturating_sub(line.as_ptr() as usize);
        let start = if start > line.len() { 0 } else { start };
        let place = Place::of(line, start..start + word.len());
        self.problems.push(Problem::new(message).in_file(self.path).at(Place { line: number, ..place }).hint(hint));
    }

    fn finish(mut self, entries: usize) -> Result<Vec<Problem>, Problem> {
        let wrong = self.problems.len() + self.more;
        if entries == 0 && wrong > 0 {
            let first = self.problems.swap_remove(0);
            let message = format!("expected a list of names, got none, and {wrong} lines of another kind: {}", first.message);
            return Err(Problem { message, ..first });
        }
        if self.more > 0 {
            let message = format!("{} more lines of this kind are left out", self.more);
            self.problems.push(Problem::new(message).in_file(self.path));
        }
        if self.foreign > 0 {
            let message = format!("{} rules that are not about whole domains are left out", self.foreign);
            let problem = Problem::new(message).in_file(self.path).warning();
            self.problems.push(problem.hint("they are for browsers; most lists exist in a form for DNS too"));
        }
        Ok(self.problems)
    }
}

/// The lines of a file, however long they are.
struct Lines<R> {
    from: R,
    /// The last one that was whole.
    line: Vec<u8>,
    number: usize,
}

enum Line {
    Whole,
    TooLong,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> io::Result<Option<Line>> {
        self.line.clear();
        self.number += 1;
        let count = (&mut self.from).take(BLOCK_LINE_OCTETS_MAX).read_until(b'\n', &mut self.line)?;
        if count == 0 {
            return Ok(None);
        }
        if (count as u64) < BLOCK_LINE_OCTETS_MAX || self.line.ends_with(b"\n") {
            return Ok(Some(Line::Whole));
        }
        loop {
            let octets = self.from.fill_buf()?;
            let (count, is_end) = match octets.iter().position(|octet| *octet == b'\n') {
                Some(at) => (at + 1, true),
                None => (octets.len(), octets.is_empty()),
            };
            self.from.consume(count);
            if is_end {
                return Ok(Some(Line::TooLong));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const AUTO: Reading = Reading { form: Form::Auto, below: None };

    fn load(octets: &[u8]) -> (Vec<String>, Result<Vec<String>, String>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        fs::write(&path, octets).unwrap();
        let mut found = Vec::new();
        let read = read(&path, AUTO, &mut 1_000_000, &mut |line, entry| {
            found.push(match entry {
                Item::Entry(entry) => format!("{line} {}", entry.name),
                Item::Policy(trigger, _) => format!("{line} {trigger}"),
            })
        });
        let short = |problem: Problem| match &problem.place {
            Some(place) => format!("{}:{}: {}", place.line, place.column, problem.message),
            None => problem.message,
        };
        (found, read.map(|problems| problems.into_iter().map(short).collect()).map_err(short))
    }

    #[test]
    fn a_bad_line_does_not_keep_its_neighbours_out() {
        let (found, told) = load(b"\xef\xbb\xbfa.example\r\n# \xff latin\n\xff.example\n  b..example x\nc.example");
        assert_eq!(found, ["1 a.example.", "5 c.example."]);
        assert_eq!(
            told.unwrap(),
            ["3:1: expected text in UTF-8, got something else", "4:14: expected one domain a line, got another word, \"x\""]
        );
        let long = [b"a.example\n".as_slice(), &b"x".repeat(200_000), b"\nb.example\n"].concat();
        let (found, told) = load(&long);
        assert_eq!((found.len(), told.unwrap().len()), (2, 1));
    }

    #[test]
    fn what_is_no_list_is_an_error_and_an_empty_list_is_none() {
        for octets in [&b"<html>\n<body>404 not found\n"[..], &[0; 5000], &[0xff; 70_000]] {
            let (found, told) = load(octets);
            assert!(found.is_empty());
            assert!(told.clone().unwrap_err().contains("expected a list of names, got none"), "{told:?}");
        }
        assert_eq!(load(b"").1, Ok(vec![]));
        assert_eq!(load(b"# nothing today\n").1, Ok(vec![]));
    }

    #[test]
    fn a_list_for_browsers_is_taken_as_far_as_it_is_about_domains() {
        let (found, told) =
            load(b"[Adblock Plus 2.0]\n! t\n||a.example^\n/banner/\nb.example##.ad\n@@||c.example^\n||d.example/x\n");
        assert_eq!(found, ["3 a.example.", "6 c.example."]);
        assert_eq!(told.unwrap(), ["3 rules that are not about whole domains are left out"]);
    }

    #[test]
    fn what_is_wrong_on_every_line_is_told_a_few_times() {
        let (found, told) = load(format!("a.example\n{}", "what is this\n".repeat(10_000)).as_bytes());
        assert_eq!((found.len(), told.clone().unwrap().len()), (1, PROBLEMS_PER_FILE_MAX + 1));
        assert_eq!(told.unwrap().last().unwrap(), "9980 more lines of this kind are left out");
    }

    #[test]
    fn a_list_above_the_bound_and_what_is_no_file_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let mut each = |_, entry: Item| panic!("{entry:?}");
        let problem = read(&path, AUTO, &mut { BLOCK_OCTETS_MAX }, &mut each).unwrap_err();
        assert!(problem.message.contains("MB of block lists"), "{problem}");
        for path in ["/dev/zero", "/nonexistent/list", "/"] {
            let problem = read(Path::new(path), AUTO, &mut { BLOCK_OCTETS_MAX }, &mut each).unwrap_err();
            assert!(problem.message.contains("expected a readable list"), "{problem}");
        }
    }
}
