//! Streams that are silent, frozen or hold on to messages.

use pubsub_test_server::{Admin, End, Rule, Server};

use super::{Trial, home};

#[test]
fn a_silent_server_is_told_from_a_broken_one_and_warned_of() {
    let server = Server::start();
    server.script(|faults| faults.silent = true);
    let mut home = home(&format!("127.0.0.1:{}", server.port()));
    home.environment.insert(
        "HEARTHD_PUBSUB__SILENCE_WARNING".to_owned(),
        "6s".to_owned(),
    );
    let mut trial = Trial::with(server, home);
    trial.publish(5);
    // The server answers, so the stream counts as open, and what is missing is messages.
    trial.wait_for("hearthd_pubsub_stream_up{source=\"pubsub\"}", |up| up == 1);
    trial.wait_for("hearthd_pubsub_silent{source=\"pubsub\"}", |silent| {
        silent == 1
    });
    assert_eq!(
        trial
            .service
            .series("hearthd_pubsub_reachable{source=\"pubsub\"}"),
        1
    );
    assert!(
        trial.service.log().contains("roles/pubsub.publisher"),
        "{}",
        trial.service.log()
    );
    trial.server.script(|faults| faults.silent = false);
    trial.drain();
    trial.wait_for("hearthd_pubsub_silent{source=\"pubsub\"}", |silent| {
        silent == 0
    });
    trial.finish();
}

#[test]
fn an_idle_stream_is_opened_anew() {
    let server = Server::start();
    let mut home = home(&format!("127.0.0.1:{}", server.port()));
    home.environment
        .insert("HEARTHD_PUBSUB__IDLE_REOPEN".to_owned(), "1s".to_owned());
    let mut trial = Trial::with(server, home);
    trial.publish(5);
    trial.drain();
    let idle = "hearthd_pubsub_stream_opens_total{reason=\"idle\",source=\"pubsub\"}";
    trial.wait_for(idle, |opens| opens >= 2);
    trial.finish();
}

#[test]
fn a_server_that_answers_no_question_counts_as_unreachable() {
    let server = Server::start();
    server.script(|faults| {
        faults.silent = true;
        faults.admin = Rule::always(Admin::Status(503));
    });
    let mut trial = Trial::start(server);
    trial.publish(5);
    let opens = "hearthd_pubsub_stream_opens_total{reason=\"unreachable\",source=\"pubsub\"}";
    trial.wait_for(opens, |opens| opens >= 2);
    assert_eq!(
        trial
            .service
            .series("hearthd_pubsub_reachable{source=\"pubsub\"}"),
        0
    );
    assert_eq!(
        trial
            .service
            .series("hearthd_pubsub_stream_up{source=\"pubsub\"}"),
        0
    );
    trial.server.script(|faults| {
        faults.silent = false;
        faults.admin = Rule::off();
    });
    trial.finish();
}

#[test]
fn an_account_that_may_not_look_at_the_subscription_may_pull() {
    let server = Server::start();
    server.script(|faults| {
        faults.silent = true;
        faults.admin = Rule::always(Admin::Status(403));
    });
    let trial = Trial::start(server);
    trial.wait_for("hearthd_pubsub_stream_up{source=\"pubsub\"}", |up| up == 1);
    trial.server.script(|faults| faults.silent = false);
    trial.finish();
}

#[test]
fn several_streams_share_the_messages_and_survive_their_ends() {
    let server = Server::start();
    let mut home = home(&format!("127.0.0.1:{}", server.port()));
    home.environment
        .insert("HEARTHD_PUBSUB__STREAMS".to_owned(), "3".to_owned());
    let mut trial = Trial::with(server, home);
    trial.publish(300);
    trial.drain();
    trial.wait_for("hearthd_pubsub_stream_up{source=\"pubsub\"}", |up| up == 3);
    trial.server.end_streams(&End::Reset);
    trial.publish(300);
    trial.drain();
    trial.wait_for("hearthd_pubsub_stream_up{source=\"pubsub\"}", |up| up == 3);
    trial.server.end_streams(&End::Close);
    trial.publish(300);
    trial.drain();
    let opens = trial.server.log().streams;
    let shared = opens.iter().filter(|stream| stream.delivered > 0).count();
    assert!(shared > 3, "{shared} of {} streams delivered", opens.len());
    let limits = opens.iter().filter_map(|stream| stream.settings.as_ref());
    assert!(
        limits
            .clone()
            .all(|limit| limit.max_outstanding_messages == 334),
        "{opens:?}"
    );
    trial.wait_for("hearthd_pubsub_stream_up{source=\"pubsub\"}", |up| up == 3);
    trial.server.end_streams(&End::Reset);
    // One of the streams is enough to go on.
    trial.publish(1);
    trial.drain();
    trial.finish();
}
