//! One value under one treatment, or a result on its way through a session with masks.

#![no_main]

#[path = "../passage.rs"]
mod passage;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    match input.split_first() {
        Some((way, rest)) if way & 1 == 0 => mask::fuzz::one_input(rest),
        Some((_, rest)) => passage::one_input(rest),
        None => {}
    }
});
