//! What the admin clients ask for over HTTP+JSON: GET of the subscription, of its topic, and of the
//! topic's policy.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::Shared;
use crate::faults::Admin;

pub(crate) async fn get_subscription(
    State(shared): State<Arc<Shared>>,
    Path((project, subscription)): Path<(String, String)>,
) -> Response {
    let name = format!("projects/{project}/subscriptions/{subscription}");
    let (fault, unknown, resource) = {
        let mut state = shared.lock();
        state.log.admin_requests += 1;
        let unknown = state.faults.unknown_subscription(&name);
        (
            state.faults.admin.next(),
            unknown,
            state.faults.subscription.clone(),
        )
    };
    if fault.is_none()
        && let Some(status) = unknown
    {
        return error(StatusCode::NOT_FOUND, status.message());
    }
    answer(fault, resource, name).await
}

pub(crate) async fn get_topic(
    State(shared): State<Arc<Shared>>,
    Path((project, topic)): Path<(String, String)>,
) -> Response {
    if let Some(topic) = topic.strip_suffix(":getIamPolicy") {
        return get_policy(&shared, &format!("projects/{project}/topics/{topic}")).await;
    }
    let (fault, resource) = {
        let mut state = shared.lock();
        state.log.admin_requests += 1;
        (state.faults.admin.next(), state.faults.topic.clone())
    };
    answer(
        fault,
        resource,
        format!("projects/{project}/topics/{topic}"),
    )
    .await
}

/// The policy of the subscription's topic; there is no other topic.
async fn get_policy(shared: &Shared, topic: &str) -> Response {
    let (fault, known, bindings) = {
        let mut state = shared.lock();
        state.log.admin_requests += 1;
        (
            state.faults.get_policy.next(),
            state.faults.subscription["topic"].clone(),
            state.faults.policy_bindings.clone(),
        )
    };
    if fault.is_none() && known != topic {
        let message = format!("Topic not found (resource={topic}).");
        return error(StatusCode::NOT_FOUND, &message);
    }
    let policy = json!({ "version": 1, "etag": "BwY=", "bindings": bindings });
    answer_with(fault, policy).await
}

async fn answer(fault: Option<Admin>, mut resource: Value, name: String) -> Response {
    resource["name"] = name.into();
    answer_with(fault, resource).await
}

async fn answer_with(fault: Option<Admin>, body: Value) -> Response {
    match fault {
        None => ([(CONTENT_TYPE, "application/json")], body.to_string()).into_response(),
        Some(Admin::Status(status)) => {
            let status = StatusCode::from_u16(status).expect("a test scripts real HTTP statuses");
            error(status, "scripted by the test")
        }
        Some(Admin::Hang) => std::future::pending().await,
    }
}

/// An error as Google's HTTP+JSON interfaces tell it.
pub(crate) fn error(status: StatusCode, message: &str) -> Response {
    let name = match status.as_u16() {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        500 => "INTERNAL",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "UNKNOWN",
    };
    let body = json!({ "error": { "code": status.as_u16(), "message": message, "status": name } });
    (
        status,
        [(CONTENT_TYPE, "application/json")],
        body.to_string(),
    )
        .into_response()
}
