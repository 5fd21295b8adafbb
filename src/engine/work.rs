//! The scratch pad of one step: the rows that were loaded, what became of them, what to write.
//!
//! Bookkeeping for the parts of the engine; decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::change::{Changes, Quarantined};
use super::draft::{Draft, EventDraft};
use super::held::{Held, SortKey};
use super::notifications::{Notification, SessionClip};
use super::reorder::{Release, ReleaseReason};
use super::step::Loaded;
use crate::event::{Clip, ClockTime, DedupeKey, NotificationId, SessionKey};

/// Most clips kept per session for threads to come, the smallest addresses: as many as a
/// notification shows.
const MAX_CLIPS: usize = 256;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Work {
    loaded: Loaded,
    horizon: Duration,
    /// Shared with the engine's cache and the changes, so that none of them moves or copies them.
    notifications: BTreeMap<NotificationId, Arc<Notification>>,
    /// Events of this step that wait, by their arrival.
    held: BTreeMap<u64, Arc<Held>>,
    pub(super) changes: Changes,
}

impl Work {
    pub(super) fn new(loaded: Loaded, horizon: Duration) -> Self {
        Self {
            loaded,
            horizon,
            notifications: BTreeMap::new(),
            held: BTreeMap::new(),
            changes: Changes::default(),
        }
    }

    /// The first arrival of a payload, as far as the store and this step know.
    pub(super) fn first_seen(&self, key: DedupeKey) -> Option<ClockTime> {
        self.loaded.payloads.get(&key).copied()
    }

    /// Notes a payload's first arrival.
    pub(super) fn see(&mut self, key: DedupeKey, at: ClockTime) {
        self.loaded.payloads.insert(key, at);
        self.changes.seen.push((key, at));
    }

    /// Takes a notification out, from this step, the engine's cache or the store; `None` if there
    /// is none, or if it was closed and untouched for the horizon.
    pub(super) fn notification(
        &mut self,
        id: NotificationId,
        at: ClockTime,
        from_cache: impl FnOnce(NotificationId) -> Option<Arc<Notification>>,
    ) -> Option<Arc<Notification>> {
        let horizon = self.horizon;
        let is_kept =
            |state: &Notification| state.deadline.is_some() || at.since(state.touched) < horizon;
        // What this step made of it stays: it must be written, and hides the store's older row.
        if self
            .notifications
            .get(&id)
            .is_some_and(|state| !is_kept(state))
        {
            return None;
        }
        let of_step = self.notifications.remove(&id);
        let stored = || self.loaded.notifications.remove(&id);
        of_step
            .or_else(|| from_cache(id))
            .or_else(stored)
            .filter(|state| is_kept(state))
    }

    /// Puts a notification back, to be written.
    pub(super) fn put(&mut self, id: NotificationId, state: Arc<Notification>) {
        self.notifications.insert(id, state);
    }

    /// Notes that a thread has a session.
    pub(super) fn join_session(&mut self, session: SessionKey, thread: NotificationId) {
        if self
            .loaded
            .sessions
            .entry(session)
            .or_default()
            .members
            .insert(thread)
        {
            self.changes.members.push((session, thread));
        }
    }

    /// The clips that a session has got so far.
    pub(super) fn clips_of(&self, key: SessionKey, session: &str, at: ClockTime) -> Vec<Clip> {
        let clips = self
            .loaded
            .sessions
            .get(&key)
            .into_iter()
            .flat_map(|session| &session.clips);
        let fresh = clips.filter(|(_, first)| at.since(**first) < self.horizon);
        fresh
            .map(|(url, _)| Clip {
                session_id: Some(session.into()),
                preview_url: url.clone(),
            })
            .collect()
    }

    /// Notes a clip of a session, unless it has enough with smaller addresses.
    pub(super) fn add_clip(&mut self, join: &SessionClip<'_>, at: ClockTime) {
        let Self {
            loaded,
            changes,
            horizon,
            ..
        } = self;
        let clips = &mut loaded.sessions.entry(join.session).or_default().clips;
        // What is forgotten takes no room from what is not.
        let forgotten = clips.extract_if(.., |_, first| at.since(*first) >= *horizon);
        let forgotten = forgotten.map(|(url, _)| (join.session, url));
        changes.dropped_clips.extend(forgotten);
        if !clips.contains_key(join.url) {
            let url = join.url.to_owned();
            clips.insert(url.clone(), at);
            changes.clips.push((join.session, url.clone(), at));
            changes.dropped_clips.remove(&(join.session, url));
        }
        while clips.len() > MAX_CLIPS {
            let largest = clips.pop_last();
            changes
                .dropped_clips
                .extend(largest.map(|(url, _)| (join.session, url)));
        }
    }

    /// The notifications that have a session: its own, and those of threads.
    pub(super) fn members(&self, session: SessionKey) -> Vec<NotificationId> {
        let threads = self
            .loaded
            .sessions
            .get(&session)
            .into_iter()
            .flat_map(|s| &s.members);
        std::iter::once(NotificationId(session.0))
            .chain(threads.copied())
            .collect()
    }

