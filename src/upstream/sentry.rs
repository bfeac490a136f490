//! Does an upstream lead back to us? Each is asked now and then for a name that nobody can know; when the question arrives at
//! a listener of ours, whoever was asked has handed it back, itself or through others, and so it would all others.
//!
//! Such an upstream is set aside, and asked no more than such questions, until one of them does not come back.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::link::Link;
use crate::dns::Name;

/// How often an upstream is looked at that led back to us, one that gave no reason to, and all when a look-up had no answer,
/// as those in a circle have none.
pub(super) const SET_ASIDE: Duration = Duration::from_secs(60);
const WELL: Duration = Duration::from_secs(3_600);
const IN_DOUBT: Duration = Duration::from_secs(10);
/// What lies between two looks at the least.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
/// How long a question may be on its way back.
pub(super) const AROUND_MAX: Duration = Duration::from_secs(2);

/// The questions that are on their way; one for all forwarders of a process.
#[derive(Debug, Default)]
pub(super) struct Sentry {
    probes: Mutex<Vec<(Name, Arc<Link>)>>,
    woken: Notify,
}

/// What is known of one upstream.
#[derive(Debug, Default)]
pub(super) struct Watched(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When it was asked last.
    asked: Option<Instant>,
    leads_back: bool,
}

impl Watched {
    pub(super) fn leads_back(&self) -> bool {
        self.lock().leads_back
    }

    /// Takes note of it; says whether that is new.
    pub(super) fn note(&self, leads_back: bool) -> bool {
        std::mem::replace(&mut self.lock().leads_back, leads_back) != leads_back
    }

    /// When it is to be asked again.
    pub(super) fn due(&self, in_doubt: bool, now: Instant) -> Instant {
        let state = self.lock();
        let pause = match state.leads_back {
            true => SET_ASIDE,
            false if in_doubt => IN_DOUBT,
            false => WELL,
        };
        state.asked.map_or(now, |asked| asked + pause)
    }

    /// It is to be asked now.
    pub(super) fn forget(&self) {
        self.lock().asked = None;
    }

    fn is_asked(&self, now: Instant) {
        self.lock().asked = Some(now);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sentry {
    /// A name to ask this upstream for, of two labels that nobody can foretell.
    pub(super) fn begin(&self, link: &Arc<Link>, now: Instant) -> io::Result<Name> {
        let mut octets = [0; 16];
        getrandom::fill(&mut octets).map_err(|_| io::Error::other("the system gives no random numbers"))?;
        let hex = |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
        let (first, second) = octets.split_at(8);
        let name: Name = format!("{}.{}", hex(first), hex(second)).parse().map_err(io::Error::other)?;
        link.watched.is_asked(now);
        self.lock().push((name.clone(), link.clone()));
        Ok(name)
    }

    /// Which upstream was asked for this name and still may bring it back?
    pub(super) fn asked(&self, name: &Name) -> Option<Arc<Link>> {
        self.lock().iter().find(|(own, _)| own.wire().eq_ignore_ascii_case(name.wire())).map(|(_, link)| link.clone())
    }

    /// The question is on its way no more.
    pub(super) fn end(&self, name: &Name) {
        self.lock().retain(|(own, _)| own != name);
    }

    /// Has what is in doubt looked at.
    pub(super) fn wake(&self) {
        self.woken.notify_one();
    }

    /// Waits until then, or for a doubt, of which it tells.
    pub(super) async fn wait(&self, until: Instant) -> bool {
        tokio::time::timeout_at(until.into(), self.woken.notified()).await.is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Name, Arc<Link>)>> {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leads_back_is_looked_at_every_minute_and_others_when_there_is_a_doubt() {
        let (watched, now) = (Watched::default(), Instant::now());
        assert_eq!(watched.due(false, now), now, "at the start");
        watched.is_asked(now);
        assert_eq!([true, false].map(|in_doubt| watched.due(in_doubt, now) - now), [IN_DOUBT, WELL]);
        assert!(watched.note(true) && !watched.note(true) && watched.leads_back());
        assert_eq!([true, false].map(|in_doubt| watched.due(in_doubt, now) - now), [SET_ASIDE; 2]);
        watched.forget();
        assert_eq!(watched.due(false, now), now, "and at a reload");
    }
}
