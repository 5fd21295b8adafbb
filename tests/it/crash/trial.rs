//! One trial: a service that is killed again and again under load, and checked after each time.

use std::collections::BTreeSet;
use std::fs;
use std::ops::AddAssign;
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use hearthd::clock::Stopwatch;
use pubsub_test_server::{Message, Outcome, Server, StreamLog};

use super::load::Load;
use super::shim::{Disk, Loss, Point};
use crate::support::daemon::{Home, Service};
use crate::support::emulator::{Emulator, wait_until};
use crate::support::oracle::{Expected, Sent, Stored, event_ids};

const TOPIC: &str = "projects/test/topics/home";
const SUBSCRIPTION: &str = "projects/test/subscriptions/hearthd";

/// Longest way to a named point, and to the end of all timers: a debug build on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
/// Longest start on what a crash left behind.
const RECOVERY_LIMIT: f64 = 5.0;
/// New messages for a process that must reach some point: more than it ever needs for that.
pub(crate) const ENDLESS: usize = 100_000;
/// Lines of the log that a failure shows.
const TAIL: usize = 20;
/// Shortest pause between two looks at the service, and between messages.
const LOOK: Duration = Duration::from_millis(1);

/// Where the messages come from.
pub(crate) enum Broker {
    Server(Server),
    Emulator(Emulator),
}

/// When a process is killed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kill {
    /// So long after its stream was opened.
    UnderLoad(Duration),
    /// So long after it was started.
    Starting(Duration),
    /// When acks of it reached the server.
    AfterAck,
    /// By the disk's library, or by itself.
    At(Point),
}

/// What happens to the machine with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    /// Nothing.
    Stays,
    /// The power is lost, and all that was not synced.
    Lost,
    /// The power is lost, and some sectors of what was not synced.
    Torn,
}

/// What trials came across. Without these a trial shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) kills: usize,
    /// Kills that left messages behind that were not acked.
    pub(crate) kills_with_unacked: usize,
    /// Kills that left messages behind that were stored and not acked.
    pub(crate) kills_before_acks: usize,
    /// Kills before the service was ready: a crash while recovering from one.
    pub(crate) kills_in_recovery: usize,
    /// Power losses that took what was not synced.
    pub(crate) losses: usize,
    /// Messages that came again and were counted as duplicates, by the last processes alone.
    pub(crate) duplicates: usize,
}

impl AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        self.kills += other.kills;
        self.kills_with_unacked += other.kills_with_unacked;
        self.kills_before_acks += other.kills_before_acks;
        self.kills_in_recovery += other.kills_in_recovery;
        self.losses += other.losses;
        self.duplicates += other.duplicates;
    }
}

/// A service, its store and its disk, where its messages come from, and all that is known of them.
pub(crate) struct Trial {
    rng: Rng,
    pub(crate) home: Home,
    broker: Broker,
    pub(crate) disk: Disk,
    load: Load,
    sent: Vec<Sent>,
    /// Every message that was acked at some time.
    pub(crate) acked: BTreeSet<String>,
    /// The number of the oldest record that the last crash left in the journal.
    pub(crate) oldest_record: u64,
    runs: Vec<String>,
    pub(crate) seen: Seen,
}

impl Trial {
    /// A trial against the test server.
    pub(crate) fn new(seed: u64, load: Load) -> Self {
        let server = Server::start();
        let host = format!("127.0.0.1:{}", server.port());
        Self::with(seed, load, Broker::Server(server), &host)
    }

    /// A trial against the official emulator; `None` if that is not installed.
    pub(crate) fn on_emulator(seed: u64, load: Load) -> Option<Self> {
        let emulator = Emulator::start()?;
        emulator.create_topic(TOPIC);
        emulator.create_subscription(SUBSCRIPTION, TOPIC);
        let host = emulator.host();
        Some(Self::with(seed, load, Broker::Emulator(emulator), &host))
    }

    fn with(seed: u64, load: Load, broker: Broker, host: &str) -> Self {
        println!("seed {seed}");
        let mut home = Home::new(host, SUBSCRIPTION);
        let settings = [
            ("HEARTHD_LOG__LEVEL", "trace"),
            ("HEARTHD_REORDER__HOLD", "100ms"),
            ("HEARTHD_NOTIFICATIONS__THREAD_TIMEOUT", "1s"),
            ("HEARTHD_NOTIFICATIONS__SESSION_QUIET", "1s"),
        ];
        for (name, value) in settings {
            home.environment.insert(name.to_owned(), value.to_owned());
        }
        let disk = Disk::new(&home.store());
        Self {
            rng: Rng::with_seed(seed),
            home,
            broker,
            disk,
            load,
            sent: Vec::new(),
            acked: BTreeSet::new(),
            oldest_record: 0,
            runs: Vec::new(),
            seen: Seen::default(),
        }
    }

