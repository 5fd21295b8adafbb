//! The ordered lane: events are held per ordering key by an arrival timer, then released in order.
//!
//! Judges lateness only within one ordering key, and only against what was released there
//! (design, facts 3 and 4). Does not know what an event says.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lru::LruCache;
use serde::{Deserialize, Serialize};

use crate::event::{ClockTime, DedupeKey, Event, ThreadState};
use crate::record::Record;

/// Most bytes of held records: with `max_pending_events` the bound of this buffer's memory.
const MAX_PENDING_BYTES: usize = 64 << 20;

/// Last released sort keys kept in memory (about 200 bytes each); the store has the rest.
const RELEASED_CACHE: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");

/// What the event log of one ordering key is sorted by (contract, section 3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SortKey {
    time: DateTime<Utc>,
    state: ThreadState,
    publish_time: DateTime<Utc>,
    message_id: String,
    key: DedupeKey,
}

impl SortKey {
    /// The sort key of an event.
    pub fn of(event: &Event) -> Self {
        Self {
            time: event.time.0.at(),
            state: event.rank(),
            publish_time: event.publish_time.0.at(),
            message_id: event.message_id.clone(),
            key: event.key,
        }
    }

    /// The event itself.
    pub(super) fn key(&self) -> DedupeKey {
        self.key
    }
}

/// An event that waits for its turn, as the store keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Held {
    /// When its hold ends.
    pub until: ClockTime,
    /// Counts arrivals: orders the timers of one instant.
    pub arrival: u64,
    /// Its ordering key.
    pub ordering_key: String,
    /// Its place within the ordering key.
    pub sort_key: SortKey,
    /// The record to release.
    pub record: Record,
}

/// Why an event was released: a fixed set, used as a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReleaseReason {
    /// Its hold ended, or that of a greater one under its key.
    Hold,
    /// A thread's STARTED waits for nothing, and takes what sorts before it along.
    Started,
    /// It came after a greater one was released.
    Late,
    /// The buffer was full.
    Full,
}

impl ReleaseReason {
    /// Every reason, in the order of their metrics.
    pub const ALL: [Self; 4] = [Self::Hold, Self::Started, Self::Late, Self::Full];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Started => "started",
            Self::Late => "late",
            Self::Full => "full",
        }
    }
}

/// What leaves the buffer in one go, in order.
#[derive(Debug)]
pub(super) struct Release {
    pub(super) reason: ReleaseReason,
    pub(super) events: Vec<Held>,
}

/// The events that wait, and what was last released under each ordering key.
#[derive(Debug)]
pub(super) struct Reorder {
    hold: Duration,
    max_events: usize,
    held: BTreeMap<String, BTreeMap<SortKey, Held>>,
    /// In the order in which holds end, which is the order of arrival.
    timers: BTreeMap<(ClockTime, u64), (String, SortKey)>,
    bytes: usize,
    arrivals: u64,
    released: LruCache<String, (SortKey, ClockTime)>,
}

impl Reorder {
    /// Takes up what the store kept. A hold never lasts longer than a fresh one would.
    pub(super) fn restore(
        hold: Duration,
        max_events: usize,
        rows: impl IntoIterator<Item = Held>,
        now: ClockTime,
    ) -> Self {
        let mut reorder = Self {
            hold,
            max_events,
            held: BTreeMap::new(),
            timers: BTreeMap::new(),
            bytes: 0,
            arrivals: 0,
            released: LruCache::new(RELEASED_CACHE),
        };
        for mut row in rows {
            row.until = row.until.min(now.after(hold));
            reorder.arrivals = reorder.arrivals.max(row.arrival);
            reorder.insert(row);
        }
        reorder
    }

    /// The last release under a key, if this cache knows it.
    pub(super) fn cached(&mut self, ordering_key: &str) -> Option<&(SortKey, ClockTime)> {
        self.released.get(ordering_key)
    }

    /// Notes what was last released under a key.
    pub(super) fn remember(&mut self, ordering_key: &str, last: &SortKey, at: ClockTime) {
        match self.released.get_mut(ordering_key) {
            Some(slot) => *slot = (last.clone(), at),
            None => {
                self.released
                    .put(ordering_key.to_owned(), (last.clone(), at));
            }
        }
    }

    /// Takes an event in that is not late; returns what that releases.
    pub(super) fn hold(
        &mut self,
        at: ClockTime,
        ordering_key: String,
        sort_key: SortKey,
        record: Record,
    ) -> Vec<Release> {
        self.arrivals += 1;
        let started = sort_key.state == ThreadState::Started;
        let until = if started { at } else { at.after(self.hold) };
        let row = Held {
            until,
            arrival: self.arrivals,
            ordering_key,
            sort_key,
            record,
        };
        let timer = (row.until, row.arrival);
        self.insert(row);
        if started {
            return self
                .release(timer, ReleaseReason::Started)
                .into_iter()
                .collect();
        }
        let mut releases = Vec::new();
        while self.timers.len() > self.max_events || self.bytes > MAX_PENDING_BYTES {
            let oldest = self.timers.first_key_value().map(|(timer, _)| *timer);
            releases.extend(oldest.and_then(|oldest| self.release(oldest, ReleaseReason::Full)));
        }
        releases
    }

    /// A copy of an event that waits.
    pub(super) fn get(&self, ordering_key: &str, sort_key: &SortKey) -> Option<Held> {
        self.held.get(ordering_key)?.get(sort_key).cloned()
    }

    /// The release that is due by `until` and comes first, if any.
    pub(super) fn due(&mut self, until: ClockTime) -> Option<Release> {
        let timer = self.timers.first_key_value().map(|(timer, _)| *timer)?;
        if timer.0 > until {
            return None;
        }
        self.release(timer, ReleaseReason::Hold)
    }

    /// When the first hold ends.
    pub(super) fn next_deadline(&self) -> Option<ClockTime> {
        self.timers.first_key_value().map(|((until, _), _)| *until)
    }

    /// Number of events that wait.
    pub(super) fn len(&self) -> usize {
        self.timers.len()
    }

    /// The hold of a timer ended: everything under its key that sorts at or before it goes.
    fn release(&mut self, timer: (ClockTime, u64), reason: ReleaseReason) -> Option<Release> {
        let (ordering_key, last) = self.timers.remove(&timer)?;
        let under_key = self.held.get_mut(&ordering_key)?;
        let mut events = Vec::new();
        while let Some(entry) = under_key.first_entry().filter(|entry| *entry.key() <= last) {
            let row = entry.remove();
            self.timers.remove(&(row.until, row.arrival));
            self.bytes = self.bytes.saturating_sub(row.record.size());
            events.push(row);
        }
        if under_key.is_empty() {
            self.held.remove(&ordering_key);
        }
        Some(Release { reason, events })
    }

    fn insert(&mut self, row: Held) {
        let timer = (row.until, row.arrival);
        self.timers
            .insert(timer, (row.ordering_key.clone(), row.sort_key.clone()));
        self.bytes += row.record.size();
        let under_key = self.held.entry(row.ordering_key.clone()).or_default();
        under_key.insert(row.sort_key.clone(), row);
    }
}
