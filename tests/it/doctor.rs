//! `hearthd doctor`: the real binary finds what is wrong with a set-up, and says what to do.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use hearthd::clock::Clock;
use hearthd::event::ClockTime;
use hearthd::store::Writer;
use pubsub_test_server::{Admin, Auth, Code, End, Key, Mode, Proxy, Rule, Server, Status};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::command::{Done, command};
use crate::support::daemon::Home;
use crate::support::emulator::{Emulator, free_port, wait_until};
use crate::support::token_server::TokenServer;

const SUBSCRIPTION: &str = "projects/test/subscriptions/hearthd";
const TOPIC: &str = "projects/test/topics/home";
/// 2026-12-01T00:00:00Z.
const HOSTED_TOPICS_END: i64 = 1_796_083_200;

/// What lets Device Access publish to a topic.
fn binding() -> Value {
    json!({"role": "roles/pubsub.publisher", "members": [
        "serviceAccount:backup@test.iam.gserviceaccount.com",
        "group:sdm-publisher@googlegroups.com",
    ]})
}

/// Longest wait for the service to take a message.
const LIMIT: Duration = Duration::from_secs(30);

/// A set-up in which everything is as it should be, until a test changes that.
struct SetUp {
    server: Server,
    folder: TempDir,
    endpoint: String,
    subscription: String,
    store: PathBuf,
}

/// What doctor printed.
struct Report {
    done: Done,
}

impl SetUp {
    fn new() -> Self {
        let server = Server::start();
        let key = Key::generate("hearthd@test.iam.gserviceaccount.com");
        server.require_auth(key.public());
        server.script(|faults| {
            faults.subscription["topic"] = TOPIC.into();
            faults.subscription["expirationPolicy"] = json!({});
            faults.policy_bindings = json!([binding()]);
        });
        // A message tells at once that a stream is open.
        server.publish(["{}"]);
        let folder = tempfile::tempdir().unwrap();
        let (endpoint, store) = (server.url(), folder.path().join("hearthd.db"));
        let set_up = Self {
            server,
            folder,
            endpoint,
            subscription: SUBSCRIPTION.into(),
            store,
        };
        set_up.write_key(&key.json());
        set_up
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.json")
    }

