//! A store of an older schema, as its build left it: it opens, is migrated and goes on.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use chrono::TimeDelta;
use hearthd::event::Timestamp;
use hearthd::sources::{Incoming, capture};
use hearthd::store::{
    DeadLetter, DeadLetterReason, Reader, Settlement, StoreError, StoreErrorKind, Writer,
};
use rusqlite::Connection;
use rusqlite::types::Value as Cell;
use serde_json::{Map, Value, json};

use super::crash::shim::{Disk as Shim, Point, Then};
use super::support::command::{Done, command, fixture, hearthd};
use super::support::replay::{Disk, Run};
use super::support::store::{Readable, Writable};

/// What was published into the store of schema 4, each with its times moved to the present.
const SCENARIOS: [&str; 3] = [
    "odd_02_neither_or_both_updates",
    "long_day",
    "s2_motion_becomes_person",
];

/// The number of its last record, and where its two sinks are.
const LAST: u64 = 1212;
const CURSOR: u64 = 1208;

/// The store of schema 4, fresh from its build.
fn schema_4() -> Disk {
    let disk = Disk::new();
    unpack(&disk.path());
    disk
}

fn unpack(store: &Path) {
    let from = fixture("stores/schema_4");
    for suffix in ["", "-wal"] {
        let packed = fs::read(from.join(format!("hearthd.db{suffix}.zst"))).unwrap();
        fs::write(
            with_suffix(store, suffix),
            zstd::decode_all(&packed[..]).unwrap(),
        )
        .unwrap();
    }
    fs::copy(from.join("hearthd.db.mark"), with_suffix(store, ".mark")).unwrap();
}

fn with_suffix(store: &Path, suffix: &str) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The rows of a table, as they are in the file.
fn table(store: &Path, columns: &str, table: &str) -> Vec<Vec<Cell>> {
    let connection = Connection::open(store).unwrap();
    let sql = format!("SELECT {columns} FROM {table} ORDER BY 1");
    let mut statement = connection.prepare(&sql).unwrap();
    let width = statement.column_count();
    let rows = statement.query_map([], |row| (0..width).map(|n| row.get(n)).collect());
    rows.unwrap().map(Result::unwrap).collect()
}

fn schema(store: &Path) -> i64 {
    let connection = Connection::open(store).unwrap();
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0));
    version.unwrap()
}

/// What a command prints about a store.
fn printed(command: &str, store: &Path) -> Done {
    hearthd(&[
        command.as_ref(),
        "--format".as_ref(),
        "json".as_ref(),
        "--store".as_ref(),
        store.as_os_str(),
    ])
}

/// Checks that the store shows what the older build showed.
fn shows_the_same(store: &Path) {
    for (command, file) in [
        ("notifications", "notifications.json"),
        ("graph", "graph.json"),
    ] {
        let expected = fs::read_to_string(fixture("stores/schema_4").join(file)).unwrap();
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let shown = printed(command, store).ok();
        assert!(
            parse(&shown.stdout) == parse(&expected),
            "{command} shows something else"
        );
    }
}

/// The messages of a scenario as they were published: their times moved by as much as that of a
/// record in the store.
fn redelivered(store: &Writer, scenario: &str) -> Vec<Incoming> {
    let file = fixture(&format!("scenarios/{scenario}.jsonl"));
    let messages = capture::open(&file).unwrap().map(Result::unwrap);
    let mut messages: Vec<Incoming> = messages.filter(|message| message.fault.is_none()).collect();
    let times: BTreeMap<String, String> = store
        .journal(0, usize::MAX)
        .unwrap()
        .into_iter()
        .map(|row| serde_json::from_str::<Value>(&row.line).unwrap())
        .filter_map(|record| {
            let text = |field: &str| Some(record["data"][field].as_str()?.to_owned());
            Some((text("eventId")?, text("timestamp")?))
        })
        .collect();
    let shift = messages
        .iter()
        .find_map(|message| {
            let (payload, at) = dated(&message.raw.body)?;
            let stored = times.get(payload["eventId"].as_str()?)?;
            Some(Timestamp::parse(stored).unwrap().at() - at.at())
        })
        .unwrap();
    for message in &mut messages {
        message.raw.body = shifted(&message.raw.body, shift);
    }
    messages
}

