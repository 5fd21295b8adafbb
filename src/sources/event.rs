//! What sources tell of themselves, for metrics and health.

use super::message::SourceId;
use super::pubsub::stream_event::StreamEvent;

/// Something happened at a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceEvent {
    pub source: SourceId,
    pub change: SourceChange,
}

/// What happened: what every source knows, and the closed list of what only one kind does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceChange {
    /// One of its connections works, and brings messages if there are any.
    Up,
    /// One that worked does so no more.
    Down,
    /// A message came: it is outstanding until it is acked or returned.
    Received,
    /// A message was acked.
    Acked,
    /// A message was dropped without an ack: it will come again.
    Returned,
    /// What only Pub/Sub has.
    Pubsub(StreamEvent),
}
