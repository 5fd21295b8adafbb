//! What a commit writes. Every function runs inside the transaction of its caller.

use rusqlite::{Connection, OptionalExtension, Result, params};
use serde::Serialize;

use crate::engine::change::Changes;
use crate::engine::draft::Draft;
use crate::engine::traits::TraitRow;
use crate::event::ClockTime;
use crate::store::{JournalRow, quarantine_bytes};

/// Writes all changes; returns the new rows of the journal.
pub(super) fn changes(connection: &Connection, mut changes: Changes) -> Result<Vec<JournalRow>> {
    let drafts = std::mem::take(&mut changes.drafts);
    let changes = &changes;
    payloads_and_sessions(connection, changes)?;
    notifications(connection, changes)?;
    event_log(connection, changes)?;
    graph(connection, changes)?;
    quarantine(connection, changes)?;
    set_meta(connection, "clock", changes.at.0)?;
    journal(connection, drafts, changes.at)
}

fn payloads_and_sessions(connection: &Connection, changes: &Changes) -> Result<()> {
    let mut payload =
        connection.prepare_cached("INSERT OR REPLACE INTO payloads (key, at) VALUES (?1, ?2)")?;
    for (key, at) in &changes.seen {
        payload.execute(params![key.0, at.0])?;
    }
    let mut member = connection
        .prepare_cached("INSERT OR IGNORE INTO members (session, notification) VALUES (?1, ?2)")?;
    for (session, notification) in &changes.members {
        member.execute(params![session.0, notification.0])?;
    }
    let mut clip = connection
        .prepare_cached("INSERT OR REPLACE INTO clips (session, url, at) VALUES (?1, ?2, ?3)")?;
    for (session, url, at) in &changes.clips {
        clip.execute(params![session.0, url, at.0])?;
    }
    let mut drop_clip =
        connection.prepare_cached("DELETE FROM clips WHERE session = ?1 AND url = ?2")?;
    for (session, url) in &changes.dropped_clips {
        drop_clip.execute(params![session.0, url])?;
    }
    Ok(())
}

fn notifications(connection: &Connection, changes: &Changes) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO notifications (id, deadline, touched, state) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (id) DO UPDATE SET deadline = excluded.deadline, \
         touched = excluded.touched, state = excluded.state",
    )?;
    for (id, state) in &changes.notifications {
        let deadline = state.deadline.map(|deadline| deadline.0);
        statement.execute(params![id.0, deadline, state.touched.0, json(&**state)?])?;
    }
    Ok(())
}

fn event_log(connection: &Connection, changes: &Changes) -> Result<()> {
    let mut unhold = connection.prepare_cached("DELETE FROM held WHERE arrival = ?1")?;
    for arrival in &changes.released_arrivals {
        unhold.execute([integer(*arrival)])?;
    }
    let mut hold =
        connection.prepare_cached("INSERT INTO held (arrival, row, line) VALUES (?1, ?2, ?3)")?;
    for row in &changes.held {
        let text = &row.record.text;
        hold.execute(params![integer(row.arrival), json(&**row)?, text])?;
    }
    let mut released = connection.prepare_cached(
        "INSERT INTO released (ordering_key, sort_key, at) VALUES (?1, ?2, ?3) \
         ON CONFLICT DO UPDATE SET sort_key = excluded.sort_key, at = excluded.at",
    )?;
    for (ordering_key, (sort_key, at)) in &changes.released {
        released.execute(params![ordering_key, json(sort_key)?, at.0])?;
    }
    Ok(())
}

fn graph(connection: &Connection, changes: &Changes) -> Result<()> {
    let mut node =
        connection.prepare_cached("INSERT INTO nodes (name, row) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET row = excluded.row")?;
    for (name, row) in &changes.nodes {
        node.execute(params![name.as_str(), json(row)?])?;
    }
    let mut traits = connection.prepare_cached(
        "INSERT INTO traits (resource, name, fields) VALUES (?1, ?2, ?3) \
         ON CONFLICT DO UPDATE SET fields = excluded.fields",
    )?;
    for TraitRow {
        resource,
        name,
        fields,
    } in &changes.traits
    {
        traits.execute(params![resource.as_str(), name, json(fields)?])?;
    }
    let mut drop_trait =
        connection.prepare_cached("DELETE FROM traits WHERE resource = ?1 AND name = ?2")?;
    for (resource, name) in &changes.dropped_traits {
        drop_trait.execute(params![resource.as_str(), name])?;
    }
    Ok(())
}

