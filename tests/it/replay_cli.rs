//! `hearthd replay` as its users see it: options, exit codes, files.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use hearthd::clock::Stopwatch;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::command::{Done, command, fixture, hearthd, hearthd_reading};
use super::support::emulator::wait_until;
use super::support::replay::{UNSTABLE, without};

const LONG_DAY: &str = "scenarios/long_day.jsonl";

fn replay(options: &[&str], file: &Path) -> Done {
    let mut arguments: Vec<OsString> = vec!["replay".into()];
    arguments.extend(options.iter().map(Into::into));
    arguments.push(file.into());
    hearthd(&arguments)
}

/// The `--final` and `--graph` files of a replay, without what REFERENCE.md lets differ.
fn ends(options: &[&str], unstable: &[&str], file: &Path) -> (Vec<Value>, Value) {
    let folder = tempfile::tempdir().unwrap();
    let [last, graph] = ["final", "graph"].map(|name| path_text(folder.path().join(name)));
    let options = [options, &["--final", &last, "--graph", &graph]].concat();
    replay(&options, file).ok();
    let mut notifications: Vec<Value> = read_json(&last);
    for data in &mut notifications {
        without(data, unstable);
    }
    (notifications, read_json(&graph))
}

fn path_text(path: PathBuf) -> String {
    path.into_os_string().into_string().unwrap()
}

