//! What must hold for whatever comes from outside, parser by parser. Each takes any octets and panics when a promise about
//! them is broken. Shared with the coverage-guided targets in `fuzz/`.

#![allow(dead_code, reason = "each target holds one of them")]

pub(crate) mod api;
pub(crate) mod config;
pub(crate) mod disk;
pub(crate) mod hop;
pub(crate) mod import;
pub(crate) mod lists;
pub(crate) mod proofs;
pub(crate) mod reply;
pub(crate) mod services;
pub(crate) mod text;
pub(crate) mod wire;
pub(crate) mod zone;

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

thread_local! {
    static FOLDER: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

/// A file with these octets, for what is read from files only; the next one of the thread takes its place.
fn file<T>(name: &str, octets: &[u8], read: impl FnOnce(&Path) -> T) -> T {
    let folder: PathBuf = FOLDER.with_borrow_mut(|folder| {
        let in_memory = || tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        folder.get_or_insert_with(|| in_memory().expect("a folder")).path().to_owned()
    });
    let path = folder.join(name);
    fs::write(&path, octets).expect("written");
    let said = read(&path);
    fs::remove_file(&path).expect("it is still there");
    said
}
