//! Serves a router on TCP and Unix sockets by the same code, with bounds on the connections.
//!
//! A connection is busy while a request of it is answered, else idle: nothing has come yet, half a
//! request, or the next one is awaited. Classes bound the busy ones. Of idle ones, those that have
//! been so the longest give way when there are too many.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::serve::Listener;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustix::fs::Mode;
use tokio::net::{TcpListener, UnixListener, UnixSocket};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::class::Class;
use super::guarded::guard;
use super::problem::Problem;

/// What one listener takes on.
#[derive(Clone, Copy)]
struct Bounds {
    connections: usize,
    /// Longest time without a request. Also the longest for sending one, and for taking an answer.
    idle: Duration,
}

const BOUNDS: Bounds = Bounds {
    // A quarter of the 1,024 files that a process may open where nobody raised the limit: the
    // store, Pub/Sub and sinks need theirs.
    connections: 256,
    // A scraper that comes once a minute, Prometheus's default, keeps its connection.
    idle: Duration::from_secs(90),
};
// There is always an idle connection to give way.
const _: () = assert!(Class::SLOTS < BOUNDS.connections);

/// Most bytes that a connection reads ahead, and so the longest head of a request: browsers and
/// proxies send less than half. The answer to a longer one is 431.
const BUFFER_BYTES: usize = 16 << 10;
/// Connections to a Unix socket that wait to be accepted: all commands that could run at once.
const BACKLOG: u32 = 128;
/// Longest wait at the end for answers that are on their way.
const END_LIMIT: Duration = Duration::from_secs(1);

/// A socket that is bound. Connections wait until it serves.
#[derive(Debug)]
pub struct Server<L> {
    listener: L,
}

impl Server<TcpListener> {
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener })
    }
}

impl Server<UnixListener> {
    /// Makes a socket file for its owner alone. What a crash left there is replaced, so the caller
    /// must be sure that no other process serves it. It stays at the end. The path may have 107
    /// bytes at most.
    pub fn bind_file(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
            // Another kind of file is somebody's: binding fails.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let socket = UnixSocket::new_stream()?;
        // The file gets the socket's own mode, so that at no moment others can connect.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        socket.bind(path)?;
        let listener = socket.listen(BACKLOG)?;
        Ok(Self { listener })
    }
}

impl<L: Listener> Server<L> {
    /// Serves until `stop` holds true; returns when the last answers have left, or after
    /// `END_LIMIT`. Paths and methods that `router` doesn't know get a problem document.
    pub async fn serve(self, router: Router, stop: watch::Receiver<bool>) {
        self.serve_within(BOUNDS, router, stop).await;
    }

    async fn serve_within(
        mut self,
        bounds: Bounds,
        router: Router,
        mut stop: watch::Receiver<bool>,
    ) {
        let router = router
            .fallback(no_such_path)
            .method_not_allowed_fallback(no_such_method);
        let idle = Arc::new(Idle::default());
        let stopping = stop.clone();
        let mut connections = JoinSet::new();
        loop {
            let is_over = connections.len() > bounds.connections;
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                Some(_) = connections.join_next() => {}
                // The trait's, which waits where the process has no more files to open.
                (stream, _) = Listener::accept(&mut self.listener), if !is_over => {
                    let is_full = connections.len() == bounds.connections;
                    // One ends before the next is accepted.
                    if is_full && !idle.cut_oldest() {
                        tracing::debug!("refused a connection: all others are busy");
                        continue;
                    }
                    let place = Arc::new(Place::new(&idle));
                    let stop = stopping.clone();
                    connections.spawn(drive(stream, router.clone(), place, bounds.idle, stop));
                }
            }
        }
        drop(self.listener);
        let rest = async { while connections.join_next().await.is_some() {} };
        // Clients that never finish what they say get no answer.
        tokio::time::timeout(END_LIMIT, rest).await.ok();
    }
}

async fn no_such_path(uri: Uri) -> Problem {
    let detail = format!("there is nothing at {}", uri.path());
    Problem::new(StatusCode::NOT_FOUND, detail)
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}; see Allow", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

