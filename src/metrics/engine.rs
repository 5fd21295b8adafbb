//! What the engine holds, and what it did.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec};
use strum::VariantNames as _;

use super::register::{Register, integer};
use crate::engine::Engine;
use crate::engine::change::Tally;
use crate::engine::reorder::ReleaseReason;
use crate::event::{ClockTime, ResourceKind};

#[derive(Debug)]
pub struct EngineMetrics {
    pending: IntGauge,
    oldest_pending: IntGauge,
    released: IntCounterVec,
    threads_open: IntGauge,
    notifications: IntCounterVec,
    resources: IntGaugeVec,
}

impl EngineMetrics {
    pub(super) fn new(r: &Register<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            pending: r.gauge(
                "reorder_pending_events",
                "Events that wait for earlier ones.",
            )?,
            oldest_pending: r.gauge(
                "reorder_pending_oldest_timestamp_seconds",
                "When the event that waits longest arrived; 0 if none waits.",
            )?,
            released: r.counters(
                "reorder_released_total",
                "Events released to the event log.",
                ["reason"],
                ReleaseReason::VARIANTS.iter().map(|reason| [*reason]),
            )?,
            threads_open: r.gauge("threads_open", "Open notifications.")?,
            notifications: r.counters(
                "notifications_total",
                "Changes of notifications.",
                ["change"],
                [["opened"], ["updated"], ["closed"], ["reopened"]],
            )?,
            resources: r.gauges(
                "graph_resources",
                "Resources in the graph.",
                "kind",
                ResourceKind::VARIANTS.iter().copied(),
            )?,
        })
    }

    /// A step was committed.
    pub fn count(&self, tally: &Tally) {
        for (reason, events) in &tally.released {
            self.released
                .with_label_values(&[reason.as_str()])
                .inc_by(*events);
        }
        for (change, revisions) in [
            ("opened", tally.opened),
            ("updated", tally.updated),
            ("closed", tally.closed),
            ("reopened", tally.reopened),
        ] {
            self.notifications
                .with_label_values(&[change])
                .inc_by(revisions);
        }
    }

    /// Shows what the engine holds now.
    pub fn show(&self, engine: &Engine) {
        self.pending.set(integer(engine.pending() as u64));
        self.oldest_pending
            .set(engine.oldest_pending().map_or(0, ClockTime::unix_seconds));
        self.threads_open.set(integer(engine.open_threads() as u64));
    }

    /// Shows the number of resources of each kind.
    pub fn show_graph(&self, engine: &Engine) {
        for (kind, count) in engine.counts() {
            self.resources
                .with_label_values(&[kind.as_str()])
                .set(integer(count as u64));
        }
    }
}
