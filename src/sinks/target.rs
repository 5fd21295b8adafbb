//! The closed list of what delivers records.

use super::file::FileSink;
use super::stdout::Stdout;
use crate::config;
use crate::store::JournalRow;

/// Where records go.
#[derive(Debug)]
pub(super) enum Target {
    Stdout(Stdout),
    File(FileSink),
}

impl Target {
    pub(super) fn new(settings: &config::Sink) -> Self {
        match &settings.kind {
            config::SinkKind::Stdout => Self::Stdout(Stdout),
            config::SinkKind::File(settings) => Self::File(FileSink::new(settings)),
        }
    }

    /// Delivers records in order, all or an error: then an unknown number of them is delivered.
    pub(super) fn deliver(&mut self, rows: &[&JournalRow]) -> Result<(), String> {
        match self {
            Self::Stdout(stdout) => stdout.deliver(rows).map_err(|error| error.to_string()),
            Self::File(file) => file.deliver(rows).map_err(|error| error.to_string()),
        }
    }

    /// No more records come.
    pub(super) fn close(&mut self) -> Result<(), String> {
        match self {
            Self::Stdout(_) => Ok(()),
            Self::File(file) => file.close().map_err(|error| error.to_string()),
        }
    }
}
