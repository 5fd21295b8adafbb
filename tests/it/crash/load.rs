//! The messages of a small home, made from a seed: threads, sessions, traits, relations,
//! republished copies, and some that are no events at all.

use chrono::{DateTime, Duration, SecondsFormat, Utc};
use fastrand::Rng;
use serde_json::{Value, json};

use crate::support::oracle::Sent;

const FIRST_TIME: &str = "2025-06-09T13:52:00Z";
/// Between two messages.
const STEP_MS: i64 = 250;
/// How far a timestamp may be behind its turn: some events come late.
const JITTER_MS: i64 = 4_000;
/// From the turn to the publishTime.
const LAG_MS: i64 = 900;

const STRUCTURE: &str = "enterprises/p/structures/s1";
const DEVICES: [&str; 3] = [
    "enterprises/p/devices/d1",
    "enterprises/p/devices/d2",
    "enterprises/p/devices/d10",
];
const KINDS: [&str; 3] = [
    "CameraMotion.Motion",
    "CameraPerson.Person",
    "DoorbellChime.Chime",
];

/// Makes one message after the other. Each has an id of its own, and each event a payload of its
/// own, unless it is a copy.
pub(crate) struct Load {
    rng: Rng,
    made: Vec<Sent>,
    /// Device and id of the threads that have started and not ended.
    threads: Vec<(&'static str, String)>,
    /// Bytes that make every trait update longer, to fill a journal soon.
    padding: usize,
}

impl Load {
    pub(crate) fn new(seed: u64, padding: usize) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            made: Vec::new(),
            threads: Vec::new(),
            padding,
        }
    }

    /// The next messages.
    pub(crate) fn take(&mut self, count: usize) -> Vec<Sent> {
        let first = self.made.len();
        for number in first..first + count {
            let turn = first_time() + Duration::milliseconds(STEP_MS) * number.try_into().unwrap();
            let body = self.body(number, turn);
            let publish_time = turn + Duration::milliseconds(LAG_MS);
            self.made.push(Sent {
                message_id: format!("{number:06}"),
                publish_time,
                body,
            });
        }
        self.made[first..].to_vec()
    }

    fn body(&mut self, number: usize, turn: DateTime<Utc>) -> Vec<u8> {
        let update = match self.rng.u8(0..40) {
            0 => return format!("no event {number}").into_bytes(),
            1..=4 if number > 0 => return self.made[self.rng.usize(..number)].body.clone(),
            5..=20 => self.thread(number),
            21..=28 => self.session(number),
            29..=34 => self.traits(number),
            _ => self.relation(),
        };
        let time = turn - Duration::milliseconds(self.rng.i64(0..JITTER_MS));
        let mut body = json!({
            "eventId": format!("e{number}"),
            "timestamp": time.to_rfc3339_opts(SecondsFormat::Millis, true),
            "userId": "AVPHwE-u1",
        });
        body.as_object_mut()
            .unwrap()
            .extend(update.as_object().unwrap().clone());
        body.to_string().into_bytes()
    }

    fn device(&mut self) -> &'static str {
        DEVICES[self.rng.usize(..DEVICES.len())]
    }

    /// Starts a thread, or goes on with one that has started.
    fn thread(&mut self, number: usize) -> Value {
        let (device, thread, state) = if self.threads.is_empty() || self.rng.u8(0..3) == 0 {
            let started = (self.device(), format!("t{number}"));
            self.threads.push(started.clone());
            (started.0, started.1, "STARTED")
        } else {
            let index = self.rng.usize(..self.threads.len());
            if self.rng.bool() {
                let (device, thread) = self.threads.swap_remove(index);
                (device, thread, "ENDED")
            } else {
                let (device, thread) = self.threads[index].clone();
                (device, thread, "UPDATED")
            }
        };
        let mut update = self.camera(device, &format!("s{thread}"), number);
        update["eventThreadId"] = json!(thread);
        update["eventThreadState"] = json!(state);
        update
    }

    /// Activity without a thread, under one of few sessions.
    fn session(&mut self, number: usize) -> Value {
        let (device, session) = (self.device(), format!("s{}", self.rng.usize(..=number / 8)));
        self.camera(device, &session, number)
    }

    fn camera(&mut self, device: &str, session: &str, number: usize) -> Value {
        let kind = KINDS[self.rng.usize(..KINDS.len())];
        let mut events = json!({
            format!("sdm.devices.events.{kind}"):
                {"eventSessionId": session, "eventId": format!("n{number}")},
        });
        if self.rng.u8(0..4) == 0 {
            let url = format!("https://clips.example/{number}");
            events["sdm.devices.events.CameraClipPreview.ClipPreview"] =
                json!({"eventSessionId": session, "previewUrl": url});
        }
        json!({"resourceUpdate": {"name": device, "events": events}, "resourceGroup": [device]})
    }

    fn traits(&mut self, number: usize) -> Value {
        let (name, padding) = (
            format!("Hall {}", self.rng.u8(0..9)),
            "x".repeat(self.padding),
        );
        let traits = json!({
            "sdm.devices.traits.Temperature": {"ambientTemperatureCelsius": number},
            "sdm.devices.traits.Info": {"customName": name, "x": padding},
        });
        json!({"resourceUpdate": {"name": self.device(), "traits": traits}})
    }

    fn relation(&mut self) -> Value {
        let change = ["CREATED", "UPDATED", "DELETED"][self.rng.usize(..3)];
        let subject = match self.rng.u8(0..3) {
            0 => STRUCTURE.to_owned(),
            room => format!("{STRUCTURE}/rooms/r{room}"),
        };
        let object = if change == "CREATED" && self.rng.bool() {
            subject.clone()
        } else {
            self.device().to_owned()
        };
        json!({"relationUpdate": {"type": change, "subject": subject, "object": object}})
    }
}

fn first_time() -> DateTime<Utc> {
    FIRST_TIME.parse().unwrap()
}