/// Serves one connection to its end.
async fn drive<S>(
    stream: S,
    router: Router,
    place: Arc<Place>,
    idle_limit: Duration,
    mut stop: watch::Receiver<bool>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut state = place.number.subscribe();
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request: Request<Incoming>| {
        let busy = Busy::new(&place);
        let answer = router.call(request);
        async move { answer.await.map(|response| guard(response, busy)) }
    });
    let mut http = http1::Builder::new();
    http.max_buf_size(BUFFER_BYTES);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let mut is_stopping = false;
    loop {
        let is_idle = state.borrow_and_update().is_some();
        tokio::select! {
            biased;
            // An error is the client's: it went away, or doesn't speak HTTP.
            _ = &mut connection => return,
            () = place.cut.notified() => return,
            _ = state.changed() => {}
            () = tokio::time::sleep(idle_limit), if is_idle => return,
            _ = stop.wait_for(|stop| *stop), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// The idle connections of a listener, those first that have been so the longest.
#[derive(Default)]
struct Idle(Mutex<IdleConnections>);

#[derive(Default)]
struct IdleConnections {
    next: u64,
    /// By number; each with what ends it.
    waiting: BTreeMap<u64, Arc<Notify>>,
}

impl Idle {
    fn with<T>(&self, act: impl FnOnce(&mut IdleConnections) -> T) -> T {
        // Nothing that holds it can panic half-way.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn enter(&self, cut: &Arc<Notify>) -> u64 {
        self.with(|idle| {
            let number = idle.next;
            idle.next += 1;
            idle.waiting.insert(number, Arc::clone(cut));
            number
        })
    }

    fn leave(&self, number: u64) {
        self.with(|idle| idle.waiting.remove(&number));
    }

    /// Ends the connection that has been idle the longest; false if none is idle.
    fn cut_oldest(&self) -> bool {
        let oldest = self.with(|idle| idle.waiting.pop_first());
        if let Some((_, cut)) = &oldest {
            cut.notify_one();
        }
        oldest.is_some()
    }
}

/// A connection's place among the idle ones, if it is idle.
struct Place {
    idle: Arc<Idle>,
    cut: Arc<Notify>,
    number: watch::Sender<Option<u64>>,
}

impl Place {
    /// A new connection is idle.
    fn new(idle: &Arc<Idle>) -> Self {
        let cut = Arc::new(Notify::new());
        let number = idle.enter(&cut);
        Self {
            idle: Arc::clone(idle),
            cut,
            number: watch::Sender::new(Some(number)),
        }
    }

    fn leave(&self) {
        if let Some(number) = self.number.send_replace(None) {
            self.idle.leave(number);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A request that is answered: while this exists, its connection is not idle.
struct Busy(Arc<Place>);

impl Busy {
    fn new(place: &Arc<Place>) -> Self {
        place.leave();
        Self(Arc::clone(place))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Place { idle, cut, number } = &*self.0;
        number.send_replace(Some(idle.enter(cut)));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::TcpStream;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixStream;

    use axum::routing::get;
    use tokio::sync::Semaphore;

    use super::*;

    /// Longest wait for what must come at once, on a busy machine.
    const LIMIT: Duration = Duration::from_secs(30);
    /// Longer than any test: nothing ends for being idle.
    const NEVER: Duration = Duration::from_secs(3600);
    const LIVEZ: &[u8] = b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n";
    const SLOW: &[u8] = b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n";

    struct Running {
        address: SocketAddr,
        stop: watch::Sender<bool>,
        server: tokio::task::JoinHandle<()>,
        /// Has a permit for each request to `/slow` that came.
        entered: Arc<Semaphore>,
        /// Lets one of them be answered.
        release: Arc<Semaphore>,
    }

    /// A server with a probe, and a slow route of the class API.
    async fn start(bounds: Bounds) -> Running {
        let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = server.listener.local_addr().unwrap();
        let release = Arc::new(Semaphore::new(0));
        let entered = Arc::new(Semaphore::new(0));
        let gates = (Arc::clone(&entered), Arc::clone(&release));
        let slow = move || async move {
            gates.0.add_permits(1);
            gates.1.acquire().await.unwrap().forget();
            "released"
        };
        let probe = Router::new().route("/livez", get(|| async { "ok" }));
        let api = Router::new().route("/slow", get(slow));
        let router = Class::Probe.limit(probe).merge(Class::Api.limit(api));
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(server.serve_within(bounds, router, stopped));
        Running {
            address,
            stop,
            server,
            entered,
            release,
        }
    }

    impl Running {
        fn connect(&self, says: &[u8]) -> TcpStream {
            let mut client = TcpStream::connect(self.address).unwrap();
            client.set_read_timeout(Some(LIMIT)).unwrap();
            client.write_all(says).unwrap();
            client
        }

        /// Takes a slot of the class API.
        async fn take_slot(&self) -> TcpStream {
            let client = self.connect(SLOW);
            self.entered.acquire().await.unwrap().forget();
            client
        }

        async fn stop(self) {
            self.stop.send_replace(true);
            tokio::time::timeout(LIMIT, self.server)
                .await
                .unwrap()
                .unwrap();
        }
    }

    /// The next answer, which has a length.
    fn answer(client: &mut impl io::Read) -> String {
        let mut text = String::new();
        let length = loop {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            text.push(char::from(byte[0]));
            if let Some(head) = text.strip_suffix("\r\n\r\n") {
                let length = head.split_once("content-length: ").unwrap().1;
                break length.lines().next().unwrap().parse().unwrap();
            }
        };
        let mut body = vec![0; length];
        client.read_exact(&mut body).unwrap();
        text + std::str::from_utf8(&body).unwrap()
    }

    /// Waits until the server has closed it.
    fn is_closed(client: &mut TcpStream) -> bool {
        match client.read(&mut [0]) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_longest_idle_connection_gives_way_to_a_new_one() {
        let connections = 4;
        let running = start(Bounds {
            connections,
            idle: NEVER,
        })
        .await;
        let mut kept = running.connect(LIVEZ);
        answer(&mut kept);
        let silent = running.connect(b"");
        let half = running.connect(b"GET /livez HTT");
        let mut done = running.connect(LIVEZ);
        answer(&mut done);
        // From now on it has been idle for the shortest time.
        kept.write_all(LIVEZ).unwrap();
        answer(&mut kept);
        let mut new = Vec::new();
        for mut oldest in [silent, half, done] {
            new.push(running.connect(LIVEZ));
            let answer = answer(new.last_mut().unwrap());
            assert!(answer.ends_with("ok"), "{answer}");
            assert!(is_closed(&mut oldest));
        }
        kept.write_all(LIVEZ).unwrap();
        assert!(answer(&mut kept).ends_with("ok"));
        running.stop().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_connection_is_closed_when_it_was_idle_for_too_long() {
        let running = start(Bounds {
            connections: 9,
            idle: Duration::from_millis(100),
        })
        .await;
        let mut slow = running.take_slot().await;
        let mut done = running.connect(LIVEZ);
        answer(&mut done);
        let half = running.connect(b"GET /livez HTT");
        for mut client in [running.connect(b""), half, done] {
            assert!(is_closed(&mut client));
        }
        // It was busy all the time.
        running.release.add_permits(1);
        assert!(answer(&mut slow).ends_with("released"));
        running.stop().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_probe_is_answered_while_all_other_slots_are_taken() {
        let running = start(BOUNDS).await;
        let mut busy = Vec::new();
        for _ in 0..Class::Api.slots() {
            busy.push(running.take_slot().await);
        }
        let said = answer(&mut running.connect(SLOW));
        assert!(said.starts_with("HTTP/1.1 503 "), "{said}");
        assert!(said.contains("application/problem+json"), "{said}");
        assert!(answer(&mut running.connect(LIVEZ)).ends_with("ok"));
        running.release.add_permits(busy.len());
        for client in &mut busy {
            assert!(answer(client).ends_with("released"));
        }
        running.stop().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_busy_connection_gives_way_to_nobody() {
        let connections = 2;
        let running = start(Bounds {
            connections,
            idle: NEVER,
        })
        .await;
        let mut busy = [running.take_slot().await, running.take_slot().await];
        assert!(is_closed(&mut running.connect(b"")));
        running.release.add_permits(connections);
        for client in &mut busy {
            assert!(answer(client).ends_with("released"));
        }
        running.stop().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn at_the_end_answers_on_their_way_are_sent() {
        let running = start(BOUNDS).await;
        let mut slow = running.take_slot().await;
        let mut done = running.connect(LIVEZ);
        answer(&mut done);
        let half = running.connect(b"GET /livez HTT");
        running.stop.send_replace(true);
        assert!(is_closed(&mut done));
        running.release.add_permits(1);
        let said = answer(&mut slow);
        assert!(said.ends_with("released"), "{said}");
        // The half request doesn't hold it up for longer than its limit.
        running.stop().await;
        drop(half);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_no_request_gets_a_clear_answer() {
        let running = start(BOUNDS).await;
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(2 * BUFFER_BYTES));
        for (says, status, text) in [
            (
                "GET /nothing HTTP/1.1\r\n\r\n",
                404,
                "there is nothing at /nothing",
            ),
            (
                "POST /livez HTTP/1.1\r\n\r\n",
                405,
                "/livez does not take POST",
            ),
            (
                "POST /livez HTTP/1.1\r\n\r\n",
                405,
                "\r\nallow: GET,HEAD\r\n",
            ),
            ("GET /livez HTTP/1.0\r\n\r\n", 200, "ok"),
            ("nonsense\r\n\r\n", 400, ""),
            (&long, 431, ""),
        ] {
            let mut client = running.connect(says.as_bytes());
            let said = answer(&mut client);
            let words: Vec<&str> = said.split(' ').collect();
            assert_eq!(words[1], status.to_string(), "{said}");
            assert!(said.contains(text), "{said}");
        }
        // Two at once, on one connection.
        let mut client = running.connect(&[LIVEZ, LIVEZ].concat());
        for _ in 0..2 {
            assert!(answer(&mut client).ends_with("ok"));
        }
        running.stop().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_socket_file_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hearthd.sock");
        let (stop, stopped) = watch::channel(false);
        let router = Router::new().route("/livez", get(|| async { "ok" }));
        // A crash leaves the file there.
        drop(Server::bind_file(&path).unwrap());
        let server = Server::bind_file(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let server = tokio::spawn(server.serve(router, stopped));
        let mut client = UnixStream::connect(&path).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        client.write_all(LIVEZ).unwrap();
        assert!(answer(&mut client).ends_with("ok"));
        stop.send_replace(true);
        server.await.unwrap();

        let file = folder.path().join("precious");
        fs::write(&file, "data").unwrap();
        let error = Server::bind_file(&file).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert_eq!(fs::read(&file).unwrap(), b"data");
    }
}
