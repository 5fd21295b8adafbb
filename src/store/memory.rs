//! The store of replay and tests: ordered maps, gone with the process.
//!
//! Keeps notifications as the JSON that SQLite would, which is smaller than the value and makes
//! both stores read back the same.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::{
    JournalRow, QUARANTINE_MAX_BYTES, QuarantineRow, Retention, StoreError, quarantine_bytes,
};
use crate::engine::change::{Changes, Quarantined};
use crate::engine::graph::Node;
use crate::engine::notifications::Notification;
use crate::engine::reorder::{Held, SortKey};
use crate::engine::traits::{Fields, TraitRow};
use crate::engine::{Loaded, Lookup, Restored, Session};
use crate::event::{ClockTime, DedupeKey, NotificationId, ResourceName, SessionKey};

#[derive(Debug)]
struct StoredNotification {
    deadline: Option<ClockTime>,
    touched: ClockTime,
    state: Box<str>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Memory {
    clock: ClockTime,
    payloads: BTreeMap<DedupeKey, ClockTime>,
    notifications: BTreeMap<NotificationId, StoredNotification>,
    members: BTreeSet<(SessionKey, NotificationId)>,
    clips: BTreeMap<(SessionKey, String), ClockTime>,
    released: BTreeMap<Arc<str>, (SortKey, ClockTime)>,
    held: BTreeMap<u64, Arc<Held>>,
    nodes: BTreeMap<ResourceName, Arc<Node>>,
    traits: BTreeMap<(ResourceName, Arc<str>), Fields>,
    without_journal: bool,
    journal: VecDeque<(JournalRow, ClockTime)>,
    journal_bytes: u64,
    last_sequence: u64,
    quarantine: BTreeMap<i64, Quarantined>,
    last_quarantined: i64,
    quarantine_bytes: u64,
    cursors: BTreeMap<String, u64>,
}

impl Memory {
    /// A store that numbers records and does not keep them, for who writes them out at once.
    pub fn without_journal() -> Self {
        Self {
            without_journal: true,
            ..Self::default()
        }
    }

    pub(super) fn restore(&self) -> Result<Restored, StoreError> {
        let held = self.held.values().map(|row| Held::clone(row)).collect();
        let notifications = self.notifications.iter();
        let deadlines = notifications.filter_map(|(id, row)| Some((*id, row.deadline?)));
        let mut restored = Restored::new(self.clock, held, deadlines.collect());
        for (name, row) in &self.nodes {
            restored.add_node(name.clone(), Arc::clone(row));
        }
        for row in &self.traits {
            restored.add_trait(trait_row(row));
        }
        Ok(restored)
    }

    pub(super) fn load(&self, lookup: &Lookup) -> Result<Loaded, StoreError> {
        let mut loaded = Loaded::default();
        for key in &lookup.payloads {
            loaded
                .payloads
                .extend(self.payloads.get(key).map(|at| (*key, *at)));
        }
        for key in &lookup.ordering_keys {
            let row = self.released.get_key_value(key);
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

    pub(super) fn commit(&mut self, changes: Changes) -> Result<Vec<JournalRow>, StoreError> {
        self.clock = changes.at;
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
        let rows = JournalRow::number(changes.drafts, self.last_sequence);
        self.last_sequence += rows.len() as u64;
        if !self.without_journal {
            self.journal_bytes += rows.iter().map(size).sum::<u64>();
            self.journal
                .extend(rows.iter().map(|row| (row.clone(), changes.at)));
        }
        Ok(rows)
    }

    /// Returns how many messages went from quarantine.
    pub(super) fn trim(&mut self, now: ClockTime, retention: &Retention) -> usize {
        let kept = now.before(retention.horizon);
        self.payloads.retain(|_, at| *at > kept);
        self.notifications
            .retain(|_, row| row.deadline.is_some() || row.touched > kept);
        self.members
            .retain(|(_, id)| self.notifications.contains_key(id));
        self.clips.retain(|_, at| *at > kept);
        self.released.retain(|_, (_, at)| *at > kept);
        let oldest = now.before(retention.journal_age);
        while let Some((row, at)) = self.journal.front() {
            if *at > oldest && self.journal_bytes <= retention.journal_bytes {
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
        quarantined - self.quarantine.len()
    }

    pub(super) fn notifications(&self) -> Result<Vec<(NotificationId, Notification)>, StoreError> {
        self.notifications
            .iter()
            .map(|(id, row)| Ok((*id, parse(*id, row)?)))
            .collect()
    }

    pub(super) fn journal(&self, after: u64, limit: usize) -> Vec<JournalRow> {
        let start = self
            .journal
            .partition_point(|(row, _)| row.sequence <= after);
        self.journal
            .iter()
            .skip(start)
            .take(limit)
            .map(|(row, _)| row.clone())
            .collect()
    }

    pub(super) fn quarantine(&self, limit: usize) -> Vec<QuarantineRow> {
        let skipped = self.quarantine.len().saturating_sub(limit);
        let newest = self.quarantine.iter().skip(skipped);
        newest
            .map(|(id, message)| QuarantineRow::new(*id, message))
            .collect()
    }

    pub(super) fn quarantined(&self, id: i64) -> Option<Quarantined> {
        self.quarantine.get(&id).cloned()
    }

    pub(super) fn drop_quarantined(&mut self, ids: &[i64]) -> usize {
        let dropped: Vec<_> = ids
            .iter()
            .filter_map(|id| self.quarantine.remove(id))
            .collect();
        self.quarantine_bytes -= dropped.iter().map(quarantine_bytes).sum::<u64>();
        dropped.len()
    }

    pub(super) fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    pub(super) fn cursor(&self, sink: &str) -> u64 {
        self.cursors.get(sink).copied().unwrap_or_default()
    }

    pub(super) fn set_cursor(&mut self, sink: &str, sequence: u64) {
        let cursor = self.cursors.entry(sink.to_owned()).or_default();
        *cursor = sequence.max(*cursor);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.journal_bytes + self.quarantine_bytes
    }
}

fn trait_row(((resource, name), fields): (&(ResourceName, Arc<str>), &Fields)) -> TraitRow {
    TraitRow {
        resource: resource.clone(),
        name: Arc::clone(name),
        fields: fields.clone(),
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
