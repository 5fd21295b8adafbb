//! `[pubsub]`: the Cloud Pub/Sub source, and where Pub/Sub is.
//!
//! Nothing here opens the key file or asks a server.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use serde::Serialize;

use super::fault::Fault;
use super::limits::{DAY, GIB, HOUR, Limits, MIB, MINUTE, seconds};
use super::table::Table;
use super::values::SubscriptionName;
use crate::backoff::Schedule;
use crate::text::{quoted, show_duration};

/// The variable with which Google's tools, and so hearthd, are pointed at an emulator.
const EMULATOR_VARIABLE: &str = "PUBSUB_EMULATOR_HOST";
/// The variable in which systemd names the folder of a service's credentials.
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// `[pubsub]`: the Cloud Pub/Sub source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pubsub {
    /// The subscription whose messages are pulled. One that another program pulls too gives each of
    /// them a part of the messages. No default.
    pub subscription: SubscriptionName,
    /// File with the credentials: a service account's key, or the configuration of workload
    /// identity. Default: `service-account.json` in the folder that systemd passes, if it is there;
    /// else Application Default Credentials.
    pub credentials_file: Option<PathBuf>,
    /// The folder that systemd's `LoadCredential` fills. Set by `CREDENTIALS_DIRECTORY`.
    #[serde(skip)]
    pub credentials_directory: Option<PathBuf>,
    /// Largest number of messages received and not yet acked. Too high costs memory and
    /// redeliveries after a crash; too low makes a backlog drain slowly. Messages, default 1000.
    pub max_outstanding_messages: u32,
    /// Largest size of the messages received and not yet acked. Too high costs memory; below the
    /// size of one message (10 MB at most) they come one by one. Bytes, default 64 MiB.
    pub max_outstanding_bytes: u64,
    /// Longest time that one lease extension keeps a message from other subscribers. Too high
    /// delays the redelivery after a crash; too low brings redeliveries while the store is slow.
    /// Default 60 s.
    pub max_lease_extension: Duration,
    /// Streams that pull side by side, each with a connection of its own. Pub/Sub gives one about
    /// 10 MB/s; more than are needed cost memory. Streams, default 1.
    pub streams: u32,
    /// Time without any message after which a warning names the usual causes. Too high finds a
    /// lapsed authorisation late; too low warns of quiet homes. Default 24 h.
    pub silence_warning: Duration,
    /// First wait before a lost stream is opened again; it doubles with each failure. Too low
    /// burdens a server in trouble. Default 1 s.
    pub reopen_backoff_min: Duration,
    /// Longest wait before a lost stream is opened again. Too high rings late after the cause is
    /// mended; too low burdens a server in trouble. Default 60 s.
    pub reopen_backoff_max: Duration,
    /// Time without a message after which Pub/Sub is asked whether it is there, and from then on
    /// the time between two such questions. Too high finds an outage late; too low loads the API.
    /// Default 15 s.
    pub probe_interval: Duration,
    /// Time without a message after which a stream is opened anew, as a half-open connection can't
    /// be told from a quiet home. Too high leaves such a connection for long; too low opens many
    /// streams for nothing. Default 10 min.
    pub idle_reopen: Duration,
    /// Where Pub/Sub is. `PUBSUB_EMULATOR_HOST` overrides the setting. Default: Google.
    pub endpoint: Endpoint,
}

// None would stop the source; more than 100000 is a backlog, which Pub/Sub keeps better than
// memory.
const MAX_OUTSTANDING_MESSAGES: Limits<u32> = Limits::new(1_000, 1, 100_000);
// An SDM event has a few KiB, so 1 MiB lets some through at once; more than 4 GiB is a wrong unit.
const MAX_OUTSTANDING_BYTES: Limits<u64> = Limits::new(64 * MIB, MIB, 4 * GIB);
// What Pub/Sub accepts as an ack deadline, and the client library clamps to.
const MAX_LEASE_EXTENSION: Limits<Duration> = seconds(60, 10, 600);
// 16 streams pull 160 MB/s, more than one store takes.
const STREAMS: Limits<u32> = Limits::new(1, 1, 16);
// A second serves tests; after 31 days without a subscriber the subscription is gone.
const SILENCE_WARNING: Limits<Duration> = seconds(DAY, 1, 31 * DAY);
// A tenth of a second serves tests; a first wait of over a minute would miss every doorbell.
const REOPEN_BACKOFF_MIN: Limits<Duration> =
    Limits::new(Duration::from_secs(1), TENTH, Duration::from_secs(MINUTE));
