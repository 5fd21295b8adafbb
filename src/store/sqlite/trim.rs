//! Forgetting: what is past its retention goes, a bounded number of rows at a time.

use rusqlite::{Connection, Result, params};

use super::meta::{self, integer};
use super::write;
use crate::event::ClockTime;
use crate::store::{DeadLetterRange, DeadLetterReason, QUARANTINE_MAX_BYTES, Retention, Upkeep};

/// Records removed for each row of another table: so many can come of one message. They lie side by
/// side, so they cost less all the same.
const RECORDS_PER_ROW: usize = 4;

/// Removes at most ?2 rows that are not younger than ?1.
const BY_HORIZON: [&str; 6] = [
    "DELETE FROM payloads WHERE key IN (SELECT key FROM payloads WHERE at <= ?1 LIMIT ?2)",
    "DELETE FROM members WHERE notification IN (SELECT id FROM notifications \
     WHERE deadline IS NULL AND touched <= ?1 LIMIT ?2)",
    "DELETE FROM shown WHERE notification IN (SELECT id FROM notifications \
     WHERE deadline IS NULL AND touched <= ?1 LIMIT ?2)",
    "DELETE FROM notifications WHERE id IN (SELECT id FROM notifications \
     WHERE deadline IS NULL AND touched <= ?1 LIMIT ?2)",
    "DELETE FROM clips WHERE (session, url) IN \
     (SELECT session, url FROM clips WHERE at <= ?1 LIMIT ?2)",
    "DELETE FROM released WHERE ordering_key IN \
     (SELECT ordering_key FROM released WHERE at <= ?1 LIMIT ?2)",
];

/// The number, time and bytes of the ?1 oldest records.
const OLDEST_RECORDS: &str =
    "SELECT sequence, at, octet_length(line) FROM journal ORDER BY sequence LIMIT ?1";

/// The same of messages in quarantine.
const OLDEST_QUARANTINED: &str = "SELECT id, at, bytes FROM quarantine ORDER BY id LIMIT ?1";

/// Makes a sink's last dead letter longer, if it ends where another one would begin.
const LONGER_DEAD_LETTER: &str = "UPDATE dead_letters SET last_sequence = ?3, at = ?4 \
     WHERE sink = ?1 AND last_sequence = ?2 - 1 AND reason = ?5 AND line IS NULL";

/// Every statement that looks for rows.
#[cfg(test)]
pub(super) fn statements() -> impl Iterator<Item = &'static str> {
    let others = [OLDEST_RECORDS, OLDEST_QUARANTINED, LONGER_DEAD_LETTER];
    BY_HORIZON.into_iter().chain(others)
}

/// Trims every table once, of at most `rows` rows each (four times that of the journal and of
/// quarantine), and of what hangs on those.
pub(super) fn all(
    connection: &Connection,
    now: ClockTime,
    retention: &Retention,
    rows: usize,
) -> Result<Upkeep> {
    let horizon = now.before(retention.horizon).0;
    let limit = integer(rows as u64);
    let mut upkeep = Upkeep::default();
    for sql in BY_HORIZON {
        let removed = connection
            .prepare_cached(sql)?
            .execute(params![horizon, limit])?;
        upkeep.more |= removed >= rows;
    }
    let records = rows * RECORDS_PER_ROW;
    journal(connection, now, retention, records, &mut upkeep)?;
    quarantine(connection, records, &mut upkeep)?;
    Ok(upkeep)
}

