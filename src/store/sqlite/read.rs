//! What is read back: at start, for a step, and for the commands that look into a store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::DateTime;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Params, Result, Row, params};
use serde::de::DeserializeOwned;

use super::write::integer;
use crate::engine::change::Quarantined;
use crate::engine::notifications::Notification;
use crate::engine::reorder::Held;
use crate::engine::traits::TraitRow;
use crate::engine::{Loaded, Lookup, Restored, Session};
use crate::event::{
    ClockTime, DedupeKey, NotificationId, PublishTime, RawMessage, ReceivedAt, Reject,
    ResourceName, SessionKey, Timestamp,
};
use crate::store::{DeadLetterRow, JournalRow, QuarantineRow};

/// What the engine needs to go on.
pub(super) fn restored(connection: &Connection) -> Result<Restored> {
    let clock = ClockTime(meta(connection, "clock")?);
    let held = "SELECT row, line FROM held ORDER BY arrival";
    let held = rows(connection, held, [], self::held)?;
    let deadlines = "SELECT id, deadline FROM notifications WHERE deadline IS NOT NULL";
    let deadlines = rows(connection, deadlines, [], |row| {
        Ok((NotificationId(row.get(0)?), ClockTime(row.get(1)?)))
    })?;
    let mut restored = Restored::new(clock, held, deadlines);
    // Row by row: a large home has 100,000 of them.
    let mut nodes = connection.prepare("SELECT name, row FROM nodes")?;
    for node in nodes.query_map([], named)? {
        let (name, row) = node?;
        restored.add_node(name, row);
    }
    let mut traits = connection.prepare("SELECT resource, name, fields FROM traits")?;
    for row in traits.query_map([], trait_row)? {
        restored.add_trait(row?);
    }
    Ok(restored)
}

/// The rows that a step needs.
pub(super) fn loaded(connection: &Connection, lookup: &Lookup) -> Result<Loaded> {
    let mut loaded = Loaded::default();
    let mut payload = connection.prepare_cached("SELECT at FROM payloads WHERE key = ?1")?;
    for key in &lookup.payloads {
        let at = payload.query_row([key.0], |row| row.get(0)).optional()?;
        loaded.payloads.extend(at.map(|at| (*key, ClockTime(at))));
    }
    let mut released =
        connection.prepare_cached("SELECT sort_key, at FROM released WHERE ordering_key = ?1")?;
    for key in &lookup.ordering_keys {
        let row = released.query_row([key], |row| Ok((json(row, 0)?, ClockTime(row.get(1)?))));
        loaded
            .ordering_keys
            .extend(row.optional()?.map(|row| (Arc::clone(key), row)));
    }
    let mut notifications = lookup.notifications.clone();
    for key in &lookup.session_members {
        let members = members(connection, *key)?;
        notifications.extend(&members);
        loaded.sessions.insert(
            *key,
            Session {
                members,
                clips: clips(connection, *key)?,
            },
        );
    }
    for key in lookup.session_clips.difference(&lookup.session_members) {
        let session = Session {
            clips: clips(connection, *key)?,
            ..Session::default()
        };
        loaded.sessions.insert(*key, session);
    }
    let mut state = connection.prepare_cached("SELECT state FROM notifications WHERE id = ?1")?;
    for id in notifications {
        let found = state.query_row([id.0], |row| json(row, 0)).optional()?;
        loaded
            .notifications
            .extend(found.map(|found| (id, Arc::new(found))));
    }
    Ok(loaded)
}

fn members(connection: &Connection, session: SessionKey) -> Result<BTreeSet<NotificationId>> {
    let sql = "SELECT notification FROM members WHERE session = ?1";
    let members = rows(connection, sql, [session.0], |row| {
        row.get(0).map(NotificationId)
    })?;
    Ok(members.into_iter().collect())
}

fn clips(connection: &Connection, session: SessionKey) -> Result<BTreeMap<String, ClockTime>> {
    let sql = "SELECT url, at FROM clips WHERE session = ?1";
    let clip = |row: &Row<'_>| Ok((row.get(0)?, ClockTime(row.get(1)?)));
    Ok(rows(connection, sql, [session.0], clip)?
        .into_iter()
        .collect())
}

/// Every notification, sorted by id.
pub(super) fn notifications(
    connection: &Connection,
) -> Result<Vec<(NotificationId, Notification)>> {
    let sql = "SELECT id, state FROM notifications ORDER BY id";
    rows(connection, sql, [], |row| {
        Ok((NotificationId(row.get(0)?), json(row, 1)?))
    })
}

