//! Every metric on one page (contract, section 5).
//!
//! Label values come from fixed sets, and every series starts at 0, so that the first failure is
//! visible to an alert. No device, user or thread is ever a label.

use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::engine::Engine;
use crate::engine::change::Tally;
use crate::engine::reorder::ReleaseReason;
use crate::event::{ClockTime, Platform, RawMessage, Reason, ResourceKind, Timestamp};
use crate::sources::pubsub::{AuthStage, OpenReason, SourceEvent};
use crate::store::Operation;

/// From a store's fastest commit to a backlog after days of downtime, in seconds.
const LATENCY: [f64; 14] = [
    0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 3_600.0, 86_400.0,
];

/// What a sink's delivery can end in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The receiver has it.
    Ok,
    /// It will be tried again.
    Failed,
    /// This sink does not want records of its kind.
    Filtered,
}

impl Delivered {
    const ALL: [Self; 3] = [Self::Ok, Self::Failed, Self::Filtered];

    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Filtered => "filtered",
        }
    }
}

/// The metrics of a running service.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    messages_received: IntCounterVec,
    messages_duplicate: IntCounterVec,
    messages_quarantined: IntCounterVec,
    events_emitted: IntCounterVec,
    events_late: IntCounterVec,
    conservation_imbalance: IntGauge,
    publish_to_receive: Histogram,
    event_to_publish: Histogram,
    receive_to_commit: Histogram,
    reorder_pending: IntGauge,
    reorder_oldest: IntGauge,
    reorder_released: IntCounterVec,
    threads_open: IntGauge,
    notifications: IntCounterVec,
    graph_resources: IntGaugeVec,
    store_commit: Histogram,
    store_bytes: IntGauge,
    store_errors: IntCounterVec,
    stream_up: IntGauge,
    stream_opens: IntCounterVec,
    acks: IntCounterVec,
    outstanding: IntGauge,
    last_received: IntGauge,
    auth_up: IntGauge,
    auth_failures: IntCounterVec,
    sink_up: IntGaugeVec,
    sink_deliveries: IntCounterVec,
    sink_delivery: HistogramVec,
    sink_backlog: IntGaugeVec,
    sink_dead_letters: IntCounterVec,
}

