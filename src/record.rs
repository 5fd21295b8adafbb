//! A journal record as a structured-mode CloudEvent (contract, section 3).
//!
//! Pure: turns what the engine decided into the JSON that others rely on. It decides nothing.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::graph::GraphChange;
use crate::engine::notifications::Notification;
use crate::event::{
    Clip, Event, Flag, NotificationId, Object, Payload, Platform, ResourceName, Timestamp,
};

/// What a record tells of.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum RecordKind {
    /// A revision of a notification.
    Notification,
    /// An event, in order.
    #[default]
    Event,
    /// A change of the graph.
    Relation,
}

impl RecordKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Notification, Self::Event, Self::Relation];

    /// The name used on the command line and in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notification => "notification",
            Self::Event => "event",
            Self::Relation => "relation",
        }
    }

    /// The kind of that name, or `None`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A record before the journal gives it a number.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// What it tells of.
    pub kind: RecordKind,
    /// The resource that it is about.
    pub subject: String,
    /// One line of JSON, written once: its number goes into the place that is kept for it. Not a
    /// part of other JSON, where each of its quotes would be escaped.
    #[serde(skip)]
    line: String,
    number_at: usize,
}

/// The place of a sequence: 20 digits (contract, section 3), enough for any `u64`.
const UNNUMBERED: &str = "00000000000000000000";

/// What ends the head, right behind the sequence, and what stands there instead to let data follow.
const HEAD_END: &str = r#""}"#;
const DATA_FOLLOWS: &str = r#"","data":"#;

/// Bytes of most lines, so that they are written without growing: an SDM event has about 1,300.
const LINE_BYTES: usize = 2048;

/// Bytes of the end of an event's record, unless it has many flags.
const TAIL_BYTES: usize = 64;

impl Record {
    /// A revision of a notification. The record must be written right after the revision was made.
    pub fn notification(id: NotificationId, state: &Notification) -> Self {
        let revision_id = format!("{id}.{}", state.revision);
        let data = NotificationData::new(id, state);
        let (platform, subject) = (state.platform, Some(&state.resource));
        let time = &state.last_event_at;
        Self::new(
            RecordKind::Notification,
            &revision_id,
            platform,
            subject,
            time,
            &data,
        )
    }

    /// An event of the ordered lane.
    pub fn event(head: EventHead, late: bool, flags: &BTreeSet<Flag>) -> Self {
        let EventHead(mut record) = head;
        let mut tail = Vec::with_capacity(TAIL_BYTES);
        append(&mut tail, &EventTail { late, flags });
        let tail = text(tail);
        // The tail's own brace, opened, is the comma between the two.
        record.line.push(',');
        record.line.push_str(tail.trim_start_matches('{'));
        record.line.push('}');
        record
    }

    /// The `n`th change of the graph that an event brought, counted from 1.
    pub fn relation(event: &Event, n: usize, change: &GraphChange) -> Self {
        let (id, subject) = (format!("{}.{n}", event.key), Some(&change.resource));
        Self::new(
            RecordKind::Relation,
            &id,
            event.platform,
            subject,
            &event.time.0,
            change,
        )
    }

    fn new(
        kind: RecordKind,
        id: &str,
        platform: Platform,
        subject: Option<&ResourceName>,
        time: &Timestamp,
        data: &impl Serialize,
    ) -> Self {
        let source = source(platform, subject);
        let subject = subject.map_or("", ResourceName::as_str);
        let mut line = Vec::with_capacity(LINE_BYTES);
        append(
            &mut line,
            &Head {
                specversion: "1.0",
                id,
                source: &source,
                r#type: match kind {
                    RecordKind::Notification => "hearthd.notification",
                    RecordKind::Event => "hearthd.event",
                    RecordKind::Relation => "hearthd.relation",
                },
                subject,
                time,
                datacontenttype: "application/json",
                sequence: UNNUMBERED,
            },
        );
        line.truncate(line.len().saturating_sub(HEAD_END.len()));
        let number_at = line.len().saturating_sub(UNNUMBERED.len());
        line.extend_from_slice(DATA_FOLLOWS.as_bytes());
        append(&mut line, data);
        line.push(b'}');
        Self {
            kind,
            subject: subject.to_owned(),
            line: text(line),
            number_at,
        }
    }

    /// The record's line, not numbered yet.
    pub fn unnumbered(&self) -> &str {
        &self.line
    }

    /// A record that was read back, with its line.
    #[must_use]
    pub fn with_line(self, line: String) -> Self {
        Self { line, ..self }
    }

    /// Bytes that the record takes in memory, about.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.subject.len() + self.line.capacity()
    }

    /// The record as one line of JSON, without line end, under its number in the journal.
    pub fn into_line(self, sequence: u64) -> String {
        let mut line = self.line;
        let place = self.number_at..self.number_at.saturating_add(UNNUMBERED.len());
        if line.get(place.clone()).is_some() {
            line.replace_range(place, &format!("{sequence:020}"));
        }
        line
    }
}

