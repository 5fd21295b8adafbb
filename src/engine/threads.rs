//! Messages of one thread or session → one notification that is opened, updated and closed.
//!
//! The merge is commutative, associative and idempotent: sets that only grow, smallest and largest
//! times, and an end that stays. Timers only decide when a notification counts as closed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::event::{
    Activity, Clip, ClockTime, Event, NotificationId, Platform, ResourceName, SessionKey,
    ThreadState, Timestamp,
};

/// Most members of each set of a notification; the smallest stay (contract, section 3).
const MAX_MEMBERS: usize = 256;

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
    /// The device.
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
    /// Kinds of activity.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub kinds: BTreeSet<String>,
    /// Sessions.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub sessions: BTreeSet<String>,
    /// Clips.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub clips: BTreeSet<Clip>,
    /// Zones.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub zones: BTreeSet<String>,
    /// Users.
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
    pub shown: Shown,
}

/// The parts of a revision that are fixed when it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    /// The structure of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structure: Option<ResourceName>,
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

fn is_false(flag: &bool) -> bool {
    !flag
}

/// What a merge did to a notification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Merged {
    /// Something visible changed.
    pub(super) changed: bool,
    /// It has a kind of activity that it did not have.
    pub(super) new_kind: bool,
}

impl Notification {
    /// True once an ENDED was seen, or the timer ran out.
    pub fn is_closed(&self) -> bool {
        self.ended_at.is_some() || self.timed_out
    }

    fn new(part: &Part<'_>, event: &Event, at: ClockTime) -> Self {
        Self {
            platform: event.platform,
            resource: part.resource.clone(),
            thread_id: part
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
            shown: Shown::default(),
        }
    }

    /// Merges what one message brings.
    pub(super) fn merge(
        &mut self,
        part: &Part<'_>,
        event: &Event,
        at: ClockTime,
        settings: &ThreadSettings,
    ) -> Merged {
        let was_closed = self.is_closed();
        let mut merged = Merged::default();
        for activity in &part.activities {
            merged.new_kind |= insert(&mut self.kinds, &activity.kind);
            for zone in &activity.zones {
                merged.changed |= insert(&mut self.zones, zone);
            }
        }
        for session in part.sessions() {
            merged.changed |= insert(&mut self.sessions, session);
        }
        for (session_id, url) in part.clips {
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
        if part.is_thread && event.rank() == ThreadState::Ended {
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
        merged.changed |= self.revision == 0 && part.has_entry();
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
    pub(super) fn add_clip(&mut self, clip: Clip) -> bool {
        insert_owned(&mut self.clips, clip)
    }

    /// The timer ran out.
    pub(super) fn time_out(&mut self) {
        self.deadline = None;
        self.timed_out = true;
    }

    /// Until when a revision with a new kind rings, or `None` if the event is too old to ring.
    pub(super) fn alert_until(event: &Event, settings: &ThreadSettings) -> Option<Timestamp> {
        let age = TimeDelta::from_std(settings.max_alert_age).ok()?;
        let until = event.time.0.at().checked_add_signed(age)?;
        (event.received_at.0.at() <= until).then(|| Timestamp::from_utc(until))
    }
}

fn insert(set: &mut BTreeSet<String>, member: &str) -> bool {
    !set.contains(member) && insert_owned(set, member.to_owned())
}

/// Adds a member, keeping the smallest [`MAX_MEMBERS`]; true if it is a new one that stays.
fn insert_owned<T: Ord>(set: &mut BTreeSet<T>, member: T) -> bool {
    if set.len() >= MAX_MEMBERS && set.last().is_some_and(|largest| member > *largest) {
        return false;
    }
    let new = set.insert(member);
    if set.len() > MAX_MEMBERS {
        set.pop_last();
    }
    new
}

/// What one message brings to one notification.
#[derive(Clone, Debug)]
pub(super) struct Part<'a> {
    pub(super) id: NotificationId,
    pub(super) resource: &'a ResourceName,
    pub(super) is_thread: bool,
    pub(super) activities: Vec<&'a Activity>,
    /// Of a threaded message only: an unthreaded clip is a [`Join`].
    pub(super) clips: &'a [(Option<String>, Option<String>)],
}

impl<'a> Part<'a> {
    /// True if the message has an event entry for this notification.
    fn has_entry(&self) -> bool {
        !self.activities.is_empty() || !self.clips.is_empty()
    }

    /// The sessions that the message names for this notification.
    pub(super) fn sessions(&self) -> impl Iterator<Item = &'a str> {
        let of_clips = self
            .clips
            .iter()
            .filter_map(|(session, _)| session.as_deref());
        let of_activities: Vec<&str> = self
            .activities
            .iter()
            .filter_map(|activity| activity.session.as_deref())
            .collect();
        of_activities.into_iter().chain(of_clips)
    }

    /// The notification that this part begins, if there is none yet.
    pub(super) fn begin(&self, event: &Event, at: ClockTime) -> Notification {
        Notification::new(self, event, at)
    }
}

/// A clip of an unthreaded message: it joins every notification of its session.
#[derive(Clone, Debug)]
pub(super) struct Join<'a> {
    pub(super) session: SessionKey,
    pub(super) session_id: &'a str,
    pub(super) url: &'a str,
}

