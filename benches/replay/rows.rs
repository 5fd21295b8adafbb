//! The rows that a replay writes, and a bare loop that writes them: SQLite's share of the cost.

use std::path::Path;

use hearthd::clock::Stopwatch;
use hearthd::config::Settings;
use hearthd::engine::change::Changes;
use hearthd::engine::traits::TraitRow;
use hearthd::engine::{Arrival, Engine};
use hearthd::event::ClockTime;
use hearthd::pipeline::{MAX_BATCH, Pipeline, PipelineSettings};
use hearthd::sources::capture;
use hearthd::store::{JournalRow, Memory, Store};
use rusqlite::types::Value;
use rusqlite::{Connection, Statement, params_from_iter};
use serde::Serialize;

const SCHEMA: &str = include_str!("../../src/store/schema.sql");

/// The store's own, but for `journal_mode`, which the file of a store remembers.
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
     PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY;";

/// One per table that a replay of good messages writes, in the order of a commit.
const STATEMENTS: [&str; 11] = [
    "INSERT OR REPLACE INTO payloads (key, at) VALUES (?1, ?2)",
    "INSERT OR IGNORE INTO members (session, notification) VALUES (?1, ?2)",
    "INSERT OR REPLACE INTO clips (session, url, at) VALUES (?1, ?2, ?3)",
    "INSERT INTO notifications (id, deadline, touched, state) VALUES (?1, ?2, ?3, ?4) \
     ON CONFLICT (id) DO UPDATE SET deadline = excluded.deadline, \
     touched = excluded.touched, state = excluded.state",
    "DELETE FROM held WHERE arrival = ?1",
    "INSERT INTO held (arrival, row) VALUES (?1, ?2)",
    "INSERT OR REPLACE INTO released (ordering_key, sort_key, at) VALUES (?1, ?2, ?3)",
    "INSERT OR REPLACE INTO nodes (name, row) VALUES (?1, ?2)",
    "INSERT OR REPLACE INTO traits (resource, name, fields) VALUES (?1, ?2, ?3)",
    "UPDATE meta SET value = ?2 WHERE name = ?1",
    "INSERT INTO journal (sequence, kind, subject, at, line) VALUES (?1, ?2, ?3, ?4, ?5)",
];

/// One execution of a statement.
struct Row {
    statement: usize,
    values: Vec<Value>,
}

/// Every row of a replay, by transaction.
pub(crate) struct Rows {
    batches: Vec<Vec<Row>>,
}

impl Rows {
    /// Runs a capture file through the engine, in batches as `replay` does, and keeps what it would
    /// write.
    pub(crate) fn of_replay(capture: &Path) -> anyhow::Result<Self> {
        let settings = PipelineSettings::from(&Settings::load(None, &Default::default())?);
        let mut store = Store::Memory(Box::new(Memory::without_journal()));
        let now = ClockTime::default();
        let mut engine = Engine::restore(settings.engine, store.restore()?);
        let mut rows = Self { batches: Vec::new() };
        let mut step = |engine: &mut Engine, arrivals: Vec<Arrival>, until| -> anyhow::Result<()> {
            let loaded = store.load(&engine.lookup(&arrivals, until))?;
            let changes = engine.step(arrivals, until, loaded);
            let journal = store.commit(changes.clone())?;
            rows.batches.push(batch(&changes, journal)?);
            Ok(())
        };
        let mut arrivals = Vec::new();
        let mut clock = now;
        for incoming in capture::open(capture)? {
            let (raw, decoded) = Pipeline::decode(&settings.decode, incoming?);
            clock = clock.max(ClockTime::from_utc(raw.received_at.0.at()));
            arrivals.push(Arrival { at: clock, raw, decoded });
            if arrivals.len() == MAX_BATCH {
                step(&mut engine, std::mem::take(&mut arrivals), clock)?;
            }
        }
        step(&mut engine, arrivals, clock)?;
        while let Some(deadline) = engine.next_deadline() {
            step(&mut engine, Vec::new(), deadline)?;
        }
        Ok(rows)
    }

    /// Writes them into a new file, one transaction per batch; returns the seconds that took.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<f64> {
        let connection = Connection::open(path)?;
        connection.execute_batch(PRAGMAS)?;
        connection.execute_batch(SCHEMA)?;
        let stopwatch = Stopwatch::start();
        let prepare = |sql: &&str| connection.prepare(sql);
        let mut statements = STATEMENTS.iter().map(prepare).collect::<Result<Vec<_>, _>>()?;
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

/// The rows of one transaction, in the order in which the store writes them.
fn batch(changes: &Changes, journal: Vec<JournalRow>) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut add = |statement, values| rows.push(Row { statement, values });
    let at = || Value::from(changes.at.0);
    for (key, seen_at) in &changes.seen {
        add(0, vec![blob(key.0), seen_at.0.into()]);
    }
    for (session, notification) in &changes.members {
        add(1, vec![blob(session.0), blob(notification.0)]);
    }
    for (session, url, clip_at) in &changes.clips {
        add(2, vec![blob(session.0), url.clone().into(), clip_at.0.into()]);
    }
    for (id, state) in &changes.notifications {
        let deadline = state.deadline.map(|deadline| deadline.0);
        add(3, vec![blob(id.0), deadline.into(), state.touched.0.into(), json(&**state)?]);
    }
    for arrival in &changes.unheld {
        add(4, vec![i64::try_from(*arrival)?.into()]);
    }
    for held in &changes.held {
        add(5, vec![i64::try_from(held.arrival)?.into(), json(held)?]);
    }
    for (ordering_key, (sort_key, released_at)) in &changes.released {
        add(6, vec![ordering_key.to_string().into(), json(sort_key)?, released_at.0.into()]);
    }
    for (name, node) in &changes.nodes {
        add(7, vec![name.to_string().into(), json(node)?]);
    }
    for TraitRow { resource, name, fields } in &changes.traits {
        add(8, vec![resource.to_string().into(), name.clone().into(), json(fields)?]);
    }
    add(9, vec!["clock".to_owned().into(), at()]);
    for JournalRow { sequence, kind, subject, line } in journal {
        let (sequence, kind) = (i64::try_from(sequence)?, kind.as_str().to_owned());
        add(10, vec![sequence.into(), kind.into(), subject.into(), at(), line.into()]);
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
