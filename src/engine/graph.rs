//! Structures, rooms and devices: what is there, where it is, what it is called.
//!
//! Computed from the registers of REFERENCE.md, section 4, so that neither order nor repetition of
//! events matters. Returns what changed; does not know who receives it.

mod node;
mod place;
mod touched;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;
use strum::IntoEnumIterator as _;

pub use self::node::Node;
use self::node::{Users, inside};
use self::place::compare;
pub use self::place::{ChangeKind, GraphChange, Place, Resource};
use self::touched::touched;
use super::limits::MAX_RESOURCES;
use super::pool::Pool;
use super::register::{Register, Stamp};
use crate::event::{Event, Relation, RelationKind, ResourceKind, ResourceName, Timestamp};

/// All resources.
#[derive(Debug, Default)]
pub(super) struct Graph {
    /// Shared with what is to be written, so that it isn't copied. Hashed, since names begin alike
    /// and so compare slowly.
    nodes: HashMap<ResourceName, Arc<Node>>,
    /// Rooms and devices by what they lie in: see [`inside`].
    inside: BTreeSet<(ResourceName, ResourceName)>,
    /// Numbers of resources that are there.
    counts: BTreeMap<ResourceKind, usize>,
    changed: BTreeSet<ResourceName>,
    users: Pool<Users>,
}

impl Graph {
    /// Goes on with the rows that the store kept.
    pub(super) fn restore(rows: Vec<(ResourceName, Arc<Node>)>, users: Pool<Users>) -> Self {
        let mut graph = Self {
            nodes: HashMap::with_capacity(rows.len()),
            users,
            ..Self::default()
        };
        let names = rows.iter().map(|(name, _)| name);
        let containers = names.filter(|name| name.kind() != Some(ResourceKind::Device));
        let containers: BTreeSet<ResourceName> = containers.cloned().collect();
        for (name, mut row) in rows {
            let node = Arc::make_mut(&mut row);
            node.share_names(&containers);
            graph.inside.extend(inside(&name, node));
            graph.nodes.insert(name, row);
        }
        graph.counts = graph.count();
        graph
    }

    #[expect(clippy::disallowed_methods, reason = "a number has no order")]
    fn count(&self) -> BTreeMap<ResourceKind, usize> {
        let mut counts = BTreeMap::new();
        let present = self.nodes.keys().filter(|name| self.is_present(name));
        present
            .filter_map(ResourceName::kind)
            .for_each(|kind| *counts.entry(kind).or_default() += 1);
        counts
    }

    /// True if the event is about resources that the graph has no room for.
    pub(super) fn is_full_for(&self, event: &Event) -> bool {
        self.nodes.len() >= MAX_RESOURCES
            && touched(event)
                .iter()
                .any(|name| !self.nodes.contains_key(name))
    }

    /// Merges an event; returns what changed, sorted by kind and name. `stamp` is the one that the
    /// event's resource update writes with.
    pub(super) fn apply(&mut self, event: &Event, stamp: &Arc<Stamp>) -> Vec<GraphChange> {
        if self.is_seen_again(event, stamp) {
            return Vec::new();
        }
        let touched = touched(event);
        let mut affected: Vec<_> = self.affected(event, &touched).into_iter().collect();
        // A structure before its rooms, a room before its devices.
        affected.sort_by_key(ResourceName::kind);
        let before: Vec<Option<Place>> = affected.iter().map(|name| self.place(name)).collect();
        self.write(event, stamp, &touched);
        let mut changes = Vec::new();
        for (name, before) in affected.iter().zip(before) {
            let Some(kind) = name.kind() else { continue };
            let after = self.place(name);
            let count = self.counts.entry(kind).or_default();
            match (&before, &after) {
                (None, Some(_)) => *count += 1,
                (Some(_), None) => *count -= 1,
                (None, None) | (Some(_), Some(_)) => {}
            }
            changes.extend(compare(name, kind, before, after));
        }
        changes
    }

