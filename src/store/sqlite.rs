//! The store that survives: one SQLite file, in WAL mode with `synchronous=FULL`.
//!
//! One process writes, kept apart from others by a lock file; any number read beside it. Whatever
//! is wrong with the file is refused with what to do: it is never emptied or recreated over.

mod ballast;
mod check;
mod mark;
mod open;
mod read;
mod trim;
mod write;

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use self::mark::Mark;
use super::{
    DeadLetterRow, JournalRow, Operation, QuarantineRow, Retention, StoreError, TRIM_ROWS, Trimmed,
};
use crate::engine::change::{Changes, Quarantined};
use crate::engine::notifications::Notification;
use crate::engine::{Loaded, Lookup, Restored};
use crate::event::{ClockTime, NotificationId};

/// Longest log. It comes to some 4 MiB by itself; only a program that reads the store in one go for
/// a long time makes it longer. At this bound nothing is committed until that program has ended.
const WAL_MAX_BYTES: u64 = 256 << 20;

/// Rows removed per table in one go on a full disk: what the ballast has room for.
const FREE_ROWS: usize = 128;

/// Most goes of making room in one call, each some 10 ms: the caller has a service to keep alive.
const FREE_SLICES: usize = 64;

/// Pages of a log that is written back, 4 MiB: rarely enough that pages which every commit changes
/// are written back once for many, and a matter of milliseconds.
const WAL_PAGES: i64 = 1_000;

/// See the module's documentation.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    path: PathBuf,
    /// Which store this is, to be marked; `None` for a reader.
    marked: Option<(File, i64)>,
    /// The sinks that the settings name, until the store knows them.
    new_sinks: Option<Vec<String>>,
    /// Held until the store is dropped; `None` for a reader.
    _lock: Option<File>,
}

