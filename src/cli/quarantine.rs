//! `hearthd quarantine`: the messages that could not be decoded, and why; and what becomes of them.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Subcommand;

use super::args::{ChangeArgs, Format, ListArgs};
use super::service::Target;
use super::set_aside;
use crate::admin::{self, Collection, Request};
use crate::clock::Clock;
use crate::config::Settings;
use crate::engine::Engine;
use crate::event::{ReceivedAt, Timestamp};
use crate::pipeline::{Pipeline, PipelineSettings};
use crate::query;
use crate::store::{QuarantineHead, Writer};
use crate::text::printable;

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
    /// Take messages in again, as if they came now, once an upgrade can decode them
    Retry(ChangeArgs),
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
        Some(Action::Retry(args)) => retry(args, environment, stdout),
        Some(Action::Drop(args)) => {
            set_aside::drop_chosen(args, Collection::Quarantine, environment, stdout)
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
    let heads = set_aside::newest(args.limit, |before, size| {
        query::quarantine(&snapshot, before, size)
    })?;
    if args.format == Format::Text {
        return set_aside::write(args.format, &heads, line, stdout);
    }
    // With their bodies, one at a time: together they may have 256 MiB.
    for head in heads {
        if let Some(row) = snapshot.quarantine_row(head.id)? {
            writeln!(stdout, "{}", serde_json::to_string(&row)?)?;
        }
    }
    Ok(())
}

fn line(head: &QuarantineHead) -> String {
    let QuarantineHead {
        id,
        received_at,
        platform,
        reason,
        detail,
        message_id,
        place,
        bytes,
    } = head;
    let place = place.as_deref().unwrap_or(message_id);
    let place = printable(place);
    let detail = printable(detail);
    format!("{id}  {received_at}  {platform}  {place}  {reason}: {detail} ({bytes} bytes)")
}

fn retry(
    args: &ChangeArgs,
    environment: &BTreeMap<String, String>,
    stdout: &mut dyn Write,
) -> anyhow::Result<()> {
    let (target, ids) = set_aside::choose(args, Collection::Quarantine, environment)?;
    match target {
        Target::Offline(offline) => {
            let (store, settings) = *offline;
            retry_offline(store, &settings, &ids, stdout)
        }
        Target::Service(client) => {
            let items = client.retry(Collection::Quarantine, &ids)?;
            let mut items = items.iter();
            Ok(items.try_for_each(|item| set_aside::tell(item, stdout))?)
        }
    }
}

/// Runs each message through the pipeline, and says what became of it.
fn retry_offline(
    store: Writer,
    settings: &Settings,
    ids: &[i64],
    stdout: &mut dyn Write,
) -> anyhow::Result<()> {
    let settings = PipelineSettings::from(settings);
    let shortest = settings.retention.shortest();
    let mut pipeline = Pipeline::open(store, settings)?;
    let stored = pipeline.engine().map(Engine::clock).unwrap_or_default();
    let clock = Clock::resume(stored, shortest);
    for id in ids {
        let request = Request::RetryQuarantined(vec![*id]);
        let received_at = ReceivedAt(Timestamp::from_utc(clock.wall_now()));
        let done = admin::run(&mut pipeline, &request, &received_at, clock.now())?;
        let mut items = done.items.iter();
        items.try_for_each(|item| set_aside::tell(item, stdout))?;
    }
    Ok(())
}
