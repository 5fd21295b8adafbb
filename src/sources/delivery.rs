//! A message with the means to ack it: the closed list of what an ack can be.

use super::message::SourceId;
use super::pubsub::ack;
use crate::event::RawMessage;

/// A message, and the means to ack it once its outcome is committed. Dropped, it comes again.
#[derive(Debug)]
pub struct Delivery {
    pub source: SourceId,
    pub message: RawMessage,
    pub ack: Ack,
}

/// Tells whoever sent a message that it is taken. Dropped without that, it is not taken, and is
/// sent again where the sender can.
#[derive(Debug)]
pub enum Ack {
    /// Pub/Sub delivers the message until it is acked.
    Pubsub(ack::Ack),
    /// Nobody waits for it, as for the lines of a file.
    Nobody,
}

impl Ack {
    /// The message's outcome is committed: it need not come again.
    pub fn ack(self) {
        match self {
            Self::Pubsub(ack) => ack.ack(),
            Self::Nobody => {}
        }
    }

    /// What to do where messages come again although they were acked.
    pub fn advice_if_lost(&self) -> &'static str {
        match self {
            Self::Pubsub(_) => ack::ADVICE_IF_LOST,
            Self::Nobody => "nothing: nobody waits for them",
        }
    }
}
