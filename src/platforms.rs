//! Wire to domain: what a platform sent becomes an event or a [`Reject`].
//!
//! Pure. Whatever a message can cause is a value; nothing here panics on input, and no wire type
//! leaves its platform's file.

mod sdm;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::event::{Decoded, DedupeKey, Object, Platform, RawMessage, Reason, Reject};

/// Largest body that is decoded, in bytes. SDM's are below 4 KiB; Pub/Sub allows 10 MB, and what
/// is that large can't be an event. A larger one is quarantined.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// Deepest nesting of JSON that is decoded: `serde_json`'s own limit, which keeps its recursion
/// within a thread's stack. SDM's bodies are 6 deep.
pub const MAX_DEPTH: usize = 127;

/// What the settings say about decoding.
#[derive(Clone, Debug, Default)]
pub struct DecodeSettings {
    /// `enterprises/{project}`; resources of another one are flagged.
    pub enterprise: Option<String>,
}

/// Decodes one message.
pub fn decode(raw: &RawMessage, settings: &DecodeSettings) -> Decoded {
    let payload = match parse(&raw.body) {
        Ok(payload) => payload,
        Err(reject) => return rejected(raw, reject),
    };
    let key = hash(raw.platform, payload.to_string().as_bytes());
    let outcome = match (raw.platform, payload) {
        (Platform::Sdm, Value::Object(body)) => sdm::decode(raw, key, body, settings),
        (_, other) => Err(Reject::new(
            Reason::WrongType,
            format!("the payload is {}, expected an object", type_name(&other)),
        )),
    };
    Decoded {
        key,
        outcome: outcome.map(Box::new),
    }
}

/// A message that its source already found to be unusable, keyed by its raw bytes.
pub fn rejected(raw: &RawMessage, reject: Reject) -> Decoded {
    Decoded {
        key: hash(raw.platform, &raw.body),
        outcome: Err(reject),
    }
}

fn hash(platform: Platform, payload: &[u8]) -> DedupeKey {
    let digest = Sha256::new()
        .chain_update(platform.as_str())
        .chain_update(b"\n")
        .chain_update(payload)
        .finalize();
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    DedupeKey(key)
}

fn parse(body: &[u8]) -> Result<Value, Reject> {
    if body.len() > MAX_BODY_BYTES {
        let detail = format!("{} bytes, at most {MAX_BODY_BYTES} are decoded", body.len());
        return Err(Reject::new(Reason::TooLarge, detail));
    }
    let shape = Shape::of(body);
    let payload = serde_json::from_slice(body).map_err(|error| {
        if std::str::from_utf8(body).is_err() {
            Reject::new(Reason::NotUtf8, "the body is not UTF-8")
        } else if shape.depth > MAX_DEPTH {
            Reject::new(Reason::TooDeep, format!("nested deeper than {MAX_DEPTH}"))
        } else {
            Reject::new(Reason::NotJson, error.to_string())
        }
    })?;
    // The parser keeps the last of equal keys, so a pair is missing.
    if pairs(&payload) != shape.pairs {
        return Err(Reject::new(
            Reason::DuplicateKey,
            "an object has a key twice",
        ));
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

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Takes a text out of an object: `None` if it is missing or null, a reject if it is no text.
fn take_text(object: &mut Object, field: &str) -> Result<Option<String>, Reject> {
    match object.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong_type(field, &other, "a string")),
    }
}

/// Takes an object out of an object: `None` if it is missing or null, a reject if it is no object.
fn take_object(object: &mut Object, field: &str) -> Result<Option<Object>, Reject> {
    match object.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(inner)) => Ok(Some(inner)),
        Some(other) => Err(wrong_type(field, &other, "an object")),
    }
}

fn wrong_type(field: &str, found: &Value, expected: &str) -> Reject {
    let found = type_name(found);
    Reject::new(
        Reason::WrongType,
        format!("{field} is {found}, expected {expected}"),
    )
}
