//! What `hearthd run` sustains and how long it takes, against baselines of the same run.
//!
//! Prints tables in Markdown: medians of rounds, and of the ratios within a round. The test server
//! is in this process; what it serves is in a process of its own each: the real binary, the same
//! service on a store in memory, and a bare client. Asserts nothing about time.
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

use anyhow::{Context, bail, ensure};
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

/// Messages of one run on a disk, and of the faster ones: at 10,000 and 50,000 a second these take
/// five times as long as events wait by default (2 s), so that releases are a part of what is
/// measured.
const ON_DISK: usize = 120_000;
const IN_MEMORY: usize = 600_000;

/// Devices of the second run on a disk: more than any cache of single rows would hide.
const MANY_DEVICES: u64 = 5_000;

/// Rounds, each with one run of each kind.
const ROUNDS: usize = 5;

/// Share of the messages after which the time is taken: the first ones wait for a connection.
const START_UP: f64 = 0.1;

/// Messages whose way from publishing to the commit is timed in a round, and their pace.
const TIMED_ONE_BY_ONE: usize = 2_000;
const PACE: Duration = Duration::from_millis(10);

/// Transactions of one row, timed before each of those rounds and after the last.
const COMMITS: usize = 300;

/// The default of `max_outstanding_messages`, and how long they stay so.
const OUTSTANDING: usize = 1_000;
const BUSY: Duration = Duration::from_secs(4);

/// The same in a flood. The library sends acks when it has 1,000 of them, or after 100 ms: with no
/// more messages outstanding than that, a service that acks whole batches waits for it.
const OUTSTANDING_IN_FLOOD: usize = 10_000;

/// Longest wait for a subject, which has long failed by then.
const LIMIT: f64 = 120.0;

