//! Reads a store's file, beside whoever writes it: each time one snapshot, within a time limit.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, Transaction};

use super::access::Access;
use super::error::from_sqlite;
use super::{files, meta, open, read};
use crate::clock::Stopwatch;
use crate::engine::graph::Node;
use crate::engine::notifications::Notification;
use crate::engine::traits::TraitRow;
use crate::event::{ClockTime, NotificationId, ResourceName};
use crate::store::error::{Operation, StoreError};
use crate::store::rows::{DeadLetterRow, JournalRow, QuarantineRow, ShownRow, SinkRow};

/// Longest time that a snapshot may be worked with: as long as it is there, the WAL can't be
/// written back past it. 100,000 devices or a full quarantine take a few seconds.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(30);

/// Steps of SQLite's machine between two looks at the time: some 100 µs.
const STEPS_PER_LOOK: i32 = 10_000;

/// See the module's documentation. SQLite opened its file for reading alone, and neither it nor a
/// [`Snapshot`] has a method that writes.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    path: PathBuf,
    /// When the last snapshot was taken: its limit runs from there.
    taken: Arc<Mutex<Stopwatch>>,
}

impl Reader {
    /// Opens a store that is there.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::limited(path, SNAPSHOT_LIMIT)
    }

    fn limited(path: &Path, limit: Duration) -> Result<Self, StoreError> {
        if !files::exists(path)? {
            return Err(StoreError::Missing {
                path: path.to_owned(),
            });
        }
        let mut connection = open::connect(path, Access::Read)?;
        let taken = Arc::new(Mutex::new(Stopwatch::start()));
        let watch = Arc::clone(&taken);
        let is_over = move || lock(&watch).seconds() > limit.as_secs_f64();
        connection
            .progress_handler(STEPS_PER_LOOK, Some(is_over))
            .map_err(|source| from_sqlite(path, Operation::Open, source))?;
        Ok(Self {
            connection,
            path: path.to_owned(),
            taken,
        })
    }

    pub(in crate::store) fn snapshot(&self) -> Result<Snapshot<'_>, StoreError> {
        let failed = |source| from_sqlite(&self.path, Operation::Read, source);
        *lock(&self.taken) = Stopwatch::start();
        let transaction = self.connection.unchecked_transaction().map_err(failed)?;
        Ok(Snapshot {
            transaction,
            path: &self.path,
        })
    }

    pub(in crate::store) fn bytes(&self) -> u64 {
        files::bytes(&self.path)
    }
}

fn lock(taken: &Mutex<Stopwatch>) -> MutexGuard<'_, Stopwatch> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The store at the time of the first question to it.
pub struct Snapshot<'a> {
    transaction: Transaction<'a>,
    path: &'a Path,
}

