//! The mark: which store this is and how many commits it has had, in a file of its own.
//!
//! To SQLite, a WAL that is missing, cut or damaged looks like a shorter one, and a store that
//! lacks its last commits looks whole. The mark tells them apart. It is written after each commit
//! and never synced: after a loss of power it may be behind the store, and it is never ahead.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::files::{self, private};

/// What the mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Which store: a number drawn when it was made.
    pub(super) id: i64,
    /// Commits that were reported as done, at least.
    pub(super) commits: i64,
}

/// Reads the mark; `None` if there is none, or none that a loss of power left readable.
pub(super) fn read(store: &Path) -> io::Result<Option<Mark>> {
    match std::fs::read(files::mark(store)) {
        Ok(bytes) => Ok(parse(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse(bytes: &[u8]) -> Option<Mark> {
    let (id, commits) = std::str::from_utf8(bytes)
        .ok()?
        .strip_suffix('\n')?
        .split_once(' ')?;
    Some(Mark {
        id: id.parse().ok()?,
        commits: commits.parse().ok()?,
    })
}

/// Opens the mark for writing, and makes it if there is none.
pub(super) fn open(store: &Path) -> io::Result<File> {
    private(File::options().create(true).truncate(false)).open(files::mark(store))
}

/// Writes the mark. Always the same number of bytes, so that a new one covers the old one.
pub(super) fn write(file: &File, mark: Mark) -> io::Result<()> {
    file.write_all_at(
        format!("{:+020} {:+020}\n", mark.id, mark.commits).as_bytes(),
        0,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_covers_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("s.db");
        assert_eq!(read(&store).unwrap(), None);
        let file = open(&store).unwrap();
        assert_eq!(read(&store).unwrap(), None, "an empty one says nothing");
        for (id, commits) in [(i64::MIN, i64::MAX), (7, 12), (i64::MAX, 0), (-1, 1)] {
            let mark = Mark { id, commits };
            write(&file, mark).unwrap();
            assert_eq!(read(&store).unwrap(), Some(mark));
        }
        file.set_len(3).unwrap();
        assert_eq!(read(&store).unwrap(), None);
    }
}
