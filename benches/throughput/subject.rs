//! What is measured, each in a process of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use google_cloud_auth::credentials::anonymous;
use google_cloud_pubsub::client::Subscriber;
use hearthd::config::{Pubsub, Settings};
use hearthd::daemon;
use hearthd::store::{Memory, Store};
use tempfile::TempDir;

use super::measure;

/// Any name will do for the test server.
const SUBSCRIPTION: &str = "projects/p/subscriptions/s";

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
        [Self::RunInMemory, Self::PullAndAck].into_iter().find(|kind| kind.name() == name)
    }

    /// Is that until it is killed.
    pub(crate) fn be(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Runtime::new()?;
        let settings = Settings::load(None, &std::env::vars().collect())?;
        match self {
            Self::Run => bail!("that is another program"),
            Self::RunInMemory => runtime.block_on(run_in_memory(&settings)),
            Self::PullAndAck => runtime.block_on(pull_and_ack(settings.require_pubsub()?)),
        }
    }
}

async fn run_in_memory(settings: &Settings) -> anyhow::Result<()> {
    let store = Store::Memory(Box::new(Memory::without_journal()));
    Ok(daemon::run(settings, settings.require_pubsub()?, store).await?)
}

async fn pull_and_ack(settings: &Pubsub) -> anyhow::Result<()> {
    let credentials = anonymous::Builder::new().build();
    let url = settings.endpoint.url().context("PUBSUB_EMULATOR_HOST is not set")?;
    let builder = Subscriber::builder().with_endpoint(url).with_credentials(credentials);
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
    log: PathBuf,
    _home: TempDir,
}

impl Subject {
    /// Starts one on the server at `url`; what it writes goes below `folder`.
    pub(crate) fn start(kind: Kind, url: &str, folder: &Path) -> anyhow::Result<Self> {
        let home = tempfile::tempdir_in(folder)?;
        let log = home.path().join("log");
        let host = url.trim_start_matches("http://");
        let program = match kind {
            Kind::Run => PathBuf::from(env!("CARGO_BIN_EXE_hearthd")),
            Kind::RunInMemory | Kind::PullAndAck => std::env::current_exe()?,
        };
        let child = Command::new(program)
            .arg(kind.name())
            .env("PUBSUB_EMULATOR_HOST", host)
            .env("HEARTHD_PUBSUB__SUBSCRIPTION", SUBSCRIPTION)
            .env("HEARTHD_STORE__PATH", home.path().join("hearthd.db"))
            .env("HEARTHD_HTTP__LISTEN", "127.0.0.1:0")
            .env("HEARTHD_LOG__FORMAT", "json")
            .env("HEARTHD_LOG__LEVEL", "debug")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .context("failed to start a subject")?;
        Ok(Self { child, log, _home: home })
    }

    /// False once it has ended, which it does only for a fault.
    pub(crate) fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// What it wrote to standard error.
    pub(crate) fn log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
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
