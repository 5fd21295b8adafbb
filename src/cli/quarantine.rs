//! `hearthd quarantine`: the messages that could not be decoded, and why.

use std::collections::BTreeMap;
use std::io::Write;

use crate::cli::{Format, StoreArgs};
use crate::store::QuarantineRow;

/// Options of `hearthd quarantine`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// How many to show, the newest ones
    #[arg(long, value_name = "COUNT", default_value = "1000")]
    limit: usize,
    /// How to show them
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Runs the command.
pub fn run(
    args: &Args,
    environment: &BTreeMap<String, String>,
    stdout: &mut dyn Write,
) -> anyhow::Result<()> {
    for row in args.store.open(environment)?.quarantine(args.limit)? {
        match args.format {
            Format::Text => writeln!(stdout, "{}", line(&row))?,
            Format::Json => writeln!(stdout, "{}", serde_json::to_string(&row)?)?,
        }
    }
    Ok(())
}

fn line(row: &QuarantineRow) -> String {
    let QuarantineRow { id, received_at, platform, reason, detail, message_id, place, raw } = row;
    let place = place.as_deref().unwrap_or(message_id);
    format!("{id}  {received_at}  {platform}  {place}  {reason}: {detail} ({} bytes)", raw.len())
}
