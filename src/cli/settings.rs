//! Which settings file a command reads: the one that `--config` names, else the system's.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::config::{Faults, Settings};

/// The file that is read where `--config` names none, if it is there.
const SYSTEM_FILE: &str = "/etc/hearthd/hearthd.toml";

/// Options of every command that reads the settings.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ConfigArgs {
    /// Settings file; without it /etc/hearthd/hearthd.toml, or if that is not there, the
    /// environment alone
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Where settings come from, beside the environment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SettingsFile {
    Named(PathBuf),
    /// Nobody named it, so the user must be told.
    System(PathBuf),
    Nowhere,
}

impl ConfigArgs {
    /// As if `--config` named this file. An empty one, such as `/dev/null`, leaves the environment.
    pub fn of(file: impl Into<PathBuf>) -> Self {
        Self {
            config: Some(file.into()),
        }
    }

    pub(super) fn find(&self) -> SettingsFile {
        find(self.config.as_deref(), Path::new(SYSTEM_FILE))
    }

    /// Reads the settings; says on standard error where they come from, unless the user said it.
    pub(super) fn load(&self, environment: &BTreeMap<String, String>) -> Result<Settings, Faults> {
        let file = self.find();
        file.tell();
        Settings::load(file.path(), environment)
    }

    /// The same for commands that can't do without `[pubsub]`.
    pub(super) fn load_with_pubsub(
        &self,
        environment: &BTreeMap<String, String>,
    ) -> Result<Settings, Faults> {
        let file = self.find();
        file.tell();
        Settings::load_with_pubsub(file.path(), environment)
    }
}

fn find(named: Option<&Path>, system: &Path) -> SettingsFile {
    match named {
        Some(named) => SettingsFile::Named(named.to_owned()),
        // A file that can't be looked for may well be there: reading it says why it can't be.
        None if system.try_exists().unwrap_or(true) => SettingsFile::System(system.to_owned()),
        None => SettingsFile::Nowhere,
    }
}

impl SettingsFile {
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Named(path) | Self::System(path) => Some(path),
            Self::Nowhere => None,
        }
    }

    /// What to tell the user, if anything.
    pub(super) fn note(&self) -> Option<String> {
        match self {
            Self::System(path) => Some(format!(
                "settings are read from {}, as --config names no other file",
                path.display()
            )),
            Self::Named(_) | Self::Nowhere => None,
        }
    }

    /// Tells it on standard error.
    pub(super) fn tell(&self) {
        if let Some(note) = self.note() {
            // Without standard error there is nobody to tell, and no reason to stop.
            drop(writeln!(io::stderr(), "hearthd: {note}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_file_is_read_where_it_exists_and_no_other_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let system = folder.path().join("hearthd.toml");
        assert_eq!(find(None, &system), SettingsFile::Nowhere);
        std::fs::write(&system, "").unwrap();
        let found = find(None, &system);
        assert_eq!(found.path(), Some(&*system));
        let note = found.note().unwrap();
        assert!(note.contains(system.to_str().unwrap()), "{note}");
        let named = find(Some(Path::new("other.toml")), &system);
        assert_eq!(named, SettingsFile::Named("other.toml".into()));
        assert_eq!(named.note(), None);
    }

    #[test]
    fn a_systems_file_that_cannot_be_looked_for_is_not_passed_over() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let below_a_file = file.path().join("hearthd.toml");
        let found = find(None, &below_a_file);
        assert_eq!(found, SettingsFile::System(below_a_file));
    }
}
