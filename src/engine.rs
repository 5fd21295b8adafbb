//! What a batch of messages means: the engine's API and its top-level control flow.
//!
//! The engine is a value. It gets messages, rows of the store and the time, changes itself, and
//! returns what is to be written. No async, no clock, no I/O, no lock, no log line, no metric.
//!
//! - One step at a time: [`Engine::lookup`] says which rows a step needs, [`Engine::step`] takes
//!   them and returns [`Changes`]. The caller commits those before it feeds the next step; if it
//!   can't, it throws the engine away and restores one from the store.
//! - Timers are data: [`Engine::next_deadline`] says when a step without messages is due.

// What a step asks for and returns.
pub mod change;

// The parts, in the order in which a message meets them.
mod dedupe;
mod register;

pub mod graph;
pub mod traits;

pub mod notifications;
mod timers;

pub mod reorder;

// What they work on.
mod work;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use serde_json::Value;

use self::change::{Changes, Quarantined};
use self::dedupe::Dedupe;
use self::graph::{Graph, Resource};
use self::notifications::{Contribution, Notification, RevisionView, SessionClip, ThreadSettings};
use self::reorder::{ReleaseReason, Reorder, SortKey};
use self::timers::Timers;
use self::traits::Traits;
use self::work::Work;
pub use self::work::{Arrival, Loaded, Lookup, Restored, Session};
use crate::event::{ClockTime, DedupeKey, Event, Flag, NotificationId};
use crate::record::Record;

/// Notifications kept in memory, since most get their messages within a minute; the store has the
/// rest. About 3 KiB each, but five sets of 256 texts of 4 KiB at worst.
const NOTIFICATION_CACHE: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// Most open notifications, since each has a timer in memory (about 60 bytes). Beyond it the
/// engine has no room for messages until a timer runs out.
const MAX_OPEN: usize = 200_000;

/// Most timers of a kind for one step, if not of one instant: after a night without power all may
/// be due at once, and each costs about 5 KiB of memory.
const MAX_DUE: usize = 1024;

/// Most resources in the graph, and most whose traits are kept (those of names that the graph does
/// not know among them): far above any enterprise's (Google allows 25 users in a sandbox), and
/// about 100 MB. A resource beyond it is in the event log, flagged `untracked_resource`.
pub const MAX_RESOURCES: usize = 100_000;

/// The settings that the engine depends on.
#[derive(Clone, Copy, Debug)]
pub struct EngineSettings {
    /// How long a payload is remembered, and a closed notification can be merged into.
    pub horizon: Duration,
    /// Payloads remembered in memory.
    pub dedupe_cache: usize,
    /// How long an event waits for earlier ones.
    pub hold: Duration,
    /// Most events that wait.
    pub max_pending: usize,
    /// What decides when a notification rings and closes.
    pub threads: ThreadSettings,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Engine {
    settings: EngineSettings,
    clock: ClockTime,
    dedupe: Dedupe,
    timers: Timers,
    notifications: LruCache<NotificationId, Arc<Notification>>,
    graph: Graph,
    traits: Traits,
    reorder: Reorder,
}

impl Engine {
    /// An engine that goes on where the store left off; no timer lasts longer than a fresh one.
    pub fn restore(settings: EngineSettings, restored: Restored) -> Self {
        let Restored {
            clock,
            held,
            deadlines,
            nodes,
            traits,
        } = restored;
        let patience = settings
            .threads
            .thread_timeout
            .max(settings.threads.session_quiet);
        let timers = Timers::restore(deadlines, clock.after(patience));
        Self {
            settings,
            clock,
            dedupe: Dedupe::new(settings.dedupe_cache, settings.horizon),
            timers,
            notifications: LruCache::new(NOTIFICATION_CACHE),
            graph: Graph::restore(nodes),
            traits: Traits::restore(traits),
            reorder: Reorder::restore(settings.hold, settings.max_pending, held, clock),
        }
    }

    /// The rows that a step with the same arguments needs from the store.
    pub fn lookup(&mut self, arrivals: &[Arrival], until: ClockTime) -> Lookup {
        let mut lookup = Lookup::default();
        for arrival in arrivals {
            if self.dedupe.cached(arrival.decoded.key).is_none() {
                lookup.payloads.insert(arrival.decoded.key);
            }
            if let Ok(event) = &arrival.decoded.outcome {
                self.lookup_event(event, &mut lookup);
            }
        }
        lookup
            .notifications
            .extend(self.timers.due(self.end(arrivals, until)));
        lookup
            .notifications
            .retain(|id| !self.notifications.contains(id));
        lookup
    }

    /// When a step ends: no earlier than its arrivals, and never back in time.
    fn end(&self, arrivals: &[Arrival], until: ClockTime) -> ClockTime {
        let arrived = arrivals.iter().map(|arrival| arrival.at);
        arrived.fold(until.max(self.clock), ClockTime::max)
    }

