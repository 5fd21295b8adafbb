//! What becomes of a record that is offered to a sink.

use strum::{IntoStaticStr, VariantArray};

/// How a record is settled for a sink. The names are metric labels. What fails is tried again, and
/// so is not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum DeliveryOutcome {
    /// The receiver has it.
    Ok,
    /// The settings `records` and `filter` of this sink leave it out.
    Filtered,
}
