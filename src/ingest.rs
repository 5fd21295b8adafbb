//! The single writer: one thread that owns the pipeline, commits what reaches it, and only then
//! acks.
//!
//! All that changes the store comes as one closed [`Input`]. Whatever else happens in the process
//! reaches it over a bounded channel.

mod decoder;
mod inputs;
mod lost_acks;
mod upkeep;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::TimeDelta;
use strum::VariantArray as _;
use tokio::sync::{mpsc, watch};

pub use self::decoder::{DecodedDelivery, decode};
use self::inputs::Input;
pub use self::inputs::{Admin, Inputs, Reports};
use self::lost_acks::LostAcks;
use self::upkeep::Ballast;
use crate::admin;
use crate::engine::Arrival;
use crate::event::{ClockTime, ReceivedAt, Timestamp};
use crate::pipeline::{Committed, MAX_BATCH, Pipeline};
use crate::sources::{Delivery, SourceId};
use crate::store::{DeadLetterReason, Settlement, StoreError};
use crate::text::error_chain;

/// Time between two batches, in which the second one gathers: it bounds the commits a second, and
/// what batching adds to a doorbell's delay. A message that comes alone doesn't wait at all.
const FLUSH_AFTER: Duration = Duration::from_millis(5);

/// Longest sleep: it must show that it lives, refresh its gauges, and write how far sinks have
/// come.
const TICK: Duration = Duration::from_secs(1);

/// Waits between attempts at a store that fails: doubled from the first up to the last, which must
/// be short enough for `/livez`.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// See the module's documentation.
#[derive(Debug)]
pub struct Ingest {
    pipeline: Pipeline,
    reports: Reports,
    batch: Vec<DecodedDelivery>,
    /// A batch that the store could not take. Nothing is received until it is committed.
    held: Vec<Delivery>,
    /// When the last batch was committed, or failed to be.
    flushed_at: ClockTime,
    retry: Duration,
    ballast: Ballast,
    lost_acks: LostAcks,
}

impl Ingest {
    pub fn new(pipeline: Pipeline, reports: Reports) -> Self {
        for (platform, pending) in pipeline.pending_at_start() {
            let messages = &reports.metrics.messages;
            messages.count_received(*platform, &SourceId::store(), *pending);
        }
        if let Some(engine) = pipeline.engine() {
            reports.metrics.engine.show_graph(engine);
        }
        let lost_acks = LostAcks::new(reports.clock.now());
        Self {
            pipeline,
            reports,
            batch: Vec::with_capacity(MAX_BATCH),
            held: Vec::new(),
            flushed_at: ClockTime::default(),
            retry: RETRY.0,
            ballast: Ballast::default(),
            lost_acks,
        }
    }

    /// Takes inputs until the end, or until the store fails for good. What is not committed when it
    /// stops is dropped, and so returned to its sources.
    pub async fn run(mut self, mut inputs: Inputs) -> Result<(), StoreError> {
        self.ballast.restore(&self.pipeline);
        let mut stopping = false;
        loop {
            self.reports.health.beat(self.reports.clock.now());
            let result = match self.next(&mut inputs, stopping).await {
                Input::Stop => {
                    stopping = true;
                    inputs.deliveries.close();
                    while inputs.deliveries.try_recv().is_ok() {}
                    self.held.clear();
                    inputs.stopped.send_replace(true);
                    Ok(())
                }
                Input::End => return self.write_last(),
                Input::Delivered => {
                    self.fill(&mut inputs.deliveries).await;
                    let batch = std::mem::take(&mut self.batch);
                    let result = self.step(batch);
                    self.flushed_at = self.reports.clock.now();
                    result
                }
                Input::Settled(settlement) => self.settle(settlement),
                Input::Admin(admin) => self.administer(admin),
                Input::Due if stopping => self.write_settled(),
                Input::Due => self.tick(),
                Input::Closed => return Ok(()),
            };
            if let Err(error) = result {
                if error.is_fatal() {
                    return Err(error);
                }
                self.back_off(&error, &mut inputs.stop, stopping).await;
            }
        }
    }

