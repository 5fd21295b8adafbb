//! The metrics of a running service, a part a file (REFERENCE.md, section 5).
//!
//! Label values come from fixed sets, and every series starts at 0, so that the first failure is
//! visible to an alert. No device, user or thread is ever a label.

mod engine;
mod messages;
mod pubsub;
mod register;
mod sinks;
mod store;

/// Why a metric can't be registered: two have one name.
pub use prometheus::Error as MetricsError;
use prometheus::{Encoder, Registry, TextEncoder};

use self::engine::EngineMetrics;
use self::messages::MessageMetrics;
use self::pubsub::PubsubMetrics;
use self::register::Register;
use self::sinks::SinkMetrics;
use self::store::StoreMetrics;
use crate::event::Platform;
use crate::sources::{SourceChange, SourceEvent, SourceId};

/// See the module's documentation.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub messages: MessageMetrics,
    pub engine: EngineMetrics,
    pub store: StoreMetrics,
    pub pubsub: PubsubMetrics,
    pub sinks: SinkMetrics,
}

impl Metrics {
    /// Registers every metric, for these sources, each with the platform whose messages it brings,
    /// and for these sinks. An error means that two metrics have one name.
    pub fn new(
        sources: &[(SourceId, Platform)],
        sinks: &[&str],
    ) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let register = Register(&registry);
        register.build_info()?;
        register.process()?;
        Ok(Self {
            messages: MessageMetrics::new(&register, sources)?,
            engine: EngineMetrics::new(&register)?,
            store: StoreMetrics::new(&register)?,
            pubsub: PubsubMetrics::new(&register, sources.iter().map(|(source, _)| source))?,
            sinks: SinkMetrics::new(&register, sinks)?,
            registry,
        })
    }

    /// Something happened at a source. `now` is in seconds since the Unix epoch.
    pub fn note_source_event(&self, event: &SourceEvent, now: i64) {
        if event.change == SourceChange::Received {
            self.messages.set_last_received(&event.source, now);
        }
        self.pubsub.note(event);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Counts;
    use crate::event::ClockTime;

    #[test]
    fn sources_are_counted_apart() {
        let first = SourceId::new("first");
        let second = SourceId::new("second");
        let sources = [(first.clone(), Platform::Sdm), (second, Platform::Sdm)];
        let metrics = Metrics::new(&sources, &[]).unwrap();
        for change in [
            SourceChange::Up,
            SourceChange::Received,
            SourceChange::Received,
            SourceChange::Received,
            SourceChange::Acked,
            SourceChange::Returned,
        ] {
            let source = first.clone();
            metrics.note_source_event(&SourceEvent { source, change }, 7);
        }
        metrics.pubsub.count_lost_ack(&first);
        metrics.messages.count_received(Platform::Sdm, &first, 3);
        // A source that has no series, as it isn't Pub/Sub's.
        let other = SourceEvent {
            source: SourceId::new("other"),
            change: SourceChange::Up,
        };
        metrics.pubsub.note(&other);
        let scrape = metrics.scrape();
        let value = |name: &str, labels: &str| {
            let series = format!("hearthd_{name}{{{labels}}} ");
            let line = scrape.lines().find_map(|line| line.strip_prefix(&series));
            line.unwrap_or_else(|| panic!("no {series}\n{scrape}"))
        };
        for (name, labels, of_first) in [
            ("messages_received_total", "platform=\"sdm\",", "3"),
            ("last_message_received_timestamp_seconds", "", "7"),
            ("pubsub_stream_up", "", "1"),
            ("pubsub_outstanding_messages", "", "1"),
            ("pubsub_acks_total", "result=\"sent\",", "1"),
            ("pubsub_acks_total", "result=\"nacked\",", "1"),
            ("pubsub_acks_total", "result=\"lost\",", "1"),
        ] {
            let of = |source| value(name, &format!("{labels}source=\"{source}\""));
            assert_eq!((of("first"), of("second")), (of_first, "0"), "{name}");
        }
        let from_store = "platform=\"sdm\",source=\"store\"";
        assert_eq!(value("messages_received_total", from_store), "0");
    }

    #[test]
    fn failed_attempts_are_no_records() {
        let metrics = Metrics::new(&[], &["out"]).unwrap();
        let before = Counts {
            delivered: 1,
            ..Counts::default()
        };
        let now = Counts {
            delivered: 6,
            filtered: 2,
            coalesced: 3,
            retries: 1,
            ..before
        };
        metrics.sinks.count("out", &before, &now);
        metrics
            .sinks
            .show_oldest("out", Some(ClockTime(7_900_000_000)));
        let scrape = metrics.scrape();
        for series in [
            "hearthd_sink_deliveries_total{result=\"ok\",sink=\"out\"} 5",
            "hearthd_sink_deliveries_total{result=\"filtered\",sink=\"out\"} 2",
            "hearthd_sink_failed_attempts_total{sink=\"out\"} 1",
            "hearthd_sink_coalesced_total{sink=\"out\"} 3",
            "hearthd_sink_oldest_undelivered_timestamp_seconds{sink=\"out\"} 7",
        ] {
            let has_it = scrape.lines().any(|line| line == series);
            assert!(has_it, "no {series}\n{scrape}");
        }
    }
}
