//! `[[sinks]]`: who gets which records, and how.
//!
//! Every sink has the same few keys, and a table named after its kind with the keys of that kind. A
//! new kind is a variant of `SinkKind`, with a struct that reads its table where it has keys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use strum::{EnumDiscriminants, IntoStaticStr, VariantArray};

use super::limits::{DAY, Limits, MIB, MINUTE, seconds};
use super::table::{Table, names, words};
use crate::delivery::Pattern;
use crate::record::RecordKind;
use crate::text::quoted;

/// Longest name of a sink: it is a metric's label.
const NAME_MAX_CHARS: usize = 64;

/// Most names in one list of a filter. Each record is compared with all of them.
const FILTER_MAX_NAMES: usize = 256;

// Below a minute a short outage of the receiver costs records; nobody reads a year-old doorbell.
const MAX_AGE: Limits<Duration> = seconds(3 * DAY, MINUTE, 365 * DAY);

// A smaller file would be rotated several times a second in a flood; more than 1 TiB is a wrong
// unit.
const FILE_MAX_SIZE: Limits<u64> = Limits::new(64 * MIB, MIB, 1 << 40);
// Without an old file, records would be gone before a reader had them; each rotation renames all.
const FILE_KEEP: Limits<u32> = Limits::new(5, 1, 1_000);

/// What must not be used twice, with the table that has it.
#[derive(Default)]
pub(super) struct Taken {
    names: BTreeMap<String, String>,
    files: BTreeMap<PathBuf, String>,
}

/// One `[[sinks]]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sink {
    /// Name of the sink's place in the journal; a new name is a new sink. No default.
    pub name: String,
    /// What delivers. No default.
    pub kind: SinkKind,
    /// Which records are delivered, at least one. Default: notifications.
    pub records: Vec<RecordKind>,
    /// Where a new sink begins. Default: the end of the journal.
    pub from: StartFrom,
    /// Age at which a record that could not be delivered becomes a dead letter. Too low loses
    /// records in an outage of the receiver; too high floods it with old ones afterwards. Default
    /// 3 d.
    pub max_age: Duration,
    /// Which of the records are delivered. Default: all.
    pub filter: SinkFilter,
}

/// `[sinks.filter]`: an empty list asks for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SinkFilter {
    /// Names of devices, rooms or structures that records are about, or `prefix*`.
    pub resources: Vec<Pattern>,
    /// Names of structures that records belong to, or `prefix*`.
    pub structures: Vec<Pattern>,
    /// Kinds of notifications. Other records pass.
    pub kinds: Vec<String>,
    /// Of notifications, only the revisions that ring. Other records pass.
    pub alerts_only: bool,
}

/// What delivers a sink's records, with the settings of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, EnumDiscriminants)]
#[strum_discriminants(name(SinkKindName), vis(pub(self)))]
#[strum_discriminants(derive(IntoStaticStr, VariantArray))]
#[strum_discriminants(strum(serialize_all = "snake_case"))]
pub enum SinkKind {
    /// Standard output, one record a line.
    Stdout,
    /// A file, one record a line.
    File(SinkFile),
}

/// `[sinks.file]`: a file that is rotated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SinkFile {
    /// Where new records go. No default.
    pub path: PathBuf,
    /// Size from which the next record goes to a new file; one record may be larger. Bytes, default
    /// 64 MiB.
    pub max_size: u64,
    /// Old files that are kept, as `path.1` (the newest) and so on. Default 5.
    pub keep: u32,
}

/// Where in the journal a sink begins whose name is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum StartFrom {
    /// It gets what is recorded from now on: a week of old notifications would flood a phone.
    End,
    /// It gets what the journal still has, too.
    Start,
}

