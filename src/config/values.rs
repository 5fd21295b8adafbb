//! Types of single values that other parts use too, each made only from a valid text.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::text::quoted;

/// Longest id of a Pub/Sub resource.
const RESOURCE_ID_MAX_CHARS: usize = 255;

/// The full name of a Pub/Sub subscription, `projects/{project}/subscriptions/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SubscriptionName(String);

/// A text that names no subscription.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSubscription {
    /// The name of a topic, which people paste where the subscription belongs.
    #[error("{} is a topic, not a subscription; {}", quoted(.0), SubscriptionName::FORMS)]
    Topic(String),
    /// Anything else.
    #[error("{} is not the full name of a subscription; {}", quoted(.0), SubscriptionName::FORMS)]
    Malformed(String),
}

impl SubscriptionName {
    /// What tells the two kinds of names apart, for everyone who pastes one where the other
    /// belongs.
    pub const FORMS: &'static str = "write projects/{project}/subscriptions/{id}: \
        the subscription lives in your own Google Cloud project \
        (projects/my-gcp-project/subscriptions/hearthd); \
        a topic is what it was attached to when it was created \
        (projects/sdm-prod/topics/enterprise-… or, self-hosted, projects/{gcp}/topics/{id})";

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SubscriptionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SubscriptionName {
    type Err = InvalidSubscription;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split('/').collect::<Vec<_>>()[..] {
            ["projects", project, "subscriptions", id]
                if is_project(project) && is_resource_id(id) =>
            {
                Ok(Self(text.to_owned()))
            }
            ["projects", _, "topics", ..] => Err(InvalidSubscription::Topic(text.to_owned())),
            _ => Err(InvalidSubscription::Malformed(text.to_owned())),
        }
    }
}

/// True for a project's id or number, also with the domain that old ones have (`example.com:home`).
fn is_project(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-.:_".contains(c))
}

/// True for what Pub/Sub accepts as a resource's id. Shorter ones than its three characters are
/// left to the server, as emulators take them.
fn is_resource_id(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.len() <= RESOURCE_ID_MAX_CHARS
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.~+%".contains(c))
}

/// A text that must not be printed, such as the content of the credentials file. Prints as
/// `[redacted]`.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes the text out of sight.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_is_named_in_full() {
        for good in [
            "projects/my-gcp-project/subscriptions/hearthd",
            "projects/123456789/subscriptions/h",
            "projects/example.com:home/subscriptions/hearthd-1_a.b~c+d%e",
        ] {
            let name: SubscriptionName = good.parse().unwrap();
            assert_eq!(name.to_string(), good);
        }
        let long = format!("projects/p/subscriptions/{}", "a".repeat(256));
        for bad in [
            "hearthd",
            "projects/p/subscriptions/",
            "projects//subscriptions/hearthd",
            "projects/p/subscriptions/hearthd/more",
            "projects/p/subscriptions/1st",
            "projects/p/subscriptions/hearth d",
            "//pubsub.googleapis.com/projects/p/subscriptions/hearthd",
            " projects/p/subscriptions/hearthd",
            "projects/p/subscriptions/hearthd\n",
            &long,
        ] {
            let expected = InvalidSubscription::Malformed(bad.to_owned());
            assert_eq!(bad.parse::<SubscriptionName>(), Err(expected));
        }
        for topic in [
            "projects/sdm-prod/topics/enterprise-1",
            "projects/p/topics/t",
        ] {
            let expected = InvalidSubscription::Topic(topic.to_owned());
            assert_eq!(topic.parse::<SubscriptionName>(), Err(expected));
        }
    }

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new("hush".to_owned());
        assert_eq!(format!("{secret} {secret:?}"), "[redacted] [redacted]");
        assert_eq!(secret.expose(), "hush");
    }
}
