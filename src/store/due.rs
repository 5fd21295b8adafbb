//! When a store has to forget something again.

use super::rows::{QUARANTINE_MAX_BYTES, Retention};
use crate::event::ClockTime;

/// Trims per bound of time or size, so that a store stays within a sixteenth of each.
const TRIMS_PER_BOUND: u32 = 16;

/// What was written since the last trim, and when the next one is due at the latest.
#[derive(Debug, Default)]
pub(super) struct TrimDue {
    at: ClockTime,
    journal_bytes: u64,
    quarantine_bytes: u64,
}

impl TrimDue {
    /// Notes the bytes of records and of messages in quarantine that a commit wrote.
    pub(super) fn wrote(&mut self, journal_bytes: u64, quarantine_bytes: u64) {
        self.journal_bytes += journal_bytes;
        self.quarantine_bytes += quarantine_bytes;
    }

    pub(super) fn is_due(&self, now: ClockTime, retention: &Retention) -> bool {
        let is_much = |written, bound| written >= bound / u64::from(TRIMS_PER_BOUND);
        now >= self.at
            || is_much(self.journal_bytes, retention.journal_bytes)
            || is_much(self.quarantine_bytes, QUARANTINE_MAX_BYTES)
    }

    /// Nothing is left to forget for now.
    pub(super) fn done(&mut self, now: ClockTime, retention: &Retention) {
        *self = Self {
            at: now.after(retention.shortest() / TRIMS_PER_BOUND),
            ..Self::default()
        };
    }
}
