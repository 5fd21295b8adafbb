//! The topic behind the subscription, judged: who hosts it, who may publish, did anything arrive.
//!
//! Asks nobody.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use google_cloud_pubsub::model::Subscription;

use super::line::Line;
use super::store::Arrivals;
use crate::event::ClockTime;
use crate::sources::pubsub::{
    DEVICE_ACCESS, Hosting, MOVE_TO_OWN_TOPIC, PUBLISHER_ROLE, Publisher,
};
use crate::text::show_duration;

/// What a subscription is attached to once its topic was deleted.
const DELETED: &str = "_deleted-topic_";

/// True if the topic is one of the user's own, so that publisher and arrivals are worth a look.
pub(super) fn is_own(subscription: &Subscription, now: DateTime<Utc>) -> bool {
    !is_gone(subscription) && Hosting::of(&subscription.topic, now) == Hosting::Own
}

fn is_gone(subscription: &Subscription) -> bool {
    subscription.detached || subscription.topic == DELETED
}

/// The line for the topic that the subscription is attached to.
pub(super) fn check(subscription: &Subscription, now: DateTime<Utc>) -> Line {
    let topic = &subscription.topic;
    if is_gone(subscription) {
        let what = if subscription.detached {
            "is detached"
        } else {
            "lost its topic"
        };
        let text = format!(
            "the subscription {what}, so that no message comes any more; delete it, and create it \
             again on the topic that the Device Access console shows"
        );
        return Line::fail("topic", text);
    }
    match Hosting::of(topic, now) {
        Hosting::Own => Line::ok("topic", format_args!("attached to {topic}")),
        Hosting::Google { days_left } => {
            let days = if days_left == 1 { "day" } else { "days" };
            let text = format!(
                "{topic} is hosted by Google, which publishes nothing to it after 30 November 2026 \
                 (UTC): {days_left} {days} left, counting today; {MOVE_TO_OWN_TOPIC}"
            );
            Line::warn("topic", text)
        }
        Hosting::GoogleEnded => {
            let text = format!(
                "{topic} was hosted by Google, which publishes nothing to it since 1 December 2026 \
                 (UTC); {MOVE_TO_OWN_TOPIC}"
            );
            Line::fail("topic", text)
        }
    }
}

/// The line for who may publish to a topic of the user's own.
pub(super) fn check_publisher(publisher: &Publisher, topic: &str) -> Line {
    let text = match publisher {
        Publisher::Bound => {
            let text = format!("{DEVICE_ACCESS} has {PUBLISHER_ROLE} on {topic}");
            return Line::ok("publisher", text);
        }
        Publisher::Absent => format!(
            "{DEVICE_ACCESS} doesn't have {PUBLISHER_ROLE} on {topic} itself; it may inherit it from the project; \
             if not: gcloud pubsub topics add-iam-policy-binding {topic} --member={DEVICE_ACCESS} \
             --role={PUBLISHER_ROLE}"
        ),
        Publisher::Forbidden => format!(
            "the account may not see who may publish to {topic}, which is usual; look yourself \
             whether {DEVICE_ACCESS} has {PUBLISHER_ROLE}: gcloud pubsub topics get-iam-policy {topic}"
        ),
        Publisher::Unknown(error) => format!(
            "failed to ask who may publish to {topic}: {error}; look yourself whether {DEVICE_ACCESS} has \
             {PUBLISHER_ROLE}: gcloud pubsub topics get-iam-policy {topic}"
        ),
    };
    Line::warn("publisher", text)
}

/// The line for the store's newest message. `silence` is `pubsub.silence_warning`, `horizon` how
/// long messages are remembered.
pub(super) fn check_arrivals(
    arrivals: Arrivals,
    now: DateTime<Utc>,
    silence: Duration,
    horizon: Duration,
) -> Line {
    const PROOF: &str = "only a message that arrives proves that the Device Access console names \
                         the subscription's topic";
    let at = match arrivals {
        Arrivals::NoStore => {
            return Line::ok("arrivals", format_args!("there is no store yet; {PROOF}"));
        }
        Arrivals::None => {
            let text = format!(
                "the store remembers no message of the last {}; cause an event, such as a ring, \
                 and run doctor again: {PROOF}",
                show_duration(&horizon)
            );
            return Line::warn("arrivals", text);
        }
        Arrivals::Last(at) => at,
    };
    let age = ClockTime::from_utc(now).since(at);
    let shown_age = humantime::format_duration(Duration::from_secs(age.as_secs()));
    let shown = DateTime::from_timestamp(at.unix_seconds(), 0)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Secs, true);
    let text = format!("the store last got a message {shown_age} ago, at {shown}; {PROOF}");
    if age < silence {
        return Line::ok("arrivals", text);
    }
    let limit = show_duration(&silence);
    Line::warn(
        "arrivals",
        format_args!("{text}; pubsub.silence_warning is {limit}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::line::Verdict;

    const HOSTED: &str = "projects/sdm-prod/topics/enterprise-1";

    fn at(now: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(now).unwrap().to_utc()
    }

    #[test]
    fn a_hosted_topic_is_a_warning_until_it_ends_and_then_a_failure() {
        let hosted = Subscription::new().set_topic(HOSTED);
        for (now, verdict, words) in [
            ("2026-11-29T12:00:00Z", Verdict::Warn, "2 days left"),
            ("2026-11-30T23:59:59Z", Verdict::Warn, "1 day left"),
            ("2026-12-01T00:00:00Z", Verdict::Fail, "since 1 December"),
        ] {
            let line = check(&hosted, at(now));
            assert_eq!(line.verdict, verdict, "{line}");
            for words in [
                words,
                HOSTED,
                "gcloud pubsub topics create",
                "group:sdm-publisher@googlegroups.com",
                "roles/pubsub.publisher",
                "--expiration-period=never",
                "Device Access console",
                "drain the old subscription",
                "Home Assistant",
            ] {
                assert!(line.text.contains(words), "{words:?} is not in: {line}");
            }
            assert!(!is_own(&hosted, at(now)));
        }
        let own = Subscription::new().set_topic("projects/p/topics/home");
        for now in ["2026-11-29T12:00:00Z", "2026-12-01T00:00:00Z"] {
            assert_eq!(check(&own, at(now)).verdict, Verdict::Ok);
            assert!(is_own(&own, at(now)));
        }
    }

    #[test]
    fn arrivals_are_judged_by_their_age() {
        let day = Duration::from_secs(24 * 60 * 60);
        let last = |time: &str| Arrivals::Last(ClockTime::from_utc(at(time)));
        for (arrivals, verdict, words) in [
            (Arrivals::NoStore, Verdict::Ok, "no store yet; only a"),
            (Arrivals::None, Verdict::Warn, "no message of the last 8d"),
            (
                last("2026-11-28T12:00:01Z"),
                Verdict::Ok,
                "message 23h 59m 59s ago, at 2026-11-28T12:00:01Z; only a",
            ),
            (
                last("2026-11-28T12:00:00Z"),
                Verdict::Warn,
                "message 1day ago, at 2026-11-28T12:00:00Z; only a",
            ),
            // The engine's clock may be ahead of a wall clock that was set back.
            (last("2026-11-30T00:00:00Z"), Verdict::Ok, "message 0s ago"),
        ] {
            let line = check_arrivals(arrivals, at("2026-11-29T12:00:00Z"), day, 8 * day);
            assert_eq!(line.verdict, verdict, "{line}");
            assert!(line.text.contains(words), "{line}");
        }
    }
}
