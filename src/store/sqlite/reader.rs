//! Reads a store's file, beside whoever writes it: each time one snapshot, within a time limit.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, Transaction};

use super::error::from_sqlite;
use super::open::Access;
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

/// See the module's documentation.
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
        if !files::exists(path)? {
            return Err(StoreError::Missing {
                path: path.to_owned(),
            });
        }
        let mut connection = open::connect(path, Access::Read)?;
        let taken = Arc::new(Mutex::new(Stopwatch::start()));
        let watch = Arc::clone(&taken);
        let is_over = move || lock(&watch).seconds() > SNAPSHOT_LIMIT.as_secs_f64();
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

    pub(in crate::store) fn nodes(&self) -> Result<Vec<(ResourceName, Node)>, StoreError> {
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

    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        work(&self.transaction).map_err(|source| from_sqlite(self.path, Operation::Read, source))
    }
}
