//! What the window needs to know of a record, read once from its line.

use std::borrow::Cow;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::{ClockTime, NotificationId, Timestamp};
use crate::record::RecordKind;

/// One row of the journal, as it is offered to a window.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub sequence: u64,
    pub kind: RecordKind,
    /// When it was written into the journal.
    pub at: ClockTime,
    pub line: &'a str,
}

/// Which notification a record shows, and how. It is what coalescing and the ringing rule judge by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision {
    pub id: NotificationId,
    pub number: u32,
    pub closed: bool,
    /// Until when it may ring; `None` if it must not.
    pub alert_until: Option<DateTime<Utc>>,
}

impl Revision {
    /// Whether it should still ring.
    pub fn is_fresh(&self, wall: DateTime<Utc>) -> bool {
        self.alert_until.is_some_and(|until| wall <= until)
    }
}

/// What is delivered in order: a notification, an ordering key, or a resource of the graph.
///
/// A hash of its text, which is smaller. Two keys with one hash are delivered one after the other,
/// which is only slower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderKey(u64);

impl OrderKey {
    /// The one key of a sink that gets everything in order.
    pub const ALL: Self = Self(0);

    fn of(text: &str) -> Self {
        // The same in each run, unlike the hasher of a map.
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self(hasher.finish())
    }

    #[cfg(test)]
    pub(super) fn test(number: u64) -> Self {
        Self(number)
    }
}

/// What filters and queues need of a record.
#[derive(Debug)]
pub struct Facts<'a> {
    pub key: OrderKey,
    pub revision: Option<Revision>,
    /// The resource that it is about; of a relation update, its object.
    pub resource: Cow<'a, str>,
    /// The structure that it is in, or was in before it moved. Events don't say it.
    pub structures: [Option<Cow<'a, str>>; 2],
    /// The kinds of a notification, as JSON.
    pub kinds: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    subject: Text<'a>,
    #[serde(borrow)]
    data: Data<'a>,
}

/// A text that is borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Fields of all kinds of records. None has a field of this name with another meaning.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    notification_id: Option<NotificationId>,
    revision: Option<u32>,
    #[serde(borrow)]
    state: Option<Text<'a>>,
    #[serde(default)]
    alert: bool,
    #[serde(borrow)]
    alert_until: Option<Text<'a>>,
    #[serde(borrow)]
    kinds: Option<&'a RawValue>,
    #[serde(borrow)]
    structure: Option<Text<'a>>,
    #[serde(borrow)]
    previous: Option<Previous<'a>>,
    #[serde(borrow)]
    ordering_key: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Previous<'a> {
    #[serde(borrow)]
    structure: Option<Text<'a>>,
}

impl<'a> Facts<'a> {
    /// Reads the line of a record.
    ///
    /// # Errors
    ///
    /// If it is no JSON, or a field is missing or of another type than REFERENCE.md says.
    pub fn read(kind: RecordKind, line: &'a str) -> Result<Self, serde_json::Error> {
        let Line { subject, data } = serde_json::from_str(line)?;
        let resource = subject.0;
        let missing = |name| <serde_json::Error as serde::de::Error>::missing_field(name);
        let (key, revision) = match kind {
            RecordKind::Notification => {
                let revision = Revision {
                    id: data.notification_id.ok_or(missing("notificationId"))?,
                    number: data.revision.ok_or(missing("revision"))?,
                    closed: data.state.is_some_and(|state| state.0 == "closed"),
                    alert_until: alert_until(data.alert, data.alert_until.as_ref())?,
                };
                (OrderKey::of(&revision.id.to_string()), Some(revision))
            }
            RecordKind::Event => {
                let key = data.ordering_key.ok_or(missing("orderingKey"))?;
                (OrderKey::of(&key.0), None)
            }
            RecordKind::Relation => (OrderKey::of(&resource), None),
        };
        let previous = data.previous.and_then(|previous| previous.structure);
        Ok(Self {
            key,
            revision,
            resource,
            structures: [data.structure, previous].map(|text| text.map(|text| text.0)),
            kinds: data.kinds,
        })
    }
}

