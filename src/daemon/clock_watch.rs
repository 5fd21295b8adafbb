//! While the wall clock is doubted: asks the endpoint what time it is, and says so once a day.

use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::Endpoint;
use crate::event::ClockTime;
use crate::sources::pubsub::server_time;

/// Longest wait for the endpoint's answer: a start with a doubted clock takes this much longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// Time between two questions. Machines set their clock soon after the network is there; a question
/// costs one connection.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// Questions between two lines in the log: a day.
const ASKS_PER_LINE: u32 = 2_880;

/// Starts the clock of a store. The endpoint is asked before any message comes, since messages are
/// judged by what time it is.
pub(super) async fn start(
    stored: ClockTime,
    shortest: Duration,
    is_trusted: bool,
    endpoint: &Endpoint,
) -> Clock {
    if is_trusted {
        return Clock::start(stored);
    }
    let clock = Clock::resume(stored, shortest);
    confirm(&clock, endpoint).await;
    clock
}

/// Lets the endpoint's clock confirm a doubted one, or show what time it is instead. No answer is
/// no evidence: TLS itself fails where a clock is off by years.
async fn confirm(clock: &Clock, endpoint: &Endpoint) {
    if clock.doubt().is_none() {
        return;
    }
    let headers = server_time::headers(endpoint, ANSWER_LIMIT).await;
    if let Some(now) = headers.ok().and_then(|found| server_time::date_of(&found)) {
        clock.observe_server(now);
    }
}

/// Asks until the clock is confirmed. Ends when it is told to stop.
pub(super) async fn run(clock: Clock, endpoint: Endpoint, mut stop: watch::Receiver<bool>) {
    let watch = async {
        let mut asked = 0_u32;
        while clock.doubt().is_some() {
            tokio::time::sleep(ASK_EVERY).await;
            confirm(&clock, &endpoint).await;
            asked += 1;
            if asked.is_multiple_of(ASKS_PER_LINE) {
                clock.log_doubt();
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = watch => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}
