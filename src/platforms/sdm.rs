//! Google Smart Device Management, as documented and as seen on the wire.
//!
//! Tolerates whatever was seen on the wire; what it does not know passes through, flagged.

mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::TimeDelta;
use serde_json::Value;

use super::fields::{
    DecodeSettings, MAX_TEXT_BYTES, check_size, check_text, take_object, take_text,
};
use crate::event::{
    Activity, DedupeKey, Event, EventTime, Flag, Object, Payload, RawMessage, Reason, Reject,
    Relation, RelationKind, ResourceName, Thread, ThreadState, Timestamp, TraitUpdate,
};

/// A timestamp further than this after publishTime is not believed (REFERENCE.md, section 3):
/// clocks are off by minutes, time zones by at most 14 hours, anything more is garbage.
const MAX_AHEAD: TimeDelta = TimeDelta::hours(24);

/// Most events of a message, traits of a message, fields of a trait and zones of an event: each
/// event may be a notification of its own. The documents name 5 events and 20 traits, of up to 5
/// fields.
const MAX_ENTRIES: usize = 256;

/// Longest value of a trait's field, in bytes of JSON: whole bodies of SDM are below 4 KiB, and the
/// values are kept in memory for each device.
const MAX_VALUE_BYTES: usize = 32 << 10;

/// Decodes a payload that is a JSON object.
pub(super) fn decode(
    raw: &RawMessage,
    key: DedupeKey,
    mut body: Object,
    settings: &DecodeSettings,
) -> Result<(Event, Payload), Reject> {
    let resource_update = take_object(&mut body, "resourceUpdate")?;
    let relation_update = take_object(&mut body, "relationUpdate")?;
    if resource_update.is_none() && relation_update.is_none() {
        let detail = "neither resourceUpdate nor relationUpdate is present";
        return Err(Reject::new(Reason::NoUpdate, detail));
    }
    let thread_state = take_text(&mut body, "eventThreadState")?;
    let thread_id = take_text(&mut body, "eventThreadId")?.filter(|id| !id.is_empty());
    let mut event = Event {
        platform: raw.platform,
        key,
        event_id: take_text(&mut body, "eventId")?.map(Into::into),
        time: EventTime(raw.publish_time.0.clone()),
        publish_time: raw.publish_time.clone(),
        received_at: raw.received_at.clone(),
        message_id: Arc::clone(&raw.message_id),
        resource: None,
        user_id: take_text(&mut body, "userId")?.filter(|id| !id.is_empty()),
        thread: thread_id.map(|id| Thread {
            id,
            state: state(thread_state.as_deref()),
        }),
        thread_state,
        relation: relation_update.map(relation).transpose()?,
        activities: Vec::new(),
        clips: Vec::new(),
        trait_updates: Vec::new(),
        display_name: None,
        flags: BTreeSet::new(),
    };
    let resource_group = body.remove("resourceGroup").unwrap_or_default();
    let mut payload = Payload {
        resource_group,
        ..Payload::default()
    };
    read_time(&mut event, body.remove("timestamp").as_ref());
    if let Some(update) = resource_update {
        read_resource(&mut event, &mut payload, update)?;
    }
    flag_unknown(&mut event);
    flag_foreign(&mut event, settings);
    Ok((event, payload))
}

fn state(name: Option<&str>) -> ThreadState {
    match name {
        Some("STARTED") => ThreadState::Started,
        Some("UPDATED") => ThreadState::Updated,
        Some("ENDED") => ThreadState::Ended,
        Some(_) | None => ThreadState::None,
    }
}

fn relation(mut update: Object) -> Result<Relation, Reject> {
    let missing = |field| Reject::new(Reason::WrongType, format!("{field} is missing"));
    let type_name = take_text(&mut update, "type")?.ok_or(missing("relationUpdate.type"))?;
    let object = take_text(&mut update, "object")?.filter(|name| !name.is_empty());
    let subject = take_text(&mut update, "subject")?.filter(|name| !name.is_empty());
    Ok(Relation {
        kind: match type_name.as_str() {
            "CREATED" => RelationKind::Created,
            "UPDATED" => RelationKind::Updated,
            "DELETED" => RelationKind::Deleted,
            _ => RelationKind::Unknown,
        },
        type_name,
        subject: subject.map(ResourceName::from),
        object: object.ok_or(missing("relationUpdate.object"))?.into(),
    })
}

fn read_time(event: &mut Event, written: Option<&Value>) {
    let latest = event.publish_time.0.at().checked_add_signed(MAX_AHEAD);
    // A time may have any number of digits, and its text is kept.
    let text = written
        .and_then(Value::as_str)
        .filter(|text| text.len() <= MAX_TEXT_BYTES);
    let read = text.and_then(Timestamp::parse);
    match read.filter(|time| latest.is_none_or(|latest| time.at() <= latest)) {
        Some(time) => event.time = EventTime(time),
        None => {
            event.flags.insert(Flag::TimestampInvalid);
        }
    }
}

