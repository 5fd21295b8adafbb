//! `hearthd dead-letters`: the records that sinks did not get, and why; and what becomes of them.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::bail;

use super::args::{ChangeArgs, ListArgs};
use super::service::Target;
use super::set_aside::{self, Args, Task};
use crate::admin::Collection;
use crate::query;
use crate::store::DeadLetterRow;
use crate::text::printable;

/// Runs the command.
pub fn run(
    args: &Args,
    environment: &BTreeMap<String, String>,
    stdout: &mut dyn Write,
) -> anyhow::Result<()> {
    match args.task() {
        Task::List(args) => list(args, environment, stdout),
        Task::Retry(args) => retry(args, environment, stdout),
        Task::Drop(args) => {
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

fn retry(
    args: &ChangeArgs,
    environment: &BTreeMap<String, String>,
    stdout: &mut dyn Write,
) -> anyhow::Result<()> {
    let (target, ids) = set_aside::choose(args, Collection::DeadLetters, environment)?;
    match target {
        Target::Offline(_) => bail!(
            "no service runs on this store, and only a service delivers records: start it, then \
             retry"
        ),
        Target::Service(client) => {
            let items = client.retry(Collection::DeadLetters, &ids)?;
            let mut items = items.iter();
            Ok(items.try_for_each(|item| set_aside::tell(item, stdout))?)
        }
    }
}
