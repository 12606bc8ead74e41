//! Fuzzes `bodies/tcp_framing.rs`, which says what must hold.
#![no_main]

#[path = "../bodies/tcp_framing.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::check(input));
