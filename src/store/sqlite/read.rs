//! What is read back: at start, for a step, and for the commands that look into a store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::DateTime;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Params, Result, Row, params};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::meta::{self, integer};
use crate::engine::change::Quarantined;
use crate::engine::graph::Node;
use crate::engine::held::Held;
use crate::engine::notifications::Notification;
use crate::engine::traits::TraitRow;
use crate::engine::{Loaded, Lookup, Restored, Session};
use crate::event::{
    ClockTime, DedupeKey, NotificationId, PublishTime, RawMessage, ReceivedAt, Reject,
    ResourceName, SessionKey, Timestamp,
};
use crate::store::rows::{DeadLetterRow, JournalRow, QuarantineRow, ShownRow, SinkRow};

const PAYLOAD: &str = "SELECT at FROM payloads WHERE key = ?1";
const RELEASED: &str = "SELECT sort_key, at FROM released WHERE ordering_key = ?1";
const NOTIFICATION: &str = "SELECT state FROM notifications WHERE id = ?1";
const MEMBERS: &str = "SELECT notification FROM members WHERE session = ?1";
const CLIPS: &str = "SELECT url, at FROM clips WHERE session = ?1";
const TRAITS: &str = "SELECT resource, name, fields FROM traits WHERE resource = ?1 ORDER BY name";
const JOURNAL: &str = "SELECT sequence, kind, subject, at, line FROM journal WHERE sequence > ?1 \
     ORDER BY sequence LIMIT ?2";
const FIRST_SEQUENCE: &str = "SELECT min(sequence) FROM journal";
const QUARANTINED: &str = "SELECT key, at, reason, detail, platform, message_id, publish_time, \
     received_at, raw, place FROM quarantine WHERE id = ?1";
const SHOWN: &str =
    "SELECT revision, remote_id, state FROM shown WHERE sink = ?1 AND notification = ?2";

/// The newest rows are found from the end, and only they are put in order.
const NEWEST_QUARANTINED: &str = "SELECT * FROM (SELECT id, received_at, platform, reason, \
     detail, message_id, place, raw FROM quarantine ORDER BY id DESC LIMIT ?1) ORDER BY id";
const NEWEST_DEAD_LETTERS: &str = "SELECT * FROM (SELECT id, at, sink, first_sequence, \
     last_sequence, reason, detail, line FROM dead_letters ORDER BY id DESC LIMIT ?1) ORDER BY id";

/// Those that read a few rows of a large table.
#[cfg(test)]
pub(super) const BY_KEY: [&str; 12] = [
    PAYLOAD,
    RELEASED,
    NOTIFICATION,
    MEMBERS,
    CLIPS,
    TRAITS,
    JOURNAL,
    FIRST_SEQUENCE,
    QUARANTINED,
    SHOWN,
    NEWEST_QUARANTINED,
    NEWEST_DEAD_LETTERS,
];

/// What the engine needs to go on.
pub(super) fn restored(connection: &Connection) -> Result<Restored> {
    let clock = ClockTime(meta::get(connection, "clock")?);
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
    let mut payload = connection.prepare_cached(PAYLOAD)?;
    for key in &lookup.payloads {
        let at = payload.query_row([key.0], |row| row.get(0)).optional()?;
        loaded.payloads.extend(at.map(|at| (*key, ClockTime(at))));
    }
    let mut released = connection.prepare_cached(RELEASED)?;
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
    let mut state = connection.prepare_cached(NOTIFICATION)?;
    for id in notifications {
        let found = state.query_row([id.0], |row| json(row, 0)).optional()?;
        loaded
            .notifications
            .extend(found.map(|found| (id, Arc::new(found))));
    }
    Ok(loaded)
}

fn members(connection: &Connection, session: SessionKey) -> Result<BTreeSet<NotificationId>> {
    let members = rows(connection, MEMBERS, [session.0], |row| {
        row.get(0).map(NotificationId)
    })?;
    Ok(members.into_iter().collect())
}

fn clips(connection: &Connection, session: SessionKey) -> Result<BTreeMap<String, ClockTime>> {
    let clip = |row: &Row<'_>| Ok((row.get(0)?, ClockTime(row.get(1)?)));
    Ok(rows(connection, CLIPS, [session.0], clip)?
        .into_iter()
        .collect())
}

/// When the newest of the remembered payloads came; `None` if there is none.
pub(super) fn last_arrival(connection: &Connection) -> Result<Option<ClockTime>> {
    let at = connection.query_row("SELECT max(at) FROM payloads", [], |row| row.get(0));
    at.map(|at: Option<i64>| at.map(ClockTime))
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
    rows(
        connection,
        JOURNAL,
        params![integer(after), integer(limit as u64)],
        journal_row,
    )
}

