//! What waits, by key: the oldest row of each key, and from when on it may be sent.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::row::OrderKey;
use crate::event::ClockTime;

/// No wait.
pub(super) const AT_ONCE: ClockTime = ClockTime(i64::MIN);

/// The rows of one key, by sequence.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) rows: VecDeque<u64>,
    /// So many of the first rows are in flight, as one attempt.
    pub(super) in_flight: usize,
    /// The receiver's round in which that began.
    pub(super) round: u64,
    /// Failures in a row.
    pub(super) failures: u32,
    /// When the first row may be sent.
    pub(super) not_before: ClockTime,
    /// That is the sink's wish for the first row, and void when this row is no longer the first.
    pub(super) is_held: bool,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            rows: VecDeque::new(),
            in_flight: 0,
            round: 0,
            failures: 0,
            not_before: AT_ONCE,
            is_held: false,
        }
    }
}

impl Queue {
    /// The key works, or what failed is gone.
    pub(super) fn recovered(&mut self) {
        self.failures = 0;
        self.not_before = AT_ONCE;
        self.is_held = false;
    }

    /// Takes a row out. A hold was for the first one alone.
    pub(super) fn remove(&mut self, sequence: u64) {
        let Ok(place) = self.rows.binary_search(&sequence) else {
            return;
        };
        self.rows.remove(place);
        if place < self.in_flight {
            self.in_flight -= 1;
        }
        if place == 0 && self.is_held {
            self.is_held = false;
            self.not_before = AT_ONCE;
        }
    }
}

/// The queues of all keys that have rows.
#[derive(Debug, Default)]
pub(super) struct Queues {
    by_key: HashMap<OrderKey, Queue>,
    /// First rows of queues that may be sent, oldest first. A queue with an attempt in flight is in
    /// neither of these.
    ready: BTreeSet<(u64, OrderKey)>,
    /// First rows that have to wait, by when they no longer do.
    waiting: BTreeSet<(ClockTime, u64, OrderKey)>,
    /// Attempts in flight.
    in_flight: usize,
}

impl Queues {
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn get(&self, key: OrderKey) -> Option<&Queue> {
        self.by_key.get(&key)
    }

    /// Changes a queue, and keeps the two sets true.
    pub(super) fn edit<R>(&mut self, key: OrderKey, change: impl FnOnce(&mut Queue) -> R) -> R {
        let queue = self.by_key.entry(key).or_default();
        match (queue.rows.front(), queue.in_flight) {
            (None, _) => {}
            (Some(_), 1..) => self.in_flight -= 1,
            (Some(&first), 0) if queue.not_before == AT_ONCE => {
                self.ready.remove(&(first, key));
            }
            (Some(&first), 0) => {
                self.waiting.remove(&(queue.not_before, first, key));
            }
        }
        let result = change(queue);
        match (queue.rows.front(), queue.in_flight) {
            (None, _) => {
                self.by_key.remove(&key);
            }
            (Some(_), 1..) => self.in_flight += 1,
            (Some(&first), 0) if queue.not_before == AT_ONCE => {
                self.ready.insert((first, key));
            }
            (Some(&first), 0) => {
                self.waiting.insert((queue.not_before, first, key));
            }
        }
        result
    }

    /// The oldest first row that may be sent.
    pub(super) fn first_ready(&mut self, now: ClockTime) -> Option<(u64, OrderKey)> {
        while let Some(&(_, _, key)) = self.waiting.first().filter(|(at, _, _)| *at <= now) {
            self.edit(key, |queue| {
                queue.not_before = AT_ONCE;
                queue.is_held = false;
            });
        }
        self.ready.first().copied()
    }

    /// When there is something to send; `None` if all is in flight.
    pub(super) fn ready_at(&self) -> Option<ClockTime> {
        match self.ready.first() {
            Some(_) => Some(AT_ONCE),
            None => self.waiting.first().map(|(at, _, _)| *at),
        }
    }
}
