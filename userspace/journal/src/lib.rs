//! The write-ahead journal: what is recorded is durable here before it takes effect.
//!
//! `recorder` takes records and commits them in groups; `recover` opens what a crash left;
//! `reader` and `assemble` turn frames back into records and rows. It signs nothing, builds no
//! Merkle tree and knows no Parquet: that is the archive's.

pub mod assemble;
pub mod clock;
pub mod codec;
mod committer;
pub mod decode;
pub mod disk;
mod encode;
pub mod frame;
mod identity;
pub mod imported;
mod kind;
mod live;
mod press;
pub mod prune;
mod queue;
pub mod reader;
pub mod record;
pub mod recorder;
pub mod recover;
pub mod row;
pub mod sealing;
pub mod segment;
pub mod start;
mod writer;
