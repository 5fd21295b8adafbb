//! Is the wall clock believed, and what time is it while it is not? Pure: readings are arguments.
//!
//! A board without a battery wakes up in 1970, and one flipped bit makes it 2029. A store that
//! believed such a clock would forget all that it keeps for days, so what lies too far from the
//! last stored time has to be confirmed first.

use std::time::Duration;

use crate::event::ClockTime;

/// How far two right clocks may be apart. One that nobody set for months drifts by minutes.
const TOLERANCE: Duration = Duration::from_secs(3600);

/// What says what time it is, beside the wall clock.
#[derive(Clone, Copy, Debug)]
pub(super) enum Evidence {
    /// Pub/Sub accepted a message then: it is not earlier. A message may have waited for days.
    Published(ClockTime),
    /// A server says that it is this time now.
    Server(ClockTime),
}

/// True if the wall clock is too far from what is stored: earlier, or later than the shortest time
/// for which the store keeps anything. Without a stored time there is nothing to lose.
pub(super) fn is_doubtful(stored: ClockTime, shortest: Duration, wall: ClockTime) -> bool {
    let latest = stored.after(shortest.max(TOLERANCE));
    stored != ClockTime::default() && !(stored.before(TOLERANCE)..=latest).contains(&wall)
}

/// What is believed. Every `elapsed` is the time since the process started.
#[derive(Clone, Debug)]
pub(super) struct Judge {
    /// The engine's clock when the process started.
    start: ClockTime,
    /// The last time that the store knows.
    stored: ClockTime,
    /// The best guess of the time at which the process started, while the wall clock is doubted.
    guess: Option<ClockTime>,
}

impl Judge {
    /// Believes the wall clock. The engine's clock starts there, but not before what is stored.
    pub(super) fn trusting(stored: ClockTime, wall: ClockTime) -> Self {
        Self {
            start: wall.max(stored),
            stored,
            guess: None,
        }
    }

    /// Believes the wall clock unless it is doubtful.
    pub(super) fn doubting(stored: ClockTime, shortest: Duration, wall: ClockTime) -> Self {
        if !is_doubtful(stored, shortest, wall) {
            return Self::trusting(stored, wall);
        }
        Self {
            start: stored,
            stored,
            guess: Some(stored),
        }
    }

    pub(super) fn now(&self, elapsed: Duration) -> ClockTime {
        self.start.after(elapsed)
    }

    /// The best guess of the time, while the wall clock is doubted.
    pub(super) fn guess(&self, elapsed: Duration) -> Option<ClockTime> {
        self.guess.map(|guess| guess.after(elapsed))
    }

    pub(super) fn stored(&self) -> ClockTime {
        self.stored
    }

