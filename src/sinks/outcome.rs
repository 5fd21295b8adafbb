//! What a sink's delivery can end in, as its metric says it.

/// The result of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::AsRefStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum DeliveryOutcome {
    /// The receiver has the record.
    Ok,
    /// It will be tried again.
    Failed,
    /// The sink does not want records of this kind.
    Filtered,
}
