//! Messages, acks and nacks.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use google_cloud_pubsub::subscriber::MessageStream;
use pubsub_test_server::{Answer, Flood, Message, Rule, Server, Status};

use crate::support::{message, stream, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_lives_until_it_is_acked() {
    let server = Server::start();
    let ids = server.publish(["one", "two"]);
    let mut stream = stream(&server.url()).await;

    let (first, ack) = message(&mut stream).await;
    assert_eq!(
        (first.message_id.as_str(), &first.data[..]),
        (ids[0].as_str(), &b"one"[..])
    );
    ack.ack();
    let (second, _held) = message(&mut stream).await;
    assert_eq!(second.message_id, ids[1]);

    wait_until("the ack", || server.acked().contains(&ids[0])).await;
    assert_eq!(server.unacked(), [ids[1].clone()].into());
    let log = server.log();
    assert_eq!((log.acknowledge.count, log.acked), (1, 1));
    assert_eq!(log.acknowledge.applied, [ids[0].clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nacked_message_comes_again() {
    let server = Server::start();
    let ids = server.publish(["one"]);
    let mut stream = stream(&server.url()).await;

    let (_, handler) = message(&mut stream).await;
    handler.nack();
    let (again, handler) = message(&mut stream).await;
    assert_eq!(again.message_id, ids[0]);
    handler.ack();

    wait_until("the ack", || server.unacked().is_empty()).await;
    let log = server.log();
    assert_eq!(log.nacked, ids);
    assert_eq!(log.deliveries[&ids[0]], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_ack_is_answered_but_the_message_stays() {
    let server = Server::start();
    server.script(|faults| faults.acknowledge = Rule::times(1, Answer::Lost));
    let ids = server.publish(["one"]);
    let mut stream = stream(&server.url()).await;

    message(&mut stream).await.1.ack();
    wait_until("the ack", || server.log().acknowledge.count == 1).await;
    assert_eq!(server.log().acknowledge.lost, ids);
    assert_eq!(server.unacked().len(), 1);

    server.redeliver_all();
    message(&mut stream).await.1.ack();
    wait_until("the second ack", || server.unacked().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_ack_is_refused() {
    let server = Server::start();
    let status = Status::unavailable("no acks today");
    server.script(|faults| faults.acknowledge = Rule::always(Answer::Status(status)));
    let ids = server.publish(["one"]);
    let mut stream = stream(&server.url()).await;

    message(&mut stream).await.1.ack();
    wait_until("the ack", || server.log().acknowledge.refused == ids).await;
    assert!(server.acked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_that_hangs_takes_effect() {
    let server = Server::start();
    server.script(|faults| faults.acknowledge = Rule::always(Answer::Hang));
    server.publish(["one"]);
    let mut stream = stream(&server.url()).await;
    message(&mut stream).await.1.ack();
    wait_until("the ack", || server.unacked().is_empty()).await;

    // The client waits for the answer before it is done.
    let shutdown = stream.shutdown_token();
    let early = tokio::time::timeout(Duration::from_millis(200), shutdown.shutdown()).await;
    assert!(early.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acked_message_can_be_delivered_again() {
    let server = Server::start();
    let ids = server.publish(["one"]);
    let mut stream = stream(&server.url()).await;
    message(&mut stream).await.1.ack();
    wait_until("the ack", || server.unacked().is_empty()).await;

    server.redeliver_all();
    assert_eq!(message(&mut stream).await.0.message_id, ids[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_keep_what_was_chosen_for_them() {
    let server = Server::start();
    let publish_time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let chosen = Message {
        body: b"one".to_vec(),
        id: Some("7".to_owned()),
        publish_time: Some(publish_time),
        ordering_key: "door".to_owned(),
    };
    assert_eq!(server.publish_message(chosen), "7");

    let (received, _handler) = message(&mut stream(&server.url()).await).await;
    assert_eq!(
        (received.message_id.as_str(), received.ordering_key.as_str()),
        ("7", "door")
    );
    assert_eq!(received.publish_time.unwrap().seconds(), 1_700_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn order_is_kept_or_shuffled() {
    let server = Server::start();
    let bodies: Vec<String> = (0..50).map(|n| n.to_string()).collect();

    let in_order = server.publish(&bodies);
    let mut stream = stream(&server.url()).await;
    assert_eq!(ack_all(&mut stream, 50).await, in_order);

    server.reorder(Some(1));
    let shuffled = server.publish(&bodies);
    let received = ack_all(&mut stream, 50).await;
    assert_ne!(received, shuffled);
    assert_eq!(BTreeSet::from_iter(received), BTreeSet::from_iter(shuffled));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_counted_and_forgotten() {
    let server = Server::start();
    let mut stream = stream(&server.url()).await;
    server.flood(Flood::new(|number| number.to_string().into_bytes()).count(3000));

    ack_all(&mut stream, 3000).await;
    wait_until("the acks", || server.acked_count() == 3000).await;
    assert!(server.unacked().is_empty() && server.acked().is_empty());
    assert!(server.log().deliveries.is_empty());
}

/// Acks so many messages, and returns their ids.
async fn ack_all(stream: &mut MessageStream, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let (message, handler) = message(stream).await;
        ids.push(message.message_id);
        handler.ack();
    }
    ids
}
