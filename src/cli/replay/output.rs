//! What `replay` writes: records as they are committed, and at the end the files asked for.

use std::collections::BTreeMap;
use std::fs::{OpenOptions, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use super::args::Args;
use crate::engine::Engine;
use crate::engine::change::Tally;
use crate::pipeline::{Committed, Pipeline};
use crate::query::Graph;
use crate::record::{self, RecordKind};
use crate::store::JournalRow;

/// Bytes gathered before they are written: a pipe takes 64 KiB at once.
const BUFFER: usize = 1 << 16;

/// Readable and writable by the owner.
const OWNER_ONLY: u32 = 0o600;

/// The counters of REFERENCE.md section 5.
#[derive(Serialize, Default)]
struct Summary {
    /// Lines, and what was pending at the start, as a running service counts it: all of that ends
    /// in one of the outcomes below too.
    received: u64,
    emitted: u64,
    duplicates: u64,
    quarantined: u64,
    pending: u64,
    late: u64,
    notifications: u64,
    revisions: u64,
    resources: u64,
    imbalance: i64,
}

/// See the module's documentation.
pub(super) struct Output<'a> {
    stdout: BufWriter<&'a mut dyn Write>,
    kinds: Vec<RecordKind>,
    /// The last revision of every notification, by its id, if it was asked for.
    last: Option<BTreeMap<String, Box<str>>>,
    summary: Summary,
}

impl<'a> Output<'a> {
    /// Starts with what a durable store holds from earlier.
    pub(super) fn new(
        args: &Args,
        stdout: &'a mut dyn Write,
        pipeline: &Pipeline,
    ) -> anyhow::Result<Self> {
        let mut last = None;
        if args.r#final.is_some() {
            let notifications = pipeline.store().reader()?.snapshot()?.notifications()?;
            let visible = notifications
                .into_iter()
                .filter(|(_, state)| state.revision > 0);
            let data = |(id, state)| (format!("{id}"), record::notification_data(id, &state));
            last = Some(visible.map(data).collect());
        }
        Ok(Self {
            stdout: BufWriter::with_capacity(BUFFER, stdout),
            kinds: args.records.clone(),
            last,
            summary: Summary {
                received: pending(pipeline),
                ..Summary::default()
            },
        })
    }

    /// Writes what a step committed.
    pub(super) fn write(&mut self, committed: &Committed) -> anyhow::Result<()> {
        for row in &committed.records {
            let JournalRow { kind, line, .. } = &**row;
            if self.kinds.contains(kind) {
                let written = self.stdout.write_all(line.as_bytes());
                let written = written.and_then(|()| self.stdout.write_all(b"\n"));
                written.context("failed to write to standard output")?;
            }
            if let (RecordKind::Notification, Some(last)) = (kind, &mut self.last) {
                let (id, data) = record::notification_of(line)?;
                last.insert(id, data);
            }
        }
        self.count(&committed.tally);
        Ok(())
    }

    fn count(&mut self, tally: &Tally) {
        let summary = &mut self.summary;
        let messages = tally.all();
        summary.received += messages.received;
        summary.emitted += messages.emitted;
        summary.duplicates += messages.duplicates;
        summary.quarantined += messages.quarantined_total();
        summary.late += messages.late;
        summary.notifications += tally.opened;
        summary.revisions += tally.revisions;
    }

    /// Writes the files that were asked for and the summary; returns how many were quarantined.
    pub(super) fn finish(mut self, args: &Args, pipeline: &Pipeline) -> anyhow::Result<u64> {
        self.stdout
            .flush()
            .context("failed to write to standard output")?;
        let resources = || pipeline.engine().into_iter().flat_map(Engine::resources);
        self.summary.resources = resources().count() as u64;
        self.summary.pending = pending(pipeline);
        self.summary.imbalance = pipeline.imbalance();
        if let (Some(path), Some(last)) = (&args.r#final, &self.last) {
            write_text(path, &record::array(last.values().map(AsRef::as_ref)))?;
        }
        if let Some(path) = &args.graph {
            let resources = resources().collect();
            write_json(path, &Graph { resources })?;
        }
        if let Some(path) = &args.summary {
            write_json(path, &self.summary)?;
        }
        self.summary.print()?;
        Ok(self.summary.quarantined)
    }
}

fn pending(pipeline: &Pipeline) -> u64 {
    pipeline.engine().map_or(0, Engine::pending) as u64
}

impl Summary {
    fn print(&self) -> anyhow::Result<()> {
        let Self {
            received,
            emitted,
            duplicates,
            quarantined,
            late,
            ..
        } = self;
        let mut stderr = std::io::stderr().lock();
        writeln!(
            stderr,
            "{received} received: {emitted} emitted ({late} late), {duplicates} duplicates, \
             {quarantined} quarantined; {} notifications in {} revisions, {} resources",
            self.notifications, self.revisions, self.resources
        )
        .context("failed to write to standard error")
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    write_text(path, &serde_json::to_string(value)?)
}

/// Writes a file for its owner alone: it holds user ids and addresses of clips. One that is there
/// is made so before it is written; pipes and devices stay as they are.
fn write_text(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || {
        let mut options = OpenOptions::new();
        let options = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(OWNER_ONLY);
        let mut file = options.open(path)?;
        if file.metadata()?.is_file() {
            file.set_permissions(Permissions::from_mode(OWNER_ONLY))?;
        }
        writeln!(file, "{text}")
    };
    write().with_context(|| format!("failed to write {}", path.display()))
}
