//! Sinks of the real binary: what they get, when it is killed, and when they can't take it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fastrand::Rng;
use pubsub_test_server::Server;
use serde_json::Value;

use crate::support::command::hearthd;
use crate::support::daemon::{Home, Service};
use crate::support::emulator::wait_until;

const SUBSCRIPTION: &str = "projects/test/subscriptions/hearthd";

/// For anything to happen, on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Times that the service is killed.
const KILLS: usize = 20;

/// A device update of that number. Each makes one record.
fn update(number: usize) -> String {
    let device = format!("enterprises/p/devices/{number}");
    format!(
        r#"{{"eventId":"e{number}","timestamp":"2025-06-09T13:52:05Z","resourceUpdate":{{"name":"{device}"}}}}"#
    )
}

/// A home without `stdout`, and with the sinks of these tables.
fn home(server: &Server, sinks: impl FnOnce(&Home) -> String) -> Home {
    let home = Home::new(&format!("127.0.0.1:{}", server.port()), SUBSCRIPTION);
    let settings = fs::read_to_string(home.path("hearthd.toml")).unwrap();
    let (others, _) = settings.split_once("[[sinks]]").unwrap();
    let settings = format!("{others}{}", sinks(&home));
    fs::write(home.path("hearthd.toml"), settings).unwrap();
    home
}

/// A file sink for all records.
fn file_sink(name: &str, path: &Path) -> String {
    let path = path.display();
    format!(
        "[[sinks]]\nkind = \"file\"\nname = \"{name}\"\n\
         records = [\"notification\", \"event\", \"relation\"]\n\
         [sinks.file]\npath = \"{path}\"\nmax_size = \"1 MiB\"\nkeep = 100\n"
    )
}

fn series(name: &str, sink: &str) -> String {
    format!("hearthd_sink_{name}{{sink=\"{sink}\"}}")
}

/// Waits until all messages are records, and all records are with this sink.
fn wait_until_delivered(service: &Service, server: &Server, sink: &str) {
    service.wait_for(LIMIT, |service| {
        service.get("/readyz").is_some()
            && server.unacked().is_empty()
            && service.has_settled()
            && service.series(&series("backlog_records", sink)) == 0
    });
}

/// The texts of a sink's files, the oldest first.
fn texts(path: &Path) -> Vec<String> {
    let old = (1..).map(|number| PathBuf::from(format!("{}.{number}", path.display())));
    let mut files: Vec<_> = old.take_while(|path| path.exists()).collect();
    files.insert(0, path.into());
    let texts = files.iter().rev().map(fs::read_to_string);
    texts.map(Result::unwrap).collect()
}

/// What a killed service left behind in its files.
#[derive(Default)]
struct Seen {
    /// The line of each record.
    lines: BTreeMap<u64, String>,
    /// Records that were there again.
    repeated: usize,
    /// Lines that are no whole record.
    cut: usize,
}

impl Seen {
    /// Takes a line; panics if it shows a gap, two contents of a record, or two records in a line.
    fn take(&mut self, line: &str) {
        let Ok(record) = serde_json::from_str::<Value>(line) else {
            let records = line.matches("specversion").count();
            assert!(records <= 1, "a record is glued to another: {line}");
            self.cut += 1;
            return;
        };
        let sequence: u64 = record["sequence"].as_str().unwrap().parse().unwrap();
        let next = self.lines.len() as u64 + 1;
        assert!(sequence <= next, "a gap before {sequence}");
        if let Some(earlier) = self.lines.insert(sequence, line.to_owned()) {
            assert_eq!(earlier, line);
            self.repeated += 1;
        }
    }
}

/// What a kill in the middle of a write leaves: the start of a record.
fn cut_a_write(rng: &mut Rng, out: &Path) {
    let mut text = fs::read_to_string(out).unwrap();
    let line = text.lines().last().unwrap();
    let start: String = line.chars().take(rng.usize(1..line.len())).collect();
    text.push_str(&start);
    fs::write(out, text).unwrap();
}

