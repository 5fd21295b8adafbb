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
        Self { cache: NonZeroUsize::new(entries).map(LruCache::new), horizon }
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

    /// True if something that first arrived at `first` is still remembered at `now`.
    pub(super) fn is_remembered(&self, first: ClockTime, now: ClockTime) -> bool {
        now.since(first) < self.horizon
    }
}
