//! JSON text to a value, by the text's own rules and within the parser's limit of depth.
//!
//! `serde_json`'s own conversion keeps some keys for itself: an object under such a key counts as a
//! number, or as a text to be parsed in turn, nested without limit, which overflows the stack. A
//! payload that has one is refused.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// What the keys begin with that `serde_json` keeps for itself.
const RESERVED: &str = "$serde_json::private::";

/// The key under which the parser hands over a number as it was written.
const NUMBER: &str = "$serde_json::private::Number";

/// Reads one JSON document.
pub(super) fn parse(text: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(text).map(|Plain(value)| value)
}

struct Plain(Value);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlainVisitor).map(Self)
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    // The parser hands over small numbers like this, and all others under `NUMBER`.
    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Plain(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = fields.next_key()? {
            match key {
                Key::Plain(name) => {
                    let Plain(value) = fields.next_value()?;
                    object.insert(name, value);
                }
                // A real object under this key comes out as a number too, which its missing pair
                // gives away.
                Key::Number if object.is_empty() => {
                    let text: String = fields.next_value()?;
                    return text.parse::<Number>().map(Value::Number).map_err(Error::custom);
                }
                Key::Number | Key::Reserved => {
                    return Err(Error::custom("a key that the JSON parser keeps for itself"));
                }
            }
        }
        Ok(Value::Object(object))
    }
}

enum Key {
    Plain(String),
    Number,
    Reserved,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, text: &str) -> Result<Key, E> {
        Ok(match text {
            NUMBER => Key::Number,
            text if text.starts_with(RESERVED) => Key::Reserved,
            text => Key::Plain(text.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_serde_json_reads() {
        for text in [
            "null",
            " [true, false, \"\\u00fc\", {}] ",
            "[1, -7, 65.0, 6.50e1, 6E+1, -0, -0.0, 0.1, 1e999, 1e-999]",
            "[18446744073709551615, -9223372036854775808, 12345678901234567890123]",
            r#"{"b": 1, "a": {"": null}}"#,
        ] {
            let expected: Value = serde_json::from_str(text).unwrap();
            let read = parse(text.as_bytes()).unwrap();
            assert_eq!(read, expected);
            assert_eq!(read.to_string(), expected.to_string());
        }
        for text in ["", "[1", "{\"a\" 1}", "1 2", "\"\\ud800\"", "nul"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_of_the_parser_are_refused_also_when_they_are_escaped() {
        for text in [
            r#"{"$serde_json::private::RawValue": "[]"}"#,
            r#"{"\u0024serde_json::private::RawValue": "[]"}"#,
            r#"{"a": 1, "$serde_json::private::Number": "1"}"#,
            r#"{"$serde_json::private::Number": "x"}"#,
            r#"{"$serde_json::private::Number": {}}"#,
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
