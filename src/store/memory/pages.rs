//! Single rows and pages of rows of the store in memory.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::Memory;
use super::rows::parse;
use crate::engine::graph::Node;
use crate::engine::notifications::Notification;
use crate::event::{ClockTime, NotificationId, ResourceName};
use crate::record::RecordKind;
use crate::store::error::StoreError;
use crate::store::rows::{DeadLetterRow, JournalRow, QuarantineHead, QuarantineRow};

impl Memory {
    pub(in crate::store) fn node(&self, name: &ResourceName) -> Option<Arc<Node>> {
        self.rows().nodes.get(name).cloned()
    }

    pub(in crate::store) fn nodes_after(
        &self,
        after: &str,
        limit: usize,
    ) -> Vec<(ResourceName, Arc<Node>)> {
        let rows = self.rows();
        let later = rows.nodes.iter().filter(|(name, _)| name.as_str() > after);
        later
            .take(limit)
            .map(|(name, node)| (name.clone(), Arc::clone(node)))
            .collect()
    }

    pub(in crate::store) fn names_with_end(&self, end: &str, limit: usize) -> Vec<ResourceName> {
        let rows = self.rows();
        let found = rows
            .nodes
            .keys()
            .filter(|name| name.as_str().ends_with(end));
        found.take(limit).cloned().collect()
    }

    pub(in crate::store) fn notification(
        &self,
        id: NotificationId,
    ) -> Result<Option<Notification>, StoreError> {
        let rows = self.rows();
        let row = rows.notifications.get(&id);
        row.map(|row| parse(id, row)).transpose()
    }

    pub(in crate::store) fn notifications_before(
        &self,
        is_open: bool,
        before: (ClockTime, NotificationId),
        limit: usize,
    ) -> Result<Vec<(NotificationId, Notification)>, StoreError> {
        let rows = self.rows();
        let mut found: Vec<_> = rows
            .notifications
            .iter()
            .filter(|(id, row)| row.deadline.is_some() == is_open && (row.touched, **id) < before)
            .collect();
        found.sort_by_key(|(id, row)| Reverse((row.touched, **id)));
        let page = found.into_iter().take(limit);
        page.map(|(id, row)| Ok((*id, parse(*id, row)?))).collect()
    }

    pub(in crate::store) fn journal_matching(
        &self,
        (first, last): (u64, u64),
        kinds: &[RecordKind],
        subject: Option<&str>,
        limit: usize,
    ) -> Vec<JournalRow> {
        let rows = self.rows();
        let start = rows.journal.partition_point(|row| row.sequence < first);
        let range = rows.journal.iter().skip(start);
        range
            .take_while(|row| row.sequence <= last)
            .filter(|row| subject.is_none_or(|subject| row.subject == subject))
            .filter(|row| kinds.is_empty() || kinds.contains(&row.kind))
            .take(limit)
            .map(|row| JournalRow::clone(row))
            .collect()
    }

    pub(in crate::store) fn quarantine_before(
        &self,
        before: i64,
        limit: usize,
    ) -> Vec<QuarantineHead> {
        let rows = self.rows();
        let newest = rows.quarantine.range(..before).rev().take(limit);
        let head = |(id, message): (&i64, _)| {
            let row = QuarantineRow::new(*id, message);
            QuarantineHead {
                id: row.id,
                received_at: row.received_at,
                platform: row.platform,
                reason: row.reason,
                detail: row.detail,
                message_id: row.message_id,
                place: row.place,
                bytes: row.raw.len() as u64,
            }
        };
        newest.map(head).collect()
    }

    pub(in crate::store) fn quarantine_row(&self, id: i64) -> Option<QuarantineRow> {
        let rows = self.rows();
        let message = rows.quarantine.get(&id)?;
        Some(QuarantineRow::new(id, message))
    }

    pub(in crate::store) fn dead_letters_before(
        &self,
        before: i64,
        limit: usize,
    ) -> Vec<DeadLetterRow> {
        let rows = self.rows();
        let newest = rows.dead_letters.range(..before).rev().take(limit);
        newest.map(|(_, row)| row.clone()).collect()
    }

    pub(in crate::store) fn dead_letters_beyond(&self, sink: &str, cursor: u64) -> BTreeSet<u64> {
        let rows = self.rows();
        let of_sink = rows.dead_letters.values().filter(|row| row.sink == sink);
        let sequences = of_sink.map(|row| row.last_sequence);
        sequences.filter(|sequence| *sequence > cursor).collect()
    }

    pub(in crate::store) fn dead_letter_ids(&self) -> Vec<i64> {
        self.rows().dead_letters.keys().copied().collect()
    }
}
