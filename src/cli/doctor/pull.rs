//! Tries to pull, which alone shows that the account may, with the code that the service runs.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::line::Line;
use crate::clock::Clock;
use crate::config::Pubsub;
use crate::sources::pubsub::{OpenReason, Source, StreamEvent, StreamFailure};
use crate::sources::{SourceChange, SourceEvent};
use crate::text::error_chain;

/// Longest wait for a stream to open or fail: the source needs 4 s to tell an open stream that
/// brings nothing from a dead one, and a refusal comes within one.
const LIMIT: Duration = Duration::from_secs(10);
/// How soon a refused stream is opened again, by which the source tells of the refusal.
const REOPEN: Duration = Duration::from_millis(100);
/// How soon, and how often, the source asks whether Pub/Sub is there.
const PROBE: Duration = Duration::from_secs(1);

/// What became of the stream.
enum Outcome {
    /// It is open, or even brought a message.
    Open,
    /// It was lost.
    Lost(StreamFailure),
    /// Nothing is known of it.
    Nothing,
}

/// Opens a stream for a moment. A message that comes is nacked.
pub(super) async fn check(settings: &Pubsub, clock: Clock) -> Line {
    let settings = Pubsub {
        streams: 1,
        max_outstanding_messages: 1,
        reopen_backoff_min: REOPEN,
        reopen_backoff_max: REOPEN,
        probe_interval: PROBE,
        ..settings.clone()
    };
    let source = match Source::connect(&settings, clock).await {
        Ok(source) => source,
        Err(error) => return Line::fail("pull", error_chain(&error)),
    };
    match run(source).await {
        Outcome::Open => Line::ok("pull", "a stream opens, and messages may be pulled"),
        Outcome::Lost(failure @ StreamFailure::Closed) => Line::warn("pull", failure.advice()),
        Outcome::Lost(StreamFailure::Failed) => Line::fail(
            "pull",
            "Pub/Sub refuses the stream; what it said is on standard error",
        ),
        Outcome::Lost(failure) => Line::fail("pull", failure.advice()),
        Outcome::Nothing => Line::fail(
            "pull",
            format_args!("{} ({LIMIT:?})", StreamFailure::Unreachable.advice()),
        ),
    }
}

async fn run(source: Source) -> Outcome {
    let (deliveries, mut received) = mpsc::channel(1);
    let (stop, stopped) = watch::channel(false);
    // The first event that says something decides.
    let (found, mut first) = mpsc::channel(1);
    let on_event = move |event: SourceEvent| {
        if let Some(outcome) = outcome_of(event.change) {
            // An error means that it is decided.
            found.try_send(outcome).ok();
        }
    };
    let source = tokio::spawn(source.run(deliveries, on_event, stopped));
    let outcome = tokio::select! {
        Some(outcome) = first.recv() => outcome,
        () = tokio::time::sleep(LIMIT) => Outcome::Nothing,
    };
    stop.send_replace(true);
    // Nacked when the stream takes no more: the server would send it another one.
    let mut taken = Vec::new();
    while received.recv_many(&mut taken, 1).await > 0 {}
    drop(taken);
    // It has a limit of its own.
    drop(source.await);
    outcome
}

fn outcome_of(change: SourceChange) -> Option<Outcome> {
    match change {
        SourceChange::Up => Some(Outcome::Open),
        SourceChange::Pubsub(StreamEvent::Opened {
            reason: OpenReason::Lost(failure),
        }) => Some(Outcome::Lost(failure)),
        SourceChange::Down
        | SourceChange::Received
        | SourceChange::Acked
        | SourceChange::Returned
        | SourceChange::Pubsub(_) => None,
    }
}
