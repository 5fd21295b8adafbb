//! Made-up SDM traffic of fifty devices, as capture lines: the same for the same seed.
//!
//! About half of the messages are threads (STARTED, UPDATED, ENDED with its clip), a tenth sessions
//! of cameras without threads, the rest trait updates, a few relations, and one in a hundred is
//! delivered twice. Names, ids and addresses are as long as Google's.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use fastrand::Rng;

const PROJECT: &str = "enterprises/6c7a3f0e-5b1d-4a52-9a37-0f4f2c8f7d11";
/// Devices of a large home. A room has five of any.
pub(crate) const DEVICES: u64 = 50;
const DEVICES_PER_ROOM: u64 = 5;
/// Mean time between two arrivals: a million of them take 30 days.
const MEAN_GAP_MS: i64 = 30 * 24 * 3_600_000 / 1_000_000;
/// Messages of a hundred scenes: see the weights in [`Traffic::scene`].
const MESSAGES_PER_100_SCENES: i64 = 166;

/// An endless stream of capture lines, in the order of their arrival.
struct Traffic {
    rng: Rng,
    devices: u64,
    clock: DateTime<Utc>,
    made: u64,
    /// What is to arrive, by time and then in the order of making.
    coming: BinaryHeap<Reverse<(DateTime<Utc>, u64, String)>>,
}

