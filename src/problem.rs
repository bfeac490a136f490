//! What is wrong with a text that a person wrote, where, and what to do about it.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// Octets of a line that are shown.
const LINE_MAX: usize = 240;

/// One problem of a file (or of a flag, when there is no file).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub file: Option<PathBuf>,
    /// Line and column from 1, and the line itself.
    pub place: Option<Box<Place>>,
    pub message: String,
    pub hint: Option<String>,
    /// Nothing was lost by it: all that was written has its effect, but for what the message names.
    pub is_warning: bool,
}

/// A place in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub line: usize,
    pub column: usize,
    pub text: String,
    /// Characters of the line that are meant.
    pub width: usize,
}

impl Place {
    /// Where `span`, in octets, begins in `text`.
    pub fn of(text: &str, span: Range<usize>) -> Self {
        let start = floor_boundary(text, span.start);
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = text[line_start..].lines().next().unwrap_or_default();
        // A file may be one line of megabytes; nobody wants to see that.
        let line = &line[..floor_boundary(line, LINE_MAX)];
        let end = floor_boundary(text, span.end.min(line_start + line.len())).max(start);
        Self {
            line: before.matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            text: line.to_owned(),
            width: text[start..end].chars().count().max(1),
        }
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

impl Problem {
    pub fn new(message: impl Into<String>) -> Self {
        Self { file: None, place: None, message: message.into(), hint: None, is_warning: false }
    }

    #[must_use]
    pub fn in_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self
    }

    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(Box::new(place));
        self
    }

    #[must_use]
    pub fn warning(mut self) -> Self {
        self.is_warning = true;
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Text with its lines and tabs, and without what would move a terminal's cursor: what a person wrote is shown to another.
pub fn legible(text: &str) -> String {
    let is_told = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars().map(|c| if is_told(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write(&mut text)?;
        f.write_str(&legible(&text))
    }
}

impl Problem {
    fn write(&self, f: &mut impl fmt::Write) -> fmt::Result {
        match (&self.file, &self.place) {
            (Some(file), Some(place)) => write!(f, "{}:{}:{}: ", file.display(), place.line, place.column)?,
            (Some(file), None) => write!(f, "{}: ", file.display())?,
            (None, Some(place)) => write!(f, "line {}, column {}: ", place.line, place.column)?,
            (None, None) => {}
        }
        f.write_str(&self.message)?;
        if let Some(place) = &self.place {
            let number = place.line.to_string();
            let gutter = " ".repeat(number.len());
            let indent: String = place.text.chars().take(place.column - 1).map(|c| if c == '\t' { c } else { ' ' }).collect();
            write!(f, "\n  {gutter} |\n  {number} | {}\n  {gutter} | {indent}{}", place.text, "^".repeat(place.width))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// The one of `known` that is spelled most like `word`, if any comes near.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |other: &str| {
        let mut row: Vec<usize> = (0..=other.chars().count()).collect();
        for (i, a) in word.chars().enumerate() {
            let mut diagonal = std::mem::replace(&mut row[0], i + 1);
            for (j, b) in other.chars().enumerate() {
                let substituted = diagonal + usize::from(a != b);
                diagonal = row[j + 1];
                row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
            }
        }
        row.last().copied().unwrap_or(usize::MAX)
    };
    let length = word.chars().count();
    let farthest = 2.max(length / 3);
    // What is longer or shorter by more than that is not compared: words may be as long as a file.
    let near = known.into_iter().filter(|other| other.chars().count().abs_diff(length) <= farthest);
    let best = near.map(|other| (distance(other), other)).min()?;
    (best.0 <= farthest).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_wrote_moves_no_cursor() {
        let text = "a\u{1b}[1m =\t\u{7}\u{9b}2J";
        let problem = Problem::new(format!("expected a key, got {text}")).at(Place::of(text, 0..1)).in_file("\r.toml");
        let shown = problem.hint(text).to_string();
        assert!(shown.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\t')), "{shown:?}");
        assert_eq!(shown.lines().count(), 5, "{shown}");
    }

    #[test]
    fn a_word_as_long_as_a_file_is_like_no_other() {
        // Each letter compared with each of a list of options would take minutes.
        assert_eq!(nearest(&"x".repeat(2_000_000), std::iter::repeat_n("bogus-nxdomain", 500)), None);
        assert_eq!(nearest("bogus-nxdoman", ["x", "bogus-nxdomain"]), Some("bogus-nxdomain"));
    }

    #[test]
    fn a_problem_shows_the_line_and_the_place() {
        let text = "[dns]\nlisten = [\"nowhere\"]\n";
        let at = text.find("\"nowhere\"").unwrap();
        let problem = Problem::new("expected ADDRESS:PORT").in_file("a.toml").at(Place::of(text, at..at + 9)).hint("write it");
        assert_eq!(
            problem.to_string(),
            "a.toml:2:11: expected ADDRESS:PORT\n    |\n  2 | listen = [\"nowhere\"]\n    |           ^^^^^^^^^\n  hint: write it"
        );
        assert_eq!(Place::of("", 0..9).line, 1);
        assert_eq!(Place::of("é\nx", 1..2).column, 1);
    }

    #[test]
    fn near_words_are_found() {
        assert_eq!(nearest("lsten", ["listen", "domain"]), Some("listen"));
        assert_eq!(nearest("zzzzzz", ["listen", "domain"]), None);
    }
}
