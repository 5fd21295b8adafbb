//! The window against a naive model, in sequences of operations that proptest makes up.
//!
//! The model keeps one state per row in a list and scans it for each question. It doesn't draw
//! jitter: it judges whether what the window does is allowed, and that nothing is left undone.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const MAX_AGE: i64 = 400;

/// One record of the journal.
#[derive(Clone, Debug)]
struct Record {
    sequence: u64,
    /// Notification or key.
    key: u8,
    /// Whether it is a notification, which can be coalesced.
    is_notification: bool,
    alert_until: Option<i64>,
    is_wanted: bool,
    at: i64,
    line: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unseen,
    Waiting,
    InFlight,
    Delivered,
    Filtered,
    Coalesced,
    Dead,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Delivered,
    Skipped,
    Partly(usize),
    Record(u64),
    Receiver(u64),
    Refused,
    Gone,
    Hold(i64),
}

#[derive(Clone, Debug)]
enum Step {
    Append {
        key: u8,
        is_event: bool,
        alert: Option<i64>,
        gap: u64,
    },
    Offer(usize),
    Start(usize),
    End(usize, End),
    Advance(i64),
    Settle,
    Confirm,
    Reject,
    Pause,
    Resume,
    /// Whether the commit that was under way took place.
    Restart(bool),
    Retry(usize),
}

/// What survives a restart.
#[derive(Debug, Default)]
struct Store {
    cursor: u64,
    dead: BTreeSet<u64>,
    /// The highest revision of each notification that the receiver has.
    delivered: BTreeMap<NotificationId, u32>,
}

/// When a key, or the receiver, may be tried again at the earliest.
#[derive(Clone, Copy, Debug, Default)]
struct Wait {
    not_before: f64,
    failures: i32,
}

struct World {
    settings: Settings,
    window: TestWindow,
    journal: Vec<Record>,
    states: Vec<State>,
    /// First rows of attempts in flight, with all rows and their number.
    attempts: Vec<(u64, Vec<u64>, u64)>,
    begun: u64,
    /// Attempts begun so far when the receiver last failed.
    failed_at: u64,
    receiver: Wait,
    keys: BTreeMap<u8, Wait>,
    suspects: BTreeSet<u8>,
    store: Store,
    pending: Option<Settlement<u64>>,
    /// Dead letters of the store that are retried, until a commit says how that went.
    retries: BTreeSet<u64>,
    ever_delivered: BTreeSet<u64>,
    second: i64,
    restarts: u64,
}

impl World {
    fn new(mut settings: Settings) -> Self {
        settings.max_age = Duration::from_secs(MAX_AGE.unsigned_abs());
        settings.filter.resources = vec!["d*".parse().unwrap()];
        let window = window(settings.clone());
        Self {
            settings,
            window,
            journal: Vec::new(),
            states: Vec::new(),
            attempts: Vec::new(),
            begun: 0,
            failed_at: 0,
            receiver: Wait::default(),
            keys: BTreeMap::new(),
            suspects: BTreeSet::new(),
            store: Store::default(),
            pending: None,
            retries: BTreeSet::new(),
            ever_delivered: BTreeSet::new(),
            second: 1000,
            restarts: 0,
        }
    }

    fn is_in_order(&self) -> bool {
        matches!(self.settings.order, Order::Sequence { .. })
    }

    fn place(&self, sequence: u64) -> usize {
        self.journal
            .iter()
            .position(|r| r.sequence == sequence)
            .unwrap()
    }

    fn is_unsettled(&self, place: usize) -> bool {
        matches!(self.states[place], State::Waiting | State::InFlight)
    }

    fn same_key(&self, a: usize, b: usize) -> bool {
        let a = &self.journal[a];
        let b = &self.journal[b];
        self.is_in_order() || (a.key == b.key && a.is_notification == b.is_notification)
    }

    /// The key as the model counts it: events and notifications differ.
    fn key(&self, place: usize) -> u8 {
        let record = &self.journal[place];
        record.key * 2 + u8::from(record.is_notification)
    }

    fn append(&mut self, key: u8, is_event: bool, alert: Option<i64>, gap: u64) {
        let last = self.journal.last().map_or(0, |record| record.sequence);
        let sequence = last + 1 + gap;
        let alert_until = alert
            .filter(|_| !is_event)
            .map(|seconds| self.second + seconds);
        let revision = u32::try_from(sequence).unwrap();
        let line = if is_event {
            event(key)
        } else {
            notification(key, revision, alert_until)
        };
        // Key 0 is of a resource that the sink doesn't want.
        let line = if key == 0 {
            line.replace("\"d\"", "\"x\"")
        } else {
            line
        };
        self.journal.push(Record {
            sequence,
            key,
            is_notification: !is_event,
            alert_until,
            is_wanted: key != 0,
            at: self.second,
            line,
        });
        self.states.push(State::Unseen);
    }

