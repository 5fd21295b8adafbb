//! What a commit writes. Every function runs inside the transaction of its caller.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Result, params};
use serde::Serialize;

use super::meta::{self, integer};
use crate::engine::change::Changes;
use crate::engine::draft::Draft;
use crate::engine::traits::TraitRow;
use crate::event::ClockTime;
use crate::store::rows::{
    Admin, Commit, Committed, JournalRow, Settlement, SinkStart, quarantine_bytes,
};

/// Sinks that the settings don't name any more keep their place, but nothing is due to them.
const UNSET_SINKS: &str = "UPDATE sinks SET is_set = FALSE WHERE is_set";

/// To a sink that is back, what left the journal meanwhile is not due.
const SET_SINK: &str = "INSERT INTO sinks (name, cursor) VALUES (?1, ?2) \
     ON CONFLICT (name) DO UPDATE SET is_set = TRUE, cursor = max(cursor, \
     coalesce((SELECT min(sequence) - 1 FROM journal), \
         (SELECT value FROM meta WHERE name = 'last_sequence')))";

/// Writes all of it; returns the new rows of the journal, and how many rows each admin request
/// changed.
pub(super) fn commit(connection: &Connection, commit: Commit) -> Result<Committed> {
    let Commit {
        changes: made,
        settled,
        admin,
    } = commit;
    let records = if made.is_empty() {
        Vec::new()
    } else {
        changes(connection, made)?
    };
    if !settled.is_empty() {
        let now = ClockTime(meta::get(connection, "clock")?);
        for settlement in &settled {
            settle(connection, settlement, now)?;
        }
    }
    let affected = admin.iter().map(|admin| administer(connection, admin));
    Ok(Committed {
        records,
        affected: affected.collect::<Result<_>>()?,
    })
}

/// Writes what a step changed; returns the new rows of the journal.
fn changes(connection: &Connection, mut changes: Changes) -> Result<Vec<Arc<JournalRow>>> {
    let drafts = std::mem::take(&mut changes.drafts);
    let changes = &changes;
    payloads_and_sessions(connection, changes)?;
    notifications(connection, changes)?;
    event_log(connection, changes)?;
    graph(connection, changes)?;
    quarantine(connection, changes)?;
    meta::set(connection, "clock", changes.at.0)?;
    journal(connection, drafts, changes.at)
}

fn settle(connection: &Connection, settlement: &Settlement, now: ClockTime) -> Result<()> {
    let Settlement {
        sink,
        cursor,
        dead_letters,
        shown,
    } = settlement;
    set_cursor(connection, sink, *cursor)?;
    let mut letter = connection.prepare_cached(
        "INSERT INTO dead_letters (at, sink, first_sequence, last_sequence, reason, detail, line) \
         VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?6)",
    )?;
    for dead in dead_letters {
        let sequence = integer(dead.sequence);
        let reason = dead.reason.as_ref();
        letter.execute(params![
            now.0,
            sink,
            sequence,
            reason,
            dead.detail,
            dead.line
        ])?;
    }
    let mut show = connection.prepare_cached(
        "INSERT OR REPLACE INTO shown (sink, notification, revision, remote_id, state) \
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for row in shown {
        let id = row.notification.0;
        show.execute(params![sink, id, row.revision, row.remote_id, row.state])?;
    }
    Ok(())
}

/// Returns how many rows went, or changed.
fn administer(connection: &Connection, admin: &Admin) -> Result<usize> {
    match admin {
        Admin::SetSinks(sinks) => set_sinks(connection, sinks),
        Admin::DropQuarantined(ids) => drop_quarantined(connection, ids),
        Admin::DropDeadLetters(ids) => drop_dead_letters(connection, ids),
    }
}

fn set_sinks(connection: &Connection, sinks: &[SinkStart]) -> Result<usize> {
    connection.execute(UNSET_SINKS, [])?;
    let mut set = connection.prepare_cached(SET_SINK)?;
    let rows = sinks.iter();
    rows.map(|sink| set.execute(params![sink.name, integer(sink.cursor)]))
        .sum()
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
    let mut total = meta::get(connection, "quarantine_bytes")?;
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
    meta::set(connection, "quarantine_bytes", total)
}

/// Removes rows of quarantine; returns how many there were.
fn drop_quarantined(connection: &Connection, ids: &[i64]) -> Result<usize> {
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
        let total = meta::get(connection, "quarantine_bytes")?;
        meta::set(
            connection,
            "quarantine_bytes",
            total - dropped.iter().sum::<i64>(),
        )?;
    }
    Ok(dropped.len())
}

/// Removes rows of dead letters; returns how many there were.
fn drop_dead_letters(connection: &Connection, ids: &[i64]) -> Result<usize> {
    let mut statement = connection.prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?;
    ids.iter().map(|id| statement.execute([id])).sum()
}

fn journal(
    connection: &Connection,
    drafts: Vec<Draft>,
    at: ClockTime,
) -> Result<Vec<Arc<JournalRow>>> {
    let last = meta::get(connection, "last_sequence")?.unsigned_abs();
    let mut bytes = meta::get(connection, "journal_bytes")?;
    let rows = JournalRow::number(drafts, last, at);
    let Some(end) = rows.last() else {
        return Ok(rows);
    };
    let mut statement = connection.prepare_cached(
        "INSERT INTO journal (sequence, kind, subject, at, line) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for row in &rows {
        bytes += integer(row.line.len() as u64);
        let sequence = integer(row.sequence);
        statement.execute(params![
            sequence,
            row.kind.as_str(),
            row.subject,
            at.0,
            row.line
        ])?;
    }
    meta::set(connection, "last_sequence", integer(end.sequence))?;
    meta::set(connection, "journal_bytes", bytes)?;
    Ok(rows)
}

/// Moves a sink's cursor forward.
pub(super) fn set_cursor(connection: &Connection, sink: &str, sequence: u64) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO sinks (name, cursor) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE \
         SET cursor = max(cursor, excluded.cursor)",
    )?;
    statement
        .execute(params![sink, integer(sequence)])
        .map(drop)
}

fn json(row: &impl Serialize) -> Result<String> {
    serde_json::to_string(row)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
