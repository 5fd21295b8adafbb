//! The store that survives: one SQLite file, in WAL mode with `synchronous=FULL`.
//!
//! One process writes, kept apart from others by a lock file; any number read beside it. Whatever
//! is wrong with the file is refused with what to do: it is never emptied or recreated over.

mod access;
mod ballast;
mod check;
mod error;
mod files;
mod mark;
mod meta;
mod migrate;
mod open;
mod pages;
#[cfg(test)]
mod plans;
mod read;
mod reader;
mod trim;
mod write;
mod writer;

pub use self::files::socket_of;
pub use self::reader::{Reader, Snapshot};
pub use self::writer::{Lock, Writer};
