//! The real binary, as its users run it: real sockets on loopback, real HTTP servers behind the checks, real `dig`,
//! `nslookup`, NSD and Unbound. Whatever a test starts, it starts on a port that was free, in a directory of its own, and
//! ends by its process id.
//!
//! Start with `walkthrough`; `support` holds what the tests start and ask.

mod command_line;
mod differences;
mod durability;
mod encrypted;
mod errors;
mod forwarding;
mod namespace;
mod signals;
mod support;
mod walkthrough;
