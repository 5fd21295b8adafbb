//! From schema 4 to 5: events that wait for their turn get an ordering key that is scoped by their
//! resource, as ids of threads are unique only there. Their lines end where the engine goes on: its
//! remarks stand beside them.
//!
//! The last releases under bare ids of threads (table `released`) can't be mapped, since they don't
//! name a resource. They expire with `dedupe.horizon`; until then an event that comes after a
//! greater one of its thread may be released without being marked late.

use rusqlite::types::Type;
use rusqlite::{Connection, Error, Result, params};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Rewrites the rows that are held: at most `reorder.max_pending_events`, which are in memory
/// otherwise.
pub(super) fn scope_ordering_keys(connection: &Connection) -> Result<()> {
    let mut arrivals = connection.prepare("SELECT arrival FROM held")?;
    let arrivals: Vec<i64> = arrivals
        .query_map([], |row| row.get(0))?
        .collect::<Result<_>>()?;
    let mut read = connection.prepare("SELECT row, line FROM held WHERE arrival = ?1")?;
    let mut write = connection.prepare("UPDATE held SET row = ?2, line = ?3 WHERE arrival = ?1")?;
    for arrival in arrivals {
        let (row, line) = read.query_row([arrival], |row| {
            let scoped = scoped(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
            scoped.map_err(|error| Error::FromSqlConversionFailure(0, Type::Text, error.into()))
        })?;
        write.execute(params![arrival, row, line])?;
    }
    Ok(())
}

/// The last field of a line but for the engine's remarks.
const KEY: &str = r#","orderingKey":"#;

/// What the decoder found, of which the new key is made.
#[derive(Deserialize)]
struct Line {
    subject: String,
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    thread_id: Option<String>,
    ordering_key: String,
    flags: Value,
}

/// The same row under the new key, and its line without what the engine says at its end.
fn scoped(row: &str, line: &str) -> serde_json::Result<(String, String)> {
    let mut row: Map<String, Value> = serde_json::from_str(row)?;
    let Line { subject, data } = serde_json::from_str(line)?;
    let key = match &data.thread_id {
        Some(thread) => format!("{subject}/threads/{thread}"),
        None => data.ordering_key,
    };
    // Quotes within texts are escaped, so the last such name is the field's.
    let start = line.rfind(KEY).and_then(|at| line.get(..at));
    let line = format!(
        "{}{KEY}{}",
        start.unwrap_or(line),
        serde_json::to_string(&key)?
    );
    row.insert("ordering_key".to_owned(), key.into());
    row.insert("flags".to_owned(), data.flags);
    Ok((serde_json::to_string(&row)?, line))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_thread_is_named_with_its_resource_and_other_keys_stay() {
        let device = "enterprises/p/devices/d";
        for (thread, old, new) in [
            (json!("t-1"), "t-1", "enterprises/p/devices/d/threads/t-1"),
            (json!(null), device, device),
            // A text that looks like the field is none.
            (
                json!("t\",\"orderingKey\":\"x"),
                "t\",\"orderingKey\":\"x",
                "enterprises/p/devices/d/threads/t\",\"orderingKey\":\"x",
            ),
        ] {
            let start = format!(
                r#"{{"subject":"{device}","data":{{"threadId":{thread},"n":1.10,"events":{{"orderingKey":"x"}}"#
            );
            let line = format!(
                r#"{start},"orderingKey":{},"late":false,"flags":["malformed_entry"]}}}}"#,
                json!(old)
            );
            let row = json!({"arrival": 7, "ordering_key": old, "record": {"number_at": 12}});
            let (row, line) = scoped(&row.to_string(), &line).unwrap();
            let expected = json!({"arrival": 7, "ordering_key": new,
                "record": {"number_at": 12}, "flags": ["malformed_entry"]});
            assert_eq!(serde_json::from_str::<Value>(&row).unwrap(), expected);
            assert_eq!(line, format!(r#"{start},"orderingKey":{}"#, json!(new)));
        }
        for line in ["", "{}", r#"{"subject":"s","data":{}}"#] {
            assert!(scoped("{}", line).is_err(), "{line}");
        }
    }
}
