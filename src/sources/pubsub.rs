//! Pub/Sub streaming pull: opens a stream, hands over its messages with their acks, and opens it
//! again when it ends.
//!
//! It never decodes a payload and never acks by itself. It notices only what the client library
//! reports: a stream that is silent because the network is down looks like one without messages.

mod auth;
mod error;
mod status;

use std::convert::Infallible;
use std::time::Duration;

use chrono::{DateTime, Utc};
use google_cloud_pubsub::client::Subscriber;
use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::subscriber::handler::Handler;
use google_cloud_pubsub::subscriber::{MessageStream, ShutdownBehavior, ShutdownToken};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use self::auth::Origin;
pub use self::error::SourceError;
use self::error::error_chain;
pub use self::status::{AuthStage, Loss, OpenReason, SourceEvent};
use super::{Delivery, Incoming};
use crate::clock::Clock;
use crate::config::{self, Endpoint};
use crate::event::{Platform, PublishTime, RawMessage, ReceivedAt, Timestamp};

/// Longest wait for the last acks at the end. They leave every 100 ms, so this is long for a
/// healthy server and short for the supervisor that waits; acks that don't make it cost a
/// redelivery.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);
/// Streams that ended and whose acks are still waited for. So many mean that a server answers no
/// ack for minutes: the acks of one more aren't worth waiting for.
const FLUSHING_MAX: usize = 16;
/// First wait before a stream is opened again: a moment's trouble is over by then.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// Longest wait before a stream is opened again: so long rings a doorbell late after the cause is
/// mended. A stream that lived as long has recovered.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Acks one message; dropping it without acking makes Pub/Sub deliver it again.
#[derive(Debug)]
pub struct Ack(Handler);

impl Ack {
    /// Tells Pub/Sub not to deliver the message again. The ack leaves within 100 ms; nobody hears
    /// of it if it gets lost, so a message may come again all the same.
    pub fn ack(self) {
        self.0.ack();
    }
}

/// The Pub/Sub source: one subscription, pulled from by one stream at a time.
pub struct Source {
    settings: config::Pubsub,
    subscriber: Subscriber,
    clock: Clock,
}

/// How a stream ended.
struct End {
    /// `None` if hearthd ended it.
    loss: Option<Loss>,
    error: Option<google_cloud_pubsub::Error>,
    /// It brought a message.
    was_up: bool,
}

impl Source {
    /// Builds the client and gets a first token, so that bad credentials are found at the start. It
    /// doesn't ask for the subscription: pulling from it will tell.
    pub async fn connect(settings: &config::Pubsub, clock: Clock) -> Result<Self, SourceError> {
        let subscriber = build_client(settings).await?;
        Ok(Self { settings: settings.clone(), subscriber, clock })
    }

    /// Pulls until `stop` holds true or nobody takes the deliveries any more, opening the stream
    /// again whenever it ends.
    ///
    /// The capacity of `deliveries` and Pub/Sub's own limits bound what is under way: while the
    /// channel is full, nothing more is pulled. To stop without losing acks:
    ///
    /// 1. Send true to `stop`. Pulling ends at once, and `run` drops its `deliveries`, so that the
    ///    receiver ends after what was still in the channel.
    /// 2. Commit and ack what was already taken, and drop the rest: that is a nack each.
    /// 3. Await `run`. It returns when every delivery is acked or dropped and Pub/Sub was told, or
    ///    5 s after step 1. Whoever holds on to a delivery makes it wait.
    pub async fn run(
        mut self,
        deliveries: mpsc::Sender<Delivery>,
        events: impl Fn(SourceEvent) + Send + Sync + 'static,
        stop: watch::Receiver<bool>,
    ) {
        let outlet = Outlet { deliveries, stop };
        let mut flushing = Flushing::default();
        let mut backoff = Backoff::default();
        let mut reason = OpenReason::Start;
        events(SourceEvent::TokenOk);
        while !outlet.is_closed() {
            events(SourceEvent::StreamOpened { reason });
            let opened_at = self.clock.now();
            let stream = self.open();
            let token = stream.shutdown_token();
            let end = self.pull(stream, &outlet, &events).await;
            flushing.add(token);
            events(SourceEvent::StreamDown { loss: end.loss });
            let Some(loss) = end.loss else { break };
            if let Some(stage) = loss.auth_stage() {
                events(SourceEvent::AuthFailed { stage });
            }
            if end.was_up || self.clock.now().since(opened_at) >= BACKOFF_MAX {
                backoff = Backoff::default();
            }
            self.report(loss, end.error.as_ref(), backoff.next_limit());
            if !self.reconnect(&mut backoff, &outlet, &events).await {
                break;
            }
            reason = OpenReason::Lost(loss);
        }
        drop(outlet);
        flushing.finish().await;
    }

