//! A store that is not what hearthd left: recovered, or refused with what to do; never silently
//! emptied, cut or replaced.
//!
//! SQLite has no checksums of pages: a bit that flips inside a value is seen only if the value can
//! not be read any more. Of 200 damaged stores some 25 hold such a value; they are counted and
//! printed. What never happens: a row or a commit that is gone, or damage to the WAL, unnoticed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use fastrand::Rng;
use hearthd::engine::Arrival;
use hearthd::event::ClockTime;
use hearthd::pipeline::Pipeline;
use hearthd::store::{Reader, StoreError, Writer};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use super::support::replay::{Disk, messages, open_sqlite, settings};
use super::support::store::{Readable, Writable};

/// All tables.
const TABLES: [&str; 14] = [
    "meta",
    "payloads",
    "notifications",
    "members",
    "clips",
    "released",
    "held",
    "nodes",
    "traits",
    "journal",
    "quarantine",
    "sinks",
    "shown",
    "dead_letters",
];

/// Commits that a store has got, and messages in each.
const COMMITS: usize = 40;
const BATCH: usize = 5;

const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// The files that hold something. The rest can be made anew.
const FILES: [&str; 3] = ["hearthd.db", "hearthd.db-wal", "hearthd.db.mark"];

/// Files of a store at one moment, by name.
type Files = BTreeMap<String, Vec<u8>>;

/// What a store holds: the rows of each table, as text.
type Content = BTreeMap<&'static str, Vec<String>>;

/// A store in two states, and what it holds.
struct Original {
    /// As `kill -9` leaves it: the last commits are in the WAL.
    killed: Files,
    /// As a stop leaves it.
    closed: Files,
    content: Content,
    /// What it held after each commit.
    earlier: Vec<Content>,
}

/// Made once: it takes a second.
static ORIGINAL: LazyLock<Original> = LazyLock::new(Original::new);

impl Original {
    fn new() -> Self {
        let disk = Disk::new();
        let mut pipeline = Pipeline::open(disk.store(), settings()).unwrap();
        let mut earlier = Vec::new();
        for commit in 0..COMMITS {
            feed(&mut pipeline, commit * BATCH).unwrap();
            earlier.push(content(&disk.path()));
            if commit == COMMITS / 2 {
                let other = Connection::open(disk.path()).unwrap();
                other
                    .query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))
                    .unwrap();
            }
        }
        pipeline.store_mut().set_cursor("bell", 2).unwrap();
        let killed = files(&disk.path());
        assert!(
            killed["hearthd.db"].len() > 20 * PAGE && killed["hearthd.db-wal"].len() > 20 * PAGE
        );
        let content = content(&disk.path());
        drop(pipeline);
        Self {
            killed,
            closed: files(&disk.path()),
            content,
            earlier,
        }
    }
}

/// A batch of messages from a number on: notifications, clips, the graph, traits, quarantine.
fn feed(pipeline: &mut Pipeline, first: usize) -> Result<(), StoreError> {
    let line = |index: usize| {
        let time = format!("2025-06-09T13:{:02}:{:02}Z", index / 60, index % 60);
        let device = format!("enterprises/p/devices/d{}", index % 7);
        let session = format!("s{}", index / 2);
        let clip = json!({"eventSessionId": session, "previewUrl": format!("https://c/{index}")});
        let event = json!({
            "eventId": format!("e{index}"), "timestamp": time, "userId": format!("u{}", index % 3),
            "eventThreadId": format!("t{}", index / 3), "eventThreadState": "UPDATED",
            "resourceUpdate": {"name": device,
                "events": {"sdm.devices.events.DoorbellChime.Chime": {"eventSessionId": session},
                    "sdm.devices.events.CameraClipPreview.ClipPreview": clip},
                "traits": {"sdm.devices.traits.Info": {"customName": format!("door {index}")}}},
        });
        let event = if index.is_multiple_of(20) {
            json!("bad")
        } else {
            event
        };
        json!({"publishTime": time, "messageId": format!("m{index}"), "event": event}).to_string()
    };
    let lines: Vec<String> = (first..first + BATCH).map(line).collect();
    let mut until = ClockTime::default();
    let mut arrivals = Vec::new();
    for message in messages(&lines) {
        let (raw, decoded) = Pipeline::decode(&settings().decode, message);
        until = ClockTime::from_utc(raw.received_at.0.at());
        arrivals.push(Arrival {
            at: until,
            raw,
            decoded,
        });
    }
    pipeline.step(arrivals, until).map(drop)
}

