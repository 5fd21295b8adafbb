//! `hearthd quarantine` and `hearthd dead-letters`: what is listed, retried and dropped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use hearthd::store::Writer;
use rusqlite::{Connection, params};
use serde_json::{Value, json};
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

    fn socket(&self) -> PathBuf {
        self.store.with_extension("db.sock")
    }

    /// One that the receiver refused, a range, and one that left the journal: 7 to 9.
    fn add_dead_letters(&self) {
        let sql = "REPLACE INTO dead_letters (id, at, sink, first_sequence, last_sequence, \
                   reason, detail, line) VALUES \
                   (7, ?1, 'out', 5, 5, 'refused', '410 Gone' || char(27) || '[2J', '{\"id\":\"r\"}'), \
                   (8, ?1, 'out', 8, 10, 'journal_full', '', NULL), \
                   (9, ?1, 'other', 5, 5, 'journal_expired', '', NULL)";
        let at = 1_700_000_000_000_000_000_i64;
        self.connection().execute(sql, [at]).unwrap();
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
        done.stdout
            .starts_with("1  is in quarantine again as 13: not_json: "),
        "{}",
        done.stdout
    );
    assert_eq!(kept.ids(&["quarantine"]), (2..=13).collect::<Vec<_>>());
    // Nothing is retried twice, and nothing is lost.
    let done = kept.run(&["quarantine", "retry", "--all"]).ok();
    assert_eq!(done.stdout.lines().count(), 12, "{}", done.stdout);
    assert_eq!(kept.ids(&["quarantine"]), (14..=25).collect::<Vec<_>>());
}

#[test]
fn nothing_is_changed_beside_a_process_that_can_not_be_asked() {
    let kept = Kept::new();
    let writer = Writer::open(&kept.store).unwrap();
    for (is_left_behind, expected) in [
        (
            false,
            "hearthd.db.sock by which that process could be asked",
        ),
        (true, "failed to ask the service at "),
    ] {
        if is_left_behind {
            // As a service leaves it that was killed.
            drop(UnixListener::bind(kept.socket()).unwrap());
        }
        for arguments in [
            &["quarantine", "retry", "1"][..],
            &["quarantine", "drop", "--all"],
        ] {
            let done = kept.run(arguments);
            assert_eq!((done.code, done.stdout.as_str()), (1, ""));
            assert!(done.stderr.contains(expected), "{}", done.stderr);
            let locked = done.stderr.contains("stop that one first");
            assert_eq!(locked, !is_left_behind, "{}", done.stderr);
        }
    }
    assert_eq!(kept.ids(&["quarantine"]).len(), 12);
    drop(writer);
}

/// A service that answers these in turn; returns what it was asked.
fn service(kept: &Kept, answers: Vec<(&'static str, String)>) -> JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(kept.socket()).unwrap();
    std::thread::spawn(move || {
        let mut asked = Vec::new();
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = BufReader::new(stream.try_clone().unwrap()).lines();
            asked.push(request.next().unwrap().unwrap());
            while !request.next().unwrap().unwrap().is_empty() {}
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            )
            .unwrap();
        }
        asked
    })
}

#[test]
fn a_running_service_is_asked_to_change_its_store() {
    let kept = Kept::new();
    let ok = |body: Value| ("200 OK", body.to_string());
    let taken_in = |id: i64| json!({"id": id, "outcome": "taken_in"});
    let again = json!({"id": 3, "outcome": "quarantined_again", "newId": 13, "detail": "x: y"});
    for (arguments, answer, expected_request, expected) in [
        (
            &["quarantine", "retry", "1", "2", "3"][..],
            json!({"items": [taken_in(1), {"id": 2, "outcome": "missing"}, again]}),
            "POST /v1/quarantine/1,2,3/retry HTTP/1.1",
            "1  was taken in\n2  is not there any more\n3  is in quarantine again as 13: x: y\n",
        ),
        (
            &["quarantine", "drop", "4"],
            json!({"items": [{"id": 4, "outcome": "dropped"}]}),
            "DELETE /v1/quarantine/4 HTTP/1.1",
            "1 message dropped\n",
        ),
        (
            &["dead-letters", "drop", "7", "8"],
            json!({"items": [{"id": 7, "outcome": "dropped"}, {"id": 8, "outcome": "dropped"}]}),
            "DELETE /v1/dead-letters/7,8 HTTP/1.1",
            "2 dead letters dropped\n",
        ),
    ] {
        kept.add_dead_letters();
        let writer = Writer::open(&kept.store).unwrap();
        let asked = service(&kept, vec![ok(answer)]);
        let done = kept.run(arguments).ok();
        assert_eq!(done.stdout, expected);
        assert_eq!(asked.join().unwrap(), [expected_request]);
        std::fs::remove_file(kept.socket()).unwrap();
        drop(writer);
    }
    assert_eq!(kept.ids(&["quarantine"]).len(), 12, "it was only asked");
}

