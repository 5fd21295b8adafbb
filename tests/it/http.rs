//! The HTTP server of the real binary, beside clients that hold on to their connections.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::support::daemon::Home;

/// Far more than the service keeps open.
const CLIENTS: usize = 500;

#[test]
fn probes_and_scrapes_are_answered_beside_500_idle_connections() {
    let home = Home::without_server();
    let service = home.start("run");
    let request = b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut idle = Vec::new();
    for number in 0..CLIENTS {
        let mut client = TcpStream::connect(service.http_address()).unwrap();
        match number % 3 {
            // Says nothing.
            0 => {}
            // Never ends what it says.
            1 => client
                .write_all(b"GET /metrics HTTP/1.1\r\nHost: ")
                .unwrap(),
            // Stays after its answer.
            _ => {
                client.write_all(request).unwrap();
                client.read_exact(&mut [0; 15]).unwrap();
            }
        }
        idle.push(client);
    }
    for _ in 0..20 {
        assert_eq!(service.get("/livez").as_deref(), Some("ok\n"));
        let scrape = service.get("/metrics").unwrap();
        let open: usize = scrape
            .lines()
            .find_map(|line| line.strip_prefix("process_open_fds "))
            .and_then(|value| value.parse().ok())
            .unwrap();
        assert!(open < CLIENTS, "{open} files are open");
    }
    drop(idle);
    service.stop();
}
