//! The real binary against a Pub/Sub server that fails: after each fault nothing is lost, nothing
//! is emitted twice under different ids, no message is missing in the counts, and no restart was
//! needed.

mod acks;
mod below_grpc;
mod credentials;
mod disk;
mod floods;
mod statuses;
mod streams;
mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pubsub_test_server::Server;
use serde_json::json;

use crate::support::daemon::{Home, Service};
use crate::support::emulator::wait_until;
use crate::support::model::dedupe_key;

const SUBSCRIPTION: &str = "projects/test/subscriptions/hearthd";

/// Longest wait for the service to notice a fault, to recover, or to drain. With the times of these
/// trials each takes seconds; the rest is for a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Times that make faults pass in seconds; production waits longer.
const QUICK: [(&str, &str); 4] = [
    ("HEARTHD_PUBSUB__REOPEN_BACKOFF_MIN", "100ms"),
    ("HEARTHD_PUBSUB__REOPEN_BACKOFF_MAX", "500ms"),
    ("HEARTHD_PUBSUB__PROBE_INTERVAL", "500ms"),
    ("HEARTHD_REORDER__HOLD", "100ms"),
];

/// A service on a test server, and what was published to it.
struct Trial {
    server: Server,
    service: Service,
    home: Home,
    /// The ids that event records must have.
    expected: BTreeSet<String>,
}

impl Trial {
    /// Starts the service on a server that is already in trouble, or not.
    fn start(server: Server) -> Self {
        let home = home(&format!("127.0.0.1:{}", server.port()));
        Self::with(server, home)
    }

    /// The same with settings of its own.
    fn with(server: Server, home: Home) -> Self {
        let service = home.start("run");
        Self {
            server,
            service,
            home,
            expected: BTreeSet::new(),
        }
    }

    /// Publishes events that nobody published before.
    fn publish(&mut self, count: usize) -> Vec<String> {
        let bodies = self.bodies(count);
        self.server.publish(bodies)
    }

    /// Events that nobody published before, which are expected from now on.
    fn bodies(&mut self, count: usize) -> Vec<String> {
        let from = self.expected.len();
        let bodies = (from..from + count).map(|number| {
            let body = event(number);
            self.expected.insert(dedupe_key("sdm", &body));
            body.to_string()
        });
        bodies.collect()
    }

    /// Waits until a series of the metrics has such a value.
    fn wait_for(&self, series: &str, is_met: impl Fn(u64) -> bool) {
        let met = wait_until(LIMIT, || is_met(self.service.series(series)));
        let value = self.service.series(series);
        assert!(
            met,
            "{series} is {value} after {LIMIT:?}:\n{}",
            self.service.log()
        );
    }

    /// Waits until a condition on the server holds.
    fn wait_for_server(&self, what: &str, condition: impl Fn(&Server) -> bool) {
        let met = wait_until(LIMIT, || condition(&self.server));
        assert!(met, "not within {LIMIT:?}: {what}\n{}", self.service.log());
    }

    /// Waits until every message is acked and its record delivered.
    fn drain(&self) {
        self.wait_for_server("every message is acked", |server| {
            server.unacked().is_empty()
        });
        let emitted = "hearthd_events_emitted_total{platform=\"sdm\"}";
        let expected = self.expected.len() as u64;
        self.wait_for(emitted, |emitted| emitted >= expected);
        self.wait_for(
            "hearthd_pubsub_outstanding_messages{source=\"pubsub\"}",
            |outstanding| outstanding == 0,
        );
    }

    /// How many streams it is to have: one, unless its settings say otherwise.
    fn streams(&self) -> u64 {
        let setting = self.home.environment.get("HEARTHD_PUBSUB__STREAMS");
        setting.map_or(1, |streams| streams.parse().unwrap())
    }

    /// The end of every trial: more messages come through, and the records are right.
    fn finish(mut self) {
        self.publish(3);
        self.drain();
        let streams = self.streams();
        self.wait_for("hearthd_pubsub_stream_up{source=\"pubsub\"}", |up| {
            up == streams
        });
        assert_eq!(self.service.series("hearthd_conservation_imbalance"), 0);
        let emitted = self
            .service
            .series("hearthd_events_emitted_total{platform=\"sdm\"}");
        assert_eq!(emitted, self.expected.len() as u64);
        self.service.stop();
        assert_eq!(event_ids(&self.home, &["run"]), self.expected);
    }
}

/// The ids of the event records that runs delivered. Those of one id must be equal.
fn event_ids(home: &Home, runs: &[&str]) -> BTreeSet<String> {
    let mut records = BTreeMap::new();
    for record in home.records(runs) {
        if record["type"] == "hearthd.event" {
            let earlier = records.insert(record["id"].to_string(), record.clone());
            assert!(earlier.is_none_or(|earlier| earlier == record), "{record}");
        }
    }
    let ids = records.keys().map(|id| id.trim_matches('"').to_owned());
    ids.collect()
}

/// A home for a service on the server at `host`, with quick times.
fn home(host: &str) -> Home {
    let mut home = Home::new(host, SUBSCRIPTION);
    let quick = QUICK.map(|(name, value)| (name.to_owned(), value.to_owned()));
    home.environment.extend(quick);
    home
}

/// One of many motions, each in a session of its own.
fn event(number: usize) -> serde_json::Value {
    json!({
        "eventId": format!("event-{number}"),
        "timestamp": format!("2025-06-09T13:{:02}:{:02}.{:03}Z",
            number / 60_000 % 60, number / 1000 % 60, number % 1000),
        "resourceUpdate": {
            "name": "enterprises/p/devices/d",
            "events": {"sdm.devices.events.CameraMotion.Motion": {
                "eventSessionId": format!("session-{number}"),
                "eventId": format!("n:{number}"),
            }}
        },
        "userId": "AVPHwE-u1",
        "resourceGroup": ["enterprises/p/devices/d"],
    })
}