    async fn next(&mut self, inputs: &mut Inputs, stopping: bool) -> Input {
        let may_receive = !stopping && self.held.is_empty() && self.pipeline.has_capacity();
        let wait = if stopping { TICK } else { self.wait() };
        tokio::select! {
            biased;
            _ = inputs.end.wait_for(|end| *end) => Input::End,
            _ = inputs.stop.wait_for(|stop| *stop), if !stopping => Input::Stop,
            Some(settlement) = inputs.settled.recv() => Input::Settled(settlement),
            Some(admin) = inputs.admin.recv() => Input::Admin(admin),
            count = inputs.deliveries.recv_many(&mut self.batch, MAX_BATCH), if may_receive => {
                if count == 0 { Input::Closed } else { Input::Delivered }
            }
            // Last: a timer that is due runs with the batch that is there, too.
            () = tokio::time::sleep(wait) => Input::Due,
        }
    }

    /// Until the next deadline, at most a tick; not at all if a batch was tried in vain, after
    /// which there was a pause already.
    fn wait(&self) -> Duration {
        if !self.held.is_empty() {
            return Duration::ZERO;
        }
        let deadline = self.pipeline.next_deadline();
        let now = self.reports.clock.now();
        deadline.map_or(TICK, |deadline| deadline.since(now).min(TICK))
    }

