//! What all streams of the source share: the settings, the clock, and what is known of the
//! credentials and of messages.
//!
//! Tells the metrics; decides and waits for nothing.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use google_cloud_auth::credentials::CacheableResource;
use google_cloud_auth::errors::CredentialsError;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::Value;

use super::stream_event::{AuthStage, StreamEvent};
use crate::clock::Clock;
use crate::config;
use crate::event::ClockTime;
use crate::sources::event::{SourceChange, SourceEvent};
use crate::sources::message::SourceId;

/// See the module's documentation.
pub(super) struct Shared {
    pub(super) source: SourceId,
    pub(super) settings: config::Pubsub,
    pub(super) clock: Clock,
    events: Box<dyn Fn(SourceEvent) + Send + Sync>,
    /// Google refused a token, and has accepted none since.
    rejected: AtomicBool,
    last_message: AtomicI64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(
        source: SourceId,
        settings: config::Pubsub,
        clock: Clock,
        events: impl Fn(SourceEvent) + Send + Sync + 'static,
    ) -> Self {
        // Silence is counted from the start.
        let last_message = AtomicI64::new(clock.now().0);
        let rejected = AtomicBool::new(false);
        Self {
            source,
            settings,
            clock,
            events: Box::new(events),
            rejected,
            last_message,
        }
    }

    pub(super) fn emit(&self, change: SourceChange) {
        let source = self.source.clone();
        (self.events)(SourceEvent { source, change });
    }

    pub(super) fn emit_stream_event(&self, event: StreamEvent) {
        self.emit(SourceChange::Pubsub(event));
    }

    pub(super) fn message_received(&self) {
        self.last_message.store(self.clock.now().0, Relaxed);
        self.emit(SourceChange::Received);
    }

    /// When the last message came; if none did, when the source was made.
    pub(super) fn last_message(&self) -> ClockTime {
        ClockTime(self.last_message.load(Relaxed))
    }

    /// Credentials were asked for a token.
    pub(super) fn observe_token(
        &self,
        headers: &Result<CacheableResource<HeaderMap>, CredentialsError>,
    ) {
        match headers {
            // That there is a token says nothing where the last one was refused.
            Ok(_) if self.rejected.load(Relaxed) => {}
            Ok(CacheableResource::New { data, .. }) => {
                self.emit_stream_event(StreamEvent::TokenOk {
                    expiry: expiry_of(data),
                });
            }
            Ok(CacheableResource::NotModified) => {}
            Err(_) => self.emit_stream_event(StreamEvent::AuthFailed {
                stage: AuthStage::Token,
            }),
        }
    }

    /// The credentials failed.
    pub(super) fn auth_failed(&self, stage: AuthStage) {
        if stage == AuthStage::Request {
            self.rejected.store(true, Relaxed);
        }
        self.emit_stream_event(StreamEvent::AuthFailed { stage });
    }

    /// Google took a token.
    pub(super) fn token_accepted(&self) {
        if self.rejected.swap(false, Relaxed) {
            tracing::info!("Google accepts the credentials again");
            self.emit_stream_event(StreamEvent::TokenOk { expiry: None });
        }
    }
}

/// When the token in these headers expires, in seconds since the Unix epoch; `None` if it doesn't
/// say, as those of metadata and token servers don't.
pub fn expiry_of(headers: &HeaderMap) -> Option<i64> {
    let token = headers
        .get(AUTHORIZATION)?
        .to_str()
        .ok()?
        .strip_prefix("Bearer ")?;
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Value>(&claims)
        .ok()?
        .get("exp")?
        .as_i64()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use google_cloud_auth::credentials::EntityTag;

    use super::*;
    use crate::config::Settings;

    #[test]
    fn a_refused_token_is_not_made_good_by_another_one_but_by_being_accepted() {
        let subscription = "projects/p/subscriptions/s".to_owned();
        let environment = [("HEARTHD_PUBSUB__SUBSCRIPTION".to_owned(), subscription)];
        let settings = Settings::load(None, &environment.into())
            .unwrap()
            .pubsub
            .unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let events = Arc::clone(&seen);
        let clock = Clock::start(ClockTime::default());
        let shared = Shared::new(SourceId::pubsub(), settings, clock, move |event| {
            events.lock().unwrap().push(event.change)
        });
        let token = || {
            let data = HeaderMap::new();
            shared.observe_token(&Ok(CacheableResource::New {
                entity_tag: EntityTag::new(),
                data,
            }));
            std::mem::take(&mut *seen.lock().unwrap())
        };
        let good = SourceChange::Pubsub(StreamEvent::TokenOk { expiry: None });
        assert_eq!(token(), [good]);
        shared.auth_failed(AuthStage::Request);
        assert_eq!(
            token(),
            [SourceChange::Pubsub(StreamEvent::AuthFailed {
                stage: AuthStage::Request
            })]
        );
        shared.token_accepted();
        assert_eq!(token(), [good, good]);
    }

    #[test]
    fn a_signed_token_says_when_it_expires() {
        let headers = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            headers
        };
        let claims = URL_SAFE_NO_PAD.encode(r#"{"aud":null,"exp":1700003610}"#);
        assert_eq!(
            expiry_of(&headers(&format!("Bearer e30.{claims}.c2ln"))),
            Some(1_700_003_610)
        );
        for opaque in [
            "Bearer ya29.abc",
            "Bearer abc",
            "Basic e30.e30.e30",
            "Bearer e30.e30.x",
        ] {
            assert_eq!(expiry_of(&headers(opaque)), None, "{opaque}");
        }
        assert_eq!(expiry_of(&HeaderMap::new()), None);
    }
}
