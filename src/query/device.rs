//! A device: where it is, and its traits with the time of each field.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use super::error::QueryError;
use super::page::{Page, PageSize, checked_text};
use crate::engine::graph::{self, Node, Resource};
use crate::engine::traits::TraitRow;
use crate::event::{ResourceKind, ResourceName, Timestamp};
use crate::store::{Snapshot, StoreError};

/// A device of the graph with its state.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    #[serde(flatten)]
    pub resource: Resource,
    /// By the full name of the trait and the name of the field.
    pub traits: BTreeMap<Arc<str>, BTreeMap<String, Field>>,
    /// The names that people gave to its structure and room; the graph has these in their own rows.
    #[serde(skip)]
    pub place_names: PlaceNames,
}

#[derive(Debug, Default)]
pub struct PlaceNames {
    pub structure: Option<String>,
    pub room: Option<String>,
}

/// One field of a trait.
#[derive(Debug, Serialize)]
pub struct Field {
    pub value: Box<RawValue>,
    /// The time of the event that set it.
    pub time: Timestamp,
}

/// Most names that are listed where the end of a name is not unique: what a screen shows.
const CANDIDATES_MAX: usize = 20;

/// Rows of the graph that are looked at for a page of devices: some 10 ms.
const ROWS_MAX: usize = 2000;

/// The device of that full name, or the only one whose name ends with it.
pub fn device(snapshot: &Snapshot<'_>, name: &str) -> Result<Device, QueryError> {
    let text = checked_text("the name", name.to_owned())?;
    let not_found = || QueryError::NotFound {
        what: "device",
        name: text.clone(),
        advice: "`hearthd graph --format json` lists all names",
    };
    let names = if text.contains('/') {
        vec![ResourceName::new(&text)]
    } else {
        snapshot.names_with_end(&format!("/devices/{text}"), CANDIDATES_MAX + 1)?
    };
    let has_more = names.len() > CANDIDATES_MAX;
    let mut found = Vec::new();
    for name in names.into_iter().filter(is_device).take(CANDIDATES_MAX) {
        if let Some(node) = snapshot.node(&name)? {
            found.extend(read(snapshot, vec![(name, node)])?);
        }
    }
    match (found.pop(), found.is_empty()) {
        (None, _) => Err(not_found()),
        (Some(device), true) => Ok(device),
        (Some(last), false) => {
            let devices = found.into_iter().chain([last]);
            Err(QueryError::Ambiguous {
                name: text,
                candidates: devices.map(|device| device.resource.name).collect(),
                has_more,
            })
        }
    }
}

/// The devices behind a name, in the order of names.
pub fn devices(
    snapshot: &Snapshot<'_>,
    after: Option<&str>,
    size: PageSize,
) -> Result<Page<Device, ResourceName>, QueryError> {
    let mut after = after.unwrap_or_default().to_owned();
    let mut rows = Vec::new();
    let mut looked_at = 0;
    let mut next = None;
    while rows.len() < size.get() && looked_at < ROWS_MAX {
        let wanted = size.get() - rows.len();
        let chunk = snapshot.nodes_after(&after, wanted)?;
        looked_at += chunk.len();
        let is_last = chunk.len() < wanted;
        next = chunk.last().map(|(name, _)| name.clone());
        rows.extend(chunk.into_iter().filter(|(name, _)| is_device(name)));
        match &next {
            Some(name) if !is_last => after = name.as_str().to_owned(),
            _ => {
                next = None;
                break;
            }
        }
    }
    let items = read(snapshot, rows)?;
    Ok(Page { items, next })
}

fn is_device(name: &ResourceName) -> bool {
    name.kind() == Some(ResourceKind::Device)
}

/// Those of the devices that are there, with their places and traits.
fn read(
    snapshot: &Snapshot<'_>,
    devices: Vec<(ResourceName, Arc<Node>)>,
) -> Result<Vec<Device>, StoreError> {
    let mut rows = BTreeMap::new();
    for (name, node) in devices {
        for parent in node.parents(&name) {
            if !rows.contains_key(&parent)
                && let Some(node) = snapshot.node(&parent)?
            {
                rows.insert(parent, node);
            }
        }
        rows.insert(name, node);
    }
    let resources = graph::resources(rows.into_iter().collect());
    let names: BTreeMap<ResourceName, String> = resources
        .iter()
        .filter_map(|place| Some((place.name.clone(), place.place.display_name.clone()?)))
        .collect();
    let name_of = |name: &Option<ResourceName>| names.get(name.as_ref()?).cloned();
    let devices = resources.into_iter().filter(|found| is_device(&found.name));
    let device = |resource: Resource| {
        let traits = snapshot.traits(&resource.name)?;
        Ok(Device {
            traits: traits.iter().map(fields).collect(),
            place_names: PlaceNames {
                structure: name_of(&resource.place.structure),
                room: name_of(&resource.place.room),
            },
            resource,
        })
    };
    devices.map(device).collect()
}

fn fields(row: &TraitRow) -> (Arc<str>, BTreeMap<String, Field>) {
    let field = |(name, value, time): (&str, &str, _)| {
        let value = RawValue::from_string(value.to_owned()).unwrap_or_default();
        let time = Timestamp::from_utc(time);
        (name.to_owned(), Field { value, time })
    };
    (
        Arc::clone(&row.name),
        row.fields.values().map(field).collect(),
    )
}
