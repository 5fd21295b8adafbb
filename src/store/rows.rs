//! What stores keep and give back, and what one transaction writes.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::change::{Changes, Quarantined};
use crate::engine::draft::Draft;
use crate::event::{ClockTime, NotificationId};
use crate::record::{Record, RecordKind};

/// One transaction: what a step changed, how far sinks have come since the last one, and what an
/// operator asked for.
#[derive(Debug, Default)]
pub struct Commit {
    pub changes: Changes,
    pub settled: Vec<Settlement>,
    pub admin: Vec<Admin>,
}

impl From<Changes> for Commit {
    fn from(changes: Changes) -> Self {
        Self {
            changes,
            ..Self::default()
        }
    }
}

impl Commit {
    /// True if there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.settled.is_empty() && self.admin.is_empty()
    }
}

/// What a transaction wrote.
#[derive(Debug, Default)]
pub struct Committed {
    /// The new rows of the journal, shared with whoever delivers them.
    pub records: Vec<Arc<JournalRow>>,
    /// Rows that each of [`Commit::admin`] removed or changed.
    pub affected: Vec<usize>,
}

/// How far a sink has come, and what it will not deliver: never one without the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settlement {
    pub sink: String,
    /// The number up to which every record is delivered, filtered or a dead letter.
    pub cursor: u64,
    pub dead_letters: Vec<DeadLetter>,
    /// What the sink has to remember of notifications that it showed.
    pub shown: Vec<ShownRow>,
}

impl Settlement {
    /// Adds what the same sink settled later.
    pub fn add(&mut self, later: Self) {
        self.cursor = self.cursor.max(later.cursor);
        self.dead_letters.extend(later.dead_letters);
        self.shown.extend(later.shown);
    }

    /// Bytes that it takes in memory, about.
    pub fn bytes(&self) -> usize {
        let letters = self.dead_letters.iter();
        let letters = letters.map(|letter| letter.line.len() + letter.detail.len());
        let shown = self.shown.iter().map(|row| row.state.len());
        letters.sum::<usize>() + shown.sum::<usize>()
    }
}

/// One record that a sink will not deliver, by its own decision or the receiver's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub sequence: u64,
    pub reason: DeadLetterReason,
    /// What the receiver said, in one line; without secrets.
    pub detail: String,
    /// The record, so that it can be delivered after all.
    pub line: String,
}

/// What a sink remembers of one notification that it showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownRow {
    pub notification: NotificationId,
    /// The last revision that was delivered.
    pub revision: u32,
    /// The receiver's name for it, where it gives one.
    pub remote_id: Option<String>,
    /// The sink's own state, as JSON.
    pub state: String,
}

/// What an operator asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admin {
    /// Names the sinks of the settings: what a trim takes from one of these before it was
    /// delivered is a dead letter. Others keep their cursor and hold nothing back.
    SetSinks(Vec<SinkStart>),
    /// Forgets messages in quarantine. A redelivery of them stays a duplicate.
    DropQuarantined(Vec<i64>),
    /// Forgets dead letters.
    DropDeadLetters(Vec<i64>),
}

/// Where a sink begins that the store does not know yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkStart {
    pub name: String,
    /// The cursor of a sink that is new.
    pub cursor: u64,
}

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

impl Retention {
    /// The shortest time for which anything is kept.
    pub fn shortest(&self) -> Duration {
        self.horizon.min(self.journal_age)
    }
}

/// What keeping within the retention took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// There is more to forget.
    pub more: bool,
    /// Records that were forgotten before a sink had them.
    pub dead_letters: Vec<DeadLetterRange>,
    /// Messages that were forgotten because quarantine is full.
    pub quarantine_evicted: usize,
}

/// Records that left the journal before a sink had them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterRange {
    pub sink: String,
    pub first: u64,
    pub last: u64,
    pub reason: DeadLetterReason,
}

/// Why a sink did not get a record.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, strum::AsRefStr, strum::EnumString, strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum DeadLetterReason {
    /// The journal needed the space for newer records.
    JournalFull,
    /// The record was older than `store.journal_max_age`.
    JournalExpired,
    /// The record was older than the sink's own `max_age`.
    Expired,
    /// The receiver refused it for good.
    Refused,
    /// The line of the record is damaged, or a defect of hearthd.
    Unreadable,
}

impl DeadLetterReason {
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
            Self::Expired => {
                "records grew too old for this sink: bring it back, or raise its max_age; \
                 `hearthd dead-letters` lists them"
            }
            Self::Refused => {
                "the receiver refused records for good: `hearthd dead-letters` lists them with \
                 what it said"
            }
            Self::Unreadable => {
                "records can't be read: the store is damaged, or this is a defect of hearthd; \
                 `hearthd dead-letters` lists them, please report them"
            }
        }
    }
}

/// One record of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRow {
    pub sequence: u64,
    pub kind: RecordKind,
    /// The resource that it is about.
    pub subject: String,
    /// When it was written, by the engine's clock.
    pub at: ClockTime,
    /// The record, one line of JSON.
    pub line: String,
}

impl JournalRow {
    /// The records that follow the one with the number `last`.
    pub(super) fn number(drafts: Vec<Draft>, last: u64, at: ClockTime) -> Vec<Arc<Self>> {
        let row = |(draft, sequence)| {
            let Record {
                kind,
                subject,
                line,
            } = Record::new(draft, sequence);
            Arc::new(Self {
                sequence,
                kind,
                subject,
                at,
                line,
            })
        };
        drafts.into_iter().zip(last + 1..).map(row).collect()
    }
}

/// One message in quarantine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QuarantineRow {
    pub id: i64,
    /// When the message was received, RFC 3339.
    pub received_at: String,
    pub platform: String,
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
    pub(super) fn new(id: i64, message: &Quarantined) -> Self {
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

/// A message in quarantine without its body, which may have a MiB.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QuarantineHead {
    pub id: i64,
    pub received_at: String,
    pub platform: String,
    pub reason: String,
    pub detail: String,
    pub message_id: String,
    pub place: Option<String>,
    /// Bytes of the body.
    pub bytes: u64,
}

fn as_base64<S: serde::Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    use base64::Engine as _;
    to.serialize_str(&base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// Records that a sink will not get: one, or a range that left the journal.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterRow {
    pub id: i64,
    /// When the last of them was lost, RFC 3339.
    pub at: String,
    pub sink: String,
    pub first_sequence: u64,
    pub last_sequence: u64,
    /// A [`DeadLetterReason`].
    pub reason: String,
    /// What the receiver said; empty for a range.
    pub detail: String,
    /// The record, unless it left the journal: then nothing can be delivered any more.
    pub record: Option<Box<serde_json::value::RawValue>>,
}

/// How far a sink has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkRow {
    pub name: String,
    pub cursor: u64,
    /// True if the settings name it.
    pub is_set: bool,
}

/// Most bytes of quarantined messages kept; the oldest go first. A broken publisher must not fill
/// the disk that the journal needs.
pub const QUARANTINE_MAX_BYTES: u64 = 256 << 20;

/// What a quarantined message takes beside its texts, rounded up: times, key, numbers, SQLite's
/// own. Without it, millions of empty messages would count as nothing.
const QUARANTINE_ROW_BYTES: u64 = 256;

/// Bytes that a message takes in quarantine, about.
pub(super) fn quarantine_bytes(message: &Quarantined) -> u64 {
    let Quarantined { raw, reject, .. } = message;
    let place = raw.place.as_ref().map_or(0, String::len);
    let texts = reject.detail.len() + raw.message_id.len() + place + raw.body.len();
    texts as u64 + QUARANTINE_ROW_BYTES
}
