//! How the sinks do. Deliveries and dead letters count records, failures count attempts.

use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec};
use strum::VariantArray as _;

use super::register::{Register, integer};
use crate::delivery::Counts;
use crate::event::ClockTime;
use crate::sinks::DeliveryOutcome;

#[derive(Debug)]
pub struct SinkMetrics {
    up: IntGaugeVec,
    deliveries: IntCounterVec,
    failed_attempts: IntCounterVec,
    delivery: HistogramVec,
    backlog: IntGaugeVec,
    oldest: IntGaugeVec,
    coalesced: IntCounterVec,
    dead_letters: IntCounterVec,
}

impl SinkMetrics {
    pub(super) fn new(r: &Register<'_>, sinks: &[&str]) -> Result<Self, prometheus::Error> {
        let names = || sinks.iter().copied();
        let up = r.gauges("sink_up", "0 if the last delivery failed.", "sink", names())?;
        names().for_each(|sink| up.with_label_values(&[sink]).set(1));
        let results = DeliveryOutcome::VARIANTS
            .iter()
            .flat_map(|outcome| names().map(move |sink| [sink, (*outcome).into()]));
        Ok(Self {
            up,
            deliveries: r.counters(
                "sink_deliveries_total",
                "Records that the sink got, or does not want.",
                ["sink", "result"],
                results,
            )?,
            failed_attempts: r.counters(
                "sink_failed_attempts_total",
                "Attempts to deliver that failed; their records are tried again.",
                ["sink"],
                names().map(|sink| [sink]),
            )?,
            delivery: r.histograms(
                "sink_delivery_seconds",
                "Time of a delivery.",
                "sink",
                names(),
            )?,
            backlog: r.gauges(
                "sink_backlog_records",
                "Records not settled.",
                "sink",
                names(),
            )?,
            oldest: r.gauges(
                "sink_oldest_undelivered_timestamp_seconds",
                "When the oldest record was written that waits for the sink; 0 if none does.",
                "sink",
                names(),
            )?,
            coalesced: r.counters(
                "sink_coalesced_total",
                "Revisions left out because a newer one of their notification was waiting.",
                ["sink"],
                names().map(|sink| [sink]),
            )?,
            dead_letters: r.counters(
                "sink_dead_letters_total",
                "Records lost.",
                ["sink"],
                names().map(|sink| [sink]),
            )?,
        })
    }

    /// A delivery succeeded, which took so many seconds.
    pub fn observe_delivery(&self, sink: &str, seconds: f64) {
        self.delivery.with_label_values(&[sink]).observe(seconds);
    }

    /// Counts what became of records and attempts since the counts were `before`.
    pub fn count(&self, sink: &str, before: &Counts, now: &Counts) {
        let ok = now.delivered - before.delivered;
        self.count_outcome(sink, DeliveryOutcome::Ok, ok);
        let filtered = now.filtered - before.filtered;
        self.count_outcome(sink, DeliveryOutcome::Filtered, filtered);
        let failed = now.retries - before.retries;
        let attempts = &self.failed_attempts;
        attempts.with_label_values(&[sink]).inc_by(failed);
        let coalesced = now.coalesced - before.coalesced;
        self.coalesced.with_label_values(&[sink]).inc_by(coalesced);
    }

    fn count_outcome(&self, sink: &str, outcome: DeliveryOutcome, records: u64) {
        let labels = [sink, outcome.into()];
        self.deliveries.with_label_values(&labels).inc_by(records);
    }

    /// An attempt failed before the sink had records, and will be made again.
    pub fn count_failed_attempt(&self, sink: &str) {
        self.failed_attempts.with_label_values(&[sink]).inc();
    }

    /// Shows whether the last delivery of a sink succeeded.
    pub fn show_up(&self, sink: &str, is_up: bool) {
        self.up.with_label_values(&[sink]).set(i64::from(is_up));
    }

    /// Shows how many records a sink has not settled.
    pub fn show_backlog(&self, sink: &str, records: u64) {
        self.backlog
            .with_label_values(&[sink])
            .set(integer(records));
    }

    /// Shows when the oldest record was written that waits for a sink.
    pub fn show_oldest(&self, sink: &str, oldest: Option<ClockTime>) {
        let seconds = oldest.map_or(0, ClockTime::unix_seconds);
        self.oldest.with_label_values(&[sink]).set(seconds);
    }

    /// A sink lost records.
    pub fn count_dead_letters(&self, sink: &str, records: u64) {
        self.dead_letters.with_label_values(&[sink]).inc_by(records);
    }
}
