//! The rows that the store is given, and a bare loop that writes them: SQLite's share of the cost.

use std::path::Path;
use std::sync::Arc;

use hearthd::clock::Stopwatch;
use hearthd::config::Settings;
use hearthd::engine::change::Changes;
use hearthd::engine::traits::TraitRow;
use hearthd::engine::{Arrival, Engine};
use hearthd::event::ClockTime;
use hearthd::pipeline::{MAX_BATCH, Pipeline, PipelineSettings};
use hearthd::sources::Incoming;
use hearthd::store::{Commit, JournalRow, Memory, Writer};
use rusqlite::types::Value;
use rusqlite::{Connection, Statement, params_from_iter};
use serde::Serialize;

const SCHEMA: &str = include_str!("../../src/store/schema.sql");

/// The store's own, but for `journal_mode`, which the file of a store remembers.
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
     PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY;";

/// One per table that good messages are written to, in the order of a commit.
const STATEMENTS: [&str; 11] = [
    "INSERT OR REPLACE INTO payloads (key, at) VALUES (?1, ?2)",
    "INSERT OR IGNORE INTO members (session, notification) VALUES (?1, ?2)",
    "INSERT OR REPLACE INTO clips (session, url, at) VALUES (?1, ?2, ?3)",
    "INSERT INTO notifications (id, deadline, touched, state) VALUES (?1, ?2, ?3, ?4) \
     ON CONFLICT (id) DO UPDATE SET deadline = excluded.deadline, \
     touched = excluded.touched, state = excluded.state",
    "DELETE FROM held WHERE arrival = ?1",
    "INSERT INTO held (arrival, row, line) VALUES (?1, ?2, ?3)",
    "INSERT INTO released (ordering_key, sort_key, at) VALUES (?1, ?2, ?3) \
         ON CONFLICT DO UPDATE SET sort_key = excluded.sort_key, at = excluded.at",
    "INSERT INTO nodes (name, row) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET row = excluded.row",
    "INSERT INTO traits (resource, name, fields) VALUES (?1, ?2, ?3) \
         ON CONFLICT DO UPDATE SET fields = excluded.fields",
    "UPDATE meta SET value = ?2 WHERE name = ?1",
    "INSERT INTO journal (sequence, kind, subject, at, line) VALUES (?1, ?2, ?3, ?4, ?5)",
];

/// One execution of a statement.
struct Row {
    statement: usize,
    values: Vec<Value>,
}

/// Every row that the store is given, by transaction.
pub(crate) struct Rows {
    batches: Vec<Vec<Row>>,
}

impl Rows {
    /// Runs messages through the engine, in batches as `run` and `replay` have them under load, and
    /// then the timers that are due by `end`; keeps what it would write. A message arrives no
    /// earlier than the one before it.
    pub(crate) fn of(
        arrivals: impl Iterator<Item = anyhow::Result<(ClockTime, Incoming)>>,
        end: ClockTime,
    ) -> anyhow::Result<Self> {
        let mut steps = Steps::new()?;
        for arrival in arrivals {
            let (at, incoming) = arrival?;
            steps.take(incoming, at)?;
        }
        steps.run_out(end)
    }

    /// Writes them into a new file, one transaction per batch; returns the seconds that took.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<f64> {
        let connection = Connection::open(path)?;
        connection.execute_batch(PRAGMAS)?;
        connection.execute_batch(SCHEMA)?;
        let stopwatch = Stopwatch::start();
        let prepare = |sql: &&str| connection.prepare(sql);
        let mut statements = STATEMENTS
            .iter()
            .map(prepare)
            .collect::<Result<Vec<_>, _>>()?;
        for batch in &self.batches {
            let transaction = connection.unchecked_transaction()?;
            for row in batch {
                let statement: &mut Statement<'_> = &mut statements[row.statement];
                statement.execute(params_from_iter(&row.values))?;
            }
            transaction.commit()?;
        }
        drop(statements);
        connection.close().map_err(|(_, error)| error)?;
        Ok(stopwatch.seconds())
    }
}

/// The engine, its steps noted.
struct Steps {
    settings: PipelineSettings,
    engine: Engine,
    store: Writer,
    arrivals: Vec<Arrival>,
    clock: ClockTime,
    rows: Rows,
}