impl Snapshot<'_> {
    pub(in crate::store) fn clock(&self) -> Result<ClockTime, StoreError> {
        self.read(|connection| meta::get(connection, "clock").map(ClockTime))
    }

    pub(in crate::store) fn notifications(
        &self,
    ) -> Result<Vec<(NotificationId, Notification)>, StoreError> {
        self.read(read::notifications)
    }

    pub(in crate::store) fn nodes(&self) -> Result<Vec<(ResourceName, Arc<Node>)>, StoreError> {
        self.read(read::nodes)
    }

    pub(in crate::store) fn traits(
        &self,
        resource: &ResourceName,
    ) -> Result<Vec<TraitRow>, StoreError> {
        self.read(|connection| read::traits(connection, resource))
    }

    pub(in crate::store) fn journal(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<JournalRow>, StoreError> {
        self.read(|connection| read::journal(connection, after, limit))
    }

    pub(in crate::store) fn first_sequence(&self) -> Result<Option<u64>, StoreError> {
        self.read(read::first_sequence)
    }

    pub(in crate::store) fn last_sequence(&self) -> Result<u64, StoreError> {
        self.read(|connection| meta::get(connection, "last_sequence").map(i64::unsigned_abs))
    }

    pub(in crate::store) fn quarantine(
        &self,
        limit: usize,
    ) -> Result<Vec<QuarantineRow>, StoreError> {
        self.read(|connection| read::quarantine(connection, limit))
    }

    pub(in crate::store) fn quarantine_ids(&self) -> Result<Vec<i64>, StoreError> {
        self.read(read::quarantine_ids)
    }

    pub(in crate::store) fn dead_letters(
        &self,
        limit: usize,
    ) -> Result<Vec<DeadLetterRow>, StoreError> {
        self.read(|connection| read::dead_letters(connection, limit))
    }

    pub(in crate::store) fn sinks(&self) -> Result<Vec<SinkRow>, StoreError> {
        self.read(read::sinks)
    }

    pub(in crate::store) fn shown(
        &self,
        sink: &str,
        notification: NotificationId,
    ) -> Result<Option<ShownRow>, StoreError> {
        self.read(|connection| read::shown(connection, sink, notification))
    }

    pub(in crate::store) fn last_arrival(&self) -> Result<Option<ClockTime>, StoreError> {
        self.read(read::last_arrival)
    }

    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        work(&self.transaction).map_err(|source| from_sqlite(self.path, Operation::Read, source))
    }
}

#[cfg(test)]
mod tests {
    use super::super::writer::{Lock, Writer};
    use super::*;
    use crate::store::StoreErrorKind;

    /// More than SQLite gets through between two looks at the time.
    const RECORDS: usize = 20_000;

    /// A store with many records.
    fn stored(folder: &tempfile::TempDir) -> PathBuf {
        let path = folder.path().join("hearthd.db");
        drop(Writer::open(Lock::take(&path).unwrap()).unwrap());
        let connection = Connection::open(&path).unwrap();
        let sql = format!(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT {RECORDS}) \
             INSERT INTO journal SELECT n, 'event', '', 1, '{{}}' FROM n; \
             UPDATE meta SET value = {RECORDS} WHERE name = 'last_sequence'"
        );
        connection.execute_batch(&sql).unwrap();
        path
    }

    #[test]
    fn a_snapshot_that_takes_too_long_fails_and_a_new_one_works() {
        let folder = tempfile::tempdir().unwrap();
        let path = stored(&folder);
        let reader = Reader::limited(&path, Duration::ZERO).unwrap();
        let read = |reader: &Reader, limit| reader.snapshot()?.journal(0, limit);
        let error = read(&reader, RECORDS).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Busy, "{error}");
        assert!(error.to_string().contains("took too long"), "{error}");
        assert_eq!(read(&reader, 9).unwrap().len(), 9, "what is quick");

        let reader = Reader::open(&path).unwrap();
        assert_eq!(read(&reader, RECORDS).unwrap().len(), RECORDS);
    }

    #[test]
    fn a_reader_can_not_write() {
        let folder = tempfile::tempdir().unwrap();
        let reader = Reader::open(&stored(&folder)).unwrap();
        let written = reader.connection.execute("DELETE FROM journal", []);
        assert!(written.is_err(), "{written:?}");
    }

    #[test]
    fn a_snapshot_is_of_one_moment() {
        let folder = tempfile::tempdir().unwrap();
        let path = stored(&folder);
        let reader = Reader::open(&path).unwrap();
        let snapshot = reader.snapshot().unwrap();
        assert_eq!(snapshot.last_sequence().unwrap(), RECORDS as u64);
        let writer = Connection::open(&path).unwrap();
        writer
            .execute_batch("DELETE FROM journal; UPDATE meta SET value = 9")
            .unwrap();
        assert_eq!(snapshot.first_sequence().unwrap(), Some(1));
        assert_eq!(snapshot.last_sequence().unwrap(), RECORDS as u64);
        drop(snapshot);
        let snapshot = reader.snapshot().unwrap();
        assert_eq!(snapshot.first_sequence().unwrap(), None);
    }
}
