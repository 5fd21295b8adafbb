//! `hearthd device`: one device with its place, and its traits with the time of each field.

use std::collections::BTreeMap;
use std::io::Write;

use super::args::{Format, StoreArgs};
use crate::event::ResourceName;
use crate::query::{self, Device, Field};
use crate::text::printable;

/// Options of `hearthd device`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// The device's full name, or the last part of it if no other device has the same
    #[arg(value_name = "NAME")]
    name: String,
    /// How to show it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Runs the command.
pub fn run(
    args: &Args,
    environment: &BTreeMap<String, String>,
    stdout: &mut dyn Write,
) -> anyhow::Result<()> {
    let reader = args.store.open(environment)?;
    let device = query::device(&reader.snapshot()?, &args.name)?;
    match args.format {
        Format::Text => stdout.write_all(text(&device).as_bytes())?,
        Format::Json => writeln!(stdout, "{}", serde_json::to_string(&device)?)?,
    }
    Ok(())
}

fn text(device: &Device) -> String {
    let resource = &device.resource;
    let place = &resource.place;
    let names = &device.place_names;
    let title = place.display_name.as_deref();
    let updated_at = resource.updated_at.as_ref();
    let mut text = format!(
        "{}\n  name       {}\n  structure  {}\n  room       {}\n  users      {}\n  updated    {}\n",
        printable(title.unwrap_or_else(|| resource.name.short_id())),
        printable(resource.name.as_str()),
        named(place.structure.as_ref(), names.structure.as_deref()),
        named(place.room.as_ref(), names.room.as_deref()),
        resource.users.len(),
        updated_at.map_or("-", |time| time.as_str()),
    );
    for (name, fields) in &device.traits {
        text += &format!("\n{}\n", printable(name));
        let width = fields.keys().map(|name| name.chars().count()).max();
        for (name, field) in fields {
            let Field { value, time } = field;
            let width = width.unwrap_or_default();
            let name = printable(name);
            text += &format!("  {name:width$}  {time}  {}\n", printable(value.get()));
        }
    }
    text
}

/// A resource, for people: with the name that they gave it.
fn named(resource: Option<&ResourceName>, display_name: Option<&str>) -> String {
    match (resource, display_name) {
        (None, _) => "-".to_owned(),
        (Some(resource), None) => printable(resource.as_str()),
        (Some(resource), Some(name)) => printable(&format!("{name} ({})", resource.as_str())),
    }
}
