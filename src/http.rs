//! Metrics and health over HTTP (contract, section 6). Shows no personal data.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::event::ClockTime;
use crate::metrics::Metrics;

/// Longest silence of the pipeline before it counts as stuck. It wakes every second; a commit on a
/// slow disk takes seconds, never this long.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// What the pipeline says of itself.
#[derive(Debug, Default)]
pub struct Health {
    ready: AtomicBool,
    heartbeat: AtomicI64,
}

impl Health {
    /// The pipeline is alive at that time.
    pub fn beat(&self, now: ClockTime) {
        self.heartbeat.store(now.0, Ordering::Relaxed);
    }

    /// The store is recovered and the settings are valid.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    fn is_alive(&self, now: ClockTime) -> bool {
        now.since(ClockTime(self.heartbeat.load(Ordering::Relaxed))) < STUCK_AFTER
    }
}

#[derive(Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    clock: Clock,
}

/// Serves until `stop` holds true.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    clock: Clock,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(scrape))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .with_state(Shared { metrics, health, clock });
    let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
    axum::serve(listener, router).with_graceful_shutdown(stopped).await
}

async fn scrape(State(shared): State<Shared>) -> impl IntoResponse {
    let text = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, text)], shared.metrics.scrape())
}

async fn live(State(shared): State<Shared>) -> impl IntoResponse {
    answer(shared.health.is_alive(shared.clock.now()), "the pipeline is stuck")
}

async fn ready(State(shared): State<Shared>) -> impl IntoResponse {
    answer(shared.health.ready.load(Ordering::Relaxed), "the store is not recovered yet")
}

fn answer(good: bool, otherwise: &'static str) -> (StatusCode, &'static str) {
    if good { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, otherwise) }
}
