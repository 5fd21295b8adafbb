//! Exponential back-off with jitter, so that many daemons don't return in step.

use std::time::Duration;

use crate::config;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(settings: &config::Pubsub) -> Self {
        Self {
            min: settings.reopen_backoff_min,
            max: settings.reopen_backoff_max,
            failures: 0,
        }
    }

    /// All is well again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The longest delay of all. What worked for as long has recovered.
    pub(super) fn longest(&self) -> Duration {
        self.max
    }

    /// The longest that the next delay can be.
    pub(super) fn next_limit(&self) -> Duration {
        let factor = 2_u32.saturating_pow(self.failures);
        self.min.saturating_mul(factor).min(self.max)
    }

    /// Between half of that and that.
    pub(super) fn next_delay(&mut self) -> Duration {
        let limit = self.next_limit();
        self.failures = self.failures.saturating_add(1);
        limit.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_the_longest() {
        let min = Duration::from_secs(1);
        let max = Duration::from_secs(60);
        let mut backoff = Backoff {
            min,
            max,
            failures: 0,
        };
        for limit in [1, 2, 4, 8, 16, 32, 60, 60] {
            let limit = Duration::from_secs(limit);
            assert_eq!(backoff.next_limit(), limit);
            let delay = backoff.next_delay();
            assert!(
                delay >= limit / 2 && delay <= limit,
                "{delay:?} of {limit:?}"
            );
        }
        backoff.failures = u32::MAX;
        assert!(backoff.next_delay() <= max);
        backoff.reset();
        assert_eq!(backoff.next_limit(), min);
    }
}
