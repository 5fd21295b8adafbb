//! An event that waits for its turn, and its place in the event log.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::event::{ClockTime, DedupeKey, Event, Flag, Platform, Rendered, ThreadState, instant};

/// What the event log of one ordering key is sorted by (REFERENCE.md, section 3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SortKey {
    #[serde(with = "instant")]
    pub(super) time: DateTime<Utc>,
    pub(super) state: ThreadState,
    #[serde(with = "instant")]
    pub(super) publish_time: DateTime<Utc>,
    pub(super) message_id: Arc<str>,
    pub(super) key: DedupeKey,
}

impl SortKey {
    /// The sort key of an event.
    pub fn of(event: &Event) -> Self {
        Self {
            time: event.time.0.at(),
            state: event.rank(),
            publish_time: event.publish_time.0.at(),
            message_id: Arc::clone(&event.message_id),
            key: event.key,
        }
    }
}

/// An event that waits for its turn, as the store keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Held {
    /// When its hold ends.
    pub until: ClockTime,
    /// Counts arrivals: orders the timers of one instant.
    pub arrival: u64,
    /// Rows of older builds name no platform: there was one.
    #[serde(default = "platform_of_old_rows")]
    pub platform: Platform,
    pub ordering_key: Arc<str>,
    /// Its place within the ordering key.
    pub sort_key: SortKey,
    /// The record to release.
    pub record: Rendered,
    /// The event's remarks.
    pub flags: BTreeSet<Flag>,
}

fn platform_of_old_rows() -> Platform {
    Platform::Sdm
}
