//! The one writer of a store's file: commits, forgets, and keeps the file able to go on.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::access::Access;
use super::error::from_sqlite;
use super::mark::Mark;
use super::open::WAL_KEPT_BYTES;
use super::reader::Reader;
use super::{ballast, check, files, mark, meta, open, read, trim, write};
use crate::engine::change::Quarantined;
use crate::engine::{Loaded, Lookup, Restored};
use crate::event::ClockTime;
use crate::store::due::TrimDue;
use crate::store::error::{Operation, StoreError};
use crate::store::rows::{Commit, Committed, Retention, Upkeep, quarantine_bytes};

/// Longest WAL. It reaches some 4 MiB by itself; only a program that reads the store in one go for
/// a long time makes it longer. At this bound nothing is committed until that program has ended.
const WAL_MAX_BYTES: u64 = 256 << 20;

/// Pages of a WAL that is written back, 4 MiB: rarely enough that pages which every commit changes
/// are written back once for many, and a matter of milliseconds.
const WAL_PAGES: i64 = 1_000;

/// Most rows removed per table in one go: as many as there are messages in a step. So forgetting
/// stalls the pipeline about as long as a step does, and keeps up with messages that each bring a
/// few rows, which all but broken ones do.
const TRIM_ROWS: usize = 256;

/// Rows removed per table in one go on a full disk: what the ballast file has space for.
const FREE_ROWS: usize = 128;

/// Most goes of freeing space in one call, each some 10 ms: the caller has a service to keep alive.
const FREE_SLICES: usize = 64;

/// The right to write a store, which one process has at a time.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Takes it, or says who may have it.
    pub fn take(path: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            path: path.to_owned(),
            file: files::lock(path)?,
        })
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Writer {
    connection: Connection,
    path: PathBuf,
    /// The file that counts commits, and which store this is. `None` on a disk too full for it.
    marked: Option<(File, i64)>,
    trim: TrimDue,
    /// Held until the writer is dropped.
    _lock: File,
}

impl Writer {
    /// Opens a store, and makes it if there is no such file.
    pub fn open(lock: Lock) -> Result<Self, StoreError> {
        let Lock { path, file: lock } = lock;
        let path = &path;
        if !files::exists(path)? {
            open::create(path)?;
        }
        files::sync_wal(path)?;
        let connect = || open::connect(path, Access::Write);
        let connection = connect().or_else(|error| {
            // On a full disk there is no space for the WAL's index, unless the ballast makes it.
            if !error.is_full() || ballast::release(path).is_err() {
                return Err(error);
            }
            connect()
        })?;
        let mark = check::current(&connection)
            .map_err(|source| from_sqlite(path, Operation::Open, source))?;
        // A disk too full for a mark must not keep the store from freeing space on it.
        let marked = mark::open(path).ok().map(|file| (file, mark.id));
        let writer = Self {
            connection,
            path: path.to_owned(),
            marked,
            trim: TrimDue::default(),
            _lock: lock,
        };
        writer.mark(mark.commits);
        Ok(writer)
    }

    pub(in crate::store) fn restore(&self) -> Result<Restored, StoreError> {
        self.read(read::restored)
    }

    pub(in crate::store) fn load(&self, lookup: &Lookup) -> Result<Loaded, StoreError> {
        self.read(|connection| read::loaded(connection, lookup))
    }

    pub(in crate::store) fn quarantined(&self, id: i64) -> Result<Option<Quarantined>, StoreError> {
        self.read(|connection| read::quarantined(connection, id))
    }

    pub(in crate::store) fn socket(&self) -> PathBuf {
        files::socket_of(&self.path)
    }

    pub(in crate::store) fn reader(&self) -> Result<Reader, StoreError> {
        Reader::open(&self.path)
    }

    pub(in crate::store) fn commit(&mut self, commit: Commit) -> Result<Committed, StoreError> {
        let quarantined = commit.changes.quarantined.iter().map(quarantine_bytes);
        let quarantined: u64 = quarantined.sum();
        let committed = self.transact(Operation::Commit, |connection| {
            write::commit(connection, commit)
        })?;
        let lines = committed.records.iter().map(|row| row.line.len() as u64);
        self.trim.wrote(lines.sum(), quarantined);
        Ok(committed)
    }

