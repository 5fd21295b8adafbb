//! Checks a service from outside: by what was sent, what was acked, what its sink printed and what
//! is in its store. It shares no code with the product, and reads only JSON and SQL.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::Connection;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::command::hearthd;
use super::daemon::Home;
use super::model::{self, Delivery, dedupe_key};

/// A message that was published.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) message_id: String,
    pub(crate) publish_time: DateTime<Utc>,
    pub(crate) body: Vec<u8>,
}

impl Sent {
    /// The dedupe key, as REFERENCE.md defines it: of the canonical payload, or of raw bytes.
    pub(crate) fn key(&self) -> String {
        match serde_json::from_slice::<Value>(&self.body) {
            Ok(payload) => dedupe_key("sdm", &payload),
            Err(_) => {
                let bytes = [b"sdm\n", &self.body[..]].concat();
                hex::encode(&Sha256::digest(bytes)[..16])
            }
        }
    }

    /// False for what can only go to quarantine.
    pub(crate) fn is_event(&self) -> bool {
        serde_json::from_slice::<Value>(&self.body).is_ok()
    }

    /// As a line of a capture file.
    pub(crate) fn to_capture_line(&self) -> String {
        use base64::Engine as _;
        let data = base64::engine::general_purpose::STANDARD.encode(&self.body);
        let (id, time) = (&self.message_id, self.publish_time.to_rfc3339());
        json!({"message": {"messageId": id, "publishTime": time, "data": data}}).to_string()
    }
}

/// What `replay` makes of messages that nothing disturbs.
pub(crate) struct Expected {
    pub(crate) notifications: Value,
    graph: Value,
    pub(crate) event_ids: BTreeSet<String>,
}

impl Expected {
    /// Of these capture lines; `home` holds the files.
    pub(crate) fn replay(home: &Home, lines: &str) -> Self {
        let capture = home.path("capture.jsonl");
        fs::write(&capture, lines).unwrap();
        let (last, graph) = (home.path("final.json"), home.path("graph.json"));
        let [last_path, graph_path] = [&last, &graph].map(|path| path.to_str().unwrap());
        let files = [
            "--final",
            last_path,
            "--graph",
            graph_path,
            capture.to_str().unwrap(),
        ];
        let output = hearthd(&[&["replay", "--records=event"], &files[..]].concat()).ok();
        let read = |path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let records = output
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        Self {
            notifications: comparable(read(last)),
            graph: read(graph),
            event_ids: event_ids(&records.collect::<Vec<_>>()),
        }
    }

    /// P4: what the store holds in the end is what `replay` ends with.
    pub(crate) fn assert_converged(&self, home: &Home) {
        let (found, wanted) = (comparable(home.read("notifications")), &self.notifications);
        let [found, wanted] = [&found, wanted].map(|list| list.as_array().unwrap());
        assert_eq!(found.len(), wanted.len(), "P4: the number of notifications");
        for (found, wanted) in found.iter().zip(wanted) {
            assert_eq!(found, wanted, "P4");
        }
        assert_eq!(home.read("graph"), self.graph, "P4: the graph");
    }
}

/// Notifications without the fields that depend on when a message came, what the graph was then,
/// and which of two copies came first (REFERENCE.md, section 3).
fn comparable(mut notifications: Value) -> Value {
    for notification in notifications.as_array_mut().unwrap() {
        let notification = notification.as_object_mut().unwrap();
        for field in [
            "revision",
            "alert",
            "alertUntil",
            "structure",
            "room",
            "title",
            "endedAt",
        ] {
            assert!(notification.remove(field).is_some(), "{field}");
        }
    }
    notifications
}

/// The ids of the event records among these.
pub(crate) fn event_ids(records: &[Value]) -> BTreeSet<String> {
    let events = records
        .iter()
        .filter(|record| record["type"] == "hearthd.event");
    events
        .map(|record| record["id"].as_str().unwrap().to_owned())
        .collect()
}

/// P2: a record may come any number of times, but then it is the same one.
pub(crate) fn assert_repeats_are_equal<'a>(records: impl IntoIterator<Item = &'a Value>) {
    let mut by_id = BTreeMap::new();
    for record in records {
        let earlier = by_id.insert(record["id"].to_string(), record);
        let is_same = earlier.is_none_or(|earlier| earlier == record);
        assert!(
            is_same,
            "P2: one id, two contents:\n{}\n{record}",
            earlier.unwrap()
        );
    }
}

