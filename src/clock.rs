//! The only reader of clocks.
//!
//! Two readings, never mixed: the wall clock, which records show and alerts are judged by, and the
//! engine's clock, which holds and timers run on and which a step of the wall clock can't stop.

use std::time::Instant;

use chrono::{DateTime, Utc};

use crate::event::ClockTime;

/// A clock that starts at the wall's time and then runs at the steady rate of the monotonic one.
#[derive(Clone, Debug)]
pub struct Clock {
    started: Instant,
    started_at: ClockTime,
}

impl Clock {
    /// Starts a clock, not before `earliest`: what was stored lies in the past, even where the
    /// wall clock was set back since.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads clocks")]
    pub fn start(earliest: ClockTime) -> Self {
        let wall = ClockTime::from_utc(Utc::now());
        Self {
            started: Instant::now(),
            started_at: wall.max(earliest),
        }
    }

    /// The engine's clock.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads clocks")]
    pub fn now(&self) -> ClockTime {
        self.started_at.after(self.started.elapsed())
    }

    /// The wall clock.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads clocks")]
    pub fn wall_now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// A reading of the monotonic clock, to measure how long something takes.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads clocks")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Seconds since the start.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads clocks")]
    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}
