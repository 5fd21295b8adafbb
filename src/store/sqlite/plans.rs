//! Tests: no statement reads a large table from end to end, however much is in it.

use rusqlite::{Connection, Result};

use super::check::SCHEMA;
use super::{read, trim};

/// How SQLite goes about a statement, a step a line.
fn plan(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection
        .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
        .unwrap();
    statement
        .raw_query()
        .mapped(|row| row.get(3))
        .collect::<Result<_>>()
        .unwrap()
}

/// The first step that goes through a whole table, if there is one. One that goes through a table
/// in the order of its key is ended by the statement's limit, unless the rows are sorted first.
fn whole_table(connection: &Connection, sql: &str) -> Option<String> {
    let steps = plan(connection, sql);
    assert!(!steps.is_empty(), "{sql}");
    let mut is_limited = sql.contains("LIMIT ?");
    for step in steps {
        // What is left of the limited rows.
        let is_of_few = step.starts_with("SCAN (subquery") || step.starts_with("SCAN subquery");
        let is_harmless = ["SEARCH", "LIST SUBQUERY", "CO-ROUTINE"]
            .iter()
            .any(|word| step.starts_with(word));
        if is_of_few {
            return None;
        }
        if step.starts_with("USE TEMP B-TREE") {
            is_limited = false;
        }
        if !(is_harmless || is_limited && step.starts_with("SCAN")) {
            return Some(step);
        }
    }
    None
}

#[test]
fn no_table_is_read_from_end_to_end() {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(SCHEMA).unwrap();
    for sql in trim::statements().chain(read::BY_KEY) {
        let step = whole_table(&connection, sql);
        assert_eq!(step, None, "{sql}");
    }
    for sql in [
        "DELETE FROM payloads WHERE at + 0 <= 1",
        "SELECT line FROM journal WHERE sequence + 0 > ?1",
        "SELECT * FROM (SELECT id FROM quarantine ORDER BY at LIMIT ?1) ORDER BY id",
        "SELECT count(*) FROM payloads",
    ] {
        assert!(
            whole_table(&connection, sql).is_some(),
            "{sql} shows nothing"
        );
    }
}