    /// By far the most events are about a device that is there, and say nothing of its place or
    /// name: true for those, which are then merged.
    fn is_seen_again(&mut self, event: &Event, stamp: &Arc<Stamp>) -> bool {
        let about = event.resource.as_ref().filter(|_| event.relation.is_none());
        let Some(name) = about.filter(|name| name.kind() == Some(ResourceKind::Device)) else {
            return false;
        };
        let node = self.nodes.get_mut(name).filter(|node| node.is_there());
        let Some(node) = node.filter(|_| event.display_name.is_none()) else {
            return false;
        };
        let node = Arc::make_mut(node);
        node.see(stamp, &event.time.0);
        if let Some(user) = &event.user_id {
            node.add_user(user, &mut self.users);
        }
        if !self.changed.contains(name) {
            self.changed.insert(name.clone());
        }
        true
    }

    /// The resources whose place may change: those written; the rooms of a structure that comes;
    /// and all that lies in a structure or room that goes.
    fn affected(&self, event: &Event, touched: &[ResourceName]) -> BTreeSet<ResourceName> {
        let mut affected: BTreeSet<ResourceName> = touched.iter().cloned().collect();
        let deleted = event
            .relation
            .as_ref()
            .filter(|relation| relation.kind == RelationKind::Deleted)
            .map(|relation| &relation.object);
        for name in touched {
            let is_deleted = deleted == Some(name);
            let is_structure = name.kind() == Some(ResourceKind::Structure);
            if is_structure && (is_deleted || !self.is_present(name)) {
                affected.extend(self.rooms_of(name).cloned());
            }
            if is_deleted {
                affected.extend(self.devices_in(name).cloned());
            }
        }
        affected
    }

    fn rooms_of(&self, structure: &ResourceName) -> impl Iterator<Item = &ResourceName> {
        let all = self.directly_in(structure);
        all.filter(|name| name.kind() == Some(ResourceKind::Room))
    }

    fn devices_in(&self, container: &ResourceName) -> impl Iterator<Item = &ResourceName> {
        let in_rooms = self
            .rooms_of(container)
            .flat_map(|room| self.directly_in(room));
        let all = self.directly_in(container).chain(in_rooms);
        all.filter(|name| name.kind() == Some(ResourceKind::Device))
    }

    fn directly_in(&self, container: &ResourceName) -> impl Iterator<Item = &ResourceName> {
        let first = (container.clone(), ResourceName::new(""));
        let container = container.clone();
        self.inside
            .range(first..)
            .take_while(move |(other, _)| *other == container)
            .map(|(_, name)| name)
    }

    fn write(&mut self, event: &Event, stamp: &Arc<Stamp>, touched: &[ResourceName]) {
        let time = &event.time.0;
        for name in touched {
            // A row for every resource that the event touches, so that registers below find it.
            if !self.nodes.contains_key(name) {
                self.inside.extend(inside(name, &Node::default()));
                self.nodes.insert(name.clone(), Arc::default());
            }
            self.changed.insert(name.clone());
        }
        if let Some(name) = &event.resource {
            self.see(name, stamp, time);
            if let (Some(node), Some(text)) = (self.node(name), &event.display_name) {
                let text = Value::from(text.as_str()).to_string();
                Register::write(&mut node.name, stamp, text.into());
            }
            self.add_user(name, event);
        }
        if let Some(relation) = &event.relation
            && relation.kind != RelationKind::Unknown
        {
            self.write_relation(relation, event);
        }
    }

    fn write_relation(&mut self, relation: &Relation, event: &Event) {
        let stamp = Arc::new(Stamp::of_relation(event, relation.kind));
        self.add_user(&relation.object, event);
        if let Some(subject) = &relation.subject {
            self.add_user(subject, event);
        }
        if relation.kind == RelationKind::Deleted {
            if let Some(node) = self.node(&relation.object)
                && node.gone.as_ref() < Some(&stamp)
            {
                node.gone = Some(stamp);
            }
            return;
        }
        self.see(&relation.object, &stamp, &event.time.0);
        if let Some(subject) = &relation.subject {
            self.see(subject, &stamp, &event.time.0);
            self.relate(&relation.object, subject, relation.kind, &stamp);
        }
    }

