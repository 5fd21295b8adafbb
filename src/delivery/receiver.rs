//! Is the receiver itself down? Then it gets one attempt at a time, instead of one for each key.

use std::collections::BTreeSet;
use std::time::Duration;

use super::attempt::Scope;
use super::row::OrderKey;
use super::settings::SUSPECT_KEYS;
use crate::backoff::Schedule;
use crate::event::ClockTime;

/// What the last attempts say of the receiver.
#[derive(Debug)]
pub(super) struct Receiver {
    schedule: Schedule,
    /// Failures in a row; it is down if there are any.
    failures: u32,
    not_before: ClockTime,
    /// Rises with each of them. What began in an earlier round says nothing new: when a receiver
    /// dies, all that is in flight fails, and that is one failure.
    round: u64,
    /// Keys that failed since the last success. At most [`SUSPECT_KEYS`].
    suspects: BTreeSet<OrderKey>,
}

/// An attempt that failed.
pub(super) struct FailedAttempt {
    pub(super) key: OrderKey,
    pub(super) round: u64,
    pub(super) scope: Scope,
    /// What the server asked for, capped.
    pub(super) after: Duration,
}

impl Receiver {
    pub(super) fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            failures: 0,
            not_before: ClockTime(i64::MIN),
            round: 0,
            suspects: BTreeSet::new(),
        }
    }

    pub(super) fn round(&self) -> u64 {
        self.round
    }

    /// Whether it is not known to be down.
    pub(super) fn is_up(&self) -> bool {
        self.failures == 0
    }

    /// From when on one more attempt may be made beside `in_flight` others; `None` if one of those
    /// has to end first.
    pub(super) fn free_at(&self, in_flight: usize, max_in_flight: usize) -> Option<ClockTime> {
        let max = if self.is_up() { max_in_flight } else { 1 };
        (in_flight < max).then_some(self.not_before)
    }

    /// It is tried at once, whatever it was to wait for.
    pub(super) fn retry_now(&mut self) {
        self.not_before = ClockTime(i64::MIN);
    }

    /// It answered, if only to refuse a record.
    pub(super) fn answered(&mut self, round: u64) {
        if round == self.round {
            self.failures = 0;
            self.not_before = ClockTime(i64::MIN);
            self.suspects.clear();
        }
    }

    pub(super) fn failed(
        &mut self,
        attempt: &FailedAttempt,
        now: ClockTime,
        rng: &mut fastrand::Rng,
    ) {
        let is_receiver = attempt.scope == Scope::Receiver;
        if is_receiver {
            self.not_before = self.not_before.max(now.after(attempt.after));
        }
        if attempt.round != self.round {
            return;
        }
        self.suspects.insert(attempt.key);
        let is_down = is_receiver || !self.is_up() || self.suspects.len() >= SUSPECT_KEYS;
        if is_down {
            let delay = self.schedule.delay(self.failures, rng);
            self.not_before = self.not_before.max(now.after(delay));
            self.failures = self.failures.saturating_add(1);
            self.round += 1;
            self.suspects.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule = Schedule {
        min: Duration::from_secs(1),
        max: Duration::from_secs(8),
    };

    fn fail(receiver: &mut Receiver, key: u64, round: u64, scope: Scope, after: u64) {
        let attempt = FailedAttempt {
            key: OrderKey::test(key),
            round,
            scope,
            after: Duration::from_secs(after),
        };
        let mut rng = fastrand::Rng::with_seed(key);
        receiver.failed(&attempt, ClockTime(0), &mut rng);
    }

    fn seconds(receiver: &Receiver) -> i64 {
        receiver.not_before.unix_seconds()
    }

    #[test]
    fn one_key_that_fails_for_ever_leaves_the_receiver_up() {
        let mut receiver = Receiver::new(SCHEDULE);
        for _ in 0..100 {
            fail(&mut receiver, 1, 0, Scope::Record, 0);
        }
        assert!(receiver.is_up());
        fail(&mut receiver, 2, 0, Scope::Record, 0);
        receiver.answered(0);
        fail(&mut receiver, 3, 0, Scope::Record, 0);
        fail(&mut receiver, 4, 0, Scope::Record, 0);
        assert!(receiver.is_up(), "a success between them clears the rest");
        fail(&mut receiver, 5, 0, Scope::Record, 0);
        fail(&mut receiver, 6, 0, Scope::Record, 0);
        assert!(!receiver.is_up());
    }

    #[test]
    fn what_was_in_flight_when_it_died_is_one_failure() {
        let mut receiver = Receiver::new(SCHEDULE);
        for key in 0..50 {
            fail(&mut receiver, key, 0, Scope::Receiver, 0);
        }
        assert_eq!((receiver.failures, receiver.round), (1, 1));
        assert_eq!(receiver.free_at(1, 50), None, "one attempt at a time");
        receiver.answered(0);
        assert!(!receiver.is_up(), "an answer of before says nothing");
        receiver.answered(1);
        assert!(receiver.is_up());
        assert_eq!(receiver.free_at(49, 50), Some(ClockTime(i64::MIN)));
    }

    #[test]
    fn a_server_is_given_the_time_that_it_asks_for() {
        let mut receiver = Receiver::new(SCHEDULE);
        fail(&mut receiver, 1, 0, Scope::Receiver, 100);
        assert_eq!(seconds(&receiver), 100);
        fail(&mut receiver, 2, 0, Scope::Receiver, 200);
        assert_eq!(seconds(&receiver), 200, "also by one of before");
        fail(&mut receiver, 2, 1, Scope::Record, 300);
        assert_eq!(seconds(&receiver), 200, "but not by what is one record's");
    }
}
