//! P4 and P3 on random traffic: neither order nor repetition nor batching shows in what is left,
//! and the event log is in order but for what came too late.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hearthd::engine::Arrival;
use hearthd::engine::graph::Resource;
use hearthd::event::ClockTime;
use hearthd::pipeline::Pipeline;
use hearthd::record::RecordKind;
use hearthd::sources::Incoming;
use hearthd::store::Writer;
use proptest::prelude::*;
use proptest::test_runner::Config;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::support::model::{self, Delivery, dedupe_key};
use super::support::replay::{
    Disk, Output, Run, UNSTABLE, memory, messages, run_lines, settings, without,
};
use super::support::store::Readable;
use super::support::traffic::{batching, deliveries, schedule, to_capture_line};

/// Messages as they arrive, and how they are cut into batches.
type Traffic = (Vec<Delivery>, Vec<usize>);

fn config(cases: u32) -> Config {
    Config {
        cases,
        ..Config::default()
    }
}

fn traffic(made: Vec<Delivery>) -> impl Strategy<Value = Traffic> {
    schedule(made).prop_flat_map(|arriving| {
        let sizes = batching(arriving.len());
        (Just(arriving), sizes)
    })
}

fn one_schedule() -> impl Strategy<Value = Traffic> {
    deliveries().prop_flat_map(traffic)
}

fn two_schedules() -> impl Strategy<Value = (Vec<Delivery>, Traffic, Traffic)> {
    deliveries().prop_flat_map(|made| (Just(made.clone()), traffic(made.clone()), traffic(made)))
}

fn lines(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(to_capture_line).collect()
}

/// The final notifications as the model shows them.
fn as_modelled(output: &Output) -> Vec<Value> {
    let mut notifications = output.last_revisions();
    for data in &mut notifications {
        without(data, &UNSTABLE);
        without(data, &["notificationId", "body"]);
    }
    notifications.sort_by_key(Value::to_string);
    notifications
}

/// Checks one run against the model of the same messages.
fn check(output: &Output, arriving: &[Delivery], made: usize) -> Result<(), TestCaseError> {
    prop_assert_eq!(
        json!(as_modelled(output)),
        json!(model::notifications(arriving))
    );
    prop_assert_eq!(&output.graph, &model::graph(arriving));
    prop_assert_eq!(&output.traits, &model::traits(arriving));
    let log = model::check_event_log(&output.data("event"), settings().engine.hold, arriving);
    prop_assert_eq!(log, Ok(()));
    prop_assert_eq!(output.counts.received, arriving.len() as u64);
    prop_assert_eq!(output.counts.emitted, made as u64);
    prop_assert_eq!(output.counts.duplicates, (arriving.len() - made) as u64);
    Ok(())
}

/// When every event arrived first, and whether it is a thread's STARTED.
fn first_arrivals(arriving: &[Delivery]) -> BTreeMap<String, (ClockTime, bool)> {
    let mut first = BTreeMap::new();
    for Delivery {
        received_at, body, ..
    } in arriving
    {
        let threaded = body["eventThreadId"]
            .as_str()
            .is_some_and(|id| !id.is_empty());
        let started = threaded && body["eventThreadState"] == "STARTED";
        let at = ClockTime::from_utc(*received_at);
        first
            .entry(dedupe_key("sdm", body))
            .or_insert((at, started));
    }
    first
}

/// What the event log got in one instant.
struct Release {
    at: ClockTime,
    /// The key of the message that had just arrived, if one had.
    brought: Option<String>,
    events: Vec<Value>,
}

/// Runs messages one by one and timers one by one; returns each step that logged events.
fn releases(messages: Vec<Incoming>, arriving: &[Delivery]) -> (Vec<Release>, Output) {
    let mut run = Run::open(memory());
    let mut steps = Vec::new();
    let mut note = |at, brought, records: Vec<Value>| {
        let events = records
            .into_iter()
            .filter(|record| record["type"] == "hearthd.event");
        steps.push(Release {
            at,
            brought,
            events: events.collect(),
        });
    };
    for (message, delivery) in messages.into_iter().zip(arriving) {
        let at = ClockTime::from_utc(delivery.received_at);
        while let Some((due, records)) = run.timer(at) {
            note(due, None, records);
        }
        let records = run.batch(vec![message]).unwrap();
        note(at, Some(dedupe_key("sdm", &delivery.body)), records);
    }
    while let Some((due, records)) = run.timer(ClockTime(i64::MAX)) {
        note(due, None, records);
    }
    (steps, run.finish())
}

