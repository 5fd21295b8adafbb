//! What a sink wants of its window: which records, in what order, how long. Also the bounds that
//! all windows share.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::filter::Filter;
use crate::backoff::Schedule;
use crate::event::ClockTime;

/// Most rows that wait in a window, dead letters that aren't in the store yet among them. It is
/// several times what a sink has in flight, so that keys that are backed off leave others to send;
/// and little enough to be read again after a restart.
pub const MAX_ROWS: usize = 4096;

/// Most bytes of those rows: some 4,096 usual ones of 2 KiB. A single larger row is taken alone.
pub const MAX_BYTES: usize = 8 << 20;

/// What a row takes beside its line, rounded up: its place in the window's maps and queues.
pub const ROW_BYTES: usize = 256;

/// Most rows that are taken beyond the committed cursor. While one row is stuck, so many others can
/// be delivered; and so many come again after a restart, as only the cursor survives it.
pub const MAX_AHEAD: u64 = 65_536;

/// Most dead letters in one settlement: as many rows as a step of the service may write.
pub const MAX_DEAD_LETTERS: usize = 256;

/// Most dead letters that are retried at a time: they wait beside the rows that are due.
pub const MAX_RETRIES: usize = 256;

/// Keys that fail one after the other, without a success between them, until the receiver itself
/// counts as down. With fewer, it may be the fault of the records.
pub const SUSPECT_KEYS: usize = 4;

/// The longest wait that a server can ask for. A wrong header must not stop a sink for years; and
/// one request per hour bothers nobody.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Most bytes of the reason of a dead letter. It may quote a server's answer.
pub const DETAIL_MAX: usize = 512;

/// Waits for a record that fails alone. At most a minute, the default of
/// `notifications.max_alert_age`: a ring that waits behind it can still ring. Longer than the
/// receiver's, so that another record than this one tries whether the receiver works again.
pub const RECORD_RETRY: Schedule = Schedule {
    min: Duration::from_secs(1),
    max: Duration::from_secs(60),
};

/// Waits while the receiver is down. At most half of a record's, see there.
pub const RECEIVER_RETRY: Schedule = Schedule {
    min: Duration::from_millis(500),
    max: Duration::from_secs(30),
};

/// The two clocks that a window is told: waits are measured on one, rings expire on the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub clock: ClockTime,
    pub wall: DateTime<Utc>,
}

/// In which order a sink gets its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Strictly by sequence, in batches of at most so many rows, one batch at a time.
    Sequence { batch: usize },
    /// By sequence within a notification, an ordering key or a resource, one record of each at a
    /// time; `max_in_flight` in all.
    Keys {
        max_in_flight: usize,
        /// Whether only the newest waiting revision of a notification is sent, beside those that
        /// should still ring.
        coalesce: bool,
    },
}

/// What a sink wants of its window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub filter: Filter,
    pub order: Order,
    /// Age of a record, since it was written into the journal, from which it is a dead letter.
    pub max_age: Duration,
    pub record_retry: Schedule,
    pub receiver_retry: Schedule,
}

impl Settings {
    /// Most attempts at a time.
    pub(super) fn max_in_flight(&self) -> usize {
        match self.order {
            Order::Sequence { .. } => 1,
            // None at all would never deliver anything.
            Order::Keys { max_in_flight, .. } => max_in_flight.max(1),
        }
    }

    /// Most rows of one attempt.
    pub(super) fn batch(&self) -> usize {
        match self.order {
            Order::Sequence { batch } => batch.max(1),
            Order::Keys { .. } => 1,
        }
    }

    pub(super) fn coalesces(&self) -> bool {
        matches!(self.order, Order::Keys { coalesce: true, .. })
    }
}
