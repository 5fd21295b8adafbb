//! The closed list of what a step asks the store to write, and what it asks to be counted.
//!
//! One [`Changes`] is one transaction. Each row is named once, in its last state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::draft::Draft;
use super::graph::Node;
use super::held::{Held, SortKey};
use super::notifications::Notification;
use super::reorder::ReleaseReason;
use super::traits::TraitRow;
use crate::event::{
    ClockTime, DedupeKey, NotificationId, Platform, RawMessage, Reason, Reject, ResourceName,
    SessionKey,
};

/// A message that could not be decoded, with all that is known of it.
#[derive(Clone, Debug)]
pub struct Quarantined {
    pub key: DedupeKey,
    /// When it arrived.
    pub at: ClockTime,
    /// What is wrong with it.
    pub reject: Reject,
    /// The message, raw bytes included.
    pub raw: RawMessage,
}

/// All that one step changed.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// The engine's clock when the step ended.
    pub at: ClockTime,
    /// Payloads seen for the first time, with their arrival.
    pub seen: Vec<(DedupeKey, ClockTime)>,
    /// Messages to put into quarantine.
    pub quarantined: Vec<Quarantined>,
    /// The row of quarantine whose message came in again with this step: it goes, as what became
    /// of the message is in the same transaction.
    pub retried: Option<i64>,
    /// What the journal tells, in order.
    pub drafts: Vec<Draft>,
    /// Notifications in their new state.
    pub notifications: Vec<(NotificationId, Arc<Notification>)>,
    /// Threads that gained a session.
    pub members: Vec<(SessionKey, NotificationId)>,
    /// Clips of sessions, which later threads of that session join.
    pub clips: Vec<(SessionKey, String, ClockTime)>,
    /// Clips that are kept no more, some of them of `clips`: written after those.
    pub dropped_clips: BTreeSet<(SessionKey, String)>,
    /// Events that now wait for their turn.
    pub held: Vec<Arc<Held>>,
    /// Events that waited in the store and don't any more, by their arrival.
    pub released_arrivals: Vec<u64>,
    /// The last release under each ordering key.
    pub released: BTreeMap<Arc<str>, (SortKey, ClockTime)>,
    /// Graph rows in their new state.
    pub nodes: Vec<(ResourceName, Arc<Node>)>,
    /// Traits in their new state.
    pub traits: Vec<TraitRow>,
    /// Traits that are kept no more, by resource and name.
    pub dropped_traits: Vec<(ResourceName, Arc<str>)>,
    /// What to count once this is committed.
    pub tally: Tally,
}

impl Changes {
    /// True if there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
            && self.quarantined.is_empty()
            && self.retried.is_none()
            && self.drafts.is_empty()
            && self.notifications.is_empty()
            && self.held.is_empty()
            && self.released_arrivals.is_empty()
            && self.clips.is_empty()
            && self.dropped_clips.is_empty()
    }
}

/// Numbers of what happened in a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// What became of messages, by their platform.
    pub messages: BTreeMap<Platform, MessageTally>,
    /// Releases of the event log, by reason.
    pub released: BTreeMap<ReleaseReason, u64>,
    /// Revisions of notifications.
    pub revisions: u64,
    /// Notifications that became visible.
    pub opened: u64,
    /// Revisions that neither opened, closed nor reopened one.
    pub updated: u64,
    /// Notifications that closed.
    pub closed: u64,
    /// Notifications that opened again.
    pub reopened: u64,
}

/// What became of the messages of one platform, or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageTally {
    /// Messages taken in.
    pub received: u64,
    /// Messages whose payload was seen before.
    pub duplicates: u64,
    /// Messages put into quarantine, by reason.
    pub quarantined: BTreeMap<Reason, u64>,
    /// Events that reached the event log.
    pub emitted: u64,
    /// Those of them that were late.
    pub late: u64,
}

impl Tally {
    /// The numbers of a platform, to be added to.
    pub fn of(&mut self, platform: Platform) -> &mut MessageTally {
        self.messages.entry(platform).or_default()
    }

    /// The numbers of all platforms.
    pub fn all(&self) -> MessageTally {
        let mut all = MessageTally::default();
        self.messages.values().for_each(|other| all.add(other));
        all
    }

    /// Adds what happened in another step.
    pub fn add(&mut self, other: &Self) {
        for (platform, messages) in &other.messages {
            self.of(*platform).add(messages);
        }
        for (reason, count) in &other.released {
            *self.released.entry(*reason).or_default() += count;
        }
        self.revisions += other.revisions;
        self.opened += other.opened;
        self.updated += other.updated;
        self.closed += other.closed;
        self.reopened += other.reopened;
    }
}

impl MessageTally {
    /// Messages put into quarantine, whatever the reason.
    pub fn quarantined_total(&self) -> u64 {
        self.quarantined.values().sum()
    }

    fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.duplicates += other.duplicates;
        for (reason, count) in &other.quarantined {
            *self.quarantined.entry(*reason).or_default() += count;
        }
        self.emitted += other.emitted;
        self.late += other.late;
    }
}
