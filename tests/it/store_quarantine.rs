//! Quarantine and dead letters: what is kept of a bad message, and how it comes in again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hearthd::engine::Arrival;
use hearthd::engine::change::{Changes, Quarantined};
use hearthd::event::{
    ClockTime, Decoded, DedupeKey, RawMessage, Reason, ReceivedAt, Reject, Timestamp,
};
use hearthd::pipeline::{Committed, Pipeline};
use hearthd::store::{QUARANTINE_MAX_BYTES, Retention};
use rusqlite::Connection;

use super::support::replay::{Disk, memory, messages, settings};
use super::support::store::{Readable, Writable};

const RECEIVED: &str = "2025-06-09T13:52:06Z";
const RETRIED: &str = "2025-06-11T08:00:00Z";

/// A message that can be decoded.
const GOOD: &str = concat!(
    r#"{"publishTime":"2025-06-09T13:52:05Z","messageId":"m1","event":{"eventId":"e","#,
    r#""timestamp":"2025-06-09T13:52:03Z","resourceUpdate":{"name":"enterprises/p/devices/d","#,
    r#""events":{"sdm.devices.events.DoorbellChime.Chime":{"eventSessionId":"s"}}}}}"#
);

/// One that can't.
const BAD: &str = r#"{"publishTime":"2025-06-09T13:52:05Z","messageId":"m2","event":"hello"}"#;

/// Runs a test over each kind of store.
fn on_each(test: impl Fn(Pipeline)) {
    test(Pipeline::open(memory(), settings()).unwrap());
    let disk = Disk::new();
    test(Pipeline::open(disk.store(), settings()).unwrap());
}

fn time(text: &str) -> (ReceivedAt, ClockTime) {
    let time = Timestamp::parse(text).unwrap();
    let clock = ClockTime::from_utc(time.at());
    (ReceivedAt(time), clock)
}

fn arrival(line: &str) -> Arrival {
    let message = messages(&[line.to_owned()]).remove(0);
    let (mut raw, decoded) = Pipeline::decode(&settings().decode, message);
    let (received_at, at) = time(RECEIVED);
    Arc::make_mut(&mut raw).received_at = received_at;
    Arrival { at, raw, decoded }
}

/// Feeds a message; a reject takes the place of what it decodes to, as an older decoder's would.
fn feed(pipeline: &mut Pipeline, line: &str, reject: Option<Reject>) -> Committed {
    let mut arrival = arrival(line);
    if let Some(reject) = reject {
        arrival.decoded.outcome = Err(reject);
    }
    let at = arrival.at;
    pipeline.step(vec![arrival], at).unwrap()
}

fn too_deep() -> Option<Reject> {
    Some(Reject::new(Reason::TooDeep, "nested deeper than 3"))
}

fn retry(pipeline: &mut Pipeline, id: i64) -> Option<Committed> {
    let (received_at, now) = time(RETRIED);
    pipeline.retry(id, received_at, now).unwrap()
}

fn ids(pipeline: &Pipeline) -> Vec<i64> {
    let rows = pipeline.store().quarantine(usize::MAX).unwrap();
    rows.into_iter().map(|row| row.id).collect()
}

/// Runs every timer out; returns the kinds of all records of the journal.
fn run_out(pipeline: &mut Pipeline) -> Vec<&'static str> {
    while let Some(due) = pipeline.next_deadline() {
        pipeline.step(Vec::new(), due).unwrap();
    }
    assert_eq!(pipeline.imbalance(), 0);
    let rows = pipeline.store().journal(0, usize::MAX).unwrap();
    rows.into_iter().map(|row| row.kind.as_str()).collect()
}

#[test]
fn a_message_is_kept_as_it_came() {
    on_each(|mut pipeline| {
        feed(&mut pipeline, BAD, None);
        let Arrival { at, raw, decoded } = arrival(BAD);
        let kept = pipeline.store().quarantined(1).unwrap().unwrap();
        assert_eq!((kept.key, kept.at), (decoded.key, at));
        assert_eq!(kept.reject, decoded.outcome.unwrap_err());
        assert_eq!(format!("{:?}", kept.raw), format!("{raw:?}"));
        assert!(pipeline.store().quarantined(2).unwrap().is_none());
    });
}

#[test]
fn a_message_that_can_be_decoded_now_comes_in_again() {
    on_each(|mut pipeline| {
        feed(&mut pipeline, GOOD, too_deep());
        assert_eq!(ids(&pipeline), [1]);
        let committed = retry(&mut pipeline, 1).unwrap();
        assert_eq!(
            (
                committed.tally.all().received,
                committed.tally.all().duplicates
            ),
            (1, 0)
        );
        assert!(ids(&pipeline).is_empty());
        let kinds = run_out(&mut pipeline);
        assert_eq!(kinds, ["relation", "notification", "event", "notification"]);
        // It was received when it was retried: too late to ring.
        let first = pipeline.store().journal(1, 1).unwrap().remove(0);
        assert!(first.line.contains("\"alert\":false"), "{}", first.line);
        // From now on it counts as seen.
        assert_eq!(feed(&mut pipeline, GOOD, None).tally.all().duplicates, 1);
        assert!(retry(&mut pipeline, 1).is_none());
    });
}

