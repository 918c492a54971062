//! The archive: rows as Parquet files, a Merkle tree over them, signed checkpoints; and how to
//! query them. It never writes the journal and speaks to no network.

pub mod attest;
pub mod compact;
pub mod compacted;
pub mod continues;
pub mod controls;
pub mod decode;
pub mod delta;
pub mod export;
pub mod files;
pub mod holds;
pub mod json;
pub mod key;
pub mod kit;
pub mod layout;
mod log;
pub mod proof;
pub mod pruned;
pub mod query;
pub mod questions;
pub mod retention;
pub mod scan;
pub mod schema;
pub mod seal;
pub mod seal_secret;
pub mod search;
pub mod status;
pub mod texts;
pub mod timestamp;
mod trino;
pub mod verify;
pub mod witnessed;
pub mod worm;
pub mod writer;

pub use log::LogError;
pub use seal::Archive;
pub use tlog::{merkle, note};

#[cfg(test)]
mod roundtrip;
