//! Arguments in, exit code out.

use std::collections::BTreeMap;
use std::process::ExitCode;

fn main() -> ExitCode {
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    hearthd::cli::main(std::env::args_os(), &environment)
}
