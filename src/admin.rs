//! What operators ask of a store's writer: the running service over its Unix socket, or the command
//! itself where none runs.
//!
//! The socket is beside the store, for its owner alone, and speaks HTTP. Both sides use these
//! types: `hearthd quarantine` and `dead-letters`, and the service.

use serde::{Deserialize, Serialize};

use crate::event::{ClockTime, ReceivedAt};
use crate::pipeline::{Committed, Pipeline};
use crate::store::{self, StoreError};

/// Most ids of one request: each may cost a commit, of some 10 ms on a slow disk, and together they
/// hold up messages for as long.
pub const MAX_IDS: usize = 256;

/// Where something is kept that did not go the usual way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::AsRefStr, strum::EnumString)]
#[strum(serialize_all = "kebab-case")]
pub enum Collection {
    Quarantine,
    DeadLetters,
}

impl Collection {
    /// The path of a request, without what is done: `DELETE` drops, `POST` with `/retry` retries.
    pub fn path(self, ids: &[i64]) -> String {
        let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
        format!("/v1/{}/{}", self.as_ref(), ids.join(","))
    }

    /// What one of its items is, and several.
    pub fn nouns(self) -> (&'static str, &'static str) {
        match self {
            Self::Quarantine => ("message", "messages"),
            Self::DeadLetters => ("dead letter", "dead letters"),
        }
    }
}

/// The ids of a request, which are separated by commas: 1 to [`MAX_IDS`]. `None` for other text.
pub fn parse_ids(text: &str) -> Option<Vec<i64>> {
    // One more is enough to see that there are too many.
    let ids = text.split(',').take(MAX_IDS + 1).map(str::parse);
    let ids: Vec<i64> = ids.collect::<Result<_, _>>().ok()?;
    (ids.len() <= MAX_IDS).then_some(ids)
}

/// What became of each id, in the order of the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub items: Vec<Item>,
}

/// What became of one id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    pub id: i64,
    pub outcome: Outcome,
    /// Its number in quarantine, if it is there again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_id: Option<i64>,
    /// What is wrong with it, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Item {
    pub fn new(id: i64, outcome: Outcome) -> Self {
        Self {
            id,
            outcome,
            new_id: None,
            detail: None,
        }
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Dropped,
    /// There is no such id.
    Missing,
    /// The message was processed.
    TakenIn,
    /// The payload came in by another way since.
    Duplicate,
    /// It still can't be decoded.
    QuarantinedAgain,
}

impl Outcome {
    /// The end of a sentence that begins with an id.
    pub fn text(self) -> &'static str {
        match self {
            Self::Dropped => "was dropped",
            Self::Missing => "is not there any more",
            Self::TakenIn => "was taken in",
            Self::Duplicate => "is a duplicate: its payload came in by another way since",
            Self::QuarantinedAgain => "is in quarantine again",
        }
    }
}

/// A refusal, as RFC 9457 has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    #[serde(default)]
    pub title: String,
    #[serde(default)]
    pub status: u16,
    #[serde(default)]
    pub detail: String,
}

/// What is asked for, and the rows that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Takes messages out of quarantine and in again, as if they came now.
    RetryQuarantined(Vec<i64>),
    DropQuarantined(Vec<i64>),
    DropDeadLetters(Vec<i64>),
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
    let items = ids.iter().zip(affected).map(|(id, rows)| {
        let outcome = if rows > 0 {
            Outcome::Dropped
        } else {
            Outcome::Missing
        };
        Item::new(*id, outcome)
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
        done.items.push(match &committed {
            Some(committed) => retried(*id, committed, pipeline)?,
            None => Item::new(*id, Outcome::Missing),
        });
        done.committed.extend(committed);
    }
    Ok(done)
}

/// What became of a message that was taken out of quarantine, and in again.
fn retried(id: i64, committed: &Committed, pipeline: &Pipeline) -> Result<Item, StoreError> {
    let messages = committed.tally.all();
    if messages.quarantined_total() > 0 {
        let reader = pipeline.store().reader()?;
        let newest = reader.snapshot()?.quarantine_before(i64::MAX, 1)?;
        let newest = newest.first();
        return Ok(Item {
            new_id: newest.map(|head| head.id),
            detail: newest.map(|head| format!("{}: {}", head.reason, head.detail)),
            ..Item::new(id, Outcome::QuarantinedAgain)
        });
    }
    let outcome = if messages.duplicates > 0 {
        Outcome::Duplicate
    } else {
        Outcome::TakenIn
    };
    Ok(Item::new(id, outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_bounded_and_read_as_they_are_written() {
        let most: Vec<i64> = (1..=256).collect();
        let path = Collection::DeadLetters.path(&most);
        let ids = path.strip_prefix("/v1/dead-letters/").unwrap();
        assert_eq!(parse_ids(ids), Some(most));
        let too_many = format!("{ids},257");
        for refused in ["", ",", "1,", "1,x", "9223372036854775808", &too_many] {
            assert_eq!(parse_ids(refused), None, "{refused}");
        }
    }

    #[test]
    fn an_answer_is_read_as_it_is_written() {
        let answer = Answer {
            items: vec![
                Item::new(1, Outcome::TakenIn),
                Item {
                    new_id: Some(13),
                    detail: Some("not_json: x".to_owned()),
                    ..Item::new(2, Outcome::QuarantinedAgain)
                },
            ],
        };
        let text = serde_json::to_string(&answer).unwrap();
        let expected = r#"{"items":[{"id":1,"outcome":"taken_in"},{"id":2,"outcome":"quarantined_again","newId":13,"detail":"not_json: x"}]}"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), answer);
    }
}
