//! The registers of one resource, as the store keeps them.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::pool::{Pool, Pools};
use crate::engine::register::{Register, Stamp};
use crate::event::{ResourceKind, ResourceName, Timestamp};

/// Most users kept per resource, the smallest ids: a home has a handful.
const MAX_USERS: usize = 1024;

/// The users that a resource was seen with. Those of one home are mostly the same for all of it, so
/// resources share them.
pub(super) type Users = BTreeSet<Arc<str>>;

/// See the module's documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub(super) seen: Option<Arc<Stamp>>,
    pub(super) gone: Option<Arc<Stamp>>,
    pub(super) structure: Option<Register<ResourceName>>,
    pub(super) room: Option<Register<Option<ResourceName>>>,
    /// The value is canonical JSON text, because that is what decides a tie.
    pub(super) name: Option<Register<Box<str>>>,
    pub(super) users: Arc<Users>,
    pub(super) updated_at: Option<Timestamp>,
}

impl Node {
    pub(super) fn see(&mut self, stamp: &Arc<Stamp>, time: &Timestamp) {
        if self.seen.as_ref() < Some(stamp) {
            self.seen = Some(Arc::clone(stamp));
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

    pub(super) fn is_there(&self) -> bool {
        self.seen.is_some() && self.seen > self.gone
    }

    pub(super) fn add_user(&mut self, user: &str, pool: &mut Pool<Users>) {
        if self.users.contains(user) {
            return;
        }
        let users = Arc::make_mut(&mut self.users);
        users.insert(user.into());
        if users.len() > MAX_USERS {
            users.pop_last();
        }
        self.users = pool.share(&self.users);
    }

    pub(super) fn display_name(&self) -> Option<String> {
        let text = &self.name.as_ref()?.value;
        serde_json::from_str(text)
            .ok()
            .filter(|name: &String| !name.is_empty())
    }

    /// Shares stamps and users with the rows that have them alike.
    pub(in crate::engine) fn share(&mut self, pools: &mut Pools) {
        let of_registers = [
            self.structure.as_mut().map(|register| &mut register.stamp),
            self.room.as_mut().map(|register| &mut register.stamp),
            self.name.as_mut().map(|register| &mut register.stamp),
        ];
        let own = [self.seen.as_mut(), self.gone.as_mut()];
        for stamp in own.into_iter().chain(of_registers).flatten() {
            *stamp = pools.stamps.share(stamp);
        }
        self.users = pools.users.share(&self.users);
    }

    /// Repeats names as `known` has them, if it does.
    pub(super) fn share_names(&mut self, known: &BTreeSet<ResourceName>) {
        let structure = self.structure.as_mut().map(|register| &mut register.value);
        let room = self
            .room
            .as_mut()
            .and_then(|register| register.value.as_mut());
        for name in [structure, room].into_iter().flatten() {
            if let Some(known) = known.get(name) {
                *name = known.clone();
            }
        }
    }

    /// What a device lies in, as far as its place depends on that: the room of its structure, else
    /// the structure.
    fn container(&self) -> Option<&ResourceName> {
        let structure = &self.structure.as_ref()?.value;
        let room = self.room.as_ref().and_then(|room| room.value.as_ref());
        room.filter(|room| room.is_room_of(structure))
            .or(Some(structure))
    }
}

/// What a resource lies in, and its name: a room in the structure that its name says, a device as
/// its registers say.
pub(super) fn inside(name: &ResourceName, node: &Node) -> Option<(ResourceName, ResourceName)> {
    let container = match name.kind()? {
        ResourceKind::Structure => None,
        ResourceKind::Room => name.structure_of_room(),
        ResourceKind::Device => node.container().cloned(),
    };
    container.map(|container| (container, name.clone()))
}