    fn write_key(&self, text: &str) {
        fs::write(self.key(), text).unwrap();
        fs::set_permissions(self.key(), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Changes what Pub/Sub says of the subscription.
    fn subscription(&self, field: &str, value: Value) {
        self.server
            .script(|faults| faults.subscription[field] = value);
    }

    fn doctor(&self) -> Report {
        let settings = self.folder.path().join("hearthd.toml");
        let text = format!(
            "[pubsub]\nsubscription = \"{}\"\nendpoint = \"{}\"\ncredentials_file = \"{}\"\n\
             [store]\npath = \"{}\"\n[[sinks]]\nkind = \"stdout\"\nname = \"out\"\n",
            self.subscription,
            self.endpoint,
            self.key().display(),
            self.store.display()
        );
        fs::write(&settings, text).unwrap();
        let output = command(&["doctor", "--config"])
            .arg(settings)
            .output()
            .unwrap();
        Report {
            done: output.into(),
        }
    }
}

impl Report {
    /// The only line of a check.
    fn line(&self, check: &str) -> &str {
        let mut found = self
            .lines()
            .filter(|line| line.split_whitespace().nth(1) == Some(check));
        let line = found
            .next()
            .unwrap_or_else(|| panic!("no line on {check}: {:#?}", self.done));
        assert_eq!(found.next(), None, "{:#?}", self.done);
        line
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        self.done.stdout.lines()
    }

    /// Checks that one check ended like this, in these words, and that no other one failed.
    fn shows(&self, verdict: &str, check: &str, words: &[&str]) {
        let line = self.line(check);
        assert!(line.starts_with(verdict), "{line}");
        for word in words {
            assert!(line.contains(word), "{word:?} is not in: {line}");
        }
        let failed = self.lines().filter(|line| line.starts_with("fail")).count();
        let expected = usize::from(verdict == "fail");
        assert_eq!(failed, expected, "{}", self.done.stdout);
        assert_eq!(
            self.done.code,
            i32::from(verdict == "fail"),
            "{}",
            self.done.stdout
        );
    }
}

#[test]
fn a_set_up_that_works() {
    let set_up = SetUp::new();
    let report = set_up.doctor();
    assert_eq!(report.done.code, 0, "{:#?}", report.done);
    let checks: Vec<&str> = report
        .lines()
        .map(|line| line.split_whitespace().nth(1).unwrap())
        .collect();
    let expected = [
        "settings",
        "key",
        "token",
        "endpoint",
        "subscription",
        "topic",
        "expiry",
        "retention",
        "deadline",
        "delivery",
        "publisher",
        "arrivals",
        "pull",
        "store",
        "disk",
        "sinks",
        "clock",
    ];
    assert_eq!(checks, expected);
    assert!(
        report.lines().all(|line| line.starts_with("ok ")),
        "{}",
        report.done.stdout
    );
    assert!(
        report
            .line("key")
            .contains("hearthd@test.iam.gserviceaccount.com")
    );
    assert!(report.line("token").contains("good until 2"));
    assert!(report.line("topic").contains(TOPIC));
    assert!(report.line("clock").ends_with("as the server's"));
    assert_eq!(report.done.stderr, "");
    let said = format!("{:?}", report.done);
    let key: Value = serde_json::from_slice(&fs::read(set_up.key()).unwrap()).unwrap();
    let secret = key["private_key"].as_str().unwrap().lines().nth(1).unwrap();
    assert!(!said.contains(secret), "the key is in the output");
    let tokens = set_up.server.log().tokens;
    assert!(!tokens.is_empty() && tokens.iter().all(|token| !said.contains(token)));
    let left = fs::read_dir(set_up.folder.path()).unwrap();
    let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(
        left,
        ["hearthd.toml", "key.json"],
        "it leaves nothing behind"
    );
}

#[test]
fn messages_are_given_back() {
    let set_up = SetUp::new();
    let ids = set_up.server.publish(["{}"; 20]);
    // Else a message is free as soon as its stream ends, and needs no nack.
    set_up.server.script(|faults| faults.hold_leases = true);
    set_up.doctor().shows("ok", "pull", &[]);
    let log = set_up.server.log();
    assert_eq!(log.acked, 0);
    assert_eq!(set_up.server.unacked().len(), ids.len() + 1);
    let settings = log.streams[0].settings.as_ref().unwrap();
    assert_eq!(settings.max_outstanding_messages, 1, "it takes one at most");
    assert_eq!(log.delivered, log.nacked.len() as u64, "{log:?}");
}

#[test]
fn a_quiet_subscription_can_be_pulled_from() {
    let mut set_up = SetUp::new();
    set_up.server.script(|faults| faults.silent = true);
    set_up.doctor().shows("ok", "pull", &["a stream opens"]);
    set_up.subscription = "projects/test/subscriptions/other".into();
    set_up
        .doctor()
        .shows("ok", "subscription", &["subscriptions/other: exists"]);
}

// ── key and token ────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_missing_key() {
    let set_up = SetUp::new();
    fs::remove_file(set_up.key()).unwrap();
    let report = set_up.doctor();
    report.shows(
        "fail",
        "key",
        &[
            "key.json",
            "create it, or let the user that hearthd runs as",
        ],
    );
    assert!(
        report.line("subscription").starts_with("warn"),
        "{}",
        report.done.stdout
    );
}

#[test]
fn a_bad_key() {
    let set_up = SetUp::new();
    let good: Value = serde_json::from_slice(&fs::read(set_up.key()).unwrap()).unwrap();
    let with = |field: &str, value: &str| {
        let mut key = good.clone();
        key[field] = value.into();
        key.to_string()
    };
    let pem = good["private_key"].as_str().unwrap();
    let pkcs1 = pem.replace("PRIVATE KEY", "RSA PRIVATE KEY");
    let cut: String = pem.lines().take(3).collect();
    let advice = "create a JSON key of a service account";
    for (text, words) in [
        ("-----BEGIN PRIVATE KEY-----".to_owned(), "it is not JSON"),
        (
            with("type", "authorized_user"),
            "its type is \"authorized_user\"",
        ),
        (
            json!({"type": "service_account"}).to_string(),
            "missing field",
        ),
        (with("private_key", &pkcs1), "PKCS8"),
        (with("private_key", &cut), "PEM"),
    ] {
        set_up.write_key(&text);
        let report = set_up.doctor();
        report.shows("fail", "key", &["key.json", advice, words]);
        let secret = pem.lines().nth(1).unwrap();
        assert!(
            !format!("{:?}", report.done).contains(secret),
            "the key is in the output"
        );
    }
}

#[test]
fn a_key_that_everybody_may_read() {
    let set_up = SetUp::new();
    fs::set_permissions(set_up.key(), fs::Permissions::from_mode(0o644)).unwrap();
    set_up.doctor().shows(
        "warn",
        "key",
        &["every user of this machine may read", "chmod 600"],
    );
}

#[test]
fn a_key_that_google_does_not_accept() {
    let set_up = SetUp::new();
    set_up.server.script(|faults| faults.auth = Auth::Nobody);
    let report = set_up.doctor();
    report.shows(
        "fail",
        "subscription",
        &["the key wasn't deleted or disabled", "clock"],
    );
}

// ── endpoint ─────────────────────────────────────────────────────────────────────────────────────

#[test]
fn an_endpoint_out_of_reach() {
    let mut set_up = SetUp::new();
    let advice = "check the network, and pubsub.endpoint";
    set_up.endpoint = format!("http://127.0.0.1:{}", free_port());
    set_up.doctor().shows(
        "fail",
        "endpoint",
        &[&set_up.endpoint, "Connection refused", advice],
    );
    set_up.endpoint = "https://pubsub.hearthd.invalid".into();
    set_up
        .doctor()
        .shows("fail", "endpoint", &[&set_up.endpoint, "dns error", advice]);
}

#[test]
fn an_endpoint_that_is_no_web_server() {
    let mut set_up = SetUp::new();
    let proxy = Proxy::start(set_up.server.port());
    set_up.endpoint = format!("http://127.0.0.1:{}", proxy.port());
    let advice = "check the network, and pubsub.endpoint";
    for mode in [Mode::Close, Mode::Reset, Mode::Freeze] {
        proxy.set(mode);
        set_up
            .doctor()
            .shows("fail", "endpoint", &[&set_up.endpoint, advice]);
    }
    proxy.set(Mode::Forward);
    set_up.doctor().shows("ok", "pull", &[]);
}

#[test]
fn an_endpoint_that_is_not_pubsub() {
    let mut set_up = SetUp::new();
    let proxy = Proxy::start(set_up.server.port());
    proxy.set(Mode::Http1);
    set_up.endpoint = format!("http://127.0.0.1:{}", proxy.port());
    set_up
        .doctor()
        .shows("fail", "subscription", &["that the endpoint is Pub/Sub"]);
}

#[test]
fn a_clock_that_differs_from_the_servers() {
    let mut set_up = SetUp::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    set_up.endpoint = format!("http://{}", listener.local_addr().unwrap());
    // It ends with the process; it has nothing to put down.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = BufReader::new(&stream);
            // Up to the empty line. An error means that whoever asked has left.
            while request
                .read_line(&mut String::new())
                .is_ok_and(|length| length > 2)
            {}
            let answer = "HTTP/1.1 404 Not Found\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\n\
                          Content-Length: 0\r\nConnection: close\r\n\r\n";
            stream.write_all(answer.as_bytes()).ok();
        }
    });
    let report = set_up.doctor();
    let line = report.line("clock");
    assert!(
        line.starts_with("warn") && line.contains("s ahead of the server's clock"),
        "{line}"
    );
    assert!(line.contains("timedatectl set-ntp true"), "{line}");
}

