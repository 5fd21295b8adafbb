//! Records to a file, one line of JSON each, which is rotated when it has grown.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::config;
use crate::store::JournalRow;

/// Records tell who was at whose door.
const OWNER_ONLY: u32 = 0o600;

/// See the module's documentation. Delivered means handed to the operating system: that survives a
/// kill, and a loss of power only after the file was rotated or closed.
#[derive(Debug)]
pub(super) struct FileSink {
    settings: config::SinkFile,
    open: Option<Open>,
}

/// The file as it is open now.
#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
    /// Device and inode, which tell whether it is still the one at the path.
    identity: (u64, u64),
}

/// What failed at which path.
#[derive(Debug, thiserror::Error)]
#[error("failed to {what} {}: {source}; {}", path.display(), advice(source))]
pub(super) struct FileError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// What to do about errors of these kinds.
const ADVICE: &[(&[io::ErrorKind], &str)] = &[
    (
        &[io::ErrorKind::NotFound],
        "create its folder, or correct the sink's file.path",
    ),
    (
        &[
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::ReadOnlyFilesystem,
        ],
        "let hearthd's user write in its folder (under systemd: ReadWritePaths=), or correct the \
         sink's file.path",
    ),
    (
        &[io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded],
        "free space on that disk, or lower the sink's file.max_size or file.keep",
    ),
    (
        &[io::ErrorKind::IsADirectory, io::ErrorKind::InvalidInput],
        "name a file in the sink's file.path",
    ),
];

fn advice(error: &io::Error) -> &'static str {
    let known = ADVICE
        .iter()
        .find(|(kinds, _)| kinds.contains(&error.kind()));
    known.map_or(
        "see to its disk, or correct the sink's file.path",
        |(_, advice)| advice,
    )
}

impl FileSink {
    pub(super) fn new(settings: &config::SinkFile) -> Self {
        Self {
            settings: settings.clone(),
            open: None,
        }
    }

    /// Writes records in order. After an error an unknown number of them is written.
    pub(super) fn deliver(&mut self, rows: &[&JournalRow]) -> Result<(), FileError> {
        let mut lines = Vec::new();
        let mut open = self.open()?;
        for row in rows {
            let bytes = row.line.len() as u64 + 1;
            let size = open.bytes + lines.len() as u64;
            if size > 0 && size + bytes > self.settings.max_size {
                self.write(&mut open, &mut lines)?;
                self.rotate(open)?;
                open = self.open()?;
            }
            lines.extend_from_slice(row.line.as_bytes());
            lines.push(b'\n');
        }
        self.write(&mut open, &mut lines)?;
        self.open = Some(open);
        Ok(())
    }