#[test]
fn a_message_that_is_still_bad_goes_back_under_a_new_number() {
    on_each(|mut pipeline| {
        feed(&mut pipeline, BAD, None);
        let committed = retry(&mut pipeline, 1).unwrap();
        assert_eq!(
            (
                committed.tally.all().received,
                committed.tally.all().quarantined_total()
            ),
            (1, 1)
        );
        assert_eq!(ids(&pipeline), [2]);
        let row = pipeline.store().quarantined(2).unwrap().unwrap();
        assert_eq!(row.raw.received_at.0.as_str(), RETRIED);
        assert!(retry(&mut pipeline, 2).is_some());
        assert_eq!(ids(&pipeline), [3]);
        assert_eq!(run_out(&mut pipeline), [""; 0]);
    });
}

#[test]
fn a_line_that_is_no_message_is_not_taken_for_one() {
    // Without its platform this line would be an event.
    let line = GOOD.replace(
        "{\"publishTime\"",
        "{\"platform\":\"toaster\",\"publishTime\"",
    );
    on_each(|mut pipeline| {
        feed(&mut pipeline, &line, None);
        assert_eq!(
            pipeline.store().quarantine(1).unwrap()[0].reason,
            "unknown_platform"
        );
        let committed = retry(&mut pipeline, 1).unwrap();
        assert_eq!(
            committed
                .tally
                .all()
                .quarantined
                .get(&Reason::UnknownPlatform),
            Some(&1)
        );
        assert_eq!(ids(&pipeline), [2]);
    });
}

#[test]
fn what_came_in_by_another_way_since_is_a_duplicate() {
    on_each(|mut pipeline| {
        feed(&mut pipeline, GOOD, too_deep());
        // Past the horizon it comes in anew, and can be decoded.
        let mut again = arrival(GOOD);
        again.at = again.at.after(settings().engine.horizon);
        let at = again.at;
        pipeline.step(vec![again], at).unwrap();
        let before = run_out(&mut pipeline);
        let (received_at, _) = time(RETRIED);
        let committed = pipeline.retry(1, received_at, at).unwrap().unwrap();
        assert_eq!(
            (
                committed.tally.all().received,
                committed.tally.all().duplicates
            ),
            (1, 1)
        );
        assert!(ids(&pipeline).is_empty());
        assert_eq!(run_out(&mut pipeline), before);
    });
}

