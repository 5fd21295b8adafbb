//! Classes of requests, each with slots and a time of its own, so that none can starve another.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use strum::{AsRefStr, VariantArray};
use tokio::sync::Semaphore;

use super::guarded::guard;
use super::problem::Problem;
use crate::text::show_duration;

/// What requests are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsRefStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Class {
    Probe,
    Metrics,
    Api,
}

#[derive(Clone, Copy)]
struct Limits {
    /// Requests at a time. One more gets 503 at once, as waiting would only hide the overload.
    slots: usize,
    /// Longest time until an answer begins.
    time: Duration,
}

impl Class {
    /// Requests of all classes at a time, on one listener.
    pub(super) const SLOTS: usize = {
        let mut slots = 0;
        let mut index = 0;
        while index < Self::VARIANTS.len() {
            slots += Self::VARIANTS[index].slots();
            index += 1;
        }
        slots
    };

    pub(super) const fn slots(self) -> usize {
        self.limits().slots
    }

    const fn limits(self) -> Limits {
        let (slots, seconds) = match self {
            // Answered in microseconds, so this is more supervisors than there can be.
            Self::Probe => (16, 5),
            // A scrape takes milliseconds of a core and 100 KB. Prometheus gives up after 10 s.
            Self::Metrics => (4, 5),
            // Commands and pages, each with a read or a write of the store. A commit on a slow disk
            // takes seconds.
            Self::Api => (32, 10),
        };
        Limits {
            slots,
            time: Duration::from_secs(seconds),
        }
    }

    /// Puts all routes of `router` into this class, with slots of their own.
    pub fn limit(self, router: Router) -> Router {
        limit(router, self, self.limits())
    }
}

fn limit(router: Router, class: Class, limits: Limits) -> Router {
    let slots = Arc::new(Semaphore::new(limits.slots));
    router.route_layer(middleware::from_fn(move |request: Request, next: Next| {
        let slots = Arc::clone(&slots);
        async move {
            // Held until the body has been sent, too.
            let Ok(slot) = slots.try_acquire_owned() else {
                return full(class, limits.slots);
            };
            match tokio::time::timeout(limits.time, next.run(request)).await {
                Ok(response) => guard(response, slot),
                Err(_) => slow(&limits.time),
            }
        }
    }))
}

fn full(class: Class, slots: usize) -> Response {
    let detail = format!(
        "{slots} requests of the class {} are being answered; try again later",
        class.as_ref()
    );
    unavailable(detail)
}

fn slow(time: &Duration) -> Response {
    unavailable(format!(
        "there was no answer within {}",
        show_duration(time)
    ))
}

fn unavailable(detail: String) -> Response {
    let mut response = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use axum::body::{Body, to_bytes};
    use axum::routing::get;
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    async fn ask(router: &Router) -> Response {
        let request = Request::new(Body::empty());
        let answer = TowerToHyperService::new(router.clone()).call(request).await;
        answer.unwrap_or_else(|never| match never {})
    }

    async fn text(response: Response) -> String {
        let body = to_bytes(response.into_body(), 1_000).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_slot_is_held_until_the_body_has_been_sent() {
        let limits = Limits {
            slots: 2,
            time: Duration::from_secs(60),
        };
        let router = Router::new().route("/", get(|| async { "here" }));
        let router = limit(router, Class::Api, limits);
        let first = ask(&router).await;
        let second = ask(&router).await;
        let third = ask(&router).await;
        assert_eq!(third.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(third.headers()["retry-after"], "1");
        let third = text(third).await;
        assert!(third.contains("2 requests of the class api"), "{third}");
        assert_eq!(text(first).await, "here");
        assert_eq!(ask(&router).await.status(), StatusCode::OK);
        drop(second);
    }

    #[tokio::test]
    async fn a_request_that_takes_too_long_is_given_up() {
        let limits = Limits {
            slots: 1,
            time: Duration::from_millis(10),
        };
        let router = Router::new().route("/", get(pending::<()>));
        let router = limit(router, Class::Api, limits);
        for _ in 0..2 {
            let answer = ask(&router).await;
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            let answer = text(answer).await;
            assert!(answer.contains("no answer within 10ms"), "{answer}");
        }
    }
}
