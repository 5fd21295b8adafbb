//! Connections, and the way of a request through the gate to gRPC or HTTP+JSON, which share a port.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, Socket};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::clock::Clock;
use crate::log::{AuthFailure, Outcome};
use crate::{Shared, admin, service};

/// How often leases and pauses are looked at. Finer than what any test measures, and a hundredth of
/// a percent of a core.
const TICK: Duration = Duration::from_millis(10);

/// Serves for ever. Dropping this cuts off what is open.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let router = router(shared.clone());
    let mut connections = JoinSet::new();
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            _ = ticks.tick() => shared.lock().tick(shared.clock.now()),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                if let Ok((socket, _)) = accepted {
                    connections.spawn(serve_connection(socket, router.clone()));
                }
            }
        }
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route(
            "/google.pubsub.v1.Subscriber/StreamingPull",
            post(service::streaming_pull),
        )
        .route(
            "/google.pubsub.v1.Subscriber/Acknowledge",
            post(service::acknowledge),
        )
        .route(
            "/google.pubsub.v1.Subscriber/ModifyAckDeadline",
            post(service::modify_ack_deadline),
        )
        .route(
            "/v1/projects/{project}/subscriptions/{name}",
            get(admin::get_subscription),
        )
        .route(
            "/v1/projects/{project}/topics/{name}",
            get(admin::get_topic),
        )
        .layer(middleware::from_fn_with_state(shared.clone(), gate))
        .with_state(shared)
}

/// Serves one connection until its client leaves. An error is the client's way of leaving.
async fn serve_connection(socket: TcpStream, router: Router) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let handle = SockRef::from(&socket).try_clone()?;
    let connection = Arc::new(Connection {
        socket: handle,
        ended: Notify::new(),
    });
    let service = TowerToHyperService::new(router.layer(Extension(connection.clone())));
    // HTTP/2 begins with "PRI". Of HTTP/1.1 only GET is served.
    let mut start = [0];
    socket.peek(&mut start).await?;
    let socket = TokioIo::new(socket);
    let serve = async {
        if start == *b"P" {
            let server = http2::Builder::new(TokioExecutor::new());
            server.serve_connection(socket, service).await
        } else {
            http1::Builder::new()
                .serve_connection(socket, service)
                .await
        }
    };
    tokio::select! {
        served = serve => served.map_err(io::Error::other),
        () = connection.ended.notified() => Ok(()),
    }
}

/// A connection, as the requests on it see it.
pub(crate) struct Connection {
    /// A second handle of the socket.
    socket: Socket,
    ended: Notify,
}

impl Connection {
    /// Resets it: the client gets an RST instead of an end.
    pub(crate) fn reset(&self) {
        // The RST is sent when the last handle is dropped.
        self.socket
            .set_linger(Some(Duration::ZERO))
            .expect("an open socket takes the option");
        self.ended.notify_one();
    }
}

/// Lets a request pass that no fault stops and whose token is good.
async fn gate(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    match refusal(&shared, request.uri().path(), request.headers()) {
        Some(response) => response,
        None => next.run(request).await,
    }
}

fn refusal(shared: &Shared, path: &str, headers: &HeaderMap) -> Option<Response> {
    let now = shared.clock.now();
    let mut state = shared.lock();
    let is_open = path.ends_with("/StreamingPull");
    if let Some(status) = state.faults.http.next() {
        if is_open {
            state.log.open(now, None, Outcome::Http(status));
        }
        let status = StatusCode::from_u16(status).expect("a test scripts real HTTP statuses");
        return Some(status.into_response());
    }
    let token = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if let Some(token) = token {
        state.log.note_token(token);
    }
    let reason = state.faults.auth.check(token, Clock::wall_now()).err()?;
    if is_open {
        state
            .log
            .open(now, None, Outcome::Ended(Code::Unauthenticated));
    }
    let message = "Request had invalid authentication credentials.";
    state.log.note_auth_failure(AuthFailure {
        at: now,
        path: path.to_owned(),
        reason,
    });
    Some(if path.starts_with("/v1/") {
        admin::error(StatusCode::UNAUTHORIZED, message)
    } else {
        Status::unauthenticated(message).into_http()
    })
}
