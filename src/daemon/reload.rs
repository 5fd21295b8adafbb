//! SIGHUP: reads the settings again and applies those that can change while the service runs.
//!
//! On any fault everything stays as it was. Logs which settings changed, never their values.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::{Faults, Settings};
use crate::telemetry::LevelHandle;

/// The settings that take effect at once. All others are read at the start alone.
const LIVE: [&str; 1] = ["log.level"];

/// Where the settings come from, and what runs by them.
#[derive(Debug)]
pub struct Reload {
    /// The settings that the service runs with.
    running: Settings,
    path: Option<PathBuf>,
    environment: BTreeMap<String, String>,
    level: LevelHandle,
}

impl Reload {
    /// The service runs with `running`, which came from the file at `path` (without one: from the
    /// environment alone) and this environment.
    pub fn new(
        running: Settings,
        path: Option<PathBuf>,
        environment: BTreeMap<String, String>,
        level: LevelHandle,
    ) -> Self {
        Self {
            running,
            path,
            environment,
            level,
        }
    }

    /// Reads the settings again, applies what it can, and logs what came of it.
    pub(super) fn run(&mut self) {
        let new = match self.read() {
            Ok(new) => new,
            Err(faults) => {
                for fault in faults.as_slice() {
                    tracing::error!("the settings stay as they were: {fault}");
                }
                return;
            }
        };
        let changed = self.running.changed_keys(&new);
        let (live, others): (Vec<_>, Vec<_>) = changed
            .iter()
            .map(String::as_str)
            .partition(|key| LIVE.contains(key));
        self.level.set(new.log.level);
        self.running.log.level = new.log.level;
        if changed.is_empty() {
            tracing::info!("read the settings again: nothing changed");
        }
        if !live.is_empty() {
            tracing::info!(
                "read the settings again, now in effect: {}",
                live.join(", ")
            );
        }
        if !others.is_empty() {
            tracing::warn!(
                "read the settings again, needs a restart: {}",
                others.join(", ")
            );
        }
    }

    fn read(&self) -> Result<Settings, Faults> {
        Settings::load_with_pubsub(self.path.as_deref(), &self.environment)
    }
}
