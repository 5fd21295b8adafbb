//! The real binary as a service: started, scraped and stopped as an operator would.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::command::{command, hearthd};
use super::emulator::{free_port, wait_until};
use super::http;

/// Longest time from SIGTERM to the exit: Docker kills what takes longer, unless it is told
/// otherwise. Acks and sinks are given 8 s of it.
pub(crate) const EXIT_LIMIT: Duration = Duration::from_secs(10);

/// Longest time from the start to the first scrape: a debug build on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The folder of a service: settings, store and what it printed.
pub(crate) struct Home {
    folder: TempDir,
    http_port: u16,
    /// What the service finds in its environment; settings there go before those of the file.
    pub(crate) environment: BTreeMap<String, String>,
    /// More options of `run`.
    pub(crate) arguments: Vec<String>,
}

/// A running service; killed when dropped.
pub(crate) struct Service {
    child: Child,
    http_port: u16,
    log: PathBuf,
}

impl Home {
    /// Settings for a subscription on the server at `host`, with timers short enough for a test.
    pub(crate) fn new(host: &str, subscription: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let environment = [("PUBSUB_EMULATOR_HOST".to_owned(), host.to_owned())].into();
        let home = Self {
            folder,
            http_port: free_port(),
            environment,
            arguments: Vec::new(),
        };
        let settings = format!(
            "[pubsub]\nsubscription = \"{subscription}\"\nmax_lease_extension = \"10s\"\n\
             [store]\npath = \"{}\"\n\
             [notifications]\nthread_timeout = \"2s\"\nsession_quiet = \"2s\"\n\
             [http]\nlisten = \"127.0.0.1:{}\"\n\
             [[sinks]]\nkind = \"stdout\"\nname = \"out\"\n\
             records = [\"notification\", \"event\", \"relation\"]\n",
            home.store().display(),
            home.http_port
        );
        fs::write(home.path("hearthd.toml"), settings).unwrap();
        home
    }

    /// The same with a server that isn't there.
    pub(crate) fn without_server() -> Self {
        let host = format!("127.0.0.1:{}", free_port());
        Self::new(&host, "projects/test/subscriptions/hearthd")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("hearthd.db")
    }

    /// Starts the service; `run` names the files that its output goes to.
    pub(crate) fn start(&self, run: &str) -> Service {
        let service = self.spawn(run);
        let up = wait_until(START_LIMIT, || service.get("/readyz").is_some());
        assert!(up, "the service did not start:\n{}", service.log());
        service
    }

    /// The same without waiting until it is ready, which it may never be.
    pub(crate) fn spawn(&self, run: &str) -> Service {
        let output = File::create(self.path(&format!("{run}.out"))).unwrap();
        self.spawn_with(run, output.into())
    }

    /// The same with its standard output to somewhere else.
    pub(crate) fn spawn_with(&self, run: &str, stdout: Stdio) -> Service {
        let log = self.path(&format!("{run}.log"));
        let child = command(&["run", "--config"])
            .arg(self.path("hearthd.toml"))
            .args(&self.arguments)
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Service {
            child,
            http_port: self.http_port,
            log,
        }
    }

    /// The lines that runs printed, in order.
    pub(crate) fn records(&self, runs: &[&str]) -> Vec<Value> {
        let mut records = Vec::new();
        for run in runs {
            let text = fs::read_to_string(self.path(&format!("{run}.out"))).unwrap();
            // A running service may be in the middle of its last line.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            records.extend(
                whole
                    .lines()
                    .map(|line| serde_json::from_str::<Value>(line).unwrap()),
            );
        }
        records
    }

    /// What a reading command says of the store, as JSON.
    pub(crate) fn read(&self, command: &str) -> Value {
        let store = self.store();
        let done = hearthd(&[
            command,
            "--format",
            "json",
            "--store",
            store.to_str().unwrap(),
        ]);
        serde_json::from_str(&done.ok().stdout).unwrap()
    }
}

impl Service {
    /// Where it serves metrics and health.
    pub(crate) fn http_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.http_port).into()
    }

    /// The body of a good answer; `None` while there is none.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        let (status, body) = http::request(self.http_port, "GET", path, "").ok()?;
        (status == 200).then_some(body)
    }

    /// The sum of a metric's series.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let scrape = self.get("/metrics").unwrap();
        sum(&scrape, name).unwrap_or_else(|| panic!("no metric is called {name}"))
    }

    /// True if no message is under way and no timer is left.
    pub(crate) fn has_settled(&self) -> bool {
        let open = [
            "reorder_pending_events",
            "threads_open",
            "pubsub_outstanding_messages",
        ];
        open.iter()
            .all(|name| self.metric(&format!("hearthd_{name}")) == 0)
    }

    /// The value of one series, labels and all; 0 if there is none.
    pub(crate) fn series(&self, series: &str) -> u64 {
        let scrape = self.get("/metrics").unwrap_or_default();
        let mut lines = scrape.lines().filter_map(|line| line.rsplit_once(' '));
        lines
            .find(|(name, _)| *name == series)
            .map_or(0, |(_, value)| value.parse().unwrap())
    }

    /// Seconds of a core that it has used.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name of the program, in parentheses, may hold anything.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        let ticks: f64 = fields[11..13]
            .iter()
            .map(|ticks| ticks.parse::<f64>().unwrap())
            .sum();
        // Linux shows ticks of 10 ms to programs, whatever its own clock does.
        ticks / 100.0
    }

    /// The memory that it holds now, in MiB.
    pub(crate) fn memory_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            / 1024
    }

    /// Waits for a condition on the metrics.
    pub(crate) fn wait_for(&self, limit: Duration, condition: impl Fn(&Self) -> bool) {
        let met = wait_until(limit, || condition(self));
        assert!(
            met,
            "not within {limit:?}:\n{}",
            self.get("/metrics").unwrap_or_default()
        );
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the log, from `start` on, has this text. Returns the log's length.
    pub(crate) fn wait_for_log(&self, limit: Duration, start: usize, text: &str) -> usize {
        let has_text = || {
            self.log()
                .get(start..)
                .is_some_and(|log| log.contains(text))
        };
        let found = wait_until(limit, has_text);
        let log = self.log();
        assert!(found, "no \"{text}\" within {limit:?} in\n{log}");
        log.len()
    }

    /// Asks it to stop, as systemd and Kubernetes do, and waits for its end.
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        let status = self.wait_for_exit(EXIT_LIMIT);
        assert!(status.success(), "{status}:\n{}", self.log());
    }

    /// Sends it the signal of that name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        // An error means that it has ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// True if it was killed, or ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for an end that it finds by itself, or was told to find.
    pub(crate) fn wait_for_exit(&mut self, limit: Duration) -> ExitStatus {
        let mut status = None;
        wait_until(limit, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap_or_else(|| panic!("no exit in {limit:?}:\n{}", self.log()))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The sum of the series of a metric in an exposition text.
fn sum(scrape: &str, name: &str) -> Option<u64> {
    let of_metric = |line: &&str| line.split(['{', ' ']).next() == Some(name);
    let values = scrape
        .lines()
        .filter(of_metric)
        .filter_map(|line| line.rsplit(' ').next());
    let values: Vec<u64> = values.map(|value| value.parse().unwrap()).collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

/// True if `promtool` finds nothing to say about a scrape; `None` if it is not installed.
pub(crate) fn promtool_is_content(scrape: &Path) -> Option<Output> {
    let input = File::open(scrape).unwrap();
    Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(input)
        .output()
        .ok()
}
