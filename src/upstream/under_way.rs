//! Questions that are being asked, so that the same one is asked once for all who want to know (RFC 5452, 5): by a look-up, or
//! first by a listener itself, whoever of them comes first.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use foldhash::fast::RandomState;
use tokio::sync::watch;

use super::report::Try;
use crate::limits;
use crate::resolve::cache::Key;

/// What came of a look-up.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    /// Or why there is none.
    pub(super) answer: Result<Arc<[u8]>, &'static str>,
    pub(super) tries: Arc<[Try]>,
}

/// The questions that are being asked.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    questions: Mutex<HashMap<Key, Told, RandomState>>,
    /// How often all that are under way were disowned.
    disowned: AtomicU64,
}

/// Where the outcome of a look-up will be told.
#[derive(Debug, Clone)]
pub(super) struct Told {
    /// Since when it is under way.
    pub(super) begun: Instant,
    outcome: watch::Receiver<Option<Outcome>>,
}

/// What is to be done about a question.
pub(super) enum Joined {
    /// Somebody asks it already.
    Waits(Told),
    /// Whoever has this is to ask it.
    Begins(Turn),
    /// Nobody asks it, and no more may be asked at one time.
    Full,
}

/// The right and duty to ask one question; it ends when this is dropped, however that comes. Who waits then asks again.
#[derive(Debug)]
pub struct Turn {
    under_way: Arc<UnderWay>,
    /// How often others had been disowned when it began.
    disowned: u64,
    key: Key,
    begun: Instant,
    tell: watch::Sender<Option<Outcome>>,
}

impl UnderWay {
    pub(super) fn join(self: &Arc<Self>, key: &Key) -> Joined {
        let mut questions = self.lock();
        match questions.get(key) {
            Some(told) => Joined::Waits(told.clone()),
            None if questions.len() >= limits::LOOKUPS_MAX => Joined::Full,
            None => {
                let (tell, outcome) = watch::channel(None);
                let begun = Instant::now();
                questions.insert(key.clone(), Told { begun, outcome });
                let disowned = self.disowned.load(Ordering::Acquire);
                Joined::Begins(Turn { under_way: self.clone(), disowned, key: key.clone(), begun, tell })
            }
        }
    }

    /// Has nobody join those any more that are under way now, which are no longer [owned](Turn::is_owned).
    pub(super) fn disown(&self) {
        let mut questions = self.lock();
        self.disowned.fetch_add(1, Ordering::AcqRel);
        questions.clear();
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Told, RandomState>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    /// The outcome; `None` when whoever asked has come to an end without one.
    pub(super) async fn outcome(mut self) -> Option<Outcome> {
        self.outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone())
    }
}

impl Turn {
    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// May others hear later of what comes of it?
    pub fn is_owned(&self) -> bool {
        self.disowned == self.under_way.disowned.load(Ordering::Acquire)
    }

    /// Where what comes of it will be told.
    pub(super) fn told(&self) -> Told {
        Told { begun: self.begun, outcome: self.tell.subscribe() }
    }

    /// Tells all who wait, if any do. Who asks from now on begins anew.
    pub(super) fn end(self, outcome: impl FnOnce() -> Outcome) {
        let tell = self.tell.clone();
        drop(self);
        if tell.receiver_count() > 0 {
            let _ = tell.send(Some(outcome()));
        }
    }

    /// The same of a good answer that a listener had.
    pub fn end_with(self, answer: &[u8]) {
        self.end(|| Outcome { answer: Ok(answer.into()), tries: Arc::default() });
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut questions = self.under_way.lock();
        if self.is_owned() {
            questions.remove(&self.key);
        }
    }
}
