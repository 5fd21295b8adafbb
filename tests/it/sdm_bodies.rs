//! Every body of the fixtures, against what the decoder makes of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use hearthd::event::{Decoded, Event, Platform, PublishTime, RawMessage, ReceivedAt, Timestamp};
use hearthd::platforms::{DecodeSettings, decode};
use insta::{Settings, assert_snapshot};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/sdm")
}

/// The files of a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files: BTreeSet<PathBuf> = entries.filter(|path| path.is_file()).collect();
    files.into_iter().collect()
}

fn decode_file(path: &Path) -> Decoded {
    let received = Timestamp::parse("2025-06-09T14:00:00Z").unwrap();
    let raw = RawMessage {
        platform: Platform::Sdm,
        message_id: "m1".into(),
        publish_time: PublishTime(received.clone()),
        received_at: ReceivedAt(received),
        body: std::fs::read(path).unwrap().into(),
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
    writeln!(text, "  time {} id {:?} user {:?}", event.time.0, event.event_id, event.user_id)
        .unwrap();
    if let Some(thread) = &event.thread {
        writeln!(text, "  thread {:?} {:?}", thread.id, thread.state).unwrap();
    }
    if let Some(relation) = &event.relation {
        writeln!(text, "  relation {:?} subject {:?}", relation.kind, relation.subject).unwrap();
    }
    for activity in &event.activities {
        let zones = &activity.zones;
        writeln!(text, "  {} session {:?} zones {zones:?}", activity.kind, activity.session)
            .unwrap();
    }
    for (session, url) in &event.clips {
        writeln!(text, "  clip session {session:?} url {url:?}").unwrap();
    }
    for update in &event.trait_updates {
        let fields = update.fields.iter().map(|(field, value)| format!("{field:?}:{value}"));
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
        let event = decoded.outcome.unwrap_or_else(|reject| panic!("{path:?}: {reject:?}"));
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
            Ok(event) => {
                let what = (event.activities.len(), event.trait_updates.len(), &event.relation);
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
