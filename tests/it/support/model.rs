//! A naive, order-free reading of REFERENCE.md: what must stand once every timer has run out.
//!
//! It shares no code with the product. Sets stay far below its cap of 256, so it
//! has none.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

const CLIP: &str = "sdm.devices.events.CameraClipPreview.ClipPreview";
const MODE: &str = "sdm.devices.traits.ThermostatMode";
const SETPOINT: &str = "sdm.devices.traits.ThermostatTemperatureSetpoint";
const NAMING: [&str; 3] = [
    "sdm.devices.traits.Info",
    "sdm.structures.traits.Info",
    "sdm.structures.traits.RoomInfo",
];

/// One delivered message: the payload and its envelope.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) received_at: DateTime<Utc>,
    pub(crate) publish_time: DateTime<Utc>,
    pub(crate) message_id: String,
    pub(crate) body: Value,
}

/// An instant and the text that shows it; equal instants order by text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Time {
    at: DateTime<Utc>,
    text: String,
}

impl Time {
    /// A computed time: 3, 6 or 9 fractional digits, the fewest that are exact.
    fn computed(at: DateTime<Utc>) -> Time {
        let digits = match at.timestamp_subsec_nanos() {
            nanos if nanos % 1_000_000 == 0 => SecondsFormat::Millis,
            nanos if nanos % 1_000 == 0 => SecondsFormat::Micros,
            _ => SecondsFormat::Nanos,
        };
        Time {
            at,
            text: at.to_rfc3339_opts(digits, true),
        }
    }

    /// An input time; none if it cannot be parsed.
    fn input(text: &str) -> Option<Time> {
        let at = DateTime::parse_from_rfc3339(text).ok()?.to_utc();
        match text.ends_with('Z') {
            true => Some(Time {
                at,
                text: text.to_owned(),
            }),
            false => Some(Time::computed(at)),
        }
    }
}

/// A payload's fields as REFERENCE.md reads them; empty ids count as absent.
#[derive(Clone, Debug)]
struct Message<'a> {
    key: String,
    id: &'a str,
    time: Time,
    publish: Time,
    event_id: &'a str,
    user: Option<&'a str>,
    thread: Option<&'a str>,
    state: Option<&'a str>,
    resource: Option<&'a str>,
    body: &'a Value,
}

impl<'a> Message<'a> {
    fn new(delivery: &'a Delivery) -> Message<'a> {
        let body = &delivery.body;
        let publish = Time::computed(delivery.publish_time);
        let limit = delivery.publish_time + chrono::Duration::hours(24);
        let time = text(&body["timestamp"])
            .and_then(Time::input)
            .filter(|t| t.at <= limit);
        let thread = text(&body["eventThreadId"]);
        Message {
            key: dedupe_key("sdm", body),
            id: &delivery.message_id,
            time: time.unwrap_or_else(|| publish.clone()),
            publish,
            event_id: text(&body["eventId"]).unwrap_or_default(),
            user: text(&body["userId"]),
            thread,
            state: thread.and(text(&body["eventThreadState"])),
            resource: text(&body["resourceUpdate"]["name"]),
            body,
        }
    }

    /// The event entries whose value is an object.
    fn entries(&self) -> Vec<(&'a str, &'a Map<String, Value>)> {
        objects(&self.body["resourceUpdate"]["events"])
    }

    /// The traits to merge: objects, without the thermostat's where the message is suspect.
    fn traits(&self) -> Vec<(&'a str, &'a Map<String, Value>)> {
        let traits = &self.body["resourceUpdate"]["traits"];
        let suspect = traits[MODE]["availableModes"] == json!(["OFF"]);
        let mut merged = objects(traits);
        merged.retain(|(name, _)| !(suspect && name.starts_with("sdm.devices.traits.Thermostat")));
        merged
    }

    fn sort_key(&self) -> (DateTime<Utc>, u8, DateTime<Utc>, &'a str, &str) {
        let rank = match self.state {
            Some("STARTED") => 0,
            Some("UPDATED") => 1,
            Some("ENDED") => 2,
            _ => 3,
        };
        (self.time.at, rank, self.publish.at, self.id, &self.key)
    }
}

fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

fn objects(value: &Value) -> Vec<(&str, &Map<String, Value>)> {
    let fields = value.as_object().into_iter().flatten();
    fields
        .filter_map(|(name, value)| Some((name.as_str(), value.as_object()?)))
        .collect()
}

/// The messages without repeats: of each payload the earliest arrival.
fn messages(deliveries: &[Delivery]) -> Vec<Message<'_>> {
    let mut earliest: BTreeMap<String, &Delivery> = BTreeMap::new();
    for delivery in deliveries {
        let kept = earliest
            .entry(dedupe_key("sdm", &delivery.body))
            .or_insert(delivery);
        if delivery.received_at < kept.received_at {
            *kept = delivery;
        }
    }
    earliest.into_values().map(Message::new).collect()
}

