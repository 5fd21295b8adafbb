//! A journal record as a structured-mode CloudEvent (REFERENCE.md, section 3).
//!
//! Pure: turns what the engine decided into the JSON that others rely on. It decides nothing. The
//! start of an event's record is written where the event is decoded, the rest with its number.

mod event;
mod notification;

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};

use self::event::{EventData, EventEnd};
use self::notification::NotificationData;
pub use self::notification::body;
use crate::engine::draft::{Draft, EventDraft, RelationDraft};
use crate::engine::notifications::Notification;
use crate::event::{Event, NotificationId, Payload, Platform, Rendered, ResourceName, Timestamp};

/// What a record tells of, under the name used on the command line and in settings.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum RecordKind {
    /// A revision of a notification.
    Notification,
    /// An event, in order.
    Event,
    /// A change of the graph.
    Relation,
}

impl RecordKind {
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// One record of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub kind: RecordKind,
    /// The resource that it is about.
    pub subject: String,
    /// One line of JSON, without line end.
    pub line: String,
}

/// The place of a sequence: 20 digits (REFERENCE.md, section 3), enough for any `u64`.
const UNNUMBERED: &str = "00000000000000000000";

/// What ends the head, right behind the sequence, and what stands there instead to let data follow.
const HEAD_END: &str = r#""}"#;
const DATA_FOLLOWS: &str = r#"","data":"#;

/// Bytes of most lines, so that they are written without growing: an SDM event has about 1,300.
const LINE_BYTES: usize = 2048;

/// Bytes of the end of an event's record, unless it has many flags.
const END_BYTES: usize = 64;

impl Record {
    /// Writes what the engine has to tell as the record of that number.
    pub fn new(draft: Draft, sequence: u64) -> Self {
        let (kind, rendered) = match draft {
            Draft::Notification(id, state) => (RecordKind::Notification, revision(id, &state)),
            Draft::Event(event) => (RecordKind::Event, finished(event)),
            Draft::Relation(relation) => (RecordKind::Relation, graph_change(&relation)),
        };
        let Rendered {
            subject,
            number_at,
            text: mut line,
        } = rendered;
        let place = number_at..number_at.saturating_add(UNNUMBERED.len());
        if line.get(place.clone()).is_some() {
            line.replace_range(place, &format!("{sequence:020}"));
        }
        Self {
            kind,
            subject,
            line,
        }
    }
}

/// The start of the record of an event: all but its number, and what the engine has to say.
pub fn render(event: &Event, payload: &Payload, ordering_key: &str) -> Rendered {
    let id = event.key.to_string();
    let data = EventData::new(event, payload, ordering_key);
    let about = (event.platform, event.subject());
    let mut rendered = write(RecordKind::Event, &id, about, &event.time.0, &data);
    // Both objects are still open.
    let open = rendered.text.trim_end_matches('}').len();
    rendered.text.truncate(open);
    rendered
}

fn finished(draft: EventDraft) -> Rendered {
    let mut rendered = draft.rendered;
    let mut end = Vec::with_capacity(END_BYTES);
    let data = EventEnd {
        late: draft.late,
        flags: &draft.flags,
    };
    append(&mut end, &data);
    // The end's own brace, opened, is the comma between the two.
    rendered.text.push(',');
    rendered.text.push_str(text(end).trim_start_matches('{'));
    rendered.text.push('}');
    rendered
}

fn revision(id: NotificationId, state: &Notification) -> Rendered {
    let revision_id = format!("{id}.{}", state.revision);
    let data = NotificationData::new(id, state);
    let about = (state.platform, Some(&state.resource));
    let time = &state.last_event_at;
    write(RecordKind::Notification, &revision_id, about, time, &data)
}

fn graph_change(draft: &RelationDraft) -> Rendered {
    let id = format!("{}.{}", draft.key, draft.number);
    let about = (draft.platform, Some(&draft.change.resource));
    let time = &draft.time.0;
    write(RecordKind::Relation, &id, about, time, &draft.change)
}

fn write(
    kind: RecordKind,
    id: &str,
    (platform, resource): (Platform, Option<&ResourceName>),
    time: &Timestamp,
    data: &impl Serialize,
) -> Rendered {
    let subject = resource.map_or("", ResourceName::as_str);
    let mut line = Vec::with_capacity(LINE_BYTES);
    let head = Head {
        specversion: "1.0",
        id,
        source: &source(platform, resource),
        r#type: match kind {
            RecordKind::Notification => "hearthd.notification",
            RecordKind::Event => "hearthd.event",
            RecordKind::Relation => "hearthd.relation",
        },
        subject,
        time,
        datacontenttype: "application/json",
        sequence: UNNUMBERED,
    };
    append(&mut line, &head);
    line.truncate(line.len().saturating_sub(HEAD_END.len()));
    let number_at = line.len().saturating_sub(UNNUMBERED.len());
    line.extend_from_slice(DATA_FOLLOWS.as_bytes());
    append(&mut line, data);
    line.push(b'}');
    Rendered {
        subject: subject.to_owned(),
        number_at,
        text: text(line),
    }
}

#[derive(Serialize)]
struct Head<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    r#type: &'static str,
    subject: &'a str,
    time: &'a Timestamp,
    datacontenttype: &'static str,
    sequence: &'static str,
}

/// The CloudEvents source: the platform's authority, and the account that the resource is in.
fn source(platform: Platform, resource: Option<&ResourceName>) -> String {
    let authority = match platform {
        Platform::Sdm => "//smartdevicemanagement.googleapis.com",
    };
    match resource.and_then(ResourceName::account) {
        Some(enterprise) => [authority, "/", enterprise].concat(),
        None => authority.to_owned(),
    }
}

/// The `data` of a notification, as the last revision showed it.
pub fn notification_data(id: NotificationId, state: &Notification) -> Box<str> {
    let mut data = Vec::with_capacity(LINE_BYTES);
    append(&mut data, &NotificationData::new(id, state));
    text(data).into()
}

/// The notificationId and the `data` of a notification's line.
///
/// # Errors
///
/// If it is no such line.
pub fn notification_of(line: &str) -> Result<(String, Box<str>), serde_json::Error> {
    #[derive(Deserialize)]
    struct Line<'a> {
        id: &'a str,
        #[serde(borrow)]
        data: &'a serde_json::value::RawValue,
    }
    let Line { id, data } = serde_json::from_str(line)?;
    let id = id.split('.').next().unwrap_or_default();
    Ok((id.to_owned(), data.get().into()))
}

/// JSON texts as one JSON array.
pub fn array<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", texts.collect::<Vec<_>>().join(","))
}

/// Writes our own types, whose serialisation can't fail: they have text keys and no foreign code.
fn append(to: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(to, value).ok();
}

/// JSON as text, which it is.
fn text(json: Vec<u8>) -> String {
    String::from_utf8(json).unwrap_or_default()
}
