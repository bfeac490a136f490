//! Services files: read at the start, on reload, and when they change.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::Registry;
use super::definition::{self, Definitions, Form};
use crate::limits;
use crate::problem::Problem;
use crate::watch::Watch;

/// How long files must be quiet before they are read: an editor or a deployment touches several.
const QUIET: Duration = Duration::from_millis(200);
/// How long that is waited for: what changes is read at least this often.
const PATIENCE: Duration = Duration::from_secs(5);

impl Registry {
    /// Reads all services files and registers what they say.
    pub(super) async fn read_files(&self) -> Vec<Problem> {
        let paths = self.paths();
        // Large files take a moment, which the runtime's threads have no time for.
        let read = tokio::task::spawn_blocking(move || read(&paths)).await;
        let Ok(Read { stamps, files, incomplete, mut problems }) = read else { return Vec::new() };
        match self.register_files(files, incomplete).await {
            Ok(refused) => {
                problems.extend(refused);
                *self.files_read() = stamps;
            }
            Err(error) => problems.push(Problem::new(error.to_string())),
        }
        problems
    }

    /// Are the files other than they were when they were last read?
    async fn files_changed(&self) -> bool {
        let paths = self.paths();
        let stamps = tokio::task::spawn_blocking(move || Stamp::of_all(&paths)).await;
        !stamps.is_ok_and(|stamps| *self.files_read() == stamps && !stamps.iter().any(Stamp::is_fresh))
    }

    fn paths(&self) -> Vec<(Form, PathBuf)> {
        self.inner.config.files().map(|(form, path)| (form, path.to_owned())).collect()
    }

    fn files_read(&self) -> MutexGuard<'_, Vec<Stamp>> {
        self.inner.files_read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the files anew whenever they change, until the registry ends.
    pub(super) async fn watch_files(&self) {
        let mut watch = match Watch::new() {
            Ok(watch) => watch,
            Err(error) => {
                tracing::warn!("services files are not watched: {error}; send SIGHUP to have them read again");
                return std::future::pending().await;
            }
        };
        let mut told = None;
        loop {
            watch.over(self.inner.config.files().map(|(_, path)| path));
            // The first time too: what changed before the watch began would otherwise be missed.
            if self.files_changed().await {
                let problems = self.read_files().await;
                if told.as_ref().is_some_and(|told| *told != problems) {
                    problems.iter().for_each(|problem| tracing::warn!("{problem}"));
                }
                told = Some(problems);
            }
            told.get_or_insert_default();
            watch.changed().await;
            watch.quiet(QUIET, PATIENCE).await;
        }
    }
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    path: PathBuf,
    /// Its inode, its length, and when it or its permissions were last changed; `None` for one that cannot be looked at.
    state: Option<(u64, u64, SystemTime)>,
}

impl Stamp {
    fn of_all(paths: &[(Form, PathBuf)]) -> Vec<Self> {
        let files = paths.iter().flat_map(|(_, path)| list(path).unwrap_or_else(|_| vec![path.clone()]));
        let changed = |file: &fs::Metadata| {
            let since_1970 = Duration::new(file.ctime().try_into().ok()?, file.ctime_nsec().try_into().ok()?);
            SystemTime::UNIX_EPOCH.checked_add(since_1970)
        };
        let state = |file: fs::Metadata| Some((file.ino(), file.len(), changed(&file)?));
        files.map(|path| Self { state: fs::metadata(&path).ok().and_then(state), path }).collect()
    }

    /// May it still be changed without a change of its stamp? Times are no finer than the kernel's tick.
    fn is_fresh(&self) -> bool {
        let age = self.state.and_then(|(_, _, changed)| changed.elapsed().ok());
        age.is_none_or(|age| age < Duration::from_secs(2))
    }
}

/// What the files said.
#[derive(Debug, Default)]
struct Read {
    /// The files as they were before they were read.
    stamps: Vec<Stamp>,
    files: Vec<(PathBuf, Definitions)>,
    /// Files that could not be read whole: what they said before stays.
    incomplete: Vec<PathBuf>,
    problems: Vec<Problem>,
}

fn read(paths: &[(Form, PathBuf)]) -> Read {
    let mut read = Read { stamps: Stamp::of_all(paths), ..Read::default() };
    for (form, path) in paths {
        let listed = match list(path) {
            Ok(listed) => listed,
            Err(error) => {
                read.problems.push(
                    Problem::new(format!("expected a services file or a folder of them, got: {error}"))
                        .in_file(path)
                        .hint("what it said before is kept; put the file back, or take it out of `services`"),
                );
                read.incomplete.push(path.clone());
                continue;
            }
        };
        for file in listed {
            match crate::file::read_text(&file, limits::SERVICES_FILE_OCTETS_MAX) {
                Ok(text) => {
                    let (definitions, problems) = definition::file(*form, &file, &text);
                    if problems.iter().any(|problem| !problem.is_warning) {
                        read.incomplete.push(file.clone());
                    }
                    read.problems.extend(problems);
                    read.files.push((file, definitions));
                }
                Err(error) => {
                    read.problems.push(Problem::new(format!("expected a readable file, got: {error}")).in_file(&file));
                    read.incomplete.push(file);
                }
            }
        }
    }
    read
}

/// The file itself, or the `*.json` files of a folder in the order of their names.
fn list(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "json") && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}
