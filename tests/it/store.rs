//! One suite for every store: what it keeps, what it gives back, what it forgets.

use std::time::Duration;

use hearthd::engine::change::Changes;
use hearthd::engine::{Arrival, Engine, Lookup, Restored};
use hearthd::event::{ClockTime, NotificationId, Timestamp};
use hearthd::pipeline::Pipeline;
use hearthd::sources::capture;
use hearthd::store::{
    Admin, Commit, DeadLetter, DeadLetterRange, DeadLetterReason, Reader, Retention, Settlement,
    ShownRow, StoreError, Writer,
};
use serde_json::json;

use super::support::command::fixture;
use super::support::replay::{Disk, memory, settings};
use super::support::store::{Readable, Writable};

/// Keeps all of it.
const FOREVER: Retention = Retention {
    horizon: Duration::from_secs(1 << 32),
    journal_age: Duration::from_secs(1 << 32),
    journal_bytes: u64::MAX,
};

/// Runs a test over each kind of store.
fn on_each(test: impl Fn(&mut Writer)) {
    test(&mut memory());
    test(&mut Disk::new().store());
}

/// What the engine makes of a scenario, and the rows that its messages need.
struct Made {
    changes: Vec<Changes>,
    lookup: Lookup,
    end: ClockTime,
}

fn make(scenario: &str) -> Made {
    let file = fixture(&format!("scenarios/{scenario}.jsonl"));
    let mut store = memory();
    let mut engine = fresh_engine();
    let (mut arrivals, mut changes) = (Vec::new(), Vec::new());
    let mut end = ClockTime::default();
    for message in capture::open(&file).unwrap() {
        let (raw, decoded) = Pipeline::decode(&settings().decode, message.unwrap());
        end = end.max(ClockTime::from_utc(raw.received_at.0.at()));
        let batch = vec![Arrival {
            at: end,
            raw,
            decoded,
        }];
        arrivals.extend(batch.iter().cloned());
        let loaded = store.load(&engine.lookup(&batch, end)).unwrap();
        let of_step = engine.step(batch, end, loaded);
        store.write(of_step.clone()).unwrap();
        changes.push(of_step);
    }
    let lookup = fresh_engine().lookup(&arrivals, end);
    Made {
        changes,
        lookup,
        end,
    }
}

fn fresh_engine() -> Engine {
    Engine::restore(settings().engine, Restored::default())
}

/// Commits every step; returns the number of the first record.
fn commit(store: &mut Writer, made: &Made) -> u64 {
    let rows = made
        .changes
        .iter()
        .flat_map(|changes| store.write(changes.clone()).unwrap());
    rows.map(|row| row.sequence).min().unwrap()
}

/// All that a writer gives back, as text; rows that have no order of their own are sorted.
fn all_of(store: &Writer, lookup: &Lookup) -> String {
    let mut restored = store.restore().unwrap();
    restored.nodes.sort_by(|(a, _), (b, _)| a.cmp(b));
    restored
        .traits
        .sort_by(|a, b| (&a.resource, &a.name).cmp(&(&b.resource, &b.name)));
    restored.deadlines.sort();
    let loaded = store.load(lookup).unwrap();
    format!(
        "{restored:#?}\n{loaded:#?}\n{:#?}",
        store.notifications().unwrap()
    )
}

fn lines(store: &impl Readable) -> Vec<String> {
    store
        .journal(0, usize::MAX)
        .unwrap()
        .into_iter()
        .map(|row| row.line)
        .collect()
}

#[test]
fn every_store_gives_back_the_same() {
    for scenario in [
        "shared_session",
        "late_events",
        "structure_deleted_and_back",
        "clip_before_motion",
    ] {
        let made = make(scenario);
        let (mut in_memory, disk) = (memory(), Disk::new());
        let mut on_disk = disk.store();
        for changes in &made.changes {
            assert_eq!(
                in_memory.write(changes.clone()).unwrap(),
                on_disk.write(changes.clone()).unwrap()
            );
        }
        let expected = all_of(&in_memory, &made.lookup);
        assert_eq!(all_of(&on_disk, &made.lookup), expected, "{scenario}");
        assert_eq!(lines(&on_disk), lines(&in_memory));
        drop(on_disk);
        assert_eq!(
            all_of(&disk.store(), &made.lookup),
            expected,
            "{scenario}, opened again"
        );
    }
}

