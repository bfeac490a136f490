//! Who asked what, and what became of it: a line, or a dnstap message, for each answer.
//!
//! Whoever answers puts down a few numbers and the octets that matter, a batch at a time, and goes on; one thread makes text
//! of them and writes it. What it cannot take, because a disk or a reader is slow or gone, is counted as lost: no answer
//! waits for its log. Off unless the configuration asks for it, at the cost of one branch an answer.

mod format;
mod writer;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::Access;
use serde::Deserialize;

use super::tally::{Place, Source};
use crate::dns::{Header, Message, Rcode, question};
use crate::limits::{QUERY_LOG_BATCH, QUERY_LOG_OCTETS_MAX};
use crate::metrics::{Count, Kind, Page};
use crate::problem::Problem;

pub use format::Format;

/// Where queries are logged, and how; a part of the `[log]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub target: Target,
    pub format: Format,
}

/// Where queries are logged.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Target {
    /// `"stderr"`.
    Stderr,
    /// A path: the file is appended to.
    File(PathBuf),
    /// `"unix:PATH"`: a socket that somebody reads from.
    Socket(PathBuf),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("unix:")) {
            ("" | "unix:", _) => Err(format!("expected \"stderr\", a path, or \"unix:\" and a path, got {text:?}")),
            ("stderr", _) => Ok(Self::Stderr),
            (_, Some(path)) => Ok(Self::Socket(path.into())),
            (path, None) => Ok(Self::File(path.into())),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl Target {
    /// Its path, if it has one.
    pub fn path_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::Stderr => None,
            Self::File(path) | Self::Socket(path) => Some(path),
        }
    }
}

impl Config {
    /// What is wrong with it.
    pub fn check(&self) -> Option<Problem> {
        (self.target == Target::Stderr && self.format == Format::Dnstap).then(|| {
            let problem = Problem::new("[log]: expected a file or a socket for dnstap, which is no text, got \"stderr\"");
            problem.hint("write queries = \"unix:/run/dnstap.sock\", or a path")
        })
    }

    /// Why this user could not write there now, as far as that can be seen without opening it. Of a socket nothing is said: who
    /// reads from it may come later.
    pub fn obstacle(&self) -> Option<Problem> {
        let Target::File(path) = &self.target else { return None };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let place = if path.exists() { path } else { folder };
        let error = rustix::fs::access(place, Access::WRITE_OK).err()?;
        let problem = Problem::new(format!(
            "the query log cannot be written by this user: {}: {}",
            place.display(),
            io::Error::from(error)
        ));
        Some(problem.hint("the unit of systemd has /var/log/rollcall for it (LogsDirectory=)").warning())
    }
}

/// A log that is being written.
#[derive(Debug)]
pub struct QueryLog {
    config: Config,
    orders: Sender<Order>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Octets that wait for the writer.
    waiting: AtomicUsize,
    written: Count,
    lost: Count,
}

/// What the writer is told.
enum Order {
    Write(Batch),
    /// The file may have been moved away.
    OpenAnew,
    /// Write what came before, and say so.
    End(Sender<()>),
}

impl QueryLog {
    /// Starts to write. What cannot be opened is told by the writer, and tried again.
    pub fn start(config: Config) -> io::Result<Arc<Self>> {
        let (orders, waiting) = mpsc::channel();
        let counts = Arc::<Counts>::default();
        writer::start(config.clone(), waiting, counts.clone())?;
        Ok(Arc::new(Self { config, orders, counts }))
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Closes the file and opens it anew, for those who have moved it away.
    pub fn open_anew(&self) {
        let _ = self.orders.send(Order::OpenAnew);
    }

    /// Writes what has come so far, and nothing more; waits so long at most.
    pub fn end(&self, patience: Duration) {
        let (done, ended) = mpsc::channel();
        if self.orders.send(Order::End(done)).is_ok() {
            let _ = ended.recv_timeout(patience);
        }
    }

    pub(super) fn metrics(&self, page: &mut Page) {
        let Counts { written, lost, .. } = &*self.counts;
        page.number(Kind::Counter, "rollcall_query_log_written_total", "Answers that were logged.", written.get());
        let help = "Answers that were not: what is written to was full, slow or gone.";
        page.number(Kind::Counter, "rollcall_query_log_lost_total", help, lost.get());
    }

    fn send(&self, batch: Batch) {
        let (size, entries) = (batch.size(), batch.entries.len() as u64);
        let waiting = self.counts.waiting.fetch_add(size, Ordering::Relaxed);
        if waiting + size > QUERY_LOG_OCTETS_MAX || self.orders.send(Order::Write(batch)).is_err() {
            self.counts.waiting.fetch_sub(size, Ordering::Relaxed);
            self.counts.lost.raise(entries);
        }
    }
}

/// An answer, by those who gave it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noted<'a> {
    pub(super) client: IpAddr,
    pub(super) query: &'a [u8],
    /// When the query came.
    pub(super) since: Instant,
    pub(super) source: Source,
    /// Whose answer it is, where that is known.
    pub(super) upstream: Option<SocketAddr>,
    /// Empty for none.
    pub(super) answer: &'a [u8],
}

/// Answers of one listener that go to the writer together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    log: Option<Arc<QueryLog>>,
    place: Place,
    entries: Vec<Entry>,
    octets: Vec<u8>,
}

