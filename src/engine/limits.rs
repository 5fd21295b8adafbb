//! Bounds that several parts of the engine share.

/// Most resources in the graph, and most whose traits are kept (those of names that the graph does
/// not know among them): far above any enterprise's (Google allows 25 users in a sandbox), and
/// about 100 MB. A resource beyond it is in the event log, flagged `untracked_resource`.
pub const MAX_RESOURCES: usize = 100_000;
