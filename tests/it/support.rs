//! What the tests share.

use std::io::Write as _;

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

/// Says aloud that a test is skipped because a program is missing; fails it where
/// `HEARTHD_TEST_REQUIRE=1` says that nothing may be missing.
pub(crate) fn skip(program: &str, how_to_install: &str) {
    let is_required = std::env::var_os("HEARTHD_TEST_REQUIRE").is_some_and(|value| value == "1");
    assert!(!is_required, "{program} is missing: {how_to_install}");
    // Not with `eprintln!`: the output of tests that pass is hidden.
    let mut stderr = std::io::stderr().lock();
    writeln!(
        stderr,
        "\n!!! SKIPPED a test: {program} is missing; {how_to_install}\n"
    )
    .unwrap();
}
