//! Heads and targets of HTTP requests.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| proto::http::fuzz::one_input(input));
