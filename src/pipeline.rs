//! One step: load rows, decide, commit. Also the panic-guarded decoder. A message that makes either
//! panic goes to quarantine, and the others go on.
//!
//! Both `run` and `replay` go through it. It commits one step before it takes the next, so what
//! the engine holds is never ahead of the store by more than the step at hand.

mod decode;
mod settings;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

pub use self::settings::PipelineSettings;
use crate::clock::Stopwatch;
use crate::engine::change::{Changes, Quarantined, Tally};
use crate::engine::{Arrival, Engine};
use crate::event::{
    ClockTime, Decoded, DedupeKey, Platform, RawMessage, Reason, ReceivedAt, Reject,
};
use crate::platforms::DecodeSettings;
use crate::record::RecordKind;
use crate::sources::Incoming;
use crate::store::{
    Admin, Commit, JournalRow, Retention, Settlement, SinkStart, StoreError, Upkeep, Writer,
};

/// Most messages of one step, and so of one transaction: at 256 the sync of the log costs each
/// message little, and a step stays within milliseconds.
pub const MAX_BATCH: usize = 256;

/// Most bytes of dead letters that wait for a commit: a receiver that refuses everything makes some
/// thousand a second, of 2 KiB each.
const MAX_SETTLED_BYTES: usize = 1 << 20;

/// What a step did, now that it is committed.
#[derive(Debug, Default)]
pub struct Committed {
    /// What to count.
    pub tally: Tally,
    /// The new records of the journal.
    pub records: Vec<Arc<JournalRow>>,
    /// Seconds that the commit took; `None` if there was nothing to write.
    pub commit_seconds: Option<f64>,
}

impl Committed {
    /// The number of the last record, if there is any.
    pub fn last_sequence(&self) -> Option<u64> {
        self.records.last().map(|row| row.sequence)
    }

    fn add(&mut self, later: Self) {
        self.tally.add(&later.tally);
        self.records.extend(later.records);
        self.commit_seconds = later.commit_seconds.or(self.commit_seconds);
    }

    /// True if resources came, went or moved.
    pub fn graph_changed(&self) -> bool {
        self.records
            .iter()
            .any(|record| record.kind == RecordKind::Relation)
    }
}

/// What a message can be made an arrival of once more, after a panic.
struct Retriable {
    at: ClockTime,
    key: DedupeKey,
    /// What the source found wrong with it.
    fault: Option<Reject>,
    raw: Arc<RawMessage>,
}

impl Retriable {
    fn of(Arrival { at, raw, decoded }: &Arrival) -> Self {
        let fault = decoded.outcome.as_ref().err();
        Self {
            at: *at,
            key: decoded.key,
            fault: fault.filter(|fault| fault.reason.is_of_source()).cloned(),
            raw: Arc::clone(raw),
        }
    }

    fn decode(&self, settings: &DecodeSettings) -> Arrival {
        let raw = Arc::clone(&self.raw);
        let decoded = decode::decode(&raw, self.fault.clone(), settings);
        Arrival {
            at: self.at,
            raw,
            decoded,
        }
    }

    /// The same message, found to be unusable.
    fn rejected(&self) -> Arrival {
        let fault = Reject::new(Reason::MergePanic, "the engine panicked");
        let decoded = Decoded {
            key: self.key,
            outcome: Err(fault),
        };
        Arrival {
            at: self.at,
            raw: Arc::clone(&self.raw),
            decoded,
        }
    }
}

/// Decoder, engine and store, joined.
#[derive(Debug)]
pub struct Pipeline {
    settings: PipelineSettings,
    store: Writer,
    /// `None` after a failed commit: what it held was never written, so it is thrown away.
    engine: Option<Engine>,
    /// The sinks of the settings, until the store knows them: written by the next commit, so that
    /// no record is committed before a new sink has its place.
    new_sinks: Option<Vec<SinkStart>>,
    /// How far sinks have come: written by the next commit, whatever that is for.
    settled: BTreeMap<String, Settlement>,
    /// Events that were pending at the start, by platform.
    pending_at_start: BTreeMap<Platform, u64>,
    /// Every message of this process and what was pending at its start.
    received: u64,
    /// Those of them that were committed with an outcome.
    accounted: u64,
}

impl Pipeline {
    /// Goes on where the store left off.
    pub fn open(store: Writer, settings: PipelineSettings) -> Result<Self, StoreError> {
        tracing::trace!("restoring");
        let restored = store.restore()?;
        let received = restored.held.len() as u64;
        let mut pending_at_start = BTreeMap::new();
        for held in &restored.held {
            *pending_at_start.entry(held.platform).or_default() += 1;
        }
        let engine = Some(Engine::restore(settings.engine, restored));
        Ok(Self {
            settings,
            store,
            engine,
            new_sinks: None,
            settled: BTreeMap::new(),
            pending_at_start,
            received,
            accounted: 0,
        })
    }

