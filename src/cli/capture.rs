//! `hearthd capture`: records live messages as a capture file, and acks them only if asked to.
//!
//! Decodes nothing and touches no store: what it gives back comes again, to the service.

mod file;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use lru::LruCache;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use self::file::CaptureFile;
use crate::cli::settings::ConfigArgs;
use crate::clock::Clock;
use crate::config::Pubsub;
use crate::event::ClockTime;
use crate::sources::pubsub::Source;
use crate::sources::{Ack, Delivery};
use crate::telemetry;
use crate::text::parse_duration;

/// Messages between the source and the file, and written with one sync: few enough that those of
/// 10 MB, Pub/Sub's largest, don't fill the memory.
const BATCH: usize = 16;
/// Ids remembered, by which a message is written once: as many as can be outstanding. One that was
/// acked comes again soon, if at all.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();
/// Most bytes that are held: what is in the file takes no memory, so this is what the source can
/// count, less one message of the largest size.
const HELD_BYTES_MAX: u64 = (4 << 30) - (10 << 20);

/// Options of `hearthd capture`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// New file to write: .jsonl, also .gz or .zst
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Ack what is on disk, so that nobody else gets it; else everything is given back at the end
    #[arg(long)]
    ack: bool,
    /// Stop after so many messages
    #[arg(long, value_name = "COUNT")]
    count: Option<NonZeroU64>,
    /// Stop after so long, such as 10m
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    r#for: Option<Duration>,
}

/// Captures until a limit is reached or a signal comes, and says on standard error how much.
pub async fn run(args: Args, environment: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let settings = args.config.load_with_pubsub(environment)?;
    let pubsub = settings.require_pubsub()?;
    telemetry::init(&settings.log, environment);
    let clock = Clock::start(ClockTime::default());
    let source = Source::connect(&source_settings(pubsub, args.ack), clock).await?;
    let signals = stop_signal().context("failed to wait for signals")?;
    let mut capture = Capture::new(&args, pubsub)?;
    if !args.ack {
        let most = pubsub.max_outstanding_messages;
        say(&format!(
            "messages are held, not acked, and given back at the end; it ends after {most} of them \
             (pubsub.max_outstanding_messages) at the latest, unless you add --ack"
        ))?;
    }
    let (deliveries, received) = mpsc::channel(BATCH);
    let (stop, stopped) = watch::channel(false);
    let source = tokio::spawn(source.run(deliveries, |_| {}, stopped));
    let ended = tokio::select! {
        ended = capture.fill(received) => ended,
        () = signals => Ok(End::Signal),
        () = after(args.r#for) => Ok(End::Time),
    };
    stop.send_replace(true);
    let finished = capture.finish();
    // Returns when Pub/Sub was told what is acked and what is given back, within a limit.
    drop(source.await);
    let (end, count) = (ended?, finished?);
    let fate = if args.ack { "acked" } else { "given back" };
    let (file, why) = (args.output.display(), end.as_str());
    say(&format!(
        "{count} messages are in {file}, and {fate}; it ended because {why}"
    ))
}

/// One stream, so that it alone may have all that can be outstanding.
fn source_settings(pubsub: &Pubsub, ack: bool) -> Pubsub {
    let settings = Pubsub {
        streams: 1,
        ..pubsub.clone()
    };
    if ack {
        settings
    } else {
        Pubsub {
            max_outstanding_bytes: 4 << 30,
            ..settings
        }
    }
}

/// Listens at once; the future waits for SIGTERM or SIGINT.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

async fn after(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

fn say(text: &str) -> anyhow::Result<()> {
    writeln!(io::stderr(), "{text}").context("failed to write to standard error")
}

/// What ended a capture.
enum End {
    Signal,
    Time,
    Count,
    Full,
}

impl End {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Signal => "it was told to",
            Self::Time => "the time is over (--for)",
            Self::Count => "these are enough (--count)",
            Self::Full => "no more may be held (pubsub.max_outstanding_messages)",
        }
    }
}

/// The file, and the messages that are in it.
struct Capture {
    file: CaptureFile,
    seen: LruCache<Arc<str>, ()>,
    count: u64,
    count_max: u64,
    /// `None` if messages are acked.
    held: Option<Held>,
}

/// Messages that are neither acked nor given back, repeated ones too. Dropped, they come again.
#[derive(Default)]
struct Held {
    acks: Vec<Ack>,
    bytes: u64,
    acks_max: usize,
}

impl Capture {
    fn new(args: &Args, pubsub: &Pubsub) -> anyhow::Result<Self> {
        let acks_max = pubsub.max_outstanding_messages as usize;
        Ok(Self {
            file: CaptureFile::create(&args.output)?,
            seen: LruCache::new(REMEMBERED),
            count: 0,
            count_max: args.count.map_or(u64::MAX, NonZeroU64::get),
            held: (!args.ack).then(|| Held {
                acks_max,
                ..Held::default()
            }),
        })
    }

    /// Writes what comes until there is enough. What is still in the channel is then given back.
    async fn fill(&mut self, mut received: mpsc::Receiver<Delivery>) -> anyhow::Result<End> {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            if self.count >= self.count_max {
                return Ok(End::Count);
            }
            if self.held.as_ref().is_some_and(Held::is_full) {
                return Ok(End::Full);
            }
            let room = usize::try_from(self.count_max - self.count)
                .unwrap_or(BATCH)
                .min(BATCH);
            if received.recv_many(&mut batch, room).await == 0 {
                return Ok(End::Signal);
            }
            // A batch is written whole: whoever drops this future does so while it waits.
            tokio::task::block_in_place(|| self.write(batch.drain(..)))?;
        }
    }

    /// Writes each message once, and acks those that are on disk, or holds them.
    fn write(&mut self, batch: impl Iterator<Item = Delivery>) -> anyhow::Result<()> {
        let mut acks = Vec::with_capacity(BATCH);
        let mut bytes = 0;
        for Delivery { message, ack, .. } in batch {
            bytes += message.body.len() as u64;
            if self.seen.put(Arc::clone(&message.message_id), ()).is_none() {
                self.file.write(&message)?;
                self.count += 1;
            }
            acks.push(ack);
        }
        self.file.sync()?;
        match &mut self.held {
            Some(held) => {
                held.acks.append(&mut acks);
                held.bytes += bytes;
            }
            None => acks.into_iter().for_each(Ack::ack),
        }
        Ok(())
    }

    /// Completes the file, and only then gives back what is held; returns how many are in it.
    fn finish(self) -> anyhow::Result<u64> {
        self.file.finish()?;
        Ok(self.count)
    }
}

impl Held {
    fn is_full(&self) -> bool {
        self.acks.len() >= self.acks_max || self.bytes >= HELD_BYTES_MAX
    }
}