    /// Starts the service under a load of up to `count` new messages, kills it, and checks what it
    /// leaves behind. Returns how it ended.
    pub(crate) fn crash(&mut self, count: usize, kill: Kill, power: Power) -> ExitStatus {
        let (opens, acks) = (self.open_count(), self.acked_count());
        let mut service = self.spawn(match kill {
            Kill::At(point) => Some(point),
            Kill::UnderLoad(_) | Kill::Starting(_) | Kill::AfterAck => None,
        });
        let watch = Stopwatch::start();
        let mut under_load: Option<Stopwatch> = None;
        self.feed(count, |trial| {
            let limit = LIMIT.as_secs_f64();
            assert!(
                watch.seconds() < limit,
                "{kill:?} is never reached:\n{}",
                tail(&service)
            );
            let has_ended = service.has_ended();
            match kill {
                Kill::At(_) => has_ended,
                _ if has_ended => panic!("it ended by itself:\n{}", tail(&service)),
                Kill::Starting(after) => watch.seconds() >= after.as_secs_f64(),
                Kill::AfterAck => trial.acked_count() > acks,
                Kill::UnderLoad(after) => {
                    if under_load.is_none() && trial.is_under_load(&service, opens) {
                        under_load = Some(Stopwatch::start());
                    }
                    under_load.is_some_and(|watch| watch.seconds() >= after.as_secs_f64())
                }
            }
        });
        service.kill();
        println!(
            "  {kill:?}, power {power:?}, {:.3} s after its start",
            watch.seconds()
        );
        if let Broker::Server(_) = &self.broker
            && self.open_count() == opens
        {
            self.seen.kills_in_recovery += 1;
        }
        self.judge_crash(&service, power);
        service.wait_for_exit(LIMIT)
    }

    /// Starts the service, and fills its disk under a load of `count` messages; frees it when it
    /// has failed to write, and kills it when it has caught up.
    pub(crate) fn fill_disk(&mut self, count: usize) {
        let mut service = self.spawn(None);
        service.wait_for(LIMIT, |service| service.get("/readyz").is_some());
        fs::write(&self.disk.full, "").unwrap();
        self.feed(count, |_| service.metric("hearthd_store_errors_total") >= 2);
        assert_eq!(
            service.get("/livez").as_deref(),
            Some("ok\n"),
            "{}",
            service.log()
        );
        fs::remove_file(&self.disk.full).unwrap();
        service.wait_for(LIMIT, |service| self.is_idle(service));
        service.kill();
        self.judge_crash(&service, Power::Lost);
    }

    /// P1 and P2 at the crash, before anything comes again.
    fn judge_crash(&mut self, service: &Service, power: Power) {
        let log = service.log();
        assert!(!log.contains("panicked"), "{log}");
        let acked = self.acked_now();
        self.acked.extend(acked.iter().cloned());
        let loss = match power {
            Power::Stays => Loss::Nothing,
            Power::Lost => self.disk.lose_power(None),
            Power::Torn => self.disk.lose_power(Some(&mut self.rng)),
        };
        let stored = Stored::read(&self.home.store());
        Stored::assert_holds_acked(stored.as_ref(), &self.sent, &self.acked);
        let delivered = self.delivered();
        let stored = stored.unwrap_or_else(|fault| {
            assert!(delivered.is_empty(), "P2: delivered, and now lost: {fault}");
            Stored::default()
        });
        stored.assert_holds_delivered(&delivered);
        self.oldest_record = stored.oldest_record();
        let unacked = || {
            self.sent
                .iter()
                .filter(|sent| !acked.contains(&sent.message_id))
        };
        let is_stored = |sent: &Sent| stored.keys.contains(&sent.key());
        self.seen.kills += 1;
        self.seen.kills_with_unacked += usize::from(unacked().next().is_some());
        self.seen.kills_before_acks += usize::from(unacked().any(is_stored));
        self.seen.losses += usize::from(loss == Loss::Unsynced);
    }

    /// The last line that the last process logged.
    pub(crate) fn last_line(&self) -> String {
        let log = self
            .home
            .path(&format!("{}.log", self.runs.last().unwrap()));
        fs::read_to_string(log)
            .unwrap()
            .lines()
            .last()
            .unwrap_or_default()
            .to_owned()
    }

