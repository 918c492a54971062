//! The archive: rows as Parquet files, a Merkle tree over them, signed checkpoints; and how to
//! query them. It never writes the journal and speaks to no network.

pub mod decode;
pub mod files;
pub mod key;
pub mod layout;
mod log;
pub mod merkle;
pub mod note;
pub mod query;
pub mod questions;
pub mod seal;
pub mod search;
pub mod status;
pub mod texts;
pub mod verify;
pub mod writer;

pub use log::LogError;
pub use seal::Archive;

#[cfg(test)]
mod roundtrip;