    /// Connects at the first `next`.
    fn open(&self) -> MessageStream {
        let bytes = i64::try_from(self.settings.max_outstanding_bytes).unwrap_or(i64::MAX);
        self.subscriber
            .subscribe(self.settings.subscription.as_str())
            .set_max_outstanding_messages(self.settings.max_outstanding_messages)
            .set_max_outstanding_bytes(bytes)
            .set_max_lease_extension(self.settings.max_lease_extension)
            .set_shutdown_behavior(ShutdownBehavior::WaitForProcessing)
            .build()
    }

    /// Pulls from one stream until it ends or is told to.
    ///
    /// `next` must never be dropped half-way: while the stream opens, that leaves messages leased
    /// to a stream that nobody reads. So a stop doesn't race with it but shuts the stream down,
    /// which makes `next` return; the branch that does so never completes.
    async fn pull(
        &self,
        mut stream: MessageStream,
        outlet: &Outlet,
        events: &impl Fn(SourceEvent),
    ) -> End {
        let token = stream.shutdown_token();
        let shut_down = async {
            outlet.closed().await;
            token.shutdown().await;
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            end = self.pump(&mut stream, outlet, events) => end,
            never = shut_down => match never {},
        }
    }

    async fn pump(
        &self,
        stream: &mut MessageStream,
        outlet: &Outlet,
        events: &impl Fn(SourceEvent),
    ) -> End {
        let mut was_up = false;
        loop {
            let (message, handler) = match stream.next().await {
                Some(Ok(received)) => received,
                Some(Err(error)) => {
                    return End { loss: Some(Loss::of(&error)), error: Some(error), was_up };
                }
                None => {
                    let loss = (!outlet.is_closed()).then_some(Loss::Closed);
                    return End { loss, error: None, was_up };
                }
            };
            if !was_up {
                was_up = true;
                events(SourceEvent::StreamUp);
            }
            events(SourceEvent::MessageReceived);
            let raw = raw_message(message, self.clock.wall_now());
            let incoming = Incoming { raw, fault: None };
            if !outlet.send(Delivery { incoming, ack: Ack(handler) }).await {
                return End { loss: None, error: None, was_up };
            }
        }
    }

    /// Waits, then builds the client anew, until that succeeds: a new key is taken up, and the old
    /// client's credentials or connection may be dead for good. False if it is told to stop.
    async fn reconnect(
        &mut self,
        backoff: &mut Backoff,
        outlet: &Outlet,
        events: &impl Fn(SourceEvent),
    ) -> bool {
        loop {
            let attempt = async {
                tokio::time::sleep(backoff.next_delay()).await;
                build_client(&self.settings).await
            };
            let built = tokio::select! {
                () = outlet.closed() => return false,
                built = attempt => built,
            };
            match built {
                Ok(subscriber) => {
                    self.subscriber = subscriber;
                    events(SourceEvent::TokenOk);
                    return true;
                }
                Err(error) => {
                    if let Some(stage) = error.auth_stage() {
                        events(SourceEvent::AuthFailed { stage });
                    }
                    tracing::error!(
                        subscription = %self.settings.subscription,
                        error = error_chain(&error),
                        retry_within_s = backoff.next_limit().as_secs(),
                        "can't connect to Pub/Sub",
                    );
                }
            }
        }
    }

    fn report(
        &self,
        loss: Loss,
        error: Option<&google_cloud_pubsub::Error>,
        retry_within: Duration,
    ) {
        let subscription = self.settings.subscription.as_str();
        // A status says it all; its causes say it again.
        let error = error.map(|error| match error.status() {
            Some(_) => error.to_string(),
            None => error_chain(error),
        });
        let retry_within_s = retry_within.as_secs();
        match loss {
            Loss::Closed | Loss::Failed => {
                tracing::warn!(subscription, error, retry_within_s, "{}", loss.advice());
            }
            Loss::NotFound | Loss::PermissionDenied | Loss::Unauthenticated | Loss::Credentials => {
                tracing::error!(subscription, error, retry_within_s, "{}", loss.advice());
            }
        }
    }
}

async fn build_client(settings: &config::Pubsub) -> Result<Subscriber, SourceError> {
    let builder = Subscriber::builder().with_credentials(auth::credentials(settings).await?);
    let (endpoint, builder) = match &settings.endpoint {
        Endpoint::Google => ("Google", builder),
        Endpoint::Emulator { url } => (url.as_str(), builder.with_endpoint(url)),
    };
    builder.build().await.map_err(|error| SourceError::Client {
        endpoint: endpoint.to_owned(),
        source: Box::new(error),
    })
}

