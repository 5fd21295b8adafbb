//! Finding, making, locking and checking the file.

use std::cmp::Ordering;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::store::{Operation, StoreError};

/// "hear", by which other tools know a store of hearthd.
const APPLICATION_ID: i64 = 0x6865_6172;

/// The schema that this hearthd writes.
const SCHEMA_VERSION: i64 = 2;

/// How long to wait for a lock that another connection holds. Readers never block the writer in
/// WAL mode, so only a checkpoint or a foreign tool can, and briefly.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// Statements kept compiled: more than this store has.
const STATEMENTS: usize = 64;

/// FULL syncs the log at each commit, which is what makes an ack safe. 16 MiB of page cache hold
/// the upper levels of all indexes. The log is written back by [`super::Sqlite`].
const PRAGMAS: &str = "PRAGMA synchronous = FULL; PRAGMA cache_size = -16384; \
     PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = 0;";

/// Takes the lock that keeps other writers off. It is gone when the file is closed, also by a
/// crash; the empty file stays.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let lock = with_suffix(path, ".lock");
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    let file = private(OpenOptions::new().create(true)).open(&lock).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: path.to_owned(), lock }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// True if there is a store; an error for what can't be one.
pub(super) fn exists(path: &Path) -> Result<bool, StoreError> {
    let foreign = |why: &str| StoreError::Foreign { path: path.to_owned(), why: why.to_owned() };
    match path.metadata() {
        Ok(found) if !found.is_file() => Err(foreign("not a file")),
        // A store is made whole and then renamed, so it is never empty.
        Ok(found) if found.len() == 0 => Err(foreign("an empty file")),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let traces = ["-wal"].map(|suffix| with_suffix(path, suffix));
            match traces.into_iter().find(|trace| trace.exists()) {
                Some(trace) => Err(StoreError::Gone { path: path.to_owned(), trace }),
                None => Ok(false),
            }
        }
        Err(source) => Err(StoreError::Open { path: path.to_owned(), source }),
    }
}

/// Makes a new store: under another name first, so that a crash leaves no half of one.
pub(super) fn create(path: &Path) -> Result<(), StoreError> {
    let draft = with_suffix(path, ".new");
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    private(OpenOptions::new().create(true).truncate(true)).open(&draft).map_err(failed)?;
    let schema = format!(
        "PRAGMA journal_mode = WAL; BEGIN; {} PRAGMA application_id = {APPLICATION_ID}; \
         PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;",
        include_str!("../schema.sql")
    );
    let connection = Connection::open(&draft).and_then(|connection| {
        connection.execute_batch(PRAGMAS)?;
        connection.execute_batch(&schema)?;
        connection.close().map_err(|(_, error)| error)
    });
    connection.map_err(|source| StoreError::from_sqlite(path, Operation::Open, source))?;
    std::fs::rename(&draft, path).map_err(failed)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new("."))).and_then(|f| f.sync_all()).map_err(failed)
}

/// Syncs the log of a store that nobody has open. A killed process may have left a commit in it
/// that is not on disk: it counts from now on, so that messages are acked as its duplicates, and a
/// loss of power must not take it away any more.
pub(super) fn sync_log(path: &Path) -> Result<(), StoreError> {
    match File::open(with_suffix(path, "-wal")).and_then(|log| log.sync_all()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        synced => synced.map_err(|source| StoreError::Open { path: path.to_owned(), source }),
    }
}

/// Opens a file that is there, and checks that it is a store of a schema that this hearthd knows.
pub(super) fn connect(path: &Path, access: OpenFlags) -> Result<Connection, StoreError> {
    let failed = |source| StoreError::from_sqlite(path, Operation::Open, source);
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.execute_batch(PRAGMAS).map_err(failed)?;
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get(0));
    let application: i64 = number("application_id").map_err(failed)?;
    let version: i64 = number("user_version").map_err(failed)?;
    let (path, known) = (path.to_owned(), SCHEMA_VERSION);
    if application != APPLICATION_ID {
        let why = format!("an SQLite file of another program, application id {application}");
        return Err(StoreError::Foreign { path, why });
    }
    match version.cmp(&known) {
        Ordering::Less => Err(StoreError::Older { path, found: version, known }),
        Ordering::Greater => Err(StoreError::Newer { path, found: version, known }),
        Ordering::Equal => Ok(connection),
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
