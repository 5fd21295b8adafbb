//! Sees what the client library doesn't show: that Pub/Sub is out of reach, that a stream is dead
//! though it looks open, that the key file changed, that nobody publishes any more.
//!
//! It never pulls. It ends streams by interrupting them; their own tasks open them again.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::auth;
use super::context::Context;
use super::error::error_chain;
use super::link::Link;
use super::probe::{Finding, Probe};
use super::status::{AuthStage, Interrupt, SourceEvent};
use crate::event::ClockTime;

/// Longest time between two looks: the key file and the silence are checked as often.
const TICK: Duration = Duration::from_secs(1);
/// A stream that has waited so long is open: the library's first attempts that fail are over in
/// less, and the fourth ends the stream.
const OPENED_AFTER: Duration = Duration::from_secs(3);

/// See the module's documentation.
pub(super) struct Watchdog {
    context: Arc<Context>,
    links: Vec<Arc<Link>>,
    probe: Option<Probe>,
    next_probe: ClockTime,
    /// What the last probe found; `None` before the first.
    reachable: Option<bool>,
    key: Option<Key>,
    is_silent: bool,
}

/// The credentials file, as it was when it was last looked at.
struct Key {
    path: PathBuf,
    seen: Option<Stamp>,
}

/// Tells one version of a file from another: a new file has another inode, a written one another
/// time.
type Stamp = (u64, u64, Option<SystemTime>);

impl Key {
    fn stamp(&self) -> Option<Stamp> {
        let found = fs::metadata(&self.path).ok()?;
        Some((found.ino(), found.len(), found.modified().ok()))
    }
}

impl Watchdog {
    pub(super) fn new(context: Arc<Context>, links: Vec<Arc<Link>>) -> Self {
        let key = auth::key_file(&context.settings).map(|path| {
            let mut key = Key { path, seen: None };
            key.seen = key.stamp();
            key
        });
        let next_probe = context.clock.now();
        Self { context, links, probe: None, next_probe, reachable: None, key, is_silent: false }
    }

    /// Watches until it is dropped.
    pub(super) async fn run(mut self) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(TICK.min(self.context.settings.probe_interval / 2)).await;
            self.look_at_key().await;
            self.probe_if_due().await;
            self.end_idle_streams();
            self.look_for_silence();
        }
    }

    /// Takes up a key file that changed, once it is good.
    async fn look_at_key(&mut self) {
        let Some(key) = &mut self.key else { return };
        let stamp = key.stamp();
        if stamp == key.seen {
            return;
        }
        key.seen = stamp;
        let path = key.path.display();
        match auth::credentials(&self.context.settings).await {
            Ok(_) => {
                tracing::info!(%path, "the credentials file changed: streams are opened with it");
                self.probe = None;
                self.links.iter().for_each(|link| link.interrupt(Interrupt::NewKey));
            }
            Err(error) => {
                let error = error_chain(&error);
                tracing::error!(error, "the credentials file changed and is no good: kept the old");
                self.context.auth_failed(AuthStage::Credentials);
            }
        }
    }

    async fn probe_if_due(&mut self) {
        let settings = &self.context.settings;
        let (interval, started) = (settings.probe_interval, self.context.clock.now());
        let is_in_doubt = |link: &Arc<Link>| {
            link.waiting(started) >= interval || link.down(started) >= interval.min(OPENED_AFTER)
        };
        if started < self.next_probe || !self.links.iter().any(is_in_doubt) {
            return;
        }
        let finding = self.ask().await;
        let now = self.context.clock.now();
        self.next_probe = now.after(interval);
        self.report(&finding);
        let is_reachable = self.reachable == Some(true);
        for link in &self.links {
            if is_reachable && link.waiting(now) >= OPENED_AFTER {
                link.set_up(true);
            } else if !is_reachable && link.waiting(now) >= interval {
                link.interrupt(Interrupt::Unreachable);
            }
        }
    }

    /// Asks with a client of its own, which is built anew after a failure.
    async fn ask(&mut self) -> Finding {
        if let Some(probe) = self.probe.take() {
            let finding = probe.ask().await;
            if !matches!(finding, Finding::Unreachable(_) | Finding::NoToken(_)) {
                self.probe = Some(probe);
                return finding;
            }
        }
        let built = match auth::credentials(&self.context.settings).await {
            Ok(credentials) => Probe::new(&self.context.settings, credentials).await,
            Err(error) => return Finding::NoToken(error_chain(&error)),
        };
        match built {
            Ok(probe) => {
                let finding = probe.ask().await;
                self.probe = Some(probe);
                finding
            }
            Err(error) => Finding::Unreachable(error_chain(&error)),
        }
    }

    /// Tells metrics and log, the log only of changes.
    fn report(&mut self, finding: &Finding) {
        let subscription = self.context.settings.subscription.as_str();
        let is_reachable = match finding {
            Finding::Found(_) | Finding::NotFound | Finding::Forbidden => {
                self.context.token_accepted();
                true
            }
            Finding::Unauthenticated(_) => {
                self.context.auth_failed(AuthStage::Request);
                true
            }
            Finding::NoToken(_) => {
                self.context.auth_failed(AuthStage::Token);
                false
            }
            Finding::Unreachable(_) => false,
        };
        self.context.emit(SourceEvent::Reachable(is_reachable));
        if self.reachable.replace(is_reachable) == Some(is_reachable) {
            return;
        }
        match finding {
            Finding::Unreachable(error) | Finding::NoToken(error) => {
                tracing::warn!(subscription, error, "Pub/Sub can't be reached");
            }
            Finding::Unauthenticated(error) => {
                tracing::warn!(subscription, error, "Pub/Sub answers, and refuses the token");
            }
            Finding::NotFound => tracing::warn!(subscription, "Pub/Sub knows no such subscription"),
            Finding::Found(_) | Finding::Forbidden => {
                tracing::info!(subscription, "Pub/Sub answers");
            }
        }
    }

    fn end_idle_streams(&self) {
        let now = self.context.clock.now();
        for link in &self.links {
            if link.waiting(now) >= self.context.settings.idle_reopen {
                link.interrupt(Interrupt::Idle);
            }
        }
    }

    /// Warns once of a silence, and says when it is over.
    fn look_for_silence(&mut self) {
        let limit = self.context.settings.silence_warning;
        let silent_for = self.context.clock.now().since(self.context.last_message());
        let is_silent = silent_for >= limit;
        if self.is_silent == is_silent {
            return;
        }
        self.is_silent = is_silent;
        self.context.emit(SourceEvent::Silence(is_silent));
        let subscription = self.context.settings.subscription.as_str();
        let for_s = silent_for.as_secs();
        if !is_silent {
            tracing::info!(subscription, "messages come again");
        } else if self.reachable == Some(false) {
            tracing::warn!(subscription, for_s, "no message came, as Pub/Sub can't be reached");
        } else {
            tracing::warn!(
                subscription,
                for_s,
                "Pub/Sub answers, but no message came. Usual causes: the user's authorisation has \
                 lapsed or was revoked (list the devices once with a fresh one); \
                 sdm-publisher@googlegroups.com lacks roles/pubsub.publisher on a topic of your \
                 own; a device's events are turned off in the Google Home app; the topic is one \
                 that Google hosts (projects/sdm-prod/…), which end on 30 November 2026; the \
                 subscription is attached to another topic. A home where nothing happens is silent \
                 too",
            );
        }
    }
}