    /// The last release under a key, as far as the store and this step know.
    pub(super) fn released(&self, ordering_key: &str) -> Option<&(SortKey, ClockTime)> {
        let of_step = self.changes.released.get(ordering_key);
        of_step.or_else(|| self.loaded.ordering_keys.get(ordering_key))
    }

    /// Notes that an event of this step waits.
    pub(super) fn hold(&mut self, event: Arc<Held>) {
        self.held.insert(event.arrival, event);
    }

    /// Writes events that waited to the event log.
    pub(super) fn release(&mut self, release: Release, at: ClockTime) {
        for held in release.events {
            if self.held.remove(&held.arrival).is_none() {
                self.changes.released_arrivals.push(held.arrival);
            }
            let held = Arc::unwrap_or_clone(held);
            self.changes
                .released
                .insert(held.ordering_key, (held.sort_key, at));
            let draft = EventDraft {
                platform: held.platform,
                rendered: held.record,
                late: false,
                flags: held.flags,
            };
            self.emit(draft, release.reason);
        }
    }

    /// Writes an event to the event log.
    pub(super) fn emit(&mut self, draft: EventDraft, reason: ReleaseReason) {
        let tally = &mut self.changes.tally;
        let messages = tally.of(draft.platform);
        messages.emitted += 1;
        messages.late += u64::from(draft.late);
        *tally.released.entry(reason).or_default() += 1;
        self.tell(Draft::Event(draft));
    }

    /// Puts a message into quarantine.
    pub(super) fn quarantine(&mut self, message: Quarantined) {
        let messages = self.changes.tally.of(message.raw.platform);
        let reason = message.reject.reason;
        *messages.quarantined.entry(reason).or_default() += 1;
        self.changes.quarantined.push(message);
    }

    /// Adds to what the journal tells.
    pub(super) fn tell(&mut self, draft: Draft) {
        self.changes.drafts.push(draft);
    }

    /// All that is to be written.
    pub(super) fn into_changes(mut self) -> Changes {
        self.changes.notifications = self.notifications.into_iter().collect();
        self.changes.held = self.held.into_values().collect();
        self.changes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const HORIZON: Duration = Duration::from_nanos(10);
    const SESSION: SessionKey = SessionKey([1; 16]);

    fn work() -> Work {
        Work::new(Loaded::default(), HORIZON)
    }

    fn url(n: usize) -> String {
        format!("https://c/{n:04}")
    }

    fn add(work: &mut Work, url: &str, at: i64) {
        work.add_clip(
            &SessionClip {
                session: SESSION,
                session_id: "s",
                url,
            },
            ClockTime(at),
        );
    }

    fn urls(work: &Work, at: i64) -> Vec<String> {
        let clips = work.clips_of(SESSION, "s", ClockTime(at));
        clips.into_iter().map(|clip| clip.preview_url).collect()
    }

    #[test]
    fn a_session_keeps_the_clips_with_the_smallest_addresses_in_any_order() {
        let many = MAX_CLIPS + 44;
        let kept: Vec<_> = (0..MAX_CLIPS).map(url).collect();
        let shuffled = (0..many).map(|n| n * 7 % many).collect();
        for order in [(0..many).collect(), (0..many).rev().collect(), shuffled] {
            let (mut work, order): (_, Vec<usize>) = (work(), order);
            for n in &order {
                add(&mut work, &url(*n), 0);
                assert!(work.loaded.sessions[&SESSION].clips.len() <= MAX_CLIPS);
            }
            assert_eq!(urls(&work, 0), kept, "{order:?}");
            let changes = &work.changes;
            let written: BTreeSet<_> = changes
                .clips
                .iter()
                .map(|(_, url, _)| url.clone())
                .collect();
            let dropped = changes
                .dropped_clips
                .iter()
                .map(|(_, url)| url.clone())
                .collect();
            let stored: Vec<_> = written.difference(&dropped).cloned().collect();
            assert_eq!(stored, kept, "{order:?}");
        }
    }

    #[test]
    fn a_clip_that_is_there_is_not_written_again_before_it_is_forgotten() {
        let mut work = work();
        for at in [0, 9, 10] {
            add(&mut work, "u", at);
        }
        let written: Vec<_> = work.changes.clips.iter().map(|(_, _, at)| at.0).collect();
        assert_eq!(written, [0, 10]);
    }

    #[test]
    fn forgotten_clips_take_no_room_from_others() {
        let mut work = work();
        for n in 0..MAX_CLIPS {
            add(&mut work, &url(n), 0);
        }
        add(&mut work, "https://d", 9);
        assert!(
            !urls(&work, 9).contains(&"https://d".to_owned()),
            "there is no room yet"
        );
        add(&mut work, "https://d", 10);
        assert_eq!(urls(&work, 10), ["https://d"]);
        let dropped: Vec<_> = work
            .changes
            .dropped_clips
            .iter()
            .map(|(_, url)| url.clone())
            .collect();
        assert_eq!(dropped, (0..MAX_CLIPS).map(url).collect::<Vec<_>>());
    }
}
