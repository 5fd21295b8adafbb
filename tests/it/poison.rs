//! A message that makes the engine panic goes to quarantine alone.

use std::sync::Arc;

use hearthd::engine::Arrival;
use hearthd::engine::change::Changes;
use hearthd::event::{ClockTime, Reason};
use hearthd::pipeline::Pipeline;
use serde_json::json;

use super::support::replay::{Disk, messages, settings};
use super::support::store::{Readable, Writable};

fn arrivals(events: &[(&str, &str, &str)]) -> Vec<Arrival> {
    let line = |(id, session, kind): &(&str, &str, &str)| {
        let events = json!({*kind: {"eventSessionId": session}});
        let event = json!({"eventId": id, "timestamp": "2025-06-09T13:52:03Z",
            "resourceUpdate": {"name": "enterprises/p/devices/d", "events": events}});
        json!({"publishTime": "2025-06-09T13:52:05Z", "messageId": id, "event": event}).to_string()
    };
    let lines: Vec<_> = events.iter().map(line).collect();
    let arrival = |message| {
        let (raw, decoded) = Pipeline::decode(&settings().decode, message);
        Arrival {
            at: ClockTime::from_utc(raw.received_at.0.at()),
            raw,
            decoded,
        }
    };
    messages(&lines).into_iter().map(arrival).collect()
}

#[test]
fn what_makes_the_engine_panic_is_quarantined_and_others_flow() {
    const MOTION: &str = "sdm.devices.events.CameraMotion.Motion";
    const SOUND: &str = "sdm.devices.events.CameraSound.Sound";
    let disk = Disk::new();
    let mut pipeline = Pipeline::open(disk.store(), settings()).unwrap();
    let first = arrivals(&[("first", "s", MOTION)]);
    let now = first[0].at;
    pipeline.step(first, now).unwrap();
    // Not even a year of a revision a second leads to the next one after this.
    let (id, mut state) = pipeline.store().notifications().unwrap().remove(0);
    state.revision = u32::MAX;
    let changes = Changes {
        at: now,
        notifications: vec![(id, Arc::new(state))],
        ..Changes::default()
    };
    pipeline.store_mut().write(changes).unwrap();
    drop(pipeline);

    let mut pipeline = Pipeline::open(disk.store(), settings()).unwrap();
    let batch = [
        ("before", "t", MOTION),
        ("poison", "s", SOUND),
        ("after", "u", MOTION),
    ];
    let committed = pipeline.step(arrivals(&batch), now).unwrap();
    assert_eq!(
        (committed.tally.all().received, committed.tally.opened),
        (3, 2)
    );
    assert_eq!(
        committed.tally.all().quarantined,
        [(Reason::MergePanic, 1)].into()
    );
    assert_eq!(pipeline.imbalance(), 0);
    let rows = pipeline.store().quarantine(9).unwrap();
    let rows: Vec<_> = rows
        .iter()
        .map(|row| (&*row.message_id, &*row.reason))
        .collect();
    assert_eq!(rows, [("poison", "merge_panic")]);
    let again = pipeline.step(arrivals(&batch), now).unwrap();
    assert_eq!(again.tally.all().duplicates, 3, "it is not tried again");
}