/// What is there, but for empty files: a reader leaves an empty WAL.
fn files(store: &Path) -> Files {
    let read = |name: &&str| {
        Some((
            (*name).to_owned(),
            fs::read(store.with_file_name(name)).ok()?,
        ))
    };
    FILES
        .iter()
        .filter_map(read)
        .filter(|(_, bytes)| !bytes.is_empty())
        .collect()
}

/// All rows of all tables, seen by SQLite alone.
fn content(store: &Path) -> Content {
    let connection = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let rows = |table: &'static str| {
        let mut statement = connection
            .prepare(&format!("SELECT * FROM {table}"))
            .unwrap();
        let columns = statement.column_count();
        let row = |row: &rusqlite::Row<'_>| {
            let mut text = String::new();
            for column in 0..columns {
                write!(text, "{:?} ", row.get::<_, Value>(column)?).unwrap();
            }
            Ok(text)
        };
        // A row that can't be read has a text of its own, equal to no other.
        let rows = statement.query_map([], row).unwrap();
        let mut rows: Vec<String> = rows
            .map(|row| row.unwrap_or_else(|error| format!("unreadable: {error}")))
            .collect();
        rows.sort();
        (table, rows)
    };
    TABLES.into_iter().map(rows).collect()
}

/// A folder with these files.
struct Folder(Disk);

impl Folder {
    fn new(files: &Files) -> Self {
        let folder = Self(Disk::new());
        for (name, bytes) in files {
            fs::write(folder.file(name), bytes).unwrap();
        }
        folder
    }

    fn store(&self) -> PathBuf {
        self.0.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.store().with_file_name(name)
    }

    /// What came of it: the whole story of a start.
    fn start(&self, original: &Original) -> Outcome {
        let before = files(&self.store());
        // A reading command may come first, and must not make things worse.
        if let Ok(reader) = Reader::open(&self.store()) {
            drop(read_all_of(&reader));
        }
        assert!(
            files(&self.store()) == before,
            "a reader wrote to the files"
        );
        let sqlite = match open(&self.store()) {
            Ok(sqlite) => sqlite,
            Err(error) => {
                let again = open(&self.store()).unwrap_err();
                assert_eq!(again.to_string(), error.to_string());
                assert!(files(&self.store()) == before, "refused, and written to");
                return Outcome::Refused(error.to_string());
            }
        };
        let found = content(&self.store());
        match run(sqlite) {
            Err(error) => {
                // Damage to pages is met before anything is written; that of a value, when read.
                assert!(
                    error.is_fatal() && is_of_row(&error),
                    "met too late: {error}"
                );
                Outcome::Refused(error.to_string())
            }
            Ok(()) if found == original.content => Outcome::Recovered,
            Ok(()) if original.earlier.contains(&found) => Outcome::Earlier,
            Ok(()) if rows(&found) == rows(&original.content) => Outcome::Changed,
            Ok(()) => panic!(
                "rows were lost: {:?} of {:?}",
                rows(&found),
                rows(&original.content)
            ),
        }
    }

    /// The reason why it is refused, at each try, with the files left as they are.
    fn refused(&self, original: &Original) -> String {
        let outcome = self.start(original);
        let Outcome::Refused(why) = outcome else {
            panic!("{outcome:?}")
        };
        why
    }
}

/// How the start of a store went.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// It holds what it held.
    Recovered,
    /// It says what is wrong and what to do.
    Refused(String),
    /// It holds what it held some commits ago.
    Earlier,
    /// Some value is another one.
    Changed,
}

