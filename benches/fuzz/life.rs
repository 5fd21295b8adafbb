//! The life of one store, from its seed: settings, traffic, restarts, and what must hold.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use fastrand::Rng;
use hearthd::engine::draft::{Draft, EventDraft};
use hearthd::engine::notifications::ThreadSettings;
use hearthd::engine::{Arrival, Engine, EngineSettings};
use hearthd::event::{
    ClockTime, Decoded, DecodedEvent, DedupeKey, RawMessage, Reason, ResourceKind,
};
use hearthd::pipeline::{Committed, Pipeline, PipelineSettings};
use hearthd::platforms::DecodeSettings;
use hearthd::query::Graph;
use hearthd::record::Record;
use hearthd::sources::Incoming;
use hearthd::store::{Memory, Retention, Writer};
use serde_json::Value;
use tempfile::TempDir;

use super::bodies::Corpus;
use super::journal::Journal;
use super::traffic::Traffic;

/// Most bytes of bodies in one batch: the service has at most 64 MiB outstanding.
const BATCH_BYTES: usize = 32 << 20;

/// What happened, summed up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) duplicates: u64,
    pub(crate) quarantined: u64,
    pub(crate) emitted: u64,
    pub(crate) late: u64,
    pub(crate) records: u64,
    pub(crate) restarts: u64,
}

/// See the module's documentation.
pub(crate) struct Life<'a> {
    rng: Rng,
    settings: PipelineSettings,
    traffic: Traffic<'a>,
    folder: Option<TempDir>,
    pipeline: Pipeline,
    journal: Journal,
    /// The first arrival of each payload: the model of the dedupe.
    seen: BTreeMap<DedupeKey, ClockTime>,
    /// The engine's clock: the model of it.
    clock: ClockTime,
    /// Events that were processed and are not yet in the event log.
    pending: u64,
    pub(crate) counts: Counts,
}

impl<'a> Life<'a> {
    /// A new store, in memory or in a file below `folder`.
    pub(crate) fn new(
        corpus: &'a Corpus,
        seed: u64,
        folder: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let mut rng = Rng::with_seed(seed);
        let settings = settings(&mut rng);
        let ids = [3, 12, 100, 1_000_000][rng.usize(0..4)];
        let traffic = Traffic::new(corpus, ids, &mut rng);
        let folder = folder.map(tempfile::tempdir_in).transpose()?;
        let store = match &folder {
            Some(folder) => open_file(folder)?,
            None => Writer::Memory(Memory::default()),
        };
        let pipeline = Pipeline::open(store, settings.clone())?;
        Ok(Self {
            rng,
            settings,
            traffic,
            folder,
            pipeline,
            journal: Journal::default(),
            seen: BTreeMap::new(),
            clock: ClockTime::default(),
            pending: 0,
            counts: Counts::default(),
        })
    }

    /// Feeds at least so many messages, lets all timers run out, and forgets what is too old.
    pub(crate) fn epoch(&mut self, messages: u64) -> anyhow::Result<()> {
        let end = self.counts.messages + messages;
        while self.counts.messages < end {
            self.batch()?;
            match self.rng.u32(0..60) {
                0 => self.restart()?,
                1..6 => self.trim(self.clock)?,
                _ => {}
            }
        }
        self.run_out()?;
        self.restart()?;
        self.forget()
    }

    fn batch(&mut self) -> anyhow::Result<()> {
        let most = [1, 2, 10, 256][self.rng.usize(0..4)];
        let (mut arrivals, mut bytes) = (Vec::new(), 0);
        for _ in 0..self.rng.usize(0..=most) {
            let at = self.traffic.tick(self.clock, &mut self.rng);
            let message = self.traffic.next(&mut self.rng)?;
            bytes += message.raw.body.len();
            let (raw, decoded) = self.decode(message)?;
            arrivals.push(Arrival { at, raw, decoded });
            if bytes > BATCH_BYTES {
                break;
            }
        }
        self.counts.bytes += bytes as u64;
        let until = self.traffic.tick(self.clock, &mut self.rng);
        self.step(arrivals, until)?;
        while !self.pipeline.has_capacity() {
            self.run_timer()?
                .context("no room, and no timer to make some")?;
        }
        Ok(())
    }