fn quarantine(connection: &Connection, changes: &Changes) -> Result<()> {
    drop_quarantined(connection, changes.retried.as_slice())?;
    if changes.quarantined.is_empty() {
        return Ok(());
    }
    let mut total = super::read::meta(connection, "quarantine_bytes")?;
    let mut statement = connection.prepare_cached(
        "INSERT INTO quarantine (at, received_at, publish_time, platform, reason, detail, \
         message_id, place, raw, key, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    for message in &changes.quarantined {
        let (raw, bytes) = (&message.raw, integer(quarantine_bytes(message)));
        total += bytes;
        statement.execute(params![
            message.at.0,
            raw.received_at.0.as_str(),
            raw.publish_time.0.as_str(),
            raw.platform.as_str(),
            message.reject.reason.as_str(),
            message.reject.detail,
            raw.message_id,
            raw.place,
            &raw.body[..],
            message.key.0,
            bytes,
        ])?;
    }
    set_meta(connection, "quarantine_bytes", total)
}

/// Removes rows of quarantine; returns how many there were.
pub(super) fn drop_quarantined(connection: &Connection, ids: &[i64]) -> Result<usize> {
    let mut statement =
        connection.prepare_cached("DELETE FROM quarantine WHERE id = ?1 RETURNING bytes")?;
    let mut dropped = Vec::new();
    for id in ids {
        dropped.extend(
            statement
                .query_row([id], |row| row.get::<_, i64>(0))
                .optional()?,
        );
    }
    if !dropped.is_empty() {
        let total = super::read::meta(connection, "quarantine_bytes")?;
        set_meta(
            connection,
            "quarantine_bytes",
            total - dropped.iter().sum::<i64>(),
        )?;
    }
    Ok(dropped.len())
}

/// Removes rows of dead letters; returns how many there were.
pub(super) fn drop_dead_letters(connection: &Connection, ids: &[i64]) -> Result<usize> {
    let mut statement = connection.prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?;
    ids.iter().map(|id| statement.execute([id])).sum()
}

fn journal(connection: &Connection, drafts: Vec<Draft>, at: ClockTime) -> Result<Vec<JournalRow>> {
    let last = super::read::meta(connection, "last_sequence")?.unsigned_abs();
    let mut bytes = super::read::meta(connection, "journal_bytes")?;
    let rows = JournalRow::number(drafts, last);
    let Some(end) = rows.last() else {
        return Ok(rows);
    };
    let mut statement = connection.prepare_cached(
        "INSERT INTO journal (sequence, kind, subject, at, line) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for JournalRow {
        sequence,
        kind,
        subject,
        line,
    } in &rows
    {
        bytes += integer(line.len() as u64);
        statement.execute(params![
            integer(*sequence),
            kind.as_str(),
            subject,
            at.0,
            line
        ])?;
    }
    set_meta(connection, "last_sequence", integer(end.sequence))?;
    set_meta(connection, "journal_bytes", bytes)?;
    Ok(rows)
}

/// Moves a sink's cursor forward.
pub(super) fn cursor(connection: &Connection, sink: &str, sequence: u64) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO cursors (sink, sequence) VALUES (?1, ?2) ON CONFLICT (sink) DO UPDATE \
         SET sequence = max(sequence, excluded.sequence)",
    )?;
    statement
        .execute(params![sink, integer(sequence)])
        .map(drop)
}

/// Counts a commit, which this is a part of; returns its number.
pub(super) fn count_commit(connection: &Connection) -> Result<i64> {
    let sql = "UPDATE meta SET value = value + 1 WHERE name = 'commits' RETURNING value";
    connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get(0))
}

pub(super) fn set_meta(connection: &Connection, name: &str, value: i64) -> Result<()> {
    let mut statement = connection.prepare_cached("UPDATE meta SET value = ?2 WHERE name = ?1")?;
    statement.execute(params![name, value]).map(drop)
}

/// SQLite's integers are signed; our numbers never come near 2^63.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn json(row: &impl Serialize) -> Result<String> {
    serde_json::to_string(row)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
