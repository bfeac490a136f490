//! What is printed, and how: to a terminal or a pipe, in colours or not.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use serde_json::Value;

use super::Error;
use crate::problem::{Problem, legible};

/// The standard output of a command. Nothing else in the program writes to it.
pub(super) struct Output {
    /// Not locked: while a server runs its log may go to the same place.
    stdout: BufWriter<Stdout>,
    colours: bool,
    complaint_colours: bool,
}

impl Output {
    pub(super) fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|value| value != "dumb");
        let stdout = io::stdout();
        Self {
            colours: wanted && stdout.is_terminal(),
            complaint_colours: wanted && io::stderr().is_terminal(),
            stdout: BufWriter::new(stdout),
        }
    }

    pub(super) fn line(&mut self, text: impl Display) -> Result<(), Error> {
        writeln!(self.stdout, "{text}").map_err(Error::Output)
    }

    /// A line that stands out on a terminal.
    pub(super) fn heading(&mut self, text: impl Display) -> Result<(), Error> {
        if self.colours { self.line(format_args!("\x1b[1m{text}\x1b[0m")) } else { self.line(text) }
    }

    /// A table: the first row is its heading, and each column is as wide as its widest cell.
    pub(super) fn table(&mut self, rows: &[Vec<String>]) -> Result<(), Error> {
        for (number, line) in columns(rows).iter().enumerate() {
            if number == 0 { self.heading(line)? } else { self.line(line)? }
        }
        Ok(())
    }

    pub(super) fn json(&mut self, value: &Value) -> Result<(), Error> {
        serde_json::to_writer_pretty(&mut self.stdout, value).map_err(|error| Error::Output(error.into()))?;
        self.line("")
    }

    /// One line of JSON, for a program that waits for it.
    pub(super) fn json_line(&mut self, value: &Value) -> Result<(), Error> {
        self.line(value)?;
        self.flush()
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.stdout.write_all(bytes).map_err(Error::Output)
    }

    pub(super) fn flush(&mut self) -> Result<(), Error> {
        self.stdout.flush().map_err(Error::Output)
    }

    /// A remark that is no part of the result.
    pub(super) fn note(&mut self, text: impl Display) -> Result<(), Error> {
        self.flush()?;
        // Without a standard error there is nobody to tell.
        let _ = writeln!(io::stderr(), "{text}");
        Ok(())
    }

    /// What is wrong with what somebody wrote.
    pub(super) fn problem(&self, problem: &Problem) {
        let (colour, word) = if problem.is_warning { ("\x1b[1;33m", "warning") } else { ("\x1b[1;31m", "error") };
        let (colour, plain) = if self.complaint_colours { (colour, "\x1b[0m") } else { ("", "") };
        let _ = writeln!(io::stderr(), "{colour}{word}{plain}: {problem}");
    }

    /// What went wrong, each cause in a line of its own, and what to do.
    pub(super) fn failure(&self, error: &Error) {
        let mut text = String::new();
        let (red, bold, plain) = if self.complaint_colours { ("\x1b[1;31m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
        text.push_str(&format!("{red}error{plain}: {}\n", legible(&error.to_string())));
        let mut said = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(next) = cause {
            // A library's error often repeats its cause.
            let words = next.to_string();
            if !said.contains(&words) {
                text.push_str(&format!("  {bold}cause{plain}  {}\n", legible(&words)));
                said.push_str(&words);
            }
            cause = next.source();
        }
        if let Some(hint) = error.hint() {
            text.push_str(&format!("  {bold}hint{plain}   {}\n", legible(&hint)));
        }
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

/// Cells padded to columns with two spaces between them, as Consul's tables are.
fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(column) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        line.truncate(line.trim_end().len());
        line
    };
    rows.iter().map(line).collect()
}

/// Text from elsewhere as one printable line: a service's name must not move the cursor of a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["Node", "ID", "DC"], ["n-1-long", "x", "dc1"], ["é", "yyyy", ""]];
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|&cell| cell.to_owned()).collect()).collect();
        assert_eq!(columns(&rows), ["Node      ID    DC", "n-1-long  x     dc1", "é         yyyy"]);
    }

    #[test]
    fn control_characters_are_not_printed() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
