//! `hearthd quarantine` and `hearthd dead-letters`: what is listed, retried and dropped.

use std::path::{Path, PathBuf};

use hearthd::store::Writer;
use rusqlite::{Connection, params};
use serde_json::Value;
use tempfile::TempDir;

use super::support::command::{Done, fixture, hearthd};

/// Twelve of its lines end in quarantine.
const SCENARIO: &str = "scenarios/odd_01_not_json.jsonl";

/// A message that can be decoded.
const GOOD: &str = r#"{"eventId":"e","timestamp":"2025-06-09T13:52:03Z","resourceUpdate":{"name":"enterprises/p/devices/new","events":{"sdm.devices.events.DoorbellChime.Chime":{"eventSessionId":"s"}}}}"#;

struct Kept {
    _folder: TempDir,
    store: PathBuf,
}

impl Kept {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("hearthd.db");
        let scenario = fixture(SCENARIO);
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        hearthd(&[
            "replay".to_owned(),
            "--state".to_owned(),
            text(&store),
            text(&scenario),
        ])
        .ok();
        Self {
            _folder: folder,
            store,
        }
    }

    fn run(&self, arguments: &[&str]) -> Done {
        let store = ["--store", self.store.to_str().unwrap()];
        hearthd(&[arguments, &store[..]].concat())
    }

    fn ids(&self, arguments: &[&str]) -> Vec<i64> {
        let done = self.run(&[arguments, &["--format", "json"]].concat()).ok();
        let rows = done
            .stdout
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.map(|row| row["id"].as_i64().unwrap()).collect()
    }

    /// Changes the file behind hearthd's back.
    fn connection(&self) -> Connection {
        Connection::open(&self.store).unwrap()
    }

    /// Puts another message into a row: one that an older hearthd could not decode, and this can.
    fn make_good(&self, ids: &[i64]) {
        let connection = self.connection();
        for id in ids {
            let sql = "UPDATE quarantine SET raw = ?1, reason = 'too_deep' WHERE id = ?2";
            assert_eq!(
                connection
                    .execute(sql, params![GOOD.as_bytes(), id])
                    .unwrap(),
                1
            );
        }
    }
}

#[test]
fn to_list_is_the_default() {
    let kept = Kept::new();
    let all: Vec<i64> = (1..=12).collect();
    assert_eq!(kept.ids(&["quarantine"]), all);
    assert_eq!(kept.ids(&["quarantine", "list"]), all);
    assert_eq!(kept.ids(&["quarantine", "--limit", "2"]), [11, 12]);
    let text = kept.run(&["quarantine", "list"]).ok().stdout;
    assert!(
        text.starts_with("1  ") && text.contains("not_json: "),
        "{text}"
    );
}

#[test]
fn what_is_dropped_is_gone() {
    let kept = Kept::new();
    let done = kept.run(&["quarantine", "drop", "3", "5"]).ok();
    assert_eq!(done.stdout, "2 messages dropped\n");
    assert_eq!(kept.ids(&["quarantine"]), [1, 2, 4, 6, 7, 8, 9, 10, 11, 12]);
    let done = kept.run(&["quarantine", "drop", "--all"]).ok();
    assert_eq!(done.stdout, "10 messages dropped\n");
    assert!(kept.ids(&["quarantine"]).is_empty());
}

#[test]
fn a_wrong_number_changes_nothing() {
    let kept = Kept::new();
    for action in ["drop", "retry"] {
        let done = kept.run(&["quarantine", action, "3", "99"]);
        assert_eq!(
            (done.code, done.stdout.as_str()),
            (1, ""),
            "{}",
            done.stderr
        );
        assert!(
            done.stderr
                .contains("there is no number 99: nothing was changed"),
            "{}",
            done.stderr
        );
        for arguments in [
            &["quarantine", action][..],
            &["quarantine", action, "3", "--all"],
        ] {
            assert_eq!(kept.run(arguments).code, 64, "{arguments:?}");
        }
    }
    assert_eq!(kept.ids(&["quarantine"]).len(), 12);
}

