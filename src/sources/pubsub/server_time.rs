//! What times Pub/Sub shows: any answer over HTTP has a `Date`, even a refusal, and each message
//! its publishTime.

use std::time::Duration;

use chrono::{DateTime, Utc};
use google_cloud_pubsub::model::Message;
use http::HeaderMap;
use http::header::DATE;

use crate::config::Endpoint;

/// Where Google's Pub/Sub is.
const GOOGLE: &str = "https://pubsub.googleapis.com";

/// The address of an endpoint.
pub fn url_of(endpoint: &Endpoint) -> &str {
    endpoint.url().unwrap_or(GOOGLE)
}

/// The headers of the endpoint's answer to a question that needs no credentials.
pub async fn headers(endpoint: &Endpoint, limit: Duration) -> reqwest::Result<HeaderMap> {
    // The streams know no proxy either.
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(limit)
        .build()?;
    let answer = client.get(url_of(endpoint)).send().await?;
    Ok(answer.headers().clone())
}

/// When Pub/Sub accepted a message. It always says so.
pub(super) fn published(message: &Message) -> Option<DateTime<Utc>> {
    let time = message.publish_time.as_ref()?;
    DateTime::from_timestamp(time.seconds(), u32::try_from(time.nanos()).ok()?)
}

/// When a server answered, by its own clock, in whole seconds.
pub fn date_of(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    let date = headers.get(DATE)?.to_str().ok()?;
    Some(DateTime::parse_from_rfc2822(date).ok()?.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_as_servers_write_it() {
        let mut headers = HeaderMap::new();
        assert_eq!(date_of(&headers), None);
        headers.insert(DATE, "Tue, 14 Nov 2023 22:13:20 GMT".parse().unwrap());
        assert_eq!(
            date_of(&headers),
            DateTime::from_timestamp(1_700_000_000, 0)
        );
        headers.insert(DATE, "soon".parse().unwrap());
        assert_eq!(date_of(&headers), None);
    }
}
