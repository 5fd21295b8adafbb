//! What `hearthd replay` costs, measured against two baselines in one run.
//!
//! Prints a table in Markdown: medians of interleaved runs, and their ratios, which say more than
//! the times on a machine that does other things too. Asserts nothing about time.
#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(clippy::print_stderr, reason = "and its progress")]

#[path = "shared/measure.rs"]
mod measure;
#[path = "shared/rows.rs"]
mod rows;
#[path = "shared/traffic.rs"]
mod traffic;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::ensure;
use hearthd::cli::replay;
use hearthd::clock::Stopwatch;
use hearthd::event::ClockTime;
use hearthd::record::RecordKind;
use hearthd::sources::{Incoming, capture};
use serde_json::Value;
use strum::VariantArray as _;

use self::rows::Rows;

/// Messages of the timed runs, and of the run whose memory is watched.
const TIMED_MESSAGES: usize = 200_000;
const WATCHED_MESSAGES: usize = 1_000_000;

/// Devices of the two imports, whose cost per message must be about the same.
const FEW_DEVICES: u64 = 100;
const MANY_DEVICES: u64 = 100_000;

/// Runs of each kind, in turns.
const RUNS: usize = 3;

/// The program's own.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const SEED: u64 = 20_250_609;

/// How often the memory of the watched process is read. Its peak never falls, so that only what it
/// gains in its last moments can be missed.
const WATCH_INTERVAL: Duration = Duration::from_millis(5);

fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let capture = folder.path().join("capture.jsonl");
    traffic::write(&capture, SEED, TIMED_MESSAGES, traffic::DEVICES)?;
    let lines = std::fs::read(&capture)?;
    let rows = Rows::of(arrivals(&capture)?, ClockTime(i64::MAX))?;

    let mut times: [Vec<f64>; 4] = Default::default();
    for _ in 0..RUNS {
        times[0].push(timed(|| parse(&lines))?);
        times[1].push(timed(|| replay(&capture, None))?);
        // Each file goes before the next run, and with it what the disk has still to write of it.
        let store = tempfile::tempdir_in(folder.path())?;
        times[2].push(rows.write(&store.path().join("bare.db"))?);
        store.close()?;
        let store = tempfile::tempdir_in(folder.path())?;
        times[3].push(timed(|| {
            replay(&capture, Some(store.path().join("replay.db")))
        })?);
        store.close()?;
        eprintln!(
            "seconds of (a) to (d): {:.2?}",
            times.each_ref().map(|runs| runs.last())
        );
    }
    let [parse, memory, bare, sqlite] = times.map(measure::median);
    let megabytes = lines.len() as f64 / 1e6;
    drop((lines, rows));

    traffic::write(&capture, SEED, WATCHED_MESSAGES, traffic::DEVICES)?;
    let (peak, seconds) = peak_memory(&capture, None)?;
    let mut imports = Vec::new();
    for devices in [FEW_DEVICES, MANY_DEVICES] {
        traffic::write(&capture, SEED, WATCHED_MESSAGES, devices)?;
        let store = tempfile::tempdir_in(folder.path())?;
        let (peak, seconds) = peak_memory(&capture, Some(&store.path().join("import.db")))?;
        imports.push((devices, seconds, peak));
        store.close()?;
    }

    println!("{TIMED_MESSAGES} messages, {megabytes:.0} MB; medians of {RUNS} runs\n");
    println!("| | seconds | µs a message | ratio | target |");
    println!("|---|---:|---:|---:|---:|");
    row(
        "(a) parse the lines into `serde_json::Value`",
        parse,
        "1",
        "",
    );
    row(
        "(b) `replay`, memory store",
        memory,
        &format!("{:.2} × (a)", memory / parse),
        "≤ 6",
    );
    row("(c) bare SQLite loop, the same rows", bare, "1", "");
    row(
        "(d) `replay --state`",
        sqlite,
        &format!("{:.2} × (c)", sqlite / bare),
        "≤ 1.5",
    );
    println!();
    println!("| | seconds | peak memory | target |");
    println!("|---|---:|---:|---:|");
    println!("| (e) `replay` of {WATCHED_MESSAGES} messages | {seconds:.1} | {peak} | ≤ 128 MiB |");
    for (devices, seconds, peak) in imports {
        println!(
            "| (f) `replay --state` of as many, {devices} devices | {seconds:.1} | {peak} | |"
        );
    }
    Ok(())
}

fn row(name: &str, seconds: f64, ratio: &str, target: &str) {
    let each = seconds * 1e6 / TIMED_MESSAGES as f64;
    println!("| {name} | {seconds:.2} | {each:.1} | {ratio} | {target} |");
}

/// The messages of a capture file, at the times of its virtual clock.
fn arrivals(
    capture: &Path,
) -> anyhow::Result<impl Iterator<Item = anyhow::Result<(ClockTime, Incoming)>>> {
    Ok(capture::open(capture)?.map(|incoming| {
        let incoming = incoming?;
        Ok((
            ClockTime::from_utc(incoming.raw.received_at.0.at()),
            incoming,
        ))
    }))
}

fn timed(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let stopwatch = Stopwatch::start();
    work()?;
    Ok(stopwatch.seconds())
}

/// (a)
fn parse(lines: &[u8]) -> anyhow::Result<()> {
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        std::hint::black_box(serde_json::from_slice::<Value>(line)?);
    }
    Ok(())
}

/// (b) and (d): the whole command.
fn replay(capture: &Path, state: Option<PathBuf>) -> anyhow::Result<()> {
    let args = replay::Args {
        records: RecordKind::VARIANTS.to_vec(),
        state,
        files: vec![capture.to_owned()],
        ..replay::Args::default()
    };
    replay::run(&args, &BTreeMap::new(), &mut io::sink()).map(drop)
}

/// (e) and (f): the peak resident memory of the real program, and the seconds that it took.
fn peak_memory(capture: &Path, state: Option<&Path>) -> anyhow::Result<(String, f64)> {
    let stopwatch = Stopwatch::start();
    let state = state.map(|path| [OsStr::new("--state"), path.as_os_str()]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_hearthd"))
        .arg("replay")
        .args(state.into_iter().flatten())
        .arg(capture)
        .stdout(Stdio::null())
        .spawn()?;
    let mut peak = 0.0;
    let exit = loop {
        if let Some(exit) = child.try_wait()? {
            break exit;
        }
        // A process that has ended has no memory.
        peak = measure::peak_mebibytes(&child)?.unwrap_or(peak);
        std::thread::sleep(WATCH_INTERVAL);
    };
    ensure!(exit.success(), "replay ended with {exit}");
    Ok((format!("{peak:.0} MiB"), stopwatch.seconds()))
}
