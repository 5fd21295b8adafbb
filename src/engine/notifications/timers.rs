//! When open notifications count as closed: timers are data, read by whoever can wait.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{ClockTime, NotificationId};

/// The timers of all open notifications.
#[derive(Debug, Default)]
pub(super) struct Timers {
    deadlines: BTreeSet<(ClockTime, NotificationId)>,
    by_id: BTreeMap<NotificationId, ClockTime>,
}

impl Timers {
    /// Goes on with the timers that the store kept; no timer runs longer than until `latest`.
    pub(super) fn restore(
        rows: impl IntoIterator<Item = (NotificationId, ClockTime)>,
        latest: ClockTime,
    ) -> Self {
        let mut timers = Self::default();
        for (id, deadline) in rows {
            timers.set(id, Some(deadline.min(latest)));
        }
        timers
    }

    /// Sets or ends the timer of a notification.
    pub(super) fn set(&mut self, id: NotificationId, deadline: Option<ClockTime>) {
        let previous = match deadline {
            Some(deadline) => self.by_id.insert(id, deadline),
            None => self.by_id.remove(&id),
        };
        if let Some(previous) = previous {
            self.deadlines.remove(&(previous, id));
        }
        self.deadlines
            .extend(deadline.map(|deadline| (deadline, id)));
    }

    /// When the first timer runs out, and whose it is.
    pub(super) fn first(&self) -> Option<(ClockTime, NotificationId)> {
        self.deadlines.first().copied()
    }

    /// The notifications whose timers run out by then.
    pub(super) fn due(&self, until: ClockTime) -> impl Iterator<Item = NotificationId> {
        self.deadlines
            .iter()
            .take_while(move |(deadline, _)| *deadline <= until)
            .map(|(_, id)| *id)
    }

    /// When the nth timer from here runs out, counted from 0.
    pub(super) fn nth(&self, n: usize) -> Option<ClockTime> {
        self.deadlines.iter().nth(n).map(|(deadline, _)| *deadline)
    }

    /// Number of open notifications.
    pub(super) fn len(&self) -> usize {
        self.deadlines.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_is_set_again_runs_once() {
        let id = |n| NotificationId([n; 16]);
        let mut timers = Timers::default();
        timers.set(id(1), Some(ClockTime(10)));
        timers.set(id(2), Some(ClockTime(20)));
        timers.set(id(1), Some(ClockTime(30)));
        assert_eq!(
            (timers.len(), timers.first()),
            (2, Some((ClockTime(20), id(2))))
        );
        assert_eq!(timers.due(ClockTime(29)).collect::<Vec<_>>(), [id(2)]);
        timers.set(id(2), None);
        timers.set(id(2), None);
        assert_eq!(
            (timers.len(), timers.first()),
            (1, Some((ClockTime(30), id(1))))
        );
    }
}
