//! Pub/Sub streaming pull: streams that hand over messages with their acks, each opened again when
//! it ends, and a watchdog beside them.
//!
//! It never decodes a payload and never acks by itself.

mod attempts;
mod auth;
mod error;
mod flow_control;
mod probe;
mod shared;
mod stream;
mod stream_event;
mod stream_state;
mod watchdog;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use google_cloud_pubsub::subscriber::handler::Handler;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use self::attempts::Attempts;
pub use self::auth::{Origin, credentials, key_file};
pub use self::error::SourceError;
use self::flow_control::{FlowControl, Permit};
pub use self::probe::{Finding, Probe};
use self::shared::Shared;
pub use self::shared::expiry_of;
use self::stream::{Outlet, Stream};
pub use self::stream_event::{AuthStage, OpenReason, SourceEvent, StreamFailure};
use self::stream_state::StreamState;
use self::watchdog::Watchdog;
use super::Delivery;
use crate::clock::Clock;
use crate::config;

/// Longest wait for the first token: a key is signed with in milliseconds, and what else there is
/// must not keep the service from being ready.
const FIRST_TOKEN_LIMIT: Duration = Duration::from_secs(3);

/// Acks one message; dropping it without acking makes Pub/Sub deliver it again. As long as it
/// lives, the message is outstanding.
#[derive(Debug)]
pub struct Ack {
    handler: Option<Handler>,
    shared: Arc<Shared>,
    attempts: Arc<Attempts>,
    _permit: Permit,
}

impl Ack {
    fn new(handler: Handler, shared: Arc<Shared>, attempts: Arc<Attempts>, permit: Permit) -> Self {
        shared.message_received();
        attempts.message_received();
        Self {
            handler: Some(handler),
            shared,
            attempts,
            _permit: permit,
        }
    }

    /// Tells Pub/Sub not to deliver the message again. The ack leaves within 100 ms; nobody hears
    /// of it if it gets lost, so a message may come again all the same.
    pub fn ack(mut self) {
        if let Some(handler) = self.handler.take() {
            handler.ack();
        }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        // Wherever it is dropped. Acks are counted by whoever acks.
        if self.handler.is_some() {
            self.shared.emit(SourceEvent::MessageReturned);
        }
        self.attempts.message_settled();
    }
}

/// The Pub/Sub source: one subscription, pulled from by one or more streams.
#[derive(Debug)]
pub struct Source {
    settings: config::Pubsub,
    clock: Clock,
}

impl Source {
    /// Gets a first token, so that bad credentials are found at the start. A token server that is
    /// slow or out of reach is no reason to wait or give up: the streams go on trying. It doesn't
    /// ask for the subscription: pulling from it will tell.
    pub async fn connect(settings: &config::Pubsub, clock: Clock) -> Result<Self, SourceError> {
        match tokio::time::timeout(FIRST_TOKEN_LIMIT, credentials(settings)).await {
            Ok(Err(error)) if error.is_configuration() => Err(error),
            Ok(Ok(_) | Err(_)) | Err(_) => Ok(Self {
                settings: settings.clone(),
                clock,
            }),
        }
    }

    /// Pulls until `stop` holds true or nobody takes the deliveries any more, opening streams again
    /// whenever they end. It also returns, without being told to, when the task of a stream panics:
    /// then all streams are ended as by `stop`.
    ///
    /// The capacity of `deliveries` and the limits on outstanding messages bound what is under way:
    /// while they are reached, nothing more is pulled. To stop without losing acks:
    ///
    /// 1. Send true to `stop`. Pulling ends at once, and `run` drops its `deliveries`, so that the
    ///    receiver ends after what was still in the channel.
    /// 2. Commit and ack what was already taken, and drop the rest: that is a nack each.
    /// 3. Await `run`. It returns when every delivery is acked or dropped and Pub/Sub was told, or
    ///    5 s after step 1. Whoever holds on to a delivery makes it wait.
    pub async fn run(
        self,
        deliveries: mpsc::Sender<Delivery>,
        events: impl Fn(SourceEvent) + Send + Sync + 'static,
        mut stop: watch::Receiver<bool>,
    ) {
        let (end, ended) = watch::channel(false);
        let outlet = Outlet {
            deliveries,
            stop: ended,
        };
        let flow_control = FlowControl::new(&self.settings);
        let count = self.settings.streams;
        let shared = Arc::new(Shared::new(self.settings, self.clock, events));
        let (states, reopens): (Vec<_>, Vec<_>) = (0..count)
            .map(|_| StreamState::new(Arc::clone(&shared)))
            .unzip();
        let states: Vec<_> = states.into_iter().map(Arc::new).collect();
        // Before a stream can have read the key file: it looks for changes from now on.
        let watchdog = Watchdog::new(Arc::clone(&shared), states.clone());
        let mut streams = JoinSet::new();
        for (state, reopens) in states.iter().zip(reopens) {
            let (shared, state) = (Arc::clone(&shared), Arc::clone(state));
            let (outlet, flow_control) = (outlet.clone(), flow_control.clone());
            streams.spawn(
                Stream {
                    shared,
                    state,
                    reopens,
                    outlet,
                    flow_control,
                }
                .run(),
            );
        }
        drop(outlet);
        let pass_on_stop = async {
            // An error means that nobody is left to say so.
            drop(stop.wait_for(|is_stopped| *is_stopped).await);
            end.send_replace(true);
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            () = join(streams, &end) => {}
            never = watchdog.run() => match never {},
            never = pass_on_stop => match never {},
        }
        // A task that panicked did not say so itself.
        states.iter().for_each(|state| state.set_up(false));
    }
}