/// The first 16 bytes, in hex, of SHA-256 over the platform, a newline and the canonical payload.
pub(crate) fn dedupe_key(platform: &str, body: &Value) -> String {
    hex::encode(&Sha256::digest(format!("{platform}\n{body}"))[..16])
}

/// What one notification is about, besides its resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group<'a> {
    Thread(&'a str),
    Session(&'a str),
    Message(String),
}

/// Everything merged into one notification.
#[derive(Debug, Default)]
struct Merged<'a> {
    entries: usize,
    times: BTreeSet<Time>,
    ends: BTreeSet<Time>,
    users: BTreeSet<&'a str>,
    kinds: BTreeSet<&'a str>,
    sessions: BTreeSet<&'a str>,
    clips: BTreeSet<(Option<&'a str>, &'a str)>,
    zones: BTreeSet<&'a str>,
}

impl<'a> Merged<'a> {
    fn message(&mut self, message: &Message<'a>) {
        self.times.insert(message.time.clone());
        self.users.extend(message.user);
        if message.state == Some("ENDED") {
            self.ends.insert(message.publish.clone());
        }
    }

    fn entry(&mut self, kind: &'a str, entry: &'a Map<String, Value>) {
        let session = entry.get("eventSessionId").and_then(text);
        self.entries += 1;
        self.sessions.extend(session);
        if kind == CLIP {
            let url = entry.get("previewUrl").and_then(text);
            self.clips.extend(url.map(|url| (session, url)));
            return;
        }
        let zones = entry.get("zones").and_then(Value::as_array);
        self.zones
            .extend(zones.into_iter().flatten().filter_map(text));
        self.kinds.insert(match kind {
            "sdm.devices.events.DoorbellChime.Chime" => "chime",
            "sdm.devices.events.CameraMotion.Motion" => "motion",
            "sdm.devices.events.CameraPerson.Person" => "person",
            "sdm.devices.events.CameraSound.Sound" => "sound",
            unknown => unknown,
        });
    }

    fn data(&self, resource: &str, group: &Group<'_>) -> Value {
        let last = self.times.last().map(|time| &time.text);
        let (thread, closed_by) = match group {
            Group::Thread(thread) if self.ends.is_empty() => (Some(thread), "timeout"),
            Group::Thread(thread) => (Some(thread), "ended"),
            Group::Session(_) | Group::Message(_) => (None, "quiet"),
        };
        let clip = |clip: &(Option<&str>, &str)| json!({"sessionId": clip.0, "previewUrl": clip.1});
        json!({
            "resource": resource,
            "threadId": thread,
            "state": "closed",
            "closedBy": closed_by,
            "kinds": self.kinds,
            "sessionIds": self.sessions,
            "clips": self.clips.iter().map(clip).collect::<Vec<_>>(),
            "zones": self.zones,
            "startedAt": self.times.first().map(|time| &time.text),
            "lastEventAt": last,
            "endedAt": self.ends.first().map(|time| &time.text).or(last),
            "userIds": self.users,
        })
    }
}

