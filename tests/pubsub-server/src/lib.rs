//! A Pub/Sub server for tests: the gRPC service `Subscriber` and the HTTP+JSON reads of a
//! subscription and its topic, on one port of 127.0.0.1, with faults on demand.
//!
//! It has one subscription. It runs on a thread of its own, so that blocking tests can drive it;
//! every method may be called from any thread. For faults below HTTP put a [`Proxy`] in front.

#![expect(
    clippy::expect_used,
    reason = "a test server that can't go on fails its test"
)]

mod admin;
mod auth;
mod background;
mod clock;
mod faults;
mod http;
mod log;
mod proto;
mod proxy;
mod service;
mod subscription;

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

pub use tonic::{Code, Status};

pub use crate::auth::{Key, PublicKey};
use crate::background::Background;
use crate::clock::Clock;
pub use crate::faults::{Admin, Answer, Auth, End, Faults, Rule};
pub use crate::log::{AuthFailure, Log, Outcome, Requests, StreamLog, StreamSettings};
use crate::proto::PubsubMessage;
pub use crate::proxy::{Mode, Proxy};
pub use crate::subscription::Flood;
use crate::subscription::Subscription;

/// A running server. Dropping it cuts off all connections and frees the port.
pub struct Server {
    port: u16,
    shared: Arc<Shared>,
    _background: Background,
}

/// A message with a choice of its own.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// What is in it.
    pub body: Vec<u8>,
    /// Its id. Nothing keeps two messages from having the same one. `None`: one that no other
    /// message has.
    pub id: Option<String>,
    /// When it was published; `None`: now.
    pub publish_time: Option<SystemTime>,
    /// Its ordering key. The server shows it, and does not order by it.
    pub ordering_key: String,
}

/// What the threads share.
pub(crate) struct Shared {
    clock: Clock,
    subscription: Mutex<Subscription>,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Subscription> {
        self.subscription
            .lock()
            .expect("no holder of the lock panicked")
    }
}

impl Server {
    /// Starts a server on a free port.
    pub fn start() -> Self {
        Self::start_on(0).expect("there is a free port")
    }

    /// Starts a server on this port. Fails if the port is in use.
    pub fn start_on(port: u16) -> io::Result<Self> {
        let runtime = background::runtime()?;
        let listener = {
            let _entered = runtime.enter();
            background::socket_on(port)?.listen(background::BACKLOG)?
        };
        let port = listener.local_addr()?.port();
        let clock = Clock::start();
        let subscription = Mutex::new(Subscription::new(clock.started_at()));
        let shared = Arc::new(Shared {
            clock,
            subscription,
        });
        let _background = Background::run(runtime, http::serve(listener, shared.clone()))?;
        Ok(Self {
            port,
            shared,
            _background,
        })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens, as clients want to be told: `http://127.0.0.1:…`
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    // ── messages ─────────────────────────────────────────────────────────────────────────────────

    /// Publishes messages with these bodies now, and returns their ids, which increase. A message
    /// is kept until the server ends, also after it was acked.
    pub fn publish<B: AsRef<[u8]>>(&self, bodies: impl IntoIterator<Item = B>) -> Vec<String> {
        let messages = bodies.into_iter().map(|body| Message {
            body: body.as_ref().to_vec(),
            ..Message::default()
        });
        self.publish_messages(messages)
    }

    /// Publishes one message, and returns its id.
    pub fn publish_message(&self, message: Message) -> String {
        self.publish_messages([message]).remove(0)
    }

    /// Publishes messages, and returns their ids. All of them are there before the first one is
    /// delivered.
    pub fn publish_messages(&self, messages: impl IntoIterator<Item = Message>) -> Vec<String> {
        let messages: Vec<_> = messages.into_iter().map(proto).collect();
        self.change(|subscription, now| {
            messages
                .into_iter()
                .map(|message| subscription.publish(message, now))
                .collect()
        })
    }

    /// Makes messages as fast as clients take them, from now on. It replaces a flood before it,
    /// whose messages stay until they are acked.
    pub fn flood(&self, flood: Flood) {
        self.change(|subscription, _| subscription.set_flood(Some(flood)));
    }

    /// Ends the flood.
    pub fn stop_flood(&self) {
        self.change(|subscription, _| subscription.set_flood(None));
    }

    /// Makes every message available again: those that a stream holds, and those that were acked,
    /// except for a flood's.
    pub fn redeliver_all(&self) {
        self.change(|subscription, _| subscription.redeliver_all());
    }

    /// From now on, what is available is delivered in a random order that depends on `seed`, or,
    /// with `None`, in the order of publishing again. A flood has at most one message waiting, so
    /// its order stays.
    pub fn reorder(&self, seed: Option<u64>) {
        self.change(|subscription, _| subscription.set_order(seed));
    }

    // ── faults ───────────────────────────────────────────────────────────────────────────────────

    /// Changes what the server does wrong. It is in force when this returns.
    pub fn script<T>(&self, change: impl FnOnce(&mut Faults) -> T) -> T {
        self.change(|subscription, _| change(&mut subscription.faults))
    }

    /// Ends all streams that are open now.
    pub fn end_streams(&self, end: &End) {
        self.change(|subscription, _| subscription.end_streams(end));
    }

    /// From now on only tokens of this key are accepted.
    pub fn require_auth(&self, key: PublicKey) {
        self.script(|faults| faults.auth = Auth::Holder(key));
    }

    // ── what happened ────────────────────────────────────────────────────────────────────────────

    /// Ids of the messages that are not acked.
    pub fn unacked(&self) -> BTreeSet<String> {
        self.shared.lock().ids(false)
    }

    /// Ids of the messages that are acked, except for a flood's, which are only counted.
    pub fn acked(&self) -> BTreeSet<String> {
        self.shared.lock().ids(true)
    }

    /// Number of messages acked, a flood's included: [`Log::acked`] without the rest.
    pub fn acked_count(&self) -> u64 {
        self.shared.lock().log.acked
    }

    /// Number of attempts to open a stream: [`Log::opens`] without the rest.
    pub fn open_count(&self) -> u64 {
        self.shared.lock().log.opens
    }

    /// A copy of what the server saw until now.
    pub fn log(&self) -> Log {
        self.shared.lock().log()
    }

    /// Changes the state, then hands out what became available.
    fn change<T>(&self, change: impl FnOnce(&mut Subscription, Duration) -> T) -> T {
        let now = self.shared.clock.now();
        let mut subscription = self.shared.lock();
        let result = change(&mut subscription, now);
        subscription.assign(now);
        result
    }
}

fn proto(message: Message) -> PubsubMessage {
    PubsubMessage {
        data: message.body.into(),
        message_id: message.id.unwrap_or_default(),
        publish_time: message.publish_time.map(Into::into),
        ordering_key: message.ordering_key,
    }
}
