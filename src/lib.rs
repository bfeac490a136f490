//! rollcall: DNS that knows who is present and well.
//!
//! The map, in reading order; ARCHITECTURE.md tells the story behind it.

/// Who asks us in HTTP?
pub mod api;
/// What is known now?
pub mod catalog;
/// Which verb?
pub mod cli;
/// What was wanted?
mod clock;
pub mod config;
/// How do the bytes read?
pub mod dns;
/// How does a message ride on HTTP?
pub mod doh;
/// How long, as Go writes it?
pub mod duration;
/// How is a file read that somebody wrote?
pub mod file;
/// How much is too much?
pub mod limits;
/// What happens, in numbers?
pub mod metrics;
/// What is wrong with a text that a person wrote, where, and what to do?
pub mod problem;
/// Who registers with us?
pub mod registry;
/// What do we say?
pub mod resolve;
/// Who holds which end?
pub mod run;
/// Who asks us in DNS?
pub mod server;
/// How is a server believed over TLS?
pub mod tls;
/// Whom do we ask?
pub mod upstream;
/// Which files changed?
pub mod watch;
