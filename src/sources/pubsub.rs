//! Pub/Sub streaming pull: opens a stream, hands over its messages with their acks, and opens it
//! again when it ends.
//!
//! It never decodes a payload and never acks by itself. It notices only what the client library
//! reports: a stream that is silent because the network is down looks like one without messages.

mod auth;

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use google_cloud_gax::error::rpc::Code;
use google_cloud_pubsub::client::Subscriber;
use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::subscriber::handler::Handler;
use google_cloud_pubsub::subscriber::{MessageStream, ShutdownBehavior, ShutdownToken};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use self::auth::Origin;
use super::{Delivery, Incoming};
use crate::clock::Clock;
use crate::config::{self, Endpoint};
use crate::event::{Platform, PublishTime, RawMessage, ReceivedAt, Timestamp};

/// Longest wait for the last acks at the end. They leave every 100 ms, so this is long for a healthy
/// server and short for the supervisor that waits; acks that don't make it cost a redelivery.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);
/// Streams that ended and whose acks are still waited for. One more means that a server answers no
/// ack for minutes: the oldest then isn't worth waiting for.
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
    /// Tells Pub/Sub not to deliver the message again. The ack leaves within 100 ms; nobody hears of
    /// it if it gets lost, so a message may come again all the same.
    pub fn ack(self) {
        self.0.ack();
    }
}

/// Why the source can't start, or can't open its stream again.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The credentials file can't be read.
    #[error(
        "failed to read the credentials file {}; create it, or let the user that hearthd runs as \
         read it", path.display()
    )]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The credentials will not work, however often they are tried.
    #[error("failed to use {origin}; {}", origin.advice())]
    Credentials {
        /// Where they come from.
        origin: Origin,
        /// What is wrong with them.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no token now; there may be one later.
    #[error(
        "failed to get a token with {origin}; check that its token server can be reached, or {}",
        origin.advice()
    )]
    Token {
        /// Where the credentials come from.
        origin: Origin,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The client can't be built.
    #[error(
        "failed to build the client for {endpoint}; check its address, and that the system's CA \
         certificates are installed"
    )]
    Client {
        /// Where Pub/Sub was looked for.
        endpoint: String,
        /// What the client library says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl SourceError {
    /// True if only a change of the settings, or of the files that they name, will help.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::KeyFile { .. } | Self::Credentials { .. } => true,
            Self::Token { .. } | Self::Client { .. } => false,
        }
    }

    fn auth_stage(&self) -> Option<AuthStage> {
        match self {
            Self::KeyFile { .. } | Self::Credentials { .. } => Some(AuthStage::Credentials),
            Self::Token { .. } => Some(AuthStage::Token),
            Self::Client { .. } => None,
        }
    }
}

/// What happened to the stream, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceEvent {
    /// A stream is being opened.
    StreamOpened {
        /// What made it necessary.
        reason: OpenReason,
    },
    /// The stream brought its first message: the first sign of life that a stream gives.
    StreamUp,
    /// The stream is gone.
    StreamDown {
        /// What ended it; `None` if hearthd did.
        loss: Option<Loss>,
    },
    /// A message came.
    MessageReceived,
    /// The credentials gave a token.
    TokenOk,
    /// The credentials are no good.
    AuthFailed {
        /// Where they failed.
        stage: AuthStage,
    },
}

/// What made it necessary to open a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenReason {
    /// The source started.
    Start,
    /// The one before was lost.
    Lost(Loss),
}

impl OpenReason {
    /// Every reason, in the order of their metrics.
    pub const ALL: [Self; 7] = [
        Self::Start,
        Self::Lost(Loss::Closed),
        Self::Lost(Loss::NotFound),
        Self::Lost(Loss::PermissionDenied),
        Self::Lost(Loss::Unauthenticated),
        Self::Lost(Loss::Credentials),
        Self::Lost(Loss::Failed),
    ];

    /// The name used in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Lost(Loss::Closed) => "closed",
            Self::Lost(Loss::NotFound) => "not_found",
            Self::Lost(Loss::PermissionDenied) => "permission_denied",
            Self::Lost(Loss::Unauthenticated) => "unauthenticated",
            Self::Lost(Loss::Credentials) => "credentials",
            Self::Lost(Loss::Failed) => "failed",
        }
    }
}

