//! A witness of transparency logs (C2SP tlog-witness): it remembers the newest checkpoint of each log, signs only
//! what continues it, and says it to whoever asks. And whoever asks one: both without a runtime.
//!
//! It sees sizes and hashes, never a record. Plain HTTP: what it says is signed, and what it is told, too.

pub mod client;
mod http;
pub mod keyfile;
pub mod log;
pub mod server;
