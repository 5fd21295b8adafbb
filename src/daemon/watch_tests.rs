//! Every task of the service is watched: whichever ends, the service ends with its name.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::config::Settings;
use crate::telemetry;

/// The most that the end may take.
const LIMIT: Duration = Duration::from_secs(10);

/// The tasks of a service with one sink.
const NAMES: [&str; 10] = [
    "signals",
    "http",
    "gauges",
    "clock",
    "sink out",
    "ingest",
    "decoder",
    "source pubsub",
    "admin",
    "systemd",
];

/// Starts a service against a server that nobody runs.
async fn start(folder: &tempfile::TempDir) -> Daemon {
    let file = folder.path().join("hearthd.toml");
    let text = "[pubsub]\nsubscription = \"projects/p/subscriptions/s\"\n\
                [http]\nlisten = \"127.0.0.1:0\"\n\
                [[sinks]]\nkind = \"stdout\"\nname = \"out\"\nrecords = [\"relation\"]\n";
    std::fs::write(&file, text).unwrap();
    let emulator = ("PUBSUB_EMULATOR_HOST".to_owned(), "127.0.0.1:1".to_owned());
    let environment = BTreeMap::from([emulator]);
    let settings = Settings::load_with_pubsub(Some(&file), &environment).unwrap();
    let level = telemetry::init(&settings.log, &environment);
    let reload = Reload::new(settings.clone(), Some(file), environment, level);
    let store = folder.path().join("hearthd.db");
    let open = || Writer::open(&store);
    let pubsub = settings.require_pubsub().unwrap();
    Daemon::start(&settings, pubsub, open, reload, true)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_task_ends_the_service_ends_with_its_name() {
    let mut seen = Vec::new();
    for name in NAMES {
        let folder = tempfile::tempdir().unwrap();
        let daemon = start(&folder).await;
        let mut all = daemon.tasks.names();
        all.sort_unstable();
        seen = all;
        daemon.tasks.kill(name);
        let ended = tokio::time::timeout(LIMIT, daemon.run()).await;
        let error = ended.expect("it must end in time").unwrap_err();
        let expected = format!("task {name} ended by itself");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    let mut names = NAMES.map(str::to_owned).to_vec();
    names.sort_unstable();
    assert_eq!(seen, names, "each task has its turn");
}