/// What is in a store that nobody has open.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// Keys of the messages that count as seen.
    pub(crate) keys: BTreeSet<String>,
    /// The journal, by number.
    journal: BTreeMap<u64, Value>,
    /// The number of the last record, whether it is still there or not.
    last: u64,
    /// The bytes of every message in quarantine.
    quarantined: Vec<Vec<u8>>,
    /// Records that a sink was told it lost, as first and last numbers.
    lost: Vec<(u64, u64)>,
}

impl Stored {
    /// Reads a copy, so that the product finds what the crash left behind.
    pub(crate) fn read(store: &Path) -> Result<Self, String> {
        let told = |error: std::io::Error| format!("{}: {error}", store.display());
        let folder = tempfile::tempdir().map_err(told)?;
        let copy = folder.path().join("copy.db");
        fs::copy(store, &copy).map_err(told)?;
        let log = format!("{}-wal", store.display());
        if Path::new(&log).exists() {
            fs::copy(log, folder.path().join("copy.db-wal")).map_err(told)?;
        }
        Self::read_file(&copy).map_err(|error| error.to_string())
    }

    fn read_file(store: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(store)?;
        let number = |row: &rusqlite::Row<'_>, column| row.get(column).map(i64::unsigned_abs);
        let verdict: String =
            connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        assert_eq!(verdict, "ok", "the store is damaged");
        let mut keys = connection.prepare("SELECT lower(hex(key)) FROM payloads")?;
        let mut journal = connection.prepare("SELECT sequence, line FROM journal")?;
        let mut quarantined = connection.prepare("SELECT raw FROM quarantine")?;
        let mut lost =
            connection.prepare("SELECT first_sequence, last_sequence FROM dead_letters")?;
        let last = "SELECT value FROM meta WHERE name = 'last_sequence'";
        Ok(Self {
            keys: keys
                .query_map([], |row| row.get(0))?
                .collect::<Result<_, _>>()?,
            journal: journal
                .query_map([], |row| {
                    Ok((number(row, 0)?, parsed(&row.get::<_, String>(1)?)))
                })?
                .collect::<Result<_, _>>()?,
            last: connection.query_row(last, [], |row| number(row, 0))?,
            quarantined: quarantined
                .query_map([], |row| row.get(0))?
                .collect::<Result<_, _>>()?,
            lost: lost
                .query_map([], |row| Ok((number(row, 0)?, number(row, 1)?)))?
                .collect::<Result<_, _>>()?,
        })
    }

    /// The number of the oldest record that is still in the journal; 0 if there is none.
    pub(crate) fn oldest_record(&self) -> u64 {
        self.journal.keys().next().copied().unwrap_or_default()
    }

    /// P1 at the moment of a crash: nothing that was acked needs to come again. A store that can't
    /// be read has nothing in it.
    pub(crate) fn assert_holds_acked(
        found: Result<&Self, &String>,
        sent: &[Sent],
        acked: &BTreeSet<String>,
    ) {
        let none = BTreeSet::new();
        let keys = found.map_or(&none, |stored| &stored.keys);
        let is_lost =
            |sent: &&Sent| acked.contains(&sent.message_id) && !keys.contains(&sent.key());
        let lost: Vec<&str> = sent
            .iter()
            .filter(is_lost)
            .map(|sent| sent.message_id.as_str())
            .collect();
        assert!(
            lost.is_empty(),
            "P1: {} of {} acked messages are not in the store ({}): {lost:?}",
            lost.len(),
            acked.len(),
            found.err().map_or("which can be read", String::as_str),
        );
    }

    /// P2 at any moment: what a sink has delivered is in the journal, as long as that keeps it.
    pub(crate) fn assert_holds_delivered(&self, delivered: &[Value]) {
        for record in delivered {
            let number = sequence(record);
            assert!(
                number <= self.last,
                "P2: delivered and not committed: {record}"
            );
            let kept = self.journal.get(&number);
            let is_same = kept.is_none_or(|kept| kept == record);
            assert!(
                is_same,
                "P2: delivered:\n{record}\nkept:\n{}",
                kept.unwrap()
            );
        }
    }

