//! The official Pub/Sub emulator, started for one test and killed with it.
//!
//! Talks to it over plain HTTP on the loopback, so that what a test sees doesn't come from the code
//! that it tests.
//!
//! The emulator doesn't notice that a streaming pull has ended: it leases the next batch or two (up
//! to 100 messages each) to the dead stream, where they stay for its lease. So after a source was
//! stopped or killed, [`Emulator::release`] what is to arrive elsewhere soon, again and again until
//! it does.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;
use std::{env, fs, thread};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::http;

/// Names the emulator's jar, where it isn't in its usual place.
const JAR_VARIABLE: &str = "HEARTHD_TEST_EMULATOR_JAR";
/// Where Google's packages install the jar.
const JAR_FOLDER: &str = "/usr/lib/google-cloud-sdk/platform/pubsub-emulator/lib";
/// What to do without one.
const HOW_TO_INSTALL: &str = "install a Java runtime and Google's package \
    google-cloud-cli-pubsub-emulator (or `gcloud components install pubsub-emulator`), or set \
    HEARTHD_TEST_EMULATOR_JAR to its cloud-pubsub-emulator-*-all.jar";
/// Longest start: it takes a second, on a busy machine some more.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Ports to try: another program may take the one that was free a moment ago.
const START_ATTEMPTS: usize = 5;
/// Messages in one request to publish; Pub/Sub takes up to 1000.
const PUBLISH_BATCH: usize = 500;
/// Messages that one pull can bring.
const PULL_MAX: usize = 1_000;
/// How often leases are ended to find all messages; after a few times no dead stream is left.
const RELEASES: usize = 20;
/// Ack deadline of the subscriptions: the shortest that there is.
const ACK_DEADLINE_SECONDS: u32 = 10;
/// Pause between two looks at a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A running emulator; dropping it kills it.
pub(crate) struct Emulator {
    child: Child,
    port: u16,
}

/// A message that was not acked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pulled {
    /// The transport's id.
    pub(crate) message_id: String,
    /// When the emulator took it.
    pub(crate) publish_time: String,
    /// The payload.
    pub(crate) data: Vec<u8>,
    /// What acks it.
    pub(crate) ack_id: String,
}

/// How a start went.
enum Start {
    Ready,
    PortTaken,
}

impl Emulator {
    /// Starts one on a free port. `None`, and a loud line, if it isn't installed: skip the test.
    pub(crate) fn start() -> Option<Self> {
        let Some(jar) = jar().filter(|_| java_runs()) else {
            super::skip("the Pub/Sub emulator", HOW_TO_INSTALL);
            return None;
        };
        for _ in 0..START_ATTEMPTS {
            let (emulator, start) = Self::start_on(&jar, free_port());
            match start {
                Start::Ready => return Some(emulator),
                Start::PortTaken => {}
            }
        }
        panic!("found no port for the emulator in {START_ATTEMPTS} attempts");
    }

