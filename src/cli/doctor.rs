//! `hearthd doctor`: tries what the settings name, one line a check, with what to do about it.
//!
//! Leaves everything as it was: messages that it takes are nacked, a store is opened as the
//! service would and not made. Prints no secret. Each check has a time limit.

mod access;
mod line;
mod pull;
mod store;
mod subscription;
mod topic;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use google_cloud_auth::credentials::Credentials;

use self::line::{Line, Verdict};
use super::exit::EXIT_BAD_CONFIG;
use crate::cli::settings::ConfigArgs;
use crate::clock::Clock;
use crate::config::{self, Endpoint, Log, LogLevel, Pubsub, Settings, SinkKind};
use crate::event::ClockTime;
use crate::sources::pubsub::{Finding, Probe, ask_publisher};
use crate::telemetry;
use crate::text::error_chain;

/// No hearthd is older: a clock that is behind this was never set. 2025-01-01.
const EARLIEST: i64 = 1_735_689_600;
/// A clock that is ahead of this was set wrongly. 2100-01-01.
const LATEST: i64 = 4_102_444_800;
/// Largest difference to the server's clock: a sixth of the age up to which an event rings by
/// default, and more than a slow network makes up.
const SKEW_MAX: TimeDelta = TimeDelta::seconds(10);

