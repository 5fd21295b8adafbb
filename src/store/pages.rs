//! Single rows and pages of rows, for who looks into a store: what `query` is made of.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{DeadLetterRow, JournalRow, QuarantineHead, QuarantineRow, Snapshot, StoreError};
use crate::engine::graph::Node;
use crate::engine::notifications::Notification;
use crate::event::{ClockTime, NotificationId, ResourceName};
use crate::record::RecordKind;

impl Snapshot<'_> {
    /// One row of the graph.
    pub fn node(&self, name: &ResourceName) -> Result<Option<Arc<Node>>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.node(name)),
            Self::Sqlite(sqlite) => sqlite.node(name),
        }
    }

    /// The rows of the graph behind a name, in the order of names, at most `limit`.
    pub fn nodes_after(
        &self,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(ResourceName, Arc<Node>)>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.nodes_after(after, limit)),
            Self::Sqlite(sqlite) => sqlite.nodes_after(after, limit),
        }
    }

    /// The names of the graph's rows that end with this, in order, at most `limit`.
    pub fn names_with_end(&self, end: &str, limit: usize) -> Result<Vec<ResourceName>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.names_with_end(end, limit)),
            Self::Sqlite(sqlite) => sqlite.names_with_end(end, limit),
        }
    }

    /// One notification, visible or not.
    pub fn notification(&self, id: NotificationId) -> Result<Option<Notification>, StoreError> {
        match self {
            Self::Memory(memory) => memory.notification(id),
            Self::Sqlite(sqlite) => sqlite.notification(id),
        }
    }

    /// The notifications that are open, or those that are not, which come before a place in the
    /// order of `touched` and id; the last first, at most `limit`.
    pub fn notifications_before(
        &self,
        is_open: bool,
        before: (ClockTime, NotificationId),
        limit: usize,
    ) -> Result<Vec<(NotificationId, Notification)>, StoreError> {
        match self {
            Self::Memory(memory) => memory.notifications_before(is_open, before, limit),
            Self::Sqlite(sqlite) => sqlite.notifications_before(is_open, before, limit),
        }
    }

    /// The records between two numbers, both included, of these kinds (none: of all) and of this
    /// subject, at most `limit`. It looks at each record of the range, as there is no index.
    pub fn journal_matching(
        &self,
        range: (u64, u64),
        kinds: &[RecordKind],
        subject: Option<&str>,
        limit: usize,
    ) -> Result<Vec<JournalRow>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.journal_matching(range, kinds, subject, limit)),
            Self::Sqlite(sqlite) => sqlite.journal_matching(range, kinds, subject, limit),
        }
    }

    /// The messages in quarantine below a number, without their bodies; the newest first, at most
    /// `limit`.
    pub fn quarantine_before(
        &self,
        before: i64,
        limit: usize,
    ) -> Result<Vec<QuarantineHead>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.quarantine_before(before, limit)),
            Self::Sqlite(sqlite) => sqlite.quarantine_before(before, limit),
        }
    }

    /// One message in quarantine, with its body.
    pub fn quarantine_row(&self, id: i64) -> Result<Option<QuarantineRow>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.quarantine_row(id)),
            Self::Sqlite(sqlite) => sqlite.quarantine_row(id),
        }
    }

    /// The dead letters below a number; the newest first, at most `limit`.
    pub fn dead_letters_before(
        &self,
        before: i64,
        limit: usize,
    ) -> Result<Vec<DeadLetterRow>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.dead_letters_before(before, limit)),
            Self::Sqlite(sqlite) => sqlite.dead_letters_before(before, limit),
        }
    }

    /// The sequences of a sink's dead letters beyond a cursor: what it is not to deliver when it
    /// goes on from there.
    pub fn dead_letters_beyond(
        &self,
        sink: &str,
        cursor: u64,
    ) -> Result<BTreeSet<u64>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.dead_letters_beyond(sink, cursor)),
            Self::Sqlite(sqlite) => sqlite.dead_letters_beyond(sink, cursor),
        }
    }

    /// The numbers of all dead letters, in order.
    pub fn dead_letter_ids(&self) -> Result<Vec<i64>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.dead_letter_ids()),
            Self::Sqlite(sqlite) => sqlite.dead_letter_ids(),
        }
    }
}
