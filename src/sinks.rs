//! A sink is a cursor in the journal: the loop of all kinds, around the window that decides.
//!
//! A sink knows nothing of Pub/Sub, threads or dedupe. It gets records with an id, in order, and
//! after a crash it may get some of them twice.

mod file;
mod outcome;
mod settle;
mod status;
pub mod stdout;
mod target;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

pub use self::outcome::DeliveryOutcome;
pub use self::status::Status;
use self::target::Target;
use crate::backoff::{Backoff, Schedule};
use crate::clock::{Clock, Stopwatch};
use crate::config;
use crate::delivery::{self, Counts, Entry, Failure, Filter, Now, Offer, Order, Scope, Window};
use crate::event::ClockTime;
use crate::journal::{Follower, Page};
use crate::metrics::Metrics;
use crate::store::{JournalRow, Settlement};

/// Records read and delivered at once: some 300 KiB.
const PAGE: usize = 256;

/// Waits between attempts at a receiver or a journal that fails.
const RETRY: Schedule = Schedule {
    min: Duration::from_millis(100),
    max: Duration::from_secs(30),
};

/// One sink, at work.
#[derive(Debug)]
pub struct Sink {
    name: String,
    window: Window<Arc<JournalRow>>,
    /// What of the window is in the metrics.
    counted: Counts,
    target: Target,
    follower: Follower,
    /// Waits after failed reads of the journal, and until when the present one lasts.
    read_retry: Backoff,
    read_after: Option<ClockTime>,
    status: Arc<Status>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// What one turn of the loop came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Something was done, and there may be more to do.
    Progress,
    /// An attempt, or a read of the journal, failed.
    Failed,
    /// There is nothing to do now.
    Idle,
}

