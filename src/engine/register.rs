//! Last-writer-wins registers: the merge that makes graph and traits independent of arrival order.
//!
//! Commutative, associative and idempotent, because the stamp and the value decide together.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::event::{Event, RelationKind, instant};

/// Which of two events with the same timestamp counts as the later one (REFERENCE.md, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Rank {
    Other,
    Created,
    Updated,
    Deleted,
}

/// When, and by what, a register was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Stamp {
    #[serde(with = "instant")]
    pub(super) time: DateTime<Utc>,
    pub(super) rank: Rank,
    pub(super) event_id: Arc<str>,
}

impl Stamp {
    /// The stamp of what this event writes into the graph.
    pub(super) fn of(event: &Event) -> Self {
        let rank = match event.relation.as_ref().map(|relation| relation.kind) {
            Some(RelationKind::Created) => Rank::Created,
            Some(RelationKind::Updated) => Rank::Updated,
            Some(RelationKind::Deleted) => Rank::Deleted,
            Some(RelationKind::Unknown) | None => Rank::Other,
        };
        Self {
            rank,
            ..Self::unranked(event)
        }
    }

    /// The stamp of what this event writes as a resource update.
    pub(super) fn unranked(event: &Event) -> Self {
        let event_id = event.event_id.clone().unwrap_or_default();
        Self {
            time: event.time.0.at(),
            rank: Rank::Other,
            event_id,
        }
    }
}

/// A value and the stamp it was written with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Register<V> {
    pub(super) stamp: Stamp,
    pub(super) value: V,
}

impl<V: Ord> Register<V> {
    /// Writes `value` unless the register holds a later one; equal stamps keep the larger value.
    pub(super) fn write(slot: &mut Option<Self>, stamp: &Stamp, value: V) {
        match slot {
            Some(held) => held.update(stamp, value),
            None => {
                *slot = Some(Self {
                    stamp: stamp.clone(),
                    value,
                })
            }
        }
    }

    /// The same for a register that was written before.
    pub(super) fn update(&mut self, stamp: &Stamp, value: V) {
        if (&self.stamp, &self.value) < (stamp, &value) {
            *self = Self {
                stamp: stamp.clone(),
                value,
            };
        }
    }
}
