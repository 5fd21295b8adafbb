//! `hearthd run`: the service.

use std::collections::BTreeMap;
use std::path::Path;

use super::settings::ConfigArgs;
use crate::config::Settings;
use crate::daemon::{self, Reload};
use crate::store::{Lock, Writer};
use crate::telemetry;

/// Options of `hearthd run`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Believe this machine's clock, however far it is from the last time in the store
    #[arg(long)]
    trust_clock: bool,
}

/// Runs the service until it is told to stop.
pub async fn run(args: &Args, environment: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let file = args.config.find();
    let loaded = Settings::load_with_pubsub(file.path(), environment);
    // Without settings there is no log yet.
    let settings = loaded.inspect_err(|_| file.tell())?;
    let pubsub = settings.require_pubsub()?;
    let level = telemetry::init(&settings.log, environment);
    if let Some(note) = file.note() {
        tracing::info!("{note}");
    }
    let path = file.path().map(Path::to_owned);
    let reload = Reload::new(settings.clone(), path, environment.clone(), level);
    // Before anything else is taken: a second service learns that it is one.
    let lock = Lock::take(&settings.store.path)?;
    let open = || Writer::open_locked(lock);
    Ok(daemon::run(&settings, pubsub, open, reload, args.trust_clock).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Faults;

    #[tokio::test]
    async fn every_fault_is_shown_at_once() {
        let variable = ("HEARTHD_REORDER__HOLD".to_owned(), "2".to_owned());
        let args = Args {
            config: ConfigArgs::of("/dev/null"),
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
