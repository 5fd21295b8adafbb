//! Pub/Sub streaming pull: streams that hand over messages with their acks, each opened again when
//! it ends, and a watchdog beside them.
//!
//! It never decodes a payload and never acks by itself.

mod attempts;
mod auth;
mod backoff;
mod context;
mod error;
mod limit;
mod link;
mod probe;
mod status;
mod stream;
mod watchdog;

use std::sync::Arc;
use std::time::Duration;

use google_cloud_pubsub::subscriber::handler::Handler;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use self::attempts::Attempts;
pub use self::auth::{Origin, credentials, key_file};
use self::context::Context;
pub use self::context::expiry_of;
pub use self::error::{SourceError, error_chain};
use self::limit::{Limit, Room};
use self::link::Link;
pub use self::probe::{Finding, Probe};
pub use self::status::{AuthStage, Loss, OpenReason, SourceEvent};
use self::stream::{Outlet, Stream};
use self::watchdog::Watchdog;
use super::Delivery;
use crate::clock::Clock;
use crate::config;

/// Longest wait for the first token: a key is signed with in milliseconds, and what else there is
/// must not keep the service from being ready.
const FIRST_TOKEN_LIMIT: Duration = Duration::from_secs(3);

/// Acks one message; dropping it without acking makes Pub/Sub deliver it again.
#[derive(Debug)]
pub struct Ack {
    handler: Option<Handler>,
    attempts: Arc<Attempts>,
    _room: Room,
}

impl Ack {
    fn new(handler: Handler, attempts: Arc<Attempts>, room: Room) -> Self {
        attempts.message_received();
        Self { handler: Some(handler), attempts, _room: room }
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
            Ok(Ok(_) | Err(_)) | Err(_) => Ok(Self { settings: settings.clone(), clock }),
        }
    }

    /// Pulls until `stop` holds true or nobody takes the deliveries any more, opening streams again
    /// whenever they end.
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
        stop: watch::Receiver<bool>,
    ) {
        let outlet = Outlet { deliveries, stop };
        let limit = Limit::new(&self.settings);
        let count = self.settings.streams;
        let context = Arc::new(Context::new(self.settings, self.clock, events));
        let mut links = Vec::new();
        let mut streams = JoinSet::new();
        for _ in 0..count {
            let (link, interrupts) = Link::new(Arc::clone(&context));
            let link = Arc::new(link);
            links.push(Arc::clone(&link));
            let (context, outlet, limit) = (Arc::clone(&context), outlet.clone(), limit.clone());
            streams.spawn(Stream { context, link, interrupts, outlet, limit }.run());
        }
        drop(outlet);
        let watchdog = Watchdog::new(context, links);
        let all = async { while streams.join_next().await.is_some() {} };
        tokio::select! {
            () = all => {}
            never = watchdog.run() => match never {},
        }
    }
}
