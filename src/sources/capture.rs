//! Capture files: recorded messages, one JSON object a line (REFERENCE.md, section 2).
//!
//! Reads all three line shapes, plain, gzip or zstd. A line that is none of them is handed on with
//! what is wrong with it; only a file that can't be read is an error.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use chrono::DateTime;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::message::Incoming;
use crate::event::{Platform, PublishTime, RawMessage, Reason, ReceivedAt, Reject, Timestamp};

/// Longest line that is kept, in bytes: Pub/Sub's largest message (10 MB) in base64, and its
/// envelope. The rest of a longer one is skipped.
const MAX_LINE_BYTES: u64 = 16 << 20;

/// A capture file that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("failed to read capture {place}")]
pub struct CaptureError {
    /// The file, and behind a colon the line, if it was opened.
    place: String,
    source: io::Error,
}

/// The messages of one capture file, blank lines left out.
pub struct Reader {
    input: Box<dyn BufRead + Send>,
    path: PathBuf,
    name: String,
    line: u64,
    /// When the previous message was received: the time of a line that has none.
    clock: Timestamp,
}

/// Opens a capture file by its ending: `.gz`, `.zst`, anything else plain; `-` is standard input.
pub fn open(path: &Path) -> Result<Reader, CaptureError> {
    let failed = |source| CaptureError {
        place: path.display().to_string(),
        source,
    };
    let input: Box<dyn Read + Send> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        let file = File::open(path).map_err(failed)?;
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(file))),
            Some("zst") => Box::new(zstd::Decoder::new(file).map_err(failed)?),
            Some(_) | None => Box::new(file),
        }
    };
    Ok(Reader::new(
        Box::new(BufReader::with_capacity(1 << 16, input)),
        path,
    ))
}

impl Reader {
    /// Reads from anything; `path` names it in message ids and faults.
    pub fn new(input: Box<dyn BufRead + Send>, path: &Path) -> Self {
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned();
        let clock = Timestamp::from_utc(DateTime::UNIX_EPOCH);
        Self {
            input,
            path: path.to_owned(),
            name,
            line: 0,
            clock,
        }
    }

    fn read_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        if (&mut self.input)
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)?
            == 0
        {
            return Ok(None);
        }
        self.line += 1;
        if line.last() != Some(&b'\n') && line.len() as u64 == MAX_LINE_BYTES {
            self.input.skip_until(b'\n')?;
        }
        line.truncate(line.trim_ascii_end().len());
        Ok(Some(line))
    }

    fn message(&mut self, line: Vec<u8>) -> Incoming {
        let place = format!("{}:{}", self.path.display(), self.line);
        let line = Bytes::from(line);
        match self.parse(&line, &place) {
            Ok(raw) => {
                self.clock = raw.received_at.0.clone();
                Incoming::from(raw)
            }
            Err(fault) => {
                let raw = RawMessage {
                    platform: Platform::Sdm,
                    message_id: self.message_id().into(),
                    publish_time: PublishTime(self.clock.clone()),
                    received_at: ReceivedAt(self.clock.clone()),
                    body: line,
                    place: Some(place),
                };
                Incoming {
                    raw,
                    fault: Some(fault),
                }
            }
        }
    }

    fn parse(&self, line: &Bytes, place: &str) -> Result<RawMessage, Reject> {
        if line.len() as u64 >= MAX_LINE_BYTES {
            let detail = format!("a line of {MAX_LINE_BYTES} bytes or more");
            return Err(Reject::new(Reason::TooLarge, detail));
        }
        let fields: Line<'_> = serde_json::from_slice(line)
            .map_err(|error| bad(&format!("not a capture line: {error}")))?;
        let platform = text("platform", fields.platform)?.unwrap_or(Cow::Borrowed("sdm"));
        let unknown = || {
            Reject::new(
                Reason::UnknownPlatform,
                format!("no platform is called {platform:?}"),
            )
        };
        let platform = platform.parse().map_err(|_| unknown())?;
        let (body, envelope) = fields.payload(line)?;
        let publish_time = match time("publishTime", envelope.publish_time)? {
            Some(time) => Some(time),
            None => event_time(&body),
        };
        let received_at = time("receivedAt", fields.received_at)?;
        let publish_time = publish_time
            .or_else(|| received_at.clone())
            .ok_or_else(|| {
                bad("no time: it has neither receivedAt nor publishTime nor a readable timestamp")
            })?;
        let message_id = text("messageId", envelope.message_id)?.filter(|id| !id.is_empty());
        Ok(RawMessage {
            platform,
            message_id: message_id.map_or_else(|| self.message_id().into(), Into::into),
            received_at: ReceivedAt(received_at.unwrap_or_else(|| publish_time.clone())),
            publish_time: PublishTime(publish_time),
            body,
            place: Some(place.to_owned()),
        })
    }

    /// The id of a message that has none: a hash of file name and line number.
    fn message_id(&self) -> String {
        let place = format!("{}:{}", self.name, self.line);
        hex::encode(&Sha256::digest(place)[..16])
    }
}

