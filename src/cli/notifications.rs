//! `hearthd notifications`: the last revision of every notification that a store holds.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};

use clap::ValueEnum;

use super::args::{Format, StoreArgs};
use crate::query::{
    self, NotificationFilter, NotificationItem, NotificationState, PageSize, checked_text,
};
use crate::record;
use crate::store::{Snapshot, StoreError};
use crate::text::printable;

/// Options of `hearthd notifications`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// Only those that are open, or closed
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Only those of this device, by its full name
    #[arg(long, value_name = "NAME")]
    resource: Option<String>,
    /// Only those of this kind, such as chime
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only the newest ones
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    /// How to show them: json is one array
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Which notifications are shown.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Open,
    Closed,
}

impl From<State> for NotificationState {
    fn from(state: State) -> Self {
        match state {
            State::Open => Self::Open,
            State::Closed => Self::Closed,
        }
    }
}

/// Runs the command.
pub fn run(
    args: &Args,
    environment: &BTreeMap<String, String>,
    stdout: &mut dyn Write,
) -> anyhow::Result<()> {
    let checked = |parameter, text: &Option<String>| {
        let text = text.clone();
        text.map(|text| checked_text(parameter, text)).transpose()
    };
    let resource = checked("--resource", &args.resource)?;
    let filter = NotificationFilter {
        state: args.state.map(NotificationState::from),
        resource: resource.map(Into::into),
        kind: checked("--kind", &args.kind)?,
        before: None,
        size: PageSize::MAX,
    };
    let reader = args.store.open(environment)?;
    let mut items = newest(&reader.snapshot()?, filter, args.limit)?;
    let mut stdout = BufWriter::new(stdout);
    match args.format {
        Format::Text => {
            items.sort_by(|a, b| by_time(a).cmp(&by_time(b)));
            items.iter().try_for_each(|item| line(item, &mut stdout))?;
        }
        Format::Json => {
            items.sort_by_key(|item| item.id);
            writeln!(stdout, "{}", serde_json::to_string(&items)?)?;
        }
    }
    Ok(stdout.flush()?)
}

fn newest(
    snapshot: &Snapshot<'_>,
    mut filter: NotificationFilter,
    limit: Option<usize>,
) -> Result<Vec<NotificationItem>, StoreError> {
    let limit = limit.unwrap_or(usize::MAX);
    let mut items = Vec::new();
    while items.len() < limit {
        filter.size = PageSize::MAX.at_most(limit - items.len());
        let page = query::notifications(snapshot, &filter)?;
        items.extend(page.items);
        filter.before = page.next;
        if filter.before.is_none() {
            break;
        }
    }
    Ok(items)
}

fn by_time(item: &NotificationItem) -> impl Ord {
    (item.notification.last_event_at.clone(), item.id)
}

fn line(item: &NotificationItem, stdout: &mut dyn Write) -> std::io::Result<()> {
    let notification = &item.notification;
    let title = notification.shown.display_name.as_deref();
    let title = title.unwrap_or_else(|| notification.resource.short_id());
    let state = NotificationState::of(notification);
    let state = state.as_ref();
    let title = printable(title);
    let what = printable(&record::body(&notification.kinds));
    let from = &notification.started_at;
    let until = &notification.last_event_at;
    writeln!(stdout, "{from}  {until}  {state:6}  {title}: {what}")
}
