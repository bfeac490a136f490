//! The thread that writes: it opens, writes, sees what goes wrong, tells it once, and tries again.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{fs, thread};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::format::Format;
use super::{Batch, Config, Counts, Order, Target};
use crate::limits::QUERY_LOG_OCTETS_MAX;
use crate::problem::Problem;

/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long whoever reads from a socket may take to take what is there, or to say that it will.
const READER: Duration = Duration::from_secs(2);
/// How long after a failure that was told the next one is told: on a disk that is nearly full, some writes fit and some do not.
const TOLD_AGAIN: Duration = Duration::from_secs(60);
/// Octets that are written at once.
const WRITE: usize = 256 << 10;

/// Starts the thread.
pub(super) fn start(config: Config, orders: Receiver<Order>, counts: Arc<Counts>) -> io::Result<()> {
    thread::Builder::new().name("query-log".into()).spawn(move || {
        let mut writer =
            Writer { config, counts, sink: None, failed: None, told: None, is_end_due: false, buffer: Vec::new(), entries: 0 };
        // What cannot be opened is told before the first query.
        writer.open();
        writer.run(&orders);
        writer.close();
    })?;
    Ok(())
}

struct Writer {
    config: Config,
    counts: Arc<Counts>,
    sink: Option<Sink>,
    /// When something last went wrong, until it goes well again.
    failed: Option<Instant>,
    /// When a failure was last told, and whether its end is to be told.
    told: Option<Instant>,
    is_end_due: bool,
    /// What is to be written, of so many entries.
    buffer: Vec<u8>,
    entries: u64,
}

/// What is written to.
enum Sink {
    Stderr,
    /// A file, and its length after all that was written whole.
    File(File, u64),
    Socket(UnixStream),
}

impl Writer {
    fn run(&mut self, orders: &Receiver<Order>) {
        loop {
            let waits = if self.sink.is_none() { AGAIN } else { Duration::from_secs(3600) };
            let mut order = match orders.recv_timeout(waits) {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    // Somebody may read by now, also if nobody asks.
                    self.open();
                    None
                }
            };
            // What else has come is written at once with it.
            while let Some(own) = order {
                if !self.follow(own) {
                    return;
                }
                order = if self.buffer.len() < WRITE { orders.try_recv().ok() } else { None };
            }
            self.write();
        }
    }

    /// False for the end.
    fn follow(&mut self, order: Order) -> bool {
        match order {
            Order::Write(batch) => self.take(&batch),
            Order::OpenAnew => {
                self.write();
                if matches!(self.config.target, Target::File(_)) {
                    self.close();
                    self.failed = None;
                }
                self.open();
            }
            Order::End(done) => {
                self.write();
                self.close();
                let _ = done.send(());
                return false;
            }
        }
        true
    }

    fn take(&mut self, batch: &Batch) {
        self.counts.waiting.fetch_sub(batch.size(), Ordering::Relaxed);
        for entry in &batch.entries {
            let octets = batch.octets.get(entry.octets.clone()).unwrap_or_default();
            self.config.format.write(&batch.place, entry, octets, &mut self.buffer);
            self.entries += 1;
        }
        debug_assert!(self.buffer.len() <= WRITE + 2 * QUERY_LOG_OCTETS_MAX);
    }

    /// Writes what has been taken, or counts it as lost.
    fn write(&mut self) {
        if self.entries == 0 {
            return;
        }
        if self.failed.is_none_or(|when| when.elapsed() >= AGAIN) {
            self.open();
        }
        let (octets, entries) = (std::mem::take(&mut self.buffer), std::mem::take(&mut self.entries));
        let written = match &mut self.sink {
            _ if self.failed.is_some_and(|when| when.elapsed() < AGAIN) => None,
            None => None,
            Some(sink) => Some(sink.write(&octets)),
        };
        match written {
            Some(Ok(())) => {
                self.counts.written.raise(entries);
                if self.failed.take().is_some() && std::mem::take(&mut self.is_end_due) {
                    tracing::info!("queries are logged again");
                }
            }
            Some(Err(error)) => {
                self.counts.lost.raise(entries);
                self.fail(&format!("cannot write the query log: {error}"));
            }
            None => self.counts.lost.raise(entries),
        }
        self.buffer = octets;
        self.buffer.clear();
        self.buffer.shrink_to(WRITE);
    }

    /// Opens what is not open.
    fn open(&mut self) {
        if self.sink.is_some() {
            return;
        }
        match Sink::open(&self.config) {
            Ok(sink) => self.sink = Some(sink),
            Err(error) => self.fail(&format!("cannot open the query log: {error}")),
        }
    }

    fn close(&mut self) {
        if let Some(sink) = self.sink.take() {
            let _ = sink.close(self.config.format);
        }
    }

    /// Takes note of a failure, and tells it if it is the first in a row, and in a while.
    fn fail(&mut self, what: &str) {
        let problem = Problem::new(what).warning();
        let problem = match &self.config.target {
            Target::Stderr => problem,
            Target::File(path) => problem.in_file(path).hint("queries are answered meanwhile, and it is tried again"),
            Target::Socket(path) => {
                // What was written of a frame cannot be taken back.
                self.sink = None;
                problem.in_file(path).hint("somebody has to read there; queries are answered meanwhile, and it is tried again")
            }
        };
        let now = Instant::now();
        if self.failed.replace(now).is_none() && self.told.is_none_or(|told| now - told >= TOLD_AGAIN) {
            (self.told, self.is_end_due) = (Some(now), true);
            tracing::warn!("{problem}");
        }
    }
}

