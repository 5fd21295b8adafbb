//! Every body of the fixtures, against what the decoder makes of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use hearthd::event::{
    Event, Flag, Platform, PublishTime, RawMessage, Reason, ReceivedAt, Timestamp,
};
use hearthd::platforms::{DecodeSettings, Parsed, decode};
use insta::{Settings, assert_snapshot};
use serde_json::{Value, json};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/sdm")
}

/// The files of a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files: BTreeSet<PathBuf> = entries.filter(|path| path.is_file()).collect();
    files.into_iter().collect()
}

fn decode_file(path: &Path) -> Parsed {
    decode_body(std::fs::read(path).unwrap())
}

fn decode_body(body: Vec<u8>) -> Parsed {
    let received = Timestamp::parse("2025-06-09T14:00:00Z").unwrap();
    let raw = RawMessage {
        platform: Platform::Sdm,
        message_id: "m1".into(),
        publish_time: PublishTime(received.clone()),
        received_at: ReceivedAt(received),
        body: body.into(),
        place: None,
    };
    let enterprise = Some("enterprises/project-1".to_owned());
    decode(&raw, &DecodeSettings { enterprise })
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

fn check(name: &str, table: &str) {
    let mut settings = Settings::clone_current();
    settings.set_snapshot_path(folder().join("expected"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| assert_snapshot!(name, table));
}

/// What an event says, a line per part that it has.
fn readable(event: &Event) -> String {
    let mut text = String::new();
    let subject = event.subject();
    let kind = subject.and_then(|name| name.kind());
    writeln!(text, "  subject {subject:?} {kind:?}").unwrap();
    writeln!(
        text,
        "  time {} id {:?} user {:?}",
        event.time.0, event.event_id, event.user_id
    )
    .unwrap();
    if let Some(thread) = &event.thread {
        writeln!(text, "  thread {:?} {:?}", thread.id, thread.state).unwrap();
    }
    if let Some(relation) = &event.relation {
        writeln!(
            text,
            "  relation {:?} subject {:?}",
            relation.kind, relation.subject
        )
        .unwrap();
    }
    for activity in &event.activities {
        let zones = &activity.zones;
        writeln!(
            text,
            "  {} session {:?} zones {zones:?}",
            activity.kind, activity.session
        )
        .unwrap();
    }
    for (session, url) in &event.clips {
        writeln!(text, "  clip session {session:?} url {url:?}").unwrap();
    }
    for update in &event.trait_updates {
        let fields = update
            .fields
            .iter()
            .map(|(field, value)| format!("{field:?}:{value}"));
        let fields = fields.collect::<Vec<_>>().join(",");
        writeln!(text, "  trait {} {{{fields}}}", update.name).unwrap();
    }
    if let Some(name) = &event.display_name {
        writeln!(text, "  called {name:?}").unwrap();
    }
    if !event.flags.is_empty() {
        writeln!(text, "  flags {:?}", event.flags).unwrap();
    }
    text
}

#[test]
fn every_well_formed_body_decodes() {
    let mut table = String::new();
    for path in files(&folder()) {
        let decoded = decode_file(&path);
        let (event, _) = decoded
            .outcome
            .unwrap_or_else(|reject| panic!("{path:?}: {reject:?}"));
        assert_eq!(event.key, decoded.key);
        write!(table, "{}\n{}\n", name(&path), readable(&event)).unwrap();
    }
    check("bodies", &table);
}

#[test]
fn every_bad_body_is_rejected_or_flagged() {
    let mut table = String::new();
    for path in files(&folder().join("bad")) {
        match decode_file(&path).outcome {
            Ok((event, _)) => {
                let what = (
                    event.activities.len(),
                    event.trait_updates.len(),
                    &event.relation,
                );
                let (activities, traits, relation) = what;
                let relation = relation.as_ref().map(|relation| relation.kind);
                let flags = &event.flags;
                writeln!(
                    table,
                    "{}: event, {activities} activities, {traits} traits, {relation:?}, {flags:?}",
                    name(&path)
                )
            }
            Err(reject) => {
                let reason = reject.reason.as_str();
                writeln!(table, "{}: {reason}: {}", name(&path), reject.detail)
            }
        }
        .unwrap();
    }
    check("bad_bodies", &table);
}

/// Longest name, id or address; most members of what has members; longest value of a trait's field.
const TEXT: usize = 4096;
const MEMBERS: usize = 256;
const VALUE: usize = 32_768;

/// A body that has a part of that size is taken up to the limit; beyond it, it is refused, with the
/// part's name and size and without what is in it.
fn check_bound(part: &str, limit: usize, body: impl Fn(usize) -> Value) {
    let outcome = |size| decode_body(body(size).to_string().into()).outcome;
    assert!(outcome(limit).is_ok(), "{part}: {:?}", outcome(limit).err());
    let reject = outcome(limit + 1).unwrap_err();
    assert_eq!(reject.reason, Reason::TooLarge, "{part}");
    let unit = if limit == MEMBERS { "entries" } else { "bytes" };
    let detail = format!("{part} has {} {unit}, at most {limit} are taken", limit + 1);
    assert_eq!(reject.detail, detail);
}

fn text(size: usize) -> String {
    "x".repeat(size)
}

/// An object with so many members.
fn members(count: usize) -> Value {
    (0..count).map(|n| (n.to_string(), json!({}))).collect()
}

/// The body of an update of a device.
fn update(part: &str, value: Value) -> Value {
    let mut update = json!({"name": "enterprises/p/devices/d"});
    update[part] = value;
    json!({"resourceUpdate": update})
}

#[test]
fn names_and_ids_of_the_envelope_have_an_end() {
    for field in ["eventId", "userId", "eventThreadId", "eventThreadState"] {
        check_bound(
            field,
            TEXT,
            |size| json!({"resourceUpdate": {"name": "n"}, field: text(size)}),
        );
    }
    for field in ["type", "subject", "object"] {
        check_bound(field, TEXT, |size| {
            let mut relation = json!({"type": "CREATED", "subject": "s", "object": "o"});
            relation[field] = json!(text(size));
            json!({"relationUpdate": relation})
        });
    }
    check_bound("name", TEXT, |size| update("name", json!(text(size))));
}

/// REFERENCE.md has one that can't be parsed flagged.
#[test]
fn a_timestamp_of_too_many_digits_is_no_time() {
    let flags = |size: usize| {
        let digits = "0".repeat(size - "2025-06-09T13:52:03.Z".len());
        let time = format!("2025-06-09T13:52:03.{digits}Z");
        let body = json!({"timestamp": time, "resourceUpdate": {"name": "enterprises/project-1"}});
        decode_body(body.to_string().into())
            .outcome
            .unwrap()
            .0
            .flags
    };
    assert_eq!(flags(TEXT), BTreeSet::new());
    assert_eq!(flags(TEXT + 1), BTreeSet::from([Flag::TimestampInvalid]));
}

#[test]
fn what_events_bring_has_an_end() {
    check_bound("events", MEMBERS, |count| update("events", members(count)));
    check_bound("a name in events", TEXT, |size| {
        update("events", json!({text(size): {}}))
    });
    for (kind, field) in [
        ("CameraMotion.Motion", "eventSessionId"),
        ("CameraClipPreview.ClipPreview", "eventSessionId"),
        ("CameraClipPreview.ClipPreview", "previewUrl"),
        ("Odd.Event", "eventSessionId"),
    ] {
        check_bound(field, TEXT, |size| {
            update(
                "events",
                json!({format!("sdm.devices.events.{kind}"): {field: text(size)}}),
            )
        });
    }
    let zones = |zones: Vec<String>| {
        update(
            "events",
            json!({"sdm.devices.events.CameraMotion.Motion": {"zones": zones}}),
        )
    };
    check_bound("zones", MEMBERS, |count| {
        zones(vec!["Door".to_owned(); count])
    });
    check_bound("a name in zones", TEXT, |size| zones(vec![text(size)]));
}

#[test]
fn what_traits_bring_has_an_end() {
    check_bound("traits", MEMBERS, |count| update("traits", members(count)));
    check_bound("a name in traits", TEXT, |size| {
        update("traits", json!({text(size): {}}))
    });
    let fields = |fields: Value| update("traits", json!({"sdm.devices.traits.Info": fields}));
    check_bound("a trait", MEMBERS, |count| fields(members(count)));
    check_bound("a name in a trait", TEXT, |size| {
        fields(json!({text(size): 1}))
    });
    check_bound("a value in a trait", VALUE, |size| {
        fields(json!({"x": text(size - 2)}))
    });
    check_bound("customName", TEXT, |size| {
        fields(json!({"customName": text(size)}))
    });
}
