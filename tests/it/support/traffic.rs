//! Random traffic of a small world, made so that ties, overlaps and odd inputs are frequent.

use std::collections::BTreeSet;

use chrono::{DateTime, Duration, DurationRound, SecondsFormat, Utc};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{Index, select},
};
use serde_json::{Map, Value, json};

use super::model::{Delivery, dedupe_key};

/// The most messages of one case.
const MAX_MESSAGES: usize = 60;

const DEVICES: [&str; 3] = [
    "enterprises/p/devices/d1",
    "enterprises/p/devices/d2",
    "enterprises/p/devices/d10",
];
/// One name is a prefix of the other.
const STRUCTURES: [&str; 2] = [
    "enterprises/p/structures/s1",
    "enterprises/p/structures/s10",
];
/// The same short id in both structures.
const ROOMS: [&str; 2] = [
    "enterprises/p/structures/s1/rooms/r1",
    "enterprises/p/structures/s10/rooms/r1",
];
const ODD_NAMES: [&str; 3] = [
    "enterprises/p/devices/",
    "enterprises/p/structures/s1/rooms",
    "homes/h1",
];
const USERS: [&str; 2] = ["AVPHwE-u1", "AVPHwE-u2"];
/// One thread is named like a session.
const THREADS: [&str; 3] = ["t1", "t2", "77"];
const SESSIONS: [&str; 3] = ["77", "1635", "AVPH-s"];
const EVENT_IDS: [&str; 4] = ["e1", "e2", "e3", "e10"];
const URLS: [&str; 2] = ["https://clips.example/a", "https://clips.example/b"];
const NAMES: [&str; 4] = ["Hall", "Hall way", "Küche", ""];

const CLIP: &str = "sdm.devices.events.CameraClipPreview.ClipPreview";
const KINDS: [&str; 5] = [
    "sdm.devices.events.CameraMotion.Motion",
    "sdm.devices.events.CameraPerson.Person",
    "sdm.devices.events.CameraSound.Sound",
    "sdm.devices.events.DoorbellChime.Chime",
    "sdm.devices.events.Vacuum.Stuck",
];

/// Valid timestamps; some are one instant in several texts.
const TIMES: [&str; 12] = [
    "2025-06-09T13:52:03Z",
    "2025-06-09T13:52:03.000Z",
    "2025-06-09T15:52:03+02:00",
    "2025-06-09T13:52:03.313Z",
    "2025-06-09T13:52:03.313000Z",
    "2025-06-09T13:22:03.313-00:30",
    "2025-06-09T13:52:03.313383Z",
    "2025-06-09T14:52:03.313383123+01:00",
    "2025-06-09T13:52:08.044386Z",
    "2025-06-09T13:52:23.500000001Z",
    "2025-06-09T13:53:00Z",
    "2025-06-09T14:03:00.250Z",
];
/// No time, no zone, and more than a day after any publishTime here.
const BAD_TIMES: [&str; 3] = ["soon", "2025-06-09T13:52:03", "2025-06-12T00:00:00Z"];
/// The instant from which messages with a bad timestamp are published.
const BAD_TIME_EPOCH: &str = "2025-06-09T13:52:04Z";
/// From the timestamp to the publishTime; not 0, so that cutting to milliseconds stays after it.
const LAGS_MS: [i64; 5] = [1, 900, 2_600, 20_400, 660_000];
/// Between two arrivals; with twice `MAX_MESSAGES` arrivals the whole stays within a day.
const STEPS_MS: [i64; 9] = [0, 0, 1, 400, 2_000, 7_000, 31_000, 200_000, 301_000];

/// Distinct messages in the order of their making, each received when it was published.
pub(crate) fn deliveries() -> impl Strategy<Value = Vec<Delivery>> {
    vec((body(), select(&LAGS_MS)), 1..=MAX_MESSAGES).prop_map(|drafts| {
        let mut keys = BTreeSet::new();
        let mut deliveries = vec![];
        for (index, (body, lag)) in drafts.into_iter().enumerate() {
            if keys.insert(dedupe_key("sdm", &body)) {
                let publish_time = published_after(&body, lag);
                deliveries.push(Delivery {
                    received_at: publish_time,
                    publish_time,
                    // 37 and 61 have no common factor: distinct, and not in the order of making.
                    message_id: format!("m{}", index * 37 % 61),
                    body,
                });
            }
        }
        deliveries
    })
}

