//! Arguments that several commands have: which store, which rows, how they are shown.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ValueEnum;
use strum::VariantArray as _;

use super::settings::ConfigArgs;
use crate::record::RecordKind;
use crate::store::Reader;

/// How a list is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Which store a reading command looks into.
#[derive(clap::Args, Debug)]
pub(super) struct StoreArgs {
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    /// The store itself, instead of the one in the settings
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    pub(super) store: Option<PathBuf>,
}

impl StoreArgs {
    /// Opens the store for reading, beside a running service.
    pub(super) fn open(&self, environment: &BTreeMap<String, String>) -> anyhow::Result<Reader> {
        if let Some(path) = &self.store {
            return Ok(Reader::open(path)?);
        }
        Ok(Reader::open(&self.config.load(environment)?.store.path)?)
    }
}

/// Which rows are listed, and how.
#[derive(clap::Args, Debug)]
pub(super) struct ListArgs {
    #[command(flatten)]
    pub(super) store: StoreArgs,
    /// How many to show, the newest ones
    #[arg(long, value_name = "COUNT", default_value = "1000")]
    pub(super) limit: usize,
    /// How to show them: json is an object a line
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: Format,
}

/// Which rows are changed.
#[derive(clap::Args, Debug)]
pub(super) struct ChangeArgs {
    #[command(flatten)]
    pub(super) store: StoreArgs,
    /// Their numbers, as the list shows them
    #[arg(
        value_name = "ID",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    pub(super) ids: Vec<i64>,
    /// All that are there
    #[arg(long)]
    pub(super) all: bool,
}

/// A kind of record, by its name.
pub(super) fn record_kind(name: &str) -> Result<RecordKind, String> {
    name.parse().map_err(|_| {
        let kinds = RecordKind::VARIANTS.iter().map(|kind| kind.as_str());
        let choices: Vec<_> = kinds.collect();
        format!("expected some of {}", choices.join(", "))
    })
}