fn read_json<T: serde::de::DeserializeOwned>(path: impl AsRef<Path>) -> T {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A file in a folder of its own.
fn file(name: &str, content: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    (folder, path)
}

/// The long day without the messages that have no timestamp of their own: REFERENCE.md makes no
/// promise for those where they are republished with another publishTime.
fn timed_long_day() -> (TempDir, PathBuf) {
    let day = fs::read_to_string(fixture(LONG_DAY)).unwrap();
    let events = replay(&["--records", "event"], &fixture(LONG_DAY))
        .ok()
        .stdout;
    let untimed = |line: &str| -> Option<String> {
        let data = serde_json::from_str::<Value>(line).unwrap()["data"].take();
        let invalid = data["flags"].to_string().contains("timestamp_invalid");
        invalid.then(|| data["messageId"].as_str().unwrap().to_owned())
    };
    let untimed: Vec<String> = events.lines().filter_map(untimed).collect();
    assert!(!untimed.is_empty());
    let timed = day
        .lines()
        .filter(|line| !untimed.iter().any(|id| line.contains(id.as_str())));
    file("long_day.jsonl", &timed.collect::<Vec<_>>().join("\n"))
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let options = ["--shuffle", "7", "--duplicate", "0.2"];
    for options in [&[][..], &options] {
        let first = replay(options, &fixture(LONG_DAY)).ok();
        assert_eq!(
            first.stdout,
            replay(options, &fixture(LONG_DAY)).ok().stdout
        );
        assert!(first.stdout.lines().count() > 1000);
    }
}

#[test]
fn a_shuffled_replay_ends_the_same() {
    let day = fixture(LONG_DAY);
    let expected = ends(&[], &UNSTABLE, &day);
    assert_eq!(expected.0.len(), 146);
    let in_order = replay(&["--records", "event"], &day).ok().stdout;
    for seed in ["1", "2", "3"] {
        let shuffled = replay(&["--records", "event", "--shuffle", seed], &day)
            .ok()
            .stdout;
        assert_ne!(shuffled, in_order, "seed {seed} shuffles nothing");
        assert_eq!(
            ends(&["--shuffle", seed], &UNSTABLE, &day),
            expected,
            "seed {seed}"
        );
    }
}

#[test]
fn a_shuffled_replay_with_repeats_ends_the_same() {
    let (_folder, day) = timed_long_day();
    // A republished ENDED may come before the one it repeats.
    let unstable = [&UNSTABLE[..], &["endedAt"]].concat();
    let expected = ends(&[], &unstable, &day);
    for seed in ["1", "2", "3"] {
        let options = ["--shuffle", seed, "--duplicate", "0.2"];
        assert_eq!(ends(&options, &unstable, &day), expected, "seed {seed}");
    }
}

#[test]
fn repeats_are_counted_as_duplicates() {
    let (_folder, day) = timed_long_day();
    let summary = |options: &[&str]| -> Value {
        let folder = tempfile::tempdir().unwrap();
        let path = path_text(folder.path().join("summary"));
        replay(&[options, &["--summary", &path]].concat(), &day).ok();
        read_json(path)
    };
    let number = |summary: &Value, counter: &str| summary[counter].as_u64().unwrap();
    let (once, twice) = (summary(&[]), summary(&["--duplicate", "1"]));
    let [received, outcomes] = ["received", "emitted"].map(|counter| number(&once, counter));
    assert_eq!(number(&twice, "received"), received * 2);
    assert_eq!(number(&twice, "emitted"), outcomes);
    assert_eq!(twice["quarantined"], once["quarantined"]);
    assert_eq!(
        number(&twice, "duplicates"),
        number(&once, "duplicates") + received
    );
    assert_eq!(twice["imbalance"], 0);
}

#[test]
fn records_of_one_kind_keep_their_numbers() {
    let all = replay(&[], &fixture(LONG_DAY)).ok().stdout;
    for kind in ["notification", "event", "relation"] {
        let of_kind = format!("\"type\":\"hearthd.{kind}\"");
        let expected: Vec<&str> = all.lines().filter(|line| line.contains(&of_kind)).collect();
        let printed = replay(&["--records", kind], &fixture(LONG_DAY)).ok().stdout;
        assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
        assert!(!expected.is_empty());
    }
}

#[test]
fn compressed_files_and_standard_input_are_read_alike() {
    let day = fs::read_to_string(fixture(LONG_DAY)).unwrap();
    let head: Vec<&str> = day.lines().take(40).collect();
    let (_folder, plain) = file("long_day_head.jsonl", &head.join("\n"));
    let expected = nameless(&replay(&[], &plain).ok().stdout);
    for ending in ["gz", "zst"] {
        let packed = fixture(&format!("scenarios/long_day_head.jsonl.{ending}"));
        assert_eq!(
            nameless(&replay(&[], &packed).ok().stdout),
            expected,
            "{ending}"
        );
    }
    let input = head.join("\n");
    let read = hearthd_reading(input.as_bytes(), &["replay", "-"]).ok();
    assert_eq!(nameless(&read.stdout), expected);
}

/// The records without the ids of messages that have none of their own: those come from the name
/// of the file.
fn nameless(stdout: &str) -> Vec<Value> {
    let mut records: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for record in &mut records {
        let id = record["data"]["messageId"].as_str();
        if id.is_some_and(|id| id.len() == 32) {
            without(&mut record["data"], &["messageId"]);
        }
    }
    records
}

#[test]
fn bad_lines_are_let_through_unless_strict() {
    let sound = fixture("scenarios/s1_doorbell_with_clip.jsonl");
    let bad = fixture("scenarios/odd_01_not_json.jsonl");
    assert_eq!(replay(&["--strict"], &sound).code, 0);
    assert_eq!(replay(&[], &bad).code, 0);
    let strict = replay(&["--strict"], &bad);
    assert_eq!(strict.code, 65, "{}", strict.stderr);
    assert_eq!(strict.stdout, replay(&[], &bad).stdout);
}

#[test]
fn wrong_arguments_and_wrong_settings_have_their_own_exit_codes() {
    let sound = fixture("scenarios/s1_doorbell_with_clip.jsonl");
    for wrong in [
        &["--duplicate", "2"][..],
        &["--pace", "0"],
        &["--pace", "1e-20"],
        &["--records", "all"],
        &["--no"],
    ] {
        assert_eq!(replay(wrong, &sound).code, 64, "{wrong:?}");
    }
    assert_eq!(hearthd(&["replay"]).code, 64, "no file");
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.db");
    let twice = hearthd(&["replay", "--state", state.to_str().unwrap(), "-", "-"]);
    assert_eq!(twice.code, 64, "{}", twice.stderr);
    assert!(
        twice.stderr.contains("(-) was named twice"),
        "{}",
        twice.stderr
    );
    assert!(!state.exists(), "nothing was begun");
    assert_eq!(replay(&[], Path::new("/no/such/file.jsonl")).code, 1);
    let settings = path_text(fixture("config/invalid_ranges.toml"));
    let refused = replay(&["--config", &settings], &sound);
    assert_eq!(
        (refused.code, refused.stdout.as_str()),
        (78, ""),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_state_file_goes_on_where_the_last_run_ended() {
    let folder = tempfile::tempdir().unwrap();
    let state = path_text(folder.path().join("state.db"));
    let day = fs::read_to_string(fixture(LONG_DAY)).unwrap();
    let (_one, whole) = file("day.jsonl", &day);
    let first = replay(&["--state", &state], &whole).ok();
    assert_eq!(first.stdout, replay(&[], &whole).ok().stdout);

    // The same day again is all duplicates; only bodies that were not seen would make records.
    let again = replay(&["--state", &state], &whole).ok();
    assert_eq!(again.stdout, "");
    assert!(
        again.stderr.starts_with("889 received: 0 emitted"),
        "{}",
        again.stderr
    );

    let next = replay(
        &["--state", &state],
        &fixture("scenarios/s1_doorbell_with_clip.jsonl"),
    )
    .ok();
    let sequence = first.stdout.lines().count() + 1;
    let record: Value = serde_json::from_str(next.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(record["sequence"], format!("{sequence:020}"));
}

/// What waited at the start is counted too, as it ends in one of the outcomes.
#[test]
fn a_replay_that_goes_on_after_an_early_end_accounts_for_what_was_pending() {
    let folder = tempfile::tempdir().unwrap();
    let [state, summary] = ["state.db", "summary"].map(|name| path_text(folder.path().join(name)));
    let (_one, first) = file("first.jsonl", &line_of("2025-06-09T13:52:03Z"));
    // A pace commits each message by itself; a folder can be opened and not read.
    let options = ["replay", "--state", &state, "--pace", "1000"];
    let files = [first.to_str().unwrap(), folder.path().to_str().unwrap()];
    let ended_early = hearthd(&[&options[..], &files].concat());
    assert_eq!(ended_early.code, 1, "{}", ended_early.stderr);

    let (_two, second) = file("second.jsonl", &line_of("2025-06-09T13:53:03Z"));
    replay(&["--state", &state, "--summary", &summary], &second).ok();
    let summary: Value = read_json(&summary);
    let [received, emitted] = ["received", "emitted"].map(|counter| summary[counter].as_u64());
    assert_eq!((received, emitted), (Some(2), Some(2)), "{summary}");
    for counter in ["duplicates", "quarantined", "pending", "imbalance"] {
        assert_eq!(summary[counter], 0, "{counter} of {summary}");
    }
}

/// A line of an event of that time, which is also when it arrives.
fn line_of(time: &str) -> String {
    let relation = json!({"type": "CREATED", "object": "enterprises/p/devices/d"});
    json!({"eventId": time, "timestamp": time, "relationUpdate": relation}).to_string()
}

#[test]
fn a_paced_replay_takes_as_long_as_the_recording_did() {
    let lines = ["2025-06-09T13:52:03Z", "2025-06-09T13:52:06Z"].map(line_of);
    let (_folder, recording) = file("paced.jsonl", &lines.join("\n"));
    let watch = Stopwatch::start();
    replay(&["--pace", "10"], &recording).ok();
    assert!(watch.seconds() >= 0.3, "{} s", watch.seconds());
}

/// Between the two recordings is a day, which no pace is kept with.
#[test]
fn a_paced_replay_does_not_wait_for_its_first_message() {
    let folder = tempfile::tempdir().unwrap();
    let state = path_text(folder.path().join("state.db"));
    let (_one, yesterday) = file("yesterday.jsonl", &line_of("2025-06-09T13:52:03Z"));
    let (_two, today) = file("today.jsonl", &line_of("2025-06-10T13:52:03Z"));
    replay(&["--state", &state], &yesterday).ok();
    let today = today.to_str().unwrap();
    let child = command(&["replay", "--state", &state, "--pace", "1", today])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    succeeds_soon(child);
}

/// As `head` does. The second thread must end too, however much it has still to read.
#[test]
fn a_reader_that_goes_away_ends_the_replay() {
    let day = fixture("scenarios/long_day.jsonl");
    let mut arguments = vec!["replay"];
    arguments.extend([day.to_str().unwrap(); 12]);
    let mut child = command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    succeeds_soon(child);
}

/// Waits for the child's end, for a minute at most.
fn succeeds_soon(mut child: Child) {
    let mut status = None;
    wait_until(Duration::from_secs(60), || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    child.kill().ok();
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
}

#[test]
fn the_files_it_writes_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let paths = ["final", "graph", "summary"].map(|name| folder.path().join(name));
    // One is there already, for everybody.
    fs::write(&paths[0], "old").unwrap();
    fs::set_permissions(&paths[0], fs::Permissions::from_mode(0o644)).unwrap();
    let [last, graph, summary] = paths.clone().map(path_text);
    let options = ["--final", &last, "--graph", &graph, "--summary", &summary];
    replay(&options, &fixture("scenarios/s1_doorbell_with_clip.jsonl")).ok();
    for path in paths {
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        read_json::<Value>(&path);
    }
    let device = ["--graph", "/dev/null"];
    let mode = || {
        Path::new("/dev/null")
            .metadata()
            .unwrap()
            .permissions()
            .mode()
    };
    let before = mode();
    replay(&device, &fixture("scenarios/s1_doorbell_with_clip.jsonl")).ok();
    assert_eq!(mode(), before);
}
