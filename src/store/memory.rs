//! The store of replay and tests: ordered maps, gone with the process.
//!
//! Keeps notifications as the JSON that SQLite would, which is smaller than the value and makes
//! both stores read back the same.

mod pages;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::DateTime;

use super::error::StoreError;
use super::rows::{
    Admin, Commit, Committed, DeadLetter, DeadLetterRow, JournalRow, QUARANTINE_MAX_BYTES,
    QuarantineRow, Retention, Settlement, ShownRow, SinkRow, Upkeep, quarantine_bytes,
};
use crate::engine::change::{Changes, Quarantined};
use crate::engine::graph::Node;
use crate::engine::notifications::Notification;
use crate::engine::reorder::{Held, SortKey};
use crate::engine::traits::{Fields, TraitRow};
use crate::engine::{Loaded, Lookup, Restored, Session};
use crate::event::{ClockTime, DedupeKey, NotificationId, ResourceName, SessionKey, Timestamp};

/// See the module's documentation. Its clones are the same store: its writer and its readers.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Rows>>);

impl Memory {
    /// A store that numbers records and does not keep them, for who writes them out at once.
    pub fn without_journal() -> Self {
        let rows = Rows {
            without_journal: true,
            ..Rows::default()
        };
        Self(Arc::new(Mutex::new(rows)))
    }

    /// A panic of whoever held the lock left every row whole: each is written in one go.
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn restore(&self) -> Result<Restored, StoreError> {
        self.rows().restore()
    }

    pub(super) fn load(&self, lookup: &Lookup) -> Result<Loaded, StoreError> {
        self.rows().load(lookup)
    }

    pub(super) fn commit(&self, commit: Commit) -> Result<Committed, StoreError> {
        self.rows().commit(commit)
    }

    pub(super) fn trim(&self, now: ClockTime, retention: &Retention) -> Upkeep {
        self.rows().trim(now, retention)
    }

    pub(super) fn clock(&self) -> ClockTime {
        self.rows().clock
    }

    pub(super) fn notifications(&self) -> Result<Vec<(NotificationId, Notification)>, StoreError> {
        let rows = self.rows();
        let parsed = rows.notifications.iter();
        parsed
            .map(|(id, row)| Ok((*id, parse(*id, row)?)))
            .collect()
    }

    pub(super) fn nodes(&self) -> Vec<(ResourceName, Node)> {
        self.rows().nodes()
    }

    pub(super) fn traits(&self, resource: &ResourceName) -> Vec<TraitRow> {
        let rows = self.rows();
        let of_resource = rows.traits.iter().filter(|((name, _), _)| name == resource);
        of_resource.map(trait_row).collect()
    }

    pub(super) fn journal(&self, after: u64, limit: usize) -> Vec<JournalRow> {
        let rows = self.rows();
        let start = rows.journal.partition_point(|row| row.sequence <= after);
        let page = rows.journal.iter().skip(start).take(limit);
        page.map(|row| JournalRow::clone(row)).collect()
    }

    pub(super) fn first_sequence(&self) -> Option<u64> {
        self.rows().journal.front().map(|row| row.sequence)
    }

    pub(super) fn last_sequence(&self) -> u64 {
        self.rows().last_sequence
    }

    pub(super) fn quarantine(&self, limit: usize) -> Vec<QuarantineRow> {
        let rows = self.rows();
        let skipped = rows.quarantine.len().saturating_sub(limit);
        let newest = rows.quarantine.iter().skip(skipped);
        newest
            .map(|(id, message)| QuarantineRow::new(*id, message))
            .collect()
    }

    pub(super) fn quarantine_ids(&self) -> Vec<i64> {
        self.rows().quarantine.keys().copied().collect()
    }

    pub(super) fn quarantined(&self, id: i64) -> Option<Quarantined> {
        self.rows().quarantine.get(&id).cloned()
    }

    pub(super) fn dead_letters(&self, limit: usize) -> Vec<DeadLetterRow> {
        let rows = self.rows();
        let skipped = rows.dead_letters.len().saturating_sub(limit);
        rows.dead_letters.values().skip(skipped).cloned().collect()
    }

    pub(super) fn sinks(&self) -> Vec<SinkRow> {
        self.rows().sinks.values().cloned().collect()
    }

    pub(super) fn shown(&self, sink: &str, notification: NotificationId) -> Option<ShownRow> {
        let key = (sink.to_owned(), notification);
        self.rows().shown.get(&key).cloned()
    }

    pub(super) fn bytes(&self) -> u64 {
        let rows = self.rows();
        rows.journal_bytes + rows.quarantine_bytes
    }
}

#[derive(Debug)]
struct StoredNotification {
    deadline: Option<ClockTime>,
    touched: ClockTime,
    state: Box<str>,
}

#[derive(Debug, Default)]
struct Rows {
    clock: ClockTime,
    payloads: BTreeMap<DedupeKey, ClockTime>,
    notifications: BTreeMap<NotificationId, StoredNotification>,
    members: BTreeSet<(SessionKey, NotificationId)>,
    clips: BTreeMap<(SessionKey, String), ClockTime>,
    released: BTreeMap<Arc<str>, (SortKey, ClockTime)>,
    held: BTreeMap<u64, Arc<Held>>,
    nodes: BTreeMap<ResourceName, Node>,
    traits: BTreeMap<(ResourceName, Arc<str>), Arc<Fields>>,
    without_journal: bool,
    journal: VecDeque<Arc<JournalRow>>,
    journal_bytes: u64,
    last_sequence: u64,
    quarantine: BTreeMap<i64, Quarantined>,
    last_quarantined: i64,
    quarantine_bytes: u64,
    sinks: BTreeMap<String, SinkRow>,
    dead_letters: BTreeMap<i64, DeadLetterRow>,
    last_dead_letter: i64,
    shown: BTreeMap<(String, NotificationId), ShownRow>,
}

