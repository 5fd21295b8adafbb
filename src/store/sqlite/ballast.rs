//! The ballast file: 8 MiB beside the store that are released on a full disk.
//!
//! Deleting rows needs space in the WAL before it frees any. Without the ballast file, a full disk
//! would stay full.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use super::files::{self, folder_of, private};

/// A trim of 128 rows of each table, and of records that lie side by side, changes at most some
/// 1,300 pages of 4 KiB (10 per row, were each in another corner of each index): 5 MiB of WAL, and
/// its shared index.
const BALLAST_BYTES: u64 = 8 << 20;

/// Bytes written at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Makes the ballast file, unless it is there. Leaves nothing behind if there is no space for it
/// and for `beside` bytes more, which it doesn't keep.
pub(super) fn make(store: &Path, beside: u64) -> io::Result<()> {
    let path = files::ballast(store);
    if path
        .metadata()
        .is_ok_and(|found| found.len() >= BALLAST_BYTES)
    {
        return Ok(());
    }
    // Not by trial alone: other programs would find the disk full meanwhile.
    if free_bytes(store).is_some_and(|free| free < BALLAST_BYTES + beside) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let file = private(File::options().create(true).truncate(true)).open(&path)?;
    fill(file, beside).inspect_err(|_| drop(fs::remove_file(&path)))
}

/// What the disk has for programs without privileges; `None` if it doesn't say.
fn free_bytes(store: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder_of(store)).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Noise, since a file system may keep neither zeros nor repetitions.
fn fill(mut file: File, beside: u64) -> io::Result<()> {
    let mut noise = fastrand::Rng::with_seed(0);
    let mut chunk = vec![0; CHUNK_BYTES];
    for _ in 0..(BALLAST_BYTES + beside) / CHUNK_BYTES as u64 {
        noise.fill(&mut chunk);
        file.write_all(&chunk)?;
    }
    file.set_len(BALLAST_BYTES)?;
    file.sync_all()
}

/// Releases the space of the ballast file.
pub(super) fn release(store: &Path) -> io::Result<()> {
    match fs::remove_file(files::ballast(store)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
