//! Asks Pub/Sub whether Google's Device Access may publish to a topic of the user's own.

use std::time::Duration;

use google_cloud_auth::credentials::Credentials;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_pubsub::client::SchemaService;

use super::error::SourceError;
use super::probe::{Finding, finding_of};
use crate::config;
use crate::text::error_chain;

/// Longest wait for the answer. Google's take well under a second.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Who publishes the events of Device Access.
pub const DEVICE_ACCESS: &str = "group:sdm-publisher@googlegroups.com";
/// What it needs on a topic.
pub const PUBLISHER_ROLE: &str = "roles/pubsub.publisher";

/// What the topic's own policy says of Device Access.
#[derive(Debug)]
pub enum Publisher {
    /// It has the role on the topic.
    Bound,
    /// It has not. It may have it from the project or a folder, whose policies aren't asked for.
    Absent,
    /// The account may not read the policy.
    Forbidden,
    /// There was no answer, or another error.
    Unknown(String),
}

/// Asks for the policy of a topic, `projects/…/topics/…`.
pub async fn ask_publisher(
    settings: &config::Pubsub,
    credentials: Credentials,
    topic: &str,
) -> Publisher {
    // The library has `getIamPolicy` in this client alone; the request is the same for topics.
    let builder = SchemaService::builder().with_credentials(credentials);
    let builder = match settings.endpoint.url() {
        None => builder,
        Some(url) => builder.with_endpoint(url),
    };
    let client = match builder.with_retry_policy(NeverRetry).build().await {
        Ok(client) => client,
        Err(error) => {
            let error = SourceError::client(&settings.endpoint, error);
            return Publisher::Unknown(error_chain(&error));
        }
    };
    let request = client.get_iam_policy().set_resource(topic);
    match tokio::time::timeout(ANSWER_LIMIT, request.send()).await {
        Ok(Ok(policy)) => {
            let is_bound = policy.bindings.iter().any(|binding| {
                binding.role == PUBLISHER_ROLE
                    && binding.members.iter().any(|member| member == DEVICE_ACCESS)
            });
            if is_bound {
                Publisher::Bound
            } else {
                Publisher::Absent
            }
        }
        Ok(Err(error)) if matches!(finding_of(&error), Finding::Forbidden) => Publisher::Forbidden,
        Ok(Err(error)) => Publisher::Unknown(error_chain(&error)),
        Err(_) => Publisher::Unknown(format!("no answer within {ANSWER_LIMIT:?}")),
    }
}
