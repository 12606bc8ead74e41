//! Fuzzes `bodies/decode_csv.rs`, which says what must hold.
#![no_main]

#[path = "../bodies/decode_csv.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::check(input));
