//! Messages of one thread or session → one notification that is opened, updated and closed.
//!
//! Merges what a message brings, sets the timers that close what goes quiet, and writes a revision
//! where something visible changed.

mod grouping;
mod state;
mod timers;

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

pub(super) use self::grouping::SessionClip;
use self::grouping::{Contribution, contributions, session_clips, session_key};
use self::state::RevisionView;
pub use self::state::{Notification, ThreadSettings};
use self::timers::Timers;
use super::change::Tally;
use super::draft::Draft;
use super::graph::Graph;
use super::step::Lookup;
use super::work::Work;
use crate::event::{ClockTime, Event, NotificationId};

/// Notifications kept in memory, since most get their messages within a minute; the store has the
/// rest. About 3 KiB each, but five sets of 256 texts of 4 KiB at worst.
const CACHED: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// Most open notifications, since each has a timer in memory (about 60 bytes). Beyond it the
/// engine has no room for messages until a timer runs out.
const MAX_OPEN: usize = 200_000;

/// The timers of open notifications, and those notifications that were last worked on.
#[derive(Debug)]
pub(super) struct Notifications {
    settings: ThreadSettings,
    timers: Timers,
    cache: LruCache<NotificationId, Arc<Notification>>,
}

impl Notifications {
    /// Goes on with the timers that the store kept; none lasts longer than a fresh one.
    pub(super) fn restore(
        settings: ThreadSettings,
        deadlines: Vec<(NotificationId, ClockTime)>,
        now: ClockTime,
    ) -> Self {
        let longest = settings.thread_timeout.max(settings.session_quiet);
        Self {
            settings,
            timers: Timers::restore(deadlines, now.after(longest)),
            cache: LruCache::new(CACHED),
        }
    }

    /// Names the rows that `apply` needs for an event.
    pub(super) fn lookup(&self, event: &Event, lookup: &mut Lookup) {
        for contribution in contributions(event) {
            self.look_up(contribution.id, lookup);
            for session in contribution.sessions() {
                let key = session_key(event.platform, contribution.resource, session);
                lookup.session_clips.insert(key);
            }
        }
        for clip in session_clips(event) {
            lookup.session_members.insert(clip.session);
            // A session's own notification has the session's key as its id.
            self.look_up(NotificationId(clip.session.0), lookup);
        }
    }

    /// Names the rows that `time_out` needs up to that time.
    pub(super) fn lookup_due(&self, until: ClockTime, lookup: &mut Lookup) {
        for id in self.timers.due(until) {
            self.look_up(id, lookup);
        }
    }

    fn look_up(&self, id: NotificationId, lookup: &mut Lookup) {
        if !self.cache.contains(&id) {
            lookup.notifications.insert(id);
        }
    }

    /// Merges an event into the notifications that it belongs to. `graph` says where they are.
    pub(super) fn apply(&mut self, event: &Event, at: ClockTime, graph: &Graph, work: &mut Work) {
        // Clips first, so that a motion and its clip in one message make one revision.
        let session_clips = session_clips(event);
        for clip in &session_clips {
            work.add_clip(clip, at);
        }
        for contribution in contributions(event) {
            self.merge(&contribution, event, at, graph, work);
        }
        for clip in &session_clips {
            for id in work.members(clip.session) {
                self.join_clip(id, clip, at, graph, work);
            }
        }
    }

    fn merge(
        &mut self,
        contribution: &Contribution<'_>,
        event: &Event,
        at: ClockTime,
        graph: &Graph,
        work: &mut Work,
    ) {
        let mut shared = work
            .notification(contribution.id, at, |id| self.cache.pop(&id))
            .unwrap_or_else(|| Arc::new(Notification::begin(contribution, event, at)));
        let state = Arc::make_mut(&mut shared);
        let was_closed = state.is_closed();
        let mut merged = state.merge(contribution, event, at, &self.settings);
        for session in contribution.sessions() {
            let key = session_key(event.platform, contribution.resource, session);
            if contribution.is_thread {
                work.join_session(key, contribution.id);
            }
            for clip in work.clips_of(key, session, at) {
                merged.changed |= state.add_clip(clip);
            }
        }
        self.timers.set(contribution.id, state.deadline);
        if merged.changed {
            let alert = merged.new_kind.then_some(event);
            self.revise(contribution.id, &mut shared, was_closed, alert, graph, work);
        }
        work.put(contribution.id, shared);
    }