/// The final notifications, sorted by their JSON text, without what shows how they came about
/// (id, revision, alert) or the graph (structure, room, title) and without the body text.
pub(crate) fn notifications(deliveries: &[Delivery]) -> Vec<Value> {
    let messages = messages(deliveries);
    let mut merged: BTreeMap<(&str, Group<'_>), Merged<'_>> = BTreeMap::new();
    for message in &messages {
        let Some(resource) = message.resource else {
            continue;
        };
        if let Some(thread) = message.thread {
            let home = merged.entry((resource, Group::Thread(thread))).or_default();
            home.message(message);
            message
                .entries()
                .into_iter()
                .for_each(|(kind, entry)| home.entry(kind, entry));
            continue;
        }
        for (kind, entry) in message
            .entries()
            .into_iter()
            .filter(|(kind, _)| *kind != CLIP)
        {
            let group = match entry.get("eventSessionId").and_then(text) {
                Some(session) => Group::Session(session),
                None => Group::Message(message.key.clone()),
            };
            let home = merged.entry((resource, group)).or_default();
            home.message(message);
            home.entry(kind, entry);
        }
    }
    for message in messages.iter().filter(|message| message.thread.is_none()) {
        for (_, clip) in message
            .entries()
            .into_iter()
            .filter(|(kind, _)| *kind == CLIP)
        {
            let session = clip.get("eventSessionId").and_then(text);
            let url = clip.get("previewUrl").and_then(text);
            let (Some(session), Some(url)) = (session, url) else {
                continue;
            };
            for ((resource, _), home) in &mut merged {
                if message.resource == Some(resource) && home.sessions.contains(session) {
                    home.clips.insert((Some(session), url));
                }
            }
        }
    }
    merged.retain(|_, home| home.entries > 0);
    let mut data: Vec<_> = merged
        .iter()
        .map(|((resource, group), home)| home.data(resource, group))
        .collect();
    data.sort_by_key(Value::to_string);
    data
}

/// Who wrote a register: timestamp, rank, eventId, written value. No stamp is below every stamp.
type Stamp<'a> = Option<(DateTime<Utc>, u8, &'a str, Option<&'a str>)>;

/// The writes of one register of every resource.
type Register<'a> = BTreeMap<&'a str, Stamp<'a>>;

fn stamp<'a>(register: &Register<'a>, name: &str) -> Stamp<'a> {
    register.get(name).copied().flatten()
}

#[derive(Debug, Default)]
struct Graph<'a> {
    seen: Register<'a>,
    gone: Register<'a>,
    structure: Register<'a>,
    room: Register<'a>,
    users: BTreeMap<&'a str, BTreeSet<&'a str>>,
    updated: BTreeMap<&'a str, BTreeSet<Time>>,
}

impl<'a> Graph<'a> {
    fn write(register: &mut Register<'a>, name: &'a str, stamp: Stamp<'a>) {
        let kept = register.entry(name).or_default();
        *kept = stamp.max(*kept);
    }

    /// Writes `seen`, a room's also for its structure.
    fn see(&mut self, message: &Message<'a>, rank: u8, name: &'a str) {
        for name in [Some(name), structure_of(name)].into_iter().flatten() {
            let stamp = Some((message.time.at, rank, message.event_id, None));
            Self::write(&mut self.seen, name, stamp);
            self.updated
                .entry(name)
                .or_default()
                .insert(message.time.clone());
        }
    }

    fn message(&mut self, message: &Message<'a>) {
        if let Some(name) = message.resource {
            self.see(message, 0, name);
            self.users.entry(name).or_default().extend(message.user);
        }
        let relation = &message.body["relationUpdate"];
        let rank = match text(&relation["type"]) {
            Some("CREATED") => 1,
            Some("UPDATED") => 2,
            Some("DELETED") => 3,
            _ => return,
        };
        let object = text(&relation["object"]);
        let subject = text(&relation["subject"]);
        let by = |value| Some((message.time.at, rank, message.event_id, value));
        for name in [object, subject].into_iter().flatten() {
            self.users.entry(name).or_default().extend(message.user);
            match rank {
                3 if Some(name) == object => Self::write(&mut self.gone, name, by(None)),
                3 => {}
                _ => self.see(message, rank, name),
            }
        }
        let (Some(device), Some(parent)) = (object, subject) else {
            return;
        };
        match (kind(device), kind(parent)) {
            (Some("device"), Some("structure")) if rank < 3 => {
                Self::write(&mut self.structure, device, by(Some(parent)));
                if rank == 2 {
                    Self::write(&mut self.room, device, by(None));
                }
            }
            (Some("device"), Some("room")) if rank < 3 => {
                Self::write(&mut self.structure, device, by(structure_of(parent)));
                Self::write(&mut self.room, device, by(Some(parent)));
            }
            _ => {}
        }
    }

