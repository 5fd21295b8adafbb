//! Which credentials go with the settings, and the proof that they work.
//!
//! Never logs a key, a token, or any part of one.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use google_cloud_auth::credentials::service_account::{self, AccessSpecifier};
use google_cloud_auth::credentials::{self, Credentials, anonymous};
use serde_json::Value;

use super::error::{SourceError, error_chain};
use crate::config::{Endpoint, Pubsub, Secret};

/// All that hearthd asks for: to use Pub/Sub.
const SCOPE: &str = "https://www.googleapis.com/auth/pubsub";
/// What a key file says that it is.
const KEY_TYPE: &str = "service_account";
/// Longest wait for a token. A key is signed with in milliseconds; a metadata server that needs
/// more than this is not there.
const TOKEN_LIMIT: Duration = Duration::from_secs(30);

/// Where credentials come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The file that `pubsub.credentials_file` names.
    KeyFile(PathBuf),
    /// Application Default Credentials: what the environment offers.
    ApplicationDefault,
}

impl Origin {
    /// What to do when Google or the library refuses the credentials.
    pub(super) fn advice(&self) -> &'static str {
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

/// The credentials for `settings`, proven to give a token. An emulator gets anonymous ones.
pub(super) async fn credentials(settings: &Pubsub) -> Result<Credentials, SourceError> {
    let (origin, credentials) = match (&settings.endpoint, &settings.credentials_file) {
        (Endpoint::Emulator { .. }, _) => return Ok(anonymous::Builder::new().build()),
        (Endpoint::Google, Some(path)) => (Origin::KeyFile(path.clone()), from_key(path)?),
        (Endpoint::Google, None) => (Origin::ApplicationDefault, application_default()?),
    };
    // A key is only parsed when it is first used, so use it: a bad one is to be found at the start.
    let headers = tokio::time::timeout(TOKEN_LIMIT, credentials.headers(Default::default())).await;
    match headers {
        Ok(Ok(_)) => Ok(credentials),
        Ok(Err(error)) if error.is_transient() => {
            Err(SourceError::Token { origin, source: error_chain(&error).into() })
        }
        Ok(Err(error)) => {
            Err(SourceError::Credentials { origin, source: error_chain(&error).into() })
        }
        Err(_) => {
            let source = format!("no answer within {TOKEN_LIMIT:?}").into();
            Err(SourceError::Token { origin, source })
        }
    }
}

fn from_key(path: &Path) -> Result<Credentials, SourceError> {
    let text = fs::read_to_string(path)
        .map(Secret::new)
        .map_err(|source| SourceError::KeyFile { path: path.to_owned(), source })?;
    service_account(&text)
        .map_err(|source| SourceError::Credentials { origin: Origin::KeyFile(path.into()), source })
}

/// The credentials of a key. Its errors name fields and types, never values.
fn service_account(text: &Secret) -> Result<Credentials, Box<dyn std::error::Error + Send + Sync>> {
    let key: Value =
        serde_json::from_str(text.expose()).map_err(|error| format!("it is not JSON: {error}"))?;
    match key.get("type").and_then(Value::as_str) {
        Some(KEY_TYPE) => {}
        Some(other) => return Err(format!("its type is {other:?}, not {KEY_TYPE:?}").into()),
        None => return Err(format!("it has no \"type\": {KEY_TYPE:?}").into()),
    }
    let credentials = service_account::Builder::new(key)
        .with_access_specifier(AccessSpecifier::from_scopes([SCOPE]))
        .build();
    credentials.map_err(|error| error_chain(&error).into())
}

fn application_default() -> Result<Credentials, SourceError> {
    credentials::Builder::default().with_scopes([SCOPE]).build().map_err(|error| {
        SourceError::Credentials {
            origin: Origin::ApplicationDefault,
            source: error_chain(&error).into(),
        }
    })
}
