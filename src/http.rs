//! HTTP: the listener, what limits requests by class, and the operator's endpoints (REFERENCE.md,
//! section 6).

pub mod admin;
pub mod class;
mod guarded;
pub mod listener;
pub mod ops;
pub mod problem;