impl Iterator for Reader {
    type Item = Result<Incoming, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.read_line() {
                Ok(Some(line)) if line.is_empty() => {}
                Ok(line) => return line.map(|line| Ok(self.message(line))),
                Err(source) => {
                    let place = format!("{}:{}", self.path.display(), self.line + 1);
                    return Some(Err(CaptureError { place, source }));
                }
            }
        }
    }
}

/// The fields by which the shapes differ, not yet looked into.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    #[serde(borrow)]
    event_id: Option<&'a RawValue>,
    received_at: Option<&'a RawValue>,
    platform: Option<&'a RawValue>,
    publish_time: Option<&'a RawValue>,
    message_id: Option<&'a RawValue>,
    message: Option<&'a RawValue>,
    event: Option<&'a RawValue>,
}

/// What the transport says of a message.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(borrow)]
    message_id: Option<&'a RawValue>,
    publish_time: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
}

impl<'a> Line<'a> {
    /// The payload and its envelope, by the shape of the line.
    fn payload(&self, line: &'a Bytes) -> Result<(Bytes, Envelope<'a>), Reject> {
        let own = Envelope {
            message_id: self.message_id,
            publish_time: self.publish_time,
            data: None,
        };
        match (self.message, self.event) {
            (Some(_), Some(_)) => Err(bad("both message and event")),
            (Some(message), None) => {
                let envelope: Envelope<'a> = serde_json::from_str(message.get())
                    .map_err(|error| bad(&format!("message can't be read: {error}")))?;
                let data = text("message.data", envelope.data)?.unwrap_or_default();
                let body = BASE64.decode(data.as_bytes());
                let body = body.map_err(|error| bad(&format!("message.data: {error}")))?;
                Ok((body.into(), envelope))
            }
            (None, Some(event)) => Ok((line.slice_ref(event.get().as_bytes()), own)),
            (None, None) if self.event_id.is_some() => Ok((line.clone(), Envelope::default())),
            (None, None) => Err(bad("neither message nor event nor eventId")),
        }
    }
}

/// The timestamp of an SDM payload, if it has one that can be read.
fn event_time(body: &[u8]) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Timed<'a> {
        #[serde(borrow)]
        timestamp: Cow<'a, str>,
    }
    Timestamp::parse(&serde_json::from_slice::<Timed<'_>>(body).ok()?.timestamp)
}

fn text<'a>(field: &str, raw: Option<&'a RawValue>) -> Result<Option<Cow<'a, str>>, Reject> {
    // Borrowed where it can be; `Option` takes null as missing.
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let Some(raw) = raw else { return Ok(None) };
    let text: Option<Text<'a>> =
        serde_json::from_str(raw.get()).map_err(|_| bad(&format!("{field} is not a string")))?;
    Ok(text.map(|text| text.0))
}

fn time(field: &str, raw: Option<&RawValue>) -> Result<Option<Timestamp>, Reject> {
    let Some(text) = text(field, raw)? else {
        return Ok(None);
    };
    let time = Timestamp::parse(&text);
    time.map(Some)
        .ok_or_else(|| bad(&format!("{field} is not an RFC 3339 time")))
}