#[test]
fn a_service_is_asked_for_at_most_256_at_once_and_may_refuse() {
    let kept = Kept::new();
    let sql = "WITH RECURSIVE n (n) AS (SELECT 13 UNION ALL SELECT n + 1 FROM n WHERE n < 300) \
               INSERT INTO quarantine SELECT n, at, received_at, publish_time, platform, reason, \
               detail, message_id, place, raw, key, bytes FROM quarantine, n WHERE id = 1";
    kept.connection().execute(sql, []).unwrap();
    let writer = Writer::open(&kept.store).unwrap();
    let dropped = |ids: std::ops::RangeInclusive<i64>| {
        let items: Vec<_> = ids
            .map(|id| json!({"id": id, "outcome": "dropped"}))
            .collect();
        json!({"items": items}).to_string()
    };
    let problem = json!({"title": "Not now", "status": 503, "detail": "the disk is full"});
    let answers = vec![
        ("200 OK", dropped(1..=256)),
        ("200 OK", dropped(257..=300)),
        ("200 OK", dropped(1..=256)),
        ("503 Service Unavailable", problem.to_string()),
        ("404 Not Found", String::new()),
        ("200 OK", "hello".to_owned()),
    ];
    let asked = service(&kept, answers);
    let done = kept.run(&["quarantine", "drop", "--all"]).ok();
    assert_eq!(done.stdout, "300 messages dropped\n");
    for expected in [
        "256 of 300 are done: it answered 503 Service Unavailable: the disk is full\n",
        "0 of 300 are done: it answered 404 Not Found \n",
        "0 of 300 are done: it answered what this hearthd doesn't know",
    ] {
        let done = kept.run(&["quarantine", "drop", "--all"]);
        assert_eq!((done.code, done.stdout.as_str()), (1, ""));
        assert!(done.stderr.contains(expected), "{}", done.stderr);
    }
    let asked = asked.join().unwrap();
    let counts: Vec<_> = asked.iter().map(|line| line.split(',').count()).collect();
    assert_eq!(counts, [256, 44, 256, 44, 256, 256]);
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
    kept.add_dead_letters();
    let expected = "\
7  2023-11-14T22:13:20.000Z  out  lost record 5: refused: 410 Gone\u{fffd}[2J
8  2023-11-14T22:13:20.000Z  out  lost records 8 to 10: journal_full
9  2023-11-14T22:13:20.000Z  other  lost record 5: journal_expired
";
    assert_eq!(kept.run(&["dead-letters"]).ok().stdout, expected);
    assert_eq!(kept.ids(&["dead-letters", "list"]), [7, 8, 9]);
    assert_eq!(kept.ids(&["dead-letters", "--limit", "2"]), [8, 9]);
    let json_lines = kept.run(&["dead-letters", "--format", "json"]).ok().stdout;
    let rows = json_lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let rows: Vec<_> = rows.collect();
    let expected = json!({"id": 7, "at": "2023-11-14T22:13:20.000Z", "sink": "out",
        "firstSequence": 5, "lastSequence": 5, "reason": "refused",
        "detail": "410 Gone\u{1b}[2J", "record": {"id": "r"}});
    assert_eq!(rows[0], expected);
    assert_eq!(
        (&rows[1]["detail"], &rows[1]["record"]),
        (&json!(""), &Value::Null)
    );
    let done = kept.run(&["dead-letters", "drop", "8"]).ok();
    assert_eq!(done.stdout, "1 dead letter dropped\n");
    assert_eq!(kept.ids(&["dead-letters"]), [7, 9]);
    let done = kept.run(&["dead-letters", "drop", "--all"]).ok();
    assert_eq!(done.stdout, "2 dead letters dropped\n");
    assert!(kept.ids(&["dead-letters"]).is_empty());
}

#[test]
fn a_list_as_text_reads_no_bodies() {
    let kept = Kept::new();
    let sql = "UPDATE quarantine SET raw = zeroblob(1 << 20), bytes = 1 << 20";
    kept.connection().execute(sql, []).unwrap();
    let shown = kept.run(&["quarantine"]).ok().stdout;
    assert_eq!(shown.matches("(1048576 bytes)").count(), 12);
    let bodies = kept
        .run(&["quarantine", "--format", "json", "--limit", "1"])
        .ok()
        .stdout;
    assert!(bodies.len() > 1 << 20);
}
