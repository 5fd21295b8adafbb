//! One table of raw values, read key by key into typed ones: units, ranges, fixed words, tables in
//! it, and the wording of faults.
//!
//! It must not know what a setting is for, its default or its bounds: the caller passes them.

use std::fmt;
use std::time::Duration;

use ::config::{Map, Value, ValueKind};
use strum::VariantArray;

use super::fault::{Fault, Overrides};
use super::limits::Limits;
use crate::text::{parse_duration, parse_size, quoted, show_duration, show_size};

/// One table while it is read, with a method per type of value. Each takes a key and notes a fault
/// if its value is wrong; a missing key is no fault, but the default or `None`.
pub(super) struct Table<'a> {
    path: String,
    values: Map<String, Value>,
    known: Vec<&'static str>,
    overrides: &'a Overrides,
    faults: &'a mut Vec<Fault>,
}

impl<'a> Table<'a> {
    /// What `read` makes of a table. The keys that it did not ask for are faults.
    pub(super) fn read<T>(
        path: String,
        values: Map<String, Value>,
        overrides: &'a Overrides,
        faults: &'a mut Vec<Fault>,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let mut table = Self {
            path,
            values,
            known: Vec::new(),
            overrides,
            faults,
        };
        let result = read(&mut table);
        table.refuse_unknown_keys();
        result
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
        let fault = Fault::of_setting(self.path_of(key), message, self.overrides);
        self.faults.push(fault);
    }

    /// Notes a fault if `key` is missing.
    pub(super) fn require(&mut self, key: &str, advice: &str) {
        if !self.values.contains_key(key) {
            self.fault(key, format_args!("is missing; {advice}"));
        }
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.value(key, |value| match text_of(value) {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            Some(_) | None => Err("a string in quotes, and not an empty one"),
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
        let is_variable = self.overrides.contains_key(&self.path_of(key));
        let parse = |value: &Value| {
            let number = match text_of(value) {
                Some(text) => text.parse().ok().filter(|_| is_variable),
                None => whole_number(value),
            };
            number.ok_or("a whole number without quotes")
        };
        // Compares in a type that holds all of TOML's numbers, so that -1 is out of range and not
        // another number.
        let least = i64::from(*limits.range.start());
        let most = i64::from(*limits.range.end());
        let wide = Limits::new(i64::from(limits.default), least, most);
        let number = self.quantity(key, &wide, parse, i64::to_string);
        u32::try_from(number).unwrap_or(limits.default)
    }

    /// A length of time with its unit, such as `"2s"`.
    pub(super) fn duration(&mut self, key: &'static str, limits: &Limits<Duration>) -> Duration {
        let parse = |value: &Value| parse_duration(text_of(value).unwrap_or_default());
        self.quantity(key, limits, parse, show_duration)
    }

    /// A number of bytes with its unit, such as `"64 MiB"`.
    pub(super) fn size(&mut self, key: &'static str, limits: &Limits<u64>) -> u64 {
        let parse = |value: &Value| parse_size(text_of(value).unwrap_or_default());
        self.quantity(key, limits, parse, show_size)
    }

    /// A value that must lie in a range.
    fn quantity<T: Copy + PartialOrd>(
        &mut self,
        key: &'static str,
        limits: &Limits<T>,
        parse: impl FnOnce(&Value) -> Result<T, &'static str>,
        show: impl Fn(&T) -> String,
    ) -> T {
        let read = self.value(key, |value| {
            parse(value).map(|quantity| (quantity, shown(value)))
        });
        let Some((quantity, text)) = read else {
            return limits.default;
        };
        if limits.range.contains(&quantity) {
            return quantity;
        }
        let least = show(limits.range.start());
        let most = show(limits.range.end());
        let message = format!("{text} is outside the valid range of {least} to {most}");
        self.fault(key, message);
        limits.default
    }

    /// One of a fixed set of words.
    pub(super) fn choice<T>(&mut self, key: &'static str) -> Option<T>
    where
        T: VariantArray + Copy + Into<&'static str>,
    {
        self.parsed(key, |word| pick(word, &words()))
    }

    /// A list with at least one of a fixed set of words, each at most once.
    pub(super) fn choices<T: Copy>(
        &mut self,
        key: &'static str,
        all: &[(&str, T)],
    ) -> Option<Vec<T>> {
        let expected = format!("a list with at least one of: {}", names(all));
        let listed = self.value(key, |value| match texts_of(value) {
            Some(texts) if !texts.is_empty() => Ok(texts),
            Some(_) | None => Err(&*expected),
        })?;
        let mut picked = Vec::new();
        for (index, word) in listed.iter().enumerate() {
            match pick(word, all) {
                Ok(_) if listed[..index].contains(word) => {
                    self.fault(key, format!("{word:?} is listed twice; name it once"));
                }
                Ok(choice) => picked.push(choice),
                Err(message) => self.fault(key, message),
            }
        }
        Some(picked)
    }

    /// A list of texts, which may be empty, each of which `parse` takes, and each at most once.
    pub(super) fn texts<T, E: fmt::Display>(
        &mut self,
        key: &'static str,
        most: usize,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        let expected = "a list of strings in quotes";
        let listed = self.value(key, |value| texts_of(value).ok_or(expected));
        let listed = listed.unwrap_or_default();
        if listed.len() > most {
            let message = format!("{} texts are more than {most}, the most", listed.len());
            self.fault(key, message);
        }
        let mut parsed = Vec::new();
        for (index, text) in listed.iter().enumerate() {
            match parse(text) {
                Ok(_) if listed[..index].contains(text) => {
                    let text = quoted(text);
                    self.fault(key, format_args!("{text} is listed twice; name it once"));
                }
                Ok(value) => parsed.push(value),
                Err(error) => self.fault(key, error),
            }
        }
        parsed
    }

    /// True or false; false if it is missing.
    pub(super) fn flag(&mut self, key: &'static str) -> bool {
        let flag = self.value(key, |value| {
            let ValueKind::Boolean(flag) = value.kind else {
                return Err("true or false, without quotes");
            };
            Ok(flag)
        });
        flag.unwrap_or_default()
    }

    /// What `read` makes of the table below `key`; a missing one is empty.
    pub(super) fn table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Table<'_>) -> T,
    ) -> Option<T> {
        let path = self.path_of(key);
        let values = if self.values.contains_key(key) {
            self.value(key, |value| table_of(value).cloned().ok_or("a table"))?
        } else {
            self.known.push(key);
            Map::new()
        };
        Some(Table::read(path, values, self.overrides, self.faults, read))
    }

    /// Takes `key` for known, whatever it holds, where something else is at fault.
    pub(super) fn ignore(&mut self, key: &str) {
        self.values.remove(key);
    }

    /// Takes the value of `key`, if there is one; notes a fault if `convert` refuses it, with what
    /// it expected.
    fn value<T, E: fmt::Display>(
        &mut self,
        key: &'static str,
        convert: impl FnOnce(&Value) -> Result<T, E>,
    ) -> Option<T> {
        self.known.push(key);
        let value = self.values.remove(key)?;
        match convert(&value) {
            Ok(converted) => Some(converted),
            Err(expected) => {
                self.fault(key, format!("expected {expected}, found {}", shown(&value)));
                None
            }
        }
    }

    /// Notes a fault for every key that nobody asked for. Their values stay out of it: under a key
    /// that we do not know, one may be a secret.
    #[expect(
        clippy::disallowed_methods,
        reason = "faults are sorted before they are shown"
    )]
    fn refuse_unknown_keys(mut self) {
        let message = if self.known.is_empty() {
            "unknown key; this table has none".to_owned()
        } else {
            format!("unknown key, expected one of: {}", self.known.join(", "))
        };
        for key in std::mem::take(&mut self.values).into_keys() {
            self.fault(&shown_key(&key), &message);
        }
    }
}

