//! A sink is a cursor in the journal: the closed list of sinks, and the loop that they share.
//!
//! A sink knows nothing of Pub/Sub, threads or dedupe. It gets records with an id, in order, and
//! after a crash it may get some of them twice.

mod outcome;
pub mod stdout;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

pub use self::outcome::DeliveryOutcome;
use self::stdout::Stdout;
use crate::clock::Stopwatch;
use crate::config;
use crate::metrics::Metrics;
use crate::record::RecordKind;
use crate::store::{JournalRow, Store, StoreError};

/// Records read from the journal at once: some 300 KiB.
const PAGE: usize = 256;

/// Waits between attempts at a sink that fails: doubled from the first up to the last.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// How far a sink has come, to be noted in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The sink.
    pub sink: String,
    /// The last record that it has settled.
    pub sequence: u64,
}

/// A sink's cursor, and the means to move it.
pub struct Sink {
    name: String,
    records: Vec<RecordKind>,
    target: Stdout,
    journal: Store,
    cursor: u64,
    metrics: Arc<Metrics>,
}

impl Sink {
    /// A sink that goes on behind the last record it has settled, as `journal` has it.
    pub fn new(
        settings: &config::Sink,
        journal: Store,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let target = match settings.kind {
            config::SinkKind::Stdout => Stdout,
        };
        let cursor = journal.cursor(&settings.name)?;
        let (name, records) = (settings.name.clone(), settings.records.clone());
        Ok(Self {
            name,
            records,
            target,
            journal,
            cursor,
            metrics,
        })
    }

    /// Delivers what is committed, until `stop` holds true and the journal is delivered; returns
    /// how far it came. `committed` is the number of the last record.
    pub async fn run(
        mut self,
        mut committed: watch::Receiver<u64>,
        progress: mpsc::Sender<Progress>,
        mut stop: watch::Receiver<bool>,
    ) -> Progress {
        let mut retry = RETRY.0;
        loop {
            let last = *committed.borrow_and_update();
            self.metrics
                .sinks
                .show_backlog(&self.name, last.saturating_sub(self.cursor));
            if self.cursor >= last {
                if *stop.borrow() {
                    break;
                }
                tokio::select! {
                    _ = committed.changed() => {}
                    _ = stop.changed() => {}
                }
                continue;
            }
            match tokio::task::block_in_place(|| self.deliver_page(last)) {
                Ok(()) => {
                    retry = RETRY.0;
                    let note = self.progress();
                    if self.cursor < last {
                        // A full channel means that a newer note will follow.
                        drop(progress.try_send(note));
                    } else {
                        // An error means that the service has ended: it asks for the last one.
                        drop(progress.send(note).await);
                    }
                }
                Err(error) => {
                    let retry_in_s = retry.as_secs_f64();
                    tracing::warn!(sink = self.name, error, retry_in_s, "delivery failed");
                    self.metrics.sinks.count_failed_attempt(&self.name);
                    if *stop.borrow() {
                        break;
                    }
                    tokio::select! {
                        () = tokio::time::sleep(retry) => {}
                        _ = stop.changed() => {}
                    }
                    retry = (retry * 2).min(RETRY.1);
                }
            }
        }
        self.progress()
    }

    fn deliver_page(&mut self, committed: u64) -> Result<(), String> {
        let page = self
            .journal
            .journal(self.cursor, PAGE)
            .map_err(|error| error.to_string())?;
        // What is not there any more is a dead letter, or was never owed.
        let last = page.last().map_or(committed, |row| row.sequence);
        let wanted: Vec<&JournalRow> = page
            .iter()
            .filter(|row| self.records.contains(&row.kind))
            .collect();
        let watch = Stopwatch::start();
        self.target
            .deliver(&wanted)
            .map_err(|error| error.to_string())?;
        let (delivered, seconds) = (wanted.len() as u64, watch.seconds());
        let filtered = page.len() as u64 - delivered;
        let metrics = &self.metrics.sinks;
        metrics.count_delivered(&self.name, delivered, seconds);
        metrics.count_filtered(&self.name, filtered);
        self.cursor = last;
        Ok(())
    }

    fn progress(&self) -> Progress {
        Progress {
            sink: self.name.clone(),
            sequence: self.cursor,
        }
    }
}
