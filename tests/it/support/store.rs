//! What tests ask of a store in one call, through its reader and its one way to write.

use std::sync::Arc;

use hearthd::engine::change::Changes;
use hearthd::engine::notifications::Notification;
use hearthd::event::NotificationId;
use hearthd::store::{
    Admin, Commit, DeadLetterRow, JournalRow, QuarantineRow, Reader, Settlement, SinkStart,
    Snapshot, StoreError, Writer,
};

/// What a test reads back.
pub(crate) trait Readable {
    fn look<T>(
        &self,
        look: impl FnOnce(&Snapshot<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError>;

    fn notifications(&self) -> Result<Vec<(NotificationId, Notification)>, StoreError> {
        self.look(|snapshot| snapshot.notifications())
    }

    fn journal(&self, after: u64, limit: usize) -> Result<Vec<JournalRow>, StoreError> {
        self.look(|snapshot| snapshot.journal(after, limit))
    }

    fn quarantine(&self, limit: usize) -> Result<Vec<QuarantineRow>, StoreError> {
        self.look(|snapshot| snapshot.quarantine(limit))
    }

    fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetterRow>, StoreError> {
        self.look(|snapshot| snapshot.dead_letters(limit))
    }

    fn last_sequence(&self) -> Result<u64, StoreError> {
        self.look(|snapshot| snapshot.last_sequence())
    }

    /// 0 for a sink that the store does not know.
    fn cursor(&self, sink: &str) -> Result<u64, StoreError> {
        let sinks = self.look(|snapshot| snapshot.sinks())?;
        let row = sinks.iter().find(|row| row.name == sink);
        Ok(row.map_or(0, |row| row.cursor))
    }
}

impl Readable for Reader {
    fn look<T>(
        &self,
        look: impl FnOnce(&Snapshot<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        look(&self.snapshot()?)
    }
}

impl Readable for Writer {
    fn look<T>(
        &self,
        look: impl FnOnce(&Snapshot<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.reader()?.look(look)
    }
}

/// What a test writes.
pub(crate) trait Writable {
    fn administer(&mut self, admin: Admin) -> Result<usize, StoreError>;

    /// Writes what a step changed.
    fn write(&mut self, changes: Changes) -> Result<Vec<Arc<JournalRow>>, StoreError>;

    fn settle(&mut self, settlement: Settlement) -> Result<(), StoreError>;

    fn set_cursor(&mut self, sink: &str, sequence: u64) -> Result<(), StoreError> {
        self.settle(Settlement {
            sink: sink.to_owned(),
            cursor: sequence,
            ..Settlement::default()
        })
    }

    fn drop_quarantined(&mut self, ids: &[i64]) -> Result<usize, StoreError> {
        self.administer(Admin::DropQuarantined(ids.to_vec()))
    }

    fn drop_dead_letters(&mut self, ids: &[i64]) -> Result<usize, StoreError> {
        self.administer(Admin::DropDeadLetters(ids.to_vec()))
    }

    /// Names the sinks of the settings; new ones begin behind record `cursor`.
    fn set_sinks(&mut self, names: &[&str], cursor: u64) -> Result<usize, StoreError> {
        let start = |name: &&str| SinkStart {
            name: (*name).to_owned(),
            cursor,
        };
        self.administer(Admin::SetSinks(names.iter().map(start).collect()))
    }
}

impl Writable for Writer {
    fn administer(&mut self, admin: Admin) -> Result<usize, StoreError> {
        let commit = Commit {
            admin: vec![admin],
            ..Commit::default()
        };
        Ok(self.commit(commit)?.affected.into_iter().sum())
    }

    fn write(&mut self, changes: Changes) -> Result<Vec<Arc<JournalRow>>, StoreError> {
        Ok(self.commit(Commit::from(changes))?.records)
    }

    fn settle(&mut self, settlement: Settlement) -> Result<(), StoreError> {
        let commit = Commit {
            settled: vec![settlement],
            ..Commit::default()
        };
        self.commit(commit).map(drop)
    }
}
