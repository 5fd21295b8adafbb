//! Structures, rooms and devices: what is there, where it is, what it is called.
//!
//! Computed from the registers of contract section 4, so that neither order nor repetition of
//! events matters. Returns what changed; does not know who is told.

mod place;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::place::compare;
pub use self::place::{ChangeKind, GraphChange, Place, Resource};
use super::MAX_RESOURCES;
use super::register::{Register, Stamp};
use crate::event::{Event, RelationKind, ResourceKind, ResourceName, Timestamp};

/// Most users kept per resource, the smallest ids: a home has a handful.
const MAX_USERS: usize = 1024;

/// The registers of one resource, as the store keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    seen: Option<Stamp>,
    gone: Option<Stamp>,
    structure: Option<Register<ResourceName>>,
    room: Option<Register<Option<ResourceName>>>,
    /// The value is canonical JSON text, because that is what decides a tie.
    name: Option<Register<String>>,
    users: BTreeSet<String>,
    updated_at: Option<Timestamp>,
}

impl Node {
    fn see(&mut self, stamp: &Stamp, time: &Timestamp) {
        if self.seen.as_ref() < Some(stamp) {
            self.seen = Some(stamp.clone());
        }
        if self.updated_at.as_ref() < Some(time) {
            self.updated_at = Some(time.clone());
        }
    }

    /// The resources whose rows decide, beside its own, where the resource `name` of this row is.
    pub fn parents(&self, name: &ResourceName) -> Vec<ResourceName> {
        let structure = self.structure.as_ref().map(|register| &register.value);
        let room = self.room.as_ref().and_then(|room| room.value.as_ref());
        let of_room = room.unwrap_or(name).structure_of_room();
        [structure.cloned(), room.cloned(), of_room]
            .into_iter()
            .flatten()
            .collect()
    }

    fn is_there(&self) -> bool {
        self.seen.is_some() && self.seen > self.gone
    }

    fn add_user(&mut self, user: &str) {
        if !self.users.contains(user) {
            self.users.insert(user.to_owned());
            if self.users.len() > MAX_USERS {
                self.users.pop_last();
            }
        }
    }

    fn display_name(&self) -> Option<String> {
        let text = &self.name.as_ref()?.value;
        serde_json::from_str(text)
            .ok()
            .filter(|name: &String| !name.is_empty())
    }
}

/// All resources.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: BTreeMap<ResourceName, Node>,
    changed: BTreeSet<ResourceName>,
}

impl Graph {
    /// Takes up what the store kept.
    pub(super) fn restore(rows: impl IntoIterator<Item = (ResourceName, Node)>) -> Self {
        Self {
            nodes: rows.into_iter().collect(),
            changed: BTreeSet::new(),
        }
    }

    /// True if the event is about resources that the graph has no room for.
    pub(super) fn is_full_for(&self, event: &Event) -> bool {
        self.nodes.len() >= MAX_RESOURCES
            && touched(event)
                .iter()
                .any(|name| !self.nodes.contains_key(name))
    }

    /// Merges an event; returns what changed, sorted by kind and name.
    pub(super) fn apply(&mut self, event: &Event) -> Vec<GraphChange> {
        if self.is_seen_again(event) {
            return Vec::new();
        }
        let touched = touched(event);
        let mut watched: Vec<_> = self.with_dependents(event, &touched).into_iter().collect();
        // A structure before its rooms, a room before its devices.
        watched.sort_by_key(ResourceName::kind);
        let before: Vec<Option<Place>> = watched.iter().map(|name| self.place(name)).collect();
        self.write(event, &touched);
        let mut changes = Vec::new();
        for (name, before) in watched.iter().zip(before) {
            let after = self.place(name);
            changes.extend(name.kind().map(|kind| compare(name, kind, before, after)));
        }
        changes.concat()
    }

