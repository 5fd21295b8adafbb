//! What `quarantine` and `dead-letters` share: their arguments, lists, and changes by id.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::bail;
use serde::Serialize;

use super::args::{ChangeArgs, Format};
use super::service::Target;
use crate::admin::{Collection, Item, Outcome};
use crate::query::PageSize;
use crate::store::{Admin, Commit, Snapshot, StoreError, Writer};

/// The newest rows, at most `limit`, in the order of their numbers; `page` reads those below a
/// number, the newest first.
pub(super) fn newest<R>(
    limit: usize,
    page: impl Fn(Option<i64>, PageSize) -> Result<crate::query::Page<R, i64>, StoreError>,
) -> Result<Vec<R>, StoreError> {
    let mut rows = Vec::new();
    let mut before = None;
    while rows.len() < limit {
        let found = page(before, PageSize::MAX.at_most(limit - rows.len()))?;
        rows.extend(found.items);
        before = found.next;
        if before.is_none() {
            break;
        }
    }
    rows.reverse();
    Ok(rows)
}

/// Writes a line for each row.
pub(super) fn write<R: Serialize>(
    format: Format,
    rows: &[R],
    for_people: impl Fn(&R) -> String,
    stdout: &mut dyn Write,
) -> anyhow::Result<()> {
    for row in rows {
        match format {
            Format::Text => writeln!(stdout, "{}", for_people(row))?,
            Format::Json => writeln!(stdout, "{}", serde_json::to_string(row)?)?,
        }
    }
    Ok(())
}

/// Finds who changes the store, and which ids are meant. It is an error if one of them is not
/// there, so that a slip of the hand changes nothing.
pub(super) fn choose(
    args: &ChangeArgs,
    collection: Collection,
    environment: &BTreeMap<String, String>,
) -> anyhow::Result<(Target, Vec<i64>)> {
    let target = Target::open(&args.store, environment)?;
    let reader = match &target {
        Target::Offline(offline) => offline.0.reader()?,
        Target::Service(_) => args.store.open(environment)?,
    };
    let there = ids(&reader.snapshot()?, collection)?;
    if args.all {
        return Ok((target, there));
    }
    // Sorted, as it may be a million.
    match args.ids.iter().find(|id| there.binary_search(id).is_err()) {
        Some(missing) => bail!("there is no number {missing}: nothing was changed"),
        None => Ok((target, args.ids.clone())),
    }
}

fn ids(snapshot: &Snapshot<'_>, collection: Collection) -> Result<Vec<i64>, StoreError> {
    match collection {
        Collection::Quarantine => snapshot.quarantine_ids(),
        Collection::DeadLetters => snapshot.dead_letter_ids(),
    }
}

/// Runs `drop` of one of the commands.
pub(super) fn drop_chosen(
    args: &ChangeArgs,
    collection: Collection,
    environment: &BTreeMap<String, String>,
    stdout: &mut dyn Write,
) -> anyhow::Result<()> {
    let (target, ids) = choose(args, collection, environment)?;
    let dropped = match target {
        Target::Offline(mut offline) => drop_offline(&mut offline.0, collection, ids)?,
        Target::Service(client) => {
            let items = client.drop(collection, &ids)?;
            let dropped = items.iter().filter(|item| item.outcome == Outcome::Dropped);
            dropped.count()
        }
    };
    let (one, many) = collection.nouns();
    let noun = if dropped == 1 { one } else { many };
    Ok(writeln!(stdout, "{dropped} {noun} dropped")?)
}

fn drop_offline(
    store: &mut Writer,
    collection: Collection,
    ids: Vec<i64>,
) -> Result<usize, StoreError> {
    let admin = match collection {
        Collection::Quarantine => Admin::DropQuarantined(ids),
        Collection::DeadLetters => Admin::DropDeadLetters(ids),
    };
    let commit = Commit {
        admin: vec![admin],
        ..Commit::default()
    };
    Ok(store.commit(commit)?.affected.into_iter().sum())
}

/// Says what became of one id.
pub(super) fn tell(item: &Item, stdout: &mut dyn Write) -> std::io::Result<()> {
    write!(stdout, "{}  {}", item.id, item.outcome.text())?;
    if let Some(new_id) = item.new_id {
        write!(stdout, " as {new_id}")?;
    }
    if let Some(detail) = &item.detail {
        write!(stdout, ": {detail}")?;
    }
    writeln!(stdout)
}
