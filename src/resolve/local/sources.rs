//! The files that local data is read from: found, read within bounds, and known again when they have not changed. Not what
//! their lines mean.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::SYSTEM_HOSTS;
use crate::file::{self, Stamp};
use crate::limits::{HOSTS_FILES_MAX, HOSTS_OCTETS_MAX, LEASES_OCTETS_MAX};
use crate::problem::Problem;

/// What the files of a key of the configuration are.
#[derive(Debug)]
pub(super) struct Kind {
    name: &'static str,
    key: &'static str,
    /// Of all together.
    octets_max: u64,
}

pub(super) const HOSTS: Kind = Kind { name: "hosts file", key: "hosts", octets_max: HOSTS_OCTETS_MAX };
pub(super) const LEASES: Kind = Kind { name: "lease file", key: "leases", octets_max: LEASES_OCTETS_MAX };

/// One file.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    /// As it was before it was last tried.
    stamp: Option<Stamp>,
    /// What it said when it could last be read.
    pub(super) text: Arc<str>,
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path && self.stamp == other.stamp
    }
}

impl Source {
    /// Is what it says what one of these said?
    pub(super) fn is_told_by(&self, known: &HashMap<&Path, &Self>) -> bool {
        known.get(&*self.path).is_some_and(|known| Arc::ptr_eq(&known.text, &self.text))
    }

    pub(super) fn has_changed(&self) -> bool {
        Stamp::of(&self.path) != self.stamp
    }

    fn read(kind: &Kind, path: PathBuf, known: Option<&Self>, room: u64, problems: &mut Vec<Problem>) -> Self {
        let stamp = Stamp::of(&path);
        let text = match read_bounded(kind, &path, room) {
            Ok(text) => text.into(),
            // A container may well have none.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path == Path::new(SYSTEM_HOSTS) => "".into(),
            Err(error) => {
                problems.push(kind.unreadable(&path, known.is_some_and(|known| !known.text.is_empty()), &error));
                known.map_or_else(|| "".into(), |known| known.text.clone())
            }
        };
        Self { path, stamp, text }
    }
}

/// Reads the files that are written, and those of folders. One that is `known` is read again when it `is_due`; what cannot be
/// read says on what it said, until it is taken out of the configuration or of its folder.
pub(super) fn read(
    kind: &Kind,
    written: &[PathBuf],
    known: &[Source],
    is_due: fn(&Source) -> bool,
) -> (Vec<Source>, Vec<Problem>) {
    let (mut sources, mut problems) = (Vec::new(), Vec::new());
    let mut room = kind.octets_max;
    let known_by_path = by_path(known);
    for written in written {
        // A folder that is gone has the files that it had.
        let had = || known.iter().filter(|source| source.path.parent() == Some(written) && source.path != *written);
        let is_gone = !written.exists() && had().next().is_some();
        if is_gone {
            let is_new = had().any(|source| source.stamp.is_some());
            problems.extend(is_new.then(|| kind.unreadable(written, true, &io::ErrorKind::NotFound.into())));
            sources.extend(had().map(|source| Source { stamp: None, ..source.clone() }));
            continue;
        }
        for path in files(written) {
            let known = known_by_path.get(&*path).copied();
            let source = match known.filter(|known| !is_due(known)) {
                Some(known) => known.clone(),
                None => Source::read(kind, path, known, room, &mut problems),
            };
            room = room.saturating_sub(source.text.len() as u64);
            sources.push(source);
        }
    }
    (sources, problems)
}

pub(super) fn by_path(sources: &[Source]) -> HashMap<&Path, &Source> {
    sources.iter().map(|source| (&*source.path, source)).collect()
}

impl Kind {
    fn unreadable(&self, path: &Path, is_known: bool, error: &io::Error) -> Problem {
        let Self { name, key, .. } = self;
        let meanwhile = if is_known { "what it said last counts meanwhile" } else { "its names are not answered" };
        let problem = Problem::new(format!("cannot read this {name}, {meanwhile}: {error}")).in_file(path);
        let problem = problem.hint(format!("`{key} = [...]` of the configuration lists these files"));
        // It comes with the first lease.
        if error.kind() == io::ErrorKind::NotFound && *key == LEASES.key { problem.warning() } else { problem }
    }
}

/// The file itself, or those of a folder in the order of their names. What cannot be read is told when it is read.
pub(in crate::resolve) fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else { return vec![path.to_owned()] };
    let is_hidden = |path: &PathBuf| path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let entries = entries.flatten().map(|entry| entry.path()).filter(|path| !is_hidden(path) && path.is_file());
    let mut files: Vec<PathBuf> = entries.take(HOSTS_FILES_MAX).collect();
    files.sort();
    files
}

/// The text of a file that has at most `room` octets. Octets that are no UTF-8 can stand in comments only; elsewhere
/// they are reported with their line.
fn read_bounded(kind: &Kind, path: &Path, room: u64) -> io::Result<String> {
    let octets = file::read(path, room).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => io::Error::other(format!(
            "expected {}s of at most {} MB together, and this one goes above that",
            kind.name,
            kind.octets_max >> 20
        )),
        _ => error,
    })?;
    Ok(String::from_utf8(octets).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}
