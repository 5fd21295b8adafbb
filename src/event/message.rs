//! A message before and after decoding: what a source hands over, what the engine takes.
//!
//! Knows no platform's JSON.

use std::sync::Arc;

use bytes::Bytes;
use strum::{EnumString, IntoStaticStr, VariantNames};

use super::content::Event;
use super::ids::{DedupeKey, Platform};
use super::rendered::Rendered;
use super::time::{PublishTime, ReceivedAt};

/// A message as a source got it. Cheap to clone: its copies share what it holds.
#[derive(Clone, Debug)]
pub struct RawMessage {
    /// Where it came from.
    pub platform: Platform,
    /// The transport's id.
    pub message_id: Arc<str>,
    /// When the transport accepted it.
    pub publish_time: PublishTime,
    /// When hearthd received it.
    pub received_at: ReceivedAt,
    pub body: Bytes,
    /// `file:line`, for a message from a capture file.
    pub place: Option<String>,
}

/// Why a message was quarantined: a fixed set, used in quarantine rows and as a metric label.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    EnumString,
    IntoStaticStr,
    VariantNames,
)]
#[strum(serialize_all = "snake_case")]
pub enum Reason {
    /// A capture line that is not one of the three shapes.
    BadLine,
    /// The decoder panicked: a defect of hearthd.
    DecoderPanic,
    /// An object that has a key twice, so that its readers would disagree.
    DuplicateKey,
    /// The engine panicked: a defect of hearthd.
    MergePanic,
    /// Neither a resource update nor a relation update.
    NoUpdate,
    NotJson,
    NotUtf8,
    TooDeep,
    TooLarge,
    /// A platform that hearthd does not know.
    UnknownPlatform,
    /// A field of another type than documented, or a required one that is missing.
    WrongType,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// True if a source found the fault: what it has is then no payload, and never decoded.
    pub fn is_of_source(self) -> bool {
        matches!(self, Self::BadLine | Self::UnknownPlatform)
    }
}

/// Why a message can't be processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    pub reason: Reason,
    /// What exactly is wrong, without the payload's values.
    pub detail: String,
}

impl Reject {
    /// A fault with its detail.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }
}

/// A decoded message: its idempotency key, and its event unless it was rejected.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The hash of the canonical payload, or of the raw bytes of a body that can't be decoded.
    pub key: DedupeKey,
    /// The event, or why there is none.
    pub outcome: Result<Box<DecodedEvent>, Reject>,
}

/// An event, and all that the event log needs of it: the payload itself is gone.
#[derive(Clone, Debug)]
pub struct DecodedEvent {
    pub event: Event,
    /// [`Event::ordering_key`], made once.
    pub ordering_key: Arc<str>,
    /// The start of its record.
    pub rendered: Rendered,
}
