//! Asking over a stream, TCP or TLS: many queries at one time, their replies in whatever order (RFC 7766, 6.2.1 and 7).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{ended, set_id};
use crate::dns::{Reply, question};
use crate::limits;

/// Queries that are sent with one write.
const BATCH: usize = 64;

/// One stream's connection.
#[derive(Debug)]
pub(super) struct Pipe {
    outbox: mpsc::Sender<Vec<u8>>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Who waits, by the id that his query has on this connection.
    places: HashMap<u16, Expected>,
    next: u16,
}

#[derive(Debug)]
struct Expected {
    /// The question as it was asked, name to class.
    question: Box<[u8]>,
    /// `None` for a reply that is malformed.
    reply: oneshot::Sender<Option<Vec<u8>>>,
}

impl Pipe {
    /// Takes a stream over. When it ends, at this end or the other, `end` is cancelled, and when that is cancelled it ends.
    pub(super) fn new(stream: impl AsyncRead + AsyncWrite + Send + 'static, end: CancellationToken) -> Self {
        let (outbox, queries) = mpsc::channel(limits::UPSTREAM_QUERIES_PER_CONNECTION);
        let waiting = Arc::new(Mutex::new(Waiting { next: fastrand::u16(..), ..Waiting::default() }));
        tokio::spawn(carry(stream, queries, waiting.clone(), end));
        Self { outbox, waiting }
    }

    /// Sends a query and waits for its reply, for as long as the caller does.
    pub(super) async fn ask(&self, query: &[u8]) -> io::Result<Vec<u8>> {
        let (reply, replied) = oneshot::channel();
        let question = question(query).ok_or(io::ErrorKind::InvalidInput)?.into();
        let length = u16::try_from(query.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let place = Place::take(&self.waiting, Expected { question, reply });
        let mut framed = Vec::with_capacity(2 + query.len());
        framed.extend(length.to_be_bytes());
        framed.extend(query);
        set_id(&mut framed[2..], place.id);
        self.outbox.send(framed).await.map_err(|_| ended())?;
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "expected a reply to the query, got a malformed one");
        replied.await.map_err(|_| ended())?.ok_or_else(malformed)
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place among those who wait, given up when the wait ends, however it ends.
struct Place<'a> {
    waiting: &'a Mutex<Waiting>,
    id: u16,
}

impl<'a> Place<'a> {
    /// Under the id that was not used for longest, so that a late reply meets nobody. Far fewer wait than there are ids.
    fn take(waiting: &'a Mutex<Waiting>, expected: Expected) -> Self {
        let mut guard = lock(waiting);
        loop {
            guard.next = guard.next.wrapping_add(1);
            let id = guard.next;
            if let Entry::Vacant(place) = guard.places.entry(id) {
                place.insert(expected);
                return Self { waiting, id };
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(self.waiting).places.remove(&self.id);
    }
}

/// Carries queries out and replies in until either comes to an end.
async fn carry(
    stream: impl AsyncRead + AsyncWrite,
    queries: mpsc::Receiver<Vec<u8>>,
    waiting: Arc<Mutex<Waiting>>,
    end: CancellationToken,
) {
    let (from, to) = tokio::io::split(stream);
    let outcome = tokio::select! {
        outcome = read(from, &waiting) => outcome,
        outcome = write(to, queries) => outcome,
        () = end.cancelled() => Ok(()),
    };
    if let Err(error) = outcome {
        tracing::debug!("a connection to an upstream ended: {error}");
    }
    end.cancel();
    // Whoever still waits waits for nothing.
    lock(&waiting).places.clear();
}

async fn write(mut to: impl AsyncWrite + Unpin, mut queries: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    while queries.recv_many(&mut batch, BATCH).await > 0 {
        to.write_all(&batch.concat()).await?;
        to.flush().await?;
        batch.clear();
    }
    Ok(())
}

async fn read(from: impl AsyncRead + Unpin, waiting: &Mutex<Waiting>) -> io::Result<()> {
    let mut from = BufReader::with_capacity(4 << 10, from);
    loop {
        let mut octets = vec![0; usize::from(from.read_u16().await?)];
        from.read_exact(&mut octets).await?;
        let id = u16::from_be_bytes(*octets.first_chunk().ok_or(io::ErrorKind::InvalidData)?);
        // Nobody may wait any more.
        let mut waiting = lock(waiting);
        let Entry::Occupied(expected) = waiting.places.entry(id) else { continue };
        let is_whole = Reply::read(&octets, &expected.get().question).is_some();
        // A reply to another question means that the two ends disagree about everything; one that is merely malformed may have
        // come so from whom the upstream asked, and ends no other's wait.
        if !is_whole && !question(&octets).is_some_and(|own| own.eq_ignore_ascii_case(&expected.get().question)) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let _ = expected.remove().reply.send(is_whole.then_some(octets));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Class, Query, Question, Rcode, Record, Type};

    #[tokio::test]
    async fn a_malformed_reply_ends_no_other_wait() {
        let (near, mut far) = tokio::io::duplex(4096);
        let end = CancellationToken::new();
        let pipe = Pipe::new(near, end.clone());
        let query = |name: &str| Query::of(Question { name: name.parse().unwrap(), qtype: Type::A, qclass: Class::IN });
        let (bad, good, other) = (query("bad.example"), query("good.example"), query("other.example"));
        let answers = async {
            let mut heard = Vec::new();
            for _ in 0..3 {
                let mut octets = vec![0; usize::from(far.read_u16().await.unwrap())];
                far.read_exact(&mut octets).await.unwrap();
                heard.push(Query::parse(&octets).unwrap());
            }
            for (query, malformed) in heard.iter().zip([true, false]) {
                let mut message = query.response(Rcode::NOERROR);
                message.answers.push(Record::address(query.question.name.clone(), 60, [192, 0, 2, 1].into()));
                let mut octets = message.compose(true);
                octets.extend(malformed.then_some(0));
                far.write_u16(octets.len() as u16).await.unwrap();
                far.write_all(&octets).await.unwrap();
            }
            // And one to another question.
            let octets = Query { id: heard[2].id, ..good.clone() }.response(Rcode::NOERROR).compose(true);
            far.write_u16(octets.len() as u16).await.unwrap();
            far.write_all(&octets).await.unwrap();
        };
        let (bad, good, other) = (bad.compose(), good.compose(), other.compose());
        let (bad, good, other, ()) = tokio::join!(pipe.ask(&bad), pipe.ask(&good), pipe.ask(&other), answers);
        assert_eq!(bad.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(good.is_ok(), "{good:?}");
        assert!(other.is_err());
        end.cancelled().await;
    }
}