    fn is_there(&self, name: &str) -> bool {
        let seen = stamp(&self.seen, name);
        seen > stamp(&self.gone, name)
            && structure_of(name).is_none_or(|structure| {
                self.is_there(structure) && seen > stamp(&self.gone, structure)
            })
    }

    /// The structure and the room that a device shows.
    fn place(&self, device: &str) -> (Option<&'a str>, Option<&'a str>) {
        let shown = |stamp: Stamp<'a>, value: &str, above: &[&str]| {
            above
                .iter()
                .chain([&value])
                .all(|name| stamp > self::stamp(&self.gone, name))
        };
        let by = stamp(&self.structure, device);
        let room_by = stamp(&self.room, device);
        let structure = by
            .and_then(|by| by.3)
            .filter(|value| shown(by, value, &[device]));
        let room = room_by.and_then(|by| by.3).filter(|room| {
            let Some(structure) = structure else {
                return false;
            };
            structure_of(room) == Some(structure) && shown(room_by, room, &[device, structure])
        });
        (structure, room)
    }
}

fn kind(name: &str) -> Option<&'static str> {
    let parts: Vec<_> = name.split('/').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return None;
    }
    match parts[..] {
        ["enterprises", _, "devices", _] => Some("device"),
        ["enterprises", _, "structures", _] => Some("structure"),
        ["enterprises", _, "structures", _, "rooms", _] => Some("room"),
        _ => None,
    }
}

/// The structure that a room's name contains.
fn structure_of(name: &str) -> Option<&str> {
    kind(name).filter(|kind| *kind == "room")?;
    name.split_once("/rooms/").map(|(structure, _)| structure)
}

/// The graph as REFERENCE.md, section 4, shows it.
pub(crate) fn graph(deliveries: &[Delivery]) -> Value {
    let messages = messages(deliveries);
    let mut graph = Graph::default();
    messages.iter().for_each(|message| graph.message(message));
    let mut names: BTreeMap<&str, Value> = BTreeMap::new();
    for write in field_writes(&messages) {
        if NAMING.contains(&write.of) && write.field == "customName" {
            names.insert(write.resource, write.value);
        }
    }
    let mut resources = vec![];
    for (name, times) in &graph.updated {
        let Some(kind) = kind(name).filter(|_| graph.is_there(name)) else {
            continue;
        };
        let (structure, room) = match kind {
            "device" => graph.place(name),
            _ => (structure_of(name), None),
        };
        resources.push(json!({
            "name": name,
            "kind": kind,
            "structure": structure,
            "room": room,
            "displayName": names.get(name).and_then(text),
            "users": graph.users.get(name).cloned().unwrap_or_default(),
            "updatedAt": times.last().map(|time| &time.text),
        }));
    }
    json!({ "resources": resources })
}

/// One field of a trait as one message writes it.
#[derive(Debug)]
struct FieldWrite<'a> {
    resource: &'a str,
    of: &'a str,
    field: &'a str,
    value: Value,
}

/// All writes to trait fields, the last writer last.
fn field_writes<'a>(messages: &[Message<'a>]) -> Vec<FieldWrite<'a>> {
    let mut writes = vec![];
    for message in messages {
        let Some(resource) = message.resource else {
            continue;
        };
        for (of, fields) in message.traits() {
            let mut write = |field, value: Value| {
                let order = (message.time.at, message.event_id, value.to_string());
                writes.push((
                    order,
                    FieldWrite {
                        resource,
                        of,
                        field,
                        value,
                    },
                ));
            };
            for (field, value) in fields {
                write(field, value.clone());
            }
            if of == SETPOINT && fields.is_empty() {
                write("heatCelsius", Value::Null);
                write("coolCelsius", Value::Null);
            }
        }
    }
    writes.sort_by(|(a, _), (b, _)| a.cmp(b));
    writes.into_iter().map(|(_, write)| write).collect()
}

/// `{resource: {trait: {field: value}}}` of every resource that ever showed a trait.
pub(crate) fn traits(deliveries: &[Delivery]) -> Value {
    let messages = messages(deliveries);
    let mut state: BTreeMap<&str, BTreeMap<&str, BTreeMap<&str, Value>>> = BTreeMap::new();
    for message in &messages {
        for (of, _) in message.traits() {
            if let Some(resource) = message.resource {
                state.entry(resource).or_default().entry(of).or_default();
            }
        }
    }
    for write in field_writes(&messages) {
        let fields = state
            .entry(write.resource)
            .or_default()
            .entry(write.of)
            .or_default();
        fields.insert(write.field, write.value);
    }
    json!(state)
}

