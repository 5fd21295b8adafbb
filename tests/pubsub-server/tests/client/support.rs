//! What the tests share.

use std::time::Duration;

use google_cloud_auth::credentials::{Credentials, anonymous};
use google_cloud_pubsub::client::{Subscriber, SubscriptionAdmin};
use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::subscriber::MessageStream;
use google_cloud_pubsub::subscriber::handler::Handler;

pub(crate) const SUBSCRIPTION: &str = "projects/test/subscriptions/test";

/// Longest wait for what must happen. It is never reached where all is well.
const LIMIT: Duration = Duration::from_secs(20);
/// Time between two looks at a condition that nothing announces.
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(crate) fn anyone() -> Credentials {
    anonymous::Builder::new().build()
}

pub(crate) async fn subscriber(url: &str, credentials: Credentials) -> Subscriber {
    Subscriber::builder()
        .with_endpoint(url)
        .with_credentials(credentials)
        .build()
        .await
        .unwrap()
}

pub(crate) async fn admin(url: &str, credentials: Credentials) -> SubscriptionAdmin {
    let builder = SubscriptionAdmin::builder()
        .with_endpoint(url)
        .with_credentials(credentials);
    builder.build().await.unwrap()
}

/// A stream that takes up to 1000 messages.
pub(crate) async fn stream(url: &str) -> MessageStream {
    subscriber(url, anyone())
        .await
        .subscribe(SUBSCRIPTION)
        .build()
}

/// How a stream went on: a message, an end, or the code of an error.
pub(crate) type Received = Option<Result<(Message, Handler), google_cloud_pubsub::Error>>;

pub(crate) async fn next(stream: &mut MessageStream) -> Received {
    tokio::time::timeout(LIMIT, stream.next())
        .await
        .expect("the stream goes on")
}

pub(crate) async fn message(stream: &mut MessageStream) -> (Message, Handler) {
    next(stream)
        .await
        .expect("the stream is open")
        .expect("the stream is healthy")
}

pub(crate) async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        while !condition() {
            looks.tick().await;
        }
    };
    tokio::time::timeout(LIMIT, waiting)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"));
}