impl Join<'_> {
    /// The clip, as notifications show it.
    pub(super) fn clip(&self) -> Clip {
        Clip {
            session_id: Some(self.session_id.into()),
            preview_url: self.url.into(),
        }
    }
}

/// Which notifications a message belongs to (contract, section 3, "Grouping").
pub(super) fn parts(event: &Event) -> Vec<Part<'_>> {
    let Some(resource) = &event.resource else {
        return Vec::new();
    };
    if let Some(thread) = &event.thread {
        return vec![Part {
            id: NotificationId(hash(event.platform, resource, "thread", &thread.id)),
            resource,
            is_thread: true,
            activities: event.activities.iter().collect(),
            clips: &event.clips,
        }];
    }
    let mut sessions: BTreeMap<Option<&str>, Vec<&Activity>> = BTreeMap::new();
    for activity in &event.activities {
        sessions
            .entry(activity.session.as_deref())
            .or_default()
            .push(activity);
    }
    let part = |(session, activities): (Option<&str>, _)| Part {
        id: NotificationId(match session {
            Some(session) => session_key(event.platform, resource, session).0,
            None => hash(event.platform, resource, "event", &event.key.to_string()),
        }),
        resource,
        is_thread: false,
        activities,
        clips: &[],
    };
    sessions.into_iter().map(part).collect()
}

/// The clips of an unthreaded message that can join anything.
pub(super) fn joins(event: &Event) -> Vec<Join<'_>> {
    let (Some(resource), None) = (&event.resource, &event.thread) else {
        return Vec::new();
    };
    let mut joins = Vec::new();
    for (session, url) in &event.clips {
        if let (Some(session_id), Some(url)) = (session, url) {
            let session = session_key(event.platform, resource, session_id);
            joins.push(Join {
                session,
                session_id,
                url,
            });
        }
    }
    joins
}

/// The key of a session of a resource.
pub(super) fn session_key(
    platform: Platform,
    resource: &ResourceName,
    session: &str,
) -> SessionKey {
    SessionKey(hash(platform, resource, "session", session))
}

fn hash(platform: Platform, resource: &ResourceName, kind: &str, id: &str) -> [u8; 16] {
    let mut hasher = Sha256::new();
    for part in [platform.as_str(), resource.as_str(), kind, id] {
        // Lengths keep apart what could run together.
        hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(part);
    }
    let mut key = [0; 16];
    key.copy_from_slice(&hasher.finalize()[..16]);
    key
}

/// The timers of all open notifications.
#[derive(Debug, Default)]
pub(super) struct Timers {
    deadlines: BTreeSet<(ClockTime, NotificationId)>,
    by_id: BTreeMap<NotificationId, ClockTime>,
}

impl Timers {
    /// Sets or ends the timer of a notification.
    pub(super) fn set(&mut self, id: NotificationId, deadline: Option<ClockTime>) {
        let previous = match deadline {
            Some(deadline) => self.by_id.insert(id, deadline),
            None => self.by_id.remove(&id),
        };
        if let Some(previous) = previous {
            self.deadlines.remove(&(previous, id));
        }
        self.deadlines
            .extend(deadline.map(|deadline| (deadline, id)));
    }

    /// When the first timer runs out, and whose it is.
    pub(super) fn first(&self) -> Option<(ClockTime, NotificationId)> {
        self.deadlines.first().copied()
    }

    /// The notifications whose timers run out by then.
    pub(super) fn due(&self, until: ClockTime) -> impl Iterator<Item = NotificationId> {
        self.deadlines
            .iter()
            .take_while(move |(deadline, _)| *deadline <= until)
            .map(|(_, id)| *id)
    }

    /// Number of open notifications.
    pub(super) fn len(&self) -> usize {
        self.deadlines.len()
    }
}