/// Checks that every event left when its own hold ended, or with a greater one whose time it was.
fn check_release(
    step: &Release,
    first: &BTreeMap<String, (ClockTime, bool)>,
    hold: Duration,
) -> Result<(), TestCaseError> {
    for (index, event) in step.events.iter().enumerate() {
        let key = event["id"].as_str().unwrap();
        let is_due = |event: &Value| {
            let (at, started) = first[event["id"].as_str().unwrap()];
            step.at == if started { at } else { at.after(hold) }
        };
        if event["data"]["late"] == true {
            prop_assert_eq!(step.brought.as_deref(), Some(key), "late, and not at once");
            continue;
        }
        let lane = &event["data"]["orderingKey"];
        let mut carriers = step.events[index..]
            .iter()
            .filter(|later| later["data"]["orderingKey"] == *lane);
        prop_assert!(
            carriers.any(is_due),
            "released at {:?} without cause: {}",
            step.at,
            event
        );
        let (at, _) = first[key];
        prop_assert!(step.at <= at.after(hold), "kept beyond its hold: {}", event);
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(75))]

    #[test]
    fn any_order_repetition_and_batching_ends_as_the_model_says(
        (made, one, two) in two_schedules()
    ) {
        let first = run_lines(&lines(&one.0), memory(), &one.1);
        check(&first, &one.0, made.len())?;
        let second = run_lines(&lines(&two.0), memory(), &two.1);
        check(&second, &two.0, made.len())?;
        prop_assert_eq!(first.converged(), second.converged());
    }

    #[test]
    fn an_event_is_released_when_its_hold_ends_and_a_started_on_arrival(
        (arriving, _) in one_schedule()
    ) {
        let first = first_arrivals(&arriving);
        let (steps, output) = releases(messages(&lines(&arriving)), &arriving);
        for step in &steps {
            check_release(step, &first, settings().engine.hold)?;
            let brought = step.brought.as_ref().filter(|key| first[*key] == (step.at, true));
            // A repeat in the instant of the first arrival brings nothing.
            let repeated = steps.iter().filter(|other| other.brought.as_ref() == brought).count();
            if let Some(key) = brought && repeated == 1 {
                let ids: Vec<_> = step.events.iter().map(|event| &event["id"]).collect();
                prop_assert!(ids.iter().any(|id| **id == *key), "STARTED waits: {key} {ids:?}");
            }
        }
        let logged: usize = steps.iter().map(|step| step.events.len()).sum();
        prop_assert_eq!(logged, first.len(), "every message once");
        prop_assert_eq!(&output.journal, &output.text);
    }

    #[test]
    fn batches_do_not_show((arriving, sizes) in one_schedule()) {
        let lines = lines(&arriving);
        let batched = run_lines(&lines, memory(), &sizes);
        let one_by_one = run_lines(&lines, memory(), &vec![1; lines.len()]);
        prop_assert_eq!(&batched.text, &one_by_one.text);
        let (_, with_timers) = releases(messages(&lines), &arriving);
        prop_assert_eq!(&batched.text, &with_timers.text);
    }
}

proptest! {
    #![proptest_config(config(20))]

    #[test]
    fn a_small_cache_does_not_show((arriving, _) in one_schedule(), entries in 0..3_usize) {
        let lines = lines(&arriving);
        let mut small = settings();
        small.engine.dedupe_cache = entries;
        let mut run = Run::open_with(memory(), small);
        for message in messages(&lines) {
            run.batch(vec![message]).unwrap();
        }
        prop_assert_eq!(&run.finish().text, &run_lines(&lines, memory(), &[lines.len()]).text);
    }

    #[test]
    fn a_full_buffer_loses_nothing_and_delays_no_more((arriving, _) in one_schedule()) {
        let lines = lines(&arriving);
        let mut small = settings();
        small.engine.max_pending = 3;
        let mut run = Run::open_with(memory(), small);
        for message in messages(&lines) {
            run.batch(vec![message]).unwrap();
        }
        let output = run.finish();
        let roomy = run_lines(&lines, memory(), &[lines.len()]);
        prop_assert_eq!(output.converged(), roomy.converged());
        prop_assert_eq!(output.counts.emitted, roomy.counts.emitted);
        prop_assert!(output.counts.late >= roomy.counts.late);
    }

    #[test]
    fn both_stores_keep_the_same_bytes((arriving, sizes) in one_schedule()) {
        let lines = lines(&arriving);
        let disk = Disk::new();
        let on_disk = run_lines(&lines, disk.store(), &sizes);
        let in_memory = run_lines(&lines, memory(), &sizes);
        prop_assert_eq!(&on_disk.text, &in_memory.text);
        prop_assert_eq!(&on_disk.journal, &on_disk.text);
        prop_assert_eq!(&in_memory.journal, &in_memory.text);
        prop_assert_eq!(&on_disk.graph, &in_memory.graph);
        prop_assert_eq!(&on_disk.traits, &in_memory.traits);
        prop_assert_eq!(json!(on_disk.stored), json!(in_memory.stored));
        prop_assert_eq!(json!(on_disk.stored), json!(on_disk.last_revisions()));
    }
}

