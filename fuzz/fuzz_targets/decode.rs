//! Octets from anyone: reading them never panics, and what was read survives being written and read again.
#![no_main]

#[path = "../../tests/fuzz/property.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| property::holds(octets));
