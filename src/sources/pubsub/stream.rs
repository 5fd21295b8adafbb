//! One stream: opens it, hands over its messages, and opens it again when it ends, with back-off.
//!
//! It never decodes a payload and never acks by itself.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use google_cloud_pubsub::client::Subscriber;
use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::subscriber::handler::Handler;
use google_cloud_pubsub::subscriber::{MessageStream, ShutdownBehavior, ShutdownToken};
use tokio::sync::{mpsc, watch};

use super::ack::Ack;
use super::attempts::{Attempts, Observed};
use super::auth;
use super::error::SourceError;
use super::flow_control::FlowControl;
use super::flushing::Flushing;
use super::server_time;
use super::shared::Shared;
use super::stream_event::{OpenReason, Reopen, StreamEvent, StreamFailure};
use super::stream_state::StreamState;
use crate::backoff::Backoff;
use crate::event::{Platform, PublishTime, RawMessage, ReceivedAt, Timestamp};
use crate::sources::delivery::{self, Delivery};
use crate::text::error_chain;

/// One stream of the source.
pub(super) struct Stream {
    pub(super) shared: Arc<Shared>,
    pub(super) state: Arc<StreamState>,
    pub(super) reopens: mpsc::Receiver<Reopen>,
    pub(super) outlet: Outlet,
    pub(super) flow_control: FlowControl,
}

/// A client and what it attempts.
struct Client {
    subscriber: Subscriber,
    attempts: Arc<Attempts>,
}

/// How a stream ended.
enum End {
    /// hearthd is to stop.
    Stopped,
    /// hearthd ended it to open it anew.
    Renewed(OpenReason),
    /// It failed.
    Lost(StreamFailure, Option<google_cloud_pubsub::Error>),
}

impl From<Reopen> for End {
    fn from(reopen: Reopen) -> Self {
        match reopen {
            Reopen::Idle => Self::Renewed(OpenReason::Idle),
            Reopen::NewKey => Self::Renewed(OpenReason::NewKey),
            Reopen::Stalled => Self::Lost(StreamFailure::Stalled, None),
            Reopen::Unreachable => Self::Lost(StreamFailure::Unreachable, None),
        }
    }
}

impl Stream {
    /// Pulls until the outlet closes; returns when its acks have left, or after the time that
    /// `Flushing` waits.
    ///
    /// Each stream gets a client of its own, built anew each time: a new key is reloaded, and the
    /// old client's credentials or connection may be dead for good.
    pub(super) async fn run(mut self) {
        let mut flushing = Flushing::default();
        let schedule = self.shared.settings.reopen_schedule();
        let mut backoff = Backoff::new(schedule, fastrand::Rng::new());
        let mut reason = OpenReason::Start;
        while let Some(client) = self.connect(&mut backoff).await {
            self.shared
                .emit_stream_event(StreamEvent::Opened { reason });
            let opened_at = self.shared.clock.now();
            let (end, token) = self.pull(&client).await;
            flushing.add(token);
            if self.state.is_up() || self.shared.clock.now().since(opened_at) >= backoff.longest() {
                backoff.reset();
            }
            match end {
                End::Stopped => break,
                // It still counts as up: its successor is not known to fail yet.
                End::Renewed(why) => reason = why,
                End::Lost(failure, error) => {
                    self.state.set_up(false);
                    reason = OpenReason::Lost(failure);
                    if let Some(stage) = failure.auth_stage() {
                        self.shared.auth_failed(stage);
                    }
                    self.report(failure, error.as_ref(), backoff.next_limit());
                    if !self.wait(&mut backoff).await {
                        break;
                    }
                }
            }
        }
        self.state.set_up(false);
        drop(self.outlet);
        flushing.finish().await;
    }

