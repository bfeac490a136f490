//! Popular answers are fetched anew before their end, so that no client waits for them.
//!
//! Whoever gives such an answer compares two times, and only near the answer's end puts the question into a bounded queue.
//! The rest happens on the runtime, so many at a time and a second.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, mpsc};

use super::setup::Setup;
use crate::dns::Query;
use crate::limits;
use crate::resolve::cache::Entry;

/// A question whose answer is near its end.
#[derive(Debug)]
pub(super) struct Due {
    setup: Arc<Setup>,
    query: Box<[u8]>,
}

/// The way from those who answer to [`run`].
#[derive(Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<Due>,
    receiver: Mutex<Option<mpsc::Receiver<Due>>>,
}

impl Default for Queue {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(limits::PREFETCHES_WAITING_MAX);
        Self { sender, receiver: Mutex::new(Some(receiver)) }
    }
}

impl Queue {
    /// Has a popular answer fetched anew, unless that was seen to; `query` are the octets of a query that it answers. With
    /// no room in the queue the next one who asks tries again.
    #[cold]
    pub(super) fn put(&self, setup: &Arc<Setup>, entry: &Entry, query: &[u8]) {
        if entry.claim() && self.sender.try_send(Due { setup: setup.clone(), query: query.into() }).is_err() {
            entry.unclaim();
        }
    }

    /// The other end; of several who take it, only the first hears of anything.
    pub(super) fn receiver(&self) -> mpsc::Receiver<Due> {
        let first = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.unwrap_or_else(|| mpsc::channel(1).1)
    }
}

/// Fetches what is due, for as long as the process lives.
pub(super) async fn run(mut due: mpsc::Receiver<Due>) {
    let places = Arc::new(Semaphore::new(limits::PREFETCHES_MAX));
    while let Some(Due { setup, query }) = due.recv().await {
        let (Ok(query), Ok(place)) = (Query::parse(&query), places.clone().acquire_owned().await) else { continue };
        tokio::spawn(async move {
            setup.forwarder.fetch_anew(&query).await;
            drop(place);
        });
        tokio::time::sleep(limits::PREFETCH_PAUSE).await;
    }
}