// An hour is as long as anybody wants to wait for a service that is back.
const REOPEN_BACKOFF_MAX: Limits<Duration> = Limits::new(
    Duration::from_secs(MINUTE),
    TENTH,
    Duration::from_secs(HOUR),
);
// A tenth of a second serves tests; an outage that shows after an hour is found by the neighbours.
const PROBE_INTERVAL: Limits<Duration> =
    Limits::new(Duration::from_secs(15), TENTH, Duration::from_secs(HOUR));
// A second serves tests; a day on a dead connection is what this setting is there to prevent.
const IDLE_REOPEN: Limits<Duration> = seconds(10 * MINUTE, 1, DAY);
const TENTH: Duration = Duration::from_millis(100);

impl Pubsub {
    /// How long a stream waits before it is opened again.
    pub fn reopen_schedule(&self) -> Schedule {
        Schedule {
            min: self.reopen_backoff_min,
            max: self.reopen_backoff_max,
        }
    }

    /// `None` if the subscription is at fault, as it has no default. `emulator` is the
    /// address of one, if the environment names it.
    pub(super) fn read(
        table: &mut Table<'_>,
        emulator: Option<String>,
        environment: &BTreeMap<String, String>,
    ) -> Option<Self> {
        table.require("subscription", SubscriptionName::FORMS);
        let subscription = table.parsed("subscription", str::parse);
        let credentials_file = table.parsed("credentials_file", key_path);
        let max_outstanding_messages =
            table.count("max_outstanding_messages", &MAX_OUTSTANDING_MESSAGES);
        let max_outstanding_bytes = table.size("max_outstanding_bytes", &MAX_OUTSTANDING_BYTES);
        let max_lease_extension = table.duration("max_lease_extension", &MAX_LEASE_EXTENSION);
        let streams = table.count("streams", &STREAMS);
        let silence_warning = table.duration("silence_warning", &SILENCE_WARNING);
        let reopen_backoff_min = table.duration("reopen_backoff_min", &REOPEN_BACKOFF_MIN);
        let reopen_backoff_max = table.duration("reopen_backoff_max", &REOPEN_BACKOFF_MAX);
        if reopen_backoff_max < reopen_backoff_min {
            let [min, max] = [reopen_backoff_min, reopen_backoff_max].map(|d| show_duration(&d));
            let message = format!("{max} is below reopen_backoff_min, {min}; swap them");
            table.fault("reopen_backoff_max", message);
        }
        let probe_interval = table.duration("probe_interval", &PROBE_INTERVAL);
        let idle_reopen = table.duration("idle_reopen", &IDLE_REOPEN);
        let named = table.parsed("endpoint", Endpoint::parse);
        let emulator = emulator.map(|url| Endpoint::Emulator { url });
        let endpoint = emulator.or(named).unwrap_or(Endpoint::Google);
        Some(Self {
            subscription: subscription?,
            credentials_file,
            credentials_directory: environment.get(CREDENTIALS_VARIABLE).map(PathBuf::from),
            max_outstanding_messages,
            max_outstanding_bytes,
            max_lease_extension,
            streams,
            silence_warning,
            reopen_backoff_min,
            reopen_backoff_max,
            probe_interval,
            idle_reopen,
            endpoint,
        })
    }
}

/// The path of a key file.
fn key_path(text: &str) -> Result<PathBuf, &'static str> {
    // A pasted key must not end up in a log, so the fault does not show it.
    if text.trim_start().starts_with('{') || text.contains("-----BEGIN") {
        return Err("looks like the key itself; write the path of the file that holds it");
    }
    Ok(PathBuf::from(text))
}

/// Where Pub/Sub is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Endpoint {
    /// Google's own service.
    Google,
    /// An emulator, which knows no credentials.
    Emulator {
        /// Its address, such as `http://localhost:8085`.
        url: String,
    },
    /// Another address of the service, which gets real credentials: a private endpoint, say.
    Named {
        /// Its address, such as `https://pubsub.example.net`.
        url: String,
    },
}

