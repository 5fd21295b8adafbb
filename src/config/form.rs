//! The settings' outer form: a TOML file and `HEARTHD_…` variables become tables of raw values.
//!
//! Every fault is collected, so that one look shows all of them. This file alone knows the format
//! and the names of variables. It must not know a single key, or what a setting is for.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use ::config::{Config, ConfigError, Environment, FileFormat, Map, Source, Value, ValueKind};

use super::fault::{Fault, Faults, Overrides};
use super::table::{Table, shown, shown_key};

/// The tables that a file may hold and a variable may reach into.
const TABLES: [&str; 8] = [
    "pubsub",
    "sdm",
    "store",
    "dedupe",
    "reorder",
    "notifications",
    "http",
    "log",
];
/// The lists of tables that a file may hold; no variable reaches into them.
const LISTS: [&str; 1] = ["sinks"];
/// What the name of every variable of ours begins with.
const PREFIX: &str = "HEARTHD_";
/// What stands between table and key in a variable's name, as keys themselves have underscores.
const SEPARATOR: &str = "__";

/// The merged tables of file and environment, with the faults found in them so far.
pub(super) struct Form {
    parts: Map<String, Value>,
    overrides: Overrides,
    faults: Vec<Fault>,
}

impl Form {
    /// Reads the file, if there is one, and lays the environment over it. Fails if the file cannot
    /// be read or is not TOML, as then nothing can be said about single settings.
    pub(super) fn load(
        path: Option<&Path>,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let variables = accepted_variables(environment, &mut faults);
        let overrides = variables
            .keys()
            .map(|name| (setting_of(name), name.clone()))
            .collect();
        let merged = path
            .map_or(Ok(Map::new()), read_toml)
            .and_then(|mut parts| {
                refuse_unknown_parts(&mut parts, &mut faults);
                merge(parts, variables)
            });
        match merged {
            Ok(parts) => Ok(Self {
                parts,
                overrides,
                faults,
            }),
            Err(fault) => {
                faults.push(fault);
                Err(Faults::new(faults))
            }
        }
    }

    /// True if the file or a variable gave this table.
    pub(super) fn has(&self, name: &str) -> bool {
        self.parts.contains_key(name)
    }

