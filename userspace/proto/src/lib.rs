//! Sans-IO protocol sessions and the classification of what they carry.

pub mod http;
pub mod limit;
pub mod piece;
pub mod postgres;
pub mod reader;
pub mod session;
pub mod sql;