    /// Gathers more messages, up to a batch, until the last one is long enough ago.
    async fn fill(&mut self, deliveries: &mut mpsc::Receiver<DecodedDelivery>) {
        let since = self.reports.clock.now().since(self.flushed_at);
        let wait = FLUSH_AFTER.saturating_sub(since);
        if wait.is_zero() {
            return;
        }
        let flush = tokio::time::sleep(wait);
        tokio::pin!(flush);
        while self.batch.len() < MAX_BATCH {
            let rest = MAX_BATCH - self.batch.len();
            tokio::select! {
                () = &mut flush => break,
                count = deliveries.recv_many(&mut self.batch, rest) => if count == 0 { break },
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

    fn tick(&mut self) -> Result<(), StoreError> {
        let held = self.take_held();
        self.step(held)?;
        self.ballast.restore(&self.pipeline);
        Ok(())
    }

    fn settle(&mut self, settlement: Settlement) -> Result<(), StoreError> {
        let sink = settlement.sink.as_str();
        for reason in DeadLetterReason::VARIANTS {
            let letters = settlement.dead_letters.iter();
            let mut letters = letters.filter(|letter| letter.reason == *reason);
            // One line for all of them: after a long outage there are thousands.
            let Some(first) = letters.next() else {
                continue;
            };
            let records = 1 + letters.count() as u64;
            let first_sequence = first.sequence;
            tracing::warn!(sink, records, first_sequence, "{}", reason.advice());
            self.reports.metrics.sinks.count_dead_letters(sink, records);
        }
        self.pipeline.settle(settlement);
        if self.pipeline.has_much_settled() {
            self.step(Vec::new())?;
        }
        Ok(())
    }

    fn administer(&mut self, admin: Admin) -> Result<(), StoreError> {
        let clock = &self.reports.clock;
        let received_at = ReceivedAt(Timestamp::from_utc(clock.wall_now()));
        let now = clock.now();
        match admin::run(&mut self.pipeline, &admin.request, &received_at, now) {
            Ok(done) => {
                done.committed.iter().for_each(|step| self.report(step));
                // Whoever asked may have gone.
                admin.reply.send(Ok(done.items)).ok();
                Ok(())
            }
            Err(error) => {
                admin.reply.send(Err(error_chain(&error))).ok();
                Err(error)
            }
        }
    }

    /// Runs a batch through the pipeline and acks it. If it can't be committed, it is held.
    fn step(&mut self, decoded: Vec<DecodedDelivery>) -> Result<(), StoreError> {
        let now = self.reports.clock.now();
        if let Err(error) = self.run_overdue(now) {
            self.hold(decoded.into_iter().map(|decoded| decoded.delivery));
            return Err(error);
        }
        let mut batch = Vec::with_capacity(decoded.len());
        let mut arrivals = Vec::with_capacity(decoded.len());
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
        let committed = match self.pipeline.step(arrivals, now) {
            Ok(committed) => committed,
            Err(error) => {
                self.hold(batch);
                return Err(error);
            }
        };
        let messages = batch.len();
        tracing::debug!(messages, records = committed.records.len(), "committed");
        // Before the acks: whoever sees those may look at the gauges.
        self.report(&committed);
        self.show();
        self.ack(batch, &lags);
        tracing::trace!(messages, "acked");
        if let Some((lost, advice)) = self.lost_acks.warning(now) {
            tracing::warn!(
                lost,
                "acked messages come again: acks don't arrive; {advice}"
            );
        }
        upkeep::run(&mut self.pipeline, now, &self.reports.metrics)?;
        self.retry = RETRY.0;
        self.reports.health.set_store_works(true);
        let bytes = self.pipeline.store().bytes();
        self.reports.metrics.store.show(bytes);
        Ok(())
    }

    /// Keeps a batch for the next attempt.
    fn hold(&mut self, batch: impl IntoIterator<Item = Delivery>) {
        self.held = batch.into_iter().collect();
    }

    /// Runs timers without messages, while there are too many for the step of a batch.
    fn run_overdue(&mut self, now: ClockTime) -> Result<(), StoreError> {
        while let Some(until) = self.pipeline.overdue(now)? {
            let committed = self.pipeline.step(Vec::new(), until)?;
            self.report(&committed);
            self.reports.health.beat(self.reports.clock.now());
        }
        Ok(())
    }

    /// Acks what is committed, and counts it; `lags` are from the events to their publication.
    fn ack(&mut self, batch: Vec<Delivery>, lags: &[Option<TimeDelta>]) {
        let wall = self.reports.clock.wall_now();
        let metrics = &self.reports.metrics;
        let mut received = BTreeMap::new();
        for (delivery, lag) in batch.into_iter().zip(lags) {
            let Delivery {
                source,
                message,
                ack,
            } = delivery;
            let advice = ack.advice_if_lost();
            ack.ack();
            let receipt_to_commit = wall - message.received_at.0.at();
            metrics.messages.observe(&message, *lag, receipt_to_commit);
            let id = message.message_id;
            if self.lost_acks.remember(&source, id, advice) {
                metrics.pubsub.count_lost_ack(&source);
            }
            *received.entry((message.platform, source)).or_default() += 1;
        }
        for ((platform, source), messages) in received {
            metrics.messages.count_received(platform, &source, messages);
        }
    }

    /// Counts what is committed, and hands its records to the sinks.
    fn report(&self, committed: &Committed) {
        let metrics = &self.reports.metrics;
        if let Some(seconds) = committed.commit_seconds {
            metrics.store.observe_commit(seconds);
        }
        metrics.messages.count(&committed.tally);
        metrics.engine.count(&committed.tally);
        self.reports.journal.append(&committed.records);
        if committed.graph_changed()
            && let Some(engine) = self.pipeline.engine()
        {
            metrics.engine.show_graph(engine);
        }
    }

    fn show(&self) {
        let metrics = &self.reports.metrics;
        if let Some(engine) = self.pipeline.engine() {
            metrics.engine.show(engine);
            metrics.messages.set_imbalance(self.pipeline.imbalance());
        }
    }

    async fn back_off(
        &mut self,
        error: &StoreError,
        stop: &mut watch::Receiver<bool>,
        stopping: bool,
    ) {
        let reports = &self.reports;
        reports.metrics.store.count_error(error.operation());
        reports.health.set_store_works(false);
        let retry_in_s = self.retry.as_secs_f64();
        let effect = if self.held.is_empty() {
            "the store failed, and is tried again"
        } else {
            "nothing is acked until the store works again"
        };
        tracing::error!(error = error_chain(error), retry_in_s, "{effect}");
        if error.is_full() {
            let now = reports.clock.now();
            upkeep::free_space(&mut self.pipeline, now, &reports.metrics);
        }
        tokio::select! {
            () = tokio::time::sleep(self.retry) => {}
            _ = stop.wait_for(|stop| *stop), if !stopping => {}
        }
        self.retry = (self.retry * 2).min(RETRY.1);
    }

    /// Writes how far sinks have come, without running a timer.
    fn write_settled(&mut self) -> Result<(), StoreError> {
        if self.pipeline.has_settled() {
            self.pipeline.administer(Vec::new())?;
        }
        self.reports.health.set_store_works(true);
        Ok(())
    }

    /// Writes how far sinks have come, for the last time.
    fn write_last(&mut self) -> Result<(), StoreError> {
        match self.write_settled() {
            Err(error) if !error.is_fatal() => {
                let error = error_chain(&error);
                let effect = "how far sinks have come is not written: they will repeat records";
                tracing::warn!(error, "{effect}");
                Ok(())
            }
            written => written,
        }
    }
}

/// From an event to its publication, if the message is an event.
fn lag(arrival: &Arrival) -> Option<TimeDelta> {
    let decoded = arrival.decoded.outcome.as_ref().ok()?;
    Some(arrival.raw.publish_time.0.at() - decoded.event.time.0.at())
}
