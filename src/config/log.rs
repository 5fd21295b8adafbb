//! `[log]`: hearthd's own log.

use serde::Serialize;
use strum::{IntoStaticStr, VariantArray};

use super::table::Table;

/// `[log]`: hearthd's own log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Log {
    /// How a line is written. Default text.
    pub format: LogFormat,
    /// The least grave level that is written. Too high hides what happened; too low fills the disk.
    /// Default info.
    pub level: LogLevel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines, one object a line.
    Json,
}

/// How grave a log line is; the table in `telemetry` says which lines have which level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Log {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        Self {
            format: table.choice("format").unwrap_or(LogFormat::Text),
            level: table.choice("level").unwrap_or(LogLevel::Info),
        }
    }
}
