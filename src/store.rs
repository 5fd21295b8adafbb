//! What survives: one transaction per batch, read back at start.
//!
//! The closed list of stores, and what they have in common. A store decides nothing: it writes the
//! engine's [`Changes`] as they are, numbers the journal, and forgets what is past its retention.

mod error;
pub mod memory;
pub mod sqlite;

use std::time::Duration;

pub use self::error::{Operation, StoreError};
pub use self::memory::Memory;
pub use self::sqlite::Sqlite;
use crate::engine::change::{Changes, Quarantined};
use crate::engine::draft::Draft;
use crate::engine::notifications::Notification;
use crate::engine::{Loaded, Lookup, Restored};
use crate::event::{ClockTime, NotificationId};
use crate::record::{Record, RecordKind};

/// Most bytes of quarantined messages kept; the oldest go first. A broken publisher must not fill
/// the disk that the journal needs.
pub const QUARANTINE_MAX_BYTES: u64 = 256 << 20;

/// What a quarantined message takes beside its texts, rounded up: times, key, numbers, SQLite's
/// own. Without it, millions of empty messages would count as nothing.
const QUARANTINE_ROW_BYTES: u64 = 256;

/// Most rows removed per table in one go: as many as there are messages in a step. So forgetting
/// stalls the pipeline about as long as a step does, and keeps up with messages that each bring a
/// few rows, which all but broken ones do.
pub const TRIM_ROWS: usize = 256;

/// How long things are kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Dedupe keys, closed notifications, clips of sessions, last releases.
    pub horizon: Duration,
    /// Journal records.
    pub journal_age: Duration,
    /// Bytes of journal records.
    pub journal_bytes: u64,
}

/// What a trim left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// There is more to forget.
    pub more: bool,
    /// Records that were forgotten before their sink had settled them.
    pub lost: Vec<DeadLetterRange>,
    /// Messages that quarantine had no room for any more.
    pub quarantine_evicted: usize,
}

/// A range of records that a sink lost, kept as its dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterRange {
    /// The sink.
    pub sink: String,
    /// The first record.
    pub first: u64,
    /// The last record.
    pub last: u64,
    /// Why.
    pub loss: DeadLetterReason,
}

/// Why a sink lost records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLetterReason {
    /// They took the room of newer ones.
    JournalFull,
    /// They were too old.
    JournalExpired,
}

impl DeadLetterReason {
    /// The name used in dead letters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JournalFull => "journal_full",
            Self::JournalExpired => "journal_expired",
        }
    }

    /// What happened, and what to do.
    pub fn advice(self) -> &'static str {
        match self {
            Self::JournalFull => {
                "the journal is full: this sink lost records; bring it back, or raise \
                 store.journal_max_size"
            }
            Self::JournalExpired => {
                "records grew too old: this sink lost them; bring it back, or raise \
                 store.journal_max_age"
            }
        }
    }
}

/// One record of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRow {
    /// Its number.
    pub sequence: u64,
    /// What it tells of.
    pub kind: RecordKind,
    /// The resource that it is about.
    pub subject: String,
    /// The record, one line of JSON.
    pub line: String,
}

impl JournalRow {
    /// The records that follow the one with the number `last`.
    fn number(drafts: Vec<Draft>, last: u64) -> Vec<Self> {
        let row = |(draft, sequence)| {
            let Record {
                kind,
                subject,
                line,
            } = Record::new(draft, sequence);
            Self {
                sequence,
                kind,
                subject,
                line,
            }
        };
        drafts.into_iter().zip(last + 1..).map(row).collect()
    }
}

/// One message in quarantine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QuarantineRow {
    /// Its number.
    pub id: i64,
    /// When it was put there.
    pub received_at: String,
    /// Where it came from.
    pub platform: String,
    /// Why it is there.
    pub reason: String,
    /// What exactly is wrong.
    pub detail: String,
    /// The transport's id.
    pub message_id: String,
    /// `file:line`, if it came from a file.
    pub place: Option<String>,
    /// The message as it came.
    #[serde(serialize_with = "as_base64")]
    pub raw: Vec<u8>,
}

impl QuarantineRow {
    fn new(id: i64, message: &Quarantined) -> Self {
        let raw = &message.raw;
        Self {
            id,
            received_at: raw.received_at.0.to_string(),
            platform: raw.platform.as_str().to_owned(),
            reason: message.reject.reason.as_str().to_owned(),
            detail: message.reject.detail.clone(),
            message_id: raw.message_id.to_string(),
            place: raw.place.clone(),
            raw: raw.body.to_vec(),
        }
    }
}

/// Bytes that a message takes in quarantine, about.
pub(crate) fn quarantine_bytes(message: &Quarantined) -> u64 {
    let Quarantined { raw, reject, .. } = message;
    let texts = [
        reject.detail.len(),
        raw.message_id.len(),
        raw.place.as_ref().map_or(0, String::len),
    ];
    let texts = texts.into_iter().sum::<usize>() + raw.body.len();
    texts as u64 + QUARANTINE_ROW_BYTES
}

/// Records that a sink will not get, one range of the journal.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterRow {
    /// Its number.
    pub id: i64,
    /// When the last of them was given up, RFC 3339.
    pub at: String,
    /// The sink.
    pub sink: String,
    /// The first record's number.
    pub first_sequence: u64,
    /// The last record's number.
    pub last_sequence: u64,
    /// Why: see [`DeadLetterReason`].
    pub reason: String,
}

