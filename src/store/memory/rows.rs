//! The rows of a store in memory, and what is read back of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::engine::change::Quarantined;
use crate::engine::graph::Node;
use crate::engine::held::{Held, SortKey};
use crate::engine::notifications::Notification;
use crate::engine::traits::{Fields, TraitRow};
use crate::engine::{Loaded, Lookup, Restored, Session};
use crate::event::{ClockTime, DedupeKey, NotificationId, ResourceName, SessionKey};
use crate::store::due::TrimDue;
use crate::store::error::StoreError;
use crate::store::rows::{DeadLetterRow, JournalRow, QuarantineRow, ShownRow, SinkRow};

#[derive(Debug)]
pub(super) struct StoredNotification {
    pub(super) deadline: Option<ClockTime>,
    pub(super) touched: ClockTime,
    pub(super) state: Box<str>,
}

/// Every table.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) clock: ClockTime,
    pub(super) payloads: BTreeMap<DedupeKey, ClockTime>,
    pub(super) notifications: BTreeMap<NotificationId, StoredNotification>,
    pub(super) members: BTreeSet<(SessionKey, NotificationId)>,
    pub(super) clips: BTreeMap<(SessionKey, String), ClockTime>,
    pub(super) released: BTreeMap<Arc<str>, (SortKey, ClockTime)>,
    pub(super) held: BTreeMap<u64, Arc<Held>>,
    pub(super) nodes: BTreeMap<ResourceName, Arc<Node>>,
    pub(super) traits: BTreeMap<(ResourceName, Arc<str>), Fields>,
    pub(super) without_journal: bool,
    pub(super) journal: VecDeque<Arc<JournalRow>>,
    pub(super) journal_bytes: u64,
    pub(super) last_sequence: u64,
    pub(super) quarantine: BTreeMap<i64, Quarantined>,
    pub(super) last_quarantined: i64,
    pub(super) quarantine_bytes: u64,
    pub(super) sinks: BTreeMap<String, SinkRow>,
    pub(super) dead_letters: BTreeMap<i64, DeadLetterRow>,
    pub(super) last_dead_letter: i64,
    pub(super) shown: BTreeMap<(String, NotificationId), ShownRow>,
    pub(super) trim: TrimDue,
}

impl Rows {
    pub(super) fn without_journal() -> Self {
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

    pub(super) fn clock(&self) -> ClockTime {
        self.clock
    }

    pub(super) fn notifications(&self) -> Result<Vec<(NotificationId, Notification)>, StoreError> {
        let rows = self.notifications.iter();
        rows.map(|(id, row)| Ok((*id, parse(*id, row)?))).collect()
    }

    pub(super) fn traits(&self, resource: &ResourceName) -> Vec<TraitRow> {
        let rows = self.traits.iter();
        rows.filter(|((name, _), _)| name == resource)
            .map(trait_row)
            .collect()
    }

    pub(super) fn journal(&self, after: u64, limit: usize) -> Vec<JournalRow> {
        let start = self.journal.partition_point(|row| row.sequence <= after);
        let page = self.journal.iter().skip(start).take(limit);
        page.map(|row| JournalRow::clone(row)).collect()
    }

    pub(super) fn first_sequence(&self) -> Option<u64> {
        self.journal.front().map(|row| row.sequence)
    }

    pub(super) fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    pub(super) fn quarantine(&self, limit: usize) -> Vec<QuarantineRow> {
        let skipped = self.quarantine.len().saturating_sub(limit);
        let newest = self.quarantine.iter().skip(skipped);
        newest
            .map(|(id, message)| QuarantineRow::new(*id, message))
            .collect()
    }

    pub(super) fn quarantine_ids(&self) -> Vec<i64> {
        self.quarantine.keys().copied().collect()
    }

    pub(super) fn quarantined(&self, id: i64) -> Option<Quarantined> {
        self.quarantine.get(&id).cloned()
    }

    pub(super) fn dead_letters(&self, limit: usize) -> Vec<DeadLetterRow> {
        let skipped = self.dead_letters.len().saturating_sub(limit);
        self.dead_letters.values().skip(skipped).cloned().collect()
    }

    pub(super) fn sinks(&self) -> Vec<SinkRow> {
        self.sinks.values().cloned().collect()
    }

    pub(super) fn shown(&self, sink: &str, notification: NotificationId) -> Option<ShownRow> {
        let key = (sink.to_owned(), notification);
        self.shown.get(&key).cloned()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.journal_bytes + self.quarantine_bytes
    }

    pub(super) fn nodes(&self) -> Vec<(ResourceName, Arc<Node>)> {
        let nodes = self.nodes.iter();
        nodes
            .map(|(name, row)| (name.clone(), Arc::clone(row)))
            .collect()
    }
}

fn trait_row(((resource, name), fields): (&(ResourceName, Arc<str>), &Fields)) -> TraitRow {
    TraitRow {
        resource: resource.clone(),
        name: Arc::clone(name),
        fields: fields.clone(),
    }
}

pub(super) fn parse(
    id: NotificationId,
    row: &StoredNotification,
) -> Result<Notification, StoreError> {
    serde_json::from_str(&row.state).map_err(|source| StoreError::BadRow {
        table: "notifications",
        key: id.to_string(),
        source,
    })
}