    /// By far the most events are about a device that is there, and say nothing of its place or
    /// name: true for those, which are then merged.
    fn is_seen_again(&mut self, event: &Event) -> bool {
        let about = event.resource.as_ref().filter(|_| event.relation.is_none());
        let Some(name) = about.filter(|name| name.kind() == Some(ResourceKind::Device)) else {
            return false;
        };
        let node = self.nodes.get_mut(name).filter(|node| node.is_there());
        let Some(node) = node.filter(|_| event.display_name.is_none()) else {
            return false;
        };
        node.see(&Stamp::unranked(event), &event.time.0);
        if let Some(user) = &event.user_id {
            node.add_user(user);
        }
        if !self.changed.contains(name) {
            self.changed.insert(name.clone());
        }
        true
    }

    /// The resources whose place may change: those written, and, where a structure or room comes
    /// or goes, all that lie in it.
    fn with_dependents(&self, event: &Event, touched: &[ResourceName]) -> BTreeSet<ResourceName> {
        let deleted = event
            .relation
            .as_ref()
            .is_some_and(|relation| relation.kind == RelationKind::Deleted);
        let parents: Vec<&ResourceName> = touched
            .iter()
            .filter(|name| name.kind() != Some(ResourceKind::Device))
            .filter(|name| deleted || !self.is_present(name))
            .collect();
        let mut watched: BTreeSet<ResourceName> = touched.iter().cloned().collect();
        if parents.is_empty() {
            return watched;
        }
        let lies_in = |name: &ResourceName, node: &Node, parent: &ResourceName| {
            name.is_room_of(parent)
                || node
                    .structure
                    .as_ref()
                    .is_some_and(|register| register.value == *parent)
                || node
                    .room
                    .as_ref()
                    .is_some_and(|register| register.value.as_ref() == Some(parent))
        };
        for (name, node) in &self.nodes {
            if parents.iter().any(|parent| lies_in(name, node, parent)) {
                watched.insert(name.clone());
            }
        }
        watched
    }

    fn write(&mut self, event: &Event, touched: &[ResourceName]) {
        let time = &event.time.0;
        for name in touched {
            // A row for every resource that the event touches, so that registers below find it.
            self.nodes.entry(name.clone()).or_default();
            self.changed.insert(name.clone());
        }
        if let Some(name) = &event.resource {
            let stamp = Stamp::unranked(event);
            self.see(name, &stamp, time);
            if let (Some(node), Some(text)) = (self.nodes.get_mut(name), &event.display_name) {
                Register::write(
                    &mut node.name,
                    &stamp,
                    Value::from(text.as_str()).to_string(),
                );
            }
            self.add_user(name, event);
        }
        let Some(relation) = &event.relation else {
            return;
        };
        if relation.kind == RelationKind::Unknown {
            return;
        }
        let stamp = Stamp::of(event);
        self.add_user(&relation.object, event);
        if let Some(subject) = &relation.subject {
            self.add_user(subject, event);
        }
        if relation.kind == RelationKind::Deleted {
            if let Some(node) = self.nodes.get_mut(&relation.object)
                && node.gone.as_ref() < Some(&stamp)
            {
                node.gone = Some(stamp);
            }
            return;
        }
        self.see(&relation.object, &stamp, time);
        if let Some(subject) = &relation.subject {
            self.see(subject, &stamp, time);
            self.relate(&relation.object, subject, relation.kind, &stamp);
        }
    }

    fn see(&mut self, name: &ResourceName, stamp: &Stamp, time: &Timestamp) {
        let structure = name.structure_of_room();
        for name in [Some(name), structure.as_ref()].into_iter().flatten() {
            if let Some(node) = self.nodes.get_mut(name) {
                node.see(stamp, time);
            }
        }
    }

