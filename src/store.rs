//! What survives: one transaction per step, read back at start.
//!
//! The closed list of stores. A store decides nothing: it writes the engine's changes as they are,
//! numbers the journal, and forgets what is past its retention. One [`Writer`] writes; any number
//! of [`Reader`]s read beside it, each on a snapshot.

mod due;
mod error;
pub mod memory;
mod pages;
mod rows;
pub mod sqlite;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::error::{Operation, StoreError, StoreErrorKind};
pub use self::memory::Memory;
pub use self::rows::{
    Admin, Commit, Committed, DeadLetter, DeadLetterRange, DeadLetterReason, DeadLetterRow,
    JournalRow, QUARANTINE_MAX_BYTES, QuarantineHead, QuarantineRow, Retention, Settlement,
    ShownRow, SinkRow, SinkStart, Upkeep,
};
pub use self::sqlite::{Lock, socket_of};
use crate::engine::change::Quarantined;
use crate::engine::graph::Node;
use crate::engine::notifications::Notification;
use crate::engine::traits::TraitRow;
use crate::engine::{Loaded, Lookup, Restored};
use crate::event::{ClockTime, NotificationId, ResourceName};

/// The only way to change a store. There is one for each store at a time.
#[derive(Debug)]
pub enum Writer {
    /// For replay and tests: gone with the process.
    Memory(Memory),
    /// A file that survives.
    Sqlite(Box<sqlite::Writer>),
}

impl Writer {
    /// Opens a store's file, and makes it if there is none.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_locked(Lock::take(path)?)
    }

    /// The same for who has taken the lock before.
    pub fn open_locked(lock: Lock) -> Result<Self, StoreError> {
        Ok(Self::Sqlite(Box::new(sqlite::Writer::open(lock)?)))
    }

    /// What the engine needs to go on.
    pub fn restore(&self) -> Result<Restored, StoreError> {
        match self {
            Self::Memory(memory) => memory.restore(),
            Self::Sqlite(sqlite) => sqlite.restore(),
        }
    }

    /// The rows that a step needs.
    pub fn load(&self, lookup: &Lookup) -> Result<Loaded, StoreError> {
        match self {
            Self::Memory(memory) => memory.load(lookup),
            Self::Sqlite(sqlite) => sqlite.load(lookup),
        }
    }

    /// Writes all of it or nothing. When this returns, it survives a loss of power (as far as the
    /// store survives at all).
    pub fn commit(&mut self, commit: Commit) -> Result<Committed, StoreError> {
        match self {
            Self::Memory(memory) => memory.commit(commit),
            Self::Sqlite(sqlite) => sqlite.commit(commit),
        }
    }

    /// Keeps the store within its retention and able to go on, if that is due: forgets a bounded
    /// number of rows, and restores what a full disk took. Cheap where nothing is due; to be called
    /// after each commit and about once a second.
    pub fn upkeep(&mut self, now: ClockTime, retention: &Retention) -> Result<Upkeep, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.upkeep(now, retention)),
            Self::Sqlite(sqlite) => sqlite.upkeep(now, retention),
        }
    }

    /// Forgets what is past its retention, due or not, a bounded number of rows.
    pub fn trim(&mut self, now: ClockTime, retention: &Retention) -> Result<Upkeep, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.trim(now, retention)),
            Self::Sqlite(sqlite) => sqlite.trim(now, retention),
        }
    }

    /// Makes what space it can on a full disk ([`StoreErrorKind::Full`]): releases its ballast
    /// file, forgets what is past its retention, and writes the WAL back. [`Upkeep::more`] means
    /// that another call would forget more.
    pub fn free_space(
        &mut self,
        now: ClockTime,
        retention: &Retention,
    ) -> Result<Upkeep, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.trim(now, retention)),
            Self::Sqlite(sqlite) => sqlite.free_space(now, retention),
        }
    }

    /// Re-creates the ballast file, without which a full disk stays full. An error leaves the store
    /// usable. Where the file is there, this only looks at it.
    pub fn restore_ballast(&self) -> Result<(), StoreError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Sqlite(sqlite) => sqlite.restore_ballast(),
        }
    }

    /// A message in quarantine, as it was put there; `None` if there is no such row.
    pub fn quarantined(&self, id: i64) -> Result<Option<Quarantined>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.quarantined(id)),
            Self::Sqlite(sqlite) => sqlite.quarantined(id),
        }
    }

    /// Where its writer takes the requests of commands; `None` for a store without a file.
    pub fn socket(&self) -> Option<PathBuf> {
        match self {
            Self::Memory(_) => None,
            Self::Sqlite(sqlite) => Some(sqlite.socket()),
        }
    }

    /// A reader of this store, which sees what is committed.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        Ok(match self {
            Self::Memory(memory) => Reader::Memory(memory.clone()),
            Self::Sqlite(sqlite) => Reader::Sqlite(Box::new(sqlite.reader()?)),
        })
    }

    /// Bytes that it takes, about.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Memory(memory) => memory.bytes(),
            Self::Sqlite(sqlite) => sqlite.bytes(),
        }
    }
}

