//! What `replay` feeds: the capture files, in their order or disturbed by a seed.

use std::path::PathBuf;

use chrono::TimeDelta;
use fastrand::Rng;

use crate::event::{PublishTime, ReceivedAt, Timestamp};
use crate::sources::Incoming;
use crate::sources::capture;

/// How the recorded order is disturbed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disturbance {
    /// Seed of a permutation of the messages over their arrival times.
    pub(super) shuffle: Option<u64>,
    /// Share of the messages that come twice.
    pub(super) duplicate: f64,
}

type Messages = Box<dyn Iterator<Item = anyhow::Result<Incoming>> + Send>;

/// The messages of all files. Only a permutation needs them all in memory.
pub(super) fn messages(files: &[PathBuf], disturbance: Disturbance) -> anyhow::Result<Messages> {
    let files: Vec<_> = files
        .iter()
        .map(|file| capture::open(file))
        .collect::<Result<_, _>>()?;
    let mut messages: Messages = Box::new(files.into_iter().flatten().map(|message| Ok(message?)));
    let mut rng = Rng::with_seed(disturbance.shuffle.unwrap_or_default());
    if disturbance.duplicate > 0.0 {
        messages = Box::new(duplicated(messages, disturbance.duplicate, rng.fork()));
    }
    if disturbance.shuffle.is_some() {
        let messages: Vec<Incoming> = messages.collect::<anyhow::Result<_>>()?;
        return Ok(Box::new(shuffled(messages, &mut rng).into_iter().map(Ok)));
    }
    Ok(messages)
}

/// Delivers some messages twice: half of those as a redelivery, half as a republication, which has
/// another messageId and a later publishTime.
fn duplicated(
    messages: Messages,
    rate: f64,
    mut rng: Rng,
) -> impl Iterator<Item = anyhow::Result<Incoming>> + Send {
    messages.flat_map(move |message| {
        let copy = match &message {
            Ok(message) if rng.f64() < rate => {
                let republished = rng.bool();
                let copy = message.clone();
                Some(Ok(if republished {
                    republish(copy, &mut rng)
                } else {
                    copy
                }))
            }
            Ok(_) | Err(_) => None,
        };
        std::iter::once(message).chain(copy)
    })
}

fn republish(mut message: Incoming, rng: &mut Rng) -> Incoming {
    let published = message.raw.publish_time.0.at();
    let later = published.checked_add_signed(TimeDelta::milliseconds(rng.i64(1..60_000)));
    message.raw.message_id = format!("republished-{:016x}", rng.u64(..)).into();
    message.raw.publish_time = PublishTime(Timestamp::from_utc(later.unwrap_or(published)));
    message
}

/// Permutes the messages; the arrival times stay where they were.
fn shuffled(mut messages: Vec<Incoming>, rng: &mut Rng) -> Vec<Incoming> {
    let times: Vec<ReceivedAt> = messages
        .iter()
        .map(|message| message.raw.received_at.clone())
        .collect();
    rng.shuffle(&mut messages);
    for (message, time) in messages.iter_mut().zip(times) {
        message.raw.received_at = time;
    }
    messages
}
