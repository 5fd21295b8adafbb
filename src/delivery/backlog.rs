//! The rows that wait or are in flight, and which of them a newer one makes needless.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::attempt::Attempt;
use super::queues::{Queue, Queues};
use super::row::{OrderKey, Revision};
use crate::event::ClockTime;

/// A row of the journal in the window.
#[derive(Debug)]
pub(super) struct Row<P> {
    pub(super) key: OrderKey,
    pub(super) revision: Option<Revision>,
    /// When it was written into the journal.
    pub(super) at: ClockTime,
    /// How many rows were accepted before it.
    pub(super) ordinal: u64,
    pub(super) bytes: usize,
    pub(super) is_in_flight: bool,
    /// It is a dead letter in the store, which the operator wants sent. It holds no cursor back,
    /// and has no age.
    pub(super) is_retry: bool,
    pub(super) payload: P,
}

/// Rows that are neither settled nor dead letters.
#[derive(Debug)]
pub(super) struct Backlog<P> {
    rows: BTreeMap<u64, Row<P>>,
    bytes: usize,
    /// How many of the rows are retries.
    retries: usize,
    pub(super) queues: Queues,
}

impl<P: Clone> Backlog<P> {
    pub(super) fn new() -> Self {
        Self {
            rows: BTreeMap::new(),
            bytes: 0,
            retries: 0,
            queues: Queues::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn retries(&self) -> usize {
        self.retries
    }

    pub(super) fn contains(&self, sequence: u64) -> bool {
        self.rows.contains_key(&sequence)
    }

    /// The oldest row that holds the cursor back.
    pub(super) fn oldest(&self) -> Option<(u64, &Row<P>)> {
        let mut rows = self.rows.iter();
        let (sequence, row) = rows.find(|(_, row)| !row.is_retry)?;
        Some((*sequence, row))
    }

    /// Adds the newest row of its queue; returns the one before it in its queue.
    pub(super) fn push(&mut self, sequence: u64, row: Row<P>) -> Option<u64> {
        let key = row.key;
        self.bytes += row.bytes;
        self.retries += usize::from(row.is_retry);
        self.rows.insert(sequence, row);
        self.queues.edit(key, |queue| {
            let last = queue.rows.back().copied();
            queue.rows.push_back(sequence);
            last
        })
    }

    pub(super) fn remove(&mut self, sequence: u64) -> Option<Row<P>> {
        let row = self.rows.remove(&sequence)?;
        self.bytes -= row.bytes;
        self.retries -= usize::from(row.is_retry);
        self.queues.edit(row.key, |queue| queue.remove(sequence));
        Some(row)
    }

    /// Whether `newer`, the next row of the same queue, shows all that `older` would, and `older`
    /// can still be left out.
    pub(super) fn is_needless(&self, older: u64, newer: u64, wall: DateTime<Utc>) -> bool {
        let Some(row) = self.rows.get(&older).filter(|row| !row.is_in_flight) else {
            return false;
        };
        let newer = self.rows.get(&newer).and_then(|row| row.revision);
        match (row.revision, newer) {
            (Some(old), Some(new)) => old.id == new.id && !old.is_fresh(wall),
            _ => false,
        }
    }

    /// The first two rows of a key.
    pub(super) fn first_two(&self, key: OrderKey) -> Option<(u64, u64)> {
        let rows = &self.queues.get(key)?.rows;
        Some((*rows.front()?, *rows.get(1)?))
    }

    /// Puts the first rows of a key in flight.
    pub(super) fn start(&mut self, key: OrderKey, batch: usize, round: u64) -> Attempt<P> {
        let sequences: Vec<u64> = self.queues.edit(key, |queue| {
            queue.in_flight = batch.min(queue.rows.len());
            queue.round = round;
            queue.rows.iter().take(batch).copied().collect()
        });
        let mut rows = Vec::with_capacity(sequences.len());
        for sequence in &sequences {
            if let Some(row) = self.rows.get_mut(sequence) {
                row.is_in_flight = true;
                rows.push((*sequence, row.payload.clone()));
            }
        }
        let id = sequences.first().copied().unwrap_or_default();
        Attempt { id, rows }
    }

    /// The key and queue of an attempt that has not ended.
    pub(super) fn attempt(&self, id: u64) -> Option<(OrderKey, &Queue)> {
        let row = self.rows.get(&id).filter(|row| row.is_in_flight)?;
        let queue = self.queues.get(row.key)?;
        (queue.rows.front() == Some(&id)).then_some((row.key, queue))
    }

    /// The rows of an attempt that has not ended.
    pub(super) fn rows_of(&self, id: u64) -> Vec<u64> {
        let queue = self.attempt(id).map(|(_, queue)| queue);
        let rows = queue.map(|queue| queue.rows.iter().take(queue.in_flight).copied());
        rows.into_iter().flatten().collect()
    }

    /// Ends an attempt whose `rows` have to be sent again.
    pub(super) fn put_back(&mut self, key: OrderKey, rows: &[u64]) {
        for sequence in rows {
            if let Some(row) = self.rows.get_mut(sequence) {
                row.is_in_flight = false;
            }
        }
        self.queues.edit(key, |queue| queue.in_flight = 0);
    }

    /// Rows not in flight that were written until `limit`. Sequences and times rise together.
    pub(super) fn written_until(&self, limit: ClockTime) -> Vec<u64> {
        let old = self.rows.iter().take_while(|(_, row)| row.at <= limit);
        let waiting = old.filter(|(_, row)| !row.is_in_flight && !row.is_retry);
        waiting.map(|(sequence, _)| *sequence).collect()
    }
}
