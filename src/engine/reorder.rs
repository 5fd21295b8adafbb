//! The ordered lane: events are held per ordering key by an arrival timer, then released in order.
//!
//! Judges lateness only within one ordering key, and only against what was released there. Does not
//! know what an event says.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use strum::{IntoStaticStr, VariantNames};

use super::draft::EventDraft;
use super::held::{Held, SortKey};
use crate::event::{ClockTime, ThreadState};

/// Most bytes of held records: with `max_pending_events` the bound of this buffer's memory.
const MAX_PENDING_BYTES: usize = 64 << 20;

/// Last released sort keys kept in memory (about 200 bytes each; an ordering key has at most the
/// 4 KiB that the decoder takes); the store has the rest.
const RELEASED_CACHE: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// Why an event was released: a fixed set, used as a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum ReleaseReason {
    /// Its hold ended, or that of a greater one under its key.
    Hold,
    /// A thread's STARTED waits for nothing, and takes what sorts before it along.
    Started,
    /// It came after a greater one was released.
    Late,
    /// The buffer was full.
    Full,
}

impl ReleaseReason {
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What leaves the buffer in one go, in order.
#[derive(Debug)]
pub(super) struct Release {
    pub(super) reason: ReleaseReason,
    pub(super) events: Vec<Arc<Held>>,
}

/// The events that wait, and what was last released under each ordering key.
#[derive(Debug)]
pub(super) struct Reorder {
    hold: Duration,
    max_events: usize,
    /// What waits under each ordering key, in order; no key without events. Shared with the timers
    /// and with what is to be written.
    held: HashMap<Arc<str>, VecDeque<Arc<Held>>>,
    /// In the order in which holds end, which is the order of arrival.
    timers: BTreeMap<(ClockTime, u64), Arc<Held>>,
    bytes: usize,
    arrivals: u64,
    released: LruCache<Arc<str>, (SortKey, ClockTime)>,
}

impl Reorder {
    /// Goes on with the events that the store kept. No hold lasts longer than a fresh one would.
    pub(super) fn restore(
        hold: Duration,
        max_events: usize,
        rows: impl IntoIterator<Item = Held>,
        now: ClockTime,
    ) -> Self {
        let mut reorder = Self {
            hold,
            max_events,
            held: HashMap::new(),
            timers: BTreeMap::new(),
            bytes: 0,
            arrivals: 0,
            released: LruCache::new(RELEASED_CACHE),
        };
        for mut row in rows {
            row.until = row.until.min(now.after(hold));
            reorder.arrivals = reorder.arrivals.max(row.arrival);
            reorder.insert(Arc::new(row));
        }
        reorder
    }

    /// The last release under a key, if this cache knows it.
    pub(super) fn cached(&self, ordering_key: &str) -> Option<&(SortKey, ClockTime)> {
        self.released.peek(ordering_key)
    }

    /// Notes what was last released under a key.
    pub(super) fn remember(&mut self, ordering_key: Arc<str>, last: SortKey, at: ClockTime) {
        self.released.put(ordering_key, (last, at));
    }

    /// Takes an event in that is not late; returns it and what that releases, which may be itself.
    pub(super) fn hold(
        &mut self,
        at: ClockTime,
        ordering_key: Arc<str>,
        sort_key: SortKey,
        draft: EventDraft,
    ) -> (Arc<Held>, Vec<Release>) {
        self.arrivals += 1;
        let started = sort_key.state == ThreadState::Started;
        let until = if started { at } else { at.after(self.hold) };
        let arrival = self.arrivals;
        let row = Arc::new(Held {
            until,
            arrival,
            platform: draft.platform,
            ordering_key,
            sort_key,
            record: draft.rendered,
            flags: draft.flags,
        });
        self.insert(Arc::clone(&row));
        let mut releases = Vec::new();
        if started {
            releases.extend(self.release((until, arrival), ReleaseReason::Started));
        }
        while self.timers.len() > self.max_events || self.bytes > MAX_PENDING_BYTES {
            let oldest = self.timers.first_key_value().map(|(timer, _)| *timer);
            releases.extend(oldest.and_then(|oldest| self.release(oldest, ReleaseReason::Full)));
        }
        (row, releases)
    }

    /// The release that is due by `until` and comes first, if any.
    pub(super) fn due(&mut self, until: ClockTime) -> Option<Release> {
        let timer = self.timers.first_key_value().map(|(timer, _)| *timer)?;
        if timer.0 > until {
            return None;
        }
        self.release(timer, ReleaseReason::Hold)
    }

