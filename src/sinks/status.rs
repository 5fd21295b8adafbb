//! What others see of a sink while it works, also while it is stuck in a delivery.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::event::ClockTime;

/// Longest time for one delivery before the sink counts as down. It does tens of milliseconds of
/// work; a receiver that does not read can hold it for ever.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// The value of `began` while nothing is being delivered.
const IDLE: i64 = i64::MIN;

/// The value of `oldest` while there is none.
const NONE: i64 = i64::MIN;

/// See the module's documentation.
#[derive(Debug)]
pub struct Status {
    name: String,
    cursor: AtomicU64,
    up: AtomicBool,
    began: AtomicI64,
    /// When the oldest record was written that it has and could not deliver yet.
    oldest: AtomicI64,
}

impl Status {
    pub(super) fn new(name: String, cursor: u64) -> Self {
        Self {
            name,
            cursor: AtomicU64::new(cursor),
            up: AtomicBool::new(true),
            began: AtomicI64::new(IDLE),
            oldest: AtomicI64::new(NONE),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number up to which every record is settled.
    pub fn cursor(&self) -> u64 {
        self.cursor.load(Relaxed)
    }

    /// False if the last delivery failed, or one has been under way for too long.
    pub fn is_up(&self, now: ClockTime) -> bool {
        let began = self.began.load(Relaxed);
        let is_stuck = began != IDLE && now.since(ClockTime(began)) >= STUCK_AFTER;
        self.up.load(Relaxed) && !is_stuck
    }

    /// When the oldest record was written that it has and could not deliver yet.
    pub fn oldest(&self) -> Option<ClockTime> {
        let oldest = self.oldest.load(Relaxed);
        (oldest != NONE).then_some(ClockTime(oldest))
    }

    pub(super) fn show_oldest(&self, oldest: Option<ClockTime>) {
        self.oldest.store(oldest.map_or(NONE, |at| at.0), Relaxed);
    }

    pub(super) fn settle(&self, cursor: u64) {
        self.cursor.store(cursor, Relaxed);
    }

    pub(super) fn set_up(&self, up: bool) {
        self.up.store(up, Relaxed);
    }

    /// A delivery begins.
    pub(super) fn begin(&self, now: ClockTime) {
        self.began.store(now.0, Relaxed);
    }

    /// The delivery is over.
    pub(super) fn end(&self) {
        self.began.store(IDLE, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_that_takes_too_long_counts_as_down() {
        let status = Status::new("bell".to_owned(), 7);
        let start = ClockTime(1_000_000_000_000);
        assert!(
            status.is_up(start.after(STUCK_AFTER)),
            "nothing is under way"
        );
        status.begin(start);
        let last = start.after(STUCK_AFTER - Duration::from_nanos(1));
        assert!(status.is_up(last));
        assert!(!status.is_up(start.after(STUCK_AFTER)));
        status.end();
        assert!(status.is_up(start.after(STUCK_AFTER)));
        status.set_up(false);
        assert!(!status.is_up(start));
        assert_eq!((status.name(), status.cursor()), ("bell", 7));
        assert_eq!(status.oldest(), None);
        status.show_oldest(Some(start));
        assert_eq!(status.oldest(), Some(start));
    }
}