fn bad(detail: &str) -> Reject {
    Reject::new(Reason::BadLine, detail)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use serde_json::json;

    use super::*;

    fn read(text: impl Into<Vec<u8>>) -> Vec<Incoming> {
        let input = Box::new(Cursor::new(text.into()));
        let reader = Reader::new(input, Path::new("/some/where/day.jsonl"));
        reader.collect::<Result<_, _>>().unwrap()
    }

    fn read_one(line: &serde_json::Value) -> Incoming {
        read(line.to_string()).remove(0)
    }

    fn fault(line: &str) -> String {
        let fault = read(line).remove(0).fault.unwrap();
        format!("{}: {}", fault.reason.as_str(), fault.detail)
    }

    #[test]
    fn the_three_shapes_give_the_same_message() {
        let event = json!({"eventId": "e", "timestamp": "2025-06-09T13:52:00Z"});
        let data = BASE64.encode(event.to_string());
        let envelope =
            json!({"messageId": "m", "publishTime": "2025-06-09T13:52:03Z", "data": data});
        let pulled = read_one(&json!({
            "receivedAt": "2025-06-09T13:52:04Z", "platform": "sdm", "message": envelope,
        }));
        let inline = read_one(&json!({
            "receivedAt": "2025-06-09T13:52:04Z", "publishTime": "2025-06-09T13:52:03Z",
            "messageId": "m", "event": event,
        }));
        let bare = read_one(&event);
        for message in [&pulled, &inline, &bare] {
            assert!(message.fault.is_none());
            assert_eq!(message.raw.body, event.to_string());
            assert_eq!(
                message.raw.place.as_deref(),
                Some("/some/where/day.jsonl:1")
            );
        }
        for message in [&pulled, &inline] {
            assert_eq!(&*message.raw.message_id, "m");
            assert_eq!(message.raw.publish_time.0.as_str(), "2025-06-09T13:52:03Z");
            assert_eq!(message.raw.received_at.0.as_str(), "2025-06-09T13:52:04Z");
        }
        assert_eq!(bare.raw.received_at.0.as_str(), "2025-06-09T13:52:00Z");
    }

    #[test]
    fn what_is_missing_has_a_default() {
        let message = read_one(&json!({"publishTime": "2025-06-09T13:52:03Z", "event": {}}));
        assert_eq!(message.raw.received_at.0, message.raw.publish_time.0);
        let message = read_one(&json!({"receivedAt": "2025-06-09T13:52:03Z", "event": {}}));
        assert_eq!(message.raw.publish_time.0, message.raw.received_at.0);
        // The id is a hash of the file's name and the line's number.
        let expected = hex::encode(&Sha256::digest("day.jsonl:1")[..16]);
        assert_eq!(*message.raw.message_id, expected);
        let unnamed = json!({"messageId": "", "receivedAt": "2025-06-09T13:52:03Z", "event": {}});
        assert_eq!(*read_one(&unnamed).raw.message_id, expected);
    }

    #[test]
    fn a_line_of_no_shape_is_handed_on_with_what_is_wrong() {
        for (line, expected) in [
            ("hello", "bad_line: not a capture line"),
            ("[]", "bad_line: not a capture line"),
            ("{}", "bad_line: neither message nor event nor eventId"),
            (
                "{\"event\":{},\"message\":{}}",
                "bad_line: both message and event",
            ),
            ("{\"event\":{}}", "bad_line: no time"),
            (
                "{\"event\":{},\"receivedAt\":\"soon\"}",
                "bad_line: receivedAt is not an RFC 3339",
            ),
            (
                "{\"event\":{},\"receivedAt\":7}",
                "bad_line: receivedAt is not a string",
            ),
            ("{\"message\":{\"data\":\"?\"}}", "bad_line: message.data: "),
            ("{\"message\":7}", "bad_line: message can't be read"),
            (
                "{\"event\":{},\"platform\":\"toaster\"}",
                "unknown_platform: ",
            ),
        ] {
            assert!(fault(line).starts_with(expected), "{line}: {}", fault(line));
        }
    }

    #[test]
    fn blank_lines_are_left_out_and_line_ends_do_not_matter() {
        let line = r#"{"receivedAt":"2025-06-09T13:52:03Z","event":{}}"#;
        let messages = read(format!("\n{line}\r\n  \n\t\n{line}"));
        let places: Vec<_> = messages
            .iter()
            .filter_map(|one| one.raw.place.as_deref())
            .collect();
        assert_eq!(
            places,
            ["/some/where/day.jsonl:2", "/some/where/day.jsonl:5"]
        );
        assert!(messages.iter().all(|message| message.fault.is_none()));
        assert!(read("").is_empty());
    }

    #[test]
    fn a_bad_line_is_received_when_the_one_before_it_was() {
        let line = r#"{"receivedAt":"2025-06-09T13:52:03Z","event":{}}"#;
        let messages = read(format!("hello\n{line}\nhello"));
        let received: Vec<_> = messages
            .iter()
            .map(|one| one.raw.received_at.0.as_str())
            .collect();
        assert_eq!(received[1..], ["2025-06-09T13:52:03Z"; 2]);
        assert_eq!(messages[2].raw.body, "hello");
    }

    #[test]
    fn bytes_that_are_not_text_are_kept() {
        let messages = read(b"\xff\xfe\n".to_vec());
        assert_eq!(messages[0].raw.body, &b"\xff\xfe"[..]);
        assert!(messages[0].fault.is_some());
    }

    #[test]
    fn the_length_of_a_line_is_bounded() {
        let sound = r#"{"receivedAt":"2025-06-09T13:52:03Z","event":{}}"#;
        let mut text = vec![b'x'; usize::try_from(MAX_LINE_BYTES).unwrap() + 10];
        text.extend(format!("\n{sound}").bytes());
        let messages = read(text);
        assert_eq!(messages.len(), 2, "the rest of the long line is skipped");
        let fault = messages[0].fault.as_ref().unwrap();
        assert_eq!(fault.reason, Reason::TooLarge);
        assert_eq!(
            messages[1].raw.place.as_deref(),
            Some("/some/where/day.jsonl:2")
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = open(Path::new("/no/such/file.jsonl")).err().unwrap();
        assert!(error.to_string().contains("/no/such/file.jsonl"), "{error}");
    }
}
