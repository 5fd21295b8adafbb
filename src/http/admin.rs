//! What commands ask of the running service, over the Unix socket beside its store (REFERENCE.md,
//! section 6).

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::class::Class;
use super::problem::Problem;
use crate::admin::{Item, MAX_IDS, Request};
use crate::ingest::Admin;

/// The answer to a request: what became of each row.
#[derive(Debug, Serialize, Deserialize)]
pub struct Items {
    pub items: Vec<Item>,
}

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
    let request = request(read_ids(ids)?);
    let (reply, answer) = oneshot::channel();
    let stopping = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the service stops");
    let admin = Admin { request, reply };
    ask.send(admin).await.map_err(|_| stopping())?;
    match answer.await.map_err(|_| stopping())? {
        Ok(items) => Ok(json(&Items { items })),
        Err(error) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, error)),
    }
}

/// Numbers with commas between them.
fn read_ids(text: &str) -> Result<Vec<i64>, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let read = |id: &str| {
        id.parse()
            .map_err(|_| bad(format!("{id:?} is no number of a row")))
    };
    let ids = text.split(',').map(read).collect::<Result<Vec<i64>, _>>()?;
    if ids.len() > MAX_IDS {
        let count = ids.len();
        return Err(bad(format!("{count} numbers at once; at most {MAX_IDS}")));
    }
    Ok(ids)
}

/// Our own types always have a JSON text.
fn json(value: &impl Serialize) -> Response {
    let text = serde_json::to_string(value).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_numbers_and_few() {
        assert_eq!(read_ids("1,22,3").unwrap(), [1, 22, 3]);
        for bad in ["", "1,", "a", "1 ,2", &vec!["1"; MAX_IDS + 1].join(",")] {
            assert!(read_ids(bad).is_err(), "{bad}");
        }
    }
}