    fn join_clip(
        &mut self,
        id: NotificationId,
        clip: &SessionClip<'_>,
        at: ClockTime,
        graph: &Graph,
        work: &mut Work,
    ) {
        let Some(mut shared) = work.notification(id, at, |id| self.cache.pop(&id)) else {
            return;
        };
        let state = Arc::make_mut(&mut shared);
        let was_closed = state.is_closed();
        if state.add_clip(clip.clip()) {
            self.revise(id, &mut shared, was_closed, None, graph, work);
        }
        work.put(id, shared);
    }

    /// Closes the notification whose timer runs out first.
    pub(super) fn time_out(&mut self, graph: &Graph, work: &mut Work) {
        let Some((deadline, id)) = self.timers.first() else {
            return;
        };
        self.timers.set(id, None);
        let Some(mut shared) = work.notification(id, deadline, |id| self.cache.pop(&id)) else {
            return;
        };
        let state = Arc::make_mut(&mut shared);
        let was_closed = state.is_closed();
        state.time_out();
        self.revise(id, &mut shared, was_closed, None, graph, work);
        work.put(id, shared);
    }

    /// Writes a revision. `alert` is the event that brought a new kind, if one did.
    fn revise(
        &self,
        id: NotificationId,
        shared: &mut Arc<Notification>,
        was_closed: bool,
        alert: Option<&Event>,
        graph: &Graph,
        work: &mut Work,
    ) {
        let state = Arc::make_mut(shared);
        let place = graph.place(&state.resource).unwrap_or_default();
        let alert_until = alert.and_then(|event| Notification::alert_until(event, &self.settings));
        state.revision += 1;
        state.shown = RevisionView::new(place, alert_until);
        count(state, was_closed, &mut work.changes.tally);
        work.tell(Draft::Notification(id, Arc::clone(shared)));
    }

    /// Keeps what a step made of notifications, once the step can't ask the store any more.
    pub(super) fn remember(&mut self, id: NotificationId, state: Arc<Notification>) {
        self.cache.put(id, state);
    }

    /// When the first timer runs out.
    pub(super) fn next_deadline(&self) -> Option<ClockTime> {
        self.timers.first().map(|(deadline, _)| deadline)
    }

    /// When the nth timer from here runs out, counted from 0.
    pub(super) fn nth_deadline(&self, n: usize) -> Option<ClockTime> {
        self.timers.nth(n)
    }

    /// Number of open notifications.
    pub(super) fn open(&self) -> usize {
        self.timers.len()
    }

    /// False while no more may be opened.
    pub(super) fn has_capacity(&self) -> bool {
        self.timers.len() < MAX_OPEN
    }
}

/// Counts a revision. Openings and reopenings less closings are the open notifications.
fn count(state: &Notification, was_closed: bool, tally: &mut Tally) {
    tally.revisions += 1;
    if state.revision == 1 {
        tally.opened += 1;
        tally.closed += u64::from(state.is_closed());
        return;
    }
    match (was_closed, state.is_closed()) {
        (false, true) => tally.closed += 1,
        (true, false) => tally.reopened += 1,
        (true, true) | (false, false) => tally.updated += 1,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::grouping::hash;
    use super::state::{MAX_MEMBERS, insert_owned};
    use super::*;
    use crate::event::{Platform, PublishTime, RawMessage, ReceivedAt, ResourceName, Timestamp};
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
        decode(&raw, &DecodeSettings::default()).outcome.unwrap().0
    }

    fn merge_all(numbers: impl IntoIterator<Item = usize>) -> Notification {
        let mut merged: Option<Notification> = None;
        for n in numbers {
            let event = motion(Some("t"), n, "2025-06-09T13:52:03Z");
            let contribution = contributions(&event).remove(0);
            let state =
                merged.get_or_insert_with(|| Notification::begin(&contribution, &event, NOW));
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
