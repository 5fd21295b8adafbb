//! Every gRPC status, at the opening of a stream and in the middle of it.

use pubsub_test_server::{Code, End, Rule, Server, Status};

use super::Trial;

/// What a status at the opening is called in the metrics, once it persists.
fn reason(code: Code) -> &'static str {
    match code {
        // The client library keeps trying; hearthd notices that it does nothing else.
        Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable => "stalled",
        Code::InvalidArgument => "invalid_argument",
        Code::NotFound => "not_found",
        Code::PermissionDenied => "permission_denied",
        Code::Unauthenticated => "unauthenticated",
        Code::Ok => "closed",
        Code::Cancelled
        | Code::Unknown
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss => "failed",
    }
}

fn end(code: Code) -> End {
    if code == Code::Ok {
        End::Close
    } else {
        End::Status(Status::new(code, "as scripted"))
    }
}

/// Refuses all streams with a status until that shows, then lets them be.
fn at_open(code: Code) {
    let server = Server::start();
    server.script(|faults| faults.open = Rule::always(end(code)));
    let mut trial = Trial::start(server);
    trial.publish(5);
    let opens = format!(
        "hearthd_pubsub_stream_opens_total{{reason=\"{}\",source=\"pubsub\"}}",
        reason(code)
    );
    trial.wait_for(&opens, |opens| opens >= 2);
    assert_eq!(
        trial
            .service
            .series("hearthd_pubsub_stream_up{source=\"pubsub\"}"),
        0
    );
    assert_eq!(trial.server.log().acked, 0);
    trial.server.script(|faults| faults.open = Rule::off());
    trial.finish();
}

/// Ends a stream that works with a status.
fn mid_stream(code: Code) {
    let mut trial = Trial::start(Server::start());
    trial.publish(5);
    trial.drain();
    let opens = trial.server.open_count();
    trial.server.end_streams(&end(code));
    trial.publish(5);
    trial.wait_for_server("a new stream", |server| server.open_count() > opens);
    trial.drain();
    trial.finish();
}

macro_rules! for_each_status {
    ($($name:ident: $code:ident,)*) => {$(
        mod $name {
            use pubsub_test_server::Code;

            #[test]
            fn at_open() {
                super::at_open(Code::$code);
            }

            #[test]
            fn mid_stream() {
                super::mid_stream(Code::$code);
            }
        }
    )*};
}

for_each_status! {
    ok: Ok,
    cancelled: Cancelled,
    unknown: Unknown,
    invalid_argument: InvalidArgument,
    deadline_exceeded: DeadlineExceeded,
    not_found: NotFound,
    already_exists: AlreadyExists,
    permission_denied: PermissionDenied,
    resource_exhausted: ResourceExhausted,
    failed_precondition: FailedPrecondition,
    aborted: Aborted,
    out_of_range: OutOfRange,
    unimplemented: Unimplemented,
    internal: Internal,
    unavailable: Unavailable,
    data_loss: DataLoss,
    unauthenticated: Unauthenticated,
}
