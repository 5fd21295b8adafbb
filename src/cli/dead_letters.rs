//! `hearthd dead-letters`: the records that sinks lost.
//!
//! Such a record is no longer in the journal, so it can't be delivered again: a range is a note of
//! the loss, to be dropped once somebody has seen it.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Subcommand;

use crate::cli::{ChangeArgs, ListArgs};
use crate::store::{Admin, Commit, DeadLetterRow};

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
    /// Forget ranges that somebody has seen; stop the service first
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
            let (mut store, _) = args.store.open_for_writing(environment)?;
            let there: Vec<i64> = store
                .reader()?
                .snapshot()?
                .dead_letters(usize::MAX)?
                .iter()
                .map(|row| row.id)
                .collect();
            let admin = vec![Admin::DropDeadLetters(args.choose(&there)?)];
            let commit = Commit {
                admin,
                ..Commit::default()
            };
            let dropped = store.commit(commit)?.affected.iter().sum::<usize>();
            Ok(writeln!(stdout, "{dropped} ranges dropped")?)
        }
    }
}

fn list(
    args: &ListArgs,
    environment: &BTreeMap<String, String>,
    stdout: &mut dyn Write,
) -> anyhow::Result<()> {
    let rows = args
        .store
        .open(environment)?
        .snapshot()?
        .dead_letters(args.limit)?;
    args.write(&rows, line, stdout)
}

fn line(row: &DeadLetterRow) -> String {
    let DeadLetterRow {
        id,
        at,
        sink,
        first_sequence,
        last_sequence,
        reason,
        ..
    } = row;
    format!("{id}  {at}  {sink}  lost records {first_sequence} to {last_sequence}: {reason}")
}
