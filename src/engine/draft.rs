//! What a step has to tell, before it is written as records: the engine knows no record's form.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::graph::GraphChange;
use super::notifications::Notification;
use crate::event::{DedupeKey, EventTime, Flag, NotificationId, Platform, Rendered};

/// One thing to tell, in the order of the journal.
#[derive(Clone, Debug)]
pub enum Draft {
    /// A revision of a notification, as it was when the revision was made.
    Notification(NotificationId, Arc<Notification>),
    /// An event of the ordered lane.
    Event(EventDraft),
    /// A change of the graph.
    Relation(RelationDraft),
}

/// An event of the ordered lane.
#[derive(Clone, Debug)]
pub struct EventDraft {
    pub platform: Platform,
    /// What the decoder wrote of it.
    pub rendered: Rendered,
    /// It came after a greater one of its ordering key was released.
    pub late: bool,
    /// Remarks, the engine's among them.
    pub flags: BTreeSet<Flag>,
}

/// A change of the graph, and the event that brought it.
#[derive(Clone, Debug)]
pub struct RelationDraft {
    /// The event's platform.
    pub platform: Platform,
    /// The event's key.
    pub key: DedupeKey,
    /// The event's time.
    pub time: EventTime,
    /// Its number among the changes of that event, from 1.
    pub number: usize,
    pub change: GraphChange,
}
