//! Sees what the client library doesn't show: that Pub/Sub is out of reach, that a stream is dead
//! though it looks open, that the key file changed, that nobody publishes any more.
//!
//! It never pulls. It asks the streams' own tasks to open them again.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::auth;
use super::hosting::{Daily, Hosting, MOVE_TO_OWN_TOPIC};
use super::probe::{Finding, Probe};
use super::shared::Shared;
use super::stream_event::{AuthStage, Reopen, StreamEvent};
use super::stream_state::StreamState;
use crate::event::ClockTime;
use crate::text::error_chain;

/// Longest time between two looks: the key file and the silence are checked as often.
const TICK: Duration = Duration::from_secs(1);
/// A stream that has waited so long is open: the library's first attempts that fail are over in
/// less, and the fourth ends the stream.
const OPENED_AFTER: Duration = Duration::from_secs(3);
/// Time between two looks at the topic while streams work: it is changed once in years.
const TOPIC_LOOK_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest wait for a token: while the watchdog waits, it watches nothing. A token server that
/// works answers within a second; the streams themselves wait longer.
const TOKEN_LIMIT: Duration = Duration::from_secs(5);

/// See the module's documentation.
pub(super) struct Watchdog {
    shared: Arc<Shared>,
    states: Vec<Arc<StreamState>>,
    probe: Option<Probe>,
    next_probe: ClockTime,
    /// What the last probe found; `None` before the first.
    reachable: Option<bool>,
    key: Option<Key>,
    is_silent: bool,
    /// When the subscription is asked for though the streams work: its topic may be another.
    next_topic_look: ClockTime,
    topic_warning: Daily,
}

/// The credentials file.
struct Key {
    path: PathBuf,
    /// The version that was reloaded last, or that is no good.
    seen: Option<Stamp>,
    /// Not before then is one tried that there was no token for.
    next_try: ClockTime,
}

/// Tells one version of a file from another: a new file has another inode, and one that was
/// written, or that somebody else may read now, another time of change.
type Stamp = (u64, u64, i64, i64);

impl Key {
    fn new(path: PathBuf) -> Self {
        let seen = stamp(&path);
        Self {
            path,
            seen,
            next_try: ClockTime::default(),
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    Some((found.ino(), found.len(), found.ctime(), found.ctime_nsec()))
}

impl Watchdog {
    pub(super) fn new(shared: Arc<Shared>, states: Vec<Arc<StreamState>>) -> Self {
        let key = auth::key_file(&shared.settings).map(Key::new);
        let next_probe = shared.clock.now();
        let next_topic_look = next_probe.after(shared.settings.probe_interval);
        Self {
            shared,
            states,
            probe: None,
            next_probe,
            reachable: None,
            key,
            is_silent: false,
            next_topic_look,
            topic_warning: Daily::default(),
        }
    }

    /// Watches until it is dropped.
    pub(super) async fn run(mut self) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(TICK.min(self.shared.settings.probe_interval / 2)).await;
            self.look_at_key().await;
            self.probe_if_due().await;
            self.end_idle_streams();
            self.look_for_silence();
        }
    }

    /// Reloads a key file that changed, once it is good.
    async fn look_at_key(&mut self) {
        let Some(key) = &mut self.key else { return };
        let found = stamp(&key.path);
        let now = self.shared.clock.now();
        if found == key.seen || now < key.next_try {
            return;
        }
        let path = key.path.display();
        let error = match auth::credentials(&self.shared.settings, TOKEN_LIMIT).await {
            Ok(_) => {
                tracing::info!(%path, "the credentials file changed: streams are opened with it");
                key.seen = found;
                self.probe = None;
                self.states
                    .iter()
                    .for_each(|state| state.reopen(Reopen::NewKey));
                return;
            }
            Err(error) => error,
        };
        if let Some(stage) = error.auth_stage() {
            self.shared.auth_failed(stage);
        }
        let cause = error_chain(&error);
        if error.is_configuration() {
            key.seen = found;
            tracing::error!(
                error = cause,
                "the credentials file changed and is no good: kept the old"
            );
        } else {
            let wait = self.shared.settings.probe_interval;
            key.next_try = now.after(wait);
            let retry_in_s = wait.as_secs_f64();
            tracing::warn!(
                error = cause,
                retry_in_s,
                "the credentials file changed, and there is no token for it yet: kept the old"
            );
        }
    }

    async fn probe_if_due(&mut self) {
        let settings = &self.shared.settings;
        let interval = settings.probe_interval;
        let started = self.shared.clock.now();
        let is_in_doubt = |state: &Arc<StreamState>| {
            state.waiting(started) >= interval || state.down(started) >= interval.min(OPENED_AFTER)
        };
        let is_wanted = started >= self.next_topic_look || self.states.iter().any(is_in_doubt);
        if started < self.next_probe || !is_wanted {
            return;
        }
        let finding = self.ask().await;
        let now = self.shared.clock.now();
        self.next_probe = now.after(interval);
        self.report(&finding);
        let is_reachable = self.reachable == Some(true);
        self.next_topic_look = now.after(if is_reachable {
            TOPIC_LOOK_INTERVAL
        } else {
            interval
        });
        if let Finding::Found(subscription) = &finding {
            self.look_at_topic(&subscription.topic);
        }
        for state in &self.states {
            if is_reachable && state.waiting(now) >= OPENED_AFTER {
                state.set_up(true);
            } else if !is_reachable && state.waiting(now) >= interval {
                state.reopen(Reopen::Unreachable);
            }
        }
    }

