//! Single rows and pages of rows, for who looks into a store. No question reads a whole table but
//! where its comment says so.

use std::collections::BTreeSet;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::meta::integer;
use super::read::{dead_letter_row, journal_row, json, named, quarantine_row, rows};
use super::reader::Snapshot;
use crate::engine::graph::Node;
use crate::engine::notifications::Notification;
use crate::event::{ClockTime, NotificationId, ResourceName};
use crate::record::RecordKind;
use crate::store::error::StoreError;
use crate::store::rows::{DeadLetterRow, JournalRow, QuarantineHead, QuarantineRow};

type NodeRow = (ResourceName, Arc<Node>);
type NotificationRow = (NotificationId, Notification);

impl Snapshot<'_> {
    pub(in crate::store) fn node(
        &self,
        name: &ResourceName,
    ) -> Result<Option<Arc<Node>>, StoreError> {
        self.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT row FROM nodes WHERE name = ?1")?;
            let node = statement.query_row([name.as_str()], |row| json(row, 0));
            node.optional()
        })
    }

    pub(in crate::store) fn nodes_after(
        &self,
        after: &str,
        limit: usize,
    ) -> Result<Vec<NodeRow>, StoreError> {
        let sql = "SELECT name, row FROM nodes WHERE name > ?1 ORDER BY name LIMIT ?2";
        let parameters = params![after, integer(limit as u64)];
        self.read(|connection| rows(connection, sql, parameters, named))
    }

    /// Reads the index of all names: some 10 ms for 100,000.
    pub(in crate::store) fn names_with_end(
        &self,
        end: &str,
        limit: usize,
    ) -> Result<Vec<ResourceName>, StoreError> {
        let sql = "SELECT name FROM nodes WHERE substr(name, -length(?1)) = ?1 \
                   ORDER BY name LIMIT ?2";
        let parameters = params![end, integer(limit as u64)];
        self.read(|connection| {
            rows(connection, sql, parameters, |row| {
                row.get(0).map(|name: String| ResourceName::from(name))
            })
        })
    }

    pub(in crate::store) fn notification(
        &self,
        id: NotificationId,
    ) -> Result<Option<Notification>, StoreError> {
        let sql = "SELECT state FROM notifications WHERE id = ?1";
        self.read(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let state = statement.query_row([id.0], |row| json(row, 0));
            state.optional()
        })
    }

    /// Open ones are all looked at and sorted: a home has a handful. Closed ones come from an
    /// index.
    pub(in crate::store) fn notifications_before(
        &self,
        is_open: bool,
        before: (ClockTime, NotificationId),
        limit: usize,
    ) -> Result<Vec<NotificationRow>, StoreError> {
        let sql = if is_open {
            "SELECT id, state FROM notifications WHERE deadline IS NOT NULL AND touched <= ?1 \
             AND (touched < ?1 OR id < ?2) ORDER BY touched DESC, id DESC LIMIT ?3"
        } else {
            "SELECT id, state FROM notifications WHERE deadline IS NULL AND touched <= ?1 \
             AND (touched < ?1 OR id < ?2) ORDER BY touched DESC, id DESC LIMIT ?3"
        };
        let (touched, id) = before;
        let parameters = params![touched.0, id.0, integer(limit as u64)];
        self.read(|connection| {
            rows(connection, sql, parameters, |row| {
                Ok((NotificationId(row.get(0)?), json(row, 1)?))
            })
        })
    }

    pub(in crate::store) fn journal_matching(
        &self,
        (first, last): (u64, u64),
        kinds: &[RecordKind],
        subject: Option<&str>,
        limit: usize,
    ) -> Result<Vec<JournalRow>, StoreError> {
        let sql = "SELECT sequence, kind, subject, at, line FROM journal \
                   WHERE sequence BETWEEN ?1 AND ?2 AND (?3 IS NULL OR subject = ?3) \
                   AND (?4 = '' OR instr(?4, kind)) ORDER BY sequence LIMIT ?5";
        // No name of a kind is a part of another.
        let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
        let parameters = params![
            integer(first),
            integer(last),
            subject,
            kinds.join(" "),
            integer(limit as u64)
        ];
        self.read(|connection| rows(connection, sql, parameters, journal_row))
    }

    /// The length of a body is read without the body.
    pub(in crate::store) fn quarantine_before(
        &self,
        before: i64,
        limit: usize,
    ) -> Result<Vec<QuarantineHead>, StoreError> {
        let sql = "SELECT id, received_at, platform, reason, detail, message_id, place, \
                   length(raw) FROM quarantine WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
        let head = |row: &Row<'_>| {
            Ok(QuarantineHead {
                id: row.get(0)?,
                received_at: row.get(1)?,
                platform: row.get(2)?,
                reason: row.get(3)?,
                detail: row.get(4)?,
                message_id: row.get(5)?,
                place: row.get(6)?,
                bytes: row.get::<_, i64>(7)?.unsigned_abs(),
            })
        };
        let parameters = params![before, integer(limit as u64)];
        self.read(|connection| rows(connection, sql, parameters, head))
    }

    pub(in crate::store) fn quarantine_row(
        &self,
        id: i64,
    ) -> Result<Option<QuarantineRow>, StoreError> {
        let sql = "SELECT id, received_at, platform, reason, detail, message_id, place, raw \
                   FROM quarantine WHERE id = ?1";
        self.read(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            statement.query_row([id], quarantine_row).optional()
        })
    }

    pub(in crate::store) fn dead_letters_before(
        &self,
        before: i64,
        limit: usize,
    ) -> Result<Vec<DeadLetterRow>, StoreError> {
        let sql = "SELECT id, at, sink, first_sequence, last_sequence, reason, detail, line \
                   FROM dead_letters WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
        let parameters = params![before, integer(limit as u64)];
        self.read(|connection| rows(connection, sql, parameters, dead_letter_row))
    }

    pub(in crate::store) fn dead_letters_beyond(
        &self,
        sink: &str,
        cursor: u64,
    ) -> Result<BTreeSet<u64>, StoreError> {
        let sql = "SELECT last_sequence FROM dead_letters WHERE sink = ?1 AND last_sequence > ?2";
        let parameters = params![sink, integer(cursor)];
        let sequence = |row: &Row<'_>| row.get(0).map(i64::unsigned_abs);
        let all = self.read(|connection| rows(connection, sql, parameters, sequence))?;
        Ok(all.into_iter().collect())
    }

    pub(in crate::store) fn dead_letter_ids(&self) -> Result<Vec<i64>, StoreError> {
        let sql = "SELECT id FROM dead_letters ORDER BY id";
        self.read(|connection: &Connection| rows(connection, sql, [], |row| row.get(0)))
    }
}