/// What ended a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The server closed it in good order.
    Closed,
    /// There is no such subscription.
    NotFound,
    /// The account may not use the subscription.
    PermissionDenied,
    /// The server doesn't accept the credentials.
    Unauthenticated,
    /// The credentials give no token any more.
    Credentials,
    /// Any other error that the client library doesn't retry.
    Failed,
}

impl Loss {
    fn of(error: &google_cloud_pubsub::Error) -> Self {
        if error.is_authentication() {
            return Self::Credentials;
        }
        match error.status().map(|status| status.code) {
            Some(Code::NotFound) => Self::NotFound,
            Some(Code::PermissionDenied) => Self::PermissionDenied,
            Some(Code::Unauthenticated) => Self::Unauthenticated,
            Some(_) | None => Self::Failed,
        }
    }

    /// What is wrong, and what to do.
    fn advice(self) -> &'static str {
        match self {
            Self::Closed => "the server closed the stream; nothing to do unless it goes on",
            Self::NotFound => {
                "the subscription doesn't exist; it expires after 31 days without a subscriber, and \
                 pubsub.subscription must name a subscription in your own project, not a topic; \
                 create it (again) and check the name"
            }
            Self::PermissionDenied => {
                "no permission to pull from the subscription; grant the service account \
                 roles/pubsub.subscriber on it"
            }
            Self::Unauthenticated => {
                "Google doesn't accept the credentials; check that the key wasn't deleted or \
                 disabled, and that this machine's clock is right"
            }
            Self::Credentials => {
                "the credentials give no token; check the key in pubsub.credentials_file or the \
                 Application Default Credentials"
            }
            Self::Failed => "the stream failed; if it goes on, see the error",
        }
    }

    fn auth_stage(self) -> Option<AuthStage> {
        match self {
            Self::Unauthenticated => Some(AuthStage::Request),
            Self::Credentials => Some(AuthStage::Token),
            Self::Closed | Self::NotFound | Self::PermissionDenied | Self::Failed => None,
        }
    }
}

/// Where credentials fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthStage {
    /// They can't be read or used at all.
    Credentials,
    /// They give no token.
    Token,
    /// Google refuses what they gave.
    Request,
}

impl AuthStage {
    /// Every stage, in the order of their metrics.
    pub const ALL: [Self; 3] = [Self::Credentials, Self::Token, Self::Request];

