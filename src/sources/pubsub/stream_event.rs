//! What can happen to the stream: events for the metrics, advice for people.
//!
//! Words and values only; nothing here pulls, waits or logs.

use google_cloud_gax::error::rpc::Code;
use strum::{IntoStaticStr, VariantArray};

/// What happened to a subscription's streams and credentials, beside what every source tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEvent {
    /// A stream is being opened.
    Opened { reason: OpenReason },
    /// Pub/Sub answered, or didn't.
    Reachable(bool),
    /// No message came for so long that somebody should look, or one came again.
    Silence(bool),
    /// Google hosts the subscription's topic, or doesn't.
    TopicHosted(bool),
    /// The credentials gave a token.
    TokenOk {
        /// When it expires, in seconds since the Unix epoch, if it says so.
        expiry: Option<i64>,
    },
    /// The credentials are no good.
    AuthFailed { stage: AuthStage },
}

/// What made it necessary to open a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenReason {
    Start,
    /// The one before was lost.
    Lost(StreamFailure),
    /// The one before brought nothing for `pubsub.idle_reopen`.
    Idle,
    /// The credentials file changed.
    NewKey,
}

impl OpenReason {
    /// Every reason, in the order of their metrics.
    pub fn all() -> impl Iterator<Item = Self> {
        let planned = [Self::Start, Self::Idle, Self::NewKey].into_iter();
        planned.chain(StreamFailure::VARIANTS.iter().copied().map(Self::Lost))
    }

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Idle => "idle",
            Self::NewKey => "new_key",
            Self::Lost(failure) => failure.into(),
        }
    }
}

/// Why a stream must end although the client library holds on to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reopen {
    /// It brought nothing for `pubsub.idle_reopen`.
    Idle,
    /// The credentials file changed.
    NewKey,
    /// The library tries to open it again and again.
    Stalled,
    /// Pub/Sub doesn't answer.
    Unreachable,
}

/// What ended a stream. The names are metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum StreamFailure {
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
    /// The server doesn't understand the request.
    InvalidArgument,
    /// Any other error that the client library doesn't retry.
    Failed,
    /// The client library tried to open the stream several times.
    Stalled,
    /// Pub/Sub doesn't answer.
    Unreachable,
}

impl StreamFailure {
    pub(super) fn of(error: &google_cloud_pubsub::Error) -> Self {
        if error.is_authentication() {
            return Self::Credentials;
        }
        match error.status().map(|status| status.code) {
            Some(Code::NotFound) => Self::NotFound,
            Some(Code::PermissionDenied) => Self::PermissionDenied,
            Some(Code::Unauthenticated) => Self::Unauthenticated,
            Some(Code::InvalidArgument) => Self::InvalidArgument,
            Some(_) | None => Self::Failed,
        }
    }

    /// What is wrong, and what to do.
    pub fn advice(self) -> &'static str {
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
            Self::InvalidArgument => {
                "Pub/Sub doesn't take the request; check that pubsub.subscription names a \
                 subscription, not a topic"
            }
            Self::Failed => "the stream failed; if it goes on, see the error",
            Self::Stalled => {
                "the stream can't be opened: connections fail or are refused again and again; check \
                 the network, and pubsub.endpoint if it is set"
            }
            Self::Unreachable => {
                "Pub/Sub doesn't answer; check the network, and pubsub.endpoint if it is set"
            }
        }
    }

    /// True if a person must do something before it gets better.
    pub(super) fn is_permanent(self) -> bool {
        match self {
            Self::NotFound
            | Self::PermissionDenied
            | Self::Unauthenticated
            | Self::InvalidArgument
            | Self::Credentials => true,
            Self::Closed | Self::Failed | Self::Stalled | Self::Unreachable => false,
        }
    }

    /// Where the credentials failed, if they are to blame.
    pub(super) fn auth_stage(self) -> Option<AuthStage> {
        match self {
            Self::Unauthenticated => Some(AuthStage::Request),
            Self::Credentials => Some(AuthStage::Token),
            Self::Closed
            | Self::NotFound
            | Self::PermissionDenied
            | Self::InvalidArgument
            | Self::Failed
            | Self::Stalled
            | Self::Unreachable => None,
        }
    }
}

/// Where credentials fail. The names are metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum AuthStage {
    /// They can't be read or used at all.
    Credentials,
    /// They give no token.
    Token,
    /// Google refuses what they gave.
    Request,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_apart() {
        use google_cloud_gax::error::{CredentialsError, rpc::Status};
        let status = |code| google_cloud_pubsub::Error::service(Status::default().set_code(code));
        for (code, failure) in [
            (Code::NotFound, StreamFailure::NotFound),
            (Code::PermissionDenied, StreamFailure::PermissionDenied),
            (Code::Unauthenticated, StreamFailure::Unauthenticated),
            (Code::InvalidArgument, StreamFailure::InvalidArgument),
            (Code::Cancelled, StreamFailure::Failed),
        ] {
            assert_eq!(StreamFailure::of(&status(code)), failure);
        }
        let error = CredentialsError::from_msg(false, "no");
        let error = google_cloud_pubsub::Error::authentication(error);
        assert_eq!(StreamFailure::of(&error), StreamFailure::Credentials);
    }

    #[test]
    fn labels_are_distinct() {
        let mut labels: Vec<_> = OpenReason::all().map(OpenReason::as_str).collect();
        labels.sort_unstable();
        assert!(labels.is_sorted_by(|a, b| a < b), "{labels:?}");
    }
}
