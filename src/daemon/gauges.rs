//! Gauges of parts that may be stuck, refreshed by a task that can't be.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::ingest::Reports;
use crate::sinks::Status;

/// Time between two looks; scrapers come every few seconds at most.
const REFRESH: Duration = Duration::from_secs(1);

/// Shows how clock and sinks do, until `end` holds true.
pub(super) async fn run(sinks: Vec<Arc<Status>>, reports: Reports, mut end: watch::Receiver<bool>) {
    while !*end.borrow() {
        let now = reports.clock.now();
        let is_doubted = reports.clock.doubt().is_some();
        reports.metrics.messages.show_clock(is_doubted);
        for sink in &sinks {
            let metrics = &reports.metrics.sinks;
            let backlog = reports.journal.last().saturating_sub(sink.cursor());
            metrics.show_backlog(sink.name(), backlog);
            metrics.show_up(sink.name(), sink.is_up(now));
            metrics.show_oldest(sink.name(), sink.oldest());
        }
        tokio::select! {
            () = tokio::time::sleep(REFRESH) => {}
            _ = end.wait_for(|end| *end) => {}
        }
    }
}
