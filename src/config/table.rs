//! One table of raw values, read key by key into typed ones: units, ranges, fixed words, and the
//! wording of faults.
//!
//! It must not know what a setting is for, its default or its bounds: the caller passes them.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use ::config::{Map, Value, ValueKind};
use bytesize::ByteSize;

use super::file::{Fault, variable_of};

/// Longest part of a value that a fault repeats, in characters: enough to recognise it, and still
/// one line.
const SHOWN_CHARS: usize = 120;

/// A setting's default and the values that it may take.
pub(super) struct Limits<T> {
    pub(super) default: T,
    pub(super) range: RangeInclusive<T>,
}

/// One table while it is read, with a method per type of value. Each takes a key and notes a fault
/// if its value is wrong; a missing key is no fault, but the default or `None`.
pub(super) struct Table<'a> {
    path: String,
    values: Map<String, Value>,
    known: Vec<&'static str>,
    overridden: &'a BTreeSet<String>,
    faults: &'a mut Vec<Fault>,
}

impl<'a> Table<'a> {
    pub(super) fn new(
        path: String,
        values: Map<String, Value>,
        overridden: &'a BTreeSet<String>,
        faults: &'a mut Vec<Fault>,
    ) -> Self {
        Self {
            path,
            values,
            known: Vec::new(),
            overridden,
            faults,
        }
    }

    /// How faults name this table.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    fn path_of(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// Notes a fault of `key`.
    pub(super) fn fault(&mut self, key: &str, message: impl fmt::Display) {
        let key = self.path_of(key);
        let origin = if self.overridden.contains(&key) {
            format!(" (from {})", variable_of(&key))
        } else {
            String::new()
        };
        self.faults.push(Fault {
            key,
            message: format!("{message}{origin}"),
        });
    }

    /// Notes a fault if `key` is missing.
    pub(super) fn require(&mut self, key: &str, advice: &str) {
        if !self.values.contains_key(key) {
            self.fault(key, format!("is missing; {advice}"));
        }
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.read(key, "a string in quotes, and not an empty one", |value| {
            text_of(value)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        })
    }

    /// A text that `parse` understands; its error is the fault's message.
    pub(super) fn parsed<T, E: fmt::Display>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(key)?;
        parse(&text).map_err(|error| self.fault(key, error)).ok()
    }

    /// A whole number. A variable is always a text, so there the text may spell the number.
    pub(super) fn count(&mut self, key: &'static str, limits: &Limits<u32>) -> u32 {
        let spelled = self.overridden.contains(&self.path_of(key));
        let parse = |value: &Value| match text_of(value) {
            Some(text) => text.parse().ok().filter(|_| spelled),
            None => whole_number(value),
        };
        // Compares in a type that holds all of TOML's numbers, so that -1 is out of range and not
        // another number.
        let (min, max) = (
            i64::from(*limits.range.start()),
            i64::from(*limits.range.end()),
        );
        let wide = Limits {
            default: i64::from(limits.default),
            range: min..=max,
        };
        let expected = "a whole number without quotes";
        let number = self.quantity(key, expected, &wide, parse, i64::to_string);
        u32::try_from(number).unwrap_or(limits.default)
    }

    /// A length of time with its unit, such as `"2s"`.
    pub(super) fn duration(&mut self, key: &'static str, limits: &Limits<Duration>) -> Duration {
        let parse = |value: &Value| humantime::parse_duration(with_unit(value)?).ok();
        let expected = "a duration with a unit (ms, s, m, h, d), such as \"30s\"";
        self.quantity(key, expected, limits, parse, show_duration)
    }

    /// A number of bytes with its unit, such as `"64 MiB"`.
    pub(super) fn size(&mut self, key: &'static str, limits: &Limits<u64>) -> u64 {
        let parse = |value: &Value| with_unit(value)?.parse().ok().map(|ByteSize(bytes)| bytes);
        let expected = "a size with a unit (KiB, MiB, GiB, TiB), such as \"64 MiB\"";
        self.quantity(key, expected, limits, parse, show_size)
    }

    /// A value that must lie in a range.
    fn quantity<T: Copy + PartialOrd>(
        &mut self,
        key: &'static str,
        expected: &str,
        limits: &Limits<T>,
        parse: impl FnOnce(&Value) -> Option<T>,
        show: impl Fn(&T) -> String,
    ) -> T {
        let read = self.read(key, expected, |value| Some((parse(value)?, shown(value))));
        let Some((quantity, shown)) = read else {
            return limits.default;
        };
        if limits.range.contains(&quantity) {
            return quantity;
        }
        let (min, max) = (show(limits.range.start()), show(limits.range.end()));
        self.fault(
            key,
            format!("{shown} is outside the valid range of {min} to {max}"),
        );
        limits.default
    }

    /// One of a fixed set of words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, all: &[(&str, T)]) -> Option<T> {
        self.parsed(key, |word| pick(word, all))
    }

    /// A list with at least one of a fixed set of words, each at most once.
    pub(super) fn choices<T: Copy>(
        &mut self,
        key: &'static str,
        all: &[(&str, T)],
    ) -> Option<Vec<T>> {
        let expected = format!("a list with at least one of: {}", names(all));
        let words = self.read(key, &expected, |value| {
            strings_of(value).filter(|words| !words.is_empty())
        })?;
        let mut picked = Vec::new();
        for (index, word) in words.iter().enumerate() {
            match pick(word, all) {
                Ok(_) if words[..index].contains(word) => {
                    self.fault(key, format!("{word:?} is listed twice; name it once"));
                }
                Ok(choice) => picked.push(choice),
                Err(message) => self.fault(key, message),
            }
        }
        Some(picked)
    }

    /// Takes the value of `key`, if there is one; notes a fault if `convert` refuses it.
    fn read<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        convert: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key);
        let value = self.values.remove(key)?;
        let converted = convert(&value);
        if converted.is_none() {
            self.fault(key, format!("expected {expected}, found {}", shown(&value)));
        }
        converted
    }

    /// Notes a fault for every key that nobody asked for.
    #[expect(
        clippy::disallowed_methods,
        reason = "faults are sorted before they are shown"
    )]
    pub(super) fn refuse_unknown_keys(mut self) {
        let known = self.known.join(", ");
        for key in std::mem::take(&mut self.values).into_keys() {
            // The value stays out of the message: under a key that we do not know, it may be a
            // secret.
            self.fault(
                &shown_key(&key),
                format!("unknown key, expected one of: {known}"),
            );
        }
    }
}

