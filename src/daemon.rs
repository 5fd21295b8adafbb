//! The service: builds the parts, connects them, and stops them in order.
//!
//! One task owns the pipeline (`service`); everything else sends it messages over bounded channels.

mod acks;
mod clock_watch;
mod decoder;
mod reload;
mod service;
mod signals;
mod systemd;

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use self::reload::Reload;
use self::service::Service;
use crate::clock::Clock;
use crate::config::{Pubsub, Settings};
use crate::engine::Engine;
use crate::health::Health;
use crate::http;
use crate::metrics::Metrics;
use crate::pipeline::{MAX_BATCH, Pipeline, PipelineSettings};
use crate::sinks::{Progress, Sink};
use crate::sources::pubsub::{Source, SourceError, SourceEvent};
use crate::store::{Admin, Commit, SinkStart, StoreError, Writer};

/// Messages between the source and the decoder, and between it and the pipeline: a batch each, so
/// that none waits for the other. More would only be leased longer.
const DELIVERIES: usize = MAX_BATCH;

/// Notes of sinks about their progress under way: a later one makes an earlier one superfluous.
const PROGRESS: usize = 16;

/// Why the service can't start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The source can't start.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The address for metrics and health can't be listened on.
    #[error("failed to listen on {address}: choose another http.listen, or stop what uses it")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The system gives no signals.
    #[error("failed to wait for signals")]
    Signals(#[source] std::io::Error),
    /// A task of the source or the decoder ended, and nobody told it to: a defect.
    #[error("the source ended by itself: a defect, please report what the log says before this")]
    SourceEnded,
    /// Two metrics have one name: a defect.
    #[error("failed to register the metrics")]
    Metrics(#[from] prometheus::Error),
}

impl DaemonError {
    /// True if only other settings, or other files that they name, will help.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Source(error) if error.is_configuration())
    }
}

/// Runs the service on a store until it is told to stop by SIGTERM or SIGINT. SIGHUP makes it
/// `reload`. With `trust_clock`, the wall clock is believed as it is. Sinks read the file that the
/// settings name, so a store in memory can have none.
pub async fn run(
    settings: &Settings,
    pubsub: &Pubsub,
    mut store: Writer,
    reload: Reload,
    trust_clock: bool,
) -> Result<(), DaemonError> {
    let names: Vec<&str> = settings
        .sinks
        .iter()
        .map(|sink| sink.name.as_str())
        .collect();
    let metrics = Arc::new(Metrics::new(&names)?);
    set_sinks(&mut store, &names)?;
    let pipeline_settings = PipelineSettings::from(settings);
    let shortest = pipeline_settings.retention.shortest();
    let pipeline = Pipeline::open(store, pipeline_settings)?;
    let stored = pipeline.engine().map(Engine::clock).unwrap_or_default();
    let clock = clock_watch::start(stored, shortest, trust_clock, &pubsub.endpoint).await;
    let address = settings.http.listen;
    let listen_error = |source| DaemonError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen_error)?;
    let source = Source::connect(pubsub, clock.clone()).await?;
    tracing::info!(%address, subscription = %pubsub.subscription, "started");

    let (stop, stopped) = watch::channel(false);
    let (stop_sinks, sinks_stopped) = watch::channel(false);
    let health = Arc::new(Health::default());
    let (deliveries, received) = mpsc::channel(DELIVERIES);
    let (to_service, decoded) = mpsc::channel(DELIVERIES);
    let decode = pipeline.decode_settings().clone();
    let (progress, noted) = mpsc::channel(PROGRESS);
    let service = Service::new(
        pipeline,
        clock.clone(),
        Arc::clone(&metrics),
        Arc::clone(&health),
    )?;
    let sinks = start_sinks(settings, &metrics, &service, &progress, &sinks_stopped)?;
    // Before anybody can see that it runs: until then, SIGHUP ends the process.
    tokio::spawn(signals::handle(stop.clone(), reload).map_err(DaemonError::Signals)?);
    let shown = (Arc::clone(&metrics), Arc::clone(&health), clock.clone());
    let server = tokio::spawn(http::serve(
        listener,
        shown.0,
        shown.1,
        shown.2,
        sinks_stopped,
    ));
    systemd::start(Arc::clone(&health), clock.clone(), stopped.clone());
    let endpoint = pubsub.endpoint.clone();
    tokio::spawn(clock_watch::run(clock.clone(), endpoint, stopped.clone()));
    let on_event = source_events(Arc::clone(&metrics), health, clock);
    let source = tokio::spawn(source.run(deliveries, on_event, stopped.clone()));
    tokio::task::spawn_blocking(move || decoder::run(&decode, received, &to_service));

    let (mut service, outcome) = service.run(decoded, noted, stopped).await;
    tracing::info!("stopping: acks first, then sinks");
    systemd::stopping();
    // If it was an error that ended it, nobody has told the source yet.
    stop.send_replace(true);
    // The source has a limit of its own.
    drop(source.await);
    stop_sinks.send_replace(true);
    service.finish_sinks(sinks).await;
    // A store that failed for good is not written once more.
    if outcome.is_ok() {
        service.note_progress();
    }
    drop(server.await);
    tracing::info!("stopped");
    outcome
}

/// A new sink begins with the oldest record that is kept.
fn set_sinks(store: &mut Writer, names: &[&str]) -> Result<(), StoreError> {
    let first = store.reader()?.snapshot()?.first_sequence()?;
    let cursor = first.map_or(0, |first| first.saturating_sub(1));
    let start = |name: &&str| SinkStart {
        name: (*name).to_owned(),
        cursor,
    };
    let commit = Commit {
        admin: vec![Admin::SetSinks(names.iter().map(start).collect())],
        ..Commit::default()
    };
    match store.commit(commit) {
        Err(error) if !error.is_full() => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn start_sinks(
    settings: &Settings,
    metrics: &Arc<Metrics>,
    service: &Service,
    progress: &mpsc::Sender<Progress>,
    stop: &watch::Receiver<bool>,
) -> Result<JoinSet<Progress>, DaemonError> {
    if settings.sinks.is_empty() {
        tracing::info!("no sinks are set: records stay in the journal of the store");
    }
    let mut sinks = JoinSet::new();
    for sink in &settings.sinks {
        let journal = service.reader()?;
        let sink = Sink::new(sink, journal, Arc::clone(metrics))?;
        sinks.spawn(sink.run(
            service.committed.subscribe(),
            progress.clone(),
            stop.clone(),
        ));
    }
    Ok(sinks)
}

fn source_events(
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    clock: Clock,
) -> impl Fn(SourceEvent) + Send + Sync {
    move |event| {
        health.note_source_event(event, clock.now());
        if event == SourceEvent::StreamUp {
            tracing::info!("a stream is up");
        }
        metrics.count_source_event(event, clock.wall_now().timestamp());
    }
}
