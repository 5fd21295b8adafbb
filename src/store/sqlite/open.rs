//! Finding, making, locking and checking the file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::{check, mark};

use crate::store::{Operation, StoreError};

/// How long to wait for a lock that another connection holds. Readers never block the writer in
/// WAL mode, so only a checkpoint or a foreign tool can, and briefly.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// Statements kept compiled: more than this store has.
const STATEMENTS: usize = 64;

/// What is kept of a log's file when the log is begun anew, in bytes: what it comes to by itself (4
/// MiB and a step), and less than the ballast, so that it can be written back on a full disk.
pub(super) const WAL_KEPT_BYTES: u64 = 6 << 20;

/// - FULL syncs the log at each commit, which is what makes an ack safe.
/// - 16 MiB of page cache hold the upper levels of all indexes.
/// - SQLite doesn't write the log back by itself: [`super::Sqlite`] does, and sees what fails.
/// - A log that a reader made longer is cut when it is next begun anew.
/// - Cells are checked when a page is read, which finds damage before it spreads.
fn pragmas() -> String {
    format!(
        "PRAGMA synchronous = FULL; PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY; \
         PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = {WAL_KEPT_BYTES}; \
         PRAGMA cell_size_check = ON;"
    )
}

/// Takes the lock that keeps other writers off. It is gone when the file is closed, also by a
/// crash; the empty file stays.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let lock = with_suffix(path, ".lock");
    let failed = |source| StoreError::Open {
        path: path.to_owned(),
        source,
    };
    let file = private(OpenOptions::new().create(true))
        .open(&lock)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked {
            path: path.to_owned(),
            lock,
        }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// True if there is a store; an error for what can't be one.
pub(super) fn exists(path: &Path) -> Result<bool, StoreError> {
    let foreign = |why: &str| StoreError::Foreign {
        path: path.to_owned(),
        why: why.to_owned(),
    };
    match path.metadata() {
        Ok(found) if !found.is_file() => Err(foreign("not a file")),
        // A store is made whole and then renamed, so it is never empty.
        Ok(found) if found.len() == 0 => Err(foreign("an empty file")),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let traces = [with_suffix(path, "-wal"), mark::path(path)];
            match traces.into_iter().find(|trace| trace.exists()) {
                Some(trace) => Err(StoreError::Gone {
                    path: path.to_owned(),
                    trace,
                }),
                None => Ok(false),
            }
        }
        Err(source) => Err(StoreError::Open {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Makes a new store: under another name first, so that a crash leaves no half of one.
pub(super) fn create(path: &Path) -> Result<(), StoreError> {
    let draft = with_suffix(path, ".new");
    let failed = |source| StoreError::Open {
        path: path.to_owned(),
        source,
    };
    private(OpenOptions::new().create(true).truncate(true))
        .open(&draft)
        .map_err(failed)?;
    let schema = format!(
        "PRAGMA journal_mode = WAL; BEGIN; {} PRAGMA application_id = {}; \
         PRAGMA user_version = {}; COMMIT;",
        check::SCHEMA,
        check::APPLICATION_ID,
        check::SCHEMA_VERSION
    );
    let connection = Connection::open(&draft).and_then(|connection| {
        connection.execute_batch(&pragmas())?;
        connection.execute_batch(&schema)?;
        connection.close().map_err(|(_, error)| error)
    });
    connection.map_err(|source| StoreError::from_sqlite(path, Operation::Open, source))?;
    std::fs::rename(&draft, path).map_err(failed)?;
    File::open(folder_of(path))
        .and_then(|folder| folder.sync_all())
        .map_err(failed)
}

/// The folder of a file.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Syncs the log of a store that nobody has open. A killed process may have left a commit in it
/// that is not on disk: it counts from now on, so that messages are acked as its duplicates, and a
/// loss of power must not take it away any more.
pub(super) fn sync_wal(path: &Path) -> Result<(), StoreError> {
    match File::open(with_suffix(path, "-wal")).and_then(|log| log.sync_all()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        synced => synced.map_err(|source| StoreError::Open {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Opens a file that is there, and checks it. What is refused is left as it is.
pub(super) fn connect(path: &Path, access: OpenFlags) -> Result<Connection, StoreError> {
    let failed = |source| StoreError::from_sqlite(path, Operation::Open, source);
    let unreadable = |source| StoreError::Open {
        path: mark::path(path),
        source,
    };
    // Before the store is looked into: its writer may commit in between.
    let mark = mark::read(path).map_err(unreadable)?;
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    // A log that belongs to another store, or to none, must not be written back at the end.
    keep_wal(&connection, true).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.execute_batch(&pragmas()).map_err(failed)?;
    check::kind(&connection, path)?;
    if access.contains(OpenFlags::SQLITE_OPEN_READ_WRITE) {
        check::pages(&connection, path)?;
    }
    check::content(&connection, path, mark)?;
    if access.contains(OpenFlags::SQLITE_OPEN_READ_WRITE) {
        use_wal(&connection, path)?;
    }
    keep_wal(&connection, false).map_err(failed)?;
    Ok(connection)
}

/// What becomes of the log when the last connection is closed: kept as it is, or written back into
/// the file and removed.
pub(super) fn keep_wal(connection: &Connection, keep: bool) -> rusqlite::Result<()> {
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep)
        .map(drop)
}

/// A copy that `VACUUM INTO` made has no log: there, readers would hold up the writer, and a commit
/// is safe only once the folder is synced too, which SQLite doesn't do.
fn use_wal(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let mode = "PRAGMA journal_mode = WAL";
    let mode = connection.query_row(mode, [], |row| row.get::<_, String>(0));
    match mode
        .map_err(|source| StoreError::from_sqlite(path, Operation::Open, source))?
        .as_str()
    {
        "wal" => Ok(()),
        other => {
            let why = format!("kept in journal mode {other}, as its disk allows no log (WAL)");
            Err(StoreError::Foreign {
                path: path.to_owned(),
                why,
            })
        }
    }
}

/// The store's path with something behind its file name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// For the owner alone: a store holds user ids and clip addresses. SQLite gives its log the same.
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.write(true).mode(0o600)
}
