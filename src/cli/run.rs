//! `hearthd run`: the service.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::Settings;
use crate::daemon::{self, Reload};
use crate::store::Writer;
use crate::telemetry;

/// Options of `hearthd run`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Settings file; without it, the environment alone
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Believe this machine's clock, however far it is from the last time in the store
    #[arg(long)]
    trust_clock: bool,
}

/// Runs the service until it is told to stop.
pub async fn run(args: &Args, environment: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let settings = Settings::load_with_pubsub(args.config.as_deref(), environment)?;
    let pubsub = settings.require_pubsub()?;
    let level = telemetry::init(&settings.log, environment);
    let reload = Reload::new(
        settings.clone(),
        args.config.clone(),
        environment.clone(),
        level,
    );
    let store = Writer::open(&settings.store.path)?;
    Ok(daemon::run(&settings, pubsub, store, reload, args.trust_clock).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Faults;

    #[tokio::test]
    async fn every_fault_is_shown_at_once() {
        let variable = ("HEARTHD_REORDER__HOLD".to_owned(), "2".to_owned());
        let args = Args {
            config: None,
            trust_clock: false,
        };
        let error = run(&args, &BTreeMap::from([variable])).await.unwrap_err();
        let faults = error.downcast::<Faults>().unwrap();
        let keys: Vec<_> = faults
            .as_slice()
            .iter()
            .map(|fault| fault.key.as_str())
            .collect();
        assert_eq!(keys, ["pubsub.subscription", "reorder.hold"]);
    }
}
