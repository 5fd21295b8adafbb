//! What depends on time and turns; the rest is shown with a real client.

use super::requests::NACK_PAUSE;
use super::*;
use crate::faults::Answer;

/// The ack deadline of the streams below.
const DEADLINE: Duration = Duration::from_secs(10);
const START: Duration = Duration::ZERO;

fn subscription(messages: u8) -> Subscription {
    let mut subscription = Subscription::new(SystemTime::UNIX_EPOCH);
    for body in 0..messages {
        subscription.publish(
            PubsubMessage {
                data: vec![body].into(),
                ..Default::default()
            },
            START,
        );
    }
    subscription
}

fn open(subscription: &mut Subscription, max_outstanding_messages: i64) -> u64 {
    let settings = StreamSettings {
        subscription: String::new(),
        client_id: String::new(),
        stream_ack_deadline_seconds: 10,
        max_outstanding_messages,
        max_outstanding_bytes: 0,
    };
    subscription.open_stream(settings, Arc::new(Notify::new()), START)
}

/// Bodies and ack ids of what the stream is given now.
fn receive(subscription: &mut Subscription, stream: u64, now: Duration) -> Vec<(u8, String)> {
    subscription.tick(now);
    let Next::Send(response) = subscription.next(stream, now) else {
        return Vec::new();
    };
    let received = response.received_messages.into_iter();
    received
        .map(|received| (received.message.unwrap().data[0], received.ack_id))
        .collect()
}

fn bodies(subscription: &mut Subscription, stream: u64, now: Duration) -> Vec<u8> {
    receive(subscription, stream, now)
        .into_iter()
        .map(|(body, _)| body)
        .collect()
}

fn ack_ids(received: &[(u8, String)]) -> Vec<String> {
    received.iter().map(|(_, ack_id)| ack_id.clone()).collect()
}

#[test]
fn a_lease_that_expires_brings_the_message_back_and_makes_room() {
    let mut subscription = subscription(2);
    let stream = open(&mut subscription, 1);
    let just_before = DEADLINE - Duration::from_nanos(1);
    assert_eq!(bodies(&mut subscription, stream, START), [0]);
    assert_eq!(bodies(&mut subscription, stream, just_before), [0; 0]);
    assert_eq!(bodies(&mut subscription, stream, DEADLINE), [0]);
    let log = subscription.log();
    assert_eq!(log.deliveries.into_values().collect::<Vec<_>>(), [2, 0]);
    assert_eq!(log.streams[0].peak_messages, 1);
}

#[test]
fn an_extended_lease_lasts_from_its_extension() {
    let mut subscription = subscription(1);
    let stream = open(&mut subscription, 0);
    let received = ack_ids(&receive(&mut subscription, stream, START));
    let now = Duration::from_secs(9);
    subscription.modify_ack_deadline(&received, DEADLINE, None, now);
    assert_eq!(bodies(&mut subscription, stream, DEADLINE), [0; 0]);
    assert_eq!(bodies(&mut subscription, stream, now + DEADLINE), [0]);

    // The ack id of the first delivery no longer extends anything, but it still acks.
    subscription.modify_ack_deadline(&received, DEADLINE * 9, None, now + DEADLINE);
    assert_eq!(bodies(&mut subscription, stream, now + DEADLINE * 2), [0]);
    subscription.acknowledge(&received, None);
    assert_eq!(subscription.ids(true).len(), 1);
    assert_eq!(bodies(&mut subscription, stream, DEADLINE * 9), [0; 0]);
}

#[test]
fn a_nacked_message_pauses() {
    let mut subscription = subscription(1);
    let stream = open(&mut subscription, 0);
    let received = ack_ids(&receive(&mut subscription, stream, START));
    subscription.modify_ack_deadline(&received, Duration::ZERO, None, START);
    assert_eq!(bodies(&mut subscription, stream, NACK_PAUSE / 2), [0; 0]);
    assert_eq!(bodies(&mut subscription, stream, NACK_PAUSE), [0]);
}

