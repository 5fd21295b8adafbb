//! JSON text to a value, by the text's own rules and within limits of size and depth.
//!
//! `serde_json`'s own conversion takes the last of equal keys, and it keeps some keys for itself: a
//! text under one of them is parsed in turn, nested without limit, which overflows the stack. Here
//! both are refused. (A lone number under another such key reads as that number: harmless.)

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::event::{Reason, Reject};

/// Largest body that is decoded, in bytes. SDM's are below 4 KiB; Pub/Sub allows 10 MB, and what
/// is that large can't be an event. A larger one is quarantined.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// Deepest nesting of JSON that is decoded: less than `serde_json`'s own limit of 127, which keeps
/// its recursion within a thread's stack, since parts of the body lie deeper in an event's record
/// and must be read there too. SDM's bodies are 6 deep.
pub const MAX_DEPTH: usize = 120;

/// What the keys begin with that `serde_json` keeps for itself.
const RESERVED: &str = "$serde_json::private::";

/// The key under which the parser hands over a number as it was written.
const NUMBER: &str = "$serde_json::private::Number";

// By these texts a fault is told from the parser's own.
const TOO_DEEP: &str = "nested too deep";
const DUPLICATE: &str = "an object has a key twice";

/// Reads one JSON document, or says why it is not taken.
pub(super) fn parse(body: &[u8]) -> Result<Value, Reject> {
    if body.len() > MAX_BODY_BYTES {
        let detail = format!("{} bytes, at most {MAX_BODY_BYTES} are decoded", body.len());
        return Err(Reject::new(Reason::TooLarge, detail));
    }
    let mut parser = serde_json::Deserializer::from_slice(body);
    let value = Nested { depth: 0 }.deserialize(&mut parser);
    value
        .and_then(|value| parser.end().map(|()| value))
        .map_err(|error| {
            let detail = error.to_string();
            if std::str::from_utf8(body).is_err() {
                return Reject::new(Reason::NotUtf8, "the body is not UTF-8");
            }
            let reason = match &detail {
                detail if detail.starts_with(TOO_DEEP) => Reason::TooDeep,
                detail if detail.starts_with(DUPLICATE) => Reason::DuplicateKey,
                _ => Reason::NotJson,
            };
            Reject::new(reason, detail)
        })
}

/// A value that lies inside so many arrays and objects.
#[derive(Clone, Copy)]
struct Nested {
    depth: usize,
}

impl Nested {
    fn inner<E: Error>(self) -> Result<Self, E> {
        let depth = self.depth + 1;
        if depth > MAX_DEPTH {
            return Err(E::custom(format_args!("{TOO_DEEP}, at most {MAX_DEPTH}")));
        }
        Ok(Self { depth })
    }
}

impl<'de> DeserializeSeed<'de> for Nested {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested {
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
        let inner = self.inner()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            if key == NUMBER && object.is_empty() {
                let text: String = fields.next_value()?;
                return text
                    .parse::<Number>()
                    .map(Value::Number)
                    .map_err(A::Error::custom);
            }
            if key.starts_with(RESERVED) {
                return Err(A::Error::custom(
                    "a key that the JSON parser keeps for itself",
                ));
            }
            let value = fields.next_value_seed(self.inner()?)?;
            if object.insert(key, value).is_some() {
                return Err(A::Error::custom(DUPLICATE));
            }
        }
        // An empty object is nested too.
        self.inner::<A::Error>()?;
        Ok(Value::Object(object))
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
