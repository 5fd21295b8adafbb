//! Looks for panics, lost messages and unbounded memory: random and damaged messages, for minutes.
//!
//! Arguments: seconds, and a seed. It runs lives of stores one after the other, each from a seed
//! of its own; a finding ends it with that seed, which repeats the life when given. Mutations
//! are not guided by coverage, which the stable toolchain can't measure.
#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(clippy::print_stderr, reason = "and its progress")]

#[path = "fuzz/harness.rs"]
mod harness;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::{Context, anyhow, ensure};
use hearthd::clock::{Clock, Stopwatch};
use hearthd::event::ClockTime;

use self::harness::bodies::Corpus;
use self::harness::life::{Counts, Life};

/// The program's own.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Messages after which all timers run out, and epochs of one store.
const EPOCH_MESSAGES: u64 = 2_000;
const EPOCHS: u64 = 10;

/// One life in so many has its store in a file; the others, in memory, are faster.
const ON_DISK_IN: u64 = 8;

/// Seconds between two lines of progress.
const PROGRESS: f64 = 10.0;

/// Most memory after an epoch, in bytes: the store in memory keeps up to 256 MiB of quarantined
/// bodies, and all the rest must do with as much.
const RESIDENT_LIMIT: u64 = 512 << 20;

fn main() -> anyhow::Result<()> {
    // `cargo bench` adds an option of its own.
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"));
    let seconds = arguments
        .next()
        .map_or(Ok(600.0), |text| text.parse::<f64>());
    let seed = arguments.next().map(|text| text.parse::<u64>()).transpose();
    let seconds = seconds.context("SECONDS")?;
    let seed = seed.context("SEED")?;
    let seed = seed.unwrap_or_else(|| Clock::start(ClockTime::default()).now().0.unsigned_abs());
    // As much stack as the service's threads have.
    let run = std::thread::spawn(move || run(seconds, seed));
    run.join()
        .map_err(|_| anyhow!("the fuzzer itself panicked"))?
}

fn run(seconds: f64, seed: u64) -> anyhow::Result<()> {
    let corpus = Corpus::of_fixtures()?;
    let watch = Stopwatch::start();
    let mut total = Total::default();
    let mut next_line = 0.0;
    while watch.seconds() < seconds || total.lives == 0 {
        let seed = seed.wrapping_add(total.lives);
        if watch.seconds() >= next_line {
            eprintln!("{:4.0} s: seed {seed}, {}", watch.seconds(), total.line()?);
            next_line = watch.seconds() + PROGRESS;
        }
        let life = || live(&corpus, seed, &mut total);
        let outcome = catch_unwind(AssertUnwindSafe(life)).unwrap_or(Err(anyhow!("a panic")));
        outcome.with_context(|| format!("a finding; repeat it with: scripts/fuzz 1 {seed}"))?;
        total.lives += 1;
    }
    total.print(watch.seconds())
}

fn live(corpus: &Corpus, seed: u64, total: &mut Total) -> anyhow::Result<()> {
    let folder = seed
        .is_multiple_of(ON_DISK_IN)
        .then(|| Path::new("/dev/shm"));
    let mut life = Life::new(corpus, seed, folder)?;
    for _ in 0..EPOCHS {
        let message = total.counts.messages + life.counts.messages;
        life.epoch(EPOCH_MESSAGES)
            .with_context(|| format!("after message {message}"))?;
        let resident = resident()?;
        total.peak = total.peak.max(resident);
        ensure!(
            resident <= RESIDENT_LIMIT,
            "{} MiB resident",
            resident >> 20
        );
    }
    total.add(&life.counts);
    Ok(())
}

/// What all lives did, summed up.
#[derive(Default)]
struct Total {
    lives: u64,
    counts: Counts,
    peak: u64,
}

impl Total {
    fn add(&mut self, life: &Counts) {
        let total = &mut self.counts;
        total.messages += life.messages;
        total.bytes += life.bytes;
        total.duplicates += life.duplicates;
        total.quarantined += life.quarantined;
        total.emitted += life.emitted;
        total.late += life.late;
        total.records += life.records;
        total.restarts += life.restarts;
    }

    fn line(&self) -> anyhow::Result<String> {
        let Self {
            lives,
            counts,
            peak,
        } = self;
        let resident = resident()? >> 20;
        let peak = peak >> 20;
        Ok(format!(
            "{lives} lives, {} messages, {resident} MiB, peak {peak} MiB",
            counts.messages
        ))
    }

    fn print(&self, seconds: f64) -> anyhow::Result<()> {
        let Self {
            lives,
            counts,
            peak,
        } = self;
        let Counts {
            messages,
            bytes,
            duplicates,
            quarantined,
            emitted,
            late,
            ..
        } = counts;
        println!("| | |\n|---|---:|");
        println!("| seconds | {seconds:.0} |");
        println!("| lives | {lives} |");
        println!("| messages | {messages} |");
        println!("| messages a second | {:.0} |", *messages as f64 / seconds);
        println!("| megabytes of bodies | {} |", bytes / 1_000_000);
        println!("| emitted | {emitted} |");
        println!("| of them late | {late} |");
        println!("| duplicates | {duplicates} |");
        println!("| quarantined | {quarantined} |");
        println!("| records checked | {} |", counts.records);
        println!("| restarts | {} |", counts.restarts);
        println!(
            "| most memory after an epoch | {} MiB, at most {} |",
            peak >> 20,
            RESIDENT_LIMIT >> 20
        );
        println!("| memory at the end | {} MiB |", resident()? >> 20);
        Ok(())
    }
}

/// Resident memory in bytes.
fn resident() -> anyhow::Result<u64> {
    const PAGE: u64 = 4096;
    let pages = std::fs::read_to_string("/proc/self/statm").context("/proc/self/statm")?;
    let resident = pages
        .split(' ')
        .nth(1)
        .context("/proc/self/statm has one field")?;
    Ok(resident.parse::<u64>()? * PAGE)
}