/// Waits for all streams. If the task of one panics, the others end too: one stream less would
/// look like a quieter home.
async fn join(mut streams: JoinSet<()>, end: &watch::Sender<bool>) {
    while let Some(ended) = streams.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a stream's task failed: all streams end");
            end.send_replace(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

    use pubsub_test_server::Server;

    use super::*;
    use crate::config::Settings;
    use crate::event::ClockTime;

    async fn within_limit<T>(future: impl Future<Output = T>) -> T {
        // Far longer than anything here takes.
        tokio::time::timeout(Duration::from_secs(30), future)
            .await
            .unwrap()
    }

    /// A source of so many streams on that server.
    async fn source(server: &Server, streams: u32) -> Source {
        let environment = [
            (
                "HEARTHD_PUBSUB__SUBSCRIPTION",
                "projects/p/subscriptions/s".to_owned(),
            ),
            ("HEARTHD_PUBSUB__STREAMS", streams.to_string()),
            (
                "PUBSUB_EMULATOR_HOST",
                format!("127.0.0.1:{}", server.port()),
            ),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value));
        let settings = Settings::load(None, &environment.into())
            .unwrap()
            .pubsub
            .unwrap();
        Source::connect(&settings, Clock::start(ClockTime::default()))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn what_is_neither_acked_nor_held_is_given_back() {
        let server = Server::start();
        server.publish(["{}"; 5]);
        let source = source(&server, 1).await;
        let counts = watch::Sender::new((0, 0));
        let mut counted = counts.subscribe();
        let on_event = move |event| {
            let is = |other| i64::from(event == other);
            counts.send_modify(|(received, given_back)| {
                *received += is(SourceEvent::MessageReceived);
                *given_back += is(SourceEvent::MessageReturned);
            });
        };
        let (deliveries, mut received) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(false);
        let source = tokio::spawn(source.run(deliveries, on_event, stopped));
        within_limit(received.recv()).await.unwrap().ack.ack();
        // One is in the channel, and one waits for room there.
        within_limit(counted.wait_for(|counts| *counts == (3, 0)))
            .await
            .unwrap();
        stop.send_replace(true);
        within_limit(counted.wait_for(|counts| *counts == (3, 1)))
            .await
            .unwrap();
        drop(received);
        within_limit(source).await.unwrap();
        assert_eq!(*counted.borrow(), (3, 2));
    }

    #[tokio::test]
    async fn a_panic_in_one_stream_ends_all() {
        let server = Server::start();
        server.publish(["{}"]);
        let source = source(&server, 3).await;
        let (has_panicked, up) = (AtomicBool::new(false), Arc::new(AtomicI64::new(0)));
        let count = Arc::clone(&up);
        let on_event = move |event| {
            let is = |other| i64::from(event == other);
            count.fetch_add(
                is(SourceEvent::StreamUp) - is(SourceEvent::StreamDown),
                Relaxed,
            );
            let came = event == SourceEvent::MessageReceived;
            assert!(!came || has_panicked.swap(true, Relaxed), "as scripted");
        };
        let (deliveries, _received) = mpsc::channel(1);
        let (_stop, stopped) = watch::channel(false);
        within_limit(source.run(deliveries, on_event, stopped)).await;
        assert_eq!(up.load(Relaxed), 0, "some count as up");
    }
}