    pub(in crate::store) fn upkeep(
        &mut self,
        now: ClockTime,
        retention: &Retention,
    ) -> Result<Upkeep, StoreError> {
        if !self.trim.is_due(now, retention) {
            return Ok(Upkeep::default());
        }
        tracing::trace!("trimming");
        // In a home where nothing happens nothing is committed: without this, a restart would find
        // the last time in the store so far back that it doubts the wall clock.
        let upkeep = self.transact(Operation::Trim, |connection| {
            meta::advance(connection, "clock", now.0)?;
            trim::all(connection, now, retention, TRIM_ROWS)
        })?;
        if !upkeep.more {
            self.trim.done(now, retention);
        }
        Ok(upkeep)
    }

    pub(in crate::store) fn trim(
        &mut self,
        now: ClockTime,
        retention: &Retention,
    ) -> Result<Upkeep, StoreError> {
        self.forget(now, retention, TRIM_ROWS)
    }

    pub(in crate::store) fn free_space(
        &mut self,
        now: ClockTime,
        retention: &Retention,
    ) -> Result<Upkeep, StoreError> {
        ballast::release(&self.path).map_err(|source| self.ballast_error(source))?;
        let upkeep = self.shrink(now, retention);
        // Whether that worked is asked with `restore_ballast`.
        drop(self.restore_ballast());
        upkeep
    }

    /// Trims in slices so small that their WAL fits into the space of the ballast file.
    fn shrink(&mut self, now: ClockTime, retention: &Retention) -> Result<Upkeep, StoreError> {
        let mut all = Upkeep::default();
        self.checkpoint(Operation::Trim)?;
        for _ in 0..FREE_SLICES {
            let slice = self.forget(now, retention, FREE_ROWS)?;
            self.checkpoint(Operation::Trim)?;
            all.dead_letters.extend(slice.dead_letters);
            all.quarantine_evicted += slice.quarantine_evicted;
            all.more = slice.more;
            if !all.more {
                break;
            }
        }
        Ok(all)
    }

    fn forget(
        &mut self,
        now: ClockTime,
        retention: &Retention,
        rows: usize,
    ) -> Result<Upkeep, StoreError> {
        self.transact(Operation::Trim, |connection| {
            trim::all(connection, now, retention, rows)
        })
    }

    pub(in crate::store) fn restore_ballast(&self) -> Result<(), StoreError> {
        ballast::make(&self.path, self.space_for_wal()).map_err(|source| self.ballast_error(source))
    }

    fn ballast_error(&self, source: std::io::Error) -> StoreError {
        StoreError::Ballast {
            path: files::ballast(&self.path),
            source,
        }
    }

    /// What the ballast file must leave on the disk. Where deletions freed more in the database
    /// file than a WAL holds, commits need a WAL to use it: a ballast file that took all other
    /// space would keep everything from being committed. Otherwise commits get none of it.
    fn space_for_wal(&self) -> u64 {
        let sql = "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size";
        let free: i64 = self
            .connection
            .query_row(sql, [], |row| row.get(0))
            .unwrap_or_default();
        if free.unsigned_abs() >= WAL_KEPT_BYTES {
            WAL_KEPT_BYTES
        } else {
            0
        }
    }

    /// Bytes of the file and its WAL; 0 if they can't be looked at.
    pub(in crate::store) fn bytes(&self) -> u64 {
        files::bytes(&self.path)
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
            let commits = meta::count_commit(&transaction)?;
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
            // After any other error the WAL is just longer, and the next commit tries again.
            Ok(()) | Err(_) => Ok(value),
        }
    }

    fn mark(&self, commits: i64) {
        if let Some((file, id)) = &self.marked {
            // A stale count is still a lower bound, so a failed write is harmless.
            drop(mark::write(file, Mark { id: *id, commits }));
        }
    }

    /// Writes the WAL back into the file and empties it; not if a reader needs it for longer than
    /// the busy timeout, which is no error.
    fn checkpoint(&self, op: Operation) -> Result<(), StoreError> {
        let checkpoint = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        checkpoint.map_err(|source| self.failed(op, source))
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

    /// Keeps the WAL within its bound: it is written back by itself, but not past what a reader
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
        files::size(&files::wal(&self.path))
    }

    /// After a fatal error the disk is not to be trusted: the WAL stays as it is.
    fn failed(&self, op: Operation, source: rusqlite::Error) -> StoreError {
        let error = from_sqlite(&self.path, op, source);
        if error.is_fatal() {
            drop(open::keep_wal(&self.connection, true));
        }
        error
    }

    /// Needs no snapshot: nobody else writes.
    fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        work(&self.connection).map_err(|source| from_sqlite(&self.path, Operation::Read, source))
    }
}