/// A permutation with repeats of the same messages, none before it was published.
pub(crate) fn schedule(deliveries: Vec<Delivery>) -> impl Strategy<Value = Vec<Delivery>> {
    let most = deliveries.len() * 2;
    let repeats = vec(any::<Index>(), 0..=deliveries.len());
    let order = vec(any::<u16>(), most);
    let steps = vec(select(&STEPS_MS), most);
    (repeats, order, steps).prop_map(move |(repeats, order, steps)| {
        let repeated = repeats.iter().map(|index| index.get(&deliveries));
        let mut arrivals: Vec<_> = deliveries.iter().chain(repeated).zip(&order).collect();
        arrivals.sort_by_key(|(_, order)| **order);
        let first = arrivals.first().map(|(delivery, _)| delivery.publish_time);
        let mut clock = first.unwrap_or_default();
        let mut schedule = vec![];
        for ((delivery, _), step) in arrivals.into_iter().zip(&steps) {
            clock = (clock + Duration::milliseconds(*step)).max(delivery.publish_time);
            schedule.push(Delivery {
                received_at: clock,
                ..delivery.clone()
            });
        }
        schedule
    })
}

/// Batch sizes of 1 to 8 that sum up to `count`.
pub(crate) fn batching(count: usize) -> impl Strategy<Value = Vec<usize>> {
    vec(1..=8_usize, count).prop_map(move |sizes| {
        let mut left = count;
        let clip = |size: usize| {
            let clipped = size.min(left);
            left -= clipped;
            clipped
        };
        sizes
            .into_iter()
            .map(clip)
            .filter(|size| *size > 0)
            .collect()
    })
}

/// The delivery as a capture line of the `event` shape.
pub(crate) fn to_capture_line(delivery: &Delivery) -> String {
    let line = json!({
        "receivedAt": millis(delivery.received_at),
        "platform": "sdm",
        "publishTime": millis(delivery.publish_time),
        "messageId": delivery.message_id,
        "event": delivery.body,
    });
    line.to_string()
}

fn millis(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn published_after(body: &Value, lag_ms: i64) -> DateTime<Utc> {
    let text = body["timestamp"]
        .as_str()
        .filter(|text| TIMES.contains(text));
    let time = DateTime::parse_from_rfc3339(text.unwrap_or(BAD_TIME_EPOCH))
        .unwrap()
        .to_utc();
    time.duration_trunc(Duration::milliseconds(1)).unwrap() + Duration::milliseconds(lag_ms)
}

/// An object of the fields that are there.
fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// One object with the fields of both.
fn both(one: Value, two: Value) -> Value {
    [one, two]
        .into_iter()
        .filter_map(|part| part.as_object().cloned())
        .flatten()
        .collect()
}

/// A text of the list, or sometimes none or the empty one.
fn maybe(texts: &'static [&'static str]) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        12 => select(texts).prop_map(|text| Some(json!(text))),
        2 => Just(None),
        1 => Just(Some(json!(""))),
    ]
}

/// One whole payload.
fn body() -> impl Strategy<Value = Value> {
    let envelope = (
        select(&EVENT_IDS),
        prop_oneof![40 => select(&TIMES), 1 => select(&BAD_TIMES)],
        maybe(&USERS),
    );
    let envelope = envelope.prop_map(|(event_id, timestamp, user)| {
        object([
            ("eventId", Some(json!(event_id))),
            ("timestamp", Some(json!(timestamp))),
            ("userId", user),
        ])
    });
    let update = prop_oneof![
        8 => (camera(), thread()).prop_map(|(update, thread)| both(update, thread)),
        5 => camera(),
        1 => camera().prop_map(|update| both(update, json!({"eventThreadId": ""}))),
        5 => climate(),
        2 => naming(),
        6 => relation(),
        1 => (camera(), relation()).prop_map(|(update, relation)| both(update, relation)),
        1 => (climate(), relation()).prop_map(|(update, relation)| both(update, relation)),
        1 => odd_resource(),
    ];
    (envelope, update).prop_map(|(envelope, update)| both(envelope, update))
}

