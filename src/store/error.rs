//! What can go wrong with a store, and what to do about it.

use std::path::PathBuf;

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
