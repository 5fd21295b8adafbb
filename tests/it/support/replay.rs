//! Replays capture lines in process, through the product's own pipeline.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use hearthd::config::Settings;
use hearthd::engine::change::Tally;
use hearthd::engine::{Arrival, Engine};
use hearthd::event::ClockTime;
use hearthd::pipeline::{Committed, Pipeline, PipelineSettings};
use hearthd::query::Graph;
use hearthd::record;
use hearthd::sources::{Incoming, capture};
use hearthd::store::{JournalRow, Memory, StoreError, Writer};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::store::Readable as _;

/// The name that message ids of lines without one are made from.
const FILE: &str = "case.jsonl";

/// The default settings.
pub(crate) fn settings() -> PipelineSettings {
    PipelineSettings::from(&Settings::load(None, &BTreeMap::new()).unwrap())
}

/// The messages of capture lines.
pub(crate) fn messages(lines: &[String]) -> Vec<Incoming> {
    let text = Cursor::new(lines.join("\n"));
    let reader = capture::Reader::new(Box::new(text), Path::new(FILE));
    reader.collect::<Result<_, _>>().unwrap()
}

/// A store that is gone with the test.
pub(crate) fn memory() -> Writer {
    Writer::Memory(Memory::default())
}

/// A folder for one SQLite store, in memory where the machine has such a place: the tests are
/// about what is in the file, not about how fast the disk is.
pub(crate) struct Disk(TempDir);

impl Disk {
    pub(crate) fn new() -> Self {
        let shared = Path::new("/dev/shm");
        let folder = if shared.is_dir() {
            tempfile::tempdir_in(shared)
        } else {
            tempfile::tempdir()
        };
        Self(folder.unwrap())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("hearthd.db")
    }

    pub(crate) fn store(&self) -> Writer {
        open_sqlite(&self.path())
    }
}

