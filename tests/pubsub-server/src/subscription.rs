//! The state behind the lock: messages, who holds them until when, and the open streams.
//!
//! A plain state machine. It reads no clock (`now` is the time since the server started) and waits
//! for nothing: it wakes the streams that have something to send.

mod flood;
mod requests;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use tokio::sync::Notify;

pub use self::flood::Flood;
use self::stream::Stream;
use crate::faults::{End, Faults};
use crate::log::{Log, Outcome, StreamSettings};
use crate::proto::{PubsubMessage, ReceivedMessage, StreamingPullResponse, SubscriptionProperties};

/// Most messages in one response. Google's responses are of this size when there is a backlog.
const BATCH_MESSAGES: usize = 500;
/// Size from which a response takes no further message.
const BATCH_BYTES: usize = 1 << 20;

pub(crate) struct Subscription {
    pub(crate) faults: Faults,
    pub(crate) log: Log,
    /// The wall clock when `now` was zero.
    started_at: SystemTime,
    /// By sequence: the order in which they were published.
    messages: BTreeMap<u64, Entry>,
    next_sequence: u64,
    next_lease: u64,
    /// Rank and sequence of the messages that nobody holds; the lowest rank goes first.
    available: BTreeSet<(u64, u64)>,
    /// When leases and pauses end, and of which message.
    timers: BTreeSet<(Duration, u64)>,
    streams: BTreeMap<u64, Stream>,
    /// The first stream to be asked whether it may get the next message.
    turn: u64,
    /// Set while messages are delivered in random order.
    shuffle: Option<Rng>,
    flood: Option<Flood>,
}

struct Entry {
    message: PubsubMessage,
    /// It is forgotten when it is acked.
    from_flood: bool,
    deliveries: u32,
    state: State,
}

enum State {
    Available { rank: u64 },
    Leased(Lease),
    Paused { until: Duration },
    Acked,
}

#[derive(Clone, Copy)]
struct Lease {
    number: u64,
    stream: u64,
    until: Duration,
}

/// What a stream has to do next.
pub(crate) enum Next {
    Send(StreamingPullResponse),
    Wait,
    End(End),
}

impl Subscription {
    pub(crate) fn new(started_at: SystemTime) -> Self {
        Self {
            faults: Faults::default(),
            log: Log::default(),
            started_at,
            messages: BTreeMap::new(),
            next_sequence: 0,
            next_lease: 0,
            available: BTreeSet::new(),
            timers: BTreeSet::new(),
            streams: BTreeMap::new(),
            turn: 0,
            shuffle: None,
            flood: None,
        }
    }

    // ── what publishers do ───────────────────────────────────────────────────────────────────────

    /// Adds a message, and returns its id. An empty id or no publish time means: choose one.
    pub(crate) fn publish(&mut self, message: PubsubMessage, now: Duration) -> String {
        self.add(message, false, now)
    }

    fn add(&mut self, mut message: PubsubMessage, from_flood: bool, now: Duration) -> String {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        if message.message_id.is_empty() {
            message.message_id = message_id(sequence);
        }
        if message.publish_time.is_none() {
            message.publish_time = Some((self.started_at + now).into());
        }
        let id = message.message_id.clone();
        let state = State::Acked; // until it is made available
        self.messages.insert(
            sequence,
            Entry {
                message,
                from_flood,
                deliveries: 0,
                state,
            },
        );
        self.make_available(sequence);
        id
    }

    pub(crate) fn set_flood(&mut self, flood: Option<Flood>) {
        self.flood = flood;
    }

    /// Every message becomes available again, whoever holds it, also those that were acked.
    pub(crate) fn redeliver_all(&mut self) {
        for sequence in self.messages.keys().copied().collect::<Vec<_>>() {
            self.make_available(sequence);
        }
    }

    /// From now on messages are delivered in the order that `seed` makes of them, or in the order
    /// of publishing.
    pub(crate) fn set_order(&mut self, seed: Option<u64>) {
        self.shuffle = seed.map(Rng::with_seed);
        for (_, sequence) in std::mem::take(&mut self.available) {
            self.rank(sequence);
        }
    }

    // ── what subscribers do ──────────────────────────────────────────────────────────────────────

