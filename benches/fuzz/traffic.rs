//! Messages and when they arrive: fresh ones, repeats and republications, on clocks that jump.

use std::collections::VecDeque;
use std::io::Cursor;
use std::path::Path;

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, TimeDelta, Utc};
use fastrand::Rng;
use hearthd::event::{ClockTime, Platform, PublishTime, RawMessage, ReceivedAt, Timestamp};
use hearthd::sources::{Incoming, capture};

use super::bodies::{Bodies, Corpus};
use super::json::Json;

/// Messages that may come again.
const REMEMBERED: usize = 300;

/// Bodies above this are seldom remembered, so that memory is the product's.
const LARGE: usize = 64 << 10;

/// Largest body that is also tried in a capture line: base64 and the line's parts are copies.
const IN_LINE: usize = 1 << 20;

/// An endless stream of messages.
#[derive(Debug)]
pub(crate) struct Traffic<'a> {
    bodies: Bodies<'a>,
    sent: VecDeque<Incoming>,
    /// The engine's clock as arrivals show it; may go back.
    clock: ClockTime,
}

impl<'a> Traffic<'a> {
    /// Traffic with so many different ids of each kind, from a random time on.
    pub(crate) fn new(corpus: &'a Corpus, ids: u32, rng: &mut Rng) -> Self {
        let start = match rng.u32(0..20) {
            0 => ClockTime(i64::MIN),
            1 => ClockTime(0),
            _ => ClockTime(1_750_000_000_000_000_000),
        };
        Self {
            bodies: Bodies::new(corpus, ids),
            sent: VecDeque::new(),
            clock: start,
        }
    }

    /// Moves the clock, mostly a little and mostly on; `now` is where the engine's is.
    pub(crate) fn tick(&mut self, now: ClockTime, rng: &mut Rng) -> ClockTime {
        const SECOND: i64 = 1_000_000_000;
        let by = match rng.u32(0..10_000) {
            0..2_000 => 0,
            2_000..8_000 => rng.i64(0..SECOND / 5),
            8_000..9_400 => rng.i64(0..SECOND * 60),
            9_400..9_700 => -rng.i64(0..SECOND * 10),
            9_700..9_980 => rng.i64(0..SECOND * 86_400),
            9_980..9_999 => rng.i64(0..SECOND * 86_400 * 9),
            _ => i64::MAX,
        };
        self.clock = ClockTime(self.clock.max(now).0.saturating_add(by));
        self.clock
    }

    /// The next message.
    pub(crate) fn next(&mut self, rng: &mut Rng) -> anyhow::Result<Incoming> {
        if rng.u32(0..6) == 0
            && let Some(earlier) = self.again(rng)
        {
            return Ok(earlier);
        }
        let message = self.fresh(rng)?;
        if message.raw.body.len() <= LARGE || rng.u32(0..10) == 0 {
            self.sent.push_back(message.clone());
        }
        if self.sent.len() > REMEMBERED {
            self.sent.pop_front();
        }
        Ok(message)
    }

    fn again(&self, rng: &mut Rng) -> Option<Incoming> {
        let mut message = self.sent.get(rng.usize(0..self.sent.len().max(1)))?.clone();
        message.raw.received_at = ReceivedAt(self.time(0, rng));
        if rng.bool() {
            message.raw.message_id = format!("republished-{:x}", rng.u64(..)).into();
            message.raw.publish_time = PublishTime(self.time(0, rng));
        }
        Some(message)
    }

    fn fresh(&mut self, rng: &mut Rng) -> anyhow::Result<Incoming> {
        let body = self.bodies.next(wall(self.clock), rng);
        if rng.u32(0..40) == 0 && body.len() <= IN_LINE {
            return self.in_line(&body, rng);
        }
        let message_id = match rng.u32(0..50) {
            0 => String::new(),
            _ => rng.u64(..).to_string(),
        };
        let raw = RawMessage {
            platform: Platform::Sdm,
            message_id: message_id.into(),
            publish_time: PublishTime(self.time(-3_000, rng)),
            received_at: ReceivedAt(self.time(0, rng)),
            body: body.into(),
            place: None,
        };
        Ok(Incoming { raw, fault: None })
    }

    /// A message as a capture file has it, the line's own parts changed now and then.
    fn in_line(&mut self, body: &[u8], rng: &mut Rng) -> anyhow::Result<Incoming> {
        let time = self.time(0, rng);
        let line = match rng.u32(0..3) {
            0 => body.to_vec(),
            1 => {
                let body = String::from_utf8_lossy(body).replace('\n', " ");
                format!(r#"{{"publishTime":"{time}","event":{body}}}"#).into_bytes()
            }
            _ => {
                let data = BASE64.encode(body);
                let message =
                    format!(r#"{{"messageId":"m","publishTime":"{time}","data":"{data}"}}"#);
                format!(r#"{{"receivedAt":"{time}","message":{message}}}"#).into_bytes()
            }
        };
        let line = match Json::read(&line).filter(|_| rng.bool()) {
            Some(mut parts) => {
                parts.mutate(&mut self.bodies, rng);
                parts.write().into_bytes()
            }
            None => line,
        };
        // A line that is blank is no message.
        let line = [br"x".as_slice(), &line][usize::from(!line.trim_ascii().is_empty())].to_vec();
        let mut reader = capture::Reader::new(Box::new(Cursor::new(line)), Path::new("fuzz.jsonl"));
        Ok(reader.next().context("a capture line gave no message")??)
    }

    /// A time of the transport's or of the wall clock: near the clock, or anywhere at all.
    fn time(&self, shift_millis: i64, rng: &mut Rng) -> Timestamp {
        let at = match rng.u32(0..60) {
            0 => DateTime::<Utc>::MIN_UTC,
            1 => DateTime::<Utc>::MAX_UTC,
            _ => {
                let by = TimeDelta::milliseconds(shift_millis + rng.i64(-2_000..2_000));
                let near = wall(self.clock);
                near.checked_add_signed(by).unwrap_or(near)
            }
        };
        Timestamp::from_utc(at)
    }
}

/// The time that a clock shows.
fn wall(clock: ClockTime) -> DateTime<Utc> {
    DateTime::from_timestamp_nanos(clock.0)
}
