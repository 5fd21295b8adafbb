//! What a store in memory forgets: all that is past its retention, in one go.

use chrono::DateTime;

use super::rows::Rows;
use crate::event::{ClockTime, Timestamp};
use crate::store::rows::{
    DeadLetterRange, DeadLetterReason, DeadLetterRow, JournalRow, QUARANTINE_MAX_BYTES, Retention,
    Upkeep, quarantine_bytes,
};

impl Rows {
    pub(super) fn upkeep(&mut self, now: ClockTime, retention: &Retention) -> Upkeep {
        if !self.trim.is_due(now, retention) {
            return Upkeep::default();
        }
        self.trim.done(now, retention);
        self.trim(now, retention)
    }

    pub(super) fn trim(&mut self, now: ClockTime, retention: &Retention) -> Upkeep {
        let kept = now.before(retention.horizon);
        self.payloads.retain(|_, at| *at > kept);
        self.notifications
            .retain(|_, row| row.deadline.is_some() || row.touched > kept);
        self.members
            .retain(|(_, id)| self.notifications.contains_key(id));
        self.shown
            .retain(|(_, id), _| self.notifications.contains_key(id));
        self.clips.retain(|_, at| *at > kept);
        self.released.retain(|_, (_, at)| *at > kept);
        let dead_letters = self.trim_journal(now, retention);
        let quarantined = self.quarantine.len();
        while self.quarantine_bytes > QUARANTINE_MAX_BYTES {
            let Some((_, message)) = self.quarantine.pop_first() else {
                break;
            };
            self.quarantine_bytes -= quarantine_bytes(&message);
        }
        Upkeep {
            more: false,
            dead_letters,
            quarantine_evicted: quarantined - self.quarantine.len(),
        }
    }

    fn trim_journal(&mut self, now: ClockTime, retention: &Retention) -> Vec<DeadLetterRange> {
        let expired = now.before(retention.journal_age);
        let mut last = None;
        while let Some(row) = self.journal.front() {
            if row.at > expired && self.journal_bytes <= retention.journal_bytes {
                break;
            }
            self.journal_bytes -= size(row);
            last = self.journal.pop_front();
        }
        let Some(last) = last else {
            return Vec::new();
        };
        let reason = if last.at <= expired {
            DeadLetterReason::JournalExpired
        } else {
            DeadLetterReason::JournalFull
        };
        self.overtake_sinks(last.sequence, reason, now)
    }

    /// Records that a sink had not acknowledged go to its dead letters, as one range.
    fn overtake_sinks(
        &mut self,
        last: u64,
        reason: DeadLetterReason,
        now: ClockTime,
    ) -> Vec<DeadLetterRange> {
        let sinks = self.sinks.values_mut();
        let behind = sinks.filter(|row| row.is_set && row.cursor < last);
        let ranges = behind.map(|row| {
            let first = std::mem::replace(&mut row.cursor, last) + 1;
            let sink = row.name.clone();
            DeadLetterRange {
                sink,
                first,
                last,
                reason,
            }
        });
        let ranges: Vec<_> = ranges.collect();
        for range in &ranges {
            self.note_range(range, now);
        }
        ranges
    }

    /// Notes a range that a sink lost: as part of the one that ends where it begins, if there is
    /// one.
    fn note_range(&mut self, range: &DeadLetterRange, now: ClockTime) {
        let ends_before = |row: &&mut DeadLetterRow| {
            row.sink == range.sink
                && row.last_sequence + 1 == range.first
                && row.reason == range.reason.as_ref()
                && row.record.is_none()
        };
        if let Some(row) = self.dead_letters.values_mut().find(ends_before) {
            row.last_sequence = range.last;
            row.at = shown_time(now);
            return;
        }
        self.last_dead_letter += 1;
        let row = DeadLetterRow {
            id: self.last_dead_letter,
            at: shown_time(now),
            sink: range.sink.clone(),
            first_sequence: range.first,
            last_sequence: range.last,
            reason: range.reason.as_ref().to_owned(),
            detail: String::new(),
            record: None,
        };
        self.dead_letters.insert(row.id, row);
    }
}

pub(super) fn shown_time(at: ClockTime) -> String {
    Timestamp::from_utc(DateTime::from_timestamp_nanos(at.0)).to_string()
}

/// Bytes that count towards `store.journal_max_size`.
pub(super) fn size(row: &JournalRow) -> u64 {
    row.line.len() as u64
}