// ── subscription ─────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_wrong_or_expired_subscription() {
    let set_up = SetUp::new();
    let other = Some("projects/test/subscriptions/another".to_owned());
    set_up
        .server
        .script(|faults| faults.subscription_name = other);
    let words = [
        "doesn't exist",
        "expires after 31 days without a subscriber",
        "not a topic",
        "create it",
    ];
    set_up.doctor().shows("fail", "subscription", &words);
}

#[test]
fn a_topic_instead_of_a_subscription() {
    let mut set_up = SetUp::new();
    set_up.subscription = "projects/sdm-prod/topics/enterprise-1".into();
    set_up.endpoint = "localhost:8085".into();
    let report = set_up.doctor();
    assert_eq!(report.done.code, 78, "{:#?}", report.done);
    let [endpoint, subscription] = report.lines().collect::<Vec<_>>()[..] else {
        panic!(
            "it prints every fault, and nothing else: {}",
            report.done.stdout
        )
    };
    assert!(
        endpoint.starts_with("fail  settings      pubsub.endpoint: "),
        "{endpoint}"
    );
    assert!(
        subscription.starts_with("fail  settings      pubsub.subscription: "),
        "{subscription}"
    );
    for form in [
        "is a topic, not a subscription",
        "projects/{project}/subscriptions/{id}",
        "projects/sdm-prod/topics/enterprise-…",
        "projects/{gcp}/topics/{id}",
    ] {
        assert!(
            subscription.contains(form),
            "{form:?} is not in: {subscription}"
        );
    }
}