    fn lookup_event(&mut self, event: &Event, lookup: &mut Lookup) {
        if self.reorder.cached(event.ordering_key()).is_none() {
            lookup.ordering_keys.insert(event.ordering_key().to_owned());
        }
        for contribution in notifications::contributions(event) {
            lookup.notifications.insert(contribution.id);
            for session in contribution.sessions() {
                let key =
                    notifications::session_key(event.platform, contribution.resource, session);
                lookup.session_clips.insert(key);
            }
        }
        for clip in notifications::session_clips(event) {
            lookup.session_members.insert(clip.session);
            // A session's own notification has the session's key as its id.
            lookup.notifications.insert(NotificationId(clip.session.0));
        }
    }

    /// Takes a batch in, each arrival after the timers that are due by then, and in the end runs
    /// those that are due by `until`. An arrival before the engine's clock arrives now.
    pub fn step(&mut self, arrivals: Vec<Arrival>, until: ClockTime, loaded: Loaded) -> Changes {
        let end = self.end(&arrivals, until);
        let mut work = Work::new(loaded, self.settings.horizon);
        for arrival in arrivals {
            let at = arrival.at.max(self.clock);
            self.run_timers(at, &mut work);
            self.take(arrival, at, &mut work);
        }
        self.run_timers(end, &mut work);
        self.finish(work)
    }

    /// Unsees a message that is in quarantine, for a step that takes it in again with `loaded`: not
    /// if its payload came in by another way since.
    pub fn forget(&mut self, message: &Quarantined, loaded: &mut Loaded) {
        self.dedupe.forget(message.key, message.at);
        if loaded.payloads.get(&message.key) == Some(&message.at) {
            loaded.payloads.remove(&message.key);
        }
    }

