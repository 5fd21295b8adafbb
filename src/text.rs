//! Texts for people: errors with their causes, durations, sizes, and what others wrote.

use std::time::Duration;

use bytesize::ByteSize;

/// Longest part of a value that a message repeats, in characters: enough to recognise it, and still
/// one line.
const SHOWN_CHARS: usize = 120;

/// An error with its causes, in one line, each part once.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        // The client library's errors print their cause themselves.
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}

/// A text in quotes, escaped and cut, for an error message.
pub(crate) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN_CHARS).collect();
    let cut = if shown.len() < text.len() { "…" } else { "" };
    format!("{shown:?}{cut}")
}

/// A text of somebody else, for a terminal: without characters that would move its cursor, change
/// its colours, or begin a new line.
pub fn printable(text: &str) -> String {
    let shown = |character: char| {
        if character.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            character
        }
    };
    text.chars().map(shown).collect()
}

/// A length of time with its unit, such as `30s`. The error says what is expected.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str = "a duration with a unit (ms, s, m, h, d), such as \"30s\"";
    if !has_unit(text) {
        return Err(EXPECTED);
    }
    humantime::parse_duration(text).map_err(|_| EXPECTED)
}

/// A number of bytes with its unit, such as `64 MiB`. The error says what is expected.
pub(crate) fn parse_size(text: &str) -> Result<u64, &'static str> {
    const EXPECTED: &str = "a size with a unit (KiB, MiB, GiB, TiB), such as \"64 MiB\"";
    if !has_unit(text) {
        return Err(EXPECTED);
    }
    let ByteSize(bytes) = text.parse().map_err(|_| EXPECTED)?;
    Ok(bytes)
}

fn has_unit(text: &str) -> bool {
    text.contains(char::is_alphabetic)
}

/// A length of time as a setting spells it, exact to the millisecond: `90s`.
pub(crate) fn show_duration(duration: &Duration) -> String {
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
        (1, "ms"),
    ];
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if milliseconds == 0 {
        "0s".to_owned()
    } else {
        in_largest_unit(milliseconds, &units)
    }
}

/// A length of time as people say it, in whole seconds: `1m 30s`.
pub(crate) fn spell_duration(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}

/// A number of bytes as a setting spells it, exact: `64 MiB`.
pub(crate) fn show_size(bytes: &u64) -> String {
    let units = [
        (1 << 40, " TiB"),
        (1 << 30, " GiB"),
        (1 << 20, " MiB"),
        (1, " B"),
    ];
    in_largest_unit(*bytes, &units)
}

/// A number of bytes, rounded: `1.5 GiB`.
pub(crate) fn round_size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// The largest unit that leaves no fraction.
fn in_largest_unit(amount: u64, units: &[(u64, &str)]) -> String {
    let fitting = units
        .iter()
        .find(|(unit, _)| amount >= *unit && amount.is_multiple_of(*unit));
    fitting
        .or(units.last())
        .map_or(String::new(), |(unit, name)| {
            format!("{}{name}", amount / unit)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_shows_in_its_largest_whole_unit() {
        let shown =
            [0, 1, 60, 90, 3_600, 90 * 86_400].map(|n| show_duration(&Duration::from_secs(n)));
        assert_eq!(shown, ["0s", "1s", "1m", "90s", "1h", "90d"]);
        assert_eq!(
            [1, 1 << 20, 4 << 30, 1 << 40].map(|n| show_size(&n)),
            ["1 B", "1 MiB", "4 GiB", "1 TiB"]
        );
        assert_eq!(spell_duration(Duration::from_millis(90_900)), "1m 30s");
        assert_eq!(round_size(3 << 29), "1.5 GiB");
    }

    #[test]
    fn an_amount_without_a_unit_is_refused() {
        assert_eq!(parse_duration("1500ms"), Ok(Duration::from_millis(1_500)));
        assert_eq!(parse_size("64 MiB"), Ok(64 << 20));
        for text in ["", "0", "30", "-1s", "a week", "1 gigabyte"] {
            assert!(parse_duration(text).is_err(), "{text}");
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        assert_eq!(quoted("a\nb"), "\"a\\nb\"");
        let cut = quoted(&"ü".repeat(SHOWN_CHARS + 1));
        assert_eq!(cut, format!("\"{}\"…", "ü".repeat(SHOWN_CHARS)));
    }
}
