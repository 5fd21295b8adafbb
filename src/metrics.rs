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