    /// Adds a stream, and returns its number. `wake` is notified when it has something to do.
    pub(crate) fn open_stream(
        &mut self,
        settings: StreamSettings,
        wake: Arc<Notify>,
        now: Duration,
    ) -> u64 {
        let number = self.log.open(now, Some(settings.clone()), Outcome::Open);
        self.streams.insert(number, Stream::new(settings, wake));
        number
    }

    /// Ends all open streams. What they hold becomes available again.
    pub(crate) fn end_streams(&mut self, end: &End) {
        for number in self.streams.keys().copied().collect::<Vec<_>>() {
            self.end_stream(number, end.clone());
        }
    }

    pub(crate) fn end_stream(&mut self, number: u64, end: End) {
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        if let Some(log) = self.log.stream(number) {
            log.outcome = outcome(&end);
        }
        stream.end(end);
        self.release(number);
    }

    /// The stream is gone. Closing it twice does no harm.
    pub(crate) fn close_stream(&mut self, number: u64) {
        self.streams.remove(&number);
        self.release(number);
        if let Some(log) = self
            .log
            .stream(number)
            .filter(|log| log.outcome == Outcome::Open)
        {
            log.outcome = Outcome::Left;
        }
    }

    /// What this stream has to do; messages that it is given count as sent.
    pub(crate) fn next(&mut self, number: u64, now: Duration) -> Next {
        self.assign(now);
        let Some(stream) = self.streams.get_mut(&number) else {
            return Next::End(End::Close);
        };
        if let Some(end) = stream.ended() {
            return Next::End(end);
        }
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_MESSAGES
            && bytes < BATCH_BYTES
            && let Some((sequence, lease)) = stream.outbox.pop_front()
        {
            let Some(entry) = self.messages.get_mut(&sequence) else {
                continue;
            };
            // Since it was assigned, it may have been acked, or its lease may have expired.
            if !matches!(&entry.state, State::Leased(held) if held.number == lease) {
                continue;
            }
            entry.deliveries += 1;
            bytes += entry.message.data.len();
            batch.push(ReceivedMessage {
                ack_id: requests::ack_id(sequence, lease),
                message: Some(entry.message.clone()),
            });
        }
        if batch.is_empty() {
            return Next::Wait;
        }
        let count = batch.len() as u64;
        self.log.delivered += count;
        if let Some(log) = self.log.stream(number) {
            log.delivered += count;
        }
        let exactly_once = self.faults.subscription["enableExactlyOnceDelivery"] == true;
        Next::Send(StreamingPullResponse {
            received_messages: batch,
            subscription_properties: Some(SubscriptionProperties {
                exactly_once_delivery_enabled: exactly_once,
            }),
        })
    }

    // ── time, and the hand-out ───────────────────────────────────────────────────────────────────

    /// Ends the leases and pauses whose time has come, and hands out what is available.
    pub(crate) fn tick(&mut self, now: Duration) {
        while let Some(&(until, sequence)) = self.timers.first()
            && until <= now
        {
            self.make_available(sequence);
        }
        self.assign(now);
    }

    /// Hands available messages to the streams in turn, one at a time.
    pub(crate) fn assign(&mut self, now: Duration) {
        if self.faults.silent || self.streams.is_empty() {
            return;
        }
        loop {
            let Some((rank, sequence)) = self.available.first().copied() else {
                if self.make_one_of_flood(now) {
                    continue;
                }
                return;
            };
            let size = self
                .messages
                .get(&sequence)
                .map_or(0, |entry| size(&entry.message));
            let Some(number) = self.next_stream(size) else {
                return;
            };
            self.available.remove(&(rank, sequence));
            self.lease(sequence, number, size, now);
        }
    }

    fn make_one_of_flood(&mut self, now: Duration) -> bool {
        let Some(body) = self.flood.as_mut().and_then(Flood::next) else {
            return false;
        };
        self.add(
            PubsubMessage {
                data: body.into(),
                ..Default::default()
            },
            true,
            now,
        );
        true
    }

