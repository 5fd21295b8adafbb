//! The window itself: which rows wait, what is sent next, and how far the sink has come.

use std::collections::BTreeSet;

use super::attempt::{Attempt, Counts, Offer, Retried, Standing};
use super::backlog::{Backlog, Row};
use super::receiver::Receiver;
use super::row::{Entry, Facts, OrderKey, Revision};
use super::settings::{
    MAX_AHEAD, MAX_BYTES, MAX_RETRIES, MAX_ROWS, Now, Order, ROW_BYTES, Settings,
};
use super::settlement::{
    Cause, DeadLetter, DeadLetterRetry, Ledger, Mark, Settlement, bounded, retry_dead,
};
use crate::event::ClockTime;

/// What the store knows of a sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// The last settled row.
    pub cursor: u64,
    /// Sequences of its dead letters beyond the cursor.
    pub dead_letters: BTreeSet<u64>,
}

/// One sink's window over the journal. `P` is what is delivered: a handle that is cheap to clone.
#[derive(Debug)]
pub struct Window<P> {
    pub(super) settings: Settings,
    pub(super) standing: Standing,
    pub(super) backlog: Backlog<P>,
    pub(super) receiver: Receiver,
    pub(super) ledger: Ledger<P>,
    /// The last row that was offered.
    seen: u64,
    /// Rows accepted so far.
    accepted: u64,
    pub(super) counts: Counts,
    pub(super) rng: fastrand::Rng,
}

impl<P: Clone> Window<P> {
    /// A window that goes on where the store says. `rng` makes the jitter.
    pub fn new(settings: Settings, start: Start, rng: fastrand::Rng) -> Self {
        Self {
            standing: Standing::default(),
            backlog: Backlog::new(),
            receiver: Receiver::new(settings.receiver_retry),
            ledger: Ledger::new(start.cursor, start.dead_letters),
            seen: start.cursor,
            accepted: 0,
            counts: Counts::default(),
            settings,
            rng,
        }
    }

    // ── rows in ──────────────────────────────────────────────────────────────────────────────────

    /// How many rows it takes now, if they are of usual size; 0 while it takes none.
    pub fn wants(&self) -> usize {
        let (rows, bytes) = self.load();
        let ahead = self.accepted - self.ledger.committed().ordinal;
        let is_open = bytes < MAX_BYTES && ahead < MAX_AHEAD;
        if self.standing == Standing::Running && is_open {
            MAX_ROWS.saturating_sub(rows)
        } else {
            0
        }
    }

    /// Rows and bytes that count against the bounds.
    fn load(&self) -> (usize, usize) {
        let (dead, dead_bytes) = self.ledger.waiting();
        (self.backlog.len() + dead, self.backlog.bytes() + dead_bytes)
    }

    /// The row after which the next one is offered.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Takes the next row of the journal. Rows that are left out before it are not there any more:
    /// what the store trims away is the store's dead letter.
    pub fn offer(&mut self, entry: &Entry<'_>, payload: P, now: Now) -> Offer {
        if entry.sequence <= self.seen {
            return Offer::Known;
        }
        let bytes = entry.line.len() + ROW_BYTES;
        let (waiting, waiting_bytes) = self.load();
        let has_capacity = waiting == 0 || waiting_bytes + bytes <= MAX_BYTES;
        if self.wants() == 0 || !has_capacity {
            return Offer::NotNow;
        }
        self.seen = entry.sequence;
        if self.ledger.is_stored(entry.sequence) {
            return Offer::Known;
        }
        if !self.settings.filter.accepts_kind(entry.kind) {
            return self.filtered();
        }
        let (facts, error) = match self.look_inside(entry) {
            Ok(Some(facts)) => (facts, None),
            Ok(None) => return self.filtered(),
            Err(error) => (RowFacts::IN_ORDER, Some(error)),
        };
        let row = Row {
            key: facts.key,
            revision: facts.revision,
            at: entry.at,
            ordinal: self.accepted,
            bytes,
            is_in_flight: false,
            is_retry: false,
            payload,
        };
        self.accepted += 1;
        if let Some(error) = error {
            self.bury(entry.sequence, row, Cause::Unreadable, &error.to_string());
            return Offer::Unreadable;
        }
        if let Some(last) = self.backlog.push(entry.sequence, row) {
            self.coalesce(last, entry.sequence, now);
        }
        Offer::Accepted
    }

