//! `[sdm]`, `[dedupe]`, `[reorder]` and `[notifications]`: what messages mean and become.

use std::time::Duration;

use serde::Serialize;

use super::limits::{DAY, HOUR, Limits, MINUTE, seconds};
use super::table::Table;
use crate::text::quoted;

/// `[sdm]`: the Device Access project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sdm {
    /// Flags events of other enterprises than this `enterprises/{project-id}`. A wrong one flags
    /// every event. Default: none, nothing is flagged.
    pub enterprise: Option<String>,
}

/// `[dedupe]`: how long a payload is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dedupe {
    /// Time for which a repeated payload is recognised and a closed notification can be merged
    /// into. Too high costs disk; below the subscription's retention, old redeliveries are
    /// processed twice. Longer than the timers of notifications. Default 8 d.
    pub horizon: Duration,
    /// Number of dedupe keys kept in memory. Too high costs memory, some 100 bytes each; too low
    /// costs reads of the store, never correctness. Keys, default 100000.
    pub cache_entries: usize,
}

/// `[reorder]`: how the event log is put in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reorder {
    /// Time that an event waits for earlier ones before it enters the event log; notifications
    /// never wait. Too high delays the log; too low flags more events `late`. Default 2 s.
    pub hold: Duration,
    /// Largest number of waiting events; beyond it the oldest arrivals leave early. Too high costs
    /// memory; too low loses order under load. Events, default 100000.
    pub max_pending_events: usize,
}

/// `[notifications]`: how messages become notifications.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notifications {
    /// Age up to which an event still rings. Too high rings for what is long over; too low keeps a
    /// slow doorbell silent. Default 60 s.
    pub max_alert_age: Duration,
    /// Silence after which a thread without an ENDED is closed. Too high leaves dead threads open;
    /// too low closes and reopens living ones. Below `dedupe.horizon`. Default 5 min.
    pub thread_timeout: Duration,
    /// Silence after which an unthreaded notification is closed. Too high leaves it open long after
    /// the visitor left; too low closes and reopens it. Below `dedupe.horizon`. Default 30 s.
    pub session_quiet: Duration,
}

// Ten minutes cover the redeliveries of a bad connection; no subscription keeps messages for over
// 31 days, so 90 leave room for a `seek`.
const HORIZON: Limits<Duration> = seconds(8 * DAY, 10 * MINUTE, 90 * DAY);
// None is fine, the store knows all keys; ten million take about 1 GB.
const CACHE_ENTRIES: Limits<u32> = Limits::new(100_000, 0, 10_000_000);
// Zero turns the hold off; after a minute the event log is no longer live, and late events are
// flagged anyway.
const HOLD: Limits<Duration> = seconds(2, 0, MINUTE);
// One is the least that can be held; a million take a few GB.
const MAX_PENDING_EVENTS: Limits<u32> = Limits::new(100_000, 1, 1_000_000);
// Delivery alone takes up to a second; after an hour a ring is useless.
const MAX_ALERT_AGE: Limits<Duration> = seconds(60, 1, HOUR);
// A second serves tests; a thread that is open for a day will not end.
const THREAD_TIMEOUT: Limits<Duration> = seconds(5 * MINUTE, 1, DAY);
// A second serves tests; sessions last for seconds, so an hour of silence is over every one.
const SESSION_QUIET: Limits<Duration> = seconds(30, 1, HOUR);

impl Sdm {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        Self {
            enterprise: table.parsed("enterprise", enterprise),
        }
    }
}

impl Dedupe {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        Self {
            horizon: table.duration("horizon", &HORIZON),
            cache_entries: table.count("cache_entries", &CACHE_ENTRIES) as usize,
        }
    }
}

impl Reorder {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        Self {
            hold: table.duration("hold", &HOLD),
            max_pending_events: table.count("max_pending_events", &MAX_PENDING_EVENTS) as usize,
        }
    }
}

impl Notifications {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        Self {
            max_alert_age: table.duration("max_alert_age", &MAX_ALERT_AGE),
            thread_timeout: table.duration("thread_timeout", &THREAD_TIMEOUT),
            session_quiet: table.duration("session_quiet", &SESSION_QUIET),
        }
    }
}

/// An enterprise's full name.
fn enterprise(text: &str) -> Result<String, String> {
    let id = text.strip_prefix("enterprises/").unwrap_or_default();
    if id.is_empty() || id.contains(|c: char| c == '/' || c.is_whitespace()) {
        return Err(format!(
            "{} is not an enterprise; \
             write enterprises/{{project-id}} with the id of your Device Access project",
            quoted(text)
        ));
    }
    Ok(text.to_owned())
}
