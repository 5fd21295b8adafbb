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

    /// A counter with labels; `series` are their values, all that there will be.
    pub(super) fn counters<'a, const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
        series: impl IntoIterator<Item = [&'a str; N]>,
    ) -> Result<IntCounterVec, prometheus::Error> {
        let metric = IntCounterVec::new(Self::opts(name, help), &labels)?;
        for values in series {
            metric.with_label_values(&values);
        }
        self.add(metric)
    }

    pub(super) fn gauges<'a>(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = &'a str>,
    ) -> Result<IntGaugeVec, prometheus::Error> {
        let metric = IntGaugeVec::new(Self::opts(name, help), &[label])?;
        for value in values {
            metric.with_label_values(&[value]);
        }
        self.add(metric)
    }

    pub(super) fn histograms<'a>(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = &'a str>,
    ) -> Result<HistogramVec, prometheus::Error> {
        let metric = HistogramVec::new(Self::buckets(name, help), &[label])?;
        for value in values {
            metric.with_label_values(&[value]);
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

/// A count as a gauge shows it.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
