//! A sink is a cursor in the journal: the closed list of sinks, and the loop that they share.
//!
//! A sink knows nothing of Pub/Sub, threads or dedupe. It gets records with an id, in order, and
//! after a crash it may get some of them twice.

mod outcome;
mod status;
pub mod stdout;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

pub use self::outcome::DeliveryOutcome;
pub use self::status::Status;
use self::stdout::Stdout;
use crate::clock::{Clock, Stopwatch};
use crate::config;
use crate::journal::{Follower, Page};
use crate::metrics::Metrics;
use crate::record::RecordKind;
use crate::store::{JournalRow, Settlement};

/// Records delivered at once: some 300 KiB.
const PAGE: usize = 256;

/// Waits between attempts at a sink that fails: doubled from the first up to the last.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// Where records go.
#[derive(Debug)]
enum Target {
    Stdout(Stdout),
}

impl Target {
    fn new(settings: &config::Sink) -> Self {
        match settings.kind {
            config::SinkKind::Stdout => Self::Stdout(Stdout),
        }
    }

    /// Delivers records in order, all or an error: then an unknown number of them is delivered.
    fn deliver(&self, rows: &[&JournalRow]) -> Result<(), String> {
        match self {
            Self::Stdout(stdout) => stdout.deliver(rows).map_err(|error| error.to_string()),
        }
    }
}

/// One sink, at work.
#[derive(Debug)]
pub struct Sink {
    name: String,
    records: Vec<RecordKind>,
    target: Target,
    follower: Follower,
    status: Arc<Status>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Sink {
    /// A sink that goes on where its follower stands.
    pub fn new(
        settings: &config::Sink,
        follower: Follower,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            name: settings.name.clone(),
            records: settings.records.clone(),
            target: Target::new(settings),
            status: Arc::new(Status::new(settings.name.clone(), follower.position())),
            follower,
            clock,
            metrics,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// What others may see of it while it works.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Delivers what is committed, until `finish` holds true and the journal is delivered, or one
    /// more attempt has failed. How far it came goes to `settle`.
    pub async fn run(
        mut self,
        settle: mpsc::Sender<Settlement>,
        mut finish: watch::Receiver<bool>,
    ) {
        let mut retry = RETRY.0;
        loop {
            if self.follower.is_at_end() {
                if *finish.borrow() {
                    break;
                }
                tokio::select! {
                    () = self.follower.wait() => {}
                    _ = finish.changed() => {}
                }
                continue;
            }
            let Err(error) = self.deliver_page().await else {
                retry = RETRY.0;
                self.report(&settle).await;
                continue;
            };
            self.status.set_up(false);
            self.metrics.sinks.count_failed_attempt(&self.name);
            let retry_in_s = retry.as_secs_f64();
            tracing::warn!(sink = self.name, error, retry_in_s, "delivery failed");
            if *finish.borrow() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(retry) => {}
                _ = finish.changed() => {}
            }
            retry = (retry * 2).min(RETRY.1);
        }
        // Nobody receives it where the service has failed: then it repeats some records.
        settle.send(self.settlement()).await.ok();
    }

    /// Delivers the next records; after an error it stands where it stood.
    async fn deliver_page(&mut self) -> Result<(), String> {
        let from = self.follower.position();
        let page = self.follower.next(PAGE).await;
        let rows = match page.map_err(|error| error.to_string())? {
            Page::Rows(rows) => rows,
            // Its dead letters are written by whoever forgot them.
            Page::Gap { last, .. } => {
                self.status.settle(last);
                return Ok(());
            }
        };
        let wanted: Vec<&JournalRow> = rows
            .iter()
            .map(AsRef::as_ref)
            .filter(|row| self.records.contains(&row.kind))
            .collect();
        let watch = Stopwatch::start();
        self.status.begin(self.clock.now());
        let delivered = tokio::task::block_in_place(|| self.target.deliver(&wanted));
        self.status.end();
        if let Err(error) = delivered {
            self.follower.rewind(from);
            return Err(error);
        }
        let seconds = watch.seconds();
        let delivered = wanted.len() as u64;
        let filtered = rows.len() as u64 - delivered;
        let metrics = &self.metrics.sinks;
        metrics.count_delivered(&self.name, delivered, seconds);
        metrics.count_filtered(&self.name, filtered);
        self.status.set_up(true);
        self.status.settle(self.follower.position());
        Ok(())
    }

    /// Says how far it has come, to be written by the next commit.
    async fn report(&self, settle: &mpsc::Sender<Settlement>) {
        if self.follower.is_at_end() {
            // An error means that the service has ended.
            settle.send(self.settlement()).await.ok();
        } else {
            // A later one says more; while the store fails there is no place for this one.
            settle.try_send(self.settlement()).ok();
        }
    }

    fn settlement(&self) -> Settlement {
        Settlement {
            sink: self.name.clone(),
            cursor: self.follower.position(),
            ..Settlement::default()
        }
    }
}