/// One answer.
#[derive(Debug)]
struct Entry {
    client: IpAddr,
    /// When it was given.
    time: SystemTime,
    took: Duration,
    source: Source,
    upstream: Option<SocketAddr>,
    rcode: Option<Rcode>,
    size: usize,
    /// Of the batch's: the whole answer for dnstap; else what the query has of header and question.
    octets: Range<usize>,
}

impl Batch {
    pub(super) fn of(place: Place) -> Self {
        Self { place, ..Self::default() }
    }

    /// Puts an answer down.
    pub(super) fn add(&mut self, log: &Arc<QueryLog>, noted: &Noted<'_>) {
        if self.entries.len() >= QUERY_LOG_BATCH || self.log.as_ref().is_some_and(|own| !Arc::ptr_eq(own, log)) {
            self.flush();
        }
        if self.log.is_none() {
            self.log = Some(log.clone());
        }
        let Noted { client, query, since, source, upstream, answer } = *noted;
        let octets = match log.config.format {
            Format::Dnstap if !answer.is_empty() => answer,
            Format::Dnstap => query,
            _ => query.get(..Message::HEADER + question(query).map_or(0, <[u8]>::len)).unwrap_or_default(),
        };
        let start = self.octets.len();
        self.octets.extend_from_slice(octets);
        self.entries.push(Entry {
            client,
            time: SystemTime::now(),
            took: since.elapsed(),
            source,
            upstream,
            rcode: rcode(source, answer),
            size: answer.len(),
            octets: start..self.octets.len(),
        });
    }

    /// Hands what was put down to the writer.
    pub(super) fn flush(&mut self) {
        if let Some(log) = self.log.take() {
            let (entries, octets) = (std::mem::take(&mut self.entries), std::mem::take(&mut self.octets));
            log.send(Self { log: None, place: self.place.clone(), entries, octets });
        }
    }

    /// Octets that it takes.
    fn size(&self) -> usize {
        self.octets.len() + self.entries.len() * size_of::<Entry>()
    }
}

/// The RCODE with the part of it that an OPT record has, which is looked for where it may be there.
fn rcode(source: Source, answer: &[u8]) -> Option<Rcode> {
    let low = Header::of(answer)?.rcode();
    Some(match source {
        Source::Invalid => Message::parse(answer).map_or(low, |message| message.rcode),
        _ => low,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Class, Query, Question, Type};

    /// A log whose writer is the test.
    fn log(format: Format) -> (Arc<QueryLog>, mpsc::Receiver<Order>) {
        let (orders, waiting) = mpsc::channel();
        let config = Config { target: Target::Stderr, format };
        (Arc::new(QueryLog { config, orders, counts: Arc::default() }), waiting)
    }

    fn noted<'a>(query: &'a [u8], answer: &'a [u8]) -> Noted<'a> {
        let (client, source) = (IpAddr::from([127, 0, 0, 1]), Source::Local);
        Noted { client, query, since: Instant::now(), source, upstream: None, answer }
    }

    #[test]
    fn what_the_writer_does_not_take_is_lost_beyond_a_bound() {
        let (log, waiting) = log(Format::Dnstap);
        let mut batch = Batch::default();
        let answer = vec![0; 60_000];
        for _ in 0..1_000 {
            batch.add(&log, &noted(b"", &answer));
        }
        batch.flush();
        let taken: u64 = waiting
            .try_iter()
            .map(|order| match order {
                Order::Write(batch) => batch.entries.len() as u64,
                _ => 0,
            })
            .sum();
        assert_eq!(taken + log.counts.lost.get(), 1_000);
        assert!(taken * 60_000 <= QUERY_LOG_OCTETS_MAX as u64 && taken > 0, "{taken}");
        // Its reader has gone.
        drop(waiting);
        batch.add(&log, &noted(b"", b""));
        batch.flush();
        assert_eq!(taken + log.counts.lost.get(), 1_001);
    }

    #[test]
    fn a_batch_is_of_one_log() {
        let question = Question { name: "www.example.net".parse().unwrap(), qtype: Type::A, qclass: Class::IN };
        let query = Query::of(question).compose();
        let ((one, of_one), (other, of_other)) = (log(Format::Text), log(Format::Json));
        let mut batch = Batch::default();
        batch.add(&one, &noted(&query, &query));
        batch.add(&one, &noted(&query, b""));
        batch.add(&other, &noted(&[query.as_slice(), &[7; 100]].concat(), &query));
        batch.flush();
        batch.flush();
        let entries = |orders: &mpsc::Receiver<Order>| -> Vec<(usize, usize)> {
            let batches = orders.try_iter().filter_map(|order| match order {
                Order::Write(batch) => Some(batch.entries),
                _ => None,
            });
            batches.flatten().map(|entry| (entry.octets.len(), entry.size)).collect()
        };
        let end = query.len();
        assert_eq!(entries(&of_one), [(end, end), (end, 0)]);
        assert_eq!(entries(&of_other), [(end, end)], "no more than the question");
    }

    #[test]
    fn targets_are_a_word_a_path_or_a_socket() {
        let read = |text: &str| text.parse::<Target>();
        assert_eq!(read("stderr"), Ok(Target::Stderr));
        assert_eq!(read("/var/log/queries"), Ok(Target::File("/var/log/queries".into())));
        assert_eq!(read("unix:/run/tap"), Ok(Target::Socket("/run/tap".into())));
        assert!(read("").is_err() && read("unix:").is_err());
    }
}