    /// When the first hold ends.
    pub(super) fn next_deadline(&self) -> Option<ClockTime> {
        self.timers.first_key_value().map(|((until, _), _)| *until)
    }

    /// When the nth hold from here ends, counted from 0.
    pub(super) fn nth_deadline(&self, n: usize) -> Option<ClockTime> {
        self.timers.keys().nth(n).map(|(until, _)| *until)
    }

    /// Number of events that wait.
    pub(super) fn len(&self) -> usize {
        self.timers.len()
    }

    /// The hold of a timer ended: everything under its key that sorts at or before it goes.
    fn release(&mut self, timer: (ClockTime, u64), reason: ReleaseReason) -> Option<Release> {
        let last = Arc::clone(self.timers.get(&timer)?);
        let lane = self.held.get_mut(&last.ordering_key)?;
        let count = lane
            .iter()
            .take_while(|row| row.sort_key <= last.sort_key)
            .count();
        let events: Vec<_> = lane.drain(..count).collect();
        if lane.is_empty() {
            self.held.remove(&last.ordering_key);
        }
        for row in &events {
            self.timers.remove(&(row.until, row.arrival));
            self.bytes = self.bytes.saturating_sub(row.record.size());
        }
        Some(Release { reason, events })
    }

    fn insert(&mut self, row: Arc<Held>) {
        self.bytes += row.record.size();
        self.timers
            .insert((row.until, row.arrival), Arc::clone(&row));
        let lane = self.held.entry(Arc::clone(&row.ordering_key)).or_default();
        // Most events come in order.
        if lane.back().is_none_or(|last| last.sort_key <= row.sort_key) {
            return lane.push_back(row);
        }
        let place = lane.partition_point(|other| other.sort_key <= row.sort_key);
        lane.insert(place, row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{
        Event, Platform, PublishTime, RawMessage, ReceivedAt, Rendered, ResourceName, Timestamp,
    };
    use crate::platforms::{DecodeSettings, decode};

    const HOLD: Duration = Duration::from_secs(2);

    /// The clock that many milliseconds after some start.
    fn ms(millis: i64) -> ClockTime {
        ClockTime(millis * 1_000_000)
    }

    fn empty(max_events: usize) -> Reorder {
        Reorder::restore(HOLD, max_events, [], ms(0))
    }

    /// An event whose timestamp is that second; with a state it is of a thread.
    fn event(id: &str, second: u32, state: Option<&str>) -> Event {
        let time = Timestamp::parse("2025-06-09T13:52:05Z").unwrap();
        let body = serde_json::json!({
            "eventId": id, "timestamp": format!("2025-06-09T13:52:{second:02}Z"),
            "eventThreadId": state.map(|_| "t"), "eventThreadState": state,
            "resourceUpdate": {"name": ResourceName::new("enterprises/p/devices/d")},
        });
        let raw = RawMessage {
            platform: Platform::Sdm,
            message_id: id.into(),
            publish_time: PublishTime(time.clone()),
            received_at: ReceivedAt(time),
            body: body.to_string().into(),
            place: None,
        };
        decode(&raw, &DecodeSettings::default()).outcome.unwrap().0
    }

    /// Takes an event in under a key; returns the ids of what that releases.
    fn hold(reorder: &mut Reorder, at: i64, key: &str, event: &Event) -> Vec<Vec<String>> {
        let sort_key = SortKey::of(event);
        let draft = EventDraft {
            platform: event.platform,
            rendered: Rendered::default(),
            late: false,
            flags: event.flags.clone(),
        };
        let (_, releases) = reorder.hold(ms(at), key.into(), sort_key, draft);
        releases.iter().map(ids).collect()
    }

    fn ids(release: &Release) -> Vec<String> {
        release
            .events
            .iter()
            .map(|held| held.sort_key.message_id.to_string())
            .collect()
    }

    fn due(reorder: &mut Reorder, until: i64) -> Option<Vec<String>> {
        reorder.due(ms(until)).map(|release| ids(&release))
    }

    #[test]
    fn an_event_waits_for_its_hold_and_no_longer() {
        let mut reorder = empty(10);
        assert!(hold(&mut reorder, 0, "k", &event("a", 1, None)).is_empty());
        assert_eq!((due(&mut reorder, 1999), reorder.len()), (None, 1));
        assert_eq!(
            (due(&mut reorder, 2000), reorder.len()),
            (Some(vec!["a".into()]), 0)
        );
        assert_eq!(reorder.next_deadline(), None);
    }

    #[test]
    fn what_sorts_before_leaves_with_it_and_what_sorts_behind_stays() {
        let mut reorder = empty(10);
        hold(&mut reorder, 0, "k", &event("second", 2, None));
        hold(&mut reorder, 1000, "k", &event("third", 3, None));
        hold(&mut reorder, 1500, "k", &event("first", 1, None));
        assert_eq!(
            due(&mut reorder, 2000),
            Some(vec!["first".into(), "second".into()])
        );
        assert_eq!(reorder.next_deadline(), Some(ms(3000)));
        assert_eq!(due(&mut reorder, 3000), Some(vec!["third".into()]));
        assert_eq!(due(&mut reorder, 9000), None, "nothing twice");
    }

    #[test]
    fn keys_do_not_wait_for_each_other() {
        let mut reorder = empty(10);
        hold(&mut reorder, 0, "k", &event("a", 9, None));
        hold(&mut reorder, 1, "l", &event("b", 1, None));
        assert_eq!(due(&mut reorder, 2000), Some(vec!["a".into()]));
        assert_eq!(due(&mut reorder, 2000), None);
        assert_eq!(due(&mut reorder, 2001), Some(vec!["b".into()]));
    }

    #[test]
    fn a_started_waits_for_nothing_and_takes_what_sorts_before_it_along() {
        let mut reorder = empty(10);
        hold(&mut reorder, 0, "t", &event("old", 1, Some("UPDATED")));
        hold(&mut reorder, 0, "t", &event("end", 2, Some("ENDED")));
        let released = hold(&mut reorder, 1, "t", &event("start", 2, Some("STARTED")));
        assert_eq!(released, [["old", "start"]]);
        assert_eq!(due(&mut reorder, 2000), Some(vec!["end".into()]));
    }

    #[test]
    fn the_states_of_a_thread_sort_as_they_happen() {
        let states = [
            Some("STARTED"),
            Some("UPDATED"),
            Some("ENDED"),
            Some("PAUSED"),
        ];
        let keys = states.map(|state| SortKey::of(&event("e", 1, state)));
        assert!(keys.is_sorted());
        assert!(SortKey::of(&event("e", 2, Some("STARTED"))) > keys[3]);
        assert_eq!(SortKey::of(&event("e", 1, None)).state, ThreadState::None);
    }

    #[test]
    fn a_full_buffer_releases_the_oldest_arrival() {
        let mut reorder = empty(2);
        assert!(hold(&mut reorder, 0, "k", &event("oldest", 9, None)).is_empty());
        assert!(hold(&mut reorder, 1, "l", &event("other", 1, None)).is_empty());
        let released = hold(&mut reorder, 2, "k", &event("before it", 8, None));
        assert_eq!(released, [["before it", "oldest"]], "in order");
        assert_eq!(reorder.len(), 1);
    }

    #[test]
    fn a_buffer_of_too_many_bytes_is_full_too() {
        let mut reorder = empty(usize::MAX);
        let large = event("large", 1, None);
        let size = Rendered::default().size();
        reorder.bytes = MAX_PENDING_BYTES - size;
        assert!(hold(&mut reorder, 0, "k", &large).is_empty());
        assert_eq!(hold(&mut reorder, 0, "l", &event("next", 1, None)).len(), 1);
        assert_eq!(reorder.bytes, MAX_PENDING_BYTES);
    }

    #[test]
    fn a_hold_goes_on_after_a_restart_but_never_longer_than_a_fresh_one() {
        let mut reorder = empty(10);
        for (at, id) in [(0, "a"), (60_000, "b")] {
            hold(&mut reorder, at, id, &event(id, 1, None));
        }
        let rows = reorder.timers.into_values().map(Arc::unwrap_or_clone);
        let mut restored = Reorder::restore(HOLD, 10, rows, ms(1000));
        assert_eq!(restored.len(), 2);
        assert_eq!(due(&mut restored, 1999), None);
        assert_eq!(due(&mut restored, 2000), Some(vec!["a".into()]));
        assert_eq!(
            due(&mut restored, 3000),
            Some(vec!["b".into()]),
            "the clock was set back"
        );
        hold(&mut restored, 3000, "c", &event("c", 1, None));
        assert_eq!(restored.arrivals, 3, "arrivals go on counting");
    }
}