#[test]
fn a_retry_that_can_not_be_committed_leaves_the_row() {
    let disk = Disk::new();
    let mut pipeline = Pipeline::open(disk.store(), settings()).unwrap();
    feed(&mut pipeline, GOOD, too_deep());
    let other = Connection::open(disk.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (received_at, now) = time(RETRIED);
    pipeline.retry(1, received_at, now).unwrap_err();
    drop(other);
    assert_eq!(ids(&pipeline), [1]);
    assert_eq!(retry(&mut pipeline, 1).unwrap().tally.all().duplicates, 0);
    assert!(ids(&pipeline).is_empty());
    assert!(run_out(&mut pipeline).contains(&"event"));
}

#[test]
fn rows_are_dropped_and_stay_seen() {
    on_each(|mut pipeline| {
        feed(&mut pipeline, BAD, None);
        feed(&mut pipeline, GOOD, too_deep());
        let dropped = pipeline
            .store_mut()
            .drop_quarantined(&[1, 7, 2, 2])
            .unwrap();
        assert_eq!((dropped, ids(&pipeline)), (2, Vec::new()));
        assert_eq!(feed(&mut pipeline, BAD, None).tally.all().duplicates, 1);
        assert_eq!(pipeline.imbalance(), 0);
    });
}

#[test]
fn quarantine_is_bounded_and_keeps_the_newest() {
    let Arrival { at, raw, decoded } = arrival(BAD);
    let reject = decoded.outcome.unwrap_err();
    let raw = RawMessage {
        body: vec![b'x'; 15 << 20].into(),
        ..(*raw).clone()
    };
    let message = Quarantined {
        key: decoded.key,
        at,
        reject,
        raw,
    };
    let commit = |pipeline: &mut Pipeline, count: usize| {
        let quarantined = vec![message.clone(); count];
        let changes = Changes {
            at,
            quarantined,
            ..Changes::default()
        };
        pipeline.store_mut().write(changes).unwrap();
    };
    on_each(|mut pipeline| {
        commit(&mut pipeline, 18);
        pipeline.store_mut().drop_quarantined(&[1]).unwrap();
        // 17 messages of just over 15 MiB each are below the bound of 256 MiB.
        assert!(
            !pipeline
                .store_mut()
                .trim(at, &settings().retention)
                .unwrap()
                .more
        );
        assert_eq!(ids(&pipeline), (2..=18).collect::<Vec<_>>());
        commit(&mut pipeline, 4);
        pipeline
            .store_mut()
            .trim(at, &settings().retention)
            .unwrap();
        assert_eq!(ids(&pipeline), (6..=22).collect::<Vec<_>>());
    });
}

#[test]
fn quarantine_is_bounded_at_any_pace() {
    let Arrival { at, raw, decoded } = arrival(BAD);
    let reject = decoded.outcome.unwrap_err();
    let raw = RawMessage {
        body: vec![b'x'; 10 << 20].into(),
        ..(*raw).clone()
    };
    let mut pipeline = Pipeline::open(memory(), settings()).unwrap();
    let mut quarantine_evicted = 0;
    for n in 0..40 {
        let decoded = Decoded {
            key: DedupeKey([n; 16]),
            outcome: Err(reject.clone()),
        };
        pipeline
            .step(
                vec![Arrival {
                    at,
                    raw: Arc::new(raw.clone()),
                    decoded,
                }],
                at,
            )
            .unwrap();
        quarantine_evicted += pipeline.upkeep(at).unwrap().quarantine_evicted;
        let bytes = pipeline.store().bytes();
        assert!(
            bytes <= QUARANTINE_MAX_BYTES / 16 * 17,
            "{bytes} after message {n}"
        );
    }
    assert_eq!(ids(&pipeline).len() + quarantine_evicted, 40);
    assert!(quarantine_evicted > 0);
}

#[test]
fn what_surrounds_a_body_counts_too() {
    let Arrival { at, raw, decoded } = arrival(BAD);
    let reject = Reject::new(Reason::NotJson, "x".repeat(64 << 20));
    let raw = RawMessage {
        body: Bytes::new(),
        ..(*raw).clone()
    };
    let message = Quarantined {
        key: decoded.key,
        at,
        reject,
        raw,
    };
    let mut store = memory();
    let changes = Changes {
        at,
        quarantined: vec![message; 4],
        ..Changes::default()
    };
    store.write(changes).unwrap();
    assert!(store.bytes() > QUARANTINE_MAX_BYTES);
    store.trim(at, &settings().retention).unwrap();
    assert_eq!(store.quarantine(usize::MAX).unwrap().len(), 3);
}

#[test]
fn what_a_sink_lost_in_one_go_is_one_range() {
    let disk = Disk::new();
    let mut pipeline = Pipeline::open(disk.store(), settings()).unwrap();
    let store = pipeline.store_mut();
    assert!(store.dead_letters(9).unwrap().is_empty());
    store.set_cursor("bell", 0).unwrap();
    feed(&mut pipeline, GOOD, None);
    let first = run_out_and_lose(&mut pipeline);
    feed(&mut pipeline, &GOOD.replace("\"e\"", "\"f\""), None);
    let second = run_out_and_lose(&mut pipeline);
    assert!(first < second);
    let letters = pipeline.store().dead_letters(9).unwrap();
    let ranges: Vec<_> = letters
        .iter()
        .map(|row| (row.first_sequence, row.last_sequence))
        .collect();
    assert_eq!(ranges, [(1, second)]);
    assert_eq!(
        (letters[0].sink.as_str(), letters[0].reason.as_str()),
        ("bell", "journal_full")
    );
    assert_eq!(letters[0].at, "2025-06-11T08:00:00.000Z");

    feed(&mut pipeline, &GOOD.replace("\"e\"", "\"g\""), None);
    let delivered = run_out_and_deliver(&mut pipeline);
    feed(&mut pipeline, &GOOD.replace("\"e\"", "\"h\""), None);
    let third = run_out_and_lose(&mut pipeline);
    let letters = pipeline.store().dead_letters(1).unwrap();
    let (found, expected) = (&letters[0], (delivered + 1, third));
    assert_eq!(
        (letters.len(), (found.first_sequence, found.last_sequence)),
        (1, expected)
    );
}

/// Empties the journal; returns the number of its last record.
fn run_out_and_lose(pipeline: &mut Pipeline) -> u64 {
    run_out(pipeline);
    let (_, now) = time(RETRIED);
    let nothing = Retention {
        journal_bytes: 0,
        journal_age: Duration::MAX,
        ..settings().retention
    };
    let store = pipeline.store_mut();
    assert_eq!(store.trim(now, &nothing).unwrap().dead_letters.len(), 1);
    store.last_sequence().unwrap()
}

fn run_out_and_deliver(pipeline: &mut Pipeline) -> u64 {
    run_out(pipeline);
    let last = pipeline.store().last_sequence().unwrap();
    pipeline.store_mut().set_cursor("bell", last).unwrap();
    last
}
