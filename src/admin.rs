//! What an operator asks of a store's writer, be that the running service or a command.

use serde::{Deserialize, Serialize};

use crate::event::{ClockTime, ReceivedAt};
use crate::pipeline::{Committed, Pipeline};
use crate::store::{self, StoreError};

/// Most rows of one request: as many as there are messages in a step.
pub const MAX_IDS: usize = 256;

/// One request, and the rows that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Takes messages out of quarantine and in again, as if they came now.
    RetryQuarantined(Vec<i64>),
    DropQuarantined(Vec<i64>),
    DropDeadLetters(Vec<i64>),
}

/// What became of one row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    pub id: i64,
    pub outcome: Outcome,
    /// What is wrong with a message that is in quarantine again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is gone.
    Dropped,
    /// There is no such row.
    Missing,
    /// The message was decoded, and did what it does.
    TakenIn,
    /// Its payload came in by another way since.
    Duplicate,
    /// It is in quarantine once more, under a new id.
    QuarantinedAgain,
}

/// What a request did.
#[derive(Debug, Default)]
pub struct Done {
    pub items: Vec<Item>,
    /// The steps that it took.
    pub committed: Vec<Committed>,
}

/// Does what is asked for: drops in one transaction, retries in one each. After an error the
/// retries before it are done.
pub fn run(
    pipeline: &mut Pipeline,
    request: &Request,
    received_at: &ReceivedAt,
    now: ClockTime,
) -> Result<Done, StoreError> {
    match request {
        Request::RetryQuarantined(ids) => retry(pipeline, ids, received_at, now),
        Request::DropQuarantined(ids) => drop_rows(pipeline, ids, store::Admin::DropQuarantined),
        Request::DropDeadLetters(ids) => drop_rows(pipeline, ids, store::Admin::DropDeadLetters),
    }
}

fn drop_rows(
    pipeline: &mut Pipeline,
    ids: &[i64],
    admin: fn(Vec<i64>) -> store::Admin,
) -> Result<Done, StoreError> {
    let each = ids.iter().map(|id| admin(vec![*id])).collect();
    let affected = pipeline.administer(each)?;
    let items = ids.iter().zip(affected).map(|(id, rows)| Item {
        id: *id,
        outcome: if rows > 0 {
            Outcome::Dropped
        } else {
            Outcome::Missing
        },
        detail: None,
    });
    Ok(Done {
        items: items.collect(),
        committed: Vec::new(),
    })
}

fn retry(
    pipeline: &mut Pipeline,
    ids: &[i64],
    received_at: &ReceivedAt,
    now: ClockTime,
) -> Result<Done, StoreError> {
    let mut done = Done::default();
    for id in ids {
        let committed = pipeline.retry(*id, received_at.clone(), now)?;
        let (outcome, detail) = match &committed {
            None => (Outcome::Missing, None),
            Some(committed) if committed.tally.all().quarantined_total() > 0 => {
                let newest = pipeline.store().reader()?.snapshot()?.quarantine(1)?;
                let row = newest.first();
                let detail = row.map(|row| format!("{}: {}: {}", row.id, row.reason, row.detail));
                (Outcome::QuarantinedAgain, detail)
            }
            Some(committed) if committed.tally.all().duplicates > 0 => (Outcome::Duplicate, None),
            Some(_) => (Outcome::TakenIn, None),
        };
        done.items.push(Item {
            id: *id,
            outcome,
            detail,
        });
        done.committed.extend(committed);
    }
    Ok(done)
}