/// One event of the log with what is known about its first arrival.
#[derive(Debug)]
struct Logged<'a> {
    lane: &'a str,
    late: bool,
    position: usize,
    arrived_at: DateTime<Utc>,
    message: &'a Message<'a>,
}

impl Logged<'_> {
    /// Whether `other`, having arrived before, may have been released before this one came.
    fn is_excused_by(&self, other: &Logged<'_>, hold: Duration) -> bool {
        other.lane == self.lane
            && other.message.sort_key() > self.message.sort_key()
            && other.position < self.position
            && (other.message.state == Some("STARTED")
                || other.arrived_at + hold <= self.arrived_at)
    }
}

/// Checks promise P3 on the `data` of the event records in journal order: every message once; in
/// order under its key unless `late`; `late` only behind a greater event, one of which arrived at
/// least `hold` earlier or was a thread's STARTED.
pub(crate) fn check_event_log(
    events: &[Value],
    hold: Duration,
    deliveries_in_arrival_order: &[Delivery],
) -> Result<(), String> {
    let mut clock = DateTime::<Utc>::MIN_UTC;
    let mut arrivals = vec![];
    let mut keys = BTreeSet::new();
    for (position, delivery) in deliveries_in_arrival_order.iter().enumerate() {
        clock = clock.max(delivery.received_at);
        let message = Message::new(delivery);
        if keys.insert(message.key.clone()) {
            arrivals.push((position, clock, message));
        }
    }
    let mut log = vec![];
    for event in events {
        let arrival = arrivals
            .iter()
            .find(|(_, _, message)| event["messageId"] == message.id);
        let (position, arrived_at, message) =
            arrival.ok_or_else(|| format!("not the first arrival of any payload: {event}"))?;
        if event["timestamp"] != message.time.text || event["eventId"] != message.event_id {
            return Err(format!("not the message it claims to be: {event}"));
        }
        let lane = event["orderingKey"]
            .as_str()
            .ok_or_else(|| format!("no key: {event}"))?;
        let late = event["late"]
            .as_bool()
            .ok_or_else(|| format!("no `late`: {event}"))?;
        if !keys.remove(&message.key) {
            return Err(format!("logged twice: {event}"));
        }
        log.push(Logged {
            lane,
            late,
            position: *position,
            arrived_at: *arrived_at,
            message,
        });
    }
    if !keys.is_empty() {
        return Err(format!("never logged: {keys:?}"));
    }
    check_lanes(&log)?;
    for (index, logged) in log.iter().enumerate() {
        let is_behind = log[..index].iter().any(|earlier| {
            earlier.lane == logged.lane && earlier.message.sort_key() > logged.message.sort_key()
        });
        if logged.late != is_behind {
            return Err(format!(
                "behind a greater event: {is_behind}, but {logged:?}"
            ));
        }
        if logged.late && !log.iter().any(|other| logged.is_excused_by(other, hold)) {
            return Err(format!("late without an excuse: {logged:?}"));
        }
    }
    Ok(())
}

