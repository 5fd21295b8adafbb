//! The gRPC service `google.pubsub.v1.Subscriber`. Acks that ride on a stream are ignored: the
//! clients of this version send them as calls of their own.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use futures_util::stream::{self, Stream, StreamExt as _};
use prost::Message;
use tokio::sync::Notify;
use tonic::server::Grpc;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::Shared;
use crate::faults::{Answer, End};
use crate::http::Connection;
use crate::log::StreamSettings;
use crate::proto::{
    AcknowledgeRequest, ModifyAckDeadlineRequest, StreamingPullRequest, StreamingPullResponse,
};
use crate::subscription::Next;

type HttpRequest = axum::extract::Request;
type HttpResponse = axum::http::Response<tonic::body::Body>;

pub(crate) async fn streaming_pull(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Arc<Connection>>,
    request: HttpRequest,
) -> HttpResponse {
    let call = service_fn(|request| pull(shared.clone(), connection.clone(), request));
    grpc().streaming(call, request).await
}

pub(crate) async fn acknowledge(
    State(shared): State<Arc<Shared>>,
    request: HttpRequest,
) -> HttpResponse {
    let call = service_fn(async |request: Request<AcknowledgeRequest>| {
        let fault = {
            let mut subscription = shared.lock();
            let fault = subscription.faults.acknowledge.next();
            subscription.acknowledge(&request.into_inner().ack_ids, fault.as_ref());
            subscription.assign(shared.clock.now());
            fault
        };
        answer(fault).await
    });
    grpc().unary(call, request).await
}

pub(crate) async fn modify_ack_deadline(
    State(shared): State<Arc<Shared>>,
    request: HttpRequest,
) -> HttpResponse {
    let call = service_fn(async |request: Request<ModifyAckDeadlineRequest>| {
        let request = request.into_inner();
        let seconds = u64::try_from(request.ack_deadline_seconds)
            .map_err(|_| Status::invalid_argument("the deadline is negative"))?;
        let fault = {
            let mut subscription = shared.lock();
            let now = shared.clock.now();
            let fault = subscription.faults.modify_ack_deadline.next();
            let deadline = Duration::from_secs(seconds);
            subscription.modify_ack_deadline(&request.ack_ids, deadline, fault.as_ref(), now);
            subscription.assign(now);
            fault
        };
        answer(fault).await
    });
    grpc().unary(call, request).await
}

/// What turns a call into a web request, and back.
fn grpc<Q, A>() -> Grpc<ProstCodec<A, Q>>
where
    Q: Message + Default + Send + 'static,
    A: Message + Send + 'static,
{
    // Acknowledge requests may be of any size.
    Grpc::new(ProstCodec::default()).max_decoding_message_size(usize::MAX)
}

async fn answer(fault: Option<Answer>) -> Result<Response<()>, Status> {
    match fault {
        None | Some(Answer::Lost) => {}
        Some(Answer::Status(status)) => return Err(status),
        Some(Answer::Hang) => std::future::pending().await,
    }
    Ok(Response::new(()))
}

type Responses = stream::BoxStream<'static, Result<StreamingPullResponse, Status>>;

async fn pull(
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    request: Request<Streaming<StreamingPullRequest>>,
) -> Result<Response<Responses>, Status> {
    let mut requests = request.into_inner();
    let first = requests.message().await?;
    let first = first.ok_or_else(|| Status::invalid_argument("no first request"))?;
    let session = Session::open(shared, connection, first);
    // What follows is keep-alives. They must be read, or they would use up the window.
    tokio::spawn(async move { while let Ok(Some(_)) = requests.message().await {} });
    if session.shared.lock().faults.early_headers {
        return Ok(Response::new(session.responses().boxed()));
    }
    match session.next().await {
        // Before the headers, an error is the whole response.
        Some(Err(status)) => Err(status),
        first => Ok(Response::new(
            stream::iter(first).chain(session.responses()).boxed(),
        )),
    }
}

/// An open stream. Dropping it gives up what it holds: so it ends when the client leaves.
struct Session {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    number: u64,
    wake: Arc<Notify>,
}

impl Session {
    fn open(shared: Arc<Shared>, connection: Arc<Connection>, first: StreamingPullRequest) -> Self {
        let settings = StreamSettings {
            subscription: first.subscription,
            client_id: first.client_id,
            stream_ack_deadline_seconds: first.stream_ack_deadline_seconds,
            max_outstanding_messages: first.max_outstanding_messages,
            max_outstanding_bytes: first.max_outstanding_bytes,
        };
        let wake = Arc::new(Notify::new());
        let number = {
            let mut subscription = shared.lock();
            let unknown = subscription
                .faults
                .unknown_subscription(&settings.subscription);
            let number = subscription.open_stream(settings, wake.clone(), shared.clock.now());
            if let Some(end) = unknown
                .map(End::Status)
                .or_else(|| subscription.faults.open.next())
            {
                subscription.end_stream(number, end);
            }
            number
        };
        Self {
            shared,
            connection,
            number,
            wake,
        }
    }

    fn responses(self) -> impl Stream<Item = Result<StreamingPullResponse, Status>> {
        stream::unfold(self, async |session| Some((session.next().await?, session)))
    }

    /// The next response, or how the stream ends.
    async fn next(&self) -> Option<Result<StreamingPullResponse, Status>> {
        loop {
            let next = self
                .shared
                .lock()
                .next(self.number, self.shared.clock.now());
            match next {
                Next::Send(response) => return Some(Ok(response)),
                Next::Wait => self.wake.notified().await,
                Next::End(End::Status(status)) => return Some(Err(status)),
                Next::End(End::Close) => return None,
                Next::End(End::Reset) => {
                    self.connection.reset();
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.lock().close_stream(self.number);
    }
}