    /// Takes a dead letter of the store that the operator wants sent, if the receiver has no newer
    /// revision; `delivered` is the last one that the store knows of. It is sent in its order,
    /// holds no cursor back, and has no age: until it is sent or refused again, the store keeps it.
    pub fn retry(
        &mut self,
        entry: &Entry<'_>,
        payload: P,
        delivered: Option<u32>,
    ) -> Result<Retried, serde_json::Error> {
        let sequence = entry.sequence;
        let is_open = self.backlog.contains(sequence) || self.ledger.is_open(sequence);
        // The next rows of a queue are newer than all in it.
        let is_ahead = sequence > self.seen;
        let retries = self.backlog.retries() + self.ledger.retries();
        let is_full = retries >= MAX_RETRIES;
        if self.standing != Standing::Running || is_open || is_ahead || is_full {
            return Ok(Retried::NotNow);
        }
        let is_in_order = matches!(self.settings.order, Order::Sequence { .. });
        let facts = Facts::read(entry.kind, entry.line)?;
        let key = if is_in_order {
            OrderKey::ALL
        } else {
            facts.key
        };
        let recent = facts
            .revision
            .and_then(|r| self.ledger.last_delivered(r.id));
        if retry_dead(facts.revision.as_ref(), recent.max(delivered)) == DeadLetterRetry::Superseded
        {
            self.ledger.retried(sequence);
            return Ok(Retried::Superseded);
        }
        // What is newer must not overtake it, nor come before it and be undone.
        if self.backlog.queues.get(key).is_some() {
            return Ok(Retried::NotNow);
        }
        let row = Row {
            key,
            revision: facts.revision.filter(|_| !is_in_order),
            at: entry.at,
            ordinal: self.accepted,
            bytes: entry.line.len() + ROW_BYTES,
            is_in_flight: false,
            is_retry: true,
            payload,
        };
        self.backlog.push(sequence, row);
        Ok(Retried::Accepted)
    }

    /// The journal has no rows up to this one any more.
    pub fn skip_missing(&mut self, up_to: u64) {
        self.seen = self.seen.max(up_to);
    }

    /// Reads what the sink's order and filter need; `None` if it doesn't want the row.
    fn look_inside(&self, entry: &Entry<'_>) -> Result<Option<RowFacts>, serde_json::Error> {
        let filter = &self.settings.filter;
        let is_in_order = matches!(self.settings.order, Order::Sequence { .. });
        if is_in_order && !filter.looks_inside() {
            return Ok(Some(RowFacts::IN_ORDER));
        }
        let facts = Facts::read(entry.kind, entry.line)?;
        if !filter.accepts(&facts) {
            return Ok(None);
        }
        Ok(Some(if is_in_order {
            RowFacts::IN_ORDER
        } else {
            RowFacts {
                key: facts.key,
                revision: facts.revision,
            }
        }))
    }

    fn filtered(&mut self) -> Offer {
        self.counts.filtered += 1;
        Offer::Filtered
    }

    /// Settles `older` if `newer`, the next row of its queue, makes it needless.
    fn coalesce(&mut self, older: u64, newer: u64, now: Now) -> bool {
        let coalesces = self.settings.coalesces();
        if !coalesces || !self.backlog.is_needless(older, newer, now.wall) {
            return false;
        }
        self.remove(older);
        self.counts.coalesced += 1;
        true
    }

    /// Takes out a row that is settled.
    pub(super) fn remove(&mut self, sequence: u64) -> Option<Row<P>> {
        let row = self.backlog.remove(sequence)?;
        if row.is_retry {
            self.ledger.retried(sequence);
        }
        Some(row)
    }

    /// Coalesces the first row of a key, if there is a reason.
    pub(super) fn coalesce_first(&mut self, key: OrderKey, now: Now) -> bool {
        let first_two = self.backlog.first_two(key);
        first_two.is_some_and(|(older, newer)| self.coalesce(older, newer, now))
    }

    /// Makes a row a dead letter that is in the backlog no more.
    pub(super) fn bury(&mut self, sequence: u64, row: Row<P>, cause: Cause, detail: &str) {
        let letter = DeadLetter {
            sequence,
            at: row.at,
            cause,
            detail: bounded(detail),
            payload: row.payload,
        };
        self.ledger.bury(letter, row.ordinal, row.bytes);
        self.counts.dead_letters += 1;
    }

    // ── attempts ─────────────────────────────────────────────────────────────────────────────────

