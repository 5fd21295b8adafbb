//! The log of the real binary holds no secret at any level, and nothing personal.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use hearthd::config::{Log, LogFormat, LogLevel};
use hearthd::telemetry;
use pubsub_test_server::{Code, End, Key, Server, Status};
use serde_json::Value;

use crate::support::command::{command, fixture};
use crate::support::daemon::Home;
use crate::support::emulator::wait_until;

const SUBSCRIPTION: &str = "projects/test/subscriptions/hearthd";

/// Longest wait for a line of the log, or for messages to be acked.
const LIMIT: Duration = Duration::from_secs(60);

/// Bodies that are no event, each with personal data where a decoder finds fault.
const BROKEN: [&str; 4] = [
    r#"{"userId": "user-of-broken-json", "resourceUpdate": {"previewUrl": "https://clip.broken"#,
    r#"{"eventId": ["user-in-event-id"], "timestamp": {"userId": "user-in-timestamp"}}"#,
    r#"{"eventId": "e", "timestamp": "user-as-timestamp", "resourceUpdate": {"name": "user-as-name"}}"#,
    r#"{"eventId": "e", "user-as-key": 1, "user-as-key": 2}"#,
];

/// What `BROKEN` must not bring into the log.
const BROKEN_DATA: [&str; 7] = [
    "user-of-broken-json",
    "clip.broken",
    "user-in-event-id",
    "user-in-timestamp",
    "user-as-timestamp",
    "user-as-name",
    "user-as-key",
];

/// The bodies of the fixtures, good ones and bad ones.
fn fixture_bodies() -> Vec<Vec<u8>> {
    let files = ["sdm", "sdm/bad"].map(|folder| fs::read_dir(fixture(folder)).unwrap());
    let paths = files
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.is_file())
        .map(|path| fs::read(path).unwrap())
        .collect()
}

