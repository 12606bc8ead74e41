//! Fuzzes `bodies/parse.rs`, which says what must hold.
#![no_main]

#[path = "../bodies/parse.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|text: &str| body::check(text));