fn is_of_row(error: &StoreError) -> bool {
    error.to_string().contains("a row can't be read")
}

/// Opens a store that is not in use, whatever `open_sqlite` says of locks.
fn open(store: &Path) -> Result<Writer, StoreError> {
    loop {
        match Writer::open(store) {
            Err(StoreError::Locked { .. }) => std::thread::yield_now(),
            opened => return opened,
        }
    }
}

/// Restores the pipeline, reads all that there is, and goes on with another batch.
fn run(writer: Writer) -> Result<(), StoreError> {
    let mut pipeline = Pipeline::open(writer, settings())?;
    read_all(pipeline.store())?;
    feed(&mut pipeline, COMMITS * BATCH)?;
    read_all(pipeline.store())
}

fn read_all(writer: &Writer) -> Result<(), StoreError> {
    writer.restore()?;
    for row in writer.quarantine(usize::MAX)? {
        writer.quarantined(row.id)?;
    }
    read_all_of(writer)
}

fn read_all_of(store: &impl Readable) -> Result<(), StoreError> {
    store.notifications()?;
    store.journal(0, usize::MAX)?;
    store.quarantine(usize::MAX)?;
    store.dead_letters(usize::MAX)?;
    store.last_sequence()?;
    store.cursor("bell").map(drop)
}

fn rows(content: &Content) -> BTreeMap<&'static str, usize> {
    content
        .iter()
        .map(|(table, rows)| (*table, rows.len()))
        .collect()
}

/// One seeded change of one file; says what it did.
fn mutate(files: &mut Files, rng: &mut Rng) -> String {
    let names: Vec<&str> = FILES[..2]
        .iter()
        .copied()
        .filter(|n| files.contains_key(*n))
        .collect();
    let name = names[rng.usize(..names.len())];
    let bytes = files.get_mut(name).unwrap();
    let length = bytes.len();
    match rng.u8(..8) {
        0 => {
            let end = rng.usize(..length);
            bytes.truncate(end);
            format!("{name} cut at {end}")
        }
        1 => {
            let end = rng.usize(..length / SECTOR) * SECTOR;
            bytes.truncate(end);
            format!("{name} cut at {end}, a sector")
        }
        2 => {
            let header = if name == FILES[1] { 32 } else { 0 };
            let whole = if name == FILES[1] { PAGE + 24 } else { PAGE };
            let end = header + rng.usize(..(length - header) / whole) * whole;
            bytes.truncate(end);
            format!("{name} cut at {end}, a page")
        }
        3 => zeroed(name, bytes, rng, PAGE),
        4 => zeroed(name, bytes, rng, SECTOR),
        5 => {
            let flips = rng.usize(2..20);
            for _ in 0..flips {
                flip(bytes, rng);
            }
            format!("{name} with {flips} bits flipped")
        }
        _ => format!("{name} with bit {} flipped", flip(bytes, rng)),
    }
}

fn zeroed(name: &str, bytes: &mut [u8], rng: &mut Rng, size: usize) -> String {
    let start = rng.usize(..bytes.len() / size) * size;
    bytes[start..start + size].fill(0);
    format!("{name} with {size} zeros at {start}")
}

