//! One notification with the revisions that the journal still has.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::QueryError;
use super::notifications::{NotificationItem, parse_id};
use crate::event::{ClockTime, NotificationId};
use crate::record::RecordKind;
use crate::store::{JournalRow, Snapshot, StoreError};

/// Records that are looked at in each direction: some 20 ms. The journal has no index by
/// notification, as it would cost each commit.
const ROWS_MAX: u64 = 20_000;

/// Records that are looked at at once.
const CHUNK: u64 = 1000;

/// Most revisions that are shown: a thread that lasts a day may have thousands.
const REVISIONS_MAX: usize = 1000;

/// A notification and how it came to be.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationHistory {
    pub notification: NotificationItem,
    /// The records of its revisions, in their order.
    pub revisions: Vec<Box<RawValue>>,
    /// False if some are not among them: they left the journal, lie far from the last message of
    /// the notification, or are more than a thousand.
    pub is_complete: bool,
}

/// The notification of that id.
pub fn notification(snapshot: &Snapshot<'_>, id: &str) -> Result<NotificationHistory, QueryError> {
    let Some(parsed) = parse_id(id) else {
        return Err(QueryError::bad("the id", id, "32 hex digits"));
    };
    let found = snapshot.notification(parsed)?;
    let Some(found) = found.filter(|found| found.revision > 0) else {
        return Err(QueryError::NotFound {
            what: "notification",
            name: parsed.to_string(),
            advice: "`hearthd notifications --format json` lists all ids",
        });
    };
    let mut search = Search {
        snapshot,
        id: parsed,
        subject: found.resource.as_str().to_owned(),
        found: BTreeMap::new(),
    };
    search.run(found.touched, found.revision)?;
    let revisions = search.found.into_values();
    let revisions: Vec<_> = revisions
        .filter_map(|line| RawValue::from_string(line).ok())
        .collect();
    let is_complete = revisions.len() == found.revision as usize;
    Ok(NotificationHistory {
        notification: NotificationItem::new(parsed, found),
        revisions,
        is_complete,
    })
}

struct Search<'a> {
    snapshot: &'a Snapshot<'a>,
    id: NotificationId,
    subject: String,
    /// Lines by the number of the revision.
    found: BTreeMap<u32, String>,
}

impl Search<'_> {
    /// Begins where the last message was committed: what a timer wrote comes behind it, all other
    /// revisions are there or before.
    fn run(&mut self, touched: ClockTime, last_revision: u32) -> Result<(), StoreError> {
        let last = self.snapshot.last_sequence()?;
        let oldest = self.snapshot.first_sequence()?.unwrap_or(last + 1);
        let start = self.first_since(touched, oldest, last)?;
        let mut from = start;
        let end = last.min(start.saturating_add(ROWS_MAX));
        while from <= end && !self.found.contains_key(&last_revision) {
            self.look((from, end.min(from + CHUNK - 1)))?;
            from += CHUNK;
        }
        let mut until = start;
        let begin = oldest.max(start.saturating_sub(ROWS_MAX));
        while until > begin && !self.found.contains_key(&1) && self.found.len() < REVISIONS_MAX {
            let from = begin.max(until.saturating_sub(CHUNK));
            self.look((from, until - 1))?;
            until = from;
        }
        while self.found.len() > REVISIONS_MAX {
            self.found.pop_first();
        }
        Ok(())
    }

    /// The first record that was written at that time or later; the one behind the last if there
    /// is none. Times rise with the numbers.
    fn first_since(&self, at: ClockTime, oldest: u64, last: u64) -> Result<u64, StoreError> {
        let mut low = oldest;
        let mut high = last + 1;
        while low < high {
            let middle = low + (high - low) / 2;
            let row = self.snapshot.journal(middle.saturating_sub(1), 1)?;
            match row.first() {
                Some(row) if row.at < at => low = middle + 1,
                Some(_) | None => high = middle,
            }
        }
        Ok(low)
    }

    fn look(&mut self, range: (u64, u64)) -> Result<(), StoreError> {
        let kinds = [RecordKind::Notification];
        let subject = Some(self.subject.as_str());
        let limit = usize::try_from(CHUNK).unwrap_or(usize::MAX);
        let rows = self
            .snapshot
            .journal_matching(range, &kinds, subject, limit)?;
        for row in rows {
            if let Some(revision) = self.revision_in(&row) {
                self.found.insert(revision, row.line);
            }
        }
        Ok(())
    }

    /// The number of the revision, if the record is of this notification.
    fn revision_in(&self, row: &JournalRow) -> Option<u32> {
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(borrow)]
            id: Cow<'a, str>,
        }
        let head: Head<'_> = serde_json::from_str(&row.line).ok()?;
        let (id, revision) = head.id.split_once('.')?;
        let is_ours = parse_id(id) == Some(self.id);
        revision.parse().ok().filter(|_| is_ours)
    }
}
