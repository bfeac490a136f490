//! The real binary, as its users run it: real sockets on loopback, real HTTP servers behind the checks, real `dig`,
//! `kdig`, `curl`, `nslookup`, stubby, NSD, Unbound, BIND and dnsmasq, browsers and languages. Whatever a test starts, it
//! starts on a port that was free, in a directory of its own, and ends by its process id.
//!
//! Start with `walkthrough`; `support` holds what the tests start and ask.

mod attacks;
mod blocking;
mod cache;
mod clients;
mod command_line;
mod cookies;
mod differences;
mod dnssec;
mod durability;
mod encrypted;
mod encrypted_upstreams;
mod errors;
mod explain;
mod floods;
mod forwarder_rfcs;
mod forwarding;
mod importing;
mod listening;
mod local_files;
mod loops;
mod metrics;
mod namespace;
mod query_log;
mod real_clients;
mod server_rfcs;
mod signals;
mod support;
mod upstream_cookies;
mod validation;
mod views;
mod walkthrough;
