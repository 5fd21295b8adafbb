//! The command line: one file per command.

mod args;
pub mod capture;
pub mod check;
pub mod dead_letters;
pub mod device;
pub mod doctor;
pub mod exit;
pub mod graph;
pub mod notifications;
pub mod publish;
pub mod quarantine;
pub mod records;
pub mod replay;
pub mod run;
mod service;
mod set_aside;
pub mod settings;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::exit::{EXIT_BAD_CONFIG, EXIT_USAGE};
use crate::config::Faults;
use crate::daemon::DaemonError;
use crate::sources::pubsub::SourceError;

/// Longest wait at the end of the service for what has had limits of its own before.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(1);

/// Turns the events of homes into notifications, an ordered event log and a device graph
#[derive(Parser, Debug)]
#[command(name = "hearthd", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the service
    Run(run::Args),
    /// Check the settings, offline
    Check(check::Args),
    /// Try what the settings name: key, token, subscription, store
    Doctor(doctor::Args),
    /// Run capture files through the same code, on a virtual clock
    Replay(replay::Args),
    /// Record live messages as a capture file
    Capture(capture::Args),
    /// Publish capture files to a topic, for demonstrations and tests
    Publish(publish::Args),
    /// Show the structures, rooms and devices that a store knows
    Graph(graph::Args),
    /// Show a device: its place, and its state with times
    Device(device::Args),
    /// Show the notifications that a store holds
    Notifications(notifications::Args),
    /// Print the records of a store's journal, and follow it
    Records(records::Args),
    /// Show, retry or drop the messages that a store holds in quarantine
    Quarantine(quarantine::Args),
    /// Show or drop the records that sinks did not get
    DeadLetters(dead_letters::Args),
}

/// Runs the command line; says on standard error what failed, with its causes.
pub fn main(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &BTreeMap<String, String>,
) -> ExitCode {
    let cli = match parse(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let printed = error.print();
            let wrong = error.use_stderr() || printed.is_err();
            return if wrong {
                ExitCode::from(EXIT_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match dispatch(cli.command, environment) {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do if even standard error can't be written.
            drop(writeln!(io::stderr(), "hearthd: {error:#}"));
            ExitCode::from(if is_configuration(&error) {
                EXIT_BAD_CONFIG
            } else {
                1
            })
        }
    }
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&Cli::command().try_get_matches_from(arguments)?)
}

fn dispatch(command: Command, environment: &BTreeMap<String, String>) -> anyhow::Result<ExitCode> {
    let mut stdout = io::stdout().lock();
    match command {
        // The service's sinks write to standard output themselves.
        Command::Run(args) => {
            drop(stdout);
            let runtime = runtime()?;
            let outcome = runtime.block_on(run::run(&args, environment));
            // A sink may be stuck in a write that nobody reads.
            runtime.shutdown_timeout(SHUTDOWN_LIMIT);
            outcome?;
        }
        Command::Records(args) => {
            drop(stdout);
            let runtime = runtime()?;
            let outcome = runtime.block_on(records::run(args, environment));
            // As above.
            runtime.shutdown_timeout(SHUTDOWN_LIMIT);
            outcome?;
        }
        Command::Doctor(args) => {
            return runtime()?.block_on(doctor::run(&args, environment, &mut stdout));
        }
        Command::Replay(args) => return replay::run(&args, environment, &mut stdout),
        Command::Capture(args) => runtime()?.block_on(capture::run(args, environment))?,
        Command::Publish(args) => runtime()?.block_on(publish::run(args, environment))?,
        Command::Check(args) => check::run(&args, environment, &mut stdout)?,
        Command::Graph(args) => graph::run(&args, environment, &mut stdout)?,
        Command::Device(args) => device::run(&args, environment, &mut stdout)?,
        Command::Notifications(args) => notifications::run(&args, environment, &mut stdout)?,
        Command::Quarantine(args) => quarantine::run(&args, environment, &mut stdout)?,
        Command::DeadLetters(args) => dead_letters::run(&args, environment, &mut stdout)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Runtime::new().context("failed to start the runtime")
}

/// True if only other settings will help.
fn is_configuration(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Faults>().is_some()
        || error
            .downcast_ref::<SourceError>()
            .is_some_and(SourceError::is_configuration)
        || error
            .downcast_ref::<DaemonError>()
            .is_some_and(DaemonError::is_configuration)
}

/// True if the reader of our output went away, as `head` does: that is no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
    })
}
