//! Messages of one thread or session → one notification that is opened, updated and closed.
//!
//! The merge is commutative, associative and idempotent: sets that only grow, smallest and largest
//! times, and an end that stays. Timers only decide when a notification counts as closed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::graph::Place;
use crate::event::{
    Activity, Clip, ClockTime, Event, NotificationId, Platform, ResourceName, SessionKey,
    ThreadState, Timestamp,
};

/// Most members of each set of a notification; the smallest stay (REFERENCE.md, section 3).
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
    pub(super) fn new(place: Place, alert_until: Option<Timestamp>) -> Self {
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

    fn new(contribution: &Contribution<'_>, event: &Event, at: ClockTime) -> Self {
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
    pub(super) fn merge(
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
pub(super) struct Contribution<'a> {
    pub(super) id: NotificationId,
    pub(super) resource: &'a ResourceName,
    pub(super) is_thread: bool,
    pub(super) activities: Vec<&'a Activity>,
    /// Of a threaded message only: an unthreaded clip is a [`SessionClip`].
    pub(super) clips: &'a [(Option<String>, Option<String>)],
}

impl<'a> Contribution<'a> {
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
pub(super) struct SessionClip<'a> {
    pub(super) session: SessionKey,
    pub(super) session_id: &'a str,
    pub(super) url: &'a str,
}

impl SessionClip<'_> {
    /// The clip, as notifications show it.
    pub(super) fn clip(&self) -> Clip {
        Clip {
            session_id: Some(self.session_id.into()),
            preview_url: self.url.into(),
        }
    }
}

/// Which notifications a message belongs to (REFERENCE.md, section 3, "Grouping").
pub(super) fn contributions(event: &Event) -> Vec<Contribution<'_>> {
    let Some(resource) = &event.resource else {
        return Vec::new();
    };
    if let Some(thread) = &event.thread {
        return vec![Contribution {
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
    let contribution = |(session, activities): (Option<&str>, _)| Contribution {
        id: NotificationId(match session {
            Some(session) => session_key(event.platform, resource, session).0,
            None => hash(event.platform, resource, "event", &event.key.to_string()),
        }),
        resource,
        is_thread: false,
        activities,
        clips: &[],
    };
    sessions.into_iter().map(contribution).collect()
}

/// The clips of an unthreaded message that can join anything.
pub(super) fn session_clips(event: &Event) -> Vec<SessionClip<'_>> {
    let (Some(resource), None) = (&event.resource, &event.thread) else {
        return Vec::new();
    };
    let mut session_clips = Vec::new();
    for (session, url) in &event.clips {
        if let (Some(session_id), Some(url)) = (session, url) {
            let session = session_key(event.platform, resource, session_id);
            session_clips.push(SessionClip {
                session,
                session_id,
                url,
            });
        }
    }
    session_clips
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
    for contribution in [platform.as_str(), resource.as_str(), kind, id] {
        // Lengths keep apart what could run together.
        hasher.update(
            u64::try_from(contribution.len())
                .unwrap_or(u64::MAX)
                .to_le_bytes(),
        );
        hasher.update(contribution);
    }
    let mut key = [0; 16];
    key.copy_from_slice(&hasher.finalize()[..16]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{PublishTime, RawMessage, ReceivedAt};
    use crate::platforms::{DecodeSettings, decode};

    const SETTINGS: ThreadSettings = ThreadSettings {
        max_alert_age: Duration::from_secs(60),
        thread_timeout: Duration::from_secs(300),
        session_quiet: Duration::from_secs(30),
    };
    const NOW: ClockTime = ClockTime(0);

    /// A motion of a thread (or none), in a session and a zone, received at that second.
    fn motion(thread: Option<&str>, n: usize, received: &str) -> Event {
        let received = Timestamp::parse(received).unwrap();
        let name = "sdm.devices.events.CameraMotion.Motion";
        let clip = "sdm.devices.events.CameraClipPreview.ClipPreview";
        let session = format!("s{n:04}");
        let body = serde_json::json!({
            "eventId": "e", "timestamp": "2025-06-09T13:52:00Z", "userId": format!("u{n:04}"),
            "eventThreadId": thread, "eventThreadState": thread.map(|_| "UPDATED"),
            "resourceUpdate": {"name": "enterprises/p/devices/d", "events": {
                name: {"eventSessionId": session, "zones": [format!("z{n:04}")]},
                clip: {"eventSessionId": session, "previewUrl": format!("https://c/{n:04}")},
                (format!("sdm.devices.events.Odd{n:04}")): {},
            }},
        });
        let raw = RawMessage {
            platform: Platform::Sdm,
            message_id: "m".into(),
            publish_time: PublishTime(received.clone()),
            received_at: ReceivedAt(received),
            body: body.to_string().into(),
            place: None,
        };
        *decode(&raw, &DecodeSettings::default()).outcome.unwrap()
    }

    fn merge_all(numbers: impl IntoIterator<Item = usize>) -> Notification {
        let mut merged: Option<Notification> = None;
        for n in numbers {
            let event = motion(Some("t"), n, "2025-06-09T13:52:03Z");
            let contribution = contributions(&event).remove(0);
            let state = merged.get_or_insert_with(|| contribution.begin(&event, NOW));
            state.merge(&contribution, &event, NOW, &SETTINGS);
        }
        merged.unwrap()
    }

    #[test]
    fn a_set_that_is_full_keeps_its_smallest_members_in_any_order() {
        let many = MAX_MEMBERS + 44;
        let expected = merge_all(0..many);
        assert_eq!(merge_all((0..many).rev()), expected);
        assert_eq!(merge_all((0..many).map(|n| n * 7 % many)), expected);
        assert_eq!(merge_all((0..many).chain(0..many)), expected);

        let smallest = |set: &BTreeSet<String>, first: &str| {
            assert_eq!(set.len(), MAX_MEMBERS);
            assert_eq!(set.first().map(String::as_str), Some(first));
        };
        smallest(&expected.sessions, "s0000");
        smallest(&expected.zones, "z0000");
        smallest(&expected.users, "u0000");
        smallest(&expected.kinds, "motion");
        assert_eq!(expected.sessions.last().unwrap(), "s0255");
        assert_eq!(expected.clips.len(), MAX_MEMBERS);
        assert_eq!(expected.clips.last().unwrap().preview_url, "https://c/0255");
    }

    #[test]
    fn what_does_not_stay_in_a_full_set_changes_nothing() {
        let mut set: BTreeSet<usize> = (0..MAX_MEMBERS).map(|n| n * 2 + 2).collect();
        let largest = MAX_MEMBERS * 2;
        assert!(!insert_owned(&mut set, largest + 1));
        assert!(!insert_owned(&mut set, largest));
        assert!(insert_owned(&mut set, 1));
        assert!(!insert_owned(&mut set, 1));
        assert_eq!((set.len(), set.last()), (MAX_MEMBERS, Some(&(largest - 2))));
    }

    #[test]
    fn an_event_rings_up_to_its_age_and_no_longer() {
        let until = |received| {
            let event = motion(None, 1, received);
            Notification::alert_until(&event, &SETTINGS).map(|time| time.to_string())
        };
        let expected = Some("2025-06-09T13:53:00.000Z".to_owned());
        assert_eq!(until("2025-06-09T13:52:00Z"), expected);
        assert_eq!(until("2025-06-09T13:53:00Z"), expected);
        assert_eq!(until("2025-06-09T13:53:00.000000001Z"), None);
        assert_eq!(
            until("2025-06-09T13:51:00Z"),
            expected,
            "its clock is ahead of ours"
        );
    }

    #[test]
    fn a_message_belongs_to_its_thread_or_to_the_sessions_of_its_entries() {
        let threaded = motion(Some("t"), 1, "2025-06-09T13:52:03Z");
        let [contribution] = &contributions(&threaded)[..] else {
            panic!("one thread, one contribution")
        };
        assert_eq!(
            (contribution.activities.len(), contribution.clips.len()),
            (2, 1)
        );
        assert!(session_clips(&threaded).is_empty());

        let unthreaded = motion(None, 1, "2025-06-09T13:52:03Z");
        let contributions = contributions(&unthreaded);
        let kinds: Vec<&str> = contributions
            .iter()
            .flat_map(|contribution| &contribution.activities)
            .map(|one| one.kind.as_str())
            .collect();
        assert_eq!(
            kinds,
            ["sdm.devices.events.Odd0001", "motion"],
            "one without session, one with"
        );
        assert_eq!(session_clips(&unthreaded).len(), 1);
        assert_eq!(
            NotificationId(session_clips(&unthreaded)[0].session.0),
            contributions[1].id
        );
    }

    #[test]
    fn ids_keep_apart_what_could_run_together() {
        let id = |name: &str, kind: &str, id: &str| {
            hash(Platform::Sdm, &ResourceName::new(name), kind, id)
        };
        assert_ne!(id("d", "thread", "77"), id("d", "session", "77"));
        assert_ne!(id("d1", "thread", "1"), id("d", "thread", "11"));
        assert_ne!(id("d", "thread", "1"), id("e", "thread", "1"));
        assert_eq!(id("d", "thread", "1"), id("d", "thread", "1"));
    }
}
