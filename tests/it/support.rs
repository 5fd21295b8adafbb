//! What the tests share.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

pub(crate) mod command;
pub(crate) mod daemon;
pub(crate) mod disk;
pub(crate) mod emulator;
pub(crate) mod http;
pub(crate) mod model;
pub(crate) mod oracle;
pub(crate) mod replay;
pub(crate) mod store;
pub(crate) mod token_server;
pub(crate) mod traffic;

/// What was found missing so far.
static MISSING: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Says aloud that tests are skipped because a program is missing, once for each program; fails
/// the test where `HEARTHD_TEST_REQUIRE=1` says that nothing may be missing.
pub(crate) fn skip(program: &str, how_to_install: &str) {
    let is_required = std::env::var_os("HEARTHD_TEST_REQUIRE").is_some_and(|value| value == "1");
    assert!(!is_required, "{program} is missing: {how_to_install}");
    let mut missing = MISSING.lock().unwrap_or_else(PoisonError::into_inner);
    if !missing.insert(program.to_owned()) {
        return;
    }
    // Not with `eprintln!`: the output of tests that pass is hidden.
    let mut stderr = std::io::stderr().lock();
    writeln!(
        stderr,
        "\n!!! SKIPPED tests: {program} is missing; {how_to_install}\n"
    )
    .unwrap();
}
