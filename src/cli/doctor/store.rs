//! The store and its disk. Makes no store, and leaves nothing behind.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::line::Line;
use crate::config;
use crate::event::ClockTime;
use crate::store::{QUARANTINE_MAX_BYTES, Reader, StoreError, Writer};
use crate::text::{error_chain, round_size};

/// What a store knows of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrivals {
    /// There is no store yet.
    NoStore,
    /// It remembers none.
    None,
    /// When the newest came that it remembers.
    Last(ClockTime),
}

/// Asks the store for its newest message. An error is left to [`check`], which opens it too.
pub(super) fn arrivals(settings: &config::Store) -> Result<Arrivals, StoreError> {
    match Reader::open(&settings.path).and_then(|reader| reader.snapshot()?.last_arrival()) {
        Ok(Some(at)) => Ok(Arrivals::Last(at)),
        Ok(None) => Ok(Arrivals::None),
        Err(StoreError::Missing { .. }) => Ok(Arrivals::NoStore),
        Err(error) => Err(error),
    }
}

/// The time of the last commit; `None` if there is no store that can be read.
pub(super) fn clock(settings: &config::Store) -> Option<ClockTime> {
    let store = Reader::open(&settings.path).ok()?;
    store.snapshot().ok()?.clock().ok()
}

/// The lines for the store and its disk.
pub(super) fn check(settings: &config::Store) -> Vec<Line> {
    let store = match Reader::open(&settings.path) {
        Ok(store) => Some(store),
        Err(StoreError::Missing { .. }) => None,
        // To open it for writing would migrate it, after which an older hearthd can't read it.
        Err(error @ StoreError::Unmigrated { .. }) => {
            return vec![Line::warn("store", error_chain(&error))];
        }
        Err(error) => return vec![Line::fail("store", error_chain(&error))],
    };
    let bytes = store.as_ref().map_or(0, Reader::bytes);
    // Closed before it is opened for writing.
    let is_there = store.is_some();
    drop(store);
    let line = if is_there {
        open(&settings.path)
    } else {
        find_space(&settings.path)
    };
    vec![line, space(settings, bytes)]
}

/// Opens a store as the service does, unless the service has it open.
fn open(path: &Path) -> Line {
    let shown = path.display();
    let (owner, user) = (
        path.metadata().map(|found| found.uid()),
        rustix::process::geteuid(),
    );
    if let Ok(owner) = owner
        && owner != user.as_raw()
    {
        // What is made beside it would be ours, and in the service's way.
        let text = format!(
            "{shown} belongs to user {owner}, and doctor runs as {}: it can be read; run doctor as \
             the user that hearthd runs as to have it opened for writing",
            user.as_raw()
        );
        return Line::warn("store", text);
    }
    match Writer::open(path) {
        Ok(_) => Line::ok("store", format_args!("{shown}: opens")),
        Err(StoreError::Locked { .. }) => Line::ok(
            "store",
            format_args!("{shown}: in use by another process, can be read"),
        ),
        Err(error) => Line::fail("store", error_chain(&error)),
    }
}

/// For a store that the service's first start will make.
fn find_space(path: &Path) -> Line {
    let folder = folder_of(path);
    let shown = folder.display();
    let store = path.display();
    match write_to(folder) {
        Ok(()) => Line::ok("store", format_args!("{store}: the first start makes it")),
        Err(error) => Line::fail(
            "store",
            format_args!(
                "{store}: failed to write to its folder {shown}: {error}; create the folder, let \
                 the user that hearthd runs as write to it, or name another file in store.path"
            ),
        ),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Writes a file, since permissions alone don't tell of read-only and full disks, and removes it.
pub(super) fn write_to(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".hearthd-doctor-{}", std::process::id()));
    let mut file = fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    let written = file.write_all(b"x").and_then(|()| file.sync_all());
    fs::remove_file(&path).and(written)
}

/// Compares what the disk has with what journal and quarantine may yet take.
fn space(settings: &config::Store, bytes: u64) -> Line {
    let folder = folder_of(&settings.path);
    let shown = folder.display();
    let free = match rustix::fs::statvfs(folder) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(error) => {
            return Line::warn(
                "disk",
                format_args!("{shown}: failed to ask for space: {error}"),
            );
        }
    };
    let most = settings
        .journal_max_size
        .saturating_add(QUARANTINE_MAX_BYTES);
    let growth = most.saturating_sub(bytes);
    let text = format!(
        "{shown}: {} free, the store may grow by {}",
        round_size(free),
        round_size(growth)
    );
    if free >= growth {
        return Line::ok("disk", text);
    }
    Line::warn(
        "disk",
        format_args!("{text}; free some space, or lower store.journal_max_size"),
    )
}
