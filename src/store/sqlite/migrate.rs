//! Stores of older schemas become today's: forward only, each step in one transaction.

mod held;

use std::fs;
use std::path::Path;

use rusqlite::{Connection, Result};

use super::access::Access;
use super::check::{self, SCHEMA_VERSION};
use super::error::from_sqlite;
use super::files::{self, with_suffix};
use super::meta;
use crate::store::error::{Operation, StoreError};

/// The oldest schema that can be migrated; 1 to 3 were never released.
const OLDEST: i64 = 4;

/// What makes a store one of the next schema: tables first, then rows that SQL can't rewrite.
struct Step {
    tables: &'static str,
    rows: fn(&Connection) -> Result<()>,
}

/// The first one is from [`OLDEST`].
const STEPS: [Step; 1] = [Step {
    tables: include_str!("../migrations/4_to_5.sql"),
    rows: held::scope_ordering_keys,
}];

/// Refuses a schema that can't be used as it is, nor migrated by who opens it.
pub(super) fn check(path: &Path, found: i64, access: Access) -> Result<(), StoreError> {
    let path = path.to_owned();
    if found < OLDEST {
        return Err(StoreError::Older {
            path,
            found,
            oldest: OLDEST,
        });
    }
    if found < SCHEMA_VERSION && access == Access::Read {
        return Err(StoreError::Unmigrated {
            path,
            found,
            known: SCHEMA_VERSION,
        });
    }
    Ok(())
}

/// Migrates a store of schema `found`, if it is not today's.
pub(super) fn run(connection: &Connection, path: &Path, found: i64) -> Result<(), StoreError> {
    let failed = |source| from_sqlite(path, Operation::Open, source);
    if found == 4 {
        // The ballast file had another name. Before anything else: on a full disk it is released.
        fs::rename(with_suffix(path, ".reserve"), files::ballast(path)).ok();
    }
    for (from, step) in (OLDEST..).zip(STEPS).filter(|(from, _)| *from >= found) {
        let transaction = connection.unchecked_transaction().map_err(failed)?;
        transaction.execute_batch(step.tables).map_err(failed)?;
        (step.rows)(&transaction).map_err(failed)?;
        if from + 1 == SCHEMA_VERSION {
            // Not after the commit: what does not become a store of today stays as it was.
            check::tables(&transaction, path)?;
        }
        meta::count_commit(&transaction).map_err(failed)?;
        transaction
            .pragma_update(None, "user_version", from + 1)
            .map_err(failed)?;
        transaction.commit().map_err(failed)?;
        tracing::info!(from, to = from + 1, "migrated the store");
    }
    Ok(())
}
