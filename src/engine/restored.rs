//! What an engine starts with: the rows that the store kept.

use std::sync::Arc;

use super::graph::Node;
use super::held::Held;
use super::pool::Pools;
use super::traits::TraitRow;
use crate::event::{ClockTime, NotificationId, ResourceName};

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Restored {
    pub clock: ClockTime,
    pub held: Vec<Held>,
    pub deadlines: Vec<(NotificationId, ClockTime)>,
    pub nodes: Vec<(ResourceName, Arc<Node>)>,
    pub traits: Vec<TraitRow>,
    pub(super) pools: Pools,
}

impl Restored {
    /// The clock at the last commit, the events that wait, and the timers of open notifications.
    pub fn new(
        clock: ClockTime,
        held: Vec<Held>,
        deadlines: Vec<(NotificationId, ClockTime)>,
    ) -> Self {
        Self {
            clock,
            held,
            deadlines,
            ..Self::default()
        }
    }

    /// Adds a row of the graph. What rows have alike is kept once from here on: as the store reads
    /// them, each row of a large home has its own copy.
    pub fn add_node(&mut self, name: ResourceName, mut node: Arc<Node>) {
        Arc::make_mut(&mut node).share(&mut self.pools);
        self.nodes.push((name, node));
    }

    /// Adds device state, likewise.
    pub fn add_trait(&mut self, mut row: TraitRow) {
        row.share(&mut self.pools);
        self.traits.push(row);
    }
}
