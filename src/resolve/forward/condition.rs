//! What is known of upstreams, and whom of them it makes the first, or one to be probed.

use std::time::{Duration, Instant};

use super::Strategy;

/// How long an upstream is waited for whose latency is not known yet.
const PATIENCE_UNKNOWN: Duration = Duration::from_millis(60);
/// Bounds of the time after which another upstream is asked too.
const PATIENCE_MIN: Duration = Duration::from_millis(20);
pub(super) const PATIENCE_MAX: Duration = Duration::from_millis(400);
/// An upstream that left this many queries in a row unanswered is asked last.
pub(super) const MISSES_MAX: u32 = 2;
/// How often one that is asked last gets a query of its own, to find out whether it is back.
const PROBE: Duration = Duration::from_secs(1);
/// How often one that is never asked, because others are better, is probed to find out whether they still are; and no
/// oftener than once in so many queries, so that a quiet server stays quiet.
const EXPLORE: Duration = Duration::from_secs(2);
const EXPLORE_QUERIES: u32 = 128;
/// From this share of lost queries on, an upstream counts as lossy: it is asked again sooner, and gives way to one that
/// takes longer and is reliable. That share of the time below is what it would have to be faster.
const LOSSY: f32 = 0.05;
const LOSS_COSTS: Duration = Duration::from_millis(500);

/// What is known of an upstream.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Condition {
    /// Smoothed round-trip time (RFC 6298, 2), of which an outlier is no part.
    pub latency: Option<Duration>,
    /// The time within which about 97 of 100 replies come.
    pub(super) usual: Duration,
    /// The share of queries that are never answered.
    pub(super) loss: f32,
    /// Queries in a row that it did not answer well.
    pub misses: u32,
    /// When it was last asked although others are asked first.
    pub(super) probed: Option<Instant>,
    /// Queries since then.
    pub(super) passed_over: u32,
    /// What is known of it is from before it was passed over.
    pub(super) is_old: bool,
    /// It is not asked at all, however well it answers: it leads back to us.
    pub is_set_aside: bool,
}

impl Condition {
    /// It answered, the last of so many queries in this time.
    pub fn answered(&mut self, took: Duration, count: u32) {
        let was_suspect = self.is_suspect();
        self.misses = 0;
        self.loss *= (31.0_f32 / 32.0).powi(i32::try_from(count).unwrap_or(i32::MAX));
        // What was measured before it was lost says nothing of how it came back.
        match self.latency.filter(|_| !was_suspect) {
            None => (self.latency, self.usual) = (Some(took), took * 2),
            Some(latency) => {
                // One in thirty is the exception that lifts the usual time by a third; all others lower it by a hundredth.
                self.usual = if took > self.usual { self.usual * 4 / 3 } else { self.usual * 99 / 100 };
                self.usual = self.usual.max(Duration::from_micros(100));
                let took = took.min(latency * 2 + Duration::from_micros(100));
                self.latency = Some(if self.is_old { (latency + took) / 2 } else { (latency * 7 + took) / 8 });
            }
        }
        self.is_old = false;
    }

    /// It did not answer, not in time to be of use, or with an error where another had an answer.
    pub fn missed(&mut self) {
        self.misses = self.misses.saturating_add(1);
    }

    /// What it was asked by datagram has not been answered at all, however long one listened.
    pub fn lost(&mut self) {
        // One that is suspect may be dead, which is another matter.
        if !self.is_suspect() {
            self.loss += (1.0 - self.loss) / 32.0;
        }
    }

    pub(super) fn is_lossy(&self) -> bool {
        self.loss >= LOSSY
    }

    /// Is it asked last, if at all?
    pub fn is_suspect(&self) -> bool {
        self.misses >= MISSES_MAX || self.is_set_aside
    }

    /// Is it time to probe it, when another is asked first?
    fn is_due(&self, now: Instant) -> bool {
        if self.is_set_aside {
            return false;
        }
        let since = self.probed.map(|at| now.saturating_duration_since(at));
        match self.is_suspect() {
            true => since.is_none_or(|since| since >= PROBE),
            false => self.passed_over >= EXPLORE_QUERIES && since.is_none_or(|since| since >= EXPLORE),
        }
    }

    /// It is asked, first or by the way.
    fn note_asked(&mut self, now: Instant) {
        (self.probed, self.passed_over) = (Some(now), 0);
    }
}

/// How long this upstream is waited for before another is asked too.
pub(super) fn patience(condition: &Condition) -> Duration {
    // A little more than usual, so that one whose times are even is never asked in vain.
    condition.latency.map_or(PATIENCE_UNKNOWN, |_| (condition.usual * 5 / 4).clamp(PATIENCE_MIN, PATIENCE_MAX))
}

/// Whom a look-up asks first and how long it waits for him, when there is no doubt about either: he has answered lately, and
/// there is none that is due to be probed. `lot` is a random number.
pub fn favourite(strategy: Strategy, conditions: &mut [Condition], now: Instant, lot: u32) -> Option<(usize, Duration)> {
    let mut well = conditions.iter().enumerate().filter(|(_, condition)| !condition.is_suspect());
    let (best, _) = match strategy {
        Strategy::Hedged => well.min_by_key(|(_, condition)| rank(condition)),
        Strategy::Strict => well.next(),
        Strategy::Random => well.clone().count().checked_sub(1).and_then(|last| well.nth(lot as usize % (last + 1))),
        Strategy::Parallel => None,
    }?;
    if conditions.iter().enumerate().any(|(n, condition)| n != best && condition.is_due(now)) {
        return None;
    }
    let wait = conditions.get(best).filter(|condition| condition.latency.is_some()).map(patience)?;
    pass_over(best, conditions, now);
    Some((best, wait))
}

/// One of them answered well, the last of so many queries in this time. Says whether none was well until now.
pub fn answered(conditions: &mut [Condition], upstream: usize, took: Duration, count: u32) -> bool {
    let none_was_well = conditions.iter().all(Condition::is_suspect);
    if let Some(condition) = conditions.get_mut(upstream) {
        condition.answered(took, count);
    }
    none_was_well
}

/// Takes note of who is asked first, and who is not.
pub(super) fn pass_over(first: usize, conditions: &mut [Condition], now: Instant) {
    for (n, condition) in conditions.iter_mut().enumerate() {
        match n == first {
            true => condition.note_asked(now),
            false => condition.passed_over = condition.passed_over.saturating_add(1),
        }
    }
}

/// Who is asked first: suspects last, else by latency; one whose latency is not known yet has to show it.
pub(super) fn rank(condition: &Condition) -> (bool, Duration) {
    let latency = condition.latency.unwrap_or(Duration::ZERO);
    let loss_costs = if condition.is_lossy() { LOSS_COSTS.mul_f32(condition.loss) } else { Duration::ZERO };
    (condition.is_suspect(), latency + loss_costs)
}

/// An upstream that is to get this query too although `first` is asked, so that it is seen to be back, or to be better.
pub(super) fn to_probe(first: usize, conditions: &mut [Condition], now: Instant) -> Option<usize> {
    let (upstream, condition) = conditions.iter_mut().enumerate().find(|(n, c)| *n != first && c.is_due(now))?;
    condition.note_asked(now);
    condition.is_old = true;
    condition.loss *= 0.9;
    Some(upstream)
}

/// An upstream that is to be probed although nobody has a question for it, when none of them is well.
pub fn scout(conditions: &mut [Condition], now: Instant) -> Option<usize> {
    if conditions.iter().any(|condition| !condition.is_suspect()) {
        return None;
    }
    to_probe(usize::MAX, conditions, now)
}
