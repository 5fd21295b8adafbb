//! Random and damaged messages through the product's pipeline, and what must hold whatever comes.
//!
//! Everything follows from a seed. Shared by `benches/fuzz.rs`, which runs for minutes and watches
//! the memory, and a short test.

pub(crate) mod bodies;
mod journal;
mod json;
pub(crate) mod life;
mod traffic;
