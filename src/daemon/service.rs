//! The loop that owns the pipeline: gathers batches, commits them, and only then acks.
//!
//! The one consumer of inputs and the one place that acks. Whatever else happens in the process
//! reaches it over a bounded channel.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::DaemonError;
use super::acks::Acks;
use super::decoder::DecodedDelivery;
use crate::clock::Clock;
use crate::engine::Arrival;
use crate::event::ClockTime;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::pipeline::{Committed, MAX_BATCH, Pipeline};
use crate::sinks::Progress;
use crate::sources::Delivery;
use crate::store::{Commit, DeadLetterRange, Reader, Settlement, StoreError, Upkeep};

/// Time between two batches, in which the second one gathers: it bounds the commits a second, and
/// what batching adds to a doorbell's delay. A message that comes alone doesn't wait at all.
const FLUSH_AFTER: Duration = Duration::from_millis(5);

/// Longest sleep of the pipeline: it must show that it lives, and refresh its gauges.
const TICK: Duration = Duration::from_secs(1);

/// Waits between attempts at a store that fails: doubled from the first up to the last, which must
/// be short enough for `/livez`.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Longest wait at the end for sinks to catch up: with the source's own limit it keeps the exit
/// within 10 s.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);

/// The pipeline and what it reports to.
pub(super) struct Service {
    pipeline: Pipeline,
    clock: Clock,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    /// The number of the last record.
    pub(super) committed: watch::Sender<u64>,
    /// A batch that the store could not take. Nothing is received until it is committed.
    held: Vec<Delivery>,
    /// When the last batch was committed, or failed to be.
    flushed_at: ClockTime,
    retry: Duration,
    has_ballast: bool,
    acked: Acks,
    /// How far sinks have come, and when that is next written: a commit of its own for each page
    /// would cost as much as the records did.
    progress: BTreeMap<String, u64>,
    next_note: ClockTime,
}

