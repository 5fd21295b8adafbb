//! Which source a message is from, and a message that may be no payload.

use std::fmt;
use std::sync::Arc;

use crate::event::{RawMessage, Reject};

/// A source's short name, which metrics and the log show. No two sources have the same one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(Arc<str>);

impl SourceId {
    /// The source of that name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The Pub/Sub subscription of the settings; there is one.
    pub fn pubsub() -> Self {
        Self::new("pubsub")
    }

    /// Not a source but the store: what it held when hearthd started, or had in quarantine.
    pub fn store() -> Self {
        Self::new("store")
    }

    /// The metric label.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A message for the decoder. Capture files may hold lines that are none.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub raw: RawMessage,
    /// Why it can't even be handed to a decoder, if its source found that out.
    pub fault: Option<Reject>,
}

impl From<RawMessage> for Incoming {
    fn from(raw: RawMessage) -> Self {
        Self { raw, fault: None }
    }
}
