//! A short run of `benches/fuzz.rs`: damaged messages, from fixed seeds.

#[path = "../../benches/fuzz/harness.rs"]
mod harness;

use self::harness::bodies::Corpus;
use self::harness::life::Life;

#[test]
fn damaged_messages_neither_panic_nor_get_lost() {
    let corpus = Corpus::of_fixtures().unwrap();
    for seed in 0..3 {
        let mut life = Life::new(&corpus, seed, None).unwrap();
        let outcome = life.epoch(600);
        outcome.unwrap_or_else(|finding| panic!("seed {seed}: {finding:#}"));
        assert!(life.counts.emitted > 0 && life.counts.quarantined > 0);
    }
}