    fn offer(&mut self, limit: usize) {
        for _ in 0..limit {
            let Some(place) = self.states.iter().position(|s| *s == State::Unseen) else {
                return;
            };
            let record = self.journal[place].clone();
            let entry = Entry {
                sequence: record.sequence,
                kind: kind(&record.line),
                at: now(record.at).clock,
                line: &record.line,
            };
            let offered = self.window.offer(&entry, record.sequence, now(self.second));
            let is_running = *self.window.standing() == Standing::Running;
            let state = match offered {
                Offer::Accepted => State::Waiting,
                Offer::Filtered => State::Filtered,
                Offer::Known => State::Dead,
                Offer::NotNow => {
                    assert!(!is_running, "there is capacity for {record:?}");
                    return;
                }
                Offer::Unreadable => panic!("{record:?} can be read"),
            };
            let is_dead = self.store.dead.contains(&record.sequence);
            assert_eq!(state == State::Dead, is_dead, "{record:?}");
            let is_filtered = state == State::Filtered;
            assert!(state == State::Dead || is_filtered != record.is_wanted);
            self.states[place] = state;
            self.sync(false);
        }
    }

    /// Rows that the window no longer has must have become dead letters or needless right now.
    fn sync(&mut self, may_expire: bool) {
        for place in 0..self.journal.len() {
            if self.states[place] != State::Waiting {
                continue;
            }
            let record = &self.journal[place];
            let is_retry = self.retries.contains(&record.sequence);
            let is_old = may_expire && !is_retry && record.at + MAX_AGE <= self.second;
            let is_there = self.window.backlog.contains(record.sequence);
            assert!(!(is_there && is_old), "{record:?} is too old");
            if !is_there {
                let dead = if is_old {
                    State::Dead
                } else {
                    State::Coalesced
                };
                assert!(is_old || self.may_coalesce(place), "{record:?} is missing");
                self.states[place] = dead;
            }
        }
        // A key that has no rows any more starts anew.
        let unsettled: BTreeSet<u8> = (0..self.journal.len())
            .filter(|place| self.is_unsettled(*place))
            .map(|place| self.key(place))
            .collect();
        self.keys.retain(|key, _| unsettled.contains(key));
    }

    /// A revision may be left out if a newer one waits, unless it should still ring.
    fn may_coalesce(&self, place: usize) -> bool {
        let record = &self.journal[place];
        let is_fresh = record.alert_until.is_some_and(|until| self.second <= until);
        let has_newer = (place + 1..self.journal.len())
            .any(|newer| self.same_key(place, newer) && self.states[newer] != State::Unseen);
        self.settings.coalesces() && record.is_notification && !is_fresh && has_newer
    }

    fn start(&mut self, limit: usize) {
        for _ in 0..limit {
            let is_running = *self.window.standing() == Standing::Running;
            let attempt = self.window.next(now(self.second));
            self.sync(is_running);
            let Some(attempt) = attempt else { return };
            assert!(is_running);
            let rows: Vec<u64> = attempt.rows.iter().map(|(sequence, _)| *sequence).collect();
            assert_eq!(attempt.id, rows[0]);
            self.check_start(&rows);
            for sequence in &rows {
                let place = self.place(*sequence);
                self.states[place] = State::InFlight;
            }
            self.attempts.push((attempt.id, rows, self.begun));
            self.begun += 1;
        }
    }

    fn check_start(&self, rows: &[u64]) {
        assert!(rows.len() <= self.settings.batch());
        let is_down = self.receiver.failures > 0;
        let max = if is_down {
            1
        } else {
            self.settings.max_in_flight()
        };
        assert!(self.attempts.len() < max, "too much in flight");
        let second = self.second as f64;
        assert!(second >= self.receiver.not_before, "the receiver is down");
        let mut expected = Vec::new();
        let first = self.place(rows[0]);
        for place in 0..self.journal.len() {
            if self.is_unsettled(place) && self.same_key(place, first) {
                assert_eq!(self.states[place], State::Waiting, "already in flight");
                expected.push(self.journal[place].sequence);
            }
        }
        expected.truncate(rows.len());
        assert_eq!(rows, expected, "out of order");
        if !self.is_in_order() {
            let wait = self.keys.get(&self.key(first)).copied().unwrap_or_default();
            assert!(second >= wait.not_before, "the key is backed off");
        }
    }

