//! `[http]`: the HTTP server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::Serialize;

use super::table::Table;
use crate::text::quoted;

/// `[http]`: the HTTP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Http {
    /// Address and port that answer. Anything but loopback shows metrics to the network. Default
    /// `127.0.0.1:9464`.
    pub listen: SocketAddr,
}

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

impl Http {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        Self {
            listen: table.parsed("listen", address).unwrap_or(DEFAULT_LISTEN),
        }
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "{} is not an IP address and port; write them as \"127.0.0.1:9464\"",
            quoted(text)
        )
    })
}
