//! Recordings in sealed chunks: what a session said and was answered, compressed, sealed under a key of the session's
//! own, which is wrapped to the public keys of those who may read it. A node writes what it can't read back.
//!
//! `tape` seals, `chunk` is one chunk's form, `entry` what is in it; `wrap` wraps a session's key, `vault` keeps the
//! wrapped keys, apart from the archive, where they can be destroyed; `keys` are the readers' key files. `blind_keys` are the files
//! of keys for blind tokens. It knows neither journal nor archive: chunks are bytes and where they belong.

pub mod blind_keys;
pub mod chunk;
pub mod entry;
pub mod keys;
pub mod sealing;
pub mod tape;
pub mod vault;
pub mod wrap;
