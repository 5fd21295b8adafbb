//! A full disk, a small one made for the test: what was committed stays, deleting works, and all
//! goes on once there is room.

use std::error::Error as _;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use hearthd::engine::Arrival;
use hearthd::event::ClockTime;
use hearthd::pipeline::{Pipeline, PipelineSettings};
use hearthd::store::{Reader, StoreError, Upkeep, Writer};
use rusqlite::Connection;
use serde_json::json;

use super::support::disk::SmallDisk;
use super::support::replay::{messages, open_sqlite, settings};
use super::support::store::Readable;

/// Messages in a batch.
const BATCH: usize = 64;

/// The hour in which messages arrive; they are kept for as long.
const HOUR: Duration = Duration::from_secs(3600);

fn store(disk: &SmallDisk) -> Writer {
    open_sqlite(&disk.path("hearthd.db"))
}

fn ballast(disk: &SmallDisk) -> PathBuf {
    disk.path("hearthd.db.ballast")
}

/// Messages that each open a notification, from a number on.
fn batch(first: usize) -> Vec<Arrival> {
    let line = |index: usize| {
        let time = format!("2025-06-09T13:{:02}:{:02}Z", index / 60 % 60, index % 60);
        let chime = json!({"eventSessionId": format!("s{index}")});
        let body = json!({
            "eventId": format!("e{index}"), "timestamp": time,
            "resourceUpdate": {"name": "enterprises/p/devices/d",
                "events": {"sdm.devices.events.DoorbellChime.Chime": chime}},
        });
        json!({"publishTime": time, "event": body}).to_string()
    };
    let lines: Vec<String> = (first..first + BATCH).map(line).collect();
    let arrive = |message| {
        let (raw, decoded) = Pipeline::decode(&settings().decode, message);
        Arrival {
            at: ClockTime::from_utc(raw.received_at.0.at()),
            raw,
            decoded,
        }
    };
    messages(&lines).into_iter().map(arrive).collect()
}

/// Commits a batch, none of which may have been seen; returns the time.
fn feed(pipeline: &mut Pipeline, first: usize) -> Result<ClockTime, StoreError> {
    let arrivals = batch(first);
    let now = arrivals[BATCH - 1].at;
    let committed = pipeline.step(arrivals, now)?;
    assert_eq!(
        (
            committed.tally.all().received,
            committed.tally.all().duplicates
        ),
        (BATCH as u64, 0)
    );
    Ok(now)
}

/// Feeds batches until the disk is full; returns the first message that is not committed.
fn feed_until_full(pipeline: &mut Pipeline, mut first: usize) -> usize {
    let error = loop {
        match feed(pipeline, first) {
            Ok(_) => first += BATCH,
            Err(error) => break error,
        }
    };
    assert!(error.is_full() && !error.is_fatal(), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("its disk is full, free some space"),
        "{error}"
    );
    first
}

/// Runs all timers out; every message up to this one must be in the journal, once.
fn finish(mut pipeline: Pipeline, messages: usize) {
    while let Some(due) = pipeline.next_deadline() {
        pipeline.step(Vec::new(), due).unwrap();
    }
    assert_eq!(pipeline.imbalance(), 0);
    let rows = pipeline.store().journal(0, usize::MAX).unwrap();
    let events = rows.iter().filter(|row| row.kind.as_str() == "event");
    assert_eq!(events.count(), messages);
}

#[test]
fn a_full_disk_stops_commits_and_freed_space_resumes_them() {
    let Some(disk) = SmallDisk::new(24) else {
        return;
    };
    let mut pipeline = Pipeline::open(store(&disk), settings()).unwrap();
    pipeline.store().restore_ballast().unwrap();
    let now = feed(&mut pipeline, 0).unwrap();
    disk.fill();
    let mut next = feed_until_full(&mut pipeline, BATCH);
    assert!(ballast(&disk).exists(), "commits must not take the ballast");
    // Nothing is past its retention. There is no room to make, and trying does no harm.
    for _ in 0..3 {
        assert_eq!(pipeline.free_space(now).unwrap(), Upkeep::default());
        pipeline.store().restore_ballast().unwrap();
        next = feed_until_full(&mut pipeline, next);
    }
    disk.free();
    feed(&mut pipeline, next).unwrap();
    finish(pipeline, next + BATCH);
}