    /// True if this ends the doubt. From then on the engine's clock goes on from the wall's time,
    /// unless it is later.
    pub(super) fn weigh(&mut self, evidence: Evidence, elapsed: Duration, wall: ClockTime) -> bool {
        let Some(guess) = self.guess else {
            return false;
        };
        let (Evidence::Published(shown) | Evidence::Server(shown)) = evidence;
        if wall.since(shown).max(shown.since(wall)) <= TOLERANCE {
            self.start = self.start.max(wall.before(elapsed));
            self.guess = None;
            return true;
        }
        let shown = shown.before(elapsed);
        self.guess = Some(match evidence {
            Evidence::Published(_) => guess.max(shown),
            Evidence::Server(_) => shown,
        });
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

    /// 2026-11-24.
    const STORED: ClockTime = ClockTime(1_795_478_400_000_000_000);

    /// A minute after the start.
    const MINUTE: Duration = Duration::from_secs(60);

    fn judge(shortest: Duration, wall: ClockTime) -> Judge {
        Judge::doubting(STORED, shortest, wall)
    }

    #[test]
    fn a_wall_clock_is_believed_near_what_is_stored() {
        for (wall, shortest, is_believed) in [
            (STORED, WEEK, true),
            (STORED.after(WEEK), WEEK, true),
            (STORED.after(WEEK + MINUTE), WEEK, false),
            (STORED.after(3 * YEAR), WEEK, false),
            (STORED.before(HOUR), WEEK, true),
            (STORED.before(HOUR + MINUTE), WEEK, false),
            (STORED.before(YEAR), WEEK, false),
            (ClockTime(1), WEEK, false),
            // Retention below the tolerance.
            (STORED.after(HOUR), MINUTE, true),
            (STORED.after(HOUR + MINUTE), MINUTE, false),
        ] {
            let judge = judge(shortest, wall);
            assert_eq!(judge.guess(MINUTE).is_none(), is_believed, "{wall:?}");
            let start = if is_believed {
                wall.max(STORED)
            } else {
                STORED
            };
            assert_eq!(judge.now(MINUTE), start.after(MINUTE), "{wall:?}");
        }
        let first = Judge::doubting(ClockTime::default(), WEEK, STORED.after(3 * YEAR));
        assert_eq!(first.guess(MINUTE), None, "nothing is stored");
    }

    #[test]
    fn whom_the_operator_trusts_is_believed_but_never_runs_back() {
        for (wall, start) in [
            (STORED.after(3 * YEAR), STORED.after(3 * YEAR)),
            (STORED.before(YEAR), STORED),
        ] {
            let judge = Judge::trusting(STORED, wall);
            assert_eq!(judge.guess(MINUTE), None);
            assert_eq!(judge.now(MINUTE), start.after(MINUTE));
        }
    }

    #[test]
    fn evidence_against_the_wall_clock_raises_the_guess_alone() {
        for wall in [STORED.after(3 * YEAR), STORED.before(YEAR)] {
            let mut judge = judge(WEEK, wall);
            assert_eq!(judge.guess(MINUTE), Some(STORED.after(MINUTE)));
            let old = STORED.before(DAY);
            assert!(!judge.weigh(Evidence::Published(old), MINUTE, wall.after(MINUTE)));
            assert_eq!(judge.guess(MINUTE), Some(STORED.after(MINUTE)), "a backlog");
            let newer = STORED.after(DAY);
            assert!(!judge.weigh(Evidence::Published(newer), MINUTE, wall.after(MINUTE)));
            assert_eq!(judge.guess(MINUTE), Some(newer));
            assert_eq!(judge.guess(2 * MINUTE), Some(newer.after(MINUTE)));
            // What a server says is the time, also if that is before what was guessed.
            let exact = STORED.after(HOUR);
            assert!(!judge.weigh(Evidence::Server(exact), MINUTE, wall.after(MINUTE)));
            assert_eq!(judge.guess(MINUTE), Some(exact));
            assert_eq!(judge.now(MINUTE), STORED.after(MINUTE), "nothing expires");
        }
    }

    #[test]
    fn a_long_pause_is_confirmed_by_the_first_fresh_message() {
        let wall = STORED.after(10 * DAY);
        let mut judge = judge(WEEK, wall);
        let backlog = Evidence::Published(STORED.after(4 * DAY));
        assert!(!judge.weigh(backlog, MINUTE, wall.after(MINUTE)));
        assert_eq!(judge.now(MINUTE), STORED.after(MINUTE));
        let fresh = Evidence::Published(wall.before(HOUR).after(MINUTE));
        assert!(judge.weigh(fresh, MINUTE, wall.after(MINUTE)));
        assert_eq!(judge.guess(MINUTE), None);
        assert_eq!(judge.now(MINUTE), wall.after(MINUTE));
        assert!(!judge.weigh(fresh, MINUTE, wall), "it ends once");
    }

    #[test]
    fn a_clock_that_is_set_meanwhile_is_believed_at_the_next_evidence() {
        let wrong = STORED.before(YEAR);
        let mut judge = judge(WEEK, wrong);
        let right = STORED.after(DAY);
        assert!(!judge.weigh(Evidence::Server(right), MINUTE, wrong.after(MINUTE)));
        assert!(judge.weigh(Evidence::Server(right), MINUTE, right.after(MINUTE)));
        assert_eq!(judge.now(MINUTE), right.after(MINUTE));
    }

    #[test]
    fn the_engines_clock_never_runs_back() {
        // The stored time is the wrong one: an earlier build believed a clock that had jumped.
        let wall = STORED.before(3 * YEAR);
        let mut judge = judge(WEEK, wall);
        assert!(judge.weigh(Evidence::Published(wall), MINUTE, wall));
        assert_eq!(judge.guess(MINUTE), None);
        assert_eq!(judge.now(MINUTE), STORED.after(MINUTE));
    }
}