    /// What to send next; to be called until it returns `None`. Each attempt has to end with
    /// [`Window::delivered`], [`Window::skipped`], [`Window::failed`] or [`Window::hold`].
    pub fn next(&mut self, now: Now) -> Option<Attempt<P>> {
        if self.standing != Standing::Running {
            return None;
        }
        self.expire(now.clock);
        loop {
            let max = self.settings.max_in_flight();
            let free_at = self.receiver.free_at(self.in_flight(), max)?;
            if free_at > now.clock {
                return None;
            }
            let (_, key) = self.backlog.queues.first_ready(now.clock)?;
            // An alert may have expired while it waited.
            if !self.coalesce_first(key, now) {
                let batch = self.settings.batch();
                return Some(self.backlog.start(key, batch, self.receiver.round()));
            }
        }
    }

    /// Lets the next attempt begin at once, whatever the receiver's wait: there is no later one, as
    /// the service stops. Records that wait for themselves go on waiting.
    pub fn retry_now(&mut self) {
        self.receiver.retry_now();
    }

    /// When to call [`Window::next`] without other cause; `None` if only an input can help.
    pub fn deadline(&self) -> Option<ClockTime> {
        if self.standing != Standing::Running {
            return None;
        }
        let max = self.settings.max_in_flight();
        let free_at = self.receiver.free_at(self.in_flight(), max);
        let ready_at = self.backlog.queues.ready_at();
        let attempt = free_at.zip(ready_at).map(|(free, ready)| free.max(ready));
        // Rows behind one in flight expire when that has ended, which is an input.
        let oldest = self.backlog.oldest().filter(|(_, row)| !row.is_in_flight);
        let expiry = oldest.map(|(_, row)| row.at.after(self.settings.max_age));
        attempt.into_iter().chain(expiry).min()
    }

    /// Rows that are too old become dead letters.
    fn expire(&mut self, now: ClockTime) {
        for sequence in self
            .backlog
            .written_until(now.before(self.settings.max_age))
        {
            if let Some(row) = self.backlog.remove(sequence) {
                self.bury(
                    sequence,
                    row,
                    Cause::MaxAge,
                    "older than the sink's max_age",
                );
            }
        }
    }

    // ── settling ─────────────────────────────────────────────────────────────────────────────────

    /// What to commit, if there is anything new. Then [`Window::confirm`] or [`Window::reject`]
    /// says how that went; until then there is no other one.
    pub fn settlement(&mut self) -> Option<Settlement<P>> {
        let settled = match self.backlog.oldest() {
            Some((sequence, row)) => Mark {
                cursor: sequence - 1,
                ordinal: row.ordinal,
            },
            None => Mark {
                cursor: self.seen,
                ordinal: self.accepted,
            },
        };
        self.ledger.settlement(settled)
    }

    /// The store has the last settlement.
    pub fn confirm(&mut self) {
        self.ledger.confirm();
    }

    /// The store doesn't have it: it is part of the next one.
    pub fn reject(&mut self) {
        self.ledger.reject();
    }

    /// The last row up to which the store knows that all are settled.
    pub fn cursor(&self) -> u64 {
        self.ledger.committed().cursor
    }

    // ── watching and stopping ────────────────────────────────────────────────────────────────────

    /// Starts nothing and takes nothing. What is in flight still ends.
    pub fn pause(&mut self) {
        if self.standing == Standing::Running {
            self.standing = Standing::Paused;
        }
    }

    /// Works again, after [`Window::pause`] or a receiver that was gone.
    pub fn resume(&mut self) {
        self.standing = Standing::Running;
    }

    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Whether the receiver isn't known to be down.
    pub fn is_up(&self) -> bool {
        self.receiver.is_up() && !matches!(self.standing, Standing::Disabled { .. })
    }

    /// Attempts in flight.
    pub fn in_flight(&self) -> usize {
        self.backlog.queues.in_flight()
    }

    /// Rows that are neither settled nor dead letters.
    pub fn waiting(&self) -> usize {
        self.backlog.len()
    }

    /// When the oldest of them was written into the journal.
    pub fn oldest(&self) -> Option<ClockTime> {
        self.backlog.oldest().map(|(_, row)| row.at)
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }
}

/// What a row keeps of its facts.
struct RowFacts {
    key: OrderKey,
    revision: Option<Revision>,
}

impl RowFacts {
    const IN_ORDER: Self = Self {
        key: OrderKey::ALL,
        revision: None,
    };
}
