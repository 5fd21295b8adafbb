//! How a metric is made: under hearthd's prefix, all its series at 0, and registered.
//!
//! Knows no metric but the two that every service has.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// The prefix of every name.
const NAMESPACE: &str = "hearthd";

/// From a store's fastest commit to a backlog after days of downtime, in seconds.
const LATENCY: [f64; 14] = [
    0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 3_600.0, 86_400.0,
];

/// Makes metrics, all their series at 0, and registers them.
pub(super) struct Register<'a>(pub(super) &'a Registry);

impl Register<'_> {
    fn add<C: Collector + Clone + 'static>(&self, metric: C) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn opts(name: &str, help: &str) -> Opts {
        Opts::new(name, help).namespace(NAMESPACE)
    }

    fn buckets(name: &str, help: &str) -> HistogramOpts {
        HistogramOpts::from(Self::opts(name, help)).buckets(LATENCY.to_vec())
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.add(IntGauge::with_opts(Self::opts(name, help))?)
    }

    pub(super) fn histogram(&self, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
        self.add(Histogram::with_opts(Self::buckets(name, help))?)
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        let metric = IntCounterVec::new(Self::opts(name, help), &[label])?;
        for value in values {
            metric.with_label_values(&[*value]);
        }
        self.add(metric)
    }

    pub(super) fn counters_of_two(
        &self,
        name: &str,
        help: &str,
        first: (&str, &[&str]),
        second: (&str, &[&str]),
    ) -> Result<IntCounterVec, prometheus::Error> {
        let metric = IntCounterVec::new(Self::opts(name, help), &[first.0, second.0])?;
        for value in first.1 {
            for other in second.1 {
                metric.with_label_values(&[*value, *other]);
            }
        }
        self.add(metric)
    }

    pub(super) fn gauges(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        let metric = IntGaugeVec::new(Self::opts(name, help), &[label])?;
        for value in values {
            metric.with_label_values(&[*value]);
        }
        self.add(metric)
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: &[&str],
    ) -> Result<HistogramVec, prometheus::Error> {
        let metric = HistogramVec::new(Self::buckets(name, help), &[label])?;
        for value in values {
            metric.with_label_values(&[*value]);
        }
        self.add(metric)
    }

    pub(super) fn build_info(&self) -> Result<(), prometheus::Error> {
        let opts = Self::opts("build_info", "Always 1; which hearthd this is.");
        let metric = IntGaugeVec::new(opts, &["version", "revision"])?;
        let revision = option_env!("HEARTHD_BUILD_REVISION").unwrap_or("unknown");
        metric
            .with_label_values(&[env!("CARGO_PKG_VERSION"), revision])
            .set(1);
        self.add(metric).map(drop)
    }

    pub(super) fn process(&self) -> Result<(), prometheus::Error> {
        self.0.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))
    }
}