fn flip(bytes: &mut [u8], rng: &mut Rng) -> usize {
    let bit = rng.usize(..bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    bit
}

#[test]
fn two_hundred_damaged_stores_are_recovered_or_refused() {
    let original = &*ORIGINAL;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut changed = BTreeSet::new();
    for seed in 0..200 {
        let mut rng = Rng::with_seed(seed);
        let mut files = if seed % 4 == 0 {
            &original.closed
        } else {
            &original.killed
        }
        .clone();
        let what = mutate(&mut files, &mut rng);
        let folder = Folder::new(&files);
        let outcome = catch_unwind(AssertUnwindSafe(|| folder.start(original)));
        let outcome = outcome.unwrap_or_else(|_| panic!("seed {seed}: {what}"));
        let name = match outcome {
            Outcome::Recovered => "recovered",
            Outcome::Refused(why) => {
                assert!(
                    why.contains("restore a backup") || why.contains("put back"),
                    "{what}: {why}"
                );
                "refused"
            }
            Outcome::Changed => {
                changed.insert(what);
                "changed"
            }
            Outcome::Earlier => panic!("seed {seed}: {what}: commits are gone"),
        };
        *counts.entry(name).or_default() += 1;
    }
    // Not with `eprintln!`: the output of tests that pass is hidden.
    let mut stderr = std::io::stderr().lock();
    writeln!(
        stderr,
        "\ndamaged stores: {counts:?}; not noticed: {changed:?}"
    )
    .unwrap();
    for name in ["recovered", "refused"] {
        assert!(counts[name] > 5, "the damage is one-sided: {counts:?}");
    }
    assert!(
        changed
            .iter()
            .all(|what| what.contains("flipped") || what.contains("zeros"))
    );
}

#[test]
fn a_store_that_was_killed_holds_every_commit() {
    let original = &*ORIGINAL;
    assert_eq!(
        Folder::new(&original.killed).start(original),
        Outcome::Recovered
    );
    assert_eq!(
        Folder::new(&original.closed).start(original),
        Outcome::Recovered
    );
    assert!(!original.closed.contains_key("hearthd.db-wal"));

    // A reading command may be the first, and changes nothing.
    let folder = Folder::new(&original.killed);
    let reader = Reader::open(&folder.store()).unwrap();
    let rows = reader.journal(0, usize::MAX).unwrap();
    assert_eq!(rows.len(), original.content["journal"].len());
    drop(reader);
    assert!(files(&folder.store()) == original.killed);
}

#[test]
fn a_wal_that_is_missing_is_noticed() {
    let original = &*ORIGINAL;
    let mut files = original.killed.clone();
    files.remove("hearthd.db-wal");
    let folder = Folder::new(&files);
    let reader = Reader::open(&folder.store()).unwrap_err();
    assert!(matches!(reader, StoreError::RolledBack { .. }), "{reader}");
    let why = folder.refused(original);
    for words in [
        " commits of ",
        "its WAL is missing or cut",
        "put back what is missing",
    ] {
        assert!(why.contains(words), "{why}");
    }
    // Accepting the loss takes the step that the message names.
    let mark = folder.file("hearthd.db.mark");
    assert!(why.contains(&format!("remove {}", mark.display())), "{why}");
    fs::remove_file(mark).unwrap();
    assert_eq!(folder.start(original), Outcome::Earlier);
}

#[test]
fn a_wal_that_ends_early_is_noticed_or_a_start_of_the_whole() {
    let original = &*ORIGINAL;
    for seed in 0..20 {
        let mut rng = Rng::with_seed(seed);
        let mut files = original.killed.clone();
        let wal = files.get_mut("hearthd.db-wal").unwrap();
        wal.truncate(rng.usize(..wal.len()));
        let outcome = Folder::new(&files).start(original);
        assert!(
            matches!(outcome, Outcome::Refused(_) | Outcome::Recovered),
            "{outcome:?}"
        );
        // Without the mark nobody can know. What is there is still of one moment.
        files.remove("hearthd.db.mark");
        let outcome = Folder::new(&files).start(original);
        assert!(!matches!(outcome, Outcome::Changed), "{seed}: {outcome:?}");
    }
}

#[test]
fn the_wal_of_another_store_is_noticed_and_not_written_back() {
    let (original, other) = (&*ORIGINAL, Original::new());
    let mut files = original.killed.clone();
    files.insert(
        "hearthd.db-wal".to_owned(),
        other.killed["hearthd.db-wal"].clone(),
    );
    let why = Folder::new(&files).refused(original);
    assert!(
        why.contains("it is another store") || why.contains("damaged"),
        "{why}"
    );
}

#[test]
fn an_older_copy_is_used_only_if_that_is_meant() {
    let (original, backup) = (&*ORIGINAL, Disk::new());
    let folder = Folder::new(&original.killed);
    let copy = format!("VACUUM INTO '{}'", backup.path().display());
    Connection::open(folder.store())
        .unwrap()
        .execute_batch(&copy)
        .unwrap();
    let mut pipeline = Pipeline::open(open_sqlite(&folder.store()), settings()).unwrap();
    feed(&mut pipeline, COMMITS * BATCH).unwrap();
    drop(pipeline);
    fs::copy(backup.path(), folder.store()).unwrap();
    let why = folder.refused(original);
    assert!(why.contains("an older copy is there on purpose"), "{why}");
    fs::remove_file(folder.file("hearthd.db.mark")).unwrap();
    let mode = |store: &Connection| {
        let mode = store.pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0));
        mode.unwrap()
    };
    assert_eq!(mode(&Connection::open(backup.path()).unwrap()), "delete");
    assert_eq!(folder.start(original), Outcome::Recovered);
    assert_eq!(
        mode(&Connection::open(folder.store()).unwrap()),
        "wal",
        "as every other store"
    );
}