fn read_resource(
    event: &mut Event,
    payload: &mut Payload,
    mut update: Object,
) -> Result<(), Reject> {
    let name = take_text(&mut update, "name")?.filter(|name| !name.is_empty());
    let missing = || Reject::new(Reason::WrongType, "resourceUpdate.name is missing");
    event.resource = Some(name.ok_or_else(missing)?.into());
    payload.events = take_object(&mut update, "events")?;
    payload.traits = take_object(&mut update, "traits")?;
    if let Some(events) = &payload.events {
        read_events(event, events)?;
    }
    if let Some(traits) = &payload.traits {
        read_traits(event, traits)?;
    }
    Ok(())
}

/// Refuses too many entries, and one with too long a name.
fn check_entries(what: &str, entries: &Object) -> Result<(), Reject> {
    check_size(what, entries.len(), "entries", MAX_ENTRIES)?;
    entries
        .keys()
        .try_for_each(|name| check_text(format_args!("a name in {what}"), name))
}

fn read_events(event: &mut Event, events: &Object) -> Result<(), Reject> {
    check_entries("events", events)?;
    for (name, value) in events {
        let Value::Object(entry) = value else {
            event.flags.insert(Flag::MalformedEntry);
            continue;
        };
        match wire::event_kind(name) {
            Some(wire::EventKind::Clip) => {
                event
                    .clips
                    .push((text(entry, "eventSessionId")?, text(entry, "previewUrl")?));
            }
            Some(wire::EventKind::Activity(kind)) => event.activities.push(activity(kind, entry)?),
            None => {
                event.flags.insert(Flag::UnknownType);
                event.activities.push(activity(name, entry)?);
            }
        }
    }
    Ok(())
}

fn activity(kind: &str, entry: &Object) -> Result<Activity, Reject> {
    let session = text(entry, "eventSessionId")?;
    let written = entry
        .get("zones")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    check_size("zones", written.len(), "entries", MAX_ENTRIES)?;
    let mut zones = Vec::new();
    for zone in written
        .iter()
        .filter_map(Value::as_str)
        .filter(|zone| !zone.is_empty())
    {
        check_text("a name in zones", zone)?;
        zones.push(zone.to_owned());
    }
    Ok(Activity {
        kind: kind.to_owned(),
        session,
        zones,
    })
}

fn text(entry: &Object, field: &str) -> Result<Option<String>, Reject> {
    let text = entry
        .get(field)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty());
    text.map(|text| check_text(field, text).map(|()| text.to_owned()))
        .transpose()
}

fn read_traits(event: &mut Event, traits: &Object) -> Result<(), Reject> {
    check_entries("traits", traits)?;
    let suspect = wire::is_suspect(traits);
    if suspect {
        event.flags.insert(Flag::SuspectTrait);
    }
    for (name, value) in traits {
        if !wire::is_known_trait(name) {
            event.flags.insert(Flag::UnknownType);
        }
        let Value::Object(fields) = value else {
            event.flags.insert(Flag::MalformedEntry);
            continue;
        };
        if suspect && wire::is_thermostat(name) {
            continue;
        }
        check_entries("a trait", fields)?;
        if wire::is_name_trait(name) {
            let custom_name = fields.get("customName").and_then(Value::as_str);
            check_text("customName", custom_name.unwrap_or_default())?;
            event.display_name = custom_name.map(Into::into).or(event.display_name.take());
        }
        let cleared = wire::cleared_fields(name, fields);
        let mut update = TraitUpdate {
            name: name.as_str().into(),
            fields: Vec::new(),
        };
        for (field, value) in cleared.as_ref().unwrap_or(fields) {
            let value = value.to_string();
            check_size("a value in a trait", value.len(), "bytes", MAX_VALUE_BYTES)?;
            update.fields.push((field.as_str().into(), value.into()));
        }
        event.trait_updates.push(update);
    }
    Ok(())
}

fn flag_unknown(event: &mut Event) {
    let unknown_state = event.thread_state.is_some() && {
        state(event.thread_state.as_deref()) == ThreadState::None
    };
    let unknown_relation = event
        .relation
        .as_ref()
        .is_some_and(|relation| relation.kind == RelationKind::Unknown);
    if unknown_state || unknown_relation {
        event.flags.insert(Flag::UnknownType);
    }
}

fn flag_foreign(event: &mut Event, settings: &DecodeSettings) {
    let Some(own) = settings.enterprise.as_deref() else {
        return;
    };
    let relation = event.relation.as_ref();
    let names = [
        event.resource.as_ref(),
        relation.map(|relation| &relation.object),
        relation.and_then(|relation| relation.subject.as_ref()),
    ];
    if names
        .into_iter()
        .flatten()
        .any(|name| name.account() != Some(own))
    {
        event.flags.insert(Flag::ForeignEnterprise);
    }
}
