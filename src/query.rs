//! What a store holds, as values: one set of questions for the command line and the API.
//!
//! Each question is answered from one snapshot, which its caller takes, in bounded time: a page has
//! a bound on its items, its bytes and the rows that are looked at for it. The values serialise to
//! the shapes of REFERENCE.md.

mod device;
mod error;
mod graph;
mod lost;
mod notifications;
mod page;
mod records;
mod revisions;
mod sinks;

pub use self::device::{Device, Field, device, devices};
pub use self::error::QueryError;
pub use self::graph::{Graph, graph};
pub use self::lost::{dead_letters, quarantine};
pub use self::notifications::{
    Cursor, NotificationFilter, NotificationItem, NotificationState, notifications,
};
pub use self::page::{Page, PageSize, checked_text};
pub use self::records::{Gap, RecordFilter, Records, records};
pub use self::revisions::{NotificationHistory, notification};
pub use self::sinks::{SinkState, sinks};
