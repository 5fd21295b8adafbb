//! Has this payload been seen? A bounded cache of recent keys in front of the store's own.
//!
//! A key is "seen" for `dedupe.horizon` after its first arrival, and only once it is committed: an
//! engine whose changes could not be committed is thrown away with this cache.

use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;

use crate::event::{ClockTime, DedupeKey};

/// Recently seen payloads, with the time of their first arrival.
#[derive(Debug)]
pub(super) struct Dedupe {
    cache: Option<LruCache<DedupeKey, ClockTime>>,
    horizon: Duration,
}

impl Dedupe {
    /// A cache of `entries` keys; 0 leaves every question to the store.
    pub(super) fn new(entries: usize, horizon: Duration) -> Self {
        Self {
            cache: NonZeroUsize::new(entries).map(LruCache::new),
            horizon,
        }
    }

    /// The first arrival of a payload, if this cache knows it.
    pub(super) fn cached(&mut self, key: DedupeKey) -> Option<ClockTime> {
        self.cache.as_mut()?.get(&key).copied()
    }

    /// Notes the first arrival of a payload.
    pub(super) fn remember(&mut self, key: DedupeKey, at: ClockTime) {
        if let Some(cache) = &mut self.cache {
            cache.put(key, at);
        }
    }

    /// Knows nothing of a payload any more, if it first arrived at `first`.
    pub(super) fn forget(&mut self, key: DedupeKey, first: ClockTime) {
        if let Some(cache) = &mut self.cache
            && cache.peek(&key) == Some(&first)
        {
            cache.pop(&key);
        }
    }

    /// True if something that first arrived at `first` is still remembered at `now`.
    pub(super) fn is_remembered(&self, first: ClockTime, now: ClockTime) -> bool {
        now.since(first) < self.horizon
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HORIZON: Duration = Duration::from_nanos(10);

    #[test]
    fn a_payload_is_remembered_for_the_horizon_from_its_first_arrival() {
        let dedupe = Dedupe::new(1, HORIZON);
        assert!(dedupe.is_remembered(ClockTime(5), ClockTime(14)));
        assert!(!dedupe.is_remembered(ClockTime(5), ClockTime(15)));
        assert!(
            dedupe.is_remembered(ClockTime(5), ClockTime(4)),
            "the clock was set back"
        );
    }

    #[test]
    fn the_cache_keeps_what_was_asked_for_last() {
        let key = |n| DedupeKey([n; 16]);
        let mut dedupe = Dedupe::new(2, HORIZON);
        dedupe.remember(key(1), ClockTime(1));
        dedupe.remember(key(2), ClockTime(2));
        assert_eq!(dedupe.cached(key(1)), Some(ClockTime(1)));
        dedupe.remember(key(3), ClockTime(3));
        assert_eq!(dedupe.cached(key(2)), None);
        assert_eq!(dedupe.cached(key(1)), Some(ClockTime(1)));
    }

    #[test]
    fn only_the_arrival_that_is_meant_is_forgotten() {
        let key = DedupeKey([1; 16]);
        let mut dedupe = Dedupe::new(2, HORIZON);
        dedupe.remember(key, ClockTime(2));
        dedupe.forget(key, ClockTime(1));
        assert_eq!(dedupe.cached(key), Some(ClockTime(2)));
        dedupe.forget(key, ClockTime(2));
        assert_eq!(dedupe.cached(key), None);
    }

    #[test]
    fn a_cache_without_room_leaves_every_question_to_the_store() {
        let mut dedupe = Dedupe::new(0, HORIZON);
        dedupe.remember(DedupeKey([1; 16]), ClockTime(1));
        assert_eq!(dedupe.cached(DedupeKey([1; 16])), None);
    }
}
