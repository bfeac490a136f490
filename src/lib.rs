//! rollcall: DNS that knows who is present and well.
//!
//! The map, in reading order; ARCHITECTURE.md tells the story behind it.

pub mod catalog;
pub mod dns;
