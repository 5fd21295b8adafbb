//! Service-account keys: accepted, refused, revoked and replaced.

use std::fs;
use std::time::Duration;

use pubsub_test_server::{Admin, Auth, End, Key, Rule, Server};
use serde_json::json;

use super::{LIMIT, Trial, home};
use crate::support::daemon::Home;
use crate::support::emulator::wait_until;
use crate::support::token_server::{TOKEN, TokenServer};

const EMAIL: &str = "hearthd@test.iam.gserviceaccount.com";
const AUTH_UP: &str = "hearthd_auth_up{source=\"pubsub\"}";
const EXPIRY: &str = "hearthd_auth_token_expiry_timestamp_seconds{source=\"pubsub\"}";
const STREAM_UP: &str = "hearthd_pubsub_stream_up{source=\"pubsub\"}";
const NEW_KEY: &str = "hearthd_pubsub_stream_opens_total{reason=\"new_key\",source=\"pubsub\"}";
const NO_KEY: &str = "hearthd_auth_failures_total{source=\"pubsub\",stage=\"credentials\"}";
/// Longest time until a new key is seen while a token server holds its answers: 5 s for the token
/// of a question, and a second until the next look; twice that on a busy machine.
const KEY_LIMIT: Duration = Duration::from_secs(12);
const NO_TOKEN: &str = "hearthd_auth_failures_total{source=\"pubsub\",stage=\"token\"}";

/// A home whose service needs credentials for the server.
fn home_with_endpoint(server: &Server) -> Home {
    let mut home = home("");
    home.environment
        .insert("HEARTHD_PUBSUB__ENDPOINT".to_owned(), server.url());
    home
}

/// The same with tokens of a metadata server.
fn home_with_metadata(server: &Server, tokens: &TokenServer) -> Home {
    let mut home = home_with_endpoint(server);
    home.environment
        .insert("GCE_METADATA_HOST".to_owned(), tokens.host());
    home
}

/// Makes `key.json` the credentials file.
fn set_credentials(home: &mut Home, text: &str) {
    let path = home.path("key.json");
    fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    home.environment
        .insert("HEARTHD_PUBSUB__CREDENTIALS_FILE".to_owned(), path);
}

/// A trial on a server that takes tokens of this key alone, and has taken some.
fn authenticated(key: &Key) -> Trial {
    let server = Server::start();
    server.require_auth(key.public());
    let mut home = home_with_endpoint(&server);
    set_credentials(&mut home, &key.json());
    let mut trial = Trial::with(server, home);
    trial.publish(5);
    trial.drain();
    trial
}

/// The credentials file of workload identity that asks this token server.
fn workload_identity(home: &Home, tokens: &TokenServer) -> String {
    let subject = home.path("subject-token");
    fs::write(&subject, "token-of-the-platform").unwrap();
    let file = json!({
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/\
                     providers/p",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": format!("http://{}/v1/token", tokens.host()),
        "credential_source": {"file": subject},
    });
    file.to_string()
}

/// Replaces the key as careful tools do: written beside it, then renamed over it.
fn replace_key(home: &Home, text: &str) {
    fs::write(home.path("key.new"), text).unwrap();
    fs::rename(home.path("key.new"), home.path("key.json")).unwrap();
}

#[test]
fn a_signed_token_is_accepted_and_its_expiry_shown() {
    let key = Key::generate(EMAIL);
    let trial = authenticated(&key);
    assert!(trial.server.log().auth_failures.is_empty());
    assert_eq!(trial.service.series(AUTH_UP), 1);
    let expiry = trial.service.series(EXPIRY);
    let last = trial
        .service
        .series("hearthd_last_message_received_timestamp_seconds{source=\"pubsub\"}");
    assert!(
        (last..last + 3700).contains(&expiry),
        "{expiry} after {last}"
    );
    trial.finish();
}

