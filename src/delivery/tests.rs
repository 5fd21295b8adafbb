//! What a window does, one rule after the other; and what tests of it share.

mod model;

use std::time::Duration;

use chrono::DateTime;

use super::*;
use crate::backoff::Schedule;
use crate::event::{ClockTime, NotificationId};
use crate::record::RecordKind;

/// What the rows of tests are delivered as: their sequence.
type TestWindow = Window<u64>;

const RETRY: Failure = Failure::Retry {
    scope: Scope::Record,
    after: None,
};

fn now(second: i64) -> Now {
    Now {
        clock: ClockTime(second * 1_000_000_000),
        wall: DateTime::from_timestamp_secs(second).unwrap(),
    }
}

fn settings(order: Order) -> Settings {
    Settings {
        filter: Filter::default(),
        order,
        max_age: Duration::from_secs(1000),
        record_retry: RECORD_RETRY,
        receiver_retry: RECEIVER_RETRY,
    }
}

fn keys(max_in_flight: usize) -> Settings {
    settings(Order::Keys {
        max_in_flight,
        coalesce: true,
    })
}

fn window(settings: Settings) -> TestWindow {
    Window::new(settings, Start::default(), fastrand::Rng::with_seed(1))
}

/// A revision of the notification with this number.
fn notification(id: u8, revision: u32, alert_until: Option<i64>) -> String {
    let id = NotificationId([id; 16]);
    let alert = match alert_until {
        Some(second) => format!(
            r#""alert":true,"alertUntil":"{}""#,
            now(second).wall.to_rfc3339()
        ),
        None => r#""alert":false,"alertUntil":null"#.to_owned(),
    };
    format!(
        r#"{{"subject":"d","data":{{"notificationId":"{id}","revision":{revision},{alert},"kinds":["chime"]}}}}"#
    )
}