    /// Asks with a client of its own, which is built anew after a failure.
    async fn ask(&mut self) -> Finding {
        if let Some(probe) = self.probe.take() {
            let finding = probe.ask().await;
            if !matches!(finding, Finding::Unreachable(_) | Finding::NoToken(..)) {
                self.probe = Some(probe);
                return finding;
            }
        }
        let built = match auth::credentials(&self.shared.settings, TOKEN_LIMIT).await {
            Ok(credentials) => Probe::new(&self.shared.settings, credentials).await,
            Err(error) => {
                let text = error_chain(&error);
                return match error.auth_stage() {
                    Some(stage) => Finding::NoToken(stage, text),
                    None => Finding::Unreachable(text),
                };
            }
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
        let subscription = self.shared.settings.subscription.as_str();
        let is_reachable = match finding {
            Finding::Found(_) | Finding::NotFound | Finding::Forbidden => {
                self.shared.token_accepted();
                true
            }
            Finding::Unauthenticated(_) => {
                self.shared.auth_failed(AuthStage::Request);
                true
            }
            Finding::NoToken(stage, _) => {
                self.shared.auth_failed(*stage);
                false
            }
            Finding::Unreachable(_) => false,
        };
        self.shared
            .emit_stream_event(StreamEvent::Reachable(is_reachable));
        if self.reachable.replace(is_reachable) == Some(is_reachable) {
            return;
        }
        match finding {
            Finding::Unreachable(error) => {
                tracing::warn!(subscription, error, "Pub/Sub can't be reached");
            }
            Finding::NoToken(_, error) => {
                tracing::warn!(subscription, error, "there is no token to ask Pub/Sub with");
            }
            Finding::Unauthenticated(error) => {
                tracing::warn!(
                    subscription,
                    error,
                    "Pub/Sub answers, and refuses the token"
                );
            }
            Finding::NotFound => tracing::warn!(subscription, "Pub/Sub knows no such subscription"),
            Finding::Found(_) | Finding::Forbidden => {
                tracing::info!(subscription, "Pub/Sub answers");
            }
        }
    }

    /// Shows whether Google hosts the topic, and warns of its end once a day.
    fn look_at_topic(&mut self, topic: &str) {
        let hosting = Hosting::of(topic, self.shared.clock.wall_now());
        self.shared
            .emit_stream_event(StreamEvent::TopicHosted(hosting.is_hosted()));
        let now = self.shared.clock.now();
        if !hosting.is_hosted() || !self.topic_warning.is_due(now) {
            return;
        }
        let subscription = self.shared.settings.subscription.as_str();
        match hosting {
            Hosting::Own => {}
            Hosting::Google { days_left } => tracing::warn!(
                subscription,
                topic,
                days_left,
                "Google publishes nothing to this topic after 30 November 2026 (UTC); \
                 {MOVE_TO_OWN_TOPIC}"
            ),
            Hosting::GoogleEnded => tracing::error!(
                subscription,
                topic,
                "Google publishes nothing to this topic since 1 December 2026 (UTC); \
                 {MOVE_TO_OWN_TOPIC}"
            ),
        }
    }

    fn end_idle_streams(&self) {
        let now = self.shared.clock.now();
        for state in &self.states {
            if state.waiting(now) >= self.shared.settings.idle_reopen {
                state.reopen(Reopen::Idle);
            }
        }
    }

    /// Warns once of a silence, and says when it is over.
    fn look_for_silence(&mut self) {
        let limit = self.shared.settings.silence_warning;
        let silent_for = self.shared.clock.now().since(self.shared.last_message());
        let is_silent = silent_for >= limit;
        if self.is_silent == is_silent {
            return;
        }
        self.is_silent = is_silent;
        self.shared
            .emit_stream_event(StreamEvent::Silence(is_silent));
        let subscription = self.shared.settings.subscription.as_str();
        let for_s = silent_for.as_secs();
        if !is_silent {
            tracing::info!(subscription, "messages come again");
        } else if self.reachable == Some(false) {
            tracing::warn!(
                subscription,
                for_s,
                "no message came, as Pub/Sub can't be reached"
            );
        } else {
            tracing::warn!(
                subscription,
                for_s,
                "Pub/Sub answers, but no message came. Usual causes: the user's authorisation has \
                 lapsed or was revoked (list the devices once with a fresh one); \
                 sdm-publisher@googlegroups.com lacks roles/pubsub.publisher on a topic of your \
                 own; a device's events are turned off in the Google Home app; the topic is one \
                 that Google hosts (projects/sdm-prod/…), to which nothing is published after 30 \
                 November 2026; the Device Access console names another topic than that of the \
                 subscription. A home where nothing happens is silent too",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_that_somebody_else_may_read_is_another_version() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        assert_eq!(stamp(&path), None);
        fs::write(&path, "{}").unwrap();
        let before = stamp(&path).unwrap();
        assert_eq!(stamp(&path), Some(before));
        // The clock of files may tick as rarely as every 10 ms.
        let mut ticks = (0..1000).map(|_| {
            std::thread::park_timeout(Duration::from_millis(1));
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            stamp(&path)
        });
        assert!(ticks.any(|now| now.is_some_and(|now| now != before)));
    }
}
