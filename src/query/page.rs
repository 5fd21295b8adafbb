//! A part of a list, and the limits of what one asks for.

use serde::Serialize;

use super::error::QueryError;

/// A part of a list.
#[derive(Debug, Serialize)]
pub struct Page<T, C> {
    pub items: Vec<T>,
    /// Where the next page begins; `None` at the end. A page may be empty and still have a next
    /// one, where much was looked at and little found.
    pub next: Option<C>,
}

impl<T, C> Page<T, C> {
    /// The page of rows that were read with a limit of one more than the page has.
    pub(super) fn of(mut items: Vec<T>, size: PageSize, place: impl Fn(&T) -> C) -> Self {
        let has_more = items.len() > size.get();
        items.truncate(size.get());
        let next = items.last().filter(|_| has_more).map(place);
        Self { items, next }
    }
}

/// Most items of a page, 1 to [`PageSize::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize(usize);

impl PageSize {
    /// A page of common items has about a MiB, and takes some 10 ms to read.
    pub const MAX: Self = Self(1000);

    /// What fits on a few screens.
    pub const DEFAULT: Self = Self(100);

    pub fn new(items: usize) -> Result<Self, QueryError> {
        if (1..=Self::MAX.0).contains(&items) {
            return Ok(Self(items));
        }
        let expected = format!("a number from 1 to {}", Self::MAX.0);
        Err(QueryError::bad("limit", &items.to_string(), expected))
    }

    pub fn get(self) -> usize {
        self.0
    }

    /// This, or less.
    #[must_use]
    pub fn at_most(self, items: usize) -> Self {
        Self(self.0.min(items.max(1)))
    }
}

/// Bytes after which a page ends: a thousand items of the largest kind would have gigabytes.
pub(super) const PAGE_BYTES_MAX: usize = 4 << 20;

/// Longest name or text that is looked for: the decoder lets no longer one in.
const TEXT_MAX: usize = 4 << 10;

/// A text to look for.
pub fn checked_text(parameter: &'static str, text: String) -> Result<String, QueryError> {
    if (1..=TEXT_MAX).contains(&text.len()) {
        return Ok(text);
    }
    let expected = format!("1 to {TEXT_MAX} bytes");
    Err(QueryError::bad(parameter, &text, expected))
}
