//! The state of each resource per trait and field: last writer by event time.
//!
//! Knows no trait by name; a platform's decoder says what an update sets.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::graph::Graph;
use super::limits::MAX_RESOURCES;
use super::pool::{Pool, Pools};
use super::register::{Register, Stamp};
use crate::event::{Event, ResourceName, TraitUpdate};

/// Most traits kept per resource, and fields per trait: an SDM device has about 12 traits of up to
/// 5 fields. Beyond it the smallest names are kept, so that the order of arrival doesn't matter.
const MAX_NAMES: usize = 256;

/// Longest value that is kept once for all resources that have it, in bytes: numbers and states.
const MAX_SHARED_VALUE: usize = 24;

/// Something under each of some names, sorted by name. A map in one piece: there are many of them,
/// and most have one or two names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named<T>(Box<[(Arc<str>, T)]>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<T> Named<T> {
    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| (**other).cmp(name))
    }

    fn get(&self, name: &str) -> Option<&T> {
        self.0.get(self.find(name).ok()?).map(|(_, value)| value)
    }

    /// Adds a name at the place where [`Self::find`] missed it. Returns the largest name if there
    /// are too many now.
    fn insert(&mut self, place: usize, name: Arc<str>, value: T) -> Option<Arc<str>> {
        let mut all = Vec::from(std::mem::take(&mut self.0));
        all.insert(place, (name, value));
        let dropped = if all.len() > MAX_NAMES {
            all.pop()
        } else {
            None
        };
        self.0 = all.into();
        dropped.map(|(name, _)| name)
    }
}

/// The fields of a trait, as the store keeps them; the values are canonical JSON text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Named<Register<Arc<str>>>);

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.0.iter().map(|(name, register)| (name, register)))
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let sorted = BTreeMap::deserialize(from)?;
        Ok(Self(Named(sorted.into_iter().collect())))
    }
}

impl Fields {
    /// Each field's name, its value as JSON text, and the event time at which it was set.
    pub fn values(&self) -> impl Iterator<Item = (&str, &str, DateTime<Utc>)> {
        let fields = self.0.0.iter();
        fields.map(|(name, held)| (&**name, &*held.value, held.stamp.time))
    }

    fn write(&mut self, stamp: &Arc<Stamp>, update: &TraitUpdate, texts: &mut Pool<str>) {
        for (field, value) in &update.fields {
            let value = shared(value, texts);
            match self.0.find(field) {
                Ok(place) => {
                    if let Some((_, register)) = self.0.0.get_mut(place) {
                        register.update(stamp, value);
                    }
                }
                Err(place) => {
                    let register = Register::new(stamp, value);
                    self.0.insert(place, texts.share(field), register);
                }
            }
        }
    }

    fn to_json(&self) -> Map<String, Value> {
        let value = |register: &Register<Arc<str>>| serde_json::from_str(&register.value);
        let fields = self.0.0.iter();
        fields
            .map(|(name, held)| (name.to_string(), value(held).unwrap_or_default()))
            .collect()
    }
}

/// The traits of a resource, under the name that the graph has if there were none.
fn of_resource<'a>(
    resources: &'a mut HashMap<ResourceName, Named<Fields>>,
    name: &ResourceName,
    graph: &Graph,
) -> &'a mut Named<Fields> {
    if !resources.contains_key(name) {
        resources.insert(graph.shared_name(name), Named::default());
    }
    resources.entry(name.clone()).or_default()
}

fn shared(value: &Arc<str>, texts: &mut Pool<str>) -> Arc<str> {
    if value.len() > MAX_SHARED_VALUE {
        return Arc::clone(value);
    }
    texts.share(value)
}

/// One trait of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraitRow {
    pub resource: ResourceName,
    /// The trait's full name.
    pub name: Arc<str>,
    pub fields: Fields,
}