    /// Decodes twice: the same body must mean the same.
    fn decode(&mut self, message: Incoming) -> anyhow::Result<(Arc<RawMessage>, Decoded)> {
        let body = message.raw.body.clone();
        let fault = message.fault.clone();
        let (_, again) = Pipeline::decode(&self.settings.decode, message.clone());
        let (raw, decoded) = Pipeline::decode(&self.settings.decode, message);
        check_decoded(&body, &decoded, fault.is_some())
            .and_then(|()| {
                let same = format!("{decoded:?}") == format!("{again:?}");
                ensure!(same, "a body means one thing now and another then");
                Ok(())
            })
            .with_context(|| {
                let start = &body[..body.len().min(4_000)];
                format!(
                    "body of {} bytes: {}",
                    body.len(),
                    String::from_utf8_lossy(start)
                )
            })?;
        Ok((raw, decoded))
    }

    /// One step of the pipeline, compared with what must come of it.
    fn step(&mut self, arrivals: Vec<Arrival>, until: ClockTime) -> anyhow::Result<()> {
        let (mut duplicates, mut quarantined) = (0, 0);
        let received = arrivals.len() as u64;
        for Arrival { at, decoded, .. } in &arrivals {
            self.clock = self.clock.max(*at);
            let horizon = self.settings.engine.horizon;
            let first = self.seen.get(&decoded.key);
            if first.is_some_and(|first| self.clock.since(*first) < horizon) {
                duplicates += 1;
                continue;
            }
            self.seen.insert(decoded.key, self.clock);
            quarantined += u64::from(decoded.outcome.is_err());
        }
        self.clock = self.clock.max(until);
        let Committed { tally, records, .. } = self.pipeline.step(arrivals, until)?;
        let tally = tally.all();
        ensure!(
            tally.received == received,
            "{received} were sent, {} received",
            tally.received
        );
        let dropped = (tally.duplicates, tally.quarantined_total());
        ensure!(
            dropped == (duplicates, quarantined),
            "{dropped:?}, not {duplicates}, {quarantined}"
        );
        self.pending = (self.pending + received)
            .checked_sub(duplicates + quarantined + tally.emitted)
            .context("more was emitted than taken in")?;
        for row in &records {
            self.journal.check(row)?;
        }
        self.counts.messages += received;
        self.counts.duplicates += duplicates;
        self.counts.quarantined += quarantined;
        self.counts.emitted += tally.emitted;
        self.counts.late += tally.late;
        self.counts.records += records.len() as u64;
        self.check()
    }

    fn check(&self) -> anyhow::Result<()> {
        let engine = self.engine()?;
        ensure!(
            self.pipeline.imbalance() == 0,
            "imbalance {}",
            self.pipeline.imbalance()
        );
        let pending = engine.pending() as u64;
        let most = self.settings.engine.max_pending as u64;
        ensure!(
            pending == self.pending,
            "{pending} pending, not {}",
            self.pending
        );
        ensure!(pending <= most, "{pending} pending, at most {most} may be");
        ensure!(
            engine.clock() == self.clock,
            "{:?}, not {:?}",
            engine.clock(),
            self.clock
        );
        Ok(())
    }

    fn engine(&self) -> anyhow::Result<&Engine> {
        self.pipeline.engine().context("the engine is gone")
    }

    /// Runs the next timer; `None` if there is none.
    fn run_timer(&mut self) -> anyhow::Result<Option<()>> {
        let Some(deadline) = self.pipeline.next_deadline() else {
            return Ok(None);
        };
        let left = |engine: &Engine| engine.pending() + engine.open_threads();
        let before = left(self.engine()?);
        self.step(Vec::new(), deadline)?;
        ensure!(
            left(self.engine()?) < before,
            "the timer of {deadline:?} changed nothing"
        );
        Ok(Some(()))
    }

    fn run_out(&mut self) -> anyhow::Result<()> {
        while self.run_timer()?.is_some() {}
        let engine = self.engine()?;
        let left = (engine.pending(), engine.open_threads());
        ensure!(left == (0, 0), "pending and open without a timer: {left:?}");
        Ok(())
    }

    /// Ends the process and starts another one on the same store.
    fn restart(&mut self) -> anyhow::Result<()> {
        let before = state(self.engine()?);
        let in_memory = Writer::Memory(Memory::default());
        let mut store = std::mem::replace(self.pipeline.store_mut(), in_memory);
        if let Some(folder) = &self.folder {
            drop(store);
            store = open_file(folder)?;
        }
        self.pipeline = Pipeline::open(store, self.settings.clone())?;
        // A clock that moved without anything to write is not kept.
        self.clock = self.engine()?.clock();
        self.counts.restarts += 1;
        let engine = self.engine()?;
        ensure!(
            state(engine) == before,
            "a restart changed graph, traits or timers"
        );
        for (kind, count) in engine.counts() {
            let counted = engine.resources().filter(|resource| resource.kind == kind);
            ensure!(
                count == counted.count(),
                "{count} resources are no count of {kind:?}"
            );
        }
        self.check()
    }

