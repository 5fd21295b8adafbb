//! The service: builds the parts, connects them, watches them, and stops them in order.
//!
//! One thread writes the store (`ingest`); everything else sends it inputs over bounded channels.

mod clock_watch;
mod error;
mod gauges;
mod reload;
mod signals;
mod systemd;
mod tasks;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

pub use self::error::DaemonError;
pub use self::reload::Reload;
use self::tasks::{Ended, Tasks};
use crate::clock::Clock;
use crate::config::{Pubsub, Settings, StartFrom};
use crate::engine::Engine;
use crate::event::Platform;
use crate::health::Health;
use crate::http::admin;
use crate::http::listener::Server;
use crate::http::ops::{self, Ops};
use crate::ingest::{self, Admin, Ingest, Inputs, Reports};
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::pipeline::{MAX_BATCH, Pipeline, PipelineSettings};
use crate::sinks::Sink;
use crate::sources::pubsub::Source;
use crate::sources::{Delivery, SourceChange, SourceEvent, SourceId};
use crate::store::{Settlement, SinkStart, StoreError, Writer};

/// Messages between the source and the decoder, and between it and the writer: a batch each, so
/// that none waits for the other. More would only be leased longer.
const DELIVERIES: usize = MAX_BATCH;

/// Settlements under way: one for each sink, mostly. A sink waits where there is no place.
const SETTLEMENTS: usize = 16;

/// Requests of operators under way. Others wait.
const ADMIN: usize = 16;

/// Longest waits at the end, which together keep the exit within 10 s: for the acks of a source,
/// which has a limit of 5 s of its own, for the commit that is under way, for sinks to deliver what
/// is in the journal, and for the last commit and the last answers over HTTP.
const SOURCE_LIMIT: Duration = Duration::from_millis(5500);
const STOP_LIMIT: Duration = Duration::from_secs(1);
const SINKS_LIMIT: Duration = Duration::from_secs(2);
const END_LIMIT: Duration = Duration::from_millis(1200);

type Outcome = Result<(), DaemonError>;

/// What tells the tasks to stop, in this order.
struct Stops {
    /// No message is taken any more.
    stop: watch::Sender<bool>,
    /// Set by the writer: it takes no message any more, and no timer runs.
    stopped: watch::Sender<bool>,
    /// Sinks deliver what is in the journal, and end.
    finish: watch::Sender<bool>,
    /// Everything else ends.
    end: watch::Sender<bool>,
}

/// The service as it runs.
struct Daemon {
    tasks: Tasks<Outcome>,
    stops: Stops,
}

/// Runs the service on the store that `open` opens until it is told to stop by SIGTERM or SIGINT.
/// SIGHUP makes it `reload`. With `trust_clock`, the wall clock is believed as it is.
pub async fn run(
    settings: &Settings,
    pubsub: &Pubsub,
    open: impl FnOnce() -> Result<Writer, StoreError>,
    reload: Reload,
    trust_clock: bool,
) -> Outcome {
    let daemon = Daemon::start(settings, pubsub, open, reload, trust_clock).await?;
    let outcome = daemon.run().await;
    tracing::info!("stopped");
    outcome
}