/// The variants of an enum with their names.
pub(super) fn words<T>() -> Vec<(&'static str, T)>
where
    T: VariantArray + Copy + Into<&'static str>,
{
    T::VARIANTS
        .iter()
        .map(|variant| ((*variant).into(), *variant))
        .collect()
}

/// The words of a fixed set, for a fault to list.
pub(super) fn names<T>(all: &[(&str, T)]) -> String {
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

/// Refuses an unknown word with the list of the known ones.
fn pick<T: Copy>(word: &str, all: &[(&str, T)]) -> Result<T, String> {
    let known = all.iter().find(|(name, _)| *name == word);
    known.map(|(_, choice)| *choice).ok_or_else(|| {
        let names = names(all);
        format!("unknown value {}, expected one of: {names}", quoted(word))
    })
}

fn text_of(value: &Value) -> Option<&str> {
    if let ValueKind::String(text) = &value.kind {
        Some(text)
    } else {
        None
    }
}

fn table_of(value: &Value) -> Option<&Map<String, Value>> {
    if let ValueKind::Table(values) = &value.kind {
        Some(values)
    } else {
        None
    }
}

fn texts_of(value: &Value) -> Option<Vec<String>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The faults of reading `[t]` from a TOML text.
    fn faults(toml: &str, read: impl FnOnce(&mut Table<'_>)) -> Vec<String> {
        let file = ::config::File::from_str(toml, ::config::FileFormat::Toml);
        let values = ::config::Source::collect(&file).unwrap();
        let mut faults = Vec::new();
        Table::read("t".to_owned(), values, &Overrides::new(), &mut faults, read);
        faults.sort();
        faults.iter().map(Fault::to_string).collect()
    }

    #[test]
    fn a_table_in_a_table_has_keys_and_faults_of_its_own() {
        let read = |table: &mut Table<'_>| {
            let read = |inner: &mut Table<'_>| {
                inner.require("key", "name one");
                inner.text("key")
            };
            table.table("inner", read);
            table.table("empty", |_| ());
        };
        let of = |toml| faults(toml, read);
        assert_eq!(of("[inner]\nkey = \"a\"\n[empty]"), [""; 0]);
        assert_eq!(of(""), ["t.inner.key: is missing; name one"]);
        assert_eq!(of("inner = 1"), ["t.inner: expected a table, found 1"]);
        assert_eq!(
            of("[inner]\nkey = \"a\"\nother = 1\n[empty]\nother = 1\n[third]"),
            [
                "t.empty.other: unknown key; this table has none",
                "t.inner.other: unknown key, expected one of: key",
                "t.third: unknown key, expected one of: inner, empty",
            ]
        );
    }
}
