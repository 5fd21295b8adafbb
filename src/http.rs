//! Metrics and health over HTTP (REFERENCE.md, section 6). Shows no personal data.
//!
//! A connection carries one request. Their number and their time are bounded, so that clients that
//! are slow or never finish hold up neither others for long, nor the end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::health::Health;
use crate::metrics::Metrics;

/// Connections at a time: far more than a scraper, a supervisor's probes and a few people make.
/// Others wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 32;
/// Longest time for a request and its answer. Both take milliseconds; a scraper that gets nothing
/// gives up after 10 s, Prometheus's default.
const CONNECTION_LIMIT: Duration = Duration::from_secs(5);
/// Longest wait at the end for answers that are on their way.
const END_LIMIT: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    clock: Clock,
}

/// Serves until `stop` holds true; returns when the last answers have left, or after `END_LIMIT`.
pub async fn serve(
    mut listener: TcpListener,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    clock: Clock,
    mut stop: watch::Receiver<bool>,
) {
    let router = Router::new()
        .route("/metrics", get(scrape))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .with_state(Shared {
            metrics,
            health,
            clock,
        });
    let mut http = http1::Builder::new();
    http.keep_alive(false);
    let mut connections = JoinSet::new();
    loop {
        let there_is_room = connections.len() < CONNECTIONS_MAX;
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => {}
            // The trait's, which waits where the process has no more files to open.
            (stream, _) = Listener::accept(&mut listener), if there_is_room => {
                let service = TowerToHyperService::new(router.clone());
                let connection = http.serve_connection(TokioIo::new(stream), service);
                connections.spawn(tokio::time::timeout(CONNECTION_LIMIT, connection));
            }
        }
    }
    let rest = async { while connections.join_next().await.is_some() {} };
    // Clients that never finish what they say get no answer.
    tokio::time::timeout(END_LIMIT, rest).await.ok();
}

async fn scrape(State(shared): State<Shared>) -> impl IntoResponse {
    let text = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, text)], shared.metrics.scrape())
}

async fn live(State(shared): State<Shared>) -> impl IntoResponse {
    answer(
        shared.health.is_alive(shared.clock.now()),
        "the pipeline is stuck",
    )
}

async fn ready(State(shared): State<Shared>) -> impl IntoResponse {
    answer(shared.health.is_ready(), "the store is not recovered yet")
}

fn answer(good: bool, otherwise: &'static str) -> (StatusCode, &'static str) {
    if good {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, otherwise)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;
    use crate::event::ClockTime;

    #[tokio::test(flavor = "multi_thread")]
    async fn clients_that_never_finish_hold_their_places_for_a_while_only() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (metrics, clock) = (
            Metrics::new(&[]).unwrap(),
            Clock::start(ClockTime::default()),
        );
        let (stop, stopped) = watch::channel(false);
        let shared = (Arc::new(metrics), Arc::new(Health::default()));
        let server = tokio::spawn(serve(listener, shared.0, shared.1, clock, stopped));
        let connect = |says: &[u8]| {
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(says).unwrap();
            client
        };
        let slow: Vec<_> = (0..CONNECTIONS_MAX).map(|_| connect(b"G")).collect();
        let mut quick = connect(b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n");
        quick.set_read_timeout(Some(6 * CONNECTION_LIMIT)).unwrap();
        let mut answer = String::new();
        quick.read_to_string(&mut answer).unwrap();
        assert!(
            answer.contains("the store is not recovered yet"),
            "{answer}"
        );
        // It had to wait until one of them lost its place.
        let is_open = |mut client: &TcpStream| {
            client.set_nonblocking(true).unwrap();
            client
                .read(&mut [0])
                .is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        };
        assert!(!slow.iter().all(is_open), "there was room for one more");
        stop.send_replace(true);
        server.await.unwrap();
    }
}
