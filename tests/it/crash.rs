//! P1 to P4 and P6 when the process is killed and when the power fails: the real binary, killed by
//! SIGKILL under load at random moments and at every point where it matters.
//!
//! The library that plays the disk is `crash/shim.c`.

mod load;
pub(crate) mod shim;
mod trial;

use std::time::Duration;
use std::{env, thread};

use fastrand::Rng;

use self::load::Load;
use self::shim::{Point, Then};
use self::trial::{ENDLESS, Kill, Power, Seen, Trial};

/// Number of kills at random moments; a nightly run takes 1000.
const KILLS_VARIABLE: &str = "HEARTHD_TEST_KILLS";
/// Repeats the random trial of this seed, which a failure prints. Its moments are the same; what
/// the process has reached by then is not.
const SEED_VARIABLE: &str = "HEARTHD_TEST_SEED";
/// Kills at random moments of a run in CI.
const KILLS: usize = 50;
/// Random kills of one service and its store.
const KILLS_PER_TRIAL: usize = 7;
/// Bytes of a trait update that fills logs and journals soon.
const PADDING: usize = 20_000;
/// Processes until a journal of 1 MiB is full.
const FILL_ATTEMPTS: usize = 30;
/// New messages of each process.
const MESSAGES: usize = 100;

#[test]
fn kills_at_random_moments_lose_nothing_and_double_nothing() {
    if let Ok(seed) = env::var(SEED_VARIABLE) {
        random_trial(seed.parse().unwrap());
        return;
    }
    let kills = env::var(KILLS_VARIABLE).map_or(KILLS, |text| text.parse().unwrap());
    let mut trials: Vec<u64> = Vec::new();
    trials.resize_with(kills.div_ceil(KILLS_PER_TRIAL), || fastrand::u64(..));
    let mut seen = Seen::default();
    // Most of their time they wait.
    for pair in trials.chunks(2) {
        thread::scope(|scope| {
            let trials: Vec<_> = pair
                .iter()
                .map(|seed| scope.spawn(|| random_trial(*seed)))
                .collect();
            for trial in trials {
                seen += trial.join().unwrap();
            }
        });
    }
    let happened = [
        seen.kills_with_unacked,
        seen.kills_before_acks,
        seen.kills_in_recovery,
        seen.losses,
        seen.duplicates,
    ];
    assert!(
        seen.kills >= kills && !happened.contains(&0),
        "the trials show nothing: {seen:?}"
    );
}

/// Kills at random moments under load, and now and then another one in the recovery from it.
fn random_trial(seed: u64) -> Seen {
    let mut rng = Rng::with_seed(seed);
    let mut trial = Trial::new(seed, Load::new(seed, 0));
    for _ in 0..KILLS_PER_TRIAL {
        let power = [Power::Stays, Power::Stays, Power::Lost, Power::Torn][rng.usize(..4)];
        let after = Duration::from_millis(rng.u64(1..=500));
        trial.crash(MESSAGES, Kill::UnderLoad(after), power);
        if rng.u8(0..3) == 0 {
            let after = Duration::from_millis(rng.u64(1..=40));
            trial.crash(MESSAGES, Kill::Starting(after), power);
        }
    }
    trial.finish()
}

fn at(line: &'static str, count: u32, then: Then) -> Kill {
    Kill::At(Point {
        after: Some((line, count)),
        then,
    })
}

#[test]
fn a_kill_at_any_point_of_a_batch_loses_nothing_and_doubles_nothing() {
    for power in [Power::Stays, Power::Torn] {
        let mut trial = Trial::new(1, Load::new(1, 0));
        for kill in [
            at("restoring", 1, Then::Kill),
            at("committing", 3, Then::KillLater),
            at("committing", 2, Then::KillAtWrite(1)),
            at("committing", 2, Then::KillAtWrite(4)),
            at("committing", 3, Then::KillAtSync(1)),
            at("committing", 3, Then::KillAfterSync(1)),
            at("restoring", 1, Then::Kill),
            at("committed", 3, Then::KillLater),
            at("acked", 3, Then::Kill),
            Kill::AfterAck,
        ] {
            trial.crash(ENDLESS, kill, power);
        }
        trial.finish();
    }
}

