//! The settings, validated: one small struct per part, domain types only, every default and bound
//! beside its key.
//!
//! `file` knows what the file looks like, `table` how to read one table of it, `values` what single
//! settings are made of, `changes` how two readings differ. Nothing here may open what a setting
//! names (key, store, address): the part that uses it does.

mod changes;
pub mod file;
mod pubsub;
mod table;
mod values;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use strum::VariantArray as _;

use crate::record::RecordKind;
use file::File;
pub use file::{Fault, Faults};
pub use pubsub::{Endpoint, Pubsub, emulator_url};
pub(crate) use table::show_duration;
use table::{Limits, Table, names};
pub use values::{InvalidSubscription, LogFormat, LogLevel, Secret, SinkKind, SubscriptionName};
use values::{address, enterprise, sink_name};

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// The Pub/Sub source; `None` without a `[pubsub]` table, as `replay` needs none.
    pub pubsub: Option<Pubsub>,
    /// The Device Access project.
    pub sdm: Sdm,
    /// The durable store.
    pub store: Store,
    /// How long a payload is remembered.
    pub dedupe: Dedupe,
    /// How the event log is put in order.
    pub reorder: Reorder,
    /// How messages become notifications.
    pub notifications: Notifications,
    /// The HTTP server.
    pub http: Http,
    /// hearthd's own log.
    pub log: Log,
    /// Who gets the records; their names differ. Default: nobody.
    pub sinks: Vec<Sink>,
}

/// `[sdm]`: the Device Access project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sdm {
    /// Flags events of other enterprises than this `enterprises/{project-id}`. A wrong one flags
    /// every event. Default: none, nothing is flagged.
    pub enterprise: Option<String>,
}

/// `[store]`: the durable store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Store {
    /// The database file; its directory must keep files over a restart and a power loss. Default
    /// `/var/lib/hearthd/hearthd.db`.
    pub path: PathBuf,
    /// Age at which a journal record is deleted. Too high costs disk; too low takes records from
    /// sinks that were down for longer. Default 7 d.
    pub journal_max_age: Duration,
    /// Size at which the journal is full, and the sink furthest behind loses its oldest records.
    /// Too high fills the disk; too low does that after a short outage. Bytes, default 1 GiB.
    pub journal_max_size: u64,
}

/// `[dedupe]`: how long a payload is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dedupe {
    /// Time for which a repeated payload is recognised and a closed notification can be merged
    /// into. Too high costs disk; below the subscription's retention, old redeliveries take effect
    /// again. Longer than the timers of notifications. Default 8 d.
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
    /// too low closes and reopens living ones. Default 5 min.
    pub thread_timeout: Duration,
    /// Silence after which an unthreaded notification is closed. Too high leaves it open long after
    /// the visitor left; too low closes and reopens it. Default 30 s.
    pub session_quiet: Duration,
}

/// `[http]`: the HTTP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Http {
    /// Address and port that answer. Anything but loopback shows metrics to the network. Default
    /// `127.0.0.1:9464`.
    pub listen: SocketAddr,
}

/// `[log]`: hearthd's own log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Log {
    /// How a line is written. Default text.
    pub format: LogFormat,
    /// The least grave level that is written. Too high hides what happened; too low fills the disk.
    /// Default info.
    pub level: LogLevel,
}

/// One `[[sinks]]` table: who gets which records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sink {
    /// Name of the sink's place in the journal; a new name starts anew. No default.
    pub name: String,
    /// What delivers. No default.
    pub kind: SinkKind,
    /// Which records are delivered, at least one. Default: notifications.
    pub records: Vec<RecordKind>,
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const DEFAULT_STORE_PATH: &str = "/var/lib/hearthd/hearthd.db";

// A minute lets every sink read a record before it goes; ten years is "for ever" without an
// overflow.
const JOURNAL_MAX_AGE: Limits<Duration> = seconds(7 * DAY, MINUTE, 3_650 * DAY);
// Below 1 MiB one burst fills the journal; more than 1 TiB is a wrong unit.
const JOURNAL_MAX_SIZE: Limits<u64> = Limits {
    default: GIB,
    range: MIB..=1_024 * GIB,
};
// Ten minutes cover the redeliveries of a bad connection; no subscription keeps messages for over
// 31 days, so 90 leave room for a `seek`.
const HORIZON: Limits<Duration> = seconds(8 * DAY, 10 * MINUTE, 90 * DAY);
// None is fine, the store knows all keys; ten million take about 1 GB.
const CACHE_ENTRIES: Limits<u32> = Limits {
    default: 100_000,
    range: 0..=10_000_000,
};
// Zero turns the hold off; after a minute the event log is no longer live, and late events are
// flagged anyway.
const HOLD: Limits<Duration> = seconds(2, 0, MINUTE);
// One is the least that can be held; a million take a few GB.
const MAX_PENDING_EVENTS: Limits<u32> = Limits {
    default: 100_000,
    range: 1..=1_000_000,
};
// Delivery alone takes up to a second; after an hour nobody stands at the door.
const MAX_ALERT_AGE: Limits<Duration> = seconds(60, 1, HOUR);
// A second serves tests; a thread that is open for a day will not end.
const THREAD_TIMEOUT: Limits<Duration> = seconds(5 * MINUTE, 1, 24 * HOUR);
// A second serves tests; sessions last for seconds, so an hour of silence is over every one.
const SESSION_QUIET: Limits<Duration> = seconds(30, 1, HOUR);

