//! `hearthd graph`, `device`, `notifications` and `records` against a store that `replay` made.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::command::{Done, command, fixture, hearthd, hearthd_reading};
use super::support::emulator::wait_until;

/// Longest wait for what takes milliseconds on an idle machine.
const LIMIT: Duration = Duration::from_secs(30);

/// More lines than a test makes a follower print.
const LINES_AHEAD: usize = 1000;

struct Kept {
    folder: TempDir,
    store: PathBuf,
}

impl Kept {
    fn new(scenario: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("hearthd.db");
        let kept = Self { folder, store };
        kept.replay(&fixture(scenario).display().to_string());
        kept
    }

    /// Plays another file into the store; returns what it added to the journal.
    fn replay(&self, file: &str) -> String {
        let store = self.store.to_str().unwrap();
        hearthd(&["replay", "--state", store, file]).ok().stdout
    }

    fn arguments<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        [arguments, &["--store", self.store.to_str().unwrap()]].concat()
    }

    fn run(&self, arguments: &[&str]) -> Done {
        hearthd(&self.arguments(arguments))
    }

    fn follow(&self, arguments: &[&str]) -> Follower {
        let arguments = self.arguments(&[&["records", "--follow"], arguments].concat());
        let mut command = command(&arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = child.stdout.take().unwrap();
        Follower {
            child,
            output: Some(output),
        }
    }
}

struct Follower {
    child: Child,
    output: Option<ChildStdout>,
}

