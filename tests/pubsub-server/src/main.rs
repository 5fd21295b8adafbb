//! The server as a program of its own, for benchmarks that must not share a process with it.
//!
//! It prints its port. For each line on standard input it prints its counters as JSON; at the end
//! of the input it prints them once more and ends.

use std::io::{self, BufRead as _, Write as _};
use std::path::PathBuf;

use clap::{Args, Parser};
use pubsub_test_server::{Flood, Server};
use serde_json::json;

/// In a body, stands for the number of the message.
const NUMBER: &str = "@NUMBER@";

/// A Pub/Sub server for tests.
#[derive(Parser)]
enum Command {
    /// Delivers messages as fast as they are taken, to any subscription.
    Flood(FloodArgs),
}

#[derive(Args)]
struct FloodArgs {
    /// Files that hold a body each. They take turns. `@NUMBER@` in a body becomes the number of
    /// the message, so that no two are equal.
    #[arg(long, required = true, num_args = 1..)]
    bodies: Vec<PathBuf>,
    /// Messages in all; without it there is no end.
    #[arg(long)]
    count: Option<u64>,
    /// Messages a second; without it as many as are taken.
    #[arg(long)]
    per_second: Option<f64>,
    /// Port to listen on; 0 is a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
}

fn main() -> io::Result<()> {
    let Command::Flood(args) = Command::parse();
    let server = Server::start_on(args.port)?;
    server.flood(flood(&args)?);
    writeln!(io::stdout(), "{}", server.port())?;
    for line in io::stdin().lock().lines() {
        line?;
        print_counters(&server)?;
    }
    print_counters(&server)
}

fn flood(args: &FloodArgs) -> io::Result<Flood> {
    let bodies: Vec<String> =
        args.bodies.iter().map(std::fs::read_to_string).collect::<io::Result<_>>()?;
    let turns = bodies.len() as u64;
    let mut flood = Flood::new(move |number| {
        let turn = usize::try_from(number % turns).unwrap_or_default();
        bodies[turn].replace(NUMBER, &number.to_string()).into_bytes()
    });
    if let Some(count) = args.count {
        flood = flood.count(count);
    }
    if let Some(rate) = args.per_second {
        flood = flood.per_second(rate);
    }
    Ok(flood)
}

fn print_counters(server: &Server) -> io::Result<()> {
    let log = server.log();
    let counters = json!({
        "seconds": server.uptime().as_secs_f64(),
        "opens": log.opens,
        "delivered": log.delivered,
        "acked": log.acked,
    });
    writeln!(io::stdout(), "{counters}")
}
