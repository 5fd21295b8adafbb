//! What a stream's task and the watchdog know of one stream: does it work, and how long has it been
//! waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::mpsc;

use super::shared::Shared;
use super::stream_event::Reopen;
use crate::event::ClockTime;
use crate::sources::event::SourceChange;

/// The value of `waiting_since` while the stream's task has something else to do.
const NOT_WAITING: i64 = i64::MAX;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct StreamState {
    shared: Arc<Shared>,
    waiting_since: AtomicI64,
    is_up: AtomicBool,
    down_since: AtomicI64,
    reopen: mpsc::Sender<Reopen>,
}

impl StreamState {
    /// A state, and what its stream's task listens to. One request to reopen at a time is enough:
    /// each makes the stream open anew.
    pub(super) fn new(shared: Arc<Shared>) -> (Self, mpsc::Receiver<Reopen>) {
        let (reopen, reopens) = mpsc::channel(1);
        let state = Self {
            waiting_since: AtomicI64::new(NOT_WAITING),
            is_up: AtomicBool::new(false),
            down_since: AtomicI64::new(shared.clock.now().0),
            reopen,
            shared,
        };
        (state, reopens)
    }

    /// The stream's task waits for the server from now on, or for something else.
    pub(super) fn set_waiting(&self, is_waiting: bool) {
        let since = if is_waiting {
            self.shared.clock.now().0
        } else {
            NOT_WAITING
        };
        self.waiting_since.store(since, Relaxed);
    }

    /// How long the server has been silent, as of `now`; zero while it isn't waited for.
    pub(super) fn waiting(&self, now: ClockTime) -> Duration {
        now.since(ClockTime(self.waiting_since.load(Relaxed)))
    }

    pub(super) fn is_up(&self) -> bool {
        self.is_up.load(Relaxed)
    }

    /// How long it has not worked, as of `now`; zero while it does.
    pub(super) fn down(&self, now: ClockTime) -> Duration {
        if self.is_up() {
            return Duration::ZERO;
        }
        now.since(ClockTime(self.down_since.load(Relaxed)))
    }

    pub(super) fn set_up(&self, is_up: bool) {
        if self.is_up.swap(is_up, Relaxed) != is_up {
            self.down_since.store(self.shared.clock.now().0, Relaxed);
            self.shared.emit(if is_up {
                SourceChange::Up
            } else {
                SourceChange::Down
            });
        }
    }

    /// Ends the stream, so that it is opened anew.
    pub(super) fn reopen(&self, why: Reopen) {
        // An error means that one is under way already, or that the task has ended.
        self.reopen.try_send(why).ok();
    }

    /// For those who may reopen without looking at the state.
    pub(super) fn reopener(&self) -> mpsc::Sender<Reopen> {
        self.reopen.clone()
    }
}
