//! A server that gives out tokens: the metadata server of a cloud machine, and the token service
//! that workload identity asks. It doesn't judge requests.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

/// The token that it gives out.
pub(crate) const TOKEN: &str = "ya29.opaque-test-token";

/// A running server; dropping it ends it.
pub(crate) struct TokenServer {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    fails: AtomicBool,
    holds: Mutex<bool>,
    goes_on: Condvar,
    requests: AtomicU64,
    answers: AtomicU64,
}

impl TokenServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || serve(&listener, &shared)
        });
        Self {
            port,
            shared,
            thread: Some(thread),
        }
    }

    /// Its address, as `host:port`.
    pub(crate) fn host(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// From now on it answers 503, or tokens again.
    pub(crate) fn set_failing(&self, fails: bool) {
        self.shared.fails.store(fails, Ordering::Relaxed);
    }

    /// From now on it holds requests, or answers them again, also those that it held.
    pub(crate) fn set_holding(&self, holds: bool) {
        *self.shared.holds.lock().unwrap() = holds;
        self.shared.goes_on.notify_all();
    }

    /// How many requests came.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// How many requests it answered.
    pub(crate) fn answers(&self) -> u64 {
        self.shared.answers.load(Ordering::Relaxed)
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.set_holding(false);
        // Wakes it, to see that it is over.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(
            matches!(ended, Some(Ok(()))) || thread::panicking(),
            "the token server panicked"
        );
    }
}

fn serve(listener: &TcpListener, shared: &Shared) {
    thread::scope(|scope| {
        for connection in listener.incoming() {
            if shared.is_over.load(Ordering::Relaxed) {
                return;
            }
            // A client that goes away is not this server's business.
            scope.spawn(|| connection.and_then(|stream| answer(stream, shared)).ok());
        }
    });
}

impl Shared {
    fn wait_to_go_on(&self) {
        drop(
            self.goes_on
                .wait_while(self.holds.lock().unwrap(), |holds| *holds)
                .unwrap(),
        );
    }
}

fn answer(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut request = BufReader::new(stream);
    let mut first = String::new();
    request.read_line(&mut first)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        request.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        }
    }
    request.read_exact(&mut vec![0; length])?;
    shared.requests.fetch_add(1, Ordering::Relaxed);
    shared.wait_to_go_on();
    let status = if shared.fails.load(Ordering::Relaxed) {
        "503 Service Unavailable"
    } else if first.contains("/token") {
        "200 OK"
    } else {
        // The metadata server has more to tell, but needs not.
        "404 Not Found"
    };
    let body = format!(
        "{{\"access_token\":\"{TOKEN}\",\"expires_in\":3599,\"token_type\":\"Bearer\",\
         \"issued_token_type\":\"urn:ietf:params:oauth:token-type:access_token\"}}"
    );
    let length = body.len();
    write!(
        request.get_mut(),
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nMetadata-Flavor: Google\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    shared.answers.fetch_add(1, Ordering::Relaxed);
    Ok(())
}
