//! Names of resources, and what they say by their form: one table for all platforms.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};
use strum::{EnumIter, IntoStaticStr, VariantNames};

/// What a resource is, read from its name. In the order of their metrics.
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
    EnumIter,
    IntoStaticStr,
    VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ResourceKind {
    /// A home.
    Structure,
    /// A room of a structure.
    Room,
    Device,
}

impl ResourceKind {
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// How a platform names resources: collections and ids take turns, as in
/// `enterprises/{p}/structures/{s}/rooms/{r}`.
struct Grammar {
    /// The collection of accounts, which all names begin with: it tells the platforms apart.
    accounts: &'static str,
    /// The collections below the account, and what a name with these is.
    forms: &'static [(&'static [&'static str], ResourceKind)],
}

/// One row per platform.
const GRAMMARS: [Grammar; 1] = [Grammar {
    accounts: "enterprises",
    forms: &[
        (&["devices"], ResourceKind::Device),
        (&["structures"], ResourceKind::Structure),
        (&["structures", "rooms"], ResourceKind::Room),
    ],
}];

/// The full name of a resource, compared as bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(from = "String")]
pub struct ResourceName {
    name: Arc<str>,
    /// What the name says, read once: names are asked for it several times per message.
    kind: Option<ResourceKind>,
}

impl ResourceName {
    /// Wraps a name; any text is one.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            kind: kind_of(name),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The whole name, shared.
    pub fn to_shared(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// What the name says it is by its platform's grammar, or `None` for any other shape: such a
    /// resource is in the event log and in notifications, but not in the graph.
    pub fn kind(&self) -> Option<ResourceKind> {
        self.kind
    }

    /// The structure that a room's name contains; `None` for anything but a room.
    pub fn structure_of_room(&self) -> Option<Self> {
        self.structure_in_name().map(Self::new)
    }

    /// True for a room whose name contains that structure.
    pub fn is_room_of(&self, structure: &Self) -> bool {
        self.structure_in_name() == Some(structure.as_str())
    }

    fn structure_in_name(&self) -> Option<&str> {
        if self.kind() != Some(ResourceKind::Room) {
            return None;
        }
        self.name
            .rsplit_once("/rooms/")
            .map(|(structure, _)| structure)
    }

    /// The account that the resource is in, such as `enterprises/{p}`, or `None` if the name does
    /// not begin like any platform's.
    pub fn account(&self) -> Option<&str> {
        let (collection, rest) = self.name.split_once('/')?;
        GRAMMARS
            .iter()
            .find(|grammar| grammar.accounts == collection)?;
        let id = rest.split('/').next().filter(|id| !id.is_empty())?;
        self.name.get(..collection.len() + 1 + id.len())
    }

    /// The last part of the name.
    pub fn short_id(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }
}

fn kind_of(name: &str) -> Option<ResourceKind> {
    let mut parts = name.split('/');
    let accounts = parts.next()?;
    let grammar = GRAMMARS
        .iter()
        .find(|grammar| grammar.accounts == accounts)?;
    let is_account = parts.next().is_some_and(|id| !id.is_empty());
    let form = |(collections, kind): &(&[&str], ResourceKind)| {
        let mut parts = parts.clone();
        let fits = |collection: &&str| {
            parts.next() == Some(collection) && parts.next().is_some_and(|id| !id.is_empty())
        };
        (collections.iter().all(fits) && parts.next().is_none()).then_some(*kind)
    };
    grammar.forms.iter().find_map(form).filter(|_| is_account)
}

impl From<String> for ResourceName {
    fn from(name: String) -> Self {
        Self {
            kind: kind_of(&name),
            name: name.into(),
        }
    }
}

impl Serialize for ResourceName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.name, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_a_name_says_what_it_is() {
        for (name, kind) in [
            ("enterprises/p/devices/d", Some(ResourceKind::Device)),
            ("enterprises/p/structures/s", Some(ResourceKind::Structure)),
            (
                "enterprises/p/structures/s/rooms/r",
                Some(ResourceKind::Room),
            ),
            (
                "enterprises/p/structures/rooms/rooms/rooms",
                Some(ResourceKind::Room),
            ),
            ("", None),
            ("enterprises", None),
            ("enterprises/p", None),
            ("enterprises/p/devices", None),
            ("enterprises/p/devices/", None),
            ("enterprises//devices/d", None),
            ("enterprises/p/devices/d/", None),
            ("enterprises/p/devices/d/rooms/r", None),
            ("enterprises/p/structures/s/rooms", None),
            ("enterprises/p/structures/s/rooms/", None),
            ("enterprises/p/structures/s/rooms/r/x", None),
            ("enterprises/p/structures//rooms/r", None),
            ("enterprises/p/structures/s/devices/d", None),
            ("/enterprises/p/devices/d", None),
            ("homes/h", None),
        ] {
            assert_eq!(ResourceName::new(name).kind(), kind, "{name:?}");
        }
    }

    #[test]
    fn a_rooms_name_holds_its_structure() {
        let structure = |name: &str| ResourceName::new(name).structure_of_room();
        let expected = Some(ResourceName::new("enterprises/p/structures/s"));
        assert_eq!(structure("enterprises/p/structures/s/rooms/r"), expected);
        assert_eq!(structure("enterprises/p/structures/s"), None);
        assert_eq!(structure("enterprises/p/devices/d"), None);
        // Not the name of a room, although it ends like one.
        assert_eq!(structure("enterprises/p/devices/d/rooms/r"), None);
    }

    #[test]
    fn names_begin_with_their_account_and_end_with_a_short_id() {
        for (name, account, short) in [
            ("enterprises/p/devices/d", Some("enterprises/p"), "d"),
            (
                "enterprises/haus\u{fc}/devices/t\u{fc}r",
                Some("enterprises/haus\u{fc}"),
                "t\u{fc}r",
            ),
            ("enterprises/p", Some("enterprises/p"), "p"),
            ("enterprises/", None, ""),
            ("enterprises//devices/d", None, "d"),
            ("homes/h", None, "h"),
            ("h", None, "h"),
        ] {
            let name = ResourceName::new(name);
            assert_eq!((name.account(), name.short_id()), (account, short));
        }
    }
}
