//! Which rows of the graph an event writes.

use crate::event::{Event, RelationKind, ResourceName};

/// The resources that an event writes: its own, its relation's, and the structures of rooms.
pub(super) fn touched(event: &Event) -> Vec<ResourceName> {
    let relation = event
        .relation
        .as_ref()
        .filter(|r| r.kind != RelationKind::Unknown);
    let object = relation.map(|relation| &relation.object);
    let subject = relation.and_then(|relation| relation.subject.as_ref());
    let mut names = Vec::new();
    for name in [event.resource.as_ref(), object, subject]
        .into_iter()
        .flatten()
    {
        if name.kind().is_some() {
            names.extend(name.structure_of_room());
            names.push(name.clone());
        }
    }
    names.sort();
    names.dedup();
    names
}
