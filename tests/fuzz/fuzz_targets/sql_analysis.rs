//! A text, and what must hold of what is said of it.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| proto::sql::fuzz::one_input(input));