    /// Makes sure that what was written survives a loss of power.
    pub(super) fn close(&mut self) -> Result<(), FileError> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        open.file.sync_all().map_err(self.failed("sync"))
    }

    fn failed(&self, what: &'static str) -> impl Fn(io::Error) -> FileError + use<> {
        let path = self.settings.path.clone();
        move |source| FileError {
            what,
            path: path.clone(),
            source,
        }
    }

    /// The file at the path: the one that is open, unless somebody moved or deleted it.
    fn open(&mut self) -> Result<Open, FileError> {
        let failed = self.failed("open");
        let found = match fs::metadata(&self.settings.path) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        if let Some(open) = self.open.take() {
            let identity = found.as_ref().map(|found| (found.dev(), found.ino()));
            if identity == Some(open.identity) {
                return Ok(open);
            }
            open.file.sync_all().map_err(self.failed("sync"))?;
        }
        // Opening a pipe or a device could wait for ever.
        if found.is_some_and(|found| !found.is_file()) {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
            return Err(failed(error));
        }
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        let file = options.mode(OWNER_ONLY).open(&self.settings.path);
        let mut file = file.map_err(&failed)?;
        let found = file.metadata().map_err(&failed)?;
        let completed = complete(&mut file, found.len());
        Ok(Open {
            bytes: found.len() + completed.map_err(self.failed("complete the last line of"))?,
            identity: (found.dev(), found.ino()),
            file,
        })
    }

    fn write(&self, open: &mut Open, lines: &mut Vec<u8>) -> Result<(), FileError> {
        open.file
            .write_all(lines)
            .map_err(self.failed("write to"))?;
        open.bytes += lines.len() as u64;
        lines.clear();
        Ok(())
    }

    /// Makes place for a new file. A kill in between leaves a number free, and loses nothing.
    fn rotate(&self, open: Open) -> Result<(), FileError> {
        open.file.sync_all().map_err(self.failed("sync"))?;
        drop(open);
        for number in (1..self.settings.keep).rev() {
            let to = numbered(&self.settings.path, number + 1);
            match fs::rename(numbered(&self.settings.path, number), to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.failed("rotate")(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        let renamed = fs::rename(&self.settings.path, numbered(&self.settings.path, 1));
        renamed.map_err(self.failed("rotate"))?;
        let folder = File::open(self.settings.folder());
        folder
            .and_then(|folder| folder.sync_all())
            .map_err(self.failed("sync the folder of"))
    }
}

/// The path of an old file.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}

/// Ends the last line, which a kill or a full disk may have cut, so that no record is glued to it;
/// returns how many bytes that took.
fn complete(file: &mut File, bytes: u64) -> io::Result<u64> {
    if bytes == 0 {
        return Ok(0);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" {
        return Ok(0);
    }
    file.write_all(b"\n")?;
    Ok(1)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::event::ClockTime;
    use crate::record::RecordKind;

    fn row(sequence: u64, line: &str) -> JournalRow {
        JournalRow {
            sequence,
            kind: RecordKind::Event,
            subject: String::new(),
            at: ClockTime::default(),
            line: line.to_owned(),
        }
    }

    fn sink(path: &Path) -> FileSink {
        FileSink::new(&config::SinkFile {
            path: path.to_owned(),
            max_size: 20,
            keep: 2,
        })
    }

    fn deliver(sink: &mut FileSink, lines: &[&str]) -> Result<(), FileError> {
        let rows: Vec<_> = lines.iter().map(|line| row(1, line)).collect();
        sink.deliver(&rows.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_file_is_rotated_before_it_is_too_large_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut sink = sink(&path);
        // Each has 10 bytes with its line feed, so two fit.
        let lines: Vec<String> = (0..7).map(|number| format!("record {number}_")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        deliver(&mut sink, &lines[..1]).unwrap();
        deliver(&mut sink, &lines[1..]).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("out"), "record 6_\n");
        assert_eq!(read("out.1"), "record 4_\nrecord 5_\n");
        assert_eq!(read("out.2"), "record 2_\nrecord 3_\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, OWNER_ONLY);
        // A number that a kill left free is taken first.
        fs::remove_file(folder.path().join("out.1")).unwrap();
        deliver(&mut sink, &[&"x".repeat(50)]).unwrap();
        assert_eq!(read("out.1"), "record 6_\n");
        assert_eq!(read("out.2"), "record 2_\nrecord 3_\n");
        assert_eq!(read("out").len(), 51, "a large record is alone");
    }

    #[test]
    fn a_line_that_was_cut_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        for (before, after) in [
            ("", "next\n"),
            ("whole\n", "whole\nnext\n"),
            ("cu", "cu\nnext\n"),
        ] {
            fs::write(&path, before).unwrap();
            deliver(&mut sink(&path), &["next"]).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
        }
    }

    #[test]
    fn a_file_that_was_moved_or_deleted_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut sink = sink(&path);
        deliver(&mut sink, &["first"]).unwrap();
        fs::rename(&path, folder.path().join("moved")).unwrap();
        deliver(&mut sink, &["second"]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second\n");
        fs::remove_file(&path).unwrap();
        deliver(&mut sink, &["third"]).unwrap();
        sink.close().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "third\n");
    }

    #[test]
    fn an_error_names_the_path_and_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("not-there/out");
        let mut missing = sink(&path);
        let error = deliver(&mut missing, &["x"]).unwrap_err().to_string();
        let start = format!("failed to open {}: ", path.display());
        assert!(error.starts_with(&start), "{error}");
        assert!(error.ends_with("; create its folder, or correct the sink's file.path"));
        fs::create_dir(folder.path().join("not-there")).unwrap();
        deliver(&mut missing, &["x"]).unwrap();
        let error = deliver(&mut sink(folder.path()), &["x"]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("it is not a regular file; name a file")
        );
    }
}