#[test]
fn what_a_step_needs_is_found() {
    let made = make("shared_session");
    on_each(|store| {
        commit(store, &made);
        let loaded = store.load(&made.lookup).unwrap();
        assert_eq!(loaded.payloads.len(), 5);
        assert_eq!(loaded.notifications.len(), 2);
        assert_eq!(loaded.ordering_keys.len(), 3, "two threads and the device");
        let shared = loaded
            .sessions
            .values()
            .find(|session| session.members.len() == 2)
            .unwrap();
        assert_eq!(shared.clips.len(), 1);
        assert_eq!(
            store.load(&Lookup::default()).unwrap().notifications.len(),
            0
        );
    });
}

#[test]
fn the_journal_is_numbered_from_one_without_a_gap() {
    let made = make("s1_doorbell_with_clip");
    on_each(|store| {
        assert_eq!(commit(store, &made), 1);
        let rows = store.journal(0, usize::MAX).unwrap();
        let sequences: Vec<u64> = rows.iter().map(|row| row.sequence).collect();
        assert_eq!(sequences, (1..=rows.len() as u64).collect::<Vec<_>>());
        for row in &rows {
            assert!(
                row.line
                    .contains(&format!("\"sequence\":\"{:020}\"", row.sequence))
            );
            assert!(
                row.line
                    .contains(&format!("\"hearthd.{}\"", row.kind.as_str()))
            );
        }
        let page = store.journal(2, 3).unwrap();
        assert_eq!(
            page.iter().map(|row| row.sequence).collect::<Vec<_>>(),
            [3, 4, 5]
        );
    });
}

#[test]
fn numbers_go_on_after_the_journal_was_forgotten() {
    let (first, second) = (
        make("s1_doorbell_with_clip"),
        make("s4_legacy_camera_no_threads"),
    );
    on_each(|store| {
        commit(store, &first);
        let last = lines(store).len() as u64;
        let nothing = Retention {
            journal_bytes: 0,
            ..FOREVER
        };
        store.trim(first.end, &nothing).unwrap();
        assert!(lines(store).is_empty());
        assert_eq!(
            store.write(second.changes[0].clone()).unwrap()[0].sequence,
            last + 1
        );
        assert_eq!(store.journal(last, 1).unwrap()[0].sequence, last + 1);
    });
}

#[test]
fn the_journal_keeps_the_newest_records_within_its_size() {
    let made = make("s4_legacy_camera_no_threads");
    on_each(|store| {
        commit(store, &made);
        let all = lines(store);
        let kept = &all[all.len() - 2..];
        let journal_bytes = kept.iter().map(|line| line.len() as u64).sum();
        store
            .trim(
                made.end,
                &Retention {
                    journal_bytes,
                    ..FOREVER
                },
            )
            .unwrap();
        assert_eq!(lines(store), kept);
        store
            .trim(
                made.end,
                &Retention {
                    journal_bytes: journal_bytes - 1,
                    ..FOREVER
                },
            )
            .unwrap();
        assert_eq!(lines(store), kept[1..]);
    });
}

#[test]
fn the_journal_keeps_records_for_its_age() {
    let made = make("s1_doorbell_with_clip");
    let age = Duration::from_secs(3600);
    let retention = Retention {
        journal_age: age,
        ..FOREVER
    };
    on_each(|store| {
        commit(store, &made);
        let all = lines(store);
        let of_first = made.changes[0].drafts.len();
        let expired = made.changes[0].at.after(age);
        store
            .trim(expired.before(Duration::from_nanos(1)), &retention)
            .unwrap();
        assert_eq!(lines(store), all);
        store.trim(expired, &retention).unwrap();
        assert_eq!(lines(store), all[of_first..]);
    });
}

