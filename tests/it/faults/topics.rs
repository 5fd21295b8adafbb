//! Topics that Google hosts, and the move to another subscription.

use pubsub_test_server::{Admin, Rule, Server};
use serde_json::json;

use super::{LIMIT, SUBSCRIPTION, Trial, event_ids};
use crate::support::emulator::wait_until;

const HOSTED: &str = "hearthd_pubsub_topic_hosted{source=\"pubsub\"}";

#[test]
fn a_hosted_topic_is_warned_of_until_the_subscription_has_another() {
    let server = Server::start();
    server.script(|faults| {
        faults.subscription["topic"] = json!("projects/sdm-prod/topics/enterprise-1");
    });
    let trial = Trial::start(server);
    trial.wait_for(HOSTED, |hosted| hosted == 1);
    // Several looks, and one warning a day.
    let requests = trial.server.log().admin_requests;
    trial.wait_for_server("it is asked again", |server| {
        server.log().admin_requests >= requests + 3
    });
    let log = trial.service.log();
    let warnings: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("Google publishes nothing to this topic"))
        .collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("gcloud pubsub topics create"), "{log}");
    trial.server.script(|faults| {
        faults.subscription["topic"] = json!("projects/test/topics/home");
    });
    trial.wait_for(HOSTED, |hosted| hosted == 0);
    trial.finish();
}

#[test]
fn a_hosted_topic_is_seen_though_messages_never_stop() {
    let server = Server::start();
    server.script(|faults| {
        faults.subscription["topic"] = json!("projects/sdm-prod/topics/enterprise-1");
        faults.admin = Rule::times(1, Admin::Status(503));
    });
    let mut trial = Trial::start(server);
    let seen = wait_until(LIMIT, || {
        // More often than a stream has to be silent to be asked about.
        trial.publish(1);
        trial.service.series(HOSTED) == 1
    });
    assert!(seen, "{}", trial.service.log());
    trial.drain();
    trial.finish();
}

/// As README says: the new subscription keeps what is published from its creation on, so both have
/// some messages, and whatever the old one has alone is drained before the setting is changed.
#[test]
fn the_move_to_a_new_subscription_loses_nothing() {
    let new_name = "projects/test/subscriptions/new";
    let old = Server::start();
    let new = Server::start();
    old.script(|faults| faults.subscription_name = Some(SUBSCRIPTION.to_owned()));
    new.script(|faults| faults.subscription_name = Some(new_name.to_owned()));
    let mut trial = Trial::start(old);
    trial.publish(20);
    // The new subscription is made: from now on the topic's messages go to both.
    let to_both = trial.bodies(20);
    trial.server.publish(to_both.clone());
    new.publish(to_both);
    trial.drain();
    let while_down = trial.bodies(20);
    let Trial {
        server: old,
        service,
        mut home,
        expected,
    } = trial;
    service.stop();
    old.publish(while_down.clone());
    new.publish(while_down);

    let host = format!("127.0.0.1:{}", new.port());
    let setting = "HEARTHD_PUBSUB__SUBSCRIPTION".to_owned();
    home.environment
        .insert("PUBSUB_EMULATOR_HOST".to_owned(), host);
    home.environment.insert(setting, new_name.to_owned());
    let service = home.start("moved");
    let emitted = "hearthd_events_emitted_total{platform=\"sdm\"}";
    let is_done = || new.unacked().is_empty() && service.series(emitted) == 20;
    assert!(wait_until(LIMIT, is_done), "{}", service.log());
    // What both had is known, and has no second effect.
    let duplicates = "hearthd_messages_duplicate_total{platform=\"sdm\"}";
    assert_eq!(service.series(duplicates), 20);
    assert_eq!(service.series("hearthd_conservation_imbalance"), 0);
    service.stop();
    assert_eq!(event_ids(&home, &["run"]).len(), 40);
    assert_eq!(event_ids(&home, &["run", "moved"]), expected);
}
