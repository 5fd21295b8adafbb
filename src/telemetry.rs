//! hearthd's own log: format and level.
//!
//! What is logged at which level: `error`, something needs a person; `warn`, something was lost,
//! refused or degraded and hearthd goes on; `info`, start, stop and changes of state; `debug`, one
//! line a batch; `trace`, the points of a batch at which the tests kill it. Never logged: tokens,
//! keys, bodies, clip addresses, user ids, device names.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Log, LogFormat, LogLevel};

/// Starts logging to standard error. Only the first call of a process has an effect.
pub fn init(log: &Log) {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // Libraries may log what we never would, below warnings.
    let filter =
        Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("hearthd", level);
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => registry.with(layer.with_ansi(false)).try_init(),
        LogFormat::Json => registry.with(layer.json()).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}
