//! `hearthd publish`: sends the payloads of capture files to a topic, for demos and tests.
//!
//! Sends what the lines hold, good or bad; decoding them is the service's business.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use google_cloud_auth::credentials::{Credentials, anonymous};
use google_cloud_gax::error::rpc::Code;
use google_cloud_pubsub::client::{Publisher, SubscriptionAdmin, TopicAdmin};
use google_cloud_pubsub::model::Message;
use serde_json::{Map, Value};

use crate::clock::Clock;
use crate::config::{Faults, SubscriptionName, emulator_url};
use crate::event::{ClockTime, Timestamp};
use crate::sources::capture;

/// Messages sent and not yet confirmed: ten of the client's batches of 100 keep it busy, and take a
/// few MB.
const IN_FLIGHT_MAX: usize = 1_000;
/// Longest wait for an answer. The client library retries for minutes, without a word, when nobody
/// is there; a server that is there needs milliseconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// Ack deadline of a created subscription: the shortest, so that what a killed subscriber held
/// comes again soon.
const ACK_DEADLINE_SECONDS: i32 = 10;
/// Where a payload has the time of its event.
const TIMESTAMP: &str = "timestamp";

/// Options of `hearthd publish`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Topic to publish to: projects/{project}/topics/{id}
    #[arg(long, value_name = "TOPIC")]
    topic: TopicName,
    /// Create the topic and this subscription to it, if they don't exist; on an emulator only
    #[arg(long, value_name = "SUBSCRIPTION")]
    create: Option<SubscriptionName>,
    /// Shift the timestamp of every event by the same amount, so that the last one is now
    #[arg(long, value_enum, value_name = "TIME")]
    rebase: Option<Rebase>,
    /// Really publish to Google, if PUBSUB_EMULATOR_HOST names no emulator
    #[arg(long)]
    yes: bool,
    /// Capture files, compressed or not; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Where `--rebase` moves the last event.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Rebase {
    /// To this moment
    Now,
}

/// The full name of a topic, `projects/{project}/topics/{id}`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TopicName(String);

impl FromStr for TopicName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let kind = match text.split('/').collect::<Vec<_>>()[..] {
            ["projects", project, "topics", id] if !project.is_empty() && !id.is_empty() => {
                return Ok(Self(text.to_owned()));
            }
            ["projects", _, "subscriptions", ..] => "is a subscription, not a topic",
            _ => "is not the full name of a topic",
        };
        Err(format!(
            "{text:?} {kind}; write projects/{{project}}/topics/{{id}}, such as \
             projects/demo/topics/home (a subscription is projects/{{project}}/subscriptions/{{id}})"
        ))
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Publishes every line of the files, in their order, and says on standard error how many.
pub async fn run(args: Args, environment: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let emulator = emulator_url(environment).map_err(Faults::from)?;
    if emulator.is_none() {
        refuse_google(&args)?;
    }
    // All files are opened before anything is sent, so that a wrong path changes nothing.
    let readers = args
        .files
        .iter()
        .map(|path| capture::open(path))
        .collect::<Result<Vec<_>, _>>()?;
    let bodies = readers.into_iter().flatten().map(|line| Ok(line?.raw.body));
    if let (Some(subscription), Some(url)) = (&args.create, &emulator) {
        create(&args.topic, subscription, url).await?;
    }
    let publisher = publisher(&args.topic, emulator.as_deref()).await?;
    let count = match args.rebase {
        None => publish(&publisher, &args.topic, bodies).await?,
        // The last event must be known before the first is sent, so these are held in memory.
        Some(Rebase::Now) => {
            let bodies = bodies.collect::<anyhow::Result<Vec<_>>>()?;
            let bodies = rebase(bodies, Clock::start(ClockTime::default()).wall_now());
            publish(&publisher, &args.topic, bodies.into_iter().map(Ok)).await?
        }
    };
    writeln!(
        std::io::stderr().lock(),
        "published {count} messages to {}",
        args.topic
    )?;
    Ok(())
}

/// Real messages need a yes, and nothing is created at Google.
fn refuse_google(args: &Args) -> anyhow::Result<()> {
    if args.create.is_some() {
        bail!(
            "--create works on an emulator only; set PUBSUB_EMULATOR_HOST, such as localhost:8085, \
             or create the topic and the subscription with gcloud"
        );
    }
    if !args.yes {
        bail!(
            "refused to publish to {} at Google, whose subscribers will take the messages for real; \
             set PUBSUB_EMULATOR_HOST, such as localhost:8085, or add --yes",
            args.topic
        );
    }
    Ok(())
}

async fn publisher(topic: &TopicName, emulator: Option<&str>) -> anyhow::Result<Publisher> {
    let builder = Publisher::builder(topic.to_string());
    let builder = match emulator {
        None => builder,
        Some(url) => builder
            .with_endpoint(url)
            .with_credentials(anonymous::Builder::new().build()),
    };
    builder
        .build()
        .await
        .context("failed to build the publisher")
}

