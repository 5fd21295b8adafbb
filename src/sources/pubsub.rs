//! Pub/Sub streaming pull: streams that hand over messages with their acks, each opened again when
//! it ends, and a watchdog beside them.
//!
//! It never decodes a payload and never acks by itself.

pub(super) mod ack;
mod attempts;
mod auth;
mod error;
mod flow_control;
mod flushing;
mod hosting;
mod probe;
mod publisher;
pub mod server_time;
mod shared;
mod stream;
pub(super) mod stream_event;
mod stream_state;
mod watchdog;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use self::ack::Ack;
pub use self::auth::{TOKEN_LIMIT, credentials, key_file};
pub use self::error::{Origin, SourceError};
use self::flow_control::FlowControl;
pub use self::hosting::{Hosting, MOVE_TO_OWN_TOPIC};
pub use self::probe::{Finding, Probe};
pub use self::publisher::{DEVICE_ACCESS, PUBLISHER_ROLE, Publisher, ask_publisher};
use self::shared::Shared;
pub use self::shared::expiry_of;
use self::stream::{Outlet, Stream};
pub use self::stream_event::{AuthStage, OpenReason, StreamEvent, StreamFailure};
use self::stream_state::StreamState;
use self::watchdog::Watchdog;
use super::delivery::Delivery;
use super::event::SourceEvent;
use super::message::SourceId;
use crate::clock::Clock;
use crate::config;

/// Longest wait for the first token: a key is signed with in milliseconds, and what else there is
/// must not keep the service from being ready.
const FIRST_TOKEN_LIMIT: Duration = Duration::from_secs(3);

/// The Pub/Sub source: one subscription, pulled from by one or more streams.
#[derive(Debug)]
pub struct Source {
    id: SourceId,
    settings: config::Pubsub,
    clock: Clock,
}

impl Source {
    /// Gets a first token, so that bad credentials are found at the start. A token server that is
    /// slow or out of reach is no reason to wait or give up: the streams go on trying. It doesn't
    /// ask for the subscription: pulling from it will tell.
    pub async fn connect(settings: &config::Pubsub, clock: Clock) -> Result<Self, SourceError> {
        match credentials(settings, FIRST_TOKEN_LIMIT).await {
            Err(error) if error.is_configuration() => Err(error),
            Ok(_) | Err(_) => Ok(Self {
                id: SourceId::pubsub(),
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
        let shared = Arc::new(Shared::new(self.id, self.settings, self.clock, events));
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
    use crate::sources::event::SourceChange;

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
    async fn what_is_neither_acked_nor_held_is_returned() {
        let server = Server::start();
        server.publish(["{}"; 5]);
        let source = source(&server, 1).await;
        let counts = watch::Sender::new((0, 0, 0));
        let mut counted = counts.subscribe();
        let on_event = move |event: SourceEvent| {
            let is = |other| i64::from(event.change == other);
            counts.send_modify(|(received, acked, returned)| {
                *received += is(SourceChange::Received);
                *acked += is(SourceChange::Acked);
                *returned += is(SourceChange::Returned);
            });
        };
        let (deliveries, mut received) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(false);
        let source = tokio::spawn(source.run(deliveries, on_event, stopped));
        within_limit(received.recv()).await.unwrap().ack.ack();
        // One is in the channel, and one waits for room there.
        within_limit(counted.wait_for(|counts| *counts == (3, 1, 0)))
            .await
            .unwrap();
        stop.send_replace(true);
        within_limit(counted.wait_for(|counts| *counts == (3, 1, 1)))
            .await
            .unwrap();
        drop(received);
        within_limit(source).await.unwrap();
        assert_eq!(*counted.borrow(), (3, 1, 2));
    }

    #[tokio::test]
    async fn a_panic_in_one_stream_ends_all() {
        let server = Server::start();
        server.publish(["{}"]);
        let source = source(&server, 3).await;
        let has_panicked = AtomicBool::new(false);
        let up = Arc::new(AtomicI64::new(0));
        let count = Arc::clone(&up);
        let on_event = move |event: SourceEvent| {
            let is = |other| i64::from(event.change == other);
            count.fetch_add(is(SourceChange::Up) - is(SourceChange::Down), Relaxed);
            let came = event.change == SourceChange::Received;
            assert!(!came || has_panicked.swap(true, Relaxed), "as scripted");
        };
        let (deliveries, _received) = mpsc::channel(1);
        let (_stop, stopped) = watch::channel(false);
        within_limit(source.run(deliveries, on_event, stopped)).await;
        assert_eq!(up.load(Relaxed), 0, "some count as up");
    }
}
