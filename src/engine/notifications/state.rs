//! One notification: what was merged into it, and what its last revision showed.
//!
//! The merge is commutative, associative and idempotent: sets that only grow, smallest and largest
//! times, and an end that stays. Timers only decide when a notification counts as closed.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::grouping::Contribution;
use crate::engine::graph::Place;
use crate::event::{Clip, ClockTime, Event, Platform, ResourceName, ThreadState, Timestamp};

/// Most members of each set of a notification; the smallest stay (REFERENCE.md, section 3).
pub(super) const MAX_MEMBERS: usize = 256;

/// What decides when a notification rings and when it closes.
#[derive(Clone, Copy, Debug)]
pub struct ThreadSettings {
    /// Oldest event that may ring.
    pub max_alert_age: Duration,
    /// How long a thread may be silent before it counts as closed.
    pub thread_timeout: Duration,
    /// How long a session without thread may be silent before it counts as closed.
    pub session_quiet: Duration,
}

/// One notification with all that was merged into it, as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// Where its events come from.
    pub platform: Platform,
    pub resource: ResourceName,
    /// Its thread; `None` for a session or a single message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
    /// Number of revisions written; 0 until the first event entry makes it visible.
    pub revision: u32,
    /// Smallest publishTime of the ENDED messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// True once its timer ran out, until something is merged again.
    #[serde(default, skip_serializing_if = "is_false")]
    pub timed_out: bool,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub kinds: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub sessions: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub clips: BTreeSet<Clip>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub zones: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub users: BTreeSet<String>,
    /// Smallest event time merged.
    pub started_at: Timestamp,
    /// Largest event time merged.
    pub last_event_at: Timestamp,
    /// When its timer runs out; `None` while it is closed or not yet visible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<ClockTime>,
    /// When something was last merged; it can be merged into for `dedupe.horizon` after.
    pub touched: ClockTime,
    /// What the last revision showed of the graph, and until when it rings.
    pub shown: RevisionView,
}

/// The parts of a revision that are fixed when it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionView {
    /// The structure of the device, unless its room's name tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    structure: Option<ResourceName>,
    /// The room of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<ResourceName>,
    /// The name of the device; `None` if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Until when this revision rings; `None` if it doesn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert_until: Option<Timestamp>,
}

impl RevisionView {
    /// What a revision shows of a device that is at that place.
    pub(in crate::engine) fn new(place: Place, alert_until: Option<Timestamp>) -> Self {
        let Place {
            structure,
            room,
            display_name,
        } = place;
        // A room lies in the structure that is shown (REFERENCE.md, section 4).
        let structure = structure.filter(|_| room.is_none());
        Self {
            structure,
            room,
            display_name,
            alert_until,
        }
    }

    /// The structure of the device.
    pub fn structure(&self) -> Option<ResourceName> {
        self.structure
            .clone()
            .or_else(|| self.room.as_ref()?.structure_of_room())
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// What a merge did to a notification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Merged {
    /// Something visible changed.
    pub(in crate::engine) changed: bool,
    /// It has a kind of activity that it did not have.
    pub(in crate::engine) new_kind: bool,
}

impl Notification {
    /// True once an ENDED was seen, or the timer ran out.
    pub fn is_closed(&self) -> bool {
        self.ended_at.is_some() || self.timed_out
    }

    /// The notification that a contribution begins.
    pub(in crate::engine) fn begin(
        contribution: &Contribution<'_>,
        event: &Event,
        at: ClockTime,
    ) -> Self {
        Self {
            platform: event.platform,
            resource: contribution.resource.clone(),
            thread_id: contribution
                .is_thread
                .then(|| event.thread.as_ref().map(|t| t.id.clone()))
                .flatten(),
            revision: 0,
            ended_at: None,
            timed_out: false,
            kinds: BTreeSet::new(),
            sessions: BTreeSet::new(),
            clips: BTreeSet::new(),
            zones: BTreeSet::new(),
            users: BTreeSet::new(),
            started_at: event.time.0.clone(),
            last_event_at: event.time.0.clone(),
            deadline: None,
            touched: at,
            shown: RevisionView::default(),
        }
    }

    /// Merges what one message brings.
    pub(in crate::engine) fn merge(
        &mut self,
        contribution: &Contribution<'_>,
        event: &Event,
        at: ClockTime,
        settings: &ThreadSettings,
    ) -> Merged {
        let was_closed = self.is_closed();
        let mut merged = Merged::default();
        for activity in &contribution.activities {
            merged.new_kind |= insert(&mut self.kinds, &activity.kind);
            for zone in &activity.zones {
                merged.changed |= insert(&mut self.zones, zone);
            }
        }
        for session in contribution.sessions() {
            merged.changed |= insert(&mut self.sessions, session);
        }
        for (session_id, url) in contribution.clips {
            let Some(preview_url) = url.clone() else {
                continue;
            };
            merged.changed |= self.add_clip(Clip {
                session_id: session_id.clone(),
                preview_url,
            });
        }
        if let Some(user) = &event.user_id {
            merged.changed |= insert(&mut self.users, user);
        }
        let time = &event.time.0;
        if *time < self.started_at {
            self.started_at = time.clone();
            merged.changed = true;
        }
        if *time > self.last_event_at {
            self.last_event_at = time.clone();
            merged.changed = true;
        }
        if contribution.is_thread && event.rank() == ThreadState::Ended {
            let ended_at = &event.publish_time.0;
            if self
                .ended_at
                .as_ref()
                .is_none_or(|earliest| ended_at < earliest)
            {
                self.ended_at = Some(ended_at.clone());
                merged.changed = true;
            }
        }
        self.timed_out = false;
        self.touched = at;
        merged.changed |= merged.new_kind || was_closed != self.is_closed();
        merged.changed &= self.revision > 0;
        merged.changed |= self.revision == 0 && contribution.has_entry();
        let visible = self.revision > 0 || merged.changed;
        self.deadline = (visible && self.ended_at.is_none()).then(|| {
            let patience = match self.thread_id {
                Some(_) => settings.thread_timeout,
                None => settings.session_quiet,
            };
            at.after(patience)
        });
        merged
    }

    /// Adds a clip; true if that is visible.
    pub(in crate::engine) fn add_clip(&mut self, clip: Clip) -> bool {
        insert_owned(&mut self.clips, clip)
    }

    /// The timer ran out.
    pub(in crate::engine) fn time_out(&mut self) {
        self.deadline = None;
        self.timed_out = true;
    }

    /// Until when a revision with a new kind rings, or `None` if the event is too old to ring.
    pub(in crate::engine) fn alert_until(
        event: &Event,
        settings: &ThreadSettings,
    ) -> Option<Timestamp> {
        let age = TimeDelta::from_std(settings.max_alert_age).ok()?;
        let until = event.time.0.at().checked_add_signed(age)?;
        (event.received_at.0.at() <= until).then(|| Timestamp::from_utc(until))
    }
}

fn insert(set: &mut BTreeSet<String>, member: &str) -> bool {
    !set.contains(member) && insert_owned(set, member.to_owned())
}

/// Adds a member, keeping the smallest [`MAX_MEMBERS`]; true if it is a new one that stays.
pub(super) fn insert_owned<T: Ord>(set: &mut BTreeSet<T>, member: T) -> bool {
    if set.len() >= MAX_MEMBERS && set.last().is_some_and(|largest| member > *largest) {
        return false;
    }
    let new = set.insert(member);
    if set.len() > MAX_MEMBERS {
        set.pop_last();
    }
    new
}
