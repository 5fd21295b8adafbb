//! How far each sink has come.

use serde::Serialize;

use crate::store::{Snapshot, StoreError};

/// A sink, as the store knows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkState {
    pub name: String,
    /// The number up to which it has everything.
    pub cursor: u64,
    /// Records that it has yet to get, of all types.
    pub backlog: u64,
    /// False for one that the settings don't name any more.
    pub is_set: bool,
}

/// Every sink that the store knows, sorted by name.
pub fn sinks(snapshot: &Snapshot<'_>) -> Result<Vec<SinkState>, StoreError> {
    let last = snapshot.last_sequence()?;
    let rows = snapshot.sinks()?.into_iter();
    let state = |row: crate::store::SinkRow| SinkState {
        backlog: last.saturating_sub(row.cursor),
        name: row.name,
        cursor: row.cursor,
        is_set: row.is_set,
    };
    Ok(rows.map(state).collect())
}
