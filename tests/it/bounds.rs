//! What grows with the names that messages bring has an end.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use hearthd::engine::graph::Node;
use hearthd::engine::traits::{Fields, TraitRow};
use hearthd::engine::{Arrival, Engine, Loaded, Lookup, MAX_RESOURCES, Restored};
use hearthd::event::{ClockTime, ResourceName, SessionKey};
use hearthd::pipeline::Pipeline;
use hearthd::query::Graph;
use hearthd::record::Record;
use hearthd::sources::capture::Reader;
use serde_json::{Value, json};

use super::support::replay::{Disk, memory, messages, run_lines, settings};
use super::support::store::Readable;

/// Feeds a trait update of that resource; returns the flags of its event.
fn flags(engine: &mut Engine, resource: &str) -> Value {
    let name = "sdm.devices.traits.Connectivity";
    let event = json!({"eventId": "e", "timestamp": "2025-06-09T13:52:05Z",
        "resourceUpdate": {"name": resource, "traits": {name: {"status": "ONLINE"}}}});
    let line = std::io::Cursor::new(event.to_string());
    let message = Reader::new(Box::new(line), Path::new("case.jsonl"))
        .next()
        .unwrap()
        .unwrap();
    let (raw, decoded) = Pipeline::decode(&settings().decode, message);
    let arrivals = vec![Arrival {
        at: ClockTime(0),
        raw,
        decoded,
    }];
    let changes = engine.step(arrivals, ClockTime(i64::MAX), Loaded::default());
    let [draft] = <[_; 1]>::try_from(changes.drafts).unwrap();
    let line: Value = serde_json::from_str(&Record::new(draft, 1).line).unwrap();
    line["data"]["flags"].clone()
}

#[test]
fn a_full_graph_tracks_no_more_resources_and_says_so() {
    let device = |n| ResourceName::from(format!("enterprises/p/devices/{n}"));
    let mut restored = Restored::default();
    for n in 0..MAX_RESOURCES {
        restored.add_node(device(n), Arc::new(Node::default()));
    }
    let mut engine = Engine::restore(settings().engine, restored);
    assert_eq!(
        flags(&mut engine, "enterprises/p/devices/more"),
        json!(["untracked_resource"])
    );
    assert_eq!(
        json!(Graph {
            resources: engine.resources().collect()
        }),
        json!({"resources": []})
    );
    assert_eq!(engine.traits(), json!({}));
}

#[test]
fn traits_of_names_that_the_graph_does_not_know_have_an_end_too() {
    let row = |n| TraitRow {
        resource: ResourceName::from(format!("homes/{n}")),
        name: "t".into(),
        fields: Fields::default(),
    };
    let mut restored = Restored::default();
    for n in 0..MAX_RESOURCES {
        restored.add_trait(row(n));
    }
    let mut engine = Engine::restore(settings().engine, restored);
    assert_eq!(
        flags(&mut engine, "homes/more"),
        json!(["untracked_resource"])
    );
    assert_eq!(flags(&mut engine, "homes/1"), json!([]));
    assert_eq!(engine.traits().as_object().unwrap().len(), MAX_RESOURCES);
}

/// Clips of one session, then a motion of it, of that thread if it is not null.
fn clips_and_motion(order: impl Iterator<Item = usize>, thread: Value) -> Vec<String> {
    let line = |index: usize, kind: &str, fields: Value, thread: Value| {
        let name = format!("sdm.devices.events.{kind}");
        let update = json!({"name": "enterprises/p/devices/d", "events": {name: fields}});
        let event = json!({"eventId": index.to_string(), "timestamp": "2025-06-09T13:52:05Z",
            "eventThreadId": thread, "resourceUpdate": update});
        event.to_string()
    };
    let clip = |n: usize| {
        let fields = json!({"eventSessionId": "s", "previewUrl": format!("https://c/{n:04}")});
        line(n, "CameraClipPreview.ClipPreview", fields, Value::Null)
    };
    let motion = json!({"eventSessionId": "s"});
    let motion = line(1000, "CameraMotion.Motion", motion, thread);
    order.map(clip).chain([motion]).collect()
}

#[test]
fn a_store_keeps_no_more_clips_of_a_session_than_are_shown() {
    let disk = Disk::new();
    for store in [memory(), disk.store()] {
        let mut pipeline = Pipeline::open(store, settings()).unwrap();
        for message in messages(&clips_and_motion((0..300).rev(), Value::Null)) {
            let at = ClockTime::from_utc(message.raw.received_at.0.at());
            let (raw, decoded) = Pipeline::decode(&settings().decode, message);
            pipeline
                .step(vec![Arrival { at, raw, decoded }], at)
                .unwrap();
        }
        // The notification of a session has its key as its id.
        let [(id, _)] = <[_; 1]>::try_from(pipeline.store().notifications().unwrap()).unwrap();
        let key = SessionKey(id.0);
        let session_clips = BTreeSet::from([key]);
        let lookup = Lookup {
            session_clips,
            ..Lookup::default()
        };
        let loaded = pipeline.store().load(&lookup).unwrap();
        assert_eq!(loaded.sessions[&key].clips.len(), 256);
    }
}

#[test]
fn a_session_of_many_clips_shows_a_later_thread_the_same_ones_whatever_their_order() {
    const MANY: usize = 300;
    let shown = |order: Vec<usize>, batches: &[usize]| {
        let lines = clips_and_motion(order.into_iter(), json!("t"));
        let output = run_lines(&lines, memory(), batches);
        let [notification] = <[Value; 1]>::try_from(output.last_revisions()).unwrap();
        notification["clips"].clone()
    };
    let clip = |n| json!({"sessionId": "s", "previewUrl": format!("https://c/{n:04}")});
    let expected: Value = (0..256).map(clip).collect();
    let one_by_one = vec![1; MANY + 1];
    for batches in [&[MANY + 1][..], &one_by_one] {
        assert_eq!(shown((0..MANY).collect(), batches), expected);
        assert_eq!(shown((0..MANY).rev().collect(), batches), expected);
        assert_eq!(
            shown((0..MANY).map(|n| n * 7 % MANY).collect(), batches),
            expected
        );
    }
}