impl Metrics {
    /// Registers every metric, for these sinks. An error means that two have one name.
    pub fn new(sinks: &[&str]) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let r = &registry;
        register_build_info(r)?;
        register_process(r)?;
        let platforms = Platform::ALL.map(Platform::as_str);
        let stages = AuthStage::ALL.map(AuthStage::as_str);
        let opens = OpenReason::ALL.map(OpenReason::as_str);
        let metrics = Self {
            messages_received: counters(
                r,
                "messages_received_total",
                "Messages taken in, at commit; what was pending at the start is among them.",
                "platform",
                &platforms,
            )?,
            messages_duplicate: counters(
                r,
                "messages_duplicate_total",
                "Messages whose payload was seen before.",
                "platform",
                &platforms,
            )?,
            messages_quarantined: quarantined(r)?,
            events_emitted: counters(
                r,
                "events_emitted_total",
                "Events that reached the event log.",
                "platform",
                &platforms,
            )?,
            events_late: counters(
                r,
                "events_late_total",
                "Events that came after a greater one of their ordering key was released.",
                "platform",
                &platforms,
            )?,
            conservation_imbalance: gauge(
                r,
                "conservation_imbalance",
                "Messages received less emitted, duplicate, quarantined and pending ones; anything but 0 is a defect.",
            )?,
            publish_to_receive: histogram(
                r,
                "publish_to_receive_seconds",
                "From Pub/Sub's publishTime to receipt.",
            )?,
            event_to_publish: histogram(
                r,
                "event_to_publish_seconds",
                "From an event's timestamp to its publishTime.",
            )?,
            receive_to_commit: histogram(
                r,
                "receive_to_commit_seconds",
                "From receipt to commit.",
            )?,
            reorder_pending: gauge(
                r,
                "reorder_pending_events",
                "Events that wait for earlier ones.",
            )?,
            reorder_oldest: gauge(
                r,
                "reorder_pending_oldest_timestamp_seconds",
                "When the event that waits longest arrived; 0 if none waits.",
            )?,
            reorder_released: counters(
                r,
                "reorder_released_total",
                "Events released to the event log.",
                "reason",
                &ReleaseReason::ALL.map(ReleaseReason::as_str),
            )?,
            threads_open: gauge(r, "threads_open", "Open notifications.")?,
            notifications: counters(
                r,
                "notifications_total",
                "Changes of notifications.",
                "change",
                &["opened", "updated", "closed", "reopened"],
            )?,
            graph_resources: gauges(
                r,
                "graph_resources",
                "Resources in the graph.",
                "kind",
                &ResourceKind::ALL.map(ResourceKind::as_str),
            )?,
            store_commit: histogram(
                r,
                "store_commit_seconds",
                "Time that a commit takes, its sync to disk included.",
            )?,
            store_bytes: gauge(r, "store_bytes", "Size of the store's files.")?,
            store_errors: counters(
                r,
                "store_errors_total",
                "Failures of the store.",
                "op",
                &Operation::ALL.map(Operation::as_str),
            )?,
            stream_up: gauge(
                r,
                "pubsub_stream_up",
                "1 once the stream brought a message, until it ends.",
            )?,
            stream_opens: counters(
                r,
                "pubsub_stream_opens_total",
                "Streams opened.",
                "reason",
                &opens,
            )?,
            acks: counters(
                r,
                "pubsub_acks_total",
                "Messages handed to the client to ack (sent), or to be delivered again (nacked).",
                "result",
                &["sent", "nacked"],
            )?,
            outstanding: gauge(
                r,
                "pubsub_outstanding_messages",
                "Messages received and neither acked nor given back.",
            )?,
            last_received: gauge(
                r,
                "last_message_received_timestamp_seconds",
                "When the last message was received; 0 if none was.",
            )?,
            auth_up: gauge(r, "auth_up", "1 while the credentials give tokens.")?,
            auth_failures: counters(
                r,
                "auth_failures_total",
                "Failures of the credentials.",
                "stage",
                &stages,
            )?,
            sink_up: gauges(
                r,
                "sink_up",
                "1 while the sink's last delivery succeeded.",
                "sink",
                sinks,
            )?,
            sink_deliveries: sink_deliveries(r, sinks)?,
            sink_delivery: sink_delivery(r, sinks)?,
            sink_backlog: gauges(
                r,
                "sink_backlog_records",
                "Records that the sink has not settled.",
                "sink",
                sinks,
            )?,
            sink_dead_letters: counters(
                r,
                "sink_dead_letters_total",
                "Records that the sink lost.",
                "sink",
                sinks,
            )?,
            registry: registry.clone(),
        };
        Ok(metrics)
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
        sdm(&self.messages_received).inc_by(pending as u64);
    }

    /// A step was committed.
    pub fn count(&self, tally: &Tally) {
        sdm(&self.messages_received).inc_by(tally.received);
        sdm(&self.messages_duplicate).inc_by(tally.duplicates);
        sdm(&self.events_emitted).inc_by(tally.emitted);
        sdm(&self.events_late).inc_by(tally.late);
        for (reason, count) in &tally.quarantined {
            let labels = [Platform::Sdm.as_str(), reason.as_str()];
            self.messages_quarantined
                .with_label_values(&labels)
                .inc_by(*count);
        }
        for (reason, count) in &tally.released {
            self.reorder_released
                .with_label_values(&[reason.as_str()])
                .inc_by(*count);
        }
        let changes = [
            ("opened", tally.opened),
            ("updated", tally.updated),
            ("closed", tally.closed),
            ("reopened", tally.reopened),
        ];
        for (change, count) in changes {
            self.notifications
                .with_label_values(&[change])
                .inc_by(count);
        }
    }

    /// A message came, and when its event says it happened, if it says so.
    pub fn observe_message(&self, raw: &RawMessage, event_time: Option<&Timestamp>) {
        let (published, received) = (raw.publish_time.0.at(), raw.received_at.0.at());
        self.publish_to_receive
            .observe(seconds(received - published));
        if let Some(event_time) = event_time {
            self.event_to_publish
                .observe(seconds(published - event_time.at()));
        }
    }

    /// Messages were committed that long after their receipt.
    pub fn observe_commit(&self, receipt_to_commit: chrono::TimeDelta) {
        self.receive_to_commit.observe(seconds(receipt_to_commit));
    }

    /// A step took that long, its commit included.
    pub fn observe_step(&self, seconds: f64) {
        self.store_commit.observe(seconds);
    }

    /// The store failed.
    pub fn count_store_error(&self, op: Operation) {
        self.store_errors.with_label_values(&[op.as_str()]).inc();
    }

    /// Shows the state of the engine and the store.
    pub fn show(&self, engine: &Engine, imbalance: i64, store_bytes: u64) {
        self.reorder_pending.set(integer(engine.pending() as u64));
        self.reorder_oldest
            .set(engine.oldest_pending().map_or(0, ClockTime::unix_seconds));
        self.threads_open.set(integer(engine.open_threads() as u64));
        self.conservation_imbalance.set(imbalance);
        self.store_bytes.set(integer(store_bytes));
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
            self.graph_resources
                .with_label_values(&[kind.as_str()])
                .set(count);
        }
    }

    /// Something happened to the stream. `now` is in seconds since the Unix epoch.
    pub fn count_source_event(&self, event: SourceEvent, now: i64) {
        match event {
            SourceEvent::StreamOpened { reason } => {
                self.stream_opens
                    .with_label_values(&[reason.as_str()])
                    .inc();
            }
            SourceEvent::StreamUp => self.stream_up.set(1),
            SourceEvent::StreamDown { .. } => self.stream_up.set(0),
            SourceEvent::MessageReceived => {
                self.outstanding.inc();
                self.last_received.set(now);
            }
            SourceEvent::TokenOk => self.auth_up.set(1),
            SourceEvent::AuthFailed { stage } => {
                self.auth_up.set(0);
                self.auth_failures
                    .with_label_values(&[stage.as_str()])
                    .inc();
            }
        }
    }

    /// Messages were acked, or given back to be delivered again.
    pub fn count_acks(&self, count: usize, acked: bool) {
        let result = if acked { "sent" } else { "nacked" };
        self.acks.with_label_values(&[result]).inc_by(count as u64);
        self.outstanding.sub(integer(count as u64));
    }

    /// A sink settled or failed to settle records; that took so many seconds.
    pub fn count_sink(&self, sink: &str, result: Delivered, count: u64, seconds: f64) {
        self.sink_deliveries
            .with_label_values(&[sink, result.as_str()])
            .inc_by(count);
        match result {
            Delivered::Ok if count > 0 => {
                self.sink_up.with_label_values(&[sink]).set(1);
                self.sink_delivery
                    .with_label_values(&[sink])
                    .observe(seconds);
            }
            Delivered::Failed => self.sink_up.with_label_values(&[sink]).set(0),
            Delivered::Ok | Delivered::Filtered => {}
        }
    }

    /// Shows how many records a sink has not settled.
    pub fn show_backlog(&self, sink: &str, records: u64) {
        self.sink_backlog
            .with_label_values(&[sink])
            .set(integer(records));
    }

    /// A sink lost records.
    pub fn count_dead_letters(&self, sink: &str, records: u64) {
        self.sink_dead_letters
            .with_label_values(&[sink])
            .inc_by(records);
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

fn name(suffix: &str) -> String {
    format!("hearthd_{suffix}")
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counters(
    registry: &Registry,
    suffix: &str,
    help: &str,
    label: &str,
    values: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let metric = IntCounterVec::new(Opts::new(name(suffix), help), &[label])?;
    for value in values {
        metric.with_label_values(&[*value]);
    }
    registered(registry, metric)
}

fn quarantined(registry: &Registry) -> Result<IntCounterVec, prometheus::Error> {
    let opts = Opts::new(
        name("messages_quarantined_total"),
        "Messages put into quarantine.",
    );
    let metric = IntCounterVec::new(opts, &["platform", "reason"])?;
    for platform in Platform::ALL {
        for reason in Reason::ALL {
            metric.with_label_values(&[platform.as_str(), reason.as_str()]);
        }
    }
    registered(registry, metric)
}

fn sink_deliveries(
    registry: &Registry,
    sinks: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let opts = Opts::new(
        name("sink_deliveries_total"),
        "Records by what their delivery ended in.",
    );
    let metric = IntCounterVec::new(opts, &["sink", "result"])?;
    for sink in sinks {
        for result in Delivered::ALL {
            metric.with_label_values(&[*sink, result.as_str()]);
        }
    }
    registered(registry, metric)
}

fn sink_delivery(registry: &Registry, sinks: &[&str]) -> Result<HistogramVec, prometheus::Error> {
    let opts = HistogramOpts::new(name("sink_delivery_seconds"), "Time that a delivery takes.")
        .buckets(LATENCY.to_vec());
    let metric = HistogramVec::new(opts, &["sink"])?;
    for sink in sinks {
        metric.with_label_values(&[*sink]);
    }
    registered(registry, metric)
}

fn gauge(registry: &Registry, suffix: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    registered(registry, IntGauge::new(name(suffix), help)?)
}

fn gauges(
    registry: &Registry,
    suffix: &str,
    help: &str,
    label: &str,
    values: &[&str],
) -> Result<IntGaugeVec, prometheus::Error> {
    let metric = IntGaugeVec::new(Opts::new(name(suffix), help), &[label])?;
    for value in values {
        metric.with_label_values(&[*value]);
    }
    registered(registry, metric)
}

fn histogram(
    registry: &Registry,
    suffix: &str,
    help: &str,
) -> Result<Histogram, prometheus::Error> {
    let opts = HistogramOpts::new(name(suffix), help).buckets(LATENCY.to_vec());
    registered(registry, Histogram::with_opts(opts)?)
}

fn register_build_info(registry: &Registry) -> Result<(), prometheus::Error> {
    let opts = Opts::new(name("build_info"), "Always 1; which hearthd this is.");
    let metric = IntGaugeVec::new(opts, &["version", "revision"])?;
    let revision = option_env!("HEARTHD_BUILD_REVISION").unwrap_or("unknown");
    metric
        .with_label_values(&[env!("CARGO_PKG_VERSION"), revision])
        .set(1);
    registered(registry, metric).map(drop)
}

fn register_process(registry: &Registry) -> Result<(), prometheus::Error> {
    let process = prometheus::process_collector::ProcessCollector::for_self();
    registry.register(Box::new(process))
}
