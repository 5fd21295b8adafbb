//! Acks and changes of deadlines.

use std::time::Duration;

use super::{State, Subscription};
use crate::faults::Answer;
use crate::log::{Requests, note};

/// How long a nacked message waits before it is delivered again; what the emulator takes.
pub(super) const NACK_PAUSE: Duration = Duration::from_millis(50);

impl Subscription {
    /// Acks messages, as the fault allows. An ack of a lease that ended is as good as any.
    pub(crate) fn acknowledge(&mut self, ack_ids: &[String], fault: Option<&Answer>) {
        self.log.acknowledge.count += 1;
        self.log.acknowledge.ids += ack_ids.len() as u64;
        for (sequence, _) in ack_ids.iter().filter_map(|id| parse_ack_id(id)) {
            let Some(entry) = self.messages.get(&sequence) else {
                continue;
            };
            let from_flood = entry.from_flood;
            if let Some(list) = list_for(fault, from_flood, &mut self.log.acknowledge) {
                note(list, entry.message.message_id.clone());
            }
            if is_forgotten(fault) {
                continue;
            }
            if self.take_away(sequence, State::Acked) {
                self.log.acked += 1;
            }
            if from_flood {
                self.messages.remove(&sequence);
            }
        }
    }

    /// Extends leases, or nacks for zero seconds, as the fault allows. What is not leased under
    /// its ack id any more stays as it is.
    pub(crate) fn modify_ack_deadline(
        &mut self,
        ack_ids: &[String],
        deadline: Duration,
        fault: Option<&Answer>,
        now: Duration,
    ) {
        self.log.modify_ack_deadline.count += 1;
        self.log.modify_ack_deadline.ids += ack_ids.len() as u64;
        for (sequence, number) in ack_ids.iter().filter_map(|id| parse_ack_id(id)) {
            let Some(entry) = self.messages.get_mut(&sequence) else {
                continue;
            };
            let list = list_for(fault, entry.from_flood, &mut self.log.modify_ack_deadline);
            if let Some(list) = list {
                note(list, entry.message.message_id.clone());
            }
            if is_forgotten(fault) {
                continue;
            }
            let State::Leased(lease) = &mut entry.state else {
                continue;
            };
            if lease.number != number {
                continue;
            }
            if deadline.is_zero() {
                note(&mut self.log.nacked, entry.message.message_id.clone());
                let until = now + NACK_PAUSE;
                self.take_away(sequence, State::Paused { until });
                self.timers.insert((until, sequence));
            } else {
                self.timers.remove(&(lease.until, sequence));
                lease.until = now + deadline;
                self.timers.insert((lease.until, sequence));
            }
        }
    }
}

/// Names one delivery of one message.
pub(super) fn ack_id(sequence: u64, lease: u64) -> String {
    format!("{sequence}-{lease}")
}

/// Sequence and lease. `None` for what this server never gave out.
fn parse_ack_id(ack_id: &str) -> Option<(u64, u64)> {
    let (sequence, lease) = ack_id.split_once('-')?;
    Some((sequence.parse().ok()?, lease.parse().ok()?))
}

/// Where the log notes the ids of a request. What takes effect on a flood is only counted.
fn list_for<'a>(
    fault: Option<&Answer>,
    from_flood: bool,
    requests: &'a mut Requests,
) -> Option<&'a mut Vec<String>> {
    match fault {
        Some(Answer::Lost) => Some(&mut requests.lost),
        Some(Answer::Status(_)) => Some(&mut requests.refused),
        Some(Answer::Hang) | None => (!from_flood).then_some(&mut requests.applied),
    }
}

fn is_forgotten(fault: Option<&Answer>) -> bool {
    matches!(fault, Some(Answer::Lost | Answer::Status(_)))
}
