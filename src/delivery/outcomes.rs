//! How attempts end, and what follows from it.

use super::attempt::{Failure, Scope, Standing};
use super::queues::Queue;
use super::receiver::FailedAttempt;
use super::row::OrderKey;
use super::settings::{Now, Order, RETRY_AFTER_MAX};
use super::settlement::{Cause, bounded};
use super::window::Window;
use crate::event::ClockTime;

impl<P: Clone> Window<P> {
    /// The receiver has all rows of the attempt.
    pub fn delivered(&mut self, id: u64) {
        self.end_well(id, usize::MAX);
    }

    /// The sink found nothing to send any more, as for an alert that expired before it was shown.
    /// This says nothing of the receiver.
    pub fn skipped(&mut self, id: u64) {
        for sequence in self.backlog.rows_of(id) {
            self.remove(sequence);
            self.counts.skipped += 1;
        }
    }

    /// The receiver has the first `delivered` rows of the attempt; the next one failed like this.
    pub fn failed(&mut self, id: u64, delivered: usize, failure: Failure, now: Now) {
        let Some((key, round)) = self.attempt(id) else {
            return;
        };
        let rest = self.end_well(id, delivered);
        match failure {
            Failure::Retry { scope, after } => {
                self.counts.retries += 1;
                let attempt = FailedAttempt {
                    key,
                    round,
                    scope,
                    after: after.unwrap_or_default().min(RETRY_AFTER_MAX),
                };
                self.back_off(&attempt, now.clock);
            }
            Failure::Refused { reason } => {
                self.receiver.answered(round);
                let first = rest.first();
                if let Some((first, row)) = first.and_then(|s| Some((*s, self.backlog.remove(*s)?)))
                {
                    self.bury(first, row, Cause::Refused, &reason);
                }
            }
            Failure::Gone { reason } => {
                let reason = bounded(&reason).into();
                self.standing = Standing::Disabled { reason };
            }
        }
        self.backlog.put_back(key, &rest);
    }

    /// The sink wants to send this later, and nothing failed: at `until`, or when a newer revision
    /// takes its place.
    pub fn hold(&mut self, id: u64, until: ClockTime, now: Now) {
        let Some((key, _)) = self.attempt(id) else {
            return;
        };
        let rows = self.backlog.rows_of(id);
        self.backlog.put_back(key, &rows);
        self.backlog.queues.edit(key, |queue| {
            queue.not_before = until;
            queue.is_held = true;
        });
        self.coalesce_first(key, now);
    }

    /// Key and round of an attempt that has not ended.
    fn attempt(&self, id: u64) -> Option<(OrderKey, u64)> {
        let attempt = self.backlog.attempt(id);
        attempt.map(|(key, queue)| (key, queue.round))
    }

    /// Settles the first rows of an attempt as delivered; returns the others.
    fn end_well(&mut self, id: u64, delivered: usize) -> Vec<u64> {
        let mut rows = self.backlog.rows_of(id);
        let Some((key, round)) = self.attempt(id).filter(|_| delivered > 0) else {
            return rows;
        };
        self.receiver.answered(round);
        self.backlog.queues.edit(key, Queue::recovered);
        for sequence in rows.drain(..delivered.min(rows.len())) {
            let row = self.remove(sequence);
            if let Some(revision) = row.and_then(|row| row.revision) {
                self.ledger.delivered(&revision);
            }
            self.counts.delivered += 1;
        }
        rows
    }

    fn back_off(&mut self, attempt: &FailedAttempt, now: ClockTime) {
        // Where all is sent in order, no other record can be tried.
        let scope = match self.settings.order {
            Order::Sequence { .. } => Scope::Receiver,
            Order::Keys { .. } => attempt.scope,
        };
        let attempt = FailedAttempt { scope, ..*attempt };
        self.receiver.failed(&attempt, now, &mut self.rng);
        if scope == Scope::Record {
            let schedule = self.settings.record_retry;
            let rng = &mut self.rng;
            self.backlog.queues.edit(attempt.key, |queue| {
                let delay = schedule.delay(queue.failures, rng);
                queue.not_before = now.after(delay.max(attempt.after));
                queue.failures = queue.failures.saturating_add(1);
            });
        }
    }
}
