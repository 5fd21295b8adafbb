//! What survives: one transaction per batch, read back at start.
//!
//! The closed list of stores, and what they have in common. A store decides nothing: it writes the
//! engine's [`Changes`] as they are, numbers the journal, and forgets what is past its retention.

pub mod memory;
pub mod sqlite;

use std::path::PathBuf;
use std::time::Duration;

pub use self::memory::Memory;
pub use self::sqlite::Sqlite;
use crate::engine::change::Changes;
use crate::engine::threads::Notification;
use crate::engine::{Loaded, Lookup, Restored};
use crate::event::{ClockTime, NotificationId};
use crate::record::{Record, RecordKind};

/// Most bytes of quarantined messages kept; the oldest go first. A broken publisher must not fill
/// the disk that the journal needs.
pub const QUARANTINE_MAX_BYTES: u64 = 256 << 20;

/// Most rows removed per table in one go, so that forgetting never stalls the pipeline for long.
pub const TRIM_ROWS: usize = 10_000;

/// What went wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process writes to it.
    #[error("store {path} is in use by another process (lock file {lock}): stop that one first")]
    Locked {
        /// The store.
        path: PathBuf,
        /// The lock file.
        lock: PathBuf,
    },
    /// It was written by a later hearthd.
    #[error(
        "store {path} has schema {found}, this hearthd knows up to {known}: \
         run the newer hearthd that wrote it, or restore a backup"
    )]
    Newer {
        /// The store.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The latest version that is known.
        known: i64,
    },
    /// It is no store of hearthd.
    #[error("{path} is not a hearthd store ({why}): name another file in store.path, or move it")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        why: String,
    },
    /// It does not exist, and was to be read.
    #[error("store {path} does not exist: check store.path, or start `hearthd run` once")]
    Missing {
        /// The store.
        path: PathBuf,
    },
    /// The file can't be made or opened.
    #[error("failed to open store {path}: check that its folder exists and is writable")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A row that can't be read back.
    #[error("row {key} of table {table} can't be read: the store is damaged, restore a backup")]
    BadRow {
        /// The table.
        table: &'static str,
        /// The row.
        key: String,
        /// Why.
        source: serde_json::Error,
    },
    /// SQLite reported an error.
    #[error("store {path} failed to {op}")]
    Sqlite {
        /// The store.
        path: PathBuf,
        /// What was tried.
        op: Operation,
        /// Why.
        source: rusqlite::Error,
    },
}

impl StoreError {
    /// True if what was written may or may not be on disk: only a restart can tell.
    pub fn is_fatal(&self) -> bool {
        const SQLITE_IOERR_FSYNC: i32 = 1034;
        const SQLITE_IOERR_DIR_FSYNC: i32 = 1290;
        let Self::Sqlite { source: rusqlite::Error::SqliteFailure(error, _), .. } = self else {
            return false;
        };
        [SQLITE_IOERR_FSYNC, SQLITE_IOERR_DIR_FSYNC].contains(&error.extended_code)
    }
}

impl StoreError {
    /// What was tried.
    pub fn operation(&self) -> Operation {
        match self {
            Self::Sqlite { op, .. } => *op,
            Self::BadRow { .. } => Operation::Read,
            Self::Locked { .. }
            | Self::Newer { .. }
            | Self::Foreign { .. }
            | Self::Missing { .. }
            | Self::Open { .. } => Operation::Open,
        }
    }
}

/// What a store can fail at: a fixed set, used as a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Opening it.
    Open,
    /// Reading rows for a step or for a command.
    Read,
    /// Committing a batch.
    Commit,
    /// Forgetting what is past its retention.
    Trim,
}

impl Operation {
    /// Every operation, in the order of their metrics.
    pub const ALL: [Self; 4] = [Self::Open, Self::Read, Self::Commit, Self::Trim];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Commit => "commit",
            Self::Trim => "trim",
        }
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How long things are kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Dedupe keys, closed notifications, clips of sessions, last releases.
    pub horizon: Duration,
    /// Journal records.
    pub journal_age: Duration,
    /// Bytes of journal records.
    pub journal_bytes: u64,
}

/// What a trim left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// There is more to forget.
    pub more: bool,
    /// Records that were forgotten before their sink had settled them.
    pub lost: Vec<Lost>,
}

/// A range of records that a sink lost, kept as its dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The sink.
    pub sink: String,
    /// The first record.
    pub first: u64,
    /// The last record.
    pub last: u64,
}