impl Daemon {
    async fn start(
        settings: &Settings,
        pubsub: &Pubsub,
        open: impl FnOnce() -> Result<Writer, StoreError>,
        reload: Reload,
        trust_clock: bool,
    ) -> Result<Self, DaemonError> {
        let stops = Stops {
            stop: watch::Sender::new(false),
            stopped: watch::Sender::new(false),
            finish: watch::Sender::new(false),
            end: watch::Sender::new(false),
        };
        let mut tasks = Tasks::new();
        // Before anybody can see that it runs: until then, SIGHUP ends the process.
        let signals = signals::handle(stops.stop.clone(), reload).map_err(DaemonError::Signals)?;
        tasks.spawn("signals", async {
            signals.await;
            Ok(())
        });
        let names: Vec<&str> = settings
            .sinks
            .iter()
            .map(|sink| sink.name.as_str())
            .collect();
        let sources = [(SourceId::pubsub(), Platform::Sdm)];
        let metrics = Arc::new(Metrics::new(&sources, &names)?);
        let health = Arc::new(Health::default());
        let address = settings.http.listen;
        let server = Server::bind(address).await;
        let server = server.map_err(|source| DaemonError::Listen { address, source })?;
        let started = Arc::new(OnceLock::new());
        let router = ops::router(Ops {
            metrics: Arc::clone(&metrics),
            health: Arc::clone(&health),
            clock: Arc::clone(&started),
        });
        let end = stops.end.subscribe();
        tasks.spawn("http", async {
            server.serve(router, end).await;
            Ok(())
        });
        let store = tokio::task::block_in_place(open)?;
        let mut pipeline = tokio::task::block_in_place(|| {
            Pipeline::open(store, PipelineSettings::from(settings))
        })?;
        let stored = pipeline.engine().map(Engine::clock).unwrap_or_default();
        let shortest = pipeline.retention().shortest();
        let clock = clock_watch::start(stored, shortest, trust_clock, &pubsub.endpoint).await;
        let source = Source::connect(pubsub, clock.clone()).await?;
        let journal = Arc::new(Journal::new(pipeline.store().reader()?)?);
        let reports = Reports {
            clock,
            metrics,
            health: Arc::clone(&health),
            journal,
        };
        let mut daemon = Self { tasks, stops };
        daemon.start_clock_watch(reports.clock.clone(), pubsub);
        let (settle, settled) = mpsc::channel(SETTLEMENTS);
        let (ask, asked) = mpsc::channel(ADMIN);
        let sinks = daemon.start_sinks(settings, &pipeline, &reports, &settle)?;
        pipeline.set_sinks(sinks);
        daemon.start_admin(&pipeline, ask);
        daemon.start_ingest(pipeline, &reports, source, settled, asked)?;
        health.beat(reports.clock.now());
        started.get_or_init(|| reports.clock.clone());
        health.set_ready();
        daemon.start_systemd(&reports);
        tracing::info!(%address, subscription = %pubsub.subscription, "started");
        Ok(daemon)
    }

    /// Starts each sink where it stands; returns where the store is to know new ones from.
    fn start_sinks(
        &mut self,
        settings: &Settings,
        pipeline: &Pipeline,
        reports: &Reports,
        settle: &mpsc::Sender<Settlement>,
    ) -> Result<Vec<SinkStart>, DaemonError> {
        if settings.sinks.is_empty() {
            tracing::info!("no sinks are set: records stay in the journal of the store");
        }
        let reader = pipeline.store().reader()?;
        let snapshot = reader.snapshot()?;
        let known = snapshot.sinks()?;
        let oldest = snapshot.first_sequence()?;
        let before_oldest = oldest.map_or(reports.journal.last(), |first| first - 1);
        let mut starts = Vec::new();
        let mut statuses = Vec::new();
        for sink in &settings.sinks {
            let of_store = known.iter().find(|row| row.name == sink.name);
            let cursor = match (of_store, sink.from) {
                (Some(row), _) => row.cursor.max(before_oldest),
                (None, StartFrom::Start) => before_oldest,
                (None, StartFrom::End) => reports.journal.last(),
            };
            starts.push(SinkStart {
                name: sink.name.clone(),
                cursor,
            });
            let follower = reports.journal.follow(cursor);
            let clock = reports.clock.clone();
            let dead_letters = snapshot.dead_letters_beyond(&sink.name, cursor)?;
            let metrics = Arc::clone(&reports.metrics);
            let sink = Sink::new(sink, follower, dead_letters, clock, metrics);
            statuses.push(sink.status());
            let name = format!("sink {}", sink.name());
            let run = sink.run(settle.clone(), self.stops.finish.subscribe());
            self.tasks.spawn(name, async {
                run.await;
                Ok(())
            });
        }
        let gauges = gauges::run(statuses, reports.clone(), self.stops.end.subscribe());
        self.tasks.spawn("gauges", async {
            gauges.await;
            Ok(())
        });
        Ok(starts)
    }

    /// Commands reach the running service by a socket beside its store. Without it they need the
    /// service stopped, which is no reason not to run.
    fn start_admin(&mut self, pipeline: &Pipeline, ask: mpsc::Sender<Admin>) {
        let Some(path) = pipeline.store().socket() else {
            return;
        };
        let server = match Server::bind_file(&path) {
            Ok(server) => server,
            Err(error) => {
                let path = path.display();
                tracing::warn!(
                    %path,
                    %error,
                    "failed to make the socket for commands: `quarantine` and `dead-letters` can \
                     change nothing while the service runs"
                );
                return;
            }
        };
        let end = self.stops.end.subscribe();
        self.tasks.spawn("admin", async move {
            server.serve(admin::router(ask), end).await;
            // Nobody answers there any more.
            std::fs::remove_file(path).ok();
            Ok(())
        });
    }

