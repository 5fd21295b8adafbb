//! Forgetting: what is past its retention goes, a bounded number of rows at a time.

use rusqlite::{Connection, Result, params};

use super::read::meta;
use super::write::{integer, set_meta};
use crate::event::ClockTime;
use crate::store::{Lost, QUARANTINE_MAX_BYTES, Retention, TRIM_ROWS, Trimmed};

/// Trims every table once.
pub(super) fn all(
    connection: &Connection,
    now: ClockTime,
    retention: &Retention,
) -> Result<Trimmed> {
    let horizon = now.before(retention.horizon).0;
    let statements = [
        "DELETE FROM payloads WHERE key IN (SELECT key FROM payloads WHERE at <= ?1 LIMIT ?2)",
        "DELETE FROM members WHERE notification IN (SELECT id FROM notifications \
         WHERE deadline IS NULL AND touched <= ?1 LIMIT ?2)",
        "DELETE FROM notifications WHERE id IN (SELECT id FROM notifications \
         WHERE deadline IS NULL AND touched <= ?1 LIMIT ?2)",
        "DELETE FROM clips WHERE (session, url) IN \
         (SELECT session, url FROM clips WHERE at <= ?1 LIMIT ?2)",
        "DELETE FROM released WHERE ordering_key IN \
         (SELECT ordering_key FROM released WHERE at <= ?1 LIMIT ?2)",
    ];
    let limit = integer(TRIM_ROWS as u64);
    let mut trimmed = Trimmed::default();
    for sql in statements {
        let removed = connection.prepare_cached(sql)?.execute(params![horizon, limit])?;
        trimmed.more |= removed >= TRIM_ROWS;
    }
    journal(connection, now, retention, &mut trimmed)?;
    quarantine(connection)?;
    Ok(trimmed)
}

fn journal(
    connection: &Connection,
    now: ClockTime,
    retention: &Retention,
    trimmed: &mut Trimmed,
) -> Result<()> {
    let oldest = now.before(retention.journal_age).0;
    let allowed = integer(retention.journal_bytes);
    let mut bytes = meta(connection, "journal_bytes")?;
    let mut last = None;
    let mut statement = connection.prepare_cached(
        "SELECT sequence, at, octet_length(line) FROM journal ORDER BY sequence LIMIT ?1",
    )?;
    let mut rows = statement.query([integer(TRIM_ROWS as u64)])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        let (sequence, at, size): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if at > oldest && bytes <= allowed {
            break;
        }
        (last, bytes, count) = (Some(sequence), bytes - size, count + 1);
    }
    let Some(last) = last else { return Ok(()) };
    trimmed.more |= count >= TRIM_ROWS;
    trimmed.lost = overtake_sinks(connection, last, now)?;
    connection.prepare_cached("DELETE FROM journal WHERE sequence <= ?1")?.execute([last])?;
    set_meta(connection, "journal_bytes", bytes)
}

/// Records that a sink had not settled go to its dead letters, as one range.
fn overtake_sinks(connection: &Connection, last: i64, now: ClockTime) -> Result<Vec<Lost>> {
    let mut behind =
        connection.prepare_cached("SELECT sink, sequence FROM cursors WHERE sequence < ?1")?;
    let sinks: Vec<(String, i64)> =
        behind.query_map([last], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_>>()?;
    let mut lost = Vec::new();
    for (sink, cursor) in sinks {
        let mut letter = connection.prepare_cached(
            "INSERT INTO dead_letters (at, sink, first_sequence, last_sequence, reason) \
             VALUES (?1, ?2, ?3, ?4, 'journal_full')",
        )?;
        letter.execute(params![now.0, sink, cursor + 1, last])?;
        super::write::cursor(connection, &sink, last.unsigned_abs())?;
        lost.push(Lost { sink, first: (cursor + 1).unsigned_abs(), last: last.unsigned_abs() });
    }
    Ok(lost)
}

fn quarantine(connection: &Connection) -> Result<()> {
    // The newest rows that fit stay; a window over a table of few rows is cheap enough.
    let mut statement = connection.prepare_cached(
        "DELETE FROM quarantine WHERE id <= (SELECT coalesce(max(id), 0) FROM (SELECT id, \
         sum(octet_length(raw)) OVER (ORDER BY id DESC) AS bytes FROM quarantine) \
         WHERE bytes > ?1)",
    )?;
    statement.execute([integer(QUARANTINE_MAX_BYTES)]).map(drop)
}