    /// Events that were pending at the start, by platform: they count as received too.
    pub fn pending_at_start(&self) -> &BTreeMap<Platform, u64> {
        &self.pending_at_start
    }

    /// Decodes a message; a panic of the decoder is a reject too.
    pub fn decode(settings: &DecodeSettings, incoming: Incoming) -> (Arc<RawMessage>, Decoded) {
        let Incoming { raw, fault } = incoming;
        let decoded = decode::decode(&raw, fault, settings);
        (Arc::new(raw), decoded)
    }

    /// Takes messages in, runs timers up to `until`, and commits what came of it. On an error
    /// nothing of the step is kept, here or in the store: the messages must come again.
    pub fn step(
        &mut self,
        arrivals: Vec<Arrival>,
        until: ClockTime,
    ) -> Result<Committed, StoreError> {
        self.run(arrivals, until, None)
    }

    /// Takes a message out of quarantine and in again, as if it was received at `received_at`: it
    /// counts as received once more, and may end in quarantine once more, under a new number. Its
    /// row goes in the transaction that holds what became of it. `None` if there is no such row.
    ///
    /// A line that was no message when it came is none now: replay its file instead.
    pub fn retry(
        &mut self,
        id: i64,
        received_at: ReceivedAt,
        now: ClockTime,
    ) -> Result<Option<Committed>, StoreError> {
        let Some(message) = self.store.quarantined(id)? else {
            return Ok(None);
        };
        let raw = RawMessage {
            received_at,
            ..message.raw.clone()
        };
        let fault = Some(&message.reject).filter(|reject| reject.reason.is_of_source());
        let incoming = Incoming {
            raw,
            fault: fault.cloned(),
        };
        let (raw, decoded) = Self::decode(&self.settings.decode, incoming);
        let arrival = Arrival {
            at: now,
            raw,
            decoded,
        };
        self.run(vec![arrival], now, Some((id, &message))).map(Some)
    }

    /// One step; `retried` is the row of quarantine that its message is from. If it panics, its
    /// messages go one by one.
    fn run(
        &mut self,
        arrivals: Vec<Arrival>,
        until: ClockTime,
        retried: Option<(i64, &Quarantined)>,
    ) -> Result<Committed, StoreError> {
        let retriable: Vec<_> = arrivals.iter().map(Retriable::of).collect();
        if let Ok(committed) = self.merge(arrivals, until, retried)? {
            return Ok(committed);
        }
        let mut all = Committed::default();
        for retriable in retriable {
            let arrival = retriable.decode(&self.settings.decode);
            let committed = match self.merge(vec![arrival], retriable.at, retried)? {
                Ok(committed) => committed,
                Err(_) => {
                    resume_panic(self.merge(vec![retriable.rejected()], retriable.at, retried)?)
                }
            };
            all.add(committed);
        }
        all.add(resume_panic(self.merge(Vec::new(), until, None)?));
        Ok(all)
    }

    /// Lets the engine work and commits what came of it. After a panic nothing of that is kept.
    fn merge(
        &mut self,
        arrivals: Vec<Arrival>,
        until: ClockTime,
        retried: Option<(i64, &Quarantined)>,
    ) -> Result<std::thread::Result<Committed>, StoreError> {
        let mut engine = self.take_engine()?;
        let mut loaded = self.store.load(&engine.lookup(&arrivals, until))?;
        if let Some((_, message)) = retried {
            engine.forget(message, &mut loaded);
        }
        let step = AssertUnwindSafe(|| engine.step(arrivals, until, loaded));
        let mut changes = match catch_unwind(step) {
            Ok(changes) => changes,
            Err(panic) => return Ok(Err(panic)),
        };
        changes.retried = retried.map(|(id, _)| id);
        let mut committed = Committed {
            tally: changes.tally.clone(),
            ..Committed::default()
        };
        let commit = self.commit(changes, Vec::new());
        if !commit.is_empty() {
            tracing::trace!("committing");
            let watch = Stopwatch::start();
            committed.records = self.store.commit(commit)?.records;
            committed.commit_seconds = Some(watch.seconds());
            self.new_sinks = None;
            self.settled.clear();
        }
        self.engine = Some(engine);
        let messages = committed.tally.all();
        self.received += messages.received;
        self.accounted += messages.emitted + messages.duplicates + messages.quarantined_total();
        Ok(Ok(committed))
    }