#[test]
fn on_a_full_disk_what_is_past_its_retention_still_makes_room() {
    let Some(disk) = SmallDisk::new(40) else {
        return;
    };
    let settings = short_lived();
    let mut pipeline = Pipeline::open(store(&disk), settings.clone()).unwrap();
    pipeline.store().restore_ballast().unwrap();
    let mut now = ClockTime::default();
    let old = 40 * BATCH;
    for first in (0..old).step_by(BATCH) {
        now = feed(&mut pipeline, first).unwrap();
    }
    let written = pipeline.store().journal(0, usize::MAX).unwrap().len();
    // The log takes no space that it could be written anew in.
    let other = Connection::open(disk.path("hearthd.db")).unwrap();
    other
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    drop(other);
    disk.fill();
    let full = feed_until_full(&mut pipeline, old);
    let later = now.after(2 * HOUR);
    while pipeline.free_space(later).unwrap().more {}
    assert_eq!(pipeline.store().journal(0, usize::MAX).unwrap(), []);
    assert!(!ballast(&disk).exists(), "it leaves the log some room");
    // The disk is as full as before, but for what was deleted.
    for first in (full..full + old / 2).step_by(BATCH) {
        let mut arrivals = batch(first);
        arrivals.iter_mut().for_each(|arrival| arrival.at = later);
        match pipeline.step(arrivals.clone(), later) {
            Ok(_) => {}
            Err(error) if error.is_full() => {
                assert_eq!(pipeline.free_space(later).unwrap(), Upkeep::default());
                pipeline.step(arrivals, later).unwrap();
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(written > 0 && pipeline.imbalance() == 0);
    disk.free();
    pipeline.store().restore_ballast().unwrap();
}

#[test]
fn a_store_opens_on_a_full_disk() {
    let Some(disk) = SmallDisk::new(24) else {
        return;
    };
    let mut pipeline = Pipeline::open(store(&disk), settings()).unwrap();
    pipeline.store().restore_ballast().unwrap();
    feed(&mut pipeline, 0).unwrap();
    drop(pipeline);
    assert!(
        !disk.path("hearthd.db-shm").exists(),
        "opening has to make the log's index anew"
    );
    disk.fill();
    let mut pipeline = Pipeline::open(store(&disk), settings()).unwrap();
    let error = pipeline.store().restore_ballast().unwrap_err();
    assert!(
        error.is_full() && error.to_string().contains("hearthd.db.ballast"),
        "{error}"
    );
    let next = feed_until_full(&mut pipeline, BATCH);
    disk.free();
    pipeline.store().restore_ballast().unwrap();
    feed(&mut pipeline, next).unwrap();
    finish(pipeline, next + BATCH);
}

#[test]
fn the_ballast_takes_real_space_or_none() {
    let Some(disk) = SmallDisk::new(16) else {
        return;
    };
    let store = store(&disk);
    store.restore_ballast().unwrap();
    let made = ballast(&disk).metadata().unwrap();
    assert_eq!((made.blocks() * 512, made.mode() & 0o777), (8 << 20, 0o600));
    store.restore_ballast().unwrap();
    assert_eq!(
        ballast(&disk).metadata().unwrap().modified().unwrap(),
        made.modified().unwrap()
    );

    // A crash may have left half of it.
    File::options()
        .write(true)
        .open(ballast(&disk))
        .unwrap()
        .set_len(4 << 20)
        .unwrap();
    store.restore_ballast().unwrap();
    assert_eq!(ballast(&disk).metadata().unwrap().blocks() * 512, 8 << 20);

    fs::remove_file(ballast(&disk)).unwrap();
    disk.fill();
    assert!(store.restore_ballast().unwrap_err().is_full());
    assert!(!ballast(&disk).exists());
    disk.free();
    store.restore_ballast().unwrap();
    assert!(ballast(&disk).exists());
}

#[test]
fn a_disk_that_is_read_only_is_named() {
    let Some(disk) = SmallDisk::new(16) else {
        return;
    };
    drop(store(&disk));
    disk.make_read_only();
    let path = disk.path("hearthd.db");
    let error = Writer::open(&path).unwrap_err();
    assert!(
        error.to_string().contains("folder exists and is writable"),
        "{error}"
    );
    assert_eq!(
        error.source().unwrap().to_string(),
        "Read-only file system (os error 30)"
    );
    let error = Reader::open(&path).unwrap_err();
    assert!(
        error.to_string().contains("its disk is read-only"),
        "{error}"
    );
}

fn short_lived() -> PipelineSettings {
    let mut settings = settings();
    settings.engine.horizon = HOUR;
    settings.retention.horizon = HOUR;
    settings.retention.journal_age = HOUR;
    settings
}
