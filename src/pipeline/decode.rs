//! Decodes a message under a guard, and writes of its record what is known by then.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::event::{Decoded, DecodedEvent, RawMessage, Reason, Reject};
use crate::platforms::{self, DecodeSettings, Parsed};
use crate::record;

/// Decodes a message, unless its source found that it can't be. A panic of the decoder is the
/// message's fault, not the process's.
pub(super) fn decode(
    raw: &RawMessage,
    fault: Option<Reject>,
    settings: &DecodeSettings,
) -> Decoded {
    if let Some(fault) = fault {
        return platforms::rejected(raw, fault);
    }
    catch_unwind(AssertUnwindSafe(|| parse(raw, settings))).unwrap_or_else(|_| {
        let fault = Reject::new(Reason::DecoderPanic, "the decoder panicked");
        platforms::rejected(raw, fault)
    })
}

fn parse(raw: &RawMessage, settings: &DecodeSettings) -> Decoded {
    let Parsed { key, outcome } = platforms::decode(raw, settings);
    let outcome = outcome.map(|(event, payload)| {
        let ordering_key = event.ordering_key();
        let rendered = record::render(&event, &payload, &ordering_key);
        Box::new(DecodedEvent {
            event,
            ordering_key,
            rendered,
        })
    });
    Decoded { key, outcome }
}