    fn end(&mut self, index: usize, end: End) {
        if self.attempts.is_empty() {
            return;
        }
        let (id, rows, begun) = self.attempts.remove(index % self.attempts.len());
        let at = now(self.second);
        let retry = |scope, seconds| Failure::Retry {
            scope,
            after: (seconds > 0).then(|| Duration::from_secs(seconds)),
        };
        let key = self.key(self.place(id));
        match end {
            End::Delivered => {
                self.window.delivered(id);
                self.finish(&rows, begun, key);
            }
            End::Skipped => {
                self.window.skipped(id);
                self.mark(&rows, State::Delivered);
            }
            End::Partly(count) => {
                let count = count % (rows.len() + 1);
                self.window.failed(id, count, retry(Scope::Receiver, 0), at);
                if count > 0 {
                    self.finish(&rows[..count], begun, key);
                }
                self.mark(&rows[count..], State::Waiting);
                self.fail(key, begun, true, 0);
            }
            End::Record(after) => {
                self.window.failed(id, 0, retry(Scope::Record, after), at);
                self.mark(&rows, State::Waiting);
                self.fail(key, begun, self.is_in_order(), after);
            }
            End::Receiver(after) => {
                self.window.failed(id, 0, retry(Scope::Receiver, after), at);
                self.mark(&rows, State::Waiting);
                self.fail(key, begun, true, after);
            }
            End::Refused => {
                let reason = "no".to_owned();
                self.window.failed(id, 0, Failure::Refused { reason }, at);
                self.mark(&rows, State::Waiting);
                self.mark(&rows[..1], State::Dead);
                self.answered(begun);
            }
            End::Gone => {
                let reason = "gone".to_owned();
                self.window.failed(id, 0, Failure::Gone { reason }, at);
                self.mark(&rows, State::Waiting);
            }
            End::Hold(seconds) => {
                self.window.hold(id, now(self.second + seconds).clock, at);
                self.mark(&rows, State::Waiting);
            }
        }
        self.sync(false);
    }

    fn mark(&mut self, rows: &[u64], state: State) {
        for sequence in rows {
            let place = self.place(*sequence);
            self.states[place] = state;
        }
    }

    fn finish(&mut self, rows: &[u64], begun: u64, key: u8) {
        self.mark(rows, State::Delivered);
        self.ever_delivered.extend(rows);
        self.keys.remove(&key);
        self.answered(begun);
    }

    fn answered(&mut self, begun: u64) {
        if begun >= self.failed_at {
            self.receiver = Wait::default();
            self.suspects.clear();
        }
    }

    /// Notes the shortest waits that the failure allows: half of the longest.
    fn fail(&mut self, key: u8, begun: u64, is_receiver: bool, after: u64) {
        let second = self.second as f64;
        let asked = (after as f64).min(3600.0);
        let shortest = |schedule: Schedule, failures: i32| {
            let longest = schedule.min.as_secs_f64() * 2_f64.powi(failures);
            longest.min(schedule.max.as_secs_f64()) / 2.0
        };
        if is_receiver {
            self.receiver.not_before = self.receiver.not_before.max(second + asked);
        } else {
            let wait = self.keys.entry(key).or_default();
            let least = shortest(self.settings.record_retry, wait.failures);
            wait.not_before = second + least.max(asked);
            wait.failures += 1;
        }
        if begun < self.failed_at {
            return;
        }
        self.suspects.insert(key);
        let is_down = self.receiver.failures > 0 || self.suspects.len() >= SUSPECT_KEYS;
        if is_receiver || is_down {
            let least = shortest(self.settings.receiver_retry, self.receiver.failures);
            self.receiver.not_before = self.receiver.not_before.max(second + least);
            self.receiver.failures += 1;
            self.failed_at = self.begun;
            self.suspects.clear();
        }
    }

