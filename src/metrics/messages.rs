//! What became of messages: conservation in numbers.
//!
//! Messages are counted as received by platform and source, and by platform for what became of
//! them: the engine knows no sources.

use chrono::TimeDelta;
use prometheus::{Histogram, IntCounterVec, IntGauge, IntGaugeVec};
use strum::VariantNames as _;

use super::register::Register;
use crate::engine::change::Tally;
use crate::event::{Platform, RawMessage, Reason};
use crate::sources::SourceId;

#[derive(Debug)]
pub struct MessageMetrics {
    received: IntCounterVec,
    last_received: IntGaugeVec,
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

impl MessageMetrics {
    pub(super) fn new(
        r: &Register<'_>,
        sources: &[(SourceId, Platform)],
    ) -> Result<Self, prometheus::Error> {
        let platforms = || Platform::VARIANTS.iter().map(|platform| [*platform]);
        let by_platform = |name, help| r.counters(name, help, ["platform"], platforms());
        let store = SourceId::store();
        let from_store = Platform::VARIANTS
            .iter()
            .map(|platform| [*platform, store.as_str()]);
        let from_sources = sources
            .iter()
            .map(|(source, platform)| [platform.as_str(), source.as_str()]);
        let received = r.counters(
            "messages_received_total",
            "Messages taken in, at commit; what was pending at the start is from source \"store\".",
            ["platform", "source"],
            from_sources.chain(from_store),
        )?;
        let reasons = Platform::VARIANTS.iter().flat_map(|platform| {
            Reason::VARIANTS
                .iter()
                .map(move |reason| [*platform, *reason])
        });
        let quarantined = r.counters(
            "messages_quarantined_total",
            "Messages put into quarantine.",
            ["platform", "reason"],
            reasons,
        )?;
        Ok(Self {
            received,
            last_received: r.gauges(
                "last_message_received_timestamp_seconds",
                "When the last message came; 0 if none.",
                "source",
                sources.iter().map(|(source, _)| source.as_str()),
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

    /// Messages from a source were committed. What was pending at the start counts too, as from
    /// [`SourceId::store`].
    pub fn count_received(&self, platform: Platform, source: &SourceId, messages: u64) {
        self.received
            .with_label_values(&[platform.as_str(), source.as_str()])
            .inc_by(messages);
    }

    /// A step was committed.
    pub fn count(&self, tally: &Tally) {
        for (platform, messages) in &tally.messages {
            let platform = platform.as_str();
            let count = |counters: &IntCounterVec, count| {
                counters.with_label_values(&[platform]).inc_by(count);
            };
            count(&self.duplicate, messages.duplicates);
            count(&self.emitted, messages.emitted);
            count(&self.late, messages.late);
            for (reason, quarantined) in &messages.quarantined {
                self.quarantined
                    .with_label_values(&[platform, reason.as_str()])
                    .inc_by(*quarantined);
            }
        }
    }

    /// A message is committed; `event_to_publish` is how long its event waited, if it is one.
    pub fn observe(
        &self,
        message: &RawMessage,
        event_to_publish: Option<TimeDelta>,
        receipt_to_commit: TimeDelta,
    ) {
        let published = message.publish_time.0.at();
        let received = message.received_at.0.at();
        self.publish_to_receive
            .observe(seconds(received - published));
        if let Some(lag) = event_to_publish {
            self.event_to_publish.observe(seconds(lag));
        }
        self.receive_to_commit.observe(seconds(receipt_to_commit));
    }

    /// 0 unless a message was lost or made up.
    pub fn set_imbalance(&self, messages: i64) {
        self.imbalance.set(messages);
    }

    /// Shows whether the wall clock is believed.
    pub fn show_clock(&self, is_doubted: bool) {
        self.clock_doubted.set(i64::from(is_doubted));
    }

    /// A message came at that second since the Unix epoch.
    pub(super) fn set_last_received(&self, source: &SourceId, at: i64) {
        self.last_received
            .with_label_values(&[source.as_str()])
            .set(at);
    }
}

fn seconds(delta: TimeDelta) -> f64 {
    // Clocks differ: what seems to come before its cause took no time.
    delta.to_std().unwrap_or_default().as_secs_f64()
}
