//! The settings, validated, and what must hold between their parts.
//!
//! Each part is a file of `config/`, with its defaults and limits beside its keys. Nothing here may
//! open what a setting names (key, store, address): the part that uses it does.

mod diff;
mod engine;
mod fault;
mod form;
mod http;
mod limits;
mod log;
mod pubsub;
mod sinks;
mod store;
mod table;
mod values;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

pub use self::engine::{Dedupe, Notifications, Reorder, Sdm};
pub use self::fault::{Fault, Faults};
use self::form::Form;
pub use self::http::Http;
pub use self::log::{Log, LogFormat, LogLevel};
pub use self::pubsub::{Endpoint, Pubsub, emulator_url};
use self::sinks::Taken;
pub use self::sinks::{Sink, SinkFile, SinkFilter, SinkKind, StartFrom};
pub use self::store::Store;
pub use self::values::{InvalidSubscription, Secret, SubscriptionName};
use crate::text::show_duration;

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// The Pub/Sub source; `None` without a `[pubsub]` table, as `replay` needs none.
    pub pubsub: Option<Pubsub>,
    pub sdm: Sdm,
    pub store: Store,
    pub dedupe: Dedupe,
    pub reorder: Reorder,
    pub notifications: Notifications,
    pub http: Http,
    pub log: Log,
    /// Who gets the records; their names differ. Default: nobody.
    pub sinks: Vec<Sink>,
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
        let mut form = Form::load(path, environment)?;
        let emulator = emulator_url(environment).unwrap_or_else(|fault| {
            form.fault(fault);
            None
        });
        // Read without being there, a table says what it lacks.
        let reads_pubsub = needs_pubsub || form.has("pubsub");
        let mut taken = Taken::default();
        let settings = Self {
            pubsub: reads_pubsub
                .then(|| form.table("pubsub", |table| Pubsub::read(table, emulator, environment)))
                .flatten(),
            sdm: form.table("sdm", Sdm::read),
            store: form.table("store", Store::read),
            reorder: form.table("reorder", Reorder::read),
            notifications: form.table("notifications", Notifications::read),
            dedupe: form.table("dedupe", Dedupe::read),
            http: form.table("http", Http::read),
            log: form.table("log", Log::read),
            sinks: form
                .list("sinks", |table| Sink::read(table, &mut taken))
                .into_iter()
                .flatten()
                .collect(),
        };
        settings.check_timers(&mut form);
        settings.check_files(&mut form);
        form.finish()?;
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

    /// A notification that is forgotten as soon as its timer has run out begins anew with revision
    /// 1, which its receivers know already, so what comes next would never be shown.
    fn check_timers(&self, form: &mut Form) {
        let horizon = self.dedupe.horizon;
        let timers = [
            ("thread_timeout", self.notifications.thread_timeout),
            ("session_quiet", self.notifications.session_quiet),
        ];
        for (key, timer) in timers.into_iter().filter(|(_, timer)| *timer >= horizon) {
            let [timer, horizon] = [timer, horizon].map(|duration| show_duration(&duration));
            let message = format!(
                "{timer} is not below dedupe.horizon, {horizon}, after which a notification and its \
                 revision numbers are forgotten; lower {key}, or raise dedupe.horizon"
            );
            form.fault_of(&format!("notifications.{key}"), message);
        }
    }

    /// A sink that writes into the store would destroy it.
    fn check_files(&self, form: &mut Form) {
        for (name, file) in self.sink_files() {
            if file.path == self.store.path {
                let message = format!("is also the file of the sink {name}; give each its own");
                form.fault_of("store.path", message);
            }
        }
    }

    /// The folders of files that sinks are to write, and that are not there. A running service
    /// waits for them, as a disk may be mounted later.
    pub fn missing_folders(&self) -> Result<(), Faults> {
        let faults: Vec<Fault> = self
            .sink_files()
            .filter(|(_, file)| !file.folder().is_dir())
            .map(|(name, file)| Fault {
                key: format!("sinks.file.path of {name}"),
                message: format!(
                    "the folder {} is not there; create it, or correct the path",
                    file.folder().display()
                ),
            })
            .collect();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Faults::new(faults))
        }
    }

    /// The sinks that write files, by name.
    fn sink_files(&self) -> impl Iterator<Item = (&str, &SinkFile)> {
        self.sinks.iter().filter_map(|sink| match &sink.kind {
            SinkKind::File(file) => Some((sink.name.as_str(), file)),
            SinkKind::Stdout => None,
        })
    }

    /// The keys whose values differ, such as `http.listen`; a list (`sinks`) counts as one.
    pub fn changed_keys(&self, new: &Self) -> Vec<String> {
        diff::changed_keys(self, new)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;
    use std::time::Duration;

    use super::limits::MIB;
    use super::*;
    use crate::record::RecordKind;

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
            sinks: vec![
                Sink {
                    name: "stdout".to_owned(),
                    kind: SinkKind::Stdout,
                    records: vec![RecordKind::Notification],
                    from: StartFrom::End,
                    max_age: Duration::from_secs(3 * 24 * 3600),
                    filter: SinkFilter::default(),
                },
                Sink {
                    name: "file".to_owned(),
                    kind: SinkKind::File(SinkFile {
                        path: "/var/lib/hearthd/records.ndjson".into(),
                        max_size: 64 * MIB,
                        keep: 5,
                    }),
                    records: vec![RecordKind::Notification],
                    from: StartFrom::End,
                    max_age: Duration::from_secs(3 * 24 * 3600),
                    filter: SinkFilter::default(),
                },
            ],
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
        // With every key misspelt, the faults list the keys that there are. The kind of a sink says
        // which they are.
        let full = std::fs::read_to_string(fixture("full.toml")).unwrap();
        let misspelt = tempfile::NamedTempFile::new().unwrap();
        let text = full.replace(" = ", "_ = ").replace("kind_ = ", "kind = ");
        std::fs::write(misspelt.path(), text).unwrap();
        let faults = Settings::load(Some(misspelt.path()), &BTreeMap::new()).unwrap_err();
        let lists = faults.as_slice().iter().filter_map(|fault| {
            let (_, list) = fault.message.split_once("unknown key, expected one of: ")?;
            Some(list)
        });
        let known: BTreeSet<_> = lists.flat_map(|list| list.split(", ")).collect();
        assert!(known.len() >= 20, "{faults}");
        for key in known {
            let setting = format!("\n{key} = ");
            let table = format!("\n[sinks.{key}]\n");
            assert!(
                full.contains(&setting) || full.contains(&table),
                "full.toml lacks {key}"
            );
        }
    }

    #[test]
    fn a_sink_of_no_known_kind_is_told_the_kinds_and_nothing_else() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let sinks = "[[sinks]]\nname = \"a\"\n[sinks.stdout]\n\
                     [[sinks]]\nname = \"b\"\nkind = \"stdot\"\n[sinks.stdout]\nkey = 1\n";
        std::fs::write(file.path(), sinks).unwrap();
        let faults = Settings::load(Some(file.path()), &BTreeMap::new()).unwrap_err();
        let [missing, unknown] = faults.as_slice() else {
            panic!("{faults}")
        };
        let missing = missing.to_string();
        let expected = "sinks[0].kind: is missing; expected one of: stdout";
        assert!(missing.starts_with(expected), "{missing}");
        let unknown = unknown.to_string();
        let expected = "sinks[1].kind: unknown value \"stdot\", expected one of: stdout";
        assert!(unknown.starts_with(expected), "{unknown}");
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

    #[test]
    fn the_same_settings_in_other_words_are_no_change() {
        let full = |hold: &str| {
            let variables = environment(&[("HEARTHD_REORDER__HOLD", hold)]);
            Settings::load(Some(&fixture("full.toml")), &variables).unwrap()
        };
        assert_eq!(full("2s").changed_keys(&full("2000ms")), [""; 0]);
        assert_eq!(full("2s").changed_keys(&full("2001ms")), ["reorder.hold"]);
    }

    #[test]
    fn each_changed_key_is_named_as_in_the_file() {
        let old = load("full.toml").unwrap();
        let mut new = old.clone();
        new.http.listen.set_port(1);
        new.log.level = LogLevel::Trace;
        new.sinks.clear();
        let changed = ["http.listen", "log.level", "sinks"];
        assert_eq!(old.changed_keys(&new), changed);
        new.pubsub = None;
        assert!(old.changed_keys(&new).contains(&"pubsub".to_owned()));

        let text = std::fs::read_to_string(fixture("full.toml")).unwrap();
        let value = serde_json::to_value(old).unwrap();
        let tables = value.as_object().unwrap().values();
        let tables = tables.filter_map(serde_json::Value::as_object);
        for key in tables.flat_map(|table| table.keys()) {
            let line = format!("\n{key} = ");
            assert!(text.contains(&line), "full.toml lacks {key}");
        }
    }
}
