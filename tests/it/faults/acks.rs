//! Acks that get lost or refused, and messages that come again.

use pubsub_test_server::{Answer, Code, Rule, Server, Status};

use super::Trial;

const LOST: &str = "hearthd_pubsub_acks_total{result=\"lost\",source=\"pubsub\"}";
const DUPLICATES: &str = "hearthd_messages_duplicate_total{platform=\"sdm\"}";

/// Messages come again, as their acks had no effect, and the service notices.
fn acks_have_no_effect(answer: Answer) {
    let server = Server::start();
    server.script(|faults| faults.acknowledge = Rule::always(answer));
    let mut trial = Trial::start(server);
    let ids = trial.publish(20);
    trial.wait_for_server("acks were sent", |server| {
        server.log().acknowledge.ids >= 20
    });
    assert_eq!(trial.server.unacked().len(), ids.len());
    // As after the end of their leases.
    trial.server.redeliver_all();
    trial.wait_for(LOST, |lost| lost >= 20);
    trial.wait_for(DUPLICATES, |duplicates| duplicates >= 20);
    // Messages flow all the same.
    trial.publish(5);
    let emitted = "hearthd_events_emitted_total{platform=\"sdm\"}";
    trial.wait_for(emitted, |emitted| emitted == 25);
    trial
        .server
        .script(|faults| faults.acknowledge = Rule::off());
    trial.server.redeliver_all();
    trial.drain();
    trial.finish();
}

#[test]
fn lost_acks() {
    acks_have_no_effect(Answer::Lost);
}

#[test]
fn acks_without_permission_while_messages_flow() {
    let denied = Status::new(Code::PermissionDenied, "as scripted");
    acks_have_no_effect(Answer::Status(denied));
}

#[test]
fn acks_while_unavailable() {
    acks_have_no_effect(Answer::Status(Status::new(
        Code::Unavailable,
        "as scripted",
    )));
}

#[test]
fn acks_that_are_never_answered() {
    let server = Server::start();
    server.script(|faults| faults.acknowledge = Rule::always(Answer::Hang));
    let mut trial = Trial::start(server);
    trial.publish(20);
    trial.drain();
    // Messages flow, and the end comes within its limit all the same.
    trial.finish();
}

#[test]
fn everything_is_redelivered() {
    let mut trial = Trial::start(Server::start());
    trial.publish(200);
    trial.drain();
    trial.server.redeliver_all();
    trial.wait_for(DUPLICATES, |duplicates| duplicates == 200);
    trial.drain();
    trial.server.reorder(Some(7));
    trial.server.redeliver_all();
    trial.wait_for(DUPLICATES, |duplicates| duplicates == 400);
    trial.finish();
}

#[test]
fn everything_is_published_again_under_new_ids() {
    let mut trial = Trial::start(Server::start());
    let bodies = trial.bodies(100);
    trial.server.publish(bodies.clone());
    trial.server.publish(bodies);
    trial.drain();
    trial.wait_for(DUPLICATES, |duplicates| duplicates == 100);
    trial.finish();
}
