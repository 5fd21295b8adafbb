//! Remembers which messages were acked, to notice acks that get lost.
//!
//! A source sends acks and may hear of no failure. A message that comes again although it was acked
//! is then the only sign. One now and then is the sender's right; many mean that acks don't arrive.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;

use crate::event::ClockTime;
use crate::sources::SourceId;

/// Acked messages remembered: more than come within the time that an ack deadline runs, in a flood
/// too; some 100 bytes each.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(20_000).expect("it is not zero");

/// Time over which lost acks are summed up before they are judged, and between two warnings.
const WINDOW: Duration = Duration::from_secs(10);

/// Lost acks within a window that are worth a warning.
const WORTH_A_WARNING: u64 = 10;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct LostAcks {
    acked: LruCache<(SourceId, Arc<str>), ()>,
    lost: u64,
    advice: &'static str,
    window_ends: ClockTime,
}

impl LostAcks {
    pub(super) fn new(now: ClockTime) -> Self {
        Self {
            acked: LruCache::new(REMEMBERED),
            lost: 0,
            advice: "",
            window_ends: now.after(WINDOW),
        }
    }

    /// A message was acked. True if that was so before, and its ack got lost; `advice` is what to
    /// do then.
    pub(super) fn remember(
        &mut self,
        source: &SourceId,
        message_id: Arc<str>,
        advice: &'static str,
    ) -> bool {
        let is_lost = self.acked.put((source.clone(), message_id), ()).is_some();
        if is_lost {
            self.lost += 1;
            self.advice = advice;
        }
        is_lost
    }

    /// How many acks were lost, and what to do, once per window and only if it is worth a warning.
    pub(super) fn warning(&mut self, now: ClockTime) -> Option<(u64, &'static str)> {
        if now < self.window_ends {
            return None;
        }
        self.window_ends = now.after(WINDOW);
        let lost = std::mem::take(&mut self.lost);
        (lost >= WORTH_A_WARNING).then_some((lost, self.advice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_lost_acks_are_worth_one_warning_per_window() {
        let mut acks = LostAcks::new(ClockTime::default());
        let later = |seconds| ClockTime::default().after(Duration::from_secs(seconds));
        let remember = |acks: &mut LostAcks, source| {
            acks.remember(&SourceId::new(source), "1".into(), "mend it")
        };
        assert!(!remember(&mut acks, "a"));
        assert!(!remember(&mut acks, "b"), "ids are unique within a source");
        assert!(remember(&mut acks, "a"));
        assert_eq!(acks.warning(later(11)), None, "one is no reason");
        (0..WORTH_A_WARNING).for_each(|_| assert!(remember(&mut acks, "a")));
        assert_eq!(acks.warning(later(12)), None, "too early");
        assert_eq!(acks.warning(later(22)), Some((WORTH_A_WARNING, "mend it")));
        assert_eq!(acks.warning(later(33)), None, "said once");
    }
}
