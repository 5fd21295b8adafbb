//! The file that `capture` writes: lines of REFERENCE.md's first shape, compressed by its ending.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use crate::event::RawMessage;

/// One line.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    received_at: &'a str,
    platform: &'static str,
    message: Message<'a>,
}

/// A message as Pub/Sub shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    message_id: &'a str,
    publish_time: &'a str,
    attributes: Attributes,
    data: String,
}

/// SDM's messages have none, and the source keeps none.
#[derive(Serialize)]
struct Attributes {}

/// A capture file that is being written. Its name is on disk from the start; lines are whole and on
/// disk after `sync`; a compressed file is complete after `finish`.
pub(super) struct CaptureFile {
    encoder: Encoder,
    /// The same file, for what encoders don't pass on.
    file: File,
    path: PathBuf,
}

enum Encoder {
    Plain(File),
    Gzip(GzEncoder<File>),
    Zstd(zstd::Encoder<'static, File>),
}

impl CaptureFile {
    /// Makes the file, for its owner alone: it holds user ids and clip addresses. Refuses one that
    /// exists.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let create = || {
            let file = File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?;
            // Its name too, or a loss of power could take away what was acked.
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
            let encoder = Encoder::new(file.try_clone()?, path)?;
            Ok::<_, io::Error>(Self {
                encoder,
                file,
                path: path.to_owned(),
            })
        };
        create().with_context(|| {
            format!(
                "failed to make {}; name a file that doesn't exist yet",
                path.display()
            )
        })
    }

    /// Adds a line for a message.
    pub(super) fn write(&mut self, raw: &RawMessage) -> anyhow::Result<()> {
        let message = Message {
            message_id: &raw.message_id,
            publish_time: raw.publish_time.0.as_str(),
            attributes: Attributes {},
            data: BASE64.encode(&raw.body),
        };
        let received_at = raw.received_at.0.as_str();
        let line = Line {
            received_at,
            platform: raw.platform.as_str(),
            message,
        };
        let mut line = serde_json::to_vec(&line)?;
        line.push(b'\n');
        self.encoder
            .writer()
            .write_all(&line)
            .with_context(|| failed(&self.path))
    }

    /// Waits until all lines so far are on disk.
    pub(super) fn sync(&mut self) -> anyhow::Result<()> {
        let synced = self
            .encoder
            .writer()
            .flush()
            .and_then(|()| self.file.sync_data());
        synced.with_context(|| failed(&self.path))
    }

    /// Completes the file, and waits until it is on disk.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        let Self { encoder, path, .. } = self;
        let finished = encoder.finish().and_then(|file| file.sync_all());
        finished.with_context(|| failed(&path))
    }
}

fn failed(path: &Path) -> String {
    format!("failed to write {}", path.display())
}

impl Encoder {
    /// By the file's ending, as the reader of capture files does it.
    fn new(file: File, path: &Path) -> io::Result<Self> {
        Ok(match path.extension().and_then(|ending| ending.to_str()) {
            Some("gz") => Self::Gzip(GzEncoder::new(file, Compression::default())),
            Some("zst") => Self::Zstd(zstd::Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL)?),
            Some(_) | None => Self::Plain(file),
        })
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Plain(file) => file,
            Self::Gzip(encoder) => encoder,
            Self::Zstd(encoder) => encoder,
        }
    }

    fn finish(self) -> io::Result<File> {
        match self {
            Self::Plain(file) => Ok(file),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use bytes::Bytes;

    use super::*;
    use crate::event::{Platform, PublishTime, ReceivedAt, Timestamp};
    use crate::sources::capture;

    fn message(id: &str) -> RawMessage {
        let time = |text| Timestamp::parse(text).unwrap();
        RawMessage {
            platform: Platform::Sdm,
            message_id: id.into(),
            publish_time: PublishTime(time("2025-06-09T13:52:03.313Z")),
            received_at: ReceivedAt(time("2025-06-09T13:52:04.000000001Z")),
            body: Bytes::from_static(b"\x00not JSON\n\xff"),
            place: None,
        }
    }

    fn read(path: &Path) -> Vec<RawMessage> {
        let messages = capture::open(path).unwrap().map(|message| message.unwrap());
        messages
            .inspect(|message| assert!(message.fault.is_none()))
            .map(|one| one.raw)
            .collect()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["day.jsonl", "day.jsonl.gz", "day.jsonl.zst"] {
            let path = folder.path().join(name);
            let mut file = CaptureFile::create(&path).unwrap();
            file.write(&message("1")).unwrap();
            file.write(&message("2")).unwrap();
            file.finish().unwrap();
            let messages = read(&path);
            assert_eq!(messages.len(), 2, "{name}");
            let (read, written) = (&messages[1], message("2"));
            assert_eq!(read.message_id, written.message_id);
            assert_eq!(read.publish_time, written.publish_time);
            assert_eq!(read.received_at, written.received_at);
            assert_eq!(read.body, written.body);
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_line_is_the_first_shape_of_the_reference() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.jsonl");
        let mut file = CaptureFile::create(&path).unwrap();
        file.write(&message("1")).unwrap();
        file.finish().unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\"receivedAt\":\"2025-06-09T13:52:04.000000001Z\",\"platform\":\"sdm\",\"message\":\
             {\"messageId\":\"1\",\"publishTime\":\"2025-06-09T13:52:03.313Z\",\"attributes\":{},\
             \"data\":\"AG5vdCBKU09OCv8=\"}}\n"
        );
    }

    #[test]
    fn synced_lines_can_be_read_before_the_file_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["day.jsonl", "day.jsonl.gz", "day.jsonl.zst"] {
            let path = folder.path().join(name);
            let mut file = CaptureFile::create(&path).unwrap();
            file.write(&message("1")).unwrap();
            file.sync().unwrap();
            let first = capture::open(&path).unwrap().next().unwrap().unwrap();
            assert_eq!(&*first.raw.message_id, "1", "{name}");
        }
    }

    #[test]
    fn a_file_that_exists_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("day.jsonl");
        fs::write(&path, "kept").unwrap();
        let error = CaptureFile::create(&path).err().unwrap();
        assert!(
            error
                .to_string()
                .contains("name a file that doesn't exist yet"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
    }
}