impl Sink {
    /// `None` if name or kind are at fault, as they have no default. `taken` has what the tables
    /// before it use.
    pub(super) fn read(table: &mut Table<'_>, taken: &mut Taken) -> Option<Self> {
        let kind = SinkKind::read(table);
        table.require("name", "give each sink a name of its own");
        let name = table.parsed("name", sink_name);
        let kinds = RecordKind::VARIANTS.iter();
        let kinds: Vec<_> = kinds.map(|kind| (kind.as_str(), *kind)).collect();
        let records = table.choices("records", &kinds);
        let from = table.choice("from").unwrap_or(StartFrom::End);
        let max_age = table.duration("max_age", &MAX_AGE);
        let filter = table.table("filter", SinkFilter::read).unwrap_or_default();
        if let Some(SinkKind::File(file)) = &kind
            && let Some(other) = taken
                .files
                .insert(file.path.clone(), table.path().to_owned())
        {
            let path = file.path.display();
            let message = format!("{path} is already the file of {other}; give each sink its own");
            table.fault("file.path", message);
        }
        let name = name?;
        if let Some(other) = taken.names.get(&name) {
            let message =
                format!("{name:?} is already the name of {other}; give each sink its own");
            table.fault("name", message);
        } else {
            taken.names.insert(name.clone(), table.path().to_owned());
        }
        Some(Self {
            name,
            kind: kind?,
            records: records.unwrap_or(vec![RecordKind::Notification]),
            from,
            max_age,
            filter,
        })
    }
}

impl SinkFilter {
    fn read(table: &mut Table<'_>) -> Self {
        let pattern = |text: &str| text.parse::<Pattern>();
        let kind = |text: &str| match text {
            "" => Err("an empty text is no kind of notification; remove it"),
            text => Ok(text.to_owned()),
        };
        Self {
            resources: table.texts("resources", FILTER_MAX_NAMES, pattern),
            structures: table.texts("structures", FILTER_MAX_NAMES, pattern),
            kinds: table.texts("kinds", FILTER_MAX_NAMES, kind),
            alerts_only: table.flag("alerts_only"),
        }
    }
}

impl SinkKind {
    /// Reads `kind`, and the table of that name.
    fn read(table: &mut Table<'_>) -> Option<Self> {
        let kinds = words::<SinkKindName>();
        table.require("kind", &format!("expected one of: {}", names(&kinds)));
        let Some(kind) = table.choice::<SinkKindName>("kind") else {
            // Which of these tables belongs here can't be said.
            kinds.iter().for_each(|(name, _)| table.ignore(name));
            return None;
        };
        table.table(kind.into(), |table| match kind {
            SinkKindName::Stdout => Some(Self::Stdout),
            SinkKindName::File => SinkFile::read(table).map(Self::File),
        })?
    }
}

impl SinkFile {
    /// `None` if the path is at fault, as it has no default.
    fn read(table: &mut Table<'_>) -> Option<Self> {
        table.require("path", "name the file that records go to");
        let path = table.parsed("path", file_path);
        let max_size = table.size("max_size", &FILE_MAX_SIZE);
        let keep = table.count("keep", &FILE_KEEP);
        Some(Self {
            path: path?,
            max_size,
            keep,
        })
    }

    /// The folder of the file.
    pub fn folder(&self) -> &Path {
        let folder = self.path.parent();
        let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
        folder.unwrap_or(Path::new("."))
    }
}

fn file_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if text.ends_with('/') || path.file_name().is_none() {
        return Err(format!("{} names no file; add its name", quoted(text)));
    }
    Ok(path)
}

fn sink_name(text: &str) -> Result<String, String> {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if text.len() > NAME_MAX_CHARS || !text.chars().all(is_allowed) {
        return Err(format!(
            "{} is not a sink's name; \
             use 1 to {NAME_MAX_CHARS} of the characters a-z, 0-9, _ and -",
            quoted(text)
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_name_has_few_characters() {
        assert!(sink_name(&"a".repeat(64)).is_ok());
        assert!(sink_name("front_door-2").is_ok());
        for bad in ["Front", "front door", "tür", &"a".repeat(65)] {
            assert!(sink_name(bad).is_err(), "{bad}");
        }
    }
}