    fn settle(&mut self) {
        let Some(settlement) = self.window.settlement() else {
            return;
        };
        assert!(self.pending.is_none(), "one at a time");
        let cursor = settlement.cursor;
        assert!(cursor >= self.store.cursor);
        let dead = settlement.dead_letters.iter().map(|dead| dead.sequence);
        let dead: BTreeSet<u64> = dead.collect();
        let mut least = 0;
        let mut is_open = false;
        for (place, record) in self.journal.iter().enumerate() {
            let state = self.states[place];
            let is_retry = self.retries.contains(&record.sequence);
            let is_new = is_retry || !self.store.dead.contains(&record.sequence);
            let is_dead = state == State::Dead && is_new;
            assert_eq!(dead.contains(&record.sequence), is_dead, "{record:?}");
            let is_settled = !self.is_unsettled(place) && state != State::Unseen;
            let is_done = is_settled && is_retry && state != State::Dead;
            assert_eq!(settlement.retried.contains(&record.sequence), is_done);
            assert!(
                is_settled || is_retry || record.sequence > cursor,
                "{record:?} is left out"
            );
            is_open |= !is_settled && !is_retry;
            if !is_open {
                least = record.sequence;
            }
        }
        assert!(cursor >= least, "{cursor} could be {least}");
        self.pending = Some(settlement);
    }

    fn confirm(&mut self) {
        if let Some(settlement) = self.pending.take() {
            let cursor = settlement.cursor;
            self.commit(settlement);
            self.window.confirm();
            assert_eq!(self.window.cursor(), cursor);
        }
    }

    fn commit(&mut self, settlement: Settlement<u64>) {
        self.store.cursor = settlement.cursor;
        for dead in settlement.dead_letters {
            let is_new = self.store.dead.insert(dead.sequence);
            let is_retry = self.retries.remove(&dead.sequence);
            assert!(is_new != is_retry, "{} is dead twice", dead.sequence);
        }
        for sequence in settlement.retried {
            assert!(self.store.dead.remove(&sequence) && self.retries.remove(&sequence));
        }
        for (id, revision) in settlement.delivered {
            let highest = self.store.delivered.entry(id).or_default();
            *highest = revision.max(*highest);
        }
    }

    fn retry(&mut self, index: usize) {
        let retries: Vec<u64> = self.store.dead.iter().copied().collect();
        if retries.is_empty() {
            return;
        }
        let place = self.place(retries[index % retries.len()]);
        let record = self.journal[place].clone();
        let entry = Entry {
            sequence: record.sequence,
            kind: kind(&record.line),
            at: now(record.at).clock,
            line: &record.line,
        };
        let id = NotificationId([record.key; 16]);
        let delivered = self.store.delivered.get(&id).copied();
        let delivered = delivered.filter(|_| record.is_notification);
        let retried = self
            .window
            .retry(&entry, record.sequence, delivered)
            .unwrap();
        let has_newer = (place + 1..self.journal.len()).any(|newer| {
            let sequence = self.journal[newer].sequence;
            record.is_notification
                && self.journal[newer].is_notification
                && self.journal[newer].key == record.key
                && self.ever_delivered.contains(&sequence)
        });
        match retried {
            Retried::NotNow => return,
            Retried::Superseded => {
                let is_delivered = self.ever_delivered.contains(&record.sequence);
                assert!(has_newer || is_delivered, "{record:?} is not outdated");
                self.states[place] = State::Coalesced;
            }
            Retried::Accepted => {
                let is_in_order = self.is_in_order();
                assert!(!has_newer || is_in_order || self.restarts > 0, "{record:?}");
                self.states[place] = State::Waiting;
            }
        }
        assert!(self.retries.insert(record.sequence), "retried twice");
    }

