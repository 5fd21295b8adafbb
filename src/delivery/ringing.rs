//! The rule for everything that rings: whether a revision makes a sound, changes in silence, or
//! waits. One rule for all sinks that show notifications to people.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::row::Revision;
use super::settings::Now;
use crate::event::ClockTime;

/// What a sink last showed of a notification: kept in the store per sink and notification, and
/// forgotten together with the notification. Where there is none, nothing was shown yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    pub revision: u32,
    pub rang_at: ClockTime,
    /// When it last changed without a sound.
    pub silent_at: Option<ClockTime>,
}

/// What to do with a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ringing {
    CreateAndRing,
    /// In the same notification.
    RingAgain,
    ReplaceSilently,
    /// The last change, also silent. It is no removal.
    CloseSilently,
    /// Nothing now; at this time, if no newer revision has come until then.
    Wait(ClockTime),
    /// Nothing at all.
    Skip(SkipReason),
}

/// Why a revision isn't shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// Nothing was shown, and this doesn't ring, or no longer: who missed the ring needs no news.
    NothingShown,
    /// This revision or a newer one was shown.
    Outdated,
}

/// Judges a revision by what was shown before; at most one silent change per `update_interval`.
pub fn judge(
    shown: Option<&Shown>,
    revision: &Revision,
    now: Now,
    update_interval: Duration,
) -> Ringing {
    let is_fresh = revision.is_fresh(now.wall);
    let Some(shown) = shown else {
        return if is_fresh {
            Ringing::CreateAndRing
        } else {
            Ringing::Skip(SkipReason::NothingShown)
        };
    };
    if revision.number <= shown.revision {
        return Ringing::Skip(SkipReason::Outdated);
    }
    if is_fresh {
        return Ringing::RingAgain;
    }
    if revision.closed {
        return Ringing::CloseSilently;
    }
    match shown.silent_at.map(|at| at.after(update_interval)) {
        Some(next) if next > now.clock => Ringing::Wait(next),
        Some(_) | None => Ringing::ReplaceSilently,
    }
}