impl Endpoint {
    /// Its address, unless it is the client library's own default.
    pub fn url(&self) -> Option<&str> {
        match self {
            Self::Google => None,
            Self::Emulator { url } | Self::Named { url } => Some(url),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{} is not an endpoint; write scheme and host, such as \
                 \"https://pubsub.googleapis.com\" or \"http://127.0.0.1:8085\"",
                quoted(text)
            )
        };
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let scheme = uri.scheme_str();
        let authority = uri.authority().ok_or_else(wrong)?;
        let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if !is_bare || authority.as_str().contains('@') {
            return Err(wrong());
        }
        match scheme {
            Some("https") => {}
            Some("http") if is_loopback(authority.host()) => {}
            Some("http") => {
                return Err(format!(
                    "{} would send tokens in the clear; use https://, a loopback address, or \
                     {EMULATOR_VARIABLE} for an emulator, which gets no credentials",
                    quoted(text)
                ));
            }
            Some(_) | None => return Err(wrong()),
        }
        Ok(Self::Named {
            url: text.trim_end_matches('/').to_owned(),
        })
    }
}

/// The address of the emulator that `PUBSUB_EMULATOR_HOST` names; `None` if it is unset or empty
/// (which is how people unset it).
pub fn emulator_url(environment: &BTreeMap<String, String>) -> Result<Option<String>, Fault> {
    match environment.get(EMULATOR_VARIABLE).map(String::as_str) {
        None | Some("") => Ok(None),
        Some(host) if is_host_and_port(host) => Ok(Some(format!("http://{host}"))),
        Some(other) => Err(Fault {
            key: EMULATOR_VARIABLE.to_owned(),
            message: format!(
                "{} is not a host and port; \
                 write them without http:// and path, such as \"localhost:8085\"",
                quoted(other)
            ),
        }),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let address = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let is_host = match address {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && host
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
            }
        };
        let is_port = port.chars().all(|c| c.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port != 0);
        is_host && is_port
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulator_is_a_host_and_port() {
        let endpoint = |host: &str| {
            let variable = (EMULATOR_VARIABLE.to_owned(), host.to_owned());
            emulator_url(&BTreeMap::from([variable]))
        };
        assert_eq!(endpoint(""), Ok(None));
        assert_eq!(emulator_url(&BTreeMap::new()), Ok(None));
        for good in [
            "localhost:8085",
            "127.0.0.1:1",
            "[::1]:8085",
            "pub_sub-1.local:65535",
        ] {
            assert_eq!(endpoint(good), Ok(Some(format!("http://{good}"))));
        }
        for bad in [
            "localhost",
            ":8085",
            "localhost:",
            "localhost:0",
            "localhost:+1",
            "localhost:65536",
            "::1:8085",
            "[::1:8085",
            "http://localhost:8085",
            "localhost:8085/v1",
            "user@localhost:8085",
        ] {
            assert_eq!(
                endpoint(bad).map_err(|fault| fault.key),
                Err(EMULATOR_VARIABLE.to_owned())
            );
        }
    }

    #[test]
    fn tokens_never_travel_in_the_clear() {
        for good in [
            "https://pubsub.googleapis.com",
            "https://europe-west1-pubsub.googleapis.com:443/",
            "http://127.0.0.1:8085",
            "http://localhost:8085",
            "http://[::1]:8085",
        ] {
            let url = good.trim_end_matches('/').to_owned();
            assert_eq!(Endpoint::parse(good), Ok(Endpoint::Named { url }));
        }
        for (bad, words) in [
            ("http://pubsub.example.net", "in the clear"),
            ("http://10.0.0.7:8085", "in the clear"),
            ("http://localhost.example.net", "in the clear"),
            ("localhost:8085", "not an endpoint"),
            ("127.0.0.1:8085", "not an endpoint"),
            ("ftp://localhost", "not an endpoint"),
            ("https://user@host", "not an endpoint"),
            ("https://host/v1", "not an endpoint"),
            ("https://", "not an endpoint"),
        ] {
            let error = Endpoint::parse(bad).unwrap_err();
            assert!(error.contains(words), "{bad}: {error}");
        }
    }
}
