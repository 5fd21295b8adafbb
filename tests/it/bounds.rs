//! What grows with the names that messages bring has an end.

use std::path::Path;
use std::sync::Arc;

use hearthd::engine::graph::Node;
use hearthd::engine::traits::{Fields, TraitRow};
use hearthd::engine::{Arrival, Engine, Loaded, MAX_RESOURCES, Restored};
use hearthd::event::{ClockTime, ResourceName};
use hearthd::pipeline::Pipeline;
use hearthd::record;
use hearthd::sources::capture::Reader;
use serde_json::{Value, json};

use super::support::replay::settings;

/// Feeds a trait update of that resource; returns the flags of its event.
fn flags(engine: &mut Engine, resource: &str) -> Value {
    let name = "sdm.devices.traits.Connectivity";
    let event = json!({"eventId": "e", "timestamp": "2025-06-09T13:52:05Z",
        "resourceUpdate": {"name": resource, "traits": {name: {"status": "ONLINE"}}}});
    let line = std::io::Cursor::new(event.to_string());
    let message = Reader::new(Box::new(line), Path::new("case.jsonl")).next().unwrap().unwrap();
    let (raw, decoded) = Pipeline::decode(&settings().decode, message);
    let arrivals = vec![Arrival { at: ClockTime(0), raw, decoded }];
    let changes = engine.step(arrivals, ClockTime(i64::MAX), Loaded::default());
    let [record] = <[_; 1]>::try_from(changes.records).unwrap();
    let line: Value = serde_json::from_str(&record.into_line(1)).unwrap();
    line["data"]["flags"].clone()
}

#[test]
fn a_full_graph_tracks_no_more_resources_and_says_so() {
    let device = |n| ResourceName::from(format!("enterprises/p/devices/{n}"));
    let nodes = (0..MAX_RESOURCES).map(|n| (device(n), Node::default())).collect();
    let mut engine = Engine::restore(settings().engine, Restored { nodes, ..Restored::default() });
    assert_eq!(flags(&mut engine, "enterprises/p/devices/more"), json!(["untracked_resource"]));
    assert_eq!(record::graph(engine.resources()), json!({"resources": []}));
    assert_eq!(engine.traits(), json!({}));
}

#[test]
fn traits_of_names_that_the_graph_does_not_know_have_an_end_too() {
    let row = |n| TraitRow {
        resource: ResourceName::from(format!("homes/{n}")),
        name: "t".into(),
        fields: Arc::new(Fields::default()),
    };
    let traits = (0..MAX_RESOURCES).map(row).collect();
    let mut engine = Engine::restore(settings().engine, Restored { traits, ..Restored::default() });
    assert_eq!(flags(&mut engine, "homes/more"), json!(["untracked_resource"]));
    assert_eq!(flags(&mut engine, "homes/1"), json!([]));
    assert_eq!(engine.traits().as_object().unwrap().len(), MAX_RESOURCES);
}
