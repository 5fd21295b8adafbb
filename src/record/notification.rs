//! The `data` of a notification's record.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::engine::notifications::Notification;
use crate::event::{Clip, NotificationId, ResourceName, Timestamp};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NotificationData<'a> {
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
    pub(super) fn new(id: NotificationId, state: &'a Notification) -> Self {
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