#[test]
fn an_account_that_may_pull_and_not_look() {
    let set_up = SetUp::new();
    set_up
        .server
        .script(|faults| faults.admin = Rule::always(Admin::Status(403)));
    let report = set_up.doctor();
    report.shows(
        "warn",
        "subscription",
        &["roles/pubsub.subscriber lacks", "roles/pubsub.viewer"],
    );
    assert!(
        report.line("pull").starts_with("ok"),
        "{}",
        report.done.stdout
    );
}

#[test]
fn an_account_that_may_do_nothing() {
    let set_up = SetUp::new();
    set_up.server.script(|faults| {
        faults.admin = Rule::always(Admin::Status(403));
        let denied = Status::new(Code::PermissionDenied, "User not authorized.");
        faults.open = Rule::always(End::Status(denied));
    });
    let report = set_up.doctor();
    report.shows(
        "fail",
        "pull",
        &["no permission to pull", "grant", "roles/pubsub.subscriber"],
    );
    assert!(
        report.line("subscription").starts_with("warn"),
        "{}",
        report.done.stdout
    );
}

#[test]
fn a_stream_that_is_refused_for_another_reason() {
    let set_up = SetUp::new();
    for code in [
        Code::FailedPrecondition,
        Code::Unimplemented,
        Code::InvalidArgument,
    ] {
        let end = End::Status(Status::new(code, "as scripted"));
        set_up
            .server
            .script(|faults| faults.open = Rule::always(end));
        let report = set_up.doctor();
        report.shows("fail", "pull", &[]);
        assert!(
            report.done.stderr.contains("as scripted"),
            "{:#?}",
            report.done
        );
    }
}

#[test]
fn an_admin_interface_that_never_answers() {
    let set_up = SetUp::new();
    set_up
        .server
        .script(|faults| faults.admin = Rule::always(Admin::Hang));
    set_up
        .doctor()
        .shows("fail", "subscription", &["no answer within"]);
}