#[test]
fn a_message_that_can_be_decoded_by_now_is_taken_in() {
    let kept = Kept::new();
    kept.make_good(&[2, 4]);
    let before = kept.run(&["notifications", "--format", "json"]).ok().stdout;
    assert!(!before.contains("devices/new"), "{before}");
    let done = kept.run(&["quarantine", "retry", "2", "4"]).ok();
    assert_eq!(
        done.stdout,
        "2  was taken in\n4  is a duplicate: its payload came in by another way since\n"
    );
    assert_eq!(kept.ids(&["quarantine"]), [1, 3, 5, 6, 7, 8, 9, 10, 11, 12]);
    let after = kept.run(&["notifications", "--format", "json"]).ok().stdout;
    assert_eq!(
        after.matches("\"enterprises/p/devices/new\"").count(),
        1,
        "{after}"
    );
}

#[test]
fn what_is_still_bad_stays_with_its_new_reason() {
    let kept = Kept::new();
    let sql = "UPDATE quarantine SET reason = 'too_deep', detail = 'nested deeper than 3'";
    kept.connection()
        .execute(&format!("{sql} WHERE id = 1"), [])
        .unwrap();
    let done = kept.run(&["quarantine", "retry", "1"]).ok();
    assert!(
        done.stdout.starts_with("1  is in quarantine again: 13  "),
        "{}",
        done.stdout
    );
    assert!(done.stdout.contains("not_json: "), "{}", done.stdout);
    assert_eq!(kept.ids(&["quarantine"]), (2..=13).collect::<Vec<_>>());
    // Nothing is retried twice, and nothing is lost.
    let done = kept.run(&["quarantine", "retry", "--all"]).ok();
    assert_eq!(done.stdout.lines().count(), 12, "{}", done.stdout);
    assert_eq!(kept.ids(&["quarantine"]), (14..=25).collect::<Vec<_>>());
}

#[test]
fn nothing_is_changed_beside_a_running_service() {
    let kept = Kept::new();
    let writer = Writer::open(&kept.store).unwrap();
    for arguments in [
        &["quarantine", "retry", "1"][..],
        &["quarantine", "drop", "--all"],
        &["dead-letters", "drop", "--all"],
    ] {
        let done = kept.run(arguments);
        assert_eq!(
            (done.code, done.stdout.as_str()),
            (1, ""),
            "{}",
            done.stderr
        );
        assert!(
            done.stderr.contains("stop that one first"),
            "{}",
            done.stderr
        );
    }
    assert_eq!(kept.ids(&["quarantine"]).len(), 12);
    drop(writer);
}

#[test]
fn a_missing_store_is_not_made_by_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("hearthd.db");
    let done = hearthd(&[
        "quarantine",
        "drop",
        "--all",
        "--store",
        store.to_str().unwrap(),
    ]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("does not exist"), "{}", done.stderr);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn dead_letters_are_listed_and_dropped() {
    let kept = Kept::new();
    for (sink, first) in [("out", 1), ("out", 8), ("other", 5)] {
        let sql = "INSERT INTO dead_letters (at, sink, first_sequence, last_sequence, reason) \
                   VALUES (1700000000000000000, ?1, ?2, ?2 + 2, 'journal_full')";
        kept.connection()
            .execute(sql, params![sink, first])
            .unwrap();
    }
    let text = kept.run(&["dead-letters"]).ok().stdout;
    let first = "1  2023-11-14T22:13:20.000Z  out  lost records 1 to 3: journal_full\n";
    assert!(text.starts_with(first), "{text}");
    assert_eq!(kept.ids(&["dead-letters", "list"]), [1, 2, 3]);
    let done = kept.run(&["dead-letters", "drop", "2"]).ok();
    assert_eq!(done.stdout, "1 ranges dropped\n");
    assert_eq!(kept.ids(&["dead-letters"]), [1, 3]);
    kept.run(&["dead-letters", "drop", "--all"]).ok();
    assert!(kept.ids(&["dead-letters"]).is_empty());
    assert_eq!(
        kept.run(&["dead-letters", "retry", "1"]).code,
        64,
        "there is nothing to retry"
    );
}