fn main() -> anyhow::Result<()> {
    if let Some(kind) = Kind::of_this_process() {
        return kind.be();
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let capture = folder.path().join("capture.jsonl");
    traffic::write(&capture, SEED, IN_MEMORY, traffic::DEVICES)?;
    let bodies = Arc::new(bodies_of(&capture)?);
    let many = folder.path().join("many.jsonl");
    traffic::write(&many, SEED, ON_DISK, MANY_DEVICES)?;
    let many = Arc::new(bodies_of(&many)?);
    let first = flood(Kind::Run, ON_DISK, &bodies, folder.path())?;
    let rows = Rows::of(arrivals(&capture, first.rate)?, ClockTime::default())?;

    let mut bare = Vec::new();
    let mut runs: [Vec<Flooded>; 4] = Default::default();
    for _ in 0..ROUNDS {
        let store = tempfile::tempdir_in(folder.path())?;
        bare.push(ON_DISK as f64 / rows.write(&store.path().join("bare.db"))?);
        store.close()?;
        runs[0].push(flood(Kind::Run, ON_DISK, &bodies, folder.path())?);
        runs[1].push(flood(Kind::PullAndAck, IN_MEMORY, &bodies, folder.path())?);
        runs[2].push(flood(Kind::RunInMemory, IN_MEMORY, &bodies, folder.path())?);
        runs[3].push(flood(Kind::Run, ON_DISK, &many, folder.path())?);
        let last = runs.each_ref().map(|runs| runs.last());
        eprintln!("(a) {:.0?} (b) to (d), (b2) {last:.0?}", bare.last());
    }
    let flooded = runs[0].iter().map(|run| run.peak).fold(0.0, f64::max);
    print_rates(bare, runs);

    let (mut commits, mut timed) = (one_row_commits(folder.path())?, Vec::new());
    for _ in 0..ROUNDS {
        timed.push(percentiles(delays(&bodies, folder.path())?));
        commits.extend(one_row_commits(folder.path())?);
        eprintln!("(f) {:.1?}", timed.last());
    }
    // One stall of the disk delays a hundredth of a round: the rounds without are the measure.
    let timed = [0, 1].map(|which| median(timed.iter().map(|round| round[which]).collect()));
    let held = outstanding(&bodies, folder.path())?;
    print_delays_and_memory(percentiles(commits), timed, [held, flooded]);
    Ok(())
}

/// What a subject reached in a flood.
#[derive(Debug)]
struct Flooded {
    /// Messages acked a second.
    rate: f64,
    /// Microseconds of processor time per message, which other programs change little.
    cpu: f64,
    /// The most memory, in MiB.
    peak: f64,
}

fn print_rates(bare: Vec<f64>, [run, client, memory, many]: [Vec<Flooded>; 4]) {
    let rates = |runs: &[Flooded]| runs.iter().map(|run| run.rate).collect::<Vec<_>>();
    // Within one round: the speed of disks and machines changes over time.
    let ratio = |of: &[Flooded], to: &[f64]| {
        median(of.iter().zip(to).map(|(run, to)| run.rate / to).collect())
    };
    let of_bare = ratio(&run, &bare);
    let of_client = ratio(&memory, &rates(&client));
    let of_few = ratio(&many, &rates(&run));
    let columns = |runs: &[Flooded]| {
        let cpu = median(runs.iter().map(|run| run.cpu).collect());
        format!("{:.0} | {cpu:.1}", median(rates(runs)))
    };
    println!("Medians of {ROUNDS} rounds; messages of about 900 bytes\n");
    println!("| | messages a second | µs of processor time each | ratio | target |");
    println!("|---|---:|---:|---:|---:|");
    println!(
        "| (a) bare SQLite loop, the rows of (b) | {:.0} | | 1 | |",
        median(bare)
    );
    println!(
        "| (b) `run` | {} | {of_bare:.2} × (a) | ≥ 0.6 |",
        columns(&run)
    );
    println!(
        "| (b2) the same, {MANY_DEVICES} devices in place of {} | {} | {of_few:.2} × (b) | |",
        traffic::DEVICES,
        columns(&many)
    );
    println!(
        "| (c) bare client, pull and ack | {} | 1 | |",
        columns(&client)
    );
    println!(
        "| (d) `run` in memory | {} | {of_client:.2} × (c) | ≥ 0.25 |",
        columns(&memory)
    );
}

/// The median and the 99th percentile.
fn percentiles(mut values: Vec<f64>) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    [50, 99].map(|percent| values[values.len() * percent / 100])
}

fn print_delays_and_memory(
    [commit, slow_commit]: [f64; 2],
    [delay, slow_delay]: [f64; 2],
    [held, flooded]: [f64; 2],
) {
    let limit = 10.0 + 5.0 * commit;
    println!("\n| | median | 99th percentile | target |");
    println!("|---|---:|---:|---:|");
    println!("| (e) commit of one row, ms | {commit:.1} | {slow_commit:.1} | |");
    println!(
        "| (f) publish to commit at 100 a second, ms | {delay:.1} | {slow_delay:.1} | ≤ {limit:.1} |"
    );
    println!("\n| | peak memory | target |");
    println!("|---|---:|---:|");
    println!("| (g) 1,000 outstanding, as the store is busy | {held:.0} MiB | ≤ 64 MiB |");
    println!("| (h) the flood of (b) | {flooded:.0} MiB | |");
}

