//! What can go wrong with a store, and what to do about it.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

/// What went wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process writes to it.
    #[error("store {path} is in use by another process (lock file {lock}): stop that one first")]
    Locked { path: PathBuf, lock: PathBuf },
    /// It was written by a later hearthd.
    #[error(
        "store {path} has schema {found}, this hearthd knows up to {known}: \
         run the newer hearthd that wrote it, or restore a backup"
    )]
    Newer {
        path: PathBuf,
        found: i64,
        /// The latest version that is known.
        known: i64,
    },
    /// Its schema is one that no migration starts from.
    #[error(
        "store {path} has schema {found}, this hearthd migrates {oldest} and later: run the \
         hearthd between the two first, or move {path}* away and start anew"
    )]
    Older {
        path: PathBuf,
        found: i64,
        /// The oldest schema that can be migrated.
        oldest: i64,
    },
    /// It is of an older schema, and only a writer may change that.
    #[error(
        "store {path} has schema {found}, this hearthd reads {known}: start the service once, \
         which migrates it"
    )]
    Unmigrated {
        path: PathBuf,
        found: i64,
        known: i64,
    },
    /// It is no store of hearthd.
    #[error(
        "{path} is not a hearthd store ({why}): name another file in store.path, or move it; \
         if it was one, {}", recovery(.path)
    )]
    Foreign {
        path: PathBuf,
        /// What it is instead.
        why: String,
    },
    /// It can't be read as it was written.
    #[error("store {path} is damaged ({what}): {}", recovery(.path))]
    Damaged {
        path: PathBuf,
        /// How it shows.
        what: String,
    },
    /// It is older than what this machine wrote last, or another one.
    #[error(
        "store {path} is not as hearthd left it ({what}): put back what is missing; or, if an \
         older copy is there on purpose or what is missing is given up, remove {mark}: messages \
         that were acked since are then lost"
    )]
    RolledBack {
        path: PathBuf,
        /// The file that says how it was left.
        mark: PathBuf,
        /// How it differs.
        what: String,
    },
    /// It was there, and is not any more.
    #[error(
        "store {path} is gone, but {trace} is there: put the store back, from its disk or from a \
         backup; to start anew, remove {trace}"
    )]
    Gone {
        path: PathBuf,
        /// What it left behind.
        trace: PathBuf,
    },
    /// It does not exist, and was to be read.
    #[error("store {path} does not exist: check store.path, or start `hearthd run` once")]
    Missing { path: PathBuf },
    /// The file can't be made or opened.
    #[error("failed to open store {path}: check that its folder exists and is writable")]
    Open { path: PathBuf, source: io::Error },
    /// There is no space for the ballast file.
    #[error(
        "failed to keep the ballast file {path}: free some space on that disk, else nothing can be \
         deleted once it is full"
    )]
    Ballast { path: PathBuf, source: io::Error },
    /// A reader keeps the WAL from being written back.
    #[error(
        "the WAL of store {path} has {bytes} bytes, since another program has been reading the \
         store all the while: end that program (`fuser {path}` finds it)"
    )]
    WalPinned { path: PathBuf, bytes: u64 },
    /// A row that can't be read back.
    #[error("row {key} of table {table} can't be read: the store is damaged, restore a backup")]
    BadRow {
        table: &'static str,
        key: String,
        source: serde_json::Error,
    },
    /// The database reported an error.
    #[error("store {path} failed to {op}{advice}")]
    Database {
        path: PathBuf,
        op: Operation,
        kind: StoreErrorKind,
        /// What to do, after a colon; empty where there is nothing to do.
        advice: &'static str,
        source: Box<dyn Error + Send + Sync>,
    },
}

/// What an error means for whoever called the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// The store can't be used as it is: only a person can change that.
    Refused,
    /// The disk is full. [`Writer::free_space`](super::Writer::free_space) may help.
    Full,
    /// Another program holds the store up, or it took too long: to be tried again.
    Busy,
    /// The disk failed, or is not as it should be: to be tried again.
    Failed,
    /// Only a restart can help: what was written may or may not be on disk, or what is on disk is
    /// not what was written.
    Fatal,
}

impl StoreError {
    pub fn kind(&self) -> StoreErrorKind {
        const FULL: [io::ErrorKind; 2] = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        match self {
            Self::Database { kind, .. } => *kind,
            Self::Open { source, .. } | Self::Ballast { source, .. } => {
                if FULL.contains(&source.kind()) {
                    StoreErrorKind::Full
                } else {
                    StoreErrorKind::Failed
                }
            }
            Self::WalPinned { .. } => StoreErrorKind::Busy,
            Self::BadRow { .. } | Self::Damaged { .. } => StoreErrorKind::Fatal,
            Self::Locked { .. }
            | Self::Newer { .. }
            | Self::Older { .. }
            | Self::Unmigrated { .. }
            | Self::Foreign { .. }
            | Self::RolledBack { .. }
            | Self::Gone { .. }
            | Self::Missing { .. } => StoreErrorKind::Refused,
        }
    }

    pub fn is_full(&self) -> bool {
        self.kind() == StoreErrorKind::Full
    }

    pub fn is_fatal(&self) -> bool {
        self.kind() == StoreErrorKind::Fatal
    }

    /// What was tried.
    pub fn operation(&self) -> Operation {
        match self {
            Self::Database { op, .. } => *op,
            Self::BadRow { .. } | Self::Damaged { .. } => Operation::Read,
            Self::WalPinned { .. } => Operation::Commit,
            Self::Ballast { .. } => Operation::Trim,
            Self::Locked { .. }
            | Self::Newer { .. }
            | Self::Older { .. }
            | Self::Unmigrated { .. }
            | Self::Foreign { .. }
            | Self::RolledBack { .. }
            | Self::Gone { .. }
            | Self::Missing { .. }
            | Self::Open { .. } => Operation::Open,
        }
    }
}

/// What to do with a store that can't be used.
fn recovery(path: &Path) -> String {
    let path = path.display();
    format!(
        "remove {path}-wal, {path}-shm and {path}.mark and restore a backup of {path}; without \
         one, move {path}* away and start anew: then quarantine, open notifications and what \
         sinks have not got yet are lost, and what is delivered again is not known as a duplicate"
    )
}

/// What a store can fail at: a fixed set, used as a metric label.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    strum::AsRefStr,
    strum::Display,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Operation {
    Open,
    Read,
    Commit,
    Trim,
}
