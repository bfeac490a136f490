//! Does an upstream give a question back as it was spelled? Then it is asked in random letter case (0x20), which whoever
//! forges its replies has to guess. Nearly all do; one that does not is noticed, and asked as the client wrote for a while.
//!
//! A reply that is right but for the case is never taken, and is nobody's fault either: the question goes out once more as
//! the client wrote it, by another port and under another id, so that a forger who hit one has to hit again.
//!
//! Some drop or refuse what is not in small letters. So until an upstream has given one question back as it was spelled it is
//! on trial: look-ups begin in random case alone, and go on as the client wrote; an answer to that while nothing comes of the
//! first counts as a changed spelling.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::metrics::Count;

/// What a changed spelling adds to the doubt, and each kept one takes from it: an upstream that changes more than one in so
/// many costs more packets than it is worth.
const CHANGED: u32 = 16;
/// The doubt from which on it is asked as the client wrote: three in a row.
const DOUBT_MAX: u32 = 3 * CHANGED;
/// How long a question in random case is given before an answer to another says something of it.
const TRIAL: Duration = Duration::from_millis(300);
/// For how long, until it is tried again.
const AS_WRITTEN: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct Spelling {
    state: Mutex<State>,
    /// Replies in another case than their question.
    pub(super) others: Count,
}

#[derive(Debug, Default)]
struct State {
    doubt: u32,
    /// Until when it is asked as the client wrote.
    until: Option<Instant>,
    /// It has given a question back as it was spelled.
    proved: bool,
    /// When it was asked in random case and has said nothing yet, while it is on trial.
    tried: Option<Instant>,
    told: bool,
}

impl Spelling {
    /// May it be asked in random case?
    pub(super) fn is_kept(&self, now: Instant) -> bool {
        self.lock().until.is_none_or(|until| now >= until)
    }

    /// Is it known to bear that?
    pub(super) fn is_proved(&self) -> bool {
        self.lock().proved
    }

    /// So many questions came back as they were spelled.
    pub(super) fn kept(&self, count: u32) {
        let mut state = self.lock();
        state.doubt = state.doubt.saturating_sub(count);
        (state.proved, state.tried) = (true, None);
    }

    /// It is asked in random case.
    pub(super) fn tries(&self, now: Instant) {
        let mut state = self.lock();
        if !state.proved {
            state.tried.get_or_insert(now);
        }
    }

    /// It has answered a question well that was asked as the client wrote. True as with [`Spelling::changed`].
    pub(super) fn as_written(&self, now: Instant) -> bool {
        let is_silent = |tried: &mut Instant| now.saturating_duration_since(*tried) >= TRIAL;
        let is_changed = self.lock().tried.take_if(is_silent).is_some();
        is_changed && self.changed(now)
    }

    /// A question came back in another case, or was answered only as the client wrote it. True when that is to be told: the
    /// first time that it has consequences.
    pub(super) fn changed(&self, now: Instant) -> bool {
        let mut state = self.lock();
        state.doubt += CHANGED;
        if state.doubt < DOUBT_MAX {
            return false;
        }
        // The next trial ends with the first one that changes.
        state.doubt = DOUBT_MAX - CHANGED;
        state.until = Some(now + AS_WRITTEN);
        state.proved = false;
        !std::mem::replace(&mut state.told, true)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_changes_in_a_row_are_a_habit_and_a_later_trial_ends_with_one() {
        let (spelling, start) = (Spelling::default(), Instant::now());
        let told: Vec<bool> = (0..3).map(|_| spelling.changed(start)).collect();
        assert_eq!((told, spelling.is_kept(start)), (vec![false, false, true], false));
        let later = start + AS_WRITTEN;
        assert!(spelling.is_kept(later), "it is tried again");
        assert!(!spelling.changed(later) && !spelling.is_kept(later), "at the cost of one, and told no more");
    }

    #[test]
    fn who_answers_only_what_is_asked_as_written_does_not_bear_it() {
        let (spelling, start) = (Spelling::default(), Instant::now());
        assert!(!spelling.is_proved() && !spelling.as_written(start), "nothing was tried");
        spelling.tries(start);
        assert!(!spelling.as_written(start + TRIAL / 2) && !spelling.as_written(start + TRIAL), "the first of three");
        for more in 1..3 {
            spelling.tries(start);
            assert_eq!(spelling.as_written(start + TRIAL), more == 2);
        }
        assert!(!spelling.is_kept(start + TRIAL));
        // Who has borne it once may lose a packet.
        let spelling = Spelling::default();
        for _ in 0..9 {
            spelling.kept(1);
            spelling.tries(start);
            assert!(!spelling.as_written(start + TRIAL));
        }
        assert!(spelling.is_proved() && spelling.is_kept(start));
    }

    #[test]
    fn who_changes_it_now_and_then_is_asked_on_in_random_case() {
        let (spelling, start) = (Spelling::default(), Instant::now());
        for _ in 0..100 {
            assert!(!spelling.changed(start));
            spelling.kept(CHANGED);
        }
        assert!(spelling.is_kept(start));
        for _ in 0..100 {
            spelling.changed(start);
            spelling.kept(CHANGED / 2);
        }
        assert!(!spelling.is_kept(start), "one in nine");
    }
}