fn bodies_of(capture: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    capture::open(capture)?
        .map(|incoming| Ok(incoming?.raw.body.to_vec()))
        .collect()
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

/// Floods a subject with so many messages.
fn flood(
    kind: Kind,
    count: usize,
    bodies: &Arc<Vec<Vec<u8>>>,
    folder: &Path,
) -> anyhow::Result<Flooded> {
    let server = Server::start();
    let bodies = Arc::clone(bodies);
    let make = move |n: u64| usize::try_from(n).ok().and_then(|n| bodies.get(n)).cloned();
    let flood = Flood::new(move |n| make(n).unwrap_or_default()).count(count as u64);
    server.flood(flood);
    let mut subject = Subject::start(kind, &server.url(), OUTSTANDING_IN_FLOOD, folder)?;
    let reached =
        |share: f64| move |server: &Server| server.acked_count() as f64 >= share * count as f64;
    wait(&server, &mut subject, reached(START_UP))?;
    let (stopwatch, first) = (Stopwatch::start(), server.acked_count());
    wait(&server, &mut subject, reached(1.0))?;
    let rate = (server.acked_count() - first) as f64 / stopwatch.seconds();
    let cpu = subject.cpu_seconds()? * 1e6 / count as f64;
    Ok(Flooded {
        rate,
        cpu,
        peak: subject.peak_mebibytes()?,
    })
}

/// The peak memory of the service in MiB, from 1,000 messages that it can't commit, as another
/// program writes to its store, until they are all acked.
fn outstanding(bodies: &[Vec<u8>], folder: &Path) -> anyhow::Result<f64> {
    let (server, mut subject) = started(bodies, folder)?;
    let store = Connection::open(subject.store())?;
    store.execute_batch("BEGIN IMMEDIATE")?;
    server.publish(&bodies[1..=2 * OUTSTANDING]);
    std::thread::sleep(BUSY);
    let peak = server
        .log()
        .streams
        .iter()
        .map(|stream| stream.peak_messages)
        .max();
    ensure!(
        peak >= i64::try_from(OUTSTANDING).ok(),
        "{peak:?} were outstanding"
    );
    store.execute_batch("ROLLBACK")?;
    wait(&server, &mut subject, |server| {
        server.acked_count() > 2 * OUTSTANDING as u64
    })?;
    subject.peak_mebibytes()
}

/// The service, that has acked its first message.
fn started(bodies: &[Vec<u8>], folder: &Path) -> anyhow::Result<(Server, Subject)> {
    let server = Server::start();
    let mut subject = Subject::start(Kind::Run, &server.url(), OUTSTANDING, folder)?;
    server.publish(&bodies[..1]);
    wait(&server, &mut subject, |server| server.acked_count() == 1)?;
    Ok((server, subject))
}

fn wait(
    server: &Server,
    subject: &mut Subject,
    condition: impl Fn(&Server) -> bool,
) -> anyhow::Result<()> {
    let stopwatch = Stopwatch::start();
    while !condition(server) {
        if stopwatch.seconds() > LIMIT || !subject.is_running()? {
            bail!(
                "ended or too slow, {} acked:\n{}",
                server.acked_count(),
                subject.log()?
            );
        }
        // Asking holds the server up.
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Milliseconds from publishing to the commit of messages that come one by one. The server
/// delivers in order and there is one stream, so each line of the log that tells of a commit is
/// about the oldest messages that are not committed.
fn delays(bodies: &[Vec<u8>], folder: &Path) -> anyhow::Result<Vec<f64>> {
    let clock = Clock::start(ClockTime::default());
    let (server, mut subject) = started(bodies, folder)?;
    let mut published = Vec::new();
    for body in &bodies[1..=TIMED_ONE_BY_ONE] {
        let at = clock.wall_now();
        let publish_time = Some(at.into());
        server.publish_message(Message {
            body: body.clone(),
            publish_time,
            ..Message::default()
        });
        published.push(at);
        std::thread::sleep(PACE);
    }
    wait(&server, &mut subject, |server| {
        server.acked_count() > TIMED_ONE_BY_ONE as u64
    })?;
    let committed = commit_times(&subject.log()?)?;
    let delay = |(at, committed): (&DateTime<Utc>, &DateTime<Utc>)| {
        (*committed - at).as_seconds_f64() * 1e3
    };
    Ok(published.iter().zip(&committed[1..]).map(delay).collect())
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

/// Milliseconds of commits of one row each, as safe as the store's.
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
        Ok(stopwatch.seconds() * 1e3)
    };
    (0..COMMITS).map(commit).collect()
}
