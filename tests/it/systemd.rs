//! What a supervisor hears from the real binary, over the socket that systemd would give it.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::support::daemon::Home;
use crate::support::emulator::wait_until;

/// Longest wait for a datagram: a debug build that starts on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// The supervisor's end of the socket.
struct Supervisor(UnixDatagram);

impl Supervisor {
    /// Makes the services of this home talk to it. Their watchdog acts after that many
    /// microseconds.
    fn of(home: &mut Home, watchdog_us: u64) -> Self {
        let path = home.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        home.environment
            .insert("NOTIFY_SOCKET".to_owned(), path.display().to_string());
        home.environment
            .insert("WATCHDOG_USEC".to_owned(), watchdog_us.to_string());
        Self(socket)
    }

    /// The lines of the next datagram; `None` if none comes in time.
    fn hears(&self) -> Option<Vec<String>> {
        let mut datagram = [0; 4096];
        let length = self.0.recv(&mut datagram).ok()?;
        let text = String::from_utf8(datagram[..length].to_vec()).unwrap();
        Some(text.lines().map(str::to_owned).collect())
    }
}

#[test]
fn a_service_is_ready_then_feeds_the_watchdog_then_stops() {
    let mut home = Home::without_server();
    let supervisor = Supervisor::of(&mut home, 200_000);
    let service = home.spawn("run");
    assert_eq!(
        supervisor.hears().unwrap(),
        ["READY=1"],
        "{}",
        service.log()
    );
    assert_eq!(service.get("/readyz").as_deref(), Some("ok\n"));
    // At a fixed pace of seconds, so many reports would not come within the limit of one.
    supervisor
        .0
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    for _ in 0..20 {
        let report = supervisor.hears().unwrap();
        let [status, watchdog] = &report[..] else {
            panic!("{report:?}")
        };
        assert_eq!(watchdog, "WATCHDOG=1");
        assert_eq!(
            status,
            "STATUS=pipeline ok, store ok, source down, no message yet"
        );
    }
    service.stop();
    supervisor.0.set_nonblocking(true).unwrap();
    let rest: Vec<_> = std::iter::from_fn(|| supervisor.hears()).collect();
    assert!(rest.contains(&vec!["STOPPING=1".to_owned()]), "{rest:?}");
}

#[test]
fn a_service_without_its_store_or_its_address_is_never_ready() {
    let never_ready = |mut home: Home, reason: &str| {
        let supervisor = Supervisor::of(&mut home, 200_000);
        let mut service = home.spawn("run");
        let status = service.wait_for_exit(LIMIT);
        assert_eq!(status.code(), Some(1), "{}", service.log());
        assert!(service.log().contains(reason), "{}", service.log());
        supervisor.0.set_nonblocking(true).unwrap();
        assert_eq!(supervisor.hears(), None);
    };
    let foreign = Home::without_server();
    fs::write(foreign.store(), "not a database ".repeat(1000)).unwrap();
    never_ready(foreign, "hearthd.db");
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut second = Home::without_server();
    let address = taken.local_addr().unwrap().to_string();
    second
        .environment
        .insert("HEARTHD_HTTP__LISTEN".to_owned(), address);
    never_ready(second, "failed to listen on");
}

#[test]
fn a_supervisor_that_is_not_there_stops_nothing() {
    let mut home = Home::without_server();
    drop(Supervisor::of(&mut home, 200_000));
    fs::remove_file(home.path("notify")).unwrap();
    let service = home.start("run");
    let warned = || service.log().contains("failed to notify the supervisor");
    assert!(wait_until(LIMIT, warned), "{}", service.log());
    service.stop();
}