    fn node(&mut self, name: &ResourceName) -> Option<&mut Node> {
        self.nodes.get_mut(name).map(Arc::make_mut)
    }

    /// The graph's own copy of a name, for rows that repeat it.
    pub(super) fn shared_name(&self, name: &ResourceName) -> ResourceName {
        let known = self.nodes.get_key_value(name).map(|(known, _)| known);
        known.unwrap_or(name).clone()
    }

    /// The stamp of the last event about a resource.
    pub(super) fn last_stamp(&self, name: &ResourceName) -> Option<&Arc<Stamp>> {
        self.nodes.get(name)?.seen.as_ref()
    }

    fn see(&mut self, name: &ResourceName, stamp: &Arc<Stamp>, time: &Timestamp) {
        let structure = name.structure_of_room();
        for name in [Some(name), structure.as_ref()].into_iter().flatten() {
            if let Some(node) = self.node(name) {
                node.see(stamp, time);
            }
        }
    }

    fn relate(
        &mut self,
        object: &ResourceName,
        subject: &ResourceName,
        kind: RelationKind,
        stamp: &Arc<Stamp>,
    ) {
        let object = self.shared_name(object);
        let subject = self.shared_name(subject);
        let structure = subject
            .structure_of_room()
            .map(|structure| self.shared_name(&structure));
        let Some(node) = self.node(&object) else {
            return;
        };
        let before = inside(&object, node);
        match (object.kind(), subject.kind()) {
            (Some(ResourceKind::Device), Some(ResourceKind::Structure)) => {
                Register::write(&mut node.structure, stamp, subject);
                if kind == RelationKind::Updated {
                    Register::write(&mut node.room, stamp, None);
                }
            }
            (Some(ResourceKind::Device), Some(ResourceKind::Room)) => {
                if let Some(structure) = structure {
                    Register::write(&mut node.structure, stamp, structure);
                }
                Register::write(&mut node.room, stamp, Some(subject));
            }
            (_, _) => {}
        }
        let after = inside(&object, node);
        if before != after {
            if let Some(before) = before {
                self.inside.remove(&before);
            }
            self.inside.extend(after);
        }
    }

    fn add_user(&mut self, name: &ResourceName, event: &Event) {
        if let (Some(node), Some(user)) = (self.nodes.get_mut(name), &event.user_id) {
            Arc::make_mut(node).add_user(user, &mut self.users);
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

    fn gone(&self, name: &ResourceName) -> Option<&Arc<Stamp>> {
        self.nodes.get(name)?.gone.as_ref()
    }

    /// The rows that changed since the last call.
    pub(super) fn take_changed(&mut self) -> Vec<(ResourceName, Arc<Node>)> {
        let changed = std::mem::take(&mut self.changed);
        changed
            .into_iter()
            .filter_map(|name| self.nodes.get(&name).map(|node| (name, Arc::clone(node))))
            .collect()
    }

    /// Numbers of the resources that are there, of every kind.
    pub(super) fn counts(&self) -> impl Iterator<Item = (ResourceKind, usize)> {
        ResourceKind::iter().map(|kind| (kind, self.counts.get(&kind).copied().unwrap_or_default()))
    }

    /// The resources that are there, sorted by name.
    #[expect(clippy::disallowed_methods, reason = "they are sorted")]
    pub(super) fn resources(&self) -> impl Iterator<Item = Resource> {
        let mut nodes: Vec<_> = self.nodes.iter().collect();
        nodes.sort_by_key(|(name, _)| *name);
        nodes.into_iter().filter_map(|(name, node)| {
            Some(Resource {
                name: name.clone(),
                kind: name.kind()?,
                place: self.place(name)?,
                users: Arc::clone(&node.users),
                updated_at: node.updated_at.clone(),
            })
        })
    }
}

/// The resources that are there, of the rows of a store; sorted by name.
pub fn resources(rows: Vec<(ResourceName, Arc<Node>)>) -> Vec<Resource> {
    Graph::restore(rows, Pool::default()).resources().collect()
}
