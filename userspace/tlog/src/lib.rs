//! Transparency logs by C2SP: Merkle trees in tiles, proofs, signed checkpoints, cosignatures of witnesses,
//! and the policy that says whose are enough. Does no I/O and reads no clock.

pub mod cosignature;
pub mod merkle;
pub mod note;
pub mod policy;
pub mod proof;
