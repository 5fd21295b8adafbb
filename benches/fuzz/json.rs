//! JSON as it is written, with all that a parser would lose: equal keys, scalars of any
//! text. Mutates its structure; knows no name of SDM.

use fastrand::Rng;
use serde_json::Value;

/// A JSON text in parts, each kept as it is written.
#[derive(Clone, Debug)]
pub(crate) enum Json {
    /// Any text: a scalar, or something that is no JSON at all.
    Text(String),
    Array(Vec<Self>),
    /// An object: its keys with their quotes, and their values.
    Object(Vec<(String, Self)>),
}

/// Where a mutation finds its material.
pub(crate) trait Words {
    /// A key with its quotes.
    fn key(&mut self, rng: &mut Rng) -> String;
    /// A value of any kind.
    fn value(&mut self, rng: &mut Rng) -> Json;
}

impl Json {
    /// Reads a JSON text; `None` if it is none.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text)
            .ok()
            .map(|value: Value| Self::from(&value))
    }

    /// A text in quotes, escaped as JSON wants it.
    pub(crate) fn quoted(text: &str) -> String {
        Value::from(text).to_string()
    }

    /// The JSON text.
    pub(crate) fn write(&self) -> String {
        let mut text = String::new();
        self.write_to(&mut text);
        text
    }

    fn write_to(&self, text: &mut String) {
        match self {
            Self::Text(own) => text.push_str(own),
            Self::Array(items) => {
                text.push('[');
                for (index, item) in items.iter().enumerate() {
                    text.push_str(if index == 0 { "" } else { "," });
                    item.write_to(text);
                }
                text.push(']');
            }
            Self::Object(fields) => {
                text.push('{');
                for (index, (key, value)) in fields.iter().enumerate() {
                    text.push_str(if index == 0 { "" } else { "," });
                    text.push_str(key);
                    text.push(':');
                    value.write_to(text);
                }
                text.push('}');
            }
        }
    }

    /// Calls `change` with every field of every object.
    pub(crate) fn for_each_field(&mut self, change: &mut impl FnMut(&str, &mut Self)) {
        match self {
            Self::Text(_) => {}
            Self::Array(items) => items
                .iter_mut()
                .for_each(|item| item.for_each_field(change)),
            Self::Object(fields) => {
                for (key, value) in fields {
                    change(key, value);
                    value.for_each_field(change);
                }
            }
        }
    }

    /// Changes one random part in a random way.
    pub(crate) fn mutate(&mut self, words: &mut impl Words, rng: &mut Rng) {
        let donor = self
            .part(rng.usize(0..self.parts()))
            .map_or(Self::null(), |part| part.clone());
        let index = rng.usize(0..self.parts());
        let Some(part) = self.part(index) else { return };
        match (rng.u32(0..10), &mut *part) {
            (0..5, Self::Object(fields)) => mutate_object(fields, donor, words, rng),
            (0..5, Self::Array(items)) => mutate_array(items, donor, words, rng),
            (0..3, Self::Text(_)) | (5..7, _) => *part = words.value(rng),
            (3..5, Self::Text(_)) | (7, _) => *part = donor,
            (8, _) => *part = Self::Text(nested(&part.write(), rng)),
            (_, _) => *part = Self::Text(repeated(part, words, rng)),
        }
    }

    fn null() -> Self {
        Self::Text("null".to_owned())
    }

    /// Number of parts, itself among them.
    fn parts(&self) -> usize {
        1 + match self {
            Self::Text(_) => 0,
            Self::Array(items) => items.iter().map(Self::parts).sum(),
            Self::Object(fields) => fields.iter().map(|(_, value)| value.parts()).sum::<usize>(),
        }
    }

    /// The part with that number, in the order in which they are written.
    fn part(&mut self, index: usize) -> Option<&mut Self> {
        if index == 0 {
            return Some(self);
        }
        let children: Vec<&mut Self> = match self {
            Self::Text(_) => Vec::new(),
            Self::Array(items) => items.iter_mut().collect(),
            Self::Object(fields) => fields.iter_mut().map(|(_, value)| value).collect(),
        };
        let mut index = index - 1;
        for child in children {
            let parts = child.parts();
            if index < parts {
                return child.part(index);
            }
            index -= parts;
        }
        None
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        match value {
            Value::Array(items) => Self::Array(items.iter().map(Self::from).collect()),
            Value::Object(fields) => {
                let field = |(key, value): (&String, &Value)| (Self::quoted(key), value.into());
                Self::Object(fields.iter().map(field).collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                Self::Text(value.to_string())
            }
        }
    }
}

fn mutate_object(
    fields: &mut Vec<(String, Json)>,
    donor: Json,
    words: &mut impl Words,
    rng: &mut Rng,
) {
    if fields.is_empty() {
        return fields.push((words.key(rng), donor));
    }
    let index = rng.usize(0..fields.len());
    match rng.u32(0..6) {
        0 => drop(fields.remove(index)),
        1 => fields[index].0 = words.key(rng),
        2 => fields[index].1 = words.value(rng),
        // The same key again, with an equal or another value.
        3 => fields.push((fields[index].0.clone(), donor)),
        4 => fields.push((words.key(rng), words.value(rng))),
        _ => rng.shuffle(fields),
    }
}

fn mutate_array(items: &mut Vec<Json>, donor: Json, words: &mut impl Words, rng: &mut Rng) {
    match rng.u32(0..4) {
        0 if !items.is_empty() => drop(items.remove(rng.usize(0..items.len()))),
        1 => items.push(words.value(rng)),
        2 => items.push(donor),
        _ => items.clear(),
    }
}

/// Lies in so many arrays or objects, around the limits of parsers and far beyond.
fn nested(text: &str, rng: &mut Rng) -> String {
    let depth = match rng.u32(0..20) {
        0..8 => rng.usize(1..8),
        8..19 => rng.usize(105..132),
        _ => rng.usize(1_000..200_000),
    };
    let (open, close) = if rng.bool() {
        ("[", "]")
    } else {
        (r#"{"a":"#, "}")
    };
    format!("{}{text}{}", open.repeat(depth), close.repeat(depth))
}

/// Many times itself, as an array or as an object with a key for each.
fn repeated(part: &Json, words: &mut impl Words, rng: &mut Rng) -> String {
    let text = part.write();
    let most = match rng.u32(0..100) {
        0..70 => 8,
        70..99 => 600,
        _ => 100_000,
    };
    let count = rng.usize(0..most).min((1 << 20) / (text.len() + 8));
    if rng.bool() {
        return format!("[{}]", vec![text; count].join(","));
    }
    let prefix = words.key(rng).replace(['"', '\\'], "");
    let fields: Vec<String> = (0..count)
        .map(|n| format!("\"{prefix}{n:04}\":{text}"))
        .collect();
    format!("{{{}}}", fields.join(","))
}
