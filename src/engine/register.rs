//! Last-writer-wins registers: the merge that makes graph and traits independent of arrival order.
//!
//! Commutative, associative and idempotent, because the stamp and the value decide together.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::event::{Event, RelationKind, instant};

/// Which of two events with the same timestamp counts as the later one (REFERENCE.md, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Rank {
    Other,
    Created,
    Updated,
    Deleted,
}

/// When, and by what, a register was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Stamp {
    #[serde(with = "instant")]
    pub(super) time: DateTime<Utc>,
    pub(super) rank: Rank,
    pub(super) event_id: Arc<str>,
}

impl Stamp {
    /// The stamp of what this event writes as a resource update.
    pub(super) fn of_update(event: &Event) -> Self {
        Self {
            time: event.time.0.at(),
            rank: Rank::Other,
            event_id: event.event_id.clone().unwrap_or_default(),
        }
    }

    /// The stamp of what this event writes as a relation of that kind.
    pub(super) fn of_relation(event: &Event, kind: RelationKind) -> Self {
        let rank = match kind {
            RelationKind::Created => Rank::Created,
            RelationKind::Updated => Rank::Updated,
            RelationKind::Deleted => Rank::Deleted,
            RelationKind::Unknown => Rank::Other,
        };
        Self {
            rank,
            ..Self::of_update(event)
        }
    }
}

/// A value and the stamp it was written with. All that one event writes shares its stamp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Register<V> {
    pub(super) stamp: Arc<Stamp>,
    pub(super) value: V,
}

impl<V: Ord> Register<V> {
    pub(super) fn new(stamp: &Arc<Stamp>, value: V) -> Self {
        let stamp = Arc::clone(stamp);
        Self { stamp, value }
    }

    /// Writes `value` unless the register holds a later one; equal stamps keep the larger value.
    pub(super) fn write(slot: &mut Option<Self>, stamp: &Arc<Stamp>, value: V) {
        match slot {
            Some(held) => held.update(stamp, value),
            None => *slot = Some(Self::new(stamp, value)),
        }
    }

    /// The same for a register that was written before.
    pub(super) fn update(&mut self, stamp: &Arc<Stamp>, value: V) {
        if (&self.stamp, &self.value) < (stamp, &value) {
            *self = Self::new(stamp, value);
        }
    }
}
