//! Message bodies: those of the fixtures, given ids that meet each other, then damaged.

use std::path::Path;

use anyhow::Context;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use fastrand::Rng;
use hearthd::sources::capture;

use super::json::{Json, Words};

/// Values as they are written, some of them no JSON.
const VALUES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-0.0",
    "65.0",
    "1e999",
    "-1E-999",
    "9223372036854775808",
    "-9223372036854775809",
    "123456789012345678901234567890.5",
    "01",
    "NaN",
    "{}",
    "[]",
    "[[]]",
    r#"["OFF"]"#,
    r#""""#,
    r#""STARTED""#,
    r#""UPDATED""#,
    r#""ENDED""#,
    r#""CREATED""#,
    r#""DELETED""#,
    r#"{"$serde_json::private::Number":"1"}"#,
    r#"{"$serde_json::private::Number":"x"}"#,
    r#"{"$serde_json::private::RawValue":"[[]]"}"#,
    r#"{"\u0024serde_json::private::RawValue":"{}"}"#,
    r#"{"a":1,"a":1}"#,
    r#"{"a":1,"\u0061":2}"#,
];

/// Texts in their quotes: control characters, lone and paired surrogates, characters of every
/// length, of both directions, that combine or take no room, and what looks like a record.
const TEXTS: &[&str] = &[
    r#""\u0000""#,
    r#""\ud800""#,
    r#""\udc00\ud800""#,
    r#""\ud83d\ude00""#,
    r#""\ufeff\u200b""#,
    "\"\u{fc}\u{20ac}\u{1f600}\u{10ffff}\"",
    "\"e\u{301}\u{202e}\u{5d0}\u{2028}\u{7f}\"",
    "\"\u{1}\"",
    r#""\"}}}""#,
    r#""\",\"sequence\":\"1\"""#,
    r#""\\""#,
    r#""a\nb\r\u2028""#,
    r#""%s%n{}{0}''--""#,
];

/// Times at the limits of what can be read, and just beyond them.
const TIMES: &[&str] = &[
    "0000-01-01T00:00:00Z",
    "0000-01-01T00:00:00+23:59",
    "-0001-12-31T23:59:59Z",
    "9999-12-31T23:59:59.999999999Z",
    "9999-12-31T23:59:59.999999999-23:59",
    "9999-12-31T23:59:60Z",
    "2016-12-31T23:59:60.999999999Z",
    "+10000-01-01T00:00:00Z",
    "1677-09-21T00:12:43Z",
    "2262-04-11T23:47:17Z",
    "1970-01-01T00:00:00Z",
    "2025-02-30T00:00:00Z",
    "2025-06-09T13:52:03",
    "2025-06-09t13:52:03.5z",
    "soon",
];

/// A body in this many is small, and what [`Bodies::oversized`] makes is not.
const OVERSIZED_IN: u32 = 5_000;

/// Pub/Sub's largest message, in bytes.
const MESSAGE_BYTES: usize = 10_000_000;

/// Bodies to begin with.
#[derive(Debug)]
pub(crate) struct Corpus {
    bodies: Vec<(Vec<u8>, Option<Json>)>,
    /// Names that the decoder looks for, and some that the JSON parser keeps for itself.
    names: Vec<&'static str>,
}

impl Corpus {
    /// Every body of the fixtures, the bad ones among them, and those of the scenarios' messages.
    pub(crate) fn of_fixtures() -> anyhow::Result<Self> {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let mut bodies = Vec::new();
        for folder in ["sdm", "sdm/bad", "scenarios"] {
            let folder = fixtures.join(folder);
            let context = || format!("failed to read {}", folder.display());
            let mut paths = Vec::new();
            for entry in std::fs::read_dir(&folder).with_context(context)? {
                paths.push(entry?.path());
            }
            // A seed must mean the same wherever the files lie.
            paths.sort();
            for path in paths.iter().filter(|path| path.is_file()) {
                if folder.ends_with("scenarios") {
                    for message in capture::open(path)? {
                        bodies.push(message?.raw.body.to_vec());
                    }
                } else {
                    bodies.push(std::fs::read(path)?);
                }
            }
        }
        let with_parts = |body: Vec<u8>| (body.clone(), Json::read(&body));
        let names = include_str!("../../fixtures/names.txt").lines().collect();
        Ok(Self {
            bodies: bodies.into_iter().map(with_parts).collect(),
            names,
        })
    }