fn dated(body: &[u8]) -> Option<(Map<String, Value>, Timestamp)> {
    let payload: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let at = Timestamp::parse(payload.get("timestamp")?.as_str()?)?;
    Some((payload, at))
}

/// As `publish --rebase now` does it.
fn shifted(body: &Bytes, shift: TimeDelta) -> Bytes {
    let Some((mut payload, at)) = dated(body) else {
        return body.clone();
    };
    let at = Timestamp::from_utc(at.at() + shift);
    payload.insert("timestamp".to_owned(), json!(at.as_str()));
    Value::Object(payload).to_string().into()
}

#[test]
fn it_shows_the_same_as_before() {
    let disk = schema_4();
    let path = disk.path();
    let tables = [
        "payloads",
        "members",
        "clips",
        "released",
        "journal",
        "quarantine",
    ];
    let before = tables.map(|name| table(&path, "*", name));
    drop(disk.store());
    assert_eq!(schema(&path), 5);
    for (name, rows) in tables.into_iter().zip(before) {
        assert!(!rows.is_empty(), "{name} shows nothing");
        assert_eq!(table(&path, "*", name), rows, "{name}");
    }
    shows_the_same(&path);
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.last_sequence().unwrap(), LAST);
    let sinks = reader.look(|snapshot| snapshot.sinks()).unwrap();
    let sinks: Vec<_> = sinks
        .iter()
        .map(|row| (row.name.as_str(), row.cursor, row.is_set))
        .collect();
    assert_eq!(sinks, [("bell", CURSOR, true), ("lamp", CURSOR, true)]);
}

#[test]
fn what_was_taken_in_is_a_duplicate() {
    let disk = schema_4();
    let store = disk.store();
    let messages = SCENARIOS.map(|scenario| redelivered(&store, scenario));
    let mut run = Run::open(store);
    for messages in messages {
        let count = messages.len() as u64;
        assert!(count > 2, "nothing is delivered again");
        let before = run.counts();
        run.batch(messages).unwrap();
        let after = run.counts();
        assert_eq!(after.received - before.received, count);
        assert_eq!(after.duplicates - before.duplicates, count, "{after:?}");
    }
}

#[test]
fn what_was_held_is_released_and_what_was_open_closes() {
    let disk = schema_4();
    let output = Run::open(disk.store()).finish();
    let records = output.records();
    let first = &records[0];
    assert_eq!(first["sequence"], format!("{:020}", LAST + 1));
    let events = output.data("event");
    let thread = "deee0715-7646-4f5c-aef5-c13f61a71d50";
    let expected = [("895", "UPDATED"), ("896", "ENDED")];
    assert_eq!(events.len(), expected.len());
    for (event, (message, state)) in events.iter().zip(expected) {
        assert_eq!(event["messageId"], message);
        assert_eq!(event["threadState"], state);
        assert_eq!(event["threadId"], thread);
        let key = format!("enterprises/project-1/devices/back-yard/threads/{thread}");
        assert_eq!(event["orderingKey"], key);
        assert_eq!(
            (&event["late"], &event["flags"]),
            (&json!(false), &json!([]))
        );
    }
    let closed = output.data("notification");
    assert_eq!(closed.len(), 71, "all that were open");
    assert!(closed.iter().all(|data| data["state"] == "closed"));
    assert!(output.stored.iter().all(|data| data["state"] == "closed"));
}

#[test]
fn ids_of_dead_letters_are_not_used_again() {
    let disk = schema_4();
    let connection = Connection::open(disk.path()).unwrap();
    connection
        .execute_batch(
            "INSERT INTO dead_letters (at, sink, first_sequence, last_sequence, reason) VALUES \
             (1000000000, 'bell', 1, 7, 'journal_full'), (1, 'lamp', 3, 4, 'journal_expired'); \
             DELETE FROM dead_letters WHERE id = 2",
        )
        .unwrap();
    drop(connection);
    let mut store = disk.store();
    let dead_letters = vec![DeadLetter {
        sequence: 1210,
        reason: DeadLetterReason::Refused,
        detail: "410 Gone".to_owned(),
        line: "{}".to_owned(),
    }];
    let settlement = Settlement {
        sink: "bell".to_owned(),
        cursor: 1210,
        dead_letters,
        ..Settlement::default()
    };
    store.settle(settlement).unwrap();
    let rows = store.dead_letters(9).unwrap();
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    assert_eq!(ids, [1, 3]);
    let old = serde_json::to_value(&rows[0]).unwrap();
    let expected = json!({"id": 1, "at": "1970-01-01T00:00:01.000Z", "sink": "bell",
        "firstSequence": 1, "lastSequence": 7, "reason": "journal_full", "detail": "",
        "record": null});
    assert_eq!(old, expected);
}

