//! `hearthd graph`: the structures, rooms and devices that a store knows.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};

use clap::ValueEnum;

use super::args::StoreArgs;
use crate::engine::graph::Resource;
use crate::event::{ResourceKind, ResourceName};
use crate::query;
use crate::text::printable;

/// Options of `hearthd graph`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// How to show it
    #[arg(long, value_enum, default_value = "tree")]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people
    Tree,
    /// For programs
    Json,
    /// For Graphviz
    Dot,
}

/// Runs the command.
pub fn run(
    args: &Args,
    environment: &BTreeMap<String, String>,
    stdout: &mut dyn Write,
) -> anyhow::Result<()> {
    let graph = query::graph(&args.store.open(environment)?.snapshot()?)?;
    let mut stdout = BufWriter::new(stdout);
    match args.format {
        Format::Tree => tree(&graph.resources, &mut stdout)?,
        Format::Json => writeln!(stdout, "{}", serde_json::to_string(&graph)?)?,
        Format::Dot => dot(&graph.resources, &mut stdout)?,
    }
    Ok(stdout.flush()?)
}

/// What a resource hangs below: its room, else its structure.
fn parent(resource: &Resource) -> Option<&ResourceName> {
    let place = &resource.place;
    place.room.as_ref().or(place.structure.as_ref())
}

fn label(resource: &Resource) -> String {
    let name = resource.place.display_name.as_deref();
    let name = printable(name.unwrap_or_else(|| resource.name.short_id()));
    format!("{name} ({})", resource.kind.as_str())
}

/// Resources by what they hang below.
type Children<'a> = BTreeMap<&'a ResourceName, Vec<&'a Resource>>;

fn tree(resources: &[Resource], stdout: &mut dyn Write) -> std::io::Result<()> {
    let mut children = Children::new();
    for resource in resources {
        if let Some(parent) = parent(resource) {
            children.entry(parent).or_default().push(resource);
        }
    }
    for below in children.values_mut() {
        // Rooms first, since they have children of their own.
        below.sort_by_cached_key(|child| (child.kind == ResourceKind::Device, label(child)));
    }
    let is_there = |name: &ResourceName| {
        let found = resources.binary_search_by_key(&name, |resource| &resource.name);
        found.is_ok()
    };
    let is_root = |resource: &&Resource| !parent(resource).is_some_and(is_there);
    for root in resources.iter().filter(is_root) {
        writeln!(stdout, "{}", label(root))?;
        branch(&children, &root.name, "", stdout)?;
    }
    Ok(())
}

/// Structures hold rooms and devices, rooms hold devices: three levels at most.
fn branch(
    children: &Children<'_>,
    of: &ResourceName,
    indent: &str,
    stdout: &mut dyn Write,
) -> std::io::Result<()> {
    let below = children.get(of).map(Vec::as_slice).unwrap_or_default();
    for (index, child) in below.iter().enumerate() {
        let is_last = index + 1 == below.len();
        let (fork, line) = if is_last {
            ("└── ", "    ")
        } else {
            ("├── ", "│   ")
        };
        writeln!(stdout, "{indent}{fork}{}", label(child))?;
        branch(children, &child.name, &format!("{indent}{line}"), stdout)?;
    }
    Ok(())
}

fn dot(resources: &[Resource], stdout: &mut dyn Write) -> std::io::Result<()> {
    // JSON's quoting is valid in Graphviz's language too.
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    writeln!(stdout, "digraph hearthd {{")?;
    for resource in resources {
        let name = quote(resource.name.as_str());
        let label = quote(&label(resource));
        writeln!(stdout, "  {name} [label={label}];")?;
        if let Some(parent) = parent(resource) {
            writeln!(stdout, "  {} -> {name};", quote(parent.as_str()))?;
        }
    }
    writeln!(stdout, "}}")
}
