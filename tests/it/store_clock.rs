//! A wall clock that jumps: nothing is forgotten, the service says what is wrong, and recovers.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use hearthd::event::Timestamp;
use hearthd::store::Reader;
use pubsub_test_server::Server;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::crash::shim::wrong_clock;
use super::support::command::{Done, command};
use super::support::daemon::{Home, Service};
use super::support::emulator::wait_until;
use super::support::store::Readable as _;

const SUBSCRIPTION: &str = "projects/test/subscriptions/hearthd";

/// Longest wait for anything; all of it takes seconds.
const LIMIT: Duration = Duration::from_secs(30);

const YEAR: i64 = 365 * 24 * 3600;

/// A service whose clock jumps, and what was published to it.
struct Trial {
    server: Server,
    home: Home,
    published: usize,
}

impl Trial {
    fn new() -> Self {
        let server = Server::start();
        let home = Home::new(&format!("127.0.0.1:{}", server.port()), SUBSCRIPTION);
        Self {
            server,
            home,
            published: 0,
        }
    }

    /// Starts the service with its wall clock that far ahead, in seconds.
    fn start(&mut self, run: &str, ahead: i64) -> Service {
        self.home.environment.extend(self.clock(run, ahead));
        self.home.start(run)
    }

    fn clock(&self, run: &str, ahead: i64) -> BTreeMap<String, String> {
        wrong_clock(ahead, &self.home.path(&format!("{run}.set")))
    }

    /// Publishes doorbells that ring now, and waits until they are acked.
    fn ring(&mut self, count: usize) {
        let bodies: Vec<_> = (self.published..self.published + count)
            .map(|number| doorbell(number).to_string())
            .collect();
        self.published += count;
        self.server.publish(bodies);
        self.drain();
    }

    fn drain(&self) {
        let drained = wait_until(LIMIT, || self.server.unacked().is_empty());
        assert!(drained, "messages are not acked");
    }

    /// Delivers everything again, to a service that must know it.
    fn redeliver(&self, service: &Service) {
        let duplicates = || service.metric("hearthd_messages_duplicate_total");
        let expected = duplicates() + self.published as u64;
        self.server.redeliver_all();
        self.drain();
        service.wait_for(LIMIT, |_| duplicates() >= expected);
        assert_eq!(duplicates(), expected);
    }

    /// Dedupe keys and journal records that are kept.
    fn kept(&self) -> [i64; 2] {
        let store = Connection::open(self.home.store()).unwrap();
        ["payloads", "journal"].map(|table| {
            let count = format!("SELECT count(*) FROM {table}");
            store.query_row(&count, [], |row| row.get(0)).unwrap()
        })
    }

    fn doctor(&self, run: &str, ahead: i64) -> Done {
        let output = command(&["doctor", "--config"])
            .arg(self.home.path("hearthd.toml"))
            .envs(&self.home.environment)
            .envs(self.clock(run, ahead))
            .output()
            .unwrap();
        Done::from(output)
    }
}

/// A ring of now, in a session of its own.
fn doorbell(number: usize) -> Value {
    json!({
        "eventId": format!("event-{number}"),
        "timestamp": Timestamp::from_utc(now()).to_string(),
        "resourceUpdate": {
            "name": "enterprises/p/devices/d",
            "events": {"sdm.devices.events.DoorbellChime.Chime": {
                "eventSessionId": format!("session-{number}"),
                "eventId": format!("n:{number}"),
            }}
        },
        "userId": "AVPHwE-u1",
        "resourceGroup": ["enterprises/p/devices/d"],
    })
}

fn now() -> chrono::DateTime<chrono::Utc> {
    hearthd::clock::Clock::start(hearthd::event::ClockTime::default()).wall_now()
}

/// The times at which the journal says that events were received.
fn receipts(records: &[Value]) -> Vec<Timestamp> {
    let events = records
        .iter()
        .filter(|record| record["type"] == "hearthd.event");
    events
        .map(|record| Timestamp::parse(record["data"]["receivedAt"].as_str().unwrap()).unwrap())
        .collect()
}