impl Follower {
    /// The lines as they come, from a thread, so that waiting for one has a limit.
    fn lines(&mut self) -> Receiver<String> {
        let (sender, lines) = mpsc::sync_channel(LINES_AHEAD);
        let output = self.output.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                sender.send(line.unwrap()).ok();
            }
        });
        lines
    }

    fn exit_code(&mut self) -> Option<i32> {
        let child = &mut self.child;
        assert!(
            wait_until(LIMIT, || child.try_wait().unwrap().is_some()),
            "it goes on"
        );
        child.wait().unwrap().code()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn the_graph_is_shown_in_three_ways() {
    let kept = Kept::new("scenarios/s7_relations.jsonl");
    kept.replay(&fixture("scenarios/long_day.jsonl").display().to_string());
    let tree = kept.run(&["graph"]).ok().stdout;
    let expected = "\
Maple house (structure)
├── Bedroom (room)
│   ├── Attic thermostat (device)
│   └── Nursery (device)
├── Garage (room)
│   └── Garage (device)
";
    assert!(tree.starts_with(expected), "{tree}");
    let json_text = kept.run(&["graph", "--format", "json"]).ok().stdout;
    let graph: Value = serde_json::from_str(&json_text).unwrap();
    let resources = graph["resources"].as_array().unwrap();
    assert_eq!(tree.lines().count(), resources.len());
    let dot = kept.run(&["graph", "--format", "dot"]).ok().stdout;
    assert_eq!(dot.matches(" [label=").count(), resources.len());
    assert_eq!(
        dot.matches(" -> ").count(),
        resources.len() - 1,
        "all but the structure"
    );
    // The same as what replay writes, byte for byte.
    let file = kept.folder.path().join("graph.json");
    let file = file.to_str().unwrap();
    let store = kept.store.to_str().unwrap();
    let replay = ["replay", "--state", store, "--graph", file, "-"];
    hearthd_reading(b"", &replay).ok();
    assert_eq!(fs::read_to_string(file).unwrap(), json_text);
}

#[test]
fn a_device_is_found_by_its_name_or_the_end_of_it() {
    let kept = Kept::new("scenarios/long_day.jsonl");
    let full = "enterprises/project-1/devices/thermostat-hall";
    let text = kept.run(&["device", "thermostat-hall"]).ok().stdout;
    let expected = "\
Hall thermostat
  name       enterprises/project-1/devices/thermostat-hall
  structure  Maple house (enterprises/project-1/structures/maple-house)
  room       Living room (enterprises/project-1/structures/maple-house/rooms/living-room)
  users      2
  updated    2025-09-06T23:47:14.274595Z

sdm.devices.traits.AirQuality
  level  2025-09-06T16:11:09.118202Z  \"GOOD\"
";
    assert!(text.starts_with(expected), "{text}");
    assert_eq!(kept.run(&["device", full]).ok().stdout, text);
    let device = kept.run(&["device", full, "--format", "json"]).ok().stdout;
    let device: Value = serde_json::from_str(&device).unwrap();
    let humidity = &device["traits"]["sdm.devices.traits.Humidity"]["ambientHumidityPercent"];
    assert_eq!(
        *humidity,
        json!({"value": 48.0, "time": "2025-09-06T23:42:57.684467Z"})
    );
    assert_eq!(device["displayName"], "Hall thermostat");
}

#[test]
fn a_device_that_is_not_there_or_not_the_only_one_is_an_error() {
    let kept = Kept::new("scenarios/long_day.jsonl");
    let long = "x".repeat(5000);
    let room = "enterprises/project-1/structures/maple-house/rooms/living-room";
    for name in ["nobody", "enterprises/project-1/devices/nobody", room] {
        let done = kept.run(&["device", name]);
        assert_eq!((done.code, done.stdout.as_str()), (1, ""));
        let expected = format!(
            "hearthd: there is no device {name:?} in the store: `hearthd graph --format json` \
             lists all names\n"
        );
        assert_eq!(done.stderr, expected);
    }
    for name in ["", &long] {
        let done = kept.run(&["device", name]);
        assert!(
            done.stderr.contains("expected 1 to 4096 bytes"),
            "{}",
            done.stderr
        );
    }
    let more = r#"{"eventId":"e","timestamp":"2025-09-07T08:00:00Z","relationUpdate":{"type":"CREATED","subject":"","object":"enterprises/p2/devices/garage"}}"#;
    let file = kept.folder.path().join("more.jsonl");
    fs::write(&file, more).unwrap();
    kept.replay(file.to_str().unwrap());
    let done = kept.run(&["device", "garage"]);
    let expected = "hearthd: \"garage\" is the end of several names: \
                    enterprises/p2/devices/garage, enterprises/project-1/devices/garage\n";
    assert_eq!((done.code, done.stderr.as_str()), (1, expected));
}

#[test]
fn text_of_others_does_not_reach_the_terminal_as_commands() {
    let kept = Kept::new("scenarios/long_day.jsonl");
    let evil = json!({"eventId": "e", "timestamp": "2025-09-07T08:00:00Z", "resourceUpdate": {
        "name": "enterprises/project-1/devices/garage",
        "traits": {"sdm.devices.traits.Info": {"customName": "a\u{1b}[2Jb\nc\u{9b}d"}},
        "events": {"sdm.devices.events.DoorbellChime.Chime": {"eventSessionId": "new"}}}});
    let file = kept.folder.path().join("evil.jsonl");
    fs::write(&file, evil.to_string()).unwrap();
    kept.replay(file.to_str().unwrap());
    let replaced = "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d";
    for arguments in [&["graph"][..], &["device", "garage"], &["notifications"]] {
        let shown = kept.run(arguments).ok().stdout;
        assert!(shown.contains(replaced), "{shown}");
        let is_control = |c: char| c.is_control() && c != '\n';
        assert!(!shown.contains(is_control), "{shown:?}");
    }
}

#[test]
fn notifications_are_filtered() {
    let kept = Kept::new("scenarios/long_day.jsonl");
    let device = "enterprises/project-1/devices/front-door";
    let filter = [
        "notifications",
        "--resource",
        device,
        "--kind",
        "chime",
        "--limit",
        "2",
    ];
    let expected = "\
2025-09-06T22:24:33.188Z  2025-09-06T22:24:35.946Z  closed  Front door: chime, motion, person
2025-09-06T23:00:19.858Z  2025-09-06T23:00:19.858Z  closed  Front door: chime
";
    assert_eq!(kept.run(&filter).ok().stdout, expected);
    let filter = [&filter[..], &["--format", "json"]].concat();
    let list: Vec<Value> = serde_json::from_str(&kept.run(&filter).ok().stdout).unwrap();
    assert_eq!(list.len(), 2);
    assert!(list[0]["notificationId"].as_str() < list[1]["notificationId"].as_str());
    let open = kept.run(&["notifications", "--state", "open"]).ok().stdout;
    assert_eq!(open, "", "replay runs all timers");
    let all = kept.run(&["notifications"]).ok().stdout;
    assert_eq!(all.lines().count(), 146);
}

#[test]
fn records_are_what_replay_printed() {
    let kept = Kept::new("scenarios/s1_doorbell_with_clip.jsonl");
    let more = kept.replay(
        &fixture("scenarios/s6_thermostat_late_and_bogus.jsonl")
            .display()
            .to_string(),
    );
    let all = kept.run(&["records"]).ok().stdout;
    assert!(all.ends_with(&more), "{all}");
    let before = all.lines().count() - more.lines().count();
    let behind = kept.run(&["records", "--after", &before.to_string()]).ok();
    assert_eq!((behind.stdout, behind.stderr.as_str()), (more, ""));
    let two = kept.run(&["records", "--limit", "2"]).ok().stdout;
    assert!(all.starts_with(&two) && two.lines().count() == 2);
    for (option, value, field, expected) in [
        ("--type", "notification", "type", "hearthd.notification"),
        (
            "--subject",
            "enterprises/project-1/devices/hall-thermostat",
            "subject",
            "enterprises/project-1/devices/hall-thermostat",
        ),
    ] {
        let is_it = |line: &&str| serde_json::from_str::<Value>(line).unwrap()[field] == expected;
        let expected: Vec<&str> = all.lines().filter(is_it).collect();
        let shown = kept.run(&["records", option, value]).ok().stdout;
        assert!(!expected.is_empty());
        assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
    }
    let several = kept
        .run(&["records", "--type", "notification,event,relation"])
        .ok();
    assert_eq!(several.stdout, all);
    assert_eq!(kept.run(&["records", "--type", "dream"]).code, 64);
}

#[test]
fn records_say_where_the_journal_has_a_gap_or_an_end() {
    let kept = Kept::new("scenarios/long_day.jsonl");
    let connection = Connection::open(&kept.store).unwrap();
    connection
        .execute("DELETE FROM journal WHERE sequence <= 10", [])
        .unwrap();
    let done = kept.run(&["records", "--after", "4", "--limit", "1"]).ok();
    assert!(
        done.stdout
            .contains("\"sequence\":\"00000000000000000011\""),
        "{}",
        done.stdout
    );
    let expected = "hearthd: the journal doesn't reach back to 5, it begins at 11\n";
    assert_eq!(done.stderr, expected);
    let from_the_start = kept.run(&["records", "--limit", "1"]).ok();
    assert_eq!(
        (from_the_start.stdout, from_the_start.stderr.as_str()),
        (done.stdout, "")
    );
    let done = kept.run(&["records", "--after", "2000"]).ok();
    assert_eq!(done.stdout, "");
    assert!(
        done.stderr.contains("2000 is behind the last record, 1275"),
        "{}",
        done.stderr
    );
}

#[test]
fn a_follower_gets_what_comes_until_it_is_interrupted() {
    let kept = Kept::new("scenarios/s1_doorbell_with_clip.jsonl");
    let all = kept.run(&["records", "--type", "event"]).ok().stdout;
    let mut follower = kept.follow(&["--after", "0", "--type", "event"]);
    let lines = follower.lines();
    for expected in all.lines() {
        assert_eq!(lines.recv_timeout(LIMIT).unwrap(), expected);
    }
    let more = kept.replay(
        &fixture("scenarios/s6_thermostat_late_and_bogus.jsonl")
            .display()
            .to_string(),
    );
    let events = more
        .lines()
        .filter(|line| line.contains("\"hearthd.event\""));
    for expected in events {
        assert_eq!(lines.recv_timeout(LIMIT).unwrap(), expected);
    }
    let pid = follower.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(follower.exit_code(), Some(0));
    assert_eq!(lines.iter().count(), 0, "each record once");
}

#[test]
fn a_follower_without_a_number_begins_with_what_is_new_and_ends_at_its_limit() {
    let kept = Kept::new("scenarios/s1_doorbell_with_clip.jsonl");
    let mut follower = kept.follow(&["--limit", "1", "--type", "event"]);
    let lines = follower.lines();
    // It has begun once a record comes that is none of those that were there.
    let old = kept.run(&["records"]).ok().stdout;
    let mut second = 0;
    let came = wait_until(LIMIT, || {
        second += 1;
        let file = kept.folder.path().join("more.jsonl");
        let time = format!("2025-09-07T08:{:02}:{:02}Z", second / 60, second % 60);
        let object = "enterprises/p/devices/d";
        let relation = json!({"type": "CREATED", "subject": "", "object": object});
        let event = json!({"eventId": "e", "timestamp": time, "relationUpdate": relation});
        fs::write(&file, event.to_string()).unwrap();
        kept.replay(file.to_str().unwrap());
        follower.child.try_wait().unwrap().is_some()
    });
    assert!(came, "it goes on");
    assert_eq!(follower.exit_code(), Some(0));
    let line = lines.recv_timeout(LIMIT).unwrap();
    assert!(
        !old.contains(&line) && line.contains("\"hearthd.event\""),
        "{line}"
    );
    assert!(
        lines.recv_timeout(LIMIT).is_err(),
        "one record, and the end"
    );
}

#[test]
fn a_follower_ends_when_nobody_reads_it() {
    let kept = Kept::new("scenarios/s1_doorbell_with_clip.jsonl");
    let mut follower = kept.follow(&[]);
    drop(follower.output.take());
    assert_eq!(follower.exit_code(), Some(0));
}

#[test]
fn a_list_whose_reader_goes_away_is_no_failure() {
    let kept = Kept::new("scenarios/long_day.jsonl");
    for arguments in [
        &["graph"][..],
        &["records"],
        &["notifications"],
        &["quarantine"],
    ] {
        let mut command = command(&kept.arguments(arguments));
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        drop(child.stdout.take());
        let done = child.wait_with_output().unwrap();
        assert_eq!(done.status.code(), Some(0), "{arguments:?}");
        assert!(done.stderr.is_empty(), "{arguments:?}");
    }
}
