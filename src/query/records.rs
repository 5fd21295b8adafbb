//! The records of the journal behind a number.

use serde::Serialize;

use super::page::{PAGE_BYTES_MAX, PageSize};
use crate::record::RecordKind;
use crate::store::{JournalRow, Snapshot, StoreError};

/// Records that are looked at for one page, most of which a filter may pass over: some 20 ms.
const ROWS_MAX: u64 = 20_000;

/// Records that are read at once: the largest have a MiB.
const CHUNK: usize = 64;

/// Which records, and where the page begins.
#[derive(Clone, Debug)]
pub struct RecordFilter {
    /// The number of the last record that is not wanted.
    pub after: u64,
    /// Only these; all if there is none.
    pub kinds: Vec<RecordKind>,
    /// Only those of this subject.
    pub subject: Option<String>,
    pub size: PageSize,
}

/// A page of the journal.
#[derive(Debug)]
pub struct Records {
    pub items: Vec<JournalRow>,
    /// The number up to which everything was looked at.
    pub reached: u64,
    /// The number of the journal's last record.
    pub last: u64,
    /// The journal doesn't reach back to where the page was to begin.
    pub gap: Option<Gap>,
}

impl Records {
    /// What to ask for next; `None` at the end of the journal.
    pub fn next(&self) -> Option<u64> {
        (self.reached < self.last).then_some(self.reached)
    }
}

/// Records that are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    pub after: u64,
    /// The number of the oldest record that is kept, or of the next one to come.
    pub oldest: u64,
}

/// The records behind a number, in order.
pub fn records(snapshot: &Snapshot<'_>, filter: &RecordFilter) -> Result<Records, StoreError> {
    let after = filter.after;
    let last = snapshot.last_sequence()?;
    let oldest = snapshot.first_sequence()?.unwrap_or(last + 1);
    let start = after.max(oldest.saturating_sub(1));
    let end = last.min(start.saturating_add(ROWS_MAX));
    let subject = filter.subject.as_deref();
    let mut items: Vec<JournalRow> = Vec::new();
    let mut bytes = 0;
    let mut reached = start;
    while reached < end && items.len() < filter.size.get() && bytes < PAGE_BYTES_MAX {
        let limit = CHUNK.min(filter.size.get() - items.len());
        let range = (reached + 1, end);
        let chunk = snapshot.journal_matching(range, &filter.kinds, subject, limit)?;
        reached = match chunk.last() {
            Some(row) if chunk.len() == limit => row.sequence,
            Some(_) | None => end,
        };
        bytes += chunk.iter().map(|row| row.line.len()).sum::<usize>();
        items.extend(chunk);
    }
    Ok(Records {
        items,
        reached,
        last,
        gap: (start > after).then_some(Gap { after, oldest }),
    })
}
