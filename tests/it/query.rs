//! Questions to a store of each kind: pages that join to the whole, filters, and bounds.

use std::fs;

use hearthd::query::{
    self, Cursor, Gap, NotificationFilter, NotificationState, PageSize, QueryError, RecordFilter,
};
use hearthd::record::RecordKind;
use hearthd::store::{Memory, Reader, Snapshot, Writer};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::support::command::fixture;
use super::support::replay::{Disk, run_lines};

const DAY: &str = "scenarios/long_day.jsonl";
const FRONT_DOOR: &str = "enterprises/project-1/devices/front-door";

fn fill(store: Writer) {
    let text = fs::read_to_string(fixture(DAY)).unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    run_lines(&lines, store, &vec![1; lines.len()]);
}

/// Runs a test over each kind of store, with a day in it.
fn on_each(test: impl Fn(&Snapshot<'_>)) {
    let memory = Memory::default();
    fill(Writer::Memory(memory.clone()));
    test(&Reader::Memory(memory).snapshot().unwrap());
    let disk = filled_disk();
    test(&Reader::open(&disk.path()).unwrap().snapshot().unwrap());
}

fn filled_disk() -> Disk {
    let disk = Disk::new();
    fill(disk.store());
    disk
}

fn size(items: usize) -> PageSize {
    PageSize::new(items).unwrap()
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap()
}

fn every_notification() -> NotificationFilter {
    NotificationFilter {
        state: None,
        resource: None,
        kind: None,
        before: None,
        size: PageSize::MAX,
    }
}

fn every_record() -> RecordFilter {
    RecordFilter {
        after: 0,
        kinds: Vec::new(),
        subject: None,
        size: PageSize::MAX,
    }
}

/// All pages of a list, joined. The place of the next page goes through its text, as in an address.
fn notifications(snapshot: &Snapshot<'_>, mut filter: NotificationFilter) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let page = query::notifications(snapshot, &filter).unwrap();
        assert!(page.items.len() <= filter.size.get());
        all.extend(page.items.iter().map(json));
        match page.next {
            Some(next) => filter.before = Some(next.to_string().parse().unwrap()),
            None => return all,
        }
    }
}

fn records(snapshot: &Snapshot<'_>, mut filter: RecordFilter) -> Vec<u64> {
    let mut all = Vec::new();
    loop {
        let page = query::records(snapshot, &filter).unwrap();
        assert!(page.items.len() <= filter.size.get());
        all.extend(page.items.iter().map(|row| row.sequence));
        match page.next() {
            Some(next) => filter.after = next,
            None => return all,
        }
    }
}

#[test]
fn pages_of_notifications_join_to_the_whole_list() {
    on_each(|snapshot| {
        let all = notifications(snapshot, every_notification());
        assert_eq!(all.len(), 146);
        for items in [1, 7, 145, 146] {
            let filter = NotificationFilter {
                size: size(items),
                ..every_notification()
            };
            assert_eq!(notifications(snapshot, filter), all, "{items}");
        }
        let mut ids: Vec<_> = all.iter().map(|data| &data["notificationId"]).collect();
        let mut expected: Vec<_> = snapshot.notifications().unwrap();
        expected.retain(|(_, state)| state.revision > 0);
        expected.sort_by_key(|(id, state)| std::cmp::Reverse((state.touched, *id)));
        let expected: Vec<_> = expected.iter().map(|(id, _)| json(id)).collect();
        assert_eq!(ids, expected.iter().collect::<Vec<_>>());
        ids.dedup();
        assert_eq!(ids.len(), all.len());
    });
}

/// A filter, and what it is to keep.
type Filtered = (NotificationFilter, fn(&Value) -> bool);

#[test]
fn a_filter_keeps_what_matches_and_its_order() {
    on_each(|snapshot| {
        let all = notifications(snapshot, every_notification());
        let filters: [Filtered; 4] = [
            (
                NotificationFilter {
                    resource: Some(FRONT_DOOR.to_owned().into()),
                    ..every_notification()
                },
                |data| data["resource"] == FRONT_DOOR,
            ),
            (
                NotificationFilter {
                    kind: Some("chime".to_owned()),
                    size: size(3),
                    ..every_notification()
                },
                |data| data["kinds"].as_array().unwrap().contains(&json!("chime")),
            ),
            (
                NotificationFilter {
                    state: Some(NotificationState::Closed),
                    ..every_notification()
                },
                |data| data["state"] == "closed",
            ),
            (
                NotificationFilter {
                    state: Some(NotificationState::Open),
                    ..every_notification()
                },
                |data| data["state"] == "open",
            ),
        ];
        for (filter, matches) in filters {
            let mut expected = all.clone();
            expected.retain(matches);
            assert_eq!(
                notifications(snapshot, filter.clone()),
                expected,
                "{filter:?}"
            );
        }
    });
}

