//! What is wrong with a question, or why it can't be answered.

use crate::event::ResourceName;
use crate::store::StoreError;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("{parameter} is {value:?}: expected {expected}")]
    BadParameter {
        parameter: &'static str,
        /// What was given, cut to [`SHOWN_CHARS`].
        value: String,
        expected: String,
    },
    #[error("there is no {what} {name:?} in the store: {advice}")]
    NotFound {
        what: &'static str,
        name: String,
        /// Where the names that are there can be seen.
        advice: &'static str,
    },
    #[error("{name:?} is the end of several names: {}", list(.candidates, *.has_more))]
    Ambiguous {
        name: String,
        candidates: Vec<ResourceName>,
        /// There are more than are listed.
        has_more: bool,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Characters of a wrong value that are shown: enough to recognise it, and it fits into a line.
const SHOWN_CHARS: usize = 100;

impl QueryError {
    pub(super) fn bad(parameter: &'static str, value: &str, expected: impl Into<String>) -> Self {
        Self::BadParameter {
            parameter,
            value: value.chars().take(SHOWN_CHARS).collect(),
            expected: expected.into(),
        }
    }
}

fn list(candidates: &[ResourceName], has_more: bool) -> String {
    let names: Vec<&str> = candidates.iter().map(ResourceName::as_str).collect();
    let end = if has_more { ", and more" } else { "" };
    names.join(", ") + end
}