    fn take_engine(&mut self) -> Result<Engine, StoreError> {
        match self.engine.take() {
            Some(engine) => Ok(engine),
            None => Ok(Engine::restore(self.settings.engine, self.store.restore()?)),
        }
    }

    /// Names the sinks of the settings, to be written by the next commit.
    pub fn set_sinks(&mut self, sinks: Vec<SinkStart>) {
        self.new_sinks = Some(sinks);
    }

    /// Takes how far a sink has come, to be written by the next commit. Until then a later one of
    /// that sink adds to it.
    pub fn settle(&mut self, settlement: Settlement) {
        match self.settled.get_mut(&settlement.sink) {
            Some(waiting) => waiting.add(settlement),
            None => drop(self.settled.insert(settlement.sink.clone(), settlement)),
        }
    }

    /// True if something of sinks waits for the next commit.
    pub fn has_settled(&self) -> bool {
        !self.settled.is_empty() || self.new_sinks.is_some()
    }

    /// True if the next commit has more to write of sinks than should wait for it.
    pub fn has_much_settled(&self) -> bool {
        let bytes = self.settled.values().map(Settlement::bytes);
        bytes.sum::<usize>() > MAX_SETTLED_BYTES
    }

    /// Does what an operator asked for; returns how many rows each request affected.
    pub fn administer(&mut self, admin: Vec<Admin>) -> Result<Vec<usize>, StoreError> {
        let requests = admin.len();
        let commit = self.commit(Changes::default(), admin);
        let mut affected = self.store.commit(commit)?.affected;
        self.new_sinks = None;
        self.settled.clear();
        Ok(affected.split_off(affected.len() - requests))
    }

    /// One transaction: what a step changed or an operator asked for, with what waits for one.
    fn commit(&self, changes: Changes, requests: Vec<Admin>) -> Commit {
        let new_sinks = self.new_sinks.clone().map(Admin::SetSinks);
        Commit {
            changes,
            settled: self.settled.values().cloned().collect(),
            admin: new_sinks.into_iter().chain(requests).collect(),
        }
    }

    /// Keeps the store within its retention, if that is due: see [`Writer::upkeep`].
    pub fn upkeep(&mut self, now: ClockTime) -> Result<Upkeep, StoreError> {
        self.store.upkeep(now, &self.settings.retention)
    }

    /// Makes space on a full disk, whatever is due: see [`Writer::free_space`].
    pub fn free_space(&mut self, now: ClockTime) -> Result<Upkeep, StoreError> {
        self.store.free_space(now, &self.settings.retention)
    }

    /// When a step is due without messages. After a failed step: at once.
    pub fn next_deadline(&self) -> Option<ClockTime> {
        match &self.engine {
            Some(engine) => engine.next_deadline(),
            None => Some(ClockTime::default()),
        }
    }

    /// When a step without messages should end before one that ends at `until`: see
    /// [`Engine::overdue`].
    pub fn overdue(&mut self, until: ClockTime) -> Result<Option<ClockTime>, StoreError> {
        // Also after a failed step: a store that failed for a night has as many timers due.
        let engine = self.take_engine()?;
        Ok(self.engine.insert(engine).overdue(until))
    }

    /// False while only a deadline can make room for more messages.
    pub fn has_capacity(&self) -> bool {
        self.engine.as_ref().is_none_or(Engine::has_capacity)
    }

    /// Messages received, less those emitted, dropped as duplicates, quarantined or pending: 0
    /// unless one was lost or made up.
    pub fn imbalance(&self) -> i64 {
        let pending = self.engine.as_ref().map_or(0, Engine::pending) as u64;
        let accounted = self.accounted + pending;
        i64::try_from(self.received).unwrap_or(i64::MAX)
            - i64::try_from(accounted).unwrap_or(i64::MAX)
    }

    /// The engine, unless the last step failed.
    pub fn engine(&self) -> Option<&Engine> {
        self.engine.as_ref()
    }

    /// The store.
    pub fn store(&self) -> &Writer {
        &self.store
    }

    /// The store, to move a cursor or forget its journal.
    pub fn store_mut(&mut self) -> &mut Writer {
        &mut self.store
    }

    /// How long the store keeps things.
    pub fn retention(&self) -> &Retention {
        &self.settings.retention
    }

    /// What decoding depends on.
    pub fn decode_settings(&self) -> &DecodeSettings {
        &self.settings.decode
    }
}

/// A panic that no message is to blame for ends the process: it would come again.
fn resume_panic(merged: std::thread::Result<Committed>) -> Committed {
    merged.unwrap_or_else(|panic| resume_unwind(panic))
}
