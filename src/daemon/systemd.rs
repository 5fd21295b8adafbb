//! What the supervisor that started the process (systemd) is sent: that the service is ready, how
//! it does, and that it stops.
//!
//! This is sd_notify(3): datagrams to the socket that `NOTIFY_SOCKET` names. Without that variable
//! nothing is sent. The watchdog must never be fed by the mere passing of time, only while the
//! pipeline makes progress.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::event::ClockTime;
use crate::health::Health;

/// Longest time between two reports: that old may the status be that an operator reads.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Says that the service is ready, and from then on how it does, until `stop` holds true. If it
/// can't be said once, it isn't tried again.
pub(super) fn start(
    health: Arc<Health>,
    clock: Clock,
    stop: watch::Receiver<bool>,
) -> Option<impl Future<Output = ()> + Send> {
    notify(&[NotifyState::Ready]).then(|| keep_informed(health, clock, stop))
}

/// Says that the service stops.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

async fn keep_informed(health: Arc<Health>, clock: Clock, mut stop: watch::Receiver<bool>) {
    let pause = pause(sd_notify::watchdog_enabled());
    while !*stop.borrow() {
        let now = clock.now();
        notify(&report(&health, now, &health.status(now)));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
}

/// Half the time after which the supervisor's watchdog acts, as sd_watchdog_enabled(3) advises.
fn pause(watchdog: Option<Duration>) -> Duration {
    watchdog.map_or(REPORT_EVERY, |limit| (limit / 2).min(REPORT_EVERY))
}

fn report<'a>(health: &Health, now: ClockTime, status: &'a str) -> Vec<NotifyState<'a>> {
    let mut states = vec![NotifyState::Status(status)];
    if health.is_alive(now) {
        states.push(NotifyState::Watchdog);
    }
    states
}

fn notify(states: &[NotifyState<'_>]) -> bool {
    // The supervisor may be slow to read, and this socket waits for it.
    let sent = tokio::task::block_in_place(|| sd_notify::notify(states));
    if let Err(error) = &sent {
        tracing::warn!(%error, "failed to notify the supervisor by the socket in NOTIFY_SOCKET");
    }
    sent.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::STUCK_AFTER;

    #[test]
    fn the_watchdog_is_fed_only_while_the_pipeline_makes_progress() {
        let health = Health::default();
        let sent = |now: ClockTime| {
            let states = report(&health, now, "…");
            states.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let start = ClockTime(1_000_000_000_000);
        health.beat(start);
        let last = start.after(STUCK_AFTER - Duration::from_millis(1));
        assert_eq!(sent(last), ["STATUS=…", "WATCHDOG=1"]);
        assert_eq!(sent(start.after(STUCK_AFTER)), ["STATUS=…"]);
        health.beat(start.after(STUCK_AFTER));
        assert_eq!(sent(start.after(STUCK_AFTER)), ["STATUS=…", "WATCHDOG=1"]);
    }

    #[test]
    fn reports_come_at_half_the_watchdogs_limit_or_sooner() {
        assert_eq!(pause(None), REPORT_EVERY);
        assert_eq!(
            pause(Some(Duration::from_secs(3))),
            Duration::from_millis(1500)
        );
        assert_eq!(pause(Some(Duration::from_secs(3600))), REPORT_EVERY);
    }

    #[test]
    fn the_unit_allows_a_report_to_be_late() {
        let unit = include_str!("../../systemd/hearthd.service");
        let limit = unit
            .lines()
            .find_map(|line| line.strip_prefix("WatchdogSec="))
            .unwrap();
        assert!(humantime::parse_duration(limit).unwrap() >= 3 * REPORT_EVERY);
    }
}
