//! Key, token and endpoint: what must work before Pub/Sub can be asked anything.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use google_cloud_auth::credentials::{CacheableResource, Credentials};
use serde_json::Value;

use super::line::Line;
use crate::clock::Clock;
use crate::config::{Endpoint, Pubsub};
use crate::sources::pubsub::{self, TOKEN_LIMIT, expiry_of, key_file, server_time};
use crate::text::error_chain;

/// Longest wait for the endpoint's answer; one across the world takes under a second.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// The bit by which every user of the machine may read a file.
const WORLD_READABLE: u32 = 0o004;

/// Checks the credentials, and returns them if they gave a token.
pub(super) async fn credentials(settings: &Pubsub) -> (Vec<Line>, Option<Credentials>) {
    let credentials = pubsub::credentials(settings, TOKEN_LIMIT).await;
    if matches!(settings.endpoint, Endpoint::Emulator { .. }) {
        return (
            vec![Line::ok("key", "none needed for an emulator")],
            credentials.ok(),
        );
    }
    match credentials {
        Ok(credentials) => {
            let lines = vec![key(settings), token(&credentials).await];
            (lines, Some(credentials))
        }
        Err(error) if error.is_configuration() => {
            (vec![Line::fail("key", error_chain(&error))], None)
        }
        Err(error) => (
            vec![key(settings), Line::fail("token", error_chain(&error))],
            None,
        ),
    }
}

/// Credentials that are good: where they are, whose they are, and who may read them.
fn key(settings: &Pubsub) -> Line {
    let Some(path) = key_file(settings) else {
        return Line::ok("key", "Application Default Credentials");
    };
    let shown = path.display();
    let mode = path
        .metadata()
        .map_or(0, |found| found.permissions().mode());
    if mode & WORLD_READABLE != 0 {
        let text = format!("every user of this machine may read {shown}; chmod 600 {shown}");
        return Line::warn("key", text);
    }
    match account(&path) {
        Some(account) => Line::ok("key", format_args!("{shown}, of {account}")),
        None => Line::ok("key", shown),
    }
}

/// The service account that a key file is of. Other types of credentials don't say.
fn account(path: &Path) -> Option<String> {
    let key: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    Some(key.get("client_email")?.as_str()?.to_owned())
}

async fn token(credentials: &Credentials) -> Line {
    match credentials.headers(Default::default()).await {
        Ok(CacheableResource::New { data, .. }) => {
            match expiry_of(&data).and_then(|expiry| DateTime::from_timestamp(expiry, 0)) {
                Some(expiry) => {
                    let expiry = expiry.to_rfc3339_opts(SecondsFormat::Secs, true);
                    Line::ok("token", format_args!("good until {expiry}, then renewed"))
                }
                None => Line::ok("token", "there is one; it doesn't say how long it is good"),
            }
        }
        Ok(CacheableResource::NotModified) => Line::ok("token", "there is one"),
        Err(error) => Line::fail("token", error_chain(&error)),
    }
}

/// A server that answers.
pub(super) struct Server {
    /// How far this machine's clock is ahead of the server's, if it says the time.
    pub(super) skew: Option<TimeDelta>,
}

/// Asks the endpoint for anything; that it answers over HTTP is enough.
pub(super) async fn endpoint(endpoint: &Endpoint, clock: &Clock) -> (Line, Option<Server>) {
    let url = server_time::url_of(endpoint);
    let asked = clock.wall_now();
    match server_time::headers(endpoint, ANSWER_LIMIT).await {
        Ok(headers) => {
            let date = server_time::date_of(&headers);
            let skew = date.map(|date| skew(asked, date, clock.wall_now()));
            (
                Line::ok("endpoint", format_args!("{url} answers")),
                Some(Server { skew }),
            )
        }
        Err(error) => {
            let error = error_chain(&error.without_url());
            let advice = match endpoint {
                Endpoint::Google => "check this machine's network, DNS and firewall",
                Endpoint::Emulator { .. } => "start the emulator, or unset PUBSUB_EMULATOR_HOST",
                Endpoint::Named { .. } => "check the network, and pubsub.endpoint",
            };
            (
                Line::fail("endpoint", format_args!("{url}: {error}; {advice}")),
                None,
            )
        }
    }
}

/// How far our clock is ahead of one that showed `date` between two of our readings.
fn skew(asked: DateTime<Utc>, date: DateTime<Utc>, answered: DateTime<Utc>) -> TimeDelta {
    if date < asked {
        asked - date
    } else {
        answered.min(date) - date
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_is_no_skew() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        for (asked, date, answered, seconds) in [
            (10, 10, 10, 0),
            (10, 15, 20, 0),
            (10, 4, 20, 6),
            (10, 23, 20, -3),
        ] {
            let skew = skew(at(asked), at(date), at(answered));
            assert_eq!(skew, TimeDelta::seconds(seconds));
        }
    }
}
