//! P1 to P4 and P6 when the process is killed and when the power fails: the real binary, killed by
//! SIGKILL under load at random moments and at every point where it matters.
//!
//! The library that plays the disk is `crash/shim.c`.

mod load;
mod shim;
mod trial;

use std::env;
use std::time::Duration;

use fastrand::Rng;

use self::load::Load;
use self::trial::{Kill, Power, Trial};

/// Number of kills at random moments. A nightly run takes 1000.
const KILLS_VARIABLE: &str = "HEARTHD_TEST_KILLS";
/// Kills at random moments of a run in CI.
const KILLS: usize = 50;
/// Random kills of one service and its store.
const KILLS_PER_TRIAL: usize = 5;
/// New messages of each process.
const MESSAGES: usize = 60;

#[test]
fn kills_at_random_moments_lose_nothing_and_double_nothing() {
    let kills = env::var(KILLS_VARIABLE).map_or(KILLS, |text| text.parse().unwrap());
    let mut seen = trial::Seen::default();
    for _ in 0..kills.div_ceil(KILLS_PER_TRIAL) {
        seen += random_trial(fastrand::u64(..));
    }
    println!("{seen:?}");
}

fn random_trial(seed: u64) -> trial::Seen {
    let mut rng = Rng::with_seed(seed);
    let mut trial = Trial::new(seed, Load::new(seed, 0));
    for _ in 0..KILLS_PER_TRIAL {
        let after = Duration::from_millis(rng.u64(1..=500));
        let power = match rng.u8(0..4) {
            0 => Power::Lost,
            1 => Power::Torn,
            _ => Power::Stays,
        };
        trial.crash(MESSAGES, Kill::UnderLoad(after), power);
        if rng.u8(0..3) == 0 {
            let after = Duration::from_millis(rng.u64(1..=100));
            trial.crash(MESSAGES, Kill::Starting(after), power);
        }
    }
    trial.finish()
}
