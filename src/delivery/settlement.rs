//! What has become of rows and is to be committed: the cursor, and dead letters beside it.

use std::collections::{BTreeMap, BTreeSet};

use strum::{AsRefStr, EnumString, IntoStaticStr};

use super::row::Revision;
use super::settings::{DETAIL_MAX, MAX_DEAD_LETTERS};
use crate::event::{ClockTime, NotificationId};

/// Why a record is a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsRefStr, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Cause {
    /// Older than the sink's `max_age`.
    MaxAge,
    /// The receiver will never take it.
    Refused,
    /// hearthd can't read its own line: a defect.
    Unreadable,
}

/// A record that the sink won't get, unless the operator retries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter<P> {
    pub sequence: u64,
    /// When it was written into the journal.
    pub at: ClockTime,
    pub cause: Cause,
    /// What exactly is wrong; at most [`DETAIL_MAX`] bytes.
    pub detail: Box<str>,
    /// The record.
    pub payload: P,
}

/// To be committed in one transaction: the cursor is only true together with the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement<P> {
    /// Every row up to here is settled: delivered, filtered, coalesced, or a dead letter that the
    /// store has or gets now.
    pub cursor: u64,
    /// By sequence. They may lie beyond the cursor.
    pub dead_letters: Vec<DeadLetter<P>>,
    /// The highest revision that was delivered of each notification since the last settlement.
    /// Kept per sink and notification, it tells which dead letters are outdated: [`retry_dead`].
    pub delivered: BTreeMap<NotificationId, u32>,
    /// Dead letters of the store that were retried, or are needless now: to be removed.
    pub retried: BTreeSet<u64>,
}

/// Whether a dead letter that is to be retried goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLetterRetry {
    Send,
    /// The receiver has this or a newer revision: it would go back in time.
    Superseded,
}

/// What to do with a dead letter, if the receiver was last given `delivered` of its notification.
pub fn retry_dead(dead: Option<&Revision>, delivered: Option<u32>) -> DeadLetterRetry {
    match (dead, delivered) {
        (Some(dead), Some(delivered)) if delivered >= dead.number => DeadLetterRetry::Superseded,
        _ => DeadLetterRetry::Send,
    }
}

/// How far a window has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) cursor: u64,
    /// Rows accepted up to there.
    pub(super) ordinal: u64,
}

#[derive(Debug)]
struct Buried<P> {
    letter: DeadLetter<P>,
    ordinal: u64,
    bytes: usize,
}

/// A settlement that is being committed.
#[derive(Debug)]
struct Pending {
    mark: Mark,
    dead_letters: Vec<u64>,
    delivered: BTreeMap<NotificationId, u32>,
    retried: BTreeSet<u64>,
}

/// What is settled, and not committed yet.
#[derive(Debug)]
pub(super) struct Ledger<P> {
    committed: Mark,
    dead: BTreeMap<u64, Buried<P>>,
    dead_bytes: usize,
    /// Dead letters beyond the cursor that the store has.
    stored: BTreeSet<u64>,
    delivered: BTreeMap<NotificationId, u32>,
    retried: BTreeSet<u64>,
    pending: Option<Pending>,
}

impl<P: Clone> Ledger<P> {
    pub(super) fn new(cursor: u64, stored: BTreeSet<u64>) -> Self {
        Self {
            committed: Mark { cursor, ordinal: 0 },
            dead: BTreeMap::new(),
            dead_bytes: 0,
            stored,
            delivered: BTreeMap::new(),
            retried: BTreeSet::new(),
            pending: None,
        }
    }

    pub(super) fn committed(&self) -> Mark {
        self.committed
    }

