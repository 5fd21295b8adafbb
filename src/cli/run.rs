//! `hearthd run`: the service.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::Settings;
use crate::daemon::{self, Reload};
use crate::store::{Sqlite, Store};
use crate::telemetry;

/// Options of `hearthd run`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Settings file; without it, the environment alone
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the service until it is told to stop.
pub async fn run(args: &Args, environment: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let settings = Settings::load(args.config.as_deref(), environment)?;
    let pubsub = settings.require_pubsub()?;
    let level = telemetry::init(&settings.log, environment);
    let reload = Reload::new(settings.clone(), args.config.clone(), environment.clone(), level);
    let store = Store::Sqlite(Box::new(Sqlite::open(&settings.store.path)?));
    Ok(daemon::run(&settings, pubsub, store, reload).await?)
}