/// A row of the columns sequence, kind, subject, at and line.
pub(super) fn journal_row(row: &Row<'_>) -> Result<JournalRow> {
    Ok(JournalRow {
        sequence: row.get::<_, i64>(0)?.unsigned_abs(),
        kind: parsed(row, 1, |text| text.parse().ok())?,
        subject: row.get(2)?,
        at: ClockTime(row.get(3)?),
        line: row.get(4)?,
    })
}

/// The newest messages in quarantine, oldest first.
pub(super) fn quarantine(connection: &Connection, limit: usize) -> Result<Vec<QuarantineRow>> {
    rows(
        connection,
        NEWEST_QUARANTINED,
        [integer(limit as u64)],
        quarantine_row,
    )
}

/// A row of the columns id, received_at, platform, reason, detail, message_id, place and raw.
pub(super) fn quarantine_row(row: &Row<'_>) -> Result<QuarantineRow> {
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
}

/// A message in quarantine, as it was put there.
pub(super) fn quarantined(connection: &Connection, id: i64) -> Result<Option<Quarantined>> {
    let mut statement = connection.prepare_cached(QUARANTINED)?;
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

/// The ids of all messages in quarantine, oldest first; their bodies are not read.
pub(super) fn quarantine_ids(connection: &Connection) -> Result<Vec<i64>> {
    rows(
        connection,
        "SELECT id FROM quarantine ORDER BY id",
        [],
        |row| row.get(0),
    )
}

/// The newest records that sinks did not get, oldest first.
pub(super) fn dead_letters(connection: &Connection, limit: usize) -> Result<Vec<DeadLetterRow>> {
    rows(
        connection,
        NEWEST_DEAD_LETTERS,
        [integer(limit as u64)],
        dead_letter_row,
    )
}

/// A row of the columns id, at, sink, first_sequence, last_sequence, reason, detail and line.
pub(super) fn dead_letter_row(row: &Row<'_>) -> Result<DeadLetterRow> {
    let at = DateTime::from_timestamp_nanos(row.get(1)?);
    let line: Option<String> = row.get(7)?;
    Ok(DeadLetterRow {
        id: row.get(0)?,
        at: Timestamp::from_utc(at).to_string(),
        sink: row.get(2)?,
        first_sequence: row.get::<_, i64>(3)?.unsigned_abs(),
        last_sequence: row.get::<_, i64>(4)?.unsigned_abs(),
        reason: row.get(5)?,
        detail: row.get(6)?,
        record: line.and_then(|line| RawValue::from_string(line).ok()),
    })
}

/// Every sink that the store knows, sorted by name.
pub(super) fn sinks(connection: &Connection) -> Result<Vec<SinkRow>> {
    let sql = "SELECT name, cursor, is_set FROM sinks ORDER BY name";
    rows(connection, sql, [], |row| {
        Ok(SinkRow {
            name: row.get(0)?,
            cursor: row.get::<_, i64>(1)?.unsigned_abs(),
            is_set: row.get(2)?,
        })
    })
}

/// What a sink remembers of a notification that it showed.
pub(super) fn shown(
    connection: &Connection,
    sink: &str,
    notification: NotificationId,
) -> Result<Option<ShownRow>> {
    let mut statement = connection.prepare_cached(SHOWN)?;
    let row = statement.query_row(params![sink, notification.0], |row| {
        Ok(ShownRow {
            notification,
            revision: row.get(0)?,
            remote_id: row.get(1)?,
            state: row.get(2)?,
        })
    });
    row.optional()
}

/// The number of the oldest record that is kept; `None` if none is.
pub(super) fn first_sequence(connection: &Connection) -> Result<Option<u64>> {
    let mut statement = connection.prepare_cached(FIRST_SEQUENCE)?;
    let first: Option<i64> = statement.query_row([], |row| row.get(0))?;
    Ok(first.map(i64::unsigned_abs))
}

/// The rows of the graph, sorted by name.
pub(super) fn nodes(connection: &Connection) -> Result<Vec<(ResourceName, Arc<Node>)>> {
    rows(
        connection,
        "SELECT name, row FROM nodes ORDER BY name",
        [],
        named,
    )
}

/// The traits of a resource, sorted by name.
pub(super) fn traits(connection: &Connection, resource: &ResourceName) -> Result<Vec<TraitRow>> {
    rows(connection, TRAITS, [resource.as_str()], trait_row)
}

pub(super) fn rows<T>(
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

pub(super) fn named<T: DeserializeOwned>(row: &Row<'_>) -> Result<(ResourceName, T)> {
    Ok((ResourceName::from(row.get::<_, String>(0)?), json(row, 1)?))
}

/// A text that stands for one of a set of values.
fn parsed<T>(row: &Row<'_>, column: usize, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    let unknown = || rusqlite::Error::InvalidColumnType(column, text.to_owned(), Type::Text);
    parse(text).ok_or_else(unknown)
}

pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
    })
}
