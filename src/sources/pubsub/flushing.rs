//! Streams that ended, until their last acks have left.

use std::time::Duration;

use google_cloud_pubsub::subscriber::ShutdownToken;
use tokio::task::JoinSet;

/// Longest wait for the last acks at the end. They leave every 100 ms, so this is long for a
/// healthy server and short for the supervisor that waits; acks that don't make it cost a
/// redelivery.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);
/// Longest wait for the acks of a stream that ended while hearthd goes on; most leave at once.
/// Where a store fails for longer, the library goes on by itself: it renews leases for an hour, its
/// default, and sends acks when they come. Only the end no longer waits for these.
const LINGER_LIMIT: Duration = Duration::from_secs(60);
/// Streams that ended and whose acks are still waited for. So many mean that a server answers no
/// ack for minutes: the acks of one more aren't worth waiting for.
const FLUSHING_MAX: usize = 16;

/// Streams that ended and whose acks may still be on their way.
#[derive(Default)]
pub(super) struct Flushing(JoinSet<()>);

impl Flushing {
    /// Signals the end of that stream and waits for its acks in the background.
    pub(super) fn add(&mut self, token: ShutdownToken) {
        while self.0.try_join_next().is_some() {}
        if self.0.len() < FLUSHING_MAX {
            self.0.spawn(async move {
                // An error means that a server answers no ack: the messages will come again.
                tokio::time::timeout(LINGER_LIMIT, token.shutdown())
                    .await
                    .ok();
            });
        }
    }

    /// Waits for all acks, within the limit.
    pub(super) async fn finish(mut self) {
        let all = async { while self.0.join_next().await.is_some() {} };
        if tokio::time::timeout(FLUSH_LIMIT, all).await.is_err() {
            tracing::warn!(
                limit_s = FLUSH_LIMIT.as_secs(),
                "the last acks were not confirmed in time; Pub/Sub may repeat those messages",
            );
        }
    }
}