#[test]
fn what_is_past_the_horizon_is_forgotten_and_nothing_before() {
    let made = make("clip_before_motion");
    let horizon = Duration::from_secs(24 * 3600);
    let retention = Retention { horizon, ..FOREVER };
    on_each(|store| {
        commit(store, &made);
        let before = all_of(store, &made.lookup);
        let first = made.changes[0].at;
        store
            .trim(
                first.after(horizon).before(Duration::from_nanos(1)),
                &retention,
            )
            .unwrap();
        assert_eq!(all_of(store, &made.lookup), before);

        store.trim(made.end.after(horizon), &retention).unwrap();
        let loaded = store.load(&made.lookup).unwrap();
        assert!(loaded.payloads.is_empty());
        assert!(loaded.ordering_keys.is_empty());
        let clips = loaded.sessions.values().map(|session| session.clips.len());
        assert_eq!(clips.sum::<usize>(), 0);
        // An open notification has a timer to run, and stays until it has.
        let restored = store.restore().unwrap();
        assert!(!restored.deadlines.is_empty() && !restored.held.is_empty());
        let open: Vec<_> = restored.deadlines.iter().map(|(id, _)| *id).collect();
        let kept: Vec<_> = store
            .notifications()
            .unwrap()
            .into_iter()
            .map(|(id, _)| id)
            .collect();
        assert_eq!(kept.len(), open.len());
        assert!(kept.iter().all(|id| open.contains(id)));
        assert!(!restored.nodes.is_empty());
    });
}

#[test]
fn closed_notifications_are_forgotten_with_their_sessions() {
    let made = make("shared_session");
    on_each(|store| {
        commit(store, &made);
        assert_eq!(store.notifications().unwrap().len(), 2);
        let horizon = Duration::from_secs(3600);
        store
            .trim(made.end.after(horizon), &Retention { horizon, ..FOREVER })
            .unwrap();
        assert!(store.notifications().unwrap().is_empty());
        let loaded = store.load(&made.lookup).unwrap();
        assert!(
            loaded
                .sessions
                .values()
                .all(|session| session.members.is_empty())
        );
    });
}

#[test]
fn a_cursor_never_goes_back() {
    on_each(|store| {
        assert_eq!(store.cursor("bell").unwrap(), 0);
        for (settled, cursor) in [(3, 3), (7, 7), (5, 7), (8, 8)] {
            store.set_cursor("bell", settled).unwrap();
            assert_eq!(store.cursor("bell").unwrap(), cursor);
        }
        assert_eq!(store.cursor("lamp").unwrap(), 0);
    });
}

#[test]
fn quarantine_keeps_the_bytes_and_shows_the_newest() {
    let made = make("odd_13_not_utf8_line");
    let made_bad = make("odd_02_neither_or_both_updates");
    on_each(|store| {
        commit(store, &made);
        commit(store, &made_bad);
        let rows = store.quarantine(usize::MAX).unwrap();
        assert_eq!(rows.len(), 4);
        assert!(rows.is_sorted_by_key(|row| row.id));
        let quarantined: Vec<_> = [&made, &made_bad]
            .iter()
            .flat_map(|made| made.changes.iter().flat_map(|changes| &changes.quarantined))
            .collect();
        for (row, message) in rows.iter().zip(quarantined) {
            assert_eq!(row.raw, message.raw.body);
            assert_eq!(row.place, message.raw.place);
            assert_eq!(row.reason, message.reject.reason.as_str());
            assert_eq!(row.received_at, message.raw.received_at.0.as_str());
        }
        assert_eq!(store.quarantine(2).unwrap(), rows[2..]);
        store.trim(made_bad.end, &FOREVER).unwrap();
        assert_eq!(store.quarantine(usize::MAX).unwrap(), rows);
    });
}

#[test]
fn sinks_that_are_set_lose_what_leaves_the_journal_and_it_is_noted() {
    let made = [make("s1_doorbell_with_clip"), make("shared_session")];
    on_each(|store| sinks_lose(store, &made));
}