#[test]
fn a_token_is_refused_and_then_accepted() {
    let key = Key::generate(EMAIL);
    let mut trial = authenticated(&key);
    trial.server.script(|faults| faults.auth = Auth::Nobody);
    trial.server.end_streams(&End::Close);
    trial.publish(5);
    trial.wait_for(AUTH_UP, |up| up == 0);
    trial.wait_for(
        "hearthd_auth_failures_total{source=\"pubsub\",stage=\"request\"}",
        |failures| failures >= 2,
    );
    assert_eq!(trial.service.series(STREAM_UP), 0);
    assert!(
        trial
            .service
            .log()
            .contains("Google doesn't accept the credentials")
    );
    trial.server.require_auth(key.public());
    trial.wait_for(AUTH_UP, |up| up == 1);
    trial.finish();
}

#[test]
fn a_revoked_key_is_replaced_by_a_new_file() {
    let (old, new) = (Key::generate(EMAIL), Key::generate(EMAIL));
    let mut trial = authenticated(&old);
    trial.server.require_auth(new.public());
    trial.server.end_streams(&End::Close);
    trial.publish(5);
    trial.wait_for(AUTH_UP, |up| up == 0);
    // A key that is written in place may be read half-way; it is read again.
    let text = new.json();
    fs::write(trial.home.path("key.json"), text.split_at(text.len() / 2).0).unwrap();
    trial.wait_for(NO_KEY, |failures| failures > 0);
    replace_key(&trial.home, &new.json());
    trial.wait_for(AUTH_UP, |up| up == 1);
    trial.finish();
}

#[test]
fn a_rotated_key_is_taken_up_while_the_old_one_still_works() {
    let (old, new) = (Key::generate(EMAIL), Key::generate(EMAIL));
    let trial = authenticated(&old);
    trial.server.script(|faults| faults.auth = Auth::Anyone);
    replace_key(&trial.home, &new.json());
    trial.wait_for(NEW_KEY, |opens| opens == 1);
    trial.server.require_auth(new.public());
    trial.finish();
}

#[test]
fn new_credentials_are_tried_until_there_is_a_token_for_them() {
    let tokens = TokenServer::start();
    tokens.set_failing(true);
    let key = Key::generate(EMAIL);
    let trial = authenticated(&key);
    trial.server.script(|faults| faults.auth = Auth::Anyone);
    replace_key(&trial.home, &workload_identity(&trial.home, &tokens));
    trial.wait_for(NO_TOKEN, |failures| failures > 0);
    // The file is good.
    assert_eq!(trial.service.series(NO_KEY), 0);
    tokens.set_failing(false);
    trial.wait_for(NEW_KEY, |opens| opens == 1);
    trial.finish();
}

#[test]
fn a_key_that_comes_while_there_is_no_token_yet_is_taken_up() {
    let tokens = TokenServer::start();
    tokens.set_holding(true);
    let (server, new) = (Server::start(), Key::generate(EMAIL));
    let mut home = home_with_endpoint(&server);
    let old = workload_identity(&home, &tokens);
    set_credentials(&mut home, &old);
    // The first question comes 3 s after the start, and there is no second one.
    home.environment.insert(
        "HEARTHD_PUBSUB__PROBE_INTERVAL".to_owned(),
        "60s".to_owned(),
    );
    let mut trial = Trial::with(server, home);
    // That of the start, which gave it up, that of the stream, and that of the question. The file
    // is looked at only after the last one: so it must not wait for long.
    trial.wait_for_server("the watchdog asks for a token", |_| tokens.requests() >= 3);
    replace_key(&trial.home, &new.json());
    let changed = "the credentials file changed: streams are opened with it";
    let is_seen = wait_until(KEY_LIMIT, || trial.service.log().contains(changed));
    assert!(is_seen, "{}", trial.service.log());
    // The old credentials work too.
    tokens.set_holding(false);
    trial.publish(5);
    // Only tokens of a key say when they expire.
    trial.wait_for(EXPIRY, |expiry| expiry > 0);
    trial.finish();
}