#[test]
fn a_kill_while_the_store_is_made_leaves_none_or_a_whole_one() {
    for power in [Power::Stays, Power::Torn] {
        let mut trial = Trial::new(2, Load::new(2, 0));
        for sync in 1..=12 {
            let kill = Kill::At(Point {
                after: None,
                then: Then::KillAtSync(sync),
            });
            trial.crash(ENDLESS, kill, power);
        }
        trial.finish();
    }
}

#[test]
fn a_kill_while_trimming_or_in_a_checkpoint_loses_nothing_and_doubles_nothing() {
    let mut trial = Trial::new(3, Load::new(3, PADDING));
    let environment = &mut trial.home.environment;
    environment.insert(
        "HEARTHD_STORE__JOURNAL_MAX_SIZE".to_owned(),
        "1 MiB".to_owned(),
    );
    let is_full = (0..FILL_ATTEMPTS).any(|_| {
        trial.crash(ENDLESS, at("trimming", 8, Then::KillLater), Power::Torn);
        trial.oldest_record > 1
    });
    assert!(is_full, "nothing was trimmed");
    for then in [
        Then::KillAtWrite(1),
        Then::KillAtWrite(3),
        Then::KillAtSync(1),
        Then::KillAfterSync(1),
    ] {
        trial.crash(ENDLESS, at("trimming", 2, then), Power::Torn);
        assert!(
            trial.last_line().ends_with("trimming"),
            "it was not killed in a trim"
        );
    }
    for (page, power) in [(1, Power::Stays), (9, Power::Torn)] {
        let kill = Kill::At(Point {
            after: None,
            then: Then::KillAtPage(page),
        });
        trial.crash(ENDLESS, kill, power);
    }
    trial.finish();
}

#[test]
fn a_duplicate_is_acked_only_when_what_it_repeats_is_synced() {
    let mut trial = Trial::new(4, Load::new(4, 0));
    // No commits but those of messages: they would sync the store.
    for timer in [
        "REORDER__HOLD",
        "NOTIFICATIONS__THREAD_TIMEOUT",
        "NOTIFICATIONS__SESSION_QUIET",
    ] {
        trial
            .home
            .environment
            .insert(format!("HEARTHD_{timer}"), "20s".to_owned());
    }
    trial.crash(1, Kill::AfterAck, Power::Stays);
    // Its commit is in the WAL and not synced. The next process finds it, and a duplicate.
    trial.crash(1, at("committing", 1, Then::KillAtSync(1)), Power::Stays);
    // Before it commits anything else.
    trial.crash(0, at("acked messages=1", 1, Then::KillLater), Power::Lost);
    assert_eq!(trial.acked.len(), 2, "the duplicate was not acked");
}

#[test]
fn a_sync_that_fails_ends_the_process() {
    for then in [Then::FailSync(1), Then::FailCheckpoint(1)] {
        let mut trial = Trial::new(6, Load::new(6, PADDING));
        let ended = trial.crash(ENDLESS, at("committing", 3, then), Power::Lost);
        assert_eq!(ended.code(), Some(1));
        trial.finish();
    }
}

#[test]
fn a_sync_that_fails_while_no_message_comes_ends_the_process_too() {
    let mut trial = Trial::new(9, Load::new(9, 0));
    // The next one is of the record that was held.
    let ended = trial.crash(1, at("acked messages=1", 1, Then::FailSync(1)), Power::Lost);
    assert_eq!(ended.code(), Some(1));
    trial.finish();
}

#[test]
fn a_disk_that_is_full_for_a_while_loses_nothing() {
    let mut trial = Trial::new(7, Load::new(7, 0));
    trial.fill_disk(MESSAGES);
    trial.finish();
}

#[test]
fn kills_lose_nothing_of_the_official_emulator() {
    let Some(mut trial) = Trial::on_emulator(8, Load::new(8, 0)) else {
        return;
    };
    for after in [40, 150, 400] {
        trial.crash(
            MESSAGES,
            Kill::UnderLoad(Duration::from_millis(after)),
            Power::Torn,
        );
    }
    trial.finish();
}
