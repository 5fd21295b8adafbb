//! An error as a client gets it: a problem document of RFC 9457.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Why a request gets no good answer. Its type is `about:blank`: the status says what kind of
/// problem it is, and `detail` says in words what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    detail: String,
}

#[derive(Serialize)]
struct Document<'a> {
    title: &'a str,
    status: u16,
    detail: &'a str,
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { status, detail }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
        };
        // Texts and a number can always be written.
        let body = serde_json::to_string(&document).unwrap_or_default();
        let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.status, content_type, body).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_problem_is_a_document_with_its_status() {
        let problem = Problem::new(StatusCode::NOT_FOUND, "no number 7: \"<b>\"");
        let answer = problem.into_response();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let body = axum::body::to_bytes(answer.into_body(), 1_000).await;
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&body.unwrap()).unwrap(),
            serde_json::json!({
                "title": "Not Found", "status": 404, "detail": "no number 7: \"<b>\""
            })
        );
    }
}
