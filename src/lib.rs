//! hearthd turns the events of homes into updatable notifications, an ordered event log and a
//! graph of structures, rooms and devices.
//!
//! The modules, in the order in which an event meets them:

// The nouns.
pub mod event;

// Wire to domain, pure.
pub mod platforms;

// Decide, pure.
pub mod engine;

// Keep.
pub mod store;

// Out.
pub mod record;

// Around it.
pub mod config;
