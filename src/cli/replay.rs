//! `hearthd replay`: capture files through the same code, on a virtual clock.
//!
//! Same input and options, byte-equal output. Reads no clock but to keep a pace.

mod args;
mod input;
mod output;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::Context;
use clap::Args as _;
use clap::error::ErrorKind;
use indicatif::{ProgressBar, ProgressStyle};

pub use self::args::Args;
use self::input::Disturbance;
use self::output::Output;
use super::exit::{EXIT_BAD_DATA, EXIT_USAGE};
use crate::engine::Arrival;
use crate::event::{ClockTime, Decoded, RawMessage};
use crate::pipeline::{MAX_BATCH, Pipeline, PipelineSettings};
use crate::sources::Incoming;
use crate::store::{Memory, Writer};

/// Runs the command, records going to `stdout`.
pub fn run(
    args: &Args,
    environment: &BTreeMap<String, String>,
    stdout: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    if args
        .files
        .iter()
        .filter(|file| file.as_os_str() == "-")
        .count()
        > 1
    {
        return refuse("standard input (-) was named twice: it can be read once");
    }
    let settings = args.config.load(environment)?;
    let store = match &args.state {
        Some(path) => Writer::open(path)?,
        None => Writer::Memory(Memory::without_journal()),
    };
    let disturbance = Disturbance {
        shuffle: args.shuffle,
        duplicate: args.duplicate,
    };
    let messages = input::messages(&args.files, disturbance)?;
    let mut settings = PipelineSettings::from(&settings);
    if args.state.is_none() {
        // A cache in front of memory would only double it.
        settings.engine.dedupe_cache = 0;
    }
    let pipeline = Pipeline::open(store, settings)?;
    let output = Output::new(args, stdout, &pipeline)?;
    let mut replay = Replay {
        pipeline,
        output,
        pace: args.pace,
        batch: Vec::new(),
    };
    replay.feed(messages)?;
    replay.run_out()?;
    let Replay {
        pipeline, output, ..
    } = replay;
    let quarantined = output.finish(args, &pipeline)?;
    Ok(if args.strict && quarantined > 0 {
        ExitCode::from(EXIT_BAD_DATA)
    } else {
        ExitCode::SUCCESS
    })
}

/// Says what is wrong with the arguments, as their parser does.
fn refuse(fault: &str) -> anyhow::Result<ExitCode> {
    let mut command = Args::augment_args(clap::Command::new("hearthd replay"));
    command.error(ErrorKind::ArgumentConflict, fault).print()?;
    Ok(ExitCode::from(EXIT_USAGE))
}

/// Batches that are decoded before they are needed: enough that neither thread waits for long.
const BATCHES_AHEAD: usize = 4;

type DecodedMessage = anyhow::Result<(Arc<RawMessage>, Decoded)>;

struct Replay<'a> {
    pipeline: Pipeline,
    output: Output<'a>,
    pace: Option<f64>,
    batch: Vec<Arrival>,
}

impl Replay<'_> {
    /// Feeds all messages. A second thread reads and decodes, which needs nothing of the pipeline.
    fn feed(
        &mut self,
        messages: impl Iterator<Item = anyhow::Result<Incoming>> + Send,
    ) -> anyhow::Result<()> {
        let settings = self.pipeline.decode_settings().clone();
        let (sender, batches) = mpsc::sync_channel(BATCHES_AHEAD);
        let size = if self.pace.is_some() { 1 } else { MAX_BATCH };
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut decoded = messages
                    .map(|message| message.map(|message| Pipeline::decode(&settings, message)));
                loop {
                    let batch: Vec<_> = decoded.by_ref().take(size).collect();
                    // Nobody receives any more after an error.
                    if batch.is_empty() || sender.send(batch).is_err() {
                        break;
                    }
                }
            });
            self.feed_batches(batches)
        })
    }

    /// Owns the channel's end, so that the other thread ends with it.
    fn feed_batches(&mut self, batches: Receiver<Vec<DecodedMessage>>) -> anyhow::Result<()> {
        let progress = progress_bar();
        let mut clock = self.clock();
        // The first message starts the pace: what a store's clock shows is of another recording.
        let mut paced_from = None;
        for batch in batches {
            progress.inc(batch.len() as u64);
            for message in batch {
                let (raw, decoded) = message?;
                let at = ClockTime::from_utc(raw.received_at.0.at()).max(clock);
                if let Some(pace) = self.pace {
                    self.keep_pace(paced_from.unwrap_or(at), at, pace)?;
                    paced_from = Some(at);
                }
                clock = at;
                self.batch.push(Arrival { at, raw, decoded });
            }
            self.step(clock)?;
        }
        progress.finish_and_clear();
        Ok(())
    }

    /// After the last message: runs the virtual clock on until no timer is left.
    fn run_out(&mut self) -> anyhow::Result<()> {
        while let Some(deadline) = self.pipeline.next_deadline() {
            self.step(deadline)?;
        }
        Ok(())
    }

    fn step(&mut self, until: ClockTime) -> anyhow::Result<()> {
        let arrivals = std::mem::take(&mut self.batch);
        let until = until.max(self.clock());
        let first = arrivals.first().map_or(until, |arrival| arrival.at);
        while let Some(deadline) = self.pipeline.overdue(first)? {
            self.commit(Vec::new(), deadline)?;
        }
        self.commit(arrivals, until)?;
        self.pipeline.upkeep(until)?;
        // A bound is reached: only the next deadline makes room.
        while !self.pipeline.has_capacity()
            && let Some(deadline) = self.pipeline.next_deadline()
        {
            self.commit(Vec::new(), deadline)?;
        }
        Ok(())
    }

    fn commit(&mut self, arrivals: Vec<Arrival>, until: ClockTime) -> anyhow::Result<()> {
        let committed = self
            .pipeline
            .step(arrivals, until)
            .context("replay stopped")?;
        self.output.write(&committed)
    }

    /// Waits as the recording did, running the timers that are due on the way.
    fn keep_pace(&mut self, from: ClockTime, to: ClockTime, pace: f64) -> anyhow::Result<()> {
        let mut clock = from;
        while let Some(deadline) = self.pipeline.next_deadline().filter(|due| *due < to) {
            wait(deadline.since(clock), pace);
            clock = clock.max(deadline);
            self.step(deadline)?;
        }
        wait(to.since(clock), pace);
        Ok(())
    }

    fn clock(&self) -> ClockTime {
        self.pipeline
            .engine()
            .map(|engine| engine.clock())
            .unwrap_or_default()
    }
}

fn wait(recorded: Duration, pace: f64) {
    std::thread::sleep(recorded.div_f64(pace));
}

/// Shown where stderr is a terminal, and only there.
fn progress_bar() -> ProgressBar {
    let style =
        ProgressStyle::with_template("{spinner} {human_pos} messages, {per_sec}, {elapsed}");
    ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}
