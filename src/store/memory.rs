//! The store of replay and tests: ordered maps, gone with the process.
//!
//! Keeps notifications as the JSON that SQLite would, which is smaller than the value and makes
//! both stores read back the same.

mod pages;
mod rows;
mod trim;
mod write;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::rows::Rows;
use super::error::StoreError;
use super::rows::{
    Commit, Committed, DeadLetterRow, JournalRow, QuarantineRow, Retention, ShownRow, SinkRow,
    Upkeep,
};
use crate::engine::change::Quarantined;
use crate::engine::graph::Node;
use crate::engine::notifications::Notification;
use crate::engine::traits::TraitRow;
use crate::engine::{Loaded, Lookup, Restored};
use crate::event::{ClockTime, NotificationId, ResourceName};

/// See the module's documentation. Its clones are the same store: its writer and its readers.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Rows>>);

impl Memory {
    /// A store that numbers records and does not keep them, for who writes them out at once.
    pub fn without_journal() -> Self {
        Self(Arc::new(Mutex::new(Rows::without_journal())))
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

    pub(super) fn upkeep(&self, now: ClockTime, retention: &Retention) -> Upkeep {
        self.rows().upkeep(now, retention)
    }

    pub(super) fn trim(&self, now: ClockTime, retention: &Retention) -> Upkeep {
        self.rows().trim(now, retention)
    }

    pub(super) fn clock(&self) -> ClockTime {
        self.rows().clock()
    }

    pub(super) fn notifications(&self) -> Result<Vec<(NotificationId, Notification)>, StoreError> {
        self.rows().notifications()
    }

    pub(super) fn nodes(&self) -> Vec<(ResourceName, Arc<Node>)> {
        self.rows().nodes()
    }

    pub(super) fn traits(&self, resource: &ResourceName) -> Vec<TraitRow> {
        self.rows().traits(resource)
    }

    pub(super) fn journal(&self, after: u64, limit: usize) -> Vec<JournalRow> {
        self.rows().journal(after, limit)
    }

    pub(super) fn first_sequence(&self) -> Option<u64> {
        self.rows().first_sequence()
    }

    pub(super) fn last_sequence(&self) -> u64 {
        self.rows().last_sequence()
    }

    pub(super) fn quarantine(&self, limit: usize) -> Vec<QuarantineRow> {
        self.rows().quarantine(limit)
    }

    pub(super) fn quarantine_ids(&self) -> Vec<i64> {
        self.rows().quarantine_ids()
    }

    pub(super) fn quarantined(&self, id: i64) -> Option<Quarantined> {
        self.rows().quarantined(id)
    }

    pub(super) fn dead_letters(&self, limit: usize) -> Vec<DeadLetterRow> {
        self.rows().dead_letters(limit)
    }

    pub(super) fn sinks(&self) -> Vec<SinkRow> {
        self.rows().sinks()
    }

    pub(super) fn shown(&self, sink: &str, notification: NotificationId) -> Option<ShownRow> {
        self.rows().shown(sink, notification)
    }

    pub(super) fn last_arrival(&self) -> Option<ClockTime> {
        self.rows().payloads.values().max().copied()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.rows().bytes()
    }
}
