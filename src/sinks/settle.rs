//! What a window has settled, in the store's terms.

use std::sync::Arc;

use crate::delivery::{self, Cause};
use crate::store::{DeadLetter, DeadLetterReason, JournalRow, Settlement};

/// The settlement as the store takes it. Which revisions were delivered is left out: sinks that
/// have no use for it must not fill the store with a row for each notification.
pub(super) fn for_store(
    sink: &str,
    settlement: delivery::Settlement<Arc<JournalRow>>,
) -> Settlement {
    let letters = settlement.dead_letters.into_iter();
    Settlement {
        sink: sink.to_owned(),
        cursor: settlement.cursor,
        dead_letters: letters.map(dead_letter).collect(),
        shown: Vec::new(),
    }
}

fn dead_letter(letter: delivery::DeadLetter<Arc<JournalRow>>) -> DeadLetter {
    let reason = match letter.cause {
        Cause::MaxAge => DeadLetterReason::Expired,
        Cause::Refused => DeadLetterReason::Refused,
        Cause::Unreadable => DeadLetterReason::Unreadable,
    };
    DeadLetter {
        sequence: letter.sequence,
        reason,
        detail: letter.detail.into(),
        line: letter.payload.line.clone(),
    }
}
