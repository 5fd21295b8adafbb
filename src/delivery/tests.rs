//! The window against a naive model.
