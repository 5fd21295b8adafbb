//! What the tests share.

pub(crate) mod model;
pub(crate) mod replay;
pub(crate) mod traffic;
