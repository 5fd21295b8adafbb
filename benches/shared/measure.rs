//! What the benches measure with.

use std::process::Child;

use anyhow::Context;

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The most memory that a process has had resident, in MiB; `None` if it has ended.
pub(crate) fn peak_mebibytes(child: &Child) -> anyhow::Result<Option<f64>> {
    let path = format!("/proc/{}/status", child.id());
    let status = std::fs::read_to_string(&path).with_context(|| path)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kibibytes.map(|kibibytes| kibibytes / 1024.0))
}