/// Refuses an unknown word with the list of the known ones.
fn pick<T: Copy>(word: &str, all: &[(&str, T)]) -> Result<T, String> {
    let known = all
        .iter()
        .find(|(name, _)| *name == word)
        .map(|(_, choice)| *choice);
    known.ok_or_else(|| {
        format!(
            "unknown value {}, expected one of: {}",
            quoted(word),
            names(all)
        )
    })
}

/// The words of a fixed set, for a fault to list.
pub(super) fn names<T>(all: &[(&str, T)]) -> String {
    all.iter()
        .map(|(name, _)| *name)
        .collect::<Vec<_>>()
        .join(", ")
}

fn text_of(value: &Value) -> Option<&str> {
    if let ValueKind::String(text) = &value.kind {
        Some(text)
    } else {
        None
    }
}

/// The text of a quantity, unless the unit is missing.
fn with_unit(value: &Value) -> Option<&str> {
    text_of(value).filter(|text| text.contains(|c: char| c.is_alphabetic()))
}

fn strings_of(value: &Value) -> Option<Vec<String>> {
    let ValueKind::Array(values) = &value.kind else {
        return None;
    };
    values
        .iter()
        .map(|value| text_of(value).map(str::to_owned))
        .collect()
}

fn whole_number(value: &Value) -> Option<i64> {
    // TOML has no other whole numbers.
    if let ValueKind::I64(number) = value.kind {
        Some(number)
    } else {
        None
    }
}

/// A value as a fault shows it: in one line, and not at any length.
pub(super) fn shown(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => quoted(text),
        ValueKind::Array(values) if values.is_empty() => "an empty list".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Nil => "nothing".to_owned(),
        number @ (ValueKind::Boolean(_)
        | ValueKind::I64(_)
        | ValueKind::I128(_)
        | ValueKind::U64(_)
        | ValueKind::U128(_)
        | ValueKind::Float(_)) => number.to_string(),
    }
}

/// A key as a fault shows it: in quotes if the file needs them too.
pub(super) fn shown_key(key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(is_bare) {
        key.to_owned()
    } else {
        quoted(key)
    }
}

/// A text in quotes, escaped and cut, as a fault shows it.
pub(super) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN_CHARS).collect();
    let cut = if shown.len() < text.len() { "…" } else { "" };
    format!("{shown:?}{cut}")
}

/// A length of time as a setting spells it.
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

fn show_size(bytes: &u64) -> String {
    in_largest_unit(
        *bytes,
        &[
            (1 << 40, " TiB"),
            (1 << 30, " GiB"),
            (1 << 20, " MiB"),
            (1, " B"),
        ],
    )
}

/// The largest unit that leaves no fraction; bounds are whole in one of them.
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
    fn bounds_show_in_their_largest_whole_unit() {
        let shown =
            [0, 1, 60, 90, 3_600, 90 * 86_400].map(|n| show_duration(&Duration::from_secs(n)));
        assert_eq!(shown, ["0s", "1s", "1m", "90s", "1h", "90d"]);
        assert_eq!(
            [1, 1 << 20, 4 << 30, 1 << 40].map(|n| show_size(&n)),
            ["1 B", "1 MiB", "4 GiB", "1 TiB"]
        );
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        assert_eq!(quoted("a\nb"), "\"a\\nb\"");
        let cut = quoted(&"ü".repeat(SHOWN_CHARS + 1));
        assert_eq!(cut, format!("\"{}\"…", "ü".repeat(SHOWN_CHARS)));
    }
}
