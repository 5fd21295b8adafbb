//! Every metric on one page (contract, section 5).
//!
//! Label values come from fixed sets, and every series starts at 0, so that the first failure is
//! visible to an alert. No device, user or thread is ever a label.

mod register;

use prometheus::{
    Encoder, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
    TextEncoder,
};

use self::register::Register;

use crate::engine::Engine;
use crate::engine::change::Tally;
use crate::engine::reorder::ReleaseReason;
use crate::event::{ClockTime, Platform, RawMessage, Reason, ResourceKind, Timestamp};
use crate::sinks::Delivered;
use crate::sources::pubsub::{AuthStage, OpenReason, SourceEvent};
use crate::store::Operation;

/// The metrics of a running service.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    messages: Messages,
    engine: EngineState,
    store: StoreHealth,
    pubsub: Stream,
    sinks: Sinks,
}

/// What became of messages: P6 in numbers.
#[derive(Debug)]
struct Messages {
    received: IntCounterVec,
    duplicate: IntCounterVec,
    quarantined: IntCounterVec,
    emitted: IntCounterVec,
    late: IntCounterVec,
    imbalance: IntGauge,
    publish_to_receive: Histogram,
    event_to_publish: Histogram,
    receive_to_commit: Histogram,
}

impl Messages {
    fn new(r: &Register<'_>) -> Result<Self, prometheus::Error> {
        let by_platform =
            |name, help| r.counters(name, help, "platform", &Platform::ALL.map(Platform::as_str));
        let reasons = Reason::ALL.map(Reason::as_str);
        let quarantined = r.counters_of_two(
            "messages_quarantined_total",
            "Messages put into quarantine.",
            ("platform", &Platform::ALL.map(Platform::as_str)),
            ("reason", &reasons),
        )?;
        Ok(Self {
            received: by_platform(
                "messages_received_total",
                "Messages taken in, at commit; what was pending at the start is among them.",
            )?,
            duplicate: by_platform(
                "messages_duplicate_total",
                "Messages whose payload was seen before.",
            )?,
            quarantined,
            emitted: by_platform("events_emitted_total", "Events that reached the event log.")?,
            late: by_platform(
                "events_late_total",
                "Events that came after a greater one of their ordering key was released.",
            )?,
            imbalance: r.gauge(
                "conservation_imbalance",
                "Messages received less emitted, duplicate, quarantined and pending ones.",
            )?,
            publish_to_receive: r
                .histogram("publish_to_receive_seconds", "From publishTime to receipt.")?,
            event_to_publish: r.histogram(
                "event_to_publish_seconds",
                "From an event's timestamp to publishTime.",
            )?,
            receive_to_commit: r
                .histogram("receive_to_commit_seconds", "From receipt to commit.")?,
        })
    }
}

/// What the engine holds, and what it did.
#[derive(Debug)]
struct EngineState {
    pending: IntGauge,
    oldest_pending: IntGauge,
    released: IntCounterVec,
    threads_open: IntGauge,
    notifications: IntCounterVec,
    resources: IntGaugeVec,
}

impl EngineState {
    fn new(r: &Register<'_>) -> Result<Self, prometheus::Error> {
        let reasons = ReleaseReason::ALL.map(ReleaseReason::as_str);
        let changes = ["opened", "updated", "closed", "reopened"];
        let kinds = ResourceKind::ALL.map(ResourceKind::as_str);
        Ok(Self {
            pending: r.gauge("reorder_pending_events", "Events that wait for earlier ones.")?,
            oldest_pending: r.gauge(
                "reorder_pending_oldest_timestamp_seconds",
                "When the event that waits longest arrived; 0 if none waits.",
            )?,
            released: r.counters(
                "reorder_released_total",
                "Events released to the event log.",
                "reason",
                &reasons,
            )?,
            threads_open: r.gauge("threads_open", "Open notifications.")?,
            notifications: r.counters(
                "notifications_total",
                "Changes of notifications.",
                "change",
                &changes,
            )?,
            resources: r.gauges("graph_resources", "Resources in the graph.", "kind", &kinds)?,
        })
    }
}

/// How the store does.
#[derive(Debug)]
struct StoreHealth {
    commit: Histogram,
    bytes: IntGauge,
    errors: IntCounterVec,
}

impl StoreHealth {
    fn new(r: &Register<'_>) -> Result<Self, prometheus::Error> {
        let operations = Operation::ALL.map(Operation::as_str);
        Ok(Self {
            commit: r.histogram("store_commit_seconds", "Time of a commit, with its sync.")?,
            bytes: r.gauge("store_bytes", "Size of the store's files.")?,
            errors: r.counters("store_errors_total", "Store failures.", "op", &operations)?,
        })
    }
}

