//! What is measured, each in a process of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use google_cloud_auth::credentials::anonymous;
use google_cloud_pubsub::client::Subscriber;
use hearthd::config::{Pubsub, Settings};
use hearthd::daemon::{self, Reload};
use hearthd::store::{Memory, Writer};
use hearthd::telemetry;
use tempfile::TempDir;

use super::measure;

/// Any name will do for the test server.
const SUBSCRIPTION: &str = "projects/p/subscriptions/s";

/// The files of a subject, in a folder of its own.
const STORE: &str = "hearthd.db";
const LOG: &str = "log";

/// The kinds of subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The real binary, on a store on the disk.
    Run,
    /// The same service on a store in memory, which the settings can't name.
    RunInMemory,
    /// A client that does nothing but pull and ack.
    PullAndAck,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::RunInMemory => "run-in-memory",
            Self::PullAndAck => "pull-and-ack",
        }
    }

    /// What this process was started to be; `None` for the bench itself.
    pub(crate) fn of_this_process() -> Option<Self> {
        let name = std::env::args().nth(1)?;
        [Self::RunInMemory, Self::PullAndAck]
            .into_iter()
            .find(|kind| kind.name() == name)
    }

    /// Is that until it is killed.
    pub(crate) fn be(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Runtime::new()?;
        let environment = std::env::vars().collect();
        let settings = Settings::load(None, &environment)?;
        match self {
            Self::Run => bail!("that is another program"),
            Self::RunInMemory => runtime.block_on(run_in_memory(settings, environment)),
            Self::PullAndAck => runtime.block_on(pull_and_ack(settings.require_pubsub()?)),
        }
    }
}

async fn run_in_memory(
    settings: Settings,
    environment: BTreeMap<String, String>,
) -> anyhow::Result<()> {
    let level = telemetry::init(&settings.log, &environment);
    let reload = Reload::new(settings.clone(), None, environment, level);
    let open = || Ok(Writer::Memory(Memory::without_journal()));
    Ok(daemon::run(&settings, settings.require_pubsub()?, open, reload, false).await?)
}

async fn pull_and_ack(settings: &Pubsub) -> anyhow::Result<()> {
    let credentials = anonymous::Builder::new().build();
    let url = settings
        .endpoint
        .url()
        .context("PUBSUB_EMULATOR_HOST is not set")?;
    let builder = Subscriber::builder()
        .with_endpoint(url)
        .with_credentials(credentials);
    let subscriber = builder.build().await?;
    let mut stream = subscriber
        .subscribe(SUBSCRIPTION)
        .set_max_outstanding_messages(settings.max_outstanding_messages)
        .build();
    while let Some(received) = stream.next().await {
        let (message, handler) = received?;
        std::hint::black_box(message);
        handler.ack();
    }
    bail!("the stream ended")
}

/// A subject that runs; killed when dropped, and its store removed.
#[derive(Debug)]
pub(crate) struct Subject {
    child: Child,
    home: TempDir,
}

impl Subject {
    /// Starts one on the server at `url`, which may leave so many messages outstanding; what it
    /// writes goes below `folder`.
    pub(crate) fn start(
        kind: Kind,
        url: &str,
        outstanding: usize,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let home = tempfile::tempdir_in(folder)?;
        let host = url.trim_start_matches("http://");
        let program = match kind {
            Kind::Run => PathBuf::from(env!("CARGO_BIN_EXE_hearthd")),
            Kind::RunInMemory | Kind::PullAndAck => std::env::current_exe()?,
        };
        let child = Command::new(program)
            .arg(kind.name())
            .env("PUBSUB_EMULATOR_HOST", host)
            .env("HEARTHD_PUBSUB__SUBSCRIPTION", SUBSCRIPTION)
            .env(
                "HEARTHD_PUBSUB__MAX_OUTSTANDING_MESSAGES",
                outstanding.to_string(),
            )
            .env("HEARTHD_STORE__PATH", home.path().join(STORE))
            .env("HEARTHD_HTTP__LISTEN", "127.0.0.1:0")
            .env("HEARTHD_LOG__FORMAT", "json")
            .env("HEARTHD_LOG__LEVEL", "debug")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(home.path().join(LOG))?)
            .spawn()
            .context("failed to start a subject")?;
        Ok(Self { child, home })
    }

    /// False once it has ended, which it does only for a fault.
    pub(crate) fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// What it wrote to standard error.
    pub(crate) fn log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.home.path().join(LOG))?)
    }

    /// The file of its store, if it has one.
    pub(crate) fn store(&self) -> PathBuf {
        self.home.path().join(STORE)
    }

    /// Seconds of processor time that it has taken, in user and system mode.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        // Linux shows them to all programs in this unit, whatever its own.
        const TICKS_PER_SECOND: f64 = 100.0;
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(&path).with_context(|| path)?;
        // The name, in brackets, may hold anything; the 14th and 15th field lie behind it.
        let (_, fields) = stat.rsplit_once(')').context("a process without a name")?;
        let ticks = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(str::parse::<f64>);
        Ok(ticks.sum::<Result<f64, _>>()? / TICKS_PER_SECOND)
    }

    /// The most memory that it has had resident, in MiB.
    pub(crate) fn peak_mebibytes(&self) -> anyhow::Result<f64> {
        measure::peak_mebibytes(&self.child)?.context("a subject has ended")
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // An error means that it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
