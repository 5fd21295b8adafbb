//! What a sink is asked to send, and what came of it.

use std::time::Duration;

/// Records to send now, in this order: one, or a batch of a sink that gets all in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt<P> {
    /// To be named when it ends. The sequence of its first row.
    pub id: u64,
    /// Sequence and payload, at least one.
    pub rows: Vec<(u64, P)>,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It may work later.
    Retry {
        scope: Scope,
        /// What the server asked for; capped by [`super::RETRY_AFTER_MAX`].
        after: Option<Duration>,
    },
    /// The receiver will never take this record: it becomes a dead letter.
    Refused { reason: String },
    /// The receiver wants nothing any more (410): the sink is disabled, and its rows wait.
    Gone { reason: String },
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Perhaps the record's, like a 500 or a timeout: others are tried, until several fail.
    Record,
    /// Surely not the record's: no connection, no login, too many requests. Nothing is tried until
    /// the wait is over, and then one attempt alone.
    Receiver,
}

/// Whether a window works.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    #[default]
    Running,
    /// By the operator.
    Paused,
    /// By the receiver; until the operator resumes it.
    Disabled { reason: String },
}

/// What became of an offered row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    Accepted,
    /// The sink doesn't want it.
    Filtered,
    /// It can't be read, and is a dead letter.
    Unreadable,
    /// It was offered before, or is a dead letter in the store already.
    Known,
    /// The window is full, paused or disabled: offer it again later.
    NotNow,
}

/// What becomes of a dead letter that is to be retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retried {
    Accepted,
    /// The receiver has this or a newer revision; the next settlement removes the dead letter.
    Superseded,
    /// Its key is busy, or it is being retried, or too many are: offer it again later.
    NotNow,
}

/// Rows and attempts so far, since the window was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub delivered: u64,
    /// Rows whose delivery had become needless: see [`super::Window::skipped`].
    pub skipped: u64,
    pub filtered: u64,
    pub coalesced: u64,
    pub dead_letters: u64,
    /// Attempts that will be made again.
    pub retries: u64,
}