impl Sink {
    fn open(config: &Config) -> io::Result<Self> {
        let is_dnstap = config.format == Format::Dnstap;
        match &config.target {
            Target::Stderr => Ok(Self::Stderr),
            Target::File(path) => {
                if is_dnstap {
                    put_aside(path)?;
                }
                let mut file = append(path)?;
                if is_dnstap {
                    file.write_all(&stream::start())?;
                }
                let length = file.metadata()?.len();
                Ok(Self::File(file, length))
            }
            Target::Socket(path) => {
                let mut socket = UnixStream::connect(path)?;
                socket.set_write_timeout(Some(READER))?;
                socket.set_read_timeout(Some(READER))?;
                if is_dnstap {
                    stream::begin(&mut socket)?;
                }
                Ok(Self::Socket(socket))
            }
        }
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        match self {
            Self::Stderr => io::stderr().write_all(octets),
            Self::Socket(socket) => socket.write_all(octets),
            Self::File(file, length) => {
                let written = file.write_all(octets);
                match &written {
                    Ok(()) => *length += octets.len() as u64,
                    // No half of a line is left behind. What is no file cannot be cut, and needs not be.
                    Err(_) => drop(file.set_len(*length)),
                }
                written
            }
        }
    }

    fn close(self, format: Format) -> io::Result<()> {
        match self {
            Self::File(mut file, _) if format == Format::Dnstap => file.write_all(&stream::stop()),
            Self::Socket(mut socket) if format == Format::Dnstap => stream::end(&mut socket),
            _ => Ok(()),
        }
    }
}

/// Opens a file to append to it, and waits for nobody to open the other end of a pipe.
fn append(path: &Path) -> io::Result<File> {
    let at_once = OFlags::NONBLOCK.bits() as i32;
    // Who asked for what is for few to read.
    let file = OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(at_once).open(path);
    let file = file.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NXIO) => io::Error::other("nobody reads from it; a socket is written as \"unix:PATH\""),
        _ => error,
    })?;
    // What is written afterwards is written whole.
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

/// A stream of frames cannot be continued: one that is there already gets the time behind its name.
fn put_aside(path: &Path) -> io::Result<()> {
    let is_there = fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0);
    if is_there {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".{now}"));
        fs::rename(path, PathBuf::from(aside))?;
    }
    Ok(())
}

