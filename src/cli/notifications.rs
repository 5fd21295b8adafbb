//! `hearthd notifications`: the last revision of every notification that a store holds.

use std::collections::BTreeMap;
use std::io::Write;

use clap::ValueEnum;

use crate::cli::{Format, StoreArgs};
use crate::engine::notifications::Notification;
use crate::event::NotificationId;
use crate::record;

/// Options of `hearthd notifications`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// Only those that are open, or closed
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Only the newest ones
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    /// How to show them
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Which notifications are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum State {
    Open,
    Closed,
}

/// Runs the command.
pub fn run(
    args: &Args,
    environment: &BTreeMap<String, String>,
    stdout: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut rows = args.store.open(environment)?.snapshot()?.notifications()?;
    rows.retain(|(_, state)| state.revision > 0);
    rows.retain(|(_, state)| args.state.is_none_or(|wanted| wanted == state_of(state)));
    rows.sort_by(|(_, a), (_, b)| a.last_event_at.cmp(&b.last_event_at));
    let skipped = args
        .limit
        .map_or(0, |limit| rows.len().saturating_sub(limit));
    rows.drain(..skipped);
    match args.format {
        Format::Text => rows.iter().try_for_each(|(_, state)| line(state, stdout))?,
        Format::Json => array(rows, stdout)?,
    }
    Ok(())
}

fn state_of(notification: &Notification) -> State {
    if notification.is_closed() {
        State::Closed
    } else {
        State::Open
    }
}

fn line(state: &Notification, stdout: &mut dyn Write) -> std::io::Result<()> {
    let title = state
        .shown
        .display_name
        .as_deref()
        .unwrap_or_else(|| state.resource.short_id());
    let standing = if state.is_closed() { "closed" } else { "open" };
    let what = record::body(&state.kinds);
    let (from, until) = (&state.started_at, &state.last_event_at);
    writeln!(stdout, "{from}  {until}  {standing:6}  {title}: {what}")
}

fn array(
    mut rows: Vec<(NotificationId, Notification)>,
    stdout: &mut dyn Write,
) -> std::io::Result<()> {
    rows.sort_by_key(|(id, _)| *id);
    let data: Vec<_> = rows
        .iter()
        .map(|(id, state)| record::notification_data(*id, state))
        .collect();
    writeln!(stdout, "{}", record::array(data.iter().map(AsRef::as_ref)))
}
