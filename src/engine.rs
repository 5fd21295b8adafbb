//! What a batch of messages means: the engine's API and its top-level control flow.
//!
//! The engine is a value. It gets messages, rows of the store and the time, changes itself, and
//! returns what is to be written. No async, no clock, no I/O, no lock, no log line, no metric.
//!
//! - One step at a time: [`Engine::lookup`] says which rows a step needs, [`Engine::step`] takes
//!   them and returns [`Changes`]. The caller commits those before it feeds the next step; if it
//!   can't, it throws the engine away and restores one from the store.
//! - Timers are data: [`Engine::next_deadline`] says when a step without messages is due.

// What a step takes and returns.
pub mod change;
pub mod draft;
mod restored;
mod step;

// The parts, in the order in which a message meets them.
mod dedupe;
mod register;

pub mod graph;
pub mod traits;

pub mod notifications;

pub mod held;
pub mod reorder;

// What they work on.
mod limits;
mod pool;
mod work;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use self::change::{Changes, Quarantined};
use self::dedupe::Dedupe;
use self::draft::{Draft, EventDraft, RelationDraft};
use self::graph::{Graph, Resource};
use self::held::SortKey;
pub use self::limits::MAX_RESOURCES;
use self::notifications::{Notifications, ThreadSettings};
use self::register::Stamp;
use self::reorder::{ReleaseReason, Reorder};
pub use self::restored::Restored;
pub use self::step::{Arrival, Loaded, Lookup, Session};
use self::traits::Traits;
use self::work::Work;
use crate::event::{ClockTime, DecodedEvent, DedupeKey, Event, Flag, ResourceKind};

/// Most timers of a kind for one step, if not of one instant: after a night without power all may
/// be due at once, and each costs about 5 KiB of memory.
const MAX_DUE: usize = 1024;

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
    graph: Graph,
    traits: Traits,
    notifications: Notifications,
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
            pools,
        } = restored;
        let graph = Graph::restore(nodes, pools.users);
        Self {
            settings,
            clock,
            dedupe: Dedupe::new(settings.dedupe_cache, settings.horizon),
            traits: Traits::restore(traits, &graph, pools.texts),
            graph,
            notifications: Notifications::restore(settings.threads, deadlines, clock),
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
            if let Ok(decoded) = &arrival.decoded.outcome {
                if self.reorder.cached(&decoded.ordering_key).is_none() {
                    let key = Arc::clone(&decoded.ordering_key);
                    lookup.ordering_keys.insert(key);
                }
                self.notifications.lookup(&decoded.event, &mut lookup);
            }
        }
        let end = self.end(arrivals, until);
        self.notifications.lookup_due(end, &mut lookup);
        lookup
    }

    /// When a step ends: no earlier than its arrivals, and never back in time.
    fn end(&self, arrivals: &[Arrival], until: ClockTime) -> ClockTime {
        let arrived = arrivals.iter().map(|arrival| arrival.at);
        arrived.fold(until.max(self.clock), ClockTime::max)
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

    /// Forgets a message that is in quarantine, for a step that takes it in again with `loaded`:
    /// not if its payload came in by another way since.
    pub fn forget(&mut self, message: &Quarantined, loaded: &mut Loaded) {
        self.dedupe.forget(message.key, message.at);
        if loaded.payloads.get(&message.key) == Some(&message.at) {
            loaded.payloads.remove(&message.key);
        }
    }

    /// When a step is due even if no message comes; `None` if no timer is left.
    pub fn next_deadline(&self) -> Option<ClockTime> {
        let deadlines = [
            self.notifications.next_deadline(),
            self.reorder.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// When a step without messages should end before one that ends at `until`, as too many timers
    /// run out by then; `None` if that one can run them all.
    pub fn overdue(&self, until: ClockTime) -> Option<ClockTime> {
        let crowds = [
            self.notifications.nth_deadline(MAX_DUE),
            self.reorder.nth_deadline(MAX_DUE),
        ];
        crowds
            .into_iter()
            .flatten()
            .min()
            .filter(|deadline| *deadline < until)
    }

    /// False while no message should be fed: the next deadline makes room.
    pub fn has_capacity(&self) -> bool {
        self.notifications.has_capacity()
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
        self.notifications.open()
    }

    /// The time of the last step.
    pub fn clock(&self) -> ClockTime {
        self.clock
    }

    /// Numbers of the resources that are there, of every kind.
    pub fn counts(&self) -> impl Iterator<Item = (ResourceKind, usize)> {
        self.graph.counts()
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
        let Arrival { raw, decoded, .. } = arrival;
        let is_duplicate = self.is_duplicate(decoded.key, at, work);
        let messages = work.changes.tally.of(raw.platform);
        messages.received += 1;
        if is_duplicate {
            messages.duplicates += 1;
            return;
        }
        work.see(decoded.key, at);
        match decoded.outcome {
            Ok(decoded) => {
                let flags = self.apply_to_graph(&decoded.event, work);
                self.notifications
                    .apply(&decoded.event, at, &self.graph, work);
                self.log(*decoded, flags, at, work);
            }
            Err(reject) => work.quarantine(Quarantined {
                key: decoded.key,
                at,
                reject,
                raw: Arc::unwrap_or_clone(raw),
            }),
        }
    }

    fn is_duplicate(&mut self, key: DedupeKey, at: ClockTime, work: &Work) -> bool {
        let first = work.first_seen(key).or_else(|| self.dedupe.cached(key));
        first.is_some_and(|first| self.dedupe.is_remembered(first, at))
    }

    /// Returns the event's remarks, and that it is about more than the graph has room for.
    fn apply_to_graph(&mut self, event: &Event, work: &mut Work) -> BTreeSet<Flag> {
        let mut flags = event.flags.clone();
        if self.graph.is_full_for(event) || self.traits.is_full_for(event) {
            flags.insert(Flag::UntrackedResource);
            return flags;
        }
        let stamp = Arc::new(Stamp::of_update(event));
        for (index, change) in self.graph.apply(event, &stamp).into_iter().enumerate() {
            work.tell(Draft::Relation(RelationDraft {
                platform: event.platform,
                key: event.key,
                time: event.time.clone(),
                number: index + 1,
                change,
            }));
        }
        self.traits.apply(event, &stamp, &self.graph);
        flags
    }

    fn log(
        &mut self,
        decoded: DecodedEvent,
        flags: BTreeSet<Flag>,
        at: ClockTime,
        work: &mut Work,
    ) {
        let DecodedEvent {
            event,
            ordering_key,
            rendered,
        } = decoded;
        let sort_key = SortKey::of(&event);
        let last = work
            .released(&ordering_key)
            .or_else(|| self.reorder.cached(&ordering_key));
        let late = last.is_some_and(|(last, released_at)| {
            sort_key < *last && self.dedupe.is_remembered(*released_at, at)
        });
        let draft = EventDraft {
            platform: event.platform,
            rendered,
            late,
            flags,
        };
        if late {
            work.emit(draft, ReleaseReason::Late);
            return;
        }
        let (held, releases) = self.reorder.hold(at, ordering_key, sort_key, draft);
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
                None => self.notifications.time_out(&self.graph, work),
            }
        }
        self.clock = self.clock.max(until);
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
            self.notifications.remember(*id, Arc::clone(state));
        }
        for (ordering_key, (last, at)) in &changes.released {
            self.reorder
                .remember(Arc::clone(ordering_key), last.clone(), *at);
        }
        changes
    }
}
