//! Every metric on one page (contract, section 5).
//!
//! Label values come from fixed sets, and every series starts at 0, so that the first failure is
//! visible to an alert. No device, user or thread is ever a label.

mod observe;
mod register;

use prometheus::{
    Encoder, Histogram, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

use self::register::Register;

use crate::engine::reorder::ReleaseReason;
use crate::event::{Platform, Reason, ResourceKind};
use crate::sinks::DeliveryOutcome;
use crate::sources::pubsub::{AuthStage, OpenReason};
use crate::store::Operation;
use strum::VariantArray as _;

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
    clock_doubted: IntGauge,
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
            clock_doubted: r.gauge(
                "clock_doubted",
                "1 while this machine's clock is too far from the store's to be believed.",
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
            pending: r.gauge(
                "reorder_pending_events",
                "Events that wait for earlier ones.",
            )?,
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
        let operations: Vec<&str> = Operation::VARIANTS.iter().map(AsRef::as_ref).collect();
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
    reachable: IntGauge,
    silent: IntGauge,
    opens: IntCounterVec,
    acks: IntCounterVec,
    outstanding: IntGauge,
    last_received: IntGauge,
    auth_up: IntGauge,
    token_expiry: IntGauge,
    auth_failures: IntCounterVec,
}

impl Stream {
    fn new(r: &Register<'_>) -> Result<Self, prometheus::Error> {
        let reasons = OpenReason::ALL.map(OpenReason::as_str);
        let stages = AuthStage::ALL.map(AuthStage::as_str);
        Ok(Self {
            up: r.gauge(
                "pubsub_stream_up",
                "Streams that brought a message, or are open while Pub/Sub answers.",
            )?,
            reachable: r.gauge("pubsub_reachable", "1 while Pub/Sub answers when asked.")?,
            silent: r.gauge(
                "pubsub_silent",
                "1 while no message has come for pubsub.silence_warning.",
            )?,
            opens: r.counters(
                "pubsub_stream_opens_total",
                "Streams opened.",
                "reason",
                &reasons,
            )?,
            acks: r.counters(
                "pubsub_acks_total",
                "Messages acked (sent), given back (nacked), or come again although acked (lost).",
                "result",
                &["sent", "nacked", "lost"],
            )?,
            outstanding: r.gauge(
                "pubsub_outstanding_messages",
                "Messages neither acked nor given back.",
            )?,
            last_received: r.gauge(
                "last_message_received_timestamp_seconds",
                "When the last message came; 0 if none.",
            )?,
            auth_up: r.gauge(
                "auth_up",
                "1 while the credentials give tokens that are accepted.",
            )?,
            token_expiry: r.gauge(
                "auth_token_expiry_timestamp_seconds",
                "When the last token expires; 0 if there is none, or it doesn't say.",
            )?,
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
        let results = DeliveryOutcome::ALL.map(DeliveryOutcome::as_str);
        let up = r.gauges("sink_up", "0 if the last delivery failed.", "sink", sinks)?;
        sinks
            .iter()
            .for_each(|sink| up.with_label_values(&[*sink]).set(1));
        Ok(Self {
            up,
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
            backlog: r.gauges(
                "sink_backlog_records",
                "Records not settled.",
                "sink",
                sinks,
            )?,
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
}
