//! The attempts of one client: counted where the library asks for credentials, which it does before
//! each.
//!
//! It is the only sight of them that the client library gives. It retries in silence, and without a
//! pause where a connection breaks below gRPC (measured: thousands of attempts a second). So
//! attempts are slowed down here, and a stream that only attempts is given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use google_cloud_auth::credentials::{CacheableResource, Credentials, CredentialsProvider};
use google_cloud_auth::errors::CredentialsError;
use http::{Extensions, HeaderMap};
use tokio::sync::mpsc;

use super::shared::Shared;
use super::stream_event::Reopen;
use crate::clock::Clock;
use crate::event::ClockTime;

/// Attempts a second where nothing comes in: leases are renewed every 3 s, so this is plenty.
const ATTEMPTS_A_SECOND: i64 = 5;
/// Attempts that may come at once: the first acks of a large batch, and the renewal of 64,000
/// leases.
const BURST: i64 = 64;
/// Attempts that each message earns: its ack and its lease.
const EARNED_BY_MESSAGE: i64 = 2;
/// One attempt, in the nanoseconds that it takes to earn it.
const COST: i64 = 1_000_000_000 / ATTEMPTS_A_SECOND;
/// Attempts that neither acks nor leases explain, after which a stream is given up: the library
/// makes them within two seconds, then waits for up to a minute between two.
const OPENING_ATTEMPTS_MAX: u32 = 4;
/// Attempts further apart are of different outages: the library waits for at most a minute, and the
/// first few times for seconds.
const SAME_OUTAGE: Duration = Duration::from_secs(30);
/// Acks leave within 100 ms, also if the library tries twice.
const ACKS_LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// What a client attempts, and what explains it.
#[derive(Debug)]
pub(super) struct Attempts {
    clock: Clock,
    /// Messages neither acked nor returned.
    in_flight: AtomicU32,
    settled_at: AtomicI64,
    /// Attempts since the last message that can only be of opening the stream.
    opening: AtomicU32,
    opening_at: AtomicI64,
    /// When all attempts so far are earned, in nanoseconds of the clock.
    earned_at: AtomicI64,
    reopen: mpsc::Sender<Reopen>,
}

impl Attempts {
    pub(super) fn new(clock: Clock, reopen: mpsc::Sender<Reopen>) -> Self {
        Self {
            clock,
            in_flight: AtomicU32::new(0),
            settled_at: AtomicI64::new(0),
            opening: AtomicU32::new(0),
            opening_at: AtomicI64::new(0),
            earned_at: AtomicI64::new(0),
            reopen,
        }
    }

    /// A message came.
    pub(super) fn message_received(&self) {
        self.in_flight.fetch_add(1, Relaxed);
        self.opening.store(0, Relaxed);
        self.earned_at.fetch_sub(EARNED_BY_MESSAGE * COST, Relaxed);
    }

    /// A message was acked or returned.
    pub(super) fn message_settled(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
        self.settled_at.store(self.clock.now().0, Relaxed);
    }

    /// An attempt is about to be made. Returns how long it must wait.
    fn begin(&self) -> Duration {
        let now = self.clock.now();
        let settled_at = ClockTime(self.settled_at.load(Relaxed));
        let is_explained =
            self.in_flight.load(Relaxed) > 0 || now.since(settled_at) < ACKS_LEAVE_WITHIN;
        if !is_explained && self.count_opening(now) >= OPENING_ATTEMPTS_MAX {
            // An error means that a reopening is under way already.
            self.reopen.try_send(Reopen::Stalled).ok();
        }
        self.earned_at.fetch_max(now.0, Relaxed);
        let earned_at = self.earned_at.fetch_add(COST, Relaxed) + COST;
        let wait = earned_at - now.0 - BURST * COST;
        Duration::from_nanos(u64::try_from(wait).unwrap_or(0))
    }

    /// How many attempts to open the stream there were in this outage, with this one.
    fn count_opening(&self, now: ClockTime) -> u32 {
        let last = ClockTime(self.opening_at.swap(now.0, Relaxed));
        if now.since(last) > SAME_OUTAGE {
            self.opening.store(0, Relaxed);
        }
        self.opening.fetch_add(1, Relaxed) + 1
    }
}

/// Credentials that slow attempts down, and tell of tokens.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) credentials: Credentials,
    pub(super) attempts: Arc<Attempts>,
    pub(super) shared: Arc<Shared>,
}

impl CredentialsProvider for Observed {
    async fn headers(
        &self,
        extensions: Extensions,
    ) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        let wait = self.attempts.begin();
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let headers = self.credentials.headers(extensions).await;
        self.shared.observe_token(&headers);
        headers
    }

    async fn universe_domain(&self) -> Option<String> {
        self.credentials.universe_domain().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempts() -> (Attempts, mpsc::Receiver<Reopen>) {
        let (reopen, reopens) = mpsc::channel(1);
        (
            Attempts::new(Clock::start(ClockTime::default()), reopen),
            reopens,
        )
    }

    #[test]
    fn attempts_beyond_a_burst_wait_and_messages_earn_more() {
        let (attempts, _reopens) = attempts();
        for _ in 0..BURST {
            assert_eq!(attempts.begin(), Duration::ZERO);
        }
        let wait = attempts.begin();
        assert!(wait > Duration::from_millis(100), "{wait:?}");
        attempts.message_received();
        assert_eq!(attempts.begin(), Duration::ZERO);
    }

    #[test]
    fn a_client_that_only_opens_is_stalled() {
        let (attempts, mut reopens) = attempts();
        for _ in 1..OPENING_ATTEMPTS_MAX {
            attempts.begin();
        }
        assert!(reopens.try_recv().is_err());
        attempts.begin();
        assert_eq!(reopens.try_recv(), Ok(Reopen::Stalled));
    }

    #[test]
    fn streams_that_the_server_ends_now_and_then_are_not_stalled() {
        let (attempts, _reopens) = attempts();
        let at = |seconds| ClockTime::default().after(Duration::from_secs(seconds));
        for half_hour in 1..10 {
            assert_eq!(attempts.count_opening(at(half_hour * 1800)), 1);
        }
        assert_eq!(attempts.count_opening(at(9 * 1800 + 2)), 2);
    }

    #[test]
    fn acks_and_leases_are_no_opening() {
        let (attempts, mut reopens) = attempts();
        attempts.message_received();
        (0..2 * OPENING_ATTEMPTS_MAX).for_each(|_| assert!(attempts.begin().is_zero()));
        attempts.message_settled();
        (0..2 * OPENING_ATTEMPTS_MAX).for_each(|_| assert!(attempts.begin().is_zero()));
        assert!(reopens.try_recv().is_err());
    }
}
