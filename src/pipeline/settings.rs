//! What the pipeline depends on, of all settings.

use crate::config::Settings;
use crate::engine::EngineSettings;
use crate::engine::notifications::ThreadSettings;
use crate::platforms::DecodeSettings;
use crate::store::Retention;

/// What the pipeline depends on.
#[derive(Clone, Debug)]
pub struct PipelineSettings {
    pub decode: DecodeSettings,
    pub engine: EngineSettings,
    pub retention: Retention,
}

impl From<&Settings> for PipelineSettings {
    fn from(settings: &Settings) -> Self {
        Self {
            decode: DecodeSettings {
                enterprise: settings.sdm.enterprise.clone(),
            },
            engine: EngineSettings {
                horizon: settings.dedupe.horizon,
                dedupe_cache: settings.dedupe.cache_entries,
                hold: settings.reorder.hold,
                max_pending: settings.reorder.max_pending_events,
                threads: ThreadSettings {
                    max_alert_age: settings.notifications.max_alert_age,
                    thread_timeout: settings.notifications.thread_timeout,
                    session_quiet: settings.notifications.session_quiet,
                },
            },
            retention: Retention {
                horizon: settings.dedupe.horizon,
                journal_age: settings.store.journal_max_age,
                journal_bytes: settings.store.journal_max_size,
            },
        }
    }
}
