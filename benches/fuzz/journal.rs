//! Whether what is written into the journal is what REFERENCE.md says, record by record.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use hearthd::event::Timestamp;
use hearthd::record::RecordKind;
use hearthd::store::JournalRow;
use serde_json::{Map, Value};

/// Most members of each set of a notification (REFERENCE.md, section 3).
const MAX_MEMBERS: usize = 256;

const ENVELOPE: &[&str] = &[
    "data",
    "datacontenttype",
    "id",
    "sequence",
    "source",
    "specversion",
    "subject",
    "time",
    "type",
];

const EVENT: &[&str] = &[
    "eventId",
    "events",
    "flags",
    "late",
    "messageId",
    "orderingKey",
    "platform",
    "publishTime",
    "receivedAt",
    "relation",
    "resource",
    "resourceGroup",
    "threadId",
    "threadState",
    "timestamp",
    "traits",
    "userId",
];

const NOTIFICATION: &[&str] = &[
    "alert",
    "alertUntil",
    "body",
    "clips",
    "closedBy",
    "endedAt",
    "kinds",
    "lastEventAt",
    "notificationId",
    "resource",
    "revision",
    "room",
    "sessionIds",
    "startedAt",
    "state",
    "structure",
    "threadId",
    "title",
    "userIds",
    "zones",
];

const RELATION: &[&str] = &[
    "change",
    "displayName",
    "kind",
    "previous",
    "resource",
    "room",
    "structure",
];

/// The journal as far as it was seen.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    last: u64,
    revisions: BTreeMap<String, u64>,
}

impl Journal {
    /// Checks the next record.
    pub(crate) fn check(&mut self, row: &JournalRow) -> anyhow::Result<()> {
        self.check_row(row)
            .with_context(|| format!("record {}", shortened(&row.line)))
    }

    fn check_row(&mut self, row: &JournalRow) -> anyhow::Result<()> {
        ensure!(
            row.sequence == self.last + 1,
            "number {} follows {}",
            row.sequence,
            self.last
        );
        self.last = row.sequence;
        ensure!(!row.line.contains('\n'), "it has more than one line");
        let line: Value = serde_json::from_str(&row.line)?;
        let line = object(&line, ENVELOPE)?;
        let text = |field: &str| line[field].as_str().unwrap_or_default();
        ensure!(text("specversion") == "1.0" && text("datacontenttype") == "application/json");
        ensure!(
            text("sequence") == format!("{:020}", row.sequence),
            "sequence"
        );
        ensure!(text("subject") == row.subject, "subject");
        ensure!(
            text("type") == format!("hearthd.{}", row.kind.as_str()),
            "type"
        );
        ensure!(
            text("source").starts_with("//smartdevicemanagement.googleapis.com"),
            "source"
        );
        time(&line["time"])?;
        match row.kind {
            RecordKind::Event => check_event(text("id"), text("time"), &line["data"]),
            RecordKind::Notification => {
                self.check_notification(text("id"), text("time"), &line["data"])
            }
            RecordKind::Relation => check_relation(text("id"), &line["data"]),
        }
    }

    fn check_notification(&mut self, id: &str, at: &str, data: &Value) -> anyhow::Result<()> {
        let data = object(data, NOTIFICATION)?;
        let own = data["notificationId"].as_str();
        let revision = data["revision"].as_u64();
        let (own, revision) = own.zip(revision).context("no id or revision")?;
        ensure!(is_key(own) && id == format!("{own}.{revision}"), "id");
        let last = self
            .revisions
            .insert(own.to_owned(), revision)
            .unwrap_or_default();
        // From 1 again once it was forgotten.
        ensure!(
            revision == last + 1 || revision == 1,
            "revision {revision} follows {last}"
        );
        let closed = data["state"] == "closed";
        ensure!(closed || data["state"] == "open", "state");
        ensure!(
            closed != data["closedBy"].is_null() && closed != data["endedAt"].is_null(),
            "end"
        );
        ensure!(
            (data["alert"] == true) != data["alertUntil"].is_null(),
            "alert"
        );
        ensure!(data["lastEventAt"] == at, "time");
        ensure!(
            time(&data["startedAt"])? <= time(&data["lastEventAt"])?,
            "startedAt"
        );
        for set in ["kinds", "sessionIds", "clips", "zones", "userIds"] {
            let members = data[set]
                .as_array()
                .with_context(|| format!("{set} is no list"))?;
            ensure!(
                members.len() <= MAX_MEMBERS,
                "{set} has {} members",
                members.len()
            );
            if set != "clips" {
                let is_sorted = members.is_sorted_by(|one, next| one.as_str() < next.as_str());
                ensure!(is_sorted, "{set} is not sorted, or has a member twice");
            }
        }
        Ok(())
    }

    /// Forgets the revisions of notifications that the store has forgotten too.
    pub(crate) fn forget_revisions(&mut self) {
        self.revisions.clear();
    }
}

fn check_event(id: &str, at: &str, data: &Value) -> anyhow::Result<()> {
    let data = object(data, EVENT)?;
    ensure!(is_key(id), "id");
    ensure!(data["timestamp"] == at, "time");
    for field in ["timestamp", "publishTime", "receivedAt"] {
        time(&data[field])?;
    }
    ensure!(
        data["late"].is_boolean() && data["orderingKey"].is_string(),
        "late or orderingKey"
    );
    let flags = data["flags"].as_array().context("flags is no list")?;
    ensure!(
        flags.is_sorted_by(|one, next| one.as_str() < next.as_str()),
        "flags"
    );
    for field in ["traits", "events"] {
        ensure!(data[field].is_null() || data[field].is_object(), "{field}");
    }
    Ok(())
}

fn check_relation(id: &str, data: &Value) -> anyhow::Result<()> {
    let data = object(data, RELATION)?;
    ensure!(
        id.split_once('.')
            .is_some_and(|(key, n)| is_key(key) && n != "0"),
        "id"
    );
    ensure!(
        data["previous"].is_null() == (data["change"] == "added"),
        "previous"
    );
    Ok(())
}

/// An object with these fields, sorted, and no others.
fn object<'a>(value: &'a Value, fields: &[&str]) -> anyhow::Result<&'a Map<String, Value>> {
    let object = value.as_object().context("it is no object")?;
    let same = object.keys().map(String::as_str).eq(fields.iter().copied());
    ensure!(
        same,
        "its fields are {:?}",
        object.keys().collect::<Vec<_>>()
    );
    Ok(object)
}

fn time(value: &Value) -> anyhow::Result<chrono::DateTime<chrono::Utc>> {
    let text = value
        .as_str()
        .filter(|text| text.ends_with('Z'))
        .context("no time in UTC")?;
    Ok(Timestamp::parse(text)
        .with_context(|| format!("time {text}"))?
        .at())
}

fn is_key(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The start of a text that may be very long.
fn shortened(text: &str) -> String {
    text.chars().take(4_000).collect()
}
