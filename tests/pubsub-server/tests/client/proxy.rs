//! Faults below HTTP.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use pubsub_test_server::{Mode, Proxy, Server};

use crate::support::{message, stream, wait_until};

/// What a client that sends `hello` hears until the end.
fn answer(proxy: &Proxy) -> Result<Vec<u8>, ErrorKind> {
    let talk = || {
        let mut socket = TcpStream::connect(("127.0.0.1", proxy.port()))?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        socket.write_all(b"hello")?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer)?;
        Ok(answer)
    };
    talk().map_err(|error: std::io::Error| error.kind())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_connection_goes_on_where_it_stopped() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    server.publish(["one"]);
    let mut stream = stream(&proxy.url()).await;
    message(&mut stream).await.1.ack();
    wait_until("the ack", || server.unacked().is_empty()).await;

    for mode in [Mode::Freeze, Mode::FreezeAnswers] {
        proxy.set(mode);
        let ids = server.publish(["two"]);
        wait_until("it is sent", || server.log().deliveries[&ids[0]] == 1).await;
        let early = tokio::time::timeout(Duration::from_millis(100), stream.next()).await;
        assert!(early.is_err(), "{mode:?} let a message through");
        proxy.set(Mode::Forward);
        assert_eq!(message(&mut stream).await.0.message_id, ids[0]);
    }
    assert_eq!((proxy.accepted(), server.open_count()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_refused_gets_in_later() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let ids = server.publish(["one"]);
    let mut stream = stream(&proxy.url()).await;
    message(&mut stream).await;
    let port = proxy.port();

    proxy.set(Mode::Refuse);
    assert_eq!(answer(&proxy), Err(ErrorKind::ConnectionRefused));
    proxy.set(Mode::Forward);
    assert_eq!(proxy.port(), port);
    assert_eq!(message(&mut stream).await.0.message_id, ids[0]);
}

#[test]
fn each_mode_ends_a_connection_in_its_way() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    // What a client sent and nobody read would make every end a reset, so this one says nothing.
    let end = || {
        let mut socket = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        socket.read(&mut [0]).map_err(|error| error.kind())
    };
    proxy.set(Mode::Reset);
    assert_eq!(end(), Err(ErrorKind::ConnectionReset));
    proxy.set(Mode::Close);
    assert_eq!(end(), Ok(0));
    proxy.set(Mode::Http1);
    assert!(answer(&proxy).unwrap().starts_with(b"HTTP/1.1 400 "));
    assert_eq!(proxy.accepted(), 3);
}

#[test]
fn a_proxy_without_a_server_resets() {
    let port = Server::start().port();
    let proxy = Proxy::start(port);
    assert_eq!(answer(&proxy), Err(ErrorKind::ConnectionReset));
}