/// One record of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRow {
    /// Its number.
    pub sequence: u64,
    /// What it tells of.
    pub kind: RecordKind,
    /// The resource that it is about.
    pub subject: String,
    /// The record, one line of JSON.
    pub line: String,
}

impl JournalRow {
    /// The records that follow the one with the number `last`.
    fn number(records: Vec<Record>, last: u64) -> Vec<Self> {
        let row = |(record, sequence): (Record, u64)| Self {
            sequence,
            kind: record.kind,
            subject: record.subject.clone(),
            line: record.into_line(sequence),
        };
        records.into_iter().zip(last + 1..).map(row).collect()
    }
}

/// One message in quarantine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QuarantineRow {
    /// Its number.
    pub id: i64,
    /// When it was put there.
    pub received_at: String,
    /// Where it came from.
    pub platform: String,
    /// Why it is there.
    pub reason: String,
    /// What exactly is wrong.
    pub detail: String,
    /// The transport's id.
    pub message_id: String,
    /// `file:line`, if it came from a file.
    pub place: Option<String>,
    /// The message as it came.
    #[serde(serialize_with = "as_base64")]
    pub raw: Vec<u8>,
}

fn as_base64<S: serde::Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    use base64::Engine as _;
    to.serialize_str(&base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// A store: where the engine's state and the journal live.
#[derive(Debug)]
pub enum Store {
    /// For replay and tests: gone with the process.
    Memory(Box<Memory>),
    /// A file that survives.
    Sqlite(Box<Sqlite>),
}

impl Store {
    /// What the engine needs to go on.
    pub fn restore(&self) -> Result<Restored, StoreError> {
        match self {
            Self::Memory(memory) => memory.restore(),
            Self::Sqlite(sqlite) => sqlite.restore(),
        }
    }

    /// The rows that a step needs.
    pub fn load(&self, lookup: &Lookup) -> Result<Loaded, StoreError> {
        match self {
            Self::Memory(memory) => memory.load(lookup),
            Self::Sqlite(sqlite) => sqlite.load(lookup),
        }
    }

    /// Writes all changes or none; returns the new rows of the journal. When this returns, they
    /// survive a loss of power (as far as the store survives at all).
    pub fn commit(&mut self, changes: Changes) -> Result<Vec<JournalRow>, StoreError> {
        match self {
            Self::Memory(memory) => memory.commit(changes),
            Self::Sqlite(sqlite) => sqlite.commit(changes),
        }
    }

    /// Forgets what is past its retention, a bounded number of rows at a time.
    pub fn trim(&mut self, now: ClockTime, retention: &Retention) -> Result<Trimmed, StoreError> {
        match self {
            Self::Memory(memory) => {
                memory.trim(now, retention);
                Ok(Trimmed::default())
            }
            Self::Sqlite(sqlite) => sqlite.trim(now, retention),
        }
    }

    /// Every notification, sorted by id.
    pub fn notifications(&self) -> Result<Vec<(NotificationId, Notification)>, StoreError> {
        match self {
            Self::Memory(memory) => memory.notifications(),
            Self::Sqlite(sqlite) => sqlite.notifications(),
        }
    }

    /// The records after a number, in order, at most `limit`.
    pub fn journal(&self, after: u64, limit: usize) -> Result<Vec<JournalRow>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.journal(after, limit)),
            Self::Sqlite(sqlite) => sqlite.journal(after, limit),
        }
    }

    /// The newest messages in quarantine, at most `limit`, oldest first.
    pub fn quarantine(&self, limit: usize) -> Result<Vec<QuarantineRow>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.quarantine(limit)),
            Self::Sqlite(sqlite) => sqlite.quarantine(limit),
        }
    }

    /// The number of the last record; 0 if there never was one.
    pub fn last_sequence(&self) -> Result<u64, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.last_sequence()),
            Self::Sqlite(sqlite) => sqlite.last_sequence(),
        }
    }

    /// The last record that a sink has settled; 0 if none.
    pub fn cursor(&self, sink: &str) -> Result<u64, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.cursor(sink)),
            Self::Sqlite(sqlite) => sqlite.cursor(sink),
        }
    }

    /// Notes the last record that a sink has settled. It never goes back.
    pub fn set_cursor(&mut self, sink: &str, sequence: u64) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => {
                memory.set_cursor(sink, sequence);
                Ok(())
            }
            Self::Sqlite(sqlite) => sqlite.set_cursor(sink, sequence),
        }
    }

    /// Bytes that it takes, about.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Memory(memory) => memory.bytes(),
            Self::Sqlite(sqlite) => sqlite.bytes(),
        }
    }
}