    fn relate(
        &mut self,
        object: &ResourceName,
        subject: &ResourceName,
        kind: RelationKind,
        stamp: &Stamp,
    ) {
        let Some(node) = self.nodes.get_mut(object) else {
            return;
        };
        match (object.kind(), subject.kind()) {
            (Some(ResourceKind::Device), Some(ResourceKind::Structure)) => {
                Register::write(&mut node.structure, stamp, subject.clone());
                if kind == RelationKind::Updated {
                    Register::write(&mut node.room, stamp, None);
                }
            }
            (Some(ResourceKind::Device), Some(ResourceKind::Room)) => {
                if let Some(structure) = subject.structure_of_room() {
                    Register::write(&mut node.structure, stamp, structure);
                }
                Register::write(&mut node.room, stamp, Some(subject.clone()));
            }
            (_, _) => {}
        }
    }

    fn add_user(&mut self, name: &ResourceName, event: &Event) {
        if let (Some(node), Some(user)) = (self.nodes.get_mut(name), &event.user_id) {
            node.add_user(user);
        }
    }

    /// True if the resource is there; a room only in a structure that was not gone since.
    fn is_present(&self, name: &ResourceName) -> bool {
        let Some(node) = self.nodes.get(name).filter(|node| node.is_there()) else {
            return false;
        };
        name.structure_of_room().is_none_or(|structure| {
            let structure = self.nodes.get(&structure);
            structure.is_some_and(|structure| structure.is_there() && node.seen > structure.gone)
        })
    }

    /// Where a resource is and what it is called; `None` if it is not there.
    pub(super) fn place(&self, name: &ResourceName) -> Option<Place> {
        let node = self.nodes.get(name).filter(|_| self.is_present(name))?;
        let display_name = node.display_name();
        Some(match name.kind()? {
            ResourceKind::Structure => Place {
                display_name,
                ..Place::default()
            },
            ResourceKind::Room => Place {
                structure: name.structure_of_room(),
                room: None,
                display_name,
            },
            ResourceKind::Device => {
                let structure = self.structure_of_device(node);
                let room = structure
                    .as_ref()
                    .and_then(|s| self.room_of_device(node, s));
                Place {
                    structure,
                    room,
                    display_name,
                }
            }
        })
    }

    fn structure_of_device(&self, node: &Node) -> Option<ResourceName> {
        let register = node.structure.as_ref()?;
        let gone = self.gone(&register.value);
        let stamp = Some(&register.stamp);
        (stamp > node.gone.as_ref() && stamp > gone).then(|| register.value.clone())
    }

    fn room_of_device(&self, node: &Node, structure: &ResourceName) -> Option<ResourceName> {
        let register = node.room.as_ref()?;
        let room = register.value.as_ref()?;
        let stamp = Some(&register.stamp);
        let shows = room.is_room_of(structure)
            && stamp > node.gone.as_ref()
            && stamp > self.gone(structure)
            && stamp > self.gone(room);
        shows.then(|| room.clone())
    }

    fn gone(&self, name: &ResourceName) -> Option<&Stamp> {
        self.nodes.get(name)?.gone.as_ref()
    }

    /// The rows that changed since the last call.
    pub(super) fn take_changed(&mut self) -> Vec<(ResourceName, Node)> {
        let changed = std::mem::take(&mut self.changed);
        changed
            .into_iter()
            .filter_map(|name| self.nodes.get(&name).map(|node| (name, node.clone())))
            .collect()
    }

    /// The resources that are there, sorted by name.
    pub(super) fn resources(&self) -> impl Iterator<Item = Resource> {
        self.nodes.iter().filter_map(|(name, node)| {
            Some(Resource {
                name: name.clone(),
                kind: name.kind()?,
                place: self.place(name)?,
                users: node.users.clone(),
                updated_at: node.updated_at.clone(),
            })
        })
    }
}

/// The resources that are there, of the rows of a store; sorted by name.
pub fn resources(rows: Vec<(ResourceName, Node)>) -> Vec<Resource> {
    Graph::restore(rows).resources().collect()
}

/// The resources that an event writes: its own, its relation's, and the structures of rooms.
fn touched(event: &Event) -> Vec<ResourceName> {
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
