//! The exit codes that are neither 0 nor 1 (REFERENCE.md, section 1).

/// The arguments are wrong.
pub const EXIT_USAGE: u8 = 64;

/// `replay --strict` met bad data.
pub const EXIT_BAD_DATA: u8 = 65;

/// The settings are wrong.
pub const EXIT_BAD_CONFIG: u8 = 78;
