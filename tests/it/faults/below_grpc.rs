//! Endpoints that accept connections and break below gRPC.

use std::time::Duration;

use pubsub_test_server::{Mode, Proxy, Rule, Server};
use rusqlite::Connection;

use super::{LIMIT, Trial, home};
use crate::support::emulator::wait_until;

/// How long the cost of a broken endpoint is watched.
const WATCHED: Duration = Duration::from_secs(10);
/// The most of a core that it may cost. An endpoint can be broken for days, on a board that has
/// other work to do.
const CPU_LIMIT: f64 = 0.02;
/// The same with the 64 attempts that may come at once, which a debug build takes 0.2 s for.
/// Without any pause it is half a core.
const CPU_LIMIT_WITH_BURST: f64 = 0.06;

/// A service that pulls through a proxy, and has pulled.
fn through_proxy() -> (Trial, Proxy) {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let mut home = home(&format!("127.0.0.1:{}", proxy.port()));
    // Long enough for the cost to be that of production; short enough to see it heal.
    for (name, value) in [("MIN", "1s"), ("MAX", "8s")] {
        home.environment.insert(
            format!("HEARTHD_PUBSUB__REOPEN_BACKOFF_{name}"),
            value.to_owned(),
        );
    }
    home.environment
        .insert("HEARTHD_PUBSUB__PROBE_INTERVAL".to_owned(), "5s".to_owned());
    let mut trial = Trial::with(server, home);
    trial.publish(5);
    trial.drain();
    (trial, proxy)
}

/// The share of a core that a broken endpoint costs from now on.
fn cost(trial: &Trial) -> f64 {
    let before = trial.service.cpu_seconds();
    wait_until(WATCHED, || false);
    (trial.service.cpu_seconds() - before) / WATCHED.as_secs_f64()
}

fn assert_heals(trial: Trial, proxy: &Proxy) {
    proxy.set(Mode::Forward);
    let drained = wait_until(LIMIT, || trial.server.unacked().is_empty());
    assert!(drained, "{}", trial.service.log());
    trial.finish();
}

/// Pulls through a proxy that breaks and heals.
fn broken(mode: Mode, reason: &str) {
    let (mut trial, proxy) = through_proxy();
    proxy.set(mode);
    trial.publish(5);
    let opens =
        format!("hearthd_pubsub_stream_opens_total{{reason=\"{reason}\",source=\"pubsub\"}}");
    trial.wait_for(&opens, |opens| opens >= 1);
    trial.wait_for("hearthd_pubsub_stream_up{source=\"pubsub\"}", |up| up == 0);
    trial.wait_for("hearthd_pubsub_reachable{source=\"pubsub\"}", |reachable| {
        reachable == 0
    });
    let share = cost(&trial);
    assert!(share < CPU_LIMIT, "{:.1} % of a core", share * 100.0);
    assert_heals(trial, &proxy);
}

#[test]
fn connections_are_closed_while_messages_are_outstanding() {
    let (mut trial, proxy) = through_proxy();
    // While another program holds the store, leases explain attempts: the stream isn't given up.
    let store = Connection::open(trial.home.store()).unwrap();
    store.execute_batch("BEGIN IMMEDIATE").unwrap();
    trial.publish(5);
    trial.wait_for("hearthd_store_errors_total{op=\"commit\"}", |errors| {
        errors >= 1
    });
    proxy.set(Mode::Close);
    let share = cost(&trial);
    assert!(
        share < CPU_LIMIT_WITH_BURST,
        "{:.1} % of a core",
        share * 100.0
    );
    store.execute_batch("ROLLBACK").unwrap();
    assert_heals(trial, &proxy);
}

#[test]
fn connections_are_refused() {
    broken(Mode::Refuse, "stalled");
}

#[test]
fn connections_are_reset() {
    broken(Mode::Reset, "stalled");
}

#[test]
fn connections_are_closed_at_once() {
    broken(Mode::Close, "stalled");
}

#[test]
fn the_endpoint_speaks_http_1() {
    broken(Mode::Http1, "stalled");
}

#[test]
fn the_server_freezes() {
    broken(Mode::Freeze, "unreachable");
}

#[test]
fn answers_are_lost_on_the_way() {
    broken(Mode::FreezeAnswers, "unreachable");
}

/// Answers every request with an HTTP status and no gRPC status, as proxies do.
fn bare_http_status(status: u16, reason: &str) {
    let server = Server::start();
    server.script(|faults| faults.http = Rule::always(status));
    let mut trial = Trial::start(server);
    trial.publish(5);
    let opens =
        format!("hearthd_pubsub_stream_opens_total{{reason=\"{reason}\",source=\"pubsub\"}}");
    trial.wait_for(&opens, |opens| opens >= 2);
    assert_eq!(
        trial
            .service
            .series("hearthd_pubsub_stream_up{source=\"pubsub\"}"),
        0
    );
    trial.server.script(|faults| faults.http = Rule::off());
    trial.finish();
}

#[test]
fn bad_gateway() {
    bare_http_status(502, "stalled");
}

#[test]
fn service_unavailable() {
    bare_http_status(503, "stalled");
}

#[test]
fn forbidden() {
    bare_http_status(403, "permission_denied");
}

#[test]
fn not_found() {
    bare_http_status(404, "failed");
}
