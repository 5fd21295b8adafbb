//! The state of each resource per trait and field: last writer by event time.
//!
//! Knows no trait by name; a platform's decoder says what an update sets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::MAX_RESOURCES;
use super::register::{Register, Stamp};
use crate::event::{Event, ResourceName, TraitUpdate};

/// Most traits kept per resource, and fields per trait: an SDM device has about 12 traits of up to
/// 5 fields. Beyond it the smallest names are kept, so that the order of arrival doesn't matter.
const MAX_NAMES: usize = 256;

/// The fields of a trait, as the store keeps them; the values are canonical JSON text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fields(BTreeMap<Arc<str>, Register<Arc<str>>>);

impl Fields {
    fn write(&mut self, stamp: &Stamp, update: &TraitUpdate) {
        for (field, value) in &update.fields {
            let value = Arc::clone(value);
            match self.0.get_mut(field) {
                Some(register) => register.update(stamp, value),
                None => {
                    self.0.insert(
                        Arc::clone(field),
                        Register {
                            stamp: stamp.clone(),
                            value,
                        },
                    );
                }
            }
            if self.0.len() > MAX_NAMES {
                self.0.pop_last();
            }
        }
    }

    /// Each field's name, its value as JSON text, and the event time at which it was set.
    pub fn values(&self) -> impl Iterator<Item = (&str, &str, DateTime<Utc>)> {
        let fields = self.0.iter();
        fields.map(|(name, held)| (&**name, &*held.value, held.stamp.time))
    }

    fn to_json(&self) -> Map<String, Value> {
        let value = |register: &Register<Arc<str>>| serde_json::from_str(&register.value);
        let fields = self.0.iter();
        fields
            .map(|(name, held)| (name.to_string(), value(held).unwrap_or_default()))
            .collect()
    }
}

/// One trait of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraitRow {
    /// The resource.
    pub resource: ResourceName,
    /// The trait's full name.
    pub name: Arc<str>,
    /// Its fields.
    pub fields: Arc<Fields>,
}

/// All device state.
#[derive(Debug, Default)]
pub(super) struct Traits {
    /// Shared with what is to be written, so that it isn't copied.
    resources: BTreeMap<ResourceName, BTreeMap<Arc<str>, Arc<Fields>>>,
    changed: BTreeMap<ResourceName, BTreeSet<Arc<str>>>,
}

impl Traits {
    /// Takes up what the store kept.
    pub(super) fn restore(rows: impl IntoIterator<Item = TraitRow>) -> Self {
        let mut traits = Self::default();
        for TraitRow {
            resource,
            name,
            fields,
        } in rows
        {
            traits
                .resources
                .entry(resource)
                .or_default()
                .insert(name, fields);
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
    pub(super) fn apply(&mut self, event: &Event) {
        let Some(resource) = event
            .resource
            .as_ref()
            .filter(|_| !event.trait_updates.is_empty())
        else {
            return;
        };
        self.write(resource, &Stamp::unranked(event), &event.trait_updates);
    }

    fn write(&mut self, resource: &ResourceName, stamp: &Stamp, updates: &[TraitUpdate]) {
        let traits = self.resources.entry(resource.clone()).or_default();
        let changed = self.changed.entry(resource.clone()).or_default();
        for update in updates {
            let fields = traits.entry(Arc::clone(&update.name)).or_default();
            Arc::make_mut(fields).write(stamp, update);
            changed.insert(Arc::clone(&update.name));
            if traits.len() > MAX_NAMES {
                changed.extend(traits.pop_last().map(|(dropped, _)| dropped));
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
                            fields: Arc::clone(fields),
                        });
                    }
                    None => dropped.push((resource, name)),
                }
            }
        }
        (rows, dropped)
    }

    /// `{resource: {trait: {field: value}}}`, every trait that was ever seen among them.
    pub(super) fn to_json(&self) -> Value {
        let traits = |traits: &BTreeMap<Arc<str>, Arc<Fields>>| -> Map<String, Value> {
            let traits = traits.iter();
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
            traits.write(&device, stamp, std::slice::from_ref(update));
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
        let text = serde_json::to_string(&*rows[0].fields).unwrap();
        assert_eq!(
            serde_json::from_str::<Fields>(&text).unwrap(),
            *rows[0].fields
        );
        let restored = Traits::restore(rows);
        assert_eq!(
            restored.to_json().to_string(),
            r#"{"d":{"T":{"a":65.0,"b":[null]}}}"#
        );
    }
}
