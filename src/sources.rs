//! Where messages come from: the closed list of sources, and what they hand over and tell.
//!
//! A source never decodes a payload and never acks by itself.

pub mod capture;
mod delivery;
mod event;
mod message;
pub mod pubsub;

pub use self::delivery::{Ack, Delivery};
pub use self::event::{SourceChange, SourceEvent};
pub use self::message::{Incoming, SourceId};
