//! `hearthd quarantine`: the messages that could not be decoded, and why; and what becomes of them.

use std::collections::BTreeMap;
use std::io::Write;

use super::args::{ChangeArgs, Format, ListArgs};
use super::service::Target;
use super::set_aside::{self, Args, Task};
use crate::admin::{self, Collection};
use crate::clock::Clock;
use crate::config::Settings;
use crate::engine::Engine;
use crate::event::{ReceivedAt, Timestamp};
use crate::pipeline::{Pipeline, PipelineSettings};
use crate::query;
use crate::store::{QuarantineHead, Writer};
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
    let mut pipeline = Pipeline::open(store, PipelineSettings::from(settings))?;
    let clock = Clock::start(pipeline.engine().map(Engine::clock).unwrap_or_default());
    for id in ids {
        let received_at = ReceivedAt(Timestamp::from_utc(clock.wall_now()));
        let committed = pipeline.retry(*id, received_at, clock.now())?;
        let item = admin::retried(*id, committed.as_ref(), pipeline.store())?;
        set_aside::tell(&item, stdout)?;
    }
    Ok(())
}