/// Checks that ordering keys part the log by thread, else relation object, else resource.
fn check_lanes(log: &[Logged<'_>]) -> Result<(), String> {
    for logged in log {
        let message = logged.message;
        let object = text(&message.body["relationUpdate"]["object"]);
        let lane = match (message.thread, object, message.resource) {
            (Some(thread), object, resource) => {
                let resource = resource.or(object).unwrap_or_default();
                format!("{resource}/threads/{thread}")
            }
            (None, Some(target), _) | (None, None, Some(target)) => target.to_owned(),
            (None, None, None) => String::new(),
        };
        if logged.lane != lane {
            return Err(format!("ordering key, not {lane:?}: {logged:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "enterprises/p/devices/d1";
    const S1: &str = "enterprises/p/structures/s1";
    const S2: &str = "enterprises/p/structures/s2";
    const R1: &str = "enterprises/p/structures/s1/rooms/r1";
    const R2: &str = "enterprises/p/structures/s2/rooms/r2";

    /// A delivery `seconds` past the minute of its event's timestamp, whose seconds are `at`.
    fn delivery(seconds: u32, at: &str, event_id: &str, rest: Value) -> Delivery {
        let mut body = json!({"eventId": event_id, "timestamp": time(at), "userId": "u"});
        let fields = rest.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(fields);
        let received_at = Time::input(&time(&format!("{seconds:02}"))).unwrap().at;
        let message_id = format!("m{seconds}");
        Delivery {
            received_at,
            publish_time: received_at,
            message_id,
            body,
        }
    }

    fn time(seconds: &str) -> String {
        format!("2025-06-09T13:52:{seconds}Z")
    }

    /// Events by the short names of the wire facts.
    fn events(events: Value) -> Value {
        let full = |name: &str| match name {
            "Chime" => "sdm.devices.events.DoorbellChime.Chime".to_owned(),
            "Clip" => CLIP.to_owned(),
            name => format!("sdm.devices.events.Camera{name}.{name}"),
        };
        let entries = events.as_object().unwrap().iter();
        let events: Value = entries
            .map(|(name, value)| (full(name), value.clone()))
            .collect();
        json!({"resourceUpdate": {"name": D, "events": events}})
    }

    fn threaded(thread: &str, state: &str, of: Value) -> Value {
        let mut body = events(of);
        body["eventThreadId"] = json!(thread);
        body["eventThreadState"] = json!(state);
        body
    }

    fn named(of: &str, value: Value) -> Value {
        json!({"resourceUpdate": {"name": D, "traits": {of: value}}})
    }

    fn relation(change: &str, subject: &str, object: &str) -> Value {
        json!({"relationUpdate": {"type": change, "subject": subject, "object": object}})
    }

    /// Name, structure and room of every resource in the graph.
    fn places(deliveries: &[Delivery]) -> Value {
        let graph = graph(deliveries);
        let place = |it: &Value| json!([it["name"], it["structure"], it["room"]]);
        graph["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(place)
            .collect()
    }

    #[test]
    fn s1_a_doorbell_with_a_clip_is_one_notification_closed_by_ended() {
        let chime = json!({"eventSessionId": "1635", "eventId": "n:1"});
        let clip = json!({"eventSessionId": "1635", "previewUrl": "U"});
        let with_clip = json!({"Chime": chime, "Clip": clip});
        let deliveries = [
            delivery(23, "00.5", "E1", threaded("T", "ENDED", with_clip.clone())),
            delivery(
                3,
                "00.5",
                "E1",
                threaded("T", "STARTED", json!({"Chime": chime})),
            ),
            delivery(5, "01", "E2", threaded("T", "UPDATED", with_clip)),
        ];
        let expected = json!([{
            "resource": D, "threadId": "T", "state": "closed", "closedBy": "ended",
            "kinds": ["chime"], "sessionIds": ["1635"], "zones": [], "userIds": ["u"],
            "clips": [{"sessionId": "1635", "previewUrl": "U"}],
            "startedAt": time("00.5"), "lastEventAt": time("01"), "endedAt": time("23.000"),
        }]);
        assert_eq!(json!(notifications(&deliveries)), expected);
    }

    #[test]
    fn s2_an_end_that_names_a_subset_closes_the_whole_thread() {
        let motion = json!({"eventSessionId": "77", "eventId": "n:1"});
        let person = json!({"eventSessionId": "77", "eventId": "n:2", "zones": ["", "Zone 1"]});
        let both = json!({"Motion": motion, "Person": person});
        let deliveries = [
            delivery(
                3,
                "00",
                "E1",
                threaded("T", "STARTED", json!({"Motion": motion})),
            ),
            delivery(8, "00", "E1", threaded("T", "UPDATED", both)),
            delivery(
                23,
                "00",
                "E1",
                threaded("T", "ENDED", json!({"Motion": motion})),
            ),
        ];
        let all = notifications(&deliveries);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0]["kinds"], json!(["motion", "person"]));
        assert_eq!(all[0]["zones"], json!(["Zone 1"]));
        let unended = &notifications(&deliveries[..2])[0];
        assert_eq!(unended["closedBy"], "timeout");
        assert_eq!(unended["endedAt"], time("00"));
    }

    #[test]
    fn s3_and_s5_bodies_that_differ_in_state_alone_are_two_and_equal_ones_are_one() {
        let chime = json!({"Chime": {"eventSessionId": "1", "eventId": "n:2"}});
        let started = delivery(3, "00", "E1", threaded("T", "STARTED", chime.clone()));
        let ended = delivery(23, "00", "E1", threaded("T", "ENDED", chime));
        let again = Delivery {
            received_at: ended.received_at,
            ..started.clone()
        };
        assert_eq!(
            messages(&[again.clone(), ended.clone(), started.clone()]).len(),
            2
        );
        let backlog = notifications(&[ended, again, started]);
        assert_eq!(backlog.len(), 1);
        assert_eq!(backlog[0]["closedBy"], "ended");
    }

    #[test]
    fn s4_unthreaded_events_group_by_session_and_a_clip_only_joins() {
        let session = |zones: Value| json!({"eventSessionId": "A", "zones": zones});
        let clip = json!({"Clip": {"eventSessionId": "A", "previewUrl": "U"}});
        let deliveries = [
            delivery(
                3,
                "00",
                "E1",
                events(json!({"Motion": session(json!([""]))})),
            ),
            delivery(
                4,
                "01.03",
                "E2",
                events(json!({"Person": session(json!([]))})),
            ),
            delivery(
                5,
                "02",
                "E3",
                events(json!({"Sound": session(json!(null))})),
            ),
            delivery(6, "03", "E4", events(clip)),
            delivery(
                7,
                "04",
                "E5",
                events(json!({"Sound": {}, "Motion": {}, "Person": 1})),
            ),
        ];
        let all = notifications(&deliveries);
        assert_eq!(all.len(), 2);
        assert_eq!(all[0]["kinds"], json!(["motion", "sound"]));
        assert_eq!(all[1]["kinds"], json!(["motion", "person", "sound"]));
        assert_eq!(
            all[1]["clips"],
            json!([{"sessionId": "A", "previewUrl": "U"}])
        );
        assert_eq!(all[1]["lastEventAt"], time("02"));
        assert_eq!(all[1]["endedAt"], time("02"));
        assert_eq!(all[1]["closedBy"], "quiet");
    }

    #[test]
    fn s7_a_deleted_device_stays_deleted_whatever_comes_first() {
        let deliveries = [
            delivery(1, "01", "E1", relation("CREATED", "", D)),
            delivery(4, "04", "E4", relation("DELETED", "", D)),
            delivery(2, "02", "E2", relation("CREATED", S1, D)),
            delivery(3, "03", "E3", relation("UPDATED", R1, D)),
        ];
        assert_eq!(
            places(&deliveries),
            json!([[S1, null, null], [R1, S1, null]])
        );
        assert_eq!(places(&deliveries[..1]), json!([[D, null, null]]));
    }

    #[test]
    fn a_device_that_comes_back_shows_its_name_and_users_but_no_old_place() {
        let deliveries = [
            delivery(1, "01", "E1", relation("CREATED", R1, D)),
            delivery(
                2,
                "02",
                "E2",
                named(NAMING[0], json!({"customName": "Hall"})),
            ),
            delivery(3, "03", "E3", relation("DELETED", S1, D)),
            delivery(4, "04", "E4", named(NAMING[0], json!({}))),
        ];
        let device = &graph(&deliveries)["resources"][0];
        assert_eq!(device["displayName"], "Hall");
        assert_eq!(device["users"], json!(["u"]));
        assert_eq!(device["updatedAt"], time("04"));
        assert_eq!(places(&deliveries)[0], json!([D, null, null]));
    }

    #[test]
    fn a_move_replaces_the_room_and_a_move_to_a_structure_clears_it() {
        let created = delivery(1, "01", "E1", relation("CREATED", R1, D));
        let moved = delivery(2, "02", "E2", relation("UPDATED", S2, D));
        let roomed = delivery(3, "02", "E3", relation("UPDATED", R2, D));
        let place = |deliveries: &[Delivery]| places(deliveries)[0].clone();
        assert_eq!(
            place(&[moved.clone(), created.clone()]),
            json!([D, S2, null])
        );
        assert_eq!(
            place(&[roomed, moved.clone(), created.clone()]),
            json!([D, S2, R2])
        );
        let joined = delivery(4, "02", "E4", relation("CREATED", S1, D));
        assert_eq!(place(&[joined, moved, created]), json!([D, S2, null]));
    }

    #[test]
    fn a_structure_that_goes_takes_its_rooms_and_the_places_in_it() {
        let deliveries = [
            delivery(1, "01", "E1", relation("CREATED", R1, D)),
            delivery(2, "01", "E0", relation("DELETED", "", S1)),
            delivery(3, "02", "E3", relation("CREATED", "", S1)),
        ];
        assert_eq!(
            places(&deliveries),
            json!([[D, null, null], [S1, null, null]])
        );
    }

    #[test]
    fn trait_fields_keep_their_value_but_an_empty_setpoint_clears_both() {
        let mode = json!({"mode": "OFF", "availableModes": ["OFF"]});
        let deliveries = [
            delivery(
                1,
                "01",
                "E1",
                named(SETPOINT, json!({"heatCelsius": 20, "other": 1})),
            ),
            delivery(2, "01", "E2", named(SETPOINT, json!({"coolCelsius": 25}))),
            delivery(3, "02", "E1", named(MODE, mode)),
            delivery(4, "03", "E1", named("presence", json!({}))),
        ];
        let state = traits(&deliveries);
        let warm = json!({"heatCelsius": 20, "coolCelsius": 25, "other": 1});
        assert_eq!(state, json!({D: {SETPOINT: warm, "presence": {}}}));
        let cleared = delivery(5, "01", "E3", named(SETPOINT, json!({})));
        let off = json!({"heatCelsius": null, "coolCelsius": null, "other": 1});
        assert_eq!(traits(&[cleared, deliveries[0].clone()])[D][SETPOINT], off);
    }

    #[test]
    fn times_keep_their_text_or_take_the_fewest_exact_digits() {
        let shown = |text: &str| Time::input(text).map(|time| time.text);
        assert_eq!(shown(&time("03.1")), Some(time("03.1")));
        assert_eq!(shown("2025-06-09T15:52:03+02:00"), Some(time("03.000")));
        assert_eq!(
            shown("2025-06-09T15:52:03.0443860+02:00"),
            Some(time("03.044386"))
        );
        assert_eq!(shown("2025-06-09T13:52:03"), None);
        let future = delivery(9, "00", "E", json!({"timestamp": "2025-06-10T13:52:10Z"}));
        assert_eq!(Message::new(&future).time.text, time("09.000"));
    }

    #[test]
    fn the_event_log_must_be_complete_ordered_and_late_only_with_an_excuse() {
        let arrivals = [
            delivery(10, "02", "E2", named("a", json!({}))),
            delivery(11, "01", "E1", named("a", json!({}))),
            delivery(13, "00", "E0", named("a", json!({}))),
        ];
        let event = |index: usize, late: bool| {
            let Delivery {
                message_id, body, ..
            } = &arrivals[index];
            let timestamp = &body["timestamp"];
            let event_id = &body["eventId"];
            json!({"messageId": message_id, "timestamp": timestamp, "eventId": event_id,
                "orderingKey": D, "late": late})
        };
        let check = |log: &[(usize, bool)]| {
            let events: Vec<_> = log
                .iter()
                .map(|(index, late)| event(*index, *late))
                .collect();
            check_event_log(&events, Duration::from_secs(2), &arrivals)
        };
        assert_eq!(check(&[(1, false), (0, false), (2, true)]), Ok(()));
        assert_eq!(check(&[(2, false), (1, false), (0, false)]), Ok(()));
        assert!(
            check(&[(1, false), (0, false), (2, false)]).is_err(),
            "out of order"
        );
        assert!(
            check(&[(0, false), (1, true), (2, true)]).is_err(),
            "late too soon"
        );
        assert!(
            check(&[(1, true), (0, false), (2, true)]).is_err(),
            "late behind nothing"
        );
        assert!(check(&[(1, false), (0, false)]).is_err(), "one lost");
        assert!(
            check(&[(1, false), (1, false), (0, false), (2, true)]).is_err(),
            "one twice"
        );
    }

    #[test]
    fn the_dedupe_key_is_the_hash_of_the_canonical_payload() {
        let body: Value = serde_json::from_str(r#"{"b": [1, 65.0], "a": "x"}"#).unwrap();
        let digest = Sha256::digest("sdm\n{\"a\":\"x\",\"b\":[1,65.0]}");
        assert_eq!(dedupe_key("sdm", &body), hex::encode(&digest[..16]));
    }
}