    fn name(&self, rng: &mut Rng) -> &'static str {
        self.names[rng.usize(0..self.names.len())]
    }
}

/// Makes bodies whose ids meet each other.
#[derive(Debug)]
pub(crate) struct Bodies<'a> {
    corpus: &'a Corpus,
    /// Most different ids of a kind.
    ids: u32,
    /// The time that timestamps lie around.
    now: DateTime<Utc>,
}

impl<'a> Bodies<'a> {
    /// Bodies with at most so many different ids of each kind.
    pub(crate) fn new(corpus: &'a Corpus, ids: u32) -> Self {
        Self {
            corpus,
            ids,
            now: DateTime::UNIX_EPOCH,
        }
    }

    /// The next body, of a message that is published around `now`.
    pub(crate) fn next(&mut self, now: DateTime<Utc>, rng: &mut Rng) -> Vec<u8> {
        self.now = now;
        let (body, parts) = &self.corpus.bodies[rng.usize(0..self.corpus.bodies.len())];
        let mut body = match parts {
            Some(parts) => self.restructured(parts.clone(), rng).into_bytes(),
            None => body.clone(),
        };
        if rng.u32(0..8) == 0 {
            for _ in 0..rng.u32(1..4) {
                self.damage(&mut body, rng);
            }
        }
        if rng.u32(0..OVERSIZED_IN) == 0 {
            self.oversized(body, rng)
        } else {
            body
        }
    }

    fn restructured(&mut self, mut parts: Json, rng: &mut Rng) -> String {
        parts.for_each_field(&mut |key, value| {
            if rng.u32(0..20) > 0
                && let Some(own) = self.value_of(key.trim_matches('"'), rng)
            {
                *value = Json::Text(own);
            }
        });
        let mutations = if rng.bool() { 0 } else { rng.u32(1..5) };
        for _ in 0..mutations {
            parts.mutate(self, rng);
        }
        parts.write()
    }

    /// What a sound message may have under a key; `None` for a key without meaning.
    fn value_of(&self, key: &str, rng: &mut Rng) -> Option<String> {
        let id = rng.u32(0..self.ids);
        Some(match key {
            "eventId" => match rng.u32(0..4) {
                0 => format!("\"n:{id}\""),
                _ => format!("\"e{:016x}\"", rng.u64(..)),
            },
            "timestamp" => self.time(rng),
            "name" | "object" => self.resource(rng),
            "subject" => {
                if rng.bool() {
                    self.resource(rng)
                } else {
                    "\"\"".to_owned()
                }
            }
            "userId" => format!("\"u{id}\""),
            "eventThreadId" => format!("\"t{id}\""),
            "eventThreadState" => {
                let states = ["STARTED", "UPDATED", "UPDATED", "ENDED", "PAUSED"];
                format!("\"{}\"", states[rng.usize(0..states.len())])
            }
            "eventSessionId" => format!("\"s{id}\""),
            "previewUrl" => format!("\"https://clips.example/{id}\""),
            "customName" => format!("\"Device {id}\""),
            "type" => {
                let types = ["CREATED", "UPDATED", "DELETED", "SHARED"];
                format!("\"{}\"", types[rng.usize(0..types.len())])
            }
            _ => return None,
        })
    }

    fn resource(&self, rng: &mut Rng) -> String {
        let id = rng.u32(0..self.ids);
        match rng.u32(0..40) {
            0..20 => format!("\"enterprises/p/devices/d{id}\""),
            20..24 => format!("\"enterprises/p/structures/s{}\"", id % 4),
            24..34 => format!("\"enterprises/p/structures/s{}/rooms/r{id}\"", id % 4),
            34 => format!("\"enterprises/q{id}/devices/d\""),
            35 => "\"enterprises//devices/\"".to_owned(),
            36 => format!("\"homes/h{id}\""),
            37 => "\"/\"".to_owned(),
            38 => TEXTS[rng.usize(0..TEXTS.len())].to_owned(),
            _ => format!(
                "\"enterprises/p/devices/{}\"",
                "x".repeat(rng.usize(0..4_000))
            ),
        }
    }

