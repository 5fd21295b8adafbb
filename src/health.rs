//! What the running service says of itself: alive, ready, and how it does in one line.
//!
//! The parts that know set it; HTTP and the supervisor show it. It holds no personal data.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use crate::event::ClockTime;
use crate::sources::SourceChange;
use crate::text::spell_duration;

/// Longest silence of the pipeline before it counts as stuck. It wakes every second; a commit on a
/// slow disk takes seconds, never this long.
pub const STUCK_AFTER: Duration = Duration::from_secs(30);

/// What the parts say of themselves. Times are the engine's clock; 0 means never.
#[derive(Debug, Default)]
pub struct Health {
    ready: AtomicBool,
    heartbeat: AtomicI64,
    store_fails: AtomicBool,
    connections_up: AtomicU32,
    last_message: AtomicI64,
}

impl Health {
    /// The pipeline is alive at that time.
    pub fn beat(&self, now: ClockTime) {
        self.heartbeat.store(now.0, Ordering::Relaxed);
    }

    /// The store is recovered and the settings are valid.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// The last attempt at the store succeeded, or failed.
    pub fn set_store_works(&self, works: bool) {
        self.store_fails.store(!works, Ordering::Relaxed);
    }

    /// Something happened at a source, whichever it is.
    pub fn note_source_change(&self, change: SourceChange, now: ClockTime) {
        match change {
            SourceChange::Up => {
                self.connections_up.fetch_add(1, Ordering::Relaxed);
            }
            SourceChange::Down => {
                self.connections_up.fetch_sub(1, Ordering::Relaxed);
            }
            SourceChange::Received => self.last_message.store(now.0, Ordering::Relaxed),
            SourceChange::Acked | SourceChange::Returned | SourceChange::Pubsub(_) => {}
        }
    }

    /// True once the store is recovered and the settings are valid.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// True while the pipeline makes progress, be it only that it tries again.
    pub fn is_alive(&self, now: ClockTime) -> bool {
        now.since(ClockTime(self.heartbeat.load(Ordering::Relaxed))) < STUCK_AFTER
    }

    /// How the service does, such as `pipeline ok, store ok, source up, last message 5s ago`.
    pub fn status(&self, now: ClockTime) -> String {
        let pipeline = if self.is_alive(now) { "ok" } else { "stuck" };
        let store = if self.store_fails.load(Ordering::Relaxed) {
            "failing"
        } else {
            "ok"
        };
        let source = if self.connections_up.load(Ordering::Relaxed) > 0 {
            "up"
        } else {
            "down"
        };
        let message = match self.last_message.load(Ordering::Relaxed) {
            0 => "no message yet".to_owned(),
            at => {
                let age = now.since(ClockTime(at));
                format!("last message {} ago", spell_duration(age))
            }
        };
        format!("pipeline {pipeline}, store {store}, source {source}, {message}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: ClockTime = ClockTime(1_000_000_000_000);

    #[test]
    fn a_pipeline_without_a_heartbeat_is_stuck() {
        let health = Health::default();
        assert!(!health.is_alive(START), "it never beat");
        health.beat(START);
        assert!(health.is_alive(START.after(STUCK_AFTER - Duration::from_nanos(1))));
        assert!(!health.is_alive(START.after(STUCK_AFTER)));
        assert!(
            health
                .status(START.after(STUCK_AFTER))
                .starts_with("pipeline stuck, ")
        );
    }

    #[test]
    fn the_status_names_each_part() {
        let health = Health::default();
        health.beat(START);
        assert_eq!(
            health.status(START),
            "pipeline ok, store ok, source down, no message yet"
        );
        health.set_store_works(false);
        health.note_source_change(SourceChange::Up, START);
        health.note_source_change(SourceChange::Received, START);
        let later = START.after(Duration::from_millis(65_900));
        health.beat(later);
        assert_eq!(
            health.status(later),
            "pipeline ok, store failing, source up, last message 1m 5s ago"
        );
        health.set_store_works(true);
        health.note_source_change(SourceChange::Down, later);
        assert!(
            health
                .status(later)
                .starts_with("pipeline ok, store ok, source down, last")
        );
    }
}