#[test]
fn kills_between_write_and_cursor_repeat_records_and_glue_none() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let server = Server::start();
    let home = home(&server, |home| file_sink("out", &home.path("out")));
    let out = home.path("out");
    let mut sent = 0;
    let mut torn = 0;
    for kill in 0..KILLS {
        let count = rng.usize(1..400);
        let before = fs::metadata(&out).map_or(0, |found| found.len());
        let mut service = home.spawn(&format!("run{kill}"));
        server.publish((sent..sent + count).map(update));
        sent += count;
        let has_grown = || fs::metadata(&out).is_ok_and(|found| found.len() != before);
        assert!(wait_until(LIMIT, has_grown), "{}", service.log());
        service.kill();
        if rng.bool() {
            cut_a_write(&mut rng, &out);
            torn += 1;
        }
    }
    let service = home.start("last");
    wait_until_delivered(&service, &server, "out");
    service.stop();
    let mut seen = Seen::default();
    for text in texts(&out) {
        assert!(text.ends_with('\n'));
        text.lines().for_each(|line| seen.take(line));
    }
    let store = home.store();
    let journal = hearthd(&["records", "--store", store.to_str().unwrap()]).ok();
    let expected: Vec<&str> = journal.stdout.lines().collect();
    assert_eq!(Vec::from_iter(seen.lines.values()), expected);
    assert!(expected.len() >= sent);
    let shown = (torn, seen.cut, seen.repeated);
    let has_happened = torn > 0 && seen.cut >= torn && seen.repeated > 0;
    assert!(has_happened, "the kills show nothing: {shown:?}");
}

#[test]
fn a_file_without_its_folder_delays_that_sink_alone() {
    let server = Server::start();
    let home = home(&server, |home| {
        file_sink("late", &home.path("late/out")) + &file_sink("good", &home.path("good"))
    });
    let settings = home.path("hearthd.toml");
    let check = ["check", "--config", settings.to_str().unwrap()];
    let refused = hearthd(&check).stderr;
    assert!(refused.contains("late: the folder "), "{refused}");
    assert!(refused.contains("is not there; create it"), "{refused}");

    let service = home.start("run");
    server.publish((0..9).map(update));
    wait_until_delivered(&service, &server, "good");
    service.wait_for(LIMIT, |service| {
        service.series(&series("up", "late")) == 0
            && service.series(&series("oldest_undelivered_timestamp_seconds", "late")) > 0
            && service.series(&series("oldest_undelivered_timestamp_seconds", "good")) == 0
    });
    assert_eq!(service.series(&series("up", "good")), 1);
    service.wait_for_log(
        LIMIT,
        0,
        "create its folder, or correct the sink's file.path",
    );
    fs::create_dir(home.path("late")).unwrap();
    hearthd(&check).ok();
    wait_until_delivered(&service, &server, "late");
    service.wait_for(LIMIT, |service| service.series(&series("up", "late")) == 1);
    service.stop();
    let read = |name| fs::read_to_string(home.path(name)).unwrap();
    assert_eq!(read("late/out"), read("good"));
    assert!(read("good").lines().count() >= 9);
}

#[test]
fn a_filter_selects_what_a_sink_gets() {
    let server = Server::start();
    let home = home(&server, |home| {
        let filter = "[sinks.filter]\nresources = [\"enterprises/p/devices/1*\"]\n";
        file_sink("out", &home.path("out")) + filter
    });
    let service = home.start("run");
    server.publish((0..30).map(update));
    wait_until_delivered(&service, &server, "out");
    service.stop();
    let text = fs::read_to_string(home.path("out")).unwrap();
    let mut subjects: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["subject"].to_string())
        .collect();
    subjects.sort();
    subjects.dedup();
    assert_eq!(subjects.len(), 11, "{subjects:?}");
}
