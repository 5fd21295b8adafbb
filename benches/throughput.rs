//! What `hearthd run` sustains and how long it takes, against baselines of the same run.
//!
//! Prints a table in Markdown: medians of interleaved runs, and their ratios. The test server is in
//! this process; what it serves is in a process of its own each: the real binary, the same service
//! on a store in memory, and a bare client. Asserts nothing about time.
#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(clippy::print_stderr, reason = "and its progress")]

#[path = "shared/measure.rs"]
mod measure;
#[path = "shared/rows.rs"]
mod rows;
#[path = "throughput/subject.rs"]
mod subject;
#[path = "shared/traffic.rs"]
mod traffic;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use hearthd::clock::{Clock, Stopwatch};
use hearthd::event::ClockTime;
use hearthd::sources::{Incoming, capture};
use pubsub_test_server::{Flood, Message, Server};
use rusqlite::Connection;
use serde::Deserialize;

use self::measure::median;
use self::rows::Rows;
use self::subject::{Kind, Subject};

/// The program's own.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const SEED: u64 = 20_250_609;

/// Messages of one run on a disk, and of the faster ones.
const ON_DISK: usize = 60_000;
const IN_MEMORY: usize = 200_000;

/// Runs of each kind, in turns.
const RUNS: usize = 3;

/// Share of the messages after which the time is taken: the first ones wait for a connection.
const START_UP: f64 = 0.1;

/// Messages whose way from publishing to the commit is timed, and their pace.
const TIMED_ONE_BY_ONE: usize = 3_000;
const PACE: Duration = Duration::from_millis(10);

/// Transactions of one row, timed before and after those.
const COMMITS: usize = 300;

/// Longest wait for a subject, which has long failed by then.
const LIMIT: f64 = 120.0;

