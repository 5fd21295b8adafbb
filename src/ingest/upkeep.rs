//! The store is kept within its retention and able to go on; what that costs anybody is said.

use crate::event::ClockTime;
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::store::{DeadLetterRange, StoreError, Upkeep};
use crate::text::error_chain;

/// Forgets what is past its retention, if that is due.
pub(super) fn run(
    pipeline: &mut Pipeline,
    now: ClockTime,
    metrics: &Metrics,
) -> Result<(), StoreError> {
    report(&pipeline.upkeep(now)?, metrics);
    Ok(())
}

/// Frees what space it can on a full disk, so that the store can go on by itself.
pub(super) fn free_space(pipeline: &mut Pipeline, now: ClockTime, metrics: &Metrics) {
    match pipeline.free_space(now) {
        Ok(upkeep) => report(&upkeep, metrics),
        Err(error) => {
            let error = error_chain(&error);
            tracing::warn!(error, "no space could be freed by forgetting");
        }
    }
}

/// Says what was forgotten before anybody had it.
fn report(upkeep: &Upkeep, metrics: &Metrics) {
    for range in &upkeep.dead_letters {
        let DeadLetterRange {
            sink,
            first,
            last,
            reason,
        } = range;
        tracing::error!(sink, first, last, "{}", reason.advice());
        metrics.sinks.count_dead_letters(sink, last - first + 1);
    }
    if upkeep.quarantine_evicted > 0 {
        let messages = upkeep.quarantine_evicted;
        tracing::warn!(messages, "quarantine is full: it lost its oldest messages");
    }
}

/// The ballast file, which is made again when there is space for it.
#[derive(Debug, Default)]
pub(super) struct Ballast {
    is_missing: bool,
}

impl Ballast {
    /// Makes the ballast file again if it is gone; warns once if there is no space for it.
    pub(super) fn restore(&mut self, pipeline: &Pipeline) {
        let restored = pipeline.store().restore_ballast();
        if let Err(error) = &restored
            && !self.is_missing
        {
            let error = error_chain(error);
            tracing::warn!(error, "no ballast file for a full disk: free some space");
        }
        self.is_missing = restored.is_err();
    }
}