/// What ends the wait for work.
enum Wake {
    Stop,
    SourceEnded,
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
        let last = pipeline.store().reader()?.snapshot()?.last_sequence()?;
        if let Some(engine) = pipeline.engine() {
            metrics.count_pending_at_start(engine.pending());
            metrics.show_graph(engine);
        }
        health.beat(clock.now());
        health.set_ready();
        let committed = watch::Sender::new(last);
        let (progress, next_note) = (BTreeMap::new(), clock.now().after(TICK));
        let acked = Acks::new(clock.now());
        let mut service = Self {
            pipeline,
            clock,
            metrics,
            health,
            committed,
            held: Vec::new(),
            flushed_at: ClockTime::default(),
            retry: RETRY.0,
            has_ballast: true,
            acked,
            progress,
            next_note,
        };
        service.restore_ballast();
        Ok(service)
    }

    /// A reader of the store that the pipeline writes.
    pub(super) fn reader(&self) -> Result<Reader, StoreError> {
        self.pipeline.store().reader()
    }

    /// Feeds the pipeline until it is told to stop, or the store fails for good.
    pub(super) async fn run(
        mut self,
        mut received: mpsc::Receiver<DecodedDelivery>,
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
                count = received.recv_many(&mut batch, MAX_BATCH), if self.may_receive() => {
                    if count == 0 { Wake::SourceEnded } else { Wake::Deliveries }
                }
            };
            let result = match wake {
                Wake::Stop => break Ok(()),
                Wake::SourceEnded if *stop.borrow() => break Ok(()),
                Wake::SourceEnded => break Err(DaemonError::SourceEnded),
                Wake::Timer => {
                    let held = self.take_held();
                    self.step(held).and_then(|()| self.note_if_due())
                }
                Wake::Progress(Progress { sink, sequence }) => {
                    self.progress.insert(sink, sequence);
                    self.note_if_due()
                }
                Wake::Deliveries => {
                    self.fill(&mut received, &mut batch).await;
                    let result = self.step(std::mem::take(&mut batch));
                    self.flushed_at = self.clock.now();
                    result
                }
            };
            if let Err(error) = result {
                if error.is_fatal() {
                    break Err(DaemonError::Store(error));
                }
                self.back_off(&error, &mut stop).await;
            }
        };
        // Given back to Pub/Sub, as is what is still in the channel, which is dropped with it.
        self.held.clear();
        (self, outcome)
    }

    fn may_receive(&self) -> bool {
        self.held.is_empty() && self.pipeline.has_capacity()
    }

    /// Until the next deadline, at most a tick; not at all if a batch was tried in vain, after
    /// which there was a pause already.
    fn wait(&self) -> Duration {
        if !self.held.is_empty() {
            return Duration::ZERO;
        }
        let deadline = self.pipeline.next_deadline();
        deadline.map_or(TICK, |deadline| deadline.since(self.clock.now()).min(TICK))
    }

    /// Gathers more messages, up to a batch, until the last one is long enough ago.
    async fn fill(
        &self,
        received: &mut mpsc::Receiver<DecodedDelivery>,
        batch: &mut Vec<DecodedDelivery>,
    ) {
        let wait = FLUSH_AFTER.saturating_sub(self.clock.now().since(self.flushed_at));
        if wait.is_zero() {
            return;
        }
        let flush = tokio::time::sleep(wait);
        tokio::pin!(flush);
        while batch.len() < MAX_BATCH {
            let room = MAX_BATCH - batch.len();
            tokio::select! {
                () = &mut flush => break,
                count = received.recv_many(batch, room) => if count == 0 { break },
            }
        }
    }

    /// The batch that the store could not take, decoded again: what it meant went with the step.
    fn take_held(&mut self) -> Vec<DecodedDelivery> {
        let settings = self.pipeline.decode_settings();
        let held = std::mem::take(&mut self.held).into_iter();
        held.map(|delivery| DecodedDelivery::new(delivery, settings))
            .collect()
    }

    /// Runs a batch through the pipeline and acks it. If it can't be committed, it is held.
    fn step(&mut self, decoded: Vec<DecodedDelivery>) -> Result<(), StoreError> {
        let now = self.clock.now();
        if let Err(error) = self.run_overdue(now) {
            self.held = decoded
                .into_iter()
                .map(|decoded| decoded.delivery)
                .collect();
            return Err(error);
        }
        let (mut batch, mut arrivals) = (Vec::with_capacity(decoded.len()), Vec::new());
        for DecodedDelivery {
            delivery,
            raw,
            decoded,
        } in decoded
        {
            arrivals.push(Arrival {
                at: now,
                raw,
                decoded,
            });
            batch.push(delivery);
        }
        let lags: Vec<_> = arrivals.iter().map(lag).collect();
        let committed = match tokio::task::block_in_place(|| self.pipeline.step(arrivals, now)) {
            Ok(committed) => committed,
            Err(error) => {
                self.held = batch;
                return Err(error);
            }
        };
        let messages = batch.len();
        tracing::debug!(messages, records = committed.records.len(), "committed");
        self.ack(batch, &lags);
        tracing::trace!(messages, "acked");
        self.count(&committed);
        if let Some(lost) = self.acked.warning(now) {
            tracing::warn!(
                lost,
                "acked messages come again: acks don't reach Pub/Sub; check that the service account \
                 has roles/pubsub.subscriber on the subscription",
            );
        }
        self.trim(now)?;
        self.retry = RETRY.0;
        self.health.set_store_works(true);
        self.show();
        Ok(())
    }

    /// Runs timers without messages, while there are too many for the step of a batch.
    fn run_overdue(&mut self, now: ClockTime) -> Result<(), StoreError> {
        while let Some(until) = self.pipeline.overdue(now)? {
            let committed = tokio::task::block_in_place(|| self.pipeline.step(Vec::new(), until))?;
            self.count(&committed);
            self.health.beat(self.clock.now());
        }
        Ok(())
    }

    /// Acks what is committed, and counts it; `lags` are from the events to their publication.
    fn ack(&mut self, batch: Vec<Delivery>, lags: &[Option<TimeDelta>]) {
        let wall = self.clock.wall_now();
        // Before they make room for others, which count as outstanding at once.
        self.metrics.count_acks(batch.len(), true);
        for (delivery, lag) in batch.into_iter().zip(lags) {
            delivery.ack.ack();
            let raw = delivery.incoming.raw;
            self.metrics.observe_message(&raw, *lag);
            self.metrics.observe_commit(wall - raw.received_at.0.at());
            if self.acked.remember(raw.message_id) {
                self.metrics.count_lost_acks(1);
            }
        }
    }

    fn count(&self, committed: &Committed) {
        if let Some(seconds) = committed.commit_seconds {
            self.metrics.observe_store_commit(seconds);
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
    }

    fn trim(&mut self, now: ClockTime) -> Result<(), StoreError> {
        let trimmed = self.pipeline.upkeep(now)?;
        self.report(&trimmed);
        Ok(())
    }

    /// Tells of what was forgotten before anybody had it.
    fn report(&self, trimmed: &Upkeep) {
        for DeadLetterRange {
            sink,
            first,
            last,
            reason,
        } in &trimmed.dead_letters
        {
            tracing::error!(sink, first, last, "{}", reason.advice());
            self.metrics.count_dead_letters(sink, last - first + 1);
        }
        if trimmed.quarantine_evicted > 0 {
            let messages = trimmed.quarantine_evicted;
            tracing::warn!(messages, "quarantine is full: it lost its oldest messages");
        }
    }

    /// Keeps the space by which a full disk can be mended, and says if it can't be had.
    fn restore_ballast(&mut self) {
        let restored = self.pipeline.store().restore_ballast();
        if self.has_ballast
            && let Err(error) = &restored
        {
            let cause = cause(error);
            tracing::warn!(%error, cause, "no reserve for a full disk: free some space");
        }
        self.has_ballast = restored.is_ok();
    }

    /// Forgets what it can, so that the store can go on by itself.
    fn free_space(&mut self) {
        let now = self.clock.now();
        match tokio::task::block_in_place(|| self.pipeline.free_space(now)) {
            Ok(trimmed) => self.report(&trimmed),
            Err(error) => {
                let cause = cause(&error);
                tracing::warn!(%error, cause, "nothing could be forgotten to make room");
            }
        }
    }

    fn show(&self) {
        self.metrics.show_clock(self.clock.doubt().is_some());
        if let Some(engine) = self.pipeline.engine() {
            self.metrics.show(
                engine,
                self.pipeline.imbalance(),
                self.pipeline.store().bytes(),
            );
        }
    }

    fn note_if_due(&mut self) -> Result<(), StoreError> {
        let now = self.clock.now();
        if now < self.next_note {
            return Ok(());
        }
        self.next_note = now.after(TICK);
        self.restore_ballast();
        self.note()
    }

    /// Writes how far sinks have come.
    fn note(&mut self) -> Result<(), StoreError> {
        if self.progress.is_empty() {
            return Ok(());
        }
        let settled = self.progress.iter().map(|(sink, sequence)| Settlement {
            sink: sink.clone(),
            cursor: *sequence,
            ..Settlement::default()
        });
        let commit = Commit {
            settled: settled.collect(),
            ..Commit::default()
        };
        self.pipeline.store_mut().commit(commit)?;
        self.progress.clear();
        Ok(())
    }

    async fn back_off(&mut self, error: &StoreError, stop: &mut watch::Receiver<bool>) {
        self.metrics.count_store_error(error.operation());
        self.health.set_store_works(false);
        let cause = cause(error);
        let retry_in_s = self.retry.as_secs_f64();
        let effect = if self.held.is_empty() {
            "the store failed, and is tried again"
        } else {
            "nothing is acked until the store works again"
        };
        tracing::error!(%error, cause, retry_in_s, "{effect}");
        if error.is_full() {
            self.free_space();
        }
        tokio::select! {
            () = tokio::time::sleep(self.retry) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        self.retry = (self.retry * 2).min(RETRY.1);
    }

    /// Lets the sinks deliver what is in the journal, within a limit.
    pub(super) async fn finish_sinks(&mut self, mut sinks: JoinSet<Progress>) {
        let all = async {
            while let Some(ended) = sinks.join_next().await {
                self.progress
                    .extend(ended.map(|progress| (progress.sink, progress.sequence)));
            }
        };
        if tokio::time::timeout(DRAIN_LIMIT, all).await.is_err() {
            tracing::warn!("a sink did not finish in time: it goes on at the next start");
        }
    }

    /// Writes how far sinks have come, for the last time.
    pub(super) fn note_progress(&mut self) {
        if let Err(error) = self.note() {
            tracing::warn!(%error, "the progress of sinks is not noted: they will repeat records");
        }
    }
}

/// What is behind an error, which names the place alone.
fn cause(error: &StoreError) -> Option<String> {
    std::error::Error::source(error).map(ToString::to_string)
}

/// From an event to its publication, if the message is an event.
fn lag(arrival: &Arrival) -> Option<TimeDelta> {
    let event = arrival.decoded.outcome.as_ref().ok()?;
    Some(arrival.raw.publish_time.0.at() - event.time.0.at())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::Settings;
    use crate::pipeline::PipelineSettings;
    use crate::store::{Memory, Writer};

    /// Runs a service whose source has ended.
    async fn outcome(is_told_to_stop: bool) -> Result<(), DaemonError> {
        let settings = Settings::load(None, &BTreeMap::new()).unwrap();
        let settings = PipelineSettings::from(&settings);
        let pipeline = Pipeline::open(Writer::Memory(Memory::default()), settings).unwrap();
        let metrics = Arc::new(Metrics::new(&[]).unwrap());
        let clock = Clock::start(ClockTime::default());
        let service = Service::new(pipeline, clock, metrics, Arc::default()).unwrap();
        let (_, received) = mpsc::channel(1);
        let (_progress, noted) = mpsc::channel(1);
        let (_stop, stopped) = watch::channel(is_told_to_stop);
        service.run(received, noted, stopped).await.1
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_source_that_ends_by_itself_is_no_clean_end() {
        assert!(matches!(outcome(true).await, Ok(())));
        assert!(matches!(
            outcome(false).await,
            Err(DaemonError::SourceEnded)
        ));
    }
}
