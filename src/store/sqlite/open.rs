//! Making and opening the database file.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::access::Access;
use super::error::from_sqlite;
use super::files::{self, folder_of, private, with_suffix};
use super::{check, mark, migrate};
use crate::store::error::{Operation, StoreError};

/// How long to wait for a lock that another connection holds. Readers never block the writer in
/// WAL mode, so only a checkpoint or a foreign tool can, and briefly.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// Statements kept compiled: more than there are.
const STATEMENTS: usize = 64;

/// Bytes that the WAL's file keeps when the WAL starts over: what it reaches by itself (4 MiB and a
/// step), and less than the ballast, so that it can be written back on a full disk.
pub(super) const WAL_KEPT_BYTES: u64 = 6 << 20;

/// Page cache in KiB: the writer's holds the upper levels of all indexes; a reader reads pages of
/// the journal once, and there is one for each sink.
const WRITER_CACHE_KIB: u32 = 16 << 10;
const READER_CACHE_KIB: u32 = 1 << 10;

/// - FULL syncs the WAL at each commit, which is what makes an ack safe.
/// - SQLite doesn't write the WAL back by itself: the writer does, and sees what fails.
/// - A WAL that a reader made longer is cut when it next starts over.
/// - Cells are checked when a page is read, which finds damage before it spreads.
fn pragmas(access: Access) -> String {
    let cache_kib = match access {
        Access::Read => READER_CACHE_KIB,
        Access::Write => WRITER_CACHE_KIB,
    };
    format!(
        "PRAGMA synchronous = FULL; PRAGMA cache_size = -{cache_kib}; PRAGMA temp_store = MEMORY; \
         PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = {WAL_KEPT_BYTES}; \
         PRAGMA cell_size_check = ON;"
    )
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
        connection.execute_batch(&pragmas(Access::Write))?;
        connection.execute_batch(&schema)?;
        connection.close().map_err(|(_, error)| error)
    });
    connection.map_err(|source| from_sqlite(path, Operation::Open, source))?;
    std::fs::rename(&draft, path).map_err(failed)?;
    File::open(folder_of(path))
        .and_then(|folder| folder.sync_all())
        .map_err(failed)
}

/// Opens a file that is there, and checks it. What is refused is left as it is.
pub(super) fn connect(path: &Path, access: Access) -> Result<Connection, StoreError> {
    let failed = |source| from_sqlite(path, Operation::Open, source);
    let unreadable = |source| StoreError::Open {
        path: files::mark(path),
        source,
    };
    // Before the store is looked into: its writer may commit in between.
    let mark = mark::read(path).map_err(unreadable)?;
    let flags = match access {
        Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
        Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
    };
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    // A WAL that belongs to another store, or to none, must not be written back at the end.
    keep_wal(&connection, true).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.execute_batch(&pragmas(access)).map_err(failed)?;
    let schema = check::kind(&connection, path)?;
    migrate::check(path, schema, access)?;
    if access == Access::Write {
        check::pages(&connection, path)?;
    }
    check::numbers(&connection, path, mark)?;
    if access == Access::Write {
        use_wal(&connection, path)?;
        migrate::run(&connection, path, schema)?;
    }
    check::tables(&connection, path)?;
    keep_wal(&connection, false).map_err(failed)?;
    Ok(connection)
}

/// What happens to the WAL when the last connection is closed: kept as it is, or written back into
/// the file and removed.
pub(super) fn keep_wal(connection: &Connection, keep: bool) -> rusqlite::Result<()> {
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep)
        .map(drop)
}

/// A copy that `VACUUM INTO` made has no WAL: there, readers would hold up the writer, and a commit
/// is safe only once the folder is synced too, which SQLite doesn't do.
fn use_wal(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let mode = "PRAGMA journal_mode = WAL";
    let mode = connection.query_row(mode, [], |row| row.get::<_, String>(0));
    match mode
        .map_err(|source| from_sqlite(path, Operation::Open, source))?
        .as_str()
    {
        "wal" => Ok(()),
        other => {
            let why = format!("kept in journal mode {other}, as its disk allows no WAL");
            Err(StoreError::Foreign {
                path: path.to_owned(),
                why,
            })
        }
    }
}