#[test]
fn a_store_that_is_gone_is_not_made_anew() {
    let original = &*ORIGINAL;
    for trace in ["hearthd.db.mark", "hearthd.db-wal"] {
        let files = BTreeMap::from([(trace.to_owned(), original.killed[trace].clone())]);
        let folder = Folder::new(&files);
        let why = folder.refused(original);
        let advice = format!("to start anew, remove {}", folder.file(trace).display());
        assert!(why.contains("is gone") && why.contains(&advice), "{why}");
        assert!(!folder.store().exists());
        fs::remove_file(folder.file(trace)).unwrap();
        drop(open_sqlite(&folder.store()));
    }
}

#[test]
fn what_is_no_whole_store_is_refused() {
    let original = &*ORIGINAL;
    for (sql, words) in [
        (
            "PRAGMA application_id = 7",
            "an SQLite file of another program",
        ),
        ("PRAGMA user_version = 99", "run the newer hearthd"),
        ("PRAGMA user_version = 1", "move"),
        ("PRAGMA user_version = 0", "start anew"),
        ("DROP TABLE clips", "clips is missing"),
        ("DROP INDEX payloads_at", "payloads_at is missing"),
        (
            "ALTER TABLE held ADD COLUMN more TEXT",
            "held is missing, or not as it was made",
        ),
        (
            "DELETE FROM meta WHERE name = 'clock'",
            "a row can't be read",
        ),
        (
            "DELETE FROM meta WHERE name = 'last_sequence'",
            "a row can't be read",
        ),
        (
            "UPDATE meta SET value = 3 WHERE name = 'last_sequence'",
            "its last record was 3",
        ),
        (
            "UPDATE held SET row = substr(row, 2)",
            "a row can't be read",
        ),
        (
            "UPDATE notifications SET state = '{}'",
            "a row can't be read",
        ),
        (
            "UPDATE quarantine SET reason = 'none'",
            "a row can't be read",
        ),
        ("UPDATE journal SET kind = 'none'", "a row can't be read"),
    ] {
        let folder = Folder::new(&original.closed);
        Connection::open(folder.store())
            .unwrap()
            .execute_batch(sql)
            .unwrap();
        let why = folder.refused(original);
        assert!(why.contains(words), "{sql}: {why}");
        assert!(
            why.contains(folder.store().to_str().unwrap()),
            "{sql}: {why}"
        );
    }
    let folder = Folder(Disk::new());
    fs::create_dir(folder.store()).unwrap();
    let why = open(&folder.store()).unwrap_err().to_string();
    assert!(
        why.contains("not a file") && why.contains("name another file"),
        "{why}"
    );
}

#[test]
fn a_reader_is_never_refused_for_commits_that_are_being_made() {
    let disk = Disk::new();
    let mut pipeline = Pipeline::open(disk.store(), settings()).unwrap();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            for _ in 0..200 {
                Reader::open(&disk.path()).unwrap();
            }
        });
        let mut first = 0;
        while !reading.is_finished() {
            feed(&mut pipeline, first % 3_000).unwrap();
            first += BATCH;
        }
        assert!(first > 0);
    });
}
