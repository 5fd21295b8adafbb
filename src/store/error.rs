//! What can go wrong with a store, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use rusqlite::ffi::{SQLITE_IOERR_DIR_FSYNC, SQLITE_IOERR_FSYNC, SQLITE_IOERR_SHMSIZE};

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
    /// It was written by a hearthd that was never released.
    #[error(
        "store {path} has schema {found}, this hearthd needs {known}: no released hearthd wrote \
         it, so move {path}* away and start anew"
    )]
    Older {
        /// The store.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The version that is needed.
        known: i64,
    },
    /// It is no store of hearthd.
    #[error(
        "{path} is not a hearthd store ({why}): name another file in store.path, or move it; \
         if it was one, {}", recovery(.path)
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        why: String,
    },
    /// It can't be read as it was written.
    #[error("store {path} is damaged ({what}): {}", recovery(.path))]
    Damaged {
        /// The store.
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
        /// The store.
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
        /// The store.
        path: PathBuf,
        /// What it left behind.
        trace: PathBuf,
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
        source: io::Error,
    },
    /// There is no room for the reserve.
    #[error(
        "failed to keep {path} as a reserve for a full disk: free some space on that disk, else \
         nothing can be deleted once it is full"
    )]
    Ballast {
        /// The reserve.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A reader keeps the log from being written back.
    #[error(
        "the log of store {path} has {bytes} bytes, since another program has been reading the \
         store all the while: end that program (`fuser {path}` finds it)"
    )]
    WalPinned {
        /// The store.
        path: PathBuf,
        /// Bytes of the log.
        bytes: u64,
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
    #[error("store {path} failed to {op}{}", advice(.source))]
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
    /// What an error of SQLite means for the store.
    pub(super) fn from_sqlite(path: &Path, op: Operation, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        let Some(code) = source.sqlite_error_code() else {
            // A row that is not as it was written. The text of this error may hold a user's data.
            return Self::Damaged {
                path,
                what: "a row can't be read".to_owned(),
            };
        };
        if code == ErrorCode::NotADatabase {
            return Self::Foreign {
                path,
                why: "not an SQLite file".to_owned(),
            };
        }
        if code == ErrorCode::DatabaseCorrupt {
            return Self::Damaged {
                path,
                what: source.to_string(),
            };
        }
        Self::Sqlite { path, op, source }
    }

    /// True if only a restart can help: what was written may or may not be on disk, or what is on
    /// disk is not what was written.
    pub fn is_fatal(&self) -> bool {
        const UNSURE: [i32; 2] = [SQLITE_IOERR_FSYNC, SQLITE_IOERR_DIR_FSYNC];
        if let Self::Sqlite { source, .. } = self {
            return source
                .sqlite_error()
                .is_some_and(|e| UNSURE.contains(&e.extended_code));
        }
        matches!(self, Self::Damaged { .. } | Self::BadRow { .. })
    }

    /// True if the disk is full. [`Store::free_space`](super::Store::free_space) may help.
    ///
    /// A quota that is used up looks to SQLite like a disk that fails, and so it does here.
    pub fn is_full(&self) -> bool {
        const FULL: [io::ErrorKind; 2] = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        if let Self::Open { source, .. } | Self::Ballast { source, .. } = self {
            return FULL.contains(&source.kind());
        }
        matches!(self, Self::Sqlite { source, .. } if is_full(source))
    }

    /// What was tried.
    pub fn operation(&self) -> Operation {
        match self {
            Self::Sqlite { op, .. } => *op,
            Self::BadRow { .. } | Self::Damaged { .. } => Operation::Read,
            Self::WalPinned { .. } => Operation::Commit,
            Self::Ballast { .. } => Operation::Trim,
            Self::Locked { .. }
            | Self::Newer { .. }
            | Self::Older { .. }
            | Self::Foreign { .. }
            | Self::RolledBack { .. }
            | Self::Gone { .. }
            | Self::Missing { .. }
            | Self::Open { .. } => Operation::Open,
        }
    }
}

