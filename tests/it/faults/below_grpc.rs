//! Endpoints that accept connections and break below gRPC.

use pubsub_test_server::{Rule, Server};

use super::Trial;

/// Answers every request with an HTTP status and no gRPC status, as proxies do.
fn bare_http_status(status: u16, reason: &str) {
    let server = Server::start();
    server.script(|faults| faults.http = Rule::always(status));
    let mut trial = Trial::start(server);
    trial.publish(5);
    let opens = format!("hearthd_pubsub_stream_opens_total{{reason=\"{reason}\"}}");
    trial.wait_for(&opens, |opens| opens >= 2);
    assert_eq!(trial.service.series("hearthd_pubsub_stream_up"), 0);
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