    fn restart(&mut self, is_committed: bool) {
        if let Some(settlement) = self.pending.take().filter(|_| is_committed) {
            self.commit(settlement);
        }
        self.restarts += 1;
        let cursor = self.store.cursor;
        let start = Start {
            cursor,
            dead_letters: self.store.dead.range(cursor + 1..).copied().collect(),
        };
        let rng = fastrand::Rng::with_seed(self.restarts);
        self.window = Window::new(self.settings.clone(), start, rng);
        for (place, record) in self.journal.iter().enumerate() {
            if record.sequence > cursor {
                self.states[place] = State::Unseen;
            } else if self.retries.contains(&record.sequence) {
                self.states[place] = State::Dead;
            }
        }
        self.retries.clear();
        self.attempts.clear();
        self.keys.clear();
        self.suspects.clear();
        self.receiver = Wait::default();
        self.failed_at = 0;
        self.begun = 0;
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append {
                key,
                is_event,
                alert,
                gap,
            } => self.append(key, is_event, alert, gap),
            Step::Offer(count) => self.offer(count),
            Step::Start(count) => self.start(count),
            Step::End(index, end) => self.end(index, end),
            Step::Advance(seconds) => self.second += seconds,
            Step::Settle => self.settle(),
            Step::Confirm => self.confirm(),
            Step::Reject => {
                if self.pending.take().is_some() {
                    self.window.reject();
                }
            }
            Step::Pause => self.window.pause(),
            Step::Resume => self.window.resume(),
            Step::Restart(is_committed) => self.restart(is_committed),
            Step::Retry(index) => self.retry(index),
        }
        let in_flight = self
            .states
            .iter()
            .filter(|s| **s == State::InFlight)
            .count();
        let rows: usize = self.attempts.iter().map(|(_, rows, _)| rows.len()).sum();
        assert_eq!(
            (in_flight, self.attempts.len()),
            (rows, self.window.in_flight())
        );
    }

    /// A receiver that works again gets everything, in few steps.
    fn drain(&mut self) {
        self.window.resume();
        for _ in 0..10 * self.journal.len() + 100 {
            self.step(Step::Offer(usize::MAX));
            self.step(Step::Start(usize::MAX));
            let is_idle = self.attempts.is_empty();
            while !self.attempts.is_empty() {
                self.step(Step::End(0, End::Delivered));
            }
            // Also what was under way before.
            self.step(Step::Confirm);
            self.step(Step::Settle);
            self.step(Step::Confirm);
            if self
                .states
                .iter()
                .all(|s| !matches!(s, State::Unseen | State::Waiting))
            {
                return self.check_end();
            }
            if is_idle {
                let deadline = self.window.deadline().expect("something waits for a time");
                let second = deadline.0.div_euclid(1_000_000_000) + 1;
                assert!(second > self.second, "the deadline has passed");
                self.second = second;
            }
        }
        panic!("not everything is settled: {:?}", self.states);
    }

    fn check_end(&self) {
        let last = self.journal.last().map_or(0, |record| record.sequence);
        assert_eq!(self.store.cursor, last);
        assert_eq!((self.window.waiting(), self.window.deadline()), (0, None));
        for (place, record) in self.journal.iter().enumerate() {
            let is_dead = self.store.dead.contains(&record.sequence);
            assert_eq!(is_dead, self.states[place] == State::Dead, "{record:?}");
            let is_last = !(place + 1..self.journal.len())
                .any(|newer| record.is_notification && self.same_key(place, newer));
            let is_coalesced = self.states[place] == State::Coalesced;
            assert!(!(is_last && is_coalesced), "nothing replaces {record:?}");
        }
    }
}

fn ends() -> impl Strategy<Value = End> {
    prop_oneof![
        6 => Just(End::Delivered),
        1 => Just(End::Skipped),
        1 => (0..4_usize).prop_map(End::Partly),
        3 => prop_oneof![Just(0), 1..100_u64].prop_map(End::Record),
        2 => prop_oneof![Just(0), 1..100_u64, Just(u64::MAX)].prop_map(End::Receiver),
        1 => Just(End::Refused),
        1 => Just(End::Gone),
        1 => (0..20_i64).prop_map(End::Hold),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let alert = proptest::option::of(0..60_i64);
    let gap = prop_oneof![9 => Just(0), 1 => 1..3_u64];
    let fields = (0..5_u8, proptest::bool::weighted(0.3), alert, gap);
    let append = fields.prop_map(|(key, is_event, alert, gap)| Step::Append {
        key,
        is_event,
        alert,
        gap,
    });
    prop_oneof![
        8 => append,
        5 => (1..6_usize).prop_map(Step::Offer),
        6 => (1..4_usize).prop_map(Step::Start),
        8 => (any::<usize>(), ends()).prop_map(|(index, end)| Step::End(index, end)),
        4 => prop_oneof![4 => 1..20_i64, 1 => 20..500_i64].prop_map(Step::Advance),
        3 => Just(Step::Settle),
        2 => Just(Step::Confirm),
        1 => Just(Step::Reject),
        1 => Just(Step::Pause),
        3 => Just(Step::Resume),
        1 => any::<bool>().prop_map(Step::Restart),
        2 => any::<usize>().prop_map(Step::Retry),
    ]
}

fn orders() -> impl Strategy<Value = Order> {
    prop_oneof![
        (1..4_usize).prop_map(|batch| Order::Sequence { batch }),
        (1..7_usize, any::<bool>()).prop_map(|(max_in_flight, coalesce)| Order::Keys {
            max_in_flight,
            coalesce
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn the_window_does_what_the_model_allows_and_all_of_it(
        order in orders(),
        steps in proptest::collection::vec(steps(), 0..120),
    ) {
        let mut world = World::new(settings(order));
        for step in steps {
            world.step(step);
        }
        world.drain();
    }
}
