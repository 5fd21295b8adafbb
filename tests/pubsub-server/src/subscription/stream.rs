//! One open stream: its limits, what it holds, and what it has yet to send.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::faults::End;
use crate::log::StreamSettings;

/// Most messages that wait to be sent on one stream. A few responses' worth, so that a client
/// which does not read makes nothing pile up here.
const OUTBOX_MAX: usize = 1000;

pub(super) struct Stream {
    settings: StreamSettings,
    wake: Arc<Notify>,
    /// Sequence and lease of what it is to send.
    pub(super) outbox: VecDeque<(u64, u64)>,
    messages: i64,
    bytes: i64,
    peak_messages: i64,
    peak_bytes: i64,
    ended: Option<End>,
}

impl Stream {
    pub(super) fn new(settings: StreamSettings, wake: Arc<Notify>) -> Self {
        let outbox = VecDeque::new();
        let (messages, bytes, peak_messages, peak_bytes, ended) = (0, 0, 0, 0, None);
        Self {
            settings,
            wake,
            outbox,
            messages,
            bytes,
            peak_messages,
            peak_bytes,
            ended,
        }
    }

    /// How long a message is leased to it.
    pub(super) fn ack_deadline(&self) -> Duration {
        let seconds = self.settings.stream_ack_deadline_seconds;
        Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
    }

    /// Whether it may be given one more message of this size. A message that is larger than the
    /// limit goes out alone.
    pub(super) fn has_room(&self, size: i64, ignore_limits: bool) -> bool {
        let (max_messages, max_bytes) = (
            self.settings.max_outstanding_messages,
            self.settings.max_outstanding_bytes,
        );
        let messages_fit = max_messages <= 0 || self.messages < max_messages;
        let bytes_fit = max_bytes <= 0 || self.messages == 0 || self.bytes + size <= max_bytes;
        self.ended.is_none()
            && self.outbox.len() < OUTBOX_MAX
            && (ignore_limits || (messages_fit && bytes_fit))
    }

    pub(super) fn hold(&mut self, sequence: u64, lease: u64, size: i64) {
        if self.outbox.is_empty() {
            self.wake.notify_one();
        }
        self.outbox.push_back((sequence, lease));
        self.messages += 1;
        self.bytes += size;
        self.peak_messages = self.peak_messages.max(self.messages);
        self.peak_bytes = self.peak_bytes.max(self.bytes);
    }

    pub(super) fn let_go(&mut self, size: i64) {
        self.messages -= 1;
        self.bytes -= size;
    }

    /// Most messages and bytes that it held at any time.
    pub(super) fn peaks(&self) -> (i64, i64) {
        (self.peak_messages, self.peak_bytes)
    }

    pub(super) fn end(&mut self, end: End) {
        self.outbox.clear();
        self.ended = Some(end);
        self.wake.notify_one();
    }

    pub(super) fn ended(&self) -> Option<End> {
        self.ended.clone()
    }
}