fn as_base64<S: serde::Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    use base64::Engine as _;
    to.serialize_str(&base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// A store: where the engine's state and the journal live.
#[derive(Debug)]
pub enum Store {
    /// For replay and tests: gone with the process.
    Memory(Box<Memory>),
    /// A file that survives.
    Sqlite(Box<Sqlite>),
}

impl Store {
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

    /// Writes all changes or none; returns the new rows of the journal. When this returns, they
    /// survive a loss of power (as far as the store survives at all).
    pub fn commit(&mut self, changes: Changes) -> Result<Vec<JournalRow>, StoreError> {
        match self {
            Self::Memory(memory) => memory.commit(changes),
            Self::Sqlite(sqlite) => sqlite.commit(changes),
        }
    }

    /// Forgets what is past its retention, a bounded number of rows at a time.
    pub fn trim(&mut self, now: ClockTime, retention: &Retention) -> Result<Trimmed, StoreError> {
        match self {
            Self::Memory(memory) => {
                let quarantine_evicted = memory.trim(now, retention);
                Ok(Trimmed {
                    quarantine_evicted,
                    ..Trimmed::default()
                })
            }
            Self::Sqlite(sqlite) => sqlite.trim(now, retention),
        }
    }

    /// Makes what room it can on a full disk: gives up its reserve, forgets what is past its
    /// retention, empties the log, and takes the reserve back if that is possible. `more` means
    /// that calling it again would forget more.
    ///
    /// The caller of a store:
    /// 1. after opening it: [`Store::restore_ballast`]; if that fails, says so and carries on;
    /// 2. when something fails and [`StoreError::is_full`]: keeps the messages unacked, stops
    ///    pulling, calls this and tries again after a pause, until it works;
    /// 3. from time to time, if the reserve could not be restored: tries that again. A disk that
    ///    fills up without a reserve stays full until somebody else makes room.
    pub fn free_space(
        &mut self,
        now: ClockTime,
        retention: &Retention,
    ) -> Result<Trimmed, StoreError> {
        match self {
            Self::Memory(_) => self.trim(now, retention),
            Self::Sqlite(sqlite) => sqlite.free_space(now, retention),
        }
    }

    /// Makes the reserve for a full disk if it is not there: 8 MiB beside the store. Costs a look
    /// at a file if it is there. An error ([`StoreError::is_full`] or another) leaves the store
    /// usable.
    pub fn restore_ballast(&self) -> Result<(), StoreError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Sqlite(sqlite) => sqlite.restore_ballast(),
        }
    }

    /// Every notification, sorted by id.
    pub fn notifications(&self) -> Result<Vec<(NotificationId, Notification)>, StoreError> {
        match self {
            Self::Memory(memory) => memory.notifications(),
            Self::Sqlite(sqlite) => sqlite.notifications(),
        }
    }

    /// The records after a number, in order, at most `limit`.
    pub fn journal(&self, after: u64, limit: usize) -> Result<Vec<JournalRow>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.journal(after, limit)),
            Self::Sqlite(sqlite) => sqlite.journal(after, limit),
        }
    }

    /// The newest messages in quarantine, at most `limit`, oldest first.
    pub fn quarantine(&self, limit: usize) -> Result<Vec<QuarantineRow>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.quarantine(limit)),
            Self::Sqlite(sqlite) => sqlite.quarantine(limit),
        }
    }

    /// A message in quarantine, as it was put there; `None` if there is no such row (any more).
    pub fn quarantined(&self, id: i64) -> Result<Option<Quarantined>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.quarantined(id)),
            Self::Sqlite(sqlite) => sqlite.quarantined(id),
        }
    }

    /// Forgets messages in quarantine, all or none of those that are there; returns how many. What
    /// was seen stays seen: a redelivery of them is a duplicate.
    pub fn drop_quarantined(&mut self, ids: &[i64]) -> Result<usize, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.drop_quarantined(ids)),
            Self::Sqlite(sqlite) => sqlite.drop_quarantined(ids),
        }
    }

    /// The newest records that sinks lost, at most `limit` ranges, oldest first. A store in memory
    /// has none: its journal is not for sinks.
    pub fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetterRow>, StoreError> {
        match self {
            Self::Memory(_) => Ok(Vec::new()),
            Self::Sqlite(sqlite) => sqlite.dead_letters(limit),
        }
    }

    /// Forgets ranges of records that sinks lost; returns how many of them were there.
    pub fn drop_dead_letters(&mut self, ids: &[i64]) -> Result<usize, StoreError> {
        match self {
            Self::Memory(_) => Ok(0),
            Self::Sqlite(sqlite) => sqlite.drop_dead_letters(ids),
        }
    }

    /// Names the sinks that are owed what is in the journal: with the next trim. Until then, and by
    /// programs that name none, those of before are. A store in memory has no sinks.
    pub fn set_sinks(&mut self, names: Vec<String>) {
        match self {
            Self::Memory(_) => {}
            Self::Sqlite(sqlite) => sqlite.set_sinks(names),
        }
    }

    /// The number of the last record; 0 if there never was one.
    pub fn last_sequence(&self) -> Result<u64, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.last_sequence()),
            Self::Sqlite(sqlite) => sqlite.last_sequence(),
        }
    }

    /// The last record that a sink has settled; 0 if none.
    pub fn cursor(&self, sink: &str) -> Result<u64, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.cursor(sink)),
            Self::Sqlite(sqlite) => sqlite.cursor(sink),
        }
    }

    /// Notes the last record that a sink has settled. It never goes back.
    pub fn set_cursor(&mut self, sink: &str, sequence: u64) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => {
                memory.set_cursor(sink, sequence);
                Ok(())
            }
            Self::Sqlite(sqlite) => sqlite.set_cursor(sink, sequence),
        }
    }

    /// Bytes that it takes, about.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Memory(memory) => memory.bytes(),
            Self::Sqlite(sqlite) => sqlite.bytes(),
        }
    }
}