/// A field of the subscription with its value, and how doctor judges it, in which words.
const SUBSCRIPTIONS: &str = r#"
topic = "_deleted-topic_" -> fail topic: create it again
detached = true -> fail topic: is detached
expirationPolicy = {"ttl": "2678400s"} -> warn expiry: after 31d without a subscriber
expirationPolicy = null -> warn expiry: --expiration-period=never
expirationPolicy = {} -> ok expiry: never
messageRetentionDuration = "691199s" -> ok retention: 8d
messageRetentionDuration = "691200s" -> warn retention: set dedupe.horizon to 9d
pushConfig = {"pushEndpoint": "https://example.net/?token=hush"} -> fail delivery: --push-endpoint=
bigqueryConfig = {"table": "p.d.t"} -> fail delivery: writes its messages
filter = "attributes.x = \"1\"" -> warn delivery: it has a filter
enableExactlyOnceDelivery = true -> ok delivery: exactly-once on
ackDeadlineSeconds = 600 -> ok deadline: 600 s
"#;

#[test]
fn what_a_subscription_is_set_to() {
    let set_up = SetUp::new();
    let usual = set_up.server.script(|faults| faults.subscription.clone());
    for case in SUBSCRIPTIONS.trim().lines() {
        let (field, rest) = case.split_once(" = ").unwrap();
        let (value, rest) = rest.rsplit_once(" -> ").unwrap();
        let (judged, words) = rest.split_once(": ").unwrap();
        let (verdict, check) = judged.split_once(' ').unwrap();
        set_up
            .server
            .script(|faults| faults.subscription = usual.clone());
        set_up.subscription(field, serde_json::from_str(value).unwrap());
        let report = set_up.doctor();
        report.shows(verdict, check, &[words]);
        assert!(
            !report.done.stdout.contains("hush"),
            "{}",
            report.done.stdout
        );
    }
}

#[test]
fn a_topic_that_google_hosts() {
    let set_up = SetUp::new();
    set_up.subscription("topic", json!("projects/sdm-prod/topics/enterprise-1"));
    // The binary reads this machine's clock; unit tests are on both sides of the end.
    let is_over = Clock::start(ClockTime::default()).wall_now().timestamp() >= HOSTED_TOPICS_END;
    let verdict = if is_over { "fail" } else { "warn" };
    let report = set_up.doctor();
    let step = "move to a topic of your own: (1) gcloud pubsub topics create";
    report.shows(verdict, "topic", &[step]);
    // Nobody asks who may publish to it, nor whether anything came.
    let checks = report
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1));
    let of_own_topics = checks.filter(|check| ["publisher", "arrivals"].contains(check));
    assert_eq!(of_own_topics.count(), 0, "{}", report.done.stdout);
}

// ── who may publish, and whether anything came ───────────────────────────────────────────────────

#[test]
fn device_access_that_may_publish() {
    let set_up = SetUp::new();
    let words = ["group:sdm-publisher@googlegroups.com has", TOPIC];
    set_up.doctor().shows("ok", "publisher", &words);
}

#[test]
fn device_access_without_a_binding() {
    let set_up = SetUp::new();
    let role = "roles/pubsub.subscriber";
    let member = "group:sdm-publisher@googlegroups.com";
    for bindings in [
        json!([]),
        json!([{"role": role, "members": [member]}]),
        json!([{"role": "roles/pubsub.publisher", "members": ["user:me@example.net"]}]),
    ] {
        set_up
            .server
            .script(|faults| faults.policy_bindings = bindings);
        let words = [
            "it may inherit it from the project",
            "gcloud pubsub topics add-iam-policy-binding projects/test/topics/home \
             --member=group:sdm-publisher@googlegroups.com --role=roles/pubsub.publisher",
        ];
        set_up.doctor().shows("warn", "publisher", &words);
    }
}

#[test]
fn an_account_that_may_not_see_who_may_publish() {
    let set_up = SetUp::new();
    for (status, words) in [(403, "which is usual"), (500, "failed to ask")] {
        let fault = Rule::always(Admin::Status(status));
        set_up.server.script(|faults| faults.get_policy = fault);
        let gcloud = "gcloud pubsub topics get-iam-policy projects/test/topics/home";
        set_up.doctor().shows("warn", "publisher", &[words, gcloud]);
    }
}

