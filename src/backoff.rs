//! Exponential back-off with jitter, so that many daemons and many keys don't return in step.
//!
//! Pure: the randomness is the caller's.

use std::time::Duration;

/// How long to wait after each failure: `min`, doubled up to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub min: Duration,
    pub max: Duration,
}

impl Schedule {
    /// The longest that the wait after `failures` earlier failures can be.
    pub fn limit(&self, failures: u32) -> Duration {
        let factor = 2_u32.saturating_pow(failures);
        self.min.saturating_mul(factor).min(self.max)
    }

    /// Between half of that and that.
    pub fn delay(&self, failures: u32, rng: &mut fastrand::Rng) -> Duration {
        self.limit(failures).mul_f64(0.5 + rng.f64() / 2.0)
    }
}

/// A schedule, and how many failures there were in a row.
#[derive(Debug)]
pub struct Backoff {
    schedule: Schedule,
    failures: u32,
    rng: fastrand::Rng,
}

impl Backoff {
    pub fn new(schedule: Schedule, rng: fastrand::Rng) -> Self {
        Self {
            schedule,
            failures: 0,
            rng,
        }
    }

    /// All is well again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The longest delay of all. What worked for as long has recovered.
    pub fn longest(&self) -> Duration {
        self.schedule.max
    }

    /// The longest that the next delay can be.
    pub fn next_limit(&self) -> Duration {
        self.schedule.limit(self.failures)
    }

    /// Between half of that and that.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.schedule.delay(self.failures, &mut self.rng);
        self.failures = self.failures.saturating_add(1);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule = Schedule {
        min: Duration::from_secs(1),
        max: Duration::from_secs(60),
    };

    #[test]
    fn the_delay_doubles_up_to_the_longest() {
        let mut backoff = Backoff::new(SCHEDULE, fastrand::Rng::with_seed(1));
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
        assert!(backoff.next_delay() <= SCHEDULE.max);
        backoff.reset();
        assert_eq!(backoff.next_limit(), SCHEDULE.min);
    }

    #[test]
    fn delays_differ_so_that_keys_do_not_return_in_step() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut delays: Vec<Duration> = (0..100).map(|_| SCHEDULE.delay(3, &mut rng)).collect();
        delays.sort();
        delays.dedup();
        assert!(delays.len() > 90, "{} different delays", delays.len());
    }
}
