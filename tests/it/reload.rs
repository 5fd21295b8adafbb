//! SIGHUP: the real binary reads its settings again.

use std::fs;
use std::time::Duration;

use crate::support::daemon::Home;

/// Longest wait for a line of the log.
const LIMIT: Duration = Duration::from_secs(30);

/// A home whose Pub/Sub server isn't there, and the text of its settings.
fn home() -> (Home, String) {
    let home = Home::without_server();
    let settings = fs::read_to_string(home.path("hearthd.toml")).unwrap();
    (home, settings)
}

#[test]
fn the_level_of_the_log_changes_at_once() {
    let (home, settings) = home();
    let service = home.start("run");
    service.signal("HUP");
    service.wait_for_log(
        LIMIT,
        0,
        "INFO hearthd::daemon::reload: read the settings again: nothing",
    );
    fs::write(
        home.path("hearthd.toml"),
        settings + "[log]\nlevel = \"debug\"\n",
    )
    .unwrap();
    assert!(!service.log().contains("DEBUG"), "{}", service.log());
    service.signal("HUP");
    let end = service.wait_for_log(
        LIMIT,
        0,
        "read the settings again, now in effect: log.level",
    );
    service.wait_for_log(LIMIT, end, "DEBUG");
    service.stop();
}

#[test]
fn faulty_settings_change_nothing_and_each_fault_is_named() {
    let (home, settings) = home();
    fs::write(
        home.path("hearthd.toml"),
        settings.clone() + "[log]\nlevel = \"debug\"\n",
    )
    .unwrap();
    let service = home.start("run");
    service.wait_for_log(LIMIT, 0, "DEBUG");
    let faulty = "[log]\nlevel = \"error\"\nformat = \"loud\"\n[reorder]\nhold = \"2m\"\n";
    fs::write(home.path("hearthd.toml"), settings + faulty).unwrap();
    service.signal("HUP");
    service.wait_for_log(LIMIT, 0, "the settings stay as they were: log.format: ");
    let end = service.wait_for_log(LIMIT, 0, "the settings stay as they were: reorder.hold: ");
    let log = service.log();
    let faults = log
        .lines()
        .filter(|line| line.contains("the settings stay as they were"));
    assert!(faults.clone().all(|line| line.contains("ERROR")), "{log}");
    assert_eq!(faults.count(), 2, "{log}");
    service.wait_for_log(LIMIT, end, "DEBUG");

    fs::remove_file(home.path("hearthd.toml")).unwrap();
    service.signal("HUP");
    service.wait_for_log(LIMIT, end, "failed to read the settings file");
    service.stop();
}

#[test]
fn what_needs_a_restart_is_named_until_there_is_one() {
    let (home, settings) = home();
    let service = home.start("run");
    let (before, after) = settings.split_once("listen = \"").unwrap();
    let (_, after) = after.split_once('"').unwrap();
    let changed = format!("{before}listen = \"127.0.0.1:1\"{after}");
    let changed = changed.replace("thread_timeout = \"2s\"", "thread_timeout = \"3s\"");
    fs::write(home.path("hearthd.toml"), changed).unwrap();
    let warning = "WARN hearthd::daemon::reload: read the settings again, needs a restart: \
                   http.listen, notifications.thread_timeout\n";
    let mut end = 0;
    for _ in 0..2 {
        service.signal("HUP");
        end = service.wait_for_log(LIMIT, end, warning);
    }
    assert!(service.get("/livez").is_some());
    service.stop();
}
