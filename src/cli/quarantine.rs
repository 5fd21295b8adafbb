//! `hearthd quarantine`: the messages that could not be decoded, and why; and what becomes of them.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Subcommand;

use crate::cli::{ChangeArgs, ListArgs};
use crate::clock::Clock;
use crate::engine::Engine;
use crate::event::{ReceivedAt, Timestamp};
use crate::pipeline::{Committed, Pipeline, PipelineSettings};
use crate::store::{Admin, Commit, QuarantineRow, StoreError, Writer};

/// Options of `hearthd quarantine`.
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
    /// Take messages in again, as if they came now, once an upgrade can decode them; stop the
    /// service first
    Retry(ChangeArgs),
    /// Forget messages for good; stop the service first
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
        Some(Action::Retry(args)) => retry(args, environment, stdout),
        Some(Action::Drop(args)) => {
            let (mut store, _) = args.store.open_for_writing(environment)?;
            let ids = args.choose(&ids(&store)?)?;
            let commit = Commit {
                admin: vec![Admin::DropQuarantined(ids)],
                ..Commit::default()
            };
            let dropped = store.commit(commit)?.affected.iter().sum::<usize>();
            Ok(writeln!(stdout, "{dropped} messages dropped")?)
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
        .quarantine(args.limit)?;
    args.write(&rows, line, stdout)
}

fn line(row: &QuarantineRow) -> String {
    let QuarantineRow {
        id,
        received_at,
        platform,
        reason,
        detail,
        message_id,
        place,
        raw,
    } = row;
    let place = place.as_deref().unwrap_or(message_id);
    format!(
        "{id}  {received_at}  {platform}  {place}  {reason}: {detail} ({} bytes)",
        raw.len()
    )
}

/// Runs each message through the pipeline, and says what became of it.
fn retry(
    args: &ChangeArgs,
    environment: &BTreeMap<String, String>,
    stdout: &mut dyn Write,
) -> anyhow::Result<()> {
    let (store, settings) = args.store.open_for_writing(environment)?;
    let ids = args.choose(&ids(&store)?)?;
    let settings = PipelineSettings::from(&settings);
    let shortest = settings.retention.shortest();
    let mut pipeline = Pipeline::open(store, settings)?;
    let stored = pipeline.engine().map(Engine::clock).unwrap_or_default();
    let clock = Clock::resume(stored, shortest);
    for id in ids {
        let received_at = ReceivedAt(Timestamp::from_utc(clock.wall_now()));
        // `None` can't be: the row was there, and the store's lock is ours.
        if let Some(committed) = pipeline.retry(id, received_at, clock.now())? {
            writeln!(stdout, "{id}  {}", outcome(&committed, pipeline.store())?)?;
        }
    }
    Ok(())
}

fn outcome(committed: &Committed, store: &Writer) -> Result<String, StoreError> {
    let tally = committed.tally.all();
    if tally.quarantined_total() > 0 {
        let newest = store.reader()?.snapshot()?.quarantine(1)?;
        let rows: Vec<String> = newest.iter().map(line).collect();
        return Ok(format!("is in quarantine again: {}", rows.join("")));
    }
    if tally.duplicates > 0 {
        return Ok("is a duplicate: its payload came in by another way since".to_owned());
    }
    Ok("was taken in".to_owned())
}

/// The numbers of all messages.
fn ids(store: &Writer) -> Result<Vec<i64>, StoreError> {
    store.reader()?.snapshot()?.quarantine_ids()
}
