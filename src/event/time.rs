//! Times, one type per clock, so that they can't be mixed up.
//!
//! Parses and compares; never asks what time it is.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant together with the text it came in.
///
/// Ordered by instant, then by text, so that the smallest of several equal instants does not
/// depend on their order of arrival.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    at: DateTime<Utc>,
    text: Box<str>,
}

impl Timestamp {
    /// Reads an RFC 3339 time with any number of fractional digits and any offset.
    ///
    /// The text is kept where it is in UTC with `Z`; a time with another offset is written anew in
    /// UTC. Returns `None` for anything else, naive times among them.
    pub fn parse(text: &str) -> Option<Self> {
        let at = DateTime::parse_from_rfc3339(text).ok()?.to_utc();
        let canonical = text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T');
        Some(if canonical {
            Self {
                at,
                text: text.into(),
            }
        } else {
            Self::from_utc(at)
        })
    }

    /// A computed time: written with the fewest of 3, 6 or 9 fractional digits that are exact.
    pub fn from_utc(at: DateTime<Utc>) -> Self {
        let nanos = at.timestamp_subsec_nanos();
        let digits = if nanos.is_multiple_of(1_000_000) {
            SecondsFormat::Millis
        } else if nanos.is_multiple_of(1_000) {
            SecondsFormat::Micros
        } else {
            SecondsFormat::Nanos
        };
        Self {
            at,
            text: at.to_rfc3339_opts(digits, true).into(),
        }
    }

    /// The instant.
    pub fn at(&self) -> DateTime<Utc> {
        self.at
    }

    /// The text: RFC 3339, in UTC, ending in `Z`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time"))
    }
}

/// When the event occurred, as its source says: untrusted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventTime(pub Timestamp);

/// When Pub/Sub accepted the message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublishTime(pub Timestamp);

/// When hearthd received the message, on the wall clock (or the capture's word for it).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReceivedAt(pub Timestamp);

/// The engine's own clock: nanoseconds since the Unix epoch, never running backwards.
///
/// It drives holds, timers and horizons; records never show it. Saturates in the year 2262.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ClockTime(pub i64);

impl ClockTime {
    /// The clock at that instant, saturating outside the years 1677–2262.
    pub fn from_utc(at: DateTime<Utc>) -> Self {
        let saturated = if at.timestamp() < 0 {
            i64::MIN
        } else {
            i64::MAX
        };
        Self(at.timestamp_nanos_opt().unwrap_or(saturated))
    }

    /// Whole seconds since the Unix epoch.
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// This time plus `duration`, saturating.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }

    /// This time minus `duration`, saturating.
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }

    /// How long after `earlier` this time is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        let nanos = self.0.saturating_sub(earlier.0).max(0);
        Duration::from_nanos(nanos.unsigned_abs())
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