impl Sink {
    /// A sink that goes on where its follower stands. `dead_letters` are those that the store has
    /// beyond that.
    pub fn new(
        settings: &config::Sink,
        follower: Follower,
        dead_letters: BTreeSet<u64>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        let start = delivery::Start {
            cursor: follower.position(),
            dead_letters,
        };
        Self {
            name: settings.name.clone(),
            window: Window::new(window_settings(settings), start, fastrand::Rng::new()),
            counted: Counts::default(),
            target: Target::new(settings),
            status: Arc::new(Status::new(settings.name.clone(), follower.position())),
            follower,
            read_retry: Backoff::new(RETRY, fastrand::Rng::new()),
            read_after: None,
            clock,
            metrics,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// What others may see of it while it works.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Delivers what is committed, until `finish` holds true and the journal is delivered, or one
    /// more attempt has failed. How far it came goes to `settle`.
    pub async fn run(
        mut self,
        settle: mpsc::Sender<Settlement>,
        mut finish: watch::Receiver<bool>,
    ) {
        let mut is_last_attempt = false;
        loop {
            let finishing = *finish.borrow();
            if finishing && !is_last_attempt {
                // What waits for a receiver that was down is tried once more.
                is_last_attempt = true;
                self.window.retry_now();
                self.read_after = None;
            }
            let turn = self.turn().await;
            let is_settled = self.settle(&settle);
            self.show();
            match turn {
                Turn::Progress => {}
                Turn::Failed | Turn::Idle if finishing => break,
                Turn::Failed | Turn::Idle => self.wait(is_settled, &settle, &mut finish).await,
            }
        }
        if let Err(error) = tokio::task::block_in_place(|| self.target.close()) {
            tracing::warn!(sink = self.name, error, "failed to close the sink");
        }
        // Nobody receives them where the service has failed: then it repeats some records.
        while let Ok(permit) = settle.reserve().await
            && let Some(settlement) = self.window.settlement()
        {
            permit.send(settle::for_store(&self.name, settlement));
            self.window.confirm();
        }
        self.show();
    }

    /// Takes a page of the journal, if the window has little, and makes one attempt.
    async fn turn(&mut self) -> Turn {
        let read = self.read().await;
        match (self.attempt(), read) {
            (Turn::Idle, read) => read,
            (attempted, Turn::Idle | Turn::Progress) => attempted,
            (_, Turn::Failed) => Turn::Failed,
        }
    }

    /// Offers the next page to the window, unless that has enough for the next attempts.
    async fn read(&mut self) -> Turn {
        let now = self.clock.now();
        let wanted = PAGE.min(self.window.wants());
        if self.window.waiting() >= PAGE
            || wanted == 0
            || self.follower.is_at_end()
            || self.read_after.is_some_and(|after| now < after)
        {
            return Turn::Idle;
        }
        self.read_after = None;
        let page = match self.follower.next(wanted).await {
            Ok(page) => page,
            Err(error) => {
                let wait = self.read_retry.next_delay();
                self.read_after = Some(now.after(wait));
                self.warn(&crate::text::error_chain(&error), Some(wait));
                self.metrics.sinks.count_failed_attempt(&self.name);
                return Turn::Failed;
            }
        };
        self.read_retry.reset();
        match page {
            // Its dead letters are written by whoever forgot them.
            Page::Gap { last, .. } => self.window.skip_missing(last),
            Page::Rows(rows) => self.offer(&rows),
        }
        Turn::Progress
    }

    fn offer(&mut self, rows: &[Arc<JournalRow>]) {
        let now = self.now();
        for row in rows {
            let entry = Entry {
                sequence: row.sequence,
                kind: row.kind,
                at: row.at,
                line: &row.line,
            };
            if self.window.offer(&entry, Arc::clone(row), now) == Offer::NotNow {
                self.follower.rewind(self.window.seen());
                break;
            }
        }
    }

    /// Makes the next attempt, if one is due.
    fn attempt(&mut self) -> Turn {
        let Some(attempt) = self.window.next(self.now()) else {
            return Turn::Idle;
        };
        let rows: Vec<&JournalRow> = attempt.rows.iter().map(|(_, row)| row.as_ref()).collect();
        self.status.show_oldest(self.window.oldest());
        let watch = Stopwatch::start();
        self.status.begin(self.clock.now());
        let delivered = tokio::task::block_in_place(|| self.target.deliver(&rows));
        self.status.end();
        match delivered {
            Ok(()) => {
                let seconds = watch.seconds();
                self.metrics.sinks.observe_delivery(&self.name, seconds);
                self.window.delivered(attempt.id);
                Turn::Progress
            }
            Err(error) => {
                let failure = Failure::Retry {
                    scope: Scope::Receiver,
                    after: None,
                };
                let now = self.now();
                self.window.failed(attempt.id, 0, failure, now);
                let retry_at = self.window.deadline();
                self.warn(&error, retry_at.map(|at| at.since(now.clock)));
                Turn::Failed
            }
        }
    }

    /// Hands over what is settled, to be written by the next commit; false if there is no place
    /// for it now.
    fn settle(&mut self, settle: &mpsc::Sender<Settlement>) -> bool {
        loop {
            match settle.try_reserve() {
                Ok(permit) => {
                    let Some(settlement) = self.window.settlement() else {
                        return true;
                    };
                    permit.send(settle::for_store(&self.name, settlement));
                    // The writer keeps it until a commit has it.
                    self.window.confirm();
                }
                // The service has ended: then it repeats some records.
                Err(mpsc::error::TrySendError::Closed(())) => return true,
                Err(mpsc::error::TrySendError::Full(())) => return false,
            }
        }
    }

    /// Waits until there is something to do.
    async fn wait(
        &mut self,
        is_settled: bool,
        settle: &mpsc::Sender<Settlement>,
        finish: &mut watch::Receiver<bool>,
    ) {
        let may_read = self.window.waiting() < PAGE && self.window.wants() > 0;
        let now = self.clock.now();
        let attempt_in = self.window.deadline().map(|at| at.since(now));
        let read_at = self.read_after.filter(|_| may_read);
        let read_in = read_at.map(|at| at.since(now));
        let timer = attempt_in.into_iter().chain(read_in).min();
        tokio::select! {
            () = self.follower.wait(), if may_read && self.read_after.is_none() => {}
            () = tokio::time::sleep(timer.unwrap_or_default()), if timer.is_some() => {}
            // An error means that the service has ended.
            _ = settle.reserve(), if !is_settled => {}
            _ = finish.changed() => {}
        }
    }

    fn warn(&self, error: &str, retry_in: Option<Duration>) {
        let retry_in_s = retry_in.unwrap_or_default().as_secs_f64();
        tracing::warn!(sink = self.name, error, retry_in_s, "delivery failed");
    }

    /// Shows in status and metrics what the last turn changed.
    fn show(&mut self) {
        let is_up = self.window.is_up() && self.read_after.is_none();
        self.status.set_up(is_up);
        self.status.settle(self.window.cursor());
        self.status.show_oldest(self.window.oldest());
        let counts = self.window.counts();
        self.metrics.sinks.count(&self.name, &self.counted, &counts);
        self.counted = counts;
    }

    fn now(&self) -> Now {
        Now {
            clock: self.clock.now(),
            wall: self.clock.wall_now(),
        }
    }
}

/// What the window is to do for a sink with these settings.
fn window_settings(settings: &config::Sink) -> delivery::Settings {
    let filter = &settings.filter;
    let order = match settings.kind {
        config::SinkKind::Stdout | config::SinkKind::File(_) => Order::Sequence { batch: PAGE },
    };
    delivery::Settings {
        filter: Filter {
            records: settings.records.iter().copied().collect(),
            resources: filter.resources.clone(),
            structures: filter.structures.clone(),
            kinds: filter.kinds.iter().cloned().collect(),
            alerts_only: filter.alerts_only,
        },
        order,
        max_age: settings.max_age,
        record_retry: delivery::RECORD_RETRY,
        receiver_retry: RETRY,
    }
}
