//! The files of a store: where they are, for whom, and whether the store is there and free.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::store::error::StoreError;

/// Takes the lock that keeps other writers off. It is gone when the file is closed, also by a
/// crash; the empty file stays.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let lock = with_suffix(path, ".lock");
    let failed = |source| StoreError::Open {
        path: path.to_owned(),
        source,
    };
    let file = private(OpenOptions::new().create(true))
        .open(&lock)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked {
            path: path.to_owned(),
            lock,
        }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// True if there is a store; an error for what can't be one.
pub(super) fn exists(path: &Path) -> Result<bool, StoreError> {
    let foreign = |why: &str| StoreError::Foreign {
        path: path.to_owned(),
        why: why.to_owned(),
    };
    match path.metadata() {
        Ok(found) if !found.is_file() => Err(foreign("not a file")),
        // A store is made whole and then renamed, so it is never empty.
        Ok(found) if found.len() == 0 => Err(foreign("an empty file")),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let traces = [wal(path), mark(path)];
            match traces.into_iter().find(|trace| trace.exists()) {
                Some(trace) => Err(StoreError::Gone {
                    path: path.to_owned(),
                    trace,
                }),
                None => Ok(false),
            }
        }
        Err(source) => Err(StoreError::Open {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The folder of a file.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Syncs the WAL of a store that nobody has open. A killed process may have left a commit in it
/// that is not on disk: it counts from now on, so that messages are acked as its duplicates, and a
/// loss of power must not take it away any more.
pub(super) fn sync_wal(path: &Path) -> Result<(), StoreError> {
    match File::open(wal(path)).and_then(|wal| wal.sync_all()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        synced => synced.map_err(|source| StoreError::Open {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The store's path with something behind its file name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// For the owner alone: a store holds user ids and clip addresses. SQLite gives its WAL the same.
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.write(true).mode(0o600)
}

/// Where the count of a store's commits is.
pub(super) fn mark(store: &Path) -> PathBuf {
    with_suffix(store, ".mark")
}

/// Where the ballast of a store is.
pub(super) fn ballast(store: &Path) -> PathBuf {
    with_suffix(store, ".ballast")
}

/// Where the service that writes a store takes requests.
pub fn socket_of(store: &Path) -> PathBuf {
    with_suffix(store, ".sock")
}

/// Where the WAL of a store is.
pub(super) fn wal(store: &Path) -> PathBuf {
    with_suffix(store, "-wal")
}

/// Bytes of a file; 0 if it can't be looked at.
pub(super) fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |file| file.len())
}

/// Bytes of a store's file and its WAL.
pub(super) fn bytes(store: &Path) -> u64 {
    size(store) + size(&wal(store))
}
