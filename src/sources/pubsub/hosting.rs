//! Topics that Google hosts for Device Access, and their end on 30 November 2026.
//!
//! Values only: the time is a parameter, so that tests can be on either side of the end.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::event::ClockTime;

/// How the names of Google's topics for Device Access begin.
const HOSTED: &str = "projects/sdm-prod/topics/";
/// Nothing is published to them from then on: 2026-12-01T00:00:00Z.
const END: i64 = 1_796_083_200;
const SECONDS_PER_DAY: i64 = 24 * 60 * 60;
/// Often enough to be read before the end, and too rare to hide other warnings.
const WARNING_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// What to do about a hosted topic. README.md has the commands in full.
pub const MOVE_TO_OWN_TOPIC: &str = "move to a topic of your own: (1) gcloud pubsub topics create \
     TOPIC; (2) gcloud pubsub topics add-iam-policy-binding TOPIC \
     --member=group:sdm-publisher@googlegroups.com --role=roles/pubsub.publisher; (3) gcloud \
     pubsub subscriptions create NEW --topic=TOPIC --expiration-period=never, and grant the \
     service account roles/pubsub.subscriber on it; (4) name the topic in the Device Access \
     console; (5) let hearthd drain the old subscription, then set pubsub.subscription to the new \
     one. A Device Access project has one topic: where Home Assistant reads too, give each program \
     a subscription of its own on that topic";

/// Who hosts a topic, and how long Google still publishes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosting {
    /// It is in a project of the user's.
    Own,
    /// It is Google's. Days are counted with today, in UTC.
    Google {
        /// 1 on 30 November 2026.
        days_left: i64,
    },
    /// It was Google's: nothing is published to it any more.
    GoogleEnded,
}

impl Hosting {
    /// Judges a topic by its name, `projects/…/topics/…`.
    pub fn of(topic: &str, now: DateTime<Utc>) -> Self {
        if !topic.starts_with(HOSTED) {
            return Self::Own;
        }
        let seconds_left = END.saturating_sub(now.timestamp());
        if seconds_left <= 0 {
            return Self::GoogleEnded;
        }
        // The division rounds down: a day that has begun counts in full.
        let days_left = (seconds_left - 1) / SECONDS_PER_DAY + 1;
        Self::Google { days_left }
    }

    /// True if it is, or was, Google's.
    pub fn is_hosted(self) -> bool {
        match self {
            Self::Own => false,
            Self::Google { .. } | Self::GoogleEnded => true,
        }
    }
}

/// Lets one warning a day through.
#[derive(Debug, Default)]
pub(super) struct Daily {
    /// `None` before the first.
    next: Option<ClockTime>,
}

impl Daily {
    /// True if a warning is due; the next one is due a day later.
    pub(super) fn is_due(&mut self, now: ClockTime) -> bool {
        if self.next.is_some_and(|next| now < next) {
            return false;
        }
        self.next = Some(now.after(WARNING_INTERVAL));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosted_topics_end_with_november_2026() {
        let of = |topic, now: &str| {
            let now = DateTime::parse_from_rfc3339(now).unwrap().to_utc();
            Hosting::of(topic, now)
        };
        let hosted = "projects/sdm-prod/topics/enterprise-1";
        let left = |days_left| Hosting::Google { days_left };
        for (now, expected) in [
            ("2026-11-01T00:00:00Z", left(30)),
            ("2026-11-29T00:00:00Z", left(2)),
            ("2026-11-29T23:59:59Z", left(2)),
            ("2026-11-30T00:00:00Z", left(1)),
            ("2026-11-30T23:59:59.999Z", left(1)),
            // Still November in Los Angeles, and December in Berlin.
            ("2026-11-30T16:00:00-08:00", Hosting::GoogleEnded),
            ("2026-12-01T00:59:59+01:00", left(1)),
            ("2026-12-01T00:00:00Z", Hosting::GoogleEnded),
            ("2030-01-01T00:00:00Z", Hosting::GoogleEnded),
        ] {
            assert_eq!(of(hosted, now), expected, "{now}");
            assert!(of(hosted, now).is_hosted());
            let own = "projects/my-sdm-prod/topics/enterprise-1";
            assert_eq!(of(own, now), Hosting::Own, "{now}");
        }
    }

    #[test]
    fn a_warning_comes_once_a_day() {
        let at = |hours| ClockTime::default().after(Duration::from_secs(hours * 3600));
        let mut daily = Daily::default();
        let due: Vec<u64> = (0..60).filter(|hours| daily.is_due(at(*hours))).collect();
        assert_eq!(due, [0, 24, 48]);
    }
}