    /// Lets the horizon pass: nothing that was closed may be left.
    fn forget(&mut self) -> anyhow::Result<()> {
        let horizon = self.settings.engine.horizon;
        let later = self.clock.after(horizon).after(horizon);
        self.step(Vec::new(), later)?;
        self.trim(later)?;
        if later == ClockTime(i64::MAX) {
            return Ok(());
        }
        let kept = self
            .pipeline
            .store()
            .reader()?
            .snapshot()?
            .notifications()?
            .len();
        ensure!(
            kept == 0,
            "{kept} notifications are kept beyond the horizon"
        );
        self.seen.clear();
        self.journal.forget_revisions();
        Ok(())
    }

    fn trim(&mut self, now: ClockTime) -> anyhow::Result<()> {
        for _ in 0..1_000 {
            if !self.pipeline.upkeep(now)?.more {
                return Ok(());
            }
        }
        bail!("trimming finds no end")
    }
}

/// What a restart must bring back.
fn state(engine: &Engine) -> (String, String, Vec<(ResourceKind, usize)>, usize, usize) {
    let graph = serde_json::json!(Graph {
        resources: engine.resources().collect()
    })
    .to_string();
    (
        graph,
        engine.traits().to_string(),
        engine.counts().collect(),
        engine.pending(),
        engine.open_threads(),
    )
}

fn open_file(folder: &TempDir) -> anyhow::Result<Writer> {
    Ok(Writer::open(&folder.path().join("hearthd.db"))?)
}

/// Settings from all over their ranges, most of them small, so that bounds are met.
fn settings(rng: &mut Rng) -> PipelineSettings {
    let seconds = Duration::from_secs;
    let mut pick = |choices: [u64; 4]| choices[rng.usize(0..4)];
    let horizon = seconds(pick([600, 600, 86_400, 8 * 86_400]));
    PipelineSettings {
        decode: DecodeSettings {
            enterprise: (pick([0, 0, 0, 1]) == 1).then(|| "enterprises/p".to_owned()),
        },
        engine: EngineSettings {
            horizon,
            dedupe_cache: usize::try_from(pick([0, 1, 50, 100_000])).unwrap_or_default(),
            hold: seconds(pick([0, 2, 2, 60])),
            max_pending: usize::try_from(pick([1, 3, 50, 100_000])).unwrap_or_default(),
            threads: ThreadSettings {
                max_alert_age: seconds(pick([1, 60, 60, 3_600])),
                thread_timeout: seconds(pick([1, 300, 300, 86_400])),
                session_quiet: seconds(pick([1, 30, 30, 86_400])),
            },
        },
        retention: Retention {
            horizon,
            journal_age: seconds(pick([60, 600, 86_400, 7 * 86_400])),
            journal_bytes: pick([1, 1, 2, 4]) << 20,
        },
    }
}

/// Whether the outcome of a body is what another reader of JSON finds in it.
fn check_decoded(body: &[u8], decoded: &Decoded, refused_by_source: bool) -> anyhow::Result<()> {
    let read = serde_json::from_slice::<Value>(body);
    let DecodedEvent {
        event, rendered, ..
    } = match &decoded.outcome {
        Ok(event) => &**event,
        Err(reject) => {
            ensure!(
                reject.reason != Reason::DecoderPanic,
                "the decoder panicked"
            );
            let reserved = body.windows(7).any(|part| part == b"private");
            let unfounded = reject.reason == Reason::NotJson && read.is_ok() && !reserved;
            ensure!(
                refused_by_source || !unfounded,
                "not JSON? {}",
                reject.detail
            );
            return Ok(());
        }
    };
    let body = read.context("what is no JSON was decoded")?;
    let draft = EventDraft {
        platform: event.platform,
        rendered: rendered.clone(),
        late: false,
        flags: event.flags.clone(),
    };
    let line = Record::new(Draft::Event(draft), 1).line;
    let line: Value = serde_json::from_str(&line).context("the record can't be read")?;
    let update = &body["resourceUpdate"];
    for field in ["events", "traits"] {
        ensure!(
            line["data"][field] == update[field],
            "{field} differs from the payload's"
        );
    }
    ensure!(
        line["data"]["resourceGroup"] == body["resourceGroup"],
        "resourceGroup differs"
    );
    Ok(())
}
