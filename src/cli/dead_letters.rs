//! `hearthd dead-letters`: the records that sinks did not get, and why; and what becomes of them.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Subcommand;

use super::args::{ChangeArgs, ListArgs};
use super::set_aside;
use crate::admin::Collection;
use crate::query;
use crate::store::DeadLetterRow;
use crate::text::printable;

/// Options of `hearthd dead-letters`.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: ListArgs,
}

/// What to do with them.
#[derive(Subcommand, Debug)]
enum Action {
    /// Show them; the default
    List(ListArgs),
    /// Forget them for good
    Drop(ChangeArgs),
}

/// Runs the command.
pub fn run(
    args: &Args,
    environment: &BTreeMap<String, String>,
    stdout: &mut dyn Write,
) -> anyhow::Result<()> {
    match &args.action {
        None => list(&args.list, environment, stdout),
        Some(Action::List(args)) => list(args, environment, stdout),
        Some(Action::Drop(args)) => {
            set_aside::drop_chosen(args, Collection::DeadLetters, environment, stdout)
        }
    }
}

fn list(
    args: &ListArgs,
    environment: &BTreeMap<String, String>,
    stdout: &mut dyn Write,
) -> anyhow::Result<()> {
    let reader = args.store.open(environment)?;
    let snapshot = reader.snapshot()?;
    let rows = set_aside::newest(args.limit, |before, size| {
        query::dead_letters(&snapshot, before, size)
    })?;
    set_aside::write(args.format, &rows, line, stdout)
}

fn line(row: &DeadLetterRow) -> String {
    let DeadLetterRow {
        id,
        at,
        sink,
        first_sequence,
        last_sequence,
        reason,
        detail,
        record: _,
    } = row;
    let records = if first_sequence == last_sequence {
        format!("record {first_sequence}")
    } else {
        format!("records {first_sequence} to {last_sequence}")
    };
    let detail = printable(detail);
    let colon = if detail.is_empty() { "" } else { ": " };
    format!("{id}  {at}  {sink}  lost {records}: {reason}{colon}{detail}")
}
