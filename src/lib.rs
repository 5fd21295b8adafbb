//! hearthd turns the events of homes into updatable notifications, an ordered event log and a
//! graph of structures, rooms and devices.
//!
//! The modules, in the order in which an event meets them:

// In.
pub mod sources;

// The nouns.
pub mod event;

// Wire to domain, pure.
pub mod platforms;

// Decide, pure.
pub mod engine;

pub mod record;

// Keep.
pub mod store;

// Run: what is done between two commits, and who does it.
pub mod pipeline;

pub mod ingest;

pub mod admin;

// Out.
pub mod journal;

pub mod query;

pub mod delivery;

pub mod sinks;

pub mod http;

// Around it.
pub mod daemon;

pub mod cli;

pub mod config;

pub mod clock;

pub mod backoff;

pub mod text;

pub mod metrics;

pub mod health;

pub mod telemetry;
