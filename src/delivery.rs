//! What a sink sends next, and how far it has come: its window over the journal.
//!
//! Pure, like the engine: takes rows, outcomes and the time; returns attempts, what to commit, and
//! when to ask again. A sink's own file sends; the caller reads the journal and commits.

mod attempt;
mod backlog;
mod filter;
mod outcomes;
mod queues;
mod receiver;
mod retry_after;
pub mod ringing;
mod row;
mod settings;
mod settlement;
#[cfg(test)]
mod tests;
mod window;

pub use self::attempt::{Attempt, Counts, Failure, Offer, Retried, Scope, Standing};
pub use self::filter::{Filter, Pattern, PatternError};
pub use self::retry_after::retry_after;
pub use self::row::{Entry, Facts, OrderKey, Revision};
pub use self::settings::{
    DETAIL_MAX, MAX_AHEAD, MAX_BYTES, MAX_DEAD_LETTERS, MAX_RETRIES, MAX_ROWS, Now, Order,
    RECEIVER_RETRY, RECORD_RETRY, RETRY_AFTER_MAX, ROW_BYTES, SUSPECT_KEYS, Settings,
};
pub use self::settlement::{Cause, DeadLetter, DeadLetterRetry, Settlement, retry_dead};
pub use self::window::{Start, Window};