/// The records after a number, in order.
pub(super) fn journal(
    connection: &Connection,
    after: u64,
    limit: usize,
) -> Result<Vec<JournalRow>> {
    let sql = "SELECT sequence, kind, subject, line FROM journal WHERE sequence > ?1 \
               ORDER BY sequence LIMIT ?2";
    rows(
        connection,
        sql,
        params![integer(after), integer(limit as u64)],
        |row| {
            Ok(JournalRow {
                sequence: row.get::<_, i64>(0)?.unsigned_abs(),
                kind: parsed(row, 1, |text| text.parse().ok())?,
                subject: row.get(2)?,
                line: row.get(3)?,
            })
        },
    )
}

/// The newest messages in quarantine, oldest first.
pub(super) fn quarantine(connection: &Connection, limit: usize) -> Result<Vec<QuarantineRow>> {
    let sql = "SELECT * FROM (SELECT id, received_at, platform, reason, detail, message_id, \
               place, raw FROM quarantine ORDER BY id DESC LIMIT ?1) ORDER BY id";
    rows(connection, sql, [integer(limit as u64)], |row| {
        Ok(QuarantineRow {
            id: row.get(0)?,
            received_at: row.get(1)?,
            platform: row.get(2)?,
            reason: row.get(3)?,
            detail: row.get(4)?,
            message_id: row.get(5)?,
            place: row.get(6)?,
            raw: row.get(7)?,
        })
    })
}

/// A message in quarantine, as it was put there.
pub(super) fn quarantined(connection: &Connection, id: i64) -> Result<Option<Quarantined>> {
    let sql = "SELECT key, at, reason, detail, platform, message_id, publish_time, received_at, \
               raw, place FROM quarantine WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let message = statement.query_row([id], |row| {
        let body: Vec<u8> = row.get(8)?;
        Ok(Quarantined {
            key: DedupeKey(row.get(0)?),
            at: ClockTime(row.get(1)?),
            reject: Reject {
                reason: parsed(row, 2, |text| text.parse().ok())?,
                detail: row.get(3)?,
            },
            raw: RawMessage {
                platform: parsed(row, 4, |text| text.parse().ok())?,
                message_id: row.get(5)?,
                publish_time: PublishTime(parsed(row, 6, Timestamp::parse)?),
                received_at: ReceivedAt(parsed(row, 7, Timestamp::parse)?),
                body: body.into(),
                place: row.get(9)?,
            },
        })
    });
    message.optional()
}

/// The newest ranges of records that sinks lost, oldest first.
pub(super) fn dead_letters(connection: &Connection, limit: usize) -> Result<Vec<DeadLetterRow>> {
    let sql = "SELECT * FROM (SELECT id, at, sink, first_sequence, last_sequence, reason \
               FROM dead_letters ORDER BY id DESC LIMIT ?1) ORDER BY id";
    rows(connection, sql, [integer(limit as u64)], |row| {
        let at = DateTime::from_timestamp_nanos(row.get(1)?);
        Ok(DeadLetterRow {
            id: row.get(0)?,
            at: Timestamp::from_utc(at).to_string(),
            sink: row.get(2)?,
            first_sequence: row.get::<_, i64>(3)?.unsigned_abs(),
            last_sequence: row.get::<_, i64>(4)?.unsigned_abs(),
            reason: row.get(5)?,
        })
    })
}

/// The last record that a sink has settled; 0 if none.
pub(super) fn cursor(connection: &Connection, sink: &str) -> Result<u64> {
    let mut statement =
        connection.prepare_cached("SELECT sequence FROM cursors WHERE sink = ?1")?;
    let sequence: Option<i64> = statement.query_row([sink], |row| row.get(0)).optional()?;
    Ok(sequence.unwrap_or_default().unsigned_abs())
}

/// A number that the store keeps about itself.
pub(super) fn meta(connection: &Connection, name: &str) -> Result<i64> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
    statement.query_row([name], |row| row.get(0))
}

fn rows<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    connection
        .prepare_cached(sql)?
        .query_map(params, read)?
        .collect()
}

fn held(row: &Row<'_>) -> Result<Held> {
    let held: Held = json(row, 0)?;
    Ok(Held {
        record: held.record.with_text(row.get(1)?),
        ..held
    })
}

fn trait_row(row: &Row<'_>) -> Result<TraitRow> {
    let resource = ResourceName::from(row.get::<_, String>(0)?);
    let fields = json(row, 2)?;
    Ok(TraitRow {
        resource,
        name: row.get(1)?,
        fields,
    })
}

fn named<T: DeserializeOwned>(row: &Row<'_>) -> Result<(ResourceName, T)> {
    Ok((ResourceName::from(row.get::<_, String>(0)?), json(row, 1)?))
}

/// A text that stands for one of a set of values.
fn parsed<T>(row: &Row<'_>, column: usize, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    let unknown = || rusqlite::Error::InvalidColumnType(column, text.to_owned(), Type::Text);
    parse(text).ok_or_else(unknown)
}

fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
    })
}