#[test]
fn open_ones_are_among_the_others_by_their_time() {
    let lines = [("a", "s1"), ("b", "s2"), ("c", "s3")].map(|(device, session)| {
        let second = session.len() + usize::from(device.as_bytes()[0] - b'a');
        let name = format!("enterprises/p/devices/{device}");
        let time = format!("2025-06-09T13:52:0{second}Z");
        let event = json!({"eventSessionId": session});
        json!({"eventId": session, "timestamp": time, "resourceUpdate": {
            "name": name, "events": {"sdm.devices.events.DoorbellChime.Chime": event}}})
        .to_string()
    });
    let disk = Disk::new();
    run_lines(&lines, disk.store(), &[1, 1, 1]);
    let connection = Connection::open(disk.path()).unwrap();
    // Open once more: the one in the middle.
    let sql = "UPDATE notifications SET deadline = touched + 1, \
               state = json_remove(state, '$.timedOut') \
               WHERE state ->> 'resource' = 'enterprises/p/devices/b'";
    assert_eq!(connection.execute(sql, []).unwrap(), 1);
    let reader = Reader::open(&disk.path()).unwrap();
    let filter = NotificationFilter {
        size: size(1),
        ..every_notification()
    };
    let shown = notifications(&reader.snapshot().unwrap(), filter);
    let shown: Vec<_> = shown
        .iter()
        .map(|data| (&data["title"], &data["state"]))
        .collect();
    let expected = [("c", "closed"), ("b", "open"), ("a", "closed")];
    let expected = expected.map(|(title, state)| (json!(title), json!(state)));
    let expected: Vec<_> = expected
        .iter()
        .map(|(title, state)| (title, state))
        .collect();
    assert_eq!(shown, expected);
}

#[test]
fn a_notification_has_its_revisions_while_the_journal_has_them() {
    on_each(|snapshot| {
        for data in notifications(snapshot, every_notification()) {
            let id = data["notificationId"].as_str().unwrap();
            let history = json(&query::notification(snapshot, id).unwrap());
            assert_eq!(history["notification"], data);
            assert_eq!(history["isComplete"], true, "{data}");
            let revisions = history["revisions"].as_array().unwrap();
            let ids: Vec<_> = revisions
                .iter()
                .map(|record| record["id"].clone())
                .collect();
            let last = data["revision"].as_u64().unwrap();
            let expected: Vec<_> = (1..=last).map(|n| json!(format!("{id}.{n}"))).collect();
            assert_eq!(ids, expected);
            assert_eq!(revisions.last().unwrap()["data"], data);
        }
    });
    let disk = filled_disk();
    let newest = |reader: &Reader| {
        let snapshot = reader.snapshot().unwrap();
        let all = notifications(&snapshot, every_notification());
        let long = all
            .iter()
            .find(|data| data["revision"].as_u64() > Some(2))
            .unwrap();
        let id = long["notificationId"].as_str().unwrap();
        json(&query::notification(&snapshot, id).unwrap())
    };
    let whole = newest(&Reader::open(&disk.path()).unwrap());
    let first = whole["revisions"][0]["sequence"].as_str().unwrap();
    let connection = Connection::open(disk.path()).unwrap();
    let sql = "DELETE FROM journal WHERE sequence <= ?1";
    connection
        .execute(sql, [first.parse::<i64>().unwrap()])
        .unwrap();
    let rest = newest(&Reader::open(&disk.path()).unwrap());
    assert_eq!(rest["isComplete"], false);
    let revisions = whole["revisions"].as_array().unwrap();
    assert_eq!(rest["revisions"].as_array().unwrap()[..], revisions[1..]);
}

