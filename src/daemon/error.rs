//! Why the service can't start or go on.

use std::io;
use std::net::SocketAddr;

use crate::metrics::MetricsError;
use crate::sources::pubsub::SourceError;
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("failed to listen on {address}: choose another http.listen, or stop what uses it")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("failed to wait for signals")]
    Signals(#[source] io::Error),
    #[error("failed to start a thread")]
    Thread(#[source] io::Error),
    /// A task ended, and nobody told it to: a defect.
    #[error("task {name} ended by itself ({why}): a defect, please report it with the log")]
    TaskEnded { name: String, why: String },
    /// Two metrics have one name: a defect.
    #[error("failed to register the metrics")]
    Metrics(#[from] MetricsError),
}

impl DaemonError {
    /// True if only other settings, or other files that they name, will help.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Source(error) if error.is_configuration())
    }
}
