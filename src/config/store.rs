//! `[store]`: the durable store.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::limits::{DAY, GIB, Limits, MIB, MINUTE, seconds};
use super::table::Table;

/// `[store]`: the durable store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Store {
    /// The database file; its directory must keep files over a restart and a power loss. Default
    /// `/var/lib/hearthd/hearthd.db`.
    pub path: PathBuf,
    /// Age at which a journal record is deleted. Too high costs disk; too low takes records from
    /// sinks that were down for longer. Default 7 d.
    pub journal_max_age: Duration,
    /// Size at which the journal is full, and the sink furthest behind loses its oldest records.
    /// Too high fills the disk; too low does that after a short outage. Bytes, default 1 GiB.
    pub journal_max_size: u64,
}

const DEFAULT_PATH: &str = "/var/lib/hearthd/hearthd.db";
// A minute lets every sink read a record before it goes; ten years is "for ever" without an
// overflow.
const JOURNAL_MAX_AGE: Limits<Duration> = seconds(7 * DAY, MINUTE, 3_650 * DAY);
// Below 1 MiB one burst fills the journal; more than 1 TiB is a wrong unit.
const JOURNAL_MAX_SIZE: Limits<u64> = Limits::new(GIB, MIB, 1_024 * GIB);

impl Store {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let path = table.text("path");
        Self {
            path: path.map_or(PathBuf::from(DEFAULT_PATH), PathBuf::from),
            journal_max_age: table.duration("journal_max_age", &JOURNAL_MAX_AGE),
            journal_max_size: table.size("journal_max_size", &JOURNAL_MAX_SIZE),
        }
    }
}