/// How the Pub/Sub stream and its credentials do.
#[derive(Debug)]
struct Stream {
    up: IntGauge,
    opens: IntCounterVec,
    acks: IntCounterVec,
    outstanding: IntGauge,
    last_received: IntGauge,
    auth_up: IntGauge,
    auth_failures: IntCounterVec,
}

impl Stream {
    fn new(r: &Register<'_>) -> Result<Self, prometheus::Error> {
        let reasons = OpenReason::ALL.map(OpenReason::as_str);
        let stages = AuthStage::ALL.map(AuthStage::as_str);
        Ok(Self {
            up: r.gauge("pubsub_stream_up", "1 while the stream brings messages.")?,
            opens: r.counters(
                "pubsub_stream_opens_total",
                "Streams opened.",
                "reason",
                &reasons,
            )?,
            acks: r.counters(
                "pubsub_acks_total",
                "Messages acked (sent) or given back (nacked).",
                "result",
                &["sent", "nacked"],
            )?,
            outstanding: r
                .gauge("pubsub_outstanding_messages", "Messages neither acked nor given back.")?,
            last_received: r.gauge(
                "last_message_received_timestamp_seconds",
                "When the last message came; 0 if none.",
            )?,
            auth_up: r.gauge("auth_up", "1 while the credentials give tokens.")?,
            auth_failures: r.counters("auth_failures_total", "Failures.", "stage", &stages)?,
        })
    }
}

/// How the sinks do.
#[derive(Debug)]
struct Sinks {
    up: IntGaugeVec,
    deliveries: IntCounterVec,
    delivery: HistogramVec,
    backlog: IntGaugeVec,
    dead_letters: IntCounterVec,
}

impl Sinks {
    fn new(r: &Register<'_>, sinks: &[&str]) -> Result<Self, prometheus::Error> {
        let results = Delivered::ALL.map(Delivered::as_str);
        Ok(Self {
            up: r.gauges("sink_up", "1 if the last delivery succeeded.", "sink", sinks)?,
            deliveries: r.counters_of_two(
                "sink_deliveries_total",
                "Records by the end of their delivery.",
                ("sink", sinks),
                ("result", &results),
            )?,
            delivery: r.histograms(
                "sink_delivery_seconds",
                "Time of a delivery.",
                "sink",
                sinks,
            )?,
            backlog: r.gauges("sink_backlog_records", "Records not settled.", "sink", sinks)?,
            dead_letters: r.counters("sink_dead_letters_total", "Records lost.", "sink", sinks)?,
        })
    }
}

