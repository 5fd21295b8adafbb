//! What a commit writes to a store in memory.

use std::sync::Arc;

use super::rows::{Rows, StoredNotification};
use super::trim::{shown_time, size};
use crate::engine::change::Changes;
use crate::event::ClockTime;
use crate::store::error::StoreError;
use crate::store::rows::{
    Admin, Commit, Committed, DeadLetter, DeadLetterRow, JournalRow, Settlement, SinkRow,
    SinkStart, quarantine_bytes,
};

impl Rows {
    pub(super) fn commit(&mut self, commit: Commit) -> Result<Committed, StoreError> {
        let Commit {
            changes,
            settled,
            admin,
        } = commit;
        let records = self.write(changes)?;
        let at = self.clock;
        settled
            .into_iter()
            .for_each(|of_sink| self.settle(of_sink, at));
        let affected = admin
            .into_iter()
            .map(|admin| self.administer(admin))
            .collect();
        Ok(Committed { records, affected })
    }

    fn write(&mut self, changes: Changes) -> Result<Vec<Arc<JournalRow>>, StoreError> {
        // What only sinks and operators changed has no time of its own.
        self.clock = self.clock.max(changes.at);
        self.payloads.extend(changes.seen);
        for (id, state) in changes.notifications {
            let text = serde_json::to_string(&*state).map_err(|source| StoreError::BadRow {
                table: "notifications",
                key: id.to_string(),
                source,
            })?;
            let (deadline, touched) = (state.deadline, state.touched);
            let row = StoredNotification {
                deadline,
                touched,
                state: text.into(),
            };
            self.notifications.insert(id, row);
        }
        self.members.extend(changes.members);
        let clips = changes.clips.into_iter();
        self.clips
            .extend(clips.map(|(session, url, at)| ((session, url), at)));
        for dropped in &changes.dropped_clips {
            self.clips.remove(dropped);
        }
        self.released.extend(changes.released);
        for arrival in &changes.released_arrivals {
            self.held.remove(arrival);
        }
        self.held
            .extend(changes.held.into_iter().map(|row| (row.arrival, row)));
        self.nodes.extend(changes.nodes);
        let traits = changes.traits.into_iter();
        self.traits
            .extend(traits.map(|row| ((row.resource, row.name), row.fields)));
        for dropped in &changes.dropped_traits {
            self.traits.remove(dropped);
        }
        self.drop_quarantined(changes.retried.as_slice());
        for message in changes.quarantined {
            let bytes = quarantine_bytes(&message);
            self.last_quarantined += 1;
            self.quarantine_bytes += bytes;
            self.trim.wrote(0, bytes);
            self.quarantine.insert(self.last_quarantined, message);
        }
        let records = JournalRow::number(changes.drafts, self.last_sequence, changes.at);
        self.last_sequence += records.len() as u64;
        if !self.without_journal {
            let bytes = records.iter().map(|row| size(row)).sum();
            self.journal_bytes += bytes;
            self.trim.wrote(bytes, 0);
            self.journal.extend(records.iter().cloned());
        }
        Ok(records)
    }

    fn settle(&mut self, settlement: Settlement, at: ClockTime) {
        let Settlement {
            sink,
            cursor,
            dead_letters,
            shown,
        } = settlement;
        let row = self.sinks.entry(sink.clone()).or_insert_with(|| SinkRow {
            name: sink.clone(),
            cursor: 0,
            is_set: true,
        });
        row.cursor = row.cursor.max(cursor);
        for letter in dead_letters {
            self.last_dead_letter += 1;
            let row = dead_letter_row(self.last_dead_letter, &sink, letter, at);
            self.dead_letters.insert(row.id, row);
        }
        for row in shown {
            self.shown.insert((sink.clone(), row.notification), row);
        }
    }

    /// Returns how many rows went, or changed.
    fn administer(&mut self, admin: Admin) -> usize {
        match admin {
            Admin::SetSinks(starts) => {
                self.sinks.values_mut().for_each(|row| row.is_set = false);
                // To a sink that is back, what left the journal meanwhile is not due.
                let kept = self.journal.front();
                let gone = kept.map_or(self.last_sequence, |row| row.sequence - 1);
                for start in &starts {
                    match self.sinks.get_mut(&start.name) {
                        Some(row) => {
                            row.cursor = row.cursor.max(gone);
                            row.is_set = true;
                        }
                        None => drop(self.sinks.insert(start.name.clone(), sink_row(start))),
                    }
                }
                starts.len()
            }
            Admin::DropQuarantined(ids) => self.drop_quarantined(&ids),
            Admin::DropDeadLetters(ids) => {
                let there = ids
                    .iter()
                    .filter(|id| self.dead_letters.remove(id).is_some());
                there.count()
            }
        }
    }

    fn drop_quarantined(&mut self, ids: &[i64]) -> usize {
        let dropped: Vec<_> = ids
            .iter()
            .filter_map(|id| self.quarantine.remove(id))
            .collect();
        self.quarantine_bytes -= dropped.iter().map(quarantine_bytes).sum::<u64>();
        dropped.len()
    }
}

fn sink_row(start: &SinkStart) -> SinkRow {
    SinkRow {
        name: start.name.clone(),
        cursor: start.cursor,
        is_set: true,
    }
}

fn dead_letter_row(id: i64, sink: &str, letter: DeadLetter, at: ClockTime) -> DeadLetterRow {
    DeadLetterRow {
        id,
        at: shown_time(at),
        sink: sink.to_owned(),
        first_sequence: letter.sequence,
        last_sequence: letter.sequence,
        reason: letter.reason.as_ref().to_owned(),
        detail: letter.detail,
        record: serde_json::value::RawValue::from_string(letter.line).ok(),
    }
}
