//! `hearthd check`: validates the settings, without touching what they name.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use crate::config::Settings;

/// Options of `hearthd check`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Settings file; without it, the environment alone
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the command.
pub fn run(
    args: &Args,
    environment: &BTreeMap<String, String>,
    stdout: &mut dyn Write,
) -> anyhow::Result<()> {
    let settings = Settings::load(args.config.as_deref(), environment)?;
    settings.require_pubsub()?;
    Ok(writeln!(stdout, "the settings are valid")?)
}