fn rings(records: &[Value]) -> usize {
    let rings = records.iter().filter(|record| {
        record["type"] == "hearthd.notification" && record["data"]["alert"] == true
    });
    rings.count()
}

/// One run with the clock that far off, after one with the right time and before another one.
fn a_jump_for_one_start(ahead: i64) {
    let mut trial = Trial::new();
    let service = trial.start("before", 0);
    trial.ring(5);
    service.wait_for(LIMIT, Service::has_settled);
    service.stop();
    let before = trial.kept();
    assert!(before[0] >= 5 && before[1] >= 10, "{before:?}");

    let service = trial.start("jump", ahead);
    trial.ring(2);
    service.wait_for(LIMIT, Service::has_settled);
    trial.redeliver(&service);
    assert_eq!(service.metric("hearthd_clock_doubted"), 1);
    let log = service.log();
    assert!(
        log.contains("clock is too far from the last time in the store"),
        "{log}"
    );
    service.stop();
    let jump = trial.kept();
    assert_eq!(jump[0], before[0] + 2, "a dedupe key of each payload");
    assert!(jump[1] >= before[1] + 4, "{jump:?} after {before:?}");
    let records = trial.home.records(&["jump"]);
    assert_eq!(rings(&records), 2, "{records:?}");
    for received in receipts(&records) {
        let off = (received.at() - now()).abs();
        assert!(off < chrono::TimeDelta::minutes(5), "{received}");
    }
    let doctor = trial.doctor("jump", ahead);
    let clock = doctor.stdout.lines().find(|line| line.contains("  clock "));
    assert!(
        doctor.code == 1
            && clock.is_some_and(|line| line.starts_with("fail")
                && line.contains("too far from the last time in the store")),
        "{doctor:?}"
    );

    let service = trial.start("after", 0);
    trial.redeliver(&service);
    trial.ring(1);
    service.wait_for(LIMIT, Service::has_settled);
    assert_eq!(service.metric("hearthd_clock_doubted"), 0);
    assert!(!service.log().contains("too far"), "{}", service.log());
    service.stop();
    let after = trial.kept();
    assert_eq!(after[0], jump[0] + 1);
    assert!(after[1] > jump[1]);
    let reader = Reader::open(&trial.home.store()).unwrap();
    assert_eq!(reader.journal(0, 1).unwrap()[0].sequence, 1);
}

#[test]
fn a_clock_three_years_ahead_for_one_start_takes_nothing_away() {
    a_jump_for_one_start(3 * YEAR);
}

#[test]
fn a_clock_a_year_behind_for_one_start_takes_nothing_away() {
    a_jump_for_one_start(-YEAR);
}

#[test]
fn a_clock_that_is_set_while_it_runs_is_believed_at_the_next_message() {
    let mut trial = Trial::new();
    let service = trial.start("before", 0);
    trial.ring(1);
    service.stop();
    let service = trial.start("jump", 3 * YEAR);
    service.wait_for(LIMIT, |service| {
        service.metric("hearthd_clock_doubted") == 1
    });
    fs::write(trial.home.path("jump.set"), "").unwrap();
    trial.ring(1);
    service.wait_for(LIMIT, |service| {
        service.metric("hearthd_clock_doubted") == 0
    });
    assert!(service.log().contains("is confirmed"), "{}", service.log());
    trial.redeliver(&service);
    service.stop();
}

#[test]
fn an_operator_may_say_that_the_clock_is_right() {
    let mut trial = Trial::new();
    let service = trial.start("before", 0);
    trial.ring(1);
    service.wait_for(LIMIT, Service::has_settled);
    service.stop();
    trial.home.arguments.push("--trust-clock".to_owned());
    let service = trial.start("jump", 3 * YEAR);
    service.wait_for(LIMIT, |service| service.metric("hearthd_store_bytes") > 0);
    assert_eq!(service.metric("hearthd_clock_doubted"), 0);
    assert!(!service.log().contains("too far"), "{}", service.log());
    service.wait_for(LIMIT, |_| trial.kept() == [0, 0]);
    service.stop();
}