impl TraitRow {
    /// Shares names, short values and stamps with the rows that have them alike.
    pub(super) fn share(&mut self, pools: &mut Pools) {
        self.name = pools.texts.share(&self.name);
        for (name, register) in &mut self.fields.0.0 {
            *name = pools.texts.share(name);
            register.value = shared(&register.value, &mut pools.texts);
            register.stamp = pools.stamps.share(&register.stamp);
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Traits {
    /// Hashed, since names begin alike and so compare slowly.
    resources: HashMap<ResourceName, Named<Fields>>,
    changed: BTreeMap<ResourceName, BTreeSet<Arc<str>>>,
    /// Names, and short values.
    texts: Pool<str>,
}

impl Traits {
    /// Goes on with the rows that the store kept.
    pub(super) fn restore(rows: Vec<TraitRow>, graph: &Graph, texts: Pool<str>) -> Self {
        let mut traits = Self {
            texts,
            ..Self::default()
        };
        for TraitRow {
            resource,
            name,
            mut fields,
        } in rows
        {
            if let Some(last) = graph.last_stamp(&resource) {
                for (_, register) in &mut fields.0.0 {
                    if register.stamp == *last {
                        register.stamp = Arc::clone(last);
                    }
                }
            }
            let known = of_resource(&mut traits.resources, &resource, graph);
            if let Err(place) = known.find(&name) {
                known.insert(place, name, fields);
            }
        }
        traits
    }

    /// True if the event brings traits of a resource that there is no room for.
    pub(super) fn is_full_for(&self, event: &Event) -> bool {
        self.resources.len() >= MAX_RESOURCES
            && !event.trait_updates.is_empty()
            && event
                .resource
                .as_ref()
                .is_some_and(|name| !self.resources.contains_key(name))
    }

    /// Merges the trait updates of an event.
    pub(super) fn apply(&mut self, event: &Event, stamp: &Arc<Stamp>, graph: &Graph) {
        if let Some(resource) = &event.resource
            && !event.trait_updates.is_empty()
        {
            self.write(resource, stamp, &event.trait_updates, graph);
        }
    }

    fn write(
        &mut self,
        resource: &ResourceName,
        stamp: &Arc<Stamp>,
        updates: &[TraitUpdate],
        graph: &Graph,
    ) {
        let traits = of_resource(&mut self.resources, resource, graph);
        let changed = self.changed.entry(resource.clone()).or_default();
        for update in updates {
            let place = traits.find(&update.name);
            if let Err(place) = place {
                let name = self.texts.share(&update.name);
                changed.extend(traits.insert(place, name, Fields::default()));
            }
            let (Ok(place) | Err(place)) = place;
            if let Some((name, fields)) = traits.0.get_mut(place) {
                fields.write(stamp, update, &mut self.texts);
                changed.insert(Arc::clone(name));
            }
        }
    }

    /// The traits that changed since the last call, and those that are kept no more.
    pub(super) fn take_changed(&mut self) -> (Vec<TraitRow>, Vec<(ResourceName, Arc<str>)>) {
        let (mut rows, mut dropped) = (Vec::new(), Vec::new());
        for (resource, names) in std::mem::take(&mut self.changed) {
            let traits = self.resources.get(&resource);
            for name in names {
                let resource = resource.clone();
                match traits.and_then(|traits| traits.get(&name)) {
                    Some(fields) => {
                        rows.push(TraitRow {
                            resource,
                            name,
                            fields: fields.clone(),
                        });
                    }
                    None => dropped.push((resource, name)),
                }
            }
        }
        (rows, dropped)
    }

    /// `{resource: {trait: {field: value}}}`, every trait that was ever seen among them.
    #[expect(clippy::disallowed_methods, reason = "objects of JSON are sorted")]
    pub(super) fn to_json(&self) -> Value {
        let traits = |traits: &Named<Fields>| -> Map<String, Value> {
            let traits = traits.0.iter();
            traits
                .map(|(name, fields)| (name.to_string(), fields.to_json().into()))
                .collect()
        };
        let resources = self.resources.iter();
        resources
            .map(|(name, row)| (name.to_string(), Value::from(traits(row))))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use serde_json::json;

    use super::*;
    use crate::engine::register::Rank;

    fn stamp(nanos: i64, event_id: &str) -> Stamp {
        let time = DateTime::<Utc>::from_timestamp_nanos(nanos);
        Stamp {
            time,
            rank: Rank::Other,
            event_id: event_id.into(),
        }
    }

    fn update(name: &str, fields: Value) -> TraitUpdate {
        let fields = fields.as_object().into_iter().flatten();
        let fields = fields.map(|(field, value)| (field.as_str().into(), value.to_string().into()));
        TraitUpdate {
            name: name.into(),
            fields: fields.collect(),
        }
    }

    fn written(updates: &[(Stamp, TraitUpdate)]) -> Traits {
        let (mut traits, device) = (Traits::default(), ResourceName::new("d"));
        for (stamp, update) in updates {
            let stamp = Arc::new(stamp.clone());
            let updates = std::slice::from_ref(update);
            traits.write(&device, &stamp, updates, &Graph::default());
        }
        traits
    }

    #[test]
    fn the_last_writer_of_each_field_wins_in_any_order() {
        let mut updates = vec![
            (
                stamp(1, "e9"),
                update("Setpoint", json!({"heat": 20, "cool": 25})),
            ),
            (stamp(2, "e1"), update("Setpoint", json!({"heat": 21}))),
            (stamp(2, "e2"), update("Setpoint", json!({"heat": 22}))),
            (stamp(2, "e2"), update("Setpoint", json!({"heat": 19}))),
            (stamp(0, "e3"), update("Presence", json!({}))),
        ];
        let expected = json!({"d": {"Presence": {}, "Setpoint": {"heat": 22, "cool": 25}}});
        assert_eq!(written(&updates).to_json(), expected);
        updates.reverse();
        assert_eq!(written(&updates).to_json(), expected);
        updates.rotate_left(2);
        assert_eq!(written(&updates).to_json(), expected);
    }

    #[test]
    fn the_smallest_names_are_kept_in_any_order_and_the_store_forgets_the_others() {
        let name = |n: usize| format!("n{n:04}");
        let traits = (0..MAX_NAMES + 5).map(|n| (stamp(1, "e"), update(&name(n), json!({}))));
        let fields = (0..MAX_NAMES + 5).map(|n| update(&name(0), json!({ (name(n)): n })));
        let mut updates: Vec<_> = traits
            .chain(fields.map(|update| (stamp(1, "e"), update)))
            .collect();
        let expected = written(&updates).to_json();
        assert_eq!(expected["d"].as_object().map(Map::len), Some(MAX_NAMES));
        assert_eq!(
            expected["d"][name(0)].as_object().map(Map::len),
            Some(MAX_NAMES)
        );
        updates.reverse();
        let mut traits = written(&updates);
        assert_eq!(traits.to_json(), expected);
        let (rows, dropped) = traits.take_changed();
        assert_eq!((rows.len(), dropped.len()), (MAX_NAMES, 5));
    }

    #[test]
    fn traits_are_read_back_as_they_were_written() {
        let mut traits = written(&[(stamp(1, "e"), update("T", json!({"a": 65.0, "b": [null]})))]);
        let (rows, _) = traits.take_changed();
        let text = serde_json::to_string(&rows[0].fields).unwrap();
        assert_eq!(
            serde_json::from_str::<Fields>(&text).unwrap(),
            rows[0].fields
        );
        let restored = Traits::restore(rows, &Graph::default(), Pool::default());
        assert_eq!(
            restored.to_json().to_string(),
            r#"{"d":{"T":{"a":65.0,"b":[null]}}}"#
        );
    }
}
