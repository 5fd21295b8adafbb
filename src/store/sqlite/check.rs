//! Is this file what hearthd left? Asked before anything is written to it.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::{Connection, Result};

use super::error::from_sqlite;
use super::files;
use super::mark::Mark;
use super::meta;
use crate::store::error::{Operation, StoreError};

/// "hear", by which other tools know a store of hearthd.
pub(super) const APPLICATION_ID: i64 = 0x6865_6172;

/// The schema that this hearthd reads and writes.
pub(super) const SCHEMA_VERSION: i64 = 5;

/// The tables of a store.
pub(super) const SCHEMA: &str = include_str!("../schema.sql");

/// Largest store of which every page is looked at when it is opened: about a second at the 250 MB/s
/// of a small server, some seconds on a memory card. A larger one shows its damage when it is met.
const ALL_PAGES_MAX_BYTES: u64 = 256 << 20;

/// Checks that the file is a store of hearthd; returns its schema, which is not a newer one.
pub(super) fn kind(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let number = |pragma| {
        let number = connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        number.map_err(|source| from_sqlite(path, Operation::Open, source))
    };
    let application = number("application_id")?;
    let found = number("user_version")?;
    let path = path.to_owned();
    if application != APPLICATION_ID {
        let why = format!("an SQLite file of another program, application id {application}");
        return Err(StoreError::Foreign { path, why });
    }
    if found > SCHEMA_VERSION {
        return Err(StoreError::Newer {
            path,
            found,
            known: SCHEMA_VERSION,
        });
    }
    Ok(found)
}

/// Checks that the numbers agree with each other, and that no commit is missing of which the mark
/// knows. The mark must be older than the connection's snapshot.
pub(super) fn numbers(
    connection: &Connection,
    path: &Path,
    mark: Option<Mark>,
) -> Result<(), StoreError> {
    let failed = |source| from_sqlite(path, Operation::Open, source);
    // One snapshot, since the writer may commit in between.
    let snapshot = connection.unchecked_transaction().map_err(failed)?;
    let connection = &*snapshot;
    if let Some(what) = odd_numbers(connection).map_err(failed)? {
        return Err(damaged(path, what));
    }
    let Some(mark) = mark else { return Ok(()) };
    let found = current(connection).map_err(failed)?;
    let what = if found.id != mark.id {
        "it is another store".to_owned()
    } else if found.commits < mark.commits {
        let Mark { commits, .. } = mark;
        format!(
            "it has {} commits of {commits}: its WAL is missing or cut",
            found.commits
        )
    } else {
        return Ok(());
    };
    Err(StoreError::RolledBack {
        path: path.to_owned(),
        mark: files::mark(path),
        what,
    })
}

/// Checks that all tables are there, as they were made.
pub(super) fn tables(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let missing = missing_tables(connection);
    match missing.map_err(|source| from_sqlite(path, Operation::Open, source))? {
        Some(what) => Err(damaged(path, what)),
        None => Ok(()),
    }
}

fn damaged(path: &Path, what: String) -> StoreError {
    StoreError::Damaged {
        path: path.to_owned(),
        what,
    }
}

/// What the mark of this store has to say.
pub(super) fn current(connection: &Connection) -> Result<Mark> {
    Ok(Mark {
        id: meta::get(connection, "id")?,
        commits: meta::get(connection, "commits")?,
    })
}

fn missing_tables(connection: &Connection) -> Result<Option<String>> {
    let empty = Connection::open_in_memory()?;
    empty.execute_batch(SCHEMA)?;
    let found = definitions(connection)?;
    let missing = definitions(&empty)?
        .into_iter()
        .find(|table| !found.contains(table));
    Ok(missing.map(|(name, _)| format!("{name} is missing, or not as it was made")))
}

/// The names of tables and indexes, and how they are made.
fn definitions(connection: &Connection) -> Result<BTreeSet<(String, Option<String>)>> {
    let mut statement = connection.prepare("SELECT name, sql FROM sqlite_schema")?;
    statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

fn odd_numbers(connection: &Connection) -> Result<Option<String>> {
    let last = meta::get(connection, "last_sequence")?;
    let newest = "SELECT max(sequence) FROM journal";
    let newest: Option<i64> = connection.query_row(newest, [], |row| row.get(0))?;
    let odd = newest.filter(|newest| *newest != last);
    Ok(odd.map(|newest| format!("its journal ends with {newest}, its last record was {last}")))
}

/// Looks at every page of a store that is not too large for that.
pub(super) fn pages(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    if path
        .metadata()
        .is_ok_and(|file| file.len() > ALL_PAGES_MAX_BYTES)
    {
        return Ok(());
    }
    let verdict = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    let verdict: String = verdict.map_err(|source| from_sqlite(path, Operation::Open, source))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(StoreError::Damaged {
        path: path.to_owned(),
        what: verdict.replace('\n', " "),
    })
}
