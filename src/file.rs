//! How is a file read that somebody wrote? A regular one, and no more of it than is sensible: a fifo would be waited for, and a
//! device has no end. And how is one of our own replaced?

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Opens a regular file; anything else is an error, at once.
pub fn open(path: &Path) -> io::Result<File> {
    // A fifo would otherwise be opened when somebody comes to write to it.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let kind = file.metadata()?.file_type();
    match kind.is_file() {
        true => Ok(file),
        false if kind.is_dir() => Err(io::Error::new(io::ErrorKind::IsADirectory, "a folder, and no regular file")),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "no regular file")),
    }
}

/// The octets of a regular file. One with more than `octets_max` is an error ([`io::ErrorKind::FileTooLarge`]).
pub fn read(path: &Path, octets_max: u64) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    open(path)?.take(octets_max.saturating_add(1)).read_to_end(&mut octets)?;
    if octets.len() as u64 > octets_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {octets_max} octets")));
    }
    Ok(octets)
}

/// Likewise, the text of a file, which is UTF-8.
pub fn read_text(path: &Path, octets_max: u64) -> io::Result<String> {
    String::from_utf8(read(path, octets_max)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("text that is no UTF-8: {}", error.utf8_error())))
}

/// Writes a file anew, beside the former one: only what is whole, and on the disk, takes its place.
pub fn replace<T>(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>) -> io::Result<T> {
    let new = path.with_added_extension("new");
    let written = File::create(&new).and_then(|file| {
        let mut out = BufWriter::new(file);
        let written = write(&mut out)?;
        out.flush()?;
        out.get_ref().sync_all()?;
        fs::rename(&new, path)?;
        Ok(written)
    });
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// What tells whether a file is as it was, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    place: (u64, u64),
    octets: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// `None` for what is not there.
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok()?;
        Some(Self {
            place: (metadata.dev(), metadata.ino()),
            octets: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_is_no_file_or_too_long_is_an_error_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("text"), "twelve octets").unwrap();
        fs::write(path("octets"), [0xff]).unwrap();
        assert!(Command::new("mkfifo").arg(path("fifo")).status().unwrap().success());
        std::os::unix::fs::symlink(path("fifo"), path("link")).unwrap();
        assert_eq!(read_text(&path("text"), 13).unwrap(), "twelve octets");
        let kind = |path: &Path, octets_max| read_text(path, octets_max).unwrap_err().kind();
        assert_eq!(kind(&path("text"), 12), io::ErrorKind::FileTooLarge);
        assert_eq!(kind(&path("octets"), 12), io::ErrorKind::InvalidData);
        assert_eq!(kind(&path("none"), 12), io::ErrorKind::NotFound);
        assert_eq!(kind(folder.path(), 12), io::ErrorKind::IsADirectory);
        for odd in [path("fifo"), path("link"), "/dev/zero".into(), "/dev/null".into()] {
            assert_eq!(kind(&odd, 12), io::ErrorKind::InvalidInput, "{}", odd.display());
        }
    }
}