fn journal(
    connection: &Connection,
    now: ClockTime,
    retention: &Retention,
    rows: usize,
    upkeep: &mut Upkeep,
) -> Result<()> {
    let expired = now.before(retention.journal_age).0;
    let allowed = integer(retention.journal_bytes);
    let bytes = meta::get(connection, "journal_bytes")?;
    let must_go = |at, bytes| at <= expired || bytes > allowed;
    let Some(oldest) = oldest(connection, OLDEST_RECORDS, rows, bytes, must_go)? else {
        return Ok(());
    };
    upkeep.more |= oldest.more;
    // What the last one is too old for, all of them are.
    let reason = if oldest.at <= expired {
        DeadLetterReason::JournalExpired
    } else {
        DeadLetterReason::JournalFull
    };
    upkeep.dead_letters = overtake_sinks(connection, oldest.last, reason, now)?;
    connection
        .prepare_cached("DELETE FROM journal WHERE sequence <= ?1")?
        .execute([oldest.last])?;
    meta::set(connection, "journal_bytes", oldest.bytes)
}

/// Records that a sink had not acknowledged go to its dead letters, as one range.
fn overtake_sinks(
    connection: &Connection,
    last: i64,
    reason: DeadLetterReason,
    now: ClockTime,
) -> Result<Vec<DeadLetterRange>> {
    let sql = "SELECT name, cursor FROM sinks WHERE is_set AND cursor < ?1";
    let mut behind = connection.prepare_cached(sql)?;
    let sinks: Vec<(String, i64)> = behind
        .query_map([last], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_>>()?;
    let mut lost = Vec::new();
    for (sink, cursor) in sinks {
        dead_letter(connection, &sink, (cursor + 1, last), reason, now)?;
        write::set_cursor(connection, &sink, last.unsigned_abs())?;
        lost.push(DeadLetterRange {
            sink,
            first: (cursor + 1).unsigned_abs(),
            last: last.unsigned_abs(),
            reason,
        });
    }
    Ok(lost)
}

/// Notes a range that a sink lost: as part of the one that ends where it begins, if there is one.
fn dead_letter(
    connection: &Connection,
    sink: &str,
    (first, last): (i64, i64),
    reason: DeadLetterReason,
    now: ClockTime,
) -> Result<()> {
    let row = params![sink, first, last, now.0, reason.as_ref()];
    if connection
        .prepare_cached(LONGER_DEAD_LETTER)?
        .execute(row)?
        > 0
    {
        return Ok(());
    }
    let mut letter = connection.prepare_cached(
        "INSERT INTO dead_letters (at, sink, first_sequence, last_sequence, reason) \
         VALUES (?4, ?1, ?2, ?3, ?5)",
    )?;
    letter.execute(row).map(drop)
}

fn quarantine(connection: &Connection, rows: usize, upkeep: &mut Upkeep) -> Result<()> {
    let allowed = integer(QUARANTINE_MAX_BYTES);
    let bytes = meta::get(connection, "quarantine_bytes")?;
    let Some(oldest) = oldest(connection, OLDEST_QUARANTINED, rows, bytes, |_, bytes| {
        bytes > allowed
    })?
    else {
        return Ok(());
    };
    upkeep.more |= oldest.more;
    upkeep.quarantine_evicted = connection
        .prepare_cached("DELETE FROM quarantine WHERE id <= ?1")?
        .execute([oldest.last])?;
    meta::set(connection, "quarantine_bytes", oldest.bytes)
}

/// The oldest rows of a table, which must go.
struct Oldest {
    /// The last one of them.
    last: i64,
    /// When that one was written.
    at: i64,
    /// Bytes that the table has without them.
    bytes: i64,
    /// There may be more.
    more: bool,
}

/// Finds the rows that must go of a table of `bytes`, at most `rows`: `sql` gives the number, time
/// and bytes of each.
fn oldest(
    connection: &Connection,
    sql: &str,
    rows: usize,
    mut bytes: i64,
    must_go: impl Fn(i64, i64) -> bool,
) -> Result<Option<Oldest>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = statement.query([integer(rows as u64)])?;
    let (mut newest, mut count) = (None, 0);
    while let Some(row) = found.next()? {
        let (number, at, size): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if !must_go(at, bytes) {
            break;
        }
        (newest, bytes, count) = (Some((number, at)), bytes - size, count + 1);
    }
    Ok(newest.map(|(last, at)| Oldest {
        last,
        at,
        bytes,
        more: count >= rows,
    }))
}