impl Steps {
    fn new() -> anyhow::Result<Self> {
        let settings = PipelineSettings::from(&Settings::load(None, &Default::default())?);
        let store = Writer::Memory(Memory::without_journal());
        let engine = Engine::restore(settings.engine, store.restore()?);
        let (arrivals, clock) = (Vec::new(), ClockTime::default());
        Ok(Self {
            settings,
            engine,
            store,
            arrivals,
            clock,
            rows: Rows {
                batches: Vec::new(),
            },
        })
    }

    fn take(&mut self, incoming: Incoming, at: ClockTime) -> anyhow::Result<()> {
        let (raw, decoded) = Pipeline::decode(&self.settings.decode, incoming);
        self.clock = self.clock.max(at);
        self.arrivals.push(Arrival {
            at: self.clock,
            raw,
            decoded,
        });
        if self.arrivals.len() == MAX_BATCH {
            self.step()
        } else {
            Ok(())
        }
    }

    fn step(&mut self) -> anyhow::Result<()> {
        let arrivals = std::mem::take(&mut self.arrivals);
        let loaded = self
            .store
            .load(&self.engine.lookup(&arrivals, self.clock))?;
        let changes = self.engine.step(arrivals, self.clock, loaded);
        let journal = self.store.commit(Commit::from(changes.clone()))?.records;
        self.rows.batches.push(batch(&changes, journal)?);
        Ok(())
    }

    fn run_out(mut self, end: ClockTime) -> anyhow::Result<Rows> {
        self.step()?;
        while let Some(deadline) = self.engine.next_deadline().filter(|due| *due <= end) {
            self.clock = self.clock.max(deadline);
            self.step()?;
        }
        Ok(self.rows)
    }
}

/// The rows of one transaction, in the order in which the store writes them.
fn batch(changes: &Changes, journal: Vec<Arc<JournalRow>>) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut add = |statement, values| rows.push(Row { statement, values });
    for (key, seen_at) in &changes.seen {
        add(0, vec![blob(key.0), seen_at.0.into()]);
    }
    for (session, notification) in &changes.members {
        add(1, vec![blob(session.0), blob(notification.0)]);
    }
    for (session, url, clip_at) in &changes.clips {
        add(
            2,
            vec![blob(session.0), url.clone().into(), clip_at.0.into()],
        );
    }
    for (id, state) in &changes.notifications {
        let deadline = state.deadline.map(|deadline| deadline.0);
        add(
            3,
            vec![
                blob(id.0),
                deadline.into(),
                state.touched.0.into(),
                json(&**state)?,
            ],
        );
    }
    for arrival in &changes.released_arrivals {
        add(4, vec![i64::try_from(*arrival)?.into()]);
    }
    for held in &changes.held {
        let line = held.record.text.clone();
        add(
            5,
            vec![
                i64::try_from(held.arrival)?.into(),
                json(&**held)?,
                line.into(),
            ],
        );
    }
    for (ordering_key, (sort_key, released_at)) in &changes.released {
        add(
            6,
            vec![
                ordering_key.to_string().into(),
                json(sort_key)?,
                released_at.0.into(),
            ],
        );
    }
    rows.extend(graph_and_journal(changes, journal)?);
    Ok(rows)
}

fn graph_and_journal(changes: &Changes, journal: Vec<Arc<JournalRow>>) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut add = |statement, values| rows.push(Row { statement, values });
    let at = || Value::from(changes.at.0);
    for (name, node) in &changes.nodes {
        add(7, vec![name.to_string().into(), json(node)?]);
    }
    for TraitRow {
        resource,
        name,
        fields,
    } in &changes.traits
    {
        add(
            8,
            vec![
                resource.to_string().into(),
                name.to_string().into(),
                json(fields)?,
            ],
        );
    }
    add(9, vec!["clock".to_owned().into(), at()]);
    for row in journal {
        let JournalRow {
            sequence,
            kind,
            subject,
            line,
            ..
        } = &*row;
        let sequence = i64::try_from(*sequence)?;
        let kind = kind.as_str().to_owned();
        add(
            10,
            vec![
                sequence.into(),
                kind.into(),
                subject.clone().into(),
                at(),
                line.clone().into(),
            ],
        );
    }
    for number in ["last_sequence", "journal_bytes"] {
        add(9, vec![number.to_owned().into(), at()]);
    }
    Ok(rows)
}

fn blob(bytes: [u8; 16]) -> Value {
    Value::Blob(bytes.to_vec())
}

fn json(row: &impl Serialize) -> anyhow::Result<Value> {
    Ok(Value::Text(serde_json::to_string(row)?))
}