    /// What `read` makes of one table; a missing one is empty.
    pub(super) fn table<T>(&mut self, name: &str, read: impl FnOnce(&mut Table<'_>) -> T) -> T {
        let values = match self.parts.remove(name).map(|value| value.kind) {
            Some(ValueKind::Table(values)) => values,
            // Other kinds were refused while loading.
            Some(_) | None => Map::new(),
        };
        Table::read(
            name.to_owned(),
            values,
            &self.overrides,
            &mut self.faults,
            read,
        )
    }

    /// Reads a list of tables, one after the other.
    pub(super) fn list<T>(
        &mut self,
        name: &str,
        mut read: impl FnMut(&mut Table<'_>) -> T,
    ) -> Vec<T> {
        let Some(ValueKind::Array(values)) = self.parts.remove(name).map(|value| value.kind) else {
            return Vec::new();
        };
        let mut results = Vec::new();
        for (index, value) in values.into_iter().enumerate() {
            let path = format!("{name}[{index}]");
            if let ValueKind::Table(values) = value.kind {
                let result =
                    Table::read(path, values, &self.overrides, &mut self.faults, &mut read);
                results.push(result);
            } else {
                let message = format!("expected a table, found {}", shown(&value));
                self.faults.push(Fault { key: path, message });
            }
        }
        results
    }

    /// Notes a fault that another reader found.
    pub(super) fn fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Notes a fault of a setting that was read before, such as `reorder.hold`.
    pub(super) fn fault_of(&mut self, setting: &str, message: impl fmt::Display) {
        let fault = Fault::of_setting(setting.to_owned(), message, &self.overrides);
        self.faults.push(fault);
    }

    /// Fails with every fault, if there is one.
    pub(super) fn finish(self) -> Result<(), Faults> {
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(Faults::new(self.faults))
        }
    }
}

/// The variables that name a setting, in form; all others with our prefix are faults.
fn accepted_variables(
    environment: &BTreeMap<String, String>,
    faults: &mut Vec<Fault>,
) -> BTreeMap<String, String> {
    let ours = environment
        .iter()
        .filter(|(name, _)| name.starts_with(PREFIX));
    let (accepted, refused): (BTreeMap<_, _>, BTreeMap<_, _>) = ours
        .filter(|(name, value)| !is_service_link(name, value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .partition(|(name, _)| names_setting(name));
    for name in refused.into_keys() {
        let message = format!(
            "unknown variable, expected {PREFIX}{{TABLE}}{SEPARATOR}{{KEY}} in capitals, \
             the table being one of: {} (lists such as sinks are set in the file)",
            TABLES.join(", ")
        );
        faults.push(Fault {
            key: shown_key(&name),
            message,
        });
    }
    accepted
}

/// True for a name such as `HEARTHD_REORDER__HOLD`. Whether the table has such a key shows when it
/// is read.
fn names_setting(name: &str) -> bool {
    let parts = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once(SEPARATOR));
    parts.is_some_and(|(table, key)| {
        TABLES
            .iter()
            .any(|known| known.to_ascii_uppercase() == table)
            && key.starts_with(|first: char| first.is_ascii_uppercase())
            && key
                .chars()
                .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
            && !key.contains(SEPARATOR)
    })
}

/// True for the variables that Kubernetes gives every pod beside a service named `hearthd…`, such
/// as `HEARTHD_PORT_9464_TCP_ADDR`: nobody wrote them, so they must not stop the start.
fn is_service_link(name: &str, value: &str) -> bool {
    let link = name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_PORT_")
        // Only with a URL, so that a guess such as `HEARTHD_HTTP_PORT=9464` is still a fault.
        || (name.ends_with("_PORT") && value.contains("://"));
    link && !name.contains(SEPARATOR)
}

fn setting_of(variable: &str) -> String {
    variable
        .replacen(PREFIX, "", 1)
        .replacen(SEPARATOR, ".", 1)
        .to_ascii_lowercase()
}

fn read_toml(path: &Path) -> Result<Map<String, Value>, Fault> {
    let fault = |message| Fault {
        key: path.display().to_string(),
        message,
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| fault(format!("failed to read the settings file: {error}")))?;
    let parsed = ::config::File::from_str(&text, FileFormat::Toml).collect();
    parsed.map_err(|error| {
        fault(format!(
            "failed to parse the settings file: {}",
            one_line(&error)
        ))
    })
}

/// The parser draws the faulty line over several lines: keeps the first (the place) and the last
/// (the reason).
fn one_line(error: &ConfigError) -> String {
    // The cause alone: the library's own wrapping adds nothing for a text without a name.
    let text = if let ConfigError::FileParse { cause, .. } = error {
        cause.to_string()
    } else {
        error.to_string()
    };
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    match (lines.next(), lines.next_back()) {
        (Some(place), Some(reason)) => format!("{place}: {reason}"),
        (first, _) => first.unwrap_or("no reason given").to_owned(),
    }
}

/// Takes out what is no table of ours, before the merge could take its name for a path or hide its
/// kind.
fn refuse_unknown_parts(parts: &mut Map<String, Value>, faults: &mut Vec<Fault>) {
    parts.retain(|name, value| {
        let message = if TABLES.contains(&name.as_str()) {
            let right = matches!(value.kind, ValueKind::Table(_));
            (!right).then(|| format!("expected a table, [{name}], found {}", shown(value)))
        } else if LISTS.contains(&name.as_str()) {
            let right = matches!(value.kind, ValueKind::Array(_));
            (!right).then(|| {
                format!(
                    "expected a list of tables, [[{name}]], found {}",
                    shown(value)
                )
            })
        } else {
            let known = [&TABLES[..], &LISTS[..]].concat().join(", ");
            Some(format!("unknown table or key, expected one of: {known}"))
        };
        let right = message.is_none();
        let key = shown_key(name);
        faults.extend(message.map(|message| Fault { key, message }));
        right
    });
}

/// Lays the variables over the file's tables.
fn merge(
    parts: Map<String, Value>,
    variables: BTreeMap<String, String>,
) -> Result<Map<String, Value>, Fault> {
    let fault = |error: ConfigError| Fault {
        key: "settings".to_owned(),
        message: format!("failed to merge: {error}"),
    };
    let variables = Environment::with_prefix(PREFIX.trim_end_matches('_'))
        .prefix_separator("_")
        .separator(SEPARATOR)
        .source(Some(variables.into_iter().collect()));
    let file = parts
        .into_iter()
        .try_fold(Config::builder(), |builder, (name, table)| {
            builder.set_default(name, table)
        })
        .map_err(fault)?;
    file.add_source(variables)
        .build()
        .and_then(|merged| merged.collect())
        .map_err(fault)
}
