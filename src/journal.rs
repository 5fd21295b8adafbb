//! The journal as followers see it: the newest rows from memory, older ones from one shared reader.
//!
//! A sink that keeps up never touches the disk; ten that are far behind share one connection and
//! one page cache.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::store::{JournalRow, Reader, StoreError};

/// Most bytes of lines kept in memory: some 3,000 records, a few seconds of a busy enterprise.
const RECENT_MAX_BYTES: usize = 4 << 20;

/// See the module's documentation.
#[derive(Debug)]
pub struct Journal {
    recent: Mutex<Recent>,
    reader: Mutex<Reader>,
    /// The number of the last record.
    last: watch::Sender<u64>,
}

/// The newest rows, without a gap.
#[derive(Debug, Default)]
struct Recent {
    rows: VecDeque<Arc<JournalRow>>,
    bytes: usize,
}

impl Recent {
    fn push(&mut self, row: &Arc<JournalRow>) {
        self.bytes += row.line.len();
        self.rows.push_back(Arc::clone(row));
        while self.bytes > RECENT_MAX_BYTES
            && let Some(oldest) = self.rows.pop_front()
        {
            self.bytes -= oldest.line.len();
        }
    }

    /// The rows after a number; `None` if the first of them is not in memory.
    fn after(&self, after: u64, limit: usize) -> Option<Vec<Arc<JournalRow>>> {
        let first = self.rows.front()?.sequence;
        let skipped = usize::try_from((after + 1).checked_sub(first)?).ok()?;
        let page = self.rows.iter().skip(skipped).take(limit);
        Some(page.map(Arc::clone).collect())
    }
}

impl Journal {
    /// The journal of the store that `reader` reads.
    pub fn new(reader: Reader) -> Result<Self, StoreError> {
        let last = reader.snapshot()?.last_sequence()?;
        Ok(Self {
            recent: Mutex::default(),
            reader: Mutex::new(reader),
            last: watch::Sender::new(last),
        })
    }

    /// Takes rows that are committed, and wakes the followers.
    pub fn append(&self, rows: &[Arc<JournalRow>]) {
        let Some(newest) = rows.last() else { return };
        let mut recent = lock(&self.recent);
        rows.iter().for_each(|row| recent.push(row));
        drop(recent);
        self.last.send_replace(newest.sequence);
    }

    /// The number of the last record; 0 if there never was one.
    pub fn last(&self) -> u64 {
        *self.last.borrow()
    }

    /// Follows the journal behind a number.
    pub fn follow(self: &Arc<Self>, after: u64) -> Follower {
        Follower {
            journal: Arc::clone(self),
            last: self.last.subscribe(),
            position: after,
        }
    }

    fn read(&self, after: u64, limit: usize) -> Result<Vec<Arc<JournalRow>>, StoreError> {
        if let Some(rows) = lock(&self.recent).after(after, limit) {
            return Ok(rows);
        }
        let rows = lock(&self.reader).snapshot()?.journal(after, limit)?;
        Ok(rows.into_iter().map(Arc::new).collect())
    }
}

/// What it guards is whole after a panic of who held it: rows are pushed one by one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One reader's place in the journal.
#[derive(Debug)]
pub struct Follower {
    journal: Arc<Journal>,
    last: watch::Receiver<u64>,
    position: u64,
}

/// What a follower meets next.
#[derive(Debug, PartialEq, Eq)]
pub enum Page {
    /// The next rows, at least one.
    Rows(Vec<Arc<JournalRow>>),
    /// Rows that were forgotten before the follower came to them.
    Gap { first: u64, last: u64 },
}

impl Follower {
    /// The number of the last row that it has met.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes back to a number, whose next row it meets again.
    pub fn rewind(&mut self, position: u64) {
        self.position = self.position.min(position);
    }

    /// True if it has met all rows.
    pub fn is_at_end(&self) -> bool {
        self.position >= self.journal.last()
    }

    /// Waits until there is a row that it has not met.
    pub async fn wait(&mut self) {
        let position = self.position;
        // An error means that the journal is gone, and with it the service.
        self.last.wait_for(|last| *last > position).await.ok();
    }

    /// The next rows, at most `limit`, once there are some. It reads the disk where they are not in
    /// memory, and needs a runtime of several threads for that.
    pub async fn next(&mut self, limit: usize) -> Result<Page, StoreError> {
        self.wait().await;
        let rows = tokio::task::block_in_place(|| self.journal.read(self.position, limit))?;
        let next = self.position + 1;
        let first_kept = rows
            .first()
            .map_or(*self.last.borrow() + 1, |row| row.sequence);
        if first_kept > next {
            self.position = first_kept - 1;
            return Ok(Page::Gap {
                first: next,
                last: first_kept - 1,
            });
        }
        self.position = rows.last().map_or(self.position, |row| row.sequence);
        Ok(Page::Rows(rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ClockTime;
    use crate::record::RecordKind;
    use crate::store::{Memory, Writer};

    fn row(sequence: u64, bytes: usize) -> Arc<JournalRow> {
        Arc::new(JournalRow {
            sequence,
            kind: RecordKind::Event,
            subject: String::new(),
            at: ClockTime::default(),
            line: "x".repeat(bytes),
        })
    }

    /// A journal whose store holds nothing.
    fn journal() -> Arc<Journal> {
        let store = Writer::Memory(Memory::default());
        Arc::new(Journal::new(store.reader().unwrap()).unwrap())
    }

    fn sequences(page: &Page) -> Vec<u64> {
        match page {
            Page::Rows(rows) => rows.iter().map(|row| row.sequence).collect(),
            Page::Gap { .. } => panic!("{page:?}"),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_follower_meets_each_row_once_and_in_order() {
        let journal = journal();
        let mut follower = journal.follow(0);
        assert!(follower.is_at_end());
        journal.append(&[row(1, 1), row(2, 1), row(3, 1)]);
        assert_eq!(sequences(&follower.next(2).await.unwrap()), [1, 2]);
        assert!(!follower.is_at_end());
        assert_eq!(sequences(&follower.next(2).await.unwrap()), [3]);
        assert!(follower.is_at_end());
        follower.rewind(1);
        assert_eq!(sequences(&follower.next(9).await.unwrap()), [2, 3]);
        let later = tokio::spawn(async move { follower.next(9).await.unwrap() });
        journal.append(&[row(4, 1)]);
        assert_eq!(sequences(&later.await.unwrap()), [4]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_neither_in_memory_nor_in_the_store_is_a_gap() {
        let journal = journal();
        let mut follower = journal.follow(0);
        let third = RECENT_MAX_BYTES / 3;
        journal.append(&(1..=5).map(|n| row(n, third)).collect::<Vec<_>>());
        let kept = lock(&journal.recent).rows.len();
        assert_eq!(kept, 3, "memory is bounded");
        // The rows that left memory are not in this store either, nor are those that stayed.
        let gap = Page::Gap { first: 1, last: 5 };
        assert_eq!(follower.next(9).await.unwrap(), gap);
        assert!(follower.is_at_end());
        assert_eq!(
            sequences(&journal.follow(2).next(9).await.unwrap()),
            [3, 4, 5]
        );
    }
}
