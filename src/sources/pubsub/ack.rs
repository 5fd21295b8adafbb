//! The ack of one message, which Pub/Sub delivers again and again without it.

use std::sync::Arc;

use google_cloud_pubsub::subscriber::handler::Handler;

use super::attempts::Attempts;
use super::flow_control::Permit;
use super::shared::Shared;
use crate::sources::event::SourceChange;

/// What to do where acks don't arrive. The library tells of no failure.
pub(in crate::sources) const ADVICE_IF_LOST: &str =
    "check that the service account has roles/pubsub.subscriber on the subscription";

/// Acks one message; dropping it without acking makes Pub/Sub deliver it again. As long as it
/// lives, the message is outstanding.
#[derive(Debug)]
pub struct Ack {
    handler: Option<Handler>,
    shared: Arc<Shared>,
    attempts: Arc<Attempts>,
    _permit: Permit,
}

impl Ack {
    pub(super) fn new(
        handler: Handler,
        shared: Arc<Shared>,
        attempts: Arc<Attempts>,
        permit: Permit,
    ) -> Self {
        shared.message_received();
        attempts.message_received();
        Self {
            handler: Some(handler),
            shared,
            attempts,
            _permit: permit,
        }
    }

    /// Tells Pub/Sub not to deliver the message again. The ack leaves within 100 ms; nobody hears
    /// of it if it gets lost, so a message may come again all the same.
    pub fn ack(mut self) {
        if let Some(handler) = self.handler.take() {
            // First: the next message counts as outstanding as soon as this one makes room.
            self.shared.emit(SourceChange::Acked);
            handler.ack();
        }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        if self.handler.is_some() {
            self.shared.emit(SourceChange::Returned);
        }
        self.attempts.message_settled();
    }
}
