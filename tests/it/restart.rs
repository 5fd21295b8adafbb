//! Stopping, failing and starting again: nothing is lost, nothing is doubled.

use proptest::prelude::*;
use proptest::test_runner::Config;
use rusqlite::Connection;
use serde_json::json;

use super::support::model::Delivery;
use super::support::replay::{Disk, Run, memory, messages, run_lines};
use super::support::traffic::{deliveries, schedule, to_capture_line};

/// Messages as they arrive, and before which of them the process is stopped.
fn stopped_traffic() -> impl Strategy<Value = (Vec<Delivery>, Vec<bool>)> {
    deliveries()
        .prop_flat_map(schedule)
        .prop_flat_map(|arriving| {
            let stops = prop::collection::vec(prop::bool::weighted(0.3), arriving.len());
            (Just(arriving), stops)
        })
}

/// Another connection that keeps every writer out of the store until it is dropped.
fn occupy(disk: &Disk) -> Connection {
    let connection = Connection::open(disk.path()).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    connection
}

fn scenario(name: &str) -> Vec<String> {
    let path = format!(
        "{}/fixtures/scenarios/{name}.jsonl",
        env!("CARGO_MANIFEST_DIR")
    );
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

proptest! {
    #![proptest_config(Config { cases: Config::default().cases / 8, ..Config::default() })]

    #[test]
    fn a_stop_between_any_two_messages_does_not_show((arriving, stops) in stopped_traffic()) {
        let lines: Vec<String> = arriving.iter().map(to_capture_line).collect();
        let uninterrupted = run_lines(&lines, memory(), &[lines.len()]);
        let disk = Disk::new();
        let mut run = Run::open(disk.store());
        for (message, stop) in messages(&lines).into_iter().zip(stops) {
            if stop {
                run = run.restart(&disk);
            }
            run.batch(vec![message]).unwrap();
        }
        let output = run.restart(&disk).finish();
        prop_assert_eq!(&output.text, &uninterrupted.text);
        prop_assert_eq!(&output.journal, &uninterrupted.text);
        prop_assert_eq!(output.counts, uninterrupted.counts);
        prop_assert_eq!(&output.graph, &uninterrupted.graph);
        prop_assert_eq!(&output.traits, &uninterrupted.traits);
    }
}

#[test]
fn a_commit_that_fails_loses_nothing_and_takes_nothing_for_a_duplicate() {
    let lines = scenario("started_and_ended_alike");
    let expected = run_lines(&lines, memory(), &[lines.len()]);
    let disk = Disk::new();
    let mut run = Run::open(disk.store());
    let batch = messages(&lines);

    let occupied = occupy(&disk);
    let error = run.batch(batch.clone()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("failed to commit: another program"),
        "{error}"
    );
    drop(occupied);

    run.batch(batch).unwrap();
    let output = run.finish();
    assert_eq!(
        output.counts.duplicates, 0,
        "a payload is seen only once it is committed"
    );
    assert_eq!(output.counts, expected.counts);
    assert_eq!(output.converged(), expected.converged());
    assert_eq!(output.journal, output.text);
}

#[test]
fn a_commit_that_fails_in_mid_run_leaves_what_was_committed_before() {
    let lines = scenario("late_events");
    let expected = run_lines(&lines, memory(), &vec![1; lines.len()]);
    let disk = Disk::new();
    let mut run = Run::open(disk.store());
    for (index, message) in messages(&lines).into_iter().enumerate() {
        if index == lines.len() / 2 {
            let occupied = occupy(&disk);
            run.batch(vec![message.clone()]).unwrap_err();
            drop(occupied);
        }
        run.batch(vec![message]).unwrap();
    }
    let output = run.finish();
    assert_eq!(output.counts, expected.counts);
    assert_eq!(output.text, expected.text);
    assert_eq!(output.journal, expected.text);
}

#[test]
fn whatever_was_taken_in_can_be_read_back() {
    let hostile = [
        // Years that have no text in UTC, and a leap second.
        "0000-01-01T00:00:00+23:59",
        "0001-01-01T00:00:00Z",
        "2016-12-31T23:59:60.999999999Z",
        "2025-06-09T13:52:03.0000000001Z",
    ];
    let body = |(index, time): (usize, &&str)| {
        let entry =
            json!({"eventSessionId": "\u{0}", "previewUrl": "\u{2028}", "zones": ["\u{0}"]});
        let name = "enterprises/p/devices/\u{0}";
        let text = json!({
            "eventId": format!("e{index}"), "timestamp": time, "userId": "\u{1f40c}",
            "eventThreadId": "t\u{0}\"'", "eventThreadState": "UPDATED",
            "resourceUpdate": {"name": name,
                "events": {"sdm.devices.events.CameraClipPreview.ClipPreview": entry, "": {}},
                "traits": {"": {"": 1e308}, "sdm.devices.traits.Info": {"customName": "\u{0}"}}},
        });
        json!({"publishTime": "2025-06-09T13:52:05Z", "event": text}).to_string()
    };
    let lines: Vec<String> = hostile.iter().enumerate().map(body).collect();
    let uninterrupted = run_lines(&lines, memory(), &[lines.len()]);
    assert_eq!(uninterrupted.counts.emitted, lines.len() as u64);
    let disk = Disk::new();
    let mut run = Run::open(disk.store());
    for message in messages(&lines) {
        run.batch(vec![message]).unwrap();
        run = run.restart(&disk);
    }
    assert_eq!(run.finish().text, uninterrupted.text);
}

#[test]
fn what_is_forgotten_within_a_batch_stays_closed() {
    // Of one session: a motion, and after the horizon two clips.
    let message = |time: &str, event: &str, fields: serde_json::Value| {
        let name = format!("sdm.devices.events.{event}");
        json!({"publishTime": time, "event": {"eventId": "e", "timestamp": time,
            "resourceUpdate": {"name": "enterprises/p/devices/d", "events": {name: fields}}}})
        .to_string()
    };
    let clip = |time, n| {
        let fields = json!({"eventSessionId": "s", "previewUrl": format!("https://clips/{n}")});
        message(time, "CameraClipPreview.ClipPreview", fields)
    };
    let lines = [
        message(
            "2025-06-01T00:00:00Z",
            "CameraMotion.Motion",
            json!({"eventSessionId": "s"}),
        ),
        clip("2025-06-19T00:00:00Z", 1),
        clip("2025-06-19T00:00:01Z", 2),
    ];
    let one_by_one = run_lines(&lines, memory(), &[1, 1, 1]);
    let disk = Disk::new();
    let mut run = Run::open(disk.store());
    let mut messages = messages(&lines);
    run.batch(vec![messages.remove(0)]).unwrap();
    // Without what the engine had in memory, the store's row from before the end is at hand.
    run = run.restart(&disk);
    run.batch(messages).unwrap();
    let output = run.restart(&disk).finish();
    assert_eq!(output.text, one_by_one.text);
    assert_eq!(json!(output.stored), json!(output.last_revisions()));
}

#[test]
fn started_and_ended_that_share_an_event_id_are_two_messages() {
    let lines = scenario("started_and_ended_alike");
    for thread in thread_ids(&lines) {
        let of_thread: Vec<String> = lines
            .iter()
            .filter(|line| line.contains(&thread))
            .cloned()
            .collect();
        let output = run_lines(&of_thread, memory(), &[of_thread.len()]);

        // A dedupe by eventId would drop one of the two, and the thread would never end.
        let events = output.data("event");
        assert_eq!((output.counts.emitted, output.counts.duplicates), (2, 0));
        assert_eq!(events[0]["eventId"], events[1]["eventId"]);
        assert_eq!(events[0]["timestamp"], events[1]["timestamp"]);
        assert_ne!(events[0]["threadState"], events[1]["threadState"]);

        let revisions = output.data("notification");
        let shown: Vec<_> = revisions
            .iter()
            .map(|data| (data["state"].as_str(), data["alert"].as_bool()))
            .collect();
        assert_eq!(
            shown,
            [(Some("open"), Some(true)), (Some("closed"), Some(false))]
        );
        assert_eq!(
            revisions[0]["notificationId"],
            revisions[1]["notificationId"]
        );
        assert_eq!(revisions[1]["closedBy"], "ended");
    }
}

/// The threads of the messages, each once.
fn thread_ids(lines: &[String]) -> Vec<String> {
    let events = run_lines(lines, memory(), &[lines.len()]).data("event");
    let mut ids: Vec<String> = events
        .iter()
        .map(|data| data["threadId"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 2);
    ids
}
