//! What a step takes in: messages, and the rows that it asked the store for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::held::SortKey;
use super::notifications::Notification;
use crate::event::{ClockTime, Decoded, DedupeKey, NotificationId, RawMessage, SessionKey};

/// A message that enters the engine.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The engine's clock when it arrived.
    pub at: ClockTime,
    /// The message as it came.
    pub raw: Arc<RawMessage>,
    /// What it means.
    pub decoded: Decoded,
}

/// The rows that a step needs from the store.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    /// Which of these payloads were seen.
    pub payloads: BTreeSet<DedupeKey>,
    /// The last release under these ordering keys.
    pub ordering_keys: BTreeSet<Arc<str>>,
    /// These notifications.
    pub notifications: BTreeSet<NotificationId>,
    /// The clips of these sessions.
    pub session_clips: BTreeSet<SessionKey>,
    /// The clips of these sessions, the threads that have them, and those threads' notifications.
    pub session_members: BTreeSet<SessionKey>,
}

/// What the store knows of a session.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// The threads that have it.
    pub members: BTreeSet<NotificationId>,
    /// Its clips, with the time of their first arrival.
    pub clips: BTreeMap<String, ClockTime>,
}

/// The rows that were found. What is not in it is not in the store.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The first arrival of payloads.
    pub payloads: BTreeMap<DedupeKey, ClockTime>,
    /// The last release under ordering keys, and when that was.
    pub ordering_keys: BTreeMap<Arc<str>, (SortKey, ClockTime)>,
    pub notifications: BTreeMap<NotificationId, Arc<Notification>>,
    pub sessions: BTreeMap<SessionKey, Session>,
}