/// Opens a store that may have been closed just now. A child that another test is starting has the
/// lock's file open until it runs its program.
pub(crate) fn open_sqlite(path: &Path) -> Writer {
    for _ in 0..100_000 {
        match Writer::open(path) {
            Err(StoreError::Locked { .. }) => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
    panic!("{} stays locked", path.display())
}

/// A run in progress.
pub(crate) struct Run {
    pipeline: Pipeline,
    clock: ClockTime,
    text: String,
    counts: Counts,
}

/// The counters of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) received: u64,
    pub(crate) emitted: u64,
    pub(crate) duplicates: u64,
    pub(crate) quarantined: u64,
    pub(crate) late: u64,
}

impl Counts {
    fn add(&mut self, tally: &Tally) {
        let tally = tally.all();
        self.received += tally.received;
        self.emitted += tally.emitted;
        self.duplicates += tally.duplicates;
        self.quarantined += tally.quarantined_total();
        self.late += tally.late;
    }
}

/// A run whose timers have all run out.
#[derive(Debug)]
pub(crate) struct Output {
    /// Every record, as `replay` prints it.
    pub(crate) text: String,
    pub(crate) counts: Counts,
    pub(crate) graph: Value,
    pub(crate) traits: Value,
    /// The store's own copy of the records.
    pub(crate) journal: String,
    /// The `data` of every notification, read back from the store.
    pub(crate) stored: Vec<Value>,
}

/// Runs the lines through a store, in batches of these sizes.
pub(crate) fn run_lines(lines: &[String], store: Writer, batches: &[usize]) -> Output {
    let mut run = Run::open(store);
    let mut messages = messages(lines);
    for size in batches {
        run.batch(messages.drain(..*size).collect()).unwrap();
    }
    assert!(messages.is_empty(), "the batches must hold every message");
    run.finish()
}

impl Run {
    /// Goes on where the store left off, on the store's clock.
    pub(crate) fn open(store: Writer) -> Self {
        Self::open_with(store, settings())
    }

    /// The same with other settings.
    pub(crate) fn open_with(store: Writer, settings: PipelineSettings) -> Self {
        let pipeline = Pipeline::open(store, settings).unwrap();
        let clock = pipeline.engine().map(Engine::clock).unwrap_or_default();
        Self {
            pipeline,
            clock,
            text: String::new(),
            counts: Counts::default(),
        }
    }

    /// Ends the process and starts another one on the same store.
    pub(crate) fn restart(self, disk: &Disk) -> Self {
        let Self {
            pipeline,
            text,
            counts,
            clock,
        } = self;
        assert_eq!(pipeline.imbalance(), 0);
        drop(pipeline);
        Self {
            text,
            counts,
            clock,
            ..Self::open(disk.store())
        }
    }

    /// Feeds messages as one batch; returns the records that this committed.
    pub(crate) fn batch(&mut self, messages: Vec<Incoming>) -> Result<Vec<Value>, StoreError> {
        let mut clock = self.clock;
        let mut arrivals = Vec::new();
        for message in messages {
            let (raw, decoded) = Pipeline::decode(self.pipeline.decode_settings(), message);
            clock = clock.max(ClockTime::from_utc(raw.received_at.0.at()));
            arrivals.push(Arrival {
                at: clock,
                raw,
                decoded,
            });
        }
        let committed = self.pipeline.step(arrivals, clock)?;
        self.clock = clock;
        Ok(self.keep(&committed))
    }

    /// Runs the next timer if it is due by then; returns when that was, and what it committed.
    pub(crate) fn timer(&mut self, until: ClockTime) -> Option<(ClockTime, Vec<Value>)> {
        let due = self.pipeline.next_deadline().filter(|due| *due <= until)?;
        let committed = self.pipeline.step(Vec::new(), due).unwrap();
        self.clock = self.clock.max(due);
        Some((due, self.keep(&committed)))
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    fn keep(&mut self, committed: &Committed) -> Vec<Value> {
        self.counts.add(&committed.tally);
        let mut records = Vec::new();
        for row in &committed.records {
            let JournalRow { line, .. } = &**row;
            writeln!(self.text, "{line}").unwrap();
            records.push(serde_json::from_str(line).unwrap());
        }
        records
    }

    /// Runs every timer out.
    pub(crate) fn finish(mut self) -> Output {
        while self.timer(ClockTime(i64::MAX)).is_some() {}
        let Self {
            pipeline,
            text,
            counts,
            ..
        } = self;
        let (store, engine) = (pipeline.store(), pipeline.engine().unwrap());
        assert_eq!(
            (
                pipeline.imbalance(),
                engine.pending(),
                engine.open_threads()
            ),
            (0, 0, 0)
        );
        for (kind, count) in engine.counts() {
            let counted = engine.resources().filter(|resource| resource.kind == kind);
            assert_eq!(count, counted.count(), "{kind:?}");
        }
        let journal = store.journal(0, usize::MAX).unwrap();
        let stored = store.notifications().unwrap().into_iter();
        let stored = stored.filter(|(_, state)| state.revision > 0);
        let data = |text: &str| serde_json::from_str(text).unwrap();
        Output {
            text,
            counts,
            graph: json!(Graph {
                resources: engine.resources().collect()
            }),
            traits: engine.traits(),
            journal: journal
                .iter()
                .map(|row| format!("{}\n", row.line))
                .collect(),
            stored: stored
                .map(|(id, state)| data(&record::notification_data(id, &state)))
                .collect(),
        }
    }
}

impl Output {
    /// Every record.
    pub(crate) fn records(&self) -> Vec<Value> {
        self.text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The `data` of the records of one kind, in order.
    pub(crate) fn data(&self, kind: &str) -> Vec<Value> {
        let kind = format!("hearthd.{kind}");
        let of_kind = self
            .records()
            .into_iter()
            .filter(|record| record["type"] == kind);
        of_kind.map(|mut record| record["data"].take()).collect()
    }

    /// The last revision of every notification, by its id.
    pub(crate) fn last_revisions(&self) -> Vec<Value> {
        let revisions = self.data("notification").into_iter();
        let by_id: BTreeMap<String, Value> = revisions
            .map(|data| (data["notificationId"].to_string(), data))
            .collect();
        by_id.into_values().collect()
    }

    /// All that must not depend on the order of arrival.
    pub(crate) fn converged(&self) -> Value {
        let mut notifications = self.last_revisions();
        for data in &mut notifications {
            without(data, &UNSTABLE);
        }
        json!([notifications, self.graph, self.traits])
    }
}

/// The fields that REFERENCE.md lets depend on the order of arrival.
pub(crate) const UNSTABLE: [&str; 6] = [
    "revision",
    "alert",
    "alertUntil",
    "structure",
    "room",
    "title",
];

/// Takes fields out of an object.
pub(crate) fn without(data: &mut Value, fields: &[&str]) {
    let data = data.as_object_mut().unwrap();
    data.retain(|name, _| !fields.contains(&name.as_str()));
}
