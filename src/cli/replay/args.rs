//! The options of `hearthd replay`.

use std::path::PathBuf;

use crate::cli::args::record_kind;
use crate::cli::settings::ConfigArgs;
use crate::record::RecordKind;

/// Options of `hearthd replay`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Which records to print
    #[arg(long, value_delimiter = ',', value_name = "KINDS", value_parser = record_kind,
          default_value = "notification,event,relation")]
    pub records: Vec<RecordKind>,
    /// Write the last revision of every notification here, as a JSON array
    #[arg(long, value_name = "FILE")]
    pub r#final: Option<PathBuf>,
    /// Write the graph here, as JSON
    #[arg(long, value_name = "FILE")]
    pub graph: Option<PathBuf>,
    /// Write the counters here, as JSON
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
    /// Use this durable store instead of memory
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Permute the messages over the arrival times, by this seed
    #[arg(long, value_name = "SEED")]
    pub shuffle: Option<u64>,
    /// Deliver this share of the messages twice, 0 to 1
    #[arg(long, value_name = "RATE", value_parser = rate, default_value = "0")]
    pub duplicate: f64,
    /// Keep the pace of the recording times this factor; 1 is real time
    #[arg(long, value_name = "FACTOR", value_parser = pace)]
    pub pace: Option<f64>,
    /// End with exit code 65 if any line was quarantined
    #[arg(long)]
    pub strict: bool,
    /// Capture files: .jsonl, also .gz or .zst; - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.0..=1.0).contains(rate));
    rate.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

/// Slowest pace: a second of the recording takes 11 days. The longest gap that the clock can hold,
/// 292 years, is then still a wait that a `Duration` can hold.
const MIN_PACE: f64 = 1e-6;

fn pace(text: &str) -> Result<f64, String> {
    let pace = text
        .parse()
        .ok()
        .filter(|pace: &f64| pace.is_finite() && *pace >= MIN_PACE);
    pace.ok_or_else(|| format!("expected a number of at least {MIN_PACE}"))
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::event::ClockTime;

    #[test]
    fn a_wait_can_be_told_whatever_the_pace_and_the_gap() {
        let longest = ClockTime(i64::MAX).since(ClockTime(i64::MIN));
        for (accepted, shortest) in [("0.000001", false), ("1", false), ("1e308", true)] {
            let waited = longest.div_f64(pace(accepted).unwrap());
            assert_eq!(waited.is_zero(), shortest, "{accepted}");
        }
        for refused in ["1e-20", "9e-7", "0", "-1", "inf", "NaN", "fast"] {
            let message = pace(refused).unwrap_err();
            assert_eq!(
                message, "expected a number of at least 0.000001",
                "{refused}"
            );
        }
    }
}
