//! Platforms, and the keys by which messages, notifications and sessions are known.

use std::fmt;

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantNames};

/// The platforms whose messages hearthd understands, under the names used in capture lines, records
/// and metric labels.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    EnumString,
    IntoStaticStr,
    VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Platform {
    /// Google Smart Device Management, over Cloud Pub/Sub.
    Sdm,
}

impl Platform {
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The idempotency key of a message: the first 16 bytes of SHA-256 over `{platform}\n` and the
/// payload in canonical form (or, for a body that can't be decoded, its raw bytes).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DedupeKey(#[serde(with = "hex_bytes")] pub [u8; 16]);

/// Which notification: a hash of platform, resource and thread (or session, or event).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NotificationId(#[serde(with = "hex_bytes")] pub [u8; 16]);

/// Which session of a resource: the same hash as the notification of that session would have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionKey(#[serde(with = "hex_bytes")] pub [u8; 16]);

macro_rules! as_hex {
    ($($key:ty),*) => {$(
        impl fmt::Display for $key {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(hex_bytes::text(&self.0, &mut [0; 32]))
            }
        }
        impl fmt::Debug for $key {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}
as_hex!(DedupeKey, NotificationId, SessionKey);

mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    /// The key as text, in `digits`, which has room for two per byte: so it can't fail.
    pub(super) fn text<'a>(bytes: &[u8; 16], digits: &'a mut [u8; 32]) -> &'a str {
        match hex::encode_to_slice(bytes, digits) {
            Ok(()) => std::str::from_utf8(digits).unwrap_or_default(),
            Err(_) => "",
        }
    }

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 16], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text(bytes, &mut [0; 32]))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 16], D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        let mut bytes = [0; 16];
        hex::decode_to_slice(text.as_bytes(), &mut bytes).map_err(serde::de::Error::custom)?;
        Ok(bytes)
    }
}
