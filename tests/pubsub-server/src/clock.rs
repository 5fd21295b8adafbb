//! The only reader of clocks.

use std::time::{Duration, Instant, SystemTime};

/// A stopwatch that starts with the server, and the wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_at: SystemTime,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads clocks")]
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
            started_at: SystemTime::now(),
        }
    }

    /// Time since the start. Steps of the wall clock don't show in it.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads clocks")]
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The wall clock at the start.
    pub(crate) fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// The wall clock.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads clocks")]
    pub(crate) fn wall_now() -> SystemTime {
        SystemTime::now()
    }
}