#[test]
fn a_missing_key_is_no_fault_of_the_token_server() {
    let key = Key::generate(EMAIL);
    let trial = authenticated(&key);
    // A question that isn't answered is asked anew, with new credentials.
    trial
        .server
        .script(|faults| faults.admin = Rule::always(Admin::Status(503)));
    fs::remove_file(trial.home.path("key.json")).unwrap();
    let asked = "there is no token to ask Pub/Sub with";
    trial.wait_for_server("it is asked", |_| trial.service.log().contains(asked));
    trial.wait_for(NO_KEY, |failures| failures >= 2);
    assert_eq!(trial.service.series(NO_TOKEN), 0);
    replace_key(&trial.home, &key.json());
    trial.server.script(|faults| faults.admin = Rule::off());
    trial.finish();
}

#[test]
fn workload_identity_exchanges_a_token() {
    let tokens = TokenServer::start();
    let server = Server::start();
    let mut home = home_with_endpoint(&server);
    let file = workload_identity(&home, &tokens);
    set_credentials(&mut home, &file);
    let mut trial = Trial::with(server, home);
    trial.publish(5);
    trial.drain();
    assert!(tokens.answers() > 0);
    assert!(trial.server.log().tokens.iter().all(|token| token == TOKEN));
    trial.finish();
}

#[test]
fn the_metadata_server_is_asked_until_it_answers() {
    let tokens = TokenServer::start();
    tokens.set_failing(true);
    let server = Server::start();
    let home = home_with_metadata(&server, &tokens);
    let mut trial = Trial::with(server, home);
    trial.publish(5);
    trial.wait_for(NO_TOKEN, |failures| failures >= 2);
    assert_eq!(trial.service.series(AUTH_UP), 0);
    tokens.set_failing(false);
    trial.drain();
    assert_eq!(trial.service.series(AUTH_UP), 1);
    assert!(trial.server.log().tokens.iter().all(|token| token == TOKEN));
    trial.finish();
}

#[test]
fn a_stream_that_gets_no_token_any_more_is_not_up() {
    let tokens = TokenServer::start();
    let server = Server::start();
    let mut home = home_with_metadata(&server, &tokens);
    home.environment
        .insert("HEARTHD_PUBSUB__IDLE_REOPEN".to_owned(), "1s".to_owned());
    // A stream that works is not asked about.
    home.environment.insert(
        "HEARTHD_PUBSUB__PROBE_INTERVAL".to_owned(),
        "60s".to_owned(),
    );
    let mut trial = Trial::with(server, home);
    trial.publish(5);
    trial.drain();
    trial.wait_for(STREAM_UP, |up| up == 1);
    tokens.set_failing(true);
    // The stream that works ends, as it is idle, and the next one can't be opened.
    trial.wait_for(STREAM_UP, |up| up == 0);
    trial.wait_for("hearthd_pubsub_reachable{source=\"pubsub\"}", |reachable| {
        reachable == 0
    });
    assert_eq!(trial.service.series(AUTH_UP), 0);
    tokens.set_failing(false);
    trial.finish();
}

#[test]
fn a_token_server_that_never_answers_does_not_delay_the_end() {
    let tokens = TokenServer::start();
    tokens.set_holding(true);
    let server = Server::start();
    let home = home_with_metadata(&server, &tokens);
    let service = home.start("run");
    // The first request is of the start, which gave it up; the second one of the stream.
    let is_waiting = wait_until(LIMIT, || tokens.requests() >= 2);
    assert!(is_waiting, "{}", service.log());
    service.stop();
}

#[test]
fn systemd_passes_the_key() {
    let (server, key) = (Server::start(), Key::generate(EMAIL));
    server.require_auth(key.public());
    let mut home = home_with_endpoint(&server);
    fs::create_dir(home.path("credentials")).unwrap();
    fs::write(home.path("credentials/service-account.json"), key.json()).unwrap();
    let folder = home.path("credentials").display().to_string();
    home.environment
        .insert("CREDENTIALS_DIRECTORY".to_owned(), folder);
    let mut trial = Trial::with(server, home);
    trial.publish(5);
    trial.finish();
}
