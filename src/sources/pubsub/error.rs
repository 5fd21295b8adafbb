//! Why there is no client for Pub/Sub, each with what to do about it.

use std::fmt;
use std::path::PathBuf;

use super::stream_event::AuthStage;
use crate::config::Endpoint;

/// Where credentials come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The file that `pubsub.credentials_file` names, or that systemd passes.
    KeyFile(PathBuf),
    /// Application Default Credentials: what the environment offers.
    ApplicationDefault,
}

impl Origin {
    /// What to do when Google or the library refuses the credentials.
    fn advice(&self) -> &'static str {
        match self {
            Self::KeyFile(_) => {
                "create a JSON key of a service account, and name its file in \
                 pubsub.credentials_file"
            }
            Self::ApplicationDefault => {
                "set pubsub.credentials_file to a service account's JSON key, or mend what \
                 GOOGLE_APPLICATION_CREDENTIALS names"
            }
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyFile(path) => write!(f, "the credentials file {}", path.display()),
            Self::ApplicationDefault => f.write_str("the Application Default Credentials"),
        }
    }
}

/// Why the source can't start, or can't open its stream again.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The credentials file can't be read.
    #[error(
        "failed to read the credentials file {}; create it, or let the user that hearthd runs as \
         read it", path.display()
    )]
    KeyFile {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The credentials will not work, however often they are tried.
    #[error("failed to use {origin}; {}", origin.advice())]
    Credentials {
        origin: Origin,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no token now; there may be one later.
    #[error(
        "failed to get a token with {origin}; check that its token server can be reached, or {}",
        origin.advice()
    )]
    Token {
        origin: Origin,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The client can't be built.
    #[error(
        "failed to build the client for {endpoint}; check its address, and that the system's CA \
         certificates are installed"
    )]
    Client {
        endpoint: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl SourceError {
    /// The client for that endpoint can't be built.
    pub(super) fn client(
        endpoint: &Endpoint,
        error: google_cloud_gax::client_builder::Error,
    ) -> Self {
        let endpoint = endpoint.url().unwrap_or("Google").to_owned();
        Self::Client {
            endpoint,
            source: Box::new(error),
        }
    }

    /// True if only a change of the settings, or of the files that they name, will help.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::KeyFile { .. } | Self::Credentials { .. } => true,
            Self::Token { .. } | Self::Client { .. } => false,
        }
    }

    /// Where the credentials failed, if they are to blame.
    pub(super) fn auth_stage(&self) -> Option<AuthStage> {
        match self {
            Self::KeyFile { .. } | Self::Credentials { .. } => Some(AuthStage::Credentials),
            Self::Token { .. } => Some(AuthStage::Token),
            Self::Client { .. } => None,
        }
    }
}
