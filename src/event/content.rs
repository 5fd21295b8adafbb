//! An event: what a platform's message means, in hearthd's own words.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ids::{DedupeKey, Platform};
use super::name::ResourceName;
use super::time::{EventTime, PublishTime, ReceivedAt};

/// A JSON object, its keys sorted.
pub type Object = Map<String, Value>;

/// Where a thread stands, in the order in which its states sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ThreadState {
    /// The first message of a thread.
    Started,
    /// A message of a thread that goes on.
    Updated,
    /// The last message of a thread.
    Ended,
    /// Missing or unknown: merged like an update, sorted last.
    None,
}

/// The thread of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Opaque; unique within its resource.
    pub id: String,
    /// Where the thread stands.
    pub state: ThreadState,
}

/// What happened to the relation of two resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RelationKind {
    /// The object appeared, or joined the subject.
    Created,
    /// The object moved to the subject.
    Updated,
    /// The object is gone.
    Deleted,
    /// A type that no document names: recorded, and without effect.
    Unknown,
}

/// A change of the relation between two resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    pub kind: RelationKind,
    /// Its name on the wire.
    pub type_name: String,
    /// The structure or room concerned; `None` where the payload has none or an empty one.
    pub subject: Option<ResourceName>,
    /// The resource that it happened to.
    pub object: ResourceName,
}

/// One event of a message that a notification can show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    /// `chime`, `motion`, `person`, `sound`, or an unknown event type's full name.
    pub kind: String,
    /// The session that it belongs to, if it names one.
    pub session: Option<String>,
    /// Names of the zones in which it was seen.
    pub zones: Vec<String>,
}

/// A clip of a session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Clip {
    /// The session that it shows, if it names one.
    pub session_id: Option<String>,
    /// Where to fetch it: a capability, so never logged.
    pub preview_url: String,
}

/// New values of one trait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraitUpdate {
    /// The trait's full name.
    pub name: Arc<str>,
    /// The fields that it sets, each with its value as canonical JSON text; an absent one keeps its
    /// value.
    pub fields: Vec<(Arc<str>, Arc<str>)>,
}

/// A remark on an event, shown in its record. In the order of their names, as records list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// A resource of another enterprise than the configured one.
    ForeignEnterprise,
    /// An event or trait whose value is not an object.
    MalformedEntry,
    /// Thermostat traits that no thermostat has; recorded, not merged.
    SuspectTrait,
    /// The timestamp can't be read, or lies in the future; publishTime takes its place.
    TimestampInvalid,
    /// An event, trait, relation or thread state that no document names.
    UnknownType,
    /// The graph is full: this resource is not tracked in it.
    UntrackedResource,
}

/// One message, decoded.
#[derive(Clone, Debug)]
pub struct Event {
    /// Where it came from.
    pub platform: Platform,
    pub key: DedupeKey,
    /// The platform's id: not unique, since the messages of a thread may share it.
    pub event_id: Option<Arc<str>>,
    /// When it occurred.
    pub time: EventTime,
    /// When it was published.
    pub publish_time: PublishTime,
    /// When it was received.
    pub received_at: ReceivedAt,
    /// The transport's id.
    pub message_id: Arc<str>,
    /// The resource that it is about, if it is a resource update.
    pub resource: Option<ResourceName>,
    /// The user, obfuscated by the platform: never logged.
    pub user_id: Option<String>,
    pub thread: Option<Thread>,
    /// The thread state as written, known or not.
    pub thread_state: Option<String>,
    /// Its relation update, if it is one.
    pub relation: Option<Relation>,
    /// What a notification shows of it.
    pub activities: Vec<Activity>,
    /// Sessions and clip addresses of its clip previews; either may be missing.
    pub clips: Vec<(Option<String>, Option<String>)>,
    /// What it changes in the state of its resource.
    pub trait_updates: Vec<TraitUpdate>,
    /// The name that it gives its resource; empty if it takes the name away.
    pub display_name: Option<String>,
    /// Remarks.
    pub flags: BTreeSet<Flag>,
}

/// The parts of a payload that an event's record repeats untouched.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    /// Resources that may have similar updates.
    pub resource_group: Value,
    pub traits: Option<Object>,
    pub events: Option<Object>,
}

impl Event {
    /// The resource that the event is filed under: its own, else its relation's object.
    pub fn subject(&self) -> Option<&ResourceName> {
        self.resource
            .as_ref()
            .or_else(|| self.relation.as_ref().map(|r| &r.object))
    }

    /// What the event log orders it by: its thread, else its relation's object, else its resource.
    /// Ids of threads are unique only within their resource.
    pub fn ordering_key(&self) -> Arc<str> {
        let resource = self.subject().map_or("", ResourceName::as_str);
        match (&self.thread, &self.relation) {
            (Some(thread), _) => [resource, "/threads/", &thread.id].concat().into(),
            (None, Some(relation)) => relation.object.to_shared(),
            (None, None) => self
                .resource
                .as_ref()
                .map_or_else(|| Arc::from(""), ResourceName::to_shared),
        }
    }

    /// Its state in its thread; `None` if it has no thread.
    pub fn rank(&self) -> ThreadState {
        self.thread
            .as_ref()
            .map_or(ThreadState::None, |thread| thread.state)
    }
}