#[test]
fn pages_of_records_join_to_what_matches() {
    on_each(|snapshot| {
        let all = snapshot.journal(0, usize::MAX).unwrap();
        let kinds = [RecordKind::Notification, RecordKind::Relation];
        for kinds in [&[][..], &kinds[..1], &kinds] {
            for subject in [None, Some(FRONT_DOOR), Some("nobody")] {
                let matching = all.iter().filter(|row| {
                    (kinds.is_empty() || kinds.contains(&row.kind))
                        && subject.is_none_or(|subject| row.subject == subject)
                });
                let expected: Vec<u64> = matching.map(|row| row.sequence).collect();
                for items in [1, 10, 1000] {
                    let filter = RecordFilter {
                        kinds: kinds.to_vec(),
                        subject: subject.map(str::to_owned),
                        size: size(items),
                        ..every_record()
                    };
                    assert_eq!(records(snapshot, filter), expected);
                }
            }
        }
    });
}

#[test]
fn a_page_of_records_tells_what_the_journal_has_no_more() {
    let disk = filled_disk();
    let connection = Connection::open(disk.path()).unwrap();
    let asked = |after| {
        let reader = Reader::open(&disk.path()).unwrap();
        let filter = RecordFilter {
            after,
            size: size(1),
            ..every_record()
        };
        let page = query::records(&reader.snapshot().unwrap(), &filter).unwrap();
        let first = page.items.first().map(|row| row.sequence);
        (page.gap, first, page.next())
    };
    assert_eq!(asked(0), (None, Some(1), Some(1)));
    connection
        .execute("DELETE FROM journal WHERE sequence <= 10", [])
        .unwrap();
    let gap = |after, oldest| Some(Gap { after, oldest });
    assert_eq!(asked(9), (gap(9, 11), Some(11), Some(11)));
    assert_eq!(asked(10), (None, Some(11), Some(11)));
    connection.execute("DELETE FROM journal", []).unwrap();
    assert_eq!(asked(10), (gap(10, 1276), None, None));
    assert_eq!(asked(1275), (None, None, None));
    assert_eq!(asked(1276), (None, None, None), "beyond the end");
}

#[test]
fn a_page_looks_at_a_bounded_number_of_rows() {
    let disk = filled_disk();
    let connection = Connection::open(disk.path()).unwrap();
    connection
        .execute_batch(
            "WITH RECURSIVE n (n) AS (SELECT 1276 UNION ALL SELECT n + 1 FROM n WHERE n < 42000) \
             INSERT INTO journal SELECT n, 'event', 'x', 0, '{}' FROM n; \
             UPDATE meta SET value = 42000 WHERE name = 'last_sequence'; \
             WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 30) \
             INSERT INTO notifications SELECT randomblob(16), NULL, touched, state \
             FROM notifications, n;",
        )
        .unwrap();
    let reader = Reader::open(&disk.path()).unwrap();
    let snapshot = reader.snapshot().unwrap();
    let filter = RecordFilter {
        subject: Some("nobody".to_owned()),
        ..every_record()
    };
    let page = query::records(&snapshot, &filter).unwrap();
    assert_eq!((page.items.len(), page.next()), (0, Some(20_000)));
    assert!(records(&snapshot, filter).is_empty());

    let filter = NotificationFilter {
        kind: Some("nothing".to_owned()),
        ..every_notification()
    };
    let page = query::notifications(&snapshot, &filter).unwrap();
    assert!(page.items.is_empty() && page.next.is_some());
    assert!(notifications(&snapshot, filter).is_empty());

    // Half of them open: both lists, with more rows than are read at once, in one order.
    let sql = "UPDATE notifications SET deadline = 0 WHERE rowid % 2";
    connection.execute(sql, []).unwrap();
    let reader = Reader::open(&disk.path()).unwrap();
    let snapshot = reader.snapshot().unwrap();
    let mut filter = every_notification();
    let mut places = Vec::new();
    loop {
        let page = query::notifications(&snapshot, &filter).unwrap();
        let items = page.items.iter();
        places.extend(items.map(|item| (item.notification.touched, item.id)));
        filter.before = page.next;
        if filter.before.is_none() {
            break;
        }
    }
    assert_eq!(places.len(), 146 * 31);
    assert!(places.is_sorted_by(|a, b| a > b));
}