const fn seconds(default: u64, min: u64, max: u64) -> Limits<Duration> {
    let range = Duration::from_secs(min)..=Duration::from_secs(max);
    Limits {
        default: Duration::from_secs(default),
        range,
    }
}

impl Settings {
    /// Reads the file at `path` (without one: the defaults) and lays the environment over it. Fails
    /// with every fault.
    pub fn load(
        path: Option<&Path>,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, Faults> {
        Self::read(path, environment, false)
    }

    /// As [`Settings::load`], but a missing `[pubsub]` is a fault beside the others: for the
    /// commands that cannot do without it.
    pub fn load_with_pubsub(
        path: Option<&Path>,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, Faults> {
        Self::read(path, environment, true)
    }

    fn read(
        path: Option<&Path>,
        environment: &BTreeMap<String, String>,
        needs_pubsub: bool,
    ) -> Result<Self, Faults> {
        let mut file = File::load(path, environment)?;
        let emulator = emulator_url(environment).unwrap_or_else(|fault| {
            file.fault(fault);
            None
        });
        // Read without being there, a table says what it lacks.
        let reads_pubsub = needs_pubsub || file.has("pubsub");
        let dedupe = file.table("dedupe", Dedupe::read);
        let mut taken = BTreeMap::new();
        let settings = Self {
            pubsub: reads_pubsub
                .then(|| file.table("pubsub", |table| Pubsub::read(table, emulator, environment)))
                .flatten(),
            sdm: file.table("sdm", Sdm::read),
            store: file.table("store", Store::read),
            reorder: file.table("reorder", Reorder::read),
            notifications: file.table("notifications", |table| Notifications::read(table, &dedupe)),
            dedupe,
            http: file.table("http", Http::read),
            log: file.table("log", Log::read),
            sinks: file
                .list("sinks", |table| Sink::read(table, &mut taken))
                .into_iter()
                .flatten()
                .collect(),
        };
        file.finish()?;
        Ok(settings)
    }

    /// The Pub/Sub source's settings, which [`Settings::load_with_pubsub`] makes sure of.
    pub fn require_pubsub(&self) -> Result<&Pubsub, Faults> {
        self.pubsub.as_ref().ok_or_else(|| {
            let message = format!("is missing; {}", SubscriptionName::FORMS);
            Faults::from(Fault {
                key: "pubsub.subscription".to_owned(),
                message,
            })
        })
    }
}

impl Sdm {
    fn read(table: &mut Table<'_>) -> Self {
        Self {
            enterprise: table.parsed("enterprise", enterprise),
        }
    }
}

impl Store {
    fn read(table: &mut Table<'_>) -> Self {
        Self {
            path: table
                .text("path")
                .map_or(PathBuf::from(DEFAULT_STORE_PATH), PathBuf::from),
            journal_max_age: table.duration("journal_max_age", &JOURNAL_MAX_AGE),
            journal_max_size: table.size("journal_max_size", &JOURNAL_MAX_SIZE),
        }
    }
}

impl Dedupe {
    fn read(table: &mut Table<'_>) -> Self {
        Self {
            horizon: table.duration("horizon", &HORIZON),
            cache_entries: table.count("cache_entries", &CACHE_ENTRIES) as usize,
        }
    }
}

impl Reorder {
    fn read(table: &mut Table<'_>) -> Self {
        Self {
            hold: table.duration("hold", &HOLD),
            max_pending_events: table.count("max_pending_events", &MAX_PENDING_EVENTS) as usize,
        }
    }
}

impl Notifications {
    fn read(table: &mut Table<'_>, dedupe: &Dedupe) -> Self {
        Self {
            max_alert_age: table.duration("max_alert_age", &MAX_ALERT_AGE),
            thread_timeout: Self::timer(table, "thread_timeout", &THREAD_TIMEOUT, dedupe),
            session_quiet: Self::timer(table, "session_quiet", &SESSION_QUIET, dedupe),
        }
    }

    /// A notification that is forgotten as soon as its timer has run out begins anew with revision
    /// 1, which its receivers know already, so what comes next would never be shown.
    fn timer(
        table: &mut Table<'_>,
        key: &'static str,
        limits: &Limits<Duration>,
        dedupe: &Dedupe,
    ) -> Duration {
        let timer = table.duration(key, limits);
        if timer >= dedupe.horizon {
            let [timer, horizon] = [timer, dedupe.horizon].map(|d| show_duration(&d));
            let message = format!(
                "{timer} is not below dedupe.horizon, {horizon}, after which a notification and its \
                 revision numbers are forgotten; lower {key}, or raise dedupe.horizon"
            );
            table.fault(key, message);
        }
        timer
    }
}

impl Http {
    const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

    fn read(table: &mut Table<'_>) -> Self {
        Self {
            listen: table
                .parsed("listen", address)
                .unwrap_or(Self::DEFAULT_LISTEN),
        }
    }
}

impl Log {
    fn read(table: &mut Table<'_>) -> Self {
        Self {
            format: table
                .choice("format", &LogFormat::ALL)
                .unwrap_or(LogFormat::Text),
            level: table
                .choice("level", &LogLevel::ALL)
                .unwrap_or(LogLevel::Info),
        }
    }
}

impl Sink {
    /// `None` if name or kind are at fault, as they have no default. `taken` has the names read so
    /// far, with their tables.
    fn read(table: &mut Table<'_>, taken: &mut BTreeMap<String, String>) -> Option<Self> {
        table.require(
            "kind",
            &format!("expected one of: {}", names(&SinkKind::ALL)),
        );
        let kind = table.choice("kind", &SinkKind::ALL);
        table.require("name", "give each sink a name of its own");
        let name = table.parsed("name", sink_name);
        let records = table.choices(
            "records",
            &RecordKind::VARIANTS
                .iter()
                .map(|kind| (kind.as_str(), *kind))
                .collect::<Vec<_>>(),
        );
        let name = name?;
        match taken.get(&name) {
            Some(other) => {
                table.fault(
                    "name",
                    format!("{name:?} is already the name of {other}; give each sink its own"),
                );
            }
            None => {
                taken.insert(name.clone(), table.path().to_owned());
            }
        }
        Some(Self {
            name,
            kind: kind?,
            records: records.unwrap_or(vec![RecordKind::Notification]),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fixtures/config")
            .join(name)
    }

    fn load(name: &str) -> Result<Settings, Faults> {
        Settings::load(Some(&fixture(name)), &BTreeMap::new())
    }

    fn environment(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
        variables
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    fn from_variables(variables: &[(&str, &str)]) -> Result<Settings, Faults> {
        Settings::load(None, &environment(variables))
    }

    fn defaults() -> Settings {
        from_variables(&[]).unwrap()
    }

    #[test]
    fn every_invalid_fixture_prints_the_faults_beside_it() {
        let mut names: Vec<_> = std::fs::read_dir(fixture(""))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("invalid_") && name.ends_with(".toml"))
            .collect();
        names.sort();
        assert!(names.len() >= 8, "only {names:?}");
        for name in names {
            let expected = fixture(&name.replace(".toml", ".faults.txt"));
            let directory = fixture("").display().to_string();
            let faults = load(&name).unwrap_err().to_string().replace(&directory, "") + "\n";
            assert_eq!(
                faults,
                std::fs::read_to_string(expected).unwrap_or_default(),
                "{name}"
            );
        }
    }

    #[test]
    fn the_full_sample_states_the_defaults() {
        let full = load("full.toml").unwrap();
        let pubsub = full.require_pubsub().unwrap();
        assert_eq!(
            pubsub.subscription.as_str(),
            "projects/my-gcp-project/subscriptions/hearthd"
        );
        let minimal = load("minimal.toml").unwrap();
        let expected = Settings {
            pubsub: Some(Pubsub {
                credentials_file: Some("/etc/hearthd/service-account.json".into()),
                endpoint: Endpoint::Named {
                    url: "https://pubsub.googleapis.com".to_owned(),
                },
                ..minimal.pubsub.clone().unwrap()
            }),
            sdm: Sdm {
                enterprise: Some("enterprises/my-project-id".to_owned()),
            },
            sinks: vec![Sink {
                name: "stdout".to_owned(),
                kind: SinkKind::Stdout,
                records: vec![RecordKind::Notification],
            }],
            ..defaults()
        };
        assert_eq!(full, expected);
        assert_eq!(
            Settings {
                pubsub: None,
                ..minimal
            },
            defaults()
        );
    }

    #[test]
    fn the_full_sample_has_every_key() {
        // With every key misspelt, the faults list the keys that there are.
        let full = std::fs::read_to_string(fixture("full.toml")).unwrap();
        let misspelt = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(misspelt.path(), full.replace(" = ", "_ = ")).unwrap();
        let faults = Settings::load(Some(misspelt.path()), &BTreeMap::new()).unwrap_err();
        let lists = faults.as_slice().iter().filter_map(|fault| {
            let (_, list) = fault.message.split_once("unknown key, expected one of: ")?;
            Some(list)
        });
        let known: BTreeSet<_> = lists.flat_map(|list| list.split(", ")).collect();
        assert!(known.len() >= 20, "{faults}");
        for key in known {
            assert!(
                full.contains(&format!("\n{key} = ")),
                "full.toml lacks {key}"
            );
        }
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let variables = environment(&[
            (
                "HEARTHD_PUBSUB__SUBSCRIPTION",
                "projects/other/subscriptions/hearthd",
            ),
            ("HEARTHD_PUBSUB__MAX_OUTSTANDING_MESSAGES", "7"),
            ("HEARTHD_REORDER__HOLD", "5s"),
            ("HEARTHD_STORE__JOURNAL_MAX_SIZE", "2 MiB"),
            ("HEARTHD_LOG__LEVEL", "debug"),
            ("HEARTHD_SERVICE_HOST", "10.0.0.7"),
            ("HEARTHD_PORT", "tcp://10.0.0.7:9464"),
            ("HEARTHD_PORT_9464_TCP_ADDR", "10.0.0.7"),
            ("PATH", "/bin"),
        ]);
        let settings = Settings::load(Some(&fixture("full.toml")), &variables).unwrap();
        let pubsub = settings.require_pubsub().unwrap();
        assert_eq!(
            pubsub.subscription.as_str(),
            "projects/other/subscriptions/hearthd"
        );
        assert_eq!(pubsub.max_outstanding_messages, 7);
        assert_eq!(pubsub.max_outstanding_bytes, 64 * MIB);
        assert_eq!(settings.reorder.hold, Duration::from_secs(5));
        assert_eq!(settings.store.journal_max_size, 2 * MIB);
        assert_eq!(settings.log.level, LogLevel::Debug);
    }

    #[test]
    fn the_environment_alone_is_enough() {
        let name = "projects/p/subscriptions/s";
        let settings = from_variables(&[("HEARTHD_PUBSUB__SUBSCRIPTION", name)]).unwrap();
        assert_eq!(
            settings.require_pubsub().unwrap().subscription.as_str(),
            name
        );
    }

    #[test]
    fn faulty_variables_are_named() {
        let check = |name: &str, value: &str, expected: &str| {
            let faults = from_variables(&[(name, value)]).unwrap_err().to_string();
            assert!(faults.contains(expected), "{name}={value}: {faults}");
            assert!(faults.contains(name), "{name}={value}: {faults}");
            assert_eq!(faults.lines().count(), 1, "{name}={value}: {faults}");
        };
        check(
            "HEARTHD_REORDER__HOLD",
            "2",
            "reorder.hold: expected a duration with a unit",
        );
        check(
            "HEARTHD_REORDER__HOLD",
            "",
            "reorder.hold: expected a duration with a unit",
        );
        check(
            "HEARTHD_REORDER__HOLD",
            "2m",
            "\"2m\" is outside the valid range of 0s to 1m",
        );
        check(
            "HEARTHD_DEDUPE__CACHE_ENTRIES",
            "many",
            "expected a whole number",
        );
        check(
            "HEARTHD_DEDUPE__CACHE_ENTRIES",
            "-1",
            "\"-1\" is outside the valid range of 0 to",
        );
        check(
            "HEARTHD_SDM__ENTERPRISE",
            "",
            "sdm.enterprise: expected a string",
        );
        check(
            "HEARTHD_REORDER__HOLDS",
            "2s",
            "unknown key, expected one of: hold, max_pending",
        );
        check("HEARTHD_REORDER_HOLD", "2s", "unknown variable");
        check("HEARTHD_REORDER__HOLD__MAX", "2s", "unknown variable");
        check("HEARTHD_REORDER__", "2s", "unknown variable");
        check("HEARTHD_REORDER__HOLD[1]", "2s", "unknown variable");
        check("HEARTHD_reorder__hold", "2s", "unknown variable");
        check(
            "HEARTHD_SINKS",
            "stdout",
            "lists such as sinks are set in the file",
        );
        check("HEARTHD_SINKS__KIND", "stdout", "unknown variable");
        check("HEARTHD_HTTP_PORT", "9464", "unknown variable");
        check(
            "PUBSUB_EMULATOR_HOST",
            "http://localhost:8085",
            "not a host and port",
        );
    }

    #[test]
    fn bounds_are_inclusive() {
        let check = |name: &str, least: &str, most: &str| {
            for value in [least, most] {
                let settings = from_variables(&[(name, value)]);
                assert!(settings.is_ok(), "{name}={value}: {settings:?}");
            }
        };
        check("HEARTHD_REORDER__HOLD", "0s", "60s");
        check("HEARTHD_REORDER__MAX_PENDING_EVENTS", "1", "1000000");
        check("HEARTHD_DEDUPE__HORIZON", "10m", "90d");
        check("HEARTHD_DEDUPE__CACHE_ENTRIES", "0", "10000000");
        check("HEARTHD_STORE__JOURNAL_MAX_AGE", "1m", "3650d");
        check("HEARTHD_STORE__JOURNAL_MAX_SIZE", "1 MiB", "1 TiB");
        check("HEARTHD_NOTIFICATIONS__MAX_ALERT_AGE", "1s", "1h");
        check("HEARTHD_NOTIFICATIONS__THREAD_TIMEOUT", "1s", "24h");
        check("HEARTHD_NOTIFICATIONS__SESSION_QUIET", "1s", "1h");
    }

    #[test]
    fn a_timer_may_be_just_below_the_horizon() {
        let variables = |timeout| {
            [
                ("HEARTHD_DEDUPE__HORIZON", "1h"),
                ("HEARTHD_NOTIFICATIONS__THREAD_TIMEOUT", timeout),
            ]
        };
        assert!(from_variables(&variables("3599s")).is_ok());
        let faults = from_variables(&variables("3600s")).unwrap_err().to_string();
        assert!(
            faults.contains("(from HEARTHD_NOTIFICATIONS__THREAD_TIMEOUT)"),
            "{faults}"
        );
    }

    #[test]
    fn an_emulator_replaces_google() {
        let variables = environment(&[("PUBSUB_EMULATOR_HOST", "localhost:8085")]);
        let settings = Settings::load(Some(&fixture("minimal.toml")), &variables).unwrap();
        let url = "http://localhost:8085".to_owned();
        assert_eq!(
            settings.require_pubsub().unwrap().endpoint,
            Endpoint::Emulator { url }
        );
    }

    #[test]
    fn a_missing_subscription_explains_both_forms() {
        let faults = defaults().require_pubsub().unwrap_err();
        let [fault] = faults.as_slice() else {
            panic!("{faults}")
        };
        assert_eq!(fault.key, "pubsub.subscription");
        assert!(
            fault
                .message
                .contains("projects/my-gcp-project/subscriptions/hearthd")
        );
        assert!(
            fault
                .message
                .contains("projects/sdm-prod/topics/enterprise-")
        );
    }

    #[test]
    fn a_missing_subscription_is_one_fault_of_several() {
        let variables = environment(&[("HEARTHD_REORDER__HOLD", "2")]);
        let faults = Settings::load_with_pubsub(None, &variables).unwrap_err();
        let [subscription, hold] = faults.as_slice() else {
            panic!("{faults}")
        };
        assert_eq!(
            subscription,
            &defaults().require_pubsub().unwrap_err().as_slice()[0]
        );
        assert_eq!(hold.key, "reorder.hold");
        let minimal = Some(fixture("minimal.toml"));
        let settings = Settings::load_with_pubsub(minimal.as_deref(), &BTreeMap::new()).unwrap();
        assert_eq!(settings, load("minimal.toml").unwrap());
    }

    #[test]
    fn an_unreadable_file_is_named_together_with_faulty_variables() {
        let path = fixture("absent.toml");
        let variables = environment(&[("HEARTHD_NOPE", "1")]);
        let faults = Settings::load(Some(&path), &variables).unwrap_err();
        let [absent, variable] = faults.as_slice() else {
            panic!("{faults}")
        };
        assert_eq!(absent.key, path.display().to_string());
        assert!(
            absent
                .message
                .starts_with("failed to read the settings file: "),
            "{absent}"
        );
        assert_eq!(variable.key, "HEARTHD_NOPE");
        assert!(Settings::load(Some(&fixture("")), &BTreeMap::new()).is_err());
    }
}
