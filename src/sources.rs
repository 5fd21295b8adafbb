//! Where messages come from: the closed list of sources, and how what they hand over is acked.
//!
//! A source never decodes a payload and never acks by itself.

pub mod capture;
pub mod pubsub;

use crate::event::{RawMessage, Reject};

/// A message that enters hearthd.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The message.
    pub raw: RawMessage,
    /// Why it can't even be handed to a decoder, if its source found that out.
    pub fault: Option<Reject>,
}

/// A message, and the means to ack it once its outcome is committed. Dropped, it comes again.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub incoming: Incoming,
    /// Acks it.
    pub ack: pubsub::Ack,
}
