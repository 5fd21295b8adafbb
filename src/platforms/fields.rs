//! What all platforms read payloads with: typed fields, and limits of their size.

use std::fmt;

use serde_json::Value;

use crate::event::{Object, Reason, Reject};

/// Longest name, id or address that is taken, in bytes. Caches and maps keep them by their number,
/// so only this bounds what those take. SDM's have tens to some hundred bytes, the signed addresses
/// of its clips less than 2 KiB.
pub(super) const MAX_TEXT_BYTES: usize = 4 << 10;

/// What the settings say about decoding.
#[derive(Clone, Debug, Default)]
pub struct DecodeSettings {
    /// `enterprises/{project}`; resources of another one are flagged.
    pub enterprise: Option<String>,
}

pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Takes a text out of an object: `None` if it is missing or null, a reject if it is no text or too
/// long.
pub(super) fn take_text(object: &mut Object, field: &str) -> Result<Option<String>, Reject> {
    match object.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => check_text(field, &text).map(|()| Some(text)),
        Some(other) => Err(wrong_type(field, &other, "a string")),
    }
}

/// Takes an object out of an object: `None` if it is missing or null, a reject if it is no object.
pub(super) fn take_object(object: &mut Object, field: &str) -> Result<Option<Object>, Reject> {
    match object.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(inner)) => Ok(Some(inner)),
        Some(other) => Err(wrong_type(field, &other, "an object")),
    }
}

/// Refuses a name, an id or an address that is too long.
pub(super) fn check_text(what: impl fmt::Display, text: &str) -> Result<(), Reject> {
    check_size(what, text.len(), "bytes", MAX_TEXT_BYTES)
}

/// Refuses more of something than is kept, without showing it.
pub(super) fn check_size(
    what: impl fmt::Display,
    size: usize,
    unit: &str,
    limit: usize,
) -> Result<(), Reject> {
    if size <= limit {
        return Ok(());
    }
    let detail = format!("{what} has {size} {unit}, at most {limit} are taken");
    Err(Reject::new(Reason::TooLarge, detail))
}

pub(super) fn wrong_type(field: &str, found: &Value, expected: &str) -> Reject {
    let found = type_name(found);
    Reject::new(
        Reason::WrongType,
        format!("{field} is {found}, expected {expected}"),
    )
}
