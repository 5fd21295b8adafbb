//! The loop that owns the pipeline: gathers batches, commits them, and only then acks.
//!
//! The one consumer of inputs and the one place that acks. Whatever else happens in the process
//! reaches it over a bounded channel.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::DaemonError;
use super::acks::Acks;
use crate::clock::Clock;
use crate::engine::Arrival;
use crate::event::{ClockTime, Timestamp};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::pipeline::{MAX_BATCH, Pipeline};
use crate::sinks::Progress;
use crate::sources::Delivery;
use crate::sources::pubsub::Ack;
use crate::store::StoreError;

/// How long a batch waits for more messages: it bounds what batching adds to a doorbell's delay.
const FLUSH_AFTER: Duration = Duration::from_millis(5);

/// Longest sleep of the pipeline: it must show that it lives, and refresh its gauges.
const TICK: Duration = Duration::from_secs(1);

/// Waits between attempts at a store that fails: doubled from the first up to the last, which must
/// be short enough for `/livez`.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Longest wait at the end for acks to leave and for sinks to catch up: with the source's own limit
/// it keeps the exit within 10 s.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);

/// The pipeline and what it reports to.
pub(super) struct Service {
    pipeline: Pipeline,
    clock: Clock,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    /// The number of the last record.
    pub(super) committed: watch::Sender<u64>,
    retry: Duration,
    acked: Acks,
    /// How far sinks have come, and when that is next written: a commit of its own for each page
    /// would cost as much as the records did.
    progress: BTreeMap<String, u64>,
    next_note: ClockTime,
}

/// What ends the wait for work.
enum Wake {
    Stop,
    Timer,
    Progress(Progress),
    Deliveries,
}

impl Service {
    pub(super) fn new(
        pipeline: Pipeline,
        clock: Clock,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
    ) -> Result<Self, DaemonError> {
        let last = pipeline.store().last_sequence()?;
        if let Some(engine) = pipeline.engine() {
            metrics.count_pending_at_start(engine.pending());
            metrics.show_graph(engine);
        }
        health.beat(clock.now());
        health.set_ready();
        let committed = watch::Sender::new(last);
        let (progress, next_note) = (BTreeMap::new(), clock.now().after(TICK));
        let (retry, acked) = (RETRY.0, Acks::new(clock.now()));
        Ok(Self { pipeline, clock, metrics, health, committed, retry, acked, progress, next_note })
    }

