//! Names of resources, and what they say by their form (`sdm-wire-facts`, 4.5).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What a resource is, read from its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResourceKind {
    /// A home.
    Structure,
    /// A room of a structure.
    Room,
    /// A device.
    Device,
}

impl ResourceKind {
    /// Every kind, in the order of their metrics.
    pub const ALL: [Self; 3] = [Self::Structure, Self::Room, Self::Device];

    /// The name used in records and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Structure => "structure",
            Self::Room => "room",
            Self::Device => "device",
        }
    }
}

/// The full name of a resource, compared as bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct ResourceName(Arc<str>);

impl ResourceName {
    /// Wraps a name; any text is one.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the name says it is (`enterprises/{p}/devices/{d}`, `…/structures/{s}`,
    /// `…/structures/{s}/rooms/{r}`), or `None` for any other shape: such a resource is in the
    /// event log and in notifications, but not in the graph.
    pub fn kind(&self) -> Option<ResourceKind> {
        let mut parts = self.0.split('/');
        if parts.next() != Some("enterprises") || !parts.next().is_some_and(filled) {
            return None;
        }
        let kind = match (parts.next()?, parts.next().filter(|id| filled(id))?) {
            ("devices", _) => ResourceKind::Device,
            ("structures", _) => match parts.next() {
                None => return Some(ResourceKind::Structure),
                Some("rooms") => {
                    parts.next().filter(|id| filled(id))?;
                    ResourceKind::Room
                }
                Some(_) => return None,
            },
            _ => return None,
        };
        parts.next().is_none().then_some(kind)
    }

    /// The structure that a room's name contains; `None` for anything but a room.
    pub fn structure_of_room(&self) -> Option<Self> {
        if self.kind() != Some(ResourceKind::Room) {
            return None;
        }
        self.0
            .rsplit_once("/rooms/")
            .map(|(structure, _)| Self::new(structure))
    }

    /// `enterprises/{p}`, or `None` if the name does not begin so.
    pub fn enterprise(&self) -> Option<&str> {
        let id = self
            .0
            .strip_prefix("enterprises/")?
            .split('/')
            .next()
            .filter(|id| filled(id))?;
        self.0.get(.."enterprises/".len() + id.len())
    }

    /// The last part of the name.
    pub fn short_id(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

fn filled(part: &str) -> bool {
    !part.is_empty()
}

impl From<String> for ResourceName {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl From<ResourceName> for String {
    fn from(name: ResourceName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
