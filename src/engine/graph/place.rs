//! Where a resource is and what it is called, and how that changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use crate::event::{ResourceKind, ResourceName, Timestamp};

/// Where a resource is and what it is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// The structure it is in; null for a structure.
    pub structure: Option<ResourceName>,
    /// The room it is in; null for anything but a device.
    pub room: Option<ResourceName>,
    /// The name its owner gave it.
    pub display_name: Option<String>,
}

/// One resource of the graph, as REFERENCE.md, section 4, shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    pub name: ResourceName,
    pub kind: ResourceKind,
    /// Where it is.
    #[serde(flatten)]
    pub place: Place,
    /// The users it was seen with, sorted.
    pub users: Arc<BTreeSet<Arc<str>>>,
    /// The largest timestamp seen for it.
    pub updated_at: Option<Timestamp>,
}

/// How a resource changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It was not there before.
    Added,
    /// It is in another structure or room.
    Moved,
    /// It is not there any more.
    Removed,
    /// It has another name.
    Renamed,
}

/// One change of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GraphChange {
    /// How it changed.
    pub change: ChangeKind,
    pub resource: ResourceName,
    pub kind: ResourceKind,
    /// Where it is now.
    #[serde(flatten)]
    pub place: Place,
    /// Where it was, unless it was not there.
    pub previous: Option<Place>,
}

/// How a resource changed, if it did: each kind of change is one.
pub(super) fn compare(
    name: &ResourceName,
    kind: ResourceKind,
    before: Option<Place>,
    after: Option<Place>,
) -> Vec<GraphChange> {
    let change = |change, place: &Place, previous: Option<&Place>| GraphChange {
        change,
        resource: name.clone(),
        kind,
        place: place.clone(),
        previous: previous.cloned(),
    };
    match (&before, &after) {
        (None, None) => Vec::new(),
        (None, Some(after)) => vec![change(ChangeKind::Added, after, None)],
        (Some(_), None) => vec![change(
            ChangeKind::Removed,
            &Place::default(),
            before.as_ref(),
        )],
        (Some(old), Some(new)) => {
            let moved = (&old.structure, &old.room) != (&new.structure, &new.room);
            let renamed = old.display_name != new.display_name;
            let kinds = [(moved, ChangeKind::Moved), (renamed, ChangeKind::Renamed)];
            let happened = kinds.into_iter().filter(|(happened, _)| *happened);
            happened
                .map(|(_, kind)| change(kind, new, Some(old)))
                .collect()
        }
    }
}
