//! Times, one type per clock, so that they can't be mixed up.
//!
//! Parses and compares; never asks what time it is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The start of the year 0.
const EARLIEST: DateTime<Utc> = DateTime::from_timestamp_secs(-62_167_219_200).expect("in range");

/// The end of the year 9999.
const LATEST: DateTime<Utc> =
    DateTime::from_timestamp(253_402_300_799, 999_999_999).expect("in range");

/// An instant together with the text it came in.
///
/// Ordered by instant, then by text, so that the smallest of several equal instants does not
/// depend on their order of arrival.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    at: DateTime<Utc>,
    text: Arc<str>,
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
    ///
    /// Saturates at the years 0 and 9999, beyond which RFC 3339 has no text that can be read back.
    pub fn from_utc(at: DateTime<Utc>) -> Self {
        let at = at.clamp(EARLIEST, LATEST);
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

/// An instant as the store keeps it: seconds since the Unix epoch, and nanoseconds (which a leap
/// second has more of). The store compares no times as text, and numbers are written faster.
pub mod instant {
    use super::*;

    /// Writes both numbers.
    pub fn serialize<S: Serializer>(at: &DateTime<Utc>, to: S) -> Result<S::Ok, S::Error> {
        (at.timestamp(), at.timestamp_subsec_nanos()).serialize(to)
    }

    /// Reads them back; an error if they are no instant that chrono knows.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<DateTime<Utc>, D::Error> {
        let (seconds, nanos) = <(i64, u32)>::deserialize(from)?;
        let at = DateTime::from_timestamp(seconds, nanos);
        at.ok_or_else(|| serde::de::Error::custom("not an instant"))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<String> {
        Timestamp::parse(text).map(|time| time.to_string())
    }

    #[test]
    fn a_text_in_utc_is_kept_as_it_is() {
        for text in [
            "2025-06-09T13:52:03Z",
            "2025-06-09T13:52:03.3Z",
            "2025-06-09T13:52:03.313Z",
            "2025-06-09T13:52:03.313000Z",
            "2025-06-09T13:52:03.313383123Z",
            "2025-06-09T13:52:03.3133831239Z",
            "1969-12-31T23:59:59.999Z",
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999999Z",
            "2016-12-31T23:59:60Z",
        ] {
            assert_eq!(shown(text).as_deref(), Some(text));
        }
    }

    #[test]
    fn other_forms_are_written_anew_in_utc() {
        for (text, expected) in [
            ("2025-06-09T15:52:03+02:00", "2025-06-09T13:52:03.000Z"),
            (
                "2025-06-09T15:52:03.3133+02:00",
                "2025-06-09T13:52:03.313300Z",
            ),
            (
                "2025-06-09T13:52:03.313383123-00:00",
                "2025-06-09T13:52:03.313383123Z",
            ),
            ("2025-06-09t13:52:03z", "2025-06-09T13:52:03.000Z"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_is_no_instant_is_refused() {
        for text in [
            "",
            "soon",
            "2025-06-09",
            "2025-06-09T13:52:03",
            "2025-06-09T13:52Z",
            "2025-02-30T13:52:03Z",
            "2025-06-09T25:52:03Z",
            "2025-06-09T13:52:03.Z",
            "2025-06-09T13:52:03Z ",
            "20250609T135203Z",
            "1749477123",
            "+10000-01-01T00:00:00Z",
            "\u{0662}025-06-09T13:52:03Z",
        ] {
            assert_eq!(shown(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_time_can_be_read_back() {
        for text in [
            "0000-01-01T00:00:00+23:59",
            "9999-12-31T23:59:59.999999999-23:59",
            "2016-12-31T23:59:60.5+00:00",
            "2025-06-09T13:52:03.000000001+02:00",
        ] {
            let time = Timestamp::parse(text).unwrap();
            let json = serde_json::to_string(&time).unwrap();
            assert_eq!(
                serde_json::from_str::<Timestamp>(&json).unwrap(),
                time,
                "{text}"
            );
        }
        for at in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            let time = Timestamp::from_utc(at);
            assert_eq!(Timestamp::parse(time.as_str()), Some(time));
        }
    }

    #[test]
    fn every_instant_can_be_read_back() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Row(#[serde(with = "instant")] DateTime<Utc>);

        let leap_second = Timestamp::parse("2016-12-31T23:59:60.5Z").unwrap().at();
        for at in [
            DateTime::<Utc>::MIN_UTC,
            DateTime::<Utc>::MAX_UTC,
            EARLIEST,
            leap_second,
        ] {
            let json = serde_json::to_string(&Row(at)).unwrap();
            assert_eq!(
                serde_json::from_str::<Row>(&json).unwrap(),
                Row(at),
                "{json}"
            );
        }
        assert!(serde_json::from_str::<Row>("[0,2000000000]").is_err());
    }

    #[test]
    fn instants_come_before_texts_in_the_order() {
        let [late, short, long] = [
            "2025-06-09T13:52:03.001Z",
            "2025-06-09T13:52:03Z",
            "2025-06-09T13:52:03.000Z",
        ]
        .map(|text| Timestamp::parse(text).unwrap());
        assert!(long < short && short < late);
        assert_eq!(long.at(), short.at());
    }

    #[test]
    fn the_engines_clock_saturates() {
        let end = ClockTime::from_utc(DateTime::<Utc>::MAX_UTC);
        assert_eq!(end, ClockTime(i64::MAX));
        assert_eq!(end.after(Duration::from_secs(1)), end);
        assert_eq!(
            ClockTime::from_utc(DateTime::<Utc>::MIN_UTC),
            ClockTime(i64::MIN)
        );
        assert_eq!(ClockTime(3).since(ClockTime(5)), Duration::ZERO);
        assert_eq!(ClockTime(5).since(ClockTime(3)), Duration::from_nanos(2));
        assert_eq!(ClockTime(5).before(Duration::MAX), ClockTime(5 - i64::MAX));
    }
}