    /// Kills it, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        // An error means that it is gone already.
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// The value for `PUBSUB_EMULATOR_HOST`.
    pub(crate) fn host(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// Creates a topic, given its full name.
    pub(crate) fn create_topic(&self, topic: &str) {
        self.call("PUT", topic, &json!({}));
    }

    /// Creates a subscription to a topic, given their full names.
    pub(crate) fn create_subscription(&self, subscription: &str, topic: &str) {
        let body = json!({"topic": topic, "ackDeadlineSeconds": ACK_DEADLINE_SECONDS});
        self.call("PUT", subscription, &body);
    }

    /// Publishes in batches, in order; returns the messages' ids.
    pub(crate) fn publish(&self, topic: &str, bodies: &[impl AsRef<[u8]>]) -> Vec<String> {
        let mut ids = Vec::with_capacity(bodies.len());
        for batch in bodies.chunks(PUBLISH_BATCH) {
            let messages: Vec<Value> = batch
                .iter()
                .map(|body| json!({"data": BASE64.encode(body)}))
                .collect();
            let answer = self.call(
                "POST",
                &format!("{topic}:publish"),
                &json!({"messages": messages}),
            );
            let new = answer["messageIds"].as_array().unwrap();
            ids.extend(new.iter().map(|id| id.as_str().unwrap().to_owned()));
        }
        ids
    }

    /// Up to `max` of the messages that are neither acked nor leased to somebody. They are then
    /// leased to the caller for the ack deadline.
    pub(crate) fn pull(&self, subscription: &str, max: usize) -> Vec<Pulled> {
        let body = json!({"maxMessages": max, "returnImmediately": true});
        let answer = self.call("POST", &format!("{subscription}:pull"), &body);
        let received = answer["receivedMessages"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let pulled = received.iter().map(|received| Pulled {
            message_id: received["message"]["messageId"]
                .as_str()
                .unwrap()
                .to_owned(),
            publish_time: received["message"]["publishTime"]
                .as_str()
                .unwrap()
                .to_owned(),
            data: BASE64
                .decode(received["message"]["data"].as_str().unwrap_or_default())
                .unwrap(),
            ack_id: received["ackId"].as_str().unwrap().to_owned(),
        });
        pulled.collect()
    }

    /// Ends all leases: every message that was not acked can be had at once.
    pub(crate) fn release(&self, subscription: &str) {
        // Going back in time brings back what is not acked; acked messages aren't kept.
        let body = json!({"time": "2000-01-01T00:00:00Z"});
        self.call("POST", &format!("{subscription}:seek"), &body);
    }

    /// Every message that was not acked, whoever has leased it, by id. Takes about a second, and
    /// disturbs whoever is pulling.
    pub(crate) fn unacked(&self, subscription: &str) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        // Several times, as a dead stream may be faster.
        for _ in 0..RELEASES {
            self.release(subscription);
            let pulled = self.pull(subscription, PULL_MAX);
            found.extend(
                pulled
                    .into_iter()
                    .map(|message| (message.message_id, message.data)),
            );
            thread::park_timeout(POLL_INTERVAL);
        }
        self.release(subscription);
        found
    }

    /// Acks what was pulled.
    pub(crate) fn ack(&self, subscription: &str, pulled: &[Pulled]) {
        let ids: Vec<&str> = pulled
            .iter()
            .map(|message| message.ack_id.as_str())
            .collect();
        self.call(
            "POST",
            &format!("{subscription}:acknowledge"),
            &json!({"ackIds": ids}),
        );
    }

    fn start_on(jar: &Path, port: u16) -> (Self, Start) {
        let mut child = Command::new("java")
            // Starts faster; it doesn't live long enough to profit from more.
            .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-jar"])
            .arg(jar)
            .arg(format!("--host={}", Ipv4Addr::LOCALHOST))
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = child.stderr.take().unwrap();
        let emulator = Self { child, port };
        let (sender, started) = sync_channel(1);
        thread::spawn(move || watch_log(log, &sender));
        let start = wait_for_start(&started);
        (emulator, start)
    }

    /// One HTTP request. Panics unless the answer is good.
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let (path, body) = (format!("/v1/{path}"), body.to_string());
        let (status, answer) = http::request(self.port, method, &path, &body).unwrap();
        assert_eq!(status, 200, "{method} {path}: {answer}");
        serde_json::from_str(&answer).unwrap()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.kill();
    }
}

/// True as soon as `condition` is; false if it never was within `limit`.
///
/// For what another process does, which nothing announces. It counts its own pauses, as only the
/// product's clock may be read, so slow conditions prolong the limit.
pub(crate) fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let looks = limit.as_nanos().div_ceil(POLL_INTERVAL.as_nanos());
    for _ in 0..looks {
        if condition() {
            return true;
        }
        thread::park_timeout(POLL_INTERVAL);
    }
    condition()
}

fn jar() -> Option<PathBuf> {
    if let Some(path) = env::var_os(JAR_VARIABLE).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        assert!(
            path.is_file(),
            "{JAR_VARIABLE} names no file: {}",
            path.display()
        );
        return Some(path);
    }
    let mut jars: Vec<PathBuf> = fs::read_dir(JAR_FOLDER)
        .ok()?
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("cloud-pubsub-emulator-") && name.ends_with("-all.jar")
        })
        .collect();
    jars.sort();
    jars.pop()
}

fn java_runs() -> bool {
    let version = Command::new("java")
        .arg("-version")
        .stdin(Stdio::null())
        .output();
    version.is_ok_and(|output| output.status.success())
}

/// A port that was free a moment ago. The emulator can't pick one itself and tell which.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Reads the log to its end, so that the emulator never blocks on it.
fn watch_log(log: impl Read, started: &SyncSender<Result<Start, String>>) {
    let mut seen = String::new();
    let mut is_started = false;
    for line in BufReader::new(log).lines() {
        let Ok(line) = line else { break };
        if is_started {
            continue;
        }
        // With its port taken it complains and runs on.
        let start = if line.contains("BindException") {
            Start::PortTaken
        } else if line.contains("Server started, listening on") {
            Start::Ready
        } else {
            seen.push_str(&line);
            seen.push('\n');
            continue;
        };
        is_started = true;
        // An error means that nobody waits any more.
        started.send(Ok(start)).ok();
    }
    if !is_started {
        started.send(Err(seen)).ok();
    }
}

fn wait_for_start(started: &Receiver<Result<Start, String>>) -> Start {
    match started.recv_timeout(START_LIMIT) {
        Ok(Ok(start)) => start,
        Ok(Err(log)) => panic!("the emulator ended at its start:\n{log}"),
        Err(RecvTimeoutError::Timeout) => panic!("the emulator didn't start in {START_LIMIT:?}"),
        Err(RecvTimeoutError::Disconnected) => panic!("nobody reads the emulator's log"),
    }
}
