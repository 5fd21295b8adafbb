//! More messages than the service can take.

use std::time::Duration;

use pubsub_test_server::{Flood, Server};
use rusqlite::Connection;

use super::{LIMIT, Trial, event, home};
use crate::support::emulator::wait_until;

/// Most memory in a flood. A debug build at rest takes 30 MiB or so; 300 messages outstanding are a
/// fraction of one; a queue without a bound takes hundreds within seconds.
const MEMORY_LIMIT_MIB: u64 = 160;
/// How long a flood is watched.
const WATCHED: Duration = Duration::from_secs(10);

/// Floods the service, watches its memory, and lets it drain.
fn flooded(server: Server, make: impl Fn(u64) -> Vec<u8> + Send + 'static) {
    let mut home = home(&format!("127.0.0.1:{}", server.port()));
    let limit = (
        "HEARTHD_PUBSUB__MAX_OUTSTANDING_MESSAGES".to_owned(),
        "300".to_owned(),
    );
    home.environment.extend([limit]);
    let trial = Trial::with(server, home);
    trial.server.flood(Flood::new(make));
    let mut peak = 0;
    // It ends early only where memory is out of bounds.
    let grew = wait_until(WATCHED, || {
        peak = peak.max(trial.service.memory_mib());
        peak > MEMORY_LIMIT_MIB
    });
    assert!(!grew, "{peak} MiB");
    trial.server.stop_flood();
    let outstanding = trial
        .service
        .series("hearthd_pubsub_outstanding_messages{source=\"pubsub\"}");
    assert!(outstanding <= 301, "{outstanding} messages outstanding");
    let acked = trial.server.acked_count();
    assert!(acked > 1_000, "only {acked} were acked");
    let drained = wait_until(LIMIT, || trial.server.unacked().is_empty());
    assert!(drained, "{} are not acked", trial.server.unacked().len());
    trial.wait_for("hearthd_reorder_pending_events", |pending| pending == 0);
    assert_eq!(trial.service.series("hearthd_conservation_imbalance"), 0);
    let received = trial
        .service
        .series("hearthd_messages_received_total{platform=\"sdm\",source=\"pubsub\"}");
    let emitted = trial
        .service
        .series("hearthd_events_emitted_total{platform=\"sdm\"}");
    let duplicates = trial
        .service
        .series("hearthd_messages_duplicate_total{platform=\"sdm\"}");
    assert_eq!(received, emitted + duplicates);
    trial.service.stop();
}

fn body(number: u64) -> Vec<u8> {
    event(usize::try_from(number).unwrap())
        .to_string()
        .into_bytes()
}

#[test]
fn a_flood_beyond_what_it_can_take_stays_within_bounds() {
    // The server makes as many as flow control lets out: many times what a debug build commits.
    flooded(Server::start(), body);
}

#[test]
fn a_server_that_ignores_flow_control_is_held_back() {
    let server = Server::start();
    server.script(|faults| faults.ignore_flow_control = true);
    flooded(server, body);
}

#[test]
fn large_messages_are_bounded_by_their_bytes() {
    let server = Server::start();
    server.script(|faults| faults.ignore_flow_control = true);
    let mut home = home(&format!("127.0.0.1:{}", server.port()));
    let limit = (
        "HEARTHD_PUBSUB__MAX_OUTSTANDING_BYTES".to_owned(),
        "1 MiB".to_owned(),
    );
    home.environment.extend([limit]);
    let mut trial = Trial::with(server, home);
    // While another program holds the store, nothing is settled, and what came is still there.
    let store = Connection::open(trial.home.store()).unwrap();
    store.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Quarantined for its size. Together they are more than the memory that is allowed.
    let large = vec![b'x'; 3 << 20];
    trial.server.publish(vec![large; 60]);
    let errors = "hearthd_store_errors_total{op=\"commit\"}";
    trial.wait_for(errors, |errors| errors >= 2);
    assert_eq!(
        trial
            .service
            .series("hearthd_pubsub_outstanding_messages{source=\"pubsub\"}"),
        1
    );
    let memory = trial.service.memory_mib();
    assert!(memory < MEMORY_LIMIT_MIB, "{memory} MiB");
    store.execute_batch("ROLLBACK").unwrap();
    let quarantined = "hearthd_messages_quarantined_total{platform=\"sdm\",reason=\"too_large\"}";
    trial.wait_for(quarantined, |count| count == 1);
    trial.publish(1);
    trial.finish();
}