/// What a batch adds to a cache drives out what the batch was not to ask the store for.
#[test]
fn a_cache_that_overflows_within_a_batch_does_not_show() {
    // More than the caches hold.
    const THREADS: usize = 5000;
    let line = |n: usize, id: &str, second: u32, state: &str| {
        let event = json!({
            "eventId": format!("{n}{id}"), "timestamp": format!("2025-06-09T13:52:{second:02}Z"),
            "eventThreadId": format!("t{n}"), "eventThreadState": state,
            "resourceUpdate": {"name": "enterprises/p/devices/d", "events": {}},
        });
        json!({"publishTime": "2025-06-09T13:52:20Z", "event": event}).to_string()
    };
    let mut lines: Vec<_> = (0..THREADS).map(|n| line(n, "a", 10, "STARTED")).collect();
    // Each of these is late.
    lines.push(line(THREADS, "a", 10, "STARTED"));
    lines.extend((0..THREADS).map(|n| line(n, "b", 5, "UPDATED")));
    let output = run_lines(&lines, memory(), &[THREADS, THREADS + 1]);
    assert_eq!(output.counts.late, THREADS as u64);
}

/// So many notifications that their timers, which after a night without power are all due, are too
/// many for one step.
const OPEN: usize = 3000;

/// A pipeline in which those are open, and the next morning.
fn the_night_before(store: Writer) -> (Pipeline, ClockTime) {
    let line = |n: usize| {
        let time = format!("2025-06-09T13:52:{:02}.{:03}Z", n / 1000, n % 1000);
        let event = json!({
            "timestamp": time, "eventThreadId": format!("t{n}"), "eventThreadState": "STARTED",
            "resourceUpdate": {"name": "enterprises/p/devices/d",
                "events": {"sdm.devices.events.CameraMotion.Motion": {"eventSessionId": "s"}}},
        });
        json!({"publishTime": time, "event": event}).to_string()
    };
    let lines: Vec<_> = (0..OPEN).map(line).collect();
    let mut pipeline = Pipeline::open(store, settings()).unwrap();
    let mut now = ClockTime::default();
    let arrivals = messages(&lines).into_iter().map(|message| {
        let (raw, decoded) = Pipeline::decode(&settings().decode, message);
        now = ClockTime::from_utc(raw.received_at.0.at());
        Arrival {
            at: now,
            raw,
            decoded,
        }
    });
    pipeline.step(arrivals.collect(), now).unwrap();
    (pipeline, now.after(Duration::from_secs(3600)))
}

#[test]
fn timers_that_are_due_at_once_run_in_parts_as_they_would_in_one() {
    let text = |pipeline: &Pipeline| {
        let rows = pipeline.store().journal(0, usize::MAX).unwrap();
        rows.into_iter().map(|row| row.line).collect::<Vec<_>>()
    };
    let (mut at_once, morning) = the_night_before(memory());
    assert_eq!(
        at_once.step(Vec::new(), morning).unwrap().tally.closed,
        OPEN as u64
    );
    let (mut in_parts, _) = the_night_before(memory());
    let mut parts = Vec::new();
    while let Some(until) = in_parts.overdue(morning).unwrap() {
        parts.push(in_parts.step(Vec::new(), until).unwrap().tally.closed);
    }
    parts.push(in_parts.step(Vec::new(), morning).unwrap().tally.closed);
    assert_eq!(text(&in_parts), text(&at_once));
    assert!(
        parts.len() > 1 && parts.iter().all(|closed| *closed < 1100),
        "{parts:?}"
    );
}

#[test]
fn a_store_that_failed_for_a_night_leaves_timers_that_run_in_parts() {
    let disk = Disk::new();
    let (mut pipeline, morning) = the_night_before(disk.store());
    let before = pipeline.overdue(morning).unwrap();
    let other = Connection::open(disk.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    pipeline.step(Vec::new(), morning).unwrap_err();
    drop(other);
    assert!(before.is_some());
    assert_eq!(pipeline.overdue(morning).unwrap(), before);
}

/// Where each resource is, as JSON.
fn places(pipeline: &Pipeline) -> BTreeMap<String, Value> {
    let resources = pipeline.engine().unwrap().resources();
    let place = |resource: Resource| {
        let place = serde_json::to_value(&resource.place).unwrap();
        (resource.name.to_string(), place)
    };
    resources.map(place).collect()
}

/// Steps with each message alone; what it tells of the graph must be all that changed there.
fn relations_are_what_changed(arriving: &[Delivery]) {
    let mut pipeline = Pipeline::open(memory(), settings()).unwrap();
    for message in messages(&lines(arriving)) {
        let before = places(&pipeline);
        let (raw, decoded) = Pipeline::decode(&settings().decode, message);
        let at = ClockTime::from_utc(raw.received_at.0.at());
        let arrival = Arrival { at, raw, decoded };
        let records = pipeline.step(vec![arrival], at).unwrap().records;
        let after = places(&pipeline);
        let names = before.keys().chain(after.keys()).cloned();
        let changed: BTreeSet<String> = names
            .filter(|name| before.get(name) != after.get(name))
            .collect();
        let relations = records
            .into_iter()
            .filter(|row| row.kind == RecordKind::Relation);
        let recorded: BTreeSet<String> = relations.map(|row| row.subject.clone()).collect();
        assert_eq!(recorded, changed);
    }
}

proptest! {
    #![proptest_config(config(128))]

    #[test]
    fn relation_records_tell_all_that_changes_in_the_graph((arriving, _) in one_schedule()) {
        relations_are_what_changed(&arriving);
    }
}