/// Options of `hearthd doctor`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Runs the command. The exit code is 0 unless a check failed.
pub async fn run(
    args: &Args,
    environment: &BTreeMap<String, String>,
    stdout: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let mut report = Report {
        stdout,
        failed: false,
    };
    let settings = match args.config.load_with_pubsub(environment) {
        Ok(settings) => settings,
        Err(faults) => {
            report.add(
                faults
                    .as_slice()
                    .iter()
                    .map(|fault| Line::fail("settings", fault)),
            )?;
            return Ok(ExitCode::from(EXIT_BAD_CONFIG));
        }
    };
    report.add([Line::ok("settings", "valid")])?;
    // What Pub/Sub says in full when it refuses a stream is in the log.
    telemetry::init(
        &Log {
            level: LogLevel::Warn,
            ..settings.log.clone()
        },
        environment,
    );
    let clock = Clock::start(ClockTime::default());
    let skew = check_pubsub(&settings, &clock, &mut report).await?;
    report.add(store::check(&settings.store))?;
    report.add(sinks(&settings.sinks))?;
    let stored = store::clock(&settings.store).unwrap_or_default();
    let shortest = settings.dedupe.horizon.min(settings.store.journal_max_age);
    report.add([check_clock(clock.wall_now(), skew, (stored, shortest))])?;
    Ok(if report.failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Returns how far this machine's clock is ahead of the server's, if that is known.
async fn check_pubsub(
    settings: &Settings,
    clock: &Clock,
    report: &mut Report<'_>,
) -> anyhow::Result<Option<TimeDelta>> {
    let pubsub = settings.require_pubsub()?;
    let (lines, credentials) = access::credentials(pubsub).await;
    report.add(lines)?;
    let (line, server) = access::endpoint(&pubsub.endpoint, clock).await;
    report.add([line])?;
    let (Some(credentials), Some(server)) = (credentials, &server) else {
        let text = "not looked for: first mend what failed above";
        report.add([Line::warn("subscription", text)])?;
        return Ok(server.and_then(|server| server.skew));
    };
    let finding = match Probe::new(pubsub, credentials.clone()).await {
        Ok(probe) => probe.ask().await,
        Err(error) => Finding::Unreachable(error_chain(&error)),
    };
    let horizon = settings.dedupe.horizon;
    let now = clock.wall_now();
    report.add(subscription::lines(&finding, pubsub, horizon, now))?;
    report.add(check_publishing(&finding, settings, pubsub, credentials, now).await)?;
    if matches!(finding, Finding::Found(_) | Finding::Forbidden) {
        report.add([pull::check(pubsub, clock.clone()).await])?;
    }
    Ok(server.skew)
}

/// What must be so for events to reach a topic of the user's own. An emulator has neither
/// policies nor Device Access.
async fn check_publishing(
    finding: &Finding,
    settings: &Settings,
    pubsub: &Pubsub,
    credentials: Credentials,
    now: DateTime<Utc>,
) -> Vec<Line> {
    let mut lines = Vec::new();
    if matches!(pubsub.endpoint, Endpoint::Emulator { .. }) {
        return lines;
    }
    match finding {
        Finding::Found(found) if topic::is_own(found, now) => {
            let publisher = ask_publisher(pubsub, credentials, &found.topic).await;
            lines.push(topic::check_publisher(&publisher, &found.topic));
        }
        // The topic may be the user's own: what arrived still tells.
        Finding::Forbidden => {}
        Finding::Found(_)
        | Finding::NotFound
        | Finding::Unauthenticated(_)
        | Finding::NoToken(..)
        | Finding::Unreachable(_) => return lines,
    }
    // A store that can't be read is the store's line.
    if let Ok(arrivals) = store::arrivals(&settings.store) {
        let silence = pubsub.silence_warning;
        let horizon = settings.dedupe.horizon;
        lines.push(topic::check_arrivals(arrivals, now, silence, horizon));
    }
    lines
}

fn sinks(sinks: &[config::Sink]) -> Vec<Line> {
    if sinks.is_empty() {
        return vec![Line::ok(
            "sinks",
            "none are set: records stay in the journal of the store",
        )];
    }
    let line = |sink: &config::Sink| match &sink.kind {
        SinkKind::Stdout => Line::ok(
            "sinks",
            format_args!("{}: records go to standard output", sink.name),
        ),
        SinkKind::File(file) => file_sink(&sink.name, file),
    };
    sinks.iter().map(line).collect()
}

fn file_sink(name: &str, file: &config::SinkFile) -> Line {
    let path = file.path.display();
    match store::write_to(file.folder()) {
        Ok(()) => Line::ok("sinks", format_args!("{name}: records go to {path}")),
        Err(error) => Line::fail(
            "sinks",
            format_args!(
                "{name}: failed to write to the folder of {path}: {error}; create the folder, let \
                 the user that hearthd runs as write to it, or correct the sink's file.path"
            ),
        ),
    }
}

/// Judges the clock by itself, by the server's, and by the last time in the store, beside which is
/// the shortest time for which the store keeps anything.
fn check_clock(
    now: DateTime<Utc>,
    skew: Option<TimeDelta>,
    (stored, shortest): (ClockTime, Duration),
) -> Line {
    const SET: &str = "set it, best by NTP (timedatectl set-ntp true): with a wrong clock, Google \
         refuses tokens, and the wrong events ring";
    let shown = now.to_rfc3339_opts(SecondsFormat::Secs, true);
    if !(EARLIEST..LATEST).contains(&now.timestamp()) {
        return Line::fail(
            "clock",
            format_args!("this machine's clock says {shown}; {SET}"),
        );
    }
    let is_right = skew.is_some_and(|skew| skew.abs() <= SKEW_MAX);
    if !is_right && Clock::would_doubt(now, stored, shortest) {
        let stored = DateTime::from_timestamp_nanos(stored.0);
        let stored = stored.to_rfc3339_opts(SecondsFormat::Secs, true);
        let text = format!(
            "{shown} is too far from the last time in the store, {stored}: the service does not \
             believe it until a message or the server's clock confirms it, and meanwhile deletes \
             nothing for its age by it; {SET}; if it is right, and nothing confirms it, start once \
             with hearthd run --trust-clock"
        );
        return match skew {
            Some(_) => Line::fail("clock", text),
            None => Line::warn("clock", text),
        };
    }
    match skew {
        Some(skew) if skew.abs() > SKEW_MAX => {
            let by = skew.num_seconds().abs();
            let way = if skew < TimeDelta::zero() {
                "behind"
            } else {
                "ahead of"
            };
            Line::warn(
                "clock",
                format_args!("{shown} is {by} s {way} the server's clock; {SET}"),
            )
        }
        Some(_) => Line::ok("clock", format_args!("{shown}, as the server's")),
        None => Line::ok(
            "clock",
            format_args!("{shown}; no server to compare it with"),
        ),
    }
}

/// Where lines go, each as soon as it is known.
struct Report<'a> {
    stdout: &'a mut dyn Write,
    failed: bool,
}

impl Report<'_> {
    fn add(&mut self, lines: impl IntoIterator<Item = Line>) -> io::Result<()> {
        for line in lines {
            self.failed |= line.verdict == Verdict::Fail;
            writeln!(self.stdout, "{line}")?;
        }
        self.stdout.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn a_clock_is_judged_by_itself_and_by_the_server() {
        let (now, fresh) = (1_800_000_000, ClockTime::default());
        for (now, skew, verdict, words) in [
            (0, None, Verdict::Fail, "says 1970-01-01T00:00:00Z; set it"),
            (
                LATEST,
                None,
                Verdict::Fail,
                "says 2100-01-01T00:00:00Z; set it",
            ),
            (now, None, Verdict::Ok, "no server"),
            (now, Some(-10), Verdict::Ok, "as the server's"),
            (
                now,
                Some(-11),
                Verdict::Warn,
                "is 11 s behind the server's clock; set it",
            ),
            (
                now,
                Some(3600),
                Verdict::Warn,
                "is 3600 s ahead of the server's clock",
            ),
        ] {
            let skew = skew.map(TimeDelta::seconds);
            let line = check_clock(at(now), skew, (fresh, Duration::ZERO));
            assert_eq!(line.verdict, verdict, "{line}");
            assert!(line.text.contains(words), "{line}");
        }
    }

    #[test]
    fn a_clock_is_judged_by_the_store_unless_a_server_confirms_it() {
        let now = 1_800_000_000;
        let week = Duration::from_secs(7 * 24 * 3600);
        let year = 365 * 24 * 3600;
        for (stored, skew, verdict, words) in [
            (
                now - 3 * year,
                None,
                Verdict::Warn,
                "time in the store, 2024",
            ),
            (now + year, None, Verdict::Warn, "time in the store, 2028"),
            (now + year, Some(-year), Verdict::Fail, "run --trust-clock"),
            (now - 3 * year, Some(0), Verdict::Ok, "as the server's"),
            (now - 24 * 3600, None, Verdict::Ok, "no server"),
        ] {
            let stored = ClockTime::from_utc(at(stored));
            let skew = skew.map(TimeDelta::seconds);
            let line = check_clock(at(now), skew, (stored, week));
            assert_eq!(line.verdict, verdict, "{line}");
            assert!(line.text.contains(words), "{line}");
        }
    }
}
