//! What SQLite's errors mean for a store, and what to do about them.

use std::path::Path;

use rusqlite::ErrorCode;
use rusqlite::ffi::{SQLITE_IOERR_DIR_FSYNC, SQLITE_IOERR_FSYNC, SQLITE_IOERR_SHMSIZE};

use crate::store::error::{Operation, StoreError, StoreErrorKind};

pub(super) fn from_sqlite(path: &Path, op: Operation, source: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    let Some(code) = source.sqlite_error_code() else {
        // A row that is not as it was written. The text of this error may hold a user's data.
        return StoreError::Damaged {
            path,
            what: "a row can't be read".to_owned(),
        };
    };
    if code == ErrorCode::NotADatabase {
        return StoreError::Foreign {
            path,
            why: "not an SQLite file".to_owned(),
        };
    }
    if code == ErrorCode::DatabaseCorrupt {
        return StoreError::Damaged {
            path,
            what: source.to_string(),
        };
    }
    let (kind, advice) = meaning(&source, code);
    StoreError::Database {
        path,
        op,
        kind,
        advice,
        source: source.into(),
    }
}

/// A quota that is used up looks to SQLite like a disk that fails, and so it does here.
fn meaning(source: &rusqlite::Error, code: ErrorCode) -> (StoreErrorKind, &'static str) {
    const UNSURE: [i32; 2] = [SQLITE_IOERR_FSYNC, SQLITE_IOERR_DIR_FSYNC];
    const FORBIDDEN: [ErrorCode; 3] = [
        ErrorCode::ReadOnly,
        ErrorCode::CannotOpen,
        ErrorCode::PermissionDenied,
    ];
    const LOCKED: [ErrorCode; 2] = [ErrorCode::DatabaseBusy, ErrorCode::DatabaseLocked];
    let extended = source.sqlite_error().map_or(0, |error| error.extended_code);
    // The latter: there is no space for the index of the WAL, which is made at opening.
    if code == ErrorCode::DiskFull || extended == SQLITE_IOERR_SHMSIZE {
        return (
            StoreErrorKind::Full,
            ": its disk is full, free some space there",
        );
    }
    if code == ErrorCode::SystemIoFailure {
        let kind = if UNSURE.contains(&extended) {
            StoreErrorKind::Fatal
        } else {
            StoreErrorKind::Failed
        };
        let advice =
            ": its disk fails, or its quota is used up; the kernel's log (`dmesg`) says more";
        return (kind, advice);
    }
    let meanings = [
        (
            &FORBIDDEN[..],
            StoreErrorKind::Failed,
            ": its disk is read-only, or its files belong to another user",
        ),
        (
            &LOCKED[..],
            StoreErrorKind::Busy,
            ": another program keeps it locked, end that one",
        ),
        (
            &[ErrorCode::OperationInterrupted][..],
            StoreErrorKind::Busy,
            ": it took too long; ask for less at once",
        ),
    ];
    let meaning = meanings.iter().find(|(codes, ..)| codes.contains(&code));
    meaning.map_or((StoreErrorKind::Failed, ""), |(_, kind, advice)| {
        (*kind, *advice)
    })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use rusqlite::ffi;

    use super::*;

    fn error(code: i32) -> StoreError {
        let source = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        from_sqlite(Path::new("/s/hearthd.db"), Operation::Commit, source)
    }

    /// A code of SQLite, is it a full disk, is it fatal, and a part of the text.
    const CASES: &[(i32, bool, bool, &str)] = &[
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
    ];

    #[test]
    fn an_error_says_what_to_do() {
        for (code, is_full, is_fatal, advice) in CASES {
            let error = error(*code);
            let text = error.to_string();
            assert_eq!(
                (error.is_full(), error.is_fatal()),
                (*is_full, *is_fatal),
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
        let path = PathBuf::from("/s/hearthd.db.ballast");
        let failed = |kind: io::ErrorKind| StoreError::Ballast {
            path: path.clone(),
            source: kind.into(),
        };
        assert!(failed(io::ErrorKind::StorageFull).is_full());
        assert!(failed(io::ErrorKind::QuotaExceeded).is_full());
        assert!(!failed(io::ErrorKind::PermissionDenied).is_full());
    }

    #[test]
    fn a_row_that_can_not_be_read_is_damage_and_not_quoted() {
        let source = rusqlite::Error::InvalidColumnType(
            1,
            "AVPHwEu-user".to_owned(),
            rusqlite::types::Type::Text,
        );
        let error = from_sqlite(Path::new("/s/hearthd.db"), Operation::Read, source);
        assert!(error.is_fatal());
        assert!(
            !format!("{error} {error:?}").contains("AVPHwEu"),
            "{error:?}"
        );
    }
}