/// Frame streams, which dnstap messages are carried in (<https://farsightsec.github.io/fstrm/>): a length before each frame;
/// a length of zero is followed by a control frame.
mod stream {
    use super::{Read, Write, io};

    const CONTENT: &[u8] = b"protobuf:dnstap.Dnstap";
    const ACCEPT: u32 = 1;
    const START: u32 = 2;
    const STOP: u32 = 3;
    const READY: u32 = 4;
    const FINISH: u32 = 5;
    /// Octets of a control frame at most, as all implementations have it.
    const CONTROL_MAX: usize = 512;

    fn control(kind: u32, content: Option<&[u8]>) -> Vec<u8> {
        let word = |number: usize| u32::try_from(number).unwrap_or(0).to_be_bytes();
        // A field of its own, of the first type.
        let field = content.map(|content| [&word(1), &word(content.len()), content].concat()).unwrap_or_default();
        [&[0; 4], &word(4 + field.len()), &kind.to_be_bytes(), &field[..]].concat()
    }

    pub(super) fn start() -> Vec<u8> {
        control(START, Some(CONTENT))
    }

    pub(super) fn stop() -> Vec<u8> {
        control(STOP, None)
    }

    /// Begins a stream to somebody who can answer.
    pub(super) fn begin(peer: &mut (impl Read + Write)) -> io::Result<()> {
        peer.write_all(&control(READY, Some(CONTENT)))?;
        let accepted = expect(peer, ACCEPT)?;
        if !accepted.windows(CONTENT.len()).any(|window| window == CONTENT) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its reader does not take dnstap"));
        }
        peer.write_all(&start())
    }

    /// Ends it.
    pub(super) fn end(peer: &mut (impl Read + Write)) -> io::Result<()> {
        peer.write_all(&stop())?;
        expect(peer, FINISH).map(drop)
    }

    /// Reads a control frame of this kind; its fields.
    fn expect(peer: &mut impl Read, kind: u32) -> io::Result<Vec<u8>> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "its reader does not speak frame streams");
        let mut head = [0; 12];
        peer.read_exact(&mut head)?;
        let (escape, rest) = head.split_first_chunk::<4>().ok_or_else(wrong)?;
        let (length, own) = rest.split_first_chunk::<4>().ok_or_else(wrong)?;
        let length = u32::from_be_bytes(*length) as usize;
        if *escape != [0; 4] || !(4..=CONTROL_MAX).contains(&length) || own != kind.to_be_bytes() {
            return Err(wrong());
        }
        let mut fields = vec![0; length - 4];
        peer.read_exact(&mut fields)?;
        Ok(fields)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// A peer that says this and takes everything.
        struct Peer(io::Cursor<Vec<u8>>, Vec<u8>);

        impl Read for Peer {
            fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
                self.0.read(room)
            }
        }

        impl Write for Peer {
            fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
                self.1.write(octets)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        #[test]
        fn a_reader_has_to_accept() {
            let begin_with = |said: Vec<u8>| {
                let mut peer = Peer(io::Cursor::new(said), Vec::new());
                let begun = begin(&mut peer);
                (begun, peer.1)
            };
            let (begun, sent) = begin_with(control(ACCEPT, Some(CONTENT)));
            begun.unwrap();
            assert_eq!(sent, [control(READY, Some(CONTENT)), start()].concat());
            assert_eq!(&start()[..20], b"\0\0\0\0\0\0\0\x22\0\0\0\x02\0\0\0\x01\0\0\0\x16");
            let endless = [&[0; 4][..], &[255; 4], &ACCEPT.to_be_bytes()].concat();
            let other = control(ACCEPT, Some(b"protobuf:other"));
            for wrong in [Vec::new(), b"HTTP/1.1 400 Bad".to_vec(), start(), endless, other, control(ACCEPT, None)] {
                assert!(begin_with(wrong.clone()).0.is_err(), "{wrong:?}");
            }
            let cut = control(ACCEPT, Some(CONTENT));
            assert!((0..cut.len()).all(|length| begin_with(cut[..length].to_vec()).0.is_err()));
        }
    }
}