fn sinks_lose(store: &mut Writer, [first, second]: &[Made; 2]) {
    commit(store, first);
    let last = lines(store).len() as u64;
    store.set_cursor("bell", 2).unwrap();
    store.set_cursor("lamp", last).unwrap();
    store.set_cursor("unset", 1).unwrap();
    store
        .set_sinks(&["bell", "lamp", "never_delivered"], 0)
        .unwrap();
    let full = Retention {
        journal_bytes: 0,
        ..FOREVER
    };
    let trimmed = store.trim(ClockTime::default(), &full).unwrap();
    let lost = |sink: &str, first, last, reason| DeadLetterRange {
        sink: sink.to_owned(),
        first,
        last,
        reason,
    };
    let expected = [
        lost("bell", 3, last, DeadLetterReason::JournalFull),
        lost("never_delivered", 1, last, DeadLetterReason::JournalFull),
    ];
    assert_eq!(trimmed.dead_letters, expected);
    let cursors = ["bell", "lamp", "never_delivered", "unset"];
    assert_eq!(
        cursors.map(|sink| store.cursor(sink).unwrap()),
        [last, last, last, 1]
    );

    // To one that is back, what is there is due, not what went meanwhile.
    store.set_sinks(&["unset"], 0).unwrap();
    assert_eq!(store.cursor("unset").unwrap(), last);
    commit(store, second);
    let expired = Retention {
        journal_age: Duration::ZERO,
        ..FOREVER
    };
    let trimmed = store.trim(second.end, &expired).unwrap();
    let newest = store.last_sequence().unwrap();
    assert_eq!(
        trimmed.dead_letters,
        [lost(
            "unset",
            last + 1,
            newest,
            DeadLetterReason::JournalExpired
        )]
    );
    let noted = || {
        let rows = store.dead_letters(9).unwrap().into_iter();
        rows.map(|row| (row.sink, row.first_sequence, row.last_sequence, row.reason))
            .collect::<Vec<_>>()
    };
    let row =
        |sink: &str, first, last, reason: &str| (sink.to_owned(), first, last, reason.to_owned());
    let expected = [
        row("bell", 3, last, "journal_full"),
        row("never_delivered", 1, last, "journal_full"),
        row("unset", last + 1, newest, "journal_expired"),
    ];
    assert_eq!(noted(), expected);
}

#[test]
fn a_range_grows_while_the_sink_stays_away() {
    let made = make("s4_legacy_camera_no_threads");
    on_each(|store| {
        commit(store, &made);
        store.set_sinks(&["bell"], 0).unwrap();
        let last = store.last_sequence().unwrap();
        let mut bytes: u64 = lines(store).iter().map(|line| line.len() as u64).sum();
        for line in lines(store) {
            bytes -= line.len() as u64;
            let retention = Retention {
                journal_bytes: bytes,
                ..FOREVER
            };
            store.trim(made.end, &retention).unwrap();
        }
        let rows = store.dead_letters(9).unwrap();
        let ranges: Vec<_> = rows
            .iter()
            .map(|row| (row.id, row.first_sequence, row.last_sequence))
            .collect();
        assert_eq!(ranges, [(1, 1, last)]);
    });
}