impl Rows {
    fn restore(&self) -> Result<Restored, StoreError> {
        let deadlines = self.notifications.iter();
        Ok(Restored {
            clock: self.clock,
            held: self.held.values().map(|row| Held::clone(row)).collect(),
            deadlines: deadlines
                .filter_map(|(id, row)| Some((*id, row.deadline?)))
                .collect(),
            nodes: self.nodes(),
            traits: self.traits.iter().map(trait_row).collect(),
        })
    }

    fn load(&self, lookup: &Lookup) -> Result<Loaded, StoreError> {
        let mut loaded = Loaded::default();
        for key in &lookup.payloads {
            loaded
                .payloads
                .extend(self.payloads.get(key).map(|at| (*key, *at)));
        }
        for key in &lookup.ordering_keys {
            let row = self.released.get_key_value(key.as_str());
            loaded
                .ordering_keys
                .extend(row.map(|(key, row)| (Arc::clone(key), row.clone())));
        }
        let mut notifications = lookup.notifications.clone();
        for key in &lookup.session_members {
            let members = self.members(*key);
            notifications.extend(&members);
            loaded.sessions.insert(
                *key,
                Session {
                    members,
                    clips: self.clips(*key),
                },
            );
        }
        for key in lookup.session_clips.difference(&lookup.session_members) {
            let session = Session {
                clips: self.clips(*key),
                ..Session::default()
            };
            loaded.sessions.insert(*key, session);
        }
        for id in notifications {
            if let Some(row) = self.notifications.get(&id) {
                loaded.notifications.insert(id, Arc::new(parse(id, row)?));
            }
        }
        Ok(loaded)
    }

    fn members(&self, key: SessionKey) -> BTreeSet<NotificationId> {
        let (first, last) = (NotificationId([0; 16]), NotificationId([0xff; 16]));
        self.members
            .range((key, first)..=(key, last))
            .map(|(_, id)| *id)
            .collect()
    }

    fn clips(&self, key: SessionKey) -> BTreeMap<String, ClockTime> {
        let of_session = self.clips.range((key, String::new())..);
        let of_session = of_session.take_while(|((session, _), _)| *session == key);
        of_session
            .map(|((_, url), at)| (url.clone(), *at))
            .collect()
    }

    fn commit(&mut self, commit: Commit) -> Result<Committed, StoreError> {
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
            self.last_quarantined += 1;
            self.quarantine_bytes += quarantine_bytes(&message);
            self.quarantine.insert(self.last_quarantined, message);
        }
        let records = JournalRow::number(changes.records, self.last_sequence, changes.at);
        self.last_sequence += records.len() as u64;
        if !self.without_journal {
            self.journal_bytes += records.iter().map(|row| size(row)).sum::<u64>();
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
                for start in &starts {
                    let new = || SinkRow {
                        name: start.name.clone(),
                        cursor: start.cursor,
                        is_set: true,
                    };
                    let row = self.sinks.entry(start.name.clone()).or_insert_with(new);
                    row.is_set = true;
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

    fn trim(&mut self, now: ClockTime, retention: &Retention) -> Upkeep {
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
        let oldest = now.before(retention.journal_age);
        while let Some(row) = self.journal.front() {
            if row.at > oldest && self.journal_bytes <= retention.journal_bytes {
                break;
            }
            self.journal_bytes -= size(row);
            self.journal.pop_front();
        }
        let quarantined = self.quarantine.len();
        while self.quarantine_bytes > QUARANTINE_MAX_BYTES {
            let Some((_, message)) = self.quarantine.pop_first() else {
                break;
            };
            self.quarantine_bytes -= quarantine_bytes(&message);
        }
        Upkeep {
            quarantine_evicted: quarantined - self.quarantine.len(),
            ..Upkeep::default()
        }
    }

    fn nodes(&self) -> Vec<(ResourceName, Node)> {
        let nodes = self.nodes.iter();
        nodes
            .map(|(name, row)| (name.clone(), row.clone()))
            .collect()
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

fn dead_letter_row(id: i64, sink: &str, letter: DeadLetter, at: ClockTime) -> DeadLetterRow {
    DeadLetterRow {
        id,
        at: Timestamp::from_utc(DateTime::from_timestamp_nanos(at.0)).to_string(),
        sink: sink.to_owned(),
        first_sequence: letter.sequence,
        last_sequence: letter.sequence,
        reason: letter.reason.as_ref().to_owned(),
        detail: letter.detail,
        record: serde_json::value::RawValue::from_string(letter.line).ok(),
    }
}

fn trait_row(((resource, name), fields): (&(ResourceName, Arc<str>), &Arc<Fields>)) -> TraitRow {
    TraitRow {
        resource: resource.clone(),
        name: Arc::clone(name),
        fields: Arc::clone(fields),
    }
}

fn size(row: &JournalRow) -> u64 {
    row.line.len() as u64
}

fn parse(id: NotificationId, row: &StoredNotification) -> Result<Notification, StoreError> {
    serde_json::from_str(&row.state).map_err(|source| StoreError::BadRow {
        table: "notifications",
        key: id.to_string(),
        source,
    })
}
