//! The only reader of clocks.
//!
//! Two readings, never mixed: the wall clock, which records show and alerts are judged by, and the
//! engine's clock, which holds, timers and retention run on and which a step of the wall clock
//! can't stop. A wall clock that is far from what is stored is doubted until something confirms it.

mod judge;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use self::judge::{Evidence, Judge};
use crate::event::ClockTime;

/// A clock that starts at the wall's time and then runs at the steady rate of the monotonic one.
/// Its clones are the same clock.
#[derive(Clone, Debug)]
pub struct Clock {
    started: Instant,
    judge: Arc<Mutex<Judge>>,
}

/// A wall clock that is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// What the wall clock says.
    pub wall: DateTime<Utc>,
    /// The best guess, which takes its place.
    pub believed: DateTime<Utc>,
    /// The last time that the store knew at the start.
    pub stored: DateTime<Utc>,
}

impl Clock {
    /// Starts a clock that believes the wall clock: there is no store, or the operator said so. It
    /// does not start before `stored`, which lies in the past.
    pub fn start(stored: ClockTime) -> Self {
        Self::judged_by(Judge::trusting(stored, wall()))
    }

    /// Starts the clock of a store whose last commit was at `stored`, and which keeps nothing for
    /// less than `shortest`. Logs it if the wall clock is not believed.
    pub fn resume(stored: ClockTime, shortest: Duration) -> Self {
        let clock = Self::judged_by(Judge::doubting(stored, shortest, wall()));
        clock.log_doubt();
        clock
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that reads clocks")]
    fn judged_by(judge: Judge) -> Self {
        Self {
            started: Instant::now(),
            judge: Arc::new(Mutex::new(judge)),
        }
    }

    /// The engine's clock.
    pub fn now(&self) -> ClockTime {
        self.judge().now(self.elapsed())
    }

    /// The wall clock, or the best guess while it is doubted.
    pub fn wall_now(&self) -> DateTime<Utc> {
        let guess = self.judge().guess(self.elapsed());
        guess.map_or_else(|| utc(wall()), utc)
    }

    /// Why the wall clock is not believed; `None` if it is.
    pub fn doubt(&self) -> Option<Doubt> {
        let judge = self.judge();
        Some(Doubt {
            believed: utc(judge.guess(self.elapsed())?),
            stored: utc(judge.stored()),
            wall: utc(wall()),
        })
    }

    /// Takes note of when Pub/Sub accepted a message, by its servers' clock. To be called before
    /// the message gets its time of receipt.
    pub fn observe(&self, published: DateTime<Utc>) {
        self.weigh(Evidence::Published(ClockTime::from_utc(published)));
    }

    /// Takes note of the time that a server says it is.
    pub fn observe_server(&self, now: DateTime<Utc>) {
        self.weigh(Evidence::Server(ClockTime::from_utc(now)));
    }

    /// Says in the log what is wrong with the wall clock, if it is doubted.
    pub fn log_doubt(&self) {
        let Some(doubt) = self.doubt() else { return };
        let Doubt {
            wall,
            believed,
            stored,
        } = doubt;
        tracing::error!(
            %wall, %believed, %stored,
            "this machine's clock is too far from the last time in the store, so it is not \
             believed, and nothing is deleted for its age by it; set it, best by NTP (timedatectl \
             set-ntp true): the next message or Pub/Sub's own clock confirms it; if it is right, \
             and no message comes, start once with `hearthd run --trust-clock`"
        );
    }

    /// True if [`Self::resume`] would not believe a wall clock that says `wall`.
    pub fn would_doubt(wall: DateTime<Utc>, stored: ClockTime, shortest: Duration) -> bool {
        judge::is_doubtful(stored, shortest, ClockTime::from_utc(wall))
    }

    fn weigh(&self, evidence: Evidence) {
        let ended = self.judge().weigh(evidence, self.elapsed(), wall());
        if ended {
            tracing::info!(wall = %utc(wall()), "this machine's clock is confirmed, and believed");
        }
    }

    /// A panic of whoever held the lock left the judge whole: each change is one assignment.
    fn judge(&self) -> MutexGuard<'_, Judge> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that reads clocks")]
    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads clocks")]
fn wall() -> ClockTime {
    ClockTime::from_utc(Utc::now())
}

fn utc(time: ClockTime) -> DateTime<Utc> {
    DateTime::from_timestamp_nanos(time.0)
}

/// A reading of the monotonic clock, to measure how long something takes.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
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
