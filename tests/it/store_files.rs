//! The store as a file: who may open it, and what is refused and left as it is.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use hearthd::engine::change::{Changes, Quarantined};
use hearthd::event::{
    ClockTime, DedupeKey, Platform, PublishTime, RawMessage, Reason, ReceivedAt, Reject, Timestamp,
};
use hearthd::store::{Reader, StoreError, Writer};
use rusqlite::Connection;
use serde_json::Value;

use super::support::command::{Done, fixture, hearthd};
use super::support::replay::Disk;
use super::support::store::{Readable, Writable};

const SCENARIO: &str = "scenarios/odd_01_not_json.jsonl";

fn replay_into(store: &Path) -> Done {
    let scenario = fixture(SCENARIO);
    hearthd(&[
        "replay".as_ref(),
        "--state".as_ref(),
        store.as_os_str(),
        scenario.as_os_str(),
    ])
}

/// A folder with a store of one scenario.
fn stored() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hearthd.db");
    replay_into(&path).ok();
    (folder, path)
}

/// Checks that a replay into this file is refused in these words, and leaves it as it is.
fn refused(path: &Path, words: &[&str]) {
    let before = fs::read(path).unwrap();
    let done = replay_into(path);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (1, ""),
        "{}",
        done.stderr
    );
    for word in words {
        assert!(
            done.stderr.contains(word),
            "{word:?} is not in {}",
            done.stderr
        );
    }
    assert!(
        done.stderr.contains(path.to_str().unwrap()),
        "{}",
        done.stderr
    );
    assert!(fs::read(path).unwrap() == before, "the file was written to");
}

#[test]
fn only_its_owner_may_read_a_store() {
    let (folder, path) = stored();
    let writer = Writer::open(&path).unwrap();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.path());
    }
    drop(writer);
}

#[test]
fn a_second_writer_is_refused_and_a_reader_is_not() {
    let (_folder, path) = stored();
    let writer = Writer::open(&path).unwrap();
    refused(&path, &["in use by another process", "stop that one first"]);
    let reader = hearthd(&[
        "graph",
        "--format",
        "json",
        "--store",
        path.to_str().unwrap(),
    ])
    .ok();
    assert!(reader.stdout.contains("front-door"), "{}", reader.stdout);
    drop(writer);
}

#[test]
fn files_of_others_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.txt");
    fs::write(&text, "not a database, but somebody's notes\n".repeat(100)).unwrap();
    refused(
        &text,
        &["not a hearthd store", "name another file in store.path"],
    );

    let empty = folder.path().join("empty.db");
    fs::write(&empty, "").unwrap();
    refused(&empty, &["not a hearthd store", "an empty file"]);

    let other = folder.path().join("other.db");
    Connection::open(&other)
        .unwrap()
        .execute_batch("CREATE TABLE songs (title TEXT)")
        .unwrap();
    refused(&other, &["not a hearthd store", "another program"]);
}

#[test]
fn a_store_of_a_newer_schema_is_refused() {
    let (_folder, path) = stored();
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    connection.close().unwrap();
    refused(&path, &["schema 99", "run the newer hearthd"]);
}

#[test]
fn a_truncated_store_is_refused() {
    let (_folder, path) = stored();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    refused(&path, &["damaged"]);
}

#[test]
fn a_folder_that_can_not_be_written_to_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "kept").unwrap();
    let done = replay_into(&file.join("hearthd.db"));
    assert_eq!((done.code, done.stdout.as_str()), (1, ""));
    assert!(
        done.stderr
            .contains("check that its folder exists and is writable"),
        "{}",
        done.stderr
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
}

#[test]
fn a_missing_store_is_not_made_by_a_reader() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hearthd.db");
    let done = hearthd(&["graph", "--store", path.to_str().unwrap()]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("does not exist"), "{}", done.stderr);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn bad_lines_are_in_quarantine_with_their_place() {
    let (_folder, path) = stored();
    let done = hearthd(&[
        "quarantine",
        "--format",
        "json",
        "--store",
        path.to_str().unwrap(),
    ])
    .ok();
    let rows: Vec<Value> = done
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let place = |line: usize| format!("{}:{line}", fixture(SCENARIO).display());
    assert_eq!(rows.len(), 12);
    let hello = &rows[0];
    assert_eq!(hello["place"], place(1));
    assert_eq!(
        (&hello["reason"], &hello["raw"]),
        (&"not_json".into(), &"aGVsbG8=".into())
    );
    let cut = rows.iter().find(|row| row["place"] == place(8)).unwrap();
    assert_eq!(cut["reason"], "bad_line");
    let toaster = rows.last().unwrap();
    assert_eq!(
        (&toaster["reason"], &toaster["place"]),
        (&"unknown_platform".into(), &place(14).into())
    );
}

#[test]
fn a_reader_sees_what_is_committed_beside_the_writer() {
    let (_folder, path) = stored();
    let writer = Writer::open(&path).unwrap();
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.journal(0, usize::MAX).unwrap().len(), 4);
    drop(writer);
}

#[test]
fn a_reader_that_never_ends_is_named_before_the_disk_is_full() {
    let disk = Disk::new();
    let path = disk.path();
    let mut store = Writer::open(&path).unwrap();
    let endless = Connection::open(&path).unwrap();
    endless.execute_batch("BEGIN; SELECT * FROM meta").unwrap();
    let wal_bytes = || {
        path.with_file_name("hearthd.db-wal")
            .metadata()
            .unwrap()
            .len()
    };
    let mut longest = 0;
    let error = loop {
        assert!(longest < 2 * WAL_MAX_BYTES, "the WAL has no bound");
        match store.write(large()) {
            Ok(_) => longest = wal_bytes(),
            Err(error) => break error,
        }
    };
    assert!(
        longest > WAL_MAX_BYTES && longest < WAL_MAX_BYTES + (20 << 20),
        "{longest}"
    );
    assert!(matches!(error, StoreError::WalPinned { .. }), "{error:?}");
    assert!(
        error.to_string().contains("end that program (`fuser"),
        "{error}"
    );
    assert!(!error.is_fatal() && !error.is_full());
    store.write(large()).unwrap_err();
    assert_eq!(wal_bytes(), longest, "nothing is written any more");

    drop(endless);
    store.write(large()).unwrap();
    assert!(wal_bytes() < WAL_MAX_BYTES / 4, "the WAL is short again");
}

/// The bound of the WAL.
const WAL_MAX_BYTES: u64 = 256 << 20;

/// A commit of 16 MiB.
fn large() -> Changes {
    let time = Timestamp::parse("2025-06-09T13:52:05Z").unwrap();
    let raw = RawMessage {
        platform: Platform::Sdm,
        message_id: "m".into(),
        publish_time: PublishTime(time.clone()),
        received_at: ReceivedAt(time),
        body: vec![b'x'; 16 << 20].into(),
        place: None,
    };
    let (key, at) = (DedupeKey([0; 16]), ClockTime(1));
    let reject = Reject::new(Reason::NotJson, "not JSON");
    let quarantined = vec![Quarantined {
        key,
        at,
        reject,
        raw,
    }];
    Changes {
        at,
        quarantined,
        ..Changes::default()
    }
}