#[test]
fn forgotten_requests_change_nothing() {
    let mut subscription = subscription(1);
    let stream = open(&mut subscription, 0);
    let received = ack_ids(&receive(&mut subscription, stream, START));
    for fault in [Answer::Lost, Answer::Status(tonic::Status::internal(""))] {
        subscription.acknowledge(&received, Some(&fault));
        subscription.modify_ack_deadline(&received, DEADLINE * 2, Some(&fault), START);
    }
    assert_eq!(subscription.ids(true).len(), 0);
    assert_eq!(bodies(&mut subscription, stream, DEADLINE), [0]);
    let log = subscription.log();
    for requests in [log.acknowledge, log.modify_ack_deadline] {
        assert_eq!((requests.count, requests.ids), (2, 2));
        assert_eq!(
            (
                requests.lost.len(),
                requests.refused.len(),
                requests.applied.len()
            ),
            (1, 1, 0)
        );
    }
}

#[test]
fn what_a_closed_stream_held_goes_to_the_next_one_at_once_or_at_its_deadline() {
    for (hold_leases, early) in [(false, vec![0, 1]), (true, vec![])] {
        let mut subscription = subscription(2);
        subscription.faults.hold_leases = hold_leases;
        let first = open(&mut subscription, 0);
        assert_eq!(bodies(&mut subscription, first, START), [0, 1]);
        subscription.close_stream(first);
        assert_eq!(subscription.log.streams[0].outcome, Outcome::Left);

        let second = open(&mut subscription, 0);
        assert_eq!(bodies(&mut subscription, second, START), early);
        assert_eq!(bodies(&mut subscription, second, DEADLINE), [0, 1]);
    }
}

#[test]
fn streams_with_room_take_turns() {
    let mut subscription = subscription(7);
    let streams = [0, 0, 1].map(|limit| open(&mut subscription, limit));
    let bodies = streams.map(|stream| bodies(&mut subscription, stream, START));
    assert_eq!(bodies, [vec![0, 3, 5], vec![1, 4, 6], vec![2]]);
}

#[test]
fn an_ended_stream_gets_nothing_more() {
    let mut subscription = subscription(1);
    let stream = open(&mut subscription, 0);
    subscription.assign(START);
    subscription.end_streams(&End::Close);
    assert!(matches!(
        subscription.next(stream, START),
        Next::End(End::Close)
    ));
    assert_eq!(subscription.log.delivered, 0);
    assert_eq!(subscription.available.len(), 1);
}

#[test]
fn a_flood_makes_what_there_is_room_for_and_forgets_what_is_acked() {
    let mut subscription = subscription(0);
    subscription.set_flood(Some(Flood::new(|number| {
        number.to_be_bytes()[7..].to_vec()
    })));
    let stream = open(&mut subscription, 3);
    let received = receive(&mut subscription, stream, START);
    assert_eq!(
        received.iter().map(|(body, _)| *body).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    subscription.acknowledge(&ack_ids(&received), None);
    assert_eq!(subscription.log.acked, 3);
    assert!(subscription.messages.len() <= 1 && subscription.timers.is_empty());
    assert_eq!(bodies(&mut subscription, stream, START), [3, 4, 5]);
}

#[test]
fn a_flood_keeps_to_its_count() {
    let mut subscription = subscription(0);
    subscription.set_flood(Some(Flood::new(|_| vec![7]).count(15)));
    let stream = open(&mut subscription, 10);
    let received = receive(&mut subscription, stream, START);
    assert_eq!(received.len(), 10);
    subscription.acknowledge(&ack_ids(&received), None);
    assert_eq!(bodies(&mut subscription, stream, START).len(), 5);
}

#[test]
fn a_client_that_reads_nothing_makes_little_pile_up() {
    let mut subscription = subscription(0);
    subscription.faults.ignore_flow_control = true;
    subscription.set_flood(Some(Flood::new(|_| vec![7])));
    open(&mut subscription, 1);
    subscription.tick(START);
    assert!(subscription.messages.len() <= 1001);
}
