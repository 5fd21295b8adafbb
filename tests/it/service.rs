//! The whole service: the real binary, the official emulator, and the long day.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::Datelike as _;
use hearthd::event::Timestamp;
use hearthd::sources::capture;
use serde_json::{Value, json};

use crate::support::command::{command, fixture, hearthd};
use crate::support::daemon::{Home, Service, promtool_is_content};
use crate::support::emulator::{Emulator, wait_until};
use crate::support::oracle::{Expected, assert_repeats_are_equal, event_ids};

const TOPIC: &str = "projects/test/topics/home";
const SUBSCRIPTION: &str = "projects/test/subscriptions/hearthd";

/// A second subscription, by which the test sees what Pub/Sub made of the messages.
const MIRROR: &str = "projects/test/subscriptions/mirror";

const LONG_DAY: &str = "scenarios/long_day.jsonl";

/// For all messages to come in and all timers to run out, on a slow machine.
const SETTLE_LIMIT: Duration = Duration::from_secs(90);

/// The payloads of the long day, one in five twice, shuffled.
fn disturbed_payloads(seed: u64) -> Vec<Vec<u8>> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut payloads = Vec::new();
    for message in capture::open(&fixture(LONG_DAY)).unwrap() {
        let body = message.unwrap().raw.body.to_vec();
        // Without a time of its own an event takes publishTime's, in which its copies differ.
        if rng.f64() < 0.2 && has_time(&body) {
            payloads.push(body.clone());
        }
        payloads.push(body);
    }
    rng.shuffle(&mut payloads);
    payloads
}

fn has_time(body: &[u8]) -> bool {
    let payload: Value = serde_json::from_slice(body).unwrap_or_default();
    let time = payload["timestamp"].as_str().and_then(Timestamp::parse);
    time.is_some_and(|time| time.at().year() == 2025)
}

/// What `replay` makes of the messages that are in the mirror.
fn expected(emulator: &Emulator, home: &Home, count: usize) -> Expected {
    Expected::replay(home, &mirrored(emulator, count))
}

/// The messages as capture lines.
fn mirrored(emulator: &Emulator, count: usize) -> String {
    let mut lines = BTreeMap::new();
    let complete = wait_until(SETTLE_LIMIT, || {
        let pulled = emulator.pull(MIRROR, 1000);
        emulator.ack(MIRROR, &pulled);
        for message in pulled {
            let data = BASE64.encode(&message.data);
            // As the service writes it, whose transport has numbers.
            let time = Timestamp::parse(&message.publish_time).unwrap().at();
            let (id, time) = (message.message_id, Timestamp::from_utc(time).to_string());
            let line = json!({"message": {"messageId": id, "publishTime": time, "data": data}});
            lines.insert((time, id), line.to_string());
        }
        lines.len() == count
    });
    assert!(complete, "{} of {count} messages", lines.len());
    lines.into_values().collect::<Vec<_>>().join("\n")
}

fn assert_equal(home: &Home, expected: &Expected, records: &[Value]) {
    assert_eq!(event_ids(records), expected.event_ids);
    expected.assert_converged(home);
    // After a restart a record may come twice.
    assert_repeats_are_equal(records);
}

/// An emulator with the long day in it.
fn emulator_with(payloads: &[Vec<u8>]) -> Option<Emulator> {
    let emulator = Emulator::start()?;
    emulator.create_topic(TOPIC);
    emulator.create_subscription(SUBSCRIPTION, TOPIC);
    emulator.create_subscription(MIRROR, TOPIC);
    emulator.publish(TOPIC, payloads);
    Some(emulator)
}

#[test]
fn the_long_day_ends_as_its_replay_does() {
    let payloads = disturbed_payloads(1);
    let Some(emulator) = emulator_with(&payloads) else {
        return;
    };
    let home = Home::new(&emulator.host(), SUBSCRIPTION);
    let expected = expected(&emulator, &home, payloads.len());
    let service = home.start("run");
    let received = payloads.len() as u64;
    service.wait_for(SETTLE_LIMIT, |service| {
        service.metric("hearthd_messages_received_total") >= received && service.has_settled()
    });
    assert_eq!(service.metric("hearthd_conservation_imbalance"), 0);
    assert_eq!(service.metric("hearthd_messages_received_total"), received);
    assert_eq!(service.get("/livez").as_deref(), Some("ok\n"));
    check_metrics(&service, &home);
    let log = service.log();
    service.stop();
    assert_equal(&home, &expected, &home.records(&["run"]));
    assert_eq!(emulator.unacked(SUBSCRIPTION).len(), 0);
    assert_no_personal_data(&log, &expected);
}

