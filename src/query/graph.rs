//! Every structure, room and device.

use serde::Serialize;

use crate::engine::graph::{self, Resource};
use crate::store::{Snapshot, StoreError};

/// The graph, as REFERENCE.md section 4 shows it.
#[derive(Debug, Serialize)]
pub struct Graph {
    /// Sorted by name.
    pub resources: Vec<Resource>,
}

/// The graph. It reads all of its rows: about a second for 100,000, the most that there are.
pub fn graph(snapshot: &Snapshot<'_>) -> Result<Graph, StoreError> {
    let resources = graph::resources(snapshot.nodes()?);
    Ok(Graph { resources })
}
