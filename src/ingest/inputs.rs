//! What reaches the writer, and where it reports to.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::decoder::DecodedDelivery;
use crate::admin::{self, Item};
use crate::clock::Clock;
use crate::health::Health;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::store::Settlement;

/// All that can reach the writer.
#[derive(Debug)]
pub(super) enum Input {
    /// The next batch has begun.
    Delivered,
    Settled(Settlement),
    Admin(Admin),
    /// A timer, a failed batch, or the tick.
    Due,
    /// No message is to be taken any more.
    Stop,
    /// Sinks have settled what they will.
    End,
    /// The decoder is gone.
    Closed,
}

/// A request of an operator, and who waits for what became of it: an error is one of the store.
#[derive(Debug)]
pub struct Admin {
    pub request: admin::Request,
    pub reply: oneshot::Sender<Result<Vec<Item>, String>>,
}

/// Where inputs come from.
#[derive(Debug)]
pub struct Inputs {
    /// In order of arrival. Not received from while a batch could not be committed, or while the
    /// engine has no capacity.
    pub deliveries: mpsc::Receiver<DecodedDelivery>,
    pub settled: mpsc::Receiver<Settlement>,
    pub admin: mpsc::Receiver<Admin>,
    /// Holds true once no message is to be taken any more.
    pub stop: watch::Receiver<bool>,
    /// Set once that is so: from then on the journal grows by nothing but what operators ask for.
    pub stopped: watch::Sender<bool>,
    /// Holds true once sinks have settled what they will.
    pub end: watch::Receiver<bool>,
}

/// What the writer reports to.
#[derive(Clone, Debug)]
pub struct Reports {
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub journal: Arc<Journal>,
}