#[test]
fn a_store_that_got_messages_or_none() {
    let server = Server::start();
    let mut home = Home::new("", SUBSCRIPTION);
    // Not an emulator, which has neither policies nor Device Access; and still without a key.
    let tokens = TokenServer::start();
    let url = server.url();
    home.environment = [
        ("HEARTHD_PUBSUB__ENDPOINT".to_owned(), url),
        ("GCE_METADATA_HOST".to_owned(), tokens.host()),
    ]
    .into();
    let doctor = || {
        let mut command = command(&["doctor", "--config"]);
        let command = command.arg(home.path("hearthd.toml"));
        Report {
            done: command.envs(&home.environment).output().unwrap().into(),
        }
    };
    doctor().shows("ok", "arrivals", &["there is no store yet"]);
    let service = home.start("run");
    let none = [
        "no message of the last 8d",
        "cause an event",
        "Device Access console",
    ];
    doctor().shows("warn", "arrivals", &none);
    server.publish(["{}"]);
    let is_received = || service.metric("hearthd_messages_received_total") == 1;
    assert!(wait_until(LIMIT, is_received), "{}", service.log());
    let last = [
        "the store last got a message",
        "s ago, at 2",
        "Device Access console",
    ];
    doctor().shows("ok", "arrivals", &last);
    // The usual account, to which the topic is not shown.
    server.script(|faults| faults.admin = Rule::always(Admin::Status(403)));
    doctor().shows("ok", "arrivals", &last);
    service.stop();
}

#[test]
fn the_emulator_needs_no_key() {
    let Some(emulator) = Emulator::start() else {
        return;
    };
    emulator.create_topic(TOPIC);
    emulator.create_subscription(SUBSCRIPTION, TOPIC);
    let home = Home::new(&emulator.host(), SUBSCRIPTION);
    let doctor = || {
        let mut command = command(&["doctor", "--config"]);
        let output = command
            .arg(home.path("hearthd.toml"))
            .envs(&home.environment)
            .output();
        Report {
            done: output.unwrap().into(),
        }
    };
    let report = doctor();
    report.shows("ok", "pull", &[]);
    report.shows("ok", "key", &["none needed"]);
    let service = home.start("run");
    doctor().shows("ok", "store", &["in use by another process"]);
    service.stop();
    doctor().shows("ok", "store", &["opens"]);
}

// ── store ────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_store_that_can_not_be_written() {
    let mut set_up = SetUp::new();
    let advice = ["hearthd.db", "failed to write to its folder", "store.path"];
    set_up.store = set_up.folder.path().join("absent/hearthd.db");
    set_up.doctor().shows("fail", "store", &advice);
    // A disk that is mounted read-only, for root too.
    set_up.store = "/proc/sys/hearthd.db".into();
    set_up.doctor().shows("fail", "store", &advice);
    set_up.store = set_up.folder.path().join("key.json/hearthd.db");
    set_up.doctor().shows("fail", "store", &["hearthd.db"]);
}

#[test]
fn a_store_that_is_none() {
    let mut set_up = SetUp::new();
    set_up.store = set_up.key();
    let before = fs::read(&set_up.store).unwrap();
    set_up
        .doctor()
        .shows("fail", "store", &["not a hearthd store", "store.path"]);
    assert_eq!(fs::read(&set_up.store).unwrap(), before);
}

#[test]
fn a_store_of_another_user() {
    let set_up = SetUp::new();
    drop(Writer::open(&set_up.store).unwrap());
    if chown(&set_up.store, Some(54_321), None).is_err() {
        crate::support::skip("the right to give files away", "run this test as root");
        return;
    }
    set_up.doctor().shows(
        "warn",
        "store",
        &["belongs to user 54321", "run doctor as the user"],
    );
}
