//! Arguments in, exit code out.

use std::collections::BTreeMap;
use std::process::ExitCode;

/// Many small values live for days between many that live for microseconds: jemalloc keeps the
/// process a twentieth smaller than the system's allocator does, and a third faster.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    hearthd::cli::main(std::env::args_os(), &environment)
}