impl Sqlite {
    /// Opens a store for writing, and makes it if there is no such file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let lock = open::lock(path)?;
        if !open::exists(path)? {
            open::create(path)?;
        }
        open::sync_wal(path)?;
        let connect = || open::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE);
        let connection = connect().or_else(|error| {
            // On a full disk there is no room for the log's index, unless the ballast makes it.
            if !error.is_full() || ballast::release_ballast(path).is_err() {
                return Err(error);
            }
            connect()
        })?;
        let mark = check::current(&connection)
            .map_err(|source| StoreError::from_sqlite(path, Operation::Open, source))?;
        // A disk too full for a mark must not keep the store from making room on it.
        let marked = mark::open(path).ok().map(|file| (file, mark.id));
        let (path, new_sinks) = (path.to_owned(), None);
        let store = Self {
            connection,
            path,
            marked,
            new_sinks,
            _lock: Some(lock),
        };
        store.mark(mark.commits);
        Ok(store)
    }

    /// Opens a store for reading, beside the process that writes it.
    pub fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        if !open::exists(path)? {
            return Err(StoreError::Missing {
                path: path.to_owned(),
            });
        }
        let connection = open::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let (path, marked, new_sinks) = (path.to_owned(), None, None);
        Ok(Self {
            connection,
            path,
            marked,
            new_sinks,
            _lock: None,
        })
    }

    pub(super) fn commit(&mut self, changes: Changes) -> Result<Vec<JournalRow>, StoreError> {
        self.transact(Operation::Commit, |connection| {
            write::changes(connection, changes)
        })
    }

    pub(super) fn set_cursor(&mut self, sink: &str, sequence: u64) -> Result<(), StoreError> {
        self.transact(Operation::Commit, |connection| {
            write::cursor(connection, sink, sequence)
        })
    }

    pub(super) fn set_sinks(&mut self, names: Vec<String>) {
        self.new_sinks = Some(names);
    }

    pub(super) fn trim(
        &mut self,
        now: ClockTime,
        retention: &Retention,
    ) -> Result<Trimmed, StoreError> {
        self.forget(now, retention, TRIM_ROWS)
    }

    pub(super) fn free_space(
        &mut self,
        now: ClockTime,
        retention: &Retention,
    ) -> Result<Trimmed, StoreError> {
        let ballast = |source| StoreError::Ballast {
            path: ballast::path(&self.path),
            source,
        };
        ballast::release_ballast(&self.path).map_err(ballast)?;
        let trimmed = self.shrink(now, retention);
        // Whether that worked is asked with `restore_ballast`.
        drop(self.restore_ballast());
        trimmed
    }

    /// Trims in slices so small that their log fits into the ballast.
    fn shrink(&mut self, now: ClockTime, retention: &Retention) -> Result<Trimmed, StoreError> {
        let mut trimmed = Trimmed::default();
        self.checkpoint(Operation::Trim)?;
        for _ in 0..FREE_SLICES {
            let Trimmed {
                more,
                lost,
                quarantine_evicted,
            } = self.forget(now, retention, FREE_ROWS)?;
            self.checkpoint(Operation::Trim)?;
            trimmed.lost.extend(lost);
            trimmed.quarantine_evicted += quarantine_evicted;
            trimmed.more = more;
            if !more {
                break;
            }
        }
        Ok(trimmed)
    }

    pub(super) fn restore_ballast(&self) -> Result<(), StoreError> {
        let failed = |source| StoreError::Ballast {
            path: ballast::path(&self.path),
            source,
        };
        ballast::make(&self.path, self.space_for_wal()).map_err(failed)
    }

    /// What the ballast must leave on the disk. Where deletions made room for more than a log in
    /// the file, it is not to be had without one: a ballast that took all other space would keep
    /// everything from being committed. Without such room, commits get none of the ballast.
    fn space_for_wal(&self) -> u64 {
        let sql = "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size";
        let free: i64 = self
            .connection
            .query_row(sql, [], |row| row.get(0))
            .unwrap_or_default();
        if free.unsigned_abs() >= open::WAL_KEPT_BYTES {
            open::WAL_KEPT_BYTES
        } else {
            0
        }
    }

    fn forget(
        &mut self,
        now: ClockTime,
        retention: &Retention,
        rows: usize,
    ) -> Result<Trimmed, StoreError> {
        let new_sinks = self.new_sinks.take();
        let trimmed = self.transact(Operation::Trim, |connection| {
            if let Some(sinks) = &new_sinks {
                trim::set_sinks(connection, sinks)?;
            }
            trim::all(connection, now, retention, rows)
        });
        if trimmed.is_err() {
            self.new_sinks = new_sinks;
        }
        trimmed
    }

    /// Writes the log back into the file and empties it; not if a reader needs it for longer than
    /// the busy timeout, which is no error.
    fn checkpoint(&self, op: Operation) -> Result<(), StoreError> {
        let checkpoint = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        checkpoint.map_err(|source| self.failed(op, source))
    }

    /// After a fatal error the disk is not to be trusted: the log stays as it is.
    fn failed(&self, op: Operation, source: rusqlite::Error) -> StoreError {
        let error = StoreError::from_sqlite(&self.path, op, source);
        if error.is_fatal() {
            drop(open::keep_wal(&self.connection, true));
        }
        error
    }

    pub(super) fn restore(&self) -> Result<Restored, StoreError> {
        self.read(read::restored)
    }

    pub(super) fn load(&self, lookup: &Lookup) -> Result<Loaded, StoreError> {
        self.read(|connection| read::loaded(connection, lookup))
    }

    /// When the newest message came that is still remembered; `None` if there is none.
    pub fn last_arrival(&self) -> Result<Option<ClockTime>, StoreError> {
        self.read(read::last_arrival)
    }

    pub(super) fn notifications(&self) -> Result<Vec<(NotificationId, Notification)>, StoreError> {
        self.read(read::notifications)
    }

    pub(super) fn journal(&self, after: u64, limit: usize) -> Result<Vec<JournalRow>, StoreError> {
        self.read(|connection| read::journal(connection, after, limit))
    }

    pub(super) fn quarantine(&self, limit: usize) -> Result<Vec<QuarantineRow>, StoreError> {
        self.read(|connection| read::quarantine(connection, limit))
    }

    pub(super) fn quarantined(&self, id: i64) -> Result<Option<Quarantined>, StoreError> {
        self.read(|connection| read::quarantined(connection, id))
    }

    pub(super) fn drop_quarantined(&mut self, ids: &[i64]) -> Result<usize, StoreError> {
        self.transact(Operation::Commit, |connection| {
            write::drop_quarantined(connection, ids)
        })
    }

    pub(super) fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetterRow>, StoreError> {
        self.read(|connection| read::dead_letters(connection, limit))
    }

    pub(super) fn drop_dead_letters(&mut self, ids: &[i64]) -> Result<usize, StoreError> {
        self.transact(Operation::Commit, |connection| {
            write::drop_dead_letters(connection, ids)
        })
    }

    pub(super) fn last_sequence(&self) -> Result<u64, StoreError> {
        self.read(|connection| read::meta(connection, "last_sequence").map(i64::unsigned_abs))
    }

    pub(super) fn cursor(&self, sink: &str) -> Result<u64, StoreError> {
        self.read(|connection| read::cursor(connection, sink))
    }

    /// Bytes of the file and its log; 0 if they can't be looked at.
    pub(super) fn bytes(&self) -> u64 {
        self.path.metadata().map_or(0, |file| file.len()) + self.wal_bytes()
    }

    /// Runs `work` in one transaction: all of it is on disk when this returns, or none.
    fn transact<T>(
        &mut self,
        op: Operation,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.bound_wal(op)?;
        let result = self.connection.transaction().and_then(|transaction| {
            let value = work(&transaction)?;
            let commits = write::count_commit(&transaction)?;
            transaction.commit()?;
            Ok((value, commits))
        });
        let (value, commits) = result.map_err(|source| self.failed(op, source))?;
        self.mark(commits);
        match self
            .checkpoint_long_wal()
            .map_err(|source| self.failed(op, source))
        {
            Err(error) if error.is_fatal() => Err(error),
            // After any other error the log is just longer, and the next commit tries again.
            Ok(()) | Err(_) => Ok(value),
        }
    }

    fn mark(&self, commits: i64) {
        if let Some((file, id)) = &self.marked {
            // An old mark is a true one, only weaker.
            drop(mark::write(file, Mark { id: *id, commits }));
        }
    }

    /// Does what SQLite does by itself, but for one thing: SQLite ignores it when the file can't be
    /// synced, and takes the next sync, which no longer knows of the lost pages, for the proof that
    /// they are on disk.
    fn checkpoint_long_wal(&self) -> rusqlite::Result<()> {
        let mut size = self
            .connection
            .prepare_cached("PRAGMA wal_checkpoint(NOOP)")?;
        let pages: i64 = size.query_row([], |row| row.get(1))?;
        if pages >= WAL_PAGES {
            self.connection
                .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        }
        Ok(())
    }

    /// Keeps the log within its bound: it is written back by itself, but not past what a reader
    /// still needs. Waits for one no longer than the busy timeout.
    fn bound_wal(&self, op: Operation) -> Result<(), StoreError> {
        if self.wal_bytes() <= WAL_MAX_BYTES {
            return Ok(());
        }
        self.checkpoint(op)?;
        match self.wal_bytes() {
            bytes if bytes <= WAL_MAX_BYTES => Ok(()),
            bytes => Err(StoreError::WalPinned {
                path: self.path.clone(),
                bytes,
            }),
        }
    }

    fn wal_bytes(&self) -> u64 {
        open::with_suffix(&self.path, "-wal")
            .metadata()
            .map_or(0, |log| log.len())
    }

    /// Runs `work` on one snapshot of the store.
    fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let failed = |source| StoreError::from_sqlite(&self.path, Operation::Read, source);
        work(&self.connection).map_err(failed)
    }
}