    fn time(&self, rng: &mut Rng) -> String {
        if rng.u32(0..30) == 0 {
            return format!("\"{}\"", TIMES[rng.usize(0..TIMES.len())]);
        }
        // Often a whole second, so that equal times occur.
        let millis = match rng.u32(0..10) {
            0..4 => rng.i64(-10..1) * 1_000,
            4..8 => rng.i64(-60_000..1_000),
            8 => rng.i64(-30..2) * 86_400_000,
            _ => 0,
        };
        let formats = [
            SecondsFormat::Secs,
            SecondsFormat::Millis,
            SecondsFormat::Nanos,
        ];
        let format = formats[rng.usize(0..formats.len())];
        let shifted = self.now.checked_add_signed(TimeDelta::milliseconds(millis));
        format!(
            "\"{}\"",
            shifted.unwrap_or(self.now).to_rfc3339_opts(format, true)
        )
    }

    /// Changes bytes, whatever they mean.
    fn damage(&self, body: &mut Vec<u8>, rng: &mut Rng) {
        let at = rng.usize(0..=body.len());
        let end = rng.usize(at..=body.len().min(at + 64));
        match rng.u32(0..6) {
            0 if at < body.len() => body[at] ^= 1 << rng.u32(0..8),
            1 => body.truncate(at),
            2 => drop(body.splice(at..at, std::iter::repeat_with(|| rng.u8(..)).take(end - at))),
            3 => drop(body.drain(at..end)),
            4 => body.extend_from_within(at..end),
            _ => {
                let (other, _) = &self.corpus.bodies[rng.usize(0..self.corpus.bodies.len())];
                let from = rng.usize(0..=other.len());
                body.splice(at.., other[from..].iter().copied());
            }
        }
    }

    /// Fills a body up, to around the largest that is decoded or that Pub/Sub allows.
    fn oversized(&self, mut body: Vec<u8>, rng: &mut Rng) -> Vec<u8> {
        let size = match rng.u32(0..4) {
            0 => rng.usize(10_000..1 << 20),
            1 => (1 << 20) + rng.usize(0..4),
            2 => (1 << 20) - rng.usize(1..300),
            _ => rng.usize(1 << 20..MESSAGE_BYTES),
        };
        let missing = size.saturating_sub(body.len());
        let filler: &[u8] = match rng.u32(0..8) {
            // White space at the end keeps it sound.
            0..4 => {
                body.resize(size.max(body.len()), b' ');
                return body;
            }
            4 => b"[",
            5 => br#"{"$serde_json::private::RawValue":""#,
            6 => "\u{fc}".as_bytes(),
            _ => br#"{"a":1},"#,
        };
        let at = rng.usize(0..=body.len());
        body.splice(at..at, filler.iter().copied().cycle().take(missing));
        body
    }
}

impl Words for Bodies<'_> {
    fn key(&mut self, rng: &mut Rng) -> String {
        match rng.u32(0..8) {
            0 => TEXTS[rng.usize(0..TEXTS.len())].to_owned(),
            1 => format!("\"k{}\"", rng.u32(0..1_000)),
            _ => Json::quoted(self.corpus.name(rng)),
        }
    }

    fn value(&mut self, rng: &mut Rng) -> Json {
        Json::Text(match rng.u32(0..8) {
            0..4 => VALUES[rng.usize(0..VALUES.len())].to_owned(),
            4 => TEXTS[rng.usize(0..TEXTS.len())].to_owned(),
            5 => format!("\"{}\"", TIMES[rng.usize(0..TIMES.len())]),
            6 => self.resource(rng),
            _ => {
                let key = self.corpus.name(rng);
                self.value_of(key, rng)
                    .unwrap_or_else(|| Json::quoted(&"y".repeat(300)))
            }
        })
    }
}