fn alert_until(
    alert: bool,
    until: Option<&Text<'_>>,
) -> Result<Option<DateTime<Utc>>, serde_json::Error> {
    let Some(Text(until)) = until.filter(|_| alert) else {
        return Ok(None);
    };
    match Timestamp::parse(until) {
        Some(until) => Ok(Some(until.at())),
        None => {
            let text = format!("alertUntil: \"{until}\" is not an RFC 3339 time");
            Err(serde::de::Error::custom(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "03ef828a9d00ad9b0aa487fa8e179ad6";

    fn notification(data: &str) -> String {
        format!(
            r#"{{"id":"{ID}.2","subject":"enterprises/p/devices/d","data":{{"notificationId":"{ID}","revision":2,{data}}}}}"#
        )
    }

    #[test]
    fn a_notification_says_its_revision_and_until_when_it_rings() {
        let line = notification(
            r#""state":"closed","alert":true,"alertUntil":"2025-06-02T17:22:44.512Z","kinds":["chime"],"structure":"s""#,
        );
        let facts = Facts::read(RecordKind::Notification, &line).unwrap();
        let revision = facts.revision.unwrap();
        assert_eq!(revision.id.to_string(), ID);
        assert_eq!((revision.number, revision.closed), (2, true));
        let until = revision.alert_until.unwrap();
        assert!(revision.is_fresh(until));
        assert!(!revision.is_fresh(until + chrono::TimeDelta::nanoseconds(1)));
        assert_eq!(facts.structures, [Some("s".into()), None]);
        assert_eq!(facts.kinds.unwrap().get(), r#"["chime"]"#);
    }

    #[test]
    fn a_time_without_alert_does_not_ring() {
        let line =
            notification(r#""state":"open","alert":false,"alertUntil":"2025-06-02T17:22:44.512Z""#);
        let facts = Facts::read(RecordKind::Notification, &line).unwrap();
        assert_eq!(facts.revision.unwrap().alert_until, None);
    }

    #[test]
    fn each_kind_has_its_key() {
        let event = r#"{"subject":"d \"1\"","data":{"orderingKey":"d","relation":{"object":"x"}}}"#;
        let relation = r#"{"subject":"d","data":{"change":"moved","structure":null,"previous":{"structure":"s"}}}"#;
        let event = Facts::read(RecordKind::Event, event).unwrap();
        let relation = Facts::read(RecordKind::Relation, relation).unwrap();
        assert_eq!(event.resource, "d \"1\"");
        assert_eq!(event.key, relation.key);
        assert_eq!(relation.structures, [None, Some("s".into())]);
        assert!(event.revision.is_none() && relation.revision.is_none());
    }

    #[test]
    fn what_is_borrowed_is_not_copied() {
        let relation = r#"{"subject":"d","data":{"structure":"s"}}"#;
        let facts = Facts::read(RecordKind::Relation, relation).unwrap();
        assert!(matches!(facts.resource, Cow::Borrowed("d")));
        assert!(matches!(facts.structures[0], Some(Cow::Borrowed("s"))));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (kind, line, expected) in [
            (RecordKind::Event, "", "EOF"),
            (
                RecordKind::Event,
                r#"{"subject":"d","data":{}}"#,
                "orderingKey",
            ),
            (
                RecordKind::Notification,
                r#"{"subject":"d","data":{"revision":1}}"#,
                "notificationId",
            ),
            (RecordKind::Relation, r#"{"data":{}}"#, "subject"),
        ] {
            let error = Facts::read(kind, line).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let line = notification(r#""alert":true,"alertUntil":"soon""#);
        let error = Facts::read(RecordKind::Notification, &line).unwrap_err();
        assert!(error.to_string().contains("\"soon\""), "{error}");
    }
}
