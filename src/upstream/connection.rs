//! One connection that is kept: the protocol that it speaks, and what it owes.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::link::Link;
use super::{ended, https, quic, tcp};
use crate::dns::{Reply, question};
use crate::limits;

/// How long a reply is awaited, whoever asked may have gone. A connection that said nothing else meanwhile is closed.
const REPLY_MAX: Duration = Duration::from_secs(5);
/// One that breaks is made anew at once if it was used within this time.
const USED_LATELY: Duration = Duration::from_secs(5);

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    wire: Wire,
    pub(super) made: Instant,
    /// Cancelled when it ends, whoever ends it.
    pub(super) end: CancellationToken,
    ledger: Mutex<Ledger>,
}

/// The protocols that have connections.
#[derive(Debug)]
pub(super) enum Wire {
    Pipe(tcp::Pipe),
    Http2(https::Http2),
    Http3(https::Http3),
    Doq(quic::Doq),
}

/// What a connection has done, and what it owes.
#[derive(Debug)]
struct Ledger {
    waiting: usize,
    used: Instant,
    /// When the first query was sent since it was heard last.
    unheard: Option<Instant>,
    has_answered: bool,
}

impl Connection {
    pub(super) fn new(wire: Wire, end: CancellationToken) -> Self {
        let made = Instant::now();
        let ledger = Mutex::new(Ledger { waiting: 0, used: made, unheard: None, has_answered: false });
        Self { wire, made, end, ledger }
    }

    /// Sends a query and waits for its reply. Who gives up waiting makes room for others, as there may be an upstream that is
    /// silent about one domain; what the connection owes since is not forgotten by that.
    pub(super) async fn ask(self: Arc<Self>, link: Arc<Link>, query: Vec<u8>) -> io::Result<Vec<u8>> {
        let sent = {
            let mut ledger = self.lock();
            if ledger.waiting >= limits::UPSTREAM_QUERIES_PER_CONNECTION_MAX {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            let now = Instant::now();
            ledger.waiting += 1;
            ledger.used = now;
            ledger.unheard.get_or_insert(now);
            now
        };
        let (mut tell, told) = oneshot::channel();
        tokio::spawn(async move {
            let outcome = tokio::select! {
                biased;
                outcome = tokio::time::timeout(REPLY_MAX, self.exchange(query)) => {
                    outcome.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                }
                () = self.end.cancelled() => Err(ended()),
                () = tell.closed() => return self.doubt(sent).await,
            };
            self.note(&link, sent, &outcome);
            let _ = tell.send(outcome);
        });
        told.await.map_err(|_| ended())?
    }

    /// One query and its reply, which has no id.
    async fn exchange(&self, query: Vec<u8>) -> io::Result<Vec<u8>> {
        let asked = question(&query).ok_or(io::ErrorKind::InvalidInput)?.to_vec();
        let reply = match &self.wire {
            // It sees to it that the reply is to the query.
            Wire::Pipe(pipe) => return pipe.ask(&query).await,
            Wire::Http2(http) => http.ask(query).await,
            Wire::Http3(http) => http.ask(query).await,
            Wire::Doq(doq) => doq.ask(&query).await,
        }?;
        match Reply::read(&reply, &asked) {
            Some(_) if reply.starts_with(&[0, 0]) => Ok(reply),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "expected a reply to the query, got something else")),
        }
    }

    /// Waits on for any word since a query was sent, although whoever asked has gone: without one there is nobody at its other
    /// end.
    async fn doubt(&self, sent: Instant) {
        self.lock().waiting -= 1;
        let _ = tokio::time::timeout_at((sent + REPLY_MAX).into(), self.end.cancelled()).await;
        if self.lock().unheard.is_some_and(|since| since <= sent) {
            self.end.cancel();
        }
    }

    /// Takes note of how an exchange went.
    fn note(&self, link: &Link, sent: Instant, outcome: &io::Result<Vec<u8>>) {
        let now = Instant::now();
        let mut ledger = self.lock();
        ledger.waiting -= 1;
        match outcome {
            Err(error) if is_ended(error) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                // Nothing came since: there is nobody at its other end.
                if ledger.unheard.is_some_and(|since| since <= sent) {
                    self.end.cancel();
                }
            }
            _ => {
                ledger.unheard = (ledger.waiting > 0).then_some(now);
                ledger.has_answered = true;
                drop(ledger);
                link.note_time(now.duration_since(sent));
            }
        }
    }

    /// How long it has owed a reply without a word, and how many queries are under way on it.
    pub(super) fn burden(&self, now: Instant) -> (Duration, usize) {
        let ledger = self.lock();
        (ledger.unheard.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)), ledger.waiting)
    }

    /// When nobody will have used it for so long.
    pub(super) fn idle_at(&self, idle: Duration) -> Instant {
        let ledger = self.lock();
        if ledger.waiting > 0 { Instant::now() + idle } else { ledger.used + idle }
    }

    pub(super) fn is_idle(&self, idle: Duration) -> bool {
        let ledger = self.lock();
        ledger.waiting == 0 && ledger.used.elapsed() >= idle
    }

    /// Has it answered, and was it asked a moment ago?
    pub(super) fn was_of_use(&self) -> bool {
        let ledger = self.lock();
        ledger.has_answered && ledger.used.elapsed() < USED_LATELY
    }

    #[cfg(test)]
    pub(super) fn has_been_of_no_use(&self) {
        self.lock().has_answered = false;
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn is_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionAborted
}
