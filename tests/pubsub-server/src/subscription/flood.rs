//! Messages that are made when flow control allows them.

use std::fmt;

/// An endless supply of messages, made as fast as flow control lets them out. What is acked is
/// forgotten, so that memory depends on what is outstanding only.
pub struct Flood {
    make: Box<dyn Fn(u64) -> Vec<u8> + Send>,
    count: Option<u64>,
    made: u64,
}

impl Flood {
    /// `make` gives the body of each message: the first has number 0. It is called with the server
    /// locked, so it must be fast and must not call the server.
    pub fn new(make: impl Fn(u64) -> Vec<u8> + Send + 'static) -> Self {
        Self {
            make: Box::new(make),
            count: None,
            made: 0,
        }
    }

    /// Ends after so many messages.
    #[must_use]
    pub fn count(self, count: u64) -> Self {
        Self {
            count: Some(count),
            ..self
        }
    }

    /// The next message's body, if there is one more.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        if self.count.is_some_and(|count| self.made >= count) {
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
            .field("made", &self.made)
            .finish_non_exhaustive()
    }
}