    /// The name used in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Token => "token",
            Self::Request => "request",
        }
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
        Ok(Self {
            settings: settings.clone(),
            subscriber,
            clock,
        })
    }

    /// Pulls until `stop` holds true, opening the stream again whenever it ends.
    ///
    /// The capacity of `deliveries` and Pub/Sub's own limits bound what is under way: while the
    /// channel is full, nothing more is pulled. To stop without losing acks:
    ///
    /// 1. Send true to `stop`. Pulling ends at once, and `run` drops its `deliveries`, so that the
    ///    receiver ends after what was still in the channel.
    /// 2. Commit and ack what was already taken, and drop the rest: that is a nack each.
    /// 3. Await `run`. It returns when every delivery is acked or dropped and Pub/Sub was told, or
    ///    after 5 s. Acks given in those 5 s count; whoever holds on to a delivery makes it wait.
    pub async fn run(
        mut self,
        deliveries: mpsc::Sender<Delivery>,
        events: impl Fn(SourceEvent) + Send + Sync + 'static,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut flushing = Flushing::default();
        let mut backoff = Backoff::default();
        let mut reason = OpenReason::Start;
        events(SourceEvent::TokenOk);
        while !*stop.borrow() {
            events(SourceEvent::StreamOpened { reason });
            let opened_at = self.clock.now();
            let stream = self.open();
            let token = stream.shutdown_token();
            let end = self.pull(stream, &deliveries, &events, &stop).await;
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
            if !self.reconnect(&mut backoff, &events, &mut stop).await {
                break;
            }
            reason = OpenReason::Lost(loss);
        }
        drop(deliveries);
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
    /// `next` must never be dropped half-way: while the stream opens, that leaves messages leased to
    /// a stream that nobody reads. So `stop` doesn't race with it but shuts the stream down, which
    /// makes `next` return; the branch that does so never completes.
    async fn pull(
        &self,
        mut stream: MessageStream,
        deliveries: &mpsc::Sender<Delivery>,
        events: &impl Fn(SourceEvent),
        stop: &watch::Receiver<bool>,
    ) -> End {
        let token = stream.shutdown_token();
        let shut_down = async {
            stopped(&mut stop.clone()).await;
            token.shutdown().await;
            std::future::pending::<std::convert::Infallible>().await
        };
        tokio::select! {
            end = self.pump(&mut stream, deliveries, events, stop.clone()) => end,
            never = shut_down => match never {},
        }
    }

    async fn pump(
        &self,
        stream: &mut MessageStream,
        deliveries: &mpsc::Sender<Delivery>,
        events: &impl Fn(SourceEvent),
        mut stop: watch::Receiver<bool>,
    ) -> End {
        let mut was_up = false;
        loop {
            let (message, handler) = match stream.next().await {
                Some(Ok(received)) => received,
                Some(Err(error)) => {
                    return End {
                        loss: Some(Loss::of(&error)),
                        error: Some(error),
                        was_up,
                    };
                }
                None => {
                    let loss = (!*stop.borrow()).then_some(Loss::Closed);
                    return End {
                        loss,
                        error: None,
                        was_up,
                    };
                }
            };
            if !was_up {
                was_up = true;
                events(SourceEvent::StreamUp);
            }
            events(SourceEvent::MessageReceived);
            let raw = raw_message(message, self.clock.wall_now());
            let incoming = Incoming { raw, fault: None };
            let delivery = Delivery {
                incoming,
                ack: Ack(handler),
            };
            let is_taken = tokio::select! {
                biased;
                () = stopped(&mut stop) => false,
                sent = deliveries.send(delivery) => sent.is_ok(),
            };
            if !is_taken {
                return End {
                    loss: None,
                    error: None,
                    was_up,
                };
            }
        }
    }

    /// Waits, then builds the client anew, until that succeeds: a new key is taken up, and the old
    /// client's credentials or connection may be dead for good. False if it is told to stop.
    async fn reconnect(
        &mut self,
        backoff: &mut Backoff,
        events: &impl Fn(SourceEvent),
        stop: &mut watch::Receiver<bool>,
    ) -> bool {
        loop {
            let delay = backoff.next_delay();
            tokio::select! {
                () = stopped(stop) => return false,
                () = tokio::time::sleep(delay) => {}
            }
            let built = tokio::select! {
                () = stopped(stop) => return false,
                built = build_client(&self.settings) => built,
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
                        "can't reach Pub/Sub",
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
        let error = error.map(|error| error_chain(error));
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

/// Completes once hearthd is to stop, or nobody is left to say so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|is_stopped| *is_stopped).await);
}

/// An error with its causes, in one line.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        // The client library's errors print their cause themselves.
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
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
                "the last acks were not confirmed in time; Pub/Sub may deliver those messages again",
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
            assert!(
                delay >= limit / 2 && delay <= limit,
                "{delay:?} of {limit:?}"
            );
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
            assert_eq!(
                (raw.body.as_ref(), raw.message_id.as_str()),
                (&b"\0x"[..], "7")
            );
        };
        let time = google_cloud_wkt::Timestamp::new(1_699_999_999, 123_456_000).unwrap();
        check(
            Message::new().set_publish_time(time),
            "2023-11-14T22:13:19.123456Z",
        );
        check(Message::new(), "2023-11-14T22:13:20.005Z");
    }

    #[test]
    fn losses_are_told_apart() {
        use google_cloud_gax::error::{CredentialsError, rpc::Status};
        let status = |code| google_cloud_pubsub::Error::service(Status::default().set_code(code));
        for (code, loss) in [
            (Code::NotFound, Loss::NotFound),
            (Code::PermissionDenied, Loss::PermissionDenied),
            (Code::Unauthenticated, Loss::Unauthenticated),
            (Code::Cancelled, Loss::Failed),
        ] {
            assert_eq!(Loss::of(&status(code)), loss);
        }
        let error = CredentialsError::from_msg(false, "no");
        let error = google_cloud_pubsub::Error::authentication(error);
        assert_eq!(Loss::of(&error), Loss::Credentials);
    }

    #[test]
    fn labels_are_distinct() {
        let mut labels = OpenReason::ALL.map(OpenReason::as_str);
        labels.sort_unstable();
        assert!(labels.is_sorted_by(|a, b| a < b), "{labels:?}");
    }
}