    /// Lets the service process everything, and checks the result.
    pub(crate) fn finish(mut self) -> Seen {
        let watch = Stopwatch::start();
        let service = self.spawn(None);
        let is_ready = wait_until(LIMIT, || service.get("/readyz").is_some());
        let seconds = watch.seconds();
        assert!(
            is_ready && seconds < RECOVERY_LIMIT,
            "{seconds} s:\n{}",
            service.log()
        );
        let fresh = self.load.take(8);
        self.publish(fresh);
        service.wait_for(LIMIT, |service| self.is_idle(service));
        assert_eq!(service.metric("hearthd_conservation_imbalance"), 0, "P6");
        let duplicates = service.metric("hearthd_messages_duplicate_total");
        self.seen.duplicates = duplicates.try_into().unwrap();
        let log = service.log();
        service.stop();
        assert!(!log.contains("panicked"), "{log}");

        let acked = self.acked_now();
        let left = self
            .sent
            .iter()
            .filter(|sent| !acked.contains(&sent.message_id));
        assert_eq!(left.count(), 0, "P1: not acked in the end");
        let lines: Vec<String> = self.sent.iter().map(Sent::to_capture_line).collect();
        let expected = Expected::replay(&self.home, &lines.join("\n"));
        let stored = Stored::read(&self.home.store()).unwrap();
        stored.assert_final(&self.sent, &self.delivered(), &expected);
        expected.assert_converged(&self.home);
        self.seen
    }

    fn spawn(&mut self, point: Option<Point>) -> Service {
        let environment = &mut self.home.environment;
        environment.retain(|name, _| !name.starts_with("SHIM_"));
        environment.extend(self.disk.environment(point));
        self.runs.push(format!("run{}", self.runs.len()));
        self.home.spawn(self.runs.last().unwrap())
    }

    /// Publishes up to `count` new messages, some at a time, until it is over.
    fn feed(&mut self, count: usize, mut is_over: impl FnMut(&Self) -> bool) {
        let mut left = count;
        while !is_over(self) {
            let some = self.rng.usize(1..=3).min(left);
            left -= some;
            let messages = self.load.take(some);
            self.publish(messages);
            thread::park_timeout(LOOK * self.rng.u32(1..=12));
        }
    }

    fn publish(&mut self, mut messages: Vec<Sent>) {
        match &self.broker {
            Broker::Server(server) => {
                server.publish_messages(messages.iter().map(|sent| Message {
                    body: sent.body.clone(),
                    id: Some(sent.message_id.clone()),
                    publish_time: Some(sent.publish_time.into()),
                    ..Message::default()
                }));
            }
            Broker::Emulator(emulator) => {
                let bodies: Vec<&[u8]> = messages.iter().map(|sent| &sent.body[..]).collect();
                let ids = emulator.publish(TOPIC, &bodies);
                for (sent, id) in messages.iter_mut().zip(ids) {
                    sent.message_id = id;
                }
            }
        }
        self.sent.append(&mut messages);
    }

    /// What the sink has printed, in all runs.
    fn delivered(&self) -> Vec<serde_json::Value> {
        let runs: Vec<&str> = self.runs.iter().map(String::as_str).collect();
        self.home.records(&runs)
    }

    fn is_under_load(&self, service: &Service, opens: u64) -> bool {
        match &self.broker {
            Broker::Server(server) => server.open_count() > opens,
            Broker::Emulator(_) => service.get("/readyz").is_some(),
        }
    }

    /// Attempts to open a stream that the test server saw.
    fn open_count(&self) -> u64 {
        match &self.broker {
            Broker::Server(server) => server.open_count(),
            Broker::Emulator(_) => 0,
        }
    }

    /// Acks that the test server saw.
    fn acked_count(&self) -> u64 {
        match &self.broker {
            Broker::Server(server) => server.acked_count(),
            Broker::Emulator(_) => 0,
        }
    }

    /// Ids of the messages that are acked, once the last word of the process was heard.
    fn acked_now(&self) -> BTreeSet<String> {
        match &self.broker {
            Broker::Server(server) => {
                let is_open = |stream: &StreamLog| stream.outcome == Outcome::Open;
                let is_gone = || !server.log().streams.iter().any(is_open);
                assert!(
                    wait_until(LIMIT, is_gone),
                    "a stream of a dead process is open"
                );
                server.acked()
            }
            Broker::Emulator(emulator) => {
                let unacked = emulator.unacked(SUBSCRIPTION);
                let ids = self.sent.iter().map(|sent| sent.message_id.clone());
                ids.filter(|id| !unacked.contains_key(id)).collect()
            }
        }
    }

    /// True if every message was processed, and no timer is left.
    fn is_idle(&self, service: &Service) -> bool {
        if service.get("/readyz").is_none() {
            return false;
        }
        match &self.broker {
            // In this order: before the messages come, the service has settled too.
            Broker::Server(server) => server.unacked().is_empty() && service.has_settled(),
            Broker::Emulator(emulator) => {
                // Not while acks are under way, which a release makes void.
                if !service.has_settled() {
                    return false;
                }
                // It may have leased messages to streams that have ended.
                emulator.release(SUBSCRIPTION);
                let events = event_ids(&self.delivered());
                self.sent
                    .iter()
                    .all(|sent| !sent.is_event() || events.contains(&sent.key()))
            }
        }
    }
}

/// The end of the log: at this level it is long.
fn tail(service: &Service) -> String {
    let log = service.log();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}
