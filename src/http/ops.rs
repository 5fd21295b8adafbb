//! Metrics and health for operators (REFERENCE.md, section 6). Shows no personal data.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use super::class::Class;
use crate::clock::Clock;
use crate::health::Health;
use crate::metrics::Metrics;

/// What the endpoints show.
#[derive(Clone)]
pub struct Ops {
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    /// The clock of `health`, which only a recovered store can start: until then there is nothing
    /// that could be stuck.
    pub clock: Arc<OnceLock<Clock>>,
}

/// The routes, each in its class.
pub fn router(ops: Ops) -> Router {
    let probes = Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .with_state(ops.clone());
    let metrics = Router::new().route("/metrics", get(scrape)).with_state(ops);
    Class::Probe
        .limit(probes)
        .merge(Class::Metrics.limit(metrics))
}

async fn scrape(State(ops): State<Ops>) -> impl IntoResponse {
    let text = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, text)], ops.metrics.scrape())
}

async fn live(State(ops): State<Ops>) -> impl IntoResponse {
    let clock = ops.clock.get();
    let is_alive = clock.is_none_or(|clock| ops.health.is_alive(clock.now()));
    answer(is_alive, "the pipeline is stuck\n")
}

async fn ready(State(ops): State<Ops>) -> impl IntoResponse {
    answer(ops.health.is_ready(), "the store is not recovered yet\n")
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
    use axum::body::{Body, to_bytes};
    use axum::extract::Request;
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;

    use super::*;
    use crate::event::ClockTime;

    #[tokio::test]
    async fn it_answers_before_the_store_is_recovered() {
        let ops = Ops {
            metrics: Arc::new(Metrics::new(&[], &[]).unwrap()),
            health: Arc::new(Health::default()),
            clock: Arc::new(OnceLock::new()),
        };
        let router = TowerToHyperService::new(router(ops.clone()));
        let get = async |path: &str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let answer = router.call(request).await.unwrap();
            let status = answer.status().as_u16();
            let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
            (status, String::from_utf8(body.to_vec()).unwrap())
        };
        let is = |status: u16, text: &str| (status, text.to_owned());
        assert_eq!(get("/livez").await, is(200, "ok\n"));
        let unready = is(503, "the store is not recovered yet\n");
        assert_eq!(get("/readyz").await, unready);
        let (status, scrape) = get("/metrics").await;
        assert_eq!(status, 200);
        assert!(scrape.contains("# TYPE "), "{scrape}");

        let clock = ops.clock.get_or_init(|| Clock::start(ClockTime::default()));
        let stuck = is(503, "the pipeline is stuck\n");
        assert_eq!(get("/livez").await, stuck);
        ops.health.beat(clock.now());
        ops.health.set_ready();
        assert_eq!(get("/livez").await, is(200, "ok\n"));
        assert_eq!(get("/readyz").await, is(200, "ok\n"));
    }
}
