//! `hearthd check`: validates the settings, and whether the folders are there that sinks write to.

use std::collections::BTreeMap;
use std::io::Write;

use super::settings::ConfigArgs;

/// Options of `hearthd check`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Runs the command.
pub fn run(
    args: &Args,
    environment: &BTreeMap<String, String>,
    stdout: &mut dyn Write,
) -> anyhow::Result<()> {
    let settings = args.config.load_with_pubsub(environment)?;
    settings.missing_folders()?;
    Ok(writeln!(stdout, "the settings are valid")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Faults;

    #[test]
    fn every_fault_is_shown_at_once() {
        let variable = ("HEARTHD_REORDER__HOLD".to_owned(), "2".to_owned());
        let environment = BTreeMap::from([variable]);
        let mut stdout = Vec::new();
        let args = Args {
            config: ConfigArgs::of("/dev/null"),
        };
        let error = run(&args, &environment, &mut stdout).unwrap_err();
        let faults = error.downcast::<Faults>().unwrap();
        let keys: Vec<_> = faults
            .as_slice()
            .iter()
            .map(|fault| fault.key.as_str())
            .collect();
        assert_eq!(keys, ["pubsub.subscription", "reorder.hold"]);
        assert!(stdout.is_empty());
    }
}
