//! The gRPC service `google.pubsub.v1.Subscriber`. Acks that ride on a stream are ignored: the
//! clients of this version send them as calls of their own.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt as _};
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1 as proto;
use proto::{AcknowledgeRequest, ModifyAckDeadlineRequest};
use proto::{StreamingPullRequest, StreamingPullResponse};
use tokio::sync::Notify;
use tonic::{Request, Response, Status, Streaming};

use self::generated::subscriber_server::{Subscriber, SubscriberServer};
use crate::Shared;
use crate::faults::{Answer, End};
use crate::http::Connection;
use crate::log::StreamSettings;
use crate::subscription::Next;

#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    unreachable_pub,
    unused_qualifications,
    reason = "the generator writes in its own style"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/google.pubsub.v1.Subscriber.rs"));
}

/// `google.protobuf.Empty`. It has a name because the generator takes no `()`.
pub(crate) type Empty = ();

/// The service as a web service.
pub(crate) fn service(shared: Arc<Shared>) -> SubscriberServer<Service> {
    // Acknowledge requests may be of any size.
    SubscriberServer::new(Service { shared }).max_decoding_message_size(usize::MAX)
}

pub(crate) struct Service {
    shared: Arc<Shared>,
}

#[tonic::async_trait]
impl Subscriber for Service {
    type StreamingPullStream =
        Pin<Box<dyn Stream<Item = Result<StreamingPullResponse, Status>> + Send>>;

    async fn streaming_pull(
        &self,
        request: Request<Streaming<StreamingPullRequest>>,
    ) -> Result<Response<Self::StreamingPullStream>, Status> {
        let connection = request.extensions().get::<Arc<Connection>>().cloned();
        let connection = connection.expect("every connection is in its requests");
        let mut requests = request.into_inner();
        let first = requests.message().await?;
        let first = first.ok_or_else(|| Status::invalid_argument("no first request"))?;
        let session = Session::open(self.shared.clone(), connection, first);
        // What follows is keep-alives. They must be read, or they would use up the window.
        tokio::spawn(async move { while let Ok(Some(_)) = requests.message().await {} });
        if session.shared.lock().faults.early_headers {
            return Ok(Response::new(Box::pin(session.responses())));
        }
        match session.next().await {
            // Before the headers, an error is the whole response.
            Some(Err(status)) => Err(status),
            first => Ok(Response::new(Box::pin(stream::iter(first).chain(session.responses())))),
        }
    }

    async fn acknowledge(
        &self,
        request: Request<AcknowledgeRequest>,
    ) -> Result<Response<Empty>, Status> {
        let fault = {
            let mut subscription = self.shared.lock();
            let fault = subscription.faults.acknowledge.next();
            subscription.acknowledge(&request.into_inner().ack_ids, fault.as_ref());
            subscription.assign(self.shared.clock.now());
            fault
        };
        answer(fault).await
    }

    async fn modify_ack_deadline(
        &self,
        request: Request<ModifyAckDeadlineRequest>,
    ) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        let seconds = u64::try_from(request.ack_deadline_seconds)
            .map_err(|_| Status::invalid_argument("the deadline is negative"))?;
        let fault = {
            let mut subscription = self.shared.lock();
            let now = self.shared.clock.now();
            let fault = subscription.faults.modify_ack_deadline.next();
            let deadline = Duration::from_secs(seconds);
            subscription.modify_ack_deadline(&request.ack_ids, deadline, fault.as_ref(), now);
            subscription.assign(now);
            fault
        };
        answer(fault).await
    }
}

async fn answer(fault: Option<Answer>) -> Result<Response<Empty>, Status> {
    match fault {
        None | Some(Answer::Lost) => {}
        Some(Answer::Status(status)) => return Err(status),
        Some(Answer::Delayed(delay)) => tokio::time::sleep(delay).await,
    }
    Ok(Response::new(()))
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
            let unknown = subscription.faults.unknown_subscription(&settings.subscription);
            let number = subscription.open_stream(settings, wake.clone(), shared.clock.now());
            if let Some(end) = unknown.map(End::Status).or_else(|| subscription.faults.open.next())
            {
                subscription.end_stream(number, end);
            }
            number
        };
        Self { shared, connection, number, wake }
    }

    fn responses(self) -> impl Stream<Item = Result<StreamingPullResponse, Status>> {
        stream::unfold(self, async |session| Some((session.next().await?, session)))
    }

    /// The next response, or how the stream ends.
    async fn next(&self) -> Option<Result<StreamingPullResponse, Status>> {
        loop {
            let next = self.shared.lock().next(self.number, self.shared.clock.now());
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
