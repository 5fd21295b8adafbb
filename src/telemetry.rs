//! hearthd's own log: format and level.
//!
//! What is logged at which level:
//!
//! | level | what |
//! |---|---|
//! | `error` | something needs a person; the line says what to do |
//! | `warn` | something was lost, refused or degraded, and hearthd goes on |
//! | `info` | start, stop and changes of state |
//! | `debug` | one line a batch |
//! | `trace` | the points of a batch at which the tests kill it |
//!
//! Never logged: tokens, keys, bodies, clip addresses, user ids, device names. That is why panics
//! show their place and constant texts only, and libraries nothing below `warn`.

use std::any::Any;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, StderrLock, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::panic;

use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Log, LogFormat, LogLevel};

/// With this variable systemd names the device and inode of the journal's socket.
const JOURNAL_VARIABLE: &str = "JOURNAL_STREAM";

/// Changes the level of the log while it runs.
#[derive(Debug, Clone)]
pub struct LevelHandle(reload::Handle<Targets, Registry>);

impl LevelHandle {
    /// From now on, what is less grave than `level` is not written.
    pub fn set(&self, level: LogLevel) {
        // It fails if another log was started first, which then keeps its own level.
        drop(self.0.reload(targets(level)));
    }
}

/// Starts logging to standard error, panics included. Only the first call of a process has an
/// effect.
pub fn init(log: &Log, environment: &BTreeMap<String, String>) -> LevelHandle {
    let (filter, handle) = reload::Layer::new(targets(log.level));
    let stream = environment.get(JOURNAL_VARIABLE);
    let writer = Stderr {
        to_journal: stream.is_some_and(|stream| is_stderr(stream)),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let started = match log.format {
        LogFormat::Text => registry.with(layer.with_ansi(false)).try_init(),
        LogFormat::Json => registry.with(layer.json()).try_init(),
    };
    if started.is_ok() {
        panic::set_hook(Box::new(log_panic));
    }
    LevelHandle(handle)
}

fn targets(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // Libraries may log what we never would, below warnings.
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("hearthd", level)
}

/// Standard error. Where it is the journal, each line begins with its level as sd-daemon(3) has
/// it: the journal takes that off again, and can then be searched by it.
#[derive(Debug, Clone, Copy)]
struct Stderr {
    to_journal: bool,
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = StderrLock<'static>;

    fn make_writer(&'a self) -> Self::Writer {
        io::stderr().lock()
    }

    fn make_writer_for(&'a self, line: &Metadata<'_>) -> Self::Writer {
        let mut stderr = self.make_writer();
        if self.to_journal {
            // If this can't be written, the line can't either.
            drop(stderr.write_all(prefix(*line.level())));
        }
        stderr
    }
}

/// The priorities of syslog: 3 error, 4 warning, 6 informational, 7 debug.
fn prefix(level: Level) -> &'static [u8] {
    match level {
        Level::ERROR => b"<3>",
        Level::WARN => b"<4>",
        Level::INFO => b"<6>",
        Level::DEBUG | Level::TRACE => b"<7>",
    }
}

/// True if standard error is the file with that device and inode, `{device}:{inode}`. The variable
/// alone proves nothing: it is inherited by processes whose standard error goes elsewhere.
fn is_stderr(stream: &str) -> bool {
    let stderr = io::stderr().as_fd().try_clone_to_owned().map(File::from);
    let metadata = stderr.and_then(|file| file.metadata());
    metadata.is_ok_and(|found| stream == format!("{}:{}", found.dev(), found.ino()))
}

fn log_panic(panic: &panic::PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    let text = constant_text(panic.payload());
    tracing::error!(
        place,
        text,
        "a part of hearthd panicked: this is a defect, report it"
    );
}

/// A panic's text, if it is part of the program. A text that was put together may hold anything
/// that hearthd has in its hands.
fn constant_text(payload: &(dyn Any + Send)) -> Option<&'static str> {
    payload.downcast_ref::<&'static str>().copied()
}
