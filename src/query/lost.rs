//! What could not be decoded, and what sinks did not get: the newest first.

use super::page::{Page, PageSize};
use crate::store::{DeadLetterRow, QuarantineHead, Snapshot, StoreError};

/// The messages in quarantine below a number, without their bodies.
pub fn quarantine(
    snapshot: &Snapshot<'_>,
    before: Option<i64>,
    size: PageSize,
) -> Result<Page<QuarantineHead, i64>, StoreError> {
    let before = before.unwrap_or(i64::MAX);
    let rows = snapshot.quarantine_before(before, size.get() + 1)?;
    Ok(Page::of(rows, size, |row| row.id))
}

/// The dead letters below a number.
pub fn dead_letters(
    snapshot: &Snapshot<'_>,
    before: Option<i64>,
    size: PageSize,
) -> Result<Page<DeadLetterRow, i64>, StoreError> {
    let before = before.unwrap_or(i64::MAX);
    let rows = snapshot.dead_letters_before(before, size.get() + 1)?;
    Ok(Page::of(rows, size, |row| row.id))
}
