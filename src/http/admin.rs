//! What commands ask of the running service, over the Unix socket beside its store (REFERENCE.md,
//! section 6).

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::class::Class;
use super::problem::Problem;
use crate::admin::{Answer, MAX_IDS, Request, parse_ids};
use crate::ingest::Admin;

/// The routes. Requests go to the writer by `ask`.
pub fn router(ask: mpsc::Sender<Admin>) -> Router {
    let routes = Router::new()
        .route("/v1/quarantine/{ids}", delete(drop_quarantined))
        .route("/v1/quarantine/{ids}/retry", post(retry_quarantined))
        .route("/v1/dead-letters/{ids}", delete(drop_dead_letters))
        .with_state(ask);
    Class::Api.limit(routes)
}

type Ask = State<mpsc::Sender<Admin>>;

async fn drop_quarantined(ask: Ask, Path(ids): Path<String>) -> Result<Response, Problem> {
    run(ask, &ids, Request::DropQuarantined).await
}

async fn retry_quarantined(ask: Ask, Path(ids): Path<String>) -> Result<Response, Problem> {
    run(ask, &ids, Request::RetryQuarantined).await
}

async fn drop_dead_letters(ask: Ask, Path(ids): Path<String>) -> Result<Response, Problem> {
    run(ask, &ids, Request::DropDeadLetters).await
}

async fn run(
    State(ask): Ask,
    ids: &str,
    request: fn(Vec<i64>) -> Request,
) -> Result<Response, Problem> {
    let ids = parse_ids(ids).ok_or_else(bad_ids)?;
    let request = request(ids);
    let (reply, answer) = oneshot::channel();
    let stopping = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the service stops");
    let admin = Admin { request, reply };
    ask.send(admin).await.map_err(|_| stopping())?;
    match answer.await.map_err(|_| stopping())? {
        Ok(items) => Ok(json(&Answer { items })),
        Err(error) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, error)),
    }
}

fn bad_ids() -> Problem {
    let detail = format!("expected 1 to {MAX_IDS} numbers of rows with commas between them");
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

/// Our own types always have a JSON text.
fn json(value: &impl Serialize) -> Response {
    let text = serde_json::to_string(value).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}
