//! Fuzzes `bodies/recover_segment.rs`, which says what must hold.
#![no_main]

#[path = "../bodies/recover_segment.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::check(input));