fn raw_message(message: Message, now: DateTime<Utc>) -> RawMessage {
    // The server always sets it; the receipt is the best guess where it did not.
    let published = message.publish_time.and_then(|time| {
        DateTime::from_timestamp(time.seconds(), u32::try_from(time.nanos()).ok()?)
    });
    RawMessage {
        platform: Platform::Sdm,
        message_id: message.message_id,
        publish_time: PublishTime(Timestamp::from_utc(published.unwrap_or(now))),
        received_at: ReceivedAt(Timestamp::from_utc(now)),
        body: message.data,
        place: None,
    }
}

/// Where deliveries go, and whether they are still wanted.
struct Outlet {
    deliveries: mpsc::Sender<Delivery>,
    stop: watch::Receiver<bool>,
}

impl Outlet {
    /// True once hearthd is to stop, or nobody is left to say so or to take deliveries.
    fn is_closed(&self) -> bool {
        *self.stop.borrow() || self.stop.has_changed().is_err() || self.deliveries.is_closed()
    }

    /// Completes when it is closed.
    async fn closed(&self) {
        let mut stop = self.stop.clone();
        tokio::select! {
            _ = stop.wait_for(|is_stopped| *is_stopped) => {}
            () = self.deliveries.closed() => {}
        }
    }

    /// Waits for room. If it is closed before, the delivery is dropped, and false returned.
    async fn send(&self, delivery: Delivery) -> bool {
        tokio::select! {
            biased;
            () = self.closed() => false,
            sent = self.deliveries.send(delivery) => sent.is_ok(),
        }
    }
}

/// Streams that ended and whose acks may still be on their way.
#[derive(Default)]
struct Flushing(JoinSet<()>);

impl Flushing {
    /// Signals the end of that stream and waits for its acks in the background.
    fn add(&mut self, token: ShutdownToken) {
        while self.0.try_join_next().is_some() {}
        if self.0.len() < FLUSHING_MAX {
            self.0.spawn(async move { token.shutdown().await });
        }
    }

    /// Waits for all acks, within the limit.
    async fn finish(mut self) {
        let all = async { while self.0.join_next().await.is_some() {} };
        if tokio::time::timeout(FLUSH_LIMIT, all).await.is_err() {
            tracing::warn!(
                limit_s = FLUSH_LIMIT.as_secs(),
                "the last acks were not confirmed in time; Pub/Sub may repeat those messages",
            );
        }
    }
}

/// Exponential back-off with jitter, so that many daemons don't return in step.
#[derive(Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The longest that the next delay can be.
    fn next_limit(&self) -> Duration {
        let factor = 2_u32.saturating_pow(self.failures);
        BACKOFF_MIN.saturating_mul(factor).min(BACKOFF_MAX)
    }

    /// Between half of that and that.
    fn next_delay(&mut self) -> Duration {
        let limit = self.next_limit();
        self.failures = self.failures.saturating_add(1);
        limit.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_a_minute() {
        let mut backoff = Backoff::default();
        for limit in [1, 2, 4, 8, 16, 32, 60, 60] {
            let limit = Duration::from_secs(limit);
            assert_eq!(backoff.next_limit(), limit);
            let delay = backoff.next_delay();
            assert!(delay >= limit / 2 && delay <= limit, "{delay:?} of {limit:?}");
        }
        let mut backoff = Backoff { failures: u32::MAX };
        assert!(backoff.next_delay() <= BACKOFF_MAX);
    }

    #[test]
    fn a_message_keeps_its_bytes_and_times() {
        let now = DateTime::from_timestamp(1_700_000_000, 5_000_000).unwrap();
        let check = |message: Message, published: &str| {
            let raw = raw_message(message.set_data("\u{0}x").set_message_id("7"), now);
            assert_eq!(raw.publish_time.0.as_str(), published);
            assert_eq!(raw.received_at.0.as_str(), "2023-11-14T22:13:20.005Z");
            assert_eq!((raw.body.as_ref(), raw.message_id.as_str()), (&b"\0x"[..], "7"));
        };
        let time = google_cloud_wkt::Timestamp::new(1_699_999_999, 123_456_000).unwrap();
        check(Message::new().set_publish_time(time), "2023-11-14T22:13:19.123456Z");
        check(Message::new(), "2023-11-14T22:13:20.005Z");
    }
}
