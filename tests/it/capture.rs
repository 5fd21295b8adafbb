//! `hearthd capture`: what is written, what is acked, and how it ends.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hearthd::sources::capture;
use pubsub_test_server::{Message, Server};
use serde_json::Value;
use tempfile::TempDir;

use crate::crash::shim::Disk;
use crate::support::command::{Done, command, fixture, hearthd};
use crate::support::emulator::wait_until;

const SUBSCRIPTION: &str = "projects/test/subscriptions/hearthd";

/// For a capture to begin, to get its messages, or to end, on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// A server, and a folder for what is captured from it.
struct Bench {
    server: Server,
    folder: TempDir,
}

/// A capture that runs; killed when dropped.
struct Running(Child);

impl Bench {
    fn new() -> Self {
        Self {
            server: Server::start(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A capture into the file of that name.
    fn command(&self, name: &str, options: &[&str]) -> Command {
        let mut command = command(&["capture", "--output"]);
        command.arg(self.path(name)).args(options);
        command.env(
            "PUBSUB_EMULATOR_HOST",
            format!("127.0.0.1:{}", self.server.port()),
        );
        command.env("HEARTHD_PUBSUB__SUBSCRIPTION", SUBSCRIPTION);
        command
    }

    /// Runs a capture that ends by itself.
    fn capture(&self, name: &str, options: &[&str]) -> Done {
        self.start(name, options).wait()
    }

    fn start(&self, name: &str, options: &[&str]) -> Running {
        Running::start(self.command(name, options))
    }

    /// The ids of the messages that are in a file, which may be cut off.
    fn ids(&self, name: &str) -> Vec<String> {
        let messages = capture::open(&self.path(name)).unwrap();
        messages
            .map_while(Result::ok)
            .map(|message| message.raw.message_id.to_string())
            .collect()
    }
}

impl Running {
    fn start(mut command: Command) -> Self {
        Self(
            command
                .stdin(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        )
    }

    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    fn wait(mut self) -> Done {
        let ended = wait_until(LIMIT, || self.0.try_wait().unwrap().is_some());
        assert!(ended, "it did not end within {LIMIT:?}");
        let mut stderr = self.0.stderr.take().unwrap();
        let mut said = String::new();
        std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
        let code = self.0.wait().unwrap().code().unwrap();
        Done {
            code,
            stdout: String::new(),
            stderr: said,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn set(ids: &[String]) -> BTreeSet<String> {
    ids.iter().cloned().collect()
}

/// The last revision of every notification, but for what depends on when messages arrived.
fn notifications(capture: &Path, folder: &Path) -> Value {
    let last = folder.join("final.json");
    let options = ["replay", "--records=event", "--final"].map(Path::new);
    hearthd(&[&options[..], &[&last, capture]].concat()).ok();
    let mut notifications: Value = serde_json::from_slice(&fs::read(last).unwrap()).unwrap();
    for notification in notifications.as_array_mut().unwrap() {
        let notification = notification.as_object_mut().unwrap();
        for field in [
            "revision",
            "alert",
            "alertUntil",
            "structure",
            "room",
            "title",
        ] {
            assert!(notification.remove(field).is_some(), "{field}");
        }
    }
    notifications
}

#[test]
fn a_capture_replays_as_what_was_published() {
    let bench = Bench::new();
    let original = fixture("scenarios/long_day.jsonl");
    let mut messages: Vec<_> = capture::open(&original)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let mut seen = BTreeSet::new();
    messages.retain(|message| seen.insert(message.raw.message_id.clone()));
    let count = messages.len().to_string();
    bench
        .server
        .publish_messages(messages.into_iter().map(|message| Message {
            body: message.raw.body.to_vec(),
            id: Some(message.raw.message_id.to_string()),
            publish_time: Some(message.raw.publish_time.0.at().into()),
            ..Message::default()
        }));
    let expected = notifications(&original, bench.folder.path());
    for name in ["day.jsonl", "day.jsonl.gz", "day.jsonl.zst"] {
        let done = bench.capture(name, &["--count", &count]).ok();
        assert!(
            done.stderr.contains(&format!("{count} messages are in")),
            "{}",
            done.stderr
        );
        assert!(done.stderr.contains("given back"), "{}", done.stderr);
        assert!(bench.server.acked().is_empty());
        assert_eq!(
            notifications(&bench.path(name), bench.folder.path()),
            expected
        );
        let mode = bench.path(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_signal_completes_the_file_and_gives_everything_back() {
    for signal in ["TERM", "INT"] {
        let bench = Bench::new();
        // Else a message is free as soon as its stream ends, and needs no nack.
        bench.server.script(|faults| faults.hold_leases = true);
        let ids = bench.server.publish(["{}"; 50]);
        let running = bench.start("day.jsonl.gz", &[]);
        let held = || bench.server.log().delivered == 50 && bench.ids("day.jsonl.gz").len() == 50;
        let is_there = || bench.path("day.jsonl.gz").exists();
        assert!(wait_until(LIMIT, || is_there() && held()), "not captured");
        running.signal(signal);
        let done = running.wait().ok();
        assert!(done.stderr.contains("it was told to"), "{}", done.stderr);
        let messages: Result<Vec<_>, _> = capture::open(&bench.path("day.jsonl.gz"))
            .unwrap()
            .collect();
        assert_eq!(messages.unwrap().len(), 50, "the file is complete");
        assert_eq!(bench.server.unacked(), set(&ids));
        let nacked = bench.server.log().nacked;
        assert_eq!(set(&nacked), set(&ids), "they are nacked at once");
    }
}

#[test]
fn it_ends_when_no_more_may_be_held() {
    for ignores in [false, true] {
        let bench = Bench::new();
        bench
            .server
            .script(|faults| faults.ignore_flow_control = ignores);
        let ids = bench.server.publish(["{}"; 40]);
        let mut command = bench.command("day.jsonl", &[]);
        command.env("HEARTHD_PUBSUB__MAX_OUTSTANDING_MESSAGES", "20");
        let done = Running::start(command).wait().ok();
        assert!(
            done.stderr.contains("it ends after 20 of them"),
            "{}",
            done.stderr
        );
        assert!(
            done.stderr.contains("no more may be held"),
            "{}",
            done.stderr
        );
        assert_eq!(bench.ids("day.jsonl").len(), 20);
        assert_eq!(bench.server.unacked(), set(&ids));
    }
}

#[test]
fn with_ack_each_message_is_written_once_and_acked() {
    let bench = Bench::new();
    let first = bench.server.publish(["{}"; 30]);
    let running = bench.start("day.jsonl", &["--ack", "--count", "60"]);
    assert!(
        wait_until(LIMIT, || bench.server.acked_count() == 30),
        "not acked"
    );
    bench.server.redeliver_all();
    assert!(
        wait_until(LIMIT, || bench.server.acked_count() == 60),
        "not acked again"
    );
    let second = bench.server.publish(["{}"; 30]);
    running.wait().ok();
    assert_eq!(bench.ids("day.jsonl"), [first, second].concat());
    assert!(bench.server.unacked().is_empty());
}

#[test]
fn what_is_acked_is_in_the_file_whenever_it_dies() {
    for name in ["day.jsonl", "day.jsonl.gz", "day.jsonl.zst"] {
        let bench = Bench::new();
        bench
            .server
            .publish((0..2_000).map(|number| format!("{{\"n\":{number}}}")));
        let running = bench.start(name, &["--ack"]);
        assert!(
            wait_until(LIMIT, || bench.server.acked_count() > 0),
            "nothing is acked"
        );
        running.signal("KILL");
        drop(running);
        let (acked, written) = (bench.server.acked(), set(&bench.ids(name)));
        assert!(acked.len() < 2_000, "it died too late");
        assert!(
            acked.is_subset(&written),
            "{} acked, {} written",
            acked.len(),
            written.len()
        );
    }
}

#[test]
fn what_is_acked_is_in_the_file_when_the_power_fails() {
    for name in ["day.jsonl", "day.jsonl.gz", "day.jsonl.zst"] {
        let bench = Bench::new();
        let disk = Disk::new(&bench.path(name));
        bench
            .server
            .publish((0..200).map(|number| format!("{{\"n\":{number}}}")));
        let mut command = bench.command(name, &["--ack"]);
        command.envs(disk.environment(None));
        let running = Running::start(command);
        assert!(
            wait_until(LIMIT, || bench.server.acked_count() > 0),
            "nothing is acked"
        );
        running.signal("KILL");
        drop(running);
        disk.lose_power(None);
        assert!(bench.path(name).exists(), "its name is lost");
        let (acked, written) = (bench.server.acked(), set(&bench.ids(name)));
        assert!(
            acked.is_subset(&written),
            "{} acked, {} written",
            acked.len(),
            written.len()
        );
    }
}

#[test]
fn it_ends_after_its_time() {
    let bench = Bench::new();
    bench.server.publish(["{}"; 3]);
    let done = bench.capture("day.jsonl", &["--for", "3s"]).ok();
    assert!(done.stderr.contains("the time is over"), "{}", done.stderr);
    assert_eq!(bench.ids("day.jsonl").len(), 3);
}

#[test]
fn a_file_that_exists_is_refused_before_anything_is_pulled() {
    let bench = Bench::new();
    bench.server.publish(["{}"]);
    fs::write(bench.path("day.jsonl"), "kept").unwrap();
    let done = bench.capture("day.jsonl", &["--ack"]);
    assert_eq!(done.code, 1);
    assert!(
        done.stderr.contains("name a file that doesn't exist yet"),
        "{}",
        done.stderr
    );
    assert_eq!(fs::read_to_string(bench.path("day.jsonl")).unwrap(), "kept");
    assert_eq!(bench.server.open_count(), 0);
}

#[test]
fn a_bad_key_is_a_fault_of_the_settings() {
    let bench = Bench::new();
    let mut command = bench.command("day.jsonl", &[]);
    command.env_remove("PUBSUB_EMULATOR_HOST");
    command.env("HEARTHD_PUBSUB__ENDPOINT", bench.server.url());
    command.env(
        "HEARTHD_PUBSUB__CREDENTIALS_FILE",
        bench.path("absent.json"),
    );
    let done = Running::start(command).wait();
    assert_eq!(done.code, 78, "{}", done.stderr);
    assert!(done.stderr.contains("absent.json"), "{}", done.stderr);
    assert!(
        !bench.path("day.jsonl").exists(),
        "nothing stands in the way of the next attempt"
    );
}
