//! The store's journal: what was acknowledged and is not yet in the database.
//!
//! A write costs one append and one `fdatasync` here, where a transaction of the database costs several. Each frame is the
//! rows of one commit as they then stand, behind its length and checksum; a frame that a crash cut off was not
//! acknowledged, and is dropped. Rows are whole states, so that to apply them twice does no harm.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// A row: its table, its key, and its value unless it was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) table: u8,
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
}

/// Length and CRC-32 of the rows behind them.
const HEAD: usize = 8;
/// The length of a value that is not there.
const REMOVED: u32 = u32::MAX;

/// The journal's file, opened for appending.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    /// Where the last whole frame ends.
    end: u64,
}

impl Journal {
    /// Opens the journal, which is made if need be, and reads what is in it.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Vec<Row>)> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut octets = Vec::new();
        file.read_to_end(&mut octets)?;
        let (mut rows, mut rest) = (Vec::new(), &octets[..]);
        while let Some((frame, after)) = next_frame(rest) {
            rows.extend(frame);
            rest = after;
        }
        let end = octets.len() - rest.len();
        if !rest.is_empty() {
            tracing::info!(
                "{} octets of a write that a crash cut off are dropped; nobody was told that it was done",
                rest.len()
            );
            // Nothing of it may stand behind what is appended next.
            file.set_len(end as u64)?;
        }
        Ok((Self { file, end: end as u64 }, rows))
    }

    /// Octets in it.
    pub(super) fn size(&self) -> u64 {
        self.end
    }

    /// Appends rows; they are on the disk when this returns. After an error the journal is as it was before.
    pub(super) fn append(&mut self, rows: &[Row]) -> io::Result<()> {
        let mut frame = vec![0; HEAD];
        for Row { table, key, value } in rows {
            frame.push(*table);
            frame.extend(length(key)?.to_le_bytes());
            frame.extend(key);
            frame.extend(value.as_ref().map_or(Ok(REMOVED), |value| length(value))?.to_le_bytes());
            frame.extend(value.iter().flatten());
        }
        let body = frame.get(HEAD..).unwrap_or_default();
        let head = [length(body)?.to_le_bytes(), crc32fast::hash(body).to_le_bytes()].concat();
        frame.splice(..HEAD, head);
        let written = self.write(&frame);
        match written {
            Ok(()) => self.end += frame.len() as u64,
            // Should this fail too, the next frame is written over the broken one.
            Err(_) => drop(self.file.set_len(self.end)),
        }
        written
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(frame)?;
        self.file.sync_data()
    }

    /// Forgets all rows, once they are in the database.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.end = 0;
        // What comes next must not stand behind what is gone, whatever of it reaches the disk first.
        self.file.sync_data()
    }
}

/// How many whole rows are in the octets of a journal. For the fuzz targets.
#[doc(hidden)]
pub fn journal_rows(octets: &[u8]) -> usize {
    let (mut rows, mut rest) = (0, octets);
    while let Some((frame, after)) = next_frame(rest) {
        rows += frame.len();
        rest = after;
    }
    rows
}

fn length(octets: &[u8]) -> io::Result<u32> {
    u32::try_from(octets.len()).ok().filter(|length| *length != REMOVED).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// The rows of the first frame, and what is behind it; `None` when there is no whole one.
fn next_frame(octets: &[u8]) -> Option<(Vec<Row>, &[u8])> {
    let (length, rest) = number(octets)?;
    let (checksum, rest) = number(rest)?;
    let (mut body, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    if length == 0 || crc32fast::hash(body) != checksum {
        return None;
    }
    let mut rows = Vec::new();
    while let Some((&table, rest)) = body.split_first() {
        let (length, rest) = number(rest)?;
        let (key, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        let (length, rest) = number(rest)?;
        let (value, rest) = match length {
            REMOVED => (None, rest),
            length => rest.split_at_checked(usize::try_from(length).ok()?).map(|(value, rest)| (Some(value.to_vec()), rest))?,
        };
        rows.push(Row { table, key: key.to_vec(), value });
        body = rest;
    }
    Some((rows, after))
}

fn number(octets: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = octets.split_first_chunk()?;
    Some((u32::from_le_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(table: u8, key: &[u8], value: Option<&[u8]>) -> Row {
        Row { table, key: key.to_vec(), value: value.map(<[u8]>::to_vec) }
    }

    #[test]
    fn what_was_appended_is_there_until_it_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (mut journal, rows) = Journal::open(&path).unwrap();
        assert_eq!((rows.len(), journal.size()), (0, 0));
        let first = [row(1, b"a", Some(b"one")), row(2, b"", None)];
        journal.append(&first).unwrap();
        journal.append(&[row(1, b"a", Some(b""))]).unwrap();
        let (mut again, rows) = Journal::open(&path).unwrap();
        assert_eq!(rows, [&first[..], &[row(1, b"a", Some(b""))]].concat());
        assert_eq!(again.size(), journal.size());
        again.clear().unwrap();
        again.append(&[row(3, b"c", None)]).unwrap();
        assert_eq!(Journal::open(&path).unwrap().1, [row(3, b"c", None)]);
    }

    proptest! {
        #[test]
        fn a_frame_that_is_cut_or_damaged_is_dropped_with_what_follows(
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6),
            at in any::<prop::sample::Index>(),
            flip in prop::option::of(1u8..),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("journal");
            let (mut journal, _) = Journal::open(&path).unwrap();
            let mut ends = Vec::new();
            for value in &values {
                journal.append(&[row(0, b"key", Some(value))]).unwrap();
                ends.push(journal.size() as usize);
            }
            let mut octets = std::fs::read(&path).unwrap();
            let at = at.index(octets.len());
            match flip {
                Some(flip) => octets[at] ^= flip,
                None => octets.truncate(at),
            }
            std::fs::write(&path, &octets).unwrap();
            let whole = ends.iter().filter(|end| **end <= at).count();
            let (mut journal, rows) = Journal::open(&path).unwrap();
            let expected: Vec<Row> = values.iter().take(whole).map(|value| row(0, b"key", Some(value))).collect();
            prop_assert_eq!(&rows, &expected);
            // And writing goes on behind what is left.
            journal.append(&[row(9, b"", None)]).unwrap();
            let (_, rows) = Journal::open(&path).unwrap();
            prop_assert_eq!(rows.len(), whole + 1);
        }
    }
}