/// The record of an event, written but for its end: what the engine has to say.
#[derive(Clone, Debug, Default)]
pub struct EventHead(Record);

impl EventHead {
    /// Writes the record of an event, but for its end.
    pub fn new(event: &Event, payload: &Payload) -> Self {
        let (id, data) = (event.key.to_string(), EventData::new(event, payload));
        let (platform, subject) = (event.platform, event.subject());
        let mut record = Record::new(
            RecordKind::Event,
            &id,
            platform,
            subject,
            &event.time.0,
            &data,
        );
        // Both objects are still open.
        record
            .line
            .truncate(record.line.trim_end_matches('}').len());
        Self(record)
    }
}

/// The end of an event's `data`.
#[derive(Serialize)]
struct EventTail<'a> {
    late: bool,
    flags: &'a BTreeSet<Flag>,
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

fn source(platform: Platform, resource: Option<&ResourceName>) -> String {
    let authority = match platform {
        Platform::Sdm => "//smartdevicemanagement.googleapis.com",
    };
    match resource.and_then(ResourceName::enterprise) {
        Some(enterprise) => [authority, "/", enterprise].concat(),
        None => authority.to_owned(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NotificationData<'a> {
    notification_id: NotificationId,
    revision: u32,
    state: &'static str,
    closed_by: Option<&'static str>,
    alert: bool,
    alert_until: Option<&'a Timestamp>,
    resource: &'a ResourceName,
    structure: Option<ResourceName>,
    room: Option<&'a ResourceName>,
    title: &'a str,
    body: String,
    kinds: &'a BTreeSet<String>,
    thread_id: Option<&'a str>,
    session_ids: &'a BTreeSet<String>,
    clips: &'a BTreeSet<Clip>,
    zones: &'a BTreeSet<String>,
    started_at: &'a Timestamp,
    last_event_at: &'a Timestamp,
    ended_at: Option<&'a Timestamp>,
    user_ids: &'a BTreeSet<String>,
}

impl<'a> NotificationData<'a> {
    fn new(id: NotificationId, state: &'a Notification) -> Self {
        let shown = &state.shown;
        let closed = state.is_closed();
        Self {
            notification_id: id,
            revision: state.revision,
            state: if closed { "closed" } else { "open" },
            closed_by: closed.then_some(match (&state.ended_at, &state.thread_id) {
                (Some(_), _) => "ended",
                (None, Some(_)) => "timeout",
                (None, None) => "quiet",
            }),
            alert: shown.alert_until.is_some(),
            alert_until: shown.alert_until.as_ref(),
            resource: &state.resource,
            structure: shown.structure(),
            room: shown.room.as_ref(),
            title: shown
                .display_name
                .as_deref()
                .unwrap_or_else(|| state.resource.short_id()),
            body: body(&state.kinds),
            kinds: &state.kinds,
            thread_id: state.thread_id.as_deref(),
            session_ids: &state.sessions,
            clips: &state.clips,
            zones: &state.zones,
            started_at: &state.started_at,
            last_event_at: &state.last_event_at,
            ended_at: closed.then(|| state.ended_at.as_ref().unwrap_or(&state.last_event_at)),
            user_ids: &state.users,
        }
    }
}

/// The kinds in words; a notification that has none holds a clip alone.
pub fn body(kinds: &BTreeSet<String>) -> String {
    let mut body = kinds
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    if body.is_empty() {
        body.push_str("clip");
    }
    body
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventData<'a> {
    platform: Platform,
    event_id: Option<&'a str>,
    timestamp: &'a Timestamp,
    publish_time: &'a Timestamp,
    received_at: &'a Timestamp,
    message_id: &'a str,
    resource: Option<&'a ResourceName>,
    user_id: Option<&'a str>,
    thread_id: Option<&'a str>,
    thread_state: Option<&'a str>,
    resource_group: &'a Value,
    relation: Option<RelationData<'a>>,
    traits: Option<&'a Object>,
    events: Option<&'a Object>,
    ordering_key: &'a str,
}

#[derive(Serialize)]
struct RelationData<'a> {
    r#type: &'a str,
    subject: &'a str,
    object: &'a ResourceName,
}

impl<'a> EventData<'a> {
    fn new(event: &'a Event, payload: &'a Payload) -> Self {
        Self {
            platform: event.platform,
            event_id: event.event_id.as_deref(),
            timestamp: &event.time.0,
            publish_time: &event.publish_time.0,
            received_at: &event.received_at.0,
            message_id: &event.message_id,
            resource: event.resource.as_ref(),
            user_id: event.user_id.as_deref(),
            thread_id: event.thread.as_ref().map(|thread| thread.id.as_str()),
            thread_state: event.thread_state.as_deref(),
            resource_group: &payload.resource_group,
            relation: event.relation.as_ref().map(|relation| RelationData {
                r#type: &relation.type_name,
                subject: relation.subject.as_ref().map_or("", ResourceName::as_str),
                object: &relation.object,
            }),
            traits: payload.traits.as_ref(),
            events: payload.events.as_ref(),
            ordering_key: event.ordering_key(),
        }
    }
}
