//! Clients of metrics and health that never finish what they say.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};

use pubsub_test_server::Server;

use super::{LIMIT, home};
use crate::support::emulator::{free_port, wait_until};
use crate::support::http;

#[test]
fn half_a_request_does_not_delay_the_end() {
    let server = Server::start();
    let mut home = home(&format!("127.0.0.1:{}", server.port()));
    let port = free_port();
    home.environment.insert("HEARTHD_HTTP__LISTEN".to_owned(), format!("127.0.0.1:{port}"));
    let service = home.spawn("run");
    let answers = || http::request(port, "GET", "/readyz", "").is_ok();
    assert!(wait_until(LIMIT, answers), "{}", service.log());
    let mut slow = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    slow.write_all(b"G").unwrap();
    // It has been accepted when one that came after it is answered.
    assert!(answers());
    service.stop();
}
