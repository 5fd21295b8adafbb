//! The `data` of an event's record: what the decoder writes, and the end that the engine decides.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use crate::event::{Event, Flag, Object, Payload, Platform, ResourceName, Timestamp};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EventData<'a> {
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
    pub(super) fn new(event: &'a Event, payload: &'a Payload, ordering_key: &'a str) -> Self {
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
            ordering_key,
        }
    }
}

/// The end of the `data`, whose start the decoder wrote.
#[derive(Serialize)]
pub(super) struct EventEnd<'a> {
    pub(super) late: bool,
    pub(super) flags: &'a BTreeSet<Flag>,
}