/// An event under this ordering key.
fn event(key: u8) -> String {
    format!(r#"{{"subject":"d","data":{{"orderingKey":"k{key}"}}}}"#)
}

fn kind(line: &str) -> RecordKind {
    if line.contains("orderingKey") {
        RecordKind::Event
    } else {
        RecordKind::Notification
    }
}

/// Offers a row that was written now.
fn offer(window: &mut TestWindow, sequence: u64, line: &str, second: i64) -> Offer {
    let at = now(second);
    let entry = Entry {
        sequence,
        kind: kind(line),
        at: at.clock,
        line,
    };
    window.offer(&entry, sequence, at)
}

/// Offers events of these keys as rows 1, 2, 3…, at second 0.
fn offer_events(window: &mut TestWindow, keys: impl IntoIterator<Item = u8>) {
    for (sequence, key) in (1..).zip(keys) {
        assert_eq!(offer(window, sequence, &event(key), 0), Offer::Accepted);
    }
}

/// Rows of all attempts that may be made now.
fn started(window: &mut TestWindow, second: i64) -> Vec<Vec<u64>> {
    let attempts = std::iter::from_fn(|| window.next(now(second)));
    attempts
        .map(|attempt| attempt.rows.iter().map(|(sequence, _)| *sequence).collect())
        .collect()
}

/// Commits; returns cursor and dead letters.
fn settle(window: &mut TestWindow) -> Option<(u64, Vec<u64>)> {
    let settlement = window.settlement()?;
    window.confirm();
    let dead = settlement.dead_letters.iter().map(|dead| dead.sequence);
    Some((settlement.cursor, dead.collect()))
}

#[test]
fn keys_are_sent_side_by_side_and_each_in_order() {
    let mut window = window(keys(2));
    offer_events(&mut window, [1, 1, 2, 3]);
    assert_eq!(started(&mut window, 0), [[1], [3]]);
    window.delivered(3);
    assert_eq!(started(&mut window, 0), [[4]], "2 waits for 1");
    window.delivered(4);
    assert_eq!(settle(&mut window), None, "nothing passes the first row");
    window.delivered(1);
    assert_eq!(settle(&mut window), Some((1, vec![])));
    assert_eq!(started(&mut window, 0), [[2]]);
    window.delivered(2);
    assert_eq!(settle(&mut window), Some((4, vec![])));
    assert_eq!((window.cursor(), window.waiting()), (4, 0));
}

#[test]
fn a_batch_is_in_order_and_goes_on_where_it_failed() {
    let mut window = window(settings(Order::Sequence { batch: 3 }));
    offer_events(&mut window, [1, 2, 1, 3]);
    assert_eq!(started(&mut window, 0), [[1, 2, 3]]);
    window.failed(1, 2, RETRY, now(0));
    assert_eq!(settle(&mut window), Some((2, vec![])));
    assert_eq!(started(&mut window, 0), Vec::<Vec<u64>>::new());
    assert!(window.deadline().unwrap() <= now(1).clock);
    assert_eq!(started(&mut window, 1), [[3, 4]]);
    let refused = Failure::Refused {
        reason: "no".to_owned(),
    };
    window.failed(3, 0, refused, now(1));
    assert_eq!(started(&mut window, 1), [[4]]);
    window.delivered(4);
    assert_eq!(settle(&mut window), Some((4, vec![3])));
}

#[test]
fn a_record_that_fails_backs_off_alone() {
    let mut window = window(keys(9));
    offer_events(&mut window, [1, 2, 2]);
    let mut second = 0;
    for _ in 0..20 {
        assert_eq!(started(&mut window, second)[0], [1]);
        window.failed(1, 0, RETRY, now(second));
        assert!(window.is_up());
        assert_eq!(started(&mut window, second).len(), 0);
        let deadline = window.deadline().unwrap();
        assert!(deadline > now(second).clock);
        assert!(deadline <= now(second).clock.after(RECORD_RETRY.max));
        second = deadline.unix_seconds() + 1;
        if window.in_flight() > 0 {
            window.delivered(2);
            assert_eq!(started(&mut window, second - 1), [[3]]);
            window.delivered(3);
        }
    }
    assert!(second > 500, "the waits grow: {second} s in all");
}

#[test]
fn a_dead_receiver_gets_one_attempt_at_a_time_and_all_once_it_works() {
    let mut settings = keys(8);
    settings.max_age = Duration::MAX;
    let mut window = window(settings);
    offer_events(&mut window, 0..=254);
    let mut second = 0;
    let mut attempts = 0;
    while second < 3600 {
        let now_started = started(&mut window, second);
        attempts += now_started.len();
        for rows in now_started {
            window.failed(rows[0], 0, RETRY, now(second));
        }
        second = second.max(window.deadline().unwrap().unix_seconds()) + 1;
    }
    assert!(!window.is_up());
    // 8 at first; then one every 15 to 31 s, and some more while the waits were short.
    assert!(
        (8 + 3600 / 31..8 + 3600 / 15 + 10).contains(&attempts),
        "{attempts}"
    );
    let rows = started(&mut window, second);
    assert_eq!(rows.len(), 1);
    window.delivered(rows[0][0]);
    assert!(window.is_up());
    assert_eq!(started(&mut window, second).len(), 8);
}

#[test]
fn a_server_gets_the_time_that_it_asks_for_up_to_an_hour() {
    for (asked, expected) in [(100, 100), (u64::MAX, 3600)] {
        for scope in [Scope::Record, Scope::Receiver] {
            let mut settings = keys(2);
            settings.max_age = Duration::MAX;
            let mut window = window(settings);
            offer_events(&mut window, [1]);
            started(&mut window, 0);
            let after = Some(Duration::from_secs(asked));
            window.failed(1, 0, Failure::Retry { scope, after }, now(0));
            let deadline = window.deadline().unwrap();
            assert_eq!(deadline.unix_seconds(), expected, "{scope:?}");
            // A row of another key shows whose wait it is.
            assert_eq!(offer(&mut window, 2, &event(2), 0), Offer::Accepted);
            let others = started(&mut window, 99).len();
            assert_eq!(others, usize::from(scope == Scope::Record));
        }
    }
}

#[test]
fn only_the_newest_revision_is_sent_and_all_that_still_ring() {
    let mut window = window(keys(2));
    for (sequence, line) in [
        (1, notification(1, 1, Some(60))),
        (2, notification(1, 2, None)),
        (3, notification(2, 1, None)),
        (4, notification(1, 3, None)),
        (5, notification(1, 4, Some(60))),
        (6, notification(1, 5, None)),
    ] {
        assert_eq!(offer(&mut window, sequence, &line, 0), Offer::Accepted);
    }
    assert_eq!(window.counts().coalesced, 2, "2 and 4");
    assert_eq!(started(&mut window, 60), [[1], [3]]);
    window.delivered(1);
    // The second one expires while it waits.
    assert_eq!(started(&mut window, 61), [[6]]);
    assert_eq!(window.counts().coalesced, 3);
    window.delivered(6);
    window.delivered(3);
    let settlement = window.settlement().unwrap();
    assert_eq!(settlement.cursor, 6);
    let delivered: Vec<u32> = settlement.delivered.into_values().collect();
    assert_eq!(delivered, [5, 1], "the highest revision of each");
}

#[test]
fn what_is_in_flight_is_not_coalesced_and_events_never() {
    let mut window = window(keys(9));
    offer(&mut window, 1, &notification(1, 1, None), 0);
    assert_eq!(started(&mut window, 0), [[1]]);
    for (sequence, line) in [
        (2, notification(1, 2, None)),
        (3, notification(1, 3, None)),
        (4, event(1)),
        (5, event(1)),
    ] {
        offer(&mut window, sequence, &line, 0);
    }
    assert_eq!(window.counts().coalesced, 1, "2 alone");
    // Once it has failed, it is needless too.
    window.failed(1, 0, RETRY, now(0));
    assert_eq!(started(&mut window, 2), [[3], [4]]);
    assert_eq!(window.counts().coalesced, 2);
}

#[test]
fn a_row_that_is_held_gives_way_to_a_newer_one_at_once() {
    let mut window = window(keys(2));
    offer(&mut window, 1, &notification(1, 1, None), 0);
    started(&mut window, 0);
    window.hold(1, now(10).clock, now(0));
    assert_eq!(window.deadline(), Some(now(10).clock));
    assert_eq!(started(&mut window, 9), Vec::<Vec<u64>>::new());
    // A ring does not wait for the silent update that it replaces.
    offer(&mut window, 2, &notification(1, 2, Some(60)), 9);
    assert_eq!(started(&mut window, 9), [[2]]);
    // Nor does what came while the older one was in flight.
    offer(&mut window, 3, &notification(1, 3, None), 9);
    window.delivered(2);
    assert_eq!(started(&mut window, 9), [[3]]);
    offer(&mut window, 4, &notification(1, 4, Some(60)), 9);
    window.hold(3, now(19).clock, now(9));
    assert_eq!(started(&mut window, 9), [[4]]);
    window.skipped(4);
    assert_eq!(window.counts().skipped, 1);
    assert_eq!(settle(&mut window), Some((4, vec![])));
}

#[test]
fn old_rows_are_dead_letters_also_while_the_receiver_is_down() {
    let mut window = window(keys(2));
    offer_events(&mut window, [1, 1, 2]);
    started(&mut window, 0);
    let scope = Scope::Receiver;
    let after = Some(Duration::MAX);
    window.failed(1, 0, Failure::Retry { scope, after }, now(0));
    assert_eq!(offer(&mut window, 4, &event(1), 1), Offer::Accepted);
    assert_eq!(window.deadline(), Some(now(1000).clock));
    assert_eq!(window.next(now(1000)), None);
    // 3 is in flight still.
    assert_eq!(settle(&mut window), Some((2, vec![1, 2])));
    window.failed(3, 0, RETRY, now(1000));
    assert_eq!(window.next(now(1001)), None);
    assert_eq!(settle(&mut window), Some((4, vec![3, 4])));
    assert_eq!(window.counts().dead_letters, 4);
}

#[test]
fn a_failed_commit_loses_no_dead_letter() {
    let mut window = window(keys(2));
    offer_events(&mut window, [1, 2]);
    started(&mut window, 0);
    let reason = "x".repeat(2 * DETAIL_MAX);
    window.failed(1, 0, Failure::Refused { reason }, now(0));
    let first = window.settlement().unwrap();
    assert_eq!((first.cursor, first.dead_letters.len()), (1, 1));
    let dead = &first.dead_letters[0];
    assert_eq!((dead.cause, dead.payload), (Cause::Refused, 1));
    assert_eq!(dead.detail.len(), DETAIL_MAX);
    assert_eq!(window.settlement(), None, "one at a time");
    window.delivered(2);
    window.reject();
    assert_eq!(settle(&mut window), Some((2, vec![1])));
    assert_eq!(settle(&mut window), None);
}

#[test]
fn a_receiver_that_is_gone_disables_the_sink_and_loses_nothing() {
    let mut window = window(keys(3));
    offer_events(&mut window, [1, 2, 3]);
    assert_eq!(started(&mut window, 0).len(), 3);
    let reason = "410 Gone".to_owned();
    window.failed(
        1,
        0,
        Failure::Gone {
            reason: reason.clone(),
        },
        now(0),
    );
    assert_eq!(*window.standing(), Standing::Disabled { reason });
    window.delivered(2);
    window.failed(3, 0, RETRY, now(0));
    assert_eq!(window.next(now(5000)), None, "not even by age");
    assert_eq!((window.deadline(), window.wants()), (None, 0));
    assert_eq!(offer(&mut window, 4, &event(4), 0), Offer::NotNow);
    assert_eq!(settle(&mut window), None);
    window.pause();
    assert!(!window.is_up());
    window.resume();
    assert_eq!(started(&mut window, 0), [[1]]);
    assert_eq!(offer(&mut window, 4, &event(4), 0), Offer::Accepted);
}

#[test]
fn what_is_not_wanted_or_not_there_holds_nothing_back() {
    let mut settings = keys(1);
    settings.filter.records = [RecordKind::Notification].into();
    settings.filter.alerts_only = true;
    let start = Start {
        cursor: 10,
        dead_letters: [13].into(),
    };
    let mut window: TestWindow = Window::new(settings, start, fastrand::Rng::with_seed(1));
    for (sequence, line, expected) in [
        (10, notification(1, 1, Some(60)), Offer::Known),
        (11, event(1), Offer::Filtered),
        (12, notification(1, 2, None), Offer::Filtered),
        (13, notification(1, 3, Some(60)), Offer::Known),
        (20, notification(1, 4, Some(60)), Offer::Accepted),
        (20, notification(1, 4, Some(60)), Offer::Known),
        (21, "{".to_owned(), Offer::Unreadable),
        (22, notification(1, 5, None), Offer::Filtered),
    ] {
        assert_eq!(offer(&mut window, sequence, &line, 0), expected, "{line}");
    }
    assert_eq!(settle(&mut window), Some((19, vec![21])));
    assert_eq!(
        started(&mut window, 0),
        [[20]],
        "what is filtered replaces nothing"
    );
    window.delivered(20);
    window.skip_missing(30);
    assert_eq!(settle(&mut window), Some((30, vec![])));
    assert_eq!(window.counts().filtered, 3);
}

#[test]
fn an_answer_to_an_attempt_that_has_ended_changes_nothing() {
    let mut window = window(keys(1));
    offer_events(&mut window, [1, 2]);
    started(&mut window, 0);
    for id in [0, 2, 99] {
        window.delivered(id);
        window.skipped(id);
        window.failed(id, 1, RETRY, now(0));
        window.hold(id, now(5).clock, now(0));
    }
    assert_eq!((window.waiting(), window.in_flight()), (2, 1));
    window.delivered(1);
    window.delivered(1);
    assert_eq!(window.counts().delivered, 1);
}

#[test]
fn rows_and_bytes_are_bounded() {
    let mut window = window(keys(1));
    let line = event(1);
    let mut sequence = 0;
    while window.wants() > 0 {
        sequence += 1;
        assert_eq!(offer(&mut window, sequence, &line, 0), Offer::Accepted);
    }
    assert_eq!(window.waiting(), MAX_ROWS);
    assert_eq!(offer(&mut window, sequence + 1, &line, 0), Offer::NotNow);
    // As dead letters they count until the store has them, some at a time.
    assert_eq!(window.next(now(1000)), None);
    assert_eq!((window.waiting(), window.wants()), (0, 0));
    let (cursor, dead) = settle(&mut window).unwrap();
    assert_eq!(
        (cursor, dead.len()),
        (MAX_DEAD_LETTERS as u64, MAX_DEAD_LETTERS)
    );
    assert_eq!(window.wants(), MAX_DEAD_LETTERS);
    while let Some((cursor, _)) = settle(&mut window) {
        assert!(cursor <= sequence);
    }
    assert_eq!((window.cursor(), window.wants()), (sequence, MAX_ROWS));

    let large = format!("{}{}", line, " ".repeat(MAX_BYTES));
    assert_eq!(offer(&mut window, sequence + 1, &large, 0), Offer::Accepted);
    assert_eq!(offer(&mut window, sequence + 2, &line, 0), Offer::NotNow);
    started(&mut window, 0);
    window.delivered(sequence + 1);
    assert_eq!(offer(&mut window, sequence + 2, &line, 0), Offer::Accepted);
    assert_eq!(offer(&mut window, sequence + 3, &large, 0), Offer::NotNow);
}

#[test]
fn one_stuck_row_lets_a_bounded_number_pass() {
    let mut window = window(keys(2));
    offer_events(&mut window, [1]);
    assert_eq!(started(&mut window, 0), [[1]]);
    let mut last = 1;
    while window.wants() > 0 {
        last += 1;
        offer(&mut window, last, &event(2), 0);
        assert_eq!(started(&mut window, 0), [[last]]);
        window.delivered(last);
    }
    assert_eq!(last, MAX_AHEAD);
    window.delivered(1);
    assert_eq!(window.wants(), 0, "a restart would still repeat them");
    assert_eq!(settle(&mut window), Some((last, vec![])));
    assert_eq!(window.wants(), MAX_ROWS);
}

#[test]
fn waits_of_the_receiver_stay_below_those_of_a_record() {
    // Otherwise one bad record could be the only one that tries whether the receiver works again.
    let half = |schedule: Schedule| schedule.max / 2;
    assert!(half(RECORD_RETRY) >= RECEIVER_RETRY.max);
}

/// Retries a row that is a dead letter in the store.
fn retry(window: &mut TestWindow, sequence: u64, line: &str, delivered: Option<u32>) -> Retried {
    let entry = Entry {
        sequence,
        kind: kind(line),
        at: now(0).clock,
        line,
    };
    window.retry(&entry, sequence, delivered).unwrap()
}

#[test]
fn a_dead_letter_is_retried_in_order_and_holds_nothing_back() {
    let start = Start {
        cursor: 9,
        dead_letters: [11].into(),
    };
    let mut window: TestWindow = Window::new(keys(9), start, fastrand::Rng::with_seed(1));
    for sequence in [10, 11] {
        offer(&mut window, sequence, &event(1), 0);
    }
    assert_eq!(
        retry(&mut window, 5, &event(1), None),
        Retried::NotNow,
        "10 has the key"
    );
    assert_eq!(retry(&mut window, 6, &event(2), None), Retried::Accepted);
    assert_eq!(retry(&mut window, 6, &event(2), None), Retried::NotNow);
    offer(&mut window, 12, &event(2), 0);
    assert_eq!(started(&mut window, 0), [[6], [10]], "12 waits for 6");
    window.delivered(10);
    let refused = Failure::Refused {
        reason: "no".to_owned(),
    };
    window.failed(6, 0, refused, now(0));
    assert_eq!(settle(&mut window), Some((11, vec![6])), "once more");
    assert_eq!(retry(&mut window, 5, &event(1), None), Retried::Accepted);
    assert_eq!(started(&mut window, 0), [[5], [12]]);
    window.delivered(5);
    let settlement = window.settlement().unwrap();
    assert_eq!((settlement.cursor, settlement.retried), (11, [5].into()));
    assert_eq!(retry(&mut window, 5, &event(1), None), Retried::NotNow);
    window.reject();
    let again = window.settlement().unwrap();
    assert_eq!(again.retried, [5].into(), "a failed commit loses nothing");
    window.confirm();
    assert_eq!(window.settlement(), None);
}

#[test]
fn a_retry_drops_a_revision_whose_successor_was_delivered() {
    let mut window = window(keys(9));
    window.skip_missing(9);
    let line = notification(1, 2, None);
    assert_eq!(retry(&mut window, 5, &line, Some(3)), Retried::Superseded);
    assert_eq!(window.settlement().unwrap().retried, [5].into());
    window.confirm();
    // Also one that the store doesn't know of yet.
    offer(&mut window, 10, &notification(1, 3, None), 0);
    assert_eq!(started(&mut window, 0), [[10]]);
    assert_eq!(retry(&mut window, 6, &line, None), Retried::NotNow);
    window.delivered(10);
    assert_eq!(retry(&mut window, 6, &line, None), Retried::Superseded);
    window.settlement();
    assert_eq!(retry(&mut window, 7, &line, None), Retried::Superseded);
    // And one that comes while it waits.
    let other = notification(2, 1, None);
    assert_eq!(retry(&mut window, 8, &other, None), Retried::Accepted);
    offer(&mut window, 11, &notification(2, 2, None), 0);
    assert_eq!(started(&mut window, 5000), Vec::<Vec<u64>>::new());
    window.confirm();
    let settlement = window.settlement().unwrap();
    assert_eq!(settlement.retried, [7, 8].into());
}

#[test]
fn retries_are_bounded_and_have_no_age() {
    let mut window = window(keys(1));
    let line = |n: u64| format!(r#"{{"subject":"d","data":{{"orderingKey":"{n}"}}}}"#);
    let most = MAX_RETRIES as u64;
    window.skip_missing(most + 1);
    for n in 1..=most {
        assert_eq!(retry(&mut window, n, &line(n), None), Retried::Accepted);
    }
    assert_eq!(
        retry(&mut window, most + 1, &line(0), None),
        Retried::NotNow
    );
    assert_eq!(started(&mut window, 9000), [[1]]);
    assert_eq!(window.deadline(), None, "all waits for the first");
    window.delivered(1);
    assert_eq!(
        retry(&mut window, most + 1, &line(0), None),
        Retried::NotNow
    );
    assert_eq!(settle(&mut window), Some((most + 1, vec![])));
    assert_eq!(
        retry(&mut window, most + 1, &line(0), None),
        Retried::Accepted
    );
}
