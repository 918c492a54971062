//! Bytes of both sides and decisions, in any order, to one PostgreSQL session.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| proto::postgres::fuzz::one_input(input));
