//! A full disk under the running service.

use std::fs;

use pubsub_test_server::Server;
use rusqlite::Connection;

use super::{Trial, home};
use crate::support::disk::SmallDisk;

const ERRORS: &str = "hearthd_store_errors_total{op=\"commit\"}";

/// A service whose store is on that disk.
fn on(disk: &SmallDisk) -> Trial {
    let server = Server::start();
    let mut home = home(&format!("127.0.0.1:{}", server.port()));
    let store = disk.path("hearthd.db").display().to_string();
    home.environment
        .insert("HEARTHD_STORE__PATH".to_owned(), store);
    home.environment.insert(
        "HEARTHD_PUBSUB__MAX_OUTSTANDING_MESSAGES".to_owned(),
        "300".to_owned(),
    );
    Trial::with(server, home)
}

fn wait_for_ballast(trial: &Trial, disk: &SmallDisk) {
    let ballast = disk.path("hearthd.db.ballast");
    trial.wait_for_server("the ballast file is there", |_| {
        fs::metadata(&ballast).is_ok_and(|file| file.len() == 8 << 20)
    });
}

#[test]
fn a_full_disk_stops_pulling_and_nothing_else() {
    let Some(disk) = SmallDisk::new(96) else {
        return;
    };
    let mut trial = on(&disk);
    trial.publish(50);
    trial.drain();

    // Others take all the space; then there are more messages than the ballast file makes room for.
    disk.fill();
    trial.publish(4_000);
    trial.wait_for(ERRORS, |errors| errors >= 3);
    let acked = trial.server.acked_count();
    assert!(acked < 4_050, "the disk was not full");
    let outstanding = trial
        .service
        .series("hearthd_pubsub_outstanding_messages{source=\"pubsub\"}");
    assert!(outstanding <= 301, "{outstanding} messages outstanding");
    // Those at hand are kept, not nacked to come again at once.
    assert_eq!(trial.server.log().nacked, Vec::<String>::new());
    for path in ["/livez", "/readyz"] {
        assert!(trial.service.get(path).is_some(), "{path}");
    }
    // What comes again before it is stored is no duplicate.
    trial.server.redeliver_all();
    assert!(
        trial
            .service
            .log()
            .contains("nothing is acked until the store works again")
    );
    let errors = trial.service.series(ERRORS);
    trial.wait_for(ERRORS, |now| now > errors);

    disk.free();
    trial.drain();
    // The 50 that were stored before, and those that came twice meanwhile, once stored.
    let duplicates = trial
        .service
        .series("hearthd_messages_duplicate_total{platform=\"sdm\"}");
    let received = trial
        .service
        .series("hearthd_messages_received_total{platform=\"sdm\",source=\"pubsub\"}");
    assert_eq!(received, 4_050 + duplicates);
    wait_for_ballast(&trial, &disk);
    // It comes back as well if somebody takes it away.
    fs::remove_file(disk.path("hearthd.db.ballast")).unwrap();
    wait_for_ballast(&trial, &disk);
    trial.finish();
}

#[test]
fn a_full_disk_is_mended_by_what_is_past_its_retention() {
    let Some(disk) = SmallDisk::new(96) else {
        return;
    };
    let mut trial = on(&disk);
    trial.publish(4_000);
    trial.drain();
    let backlog = "hearthd_sink_backlog_records{sink=\"out\"}";
    trial.wait_for(backlog, |records| records == 0);
    let store = Connection::open(disk.path("hearthd.db")).unwrap();
    store
        .execute("UPDATE journal SET at = at - 30 * 86400 * 1000000000", [])
        .unwrap();
    // The log takes no space that it could be written anew in.
    store
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    drop(store);

    // Nobody else makes room.
    disk.fill();
    trial.publish(1_000);
    trial.wait_for(ERRORS, |errors| errors >= 1);
    trial.drain();
    disk.free();
    wait_for_ballast(&trial, &disk);
    trial.finish();
}
