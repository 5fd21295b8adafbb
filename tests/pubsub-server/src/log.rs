//! What the server saw. Counts are exact; lists are bounded, so that hours of flooding fit.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tonic::Code;

/// Longest list. More than any test looks at, and a few MB at most.
const LIST_MAX: usize = 100_000;

/// What the server saw since it started. Lists end after 100,000 entries.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Number of attempts to open a stream, refused ones included.
    pub opens: u64,
    /// The attempts, in order.
    pub streams: Vec<StreamLog>,
    /// Acknowledge requests.
    pub acknowledge: Requests,
    /// ModifyAckDeadline requests.
    pub modify_ack_deadline: Requests,
    /// Ids of messages that were nacked, in order.
    pub nacked: Vec<String>,
    /// Number of messages sent, each redelivery counted.
    pub delivered: u64,
    /// Number of messages acked, those of a flood included; a message counts each time that it
    /// went from not acked to acked.
    pub acked: u64,
    /// How many times each message was sent: all published ones, and those of a flood that are
    /// not acked.
    pub deliveries: BTreeMap<String, u32>,
    /// Number of requests for the subscription or the topic that passed the token check.
    pub admin_requests: u64,
    /// Requests whose token was refused.
    pub auth_failures: Vec<AuthFailure>,
    /// Every distinct bearer token.
    pub tokens: BTreeSet<String>,
}

/// One attempt to open a stream.
#[derive(Clone, Debug)]
pub struct StreamLog {
    /// When, since the server started.
    pub opened_at: Duration,
    /// What the client's first request said; `None` if it was refused before that was read.
    pub settings: Option<StreamSettings>,
    /// What became of it.
    pub outcome: Outcome,
    /// Number of messages sent.
    pub delivered: u64,
    /// Most messages that were outstanding at any time.
    pub peak_messages: i64,
    /// Most bytes of message data that were outstanding at any time.
    pub peak_bytes: i64,
}

/// What a client asks for when it opens a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSettings {
    /// `projects/…/subscriptions/…`
    pub subscription: String,
    /// Who the client says that it is.
    pub client_id: String,
    /// How long a message is leased to the stream.
    pub stream_ack_deadline_seconds: i32,
    /// Most messages that may be outstanding; no limit if it is not positive.
    pub max_outstanding_messages: i64,
    /// Most bytes that may be outstanding; no limit if it is not positive.
    pub max_outstanding_bytes: i64,
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is open.
    Open,
    /// The client left, or the connection broke.
    Left,
    /// The server ended it with this status.
    Ended(Code),
    /// The server reset the connection.
    Reset,
    /// The request was answered with this HTTP status and no gRPC status.
    Http(u16),
}

/// Requests that name messages, of one kind. Ids are those of the messages.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    /// Number of requests.
    pub count: u64,
    /// Number of ids in them.
    pub ids: u64,
    /// Ids in requests that were carried out, in order, but for those of a flood.
    pub applied: Vec<String>,
    /// Ids in requests that were answered OK and forgotten.
    pub lost: Vec<String>,
    /// Ids in requests that were answered with an error.
    pub refused: Vec<String>,
}

/// A request whose token was refused.
#[derive(Clone, Debug)]
pub struct AuthFailure {
    /// When, since the server started.
    pub at: Duration,
    /// The path of the request.
    pub path: String,
    /// What was wrong with the token.
    pub reason: String,
}

impl Log {
    /// Notes an attempt to open a stream, and returns its number, which is its place in `streams`
    /// while that is not full.
    pub(crate) fn open(
        &mut self,
        opened_at: Duration,
        settings: Option<StreamSettings>,
        outcome: Outcome,
    ) -> u64 {
        let number = self.opens;
        self.opens += 1;
        let (delivered, peak_messages, peak_bytes) = (0, 0, 0);
        let stream = StreamLog {
            opened_at,
            settings,
            outcome,
            delivered,
            peak_messages,
            peak_bytes,
        };
        note(&mut self.streams, stream);
        number
    }

    /// The stream with this number, while it is in the list.
    pub(crate) fn stream(&mut self, number: u64) -> Option<&mut StreamLog> {
        usize::try_from(number)
            .ok()
            .and_then(|index| self.streams.get_mut(index))
    }

    pub(crate) fn note_auth_failure(&mut self, failure: AuthFailure) {
        note(&mut self.auth_failures, failure);
    }

    pub(crate) fn note_token(&mut self, token: &str) {
        if self.tokens.len() < LIST_MAX && !self.tokens.contains(token) {
            self.tokens.insert(token.to_owned());
        }
    }
}

/// Adds to a list that isn't full.
pub(crate) fn note<T>(list: &mut Vec<T>, item: T) {
    if list.len() < LIST_MAX {
        list.push(item);
    }
}