impl Ringing {
    /// What is shown once the receiver has taken `revision` like this; to be kept, also where the
    /// same revision comes again.
    pub fn shows(
        self,
        before: Option<&Shown>,
        revision: &Revision,
        at: ClockTime,
    ) -> Option<Shown> {
        let before_ring = before.map_or(at, |shown| shown.rang_at);
        let silent_at = before.and_then(|shown| shown.silent_at);
        let (rang_at, silent_at) = match self {
            Self::CreateAndRing | Self::RingAgain => (at, silent_at),
            Self::ReplaceSilently | Self::CloseSilently => (before_ring, Some(at)),
            Self::Wait(_) | Self::Skip(_) => return before.copied(),
        };
        Some(Shown {
            revision: revision.number,
            rang_at,
            silent_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::event::NotificationId;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn now(second: i64) -> Now {
        Now {
            clock: ClockTime(second * 1_000_000_000),
            wall: DateTime::from_timestamp_secs(second).unwrap(),
        }
    }

    /// A revision, and the last second in which it may ring.
    fn revision(number: u32, alert_until: Option<i64>) -> Revision {
        Revision {
            id: NotificationId([7; 16]),
            number,
            closed: false,
            alert_until: alert_until.map(|second| now(second).wall),
        }
    }

    fn closing(number: u32) -> Revision {
        Revision {
            closed: true,
            ..revision(number, None)
        }
    }

    /// What becomes of revisions that come at these seconds to a receiver that takes them.
    fn run(revisions: &[(i64, Revision)]) -> Vec<Ringing> {
        let mut shown = None;
        let mut results = Vec::new();
        for (second, revision) in revisions {
            let at = now(*second);
            let ringing = judge(shown.as_ref(), revision, at, INTERVAL);
            shown = ringing.shows(shown.as_ref(), revision, at.clock);
            results.push(ringing);
        }
        results
    }

    #[test]
    fn the_first_fresh_alert_creates_and_rings_until_its_last_moment() {
        for (second, expected) in [
            (0, Ringing::CreateAndRing),
            (60, Ringing::CreateAndRing),
            (61, Ringing::Skip(SkipReason::NothingShown)),
        ] {
            assert_eq!(run(&[(second, revision(1, Some(60)))]), [expected]);
        }
    }

    #[test]
    fn a_later_alert_rings_again_also_right_after_another_change() {
        let revisions = [
            (0, revision(1, Some(60))),
            (1, revision(2, None)),
            (2, revision(3, Some(62))),
        ];
        let expected = [
            Ringing::CreateAndRing,
            Ringing::ReplaceSilently,
            Ringing::RingAgain,
        ];
        assert_eq!(run(&revisions), expected);
    }

    #[test]
    fn an_alert_that_expired_replaces_silently_what_was_shown() {
        let revisions = [(0, revision(1, Some(60))), (100, revision(2, Some(99)))];
        let expected = [Ringing::CreateAndRing, Ringing::ReplaceSilently];
        assert_eq!(run(&revisions), expected);
    }

    #[test]
    fn one_whose_alert_expired_is_not_created_by_what_follows() {
        let revisions = [
            (100, revision(1, Some(60))),
            (101, revision(2, None)),
            (102, closing(3)),
            (103, revision(4, Some(110))),
        ];
        let skipped = Ringing::Skip(SkipReason::NothingShown);
        let expected = [skipped, skipped, skipped, Ringing::CreateAndRing];
        assert_eq!(run(&revisions), expected);
    }

    #[test]
    fn silent_changes_keep_their_distance_and_closing_does_not_wait() {
        let wait = Ringing::Wait(now(11).clock);
        let revisions = [
            (0, revision(1, Some(60))),
            (1, revision(2, None)),
            (2, revision(3, None)),
            (10, revision(4, None)),
            (11, revision(4, None)),
            (12, closing(5)),
        ];
        let expected = [
            Ringing::CreateAndRing,
            Ringing::ReplaceSilently,
            wait,
            wait,
            Ringing::ReplaceSilently,
            Ringing::CloseSilently,
        ];
        assert_eq!(run(&revisions), expected);
    }

    #[test]
    fn a_hundred_updates_in_a_minute_are_at_most_seven_silent_changes() {
        let revisions: Vec<_> = (0..=100_u32)
            .map(|n| {
                let alert = (n == 0).then_some(60);
                (i64::from(n) * 60 / 100, revision(n + 1, alert))
            })
            .collect();
        let silent = run(&revisions)
            .into_iter()
            .filter(|ringing| *ringing == Ringing::ReplaceSilently)
            .count();
        assert_eq!(silent, 7);
    }

    #[test]
    fn a_first_revision_that_is_closed_rings_if_it_is_fresh() {
        let fresh = Revision {
            closed: true,
            ..revision(1, Some(60))
        };
        assert_eq!(run(&[(0, fresh)]), [Ringing::CreateAndRing]);
        let again = Revision { number: 2, ..fresh };
        let expected = [Ringing::CreateAndRing, Ringing::RingAgain];
        assert_eq!(run(&[(0, fresh), (1, again)]), expected);
    }

    #[test]
    fn what_was_shown_is_not_shown_again() {
        let revisions = [
            (0, revision(2, Some(60))),
            (1, revision(2, Some(60))),
            (2, revision(1, Some(60))),
        ];
        let outdated = Ringing::Skip(SkipReason::Outdated);
        assert_eq!(
            run(&revisions),
            [Ringing::CreateAndRing, outdated, outdated]
        );
    }

    #[test]
    fn what_was_shown_survives_as_json() {
        let shown = Shown {
            revision: 3,
            rang_at: ClockTime(5),
            silent_at: None,
        };
        let json = serde_json::to_string(&shown).unwrap();
        assert_eq!(json, r#"{"revision":3,"rangAt":5,"silentAt":null}"#);
        assert_eq!(serde_json::from_str::<Shown>(&json).unwrap(), shown);
    }
}
