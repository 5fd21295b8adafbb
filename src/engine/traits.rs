//! The state of each resource per trait and field: last writer by event time.
//!
//! Knows no trait by name; a platform's decoder says what an update sets.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::register::{Register, Stamp};
use crate::event::{Event, ResourceName, TraitUpdate};

/// Most fields kept per resource, over all its traits: an SDM device has about 40. Beyond it the
/// smallest names are kept, so that the result does not depend on the order of arrival.
const MAX_FIELDS: usize = 1024;

/// The traits of one resource, as the store keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceTraits {
    traits: BTreeSet<String>,
    /// By trait and field; the value is canonical JSON text.
    #[serde(with = "pairs")]
    fields: BTreeMap<(String, String), Register<String>>,
}

impl ResourceTraits {
    fn write(&mut self, stamp: &Stamp, update: &TraitUpdate) {
        self.traits.insert(update.name.clone());
        if self.traits.len() > MAX_FIELDS {
            self.traits.pop_last();
        }
        for (field, value) in &update.fields {
            let key = (update.name.clone(), field.clone());
            let mut slot = self.fields.remove(&key);
            Register::write(&mut slot, stamp, value.to_string());
            self.fields.extend(slot.map(|register| (key, register)));
            if self.fields.len() > MAX_FIELDS {
                self.fields.pop_last();
            }
        }
    }

    /// `{trait: {field: value}}`, every trait that was ever seen among them.
    pub fn to_json(&self) -> Value {
        let mut traits: serde_json::Map<String, Value> = self
            .traits
            .iter()
            .map(|name| (name.clone(), Value::Object(Default::default())))
            .collect();
        for ((name, field), register) in &self.fields {
            if let Some(Value::Object(fields)) = traits.get_mut(name) {
                let value = serde_json::from_str(&register.value).unwrap_or_default();
                fields.insert(field.clone(), value);
            }
        }
        Value::Object(traits)
    }
}

/// All device state.
#[derive(Debug, Default)]
pub(super) struct Traits {
    resources: BTreeMap<ResourceName, ResourceTraits>,
    changed: BTreeSet<ResourceName>,
}

impl Traits {
    /// Takes up what the store kept.
    pub(super) fn restore(rows: impl IntoIterator<Item = (ResourceName, ResourceTraits)>) -> Self {
        Self { resources: rows.into_iter().collect(), changed: BTreeSet::new() }
    }

    /// Merges the trait updates of an event.
    pub(super) fn apply(&mut self, event: &Event) {
        let Some(resource) = event.resource.as_ref().filter(|_| !event.trait_updates.is_empty())
        else {
            return;
        };
        let stamp = Stamp::unranked(event);
        let traits = self.resources.entry(resource.clone()).or_default();
        for update in &event.trait_updates {
            traits.write(&stamp, update);
        }
        self.changed.insert(resource.clone());
    }

    /// The rows that changed since the last call.
    pub(super) fn take_changed(&mut self) -> Vec<(ResourceName, ResourceTraits)> {
        let changed = std::mem::take(&mut self.changed);
        changed
            .into_iter()
            .filter_map(|name| self.resources.get(&name).map(|row| (name, row.clone())))
            .collect()
    }

    /// Every resource with its traits.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&ResourceName, &ResourceTraits)> {
        self.resources.iter()
    }
}

/// A map with a pair as its key, as JSON: a list of `[trait, field, register]`.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::Register;

    type Fields = BTreeMap<(String, String), Register<String>>;

    pub(super) fn serialize<S: Serializer>(fields: &Fields, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(fields.iter().map(|((name, field), register)| (name, field, register)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Fields, D::Error> {
        let rows = Vec::<(String, String, Register<String>)>::deserialize(from)?;
        Ok(rows.into_iter().map(|(name, field, register)| ((name, field), register)).collect())
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
        Stamp { time, rank: Rank::Other, event_id: event_id.to_owned() }
    }

    fn update(name: &str, fields: Value) -> TraitUpdate {
        let fields = fields.as_object().cloned().unwrap_or_default();
        TraitUpdate { name: name.to_owned(), fields }
    }

    fn written(updates: &[(Stamp, TraitUpdate)]) -> ResourceTraits {
        let mut traits = ResourceTraits::default();
        updates.iter().for_each(|(stamp, update)| traits.write(stamp, update));
        traits
    }

    #[test]
    fn the_last_writer_of_each_field_wins_in_any_order() {
        let mut updates = vec![
            (stamp(1, "e9"), update("Setpoint", json!({"heat": 20, "cool": 25}))),
            (stamp(2, "e1"), update("Setpoint", json!({"heat": 21}))),
            (stamp(2, "e2"), update("Setpoint", json!({"heat": 22}))),
            (stamp(2, "e2"), update("Setpoint", json!({"heat": 19}))),
            (stamp(0, "e3"), update("Presence", json!({}))),
        ];
        let expected = json!({"Presence": {}, "Setpoint": {"heat": 22, "cool": 25}});
        assert_eq!(written(&updates).to_json(), expected);
        updates.reverse();
        assert_eq!(written(&updates).to_json(), expected);
        updates.rotate_left(2);
        assert_eq!(written(&updates).to_json(), expected);
    }

    #[test]
    fn a_full_resource_keeps_the_smallest_names_in_any_order() {
        let field = |n: usize| format!("f{n:04}");
        let mut updates: Vec<_> = (0..MAX_FIELDS + 50)
            .map(|n| (stamp(1, "e"), update("Odd", json!({ (field(n)): n }))))
            .collect();
        let kept = written(&updates);
        assert_eq!(kept.fields.len(), MAX_FIELDS);
        assert!(kept.fields.contains_key(&("Odd".to_owned(), field(MAX_FIELDS - 1))));
        updates.reverse();
        assert_eq!(written(&updates), kept);
    }

    #[test]
    fn traits_are_read_back_as_they_were_written() {
        let traits = written(&[(stamp(1, "e"), update("T", json!({"a": 65.0, "b": [null]})))]);
        let text = serde_json::to_string(&traits).unwrap();
        assert_eq!(serde_json::from_str::<ResourceTraits>(&text).unwrap(), traits);
        assert_eq!(traits.to_json().to_string(), r#"{"T":{"a":65.0,"b":[null]}}"#);
    }
}
