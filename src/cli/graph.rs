//! `hearthd graph`: the structures, rooms and devices that a store knows.

use std::collections::BTreeMap;
use std::io::Write;

use clap::ValueEnum;

use crate::cli::StoreArgs;
use crate::engine::graph::{self, Resource};
use crate::event::{ResourceKind, ResourceName};
use crate::record;

/// Options of `hearthd graph`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// How to show it
    #[arg(long, value_enum, default_value = "tree")]
    format: Format,
}

/// How the graph is shown.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people.
    Tree,
    /// For programs.
    Json,
    /// For Graphviz.
    Dot,
}

/// Runs the command.
pub fn run(
    args: &Args,
    environment: &BTreeMap<String, String>,
    stdout: &mut dyn Write,
) -> anyhow::Result<()> {
    let nodes = args.store.open(environment)?.snapshot()?.nodes()?;
    let resources = graph::resources(nodes);
    match args.format {
        Format::Tree => tree(&resources, stdout)?,
        Format::Json => writeln!(stdout, "{}", record::graph(resources.into_iter()))?,
        Format::Dot => dot(&resources, stdout)?,
    }
    Ok(())
}

/// What a resource hangs below: its room, else its structure.
fn parent(resource: &Resource) -> Option<&ResourceName> {
    resource
        .place
        .room
        .as_ref()
        .or(resource.place.structure.as_ref())
}

fn label(resource: &Resource) -> String {
    let name = resource
        .place
        .display_name
        .as_deref()
        .unwrap_or_else(|| resource.name.short_id());
    format!("{name} ({})", resource.kind.as_str())
}

fn tree(resources: &[Resource], stdout: &mut dyn Write) -> std::io::Result<()> {
    for resource in resources
        .iter()
        .filter(|resource| parent(resource).is_none())
    {
        writeln!(stdout, "{}", label(resource))?;
        branch(resources, &resource.name, "", stdout)?;
    }
    Ok(())
}

/// Structures hold rooms and devices, rooms hold devices: three levels at most.
fn branch(
    resources: &[Resource],
    of: &ResourceName,
    indent: &str,
    stdout: &mut dyn Write,
) -> std::io::Result<()> {
    let mut children: Vec<&Resource> = resources
        .iter()
        .filter(|child| parent(child) == Some(of))
        .collect();
    // Rooms first, since they have children of their own.
    children.sort_by_key(|child| (child.kind == ResourceKind::Device, label(child)));
    for (index, child) in children.iter().enumerate() {
        let last = index + 1 == children.len();
        let (fork, line) = if last {
            ("└── ", "    ")
        } else {
            ("├── ", "│   ")
        };
        writeln!(stdout, "{indent}{fork}{}", label(child))?;
        branch(resources, &child.name, &format!("{indent}{line}"), stdout)?;
    }
    Ok(())
}

fn dot(resources: &[Resource], stdout: &mut dyn Write) -> std::io::Result<()> {
    // JSON's quoting is valid in Graphviz's language too.
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    writeln!(stdout, "digraph hearthd {{")?;
    for resource in resources {
        let (name, label) = (quote(resource.name.as_str()), quote(&label(resource)));
        writeln!(stdout, "  {name} [label={label}];")?;
        if let Some(parent) = parent(resource) {
            writeln!(stdout, "  {} -> {name};", quote(parent.as_str()))?;
        }
    }
    writeln!(stdout, "}}")
}