async fn create(
    topic: &TopicName,
    subscription: &SubscriptionName,
    url: &str,
) -> anyhow::Result<()> {
    let nobody: Credentials = anonymous::Builder::new().build();
    let builder = TopicAdmin::builder()
        .with_endpoint(url)
        .with_credentials(nobody.clone());
    let topics = builder
        .build()
        .await
        .context("failed to build the client for topics")?;
    let created = topics.create_topic().set_name(topic.to_string()).send();
    unless_it_exists(answer(created, url).await?)
        .with_context(|| format!("failed to create {topic}"))?;

    let builder = SubscriptionAdmin::builder()
        .with_endpoint(url)
        .with_credentials(nobody);
    let subscriptions = builder
        .build()
        .await
        .context("failed to build the client for subscriptions")?;
    let created = subscriptions
        .create_subscription()
        .set_name(subscription.as_str())
        .set_topic(topic.to_string())
        .set_ack_deadline_seconds(ACK_DEADLINE_SECONDS)
        .send();
    unless_it_exists(answer(created, url).await?)
        .with_context(|| format!("failed to create {subscription}"))
}

fn unless_it_exists<T>(
    created: Result<T, google_cloud_pubsub::Error>,
) -> Result<(), google_cloud_pubsub::Error> {
    match created {
        Ok(_) => Ok(()),
        Err(error)
            if error
                .status()
                .is_some_and(|s| s.code == Code::AlreadyExists) =>
        {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// What `request` answers, unless that takes too long.
async fn answer<F: Future>(request: F, place: &str) -> anyhow::Result<F::Output> {
    tokio::time::timeout(ANSWER_LIMIT, request)
        .await
        .map_err(|_| anyhow!("no answer from {place} within {ANSWER_LIMIT:?}; is it running?"))
}

async fn publish(
    publisher: &Publisher,
    topic: &TopicName,
    bodies: impl Iterator<Item = anyhow::Result<Bytes>>,
) -> anyhow::Result<u64> {
    let mut in_flight = VecDeque::with_capacity(IN_FLIGHT_MAX);
    let mut count = 0;
    for body in bodies {
        if in_flight.len() == IN_FLIGHT_MAX
            && let Some(oldest) = in_flight.pop_front()
        {
            confirm(oldest, topic, &mut count).await?;
        }
        in_flight.push_back(publisher.publish(Message::new().set_data(body?)));
    }
    for sent in in_flight {
        confirm(sent, topic, &mut count).await?;
    }
    Ok(count)
}

async fn confirm<E: std::error::Error + Send + Sync + 'static>(
    sent: impl Future<Output = Result<String, E>>,
    topic: &TopicName,
    count: &mut u64,
) -> anyhow::Result<()> {
    answer(sent, &topic.0)
        .await?
        // As text: its cause says the same again.
        .map_err(|error| anyhow!("{error}"))
        .with_context(|| {
            format!("failed to publish to {topic} after {count} messages; does the topic exist?")
        })?;
    *count += 1;
    Ok(())
}

/// Shifts all events by what brings the last one to `now`. What is no object with a timestamp stays
/// as it is.
fn rebase(bodies: Vec<Bytes>, now: DateTime<Utc>) -> Vec<Bytes> {
    let last = bodies.iter().filter_map(dated).map(|(_, at)| at).max();
    let Some(shift) = last.map(|last| now - last) else {
        return bodies;
    };
    let shifted = |body: &Bytes| {
        let (mut payload, at) = dated(body)?;
        let at = Timestamp::from_utc(at.checked_add_signed(shift)?);
        payload.insert(TIMESTAMP.to_owned(), Value::from(at.as_str()));
        Some(Bytes::from(Value::Object(payload).to_string()))
    };
    bodies
        .into_iter()
        .map(|body| shifted(&body).unwrap_or(body))
        .collect()
}

/// The payload as an object, and when its event occurred.
fn dated(body: &Bytes) -> Option<(Map<String, Value>, DateTime<Utc>)> {
    let payload: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let at = Timestamp::parse(payload.get(TIMESTAMP)?.as_str()?)?.at();
    Some((payload, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_told_from_a_subscription() {
        let parse = |text: &str| text.parse::<TopicName>();
        assert!(parse("projects/sdm-prod/topics/enterprise-1").is_ok());
        for (bad, fault) in [
            (
                "projects/p/subscriptions/s",
                "is a subscription, not a topic",
            ),
            ("home", "is not the full name of a topic"),
            ("projects//topics/t", "is not the full name of a topic"),
            ("projects/p/topics/t/x", "is not the full name of a topic"),
        ] {
            let error = parse(bad).unwrap_err();
            assert!(error.contains(fault), "{error}");
            assert!(error.contains("projects/{project}/topics/{id}"), "{error}");
            assert!(
                error.contains("projects/{project}/subscriptions/{id}"),
                "{error}"
            );
        }
    }

    #[test]
    fn rebasing_moves_all_events_alike_and_keeps_the_rest() {
        let body = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let before = vec![
            body(r#"{"eventId":"a","timestamp":"2020-01-01T00:00:00.5Z","n":1.10}"#),
            body(r#"{"timestamp":"2020-01-01T00:00:10Z","eventId":"b"}"#),
            body(r#"{"timestamp":"yesterday"}"#),
            body("no JSON {"),
        ];
        let after = rebase(before.clone(), now);
        assert_eq!(
            after[0],
            body(r#"{"eventId":"a","n":1.10,"timestamp":"2023-11-14T22:13:10.500Z"}"#)
        );
        assert_eq!(
            after[1],
            body(r#"{"eventId":"b","timestamp":"2023-11-14T22:13:20.000Z"}"#)
        );
        assert_eq!(after[2..], before[2..]);
        assert_eq!(rebase(before[3..].to_vec(), now), before[3..]);
    }
}
