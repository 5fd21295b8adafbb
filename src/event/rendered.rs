//! What the decoder wrote of an event's record: bytes that the engine carries and never reads.

use serde::{Deserialize, Serialize};

/// The record of an event, but for its end and its number. `record.rs` writes and completes it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Rendered {
    /// The resource that the record is about.
    pub subject: String,
    /// Where the record's number goes, in bytes from the start of the text.
    pub number_at: usize,
    /// The start of a line of JSON. Not a part of other JSON, where each of its quotes would be
    /// escaped: the store keeps it beside the row.
    #[serde(skip)]
    pub text: String,
}

impl Rendered {
    /// Bytes that it takes in memory, about.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.subject.len() + self.text.capacity()
    }

    /// What was read back, with its text.
    #[must_use]
    pub fn with_text(self, text: String) -> Self {
        Self { text, ..self }
    }
}