    /// Feeds the pipeline until it is told to stop, or the store fails for good.
    pub(super) async fn run(
        mut self,
        mut received: mpsc::Receiver<Delivery>,
        mut noted: mpsc::Receiver<Progress>,
        mut stop: watch::Receiver<bool>,
    ) -> (Self, Result<(), DaemonError>) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        let outcome = loop {
            self.health.beat(self.clock.now());
            let wait = self.wait();
            let wake = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => Wake::Stop,
                () = tokio::time::sleep(wait) => Wake::Timer,
                Some(progress) = noted.recv() => Wake::Progress(progress),
                count = received.recv_many(&mut batch, MAX_BATCH), if self.pipeline.has_room() => {
                    // 0 means that the source has ended, which it does only when told to.
                    if count == 0 { Wake::Stop } else { Wake::Deliveries }
                }
            };
            let result = match wake {
                Wake::Stop => break Ok(()),
                Wake::Timer => self.step(Vec::new()).and_then(|()| self.note_if_due()),
                Wake::Progress(Progress { sink, sequence }) => {
                    self.progress.insert(sink, sequence);
                    self.note_if_due()
                }
                Wake::Deliveries => {
                    fill(&mut received, &mut batch).await;
                    self.step(std::mem::take(&mut batch))
                }
            };
            if let Err(error) = result {
                if error.is_fatal() {
                    break Err(DaemonError::Store(error));
                }
                self.back_off(&error, &mut stop).await;
            }
        };
        // What is still in the channel is dropped with it, and so given back to Pub/Sub.
        (self, outcome)
    }

    /// Until the next deadline, at most a tick.
    fn wait(&self) -> Duration {
        let deadline = self.pipeline.next_deadline();
        deadline.map_or(TICK, |deadline| deadline.since(self.clock.now()).min(TICK))
    }

    /// Runs a batch through the pipeline and acks it; if it can't be committed, gives it back.
    fn step(&mut self, batch: Vec<Delivery>) -> Result<(), StoreError> {
        let (arrivals, acks) = self.decode(batch);
        let count = acks.len();
        let of =
            |arrival: &Arrival| (arrival.raw.message_id.clone(), arrival.raw.received_at.0.clone());
        let received: Vec<(String, Timestamp)> = arrivals.iter().map(of).collect();
        let now = self.clock.now();
        let result = tokio::task::block_in_place(|| self.pipeline.step(arrivals, now));
        let committed = match result {
            Ok(committed) => committed,
            Err(error) => {
                drop(acks);
                self.metrics.count_acks(count, false);
                return Err(error);
            }
        };
        tracing::debug!(messages = count, records = committed.records.len(), "committed");
        acks.into_iter().for_each(Ack::ack);
        tracing::trace!("acked");
        self.metrics.count_acks(count, true);
        if let Some(seconds) = committed.commit_seconds {
            self.metrics.observe_store_commit(seconds);
        }
        let wall = self.clock.wall_now();
        for (message_id, time) in received {
            self.metrics.observe_commit(wall - time.at());
            self.acked.remember(message_id);
        }
        self.metrics.count(&committed.tally);
        if let Some(last) = committed.last_sequence() {
            self.committed.send_replace(last);
        }
        if committed.graph_changed()
            && let Some(engine) = self.pipeline.engine()
        {
            self.metrics.show_graph(engine);
        }
        if let Some(lost) = self.acked.warning(now) {
            tracing::warn!(
                lost,
                "acked messages come again: acks don't reach Pub/Sub; check that the service account \
                 has roles/pubsub.subscriber on the subscription",
            );
        }
        self.retry = RETRY.0;
        self.trim(now)?;
        self.health.set_store_works(true);
        self.show();
        Ok(())
    }

    fn decode(&mut self, batch: Vec<Delivery>) -> (Vec<Arrival>, Vec<Ack>) {
        let at = self.clock.now();
        let decode = |delivery: Delivery| {
            if self.acked.is_lost(&delivery.incoming.raw.message_id) {
                self.metrics.count_lost_acks(1);
            }
            let (raw, decoded) =
                Pipeline::decode(self.pipeline.decode_settings(), delivery.incoming);
            let event_time = decoded.outcome.as_ref().ok().map(|event| &event.time.0);
            self.metrics.observe_message(&raw, event_time);
            (Arrival { at, raw, decoded }, delivery.ack)
        };
        batch.into_iter().map(decode).unzip()
    }

    fn trim(&mut self, now: ClockTime) -> Result<(), StoreError> {
        for lost in self.pipeline.trim(now)?.lost {
            let (sink, first, last) = (&lost.sink, lost.first, lost.last);
            tracing::error!(sink, first, last, "the journal is full: this sink lost these records");
            self.metrics.count_dead_letters(sink, last - first + 1);
        }
        Ok(())
    }

    fn show(&self) {
        if let Some(engine) = self.pipeline.engine() {
            self.metrics.show(engine, self.pipeline.imbalance(), self.pipeline.store().bytes());
        }
    }

    fn note_if_due(&mut self) -> Result<(), StoreError> {
        let now = self.clock.now();
        if now < self.next_note {
            return Ok(());
        }
        self.next_note = now.after(TICK);
        self.note()
    }

    /// Writes how far sinks have come.
    fn note(&mut self) -> Result<(), StoreError> {
        while let Some((sink, sequence)) = self.progress.pop_first() {
            self.pipeline.store_mut().set_cursor(&sink, sequence)?;
        }
        Ok(())
    }

    async fn back_off(&mut self, error: &StoreError, stop: &mut watch::Receiver<bool>) {
        self.metrics.count_store_error(error.operation());
        self.health.set_store_works(false);
        let cause = std::error::Error::source(error).map(ToString::to_string);
        let retry_in_s = self.retry.as_secs_f64();
        tracing::error!(%error, cause, retry_in_s, "nothing is acked until the store works again");
        tokio::select! {
            () = tokio::time::sleep(self.retry) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        self.retry = (self.retry * 2).min(RETRY.1);
    }

    /// Lets the sinks deliver what is in the journal, and notes how far they came.
    pub(super) async fn finish_sinks(&mut self, mut sinks: JoinSet<Progress>) {
        let all = async {
            while let Some(ended) = sinks.join_next().await {
                self.progress.extend(ended.map(|progress| (progress.sink, progress.sequence)));
            }
        };
        if tokio::time::timeout(DRAIN_LIMIT, all).await.is_err() {
            tracing::warn!("a sink did not finish in time: it goes on at the next start");
        }
        if let Err(error) = self.note() {
            tracing::warn!(%error, "the progress of sinks is not noted: they will repeat records");
        }
    }
}

/// Waits a moment for more messages, up to a batch.
async fn fill(received: &mut mpsc::Receiver<Delivery>, batch: &mut Vec<Delivery>) {
    let flush = tokio::time::sleep(FLUSH_AFTER);
    tokio::pin!(flush);
    while batch.len() < MAX_BATCH {
        let room = MAX_BATCH - batch.len();
        tokio::select! {
            () = &mut flush => break,
            count = received.recv_many(batch, room) => if count == 0 { break },
        }
    }
}
