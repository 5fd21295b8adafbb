//! What Pub/Sub says of the subscription, judged. Asks nobody.

use std::time::Duration;

use chrono::{DateTime, Utc};
use google_cloud_pubsub::model::Subscription;

use super::line::Line;
use super::topic;
use crate::config::{Endpoint, Pubsub};
use crate::sources::pubsub::{Finding, StreamFailure};
use crate::text::show_duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// What holds where a subscription doesn't say when it expires, or how long it keeps messages.
const DEFAULT_EXPIRY: Duration = DAY.saturating_mul(31);
const DEFAULT_RETENTION: Duration = DAY.saturating_mul(7);

/// The lines for what was found. `horizon` is `dedupe.horizon`.
pub(super) fn lines(
    finding: &Finding,
    settings: &Pubsub,
    horizon: Duration,
    now: DateTime<Utc>,
) -> Vec<Line> {
    let name = settings.subscription.as_str();
    let fail = |text: &str| vec![Line::fail("subscription", format_args!("{name}: {text}"))];
    match finding {
        Finding::Found(subscription) => found(subscription, settings, horizon, now),
        Finding::NotFound => fail(StreamFailure::NotFound.advice()),
        Finding::Forbidden => vec![Line::warn(
            "subscription",
            format_args!(
                "{name}: the account may not look at it, so that its topic, expiry and retention \
                 are unknown; that is usual, as roles/pubsub.subscriber lacks \
                 pubsub.subscriptions.get: add roles/pubsub.viewer on it to have them checked. If \
                 its topic is one of projects/sdm-prod, nothing is published to it after 30 \
                 November 2026; gcloud pubsub subscriptions describe {name} shows it"
            ),
        )],
        Finding::Unauthenticated(error) => fail(&format!(
            "{}: {error}",
            StreamFailure::Unauthenticated.advice()
        )),
        Finding::NoToken(_, error) => {
            fail(&format!("{}: {error}", StreamFailure::Credentials.advice()))
        }
        Finding::Unreachable(error) => fail(&format!(
            "failed to ask for it: {error}; check its name, and that the endpoint is Pub/Sub"
        )),
    }
}

fn found(
    subscription: &Subscription,
    settings: &Pubsub,
    horizon: Duration,
    now: DateTime<Utc>,
) -> Vec<Line> {
    let name = settings.subscription.as_str();
    let mut lines = vec![
        Line::ok("subscription", format_args!("{name}: exists")),
        topic::check(subscription, now),
    ];
    // An emulator forgets everything when it ends.
    if !matches!(settings.endpoint, Endpoint::Emulator { .. }) {
        lines.push(check_expiry(subscription, name));
    }
    lines.push(check_retention(subscription, horizon));
    lines.push(Line::ok(
        "deadline",
        format_args!(
            "messages come again after {} s; hearthd extends that by up to {} at a time",
            subscription.ack_deadline_seconds,
            show_duration(&settings.max_lease_extension)
        ),
    ));
    lines.push(check_delivery(subscription, name));
    lines
}

fn check_expiry(subscription: &Subscription, name: &str) -> Line {
    let ttl = subscription
        .expiration_policy
        .as_ref()
        .map(|policy| std_duration(policy.ttl));
    let idle = match ttl {
        Some(None) => return Line::ok("expiry", "never"),
        Some(Some(ttl)) => show_duration(&ttl),
        None => show_duration(&DEFAULT_EXPIRY),
    };
    Line::warn(
        "expiry",
        format_args!(
            "after {idle} without a subscriber it is deleted, with what is in it; gcloud pubsub \
             subscriptions update {name} --expiration-period=never"
        ),
    )
}

/// A message that comes again after its payload was forgotten takes effect again.
fn check_retention(subscription: &Subscription, horizon: Duration) -> Line {
    let retention = std_duration(subscription.message_retention_duration);
    let retention = retention.unwrap_or(DEFAULT_RETENTION);
    let kept = show_duration(&retention);
    let remembered = show_duration(&horizon);
    let text = format!("messages are kept for {kept}, dedupe.horizon is {remembered}");
    if retention < horizon {
        return Line::ok("retention", text);
    }
    let longer = show_duration(&retention.saturating_add(DAY));
    Line::warn(
        "retention",
        format_args!(
            "{text}: what comes again after that takes effect again; set dedupe.horizon to \
             {longer}, or keep messages for less"
        ),
    )
}

fn check_delivery(subscription: &Subscription, name: &str) -> Line {
    let pushes = subscription
        .push_config
        .as_ref()
        .is_some_and(|push| !push.push_endpoint.is_empty());
    let exports = subscription.bigquery_config.is_some()
        || subscription.cloud_storage_config.is_some()
        || subscription.bigtable_config.is_some();
    if pushes {
        let text = format!(
            "it pushes its messages to a server, and nobody can pull them; gcloud pubsub \
             subscriptions modify-push-config {name} --push-endpoint="
        );
        return Line::fail("delivery", text);
    }
    if exports {
        let text = "it writes its messages to storage, and nobody can pull them; create another \
                    subscription for hearthd, without export";
        return Line::fail("delivery", text);
    }
    if !subscription.filter.is_empty() {
        let text = "it has a filter, which lets none of SDM's messages through, as these have no \
                    attributes; create it again without";
        return Line::warn("delivery", text);
    }
    let yes_no = |is_on| if is_on { "on" } else { "off" };
    let text = format!(
        "pull; exactly-once {}, ordering {} (hearthd needs neither)",
        yes_no(subscription.enable_exactly_once_delivery),
        yes_no(subscription.enable_message_ordering)
    );
    Line::ok("delivery", text)
}

/// `None` also for one below zero, which Pub/Sub doesn't send.
fn std_duration(duration: Option<google_cloud_wkt::Duration>) -> Option<Duration> {
    duration.and_then(|duration| duration.try_into().ok())
}