impl Metrics {
    /// Registers every metric, for these sinks. An error means that two have one name.
    pub fn new(sinks: &[&str]) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let register = Register(&registry);
        register.build_info()?;
        register.process()?;
        Ok(Self {
            messages: Messages::new(&register)?,
            engine: EngineState::new(&register)?,
            store: StoreHealth::new(&register)?,
            pubsub: Stream::new(&register)?,
            sinks: Sinks::new(&register, sinks)?,
            registry,
        })
    }

    /// The exposition text. Empty if it can't be encoded, which our own metrics always can.
    pub fn scrape(&self) -> String {
        let mut text = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            Ok(()) => String::from_utf8(text).unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// What was pending at the start counts as received.
    pub fn count_pending_at_start(&self, pending: usize) {
        sdm(&self.messages.received).inc_by(pending as u64);
    }

    /// A step was committed.
    pub fn count(&self, tally: &Tally) {
        sdm(&self.messages.received).inc_by(tally.received);
        sdm(&self.messages.duplicate).inc_by(tally.duplicates);
        sdm(&self.messages.emitted).inc_by(tally.emitted);
        sdm(&self.messages.late).inc_by(tally.late);
        for (reason, count) in &tally.quarantined {
            let labels = [Platform::Sdm.as_str(), reason.as_str()];
            self.messages.quarantined.with_label_values(&labels).inc_by(*count);
        }
        for (reason, count) in &tally.released {
            self.engine.released.with_label_values(&[reason.as_str()]).inc_by(*count);
        }
        let changes = [
            ("opened", tally.opened),
            ("updated", tally.updated),
            ("closed", tally.closed),
            ("reopened", tally.reopened),
        ];
        for (change, count) in changes {
            self.engine.notifications.with_label_values(&[change]).inc_by(count);
        }
    }

    /// A message came, and when its event says it happened, if it says so.
    pub fn observe_message(&self, raw: &RawMessage, event_time: Option<&Timestamp>) {
        let (published, received) = (raw.publish_time.0.at(), raw.received_at.0.at());
        self.messages.publish_to_receive.observe(seconds(received - published));
        if let Some(event_time) = event_time {
            self.messages.event_to_publish.observe(seconds(published - event_time.at()));
        }
    }

    /// Messages were committed that long after their receipt.
    pub fn observe_commit(&self, receipt_to_commit: chrono::TimeDelta) {
        self.messages.receive_to_commit.observe(seconds(receipt_to_commit));
    }

    /// A commit took that long.
    pub fn observe_store_commit(&self, seconds: f64) {
        self.store.commit.observe(seconds);
    }

    /// The store failed.
    pub fn count_store_error(&self, op: Operation) {
        self.store.errors.with_label_values(&[op.as_str()]).inc();
    }

    /// Shows the state of the engine and the store.
    pub fn show(&self, engine: &Engine, imbalance: i64, store_bytes: u64) {
        self.engine.pending.set(integer(engine.pending() as u64));
        self.engine.oldest_pending.set(engine.oldest_pending().map_or(0, ClockTime::unix_seconds));
        self.engine.threads_open.set(integer(engine.open_threads() as u64));
        self.messages.imbalance.set(imbalance);
        self.store.bytes.set(integer(store_bytes));
    }

    /// Shows the number of resources of each kind.
    pub fn show_graph(&self, engine: &Engine) {
        let mut counts = ResourceKind::ALL.map(|kind| (kind, 0));
        for resource in engine.resources() {
            for (kind, count) in &mut counts {
                *count += i64::from(*kind == resource.kind);
            }
        }
        for (kind, count) in counts {
            self.engine.resources.with_label_values(&[kind.as_str()]).set(count);
        }
    }

    /// Something happened to the stream. `now` is in seconds since the Unix epoch.
    pub fn count_source_event(&self, event: SourceEvent, now: i64) {
        match event {
            SourceEvent::StreamOpened { reason } => {
                self.pubsub.opens.with_label_values(&[reason.as_str()]).inc();
            }
            SourceEvent::StreamUp => self.pubsub.up.set(1),
            SourceEvent::StreamDown { .. } => self.pubsub.up.set(0),
            SourceEvent::MessageReceived => {
                self.pubsub.outstanding.inc();
                self.pubsub.last_received.set(now);
            }
            SourceEvent::TokenOk => self.pubsub.auth_up.set(1),
            SourceEvent::AuthFailed { stage } => {
                self.pubsub.auth_up.set(0);
                self.pubsub.auth_failures.with_label_values(&[stage.as_str()]).inc();
            }
        }
    }

    /// Messages were acked, or given back to be delivered again.
    pub fn count_acks(&self, count: usize, acked: bool) {
        let result = if acked { "sent" } else { "nacked" };
        self.pubsub.acks.with_label_values(&[result]).inc_by(count as u64);
        self.pubsub.outstanding.sub(integer(count as u64));
    }

    /// A sink settled or failed to settle records; that took so many seconds.
    pub fn count_sink(&self, sink: &str, result: Delivered, count: u64, seconds: f64) {
        self.sinks.deliveries.with_label_values(&[sink, result.as_str()]).inc_by(count);
        match result {
            Delivered::Ok if count > 0 => {
                self.sinks.up.with_label_values(&[sink]).set(1);
                self.sinks.delivery.with_label_values(&[sink]).observe(seconds);
            }
            Delivered::Failed => self.sinks.up.with_label_values(&[sink]).set(0),
            Delivered::Ok | Delivered::Filtered => {}
        }
    }

    /// Shows how many records a sink has not settled.
    pub fn show_backlog(&self, sink: &str, records: u64) {
        self.sinks.backlog.with_label_values(&[sink]).set(integer(records));
    }

    /// A sink lost records.
    pub fn count_dead_letters(&self, sink: &str, records: u64) {
        self.sinks.dead_letters.with_label_values(&[sink]).inc_by(records);
    }
}

fn sdm(counters: &IntCounterVec) -> IntCounter {
    counters.with_label_values(&[Platform::Sdm.as_str()])
}

fn seconds(delta: chrono::TimeDelta) -> f64 {
    // Clocks differ: what seems to come before its cause took no time.
    delta.to_std().unwrap_or_default().as_secs_f64()
}

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
