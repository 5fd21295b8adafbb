//! How the store does.

use prometheus::{Histogram, IntCounterVec, IntGauge};
use strum::VariantArray as _;

use super::register::{Register, integer};
use crate::store::Operation;

#[derive(Debug)]
pub struct StoreMetrics {
    commit: Histogram,
    bytes: IntGauge,
    errors: IntCounterVec,
}

impl StoreMetrics {
    pub(super) fn new(r: &Register<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            commit: r.histogram("store_commit_seconds", "Time of a commit, with its sync.")?,
            bytes: r.gauge("store_bytes", "Size of the store's files.")?,
            errors: r.counters(
                "store_errors_total",
                "Store failures.",
                ["op"],
                Operation::VARIANTS
                    .iter()
                    .map(|operation| [operation.as_ref()]),
            )?,
        })
    }

    /// A commit took that long.
    pub fn observe_commit(&self, seconds: f64) {
        self.commit.observe(seconds);
    }

    /// The store failed.
    pub fn count_error(&self, operation: Operation) {
        self.errors.with_label_values(&[operation.as_ref()]).inc();
    }

    /// Shows its size.
    pub fn show(&self, bytes: u64) {
        self.bytes.set(integer(bytes));
    }
}
