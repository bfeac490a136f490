//! Which upstreams give no good answer, for whoever reads the log: told when that has gone on for a while, and when it ends.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::link::Link;
use crate::problem::Problem;

/// How long an upstream gives no good answer until that is told. Names that are broken themselves make shorter pauses.
const LASTING: Duration = Duration::from_secs(2);
/// How often it is told of one, should it come and go.
const AGAIN: Duration = Duration::from_secs(60);

/// What is told of one upstream.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<State>);

impl Trouble {
    /// One more question has come to nothing there; `all_are` when nobody else of its group has good answers either.
    pub(super) fn goes_on(&self, upstream: &Link, group: &str, all_are: bool) {
        let Some(lasts) = self.lock().goes_on(Instant::now()) else { return };
        let problem = Problem::new(format!("upstream {upstream} ({group}): expected answers, got no good one for {lasts:.1?}"));
        let hint = match all_are {
            true => {
                "nor do others answer who are asked about these names: what is kept is given, other clients get SERVFAIL; \
                 `rollcall explain NAME --ask` asks each of them"
            }
            false => {
                "others are asked in its place, and it now and then until it answers; `rollcall explain NAME --ask` asks each of \
                 them"
            }
        };
        tracing::warn!("{}", problem.hint(hint));
    }

    /// It has answered well.
    pub(super) fn ends(&self, upstream: &Link, group: &str) {
        if let Some(lasted) = self.lock().ends(Instant::now()) {
            tracing::info!("upstream {upstream} ({group}) answers again, after {lasted:.1?}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct State {
    since: Option<Instant>,
    is_told: bool,
    told_at: Option<Instant>,
}

impl State {
    /// Says since when no question came to anything, if that is to be told.
    fn goes_on(&mut self, now: Instant) -> Option<Duration> {
        let lasts = now.saturating_duration_since(*self.since.get_or_insert(now));
        let was_told_lately = self.told_at.is_some_and(|then| now.saturating_duration_since(then) < AGAIN);
        if self.is_told || lasts < LASTING || was_told_lately {
            return None;
        }
        (self.is_told, self.told_at) = (true, Some(now));
        Some(lasts)
    }

    /// Says for how long it had not answered well, if that was told.
    fn ends(&mut self, now: Instant) -> Option<Duration> {
        let lasted = now.saturating_duration_since(self.since.take()?);
        std::mem::take(&mut self.is_told).then_some(lasted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_told_once_and_its_end_too() {
        let (mut trouble, start) = (State::default(), Instant::now());
        let after = |milliseconds| start + Duration::from_millis(milliseconds);
        assert_eq!(trouble.ends(start), None);
        assert_eq!((trouble.goes_on(start), trouble.goes_on(after(1_900)), trouble.ends(after(1_950))), (None, None, None));
        assert_eq!((trouble.goes_on(after(2_000)), trouble.goes_on(after(3_999))), (None, None), "it began anew");
        assert_eq!(trouble.goes_on(after(4_000)), Some(LASTING));
        assert_eq!((trouble.goes_on(after(5_000)), trouble.ends(after(9_000))), (None, Some(Duration::from_secs(7))));
        assert_eq!((trouble.goes_on(after(10_000)), trouble.goes_on(after(20_000))), (None, None), "it was told a moment ago");
        assert_eq!(trouble.ends(after(21_000)), None);
        assert_eq!((trouble.goes_on(after(70_000)), trouble.goes_on(after(80_000))), (None, Some(Duration::from_secs(10))));
    }
}
