//! Messages that are made when there is room for them.

use std::fmt;
use std::time::Duration;

/// An endless supply of messages, made as fast as flow control lets them out. What is acked is
/// forgotten, so that memory depends on what is outstanding only.
pub struct Flood {
    make: Box<dyn Fn(u64) -> Vec<u8> + Send>,
    count: Option<u64>,
    per_second: Option<f64>,
    started: Duration,
    made: u64,
}

impl Flood {
    /// `make` gives the body of each message: the first has number 0. It is called with the server
    /// locked, so it must be fast and must not call the server.
    pub fn new(make: impl Fn(u64) -> Vec<u8> + Send + 'static) -> Self {
        let started = Duration::ZERO;
        Self { make: Box::new(make), count: None, per_second: None, started, made: 0 }
    }

    /// Ends after so many messages.
    #[must_use]
    pub fn count(self, count: u64) -> Self {
        Self { count: Some(count), ..self }
    }

    /// Makes no more than so many messages a second, on average since the flood began. They come
    /// in bursts of 10 ms.
    #[must_use]
    pub fn per_second(self, rate: f64) -> Self {
        Self { per_second: Some(rate), ..self }
    }

    pub(super) fn started(self, now: Duration) -> Self {
        Self { started: now, ..self }
    }

    /// The next message's body, if there is one to be had now.
    pub(super) fn next(&mut self, now: Duration) -> Option<Vec<u8>> {
        if self.count.is_some_and(|count| self.made >= count) {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 messages")]
        if let Some(rate) = self.per_second
            && self.made as f64 >= (now.saturating_sub(self.started)).as_secs_f64() * rate
        {
            return None;
        }
        let body = (self.make)(self.made);
        self.made += 1;
        Some(body)
    }
}

impl fmt::Debug for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flood")
            .field("count", &self.count)
            .field("per_second", &self.per_second)
            .field("made", &self.made)
            .finish_non_exhaustive()
    }
}