impl Traffic {
    /// Begins with the relations and names of all devices.
    fn new(seed: u64, devices: u64) -> Self {
        let mut traffic = Self {
            rng: Rng::with_seed(seed),
            devices,
            clock: DateTime::UNIX_EPOCH + TimeDelta::days(20_000),
            made: 0,
            coming: BinaryHeap::new(),
        };
        traffic.relation("CREATED", "", &structure());
        for number in 0..traffic.rooms() {
            traffic.relation("CREATED", &structure(), &room(number));
        }
        for number in 0..devices {
            traffic.relation("CREATED", &room(number % traffic.rooms()), &device(number));
            let fields = format!(r#"{{"customName":"Device {number}"}}"#);
            traffic.traits(number, &[("Info", fields)]);
        }
        traffic
    }

    fn rooms(&self) -> u64 {
        self.devices.div_ceil(DEVICES_PER_ROOM)
    }

    fn scene(&mut self) {
        let gap = 2 * MEAN_GAP_MS * MESSAGES_PER_100_SCENES / 100;
        self.clock += TimeDelta::milliseconds(self.rng.i64(0..gap));
        let number = self.rng.u64(0..self.devices);
        match self.rng.u32(0..1000) {
            0..275 => self.thread(number),
            275..357 => self.session(number),
            357..373 => {
                let room = room(self.rng.u64(0..self.rooms()));
                self.relation("UPDATED", &room, &device(number));
            }
            _ => self.trait_update(number),
        }
    }

    fn thread(&mut self, number: u64) {
        let (id, thread, session) = (self.uuid(), self.uuid(), self.session_id());
        let kind = if self.rng.u32(0..5) == 0 {
            "DoorbellChime.Chime"
        } else {
            "CameraMotion.Motion"
        };
        let first = format!("{},\"zones\":[\"Driveway\"]}}", entry(kind, &session, 1));
        let person = format!("{}}}", entry("CameraPerson.Person", &session, 2));
        let clip = self.clip(&session);
        let stages = [
            ("STARTED", 0, first.clone()),
            ("UPDATED", 7_000, format!("{first},{person}")),
            ("ENDED", 20_000, format!("{first},{person},{clip}")),
        ];
        for (state, after, events) in stages {
            let tail = format!(r#","eventThreadId":"{thread}","eventThreadState":"{state}""#);
            self.resource_update(
                number,
                &id,
                after,
                &format!(r#""events":{{{events}}}"#),
                &tail,
            );
        }
    }

    /// A camera without threads: the clip comes by itself.
    fn session(&mut self, number: u64) {
        let session = format!("AVPHwE{}", self.token(60));
        let event_id = self.token(280);
        let motion = format!(
            r#""sdm.devices.events.CameraMotion.Motion":{{"eventSessionId":"{session}","eventId":"{event_id}"}}"#
        );
        let clip = self.clip(&session);
        for (after, events) in [(0, motion), (15_000, clip)] {
            let id = self.uuid();
            self.resource_update(number, &id, after, &format!(r#""events":{{{events}}}"#), "");
        }
    }

    fn trait_update(&mut self, number: u64) {
        let tenths = |value: i64| format!("{}.{}", value / 10, value % 10);
        let (warm, warmer) = (
            tenths(self.rng.i64(150..240)),
            tenths(self.rng.i64(150..240)),
        );
        let humid = self.rng.u32(30..70);
        let temperature = format!(r#"{{"ambientTemperatureCelsius":{warm}}}"#);
        let humidity = format!(r#"{{"ambientHumidityPercent":{humid}}}"#);
        let setpoint = format!(r#"{{"heatCelsius":{warmer}}}"#);
        let hvac = r#"{"status":"HEATING"}"#.to_owned();
        let online = r#"{"status":"ONLINE"}"#.to_owned();
        self.traits(
            number,
            &[
                ("Temperature", temperature),
                ("Humidity", humidity),
                ("ThermostatTemperatureSetpoint", setpoint),
                ("ThermostatHvac", hvac),
                ("Connectivity", online),
            ],
        );
    }

    fn traits(&mut self, number: u64, traits: &[(&str, String)]) {
        let mut list = String::new();
        for (name, fields) in traits {
            let comma = if list.is_empty() { "" } else { "," };
            list.push_str(&format!(r#"{comma}"sdm.devices.traits.{name}":{fields}"#));
        }
        let id = self.uuid();
        self.resource_update(number, &id, 0, &format!(r#""traits":{{{list}}}"#), "");
    }

    fn relation(&mut self, change: &str, subject: &str, object: &str) {
        let (id, time) = (self.uuid(), text(self.clock));
        let user = user();
        let event = format!(
            r#"{{"eventId":"{id}","timestamp":"{time}","relationUpdate":{{"type":"{change}","subject":"{subject}","object":"{object}"}},"userId":"{user}"}}"#
        );
        self.send(0, &event);
    }

    fn resource_update(&mut self, number: u64, id: &str, after: i64, update: &str, tail: &str) {
        let (name, user, time) = (device(number), user(), text(self.clock));
        let event = format!(
            r#"{{"eventId":"{id}","timestamp":"{time}","resourceUpdate":{{"name":"{name}",{update}}},"userId":"{user}"{tail},"resourceGroup":["{name}"]}}"#
        );
        self.send(after, &event);
    }

    fn send(&mut self, after: i64, event: &str) {
        let published = self.clock + TimeDelta::milliseconds(after + self.rng.i64(1_500..3_500));
        let received = published + TimeDelta::milliseconds(self.rng.i64(20..300));
        let message_id = 9_000_000_000_000_000 + self.made;
        let line = |received| {
            format!(
                r#"{{"receivedAt":"{}","platform":"sdm","publishTime":"{}","messageId":"{message_id}","event":{event}}}"#,
                text(received),
                text(published)
            )
        };
        if self.rng.u32(0..100) == 0 {
            let again = received + TimeDelta::milliseconds(self.rng.i64(500..60_000));
            self.coming
                .push(Reverse((again, self.made + 1, line(again))));
        }
        self.coming
            .push(Reverse((received, self.made, line(received))));
        self.made += 2;
    }

    fn clip(&mut self, session: &str) -> String {
        let token = self.token(96);
        format!(
            r#""sdm.devices.events.CameraClipPreview.ClipPreview":{{"eventSessionId":"{session}","previewUrl":"https://nest-camera-frontend.googleapis.com/frontend/encrypted/clippreview/{token}"}}"#
        )
    }

    fn session_id(&mut self) -> String {
        self.rng.u64(1_000_000_000..9_999_999_999).to_string()
    }

    fn token(&mut self, length: usize) -> String {
        (0..length).map(|_| self.rng.alphanumeric()).collect()
    }

    fn uuid(&mut self) -> String {
        let (high, low) = (self.rng.u64(..), self.rng.u64(..));
        let [a, b, c] = [high >> 32, high >> 16 & 0xffff, high & 0xffff];
        format!(
            "{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}",
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }
}

impl Iterator for Traffic {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        // Nothing that is made later arrives before the clock.
        while self
            .coming
            .peek()
            .is_none_or(|Reverse((at, ..))| *at > self.clock)
        {
            self.scene();
        }
        self.coming.pop().map(|Reverse((_, _, line))| line)
    }
}

/// Writes so many messages of so many devices into a capture file, the devices' own among them.
pub(crate) fn write(path: &Path, seed: u64, messages: usize, devices: u64) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for line in Traffic::new(seed, devices).take(messages) {
        writeln!(file, "{line}")?;
    }
    file.flush()
}

fn entry(kind: &str, session: &str, n: u32) -> String {
    format!(r#""sdm.devices.events.{kind}":{{"eventSessionId":"{session}","eventId":"n:{n}""#)
}

fn structure() -> String {
    format!("{PROJECT}/structures/AVPHwEu3kZ1q0Q9W2m7rT5xY8bN4vC6dL0sJ3hG1fD9aP7oI5uE2")
}

fn room(number: u64) -> String {
    format!(
        "{}/rooms/AVPHwEt6yU8iO0pA2sD4fG6hJ8kL1zX3cV5bN7mQ9wE{number:02}",
        structure()
    )
}

fn device(number: u64) -> String {
    format!("{PROJECT}/devices/AVPHwEsR4tY6uI8oP0aS2dF4gH6jK8lZ1xC3vB5nM7qW9eR{number:05}")
}

fn user() -> &'static str {
    "AVPHwEjVwifSwFIIqDEFrIQ8VhVWeJNQYDLsYh24JVEd4fMs1Vkp"
}

fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
