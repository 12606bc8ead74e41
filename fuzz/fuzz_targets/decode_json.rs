//! Fuzzes `bodies/decode_json.rs`, which says what must hold.
#![no_main]

#[path = "../bodies/decode_json.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::check(input));
