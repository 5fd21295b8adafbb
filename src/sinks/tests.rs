//! The loop of a sink over a journal in memory, with a file as the receiver.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::{Sink, Status};
use crate::clock::Clock;
use crate::config;
use crate::event::ClockTime;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::record::RecordKind;
use crate::store::{DeadLetterReason, JournalRow, Memory, Settlement, Writer};

const MAX_AGE: Duration = Duration::from_secs(3600);

fn row(sequence: u64, at: ClockTime) -> Arc<JournalRow> {
    Arc::new(JournalRow {
        sequence,
        kind: RecordKind::Event,
        subject: String::new(),
        at,
        line: format!("record {sequence}"),
    })
}

fn settings(path: &Path) -> config::Sink {
    config::Sink {
        name: "out".to_owned(),
        kind: config::SinkKind::File(config::SinkFile {
            path: path.to_owned(),
            max_size: 1 << 20,
            keep: 1,
        }),
        records: vec![RecordKind::Event],
        from: config::StartFrom::Start,
        max_age: MAX_AGE,
        filter: config::SinkFilter::default(),
    }
}

/// Runs a sink over rows until it has nothing more to do; returns what it settled, and its status.
async fn run(
    path: &Path,
    rows: &[Arc<JournalRow>],
    dead: BTreeSet<u64>,
) -> (Vec<Settlement>, Arc<Status>) {
    let store = Writer::Memory(Memory::default());
    let journal = Arc::new(Journal::new(store.reader().unwrap()).unwrap());
    journal.append(rows);
    let metrics = Arc::new(Metrics::new(&[], &["out"]).unwrap());
    let clock = Clock::start(ClockTime::default());
    let follower = journal.follow(rows.first().map_or(0, |first| first.sequence - 1));
    let sink = Sink::new(&settings(path), follower, dead, clock, metrics);
    let status = sink.status();
    // One place, which is taken until all is over: a settlement has to wait for it.
    let (settle, mut settled) = mpsc::channel(1);
    settle.send(Settlement::default()).await.unwrap();
    let finish = watch::Sender::new(true);
    let running = tokio::spawn(sink.run(settle, finish.subscribe()));
    let mut settlements = Vec::new();
    while let Some(settlement) = settled.recv().await {
        settlements.push(settlement);
    }
    running.await.unwrap();
    settlements.remove(0);
    let last = settlements.last().map_or(0, |last| last.cursor);
    assert_eq!(status.cursor(), last);
    (settlements, status)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_is_a_dead_letter_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let now = Clock::start(ClockTime::default()).now();
    let old = now.before(2 * MAX_AGE);
    let rows = [row(5, old), row(6, old), row(7, now), row(8, now)];
    let (settlements, _) = run(&path, &rows, [6, 8].into()).await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "record 7\n");
    let letters: Vec<_> = settlements
        .iter()
        .flat_map(|settlement| &settlement.dead_letters)
        .map(|letter| (letter.sequence, letter.reason, letter.line.as_str()))
        .collect();
    // The others are dead letters in the store already.
    assert_eq!(letters, [(5, DeadLetterReason::Expired, "record 5")]);
    assert_eq!(settlements.last().unwrap().cursor, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_gets_one_more_attempt_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let now = Clock::start(ClockTime::default()).now();
    let rows = [row(1, now), row(2, now)];
    let path = folder.path().join("not-there/out");
    let (settlements, status) = run(&path, &rows, [].into()).await;
    assert!(settlements.is_empty(), "{settlements:?}");
    assert!(!status.is_up(now), "the attempt failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_dead_letters_than_one_settlement_takes_are_all_settled() {
    let folder = tempfile::tempdir().unwrap();
    let now = Clock::start(ClockTime::default()).now();
    let rows: Vec<_> = (1..=2_000)
        .map(|sequence| row(sequence, now.before(MAX_AGE)))
        .collect();
    let (settlements, _) = run(&folder.path().join("out"), &rows, [].into()).await;
    let letters = settlements
        .iter()
        .flat_map(|settlement| &settlement.dead_letters);
    let sequences: Vec<u64> = letters.map(|letter| letter.sequence).collect();
    assert_eq!(sequences, Vec::from_iter(1..=2_000));
    assert_eq!(settlements.last().unwrap().cursor, 2_000);
}