#[test]
fn its_reserve_becomes_its_ballast() {
    let disk = schema_4();
    let [reserve, ballast] = [".reserve", ".ballast"].map(|end| with_suffix(&disk.path(), end));
    let noise = vec![7; 8 << 20];
    fs::write(&reserve, &noise).unwrap();
    drop(disk.store());
    assert!(!reserve.exists());
    assert!(fs::read(&ballast).unwrap() == noise);
}

#[test]
fn a_reader_says_what_to_do_and_leaves_it_as_it_is() {
    let disk = schema_4();
    let path = disk.path();
    let before = fs::read(&path).unwrap();
    let error = Reader::open(&path).unwrap_err();
    assert!(
        matches!(error, StoreError::Unmigrated { found: 4, .. }),
        "{error:?}"
    );
    assert_eq!(error.kind(), StoreErrorKind::Refused);
    let done = printed("graph", &path);
    assert_eq!(done.code, 1);
    assert!(
        done.stderr.contains("start the service once"),
        "{}",
        done.stderr
    );
    assert!(fs::read(&path).unwrap() == before);
}

#[test]
fn a_schema_that_nothing_migrates_is_refused() {
    for (schema, words) in [
        (
            3,
            "migrates 4 and later: run the hearthd between the two first",
        ),
        (
            6,
            "run the newer hearthd that wrote it, or restore a backup",
        ),
    ] {
        let disk = schema_4();
        let connection = Connection::open(disk.path()).unwrap();
        connection
            .pragma_update(None, "user_version", schema)
            .unwrap();
        drop(connection);
        let before = fs::read(disk.path()).unwrap();
        let errors = [
            Writer::open(&disk.path()).unwrap_err(),
            Reader::open(&disk.path()).unwrap_err(),
        ];
        for error in errors {
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(error.kind(), StoreErrorKind::Refused);
        }
        assert!(fs::read(disk.path()).unwrap() == before);
    }
}

/// Opens the store as the service does, and changes nothing else; returns the signal that ended it.
fn open_in_a_process(store: &Path, environment: &BTreeMap<String, String>) -> Option<i32> {
    let output = command(&["quarantine", "drop", "999", "--store"])
        .arg(store)
        .envs(environment)
        .output()
        .unwrap();
    output.status.signal()
}

/// The schema of a store that a killed process left, which stays as it is.
fn schema_left(store: &Path) -> i64 {
    let copy = Disk::new();
    for suffix in ["", "-wal"] {
        let from = with_suffix(store, suffix);
        if from.exists() {
            fs::copy(from, with_suffix(&copy.path(), suffix)).unwrap();
        }
    }
    schema(&copy.path())
}

#[test]
fn a_kill_in_the_middle_leaves_the_old_or_the_new_schema_whole() {
    let (mut old, mut new) = (0, 0);
    for then in kills() {
        let disk = schema_4();
        let path = disk.path();
        let point = Point { after: None, then };
        let signal = open_in_a_process(&path, &Shim::new(&path).environment(Some(point)));
        if signal.is_none() {
            assert!(
                old > 5 && new > 1,
                "killed with the old schema {old} times, the new {new}"
            );
            return;
        }
        assert_eq!(signal, Some(9));
        match schema_left(&path) {
            4 => old += 1,
            5 => new += 1,
            other => panic!("schema {other}"),
        }
        drop(disk.store());
        assert_eq!(schema(&path), 5);
        shows_the_same(&path);
        assert_eq!(Reader::open(&path).unwrap().last_sequence().unwrap(), LAST);
    }
    panic!("it was killed each time");
}

/// Before more and more writes, each step some longer than the last.
fn kills() -> impl Iterator<Item = Then> {
    (0..60).map(|n: u32| Then::KillAtWrite(1 + n + n * n / 6))
}
