//! `hearthd records`: the journal's records, a line each, and those that come.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::args::{StoreArgs, record_kind};
use crate::query::{self, PageSize, RecordFilter, checked_text};
use crate::record::RecordKind;
use crate::store::{JournalRow, Reader};

/// How often a follower looks for new records: at once for a person, and it costs the store three
/// lookups.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Options of `hearthd records`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// Only those behind this number; without it, from the oldest one that is kept, or with
    /// --follow, those that are new
    #[arg(long, value_name = "SEQUENCE")]
    after: Option<u64>,
    /// Only these kinds
    #[arg(long = "type", value_delimiter = ',', value_name = "KINDS", value_parser = record_kind)]
    kinds: Vec<RecordKind>,
    /// Only those of this resource, by its full name
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// End after this many
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    /// Go on with records as they come, until SIGINT
    #[arg(long)]
    follow: bool,
}

/// Runs the command. It writes to standard output itself: nothing may wait for a write that nobody
/// reads.
pub async fn run(args: Args, environment: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let subject = args.subject.map(|text| checked_text("--subject", text));
    let subject = subject.transpose()?;
    let reader = args.store.open(environment)?;
    let after = match args.after {
        Some(after) => after,
        None if args.follow => reader.snapshot()?.last_sequence()?,
        None => {
            let first = reader.snapshot()?.first_sequence()?;
            first.unwrap_or_default().saturating_sub(1)
        }
    };
    let filter = RecordFilter {
        after,
        kinds: args.kinds,
        subject,
        size: PageSize::MAX,
    };
    let interrupt = signal(SignalKind::interrupt())?;
    let left = args.limit.unwrap_or(usize::MAX);
    print(&reader, filter, left, args.follow, interrupt).await
}

async fn print(
    reader: &Reader,
    mut filter: RecordFilter,
    mut left: usize,
    follow: bool,
    mut interrupt: Signal,
) -> anyhow::Result<()> {
    while left > 0 {
        filter.size = PageSize::MAX.at_most(left);
        // A snapshot of its own for each page, so that a slow reader of the output holds none.
        let page = query::records(&reader.snapshot()?, &filter)?;
        if let Some(gap) = page.gap {
            let (after, oldest) = (gap.after, gap.oldest);
            let text = "the journal doesn't reach back";
            writeln!(
                io::stderr(),
                "hearthd: {text} to {}, it begins at {oldest}",
                after + 1
            )?;
        }
        if filter.after > page.last {
            let (after, last) = (filter.after, page.last);
            let text = "there is no record with that number yet; is it of another store?";
            writeln!(
                io::stderr(),
                "hearthd: {after} is behind the last record, {last}: {text}"
            )?;
        }
        filter.after = page.reached;
        left -= page.items.len();
        let has_more = page.next().is_some();
        if !page.items.is_empty() {
            let written = tokio::task::spawn_blocking(move || write(&page.items));
            tokio::select! {
                _ = interrupt.recv() => return Ok(()),
                written = written => written??,
            }
        }
        if has_more {
            continue;
        }
        if !follow || is_output_closed() {
            break;
        }
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
    Ok(())
}

fn write(rows: &[JournalRow]) -> io::Result<()> {
    let mut lines = String::new();
    for row in rows {
        lines += &row.line;
        lines.push('\n');
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(lines.as_bytes())?;
    stdout.flush()
}

/// True if nobody can read the output any more: the other end of the pipe is closed. A follower
/// would notice that only at the next record.
fn is_output_closed() -> bool {
    let stdout = io::stdout();
    let mut output = [PollFd::new(&stdout, PollFlags::empty())];
    let at_once = Timespec::default();
    let failed = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    poll(&mut output, Some(&at_once)).is_ok() && output[0].revents().intersects(failed)
}