    /// The stream whose turn it is, among those whose limits allow a message of this size.
    fn next_stream(&self, size: i64) -> Option<u64> {
        let ignore_limits = self.faults.ignore_flow_control;
        self.streams
            .range(self.turn..)
            .chain(self.streams.range(..self.turn))
            .find(|(_, stream)| stream.has_room(size, ignore_limits))
            .map(|(number, _)| *number)
    }

    fn lease(&mut self, sequence: u64, number: u64, size: i64, now: Duration) {
        let (Some(entry), Some(stream)) = (
            self.messages.get_mut(&sequence),
            self.streams.get_mut(&number),
        ) else {
            return;
        };
        let lease = Lease {
            number: self.next_lease,
            stream: number,
            until: now + stream.ack_deadline(),
        };
        self.next_lease += 1;
        self.turn = number + 1;
        entry.state = State::Leased(lease);
        self.timers.insert((lease.until, sequence));
        stream.hold(sequence, lease.number, size);
        if let Some(log) = self.log.stream(number) {
            (log.peak_messages, log.peak_bytes) = stream.peaks();
        }
    }

    /// Gives up what a stream holds, unless its leases are to last.
    fn release(&mut self, number: u64) {
        if self.faults.hold_leases {
            return;
        }
        let is_held = |sequence: &u64| {
            let state = self.messages.get(sequence).map(|entry| &entry.state);
            matches!(state, Some(State::Leased(lease)) if lease.stream == number)
        };
        let held: Vec<u64> = self
            .timers
            .iter()
            .map(|(_, sequence)| *sequence)
            .filter(is_held)
            .collect();
        for sequence in held {
            self.make_available(sequence);
        }
    }

    fn make_available(&mut self, sequence: u64) {
        // The rank follows: it is not known before the message is free.
        self.take_away(sequence, State::Available { rank: 0 });
        self.rank(sequence);
    }

    /// Puts an available message where its turn is.
    fn rank(&mut self, sequence: u64) {
        let rank = self.shuffle.as_mut().map_or(sequence, |rng| rng.u64(..));
        if let Some(entry) = self.messages.get_mut(&sequence) {
            entry.state = State::Available { rank };
            self.available.insert((rank, sequence));
        }
    }

    /// Takes a message from whoever has it and puts it into another state. False if it was acked
    /// before, or is unknown.
    fn take_away(&mut self, sequence: u64, state: State) -> bool {
        let Some(entry) = self.messages.get_mut(&sequence) else {
            return false;
        };
        match std::mem::replace(&mut entry.state, state) {
            State::Available { rank } => {
                self.available.remove(&(rank, sequence));
            }
            State::Paused { until } => {
                self.timers.remove(&(until, sequence));
            }
            State::Leased(lease) => {
                self.timers.remove(&(lease.until, sequence));
                if let Some(stream) = self.streams.get_mut(&lease.stream) {
                    stream.let_go(size(&entry.message));
                }
            }
            State::Acked => return false,
        }
        true
    }

    // ── what tests see ───────────────────────────────────────────────────────────────────────────

    /// Ids of the messages that are acked, or of those that are not.
    pub(crate) fn ids(&self, acked: bool) -> BTreeSet<String> {
        let wanted = self
            .messages
            .values()
            .filter(|entry| matches!(entry.state, State::Acked) == acked);
        wanted
            .map(|entry| entry.message.message_id.clone())
            .collect()
    }

    pub(crate) fn log(&self) -> Log {
        let mut log = self.log.clone();
        for entry in self.messages.values() {
            *log.deliveries
                .entry(entry.message.message_id.clone())
                .or_default() += entry.deliveries;
        }
        log
    }
}

/// As long as Google's, and in the order of publishing.
fn message_id(sequence: u64) -> String {
    (1_000_000_000_000_000 + sequence).to_string()
}

/// Bytes that a message counts for in flow control: its data.
fn size(message: &PubsubMessage) -> i64 {
    i64::try_from(message.data.len()).unwrap_or(i64::MAX)
}

fn outcome(end: &End) -> Outcome {
    match end {
        End::Status(status) => Outcome::Ended(status.code()),
        End::Close => Outcome::Ended(tonic::Code::Ok),
        End::Reset => Outcome::Reset,
    }
}

#[cfg(test)]
mod tests;
