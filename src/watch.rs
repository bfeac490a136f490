//! Which files changed? Watches the folders of files, and tells when something was done there.
//!
//! The folder, not the file: a file is most often replaced by renaming another over it, or over the folder that it is reached
//! by.

use std::collections::BTreeSet;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A watch over folders. It is told of them by [`Watch::over`], again each time, since a folder may have been put in place of
/// another.
#[derive(Debug)]
pub struct Watch {
    watcher: RecommendedWatcher,
    /// What could not be watched when it was last tried.
    unwatched: BTreeSet<PathBuf>,
    changed: mpsc::Receiver<()>,
}

impl Watch {
    pub fn new() -> notify::Result<Self> {
        let (tell, changed) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // One word waiting is enough: all files are read.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                let _ = tell.try_send(());
            }
        })?;
        Ok(Self { watcher, unwatched: BTreeSet::new(), changed })
    }

    /// Watches these folders, and those that these files are in. What cannot be watched is told once.
    pub fn over<'a>(&mut self, paths: impl Iterator<Item = &'a Path>) {
        let mut unwatched = BTreeSet::new();
        for folder in folders(paths) {
            if let Err(error) = self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                if !self.unwatched.contains(&folder) {
                    tracing::warn!("{} is not watched: {error}; SIGHUP has it read again", folder.display());
                }
                unwatched.insert(folder);
            }
        }
        self.unwatched = unwatched;
    }

    /// Waits until something changed. What changed before is not lost when the wait is given up.
    pub async fn changed(&mut self) {
        // The watcher, which tells, is here too.
        if self.changed.recv().await.is_none() {
            pending().await
        }
    }

    /// Waits until nothing has changed for so long, since whoever replaces files touches several; but not for longer than
    /// `patience`: a folder that others write to all the time is never quiet.
    pub async fn quiet(&mut self, long: Duration, patience: Duration) {
        let quiet = async { while timeout(long, self.changed()).await.is_ok() {} };
        let _ = timeout(patience, quiet).await;
    }
}

fn folders<'a>(paths: impl Iterator<Item = &'a Path>) -> BTreeSet<PathBuf> {
    let folder = |path: &Path| match path.parent() {
        _ if path.is_dir() => path.to_owned(),
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    paths.map(folder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_that_is_never_quiet_is_looked_at_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new().unwrap();
        watch.over([folder.path()].into_iter());
        let file = folder.path().join("log");
        let writer = tokio::spawn(async move {
            loop {
                std::fs::write(&file, "more").unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        watch.changed().await;
        // Without the bound this would wait for ever.
        watch.quiet(Duration::from_secs(3), Duration::from_millis(100)).await;
        assert!(!writer.is_finished());
        writer.abort();
    }
}