fn thread() -> impl Strategy<Value = Value> {
    let state = prop_oneof![
        6 => select(&["STARTED", "UPDATED", "ENDED"]).prop_map(|state| Some(json!(state))),
        1 => Just(Some(json!("PAUSED"))),
        1 => Just(None),
    ];
    (select(&THREADS), state).prop_map(|(thread, state)| {
        object([
            ("eventThreadId", Some(json!(thread))),
            ("eventThreadState", state),
        ])
    })
}

fn resource_update(name: &str, part: &str, values: Option<Value>, group: bool) -> Value {
    object([
        (
            "resourceUpdate",
            Some(object([("name", Some(json!(name))), (part, values)])),
        ),
        ("resourceGroup", group.then(|| json!([name]))),
    ])
}

/// Camera events, sometimes none or no `events` at all.
fn camera() -> impl Strategy<Value = Value> {
    let events = option::weighted(0.9, vec(entry(), 0..=3).prop_map(collect));
    (select(&DEVICES), events, any::<bool>())
        .prop_map(|(name, events, group)| resource_update(name, "events", events, group))
}

fn collect(entries: Vec<(&'static str, Value)>) -> Value {
    let named = entries
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    Value::Object(named.collect::<Map<_, _>>())
}

fn entry() -> impl Strategy<Value = (&'static str, Value)> {
    let zones = [
        json!([""]),
        json!([]),
        json!(["Zone 1"]),
        json!(["", "Zone 2", "Zone 1"]),
    ];
    let zones = option::of(select(zones.to_vec()));
    let event = (
        select(&KINDS),
        maybe(&SESSIONS),
        select(&["n:1", "n:2"]),
        zones,
    );
    let event = event.prop_map(|(kind, session, id, zones)| {
        let id = Some(json!(id));
        (
            kind,
            object([
                ("eventSessionId", session),
                ("eventId", id),
                ("zones", zones),
            ]),
        )
    });
    let url = option::weighted(0.8, select(&URLS).prop_map(|url| json!(url)));
    let clip = (maybe(&SESSIONS), url).prop_map(|(session, url)| {
        (
            CLIP,
            object([("eventSessionId", session), ("previewUrl", url)]),
        )
    });
    let malformed = vec![json!(null), json!("motion"), json!(5), json!([{}])];
    let malformed = (
        prop_oneof![4 => select(&KINDS), 1 => Just(CLIP)],
        select(malformed),
    );
    prop_oneof![8 => event, 3 => clip, 1 => malformed]
}

/// Traits of a device; a mode with only "OFF" makes the message suspect.
fn climate() -> impl Strategy<Value = Value> {
    let values = [
        ("ThermostatTemperatureSetpoint", json!({})),
        (
            "ThermostatTemperatureSetpoint",
            json!({"heatCelsius": 20.5}),
        ),
        ("ThermostatTemperatureSetpoint", json!({"coolCelsius": 9.5})),
        (
            "ThermostatTemperatureSetpoint",
            json!({"heatCelsius": 9, "coolCelsius": 24}),
        ),
        (
            "ThermostatMode",
            json!({"mode": "OFF", "availableModes": ["OFF"]}),
        ),
        (
            "ThermostatMode",
            json!({"mode": "HEAT", "availableModes": ["HEAT", "OFF"]}),
        ),
        ("ThermostatMode", json!({"mode": "OFF"})),
        (
            "ThermostatEco",
            json!({"mode": "OFF", "heatCelsius": 0.0, "coolCelsius": 0.0}),
        ),
        ("ThermostatHvac", json!({"status": "HEATING"})),
        ("Fan", json!({"timerMode": "OFF"})),
        (
            "Fan",
            json!({"timerMode": "ON", "timerTimeout": "2025-06-09T14:00:00Z"}),
        ),
        ("Humidity", json!({"ambientHumidityPercent": 65})),
        ("Humidity", json!({"ambientHumidityPercent": 65.0})),
        (
            "CameraImage",
            json!({"maxImageResolution": {"width": 640, "height": 480}}),
        ),
        ("DoorbellChime", json!({})),
        ("Connectivity", json!(null)),
        ("Connectivity", json!("ONLINE")),
        ("Connectivity", json!({"status": "ONLINE"})),
    ];
    let name = select(&NAMES).prop_map(|name| ("Info", json!({"customName": name})));
    let value = prop_oneof![6 => select(values.to_vec()), 1 => name];
    let traits = vec(value, 0..=4).prop_map(|values| {
        let full = |(name, value)| (format!("sdm.devices.traits.{name}"), value);
        values.into_iter().map(full).collect()
    });
    (select(&DEVICES), traits, any::<bool>())
        .prop_map(|(name, traits, group)| resource_update(name, "traits", Some(traits), group))
}

/// The name of a structure or a room.
fn naming() -> impl Strategy<Value = Value> {
    let resource = prop_oneof![
        select(&STRUCTURES).prop_map(|name| (name, "sdm.structures.traits.Info")),
        select(&ROOMS).prop_map(|name| (name, "sdm.structures.traits.RoomInfo")),
    ];
    (resource, select(&NAMES)).prop_map(|((resource, of), name)| {
        let traits = json!({of: {"customName": name}});
        resource_update(resource, "traits", Some(traits), false)
    })
}

fn relation() -> impl Strategy<Value = Value> {
    let change = prop_oneof![12 => select(&["CREATED", "UPDATED", "DELETED"]), 1 => Just("MERGED")];
    let object_name = prop_oneof![
        12 => select(&DEVICES),
        4 => select(&STRUCTURES),
        4 => select(&ROOMS),
        1 => select(&ODD_NAMES),
    ];
    let subject = prop_oneof![
        5 => select(&STRUCTURES).prop_map(Some),
        5 => select(&ROOMS).prop_map(Some),
        2 => Just(Some("")),
        2 => Just(None),
        1 => select(&ODD_NAMES).prop_map(Some),
    ];
    (change, subject, object_name).prop_map(|(change, subject, name)| {
        let subject = subject.map(|subject| json!(subject));
        let name = Some(json!(name));
        let relation = object([
            ("type", Some(json!(change))),
            ("subject", subject),
            ("object", name),
        ]);
        json!({ "relationUpdate": relation })
    })
}

/// Events of a resource whose name has no known form.
fn odd_resource() -> impl Strategy<Value = Value> {
    (select(&ODD_NAMES), vec(entry(), 0..=2).prop_map(collect))
        .prop_map(|(name, events)| resource_update(name, "events", Some(events), false))
}

#[cfg(test)]
mod tests {
    use proptest::test_runner::Config;

    use super::{super::model, *};

    fn scheduled() -> impl Strategy<Value = (Vec<Delivery>, Vec<Delivery>)> {
        deliveries().prop_flat_map(|made| (Just(made.clone()), schedule(made)))
    }

    proptest! {
        #![proptest_config(Config { cases: 64, failure_persistence: None, ..Config::default() })]

        #[test]
        fn a_schedule_changes_nothing_that_the_model_sees((made, arriving) in scheduled()) {
            prop_assert_eq!(model::notifications(&made), model::notifications(&arriving));
            prop_assert_eq!(model::graph(&made), model::graph(&arriving));
            prop_assert_eq!(model::traits(&made), model::traits(&arriving));
        }

        #[test]
        fn a_schedule_runs_forward_within_the_horizon((made, arriving) in scheduled()) {
            prop_assert!(arriving.len() >= made.len());
            prop_assert!(arriving.is_sorted_by_key(|delivery| delivery.received_at));
            prop_assert!(arriving.iter().all(|one| one.publish_time <= one.received_at));
            let ends = (arriving.first().unwrap(), arriving.last().unwrap());
            prop_assert!(ends.1.received_at - ends.0.received_at < Duration::days(1));
        }

        #[test]
        fn batches_hold_every_message((count, sizes) in
            (0..=MAX_MESSAGES).prop_flat_map(|count| (Just(count), batching(count))))
        {
            prop_assert_eq!(sizes.iter().sum::<usize>(), count);
            prop_assert!(sizes.iter().all(|size| (1..=8).contains(size)));
        }

        #[test]
        fn a_capture_line_is_one_line_with_the_payload(made in deliveries()) {
            for delivery in &made {
                let line = to_capture_line(delivery);
                prop_assert!(!line.contains('\n'));
                let parsed: Value = serde_json::from_str(&line).unwrap();
                prop_assert_eq!(&parsed["event"], &delivery.body);
            }
        }
    }
}
