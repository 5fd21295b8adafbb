//! What can happen to the stream: events for the metrics, advice for people.
//!
//! Words and values only; nothing here pulls, waits or logs.

use google_cloud_gax::error::rpc::Code;

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
    pub(super) fn of(error: &google_cloud_pubsub::Error) -> Self {
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
    pub(super) fn advice(self) -> &'static str {
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

    /// Where the credentials failed, if they are to blame.
    pub(super) fn auth_stage(self) -> Option<AuthStage> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
