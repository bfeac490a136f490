//! What did another program's configuration want? Its files become our TOML, and a remark on each line that has no place in
//! it, or another one than it had.
//!
//! Nothing is printed or written here, and no question is asked: what stands on disk is read, bounded and regular files
//! only. A line whose loss would send private names to a public upstream is replaced by asking nobody about them.
//!
//! Start with [`dnsmasq()`], [`resolved()`] and [`consul()`]; [`draft`] is the TOML that comes of them.

mod consul;
mod dnsmasq;
mod draft;
mod resolved;

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::file;
use crate::limits;
use crate::problem::Problem;
use crate::upstream::Address;

pub use consul::consul;
pub use dnsmasq::dnsmasq;
pub use resolved::resolved;

/// What came of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Our configuration; it can be read, whatever the files were.
    pub toml: String,
    pub remarks: Vec<Remark>,
    /// Settings that were read, those with a remark included.
    pub settings: usize,
    /// Options without which the answers would be wrong or unsafe, each once: who wants to go on without them has to say so.
    pub refused: Vec<String>,
}

impl Import {
    /// Did everything come over that has a meaning here?
    pub fn is_whole(&self) -> bool {
        self.remarks.iter().all(|remark| remark.fate != Fate::LeftOut)
    }
}

/// A word on one setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remark {
    #[serde(flatten)]
    pub origin: Origin,
    pub fate: Fate,
    pub why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
}

/// What became of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It has no effect here.
    LeftOut,
    /// It came over, and means something a little different.
    Changed,
    /// It says nothing about answers, or rollcall does so anyway.
    Needless,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeftOut => "not carried over",
            Self::Changed => "changed",
            Self::Needless => "not needed",
        })
    }
}

/// Where a setting stands, and how it reads. All that comes of one line shares it: a line may name domains by the thousand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    pub file: Arc<Path>,
    /// From 1; none for what concerns the file as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// No more than can be read at a glance.
    pub text: Arc<str>,
}

impl Origin {
    fn new(file: &Path, line: Option<usize>, text: &str) -> Self {
        /// Characters of a line that are shown.
        const SHOWN: usize = 200;
        let text = match text.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}…", &text[..end]).into(),
            None => text.into(),
        };
        Self { file: file.into(), line, text }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if self.text.is_empty() { Ok(()) } else { write!(f, ": {}", self.text) }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  {}", self.origin, self.why)?;
        self.instead.as_ref().map_or(Ok(()), |instead| write!(f, "\n  hint: {instead}"))
    }
}

/// Why a setting does not come over, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Left {
    why: String,
    instead: Option<String>,
    /// Whatever comes over without it would be wrong or unsafe.
    is_refused: bool,
}

impl Left {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), instead: None, is_refused: false }
    }

    fn refused(self) -> Self {
        Self { is_refused: true, ..self }
    }

    fn hint(self, instead: impl Into<String>) -> Self {
        Self { instead: Some(instead.into()), ..self }
    }
}

/// All remarks, in the order of their lines.
#[derive(Debug, Default)]
struct Remarks(Vec<Remark>);

impl Remarks {
    fn left_out(&mut self, origin: &Origin, Left { why, instead, .. }: Left) {
        self.0.push(Remark { origin: origin.clone(), fate: Fate::LeftOut, why, instead });
    }

    fn changed(&mut self, origin: &Origin, why: impl Into<String>) {
        self.0.push(Remark { origin: origin.clone(), fate: Fate::Changed, why: why.into(), instead: None });
    }

    fn needless(&mut self, origin: &Origin, why: impl Into<String>) {
        self.0.push(Remark { origin: origin.clone(), fate: Fate::Needless, why: why.into(), instead: None });
    }
}

/// What is read from disk: regular files, each once, and no more than is sensible.
#[derive(Debug)]
struct Disk {
    octets: u64,
    files: usize,
    /// Device and inode of what was read.
    seen: HashSet<(u64, u64)>,
}

/// A file's text.
enum Found {
    Text(String),
    /// It was read before.
    Again,
}

impl Disk {
    fn new() -> Self {
        Self { octets: limits::IMPORT_OCTETS_MAX, files: limits::IMPORT_FILES_MAX, seen: HashSet::new() }
    }

    fn read(&mut self, path: &Path) -> Result<Found, String> {
        let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
        if !metadata.is_file() {
            return Err("expected a regular file".to_owned());
        }
        if !self.seen.insert((metadata.dev(), metadata.ino())) {
            return Ok(Found::Again);
        }
        self.files = self.files.checked_sub(1).ok_or("expected fewer files: this is one too many")?;
        let octets = crate::file::read(path, self.octets).map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => "expected smaller files: this one goes too far".to_owned(),
            _ => error.to_string(),
        })?;
        self.octets = self.octets.saturating_sub(octets.len() as u64);
        Ok(Found::Text(
            String::from_utf8(octets).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
        ))
    }

    /// The text of a file that was named on the command line.
    fn read_named(&mut self, path: &Path) -> Result<String, Problem> {
        match self.read(path) {
            Ok(Found::Text(text)) => Ok(text),
            Ok(Found::Again) => Ok(String::new()),
            Err(error) => Err(Problem::new(format!("expected a readable file, got: {error}")).in_file(path)),
        }
    }

    /// The `nameserver` lines of a resolv.conf, but for those that lead back to this host.
    fn nameservers(&mut self, path: &Path) -> Result<Vec<Address>, String> {
        let text = match self.read(path)? {
            Found::Text(text) => text,
            Found::Again => String::new(),
        };
        let addresses = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok());
        Ok(addresses.filter(|address: &Address| !address.ip.is_loopback()).collect())
    }
}

/// The path as it is meant from wherever the new file will stand.
fn absolute(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

/// The files' texts with their paths, in order.
fn texts(files: &[PathBuf], disk: &mut Disk) -> Result<Vec<(PathBuf, String)>, Vec<Problem>> {
    let (mut texts, mut problems) = (Vec::new(), Vec::new());
    for path in files {
        match disk.read_named(path) {
            Ok(text) => texts.push((path.clone(), text)),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(texts) } else { Err(problems) }
}

/// Closes an import: what was written must be what we read ourselves.
fn finish(toml: String, remarks: Remarks, settings: usize) -> Result<Import, Vec<Problem>> {
    match file::parse::<super::own::File>(&toml) {
        Ok(_) => Ok(Import { toml, remarks: remarks.0, settings, refused: Vec::new() }),
        Err(problem) => Err(vec![problem]),
    }
}