#[test]
fn pages_of_devices_join_to_the_devices_of_the_graph() {
    on_each(|snapshot| {
        let graph = json(&query::graph(snapshot).unwrap());
        let graph = graph["resources"].as_array().unwrap();
        let expected: Vec<_> = graph
            .iter()
            .filter(|found| found["kind"] == "device")
            .collect();
        for items in [1, 3, 1000] {
            let mut all = Vec::new();
            let mut after = None;
            loop {
                let after_text = after.as_deref();
                let page = query::devices(snapshot, after_text, size(items)).unwrap();
                all.extend(page.items);
                match page.next {
                    Some(next) => after = Some(next.as_str().to_owned()),
                    None => break,
                }
            }
            for (device, expected) in all.iter().zip(&expected) {
                let mut device = json(device);
                let traits = device.as_object_mut().unwrap().remove("traits").unwrap();
                assert_eq!(&device, *expected);
                assert!(traits.is_object());
            }
            assert_eq!(all.len(), expected.len(), "{items}");
        }
    });
}

#[test]
fn a_device_that_was_deleted_is_not_there() {
    let lines = [
        "2025-06-05T08:00:00Z CREATED",
        "2025-06-05T09:00:00Z DELETED",
    ]
    .map(|line| {
        let (time, kind) = line.split_once(' ').unwrap();
        let object = "enterprises/p/devices/d";
        let relation = json!({"type": kind, "subject": "", "object": object});
        json!({"eventId": kind, "timestamp": time, "relationUpdate": relation}).to_string()
    });
    for (count, is_there) in [(1, true), (2, false)] {
        let memory = Memory::default();
        run_lines(
            &lines[..count],
            Writer::Memory(memory.clone()),
            &vec![1; count],
        );
        let reader = Reader::Memory(memory);
        for name in ["d", "enterprises/p/devices/d"] {
            let found = query::device(&reader.snapshot().unwrap(), name);
            assert_eq!(found.is_ok(), is_there, "{found:?}");
        }
    }
}

#[test]
fn what_is_out_of_bounds_is_refused_with_its_name() {
    let bad = |error: QueryError| {
        assert!(matches!(error, QueryError::BadParameter { .. }), "{error}");
        error.to_string()
    };
    for items in [0, 1001, usize::MAX] {
        let text = bad(PageSize::new(items).unwrap_err());
        assert_eq!(
            text,
            format!("limit is \"{items}\": expected a number from 1 to 1000")
        );
    }
    for text in ["", &"x".repeat(4097)] {
        let error = bad(query::checked_text("resource", text.to_owned()).unwrap_err());
        assert!(
            error.ends_with("expected 1 to 4096 bytes") && error.len() < 200,
            "{error}"
        );
    }
    query::checked_text("resource", "x".repeat(4096)).unwrap();
    for text in [
        "",
        "1",
        "1.",
        ".00",
        "x.03ef828a9d00ad9b0aa487fa8e179ad6",
        "2025-06-02",
    ] {
        let error = bad(text.parse::<Cursor>().unwrap_err());
        assert!(error.starts_with("before is "), "{error}");
    }
    on_each(|snapshot| {
        let error = bad(query::notification(snapshot, "xyz").unwrap_err());
        assert!(error.contains("expected 32 hex digits"), "{error}");
        let unknown = query::notification(snapshot, &"0".repeat(32)).unwrap_err();
        assert!(matches!(unknown, QueryError::NotFound { .. }), "{unknown}");
    });
}

#[test]
fn a_page_can_begin_at_a_time() {
    on_each(|snapshot| {
        let noon = "2025-09-06T12:00:00Z";
        let filter = NotificationFilter {
            before: Some(noon.parse().unwrap()),
            ..every_notification()
        };
        let shown = notifications(snapshot, filter);
        let all = notifications(snapshot, every_notification());
        assert!((1..all.len()).contains(&shown.len()));
        assert_eq!(shown, all[all.len() - shown.len()..]);
    });
}

#[test]
fn a_sink_has_what_it_has_yet_to_get() {
    let disk = filled_disk();
    let connection = Connection::open(disk.path()).unwrap();
    let sql = "INSERT INTO sinks (name, cursor, is_set) VALUES ('a', 1000, 1), ('b', 0, 0)";
    connection.execute(sql, []).unwrap();
    let reader = Reader::open(&disk.path()).unwrap();
    let sinks = json(&query::sinks(&reader.snapshot().unwrap()).unwrap());
    let expected = json!([
        {"name": "a", "cursor": 1000, "backlog": 275, "isSet": true},
        {"name": "b", "cursor": 0, "backlog": 1275, "isSet": false},
    ]);
    assert_eq!(sinks, expected);
}