    /// Builds a client, again and again until that succeeds. `None` if the outlet closes.
    async fn connect(&mut self, backoff: &mut Backoff) -> Option<Client> {
        loop {
            let built = tokio::select! {
                // What was to end the last stream is taken before there is another one to end.
                biased;
                // A token server that never answers must not hold up the end, nor a key that came
                // after the file was read.
                there_is_one = new_key(&self.outlet, &mut self.reopens) => {
                    if !there_is_one {
                        return None;
                    }
                    backoff.reset();
                    continue;
                }
                built = build_client(&self.shared, &self.state) => built,
            };
            let error = match built {
                Ok(client) => return Some(client),
                Err(error) => error,
            };
            self.state.set_up(false);
            if let Some(stage) = error.auth_stage() {
                self.shared.auth_failed(stage);
            }
            let subscription = self.shared.settings.subscription.as_str();
            let retry_within_s = backoff.next_limit().as_secs_f64();
            let cause = error_chain(&error);
            let message = "can't connect to Pub/Sub";
            if error.is_configuration() {
                tracing::error!(subscription, error = cause, retry_within_s, message);
            } else {
                tracing::warn!(subscription, error = cause, retry_within_s, message);
            }
            if !self.wait(backoff).await {
                return None;
            }
        }
    }

    /// Waits before the next attempt; a new key ends the wait. False if the outlet closes.
    async fn wait(&mut self, backoff: &mut Backoff) -> bool {
        tokio::select! {
            () = tokio::time::sleep(backoff.next_delay()) => true,
            there_is_one = new_key(&self.outlet, &mut self.reopens) => {
                backoff.reset();
                there_is_one
            }
        }
    }

    /// Pulls from one stream until it ends, is told to, or is given up.
    ///
    /// `next` must not be dropped half-way for nothing: while the stream opens, that leaves
    /// messages leased to a stream that nobody reads. So a stop doesn't race with it but shuts the
    /// stream down, which makes `next` return; the branch that does so never completes. A
    /// reopening is worth the leases.
    async fn pull(&mut self, client: &Client) -> (End, ShutdownToken) {
        let settings = &self.shared.settings;
        let mut stream = open(settings, &client.subscriber);
        let token = stream.shutdown_token();
        let shut_down = async {
            self.outlet.closed().await;
            token.shutdown().await;
            std::future::pending::<Infallible>().await
        };
        let pump = Pump {
            shared: &self.shared,
            state: &self.state,
            outlet: &self.outlet,
            flow_control: &self.flow_control,
            attempts: &client.attempts,
        };
        let end = tokio::select! {
            end = pump.run(&mut stream) => end,
            Some(reopen) = self.reopens.recv() => End::from(reopen),
            never = shut_down => match never {},
        };
        self.state.set_waiting(false);
        (end, token)
    }

    fn report(
        &self,
        failure: StreamFailure,
        error: Option<&google_cloud_pubsub::Error>,
        retry_within: Duration,
    ) {
        let subscription = self.shared.settings.subscription.as_str();
        // A status says it all; its causes say it again.
        let error = error.map(|error| match error.status() {
            Some(_) => error.to_string(),
            None => error_chain(error),
        });
        let retry_within_s = retry_within.as_secs_f64();
        if failure.is_permanent() {
            tracing::error!(subscription, error, retry_within_s, "{}", failure.advice());
        } else {
            tracing::warn!(subscription, error, retry_within_s, "{}", failure.advice());
        }
    }
}

/// Waits for a new key. False if the outlet closes.
async fn new_key(outlet: &Outlet, reopens: &mut mpsc::Receiver<Reopen>) -> bool {
    loop {
        let reopen = tokio::select! {
            () = outlet.closed() => return false,
            reopen = reopens.recv() => reopen,
        };
        match reopen {
            Some(Reopen::NewKey) => return true,
            // These mean the stream that has ended.
            Some(Reopen::Idle | Reopen::Stalled | Reopen::Unreachable) => {}
            None => return false,
        }
    }
}

async fn build_client(shared: &Arc<Shared>, state: &StreamState) -> Result<Client, SourceError> {
    let attempts = Arc::new(Attempts::new(shared.clock.clone(), state.reopener()));
    let credentials = auth::credentials(&shared.settings, auth::TOKEN_LIMIT).await?;
    let observed = Observed {
        credentials,
        attempts: Arc::clone(&attempts),
        shared: Arc::clone(shared),
    };
    let endpoint = &shared.settings.endpoint;
    let builder = Subscriber::builder().with_credentials(observed);
    let builder = match endpoint.url() {
        None => builder,
        Some(url) => builder.with_endpoint(url),
    };
    let built = builder.build().await;
    let subscriber = built.map_err(|error| SourceError::client(endpoint, error))?;
    Ok(Client {
        subscriber,
        attempts,
    })
}

