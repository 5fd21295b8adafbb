//! How streams open, end and are limited.

use std::time::Duration;

use bytes::Bytes;
use google_cloud_gax::error::rpc;
use google_cloud_pubsub::subscriber::MessageStream;
use http_body_util::Full;
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pubsub_test_server::{Code, End, Outcome, Rule, Server, Status};
use tokio::net::TcpStream;

use crate::support::{SUBSCRIPTION, anyone, message, next, stream, subscriber, wait_until};

/// The code of the error that a stream ended with.
async fn code_of_end(stream: &mut MessageStream) -> rpc::Code {
    let error = next(stream)
        .await
        .expect("an error comes first")
        .expect_err("no message");
    error.status().expect("the error has a status").code
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_can_be_refused() {
    let server = Server::start();
    let refusal = Status::permission_denied("not you");
    server.script(|faults| faults.open = Rule::times(1, End::Status(refusal)));
    let mut refused = stream(&server.url()).await;
    assert_eq!(code_of_end(&mut refused).await, rpc::Code::PermissionDenied);

    server.publish(["one"]);
    message(&mut stream(&server.url()).await).await;
    let outcomes: Vec<_> = server
        .log()
        .streams
        .iter()
        .map(|stream| stream.outcome)
        .collect();
    assert_eq!(outcomes[0], Outcome::Ended(Code::PermissionDenied));
    assert_eq!(outcomes.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_named_subscription_exists() {
    let server = Server::start();
    server.script(|faults| faults.subscription_name = Some("projects/a/subscriptions/b".into()));
    assert_eq!(
        code_of_end(&mut stream(&server.url()).await).await,
        rpc::Code::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_in_mid_stream_frees_what_the_stream_holds() {
    let server = Server::start();
    let ids = server.publish(["one"]);
    let mut first = stream(&server.url()).await;
    let (_, _held) = message(&mut first).await;

    server.end_streams(&End::Status(Status::not_found("deleted")));
    assert_eq!(code_of_end(&mut first).await, rpc::Code::NotFound);
    let (again, _held) = message(&mut stream(&server.url()).await).await;
    assert_eq!(again.message_id, ids[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_can_end_with_ok() {
    let server = Server::start();
    server.publish(["one"]);
    let mut stream = stream(&server.url()).await;
    message(&mut stream).await;

    server.end_streams(&End::Close);
    assert!(next(&mut stream).await.is_none());
    assert_eq!(server.log().streams[0].outcome, Outcome::Ended(Code::Ok));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_connection_makes_the_client_open_again() {
    let server = Server::start();
    let ids = server.publish(["one"]);
    let mut stream = stream(&server.url()).await;
    message(&mut stream).await;

    server.end_streams(&End::Reset);
    assert_eq!(message(&mut stream).await.0.message_id, ids[0]);
    assert_eq!(server.log().streams[0].outcome, Outcome::Reset);
    assert!(server.open_count() >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_gives_its_messages_back() {
    let server = Server::start();
    let ids = server.publish(["one"]);
    let mut leaving = stream(&server.url()).await;
    let (_, _held) = message(&mut leaving).await;
    drop(leaving);
    let (again, _held) = message(&mut stream(&server.url()).await).await;
    assert_eq!(again.message_id, ids[0]);
    assert_eq!(server.log().streams[0].outcome, Outcome::Left);
}

#[tokio::test(flavor = "multi_thread")]
async fn flow_control_is_kept_to() {
    let server = Server::start();
    server.publish(vec!["0123456789"; 20]);
    let subscriber = subscriber(&server.url(), anyone()).await;
    let limited = subscriber
        .subscribe(SUBSCRIPTION)
        .set_max_outstanding_messages(3);
    let mut stream = limited.set_max_outstanding_bytes(1000).build();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(message(&mut stream).await);
    }
    let log = server.log();
    assert_eq!((log.delivered, log.streams[0].peak_messages), (3, 3));
    let settings = log.streams[0].settings.clone().unwrap();
    assert_eq!(
        (
            settings.max_outstanding_messages,
            settings.max_outstanding_bytes
        ),
        (3, 1000)
    );
    assert_eq!(settings.subscription, SUBSCRIPTION);

    held.pop().unwrap().1.ack();
    message(&mut stream).await;
    server.script(|faults| faults.ignore_flow_control = true);
    wait_until("everything is sent", || server.log().deliveries.len() == 20).await;
    wait_until("the peak", || server.log().streams[0].peak_messages > 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_limited_too() {
    let server = Server::start();
    server.publish(vec!["0123456789"; 20]);
    let subscriber = subscriber(&server.url(), anyone()).await;
    let mut stream = subscriber
        .subscribe(SUBSCRIPTION)
        .set_max_outstanding_bytes(25)
        .build();
    message(&mut stream).await;
    message(&mut stream).await;
    assert_eq!(server.log().streams[0].peak_bytes, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_delivers_when_it_speaks_again() {
    let server = Server::start();
    server.script(|faults| faults.silent = true);
    server.publish(["one"]);
    let mut stream = stream(&server.url()).await;
    let receiving = tokio::spawn(async move { message(&mut stream).await.0.message_id });
    wait_until("the stream is open", || server.open_count() == 1).await;
    assert_eq!(server.log().delivered, 0);
    server.script(|faults| faults.silent = false);
    tokio::time::timeout(Duration::from_secs(20), receiving)
        .await
        .unwrap()
        .unwrap();
}

/// Google's client hides when the headers come, so this opens a stream by hand.
#[tokio::test(flavor = "multi_thread")]
async fn headers_come_with_the_first_message_or_at_once() {
    let server = Server::start();
    let socket = TcpStream::connect(("127.0.0.1", server.port()))
        .await
        .unwrap();
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let open = || {
        let empty_message = Full::new(Bytes::from_static(&[0; 5]));
        let uri = format!("{}/google.pubsub.v1.Subscriber/StreamingPull", server.url());
        let request = Request::post(uri).header("content-type", "application/grpc");
        client
            .clone()
            .send_request(request.body(empty_message).unwrap())
    };

    let mut headers = Box::pin(open());
    let early = tokio::time::timeout(Duration::from_millis(100), &mut headers).await;
    assert!(early.is_err());
    server.publish(["one"]);
    headers.await.unwrap();
    server.script(|faults| faults.early_headers = true);
    open().await.unwrap();
    connection.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_take_turns() {
    let server = Server::start();
    let (mut one, mut two) = (stream(&server.url()).await, stream(&server.url()).await);
    server.script(|faults| faults.early_headers = true);
    let receive = async |stream: &mut MessageStream| (message(stream).await, message(stream).await);
    let publish = async {
        wait_until("both streams are open", || server.open_count() == 2).await;
        server.publish(["a", "b", "c", "d"]);
    };
    tokio::join!(receive(&mut one), receive(&mut two), publish);
    let delivered: Vec<_> = server
        .log()
        .streams
        .iter()
        .map(|stream| stream.delivered)
        .collect();
    assert_eq!(delivered, [2, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxys_status_is_answered_to_everything() {
    let server = Server::start();
    server.script(|faults| faults.http = Rule::always(403));
    assert_eq!(
        code_of_end(&mut stream(&server.url()).await).await,
        rpc::Code::PermissionDenied
    );
    assert_eq!(server.log().streams[0].outcome, Outcome::Http(403));
}

#[test]
fn a_port_is_free_again_when_its_server_is_dropped() {
    let first = Server::start();
    let port = first.port();
    assert!(Server::start_on(port).is_err());
    drop(first);
    assert_eq!(Server::start_on(port).unwrap().port(), port);
}
