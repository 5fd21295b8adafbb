//! The numbers that a store keeps about itself.

use rusqlite::{Connection, Result, params};

/// Reads a number.
pub(super) fn get(connection: &Connection, name: &str) -> Result<i64> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
    statement.query_row([name], |row| row.get(0))
}

pub(super) fn set(connection: &Connection, name: &str, value: i64) -> Result<()> {
    let mut statement = connection.prepare_cached("UPDATE meta SET value = ?2 WHERE name = ?1")?;
    statement.execute(params![name, value]).map(drop)
}

/// Changes a number to one that is not smaller.
pub(super) fn advance(connection: &Connection, name: &str, value: i64) -> Result<()> {
    let sql = "UPDATE meta SET value = max(value, ?2) WHERE name = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    statement.execute(params![name, value]).map(drop)
}

/// Counts a commit, which this is a part of; returns its number.
pub(super) fn count_commit(connection: &Connection) -> Result<i64> {
    let sql = "UPDATE meta SET value = value + 1 WHERE name = 'commits' RETURNING value";
    connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get(0))
}

/// SQLite's integers are signed; our numbers never come near 2^63.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