/// Connects at the first `next`.
fn open(settings: &crate::config::Pubsub, subscriber: &Subscriber) -> MessageStream {
    // Streams share the limits. A message of any size passes, if need be alone.
    let bytes = settings.max_outstanding_bytes / u64::from(settings.streams);
    subscriber
        .subscribe(settings.subscription.as_str())
        .set_max_outstanding_messages(settings.max_outstanding_messages.div_ceil(settings.streams))
        .set_max_outstanding_bytes(i64::try_from(bytes).unwrap_or(i64::MAX))
        .set_max_lease_extension(settings.max_lease_extension)
        .set_shutdown_behavior(ShutdownBehavior::WaitForProcessing)
        .build()
}

/// Moves messages from a stream to the outlet.
struct Pump<'a> {
    shared: &'a Arc<Shared>,
    state: &'a StreamState,
    outlet: &'a Outlet,
    flow_control: &'a FlowControl,
    attempts: &'a Arc<Attempts>,
}

impl Pump<'_> {
    async fn run(&self, stream: &mut MessageStream) -> End {
        loop {
            self.state.set_waiting(true);
            let next = stream.next().await;
            self.state.set_waiting(false);
            let (message, handler) = match next {
                Some(Ok(received)) => received,
                Some(Err(error)) => return End::Lost(StreamFailure::of(&error), Some(error)),
                None if self.outlet.is_closed() => return End::Stopped,
                None => return End::Lost(StreamFailure::Closed, None),
            };
            self.state.set_up(true);
            self.shared.token_accepted();
            if !self.deliver(message, handler).await {
                return End::Stopped;
            }
        }
    }

    /// False if the outlet closes before the message is within the bounds.
    async fn deliver(&self, message: Message, handler: Handler) -> bool {
        let size = message.data.len();
        if let Some(published) = server_time::published(&message) {
            self.shared.clock.observe(published);
        }
        let message = raw_message(message, self.shared.clock.wall_now());
        // A permit first: there mostly is, and then nothing has to be listened to.
        let permit = tokio::select! {
            biased;
            permit = self.flow_control.enter(size) => permit,
            () = self.outlet.closed() => None,
        };
        let Some(permit) = permit else { return false };
        let shared = Arc::clone(self.shared);
        let attempts = Arc::clone(self.attempts);
        let ack = Ack::new(handler, shared, attempts, permit);
        self.outlet
            .send(Delivery {
                source: self.shared.source.clone(),
                message,
                ack: delivery::Ack::Pubsub(ack),
            })
            .await
    }
}

fn raw_message(message: Message, now: DateTime<Utc>) -> RawMessage {
    // The receipt is the best guess where the server did not say.
    let published = server_time::published(&message);
    RawMessage {
        platform: Platform::Sdm,
        message_id: message.message_id.into(),
        publish_time: PublishTime(Timestamp::from_utc(published.unwrap_or(now))),
        received_at: ReceivedAt(Timestamp::from_utc(now)),
        body: message.data,
        place: None,
    }
}

/// Where deliveries go, and whether they are still wanted.
#[derive(Clone)]
pub(super) struct Outlet {
    pub(super) deliveries: mpsc::Sender<Delivery>,
    pub(super) stop: watch::Receiver<bool>,
}

impl Outlet {
    /// True once hearthd is to stop, or nobody is left to say so or to take deliveries.
    fn is_closed(&self) -> bool {
        *self.stop.borrow() || self.stop.has_changed().is_err() || self.deliveries.is_closed()
    }

    /// Completes when it is closed.
    pub(super) async fn closed(&self) {
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
            sent = self.deliveries.send(delivery) => sent.is_ok(),
            () = self.closed() => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_keeps_its_bytes_and_times() {
        let now = DateTime::from_timestamp(1_700_000_000, 5_000_000).unwrap();
        let check = |message: Message, published: &str| {
            let raw = raw_message(message.set_data("\u{0}x").set_message_id("7"), now);
            assert_eq!(raw.publish_time.0.as_str(), published);
            assert_eq!(raw.received_at.0.as_str(), "2023-11-14T22:13:20.005Z");
            assert_eq!((raw.body.as_ref(), &*raw.message_id), (&b"\0x"[..], "7"));
        };
        let time = google_cloud_wkt::Timestamp::new(1_699_999_999, 123_456_000).unwrap();
        check(
            Message::new().set_publish_time(time),
            "2023-11-14T22:13:19.123456Z",
        );
        check(Message::new(), "2023-11-14T22:13:20.005Z");
    }
}
