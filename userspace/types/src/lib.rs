//! The vocabulary that every other crate speaks: plain data, no I/O, no clock, nothing spawned.

pub mod accepted;
pub mod addr;
pub mod approval;
pub mod clock;
pub mod command;
pub mod command_line;
pub mod control;
pub mod decision;
pub mod event;
pub mod exec;
pub mod hex;
pub mod id;
pub mod identity;
pub mod inside;
pub mod limits;
pub mod principal;
pub mod redact;
pub mod secret;
pub mod secret_words;
pub mod target;
