//! When a server asks to be tried again: the value of the header Retry-After.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};

/// Longer values are none that RFC 9110 knows.
const MAX_LENGTH: usize = 64;

/// The three forms of a date in RFC 9110, of which servers use the first.
const DATES: [&str; 3] = [
    "%a, %d %b %Y %H:%M:%S GMT",
    "%A, %d-%b-%y %H:%M:%S GMT",
    "%a %b %e %H:%M:%S %Y",
];

/// How long to wait from `wall` on: zero for a date that has passed, `None` for what is neither
/// seconds nor a date. It may be centuries: [`super::Window`] caps it.
pub fn retry_after(value: &str, wall: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim_matches([' ', '\t']);
    if value.is_empty() || value.len() > MAX_LENGTH {
        return None;
    }
    if value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Only a number that is too large fails.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let parse = |form| NaiveDateTime::parse_from_str(value, form).ok();
    let date = DATES.into_iter().find_map(parse)?.and_utc();
    Some((date - wall).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read() {
        let wall = DateTime::parse_from_rfc3339("1994-11-06T08:49:07.5Z").unwrap();
        let seconds = |value| retry_after(value, wall.to_utc()).map(|wait| wait.as_secs_f64());
        for (value, expected) in [
            ("0", Some(0.0)),
            (" 120 ", Some(120.0)),
            ("315360000", Some(315_360_000.0)),
            ("99999999999999999999999999", Some(u64::MAX as f64)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(29.5)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(29.5)),
            ("Sun Nov  6 08:49:37 1994", Some(29.5)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0.0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(252_618_189_051.5)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("\u{0661}", None),
            ("Mon, 06 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 32 Nov 1994 08:49:37 GMT", None),
        ] {
            assert_eq!(seconds(value), expected, "{value}");
        }
        assert_eq!(seconds(&"1".repeat(65)), None);
    }
}
