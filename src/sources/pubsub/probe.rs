//! `subscriptions.get`: any answer, even a refusal, proves that Pub/Sub is reachable.
//!
//! It takes no message, and needs no permission to tell an answer from silence.

use std::time::Duration;

use google_cloud_auth::credentials::Credentials;
use google_cloud_gax::error::rpc::Code;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_pubsub::client::SubscriptionAdmin;
use google_cloud_pubsub::model::Subscription;

use super::error::SourceError;
use super::stream_event::AuthStage;
use crate::config;
use crate::text::error_chain;

/// Longest wait for the answer. Google's take well under a second.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What Pub/Sub says of the subscription. All but the last two prove that it can be reached.
#[derive(Debug)]
pub enum Finding {
    /// It is there.
    Found(Box<Subscription>),
    /// There is no such subscription.
    NotFound,
    /// The account may not look at it. It may be allowed to pull all the same.
    Forbidden,
    /// Google refuses the token.
    Unauthenticated(String),
    /// There is no token to ask with: where that failed, and why.
    NoToken(AuthStage, String),
    /// There was no answer, or none that Pub/Sub gives.
    Unreachable(String),
}

/// A client that asks about one subscription.
pub struct Probe {
    admin: SubscriptionAdmin,
    subscription: String,
}

impl Probe {
    /// Builds the client. It connects at the first question.
    pub async fn new(
        settings: &config::Pubsub,
        credentials: Credentials,
    ) -> Result<Self, SourceError> {
        let builder = SubscriptionAdmin::builder().with_credentials(credentials);
        let builder = match settings.endpoint.url() {
            None => builder,
            Some(url) => builder.with_endpoint(url),
        };
        let admin = builder.with_retry_policy(NeverRetry).build().await;
        let admin = admin.map_err(|error| SourceError::client(&settings.endpoint, error))?;
        Ok(Self {
            admin,
            subscription: settings.subscription.to_string(),
        })
    }

    /// Asks once.
    pub async fn ask(&self) -> Finding {
        let request = self
            .admin
            .get_subscription()
            .set_subscription(&self.subscription);
        match tokio::time::timeout(ANSWER_LIMIT, request.send()).await {
            Ok(Ok(subscription)) => Finding::Found(Box::new(subscription)),
            Ok(Err(error)) => finding_of(&error),
            Err(_) => Finding::Unreachable(format!("no answer within {ANSWER_LIMIT:?}")),
        }
    }
}

pub(super) fn finding_of(error: &google_cloud_pubsub::Error) -> Finding {
    let text = || error_chain(error);
    if error.is_authentication() {
        return Finding::NoToken(AuthStage::Token, text());
    }
    // A proxy answers with a bare HTTP status.
    match (
        error.status().map(|status| status.code),
        error.http_status_code(),
    ) {
        (Some(Code::NotFound), _) | (None, Some(404)) => Finding::NotFound,
        (Some(Code::PermissionDenied), _) | (None, Some(403)) => Finding::Forbidden,
        (Some(Code::Unauthenticated), _) | (None, Some(401)) => Finding::Unauthenticated(text()),
        (Some(_) | None, _) => Finding::Unreachable(text()),
    }
}