/// What a sink did: two records that it will not deliver, and what it showed.
fn settlement(cursor: u64) -> Settlement {
    let letter = |sequence, reason, detail: &str, line: &str| DeadLetter {
        sequence,
        reason,
        detail: detail.to_owned(),
        line: line.to_owned(),
    };
    Settlement {
        sink: "bell".to_owned(),
        cursor,
        dead_letters: vec![
            letter(1, DeadLetterReason::Refused, "410 Gone", r#"{"id":"a.1"}"#),
            letter(3, DeadLetterReason::Expired, "", r#"{"id":"b.1"}"#),
        ],
        shown: vec![shown(1, None)],
    }
}

const NOTIFICATION: NotificationId = NotificationId([7; 16]);

fn shown(revision: u32, remote_id: Option<&str>) -> ShownRow {
    ShownRow {
        notification: NOTIFICATION,
        revision,
        remote_id: remote_id.map(str::to_owned),
        state: format!("{{\"revision\":{revision}}}"),
    }
}

#[test]
fn what_a_sink_settles_is_kept_and_dead_letters_are_dropped_by_their_ids() {
    let made = make("s1_doorbell_with_clip");
    on_each(|store| {
        commit(store, &made);
        store.settle(settlement(3)).unwrap();
        assert_eq!(store.cursor("bell").unwrap(), 3);
        let rows = store.dead_letters(9).unwrap();
        let rows = serde_json::to_value(&rows).unwrap();
        let at = Timestamp::from_utc(chrono::DateTime::from_timestamp_nanos(made.end.0));
        let row = |id, sequence, reason, detail, record| {
            json!({"id": id, "at": at.as_str(), "sink": "bell", "firstSequence": sequence,
                "lastSequence": sequence, "reason": reason, "detail": detail, "record": record})
        };
        let expected = json!([
            row(1, 1, "refused", "410 Gone", json!({"id": "a.1"})),
            row(2, 3, "expired", "", json!({"id": "b.1"})),
        ]);
        assert_eq!(rows, expected);
        let ids = |store: &Writer| -> Vec<i64> {
            let rows = store.dead_letters(9).unwrap();
            rows.iter().map(|row| row.id).collect()
        };
        assert_eq!(store.dead_letters(1).unwrap()[0].id, 2, "the newest");
        let reader = store.reader().unwrap();
        let beyond = |sink, cursor| {
            let snapshot = reader.snapshot().unwrap();
            let found = snapshot.dead_letters_beyond(sink, cursor).unwrap();
            Vec::from_iter(found)
        };
        assert_eq!(
            (beyond("bell", 0), beyond("bell", 1)),
            (vec![1, 3], vec![3])
        );
        assert_eq!((beyond("bell", 3), beyond("other", 0)), (vec![], vec![]));

        // A single one is no range, and does not grow into one.
        store.set_sinks(&["bell"], 0).unwrap();
        let nothing = Retention {
            journal_bytes: 0,
            ..FOREVER
        };
        store.trim(made.end, &nothing).unwrap();
        let last = store.last_sequence().unwrap();
        let range = store.dead_letters(1).unwrap().remove(0);
        assert_eq!((range.first_sequence, range.last_sequence), (4, last));
        assert!(range.record.is_none() && range.detail.is_empty());

        assert_eq!(store.drop_dead_letters(&[2, 3, 99]).unwrap(), 2);
        assert_eq!(ids(store), [1]);
        store.settle(settlement(last)).unwrap();
        assert_eq!(ids(store), [1, 4, 5], "ids are not used again");
        assert_eq!(store.drop_dead_letters(&[]).unwrap(), 0);
    });
}

#[test]
fn what_a_sink_showed_is_remembered_as_long_as_the_notification() {
    let made = make("shared_session");
    on_each(|store| {
        commit(store, &made);
        let found = |store: &Writer, sink: &str, id| {
            store.look(|snapshot| snapshot.shown(sink, id)).unwrap()
        };
        let (known, _) = store.notifications().unwrap().remove(0);
        for (revision, remote_id) in [(1, None), (2, Some("remote-1")), (3, Some("remote-1"))] {
            let row = ShownRow {
                notification: known,
                ..shown(revision, remote_id)
            };
            let settlement = Settlement {
                sink: "bell".to_owned(),
                shown: vec![row.clone()],
                ..Settlement::default()
            };
            store.settle(settlement).unwrap();
            assert_eq!(found(store, "bell", known), Some(row));
        }
        assert_eq!(found(store, "lamp", known), None);
        assert_eq!(found(store, "bell", NOTIFICATION), None);
        store.trim(made.end, &FOREVER).unwrap();
        assert!(found(store, "bell", known).is_some());
        let horizon = Duration::from_secs(3600);
        let retention = Retention { horizon, ..FOREVER };
        store.trim(made.end.after(horizon), &retention).unwrap();
        assert!(store.notifications().unwrap().is_empty());
        assert_eq!(found(store, "bell", known), None);
    });
}

#[test]
fn a_new_sink_begins_where_it_is_told_to() {
    let made = make("s1_doorbell_with_clip");
    on_each(|store| {
        commit(store, &made);
        let last = store.last_sequence().unwrap();
        store.set_sinks(&["end"], last).unwrap();
        store.set_sinks(&["end", "start"], 0).unwrap();
        let sinks = store.look(|snapshot| snapshot.sinks()).unwrap();
        let sinks: Vec<_> = sinks
            .iter()
            .map(|row| (row.name.as_str(), row.cursor, row.is_set))
            .collect();
        assert_eq!(sinks, [("end", last, true), ("start", 0, true)]);
        store.set_sinks(&["start"], last).unwrap();
        let sinks = store.look(|snapshot| snapshot.sinks()).unwrap();
        let set: Vec<_> = sinks.iter().map(|row| (row.cursor, row.is_set)).collect();
        assert_eq!(set, [(last, false), (0, true)]);
    });
}

#[test]
fn a_commit_is_written_whole_or_not_at_all() {
    let disk = Disk::new();
    let made = make("s1_doorbell_with_clip");
    let mut store = disk.store();
    store.set_sinks(&["bell"], 0).unwrap();
    let whole = |changes: &Changes| Commit {
        changes: changes.clone(),
        settled: vec![settlement(1)],
        admin: vec![Admin::SetSinks(Vec::new())],
    };
    let what = |store: &Writer| {
        let rows = store.dead_letters(9).unwrap().len();
        let shown = store.look(|snapshot| snapshot.shown("bell", NOTIFICATION));
        let sinks = store.look(|snapshot| snapshot.sinks()).unwrap();
        let bell = (sinks[0].cursor, sinks[0].is_set);
        (lines(store).len(), rows, shown.unwrap().is_some(), bell)
    };
    let before = what(&store);
    assert_eq!(before, (0, 0, false, (0, true)));

    // The last statement of all fails.
    let connection = rusqlite::Connection::open(disk.path()).unwrap();
    let trap = "CREATE TRIGGER trap BEFORE UPDATE ON sinks WHEN NOT NEW.is_set \
                BEGIN SELECT RAISE(ABORT, 'trapped'); END";
    connection.execute_batch(trap).unwrap();
    store.commit(whole(&made.changes[0])).unwrap_err();
    assert_eq!(what(&store), before);

    connection.execute_batch("DROP TRIGGER trap").unwrap();
    let committed = store.commit(whole(&made.changes[0])).unwrap();
    let records = committed.records.len();
    assert_eq!(what(&store), (records, 2, true, (1, false)));
    assert!(records > 0);
}

#[test]
fn upkeep_keeps_the_time_where_nothing_happens() {
    let disk = Disk::new();
    let mut store = disk.store();
    let made = make("s1_doorbell_with_clip");
    commit(&mut store, &made);
    let stored = |store: &Writer| store.look(|snapshot| snapshot.clock()).unwrap();
    assert_eq!(stored(&store), made.end);
    let day = Duration::from_secs(24 * 3600);
    let retention = Retention {
        horizon: 16 * day,
        ..FOREVER
    };
    for (upkeep, expected) in [
        (made.end, made.end),
        (made.end.after(day / 2), made.end),
        (made.end.after(day), made.end.after(day)),
        (made.end.after(9 * day), made.end.after(9 * day)),
    ] {
        store.upkeep(upkeep, &retention).unwrap();
        assert_eq!(stored(&store), expected);
    }
    store.trim(made.end, &retention).unwrap();
    assert_eq!(
        stored(&store),
        made.end.after(9 * day),
        "it never goes back"
    );
    assert_eq!(store.restore().unwrap().clock, made.end.after(9 * day));
}

#[test]
fn readers_look_on_beside_the_one_writer() {
    let (disk, made) = (Disk::new(), make("s1_doorbell_with_clip"));
    let mut writer = disk.store();
    let reader = Reader::open(&disk.path()).unwrap();
    assert!(lines(&reader).is_empty());
    commit(&mut writer, &made);
    assert_eq!(lines(&reader), lines(&writer));
    assert_eq!(
        reader.notifications().unwrap(),
        writer.notifications().unwrap()
    );

    let second = Writer::open(&disk.path()).unwrap_err();
    assert!(matches!(second, StoreError::Locked { .. }), "{second}");
    drop(writer);
    let mut writer = disk.store();
    assert_eq!(
        writer.write(made.changes[0].clone()).unwrap()[0].sequence,
        lines(&reader).len() as u64 - made.changes[0].drafts.len() as u64 + 1
    );
}
