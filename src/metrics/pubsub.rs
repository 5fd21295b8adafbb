//! How Pub/Sub's streams and credentials do, and what becomes of acks: one set for each source.

use std::collections::BTreeMap;

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use strum::VariantArray as _;

use super::register::Register;
use crate::sources::pubsub::{AuthStage, OpenReason, StreamEvent};
use crate::sources::{SourceChange, SourceEvent, SourceId};

/// The series of each Pub/Sub source, looked up once, as some are counted with every message.
#[derive(Debug)]
pub struct PubsubMetrics(BTreeMap<SourceId, Series>);

#[derive(Debug)]
struct Series {
    up: IntGauge,
    reachable: IntGauge,
    silent: IntGauge,
    topic_hosted: IntGauge,
    /// Labels: reason, source.
    opens: IntCounterVec,
    acks_sent: IntCounter,
    acks_nacked: IntCounter,
    acks_lost: IntCounter,
    outstanding: IntGauge,
    auth_up: IntGauge,
    token_expiry: IntGauge,
    /// Labels: source, stage.
    auth_failures: IntCounterVec,
}

/// What is registered; each source has its series of it.
struct Families {
    up: IntGaugeVec,
    reachable: IntGaugeVec,
    silent: IntGaugeVec,
    topic_hosted: IntGaugeVec,
    opens: IntCounterVec,
    acks: IntCounterVec,
    outstanding: IntGaugeVec,
    auth_up: IntGaugeVec,
    token_expiry: IntGaugeVec,
    auth_failures: IntCounterVec,
}

impl Families {
    fn new(r: &Register<'_>, sources: &[&SourceId]) -> Result<Self, prometheus::Error> {
        let names = || sources.iter().map(|source| source.as_str());
        let gauges = |name, help| r.gauges(name, help, "source", names());
        let reasons = OpenReason::all()
            .flat_map(|reason| names().map(move |source| [reason.as_str(), source]));
        let results = ["sent", "nacked", "lost"]
            .into_iter()
            .flat_map(|result| names().map(move |source| [result, source]));
        let stages = AuthStage::VARIANTS
            .iter()
            .flat_map(|stage| names().map(move |source| [source, (*stage).into()]));
        Ok(Self {
            up: gauges(
                "pubsub_stream_up",
                "Streams that brought a message, or are open while Pub/Sub answers.",
            )?,
            reachable: gauges("pubsub_reachable", "1 while Pub/Sub answers when asked.")?,
            silent: gauges(
                "pubsub_silent",
                "1 while no message has come for pubsub.silence_warning.",
            )?,
            topic_hosted: gauges(
                "pubsub_topic_hosted",
                "1 while Google hosts the subscription's topic, which ends on 30 November 2026.",
            )?,
            opens: r.counters(
                "pubsub_stream_opens_total",
                "Streams opened.",
                ["reason", "source"],
                reasons,
            )?,
            acks: r.counters(
                "pubsub_acks_total",
                "Messages acked (sent), returned (nacked), or come again although acked (lost).",
                ["result", "source"],
                results,
            )?,
            outstanding: gauges(
                "pubsub_outstanding_messages",
                "Messages neither acked nor returned.",
            )?,
            auth_up: gauges(
                "auth_up",
                "1 while the credentials give tokens that are accepted.",
            )?,
            token_expiry: gauges(
                "auth_token_expiry_timestamp_seconds",
                "When the last token expires; 0 if there is none, or it doesn't say.",
            )?,
            auth_failures: r.counters(
                "auth_failures_total",
                "Failures.",
                ["source", "stage"],
                stages,
            )?,
        })
    }

    fn of(&self, source: &SourceId) -> Series {
        let gauge = |gauges: &IntGaugeVec| gauges.with_label_values(&[source.as_str()]);
        let acks = |result| self.acks.with_label_values(&[result, source.as_str()]);
        Series {
            up: gauge(&self.up),
            reachable: gauge(&self.reachable),
            silent: gauge(&self.silent),
            topic_hosted: gauge(&self.topic_hosted),
            opens: self.opens.clone(),
            acks_sent: acks("sent"),
            acks_nacked: acks("nacked"),
            acks_lost: acks("lost"),
            outstanding: gauge(&self.outstanding),
            auth_up: gauge(&self.auth_up),
            token_expiry: gauge(&self.token_expiry),
            auth_failures: self.auth_failures.clone(),
        }
    }
}

impl PubsubMetrics {
    pub(super) fn new<'a>(
        r: &Register<'_>,
        sources: impl IntoIterator<Item = &'a SourceId>,
    ) -> Result<Self, prometheus::Error> {
        let sources: Vec<_> = sources.into_iter().collect();
        let families = Families::new(r, &sources)?;
        let series = sources
            .into_iter()
            .map(|source| (source.clone(), families.of(source)));
        Ok(Self(series.collect()))
    }

    /// Something happened at a source; those that aren't Pub/Sub's have no series here.
    pub(super) fn note(&self, event: &SourceEvent) {
        let Some(series) = self.0.get(&event.source) else {
            return;
        };
        match event.change {
            SourceChange::Up => {
                series.up.inc();
                series.reachable.set(1);
            }
            SourceChange::Down => series.up.dec(),
            SourceChange::Received => series.outstanding.inc(),
            SourceChange::Acked => {
                series.acks_sent.inc();
                series.outstanding.dec();
            }
            SourceChange::Returned => {
                series.acks_nacked.inc();
                series.outstanding.dec();
            }
            SourceChange::Pubsub(change) => series.note(&event.source, change),
        }
    }

    /// A message came again although it was acked: its ack didn't reach Pub/Sub.
    pub fn count_lost_ack(&self, source: &SourceId) {
        if let Some(series) = self.0.get(source) {
            series.acks_lost.inc();
        }
    }
}

impl Series {
    fn note(&self, source: &SourceId, change: StreamEvent) {
        match change {
            StreamEvent::Opened { reason } => {
                let labels = [reason.as_str(), source.as_str()];
                self.opens.with_label_values(&labels).inc();
            }
            StreamEvent::Reachable(is_reachable) => self.reachable.set(i64::from(is_reachable)),
            StreamEvent::Silence(is_silent) => self.silent.set(i64::from(is_silent)),
            StreamEvent::TopicHosted(is_hosted) => self.topic_hosted.set(i64::from(is_hosted)),
            StreamEvent::TokenOk { expiry } => {
                self.auth_up.set(1);
                if let Some(expiry) = expiry {
                    self.token_expiry.set(expiry);
                }
            }
            StreamEvent::AuthFailed { stage } => {
                self.auth_up.set(0);
                let labels = [source.as_str(), stage.into()];
                self.auth_failures.with_label_values(&labels).inc();
            }
        }
    }
}