    /// When a step is due even if no message comes; `None` if no timer is left.
    pub fn next_deadline(&self) -> Option<ClockTime> {
        let thread = self.timers.first().map(|(deadline, _)| deadline);
        [thread, self.reorder.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// When a step without messages should end before one that ends at `until`, as too many timers
    /// run out by then; `None` if that one can run them all.
    pub fn overdue(&self, until: ClockTime) -> Option<ClockTime> {
        let crowds = [self.timers.nth(MAX_DUE), self.reorder.nth_deadline(MAX_DUE)];
        crowds
            .into_iter()
            .flatten()
            .min()
            .filter(|deadline| *deadline < until)
    }

    /// False while no message should be fed: the next deadline makes room.
    pub fn has_capacity(&self) -> bool {
        self.timers.len() < MAX_OPEN
    }

    /// Number of events that wait for their turn.
    pub fn pending(&self) -> usize {
        self.reorder.len()
    }

    /// When the event that waits longest arrived.
    pub fn oldest_pending(&self) -> Option<ClockTime> {
        self.reorder
            .next_deadline()
            .map(|until| until.before(self.settings.hold))
    }

    /// Number of open notifications.
    pub fn open_threads(&self) -> usize {
        self.timers.len()
    }

    /// The time of the last step.
    pub fn clock(&self) -> ClockTime {
        self.clock
    }

    /// The resources that are there, sorted by name.
    pub fn resources(&self) -> impl Iterator<Item = Resource> {
        self.graph.resources()
    }

    /// The state of every device: `{resource: {trait: {field: value}}}`.
    pub fn traits(&self) -> Value {
        self.traits.to_json()
    }

    fn take(&mut self, arrival: Arrival, at: ClockTime, work: &mut Work) {
        self.clock = at;
        let key = arrival.decoded.key;
        let is_duplicate = self.is_duplicate(key, at, work);
        let tally = work.changes.tally.of(arrival.raw.platform);
        tally.received += 1;
        if is_duplicate {
            tally.duplicates += 1;
            return;
        }
        if let Err(reject) = &arrival.decoded.outcome {
            *tally.quarantined.entry(reject.reason).or_default() += 1;
        }
        work.see(key, at);
        match arrival.decoded.outcome {
            Ok(mut event) => {
                self.apply_to_graph(&mut event, work);
                self.notify(&event, at, work);
                self.log(&mut event, at, work);
            }
            Err(reject) => {
                work.changes.quarantined.push(Quarantined {
                    key,
                    at,
                    reject,
                    raw: arrival.raw,
                });
            }
        }
    }

    fn is_duplicate(&mut self, key: DedupeKey, at: ClockTime, work: &Work) -> bool {
        let first = work.first_seen(key).or_else(|| self.dedupe.cached(key));
        first.is_some_and(|first| self.dedupe.is_remembered(first, at))
    }

    fn apply_to_graph(&mut self, event: &mut Event, work: &mut Work) {
        if self.graph.is_full_for(event) || self.traits.is_full_for(event) {
            event.flags.insert(Flag::UntrackedResource);
            return;
        }
        for (index, change) in self.graph.apply(event).iter().enumerate() {
            work.changes
                .records
                .push(Record::relation(event, index + 1, change));
        }
        self.traits.apply(event);
    }

    fn notify(&mut self, event: &Event, at: ClockTime, work: &mut Work) {
        // Clips first, so that a motion and its clip in one message make one revision.
        let session_clips = notifications::session_clips(event);
        for clip in &session_clips {
            work.add_clip(clip, at);
        }
        for contribution in notifications::contributions(event) {
            self.merge(&contribution, event, at, work);
        }
        for clip in &session_clips {
            for id in work.members(clip.session) {
                self.join_clip(id, clip, at, work);
            }
        }
    }

    fn merge(
        &mut self,
        contribution: &Contribution<'_>,
        event: &Event,
        at: ClockTime,
        work: &mut Work,
    ) {
        let cache = &mut self.notifications;
        let mut shared = work
            .notification(contribution.id, at, |id| cache.pop(&id))
            .unwrap_or_else(|| Arc::new(contribution.begin(event, at)));
        let state = Arc::make_mut(&mut shared);
        let was_closed = state.is_closed();
        let mut merged = state.merge(contribution, event, at, &self.settings.threads);
        for session in contribution.sessions() {
            let key = notifications::session_key(event.platform, contribution.resource, session);
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
            self.revise(contribution.id, state, was_closed, alert, work);
        }
        work.put(contribution.id, shared);
    }

    fn join_clip(
        &mut self,
        id: NotificationId,
        clip: &SessionClip<'_>,
        at: ClockTime,
        work: &mut Work,
    ) {
        let cache = &mut self.notifications;
        let Some(mut shared) = work.notification(id, at, |id| cache.pop(&id)) else {
            return;
        };
        let state = Arc::make_mut(&mut shared);
        if state.add_clip(clip.clip()) {
            let was_closed = state.is_closed();
            self.revise(id, state, was_closed, None, work);
        }
        work.put(id, shared);
    }

    /// Writes a revision. `alert` is the event that brought a new kind, if one did.
    fn revise(
        &self,
        id: NotificationId,
        state: &mut Notification,
        was_closed: bool,
        alert: Option<&Event>,
        work: &mut Work,
    ) {
        let place = self.graph.place(&state.resource).unwrap_or_default();
        state.revision += 1;
        let alert_until =
            alert.and_then(|event| Notification::alert_until(event, &self.settings.threads));
        state.shown = RevisionView::new(place, alert_until);
        work.count_revision(state, was_closed);
        work.changes.records.push(Record::notification(id, state));
    }

    fn log(&mut self, event: &mut Event, at: ClockTime, work: &mut Work) {
        let (ordering_key, sort_key) = (Arc::from(event.ordering_key()), SortKey::of(event));
        let last = work
            .released(&ordering_key)
            .or_else(|| self.reorder.cached(&ordering_key));
        let late = last.is_some_and(|(last, released_at)| {
            sort_key < *last && self.dedupe.is_remembered(*released_at, at)
        });
        let platform = event.platform;
        let record = Record::event(std::mem::take(&mut event.log), late, &event.flags);
        if late {
            work.emit(record, platform, ReleaseReason::Late);
            return;
        }
        let (held, releases) = self
            .reorder
            .hold(at, ordering_key, sort_key, platform, record);
        work.hold(held);
        for release in releases {
            work.release(release, at);
        }
    }

    /// Runs what is due by `until`, in order of time; of one instant, the event log first.
    fn run_timers(&mut self, until: ClockTime, work: &mut Work) {
        while let Some(deadline) = self.next_deadline().filter(|deadline| *deadline <= until) {
            self.clock = self.clock.max(deadline);
            match self.reorder.due(deadline) {
                Some(release) => work.release(release, deadline),
                None => self.time_out(work),
            }
        }
        self.clock = self.clock.max(until);
    }

    fn time_out(&mut self, work: &mut Work) {
        let Some((deadline, id)) = self.timers.first() else {
            return;
        };
        self.timers.set(id, None);
        let cache = &mut self.notifications;
        let Some(mut shared) = work.notification(id, deadline, |id| cache.pop(&id)) else {
            return;
        };
        let state = Arc::make_mut(&mut shared);
        let was_closed = state.is_closed();
        state.time_out();
        self.revise(id, state, was_closed, None, work);
        work.put(id, shared);
    }

    fn finish(&mut self, mut work: Work) -> Changes {
        work.changes.at = self.clock;
        work.changes.nodes = self.graph.take_changed();
        (work.changes.traits, work.changes.dropped_traits) = self.traits.take_changed();
        let changes = work.into_changes();
        // Not before: it may drive out what the step was not to ask the store for.
        for (key, at) in &changes.seen {
            self.dedupe.remember(*key, *at);
        }
        for (id, state) in &changes.notifications {
            self.notifications.put(*id, Arc::clone(state));
        }
        for (ordering_key, (last, at)) in &changes.released {
            self.reorder
                .remember(Arc::clone(ordering_key), last.clone(), *at);
        }
        changes
    }
}
