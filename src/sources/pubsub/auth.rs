//! Which credentials go with the settings, and the proof that they work.
//!
//! Never logs a key, a token, or any part of one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use google_cloud_auth::credentials::service_account::{self, AccessSpecifier};
use google_cloud_auth::credentials::{self, Credentials, anonymous, external_account};
use serde_json::Value;

use super::error::{Origin, SourceError};
use crate::config::{Endpoint, Pubsub, Secret};
use crate::text::error_chain;

/// All that hearthd asks for: to use Pub/Sub.
const SCOPE: &str = "https://www.googleapis.com/auth/pubsub";
/// The two types of credentials files: a service account's key, and workload identity.
const SERVICE_ACCOUNT: &str = "service_account";
const EXTERNAL_ACCOUNT: &str = "external_account";
/// The name of the file among those that systemd passes (see systemd/hearthd.service).
const SYSTEMD_CREDENTIAL: &str = "service-account.json";
/// Longest wait for a token where nothing else waits for the caller. A key is signed with in
/// milliseconds; a metadata server that needs more than this is not there.
pub const TOKEN_LIMIT: Duration = Duration::from_secs(30);

/// The credentials for `settings`, proven to give a token within `limit`. An emulator gets
/// anonymous ones.
pub async fn credentials(settings: &Pubsub, limit: Duration) -> Result<Credentials, SourceError> {
    let (origin, credentials) = match (&settings.endpoint, key_file(settings)) {
        (Endpoint::Emulator { .. }, _) => return Ok(anonymous::Builder::new().build()),
        (Endpoint::Google | Endpoint::Named { .. }, Some(path)) => {
            let credentials = from_file(&path)?;
            (Origin::KeyFile(path), credentials)
        }
        (Endpoint::Google | Endpoint::Named { .. }, None) => {
            (Origin::ApplicationDefault, application_default()?)
        }
    };
    // A key is only parsed when it is first used, so use it: a bad one is to be found at the start.
    let headers = tokio::time::timeout(limit, credentials.headers(Default::default())).await;
    match headers {
        Ok(Ok(_)) => Ok(credentials),
        Ok(Err(error)) if error.is_transient() => Err(SourceError::Token {
            origin,
            source: error_chain(&error).into(),
        }),
        Ok(Err(error)) => Err(SourceError::Credentials {
            origin,
            source: error_chain(&error).into(),
        }),
        Err(_) => {
            let source = format!("no answer within {limit:?}").into();
            Err(SourceError::Token { origin, source })
        }
    }
}

/// The file with the credentials: the one that the settings name, else systemd's, if it is there.
pub fn key_file(settings: &Pubsub) -> Option<PathBuf> {
    settings.credentials_file.clone().or_else(|| {
        let path = settings
            .credentials_directory
            .as_ref()?
            .join(SYSTEMD_CREDENTIAL);
        path.exists().then_some(path)
    })
}

fn from_file(path: &Path) -> Result<Credentials, SourceError> {
    let text = fs::read_to_string(path)
        .map(Secret::new)
        .map_err(|source| SourceError::KeyFile {
            path: path.to_owned(),
            source,
        })?;
    from_json(&text).map_err(|source| SourceError::Credentials {
        origin: Origin::KeyFile(path.into()),
        source,
    })
}

/// The credentials that a file holds. Errors name fields and types, never values.
fn from_json(text: &Secret) -> Result<Credentials, Box<dyn std::error::Error + Send + Sync>> {
    let json: Value =
        serde_json::from_str(text.expose()).map_err(|error| format!("it is not JSON: {error}"))?;
    let built = match json.get("type").and_then(Value::as_str) {
        Some(SERVICE_ACCOUNT) => service_account::Builder::new(json)
            .with_access_specifier(AccessSpecifier::from_scopes([SCOPE]))
            .build(),
        Some(EXTERNAL_ACCOUNT) => external_account::Builder::new(json)
            .with_scopes([SCOPE])
            .build(),
        Some(other) => {
            let expected = format!("not {SERVICE_ACCOUNT:?} or {EXTERNAL_ACCOUNT:?}");
            return Err(format!("its type is {other:?}, {expected}").into());
        }
        None => return Err(format!("it has no \"type\": {SERVICE_ACCOUNT:?}").into()),
    };
    built.map_err(|error| error_chain(&error).into())
}

fn application_default() -> Result<Credentials, SourceError> {
    credentials::Builder::default()
        .with_scopes([SCOPE])
        .build()
        .map_err(|error| SourceError::Credentials {
            origin: Origin::ApplicationDefault,
            source: error_chain(&error).into(),
        })
}