/// The users, clip addresses, names of devices and names given to them in a payload.
fn personal_data(payload: &Value, found: &mut BTreeSet<String>) {
    let personal = ["userId", "previewUrl", "customName", "displayName", "name"];
    match payload {
        Value::Object(fields) => {
            for (key, value) in fields {
                let text = value.as_str().filter(|_| personal.contains(&key.as_str()));
                // A shorter one could be part of any word.
                found.extend(text.filter(|text| text.len() >= 4).map(str::to_owned));
                personal_data(value, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| personal_data(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Files that are no good as that key, each with its private part or half of it.
fn broken_keys(key: &Key) -> Vec<String> {
    let file = key.json();
    let object: Value = serde_json::from_str(&file).unwrap();
    let pem = object["private_key"].as_str().unwrap();
    let with = |field: &str, value: Value| {
        let mut object = object.clone();
        object[field] = value;
        object.to_string()
    };
    let (_, half) = pem.split_at(pem.len() / 2);
    vec![
        file.split_at(file.len() / 2).0.to_owned(),
        pem.to_owned(),
        with("private_key", half.into()),
        with("private_key", pem.lines().collect::<Vec<_>>().into()),
        with("client_email", Value::Null),
        with("universe_domain", serde_json::json!({"private_key": pem})),
    ]
}

/// The log shows no part of these keys, and no token.
fn assert_no_secret(log: &str, keys: &[&Key], tokens: &BTreeSet<String>) {
    for key in keys {
        let object: Value = serde_json::from_str(&key.json()).unwrap();
        for line in object["private_key"].as_str().unwrap().lines() {
            assert!(
                !log.contains(line),
                "{line} of the key is in the log:\n{log}"
            );
        }
    }
    for part in tokens.iter().flat_map(|token| token.split('.')) {
        assert!(
            !log.contains(part),
            "{part} of a token is in the log:\n{log}"
        );
    }
    // What every token begins with, also one that the server never saw.
    assert!(
        !log.contains("eyJ") && !log.contains("Bearer"),
        "a token is in the log:\n{log}"
    );
}

/// A home on that server, with a key file and the text of its settings.
fn home(server: &Server, key: &Key) -> (Home, String) {
    // No emulator: the key is to be used.
    let home = Home::new("", SUBSCRIPTION);
    let file = home.path("key.json");
    fs::write(&file, key.json()).unwrap();
    let settings = fs::read_to_string(home.path("hearthd.toml")).unwrap();
    let settings = settings.replace(
        "[pubsub]\n",
        &format!(
            "[log]\nlevel = \"trace\"\n[pubsub]\nendpoint = \"{}\"\ncredentials_file = \"{}\"\n\
             reopen_backoff_min = \"100ms\"\nreopen_backoff_max = \"500ms\"\n\
             probe_interval = \"200ms\"\n",
            server.url(),
            file.display(),
        ),
    );
    fs::write(home.path("hearthd.toml"), &settings).unwrap();
    (home, settings)
}

#[test]
fn a_run_at_trace_shows_no_key_no_token_and_nothing_personal() {
    let server = Server::start();
    let [first, second] = ["first", "second"].map(Key::generate);
    server.require_auth(first.public());
    let (home, settings) = home(&server, &first);
    let key_file = home.path("key.json");
    server.publish(fixture_bodies());
    server.publish(BROKEN);
    let service = home.start("run");
    assert!(
        wait_until(LIMIT, || server.unacked().is_empty()),
        "{}",
        service.log()
    );
    service.wait_for(LIMIT, |service| {
        service.metric("hearthd_messages_quarantined_total") > BROKEN.len() as u64
    });

    // The key is replaced by what is none, then by another one while its tokens are refused.
    fs::write(&key_file, broken_keys(&first).remove(3)).unwrap();
    service.wait_for_log(LIMIT, 0, "the credentials file changed and is no good");
    fs::write(&key_file, second.json()).unwrap();
    service.wait_for_log(
        LIMIT,
        0,
        "the credentials file changed: streams are opened with it",
    );
    server.end_streams(&End::Status(Status::new(Code::Unauthenticated, "no")));
    service.wait_for_log(LIMIT, 0, "ERROR hearthd::sources::pubsub");
    let refused = || server.log().auth_failures.len();
    let before = refused();
    assert!(
        wait_until(LIMIT, || refused() > before),
        "{}",
        service.log()
    );

    // The key itself is pasted where its path belongs.
    let path = format!("\"{}\"", key_file.display());
    let pasted = settings.replace(&path, &format!("'''{}'''", second.json()));
    assert_ne!(pasted, settings);
    fs::write(home.path("hearthd.toml"), pasted).unwrap();
    service.signal("HUP");
    service.wait_for_log(
        LIMIT,
        0,
        "the settings stay as they were: pubsub.credentials_file: ",
    );

    let (log, tokens) = (service.log(), server.log().tokens);
    service.stop();
    assert!(log.contains(" TRACE ") && log.contains(" DEBUG "), "{log}");
    assert!(tokens.len() >= 2, "{} tokens", tokens.len());
    assert_no_secret(&log, &[&first, &second], &tokens);
    let mut personal: BTreeSet<String> = BROKEN_DATA.map(str::to_owned).into();
    for body in fixture_bodies() {
        personal_data(
            &serde_json::from_slice(&body).unwrap_or_default(),
            &mut personal,
        );
    }
    assert!(personal.len() > 20, "{personal:?}");
    for data in personal {
        assert!(!log.contains(&data), "{data} is in the log:\n{log}");
    }
}

#[test]
fn a_bad_key_is_refused_without_being_shown() {
    let server = Server::start();
    let key = Key::generate("hearthd");
    let (home, _) = home(&server, &key);
    for broken in broken_keys(&key) {
        fs::write(home.path("key.json"), &broken).unwrap();
        let mut service = home.spawn("run");
        let status = service.wait_for_exit(LIMIT);
        let said = service.log();
        assert_eq!(status.code(), Some(78), "{said}");
        assert!(said.contains("key.json"), "{said}");
        assert_no_secret(&said, &[&key], &BTreeSet::new());
    }
    for pasted in [key.json(), broken_keys(&key).remove(1)] {
        let done = command(&["check", "--config"])
            .arg(home.path("hearthd.toml"))
            .env("HEARTHD_PUBSUB__CREDENTIALS_FILE", pasted)
            .output()
            .unwrap();
        let said = String::from_utf8(done.stderr).unwrap() + &String::from_utf8_lossy(&done.stdout);
        assert_eq!(done.status.code(), Some(78), "{said}");
        assert!(said.contains("pubsub.credentials_file: "), "{said}");
        assert_no_secret(&said, &[&key], &BTreeSet::new());
    }
}

#[test]
fn each_line_has_its_level_where_the_journal_reads_it() {
    use std::os::unix::fs::MetadataExt as _;

    let mut home = Home::new("127.0.0.1:1", SUBSCRIPTION);
    let run = |home: &Home| {
        let service = home.start("run");
        service.wait_for_log(LIMIT, 0, "INFO");
        service.wait_for_log(LIMIT, 0, "WARN");
        let log = service.log();
        service.stop();
        log
    };
    fs::write(home.path("run.log"), "").unwrap();
    // Starting it again empties the file, and keeps it the same one.
    let file = fs::metadata(home.path("run.log")).unwrap();
    let stream = format!("{}:{}", file.dev(), file.ino());
    home.environment.insert("JOURNAL_STREAM".to_owned(), stream);
    for line in run(&home).lines() {
        let level = line.split_whitespace().nth(1);
        let prefix = line.split_at(3).0;
        let fits = [("<3>", "ERROR"), ("<4>", "WARN"), ("<6>", "INFO")]
            .map(|(prefix, level)| (prefix, Some(level)));
        assert!(fits.contains(&(prefix, level)), "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
    }
    home.environment
        .insert("JOURNAL_STREAM".to_owned(), "1:1".to_owned());
    let log = run(&home);
    assert!(log.lines().all(|line| !line.starts_with('<')), "{log}");
}

/// Names the test below when it runs in a process of its own.
const PANICKING: &str = "HEARTHD_TEST_PANICKING";

/// A panic's text may hold what was being decoded: only a text that is part of the program is
/// shown. The test starts itself again, as panics are one thing for a whole process.
#[test]
fn a_panic_is_logged_without_data() {
    if std::env::var_os(PANICKING).is_some() {
        let log = Log {
            format: LogFormat::Text,
            level: LogLevel::Info,
        };
        telemetry::init(&log, &std::collections::BTreeMap::new());
        let user = "user-in-a-panic";
        std::panic::catch_unwind(|| panic!("can't decode {user}")).unwrap_err();
        std::panic::catch_unwind(|| panic!("a constant text")).unwrap_err();
        return;
    }
    let done = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "log_secrets::a_panic_is_logged_without_data",
            "--nocapture",
        ])
        .env(PANICKING, "1")
        .output()
        .unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success(), "{said}");
    let panics: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("panicked"))
        .collect();
    assert_eq!(panics.len(), 2, "{said}");
    assert!(
        panics
            .iter()
            .all(|line| line.contains("ERROR") && line.contains(file!())),
        "{said}"
    );
    assert!(panics[1].contains("a constant text"), "{said}");
    assert!(!said.contains("user-in-a-panic"), "{said}");
}
