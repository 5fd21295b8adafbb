//! However the real binary is ended, it does end, whatever still waits for it.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use pubsub_test_server::Server;

use crate::support::daemon::Home;

const SUBSCRIPTION: &str = "projects/test/subscriptions/hearthd";

/// For the service to start, on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Records that fill any pipe: one holds 64 KiB by default, and 1 MiB at most.
const MANY: usize = 3_000;

#[test]
fn a_reader_that_reads_nothing_does_not_keep_it_from_stopping() {
    let server = Server::start();
    server.publish((0..MANY).map(|number| {
        let name = format!("enterprises/p/devices/{number}");
        format!(
            r#"{{"eventId":"e","timestamp":"2025-06-09T13:52:05Z","resourceUpdate":{{"name":"{name}"}}}}"#
        )
    }));
    let home = Home::new(&format!("127.0.0.1:{}", server.port()), SUBSCRIPTION);
    let service = home.spawn_with("run", Stdio::piped());
    let backlog = "hearthd_sink_backlog_records{sink=\"out\"}";
    service.wait_for(LIMIT, |service| {
        let is_up = service.get("/readyz").is_some() && server.unacked().is_empty();
        is_up && service.has_settled() && service.series(backlog) > 0
    });
    service.stop();
}

#[test]
fn half_a_request_does_not_keep_it_from_stopping() {
    let home = Home::without_server();
    let service = home.start("run");
    let mut slow = TcpStream::connect(service.http_address()).unwrap();
    slow.write_all(b"G").unwrap();
    // It has been accepted when one that came after it is answered.
    assert!(service.get("/readyz").is_some());
    service.stop();
}
