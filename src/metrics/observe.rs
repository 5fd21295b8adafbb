//! How the rest of hearthd fills the metrics: what is counted or shown, and when.
//!
//! It names no metric: that is `metrics.rs`.

use prometheus::{IntCounter, IntCounterVec};

use super::Metrics;
use crate::engine::Engine;
use crate::engine::change::Tally;
use crate::event::{ClockTime, Platform, RawMessage, ResourceKind};
use crate::sinks::DeliveryOutcome;
use crate::sources::pubsub::SourceEvent;
use crate::store::Operation;

impl Metrics {
    /// What was pending at the start counts as received.
    pub fn count_pending_at_start(&self, pending: usize) {
        sdm(&self.messages.received).inc_by(pending as u64);
    }

    /// A step was committed.
    pub fn count(&self, tally: &Tally) {
        sdm(&self.messages.received).inc_by(tally.received);
        sdm(&self.messages.duplicate).inc_by(tally.duplicates);
        sdm(&self.messages.emitted).inc_by(tally.emitted);
        sdm(&self.messages.late).inc_by(tally.late);
        for (reason, count) in &tally.quarantined {
            let labels = [Platform::Sdm.as_str(), reason.as_str()];
            self.messages
                .quarantined
                .with_label_values(&labels)
                .inc_by(*count);
        }
        for (reason, count) in &tally.released {
            self.engine
                .released
                .with_label_values(&[reason.as_str()])
                .inc_by(*count);
        }
        let changes = [
            ("opened", tally.opened),
            ("updated", tally.updated),
            ("closed", tally.closed),
            ("reopened", tally.reopened),
        ];
        for (change, count) in changes {
            self.engine
                .notifications
                .with_label_values(&[change])
                .inc_by(count);
        }
    }

    /// A message came; `event_to_publish` is how long its event waited, if it is one.
    pub fn observe_message(&self, raw: &RawMessage, event_to_publish: Option<chrono::TimeDelta>) {
        let (published, received) = (raw.publish_time.0.at(), raw.received_at.0.at());
        self.messages
            .publish_to_receive
            .observe(seconds(received - published));
        if let Some(lag) = event_to_publish {
            self.messages.event_to_publish.observe(seconds(lag));
        }
    }

    /// Messages were committed that long after their receipt.
    pub fn observe_commit(&self, receipt_to_commit: chrono::TimeDelta) {
        self.messages
            .receive_to_commit
            .observe(seconds(receipt_to_commit));
    }

    /// A commit took that long.
    pub fn observe_store_commit(&self, seconds: f64) {
        self.store.commit.observe(seconds);
    }

    /// The store failed.
    pub fn count_store_error(&self, op: Operation) {
        self.store.errors.with_label_values(&[op.as_ref()]).inc();
    }

    /// Shows the state of the engine and the store.
    pub fn show(&self, engine: &Engine, imbalance: i64, store_bytes: u64) {
        self.engine.pending.set(integer(engine.pending() as u64));
        self.engine
            .oldest_pending
            .set(engine.oldest_pending().map_or(0, ClockTime::unix_seconds));
        self.engine
            .threads_open
            .set(integer(engine.open_threads() as u64));
        self.messages.imbalance.set(imbalance);
        self.store.bytes.set(integer(store_bytes));
    }

    /// Shows whether the wall clock is believed.
    pub fn show_clock(&self, is_doubted: bool) {
        self.messages.clock_doubted.set(i64::from(is_doubted));
    }

    /// Shows the number of resources of each kind.
    pub fn show_graph(&self, engine: &Engine) {
        let mut counts = ResourceKind::ALL.map(|kind| (kind, 0));
        for resource in engine.resources() {
            for (kind, count) in &mut counts {
                *count += i64::from(*kind == resource.kind);
            }
        }
        for (kind, count) in counts {
            self.engine
                .resources
                .with_label_values(&[kind.as_str()])
                .set(count);
        }
    }

    /// Something happened to the stream. `now` is in seconds since the Unix epoch.
    pub fn count_source_event(&self, event: SourceEvent, now: i64) {
        match event {
            SourceEvent::StreamOpened { reason } => {
                self.pubsub
                    .opens
                    .with_label_values(&[reason.as_str()])
                    .inc();
            }
            SourceEvent::StreamUp => {
                self.pubsub.up.inc();
                self.pubsub.reachable.set(1);
            }
            SourceEvent::StreamDown => self.pubsub.up.dec(),
            SourceEvent::Reachable(is_reachable) => {
                self.pubsub.reachable.set(i64::from(is_reachable));
            }
            SourceEvent::Silence(is_silent) => self.pubsub.silent.set(i64::from(is_silent)),
            SourceEvent::MessageReceived => {
                self.pubsub.outstanding.inc();
                self.pubsub.last_received.set(now);
            }
            SourceEvent::MessageReturned => self.count_acks(1, false),
            SourceEvent::TokenOk { expiry } => {
                self.pubsub.auth_up.set(1);
                if let Some(expiry) = expiry {
                    self.pubsub.token_expiry.set(expiry);
                }
            }
            SourceEvent::AuthFailed { stage } => {
                self.pubsub.auth_up.set(0);
                self.pubsub
                    .auth_failures
                    .with_label_values(&[stage.as_str()])
                    .inc();
            }
        }
    }

    /// Messages were acked, or given back to be delivered again.
    pub fn count_acks(&self, count: usize, acked: bool) {
        let result = if acked { "sent" } else { "nacked" };
        self.pubsub
            .acks
            .with_label_values(&[result])
            .inc_by(count as u64);
        self.pubsub.outstanding.sub(integer(count as u64));
    }

    /// Messages came again although they were acked: their acks didn't reach Pub/Sub.
    pub fn count_lost_acks(&self, count: u64) {
        self.pubsub.acks.with_label_values(&["lost"]).inc_by(count);
    }

    /// A sink settled or failed to settle records; that took so many seconds.
    pub fn count_sink(&self, sink: &str, result: DeliveryOutcome, count: u64, seconds: f64) {
        self.sinks
            .deliveries
            .with_label_values(&[sink, result.as_str()])
            .inc_by(count);
        match result {
            DeliveryOutcome::Ok if count > 0 => {
                self.sinks.up.with_label_values(&[sink]).set(1);
                self.sinks
                    .delivery
                    .with_label_values(&[sink])
                    .observe(seconds);
            }
            DeliveryOutcome::Failed => self.sinks.up.with_label_values(&[sink]).set(0),
            DeliveryOutcome::Ok | DeliveryOutcome::Filtered => {}
        }
    }

    /// Shows how many records a sink has not settled.
    pub fn show_backlog(&self, sink: &str, records: u64) {
        self.sinks
            .backlog
            .with_label_values(&[sink])
            .set(integer(records));
    }

    /// A sink lost records.
    pub fn count_dead_letters(&self, sink: &str, records: u64) {
        self.sinks
            .dead_letters
            .with_label_values(&[sink])
            .inc_by(records);
    }
}

fn sdm(counters: &IntCounterVec) -> IntCounter {
    counters.with_label_values(&[Platform::Sdm.as_str()])
}

fn seconds(delta: chrono::TimeDelta) -> f64 {
    // Clocks differ: what seems to come before its cause took no time.
    delta.to_std().unwrap_or_default().as_secs_f64()
}

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
