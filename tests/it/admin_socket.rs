//! What operators change while the service runs: the real binary, asked by the real commands over
//! the socket beside its store.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use hearthd::store::{DeadLetter, DeadLetterReason, Settlement};
use pubsub_test_server::{Message, Server};
use serde_json::Value;

use crate::support::command::{Done, hearthd};
use crate::support::daemon::{EXIT_LIMIT, Home, Service};
use crate::support::replay::open_sqlite;
use crate::support::store::Writable as _;

/// For messages to come in on a slow machine.
const LIMIT: Duration = Duration::from_secs(30);

fn command(home: &Home, arguments: &[&str]) -> Done {
    let store = home.store();
    let settings = home.path("hearthd.toml");
    let mut all: Vec<&str> = arguments.to_vec();
    all.extend(["--config", settings.to_str().unwrap()]);
    assert!(store.exists());
    hearthd(&all)
}

fn ids(home: &Home, list: &str) -> Vec<i64> {
    let rows = command(home, &[list, "--format", "json"]).ok().stdout;
    let row = |line| serde_json::from_str::<Value>(line).unwrap();
    rows.lines()
        .map(|line| row(line)["id"].as_i64().unwrap())
        .collect()
}

fn socket(home: &Home) -> PathBuf {
    home.path("hearthd.db.sock")
}

/// A service with three messages in quarantine.
fn start(home: &Home, server: &Server) -> Service {
    for body in ["1", "2", "3"] {
        server.publish_messages([Message {
            body: body.as_bytes().to_vec(),
            ..Message::default()
        }]);
    }
    let service = home.start("run");
    service.wait_for(LIMIT, |service| {
        service.metric("hearthd_messages_quarantined_total") == 3
    });
    service
}

#[test]
fn quarantine_is_changed_while_the_service_runs() {
    let server = Server::start();
    let host = format!("127.0.0.1:{}", server.port());
    let home = Home::new(&host, "projects/test/subscriptions/hearthd");
    let service = start(&home, &server);
    let mode = socket(&home).metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for its owner alone");
    assert_eq!(ids(&home, "quarantine"), [1, 2, 3]);

    let done = command(&home, &["quarantine", "drop", "1"]).ok();
    assert_eq!(done.stdout, "1 message dropped\n");
    let done = command(&home, &["quarantine", "retry", "2"]).ok();
    assert!(
        done.stdout.starts_with("2  is in quarantine again as 4: "),
        "{}",
        done.stdout
    );
    assert_eq!(ids(&home, "quarantine"), [3, 4]);
    let done = command(&home, &["quarantine", "drop", "9"]);
    assert_eq!(done.code, 1, "a slip of the hand changes nothing");
    // What was retried counts as received again.
    service.wait_for(LIMIT, |service| {
        service.metric("hearthd_messages_quarantined_total") == 4
    });
    assert_eq!(service.metric("hearthd_conservation_imbalance"), 0);
    service.stop();
    assert!(!socket(&home).exists(), "nobody answers there any more");
    assert_eq!(ids(&home, "quarantine"), [3, 4], "it was committed");
}

#[test]
fn dead_letters_are_dropped_while_the_service_runs() {
    let home = Home::without_server();
    let mut store = open_sqlite(&home.store());
    let letter = |sequence| DeadLetter {
        sequence,
        reason: DeadLetterReason::Refused,
        detail: "400 Bad Request".to_owned(),
        line: "{}".to_owned(),
    };
    let settlement = Settlement {
        sink: "crm".to_owned(),
        cursor: 2,
        dead_letters: vec![letter(1), letter(2)],
        ..Settlement::default()
    };
    store.settle(settlement).unwrap();
    drop(store);
    let mut service = home.start("run");
    assert_eq!(ids(&home, "dead-letters"), [1, 2]);
    let done = command(&home, &["dead-letters", "drop", "--all"]).ok();
    assert_eq!(done.stdout, "2 dead letters dropped\n");
    // Killed, it leaves the socket, which the next start replaces.
    service.kill();
    service.wait_for_exit(EXIT_LIMIT);
    assert!(socket(&home).exists());
    assert!(ids(&home, "dead-letters").is_empty());
    let service = home.start("again");
    let done = command(&home, &["quarantine", "drop", "--all"]).ok();
    assert_eq!(done.stdout, "0 messages dropped\n");
    service.stop();
}
