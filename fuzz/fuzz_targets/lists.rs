#![no_main]

#[path = "../../tests/fuzz/property/mod.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| property::lists::holds(octets));