    fn start_ingest(
        &mut self,
        pipeline: Pipeline,
        reports: &Reports,
        source: Source,
        settled: mpsc::Receiver<Settlement>,
        admin: mpsc::Receiver<Admin>,
    ) -> Outcome {
        let (deliver, received) = mpsc::channel::<Delivery>(DELIVERIES);
        let (decoded, deliveries) = mpsc::channel(DELIVERIES);
        let decode = pipeline.decode_settings().clone();
        let inputs = Inputs {
            deliveries,
            settled,
            admin,
            stop: self.stops.stop.subscribe(),
            stopped: self.stops.stopped.clone(),
            end: self.stops.end.subscribe(),
        };
        let ingest = Ingest::new(pipeline, reports.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(DaemonError::Thread)?;
        let run = move || Ok(runtime.block_on(ingest.run(inputs))?);
        let tasks = &mut self.tasks;
        tasks
            .spawn_thread("ingest", run)
            .map_err(DaemonError::Thread)?;
        let run = move || {
            ingest::decode(&decode, received, &decoded);
            Ok(())
        };
        tasks
            .spawn_thread("decoder", run)
            .map_err(DaemonError::Thread)?;
        let on_event = source_events(reports);
        let stopped = self.stops.stop.subscribe();
        tasks.spawn(format!("source {}", SourceId::pubsub()), async move {
            source.run(deliver, on_event, stopped).await;
            Ok(())
        });
        Ok(())
    }

    fn start_systemd(&mut self, reports: &Reports) {
        let health = Arc::clone(&reports.health);
        let stopped = self.stops.stop.subscribe();
        if let Some(informing) = systemd::start(health, reports.clock.clone(), stopped) {
            self.tasks.spawn("systemd", async {
                informing.await;
                Ok(())
            });
        }
    }

    fn start_clock_watch(&mut self, clock: Clock, pubsub: &Pubsub) {
        let watch = clock_watch::run(clock, pubsub.endpoint.clone(), self.stops.end.subscribe());
        self.tasks.spawn("clock", async {
            watch.await;
            Ok(())
        });
    }

    /// Waits until it is told to stop, or a task ends by itself; then stops all of them in order.
    async fn run(mut self) -> Outcome {
        let mut stopped = self.stops.stop.subscribe();
        let early = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => None,
            ended = self.tasks.next() => ended,
        };
        // The task that waits for signals ends with the stop that it brings.
        let early = match early {
            Some(ended) if !*stopped.borrow() => Some(self.tasks.blame(ended).await),
            Some(_) | None => None,
        };
        let outcome = early.map_or(Ok(()), |ended| Err(failure(ended)));
        if let Err(error) = &outcome {
            tracing::error!(error = crate::text::error_chain(error), "stopping");
        } else {
            tracing::info!("stopping: acks first, then sinks");
        }
        systemd::stopping();
        let is_source = |name: &str| name.starts_with("source ");
        let is_sink = |name: &str| name.starts_with("sink ");
        self.stops.stop.send_replace(true);
        let mut ended = self.tasks.finish(is_source, SOURCE_LIMIT).await;
        // A writer that ended says nothing.
        let mut stopped = self.stops.stopped.subscribe();
        let stopped = stopped.wait_for(|stopped| *stopped);
        tokio::time::timeout(STOP_LIMIT, stopped).await.ok();
        self.stops.finish.send_replace(true);
        ended.extend(self.tasks.finish(is_sink, SINKS_LIMIT).await);
        self.stops.end.send_replace(true);
        ended.extend(self.tasks.finish(|name| !is_sink(name), END_LIMIT).await);
        let failed = ended
            .into_iter()
            .find(|ended| !matches!(ended.outcome, Ok(Ok(()))));
        outcome.and(failed.map_or(Ok(()), |ended| Err(failure(ended))))
    }
}

/// What the end of a task means for the service.
fn failure(ended: Ended<Outcome>) -> DaemonError {
    match ended.outcome {
        Ok(Err(error)) => error,
        Ok(Ok(())) => DaemonError::TaskEnded {
            name: ended.name,
            why: "it returned".to_owned(),
        },
        Err(why) => DaemonError::TaskEnded {
            name: ended.name,
            why,
        },
    }
}

fn source_events(reports: &Reports) -> impl Fn(SourceEvent) + Send + Sync + use<> {
    let reports = reports.clone();
    move |event| {
        reports
            .health
            .note_source_change(event.change, reports.clock.now());
        if event.change == SourceChange::Up {
            tracing::info!(source = %event.source, "the source is up");
        }
        let now = reports.clock.wall_now().timestamp();
        reports.metrics.note_source_event(&event, now);
    }
}

#[cfg(test)]
mod watch_tests;