    /// P1 to P3 in the end, when all is delivered and no timer is left.
    pub(crate) fn assert_final(&self, sent: &[Sent], delivered: &[Value], expected: &Expected) {
        assert_repeats_are_equal(delivered.iter().chain(self.journal.values()));
        self.assert_holds_delivered(delivered);
        let mut log: BTreeMap<u64, &Value> = BTreeMap::new();
        log.extend(delivered.iter().map(|record| (sequence(record), record)));
        let is_lost = |number: &u64| self.lost.iter().any(|(a, b)| (*a..=*b).contains(number));
        let missing: Vec<u64> = (1..=self.last)
            .filter(|number| !log.contains_key(number))
            .collect();
        assert!(
            missing.iter().all(is_lost),
            "P1: neither delivered nor listed as lost: {missing:?} of {}, lost: {:?}",
            self.last,
            self.lost
        );
        log.extend(
            self.journal
                .iter()
                .map(|(number, record)| (*number, record)),
        );
        self.assert_one_effect_each(sent, &log, expected);
        if log.len() as u64 == self.last {
            assert_ordered(&log, sent);
        }
    }

    /// Every payload once: as one event, or as one message in quarantine.
    fn assert_one_effect_each(
        &self,
        sent: &[Sent],
        log: &BTreeMap<u64, &Value>,
        expected: &Expected,
    ) {
        let mut events = BTreeMap::new();
        for record in log
            .values()
            .filter(|record| record["type"] == "hearthd.event")
        {
            let id = record["id"].as_str().unwrap().to_owned();
            let other = events.insert(id, record);
            assert!(
                other.is_none(),
                "P2: two events of one payload: {record} and {other:?}"
            );
        }
        let wanted: BTreeSet<String> = sent
            .iter()
            .filter(|sent| sent.is_event())
            .map(Sent::key)
            .collect();
        assert_eq!(
            wanted, expected.event_ids,
            "the oracle and `replay` disagree"
        );
        let lost: Vec<&String> = wanted
            .iter()
            .filter(|key| !events.contains_key(*key))
            .collect();
        let gone = self.last - log.len() as u64;
        assert!(
            lost.len() as u64 <= gone,
            "P1: no event of {lost:?}, {gone} records trimmed"
        );
        assert!(
            events.keys().all(|key| wanted.contains(key)),
            "an event that nobody sent"
        );
        let mut bad: Vec<&[u8]> = self.quarantined.iter().map(Vec::as_slice).collect();
        bad.sort_unstable();
        let sent_bad: BTreeSet<&[u8]> = sent
            .iter()
            .filter(|sent| !sent.is_event())
            .map(|sent| &sent.body[..])
            .collect();
        assert!(
            bad.iter().eq(&sent_bad),
            "P1: in quarantine: {bad:?}, sent: {sent_bad:?}"
        );
    }
}

/// P3: in order under each key, but for what is flagged late.
fn assert_ordered(log: &BTreeMap<u64, &Value>, sent: &[Sent]) {
    let bodies: BTreeMap<&str, &Sent> = sent
        .iter()
        .map(|sent| (sent.message_id.as_str(), sent))
        .collect();
    let events: Vec<&Value> = log
        .values()
        .copied()
        .filter(|record| record["type"] == "hearthd.event")
        .collect();
    let mut arrivals: Vec<Delivery> = Vec::new();
    for data in events.iter().map(|event| &event["data"]) {
        let sent = bodies[data["messageId"].as_str().unwrap()];
        arrivals.push(Delivery {
            received_at: data["receivedAt"].as_str().unwrap().parse().unwrap(),
            publish_time: data["publishTime"].as_str().unwrap().parse().unwrap(),
            message_id: sent.message_id.clone(),
            body: serde_json::from_slice(&sent.body).unwrap(),
        });
    }
    arrivals.sort_by_key(|arrival| arrival.received_at);
    let data: Vec<Value> = events.iter().map(|event| event["data"].clone()).collect();
    // When the engine took a message is not to be seen from outside, so any head start of the
    // greater event excuses a late one.
    if let Err(fault) = model::check_event_log(&data, Duration::ZERO, &arrivals) {
        panic!("P3: {fault}");
    }
}

fn sequence(record: &Value) -> u64 {
    record["sequence"].as_str().unwrap().parse().unwrap()
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}
