//! JSON text to a value, by the text's own rules and within limits of size and depth.
//!
//! `serde_json`'s own conversion keeps some keys for itself: an object under such a key counts as a
//! number, or as a text to be parsed in turn, nested without limit, which overflows the stack. A
//! payload that has one is refused.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::event::{Reason, Reject};

/// What the keys begin with that `serde_json` keeps for itself.
const RESERVED: &str = "$serde_json::private::";

/// The key under which the parser hands over a number as it was written.
const NUMBER: &str = "$serde_json::private::Number";

/// Largest body that is decoded, in bytes. SDM's are below 4 KiB; Pub/Sub allows 10 MB, and what
/// is that large can't be an event. A larger one is quarantined.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// Deepest nesting of JSON that is decoded: less than `serde_json`'s own limit of 127, which keeps
/// its recursion within a thread's stack, since parts of the body lie deeper in an event's record
/// and must be read there too. SDM's bodies are 6 deep.
pub const MAX_DEPTH: usize = 120;

/// Reads one JSON document, or says why it is not taken.
pub(super) fn parse(body: &[u8]) -> Result<Value, Reject> {
    if body.len() > MAX_BODY_BYTES {
        let detail = format!("{} bytes, at most {MAX_BODY_BYTES} are decoded", body.len());
        return Err(Reject::new(Reason::TooLarge, detail));
    }
    let shape = Shape::of(body);
    let too_deep = || Reject::new(Reason::TooDeep, format!("nested deeper than {MAX_DEPTH}"));
    let payload = plain(body).map_err(|error| {
        if std::str::from_utf8(body).is_err() {
            Reject::new(Reason::NotUtf8, "the body is not UTF-8")
        } else if shape.depth > MAX_DEPTH {
            too_deep()
        } else {
            Reject::new(Reason::NotJson, error.to_string())
        }
    })?;
    if shape.depth > MAX_DEPTH {
        return Err(too_deep());
    }
    // The parser keeps the last of equal keys, so a pair is missing.
    if pairs(&payload) != shape.pairs {
        return Err(Reject::new(Reason::DuplicateKey, "an object has a key twice"));
    }
    Ok(payload)
}

/// What a look at the brackets and colons outside strings tells of a JSON text.
struct Shape {
    depth: usize,
    pairs: usize,
}

impl Shape {
    fn of(json: &[u8]) -> Self {
        let mut shape = Self { depth: 0, pairs: 0 };
        let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
        for byte in json {
            if in_string {
                in_string = escaped || *byte != b'"';
                escaped = !escaped && *byte == b'\\';
                continue;
            }
            match byte {
                b'"' => in_string = true,
                b':' => shape.pairs += 1,
                b'[' | b'{' => {
                    depth += 1;
                    shape.depth = shape.depth.max(depth);
                }
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        shape
    }
}

/// The number of key-value pairs in a value.
fn pairs(value: &Value) -> usize {
    match value {
        Value::Object(object) => object.len() + object.values().map(pairs).sum::<usize>(),
        Value::Array(items) => items.iter().map(pairs).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn plain(text: &[u8]) -> serde_json::Result<Value> {
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
            let read = plain(text.as_bytes()).unwrap();
            assert_eq!(read, expected);
            assert_eq!(read.to_string(), expected.to_string());
        }
        for text in ["", "[1", "{\"a\" 1}", "1 2", "\"\\ud800\"", "nul"] {
            assert!(plain(text.as_bytes()).is_err(), "{text}");
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
            assert!(plain(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn brackets_and_colons_in_texts_do_not_count() {
        for (json, depth, pairs) in [
            ("", 0, 0),
            ("[[], [{}]]", 3, 0),
            (r#"{"a": {"b:[": ":{\":"}}"#, 2, 2),
            (r#"{"\\": [1, {"c": "\\\""}]}"#, 3, 2),
            ("]]]{", 1, 0),
            ("\"{:", 0, 0),
        ] {
            let shape = Shape::of(json.as_bytes());
            assert_eq!((shape.depth, shape.pairs), (depth, pairs), "{json}");
        }
    }
}