    /// Dead letters that the store doesn't have yet, and their bytes.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.dead.len(), self.dead_bytes)
    }

    /// Whether the store has this row as a dead letter. Asked once for each row, in order.
    pub(super) fn is_stored(&mut self, sequence: u64) -> bool {
        self.stored.remove(&sequence)
    }

    pub(super) fn bury(&mut self, letter: DeadLetter<P>, ordinal: u64, bytes: usize) {
        self.dead_bytes += bytes;
        let sequence = letter.sequence;
        let buried = Buried {
            letter,
            ordinal,
            bytes,
        };
        self.dead.insert(sequence, buried);
    }

    pub(super) fn delivered(&mut self, revision: &Revision) {
        note(&mut self.delivered, revision.id, revision.number);
    }

    /// What was delivered of a notification and isn't in the store yet.
    pub(super) fn last_delivered(&self, id: NotificationId) -> Option<u32> {
        let pending = self.pending.as_ref().map(|pending| &pending.delivered);
        let all = [Some(&self.delivered), pending];
        all.into_iter()
            .flatten()
            .filter_map(|map| map.get(&id))
            .max()
            .copied()
    }

    pub(super) fn retried(&mut self, sequence: u64) {
        self.retried.insert(sequence);
    }

    /// Retries whose end isn't in the store yet.
    pub(super) fn retries(&self) -> usize {
        self.retried.len() + self.pending.as_ref().map_or(0, |p| p.retried.len())
    }

    /// Whether a dead letter of this row, or the end of its retry, isn't in the store yet.
    pub(super) fn is_open(&self, sequence: u64) -> bool {
        let pending = self.pending.as_ref().map(|pending| &pending.retried);
        let mut retried = [Some(&self.retried), pending].into_iter().flatten();
        self.dead.contains_key(&sequence) || retried.any(|all| all.contains(&sequence))
    }

    /// See [`super::Window::settlement`]. `settled` is how far the window is without dead letters.
    pub(super) fn settlement(&mut self, settled: Mark) -> Option<Settlement<P>> {
        if self.pending.is_some() {
            return None;
        }
        let fitting = self.dead.values().take(MAX_DEAD_LETTERS);
        let dead_letters: Vec<_> = fitting.map(|buried| buried.letter.clone()).collect();
        // The cursor must not pass a dead letter that stays behind.
        let mark = match self.dead.values().nth(MAX_DEAD_LETTERS) {
            Some(first) if self.holds_back(first, settled) => Mark {
                cursor: first.letter.sequence - 1,
                ordinal: first.ordinal,
            },
            _ => settled,
        };
        let is_moved = mark.cursor > self.committed.cursor;
        if !is_moved && dead_letters.is_empty() && self.retried.is_empty() {
            return None;
        }
        let delivered = std::mem::take(&mut self.delivered);
        let retried = std::mem::take(&mut self.retried);
        self.pending = Some(Pending {
            mark,
            dead_letters: dead_letters.iter().map(|dead| dead.sequence).collect(),
            delivered: delivered.clone(),
            retried: retried.clone(),
        });
        Some(Settlement {
            cursor: mark.cursor,
            dead_letters,
            delivered,
            retried,
        })
    }

    /// Whether the cursor has to stop before this one. A retry is in the store already.
    fn holds_back(&self, buried: &Buried<P>, settled: Mark) -> bool {
        let sequence = buried.letter.sequence;
        sequence > self.committed.cursor && sequence <= settled.cursor
    }

    /// The store has it.
    pub(super) fn confirm(&mut self) {
        let Some(pending) = self.pending.take() else {
            return;
        };
        self.committed = pending.mark;
        for sequence in pending.dead_letters {
            if let Some(buried) = self.dead.remove(&sequence) {
                self.dead_bytes -= buried.bytes;
            }
        }
    }

    /// The store doesn't have it: it is part of the next one.
    pub(super) fn reject(&mut self) {
        if let Some(pending) = self.pending.take() {
            for (id, revision) in pending.delivered {
                note(&mut self.delivered, id, revision);
            }
            self.retried.extend(pending.retried);
        }
    }
}

fn note(delivered: &mut BTreeMap<NotificationId, u32>, id: NotificationId, revision: u32) {
    let highest = delivered.entry(id).or_default();
    *highest = revision.max(*highest);
}

/// The beginning of a text, at most [`DETAIL_MAX`] bytes.
pub(super) fn bounded(text: &str) -> Box<str> {
    let end = text.floor_char_boundary(DETAIL_MAX);
    text.get(..end).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_is_outdated_once_its_successor_is_there() {
        let revision = Revision {
            id: NotificationId([1; 16]),
            number: 2,
            closed: false,
            alert_until: None,
        };
        for (dead, delivered, expected) in [
            (Some(&revision), None, DeadLetterRetry::Send),
            (Some(&revision), Some(1), DeadLetterRetry::Send),
            (Some(&revision), Some(2), DeadLetterRetry::Superseded),
            (Some(&revision), Some(3), DeadLetterRetry::Superseded),
            (None, Some(3), DeadLetterRetry::Send),
        ] {
            assert_eq!(retry_dead(dead, delivered), expected);
        }
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(&*bounded("no"), "no");
        let long = "ü".repeat(DETAIL_MAX);
        assert_eq!(bounded(&format!("x{long}")).len(), DETAIL_MAX - 1);
    }
}
