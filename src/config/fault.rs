//! What is wrong with the settings: one fault per line, all of them at once.

use std::collections::BTreeMap;
use std::fmt;

/// The settings that a variable gave (`reorder.hold`), each with the variable's name.
pub(super) type Overrides = BTreeMap<String, String>;

/// One thing that is wrong with the settings. Prints one line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{key}: {message}")]
pub struct Fault {
    /// The setting (`reorder.hold`, `sinks[0].name`), variable or file that is at fault.
    pub key: String,
    /// What is wrong with it and what to write instead, in one line.
    pub message: String,
}

impl Fault {
    /// A fault of a setting; names the variable if one gave the value.
    pub(super) fn of_setting(
        key: String,
        message: impl fmt::Display,
        overrides: &Overrides,
    ) -> Self {
        let message = match overrides.get(&key) {
            Some(variable) => format!("{message} (from {variable})"),
            None => message.to_string(),
        };
        Self { key, message }
    }
}

/// Every fault of the settings. Prints one line per fault, sorted by key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn new(mut faults: Vec<Fault>) -> Self {
        faults.sort();
        Self(faults)
    }

    pub fn as_slice(&self) -> &[Fault] {
        &self.0
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

fn lines(faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
    lines.join("\n")
}
