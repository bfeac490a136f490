//! What a process finds of its predecessor: kept answers, and the journal. Damaged by a disk, or by whoever may write there.

use std::time::{Duration, Instant};

use rollcall::dns::Names;
use rollcall::resolve::cache::{Cache, Config};

pub(crate) fn holds(octets: &[u8]) {
    let _ = rollcall::registry::journal_rows(octets);
    let _ = rollcall::registry::journal_rows(&framed(octets));
    restores(octets);
    // A checksum is no defence against who means it.
    let head = [&b"rollcall cache 2"[..], &1u32.to_le_bytes(), &1_800_000_000_000u64.to_le_bytes()].concat();
    restores(&[&head[..], &framed(octets), &framed(&[])].concat());
}

/// Behind its length and checksum.
fn framed(octets: &[u8]) -> Vec<u8> {
    [&(octets.len() as u32).to_le_bytes()[..], &crc32fast::hash(octets).to_le_bytes(), octets].concat()
}

/// What is read can be given and written again.
fn restores(file: &[u8]) {
    let (now, clock) = (Instant::now(), Duration::from_secs(1_800_000_000));
    let cache = Cache::new(Config { size: 1 << 20, ..Config::default() });
    let _ = cache.restore(1, now, clock, &mut &file[..]);
    let found = cache.find(&Names::All, now);
    for entry in &found {
        let _ = (entry.shown(now), entry.qtype());
        for query in [&b""[..], &[0; 12], entry.octets()] {
            let mut given = Vec::new();
            entry.write(query, now, &mut given);
            assert_eq!(given.len(), entry.octets().len());
        }
    }
    let mut again = Vec::new();
    assert_eq!(cache.save(1, now, clock, &mut again).expect("a buffer takes it"), found.len());
}
