//! When does a run's result count? Consul's rule, without time and without state elsewhere.

use crate::catalog::Health;

/// Successes and failures in a row, and how many of them it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Threshold {
    success_before_passing: u32,
    failures_before_warning: u32,
    failures_before_critical: u32,
    successes: u32,
    failures: u32,
}

impl Threshold {
    /// Counting begins at the thresholds, so that the very first result counts.
    pub(super) fn new(success_before_passing: u32, failures_before_warning: u32, failures_before_critical: u32) -> Self {
        Self {
            success_before_passing,
            failures_before_warning,
            failures_before_critical,
            successes: success_before_passing,
            failures: failures_before_critical,
        }
    }

    /// Takes the result of a run; what the check says from now on, or `None` while it still says what it said.
    pub(super) fn count(&mut self, result: Health) -> Option<Health> {
        match result {
            // A warning is a success here: the target answered.
            Health::Passing | Health::Warning => {
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                (self.successes >= self.success_before_passing).then_some(result)
            }
            Health::Critical => {
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                if self.failures >= self.failures_before_critical {
                    Some(Health::Critical)
                } else if self.failures >= self.failures_before_warning {
                    Some(Health::Warning)
                } else {
                    None
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Health::{Critical, Passing, Warning};

    #[test]
    fn without_thresholds_every_result_counts() {
        let mut threshold = Threshold::new(0, 0, 0);
        for result in [Passing, Critical, Warning, Critical, Passing] {
            assert_eq!(threshold.count(result), Some(result));
        }
    }

    #[test]
    fn the_first_result_counts_and_later_ones_have_to_repeat() {
        let mut threshold = Threshold::new(2, 3, 3);
        assert_eq!(threshold.count(Critical), Some(Critical));
        assert_eq!(threshold.count(Passing), None);
        assert_eq!(threshold.count(Passing), Some(Passing));
        assert_eq!(threshold.count(Critical), None);
        assert_eq!(threshold.count(Critical), None);
        assert_eq!(threshold.count(Critical), Some(Critical));
        assert_eq!(threshold.count(Passing), None);
        assert_eq!(threshold.count(Critical), None, "a failure starts the successes anew, a success the failures");
        assert_eq!(threshold.count(Passing), None);
        assert_eq!(threshold.count(Warning), Some(Warning));
    }

    #[test]
    fn warning_comes_before_critical() {
        let mut threshold = Threshold::new(0, 1, 3);
        assert_eq!(threshold.count(Passing), Some(Passing));
        let results: Vec<_> = std::iter::repeat_with(|| threshold.count(Critical)).take(3).collect();
        assert_eq!(results, [Some(Warning), Some(Warning), Some(Critical)]);
    }
}
