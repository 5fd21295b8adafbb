//! The nouns: what a platform's message means once decoded, in hearthd's own words.
//!
//! Values only. Nothing here reads a clock, does I/O, or knows the JSON of any platform.

mod content;
mod ids;
mod message;
mod name;
mod rendered;
mod time;

pub use self::content::{
    Activity, Clip, Event, Flag, Object, Payload, Relation, RelationKind, Thread, ThreadState,
    TraitUpdate,
};
pub use self::ids::{DedupeKey, NotificationId, Platform, SessionKey};
pub use self::message::{Decoded, DecodedEvent, RawMessage, Reason, Reject};
pub use self::name::{ResourceKind, ResourceName};
pub use self::rendered::Rendered;
pub use self::time::{ClockTime, EventTime, PublishTime, ReceivedAt, Timestamp, instant};