#[test]
fn a_stop_in_the_middle_changes_nothing() {
    let payloads = disturbed_payloads(2);
    let Some(emulator) = emulator_with(&payloads) else {
        return;
    };
    let home = Home::new(&emulator.host(), SUBSCRIPTION);
    let expected = expected(&emulator, &home, payloads.len());
    let service = home.start("first");
    service.wait_for(SETTLE_LIMIT, |service| {
        service.metric("hearthd_messages_received_total") > 0
    });
    service.stop();
    let before = event_ids(&home.records(&["first"]));
    assert!(
        before.len() < expected.event_ids.len(),
        "it was not stopped in the middle"
    );

    let service = home.start("second");
    service.wait_for(SETTLE_LIMIT, |service| {
        // The emulator may have leased messages to the stream that ended.
        emulator.release(SUBSCRIPTION);
        let records = home.records(&["first", "second"]);
        service.has_settled() && event_ids(&records) == expected.event_ids
    });
    assert_eq!(service.metric("hearthd_conservation_imbalance"), 0);
    // What was released last may have come again, and is acked again.
    assert!(wait_until(SETTLE_LIMIT, || emulator
        .unacked(SUBSCRIPTION)
        .is_empty()));
    service.stop();
    assert_equal(&home, &expected, &home.records(&["first", "second"]));
    assert_eq!(emulator.unacked(SUBSCRIPTION).len(), 0);
}

fn check_metrics(service: &Service, home: &Home) {
    let scrape = home.path("scrape.txt");
    fs::write(&scrape, service.get("/metrics").unwrap()).unwrap();
    let Some(output) = promtool_is_content(&scrape) else {
        crate::support::skip(
            "promtool",
            "install Debian's prometheus, or run scripts/test",
        );
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

/// The log of a run at `info` names no user, clip or device.
fn assert_no_personal_data(log: &str, expected: &Expected) {
    assert!(log.contains("started"), "{log}");
    for notification in expected.notifications.as_array().unwrap() {
        let users = notification["userIds"].as_array().unwrap().iter();
        let clips = notification["clips"].as_array().unwrap().iter();
        let clips = clips.map(|clip| &clip["previewUrl"]);
        for secret in users.chain(clips).chain([&notification["resource"]]) {
            assert!(
                !log.contains(secret.as_str().unwrap()),
                "{secret} is in the log"
            );
        }
    }
}

#[test]
fn a_second_service_on_one_store_is_refused() {
    let Some(emulator) = emulator_with(&[]) else {
        return;
    };
    let home = Home::new(&emulator.host(), SUBSCRIPTION);
    let service = home.start("first");
    let second = command(&["run", "--config"])
        .arg(home.path("hearthd.toml"))
        .env("PUBSUB_EMULATOR_HOST", emulator.host())
        .output()
        .unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("is in use by another process"), "{said}");
    service.stop();
}

#[test]
fn publish_makes_topic_and_subscription_and_sends_every_line() {
    let Some(emulator) = Emulator::start() else {
        return;
    };
    let capture = fixture(LONG_DAY);
    let arguments = ["publish", "--topic", TOPIC, "--create", MIRROR];
    let publish = |arguments: &[&str]| {
        let mut command = command(arguments);
        command
            .arg(&capture)
            .env("PUBSUB_EMULATOR_HOST", emulator.host())
            .output()
            .unwrap()
    };
    let done = publish(&arguments);
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(
        done.status.success() && said.contains("published 889 messages"),
        "{said}"
    );
    assert_eq!(mirrored(&emulator, 889).lines().count(), 889);

    let wrong = publish(&["publish", "--topic", SUBSCRIPTION]);
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert_eq!(wrong.status.code(), Some(64), "{said}");
    assert!(said.contains("projects/{project}/topics/{id}"), "{said}");
}

#[test]
fn publish_refuses_google_without_a_yes() {
    let done = hearthd(&[
        "publish",
        "--topic",
        TOPIC,
        fixture(LONG_DAY).to_str().unwrap(),
    ]);
    assert_eq!(done.code, 1);
    assert!(
        done.stderr.contains("PUBSUB_EMULATOR_HOST"),
        "{}",
        done.stderr
    );
}