fn is_full(source: &rusqlite::Error) -> bool {
    source.sqlite_error().is_some_and(|error| {
        // The latter: there is no room for the index of the log, which is made at opening.
        error.code == ErrorCode::DiskFull || error.extended_code == SQLITE_IOERR_SHMSIZE
    })
}

/// What to do about an error of SQLite, where there is something to do.
fn advice(source: &rusqlite::Error) -> &'static str {
    if is_full(source) {
        return ": its disk is full, free some space there";
    }
    match source.sqlite_error_code() {
        Some(ErrorCode::SystemIoFailure) => {
            ": its disk fails, or its quota is used up; the kernel's log (`dmesg`) says more"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            ": its disk is read-only, or its files belong to another user"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            ": another program keeps it locked, end that one"
        }
        _ => "",
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

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn error(code: i32) -> StoreError {
        let source = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        StoreError::from_sqlite(Path::new("/s/hearthd.db"), Operation::Commit, source)
    }

    #[test]
    fn an_error_says_what_to_do() {
        for (code, is_full, is_fatal, advice) in [
            (
                ffi::SQLITE_FULL,
                true,
                false,
                "failed to commit: its disk is full, free some space",
            ),
            (SQLITE_IOERR_SHMSIZE, true, false, "its disk is full"),
            (
                SQLITE_IOERR_FSYNC,
                false,
                true,
                "failed to commit: its disk fails",
            ),
            (SQLITE_IOERR_DIR_FSYNC, false, true, "its disk fails"),
            (
                ffi::SQLITE_IOERR_WRITE,
                false,
                false,
                "its disk fails, or its quota is used up",
            ),
            (
                ffi::SQLITE_IOERR_READ,
                false,
                false,
                "the kernel's log (`dmesg`) says more",
            ),
            (ffi::SQLITE_READONLY, false, false, "its disk is read-only"),
            (
                ffi::SQLITE_READONLY_DBMOVED,
                false,
                false,
                "its disk is read-only",
            ),
            (
                ffi::SQLITE_CANTOPEN,
                false,
                false,
                "its files belong to another user",
            ),
            (
                ffi::SQLITE_BUSY,
                false,
                false,
                "another program keeps it locked",
            ),
            (ffi::SQLITE_CORRUPT, false, true, "is damaged"),
            (
                ffi::SQLITE_CORRUPT_INDEX,
                false,
                true,
                "restore a backup of /s/hearthd.db",
            ),
            (
                ffi::SQLITE_NOTADB,
                false,
                false,
                "is not a hearthd store (not an SQLite file)",
            ),
        ] {
            let error = error(code);
            let text = error.to_string();
            assert_eq!(
                (error.is_full(), error.is_fatal()),
                (is_full, is_fatal),
                "{code}: {text}"
            );
            assert!(
                text.contains("/s/hearthd.db") && text.contains(advice),
                "{code}: {text}"
            );
        }
    }

    #[test]
    fn a_full_disk_is_told_from_other_faults_of_files() {
        let path = PathBuf::from("/s/hearthd.db.reserve");
        let reserve = |kind: io::ErrorKind| StoreError::Ballast {
            path: path.clone(),
            source: kind.into(),
        };
        assert!(reserve(io::ErrorKind::StorageFull).is_full());
        assert!(reserve(io::ErrorKind::QuotaExceeded).is_full());
        assert!(!reserve(io::ErrorKind::PermissionDenied).is_full());
    }

    #[test]
    fn a_row_that_can_not_be_read_is_damage_and_not_quoted() {
        let source = rusqlite::Error::InvalidColumnType(
            1,
            "AVPHwEu-user".to_owned(),
            rusqlite::types::Type::Text,
        );
        let error = StoreError::from_sqlite(Path::new("/s/hearthd.db"), Operation::Read, source);
        assert!(error.is_fatal());
        assert!(
            !format!("{error} {error:?}").contains("AVPHwEu"),
            "{error:?}"
        );
    }
}