fn main() -> anyhow::Result<()> {
    if let Some(kind) = Kind::of_this_process() {
        return kind.be();
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let capture = folder.path().join("capture.jsonl");
    traffic::write(&capture, SEED, IN_MEMORY)?;
    let bodies = Arc::new(bodies(&capture)?);
    let (rate, _) = flood(Kind::Run, ON_DISK, &bodies, folder.path())?;
    let rows = Rows::of(arrivals(&capture, rate)?, ClockTime::default())?;

    let mut rates: [Vec<f64>; 4] = Default::default();
    let mut peaks = Vec::new();
    for _ in 0..RUNS {
        let store = tempfile::tempdir_in(folder.path())?;
        rates[0].push(ON_DISK as f64 / rows.write(&store.path().join("bare.db"))?);
        store.close()?;
        let (rate, peak) = flood(Kind::Run, ON_DISK, &bodies, folder.path())?;
        rates[1].push(rate);
        peaks.push(peak);
        rates[2].push(flood(Kind::PullAndAck, IN_MEMORY, &bodies, folder.path())?.0);
        rates[3].push(flood(Kind::RunInMemory, IN_MEMORY, &bodies, folder.path())?.0);
        eprintln!("(a) to (d) a second: {:.0?}", rates.each_ref().map(|runs| runs.last()));
    }
    let mut commits = one_row_commits(folder.path())?;
    let delays = delays(&bodies, folder.path())?;
    commits.extend(one_row_commits(folder.path())?);
    print(rates.map(median), peaks.into_iter().fold(0.0, f64::max), commits, delays);
    Ok(())
}

fn print([bare, sqlite, client, memory]: [f64; 4], peak: f64, commits: Vec<f64>, delays: Vec<f64>) {
    let commit = median(commits) * 1e3;
    let [middle, p99] = [50, 99].map(|percent| delays[delays.len() * percent / 100] * 1e3);
    println!("Medians of {RUNS} runs; messages of about 900 bytes\n");
    println!("| | messages a second | ratio | target |");
    println!("|---|---:|---:|---:|");
    println!("| (a) bare SQLite loop, the rows of (b) | {bare:.0} | 1 | |");
    println!("| (b) `run` | {sqlite:.0} | {:.2} × (a) | ≥ 0.6 |", sqlite / bare);
    println!("| (c) bare client, pull and ack | {client:.0} | 1 | |");
    println!(
        "| (d) `run` on a store in memory | {memory:.0} | {:.2} × (c) | ≥ 0.25 |",
        memory / client
    );
    println!();
    println!("| | | target |");
    println!("|---|---:|---:|");
    println!("| (e) commit of one row, median | {commit:.2} ms | |");
    println!("| (f) publish to commit at 100 a second, median | {middle:.1} ms | |");
    println!("| (g) the same, 99th percentile | {p99:.1} ms | ≤ {:.1} ms |", 10.0 + 5.0 * commit);
    println!("| (h) peak memory of (b), 1,000 outstanding | {peak:.0} MiB | ≤ 64 MiB |");
}

fn bodies(capture: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    capture::open(capture)?.map(|incoming| Ok(incoming?.raw.body.to_vec())).collect()
}

/// The messages of one run on a disk, as they come at that rate.
fn arrivals(
    capture: &Path,
    per_second: f64,
) -> anyhow::Result<impl Iterator<Item = anyhow::Result<(ClockTime, Incoming)>>> {
    let gap = Duration::from_secs_f64(1.0 / per_second);
    let mut at = ClockTime::default();
    Ok(capture::open(capture)?.take(ON_DISK).map(move |incoming| {
        at = at.after(gap);
        Ok((at, incoming?))
    }))
}

/// Floods a subject with so many messages; returns how many it acked a second, and its peak
/// memory in MiB.
fn flood(
    kind: Kind,
    count: usize,
    bodies: &Arc<Vec<Vec<u8>>>,
    folder: &Path,
) -> anyhow::Result<(f64, f64)> {
    let server = Server::start();
    let bodies = Arc::clone(bodies);
    let make = move |n: u64| usize::try_from(n).ok().and_then(|n| bodies.get(n)).cloned();
    let flood = Flood::new(move |n| make(n).unwrap_or_default()).count(count as u64);
    server.flood(flood);
    let mut subject = Subject::start(kind, &server.url(), folder)?;
    let reached =
        |share: f64| move |server: &Server| server.acked_count() as f64 >= share * count as f64;
    wait(&server, &mut subject, reached(START_UP))?;
    let (stopwatch, first) = (Stopwatch::start(), server.acked_count());
    wait(&server, &mut subject, reached(1.0))?;
    let rate = (server.acked_count() - first) as f64 / stopwatch.seconds();
    Ok((rate, subject.peak_mebibytes()?))
}

fn wait(
    server: &Server,
    subject: &mut Subject,
    condition: impl Fn(&Server) -> bool,
) -> anyhow::Result<()> {
    let stopwatch = Stopwatch::start();
    while !condition(server) {
        if stopwatch.seconds() > LIMIT || !subject.is_running()? {
            bail!("ended or too slow, {} acked:\n{}", server.acked_count(), subject.log()?);
        }
        // Asking holds the server up.
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Seconds from publishing to the commit of messages that come one by one, sorted. The server
/// delivers in order and there is one stream, so each line of the log that tells of a commit is
/// about the oldest messages that are not committed.
fn delays(bodies: &[Vec<u8>], folder: &Path) -> anyhow::Result<Vec<f64>> {
    let (server, clock) = (Server::start(), Clock::start(ClockTime::default()));
    let mut subject = Subject::start(Kind::Run, &server.url(), folder)?;
    server.publish([&bodies[0]]);
    wait(&server, &mut subject, |server| server.acked_count() == 1)?;
    let mut published = Vec::new();
    for body in &bodies[1..=TIMED_ONE_BY_ONE] {
        let at = clock.wall_now();
        let publish_time = Some(at.into());
        server.publish_message(Message { body: body.clone(), publish_time, ..Message::default() });
        published.push(at);
        std::thread::sleep(PACE);
    }
    wait(&server, &mut subject, |server| server.acked_count() > TIMED_ONE_BY_ONE as u64)?;
    let committed = commit_times(&subject.log()?)?;
    let delay =
        |(at, committed): (&DateTime<Utc>, &DateTime<Utc>)| (*committed - at).as_seconds_f64();
    let mut delays: Vec<f64> = published.iter().zip(&committed[1..]).map(delay).collect();
    delays.sort_by(f64::total_cmp);
    Ok(delays)
}

/// When each message was committed, in the order of arrival.
fn commit_times(log: &str) -> anyhow::Result<Vec<DateTime<Utc>>> {
    #[derive(Deserialize)]
    struct Line {
        timestamp: DateTime<Utc>,
        fields: Fields,
    }
    #[derive(Deserialize)]
    struct Fields {
        message: String,
        #[serde(default)]
        messages: usize,
    }
    let mut times = Vec::new();
    for line in log.lines() {
        let line: Line = serde_json::from_str(line).with_context(|| line.to_owned())?;
        if line.fields.message == "committed" {
            times.extend(std::iter::repeat_n(line.timestamp, line.fields.messages));
        }
    }
    Ok(times)
}

/// Seconds of commits of one row each, as safe as the store's.
fn one_row_commits(folder: &Path) -> anyhow::Result<Vec<f64>> {
    let store = tempfile::tempdir_in(folder)?;
    let connection = Connection::open(store.path().join("rows.db"))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE rows (line TEXT)",
    )?;
    let line = "x".repeat(900);
    let commit = |_| {
        let stopwatch = Stopwatch::start();
        connection.execute("INSERT INTO rows (line) VALUES (?1)", [&line])?;
        Ok(stopwatch.seconds())
    };
    (0..COMMITS).map(commit).collect()
}