/// Reads a store beside its writer. It has no method that writes.
#[derive(Debug)]
pub enum Reader {
    Memory(Memory),
    Sqlite(Box<sqlite::Reader>),
}

impl Reader {
    /// Opens a store's file for reading, beside the process that writes it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::Sqlite(Box::new(sqlite::Reader::open(path)?)))
    }

    /// The store as it is now. The snapshot holds up the writing back of the WAL, so it is to be
    /// short; it fails by itself when it takes too long.
    pub fn snapshot(&self) -> Result<Snapshot<'_>, StoreError> {
        Ok(match self {
            Self::Memory(memory) => Snapshot::Memory(memory),
            Self::Sqlite(sqlite) => Snapshot::Sqlite(sqlite.snapshot()?),
        })
    }

    /// Bytes that the store takes, about.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Memory(memory) => memory.bytes(),
            Self::Sqlite(sqlite) => sqlite.bytes(),
        }
    }
}

/// A store as it was at one moment.
pub enum Snapshot<'a> {
    /// Of a store in memory, each answer is as of its own moment: its writer is in this process.
    Memory(&'a Memory),
    Sqlite(sqlite::Snapshot<'a>),
}

impl Snapshot<'_> {
    /// The engine's clock at the last commit or upkeep.
    pub fn clock(&self) -> Result<ClockTime, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.clock()),
            Self::Sqlite(sqlite) => sqlite.clock(),
        }
    }

    /// Every notification, sorted by id.
    pub fn notifications(&self) -> Result<Vec<(NotificationId, Notification)>, StoreError> {
        match self {
            Self::Memory(memory) => memory.notifications(),
            Self::Sqlite(sqlite) => sqlite.notifications(),
        }
    }

    /// The rows of the graph, sorted by name.
    pub fn nodes(&self) -> Result<Vec<(ResourceName, Arc<Node>)>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.nodes()),
            Self::Sqlite(sqlite) => sqlite.nodes(),
        }
    }

    /// The traits of a resource, sorted by name.
    pub fn traits(&self, resource: &ResourceName) -> Result<Vec<TraitRow>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.traits(resource)),
            Self::Sqlite(sqlite) => sqlite.traits(resource),
        }
    }

    /// The records after a number, in order, at most `limit`.
    pub fn journal(&self, after: u64, limit: usize) -> Result<Vec<JournalRow>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.journal(after, limit)),
            Self::Sqlite(sqlite) => sqlite.journal(after, limit),
        }
    }

    /// The number of the oldest record that is kept; `None` if none is.
    pub fn first_sequence(&self) -> Result<Option<u64>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.first_sequence()),
            Self::Sqlite(sqlite) => sqlite.first_sequence(),
        }
    }

    /// The number of the last record; 0 if there never was one.
    pub fn last_sequence(&self) -> Result<u64, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.last_sequence()),
            Self::Sqlite(sqlite) => sqlite.last_sequence(),
        }
    }

    /// The newest messages in quarantine, at most `limit`, oldest first.
    pub fn quarantine(&self, limit: usize) -> Result<Vec<QuarantineRow>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.quarantine(limit)),
            Self::Sqlite(sqlite) => sqlite.quarantine(limit),
        }
    }

    /// The ids of all messages in quarantine, oldest first.
    pub fn quarantine_ids(&self) -> Result<Vec<i64>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.quarantine_ids()),
            Self::Sqlite(sqlite) => sqlite.quarantine_ids(),
        }
    }

    /// The newest records that sinks did not get, at most `limit` rows, oldest first.
    pub fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetterRow>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.dead_letters(limit)),
            Self::Sqlite(sqlite) => sqlite.dead_letters(limit),
        }
    }

    /// Every sink that the store knows, sorted by name.
    pub fn sinks(&self) -> Result<Vec<SinkRow>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.sinks()),
            Self::Sqlite(sqlite) => sqlite.sinks(),
        }
    }

    /// What a sink remembers of a notification that it showed.
    pub fn shown(
        &self,
        sink: &str,
        notification: NotificationId,
    ) -> Result<Option<ShownRow>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.shown(sink, notification)),
            Self::Sqlite(sqlite) => sqlite.shown(sink, notification),
        }
    }

    /// When the newest message came whose payload is still remembered; `None` if none is.
    pub fn last_arrival(&self) -> Result<Option<ClockTime>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.last_arrival()),
            Self::Sqlite(sqlite) => sqlite.last_arrival(),
        }
    }
}
